//! The levels of the tree (leveled compaction: O'Neil et al. 1996, as LevelDB and RocksDB arranged it): level 0 holds
//! flushed memtables, which overlap; each level below is one run of tables that do not, ten times as large as the one above.

use super::table::{Table, TableMeta};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Levels, level 0 included.
pub(super) const LEVELS: usize = 7;
/// Tables of level 0 that are merged into level 1.
const LEVEL_0_TABLES: usize = 4;
/// A level may be so many times as large as the one above.
const GROWTH: u64 = 10;

/// Tables in order.
pub(super) type Run = Arc<Vec<Arc<Table>>>;

/// The live tables.
#[derive(Debug, Clone)]
pub(super) struct Levels {
    runs: Vec<Run>,
}

impl Default for Levels {
    fn default() -> Self {
        Self { runs: (0..LEVELS).map(|_| Run::default()).collect() }
    }
}

impl Levels {
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.runs.iter().flat_map(|run| run.iter())
    }

    /// Takes tables out and puts others in, each into the level that its meta names.
    pub(super) fn change(&mut self, removed: &[u64], added: &[Arc<Table>]) {
        for run in &mut self.runs {
            if run.iter().any(|table| removed.contains(&table.meta.number)) {
                Arc::make_mut(run).retain(|table| !removed.contains(&table.meta.number));
            }
        }
        for table in added {
            let level = usize::from(table.meta.level).min(LEVELS - 1);
            let run = Arc::make_mut(&mut self.runs[level]);
            let at = if level == 0 {
                run.partition_point(|other| other.meta.number < table.meta.number)
            } else {
                run.partition_point(|other| other.meta.first < table.meta.first)
            };
            run.insert(at, table.clone());
            if level > 0 {
                let is_apart = |pair: &[Arc<Table>]| pair[0].meta.last < pair[1].meta.first;
                assert!(run[at.saturating_sub(1)..(at + 2).min(run.len())].windows(2).all(is_apart));
            }
        }
    }

    /// Slots are dropped: the tables' entries of theirs count as not there.
    pub(super) fn drop_slots(&mut self, slots: &[(u16, u64)]) {
        for run in &mut self.runs {
            for at in 0..run.len() {
                if let Some(table) = run[at].without(slots) {
                    Arc::make_mut(run)[at] = Arc::new(table);
                }
            }
        }
    }

    /// The tables whose range holds `name`, the latest first.
    pub(super) fn covering<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a Arc<Table>> {
        let flushed =
            self.runs[0].iter().rev().filter(|table| table.meta.covers(name) && !table.meta.drops(name));
        let below = self.runs[1..].iter().filter_map(|run| {
            let at = run.partition_point(|table| *table.meta.last < *name);
            run.get(at).filter(|table| table.meta.covers(name) && !table.meta.drops(name))
        });
        flushed.chain(below)
    }

    pub(super) fn metas(&self) -> Vec<Vec<&TableMeta>> {
        self.runs.iter().map(|run| run.iter().map(|table| &table.meta).collect()).collect()
    }
}

/// What to compact next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// The level whose tables go to the next.
    pub(super) level: usize,
    pub(super) inputs: Vec<u64>,
    /// Tables of the next level that overlap them; none, and the inputs only change their level (a trivial move).
    pub(super) below: Vec<u64>,
    pub(super) is_move: bool,
}

/// Which tables to compact next: a pure choice. The fullest level for its size goes first; of its tables the one that
/// rewrites the least of the level below. `base` is the target of level 1 in bytes.
pub(super) fn choose(
    levels: &[Vec<&TableMeta>],
    base: u64,
    is_barred: impl Fn(u64) -> bool,
) -> Option<Choice> {
    let free = |level: usize| levels[level].iter().filter(|meta| !is_barred(meta.number));
    // A barred table below could overlap: what would meet it stays where it is.
    let below_of = |level: usize, first: &[u8], last: &[u8]| -> Option<Vec<&TableMeta>> {
        let hit: Vec<_> =
            levels[level + 1].iter().filter(|meta| meta.overlaps(first, last)).copied().collect();
        (!hit.iter().any(|meta| is_barred(meta.number))).then_some(hit)
    };
    let flushed: Vec<_> = free(0).copied().collect();
    let mut scores = [0; LEVELS];
    scores[0] = (flushed.len() * 100 / LEVEL_0_TABLES) as u64;
    let mut target = base.max(1);
    for (level, score) in scores.iter_mut().enumerate().take(LEVELS - 1).skip(1) {
        let bytes: u64 = free(level).map(|meta| meta.len).sum();
        *score = bytes.saturating_mul(100) / target;
        target = target.saturating_mul(GROWTH);
    }
    let mut order: Vec<usize> = (0..LEVELS - 1).filter(|level| scores[*level] >= 100).collect();
    order.sort_by_key(|level| core::cmp::Reverse(scores[*level]));
    order.into_iter().find_map(|level| {
        if level == 0 {
            return choose_flushed(&flushed, &below_of);
        }
        let cost = |meta: &&&TableMeta| {
            let below = below_of(level, &meta.first, &meta.last)?;
            let bytes: u64 = below.iter().map(|meta| meta.len).sum();
            let numbers: Vec<u64> = below.iter().map(|meta| meta.number).collect();
            Some((bytes.saturating_mul(1000) / meta.len.max(1), meta.number, numbers))
        };
        let (_, number, below) = free(level).filter_map(|meta| cost(&meta)).min()?;
        Some(Choice { level, inputs: [number].into(), is_move: below.is_empty(), below })
    })
}

