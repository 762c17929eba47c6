//! Looks inside a node.

use super::{Node, Phase};
use crate::base::{Address, Hlc, Stamp, StartNumber};

/// What the simulator may look at after every event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The node's clock.
    pub hlc: Hlc,
    /// The durable ceiling; no stamp above it has left the node.
    pub ceiling: Hlc,
    /// The start number.
    pub start: StartNumber,
    /// Whether clients are served.
    pub ready: bool,
    /// Hints that wait for delivery.
    pub hints: usize,
    /// Client operations in flight.
    pub operations: usize,
    /// Slots driven here with garbage that is not collected.
    pub garbage: usize,
}

impl Node {
    /// A look inside for invariants.
    pub fn probe(&self) -> Probe {
        Probe {
            hlc: self.clock.last(),
            ceiling: self.clock.ceiling(),
            start: self.identity.start(),
            ready: self.phase == Phase::Serving,
            hints: self.replica.hints(),
            operations: self.coord.operations(),
            garbage: self.replica.garbage().count(),
        }
    }

    /// S5: the latest life of a peer that is listened to, and the highest ceiling told in it.
    pub fn remembers(&self, peer: Address) -> Option<(StartNumber, Hlc)> {
        self.peers.remembered(peer)
    }

    /// The same, as far as it is sure to be on disk; `None` if nothing is, or while it is being written.
    pub fn durably_remembers(&self, peer: Address) -> Option<(StartNumber, Hlc)> {
        let written = self.identity.peers().iter().filter(|_| self.identity.is_idle());
        written.filter(|of| of.peer == peer).map(|of| (of.start, of.ceiling)).next()
    }

    /// The ceiling as it was last written, durable or not yet.
    pub fn highest_ceiling(&self) -> Hlc {
        self.identity.highest_ceiling()
    }

    /// Whether the node is a replica of `key`: only then does a query see a record of its own, and not a hint for another.
    pub fn is_replica_of(&self, key: &bytes::Bytes) -> bool {
        let slot = crate::rules::slots::slot_of(key);
        self.table.replicas(slot).contains(&self.options.address.node)
    }

    /// The ballot that the node holds for `key` in memory, for invariants; `None` if only its files could hold one.
    pub fn peek(&self, key: &bytes::Bytes) -> Option<Stamp> {
        let slot = crate::rules::slots::slot_of(key);
        self.store.peek(&crate::base::RecordKey { slot, key: key.clone() })
    }
}
