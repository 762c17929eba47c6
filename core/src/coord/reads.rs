//! Reads: C8 (strong), W1 (causal), W2 (eventual), and the repair of stale replicas that they meet.

use super::operation::{Operation, Origin};
use super::{Coord, CoordCx, Flight, PHASE_MS, alive, slot_and_replicas};
use crate::base::planted::{self, Bug};
use crate::base::{Counter, Failure, Instant, KeyOp, Level, NodeId, Record, RequestId, Stamp};
use crate::io::Tag;
use crate::rules::quorum::{Votes, majority};
use crate::rules::register::read_response;
use crate::wire::{Answer, Message, Refusal};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;

/// Milliseconds that a strong read waits for the remaining replies once a majority disagrees.
const GRACE_MS: u64 = 30;
/// One in so many eventual reads asks all replicas, to repair stale ones.
const REPAIR_ONE_IN: u64 = 8;

#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the read")]
pub(super) struct Read {
    tag: Tag,
    level: Level,
    key: Bytes,
    deadline: Instant,
    /// Who reported which ballot.
    reports: Vec<(NodeId, Stamp)>,
    /// Who refused.
    refusals: Votes,
    best: Stamp,
    /// The record at `best`, where some reply carried it.
    record: Option<Record>,
    /// W1: who has the record, while it is written back.
    writing_back: Option<Votes>,
    /// The client has its answer; late replies are still used for repair.
    answered: bool,
    /// A report newer than the answer that came after it; zero if none did.
    late: Stamp,
    /// All have been asked again since.
    rechecked: bool,
    /// Nobody asked so far but these (eventual reads go on to the next).
    asked: Vec<NodeId>,
    /// W2: how many reports an eventual read waits for.
    wanted: usize,
    /// When the last question was sent.
    sent: Instant,
    /// Who was asked for the record where the others were asked for its stamps.
    body_from: Option<NodeId>,
    /// A majority agrees, and the record is waited for.
    awaiting_body: bool,
    skewed: bool,
}

/// What a read does next.
enum Step {
    Wait,
    Answer,
    /// All has come but the record, which one node was asked for: waits until its answer is late.
    AwaitBody,
    /// The body at the best ballot has not come: everybody is asked for it.
    AskFull,
    WriteBack,
    Settle,
    WaitShortly,
}

/// T1: when expiry is judged, by the clock after the merging of all replies.
fn now_ms(cx: &CoordCx<'_, '_>) -> u64 {
    if planted::on(Bug::T1ExpiryByWallClock) { cx.cx.now.wall.0 } else { cx.cx.clock.last().ms() }
}

impl Coord {
    pub(super) fn read(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        tag: Tag,
        level: Level,
        key: Bytes,
        deadline: Instant,
    ) {
        let read = Read {
            tag,
            level,
            key,
            deadline,
            reports: Vec::new(),
            refusals: Votes::default(),
            best: Stamp::ZERO,
            record: None,
            writing_back: None,
            answered: false,
            late: Stamp::ZERO,
            rechecked: false,
            asked: Vec::new(),
            wanted: 0,
            sent: Instant(0),
            body_from: None,
            awaiting_body: false,
            skewed: false,
        };
        match level {
            Level::Eventual => {
                let request = cx.cx.next_request();
                self.ask_next(cx, request, read);
            }
            Level::Strong | Level::Causal => self.ask_all(cx, read, false),
        }
    }

    /// Asks every replica: one for the record, the others for its stamps, or all for the record.
    fn ask_all(&mut self, cx: &mut CoordCx<'_, '_>, mut read: Read, full: bool) {
        let (slot, replicas) = slot_and_replicas(cx.table, &read.key);
        let me = self.me.node;
        let body_from = if replicas.contains(&me) {
            Some(me)
        } else {
            replicas.iter().copied().find(|node| cx.liveness.is_alive(*node))
        };
        read.reports.clear();
        read.refusals = Votes::default();
        if !read.answered && !read.has_body() {
            // Who reported this ballot may stay silent from now on. What was chosen, another of a majority reports, too.
            read.best = Stamp::ZERO;
        }
        read.writing_back = None;
        read.asked = replicas.to_vec();
        read.sent = cx.cx.now.mono;
        read.body_from = body_from.filter(|_| !full);
        read.awaiting_body = false;
        let request = cx.cx.next_request();
        for node in replicas {
            let digest = !full && Some(*node) != body_from;
            let key = &read.key;
            Self::send_each(cx, [*node], slot, || Message::Query { request, key: key.clone(), digest });
        }
        let until = cx.cx.now.mono.plus_ms(PHASE_MS);
        self.fly(cx, request, read, until);
    }

