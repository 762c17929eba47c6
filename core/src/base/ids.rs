//! Newtypes for every identifier, so that one is never passed for another.

use core::fmt;
use serde::{Deserialize, Serialize};

/// A node of the cluster, for its whole life. A node that lost its disk comes back under a new id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u16);

/// A shard of a process: one `Node` value, one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId(pub u16);

/// Where a frame goes to and comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The process.
    pub node: NodeId,
    /// The shard within it.
    pub shard: ShardId,
}

/// One of the 16384 hash slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u16);

impl Slot {
    /// How many slots there are (the Redis Cluster number).
    pub const COUNT: u16 = 16384;
}

/// The number of a cluster configuration (E1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// Names a cluster, so that nodes of two clusters never talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

/// Names one life of a shard (S5): how often its data directory has been started, in the high 32 bits, and a draw, which
/// tells the lives of two directories of one shard apart that were started equally often. Zero names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct StartNumber(pub u64);

impl StartNumber {
    /// The `count`-th start of a directory.
    pub const fn new(count: u32, draw: u32) -> Self {
        Self((count as u64) << 32 | draw as u64)
    }

    /// How often the directory had been started, this start included.
    pub const fn count(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Names one request of a coordinator to a replica. Unique over restarts: the start number is in the high bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// Names one outstanding disk operation of a shard since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket(pub u64);

impl fmt::Display for StartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.count(), self.0 as u32)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}.{}", self.node.0, self.shard.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}
