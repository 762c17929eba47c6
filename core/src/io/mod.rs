//! The seam between the core and its host: inputs, outputs, disk operations. All of it is plain data that serialises, so
//! that a node can record its inputs and the simulator can replay them.

pub mod disk;

use crate::base::{Address, Instant, Reply, Request, Slot, Ticket};
use crate::wire::Envelope;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

pub use disk::{DiskError, DiskErrorKind, DiskOp, DiskResult, FileInfo, FileKind, FileName};

/// Chosen by the host to match a reply to its request. Never 0 twice at a time; the core only echoes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag(pub u64);

/// Everything that can happen to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The first input of a node's life: it answers with the disk operations of recovery.
    Boot,
    /// A client asks. At most `limits::REQUEST_DEADLINE_MS` after the step, or at `deadline`, it gets one reply.
    Client {
        /// Echoed in the reply.
        tag: Tag,
        /// What is asked.
        request: Request,
        /// Monotonic time by which the reply is due.
        deadline: Instant,
    },
    /// A peer's frame, decoded and checked by the host.
    Message(Envelope),
    /// A disk operation ended.
    Disk {
        /// Which.
        ticket: Ticket,
        /// How.
        result: DiskResult,
    },
    /// `next_deadline` has passed. Spurious timeouts are no-ops.
    Timeout,
    /// An operator wants every table read and verified now.
    Scrub,
    /// R6: the operator accepts the loss of what damaged files held of these slots, as far as no other replica has brought
    /// it again: the node votes on them with what is left.
    AcceptLoss {
        /// The first slot.
        first: Slot,
        /// The last slot.
        last: Slot,
    },
}

/// Everything a node asks of its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Answer a client.
    Reply {
        /// The request's tag.
        tag: Tag,
        /// The answer.
        reply: Reply,
    },
    /// Send a frame to another node's shard; may be lost, duplicated, delayed, reordered.
    Send {
        /// The receiver.
        to: Address,
        /// The frame.
        message: Envelope,
    },
    /// Perform a disk operation and answer with `Input::Disk` of the same ticket. In any order.
    Disk {
        /// Echoed in the result.
        ticket: Ticket,
        /// What to do.
        op: DiskOp,
    },
    /// Recovery has finished: from now on clients are served.
    Ready,
    /// The shard cannot go on (damaged files, failed sync). The host stops it, prints `reason`, and must not write again.
    Fatal {
        /// What happened, where, what to do.
        reason: String,
    },
    /// Something that the operator should read; the host logs it. Nothing else is to be done.
    Notice {
        /// What happened, and what is done about it.
        text: String,
    },
}

/// Where a step puts its outputs. Owned and reused by the host.
#[derive(Debug, Default)]
pub struct Outbox {
    outputs: Vec<Output>,
}

impl Outbox {
    /// An empty outbox.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an output.
    pub fn push(&mut self, output: Output) {
        self.outputs.push(output);
    }

    /// Takes all outputs in the order they were made, and keeps the allocation.
    pub fn drain(&mut self) -> alloc::vec::Drain<'_, Output> {
        self.outputs.drain(..)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }
}
