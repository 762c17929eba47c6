//! Pages of a scan: what this shard holds of a range of keys, in store order or backwards.
//!
//! The store orders keys by slot first, so that a range of keys is a piece of each slot. The scan reads in small pieces; where
//! the last key of a piece is outside the range, it goes on behind what lies between by a seek. So a range costs about a
//! seek for each slot that holds keys, and where a piece covers many slots it costs less.

use super::{Incoming, Read, Replica, ReplicaCx};
use crate::base::limits::{SCAN_PAGE_BYTES, SCAN_PAGE_MAX, SCAN_SEEKS_MAX};
use crate::base::{Record, RecordKey, Slot, Wanted};
use crate::store::{Direction, Lsn, ScanRange};
use crate::wire::Answer;
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Bound;

/// Records of the first piece of a range; a piece that was all in the range is followed by one of twice as many.
const PIECE: usize = 16;

/// A place in store order: a slot and the last key covered in it.
type Position = (Slot, Option<Bytes>);

/// A scan under way.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    incoming: Incoming,
    /// Where it begins.
    first: Slot,
    at: Position,
    limit: usize,
    wanted: Wanted,
    records: Vec<(Slot, Bytes, Record)>,
    bytes: usize,
    piece: usize,
    seeks: u32,
    lsn: Lsn,
}

impl Replica {
    /// A page of what is held of a range.
    pub(super) fn on_scan(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        incoming: Incoming,
        at: Position,
        limit: u32,
        wanted: Wanted,
    ) {
        let limit = (limit as usize).clamp(1, SCAN_PAGE_MAX);
        let filtered = !wanted.low.is_empty() || wanted.high.is_some();
        let piece = if filtered { PIECE } else { limit };
        let (records, bytes, seeks, lsn) = (Vec::new(), 0, 0, Lsn(0));
        let first = at.0;
        self.next_piece(rx, Scan { incoming, first, at, limit, wanted, records, bytes, piece, seeks, lsn });
    }

    fn next_piece(&mut self, rx: &mut ReplicaCx<'_, '_>, scan: Scan) {
        let limit = scan.piece.min(scan.limit - scan.records.len());
        let bytes = SCAN_PAGE_BYTES.saturating_sub(scan.bytes);
        let range = scan.range();
        let token = rx.with_store(|store, cx| store.scan_range(cx, range, limit, bytes));
        self.reads.insert(token, Read::Scan(Box::new(scan)));
    }

    /// A piece has been read.
    pub(super) fn on_scanned(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        mut scan: Scan,
        records: Vec<(RecordKey, Record)>,
        done: bool,
        lsn: Lsn,
    ) {
        scan.lsn = scan.lsn.max(lsn);
        scan.seeks += 1;
        let more = scan.take(records) && !done;
        let full = scan.records.len() >= scan.limit || scan.bytes >= SCAN_PAGE_BYTES;
        if more && !full && scan.seeks < SCAN_SEEKS_MAX {
            return self.next_piece(rx, scan);
        }
        let (low, high) = scan.covered(more);
        if rx.store.is_any_suspect(&low, &high) {
            // R6: what is missing here would be missing in the answer.
            return Self::refuse_suspect(rx, scan.incoming.from, scan.incoming.request);
        }
        let answer = Answer::Scanned { records: scan.records, next: more.then_some(scan.at) };
        self.answer(rx, scan.incoming.from, scan.incoming.request, answer, scan.lsn);
    }
}

impl Scan {
    /// Who asked.
    pub(super) fn incoming(&self) -> Incoming {
        self.incoming
    }

    /// The slots that have been looked at, from the start of one to that of another.
    fn covered(&self, more: bool) -> (RecordKey, RecordKey) {
        let end = match (more, self.wanted.one_slot, self.wanted.reverse) {
            (true, ..) => self.at.0,
            (false, true, _) => self.first,
            (false, false, true) => Slot(0),
            (false, false, false) => Slot(Slot::COUNT - 1),
        };
        let (low, high) = (self.first.min(end), self.first.max(end));
        (RecordKey::start_of(low), RecordKey::start_of(Slot(high.0 + 1)))
    }

    /// What is left of the range, as the store takes it.
    fn range(&self) -> ScanRange {
        let (slot, after) = (self.at.0, self.at.1.as_ref());
        let key = |slot: Slot, key: &Bytes| RecordKey { slot, key: key.clone() };
        let start_of = |slot| RecordKey { slot, key: Bytes::new() };
        let Wanted { low, high, .. } = &self.wanted;
        if self.wanted.reverse {
            let top = match (after, high) {
                (Some(after), Some(high)) => key(slot, after.min(high)),
                (Some(only), None) | (None, Some(only)) => key(slot, only),
                (None, None) => start_of(Slot(slot.0 + 1)),
            };
            let bottom = if self.wanted.one_slot { key(slot, low) } else { start_of(Slot(0)) };
            let (low, high) = (Bound::Included(bottom), Bound::Excluded(top));
            return ScanRange { low, high, direction: Direction::Backward };
        }
        let low = match after.filter(|after| *after >= low) {
            Some(after) => Bound::Excluded(key(slot, after)),
            None => Bound::Included(key(slot, low)),
        };
        let end = if self.wanted.one_slot { Slot(slot.0 + 1) } else { Slot(Slot::COUNT) };
        ScanRange { low, high: Bound::Excluded(start_of(end)), direction: Direction::Forward }
    }

    /// Keeps what is in the range and moves on; false at the end.
    fn take(&mut self, records: Vec<(RecordKey, Record)>) -> bool {
        let (mut all, mut last) = (true, None);
        for (key, mut record) in records {
            last = Some((key.slot, key.key.clone()));
            if !self.wanted.takes(&key.key) {
                all = false;
                continue;
            }
            record.recent = Vec::new();
            if !self.wanted.values {
                record.value = record.value.map(|_| Bytes::new());
            }
            self.bytes += key.key.len() + record.value.as_ref().map_or(0, Bytes::len) + 64;
            self.records.push((key.slot, key.key, record));
        }
        if all {
            self.piece = (self.piece * 2).min(SCAN_PAGE_MAX);
        }
        let Some((slot, key)) = last else {
            return true;
        };
        let is_above = self.wanted.high.as_ref().is_some_and(|high| key >= *high);
        let passed = if self.wanted.reverse { key < self.wanted.low } else { is_above };
        if !passed {
            self.at = (slot, Some(key));
            return true;
        }
        let next = if self.wanted.reverse { slot.0.checked_sub(1) } else { Some(slot.0 + 1) };
        match next.filter(|next| *next < Slot::COUNT && !self.wanted.one_slot) {
            Some(next) => {
                self.at = (Slot(next), None);
                true
            }
            None => false,
        }
    }
}
