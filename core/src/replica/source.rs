//! R6 at both ends but for the course of a re-sync: what a suspect replica refuses, what it still takes, and what a source
//! sends it.

use super::registers::{Job, Work};
use super::{Incoming, Read, Replica, ReplicaCx, ReplicaEvent};
use crate::base::limits::{MAX_DRIFT_MS, REQUEST_DEADLINE_MS, SCAN_PAGE_BYTES, SCAN_PAGE_MAX};
use crate::base::planted::{self, Bug};
use crate::base::{Address, Counter, Hlc, Record, RecordKey, RequestId, Slot, Stamp};
use crate::rules::slots::slot_of;
use crate::store::{Lsn, ReadToken};
use crate::wire::{Answer, Message, Refusal};
use alloc::vec::Vec;
use bytes::Bytes;

impl Replica {
    /// The operator accepts the loss of what was damaged in the slots from `first` to `last`.
    pub fn accept_loss(&mut self, rx: &mut ReplicaCx<'_, '_>, first: Slot, last: Slot) {
        let end = RecordKey::start_of(Slot(last.0.min(Slot::COUNT - 1) + 1));
        let from = RecordKey::start_of(Slot(first.0));
        for (low, high) in rx.store.suspects() {
            let (low, high) = (low.max(from.clone()), high.min(end.clone()));
            if low < high {
                // Nothing at or below what may have been acknowledged here is accepted again.
                let upto = Slot(high.slot.0.saturating_sub(u16::from(high.key.is_empty())));
                self.promises.raise_floor(low.slot, upto, Stamp::upto(rx.cx.clock.last()));
                rx.store.heal(&low, &high);
            }
        }
        self.resync.stretches.clear();
        self.resync.works.clear();
        self.on_damage(rx);
    }

    pub(super) fn refuse_suspect(rx: &mut ReplicaCx<'_, '_>, to: Address, request: RequestId) {
        rx.cx.count(Counter::SuspectRefused);
        Self::refuse(rx, to, request, Refusal::Suspect);
    }

    fn is_suspect(rx: &ReplicaCx<'_, '_>, key: &Bytes) -> bool {
        let is_known = !planted::on(Bug::R6SuspectVotes);
        is_known && rx.store.is_suspect(&RecordKey { slot: slot_of(key), key: key.clone() })
    }

    fn is_slot_suspect(rx: &ReplicaCx<'_, '_>, slot: Slot) -> bool {
        slot.0 < Slot::COUNT
            && rx.store.is_any_suspect(&RecordKey::start_of(slot), &RecordKey::start_of(Slot(slot.0 + 1)))
    }

    /// R6: no votes on a suspect key. A repair of one is taken without a look at what is held, which may not be readable.
    /// Gives back what is to be answered as always.
    pub(super) fn judge_suspect(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        from: Address,
        body: Message,
    ) -> Option<Message> {
        match body {
            Message::Prepare { request, ref key, .. }
            | Message::Accept { request, ref key, .. }
            | Message::Query { request, ref key, .. }
                if Self::is_suspect(rx, key) && self.holds(rx, slot_of(key)) =>
            {
                Self::refuse_suspect(rx, from, request);
                None
            }
            Message::Repair { request, key, record, chosen }
                if Self::is_suspect(rx, &key) && self.holds(rx, slot_of(&key)) =>
            {
                self.repair_suspect(rx, &Incoming { from, request }, key, record, chosen);
                None
            }
            // G1: no watermark rises over what this replica may have lost.
            Message::Mark { request, slot, .. }
                if Self::is_slot_suspect(rx, slot)
                    && self.holds(rx, slot)
                    && !planted::on(Bug::R6SuspectVouches) =>
            {
                Self::refuse_suspect(rx, from, request);
                None
            }
            other => Some(other),
        }
    }

    /// G1, R6: steps of watermarks that have not been answered yet are not answered over what has just been found lost.
    pub(super) fn take_back_marks(&mut self, rx: &mut ReplicaCx<'_, '_>) {
        let mut asked: Vec<(Address, RequestId)> = Vec::new();
        self.deferred.retain(|_, (to, request, answer)| {
            let is_mark = matches!(answer, Answer::Marked(_));
            if is_mark {
                asked.push((*to, *request));
            }
            !is_mark
        });
        self.reads.retain(|_, read| match read {
            Read::Walk(walk) => {
                self.marks.walks -= 1;
                asked.push((walk.incoming.from, walk.incoming.request));
                false
            }
            _ => true,
        });
        for (to, request) in asked {
            Self::refuse_suspect(rx, to, request);
        }
    }

    /// The same for a request that waited for a read.
    pub(super) fn judge_queued(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        key: &RecordKey,
        job: Job,
    ) -> Option<Job> {
        if !Self::is_suspect(rx, &key.key) {
            return Some(job);
        }
        let Job { from, request, work } = job;
        match work {
            Work::Repair { record, chosen } => {
                self.repair_suspect(rx, &Incoming { from, request }, key.key.clone(), record, chosen);
            }
            Work::Prepare(_) | Work::Accept { .. } | Work::Query { .. } => {
                Self::refuse_suspect(rx, from, request);
            }
        }
        None
    }

