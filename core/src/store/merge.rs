//! Writing tables: the flush of a memtable and the compaction of tables are the same merge of sorted sources, done in
//! bounded pieces, one piece per disk completion.

use super::cursor::{Cursor, Reading, Step};
use super::entry::{self, Rank};
use super::levels::{self, Choice};
use super::manifest::{Install, InstallKind};
use super::memtable::{Memtable, Position};
use super::table::{Builder, Table, hash};
use super::{Purpose, Store, StoreCx};
use crate::io::{DiskOp, DiskResult, FileKind, FileName};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes merged and written per step, and entries looked at.
const PIECE: usize = 256 << 10;
const PIECE_ENTRIES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MergeKind {
    Flush,
    Compaction,
}

#[derive(Debug, Clone)]
enum Source {
    Memory(Arc<Memtable>, Position),
    Run(Box<Cursor>),
}

/// The cursor that met a damaged block, and what was found.
type Damage = Box<(Cursor, String)>;

impl Source {
    fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Memory(memtable, position) => memtable.at(*position).map(|held| held.key),
            Self::Run(cursor) => cursor.key(),
        }
    }

    fn body(&self) -> Option<(Rank, &[u8])> {
        match self {
            Self::Memory(memtable, position) => memtable.at(*position).map(|held| (held.rank, held.body)),
            // A verified block holds what was encoded: without a rank the entry counts as the lowest.
            Self::Run(cursor) => {
                let (body, _) = cursor.body()?;
                Some((entry::rank(body)?, body))
            }
        }
    }

    fn advance(&mut self) {
        match self {
            Self::Memory(memtable, position) => *position = memtable.step(*position),
            Self::Run(cursor) => cursor.advance(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Entries are merged; reads may be under way.
    Merging,
    /// The file of the table in hand is being made.
    Creating,
    /// A piece is being written.
    Writing,
}

#[derive(Debug, Clone)]
pub(super) struct Merge {
    pub(super) kind: MergeKind,
    /// Tells this merge from an earlier one of its kind.
    pub(super) id: u64,
    phase: Phase,
    level: u8,
    sources: Vec<Source>,
    builder: Builder,
    /// The file of the table in hand has been made.
    is_created: bool,
    /// The table in hand, once it is built.
    finished: Option<Arc<Table>>,
    install: Install,
    ended: bool,
}

impl Merge {
    fn file(&self) -> FileName {
        FileName::new(FileKind::Table, self.builder.number())
    }

    /// Files made so far.
    fn files(&self) -> Vec<FileName> {
        let done = self.install.added.iter().map(|table| table.meta.file());
        done.chain(self.is_created.then(|| self.file())).collect()
    }
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
            let position = frozen.memtable.seek(&[], false);
            let mut install = Install::new(InstallKind::Flush);
            install.covers = Some((frozen.segment, frozen.group));
            self.start_merge(
                cx,
                MergeKind::Flush,
                install,
                [Source::Memory(frozen.memtable, position)].into(),
                0,
            );
        }
        if self.compaction.is_none() && !self.moving && core::mem::take(&mut self.levels_changed) {
            self.start_compaction(cx);
        }
    }

    fn start_compaction(&mut self, cx: &mut StoreCx<'_>) {
        let base = 4 * self.options.memtable_bytes as u64;
        let damaged = &self.damaged;
        let Some(choice) = levels::choose(&self.levels.metas(), base, |number| damaged.contains_key(&number))
        else {
            return;
        };
        let Choice { level, inputs, below, is_move } = choice;
        if is_move {
            let mut install = Install::new(InstallKind::Move);
            install.removed.clone_from(&inputs);
            let chosen = self.levels.all().filter(|table| inputs.contains(&table.meta.number));
            install.added = chosen.map(|table| Arc::new(table.moved(level as u8 + 1))).collect();
            self.moving = true;
            self.installs.push_back(install);
            return self.start_install(cx);
        }
        let mut sources = Vec::new();
        for (of, chosen) in [(level, &inputs), (level + 1, &below)] {
            let run = &self.levels.runs()[of];
            let is_chosen = |at: &usize| chosen.contains(&run[*at].meta.number);
            let places: Vec<usize> = (0..run.len()).filter(is_chosen).collect();
            let source =
                |from: usize, to: usize| Source::Run(Box::new(Cursor::new(run, from, to, Reading::Bulk)));
            match (places.first(), places.last()) {
                // Those chosen of a level below the first follow one another.
                (Some(first), Some(last)) if of > 0 => sources.push(source(*first, last + 1)),
                // The latest first: of equal entries that one stays.
                _ => sources.extend(places.iter().rev().map(|at| source(*at, at + 1))),
            }
        }
        let mut install = Install::new(InstallKind::Compaction);
        install.removed = inputs;
        install.removed.extend(below);
        self.start_merge(cx, MergeKind::Compaction, install, sources, level as u8 + 1);
    }

    fn start_merge(
        &mut self,
        cx: &mut StoreCx<'_>,
        kind: MergeKind,
        install: Install,
        sources: Vec<Source>,
        level: u8,
    ) {
        let number = self.take_file_number();
        let builder = Builder::new(number, self.options.block_bytes);
        let merge = Merge {
            kind,
            id: number,
            phase: Phase::Merging,
            level,
            sources,
            builder,
            is_created: false,
            finished: None,
            install,
            ended: false,
        };
        *self.merge_slot(kind) = Some(merge);
        self.make_piece(cx, kind);
    }

    pub(super) fn merge_slot(&mut self, kind: MergeKind) -> &mut Option<Merge> {
        match kind {
            MergeKind::Flush => &mut self.flush,
            MergeKind::Compaction => &mut self.compaction,
        }
    }

    /// An operation on the table in hand has ended.
    pub(super) fn on_merge_written(&mut self, cx: &mut StoreCx<'_>, kind: MergeKind) {
        self.held_back = false;
        let Some(mut merge) = self.merge_slot(kind).take() else {
            return;
        };
        if merge.phase == Phase::Creating {
            merge.is_created = true;
            self.write_piece(cx, merge);
            return;
        }
        merge.phase = Phase::Merging;
        if let Some(table) = merge.finished.take() {
            merge.install.added.push(table);
            merge.is_created = false;
            merge.builder = Builder::new(self.take_file_number(), self.options.block_bytes);
        }
        *self.merge_slot(kind) = Some(merge);
        self.make_piece(cx, kind);
    }

    /// Merges on until a piece is ready, a block is missing, or all is merged.
    fn make_piece(&mut self, cx: &mut StoreCx<'_>, kind: MergeKind) {
        let Some(mut merge) = self.merge_slot(kind).take() else {
            return;
        };
        let split = self.options.table_bytes;
        for entries in 0.. {
            if merge.builder.ready() >= PIECE || merge.builder.len() >= split || entries >= PIECE_ENTRIES {
                break;
            }
            match self.settle_sources(&mut merge) {
                Ok(missing) if missing.is_empty() => {}
                Ok(missing) => {
                    for (source, op) in missing {
                        self.disk(cx, Purpose::MergeRead(kind, source, merge.id), op);
                    }
                    *self.merge_slot(kind) = Some(merge);
                    return;
                }
                Err(damage) => return self.abandon_damaged(cx, &merge, &damage.0, damage.1),
            }
            if !self.emit_next(&mut merge) {
                merge.ended = true;
                break;
            }
        }
        self.end_piece(cx, merge);
    }

    fn end_piece(&mut self, cx: &mut StoreCx<'_>, mut merge: Merge) {
        if merge.ended || merge.builder.len() >= self.options.table_bytes {
            merge.finished = merge.builder.finish(merge.level).map(Arc::new);
        }
        if merge.ended && merge.finished.is_none() {
            if merge.is_created {
                // All of the last table was dropped on the way.
                self.doomed.push(merge.file());
            }
            // Nothing is left to write: the manifest takes it from here.
            let install = merge.install.clone();
            let kind = merge.kind;
            *self.merge_slot(kind) = Some(merge);
            self.installs.push_back(install);
            return self.start_install(cx);
        }
        self.write_piece(cx, merge);
    }

    fn write_piece(&mut self, cx: &mut StoreCx<'_>, mut merge: Merge) {
        let (kind, file) = (merge.kind, merge.file());
        let op = if merge.is_created {
            merge.phase = Phase::Writing;
            let (offset, data) = merge.builder.take();
            self.stats.table_bytes_written += data.len() as u64;
            DiskOp::Write { file, offset, data, sync: merge.finished.is_some() }
        } else {
            merge.phase = Phase::Creating;
            DiskOp::Create { file, preallocate: 0 }
        };
        *self.merge_slot(kind) = Some(merge);
        self.disk(cx, Purpose::Merge(kind), op);
    }

    /// Makes every source stand at its next entry; the reads of those whose block is missing. The cursor that met damage.
    fn settle_sources(&mut self, merge: &mut Merge) -> Result<Vec<(usize, DiskOp)>, Damage> {
        let mut missing = Vec::new();
        for (number, source) in merge.sources.iter_mut().enumerate() {
            let Source::Run(cursor) = source else {
                continue;
            };
            if cursor.key().is_some() {
                continue;
            }
            match cursor.settle(&mut self.cache) {
                Step::Missing => missing.extend(cursor.read().map(|op| (number, op))),
                Step::Damaged(reason) => return Err(Box::new((*cursor.clone(), reason))),
                Step::Entry | Step::End => {}
            }
        }
        Ok(missing)
    }

    /// Writes the best entry of the next key; false at the end. Every source stands at its next entry.
    fn emit_next(&self, merge: &mut Merge) -> bool {
        let mut best: Option<(usize, &[u8], Rank, &[u8])> = None;
        let mut same: u64 = 0;
        for (number, source) in merge.sources.iter().enumerate() {
            let (Some(key), Some((rank, body))) = (source.key(), source.body()) else {
                continue;
            };
            let is_better = match best {
                None => true,
                Some((_, least, of_best, _)) => key < least || (key == least && rank > of_best),
            };
            let is_same = best.is_some_and(|(_, least, _, _)| key == least);
            if is_better && !is_same {
                same = 0;
            }
            if is_better || is_same {
                same |= 1 << (number % 64);
            }
            if is_better {
                best = Some((number, key, rank, body));
            }
        }
        let Some((_, key, rank, body)) = best else {
            return false;
        };
        let is_flush = merge.kind == MergeKind::Flush;
        if !(entry::may_go(body) && self.is_garbage(key, rank, body, is_flush, &merge.install.removed)) {
            merge.builder.add(key, rank, body);
        }
        // Only a source at the very key moves on; the mask has its number modulo 64.
        let name = if merge.sources.len() <= 64 { Vec::new() } else { key.to_vec() };
        for (number, source) in merge.sources.iter_mut().enumerate() {
            let is_at = same & (1 << (number % 64)) != 0;
            if is_at && (name.is_empty() || source.key() == Some(&name)) {
                source.advance();
            }
        }
        true
    }

    /// Whether an entry has nothing left to hide and nobody left to tell: an erasure, or a tombstone or expired record that
    /// G2 lets go, of a key that no other place may hold. `others` are the tables that are merged.
    fn is_garbage(&self, key: &[u8], rank: Rank, body: &[u8], is_flush: bool, merged: &[u64]) -> bool {
        let key_slot = entry::decode_key(key).slot;
        let goes = rank.erases
            || self.watermarks.get(&key_slot).is_some_and(|upto| entry::is_settled_garbage(body, *upto));
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

    pub(super) fn on_merge_read(
        &mut self,
        cx: &mut StoreCx<'_>,
        kind: MergeKind,
        source: usize,
        id: u64,
        result: DiskResult,
    ) {
        self.held_back = false;
        let Some(merge) = self.merge_slot(kind).as_mut().filter(|merge| merge.id == id) else {
            return;
        };
        let Some(Source::Run(cursor)) = merge.sources.get_mut(source) else {
            return;
        };
        match result {
            DiskResult::Data(data) => cursor.on_data(data),
            DiskResult::Failed(error) => {
                let cursor = cursor.clone();
                if let Some(merge) = self.merge_slot(kind).take() {
                    self.abandon_damaged(cx, &merge, &cursor, error.text);
                }
                return;
            }
            _ => return,
        }
        let is_waiting = |source: &Source| matches!(source, Source::Run(cursor) if cursor.reading);
        if !merge.sources.iter().any(is_waiting) {
            self.make_piece(cx, kind);
        }
    }

    /// No space: what was written of the tables is removed; the merge starts anew later.
    pub(super) fn abandon(&mut self, cx: &mut StoreCx<'_>, kind: MergeKind) {
        if let Some(merge) = self.merge_slot(kind).take() {
            self.remove_all(cx, &merge.files());
            self.levels_changed = true;
        }
    }

    /// A block of an input is damaged: the tables stay as they are until the damage is repaired.
    fn abandon_damaged(&mut self, cx: &mut StoreCx<'_>, merge: &Merge, cursor: &Cursor, reason: String) {
        self.remove_all(cx, &merge.files());
        if let Some((table, at)) = cursor.place() {
            self.report_damage(cx, &table, at, reason);
        }
        self.levels_changed = true;
    }

    fn remove_all(&mut self, cx: &mut StoreCx<'_>, files: &[FileName]) {
        for file in files {
            self.disk(cx, Purpose::Remove, DiskOp::Remove { file: *file });
        }
    }
}
