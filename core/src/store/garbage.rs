//! G2: what compaction may drop, and compactions for the sake of it, so that space comes back.

use super::Store;
use super::entry::{self, Rank};
use super::levels::{Choice, LEVELS};
use super::table::{TableMeta, hash};
use crate::base::planted::{self, Bug};
use crate::base::{Hlc, Slot, Stamp};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A table is compacted for its garbage when one in so many of its entries may be dropped.
const WORTH: u64 = 4;

/// What is known of garbage below the watermarks.
#[derive(Debug, Clone, Default)]
pub(super) struct Collectable {
    /// Up to this stamp the tombstones of a slot may go.
    watermarks: BTreeMap<Slot, Stamp>,
    /// About how many records of a slot may go and have not yet.
    records: BTreeMap<Slot, u64>,
}

/// The slots of a table's first and last key.
fn slots(meta: &TableMeta) -> (Slot, Slot) {
    (entry::decode_key(&meta.first).slot, entry::decode_key(&meta.last).slot)
}

impl Collectable {
    /// How many entries of a table may be dropped, at most.
    fn of(&self, meta: &TableMeta) -> u64 {
        let (first, last) = slots(meta);
        let records: u64 = self.records.range(first..=last).map(|(_, records)| records).sum();
        records.min(meta.may_go)
    }

    /// A table is rewritten where nothing lies below it: what is not dropped now waits for the next watermark.
    fn tried(&mut self, meta: &TableMeta) {
        let (first, last) = slots(meta);
        let within: Vec<Slot> = self.records.range(first..=last).map(|(slot, _)| *slot).collect();
        for slot in within {
            self.records.remove(&slot);
        }
    }
}

/// Which table to compact for its garbage, and how; a pure choice. The one with the largest part of garbage goes first.
/// Where deeper levels may hold older records of its keys it goes one level down; else it is rewritten where it is. Of
/// level 0 all go together.
fn choose(
    levels: &[Vec<&TableMeta>],
    is_barred: impl Fn(u64) -> bool,
    collectable: impl Fn(&TableMeta) -> u64,
) -> Option<(Choice, bool)> {
    let part = |meta: &TableMeta| collectable(meta).saturating_mul(1_000) / meta.entries.max(1);
    let candidates =
        levels.iter().enumerate().flat_map(|(level, run)| run.iter().map(move |meta| (level, *meta)));
    let worth = candidates
        .filter(|(_, meta)| !is_barred(meta.number) && part(meta) >= 1_000 / WORTH)
        .max_by_key(|(_, meta)| (part(meta), core::cmp::Reverse(meta.number)));
    let (level, meta) = worth?;
    let inputs: Vec<&TableMeta> = if level == 0 {
        levels[0].iter().filter(|meta| !is_barred(meta.number)).copied().collect()
    } else {
        [meta].into()
    };
    let first = inputs.iter().map(|meta| &meta.first).min()?;
    let last = inputs.iter().map(|meta| &meta.last).max()?;
    let numbers = |metas: &[&TableMeta]| metas.iter().map(|meta| meta.number).collect::<Vec<u64>>();
    let is_deep = levels[level + 1..].iter().any(|run| run.iter().any(|meta| meta.overlaps(first, last)));
    if level > 0 && (!is_deep || level + 1 == LEVELS) {
        let choice = Choice { level, inputs: numbers(&inputs), below: Vec::new(), is_move: false };
        return Some((choice, true));
    }
    let below: Vec<&TableMeta> =
        levels[level + 1].iter().filter(|meta| meta.overlaps(first, last)).copied().collect();
    if below.iter().any(|meta| is_barred(meta.number)) {
        return None;
    }
    let (inputs, below) = (numbers(&inputs), numbers(&below));
    Some((Choice { level, inputs, below, is_move: false }, false))
}

impl Store {
    /// G2: the slot's watermark T. Compaction drops the slot's tombstones, and records that had expired by then, whose ballot
    /// and operations are at or below it, when no other place may hold the key. The caller has made T durable, and refuses
    /// whatever would bring an older version back. T never falls. About `records` more may go than before: where that is a
    /// good part of a table, it is compacted for their sake.
    pub fn set_watermark(&mut self, slot: Slot, upto: Stamp, records: u64) {
        let held = self.collectable.watermarks.entry(slot).or_insert(upto);
        *held = upto.max(*held);
        if records > 0 {
            *self.collectable.records.entry(slot).or_default() += records;
            self.levels_changed = true;
        }
    }

