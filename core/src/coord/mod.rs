//! The coordinator's side of the protocol: C1 to C10, W1 and W2 (PROTOCOL sections 4 and 5).
//!
//! At most one round per key runs at a time; what arrives meanwhile waits and is combined into the next (C7). Everything
//! that waits for answers is a *flight*, found by the request id it was sent with, with one timer each.

mod essence;
mod evaluated;
mod forward;
mod linger;
mod operation;
mod reads;
mod rounds;
mod scans;
mod settled;
mod weak;

use crate::base::limits::{KEY_BYTES_MAX, OPERATIONS_MAX, PHASE_MS, REQUEST_DEADLINE_MS, VALUE_BYTES_MAX};
use crate::base::rng::Rng;
use crate::base::{
    Address, Body, Counter, Failure, Hlc, Instant, KeyOp, Level, NodeId, OpId, Record, Reply, Request,
    RequestId, Response, Slot, Stamp,
};
use crate::io::Tag;
use crate::rules::context::Cx;
use crate::rules::latency::Latency;
use crate::rules::liveness::Liveness;
use crate::rules::quorum::majority;
use crate::rules::register::is_blind;
use crate::rules::ring::SlotTable;
use crate::rules::slots::slot_of;
use crate::wire::{Answer, Message};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BinaryHeap};
use alloc::vec::Vec;
use bytes::Bytes;
use core::cmp::Reverse;

use forward::{Forward, Forwards};
use linger::Linger;
use operation::Origin;
use reads::Read;
use rounds::Round;
use scans::Scan;
use settled::Settled;
use weak::Weak;

/// What every call into the coordinator gets.
#[derive(Debug)]
pub struct CoordCx<'a, 'b> {
    /// Clocks, messages, counters.
    pub cx: &'a mut Cx<'b>,
    /// Who holds what.
    pub table: &'a SlotTable,
    /// Who is believed to be up.
    pub liveness: &'a Liveness,
    /// What the coordinator tells the node.
    pub events: &'a mut Vec<CoordEvent>,
}

/// What the coordinator tells the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordEvent {
    /// Answer a client.
    Reply {
        /// The request's tag.
        tag: Tag,
        /// The answer.
        reply: Reply,
    },
    /// W2: keep a record for a replica that was not reached.
    KeepHint {
        /// The replica.
        target: NodeId,
        /// The register.
        key: Bytes,
        /// The record.
        record: Record,
    },
    /// The settling of a refused hint has been chosen.
    Settled {
        /// Whom the hint is for.
        target: NodeId,
        /// The register.
        key: Bytes,
        /// The hint's ballot.
        ballot: Stamp,
    },
}

/// Something that waits for answers.
#[derive(Debug, Clone)]
enum Flight {
    Round(Bytes),
    Read(Box<Read>),
    Weak(Box<Weak>),
    Forward(Box<Forward>),
    Linger(Box<Linger>),
    Scan(Box<Scan>),
}

/// The coordinator machine of a shard.
#[derive(Debug, Clone)]
pub struct Coord {
    me: Address,
    flights: BTreeMap<RequestId, Flight>,
    rounds: BTreeMap<Bytes, Round>,
    timers: BinaryHeap<Reverse<(Instant, RequestId)>>,
    settled: Settled,
    forwards: Forwards,
    /// How fast each node answers queries.
    latency: Latency,
    /// Client operations that have not been answered.
    operations: usize,
    /// Operations of other coordinators that have not been answered.
    forwarded: usize,
    /// Distinguishes operation ids of equal stamps.
    op_numbers: u128,
    rng: Rng,
}

impl Coord {
    /// A coordinator after a start: forwards up to `floor` may have been seen before it.
    pub fn new(me: Address, rng: Rng, floor: Stamp) -> Self {
        Self {
            me,
            flights: BTreeMap::new(),
            rounds: BTreeMap::new(),
            timers: BinaryHeap::new(),
            settled: Settled::default(),
            forwards: Forwards::new(floor),
            latency: Latency::default(),
            operations: 0,
            forwarded: 0,
            op_numbers: 0,
            rng,
        }
    }

