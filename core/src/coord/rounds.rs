//! Mutations by rounds of CASPaxos on one key: C1 to C7 (Rystsov, "CASPaxos: Replicated State Machines without Logs").

use super::evaluated::Evaluated;
use super::linger::Linger;
use super::operation::{Operation, Origin};
use super::{Coord, CoordCx, Flight, PHASE_MS, alive, slot_and_replicas};
use crate::base::limits::BATCH_MAX;
use crate::base::planted::{self, Bug};
use crate::base::{Counter, Failure, Instant, NodeId, Outcome, Record, RequestId, Response, Stamp};
use crate::rules::quorum::{Votes, majority};
use crate::rules::register::{self, Draft, Effect};
use crate::wire::{Answer, ForwardResult, Message, Refusal};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;

/// The rounds of one key.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    waiting: VecDeque<Operation>,
    batch: Vec<Operation>,
    phase: Phase,
    /// The id under which the phase's answers come.
    request: RequestId,
    attempt: u32,
    /// Why the last attempt failed, as far as it is certain that nothing was applied.
    reason: Option<Failure>,
}

#[derive(Debug, Clone, Default)]
enum Phase {
    #[default]
    Idle,
    /// Waits for its timer before C1.
    BackOff,
    /// C1.
    Prepare(Prepare),
    /// C5.
    Accept(Accept),
}

#[derive(Debug, Clone)]
struct Prepare {
    ballot: Stamp,
    promises: Votes,
    refusals: Votes,
    /// The accepted ballot in each promise.
    reported: Vec<Stamp>,
    best: Option<Record>,
    /// G2: the highest watermark of a replica that holds nothing.
    absent: Stamp,
}

#[derive(Debug, Clone)]
struct Accept {
    record: Record,
    next: Stamp,
    acks: Votes,
    grants: Votes,
    refusals: Votes,
    /// The answers, in the order of the batch.
    responses: Vec<Result<Response, Failure>>,
    from_settled: bool,
}

impl Coord {
    /// Queues an operation for the next round of `key`, and starts one if none runs.
    pub(super) fn submit(&mut self, cx: &mut CoordCx<'_, '_>, key: &Bytes, mut operation: Operation) {
        operation.arrived = cx.cx.clock.last();
        let round = self.rounds.entry(key.clone()).or_default();
        round.waiting.push_back(operation);
        if matches!(round.phase, Phase::Idle) {
            self.start(cx, key);
        }
    }

    /// C7: takes what waits as the next batch, and begins at C6 if the key is settled, else at C1.
    fn start(&mut self, cx: &mut CoordCx<'_, '_>, key: &Bytes) {
        let Some(round) = self.rounds.get_mut(key) else {
            return;
        };
        assert!(round.batch.is_empty(), "a round starts after the one before has ended");
        let count = round.waiting.len().min(BATCH_MAX);
        round.batch.extend(round.waiting.drain(..count));
        round.attempt = 0;
        round.reason = None;
        if round.batch.is_empty() {
            self.rounds.remove(key);
            return;
        }
        if round.batch.len() > 1 {
            cx.cx.count(Counter::RoundCombined);
        }
        let (_, replicas) = slot_and_replicas(cx.table, key);
        if alive(cx, replicas) < majority(replicas.len()) {
            // Before anything is sent the answer is certain; an accept sent in vain would leave it unknown.
            self.expire(cx, key, true);
            if self.rounds.get(key).is_none_or(|round| round.batch.is_empty()) {
                return self.finish(cx, key);
            }
        }
        let settled = self.settled.take(key, cx.cx.now.mono);
        let Some(round) = self.rounds.get_mut(key) else {
            return;
        };
        match settled {
            Some((ballot, record)) if round.may_use(ballot) => {
                cx.cx.count(Counter::SettledUsed);
                self.decide(cx, key, ballot, Some(&record), false, true);
            }
            _ => self.prepare(cx, key),
        }
    }

    /// C1.
    fn prepare(&mut self, cx: &mut CoordCx<'_, '_>, key: &Bytes) {
        let Some(round) = self.rounds.get_mut(key) else {
            return;
        };
        self.flights.remove(&round.request);
        let Some(ballot) = cx.cx.clock.issue() else {
            return self.back_off(cx, key);
        };
        let request = cx.cx.next_request();
        round.request = request;
        round.phase = Phase::Prepare(Prepare {
            ballot,
            promises: Votes::default(),
            refusals: Votes::default(),
            reported: Vec::new(),
            best: None,
            absent: Stamp::ZERO,
        });
        let wake = round.next_wake(cx.cx.now.mono);
        self.flights.insert(request, Flight::Round(key.clone()));
        self.set_timer(request, wake);
        let (slot, replicas) = slot_and_replicas(cx.table, key);
        Self::send_each(cx, replicas.iter().copied(), slot, || Message::Prepare {
            request,
            key: key.clone(),
            ballot,
        });
    }