    /// W2: asks the best replica not asked yet; then the fallback nodes for hints. What was asked before still counts when
    /// it comes: the first good answer is taken. When nobody is left the round begins again.
    fn ask_next(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId, mut read: Read) {
        let (slot, replicas) = slot_and_replicas(cx.table, &read.key);
        let me = self.me.node;
        let is_first = read.asked.is_empty();
        let is_new = |node: &NodeId| !read.asked.contains(node) && *node != me && cx.liveness.is_alive(*node);
        let mut targets = Vec::new();
        if is_first {
            targets.push(me);
        }
        if is_first && replicas.contains(&me) {
            read.wanted = 1;
            if self.rng.below(REPAIR_ONE_IN) == 0 {
                targets.extend(replicas.iter().copied().filter(is_new));
            }
        } else if let Some(next) = cx.table.preference(slot).iter().copied().find(is_new) {
            targets.push(next);
        }
        if is_first && !replicas.contains(&me) {
            read.wanted = targets.len();
        }
        let now = cx.cx.now.mono;
        let until = match targets.last() {
            Some(last) => self.latency.late_at(*last, now),
            None => now.plus_ms(PHASE_MS),
        };
        if !is_first {
            cx.cx.count(Counter::ReadHedged);
        }
        if targets.is_empty() {
            targets.extend(read.asked.iter().copied().filter(|node| *node != me));
        }
        read.asked.extend(targets.iter().copied());
        read.asked.sort_unstable();
        read.asked.dedup();
        read.sent = now;
        let key = read.key.clone();
        Self::send_each(cx, targets, slot, || Message::Query { request, key: key.clone(), digest: false });
        self.fly(cx, request, read, until);
    }

    fn fly(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId, read: Read, until: Instant) {
        let wake = until.min(read.deadline).max(Instant(cx.cx.now.mono.0 + 1));
        self.flights.insert(request, Flight::Read(Box::new(read)));
        self.set_timer(request, wake);
    }

    pub(super) fn on_read_answer(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        request: RequestId,
        from: NodeId,
        answer: Answer,
    ) {
        let Some(Flight::Read(read)) = self.flights.get_mut(&request) else {
            return;
        };
        let (_, replicas) = slot_and_replicas(cx.table, &read.key);
        match answer {
            Answer::Found { ballot, record } => {
                self.latency.observe(from, read.sent, cx.cx.now.mono);
                let newer = read.answered && ballot > read.best;
                let body = if newer { record.clone() } else { None };
                if !read.add(from, ballot, record) {
                    return;
                }
                if newer {
                    (read.best, read.record) = (ballot, body);
                    if !read.rechecked {
                        read.late = ballot;
                    }
                }
                if read.answered {
                    return self.on_late_report(cx, request, from, ballot);
                }
            }
            Answer::Accepted { .. } => {
                if let Some(votes) = &mut read.writing_back {
                    votes.add(replicas, from);
                }
            }
            Answer::Refused(refusal) => {
                read.refusals.add(replicas, from);
                read.skewed |= refusal == Refusal::ClockSkew;
            }
            _ => return cx.cx.count(Counter::PeerMisbehaved),
        }
        self.on_progress(cx, request);
    }

    /// A report that comes after the answer: a replica that is behind is repaired. One that holds more than was answered
    /// has met a round in flight, an attempt that was never chosen, or a write that it alone acknowledged. So all are asked
    /// again when the phase is over; if that record still stands alone, the key is settled with it as a candidate (R5, C2).
    fn on_late_report(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId, from: NodeId, ballot: Stamp) {
        let Some(Flight::Read(read)) = self.flights.get(&request) else {
            return;
        };
        let (_, replicas) = slot_and_replicas(cx.table, &read.key);
        read.repair(cx, from, ballot);
        if read.level == Level::Eventual {
            if read.reports.len() >= read.asked.len() {
                self.end_eventual(cx, request);
            }
            return;
        }
        if read.reports.len() < replicas.len() || (read.late != Stamp::ZERO && !read.rechecked) {
            return;
        }
        let alone =
            read.rechecked && read.best == read.late && read.agreeing(replicas) < majority(replicas.len());
        let candidate = read.record.clone().filter(|_| alone).map(|record| (read.key.clone(), record));
        self.flights.remove(&request);
        if let Some((key, record)) = candidate {
            self.settle_hint(cx, from, &key, record);
        }
    }

    /// W2: an eventual read that was answered has heard all that it will: repairs whoever is behind the newest.
    fn end_eventual(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        if let Some(Flight::Read(read)) = self.flights.remove(&request) {
            for (node, ballot) in &read.reports {
                read.repair(cx, *node, *ballot);
            }
        }
    }

