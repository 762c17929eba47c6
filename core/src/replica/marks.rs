//! The replica's side of section 7: `closed` and the watermark T of each slot, and what they refuse.
//!
//! Both are durable, as records without a value in a key space of the shard, beyond the hints: the ballot is the mark. The
//! store keeps the highest ballot of a key whatever happens, so a mark never falls; its log orders a mark before and after
//! the records that it is about; and a start reads them before anything is answered. A third mark of a slot remembers
//! that there is garbage in it, so that a start need not look through all records to find what is to be collected.

use super::{Incoming, Read, Replica, ReplicaCx};
use crate::base::limits::{MAX_DRIFT_MS, REQUEST_DEADLINE_MS};
use crate::base::planted::{self, Bug};
use crate::base::{Counter, NodeId, Record, RecordKey, Slot, Stamp};
use crate::rules::garbage::{collectable_at, is_garbage};
use crate::store::Lsn;
use crate::wire::{Answer, MarkStep, Marked, Refusal};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use bytes::Bytes;

/// The store's slot of marks.
pub const MARK_SLOT: Slot = Slot(Slot::COUNT + 1);
/// Marks read from the store in one page at the start.
const PAGE: usize = 1_024;

/// What a mark says. The letter is part of its key on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Everything at or below it is refused.
    Closed = b'c' as isize,
    /// There may be garbage that goes at this stamp.
    Garbage = b'g' as isize,
    /// The watermark T.
    Raised = b't' as isize,
}

/// What is known of a slot's garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Garbage {
    /// The watermark at which the first tombstone or expiring record may go; zero until a walk has told after a start.
    pub earliest: Option<Stamp>,
    /// Tombstones and expired records.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

