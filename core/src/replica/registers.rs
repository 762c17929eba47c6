//! R1 to R5 on one key.

use super::{Incoming, Read, Replica, ReplicaCx};
use crate::base::planted::{self, Bug};
use crate::base::{Address, Counter, Record, RecordKey, RequestId, Stamp};
use crate::rules::slots::slot_of;
use crate::store::{Lookup, Lsn, Pressure};
use crate::wire::{Answer, Refusal};
use alloc::collections::VecDeque;
use bytes::Bytes;

/// A request that needs the accepted record.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) from: Address,
    pub(super) request: RequestId,
    pub(super) work: Work,
}

#[derive(Debug, Clone)]
pub(super) enum Work {
    Prepare(Stamp),
    Accept { record: Record, next: Stamp },
    Query { digest: bool },
    Repair { record: Record, chosen: bool },
}

/// The answer of R3.
pub(super) fn found(record: Option<Record>, digest: bool) -> Answer {
    let shown = |record: &Record| {
        if planted::on(Bug::R3FoundShowsWritten) { record.written } else { record.ballot }
    };
    let ballot = record.as_ref().map_or(Stamp::ZERO, shown);
    // G2: that a key holds nothing, and up to which watermark, is no larger than a digest.
    Answer::Found { ballot, record: record.filter(|_| !digest || ballot == Stamp::ZERO) }
}

