//! Weak writes: W1 (causal), W2 (eventual), and their way out by C9.

use super::linger::{Linger, target_of};
use super::operation::{Operation, Origin};
use super::{Coord, CoordCx, CoordEvent, Flight, PHASE_MS, alive, slot_and_replicas};
use crate::base::planted::{self, Bug};
use crate::base::{
    Counter, Failure, Instant, KeyOp, Level, NodeId, OpId, Outcome, Record, RequestId, Response,
};
use crate::io::Tag;
use crate::rules::quorum::{Votes, majority};
use crate::rules::register::weak_record;
use crate::wire::{Answer, Message, Refusal};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;

#[derive(Debug, Clone)]
pub(super) struct Weak {
    tag: Tag,
    level: Level,
    key: Bytes,
    op: KeyOp,
    op_id: OpId,
    record: Record,
    outcome: Outcome,
    deadline: Instant,
    acks: Votes,
    refusals: Votes,
    /// Fallback nodes that were sent a hint, with the replica it is for.
    fallbacks: Vec<(NodeId, NodeId)>,
    /// Replicas for which a fallback node holds a hint.
    hinted: Votes,
    /// Replicas that were not sent anything (eventual: believed to be down).
    skipped: usize,
}

impl Coord {
    pub(super) fn weak(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        tag: Tag,
        level: Level,
        key: Bytes,
        op: KeyOp,
        deadline: Instant,
    ) {
        let (slot, replicas) = slot_and_replicas(cx.table, &key);
        if level == Level::Causal && alive(cx, replicas) < majority(replicas.len()) {
            return self.reply(cx, tag, Err(Failure::Unavailable));
        }
        let Some(stamp) = cx.cx.clock.issue() else {
            return self.reply(cx, tag, Err(Failure::Overloaded));
        };
        self.op_numbers += 1;
        let op_id = OpId { stamp, number: self.op_numbers };
        let Some((record, outcome)) = weak_record(&op, stamp, op_id, cx.cx.clock.last().ms()) else {
            return self.mutate(cx, tag, key, op, None, deadline);
        };
        let request = cx.cx.next_request();
        let weak = Weak {
            tag,
            level,
            key,
            op,
            op_id,
            record,
            outcome,
            deadline,
            acks: Votes::default(),
            refusals: Votes::default(),
            fallbacks: Vec::new(),
            hinted: Votes::default(),
            skipped: 0,
        };
        let is_target = |node: &NodeId| level == Level::Causal || cx.liveness.is_alive(*node);
        let targets: Vec<NodeId> = replicas.iter().copied().filter(is_target).collect();
        let missed: Vec<NodeId> = replicas.iter().copied().filter(|node| !targets.contains(node)).collect();
        Self::send_each(cx, targets, slot, || weak.message(request));
        self.fly_weak(cx, request, weak);
        self.hint(cx, request, &missed);
    }

    /// W2: the write goes to the next healthy nodes clockwise as hints for the replicas that are down; where there is
    /// no such node, this one keeps the hint.
    fn hint(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId, missed: &[NodeId]) {
        let Some(Flight::Weak(weak)) = self.flights.get_mut(&request) else {
            return;
        };
        let (slot, replicas) = slot_and_replicas(cx.table, &weak.key);
        let is_fallback = |node: &&NodeId| !replicas.contains(node) && cx.liveness.is_alive(**node);
        let mut fallbacks = cx.table.preference(slot).iter().filter(is_fallback);
        for target in missed {
            weak.skipped += 1;
            let (key, record) = (weak.key.clone(), weak.record.clone());
            match fallbacks.next().and_then(|node| Some((*node, cx.table.address(*node, slot)?))) {
                Some((node, address)) => {
                    weak.fallbacks.push((node, *target));
                    cx.cx.send(address, Message::Hint { request, target: *target, key, record });
                }
                None => cx.events.push(CoordEvent::KeepHint { target: *target, key, record }),
            }
        }
    }

    fn fly_weak(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId, weak: Weak) {
        let now = cx.cx.now.mono;
        let wake = now.plus_ms(PHASE_MS).min(weak.deadline).max(Instant(now.0 + 1));
        self.flights.insert(request, Flight::Weak(Box::new(weak)));
        self.set_timer(request, wake);
    }

    pub(super) fn on_weak_answer(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        request: RequestId,
        from: NodeId,
        answer: &Answer,
    ) {
        let Some(Flight::Weak(weak)) = self.flights.get_mut(&request) else {
            return;
        };
        let (_, replicas) = slot_and_replicas(cx.table, &weak.key);
        let hinted_for = target_of(&weak.fallbacks, from);
        match answer {
            Answer::Accepted { .. } if hinted_for.is_some() => {
                hinted_for.map(|target| weak.hinted.add(replicas, target));
            }
            Answer::Accepted { .. } => {
                weak.acks.add(replicas, from);
            }
            Answer::Refused(Refusal::Ballot(_)) => {
                weak.refusals.add(replicas, from);
            }
            Answer::Refused(_) => return,
            _ => return cx.cx.count(Counter::PeerMisbehaved),
        }
        let done = match weak.level {
            Level::Eventual => weak.hinted.count() + weak.acks.count() > 0,
            _ if planted::on(Bug::W1WriteAckedByOne) => weak.acks.count() > 0,
            _ => weak.acks.is_majority(replicas),
        };
        let refused = match weak.level {
            Level::Eventual => {
                weak.refusals.count() + weak.skipped >= replicas.len() && weak.fallbacks.is_empty()
            }
            _ => weak.refusals.blocks_majority(replicas),
        };
        if done {
            self.finish_weak(cx, request);
        } else if refused && weak.refusals.count() > 0 {
            self.escalate(cx, request);
        }
    }

    fn finish_weak(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        let Some(Flight::Weak(weak)) = self.flights.remove(&request) else {
            return;
        };
        let response = Response::Mutated { outcome: weak.outcome, version: weak.record.written };
        self.reply(cx, weak.tag, Ok(response));
        let covered = weak.acks.or(weak.hinted);
        self.linger(cx, request, Linger::new(weak.key, weak.record, covered, weak.fallbacks));
    }

    /// C9: refused by a promise or floor, the write becomes a mutation with the same operation id; re-sent as weak it
    /// could apply twice.
    fn escalate(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        let Some(Flight::Weak(weak)) = self.flights.remove(&request) else {
            return;
        };
        cx.cx.count(Counter::WeakBecameMutation);
        let mut operation = Operation::new(Origin::Client(weak.tag), weak.op, weak.deadline);
        operation.op_id = Some(weak.op_id);
        operation.fresh = false;
        self.submit(cx, &weak.key, operation);
    }

    pub(super) fn on_weak_timeout(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        let Some(Flight::Weak(mut weak)) = self.flights.remove(&request) else {
            return;
        };
        let (slot, replicas) = slot_and_replicas(cx.table, &weak.key);
        if weak.deadline <= cx.cx.now.mono {
            return self.reply(cx, weak.tag, Err(Failure::Timeout));
        }
        if weak.refusals.count() > 0 {
            self.flights.insert(request, Flight::Weak(weak));
            return self.escalate(cx, request);
        }
        let silent: Vec<NodeId> =
            replicas.iter().copied().filter(|node| !weak.acks.has(replicas, *node)).collect();
        weak.skipped = 0;
        Self::send_each(cx, silent, slot, || weak.message(request));
        self.fly_weak(cx, request, *weak);
    }
}

impl Weak {
    fn message(&self, request: RequestId) -> Message {
        Message::Weak { request, key: self.key.clone(), record: self.record.clone() }
    }
}
