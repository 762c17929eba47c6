//! What a node says of itself, for metrics and operators.

use super::{Node, Phase, SuspectProbe, Waiting};
use crate::base::{Instant, Slot};
use crate::store::{Pressure, StoreStatus};
use alloc::vec::Vec;

/// Stretches of slots that are named.
const NAMED_MAX: usize = 1_000;

/// A node at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How far its life has come.
    pub phase: &'static str,
    /// Its disk does not answer, and it takes no part until it does.
    pub is_aside: bool,
    /// Its disk takes long for what is asked of it, or did within the last seconds.
    pub is_disk_slow: bool,
    /// Its disk is full, or has no room for the reserve: it takes no new values.
    pub is_disk_full: bool,
    /// The operation for which the disk takes longest.
    pub disk_wait: Option<Waiting>,
    /// R6: what is suspect.
    pub suspect: SuspectProbe,
    /// The first and the last slot of suspect stretches of users' keys, with neighbours as one: the first thousand.
    pub suspect_slots: Vec<(Slot, Slot)>,
    /// Its store.
    pub store: StoreStatus,
}

impl Node {
    /// The node at this moment.
    pub fn status(&self, now: Instant) -> Status {
        let phase = match self.phase {
            Phase::Checking => "checking",
            Phase::Recovering { .. } => "recovering",
            Phase::Establishing => "establishing",
            Phase::AwaitingClock => "awaiting the clock",
            Phase::Serving => "serving",
            Phase::Dead => "stopped",
        };
        let (is_aside, disk_wait) = (self.is_aside(), self.disk_wait(now));
        let is_disk_full = self.store.admit() == Err(Pressure::Full);
        let (suspect, suspect_slots) = (self.suspect_probe(), self.suspect_slots(NAMED_MAX));
        Status {
            phase,
            is_aside,
            is_disk_slow: self.is_disk_slow(now),
            is_disk_full,
            disk_wait,
            suspect,
            suspect_slots,
            store: self.store.status(),
        }
    }
}
