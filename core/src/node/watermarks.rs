//! Routing of the rounds of G1, and of what the replica says.

use super::Node;
use crate::base::{Address, Hlc, Now, RequestId, Slot, Stamp};
use crate::coord::CoordCx;
use crate::io::Outbox;
use crate::repair::{HeldBack, RepairCx, RepairEvent};
use crate::replica::ReplicaEvent;
use crate::rules::context::Cx;
use crate::wire::Answer;

const MARKS_LOST: &str = "the watermarks of the slots cannot be read, so what was collected could come back; replace this \
                          node by one with a new id";

macro_rules! repair_cx {
    ($node:expr, $now:expr) => {
        &mut RepairCx {
            cx: cx!($node, $now),
            table: &$node.table,
            liveness: &$node.liveness,
            replica: &$node.replica,
            epoch: $node.options.config.epoch,
            events: &mut $node.work.repair,
        }
    };
}

impl Node {
    /// The watermark of a slot (G1); zero before its first round.
    pub fn watermark(&self, slot: Slot) -> Stamp {
        self.replica.watermark(slot)
    }

    /// Hints for a slot at or below a stamp, for invariants.
    pub fn hints_upto(&self, slot: Slot, upto: Stamp) -> u64 {
        self.replica.hints_upto(slot, upto)
    }

    /// Garbage of the slots whose rounds this node drives, and who holds it back (G3).
    pub fn held_back(&self) -> HeldBack {
        self.watermarks.held_back(&self.replica)
    }

    pub(super) fn on_watermark_timeout(&mut self, now: Now) {
        self.watermarks.on_timeout(repair_cx!(self, now));
    }

    pub(super) fn on_watermark_answer(
        &mut self,
        now: Now,
        from: Address,
        request: RequestId,
        answer: Answer,
    ) {
        self.watermarks.on_answer(repair_cx!(self, now), from, request, answer);
    }

    pub(super) fn on_replica(&mut self, now: Now, event: ReplicaEvent, out: &mut Outbox) {
        match event {
            ReplicaEvent::Settle { key, record, target } => {
                self.coord.settle_hint(coord_cx!(self, cx!(self, now)), target, &key, record);
            }
            ReplicaEvent::MarksLost => self.die(MARKS_LOST.into(), out),
        }
    }

    pub(super) fn on_repair(&mut self, now: Now, event: RepairEvent, out: &mut Outbox) {
        match event {
            RepairEvent::NeedsClock => self.raise(now, Hlc(0), out),
            RepairEvent::Settle { key, record, target } => {
                self.coord.settle_hint(coord_cx!(self, cx!(self, now)), target, &key, record);
            }
        }
    }
}
