//! A coordinator's state for whoever compares states.

use super::{Coord, Flight};
use crate::base::RequestId;
use alloc::collections::BTreeMap;
use core::fmt::Debug;

impl Coord {
    /// Everything that can still change what it sends and answers, except when: what only lingers after an answer, how fast
    /// peers answer, and the random stream are left out. Two coordinators of one essence, clock and request number
    /// differ in hints and in time, and in nothing else.
    pub fn essence(&self) -> impl Debug + '_ {
        let lingers = |flight: &Flight| matches!(flight, Flight::Linger(_));
        let flights: BTreeMap<&RequestId, &Flight> =
            self.flights.iter().filter(|(_, flight)| !lingers(flight)).collect();
        (&self.rounds, flights, &self.settled, &self.forwards, self.op_numbers)
    }
}