    /// What to compact for its garbage, and whether in place.
    pub(super) fn choose_garbage(&mut self) -> Option<(Choice, bool)> {
        if self.collectable.records.is_empty() {
            return None;
        }
        let metas = self.levels.metas();
        let is_barred = |number| self.barred.contains_key(&number);
        let (choice, in_place) = choose(&metas, is_barred, |meta| self.collectable.of(meta))?;
        if in_place {
            for meta in metas[choice.level].iter().filter(|meta| choice.inputs.contains(&meta.number)) {
                self.collectable.tried(meta);
            }
        }
        Some((choice, in_place))
    }

    /// Whether an entry has nothing left to hide and nobody left to tell: an erasure, or a tombstone or expired record that
    /// G2 lets go, of a key that no other place may hold. `merged` are the tables that are merged.
    pub(super) fn is_garbage(
        &self,
        key: &[u8],
        rank: Rank,
        body: &[u8],
        is_flush: bool,
        merged: &[u64],
    ) -> bool {
        let key_slot = entry::decode_key(key).slot;
        let bound = self.collectable.watermarks.get(&key_slot).copied();
        let bound = if planted::on(Bug::G2DropAboveWatermark) { bound.map(|_| ANY) } else { bound };
        let goes = rank.erases || bound.is_some_and(|upto| entry::is_settled_garbage(body, upto));
        if !goes {
            return false;
        }
        let hash = hash(key);
        let in_table = self
            .levels
            .covering(key)
            .any(|table| !merged.contains(&table.meta.number) && table.may_hold(key, hash));
        // The memtable that is flushed is the first of the frozen ones.
        let in_memory =
            self.frozen.iter().skip(usize::from(is_flush)).any(|frozen| frozen.memtable.get(key).is_some());
        !in_table && !in_memory && self.active.get(key).is_none()
    }
}

/// Above every stamp.
const ANY: Stamp = Stamp::upto(Hlc(u64::MAX));

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn meta(number: u64, level: u8, range: (&'static str, &'static str), may_go: u64) -> TableMeta {
        TableMeta {
            number,
            level,
            len: 1_000,
            entries: 100,
            first: Bytes::from(range.0),
            last: Bytes::from(range.1),
            lowest: Stamp::ZERO,
            highest: Stamp::ZERO,
            may_go,
            dropped: Vec::new(),
            values: Vec::new(),
        }
    }

    fn chosen(tables: &[TableMeta], barred: u64) -> Option<(usize, Vec<u64>, Vec<u64>, bool)> {
        let of = |level: usize| tables.iter().filter(|meta| usize::from(meta.level) == level).collect();
        let levels: Vec<Vec<&TableMeta>> = (0..LEVELS).map(of).collect();
        let (choice, in_place) = choose(&levels, |number| number == barred, |meta| meta.may_go)?;
        assert!(!choice.is_move, "a move drops nothing");
        Some((choice.level, choice.inputs, choice.below, in_place))
    }

    #[test]
    fn a_table_goes_down_while_older_records_may_lie_below_it_and_is_rewritten_at_the_bottom() {
        let top = meta(1, 1, ("aa", "cc"), 30);
        let apart = meta(2, 2, ("dd", "ee"), 0);
        assert_eq!(chosen(&[meta(1, 1, ("aa", "cc"), 24), apart.clone()], 0), None, "not worth it");
        assert_eq!(chosen(&[top.clone(), apart.clone()], 0), Some((1, [1].into(), [].into(), true)));
        let (under, deep) = (meta(3, 2, ("bb", "cd"), 0), meta(4, 5, ("ab", "ab"), 0));
        assert_eq!(chosen(&[top.clone(), under.clone()], 0), Some((1, [1].into(), [3].into(), false)));
        assert_eq!(chosen(&[top.clone(), deep], 0), Some((1, [1].into(), [].into(), false)));
        assert_eq!(chosen(&[top.clone(), under], 3), None, "a damaged table is in the way");
        assert_eq!(chosen(&[top], 1), None);
        assert_eq!(chosen(&[meta(9, 6, ("aa", "bb"), 90)], 0), Some((6, [9].into(), [].into(), true)));
    }

    #[test]
    fn the_largest_part_of_garbage_goes_first_and_level_0_goes_together() {
        let tables = [meta(1, 1, ("aa", "cc"), 30), meta(2, 1, ("dd", "ee"), 60)];
        assert_eq!(chosen(&tables, 0), Some((1, [2].into(), [].into(), true)));
        let tables = [meta(1, 0, ("aa", "cc"), 80), meta(2, 0, ("bb", "ee"), 0), meta(3, 1, ("ee", "ff"), 0)];
        assert_eq!(chosen(&tables, 0), Some((0, [1, 2].into(), [3].into(), false)));
    }
}
