//! Large values stand in files of their own, so that compaction moves pointers and not values (Lu et al., "WiscKey:
//! Separating Keys from Values in SSD-conscious Storage").
//!
//! A flush writes the values above `StoreOptions::value_inline_max` to a value file, and their entries carry a `Pointer`. Each table
//! says how many bytes of which value files its entries point to; so the live bytes of a value file are the sum over the
//! live tables, and change with the same edit of the manifest as these. A file that no table points to goes with that
//! edit. Of a file of which too much is dead, the live values are written anew: by every compaction that comes by, and by
//! rewriting one table after the other that points to it.

mod format;
mod place;

pub(super) use format::{HEADER, ValueWriter, check_header, check_version};
pub(super) use place::{Placed, Placing};

use super::table::TableMeta;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Hundredths of a file's values that may be dead before the others are written anew.
const DEAD_MAX: u64 = 50;
/// A table is rewritten for the sake of a value file only if that costs less than so many times what becomes free.
const COST_MAX: u64 = 4;

/// What the manifest knows of a value file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ValueMeta {
    pub(super) number: u64,
    /// Bytes that are durable; what is behind them says nothing.
    pub(super) len: u64,
    /// Bytes of values, dead ones included.
    pub(super) bytes: u64,
}

/// A value file and what is alive of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ValueFile {
    pub(super) meta: ValueMeta,
    pub(super) live: u64,
    /// Tables that point to it.
    tables: u64,
}

impl ValueFile {
    /// Whether too much of it is dead.
    fn is_condemned(&self) -> bool {
        let dead = self.meta.bytes.saturating_sub(self.live);
        dead > 0 && dead.saturating_mul(100) >= self.meta.bytes.saturating_mul(DEAD_MAX)
    }
}

/// The live value files.
#[derive(Debug, Clone, Default)]
pub(super) struct ValueFiles {
    files: BTreeMap<u64, ValueFile>,
    /// Values that cannot be read, by file and offset.
    pub(super) damaged: BTreeSet<(u64, u64)>,
}

impl ValueFiles {
    pub(super) fn all(&self) -> impl Iterator<Item = &ValueFile> {
        self.files.values()
    }

    pub(super) fn metas(&self) -> Vec<ValueMeta> {
        self.files.values().map(|file| file.meta).collect()
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.files.contains_key(&number)
    }

    /// Bytes of values, and those of them that are alive.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let sum = |(all, live): (u64, u64), file: &ValueFile| (all + file.meta.bytes, live + file.live);
        self.files.values().fold((0, 0), sum)
    }

    /// Takes in new files and new ends of old ones.
    pub(super) fn extend(&mut self, metas: &[ValueMeta]) {
        for meta in metas {
            let file = ValueFile { meta: *meta, live: 0, tables: 0 };
            self.files.entry(meta.number).or_insert(file).meta = *meta;
        }
    }

    /// A table came.
    pub(super) fn count(&mut self, table: &TableMeta) {
        for (number, bytes) in &table.values {
            if let Some(file) = self.files.get_mut(number) {
                (file.live, file.tables) = (file.live + bytes, file.tables + 1);
            }
        }
    }

    /// A table went.
    pub(super) fn discount(&mut self, table: &TableMeta) {
        for (number, bytes) in &table.values {
            if let Some(file) = self.files.get_mut(number) {
                assert!(file.tables > 0, "a table is counted once");
                (file.live, file.tables) = (file.live - bytes, file.tables - 1);
            }
        }
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.files.remove(&number);
        self.damaged.retain(|(file, _)| *file != number);
    }

    /// The files that no table points to any more once `removed` have gone and `added` have come.
    pub(super) fn dead_after<'a>(
        &self,
        removed: impl Iterator<Item = &'a TableMeta>,
        added: impl Iterator<Item = &'a TableMeta>,
    ) -> Vec<u64> {
        let mut tables: BTreeMap<u64, u64> = self.files.iter().map(|(at, file)| (*at, file.tables)).collect();
        for (number, _) in added.flat_map(|meta| &meta.values) {
            *tables.entry(*number).or_default() += 1;
        }
        for (number, _) in removed.flat_map(|meta| &meta.values) {
            if let Some(tables) = tables.get_mut(number) {
                *tables -= 1;
            }
        }
        tables.into_iter().filter(|(_, tables)| *tables == 0).map(|(number, _)| number).collect()
    }

    /// A writer that goes on in the latest file that has room and of which not too much is dead.
    pub(super) fn append(&self, full: u64, is_barred: impl Fn(u64) -> bool) -> Option<ValueWriter> {
        let has_room = |file: &&ValueFile| {
            let meta = &file.meta;
            meta.len.next_multiple_of(format::PAGE) < full && !file.is_condemned() && !is_barred(meta.number)
        };
        let file = self.files.values().rev().find(has_room)?;
        Some(ValueWriter::append(file.meta.number, file.meta.len, file.meta.bytes))
    }

    /// Files whose live values are to be written anew where one comes by. A file with a damaged value stays as it is.
    pub(super) fn condemned(&self) -> BTreeSet<u64> {
        let is_whole = |number: &u64| !self.damaged.iter().any(|(file, _)| file == number);
        let condemned = self.files.values().filter(|file| file.is_condemned());
        condemned.map(|file| file.meta.number).filter(is_whole).collect()
    }
}