    pub(super) fn on_round_answer(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        key: &Bytes,
        request: RequestId,
        from: NodeId,
        answer: Answer,
    ) {
        let Some(round) = self.rounds.get_mut(key).filter(|round| round.request == request) else {
            return;
        };
        let (_, replicas) = slot_and_replicas(cx.table, key);
        match (&mut round.phase, answer) {
            (Phase::Prepare(prepare), Answer::Promise { ballot, accepted }) if ballot == prepare.ballot => {
                if !prepare.promises.add(replicas, from) {
                    return;
                }
                prepare.add(accepted);
                let short = usize::from(planted::on(Bug::C1MinorityPrepare));
                if prepare.promises.count() + short >= majority(replicas.len()) {
                    self.on_promised(cx, key);
                }
            }
            (Phase::Prepare(prepare), Answer::Refused(refusal)) => {
                if prepare.promises.has(replicas, from) {
                    return;
                }
                prepare.refusals.add(replicas, from);
                round.reason = reason_of(refusal).or(round.reason);
                if prepare.refusals.blocks_majority(replicas) {
                    self.retry(cx, key);
                }
            }
            (Phase::Accept(accept), Answer::Accepted { next_granted }) => {
                accept.acks.add(replicas, from);
                if next_granted {
                    accept.grants.add(replicas, from);
                }
                let short = usize::from(planted::on(Bug::C5MinorityAccept));
                if accept.acks.count() + short >= majority(replicas.len()) {
                    self.on_chosen(cx, key);
                }
            }
            (Phase::Accept(accept), Answer::Refused(_)) => {
                if accept.acks.has(replicas, from) {
                    return;
                }
                accept.refusals.add(replicas, from);
                if accept.refusals.blocks_majority(replicas) {
                    if accept.from_settled {
                        cx.cx.count(Counter::SettledRefused);
                    }
                    self.retry(cx, key);
                }
            }
            _ => cx.cx.count(Counter::PeerMisbehaved),
        }
    }

    /// C2: a majority has promised.
    fn on_promised(&mut self, cx: &mut CoordCx<'_, '_>, key: &Bytes) {
        let Some(round) = self.rounds.get_mut(key) else {
            return;
        };
        let Phase::Prepare(prepare) = &mut round.phase else {
            return;
        };
        // G2: what a replica that holds nothing has collected is not brought back by a candidate from before.
        let absent = prepare.absent;
        let candidates = round.batch.iter().filter_map(|operation| operation.candidate.clone());
        let candidates = candidates.filter(|record| {
            let stale = absent != Stamp::ZERO && record.ballot <= absent;
            if stale {
                cx.cx.count(Counter::CandidateBelowWatermark);
            }
            !stale
        });
        let current = candidates.chain(prepare.best.take()).max_by_key(|record| record.ballot);
        let ballot = current.as_ref().map_or(Stamp::ZERO, |record| record.ballot);
        let (_, replicas) = slot_and_replicas(cx.table, key);
        let agreeing = prepare.reported.iter().filter(|reported| **reported == ballot).count();
        let agreed = agreeing >= majority(replicas.len());
        let ballot = prepare.ballot;
        self.decide(cx, key, ballot, current.as_ref(), agreed, false);
    }

    /// C3 and C4: evaluates the batch on the current record and answers, or goes on to C5.
    fn decide(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        key: &Bytes,
        ballot: Stamp,
        current: Option<&Record>,
        agreed: bool,
        from_settled: bool,
    ) {
        let evaluated = self.evaluate(cx, key, ballot, current);
        let Some(round) = self.rounds.get_mut(key) else {
            return;
        };
        if round.batch.is_empty() {
            return self.finish(cx, key);
        }
        let agreed = agreed || planted::on(Bug::C4NegativeWithoutAgreement);
        if !evaluated.draft.changed && !evaluated.fence && agreed {
            cx.cx.count(Counter::AnsweredWithoutWrite);
            let batch = core::mem::take(&mut round.batch);
            for (operation, response) in batch.into_iter().zip(evaluated.responses) {
                self.respond(cx, key, operation.origin, response);
            }
            return self.finish(cx, key);
        }
        self.accept(cx, key, evaluated, from_settled);
    }