fn choose_flushed<'a>(
    flushed: &[&'a TableMeta],
    below_of: &impl Fn(usize, &[u8], &[u8]) -> Option<Vec<&'a TableMeta>>,
) -> Option<Choice> {
    // What overlaps nothing only changes its level: a load in order of keys is never rewritten.
    let is_alone = |meta: &&&TableMeta| {
        let others = flushed.iter().filter(|other| other.number != meta.number);
        let is_apart = others.into_iter().all(|other| !other.overlaps(&meta.first, &meta.last));
        is_apart && below_of(0, &meta.first, &meta.last).is_some_and(|below| below.is_empty())
    };
    let alone: Vec<u64> = flushed.iter().filter(is_alone).map(|meta| meta.number).collect();
    if !alone.is_empty() {
        return Some(Choice { level: 0, inputs: alone, below: Vec::new(), is_move: true });
    }
    let first = flushed.iter().map(|meta| &meta.first).min()?;
    let last = flushed.iter().map(|meta| &meta.last).max()?;
    let below = below_of(0, first, last)?;
    let below = below.into_iter().map(|meta| meta.number).collect();
    let inputs = flushed.iter().map(|meta| meta.number).collect();
    Some(Choice { level: 0, inputs, below, is_move: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Stamp;
    use bytes::Bytes;

    fn meta(number: u64, level: u8, range: (&'static str, &'static str), len: u64) -> TableMeta {
        TableMeta {
            number,
            level,
            len,
            entries: 1,
            first: Bytes::from(range.0),
            last: Bytes::from(range.1),
            lowest: Stamp::ZERO,
            highest: Stamp::ZERO,
            may_go: 0,
            values: Vec::new(),
            dropped: Vec::new(),
        }
    }

    fn chosen(tables: &[TableMeta], barred: &[u64]) -> Option<Choice> {
        let of = |level: usize| tables.iter().filter(|meta| usize::from(meta.level) == level).collect();
        let levels: Vec<Vec<&TableMeta>> = (0..LEVELS).map(of).collect();
        choose(&levels, 1_000, |number| barred.contains(&number))
    }

    #[test]
    fn four_flushed_tables_go_down_with_what_they_overlap() {
        let mut tables: Vec<_> = (1..4).map(|number| meta(number, 0, ("aa", "mm"), 100)).collect();
        tables.push(meta(10, 1, ("aa", "cc"), 100));
        tables.push(meta(11, 1, ("nn", "zz"), 100));
        assert_eq!(chosen(&tables, &[]), None, "three are not enough");
        tables.push(meta(4, 0, ("bb", "cc"), 100));
        let all = Choice { level: 0, inputs: [1, 2, 3, 4].into(), below: [10].into(), is_move: false };
        assert_eq!(chosen(&tables, &[]), Some(all));
        assert_eq!(chosen(&tables, &[10]), None, "a damaged table is in the way");
    }

    #[test]
    fn a_load_in_order_of_keys_is_only_moved() {
        let ranges = [("aa", "bb"), ("cc", "dd"), ("ee", "ff"), ("gg", "hh")];
        let tables: Vec<_> = (1..).zip(ranges).map(|(number, range)| meta(number, 0, range, 100)).collect();
        let moves = Choice { level: 0, inputs: [1, 2, 3, 4].into(), below: Vec::new(), is_move: true };
        assert_eq!(chosen(&tables, &[]), Some(moves));
    }

    #[test]
    fn a_full_level_gives_the_table_that_rewrites_the_least() {
        let tables = [
            meta(1, 1, ("aa", "cc"), 600),
            meta(2, 1, ("dd", "ff"), 600),
            meta(3, 2, ("aa", "bb"), 500),
            meta(4, 2, ("cc", "cd"), 500),
            meta(5, 2, ("ee", "ff"), 700),
        ];
        let cheap = Choice { level: 1, inputs: [2].into(), below: [5].into(), is_move: false };
        assert_eq!(chosen(&tables, &[]), Some(cheap));
        assert_eq!(chosen(&tables[..4], &[]).map(|choice| choice.is_move), Some(true));
    }
}