    /// Client operations in flight.
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// When `on_timeout` is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// A client asks.
    pub fn on_client(&mut self, cx: &mut CoordCx<'_, '_>, tag: Tag, request: Request, deadline: Instant) {
        self.operations += 1;
        let deadline = deadline.min(cx.cx.now.mono.plus_ms(REQUEST_DEADLINE_MS));
        if self.operations > OPERATIONS_MAX {
            return self.reply(cx, tag, Err(Failure::Overloaded));
        }
        match request.body {
            Body::Scan { slot, after, limit, wanted } => {
                self.scan(cx, tag, (slot, after), limit, wanted, deadline);
            }
            Body::Key { key, op } => {
                if is_too_large(&key, &op) {
                    return self.reply(cx, tag, Err(Failure::TooLarge));
                }
                self.on_key_op(cx, tag, request.level, request.idempotency, key, op, deadline);
            }
        }
    }

    /// Chooses the path of an operation: what depends on the current value, and what may be attempted twice, is always
    /// a mutation by rounds (C9); only plain reads and blind writes have weaker paths.
    #[expect(clippy::too_many_arguments, reason = "the request's parts, each of another type")]
    fn on_key_op(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        tag: Tag,
        level: Level,
        idempotency: Option<u128>,
        key: Bytes,
        op: KeyOp,
        deadline: Instant,
    ) {
        if matches!(op, KeyOp::Read) {
            return self.read(cx, tag, level, key, deadline);
        }
        if has_no_room(cx, level, &key, &op) {
            return self.reply(cx, tag, Err(Failure::DiskFull));
        }
        match (idempotency, level) {
            (None, Level::Eventual | Level::Causal) if is_blind(&op) => {
                self.weak(cx, tag, level, key, op, deadline);
            }
            (None, _) => self.mutate(cx, tag, key, op, None, deadline),
            (Some(uuid), _) => self.mutate(cx, tag, key, op, Some(client_op_id(uuid)), deadline),
        }
    }

    /// A peer answers.
    pub fn on_answer(&mut self, cx: &mut CoordCx<'_, '_>, from: Address, request: RequestId, answer: Answer) {
        match self.flights.get(&request) {
            None => {}
            Some(Flight::Round(key)) => {
                let key = key.clone();
                self.on_round_answer(cx, &key, request, from.node, answer);
            }
            Some(Flight::Read(_)) => self.on_read_answer(cx, request, from.node, answer),
            Some(Flight::Weak(_)) => self.on_weak_answer(cx, request, from.node, &answer),
            Some(Flight::Forward(_)) => self.on_forward_answer(cx, request, from.node, answer),
            Some(Flight::Linger(_)) => self.on_linger_answer(cx, request, from.node, &answer),
            Some(Flight::Scan(_)) => self.on_scan_answer(cx, request, from.node, answer),
        }
    }

    /// Time has passed: acts on every flight whose timer is due.
    pub fn on_timeout(&mut self, cx: &mut CoordCx<'_, '_>) {
        while let Some(Reverse((at, request))) = self.timers.peek().copied() {
            if at > cx.cx.now.mono {
                break;
            }
            self.timers.pop();
            match self.flights.get(&request) {
                None => {}
                Some(Flight::Round(key)) => {
                    let key = key.clone();
                    self.on_round_timeout(cx, &key, request);
                }
                Some(Flight::Read(_)) => self.on_read_timeout(cx, request),
                Some(Flight::Weak(_)) => self.on_weak_timeout(cx, request),
                Some(Flight::Forward(_)) => self.on_forward_timeout(cx, request),
                Some(Flight::Linger(_)) => self.on_linger_timeout(cx, request),
                Some(Flight::Scan(_)) => self.on_scan_timeout(cx, request),
            }
        }
    }

    fn set_timer(&mut self, request: RequestId, at: Instant) {
        self.timers.push(Reverse((at, request)));
    }

    /// R5: a repair of a hint was refused: settles the key with the hint's record as a candidate.
    pub fn settle_hint(&mut self, cx: &mut CoordCx<'_, '_>, target: NodeId, key: &Bytes, record: Record) {
        let deadline = cx.cx.now.mono.plus_ms(REQUEST_DEADLINE_MS / 2);
        let origin = Origin::Hint { target, ballot: record.ballot };
        let mut operation = operation::Operation::new(origin, KeyOp::Read, deadline);
        operation.candidate = Some(record);
        self.submit(cx, key, operation);
    }

