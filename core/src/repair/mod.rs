//! What a shard does by itself to keep its copies alike and its disk free of what nobody needs.

mod watermark;

use crate::base::{Epoch, NodeId, Record};
use crate::replica::Replica;
use crate::rules::context::Cx;
use crate::rules::liveness::Liveness;
use crate::rules::ring::SlotTable;
use alloc::vec::Vec;
use bytes::Bytes;

pub use watermark::{HeldBack, Watermarks};

/// What every call into this layer gets.
#[derive(Debug)]
pub struct RepairCx<'a, 'b> {
    /// Clocks, messages, counters.
    pub cx: &'a mut Cx<'b>,
    /// Who holds what.
    pub table: &'a SlotTable,
    /// Who is believed to be up.
    pub liveness: &'a Liveness,
    /// What this node holds.
    pub replica: &'a Replica,
    /// The configuration in force.
    pub epoch: Epoch,
    /// What is told to the node.
    pub events: &'a mut Vec<RepairEvent>,
}

/// What this layer tells the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepairEvent {
    /// The clock stands at the ceiling: a round waits for a raise.
    NeedsClock,
    /// R5: a repair was refused: settle the key with this record as a candidate.
    Settle {
        /// The register.
        key: Bytes,
        /// The candidate.
        record: Record,
        /// Who refused.
        target: NodeId,
    },
}
