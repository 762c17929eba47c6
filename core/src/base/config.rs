//! The cluster configuration of one epoch (E1). Static so far: epoch 1 comes from the start-up configuration.

use super::ids::{ClusterId, Epoch, NodeId};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// Failure domain; replicas of a slot are spread over distinct zones first. Empty = a zone of its own.
    pub zone: String,
    /// Virtual tokens it owns on the ring (default 150).
    pub tokens: u16,
    /// Shards of its process: slot s is served by shard `s % shards`.
    pub shards: u16,
}

/// The decided configuration of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Which epoch.
    pub epoch: Epoch,
    /// Members, ordered by node id.
    pub members: Vec<Member>,
    /// Replicas of each slot (N); fewer members than that replicate everywhere.
    pub replication: u8,
}

/// Virtual tokens of a member unless configured.
pub const TOKENS_DEFAULT: u16 = 150;