impl Replica {
    /// Runs `job` on the accepted record of `key`, now or when it has been read.
    pub(super) fn enqueue(&mut self, rx: &mut ReplicaCx<'_, '_>, key: Bytes, job: Job) {
        let slot = slot_of(&key);
        if !self.holds(rx, slot) {
            Self::refuse(rx, job.from, job.request, Refusal::NotServing);
            return;
        }
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.push_back(job);
            return;
        }
        let record_key = RecordKey { slot, key };
        match rx.with_store(|store, cx| store.get(cx, &record_key)) {
            Lookup::Ready { record, lsn } => self.run(rx, &record_key, job, record, lsn),
            Lookup::Pending(token) => {
                self.queues.insert(record_key.key.clone(), VecDeque::from([job]));
                self.reads.insert(token, Read::Register(record_key.key));
            }
        }
    }

    /// The accepted record of `key` has been read: works off its queue.
    pub(super) fn on_read(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        key: &Bytes,
        record: Option<Record>,
        lsn: Lsn,
    ) {
        let record_key = RecordKey { slot: slot_of(key), key: key.clone() };
        let mut current = Some((record, lsn));
        while let Some(job) = self.queues.get_mut(key).and_then(VecDeque::pop_front) {
            let (record, lsn) = match current.take() {
                Some(read) => read,
                None => match rx.with_store(|store, cx| store.get(cx, &record_key)) {
                    Lookup::Ready { record, lsn } => (record, lsn),
                    Lookup::Pending(token) => {
                        if let Some(queue) = self.queues.get_mut(key) {
                            queue.push_front(job);
                        }
                        self.reads.insert(token, Read::Register(key.clone()));
                        return;
                    }
                },
            };
            self.run(rx, &record_key, job, record, lsn);
        }
        self.queues.remove(key);
    }

    fn run(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        key: &RecordKey,
        job: Job,
        accepted: Option<Record>,
        lsn: Lsn,
    ) {
        let Some(Job { from, request, work }) = self.judge_queued(rx, key, job) else {
            return;
        };
        let accepted = self.marks.of(key.slot).shown(accepted);
        match work {
            Work::Prepare(ballot) => {
                self.prepare(rx, key, &Incoming { from, request }, ballot, accepted, lsn);
            }
            Work::Accept { record, next } => {
                let held = accepted.map_or(Stamp::ZERO, |record| record.ballot);
                self.accept(rx, key, &Incoming { from, request }, record, next, held, lsn);
            }
            Work::Query { digest } => {
                let lsn = if planted::on(Bug::R0QueryUnsynced) { Lsn(0) } else { lsn };
                self.answer(rx, from, request, found(accepted, digest), lsn);
            }
            Work::Repair { record, chosen } => {
                let held = accepted.map_or(Stamp::ZERO, |record| record.ballot);
                self.repair(rx, key, &Incoming { from, request }, record, chosen, held, lsn);
            }
        }
    }

    /// R1. The promise stands at once; the answer waits until the record it shows is durable (R0).
    fn prepare(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        key: &RecordKey,
        incoming: &Incoming,
        ballot: Stamp,
        accepted: Option<Record>,
        lsn: Lsn,
    ) {
        let &Incoming { from, request } = incoming;
        if Self::is_too_old(rx, ballot) {
            return Self::refuse(rx, from, request, Refusal::TooOld);
        }
        if self.refuse_closed(rx, incoming, key.slot, ballot) {
            return;
        }
        let promised = self.promises.of(key.slot, &key.key);
        let held = accepted.as_ref().map_or(Stamp::ZERO, |record| record.ballot);
        let highest = promised.highest().max(held);
        if ballot <= highest {
            rx.cx.count(Counter::PrepareRefused);
            return Self::refuse(rx, from, request, Refusal::Ballot(highest));
        }
        if !planted::on(Bug::R1PromiseNotKept) {
            self.raise_promise(rx, key, ballot);
        }
        let lsn = if planted::on(Bug::R0PromiseUnsynced) { Lsn(0) } else { lsn };
        self.answer(rx, from, request, Answer::Promise { ballot, accepted }, lsn);
    }

    /// R2, before the accepted record is known. A promise of exactly this ballot proves that nothing above it has been
    /// accepted, since whatever is stored raises the promise: then no read is needed.
    pub(super) fn on_accept(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        incoming: Incoming,
        key: Bytes,
        record: Record,
        next: Stamp,
    ) {
        let slot = slot_of(&key);
        let promised = self.promises.of(slot, &key);
        let proven = promised.exact && promised.ballot == record.ballot;
        if proven && self.holds(rx, slot) && !self.queues.contains_key(&key) {
            let key = RecordKey { slot, key };
            return self.accept(rx, &key, &incoming, record, next, Stamp::ZERO, Lsn(0));
        }
        let Incoming { from, request } = incoming;
        self.enqueue(rx, key, Job { from, request, work: Work::Accept { record, next } });
    }

    /// R2.
    #[expect(clippy::too_many_arguments, reason = "the rule's inputs, each of another type")]
    fn accept(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        key: &RecordKey,
        incoming: &Incoming,
        record: Record,
        next: Stamp,
        held: Stamp,
        held_lsn: Lsn,
    ) {
        let &Incoming { from, request } = incoming;
        let ballot = record.ballot;
        if Self::is_too_old(rx, ballot) {
            return Self::refuse(rx, from, request, Refusal::TooOld);
        }
        if self.refuse_closed(rx, incoming, key.slot, ballot) {
            return;
        }
        if ballot == held {
            rx.cx.count(Counter::AcceptRepeated);
            self.raise_promise(rx, key, next.max(ballot));
            let next_granted = self.is_granted(key, next) || planted::on(Bug::R2NextGrantedOnReack);
            return self.answer(rx, from, request, Answer::Accepted { next_granted }, held_lsn);
        }
        let promised = self.promises.of(key.slot, &key.key);
        let above_held = ballot > held || planted::on(Bug::R2NoAcceptedCheck);
        if !promised.admits(ballot) || !above_held {
            rx.cx.count(Counter::AcceptRefused);
            let highest = promised.highest().max(held);
            return Self::refuse(rx, from, request, Refusal::Ballot(highest));
        }
        if let Some(refusal) = Self::pressure(rx, &record) {
            return Self::refuse(rx, from, request, refusal);
        }
        self.note(rx, key, &record);
        let lsn = rx.with_store(|store, cx| store.put(cx, key.clone(), record));
        self.raise_promise(rx, key, next.max(ballot));
        let next_granted = self.is_granted(key, next);
        self.answer(rx, from, request, Answer::Accepted { next_granted }, lsn);
    }

    /// Whether `next` is now exactly what is promised.
    fn is_granted(&self, key: &RecordKey, next: Stamp) -> bool {
        let promised = self.promises.of(key.slot, &key.key);
        next != Stamp::ZERO && promised.exact && promised.ballot == next
    }

    pub(super) fn raise_promise(&mut self, rx: &mut ReplicaCx<'_, '_>, key: &RecordKey, ballot: Stamp) {
        assert!(ballot <= Stamp::upto(rx.cx.clock.last()), "S3: a promise above the clock");
        if self.promises.raise(key.slot, &key.key, ballot) {
            rx.cx.count(Counter::PromiseEvicted);
        }
    }

    pub(super) fn pressure(rx: &ReplicaCx<'_, '_>, record: &Record) -> Option<Refusal> {
        match rx.store.admit() {
            Ok(()) => None,
            Err(Pressure::Full) if record.value.is_none() => None,
            Err(Pressure::Full) => Some(Refusal::DiskFull),
            Err(Pressure::Busy) => Some(Refusal::Overloaded),
        }
    }

    /// R4: judged by promise and floor only; stored blindly, the engine keeps the highest ballot.
    pub(super) fn on_weak(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        incoming: &Incoming,
        key: Bytes,
        record: Record,
    ) {
        let &Incoming { from, request } = incoming;
        let slot = slot_of(&key);
        if !self.holds(rx, slot) {
            return Self::refuse(rx, from, request, Refusal::NotServing);
        }
        let ballot = record.ballot;
        if Self::is_too_old(rx, ballot) {
            return Self::refuse(rx, from, request, Refusal::TooOld);
        }
        if self.refuse_closed(rx, incoming, slot, ballot) {
            return;
        }
        let promised = self.promises.of(slot, &key);
        if !promised.admits(ballot) && !planted::on(Bug::R4WeakIgnoresPromises) {
            rx.cx.count(Counter::WeakRefused);
            return Self::refuse(rx, from, request, Refusal::Ballot(promised.highest()));
        }
        if let Some(refusal) = Self::pressure(rx, &record) {
            return Self::refuse(rx, from, request, refusal);
        }
        self.promises.raise_entry(slot, &key, ballot);
        let key = RecordKey { slot, key };
        if rx.store.peek(&key).is_some_and(|held| held > ballot) {
            rx.cx.count(Counter::WeakSuperseded);
        }
        self.note(rx, &key, &record);
        let lsn = rx.with_store(|store, cx| store.put(cx, key, record));
        self.answer(rx, from, request, Answer::Accepted { next_granted: false }, lsn);
    }

    /// R3. A node that is not a replica shows its hint (W2).
    pub(super) fn on_query(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        incoming: Incoming,
        key: Bytes,
        digest: bool,
    ) {
        let Incoming { from, request } = incoming;
        if self.holds(rx, slot_of(&key)) {
            self.enqueue(rx, key, Job { from, request, work: Work::Query { digest } });
        } else {
            self.show_hint(rx, &Incoming { from, request }, &key);
        }
    }

    /// R5. A chosen record is always taken; any other not under a promise; one below the accepted one is dropped.
    #[expect(clippy::too_many_arguments, reason = "the rule's inputs, each of another type")]
    fn repair(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        key: &RecordKey,
        incoming: &Incoming,
        record: Record,
        chosen: bool,
        held: Stamp,
        held_lsn: Lsn,
    ) {
        let &Incoming { from, request } = incoming;
        let ballot = record.ballot;
        let accepted = Answer::Accepted { next_granted: false };
        if ballot == held {
            return self.answer(rx, from, request, accepted, held_lsn);
        }
        // G2: what this record would bring back may be what was collected above it.
        let watermark = self.watermark(key.slot);
        let stale = ballot <= watermark && ballot > held && watermark != Stamp::ZERO;
        if stale && !planted::on(Bug::G2RepairBelowWatermark) {
            rx.cx.count(Counter::RefusedBelowWatermark);
            return Self::refuse(rx, from, request, Refusal::BelowWatermark(watermark));
        }
        // The promise comes before the comparison with what is held: a record above, accepted under a higher promise,
        // need not have seen this one, and an acknowledgement would let a causal read answer what is then displaced.
        let promised = self.promises.of(key.slot, &key.key);
        let bound = !chosen && promised.highest() > ballot;
        let early = planted::on(Bug::R5DroppedCountsAsKept) && ballot < held;
        if bound && !early && !planted::on(Bug::R5RepairIgnoresPromises) {
            rx.cx.count(Counter::RepairRefused);
            return Self::refuse(rx, from, request, Refusal::Ballot(promised.highest().max(held)));
        }
        if ballot < held {
            return self.answer(rx, from, request, accepted, held_lsn);
        }
        if let Some(refusal) = Self::pressure(rx, &record) {
            return Self::refuse(rx, from, request, refusal);
        }
        rx.cx.count(Counter::RepairStored);
        self.note(rx, key, &record);
        let lsn = rx.with_store(|store, cx| store.put(cx, key.clone(), record));
        self.raise_promise(rx, key, ballot);
        self.answer(rx, from, request, accepted, lsn);
    }
}
