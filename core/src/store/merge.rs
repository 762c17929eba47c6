//! Writing tables: the flush of a memtable and the compaction of tables are the same merge of sorted sources, done in
//! bounded pieces, one piece per disk completion.

use super::cursor::{Cursor, Step};
use super::memtable::Memtable;
use super::table::{Builder, Table, TableMeta};
use super::{Entry, Purpose, Store, StoreCx, StoreEvent, better};
use crate::base::{RecordKey, Slot};
use crate::io::{DiskOp, DiskResult, FileKind, FileName};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes merged and written per step.
const PIECE: usize = 256 << 10;
/// Tables of like size that are merged into one.
const FAN_IN: usize = 4;
/// Tables are of like size within this factor; below the floor all are.
const LIKE_FACTOR: u64 = 4;
const LIKE_FLOOR: u64 = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MergeKind {
    Flush,
    Compaction,
}

/// A change of the set of tables.
#[derive(Debug, Clone)]
pub(super) struct Install {
    pub(super) kind: MergeKind,
    pub(super) added: Option<Arc<Table>>,
    pub(super) removed: Vec<u64>,
    /// A flush: segments up to this one and groups up to this one are not needed any more.
    pub(super) covers: Option<(u64, u64)>,
}

#[derive(Debug, Clone)]
pub(super) struct Merge {
    kind: MergeKind,
    builder: Builder,
    number: u64,
    memory: Option<Arc<Memtable>>,
    cursors: Vec<Cursor>,
    /// The last key written.
    at: Option<RecordKey>,
    /// Whether every table takes part: then erasures have nothing left to erase.
    whole: bool,
    install: Install,
    ended: bool,
}

/// Which tables to merge next: a pure choice. Size-tiered: at least four of like size, the smallest first.
pub(super) fn choose(tables: &[&TableMeta]) -> Option<Vec<u64>> {
    let mut by_size: Vec<_> = tables.iter().map(|table| (table.len, table.number)).collect();
    by_size.sort_unstable();
    (0..by_size.len()).find_map(|start| {
        let limit = by_size[start].0.max(LIKE_FLOOR).saturating_mul(LIKE_FACTOR);
        let alike: Vec<u64> =
            by_size[start..].iter().take_while(|(len, _)| *len <= limit).map(|(_, number)| *number).collect();
        (alike.len() >= FAN_IN).then_some(alike)
    })
}

impl Store {
    /// Starts a flush and a compaction where they are due.
    pub(super) fn start_merges(&mut self, cx: &mut StoreCx<'_>) {
        if self.full_until.is_some() {
            return;
        }
        if self.flush.is_none()
            && let Some(frozen) = self.frozen.front().cloned()
            && self.is_committed(frozen.group)
        {
            let covers = Some((frozen.segment, frozen.group));
            let install = Install { kind: MergeKind::Flush, added: None, removed: Vec::new(), covers };
            let whole = self.tables.is_empty();
            self.start_merge(cx, install, Some(frozen.memtable), Vec::new(), whole);
        }
        if self.compaction.is_none() {
            let metas: Vec<_> = self.tables.iter().map(|table| &table.meta).collect();
            if let Some(removed) = choose(&metas) {
                let start = RecordKey { slot: Slot(0), key: Bytes::new() };
                let chosen = self.tables.iter().filter(|table| removed.contains(&table.meta.number));
                let cursors = chosen.filter_map(|table| Cursor::new(table, &start)).collect();
                let whole = removed.len() == self.tables.len() && self.flush.is_none();
                let install = Install { kind: MergeKind::Compaction, added: None, removed, covers: None };
                self.start_merge(cx, install, None, cursors, whole);
            }
        }
    }

    fn start_merge(
        &mut self,
        cx: &mut StoreCx<'_>,
        install: Install,
        memory: Option<Arc<Memtable>>,
        cursors: Vec<Cursor>,
        whole: bool,
    ) {
        let number = self.take_file_number();
        let builder = Builder::new(number, self.options.block_bytes);
        let kind = install.kind;
        let merge = Merge { kind, builder, number, memory, cursors, at: None, whole, install, ended: false };
        *self.merge_slot(kind) = Some(merge);
        let file = FileName::new(FileKind::Table, number);
        self.disk(cx, Purpose::Merge(kind), DiskOp::Create { file, preallocate: 0 });
    }

    fn merge_slot(&mut self, kind: MergeKind) -> &mut Option<Merge> {
        match kind {
            MergeKind::Flush => &mut self.flush,
            MergeKind::Compaction => &mut self.compaction,
        }
    }

    /// A piece has been written: makes the next, or hands the whole over to the manifest.
    pub(super) fn on_merge_written(&mut self, cx: &mut StoreCx<'_>, kind: MergeKind) {
        let Some(merge) = self.merge_slot(kind) else {
            return;
        };
        if merge.ended {
            let install = merge.install.clone();
            self.installs.push_back(install);
            return self.start_install(cx);
        }
        self.make_piece(cx, kind);
    }