    /// C3, C4, C7: applies the operations in order. Those whose outcome is in doubt leave the batch with an answer.
    fn evaluate(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        key: &Bytes,
        ballot: Stamp,
        current: Option<&Record>,
    ) -> Evaluated {
        let now_ms = if planted::on(Bug::T2ExpiredValueCounts) { 0 } else { cx.cx.clock.last().ms() };
        let mut draft = Draft::new(current, ballot, now_ms);
        draft.changed &= !planted::on(Bug::T1ExpiryNotTombstoned);
        if draft.changed {
            cx.cx.count(Counter::ExpiredSettled);
        }
        let mut evaluated = Evaluated { draft, responses: Vec::new(), fence: false, last_change: 0 };
        let batch =
            self.rounds.get_mut(key).map(|round| core::mem::take(&mut round.batch)).unwrap_or_default();
        let mut kept = Vec::with_capacity(batch.len());
        for mut operation in batch {
            if self.is_in_doubt(cx, key, &mut operation, &evaluated.draft) {
                continue;
            }
            let response = self.evaluate_one(cx, &mut operation, &mut evaluated, now_ms);
            evaluated.responses.push(response);
            kept.push(operation);
        }
        let before = current.map_or(Stamp::ZERO, |record| record.written);
        evaluated.rename_overwritten(cx, ballot, before, &mut kept);
        if let Some(round) = self.rounds.get_mut(key) {
            round.batch = kept;
        }
        evaluated
    }

    /// C3: whether an earlier attempt may have been applied and pruned. A certain first attempt takes a fresh id
    /// instead; a forwarded one is handed back for that; any other is answered unknown.
    fn is_in_doubt(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        key: &Bytes,
        operation: &mut Operation,
        draft: &Draft,
    ) -> bool {
        let Some(op_id) = operation.op_id else {
            return false;
        };
        if draft.applied(op_id).is_some()
            || draft.record.evicted_upto < op_id.stamp
            || planted::on(Bug::C3RetryWithoutOpIdTest)
            || planted::on(Bug::C3PrunedCountsAsNew)
        {
            return false;
        }
        match operation.origin {
            Origin::Client(_) if operation.fresh => {
                cx.cx.count(Counter::FreshOpId);
                operation.op_id = None;
                false
            }
            Origin::Forwarded { from, request } if operation.fresh => {
                cx.cx.count(Counter::ForwardNotRun);
                let answer = Answer::Forwarded(ForwardResult::NotRun);
                cx.cx.send(from, Message::Answer { request, answer });
                self.forwarded -= 1;
                true
            }
            origin => {
                cx.cx.count(Counter::RetryInDoubt);
                self.respond(cx, key, origin, Err(Failure::Timeout));
                true
            }
        }
    }

    fn evaluate_one(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        operation: &mut Operation,
        evaluated: &mut Evaluated,
        now_ms: u64,
    ) -> Result<Response, Failure> {
        let draft = &mut evaluated.draft;
        let applied = operation.op_id.and_then(|op_id| draft.applied(op_id));
        if let Some(applied) = applied.filter(|_| !planted::on(Bug::C3RetryWithoutOpIdTest)) {
            cx.cx.count(Counter::RetryFoundApplied);
            evaluated.fence = true;
            // A stored negative answer wrote nothing: its version is that of the record it saw.
            let version = draft.version_of(applied).min(draft.record.written);
            return match (&applied.outcome, &operation.drafted) {
                (Outcome::NotKept, Some((at, drafted))) if *at == applied.stamp => Ok(drafted.clone()),
                (Outcome::NotKept, _) => Err(Failure::Timeout),
                (outcome, _) => Ok(Response::Mutated { outcome: outcome.clone(), version }),
            };
        }
        match register::evaluate(&operation.op, Some(&draft.record), now_ms) {
            Effect::Unchanged(register::Answer::Current) => {
                Ok(register::read_response(Some(&draft.record), now_ms))
            }
            Effect::Unchanged(register::Answer::Outcome(outcome)) => {
                let retried = !operation.fresh && !planted::on(Bug::C4FailedWithoutFence);
                evaluated.fence |= retried;
                // A negative answer that an earlier attempt might contradict is stored, not only fenced: after a
                // take-over the preferred coordinator may still run the operation, under a higher ballot than the fence.
                if let (true, Some(op_id)) = (operation.idempotent || retried, operation.op_id) {
                    cx.cx.count(Counter::NegativeFenced);
                    draft.remember(op_id, &outcome);
                }
                Ok(Response::Mutated { outcome, version: draft.record.written })
            }
            Effect::Changed { value, expires_at, outcome } => {
                let ballot = draft.record.ballot;
                let op_id = operation.op_id.unwrap_or_else(|| self.op_id_below(ballot, operation.arrived));
                operation.op_id = Some(op_id);
                draft.change(op_id, value, expires_at, &outcome);
                let response = Response::Mutated { outcome, version: ballot };
                operation.drafted = Some((ballot, response.clone()));
                evaluated.last_change = evaluated.responses.len();
                Ok(response)
            }
        }
    }

