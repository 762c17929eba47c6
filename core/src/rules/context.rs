//! What every machine gets with a call.

use super::clock::Clock;
use crate::base::{Address, Counter, Counters, Now, RequestId};
use crate::wire::Message;
use alloc::vec::Vec;

/// Clocks, outgoing messages and counters of the step in progress.
#[derive(Debug)]
pub struct Cx<'a> {
    /// The clocks at the beginning of the step.
    pub now: Now,
    /// The hybrid clock.
    pub clock: &'a mut Clock,
    /// Messages to send; those to the node itself are handed back to its own machines within the step.
    pub sends: &'a mut Vec<(Address, Message)>,
    /// What is counted.
    pub counters: &'a mut Counters,
    /// The last request id given out; starts at the start number in the high bits.
    pub requests: &'a mut u64,
}

impl Cx<'_> {
    /// Sends `message` to `to`.
    pub fn send(&mut self, to: Address, message: Message) {
        self.sends.push((to, message));
    }

    /// A request id that no other request of this node ever has.
    pub fn next_request(&mut self) -> RequestId {
        *self.requests += 1;
        RequestId(*self.requests)
    }

    /// Counts an event.
    pub fn count(&mut self, counter: Counter) {
        self.counters.add(counter);
    }
}
