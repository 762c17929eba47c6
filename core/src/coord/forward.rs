//! Strong operations go to the slot's preferred coordinator; a forwarder takes over from a silent one (section 4).

use super::operation::{Operation, Origin};
use super::{Coord, CoordCx, Flight, slot_and_replicas};
use crate::base::limits::{OPERATIONS_MAX, REQUEST_DEADLINE_MS};
use crate::base::planted::{self, Bug};
use crate::base::{Address, Counter, Failure, Instant, KeyOp, NodeId, OpId, RequestId, Stamp};
use crate::io::Tag;
use crate::wire::{Answer, ForwardResult, Message, Refusal};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use bytes::Bytes;

/// Milliseconds without an answer after which the forwarder takes over.
const TAKE_OVER_MS: u64 = 600;
/// Operation ids of forwards that are remembered: more than can be under way.
const SEEN_MAX: usize = OPERATIONS_MAX;

#[derive(Debug, Clone)]
pub(super) struct Forward {
    tag: Tag,
    key: Bytes,
    op: KeyOp,
    op_id: OpId,
    idempotent: bool,
    deadline: Instant,
    to: NodeId,
    taken_over: bool,
}

/// The forwards that this coordinator has seen. A repeated one is dropped; one so old that it may have been forgotten,
/// or may have come before the last start, is refused, so that its issuer runs it as a retry if it still waits.
#[derive(Debug, Clone)]
pub(super) struct Forwards {
    seen: BTreeSet<OpId>,
    floor: Stamp,
}

impl Forwards {
    pub(super) fn new(floor: Stamp) -> Self {
        Self { seen: BTreeSet::new(), floor }
    }

    /// Takes `op_id` in: `None` if it was seen before, else whether this is certainly the first time.
    fn first_time(&mut self, op_id: OpId) -> Option<bool> {
        if !self.seen.insert(op_id) {
            return None;
        }
        let certain = op_id.stamp > self.floor;
        if self.seen.len() > SEEN_MAX
            && let Some(oldest) = self.seen.pop_first()
        {
            self.floor = self.floor.max(oldest.stamp);
        }
        Some(certain)
    }
}

impl Coord {
    /// A mutation from a client: by this node if it is the preferred coordinator, else by that.
    pub(super) fn mutate(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        tag: Tag,
        key: Bytes,
        op: KeyOp,
        client_id: Option<OpId>,
        deadline: Instant,
    ) {
        let (slot, replicas) = slot_and_replicas(cx.table, &key);
        let preferred = replicas.iter().copied().find(|node| cx.liveness.is_alive(*node));
        let target = preferred.filter(|node| *node != self.me.node);
        let Some((to, address)) = target.and_then(|node| Some((node, cx.table.address(node, slot)?))) else {
            let mut operation = Operation::new(Origin::Client(tag), op, deadline);
            operation.op_id = client_id;
            operation.idempotent = client_id.is_some();
            operation.fresh = client_id.is_none();
            return self.submit(cx, &key, operation);
        };
        let op_id = match client_id {
            Some(op_id) => op_id,
            None => match cx.cx.clock.issue() {
                Some(stamp) => {
                    self.op_numbers += 1;
                    OpId { stamp, number: self.op_numbers }
                }
                None => return self.reply(cx, tag, Err(Failure::Overloaded)),
            },
        };
        let request = cx.cx.next_request();
        let patience_ms = deadline.ms_since(cx.cx.now.mono) as u32;
        let idempotent = client_id.is_some();
        let forward =
            Message::Forward { request, key: key.clone(), op_id, idempotent, op: op.clone(), patience_ms };
        cx.cx.send(address, forward);
        let forward = Forward { tag, key, op, op_id, idempotent, deadline, to, taken_over: false };
        let wake = cx.cx.now.mono.plus_ms(TAKE_OVER_MS).min(deadline).max(Instant(cx.cx.now.mono.0 + 1));
        self.flights.insert(request, Flight::Forward(Box::new(forward)));
        self.set_timer(request, wake);
    }