    /// Answers a client.
    fn reply(&mut self, cx: &mut CoordCx<'_, '_>, tag: Tag, result: Result<Response, Failure>) {
        assert!(self.operations > 0, "a client was answered twice");
        self.operations -= 1;
        match result {
            Err(Failure::Unavailable) => cx.cx.count(Counter::EndedUnavailable),
            Err(Failure::Timeout) => cx.cx.count(Counter::EndedTimeout),
            Err(Failure::Overloaded) => cx.cx.count(Counter::EndedOverloaded),
            Err(Failure::DiskFull) => cx.cx.count(Counter::EndedDiskFull),
            _ => {}
        }
        cx.events.push(CoordEvent::Reply { tag, reply: Reply { session: cx.cx.clock.last(), result } });
    }

    /// Answers whoever asked for `operation`.
    fn respond(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        key: &Bytes,
        origin: Origin,
        result: Result<Response, Failure>,
    ) {
        match origin {
            Origin::Client(tag) => self.reply(cx, tag, result),
            Origin::Forwarded { from, request } => {
                self.forwarded -= 1;
                let answer = Answer::Forwarded(crate::wire::ForwardResult::Done(result));
                cx.cx.send(from, Message::Answer { request, answer });
            }
            Origin::Hint { target, ballot } => {
                if result.is_ok() {
                    cx.events.push(CoordEvent::Settled { target, key: key.clone(), ballot });
                }
            }
        }
    }

    /// Sends a message made by `body` to each of `nodes`.
    fn send_each(
        cx: &mut CoordCx<'_, '_>,
        nodes: impl IntoIterator<Item = NodeId>,
        slot: Slot,
        body: impl Fn() -> Message,
    ) {
        for node in nodes {
            if let Some(address) = cx.table.address(node, slot) {
                cx.cx.send(address, body());
            }
        }
    }

    /// A new operation id of this coordinator, below `ballot` (C6) and not above the clock at its arrival.
    fn op_id_below(&mut self, ballot: Stamp, arrived: Hlc) -> OpId {
        self.op_numbers += 1;
        let hlc = Hlc(ballot.hlc.0.saturating_sub(1)).min(arrived);
        OpId { stamp: Stamp { hlc, node: self.me.node }, number: self.op_numbers }
    }
}

/// C10: a UUIDv7's 48-bit milliseconds are its stamp.
fn client_op_id(uuid: u128) -> OpId {
    OpId { stamp: Stamp { hlc: uuid_time(uuid), node: NodeId(0) }, number: uuid }
}

/// The time of a UUIDv7, as a clock reading.
pub fn uuid_time(uuid: u128) -> crate::base::Hlc {
    crate::base::Hlc::from_ms((uuid >> 80) as u64)
}

fn is_too_large(key: &Bytes, op: &KeyOp) -> bool {
    let value = match op {
        KeyOp::Set { value, .. } | KeyOp::Append(value) => value.len(),
        KeyOp::SetRange { offset, data } => *offset as usize + data.len(),
        _ => 0,
    };
    key.len() > KEY_BYTES_MAX || value > VALUE_BYTES_MAX
}

/// How many of `replicas` are believed to be up.
fn alive(cx: &CoordCx<'_, '_>, replicas: &[NodeId]) -> usize {
    replicas.iter().filter(|node| cx.liveness.is_alive(**node)).count()
}

/// Whether the disks of so many replicas are full that nothing but a deletion can be acknowledged. Said before anything is
/// sent, and so for certain; what finds out later that there is no room ends as unknown.
fn has_no_room(cx: &CoordCx<'_, '_>, level: Level, key: &Bytes, op: &KeyOp) -> bool {
    if !cx.liveness.is_any_full() {
        return false;
    }
    let (_, replicas) = slot_and_replicas(cx.table, key);
    let is_weak = level == Level::Eventual && is_blind(op);
    let wanted = if is_weak { 1 } else { majority(replicas.len()) };
    let grows = !matches!(op, KeyOp::Delete { .. });
    let with_room = replicas.iter().filter(|node| cx.liveness.has_room(**node)).count();
    grows && with_room < wanted && alive(cx, replicas) >= wanted
}

fn slot_and_replicas<'t>(table: &'t SlotTable, key: &Bytes) -> (Slot, &'t [NodeId]) {
    let slot = slot_of(key);
    (slot, table.replicas(slot))
}

#[cfg(test)]
mod tests;