    /// What a read wanted is damaged on disk: whoever waited for it hears that this replica has no vote.
    pub(super) fn on_unreadable(&mut self, rx: &mut ReplicaCx<'_, '_>, token: ReadToken) {
        match self.reads.remove(&token) {
            Some(Read::Register(key)) => {
                let queue = self.queues.remove(&key).unwrap_or_default();
                let record_key = RecordKey { slot: slot_of(&key), key };
                for job in queue {
                    let (from, request) = (job.from, job.request);
                    if self.judge_queued(rx, &record_key, job).is_some() {
                        Self::refuse_suspect(rx, from, request);
                    }
                }
            }
            Some(Read::Source { from, request, .. } | Read::HintToShow { from, request }) => {
                Self::refuse_suspect(rx, from, request);
            }
            Some(Read::Scan(scan)) => {
                let Incoming { from, request } = scan.incoming();
                Self::refuse_suspect(rx, from, request);
            }
            Some(Read::Walk(_)) => self.marks.walks -= 1,
            Some(Read::HintPage) => self.on_hint_page_unreadable(),
            // What the node has refused for good is not known any more: it must not answer.
            Some(Read::MarkPage) => rx.events.push(ReplicaEvent::MarksLost),
            // The disk may give it back the next time.
            Some(Read::Own(id)) => self.on_own_unreadable(id),
            Some(Read::HintToSend { .. }) | None => {}
        }
    }

    /// R5 without the accepted record: promise and floor are judged, the engine keeps the highest ballot.
    fn repair_suspect(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        incoming: &Incoming,
        key: Bytes,
        record: Record,
        chosen: bool,
    ) {
        let &Incoming { from, request } = incoming;
        let key = RecordKey { slot: slot_of(&key), key };
        let (ballot, promised) = (record.ballot, self.promises.of(key.slot, &key.key));
        if !chosen && promised.highest() > ballot {
            rx.cx.count(Counter::RepairRefused);
            return Self::refuse(rx, from, request, Refusal::Ballot(promised.highest()));
        }
        // G2: which watermark the others have raised meanwhile is not known before the re-sync has ended.
        let oldest = rx.cx.clock.last().ms().saturating_sub(REQUEST_DEADLINE_MS + 2 * MAX_DRIFT_MS);
        if ballot.hlc.ms() < oldest {
            return Self::refuse_suspect(rx, from, request);
        }
        if let Some(refusal) = Self::pressure(rx, &record) {
            return Self::refuse(rx, from, request, refusal);
        }
        rx.cx.count(Counter::RepairStored);
        self.note(rx, &key, &record);
        let lsn = rx.with_store(|store, cx| store.put(cx, key.clone(), record));
        self.raise_promise(rx, &key, ballot);
        self.answer(rx, from, request, Answer::Accepted { next_granted: false }, lsn);
    }

    /// R6: a suspect replica asks for what is held from `first` to `until`. The floor rises before anything is shown: an
    /// acknowledgement that the suspect has lost must not become a majority's by a late one from here.
    ///
    /// The rise is durable without a write of its own: the clock has been merged from the message, so the durable ceiling
    /// is above `floor`, and the ceiling is the floor after a restart (S3, S4).
    pub(super) fn on_resync(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        incoming: &Incoming,
        first: RecordKey,
        exclusive: bool,
        until: RecordKey,
        floor: Hlc,
    ) {
        let &Incoming { from, request } = incoming;
        let last = Slot(until.slot.0.min(Slot::COUNT).saturating_sub(u16::from(until.key.is_empty())));
        if floor > rx.cx.clock.last() || first >= until || last >= Slot(Slot::COUNT) {
            return rx.cx.count(Counter::PeerMisbehaved);
        }
        if !self.holds(rx, first.slot) {
            return Self::refuse(rx, from, request, Refusal::NotServing);
        }
        if rx.store.is_any_suspect(&first, &until) {
            return Self::refuse_suspect(rx, from, request);
        }
        let slots = (first.slot, last);
        if !planted::on(Bug::R6SourceFloorNotRaised) {
            self.promises.raise_floor(slots.0, slots.1, Stamp::upto(floor));
        }
        let token = rx.with_store(|store, cx| {
            store.scan(cx, first, exclusive, Some(until), SCAN_PAGE_MAX, SCAN_PAGE_BYTES)
        });
        self.reads.insert(token, Read::Source { from, request, slots });
    }

    pub(super) fn send_page(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        incoming: &Incoming,
        slots: (Slot, Slot),
        records: Vec<(RecordKey, Record)>,
        done: bool,
        lsn: Lsn,
    ) {
        rx.cx.count(Counter::ResyncPageSent);
        let floor = self.promises.highest_floor(slots.0, slots.1);
        let watermarks = self.marks.raised(slots.0, slots.1);
        let answer = Answer::Resynced { records, done, floor, watermarks };
        // R0: what is shown here is durable first.
        self.answer(rx, incoming.from, incoming.request, answer, lsn);
    }
}
