//! What a node says of itself, for metrics and operators.

use super::{Node, Phase, Waiting};
use crate::base::Instant;
use crate::store::StoreStatus;

/// A node at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How far its life has come.
    pub phase: &'static str,
    /// Its disk does not answer, and it takes no part until it does.
    pub is_aside: bool,
    /// The operation for which the disk takes longest.
    pub disk_wait: Option<Waiting>,
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
        Status { phase, is_aside, disk_wait, store: self.store.status() }
    }
}