impl ValueWriter {
    pub(super) fn meta(&self) -> ValueMeta {
        ValueMeta { number: self.number, len: self.len(), bytes: self.bytes() }
    }
}

/// Which table to rewrite next so that a value file can go: a pure choice. Of the condemned files the one that gives the
/// most for what its tables and live values cost; of its tables the one that points to most of it.
pub(super) fn choose(
    files: &[ValueFile],
    condemned: &BTreeSet<u64>,
    tables: &[&TableMeta],
    is_barred: impl Fn(u64) -> bool,
) -> Option<u64> {
    let mut costs: BTreeMap<u64, u64> = condemned.iter().map(|number| (*number, 0)).collect();
    for table in tables {
        for (number, _) in &table.values {
            if let Some(cost) = costs.get_mut(number) {
                *cost += table.len;
            }
        }
    }
    let worth = |file: &&ValueFile| {
        let dead = file.meta.bytes.saturating_sub(file.live);
        let cost = costs.get(&file.meta.number)?.saturating_add(file.live);
        (cost < dead.saturating_mul(COST_MAX))
            .then(|| (dead.saturating_mul(1000) / cost.max(1), file.meta.number))
    };
    let mut worthy: Vec<(u64, u64)> = files.iter().filter_map(|file| worth(&file)).collect();
    worthy.sort_by_key(|(worth, number)| (core::cmp::Reverse(*worth), *number));
    worthy.into_iter().find_map(|(_, number)| {
        let pointing = tables.iter().filter(|table| !is_barred(table.number));
        let held = pointing.filter_map(|table| Some((table.points_to(number)?, table.number)));
        held.max().map(|(_, table)| table)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Stamp;
    use bytes::Bytes;

    fn table(number: u64, len: u64, values: &[(u64, u64)]) -> TableMeta {
        TableMeta {
            number,
            level: 1,
            len,
            entries: 1,
            first: Bytes::from("aa"),
            last: Bytes::from("zz"),
            lowest: Stamp::ZERO,
            highest: Stamp::ZERO,
            may_go: 0,
            values: values.to_vec(),
            dropped: Vec::new(),
        }
    }

    fn files(tables: &[TableMeta], bytes: &[(u64, u64)]) -> ValueFiles {
        let mut files = ValueFiles::default();
        let metas =
            bytes.iter().map(|(number, bytes)| ValueMeta { number: *number, len: *bytes, bytes: *bytes });
        files.extend(&metas.collect::<Vec<_>>());
        for table in tables {
            files.count(table);
        }
        files
    }

    fn chosen(files: &ValueFiles, tables: &[TableMeta], barred: &[u64]) -> Option<u64> {
        let all: Vec<ValueFile> = files.all().copied().collect();
        let tables: Vec<&TableMeta> = tables.iter().collect();
        choose(&all, &files.condemned(), &tables, |number| barred.contains(&number))
    }

    #[test]
    fn the_table_that_points_to_most_of_the_deadest_file_goes_first() {
        let tables = [
            table(1, 10, &[(7, 300), (8, 100)]),
            table(2, 10, &[(7, 300), (8, 200)]),
            table(3, 10, &[(9, 400)]),
        ];
        let files = files(&tables, &[(7, 1_000), (8, 1_000), (9, 1_000)]);
        assert_eq!(files.condemned(), BTreeSet::from([8, 9]), "of 7, only 40 % are dead");
        assert_eq!(chosen(&files, &tables, &[]), Some(2));
        assert_eq!(chosen(&files, &tables, &[2]), Some(1));
        assert_eq!(chosen(&files, &tables, &[1, 2]), Some(3));
        assert_eq!(files.bytes(), (3_000, 1_300));
    }

    #[test]
    fn a_table_that_costs_more_than_it_frees_stays() {
        let tables = [table(1, 100_000, &[(7, 400)])];
        let files = files(&tables, &[(7, 1_000)]);
        assert_eq!(chosen(&files, &tables, &[]), None);
    }

    #[test]
    fn a_file_with_a_damaged_value_stays_as_it_is() {
        let tables = [table(1, 10, &[(7, 400)])];
        let mut files = files(&tables, &[(7, 1_000)]);
        assert_eq!(chosen(&files, &tables, &[]), Some(1));
        files.damaged.insert((7, 32));
        assert_eq!(chosen(&files, &tables, &[]), None);
    }

    #[test]
    fn a_file_is_dead_when_its_last_table_goes() {
        let tables = [table(1, 10, &[(7, 400)]), table(2, 10, &[(7, 100)])];
        let files = files(&tables, &[(7, 1_000)]);
        assert_eq!(files.dead_after([&tables[0]].into_iter(), [].into_iter()), []);
        assert_eq!(files.dead_after(tables.iter(), [&tables[0]].into_iter()), []);
        assert_eq!(files.dead_after(tables.iter(), [].into_iter()), [7]);
    }
}