    fn on_progress(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        let Some(Flight::Read(read)) = self.flights.get(&request) else {
            return;
        };
        if read.answered {
            return;
        }
        let (_, replicas) = slot_and_replicas(cx.table, &read.key);
        match read.next_step(replicas, now_ms(cx)) {
            Step::Wait => {}
            Step::WaitShortly => self.set_timer(request, cx.cx.now.mono.plus_ms(GRACE_MS)),
            Step::AwaitBody => {
                let late = read.body_from.map_or(read.sent, |node| self.latency.late_at(node, read.sent));
                let at = late.max(Instant(cx.cx.now.mono.0 + 1));
                if let Some(Flight::Read(read)) = self.flights.get_mut(&request) {
                    read.awaiting_body = true;
                }
                self.set_timer(request, at);
            }
            Step::Answer => self.finish_read(cx, request),
            Step::AskFull => {
                if let Some(Flight::Read(read)) = self.flights.remove(&request) {
                    self.ask_all(cx, *read, true);
                }
            }
            Step::WriteBack => self.write_back(cx, request),
            Step::Settle => self.settle(cx, request),
        }
    }

    fn finish_read(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        let Some(Flight::Read(read)) = self.flights.get_mut(&request) else {
            return;
        };
        let (_, replicas) = slot_and_replicas(cx.table, &read.key);
        read.answered = true;
        if read.level == Level::Strong {
            cx.cx.count(Counter::ReadAgreed);
        }
        for (node, ballot) in &read.reports {
            read.repair(cx, *node, *ballot);
        }
        let (tag, response) = (read.tag, read_response(read.record.as_ref(), now_ms(cx)));
        let expected = if read.level == Level::Eventual { read.asked.len() } else { replicas.len() };
        if read.reports.len() + read.refusals.count() >= expected {
            self.flights.remove(&request);
        }
        self.reply(cx, tag, Ok(response));
    }

    /// W1: writes the record back to a majority before answering.
    fn write_back(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        let Some(Flight::Read(mut read)) = self.flights.remove(&request) else {
            return;
        };
        let Some(record) = read.record.clone() else {
            return;
        };
        cx.cx.count(Counter::CausalWroteBack);
        let (slot, replicas) = slot_and_replicas(cx.table, &read.key);
        let mut votes = Votes::default();
        for (node, _) in read.reports.iter().filter(|(_, ballot)| *ballot == read.best) {
            votes.add(replicas, *node);
        }
        read.refusals = Votes::default();
        read.writing_back = Some(votes);
        let request = cx.cx.next_request();
        let lacking = replicas.iter().copied().filter(|node| !votes.has(replicas, *node));
        let key = read.key.clone();
        Self::send_each(cx, lacking, slot, || Message::Repair {
            request,
            key: key.clone(),
            record: record.clone(),
            chosen: false,
        });
        let until = cx.cx.now.mono.plus_ms(PHASE_MS);
        self.fly(cx, request, *read, until);
    }

    /// C8, W1: settles the key by a round of the identity, with what was read as a candidate.
    fn settle(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        let Some(Flight::Read(read)) = self.flights.remove(&request) else {
            return;
        };
        let counter = if read.level == Level::Strong { Counter::ReadSettled } else { Counter::CausalSettled };
        cx.cx.count(counter);
        let mut operation = Operation::new(Origin::Client(read.tag), KeyOp::Read, read.deadline);
        operation.candidate = read.record.filter(|_| read.level == Level::Causal);
        self.submit(cx, &read.key, operation);
    }

    pub(super) fn on_read_timeout(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        let Some(Flight::Read(read)) = self.flights.remove(&request) else {
            return;
        };
        if read.answered && read.level == Level::Eventual {
            self.flights.insert(request, Flight::Read(read));
            return self.end_eventual(cx, request);
        }
        if read.answered {
            if read.late != Stamp::ZERO && !read.rechecked {
                let mut again = *read;
                again.rechecked = true;
                self.ask_all(cx, again, true);
            }
            return;
        }
        let (_, replicas) = slot_and_replicas(cx.table, &read.key);
        let failure = if read.skewed { Failure::ClockSkew } else { Failure::Unavailable };
        if read.deadline <= cx.cx.now.mono {
            return self.reply(cx, read.tag, Err(failure));
        }
        let is_majority = read.reports.len() >= majority(replicas.len());
        match read.level {
            Level::Eventual => self.ask_next(cx, request, *read),
            Level::Strong | Level::Causal if read.awaiting_body && !read.has_body() => {
                cx.cx.count(Counter::ReadHedged);
                self.ask_all(cx, *read, true);
            }
            Level::Strong if is_majority && read.writing_back.is_none() => {
                self.flights.insert(request, Flight::Read(read));
                self.settle(cx, request);
            }
            Level::Strong | Level::Causal
                if alive(cx, replicas) < majority(replicas.len()) || read.skewed =>
            {
                self.reply(cx, read.tag, Err(failure));
            }
            Level::Strong | Level::Causal => self.ask_all(cx, *read, true),
        }
    }
}