    /// Another coordinator hands an operation over.
    #[expect(clippy::too_many_arguments, reason = "the message's parts, each of another type")]
    pub fn on_forward(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        from: Address,
        request: RequestId,
        key: &Bytes,
        op_id: OpId,
        idempotent: bool,
        op: KeyOp,
        patience_ms: u32,
    ) {
        let origin = Origin::Forwarded { from, request };
        // A client's own retry comes under the same id on purpose; it is never a first attempt.
        let first_time = if idempotent { Some(false) } else { self.forwards.first_time(op_id) };
        let fresh = match first_time {
            None => return cx.cx.count(Counter::ForwardRepeated),
            Some(true) => true,
            // This may repeat one that was answered before the last start, even with "certainly not applied": not run.
            Some(false) if !idempotent && !planted::on(Bug::C3ForwardRunInDoubt) => {
                cx.cx.count(Counter::ForwardInDoubt);
                let answer = Answer::Refused(Refusal::TooOld);
                return cx.cx.send(from, Message::Answer { request, answer });
            }
            Some(false) => false,
        };
        self.forwarded += 1;
        if self.forwarded > OPERATIONS_MAX {
            let failure = if fresh { Failure::Overloaded } else { Failure::Timeout };
            return self.respond(cx, key, origin, Err(failure));
        }
        let patience_ms = u64::from(patience_ms).min(REQUEST_DEADLINE_MS);
        let mut operation = Operation::new(origin, op, cx.cx.now.mono.plus_ms(patience_ms));
        operation.op_id = Some(op_id);
        operation.idempotent = idempotent;
        operation.fresh = fresh;
        self.submit(cx, key, operation);
    }

    pub(super) fn on_forward_answer(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        request: RequestId,
        from: NodeId,
        answer: Answer,
    ) {
        let Some(Flight::Forward(forward)) = self.flights.get(&request) else {
            return;
        };
        if forward.taken_over {
            return cx.cx.count(Counter::ForwardLateAnswer);
        }
        if forward.to != from {
            return cx.cx.count(Counter::PeerMisbehaved);
        }
        match answer {
            Answer::Forwarded(ForwardResult::Done(result)) => {
                let tag = forward.tag;
                self.flights.remove(&request);
                self.reply(cx, tag, result);
            }
            Answer::Forwarded(ForwardResult::NotRun) => {
                if let Some(Flight::Forward(forward)) = self.flights.remove(&request) {
                    cx.cx.count(Counter::FreshOpId);
                    self.mutate(cx, forward.tag, forward.key, forward.op, None, forward.deadline);
                }
            }
            // Refused or not, another copy of the message may still be taken later: this is no first attempt any more.
            Answer::Refused(_) => self.take_over(cx, request),
            _ => cx.cx.count(Counter::PeerMisbehaved),
        }
    }

    pub(super) fn on_forward_timeout(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        let Some(Flight::Forward(forward)) = self.flights.get(&request) else {
            return;
        };
        if forward.taken_over {
            self.flights.remove(&request);
        } else if forward.deadline <= cx.cx.now.mono {
            let tag = forward.tag;
            self.flights.remove(&request);
            self.reply(cx, tag, Err(Failure::Timeout));
        } else {
            self.take_over(cx, request);
        }
    }

    /// Runs a forwarded operation here, as a retry; later answers of the first attempt are ignored.
    fn take_over(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        let Some(Flight::Forward(forward)) = self.flights.get_mut(&request) else {
            return;
        };
        cx.cx.count(Counter::ForwardTakenOver);
        forward.taken_over = true;
        let mut operation = Operation::new(Origin::Client(forward.tag), forward.op.clone(), forward.deadline);
        operation.op_id = Some(forward.op_id);
        operation.idempotent = forward.idempotent;
        operation.fresh = false;
        let (key, until) = (forward.key.clone(), forward.deadline);
        self.set_timer(request, until);
        self.submit(cx, &key, operation);
    }
}