    /// C5.
    fn accept(&mut self, cx: &mut CoordCx<'_, '_>, key: &Bytes, evaluated: Evaluated, from_settled: bool) {
        let Some(round) = self.rounds.get_mut(key) else {
            return;
        };
        self.flights.remove(&round.request);
        let Evaluated { draft: Draft { record, .. }, responses, .. } = evaluated;
        for operation in round.batch.iter_mut().filter(|operation| operation.op_id.is_some()) {
            operation.fresh = false;
        }
        let next = cx.cx.clock.issue().unwrap_or_default();
        assert!(next == Stamp::ZERO || next > record.ballot, "the next ballot is above this one");
        let request = cx.cx.next_request();
        round.request = request;
        round.phase = Phase::Accept(Accept {
            record: record.clone(),
            next,
            acks: Votes::default(),
            grants: Votes::default(),
            refusals: Votes::default(),
            responses,
            from_settled,
        });
        let wake = round.next_wake(cx.cx.now.mono);
        self.flights.insert(request, Flight::Round(key.clone()));
        self.set_timer(request, wake);
        let (slot, replicas) = slot_and_replicas(cx.table, key);
        Self::send_each(cx, replicas.iter().copied(), slot, || Message::Accept {
            request,
            key: key.clone(),
            record: record.clone(),
            next,
        });
    }

    /// C5: a majority has accepted. Answers the batch, keeps the granted ballot, and lets the rest arrive.
    fn on_chosen(&mut self, cx: &mut CoordCx<'_, '_>, key: &Bytes) {
        let Some(round) = self.rounds.get_mut(key) else {
            return;
        };
        let Phase::Accept(accept) = core::mem::take(&mut round.phase) else {
            return;
        };
        let batch = core::mem::take(&mut round.batch);
        let request = core::mem::take(&mut round.request);
        cx.cx.count(Counter::RoundChosen);
        assert_eq!(batch.len(), accept.responses.len(), "one answer for each operation");
        for (operation, response) in batch.into_iter().zip(accept.responses) {
            self.respond(cx, key, operation.origin, response);
        }
        let (_, replicas) = slot_and_replicas(cx.table, key);
        if accept.next != Stamp::ZERO && accept.grants.is_majority(replicas) {
            self.settled.insert(key, accept.next, accept.record.clone(), cx.cx.now.mono);
        }
        self.linger(cx, request, Linger::new(key.clone(), accept.record, accept.acks, Vec::new()));
        self.finish(cx, key);
    }

    /// The batch is done: goes on with what waits.
    fn finish(&mut self, cx: &mut CoordCx<'_, '_>, key: &Bytes) {
        let Some(round) = self.rounds.get_mut(key) else {
            return;
        };
        if matches!(self.flights.get(&round.request), Some(Flight::Round(_))) {
            self.flights.remove(&round.request);
        }
        round.request = RequestId(0);
        round.phase = Phase::Idle;
        self.start(cx, key);
    }

    /// A phase has failed: drops whom it is too late for, and goes back to C1 after a while.
    fn retry(&mut self, cx: &mut CoordCx<'_, '_>, key: &Bytes) {
        cx.cx.count(Counter::RoundRetried);
        self.expire(cx, key, true);
        self.back_off(cx, key);
    }