impl Garbage {
    /// Takes `record` in, which may go at the watermark `at`; it counts as garbage if it is dead at `now_ms`.
    pub(super) fn add(&mut self, at: Stamp, key: &RecordKey, record: &Record, now_ms: u64) {
        self.earliest = Some(self.earliest.map_or(at, |earliest| earliest.min(at)));
        if !record.is_live(now_ms) {
            self.records += 1;
            self.bytes += (key.key.len() + record.value.as_ref().map_or(0, Bytes::len)) as u64;
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            earliest: self.earliest.into_iter().chain(other.earliest).min(),
            records: self.records + other.records,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// The marks of one slot.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SlotMarks {
    /// Refused from here down, at once; durable with `closed_lsn`.
    closed: Stamp,
    closed_lsn: Lsn,
    /// The watermark, durable.
    pub(super) raised: Stamp,
    /// The garbage mark on disk.
    noted: Stamp,
    /// The highest watermark that any garbage waits for.
    latest: Stamp,
    /// Given out by the last close; 0 when a record at or below `closed` came in since.
    token: u64,
    /// What the last walk over the slot has found, and what has been stored since.
    pub(super) garbage: Garbage,
    /// What the walk in progress has found, and of that what stays when the watermark rises to `walked_upto`.
    pub(super) found: Garbage,
    pub(super) staying: Garbage,
    pub(super) walked_upto: Stamp,
    /// What has been stored since the walk began.
    since: Garbage,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    pub(super) slots: BTreeMap<Slot, SlotMarks>,
    /// Slots that this node drives, by the watermark at which the first of their garbage may go.
    due: BTreeSet<(Stamp, Slot)>,
    /// Watermarks on their way to the disk.
    rising: BTreeMap<(Lsn, Slot), Stamp>,
    loaded: bool,
    /// R6: some of the marks of earlier lives may be lost. All slots are suspect then.
    pub(super) partial: bool,
    /// Walks over slots under way.
    pub(super) walks: usize,
}

fn mark_key(kind: Kind, slot: Slot) -> RecordKey {
    let [high, low] = slot.0.to_be_bytes();
    RecordKey { slot: MARK_SLOT, key: Bytes::copy_from_slice(&[kind as u8, high, low]) }
}

/// The end of the marks in the order of the store.
fn end() -> RecordKey {
    RecordKey::start_of(Slot(MARK_SLOT.0 + 1))
}

impl SlotMarks {
    /// What a key that holds `record` shows: below the watermark, what may go is gone, whether compaction has dropped it
    /// or not; so every replica shows the same.
    pub(super) fn shown(&self, record: Option<Record>) -> Option<Record> {
        if self.raised == Stamp::ZERO {
            return record;
        }
        let upto = if planted::on(Bug::G2AbsentWithoutEvictedUpto) { Stamp::ZERO } else { self.raised };
        let record = record.filter(|record| !is_garbage(record, self.raised));
        Some(record.unwrap_or_else(|| Record::absent(upto)))
    }
}

impl Marks {
    pub(super) fn of(&self, slot: Slot) -> SlotMarks {
        self.slots.get(&slot).copied().unwrap_or_default()
    }

    fn put(rx: &mut ReplicaCx<'_, '_>, kind: Kind, slot: Slot, mark: Stamp) -> Lsn {
        let record = Record { ballot: mark, written: mark, value: Some(Bytes::new()), ..Record::default() };
        rx.with_store(|store, cx| store.put(cx, mark_key(kind, slot), record))
    }

    /// R6: the watermarks of the slots from `first` to `last` that have one, all durable.
    pub(super) fn raised(&self, first: Slot, last: Slot) -> Vec<(Slot, Stamp)> {
        let marks = self.slots.range(first..=last).map(|(slot, marks)| (*slot, marks.raised));
        marks.filter(|(_, raised)| *raised != Stamp::ZERO).collect()
    }

    /// R6: no comparison under way counts any more.
    pub(super) fn disturb_all(&mut self) {
        self.slots.values_mut().for_each(|marks| marks.token = 0);
    }

    /// R6: writes all marks again, since files that held some are damaged. They are safe once the LSN returned is durable.
    pub(super) fn write_again(&self, rx: &mut ReplicaCx<'_, '_>) -> Lsn {
        let mut last = Lsn(0);
        for (slot, marks) in &self.slots {
            for (kind, mark) in
                [(Kind::Closed, marks.closed), (Kind::Garbage, marks.noted), (Kind::Raised, marks.raised)]
            {
                if mark != Stamp::ZERO {
                    last = last.max(Self::put(rx, kind, *slot, mark));
                }
            }
        }
        last
    }

    /// Keeps the order of the slots that this node drives.
    fn reorder(&mut self, slot: Slot, before: Option<Stamp>, drives: bool) {
        let now = self.slots.get(&slot).and_then(|marks| marks.garbage.earliest);
        if let Some(before) = before.filter(|before| Some(*before) != now) {
            self.due.remove(&(before, slot));
        }
        if let Some(now) = now.filter(|_| drives) {
            self.due.insert((now, slot));
        }
    }
}

/// Whether `me` drives the rounds of `slot`: its preferred replica does.
fn drives(rx: &ReplicaCx<'_, '_>, me: NodeId, slot: Slot) -> bool {
    rx.table.replicas(slot).first() == Some(&me)
}

impl Replica {
    /// Reads the marks that an earlier life left; nothing is answered before `marks_loaded`.
    pub fn load_marks(&mut self, rx: &mut ReplicaCx<'_, '_>) {
        self.read_mark_page(rx, RecordKey { slot: MARK_SLOT, key: Bytes::new() }, false);
    }

    /// Whether the marks of earlier lives are known.
    pub fn marks_loaded(&self) -> bool {
        self.marks.loaded
    }

    fn read_mark_page(&mut self, rx: &mut ReplicaCx<'_, '_>, from: RecordKey, exclusive: bool) {
        let token =
            rx.with_store(|store, cx| store.scan_readable(cx, from, exclusive, Some(end()), PAGE, 1 << 20));
        self.reads.insert(token, Read::MarkPage);
    }

    pub(super) fn on_mark_page(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        records: &[(RecordKey, Record)],
        done: bool,
    ) {
        for (key, record) in records {
            let &[kind, high, low] = &key.key[..] else {
                continue;
            };
            let marks = self.marks.slots.entry(Slot(u16::from_be_bytes([high, low]))).or_default();
            match kind {
                b'c' => marks.closed = record.ballot,
                b'g' => (marks.noted, marks.latest) = (record.ballot, record.ballot),
                b't' => marks.raised = record.ballot,
                _ => {}
            }
        }
        if let (false, Some((last, _))) = (done, records.last()) {
            return self.read_mark_page(rx, last.clone(), true);
        }
        self.marks.loaded = true;
        if rx.store.is_any_suspect(&RecordKey::start_of(MARK_SLOT), &end()) {
            // R6: a watermark that is lost would show as records that the others have collected, or as nothing.
            self.marks.partial = true;
            rx.store.suspect(&RecordKey::start_of(Slot(0)), &RecordKey::start_of(Slot(Slot::COUNT)));
        }
        let slots: Vec<Slot> = self.marks.slots.keys().copied().collect();
        for slot in slots {
            let drives = drives(rx, self.me, slot);
            let Some(marks) = self.marks.slots.get_mut(&slot) else {
                continue;
            };
            marks.closed = marks.closed.max(marks.raised);
            rx.store.set_watermark(slot, marks.raised, 0);
            if marks.latest > marks.raised {
                // How much there is, and when it may go, the first walk over the slot will tell.
                marks.garbage.earliest = Some(Stamp::ZERO);
                self.marks.reorder(slot, None, drives);
            }
        }
    }

    /// The watermark of a slot; zero before its first round.
    pub fn watermark(&self, slot: Slot) -> Stamp {
        self.marks.of(slot).raised
    }

    /// R6, E5: takes a watermark over from another replica. It counts, here and for `watermark`, once the LSN returned is
    /// durable. The caller has lifted the clock to it, and drops what it holds at or below it and no source does.
    pub fn adopt_watermark(&mut self, rx: &mut ReplicaCx<'_, '_>, slot: Slot, upto: Stamp) -> Lsn {
        assert!(upto <= Stamp::upto(rx.cx.clock.last()), "G2: adopting a watermark lifts the clock to it");
        self.close(rx, slot, upto);
        self.raise(rx, slot, upto)
    }

    /// R6, E5: records have come into the slot by another way than a repair: a comparison under way does not count.
    pub fn disturb(&mut self, slot: Slot) {
        if let Some(marks) = self.marks.slots.get_mut(&slot) {
            marks.token = 0;
        }
    }

    /// The slot that this node drives whose garbage has waited longest, from `after` on in that order.
    pub fn next_due(&self, after: Option<(Stamp, Slot)>) -> Option<(Stamp, Slot)> {
        let from = after.map_or(core::ops::Bound::Unbounded, core::ops::Bound::Excluded);
        self.marks.due.range((from, core::ops::Bound::Unbounded)).next().copied()
    }

    /// Slots that this node drives with garbage that is not collected, and what is known of it.
    pub fn garbage(&self) -> impl Iterator<Item = (Slot, Garbage)> + '_ {
        self.marks.due.iter().map(|(_, slot)| (*slot, self.marks.of(*slot).garbage))
    }

    /// A record is about to be stored for `key`: takes note of it if it will be garbage, or if it comes late.
    pub(super) fn note(&mut self, rx: &mut ReplicaCx<'_, '_>, key: &RecordKey, record: &Record) {
        if let Some(marks) = self.marks.slots.get_mut(&key.slot)
            && record.ballot <= marks.closed
        {
            marks.token = 0;
        }
        let Some(at) = collectable_at(record) else {
            return;
        };
        let now_ms = rx.cx.clock.last().ms();
        let drives = drives(rx, self.me, key.slot);
        let marks = self.marks.slots.entry(key.slot).or_default();
        let before = marks.garbage.earliest;
        marks.garbage.add(at, key, record, now_ms);
        marks.since.add(at, key, record, now_ms);
        marks.latest = marks.latest.max(at);
        if marks.noted <= marks.raised {
            // Before the record in the log: a start that finds the record finds the mark.
            marks.noted = marks.latest.max(Stamp::upto(rx.cx.clock.last()));
            let _with_the_record = Marks::put(rx, Kind::Garbage, key.slot, marks.noted);
        }
        self.marks.reorder(key.slot, before, drives);
    }

    /// G1: a step of a round.
    pub(super) fn on_mark(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        incoming: Incoming,
        slot: Slot,
        step: MarkStep,
    ) {
        let Incoming { from, request } = incoming;
        match step {
            MarkStep::Close(upto) => {
                let oldest = rx.cx.clock.last().ms().saturating_sub(REQUEST_DEADLINE_MS + 2 * MAX_DRIFT_MS);
                if slot.0 >= Slot::COUNT || upto.hlc.ms() >= oldest {
                    rx.cx.count(Counter::PeerMisbehaved);
                    return;
                }
                let lsn = self.close(rx, slot, upto);
                let token = rx.cx.next_request().0;
                let marks = self.marks.slots.entry(slot).or_default();
                marks.token = token;
                let hints = if planted::on(Bug::G1HintsNotCounted) { 0 } else { self.hints.held(slot, upto) };
                let closed = Marked::Closed { raised: self.watermark(slot), hints, token };
                // A hint that was delivered is gone for good only then.
                let lsn = lsn.max(self.hints.erased);
                self.answer(rx, from, request, Answer::Marked(closed), lsn);
            }
            _ if !self.holds(rx, slot) => Self::refuse(rx, from, request, Refusal::NotServing),
            MarkStep::Digest(range) => self.walk(rx, incoming, slot, range, false),
            MarkStep::List(range) => self.walk(rx, incoming, slot, range, true),
            MarkStep::Raise { upto, token } => {
                let marks = self.marks.of(slot);
                let is_valid = marks.closed >= upto && marks.token == token && token != 0;
                if marks.raised >= upto || is_valid {
                    let lsn = self.raise(rx, slot, upto);
                    self.answer(rx, from, request, Answer::Marked(Marked::Raised), lsn);
                } else {
                    self.answer(rx, from, request, Answer::Marked(Marked::Changed), Lsn(0));
                }
            }
        }
    }

    fn close(&mut self, rx: &mut ReplicaCx<'_, '_>, slot: Slot, upto: Stamp) -> Lsn {
        let marks = self.marks.slots.entry(slot).or_default();
        if upto > marks.closed {
            marks.closed = upto;
            marks.closed_lsn = Marks::put(rx, Kind::Closed, slot, upto);
        }
        marks.closed_lsn
    }

    /// Raises the watermark; it counts once the LSN returned is durable.
    fn raise(&mut self, rx: &mut ReplicaCx<'_, '_>, slot: Slot, upto: Stamp) -> Lsn {
        let marks = self.marks.slots.entry(slot).or_default();
        if upto <= marks.raised {
            return Lsn(0);
        }
        if marks.latest > upto && marks.noted <= upto {
            marks.noted = marks.latest;
            let _before_the_watermark = Marks::put(rx, Kind::Garbage, slot, marks.noted);
        }
        let lsn = Marks::put(rx, Kind::Raised, slot, upto);
        self.marks.rising.insert((lsn, slot), upto);
        self.on_marks_durable(rx);
        lsn
    }

    /// Watermarks that have reached the disk count from now on.
    pub(super) fn on_marks_durable(&mut self, rx: &mut ReplicaCx<'_, '_>) {
        while let Some(entry) = self.marks.rising.first_entry() {
            let (lsn, slot) = *entry.key();
            if lsn > rx.store.durable() {
                return;
            }
            let upto = entry.remove();
            let drives = drives(rx, self.me, slot);
            let Some(marks) = self.marks.slots.get_mut(&slot) else {
                continue;
            };
            marks.raised = marks.raised.max(upto);
            let before = marks.garbage.earliest;
            let known = marks.garbage.records;
            // What may go is gone from view, and will be from the disk.
            if marks.walked_upto == upto {
                marks.garbage = marks.staying.and(marks.since);
            } else {
                let left = (marks.latest > upto).then_some(Stamp::ZERO);
                marks.garbage = Garbage { earliest: left, ..Garbage::default() };
            }
            let gone = known.saturating_sub(marks.garbage.records);
            self.marks.reorder(slot, before, drives);
            rx.store.set_watermark(slot, upto, gone);
        }
    }

    /// A walk over a slot begins: what is stored from now on is not lost on it.
    pub(super) fn begin_survey(&mut self, slot: Slot, upto: Stamp) {
        let marks = self.marks.slots.entry(slot).or_default();
        (marks.found, marks.staying, marks.since) = Default::default();
        marks.walked_upto = upto;
    }

    /// A walk over a slot has ended: its garbage is what was found and what came since.
    pub(super) fn end_survey(&mut self, rx: &mut ReplicaCx<'_, '_>, slot: Slot) {
        let drives = drives(rx, self.me, slot);
        let marks = self.marks.slots.entry(slot).or_default();
        let before = marks.garbage.earliest;
        marks.garbage = marks.found.and(marks.since);
        self.marks.reorder(slot, before, drives);
    }

    /// G1 (a): refuses what is at or below `closed`; true if it was refused.
    pub(super) fn refuse_closed(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        incoming: &Incoming,
        slot: Slot,
        stamp: Stamp,
    ) -> bool {
        let closed = self.marks.of(slot).closed;
        if stamp > closed || closed == Stamp::ZERO {
            return false;
        }
        rx.cx.count(Counter::ClosedRefused);
        Self::refuse(rx, incoming.from, incoming.request, Refusal::Ballot(closed));
        true
    }

    /// G1 (a): whether a hint of this stamp is still taken.
    pub(super) fn is_closed(&self, slot: Slot, stamp: Stamp) -> bool {
        let closed = self.marks.of(slot).closed;
        closed != Stamp::ZERO && stamp <= closed
    }
}