impl Read {
    /// Takes a report in; false if `from` has reported before.
    fn add(&mut self, from: NodeId, ballot: Stamp, record: Option<Record>) -> bool {
        if self.reports.iter().any(|(node, _)| *node == from) || !self.asked.contains(&from) {
            return false;
        }
        self.reports.push((from, ballot));
        if ballot > self.best && !self.answered {
            self.best = ballot;
            self.record = record;
        } else if ballot == self.best && self.upto() <= record.as_ref().map(|record| record.evicted_upto) {
            // Equal ballots, equal records; of keys that hold nothing, the highest watermark tells most (G2).
            self.record = record;
        }
        true
    }

    /// What is known of the past of the record in hand.
    fn upto(&self) -> Option<Stamp> {
        self.record.as_ref().map(|record| record.evicted_upto)
    }

    fn has_body(&self) -> bool {
        self.best == Stamp::ZERO || self.record.is_some()
    }

    /// Whether the node that was asked for the record has not answered.
    fn may_still_come(&self, replicas: &[NodeId]) -> bool {
        let is_silent = |node: NodeId| {
            !self.refusals.has(replicas, node) && !self.reports.iter().any(|(from, _)| *from == node)
        };
        self.body_from.is_some_and(is_silent)
    }

    /// How many of `replicas` report the best ballot. A fallback node's hint is no replica's copy.
    fn agreeing(&self, replicas: &[NodeId]) -> usize {
        self.reports.iter().filter(|(node, ballot)| *ballot == self.best && replicas.contains(node)).count()
    }

    fn next_step(&self, replicas: &[NodeId], now_ms: u64) -> Step {
        let quorum = majority(replicas.len());
        if self.level == Level::Eventual {
            // That a fallback node has no hint says nothing of the key.
            let tells = |(node, ballot): &(NodeId, Stamp)| *ballot != Stamp::ZERO || replicas.contains(node);
            let enough = self.reports.len() + self.refusals.count() >= self.wanted;
            return if enough && self.reports.iter().any(tells) { Step::Answer } else { Step::Wait };
        }
        if let Some(votes) = self.writing_back {
            return match () {
                () if votes.is_majority(replicas) => Step::Answer,
                () if self.refusals.blocks_majority(replicas) => Step::Settle,
                () => Step::Wait,
            };
        }
        if self.reports.len() < quorum {
            return Step::Wait;
        }
        let agreed = self.agreeing(replicas) >= quorum;
        let expired = self.record.as_ref().is_some_and(|record| record.is_expired(now_ms));
        match self.level {
            _ if !self.has_body() => match () {
                () if !self.may_still_come(replicas) => Step::AskFull,
                () if self.awaiting_body => Step::Wait,
                () => Step::AwaitBody,
            },
            Level::Strong if planted::on(Bug::C8ReadWithoutMajority) => Step::Answer,
            Level::Strong
                if agreed
                    && expired
                    && !planted::on(Bug::T1ExpiryByWallClock)
                    && !planted::on(Bug::T1ExpiryNotTombstoned) =>
            {
                Step::Settle
            }
            _ if agreed => Step::Answer,
            Level::Causal if planted::on(Bug::W1ReadWithoutWriteBack) => Step::Answer,
            Level::Causal => Step::WriteBack,
            _ if self.reports.len() + self.refusals.count() >= replicas.len() => Step::Settle,
            _ => Step::WaitShortly,
        }
    }

    /// A replica reported less than what a majority has: repairs it.
    fn repair(&self, cx: &mut CoordCx<'_, '_>, node: NodeId, ballot: Stamp) {
        let (slot, replicas) = slot_and_replicas(cx.table, &self.key);
        let Some(record) =
            self.record.as_ref().filter(|record| record.ballot == self.best && ballot < self.best)
        else {
            return;
        };
        if !replicas.contains(&node) {
            return;
        }
        cx.cx.count(Counter::ReadRepair);
        let chosen = self.agreeing(replicas) >= majority(replicas.len());
        let request = cx.cx.next_request();
        Coord::send_each(cx, [node], slot, || Message::Repair {
            request,
            key: self.key.clone(),
            record: record.clone(),
            chosen,
        });
    }
}
