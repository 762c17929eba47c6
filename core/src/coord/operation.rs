//! A mutation (or a read that must settle) on its way through a round.

use crate::base::{Address, Hlc, Instant, KeyOp, NodeId, OpId, Record, RequestId, Response, Stamp};
use crate::io::Tag;

/// Who is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client of this node.
    Client(Tag),
    /// Another coordinator.
    Forwarded { from: Address, request: RequestId },
    /// A hint whose repair was refused.
    Hint { target: NodeId, ballot: Stamp },
}

/// One operation of a round.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) origin: Origin,
    pub(super) op: KeyOp,
    /// Names the mutation. A local one gets its id when a record that carries it is drafted.
    pub(super) op_id: Option<OpId>,
    /// Nothing was ever sent for `op_id`: this is certainly the first attempt (C3, C4).
    pub(super) fresh: bool,
    /// The clock when the operation was queued: its id, once it gets one, is not above it, so that ids rise with arrival
    /// and pruned ones leave no doubt about later ones.
    pub(super) arrived: Hlc,
    /// The id came from a client (IDEMPOTENT): a negative answer is stored, too.
    pub(super) idempotent: bool,
    pub(super) deadline: Instant,
    /// The answer drafted at a ballot: stands in when `recent` did not keep it.
    pub(super) drafted: Option<(Stamp, Response)>,
    /// C2: a record handed in by a refused repair; counts as one more promise.
    pub(super) candidate: Option<Record>,
}

impl Operation {
    pub(super) fn new(origin: Origin, op: KeyOp, deadline: Instant) -> Self {
        Self {
            origin,
            op,
            op_id: None,
            fresh: true,
            arrived: Hlc(0),
            idempotent: false,
            deadline,
            drafted: None,
            candidate: None,
        }
    }

    pub(super) fn is_read(&self) -> bool {
        matches!(self.op, KeyOp::Read)
    }
}