    fn make_piece(&mut self, cx: &mut StoreCx<'_>, kind: MergeKind) {
        let Some(mut merge) = self.merge_slot(kind).take() else {
            return;
        };
        let mut missing = Vec::new();
        while merge.builder.ready() < PIECE {
            missing = merge.missing(&mut self.cache);
            if !missing.is_empty() || !merge.emit_next() {
                break;
            }
        }
        if missing.is_empty() {
            self.write_piece(cx, &mut merge);
        } else {
            for (source, op) in missing {
                self.disk(cx, Purpose::MergeBlock(kind, source), op);
            }
        }
        *self.merge_slot(kind) = Some(merge);
    }

    fn write_piece(&mut self, cx: &mut StoreCx<'_>, merge: &mut Merge) {
        let file = FileName::new(FileKind::Table, merge.number);
        let more = merge.builder.ready() >= PIECE;
        if !more {
            merge.ended = true;
            merge.install.added = merge.builder.finish().map(Arc::new);
            if merge.install.added.is_none() {
                // Everything was erased: the empty file goes when the install is durable.
                self.doomed.push(file);
                return self.disk(cx, Purpose::Merge(merge.kind), DiskOp::Sync { file });
            }
        }
        let (offset, data) = merge.builder.take();
        self.disk(cx, Purpose::Merge(merge.kind), DiskOp::Write { file, offset, data, sync: !more });
    }

    pub(super) fn on_merge_block(
        &mut self,
        cx: &mut StoreCx<'_>,
        kind: MergeKind,
        source: usize,
        result: &DiskResult,
    ) {
        let Some(merge) = self.merge_slot(kind) else {
            return;
        };
        if let Some(cursor) = merge.cursors.get_mut(source)
            && let Err(reason) = cursor.on_block(result)
        {
            return cx.events.push(StoreEvent::Fatal(reason));
        }
        if merge.cursors.iter().all(|cursor| !cursor.reading) {
            self.make_piece(cx, kind);
        }
    }

    /// No space: what was written of the table is removed; the merge starts anew later.
    pub(super) fn abandon(&mut self, cx: &mut StoreCx<'_>, kind: MergeKind) {
        if let Some(merge) = self.merge_slot(kind).take() {
            let file = FileName::new(FileKind::Table, merge.number);
            self.disk(cx, Purpose::Remove, DiskOp::Remove { file });
        }
    }
}

impl Merge {
    fn position(&self) -> (RecordKey, bool) {
        match &self.at {
            Some(key) => (key.clone(), true),
            None => (RecordKey { slot: Slot(0), key: Bytes::new() }, false),
        }
    }

    /// Moves every source on; the reads of those whose block is missing.
    fn missing(&mut self, cache: &mut super::cache::BlockCache) -> Vec<(usize, DiskOp)> {
        let (from, exclusive) = self.position();
        let mut missing = Vec::new();
        for (source, cursor) in self.cursors.iter_mut().enumerate() {
            if let Step::Missing = cursor.advance(&from, exclusive, cache) {
                missing.extend(cursor.read().map(|op| (source, op)));
            }
        }
        missing
    }

    /// Writes the next key's best entry; false at the end. Every source stands at its next entry.
    fn emit_next(&mut self) -> bool {
        let (from, exclusive) = self.position();
        let in_memory = self.memory.as_ref().and_then(|memtable| memtable.next(&from, exclusive));
        let heads = self.cursors.iter().filter_map(Cursor::current).map(|(key, entry)| (key, entry));
        let heads: Vec<(&RecordKey, &Entry)> = heads.chain(in_memory).collect();
        let Some(key) = heads.iter().map(|(key, _)| *key).min().cloned() else {
            return false;
        };
        let same = heads.into_iter().filter(|(name, _)| **name == key).map(|(_, entry)| entry.clone());
        let best = same.fold(None, |best, entry| better(best, Some(entry)));
        if let Some(entry) = best.filter(|entry| !self.whole || entry.record.is_some()) {
            self.builder.add(&key, &entry);
        }
        self.at = Some(key);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Stamp;

    fn meta(number: u64, len: u64) -> TableMeta {
        let key = RecordKey { slot: Slot(0), key: Bytes::new() };
        TableMeta { number, len, entries: 1, first: key.clone(), last: key, highest: Stamp::ZERO }
    }

    #[test]
    fn tables_of_like_size_are_merged_and_a_large_one_is_left_alone() {
        let (small, large) = (1 << 20, 1 << 30);
        let tables = [meta(1, large), meta(2, small), meta(3, small * 2), meta(4, small * 3), meta(5, small)];
        let chosen = choose(&tables.iter().collect::<Vec<_>>());
        assert_eq!(chosen, Some([2, 5, 3, 4].into()));
        assert_eq!(choose(&tables[..4].iter().collect::<Vec<_>>()), None, "three alike are not enough");
    }
}
