//! G1 (b): walks over a part of a slot, page by page: its digest, or its keys with their ballots; and by the way, what
//! garbage there is.

use super::{Incoming, Read, Replica, ReplicaCx};
use crate::base::{Record, RecordKey, Slot};
use crate::rules::garbage::{collectable_at, fingerprint, is_garbage};
use crate::store::Lsn;
use crate::wire::{Answer, MarkRange, Marked, Refusal};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;

/// Records, and bytes of them, read from the store in one page.
const PAGE: usize = 256;
const PAGE_BYTES: usize = 256 << 10;
/// Walks under way at once; more are refused.
const WALKS_MAX: usize = 16;
/// Keys, and bytes of them, in one answer.
const ENTRIES_MAX: usize = 1_024;
const ENTRIES_BYTES_MAX: usize = 1 << 20;

/// A walk under way.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    pub(super) incoming: Incoming,
    slot: Slot,
    range: MarkRange,
    lists: bool,
    digest: u128,
    entries: Vec<(Bytes, crate::base::Stamp)>,
    entries_bytes: usize,
    looked: u32,
    at: Option<Bytes>,
    /// What was walked over must be durable before it counts (R0).
    lsn: Lsn,
}

impl Walk {
    fn is_full(&self) -> bool {
        let limit = self.range.limit != 0 && self.looked >= self.range.limit;
        limit || self.entries.len() >= ENTRIES_MAX || self.entries_bytes >= ENTRIES_BYTES_MAX
    }

    fn take(&mut self, key: &RecordKey, record: &Record) {
        self.looked += 1;
        self.at = Some(key.key.clone());
        if is_garbage(record, self.range.ignore) {
            return;
        }
        if self.lists {
            self.entries_bytes += key.key.len() + 16;
            self.entries.push((key.key.clone(), record.ballot));
        } else if record.ballot <= self.range.upto {
            self.digest = self.digest.wrapping_add(fingerprint(&key.key, record.ballot));
        }
    }

    /// The bounds of what is left: from a key that is excluded, and up to a key that is excluded.
    fn bounds(&self) -> (RecordKey, bool, RecordKey) {
        let slot = self.slot;
        let from = RecordKey { slot, key: self.at.clone().unwrap_or_default() };
        let to = match &self.range.last {
            // The key right after the last one.
            Some(last) => {
                let mut key = Vec::with_capacity(last.len() + 1);
                key.extend_from_slice(last);
                key.push(0);
                RecordKey { slot, key: Bytes::from(key) }
            }
            None => RecordKey { slot: Slot(slot.0 + 1), key: Bytes::new() },
        };
        (from, self.at.is_some(), to)
    }
}

impl Replica {
    /// Begins a walk; its answer comes when it has ended and what it saw is durable.
    pub(super) fn walk(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        incoming: Incoming,
        slot: Slot,
        range: MarkRange,
        lists: bool,
    ) {
        if self.marks.walks >= WALKS_MAX {
            return Self::refuse(rx, incoming.from, incoming.request, Refusal::Overloaded);
        }
        if !lists && range.after.is_none() {
            self.begin_survey(slot, range.upto);
        }
        self.marks.walks += 1;
        let at = range.after.clone();
        let (entries, lsn) = (Vec::new(), Lsn(0));
        let walk =
            Walk { incoming, slot, range, lists, digest: 0, entries, entries_bytes: 0, looked: 0, at, lsn };
        self.read_walk(rx, walk);
    }

    fn read_walk(&mut self, rx: &mut ReplicaCx<'_, '_>, walk: Walk) {
        let (from, exclusive, to) = walk.bounds();
        let left = walk.range.limit.wrapping_sub(walk.looked) as usize;
        let limit = if walk.range.limit == 0 { PAGE } else { left.clamp(1, PAGE) };
        let token = rx.with_store(|store, cx| store.scan(cx, from, exclusive, Some(to), limit, PAGE_BYTES));
        self.reads.insert(token, Read::Walk(Box::new(walk)));
    }

    pub(super) fn on_walked(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        mut walk: Walk,
        records: &[(RecordKey, Record)],
        done: bool,
        lsn: Lsn,
    ) {
        walk.lsn = walk.lsn.max(lsn);
        let now_ms = rx.cx.clock.last().ms();
        let mut cut = false;
        for (key, record) in records {
            if walk.is_full() {
                cut = true;
                break;
            }
            walk.take(key, record);
            if !walk.lists {
                self.survey(&walk, key, record, now_ms);
            }
        }
        let done = done && !cut;
        if !done && !walk.is_full() {
            return self.read_walk(rx, walk);
        }
        self.marks.walks -= 1;
        if done && !walk.lists && walk.range.last.is_none() {
            self.end_survey(rx, walk.slot);
        }
        let last = walk.at.filter(|_| !done);
        let marked = if walk.lists {
            Marked::Listed { entries: walk.entries, last }
        } else {
            Marked::Digested { digest: walk.digest, last }
        };
        self.answer(rx, walk.incoming.from, walk.incoming.request, Answer::Marked(marked), walk.lsn);
    }

    fn survey(&mut self, walk: &Walk, key: &RecordKey, record: &Record, now_ms: u64) {
        let Some(at) = collectable_at(record) else {
            return;
        };
        let marks = self.marks.slots.entry(walk.slot).or_default();
        if at > marks.raised {
            marks.found.add(at, key, record, now_ms);
        }
        if at > walk.range.upto {
            marks.staying.add(at, key, record, now_ms);
        }
    }
}