    fn back_off(&mut self, cx: &mut CoordCx<'_, '_>, key: &Bytes) {
        let Some(round) = self.rounds.get_mut(key) else {
            return;
        };
        self.flights.remove(&round.request);
        if round.batch.is_empty() {
            return self.finish(cx, key);
        }
        round.attempt += 1;
        let span_us = 2_000_u64 << round.attempt.min(7);
        let pause_us = 100 + self.rng.below(span_us);
        let request = cx.cx.next_request();
        round.request = request;
        round.phase = Phase::BackOff;
        self.flights.insert(request, Flight::Round(key.clone()));
        let wake = Instant(cx.cx.now.mono.0 + pause_us * 1_000);
        self.set_timer(request, wake);
    }

    pub(super) fn on_round_timeout(&mut self, cx: &mut CoordCx<'_, '_>, key: &Bytes, request: RequestId) {
        let Some(round) = self.rounds.get(key).filter(|round| round.request == request) else {
            return;
        };
        match round.phase {
            Phase::Idle => {}
            Phase::BackOff => {
                self.expire(cx, key, false);
                if self.rounds.get(key).is_some_and(|round| round.batch.is_empty()) {
                    return self.finish(cx, key);
                }
                self.prepare(cx, key);
            }
            Phase::Prepare(_) | Phase::Accept(_) => self.retry(cx, key),
        }
    }

    /// Answers the operations whose time is over: not applied if that is certain, else unknown. After a failed phase
    /// without a majority alive, nothing is gained by waiting for the deadline: certain ones are answered at once.
    fn expire(&mut self, cx: &mut CoordCx<'_, '_>, key: &Bytes, failed: bool) {
        let now = cx.cx.now.mono;
        let (_, replicas) = slot_and_replicas(cx.table, key);
        let hopeless = failed && alive(cx, replicas) < majority(replicas.len());
        let Some(round) = self.rounds.get_mut(key) else {
            return;
        };
        let reason = round.reason.unwrap_or(Failure::Unavailable);
        let hopeless = hopeless || (failed && round.reason.is_some());
        let is_over = |operation: &Operation| {
            operation.deadline <= now || (hopeless && (operation.fresh || operation.is_read()))
        };
        let mut over = Vec::new();
        for operation in core::mem::take(&mut round.batch) {
            if is_over(&operation) { over.push(operation) } else { round.batch.push(operation) }
        }
        for operation in core::mem::take(&mut round.waiting) {
            if is_over(&operation) { over.push(operation) } else { round.waiting.push_back(operation) }
        }
        for operation in over {
            let certain = operation.fresh || operation.is_read();
            let failure = if certain { reason } else { Failure::Timeout };
            self.respond(cx, key, operation.origin, Err(failure));
        }
    }
}

impl Round {
    /// C6: a settled ballot serves only operations whose ids are below it, and no candidate that it did not see.
    fn may_use(&self, ballot: Stamp) -> bool {
        let is_below = |operation: &Operation| operation.op_id.is_none_or(|op_id| op_id.stamp < ballot);
        self.batch.iter().all(|operation| is_below(operation) && operation.candidate.is_none())
    }

    /// The end of the phase, or the earliest deadline of the batch.
    fn next_wake(&self, now: Instant) -> Instant {
        let deadline = self.batch.iter().map(|operation| operation.deadline).min();
        now.plus_ms(PHASE_MS).min(deadline.unwrap_or(Instant::NEVER)).max(Instant(now.0 + 1))
    }
}

impl Prepare {
    fn add(&mut self, accepted: Option<Record>) {
        let ballot = accepted.as_ref().map_or(Stamp::ZERO, |record| record.ballot);
        self.reported.push(ballot);
        let rank = |record: &Record| (record.ballot, record.evicted_upto);
        if let Some(record) = accepted.as_ref().filter(|record| record.ballot == Stamp::ZERO) {
            self.absent = self.absent.max(record.evicted_upto);
        }
        let first = planted::on(Bug::C2FirstPromiseWins) && self.reported.len() > 1;
        if !first && accepted.as_ref().map(rank) > self.best.as_ref().map(rank) {
            self.best = accepted;
        }
    }
}

/// The failure that a refused prepare stands for, where it is not just contention.
fn reason_of(refusal: Refusal) -> Option<Failure> {
    match refusal {
        Refusal::ClockSkew => Some(Failure::ClockSkew),
        Refusal::DiskFull => Some(Failure::DiskFull),
        Refusal::Overloaded => Some(Failure::Overloaded),
        Refusal::Ballot(_)
        | Refusal::Epoch(_)
        | Refusal::TooOld
        | Refusal::NotServing
        | Refusal::Suspect
        | Refusal::BelowWatermark(_) => None,
    }
}
