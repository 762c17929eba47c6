//! Writing tables: the flush of a memtable and the compaction of tables are the same merge of sorted sources, done in
//! bounded pieces, a few writes each.

use super::cursor::{Cursor, Reading, Step};
use super::entry::{self, Rank};
use super::levels::{self, Choice};
use super::manifest::{Install, InstallKind};
use super::memtable::{Memtable, Position};
use super::pointer::Pointer;
use super::purpose::MergeKind;
use super::table::{Builder, Table, TableMeta};
use super::trouble::Trouble;
use super::values::{self, Placed, Placing, ValueFile, ValueWriter};
use super::{Purpose, Store, StoreCx};
use crate::base::Counter;
use crate::io::{DiskOp, DiskResult, FileKind, FileName};
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes merged and written per step, and entries looked at.
const PIECE: usize = 256 << 10;
const PIECE_ENTRIES: usize = 4096;

#[derive(Debug, Clone)]
pub(super) enum Source {
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

/// A write that a piece needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Todo {
    CreateValues,
    /// The last write of this merge to the file also makes it durable.
    WriteValues {
        is_last: bool,
    },
    CreateTable,
    WriteTable,
}

#[derive(Debug, Clone)]
pub(super) struct Merge {
    pub(super) kind: MergeKind,
    /// Tells this merge from an earlier one of its kind.
    pub(super) id: u64,
    /// What is still to be written of the piece in hand, one after the other; empty while entries are merged.
    todo: VecDeque<Todo>,
    level: u8,
    sources: Vec<Source>,
    builder: Builder,
    /// The file of the table in hand has been made.
    is_created: bool,
    /// The table in hand, once it is built.
    finished: Option<Arc<Table>>,
    pub(super) install: Install,
    /// Tombstones and expired records left out.
    collected: u64,
    pub(super) has_collected: bool,
    ended: bool,
    /// Slots that were dropped since the merge began: what it has written of them counts as not there.
    pub(super) dropped: Vec<(u16, u64)>,
    /// Where values go that stand apart.
    pub(super) values: Option<ValueWriter>,
    /// Value files whose live values are written anew.
    pub(super) condemned: BTreeSet<u64>,
    /// What was read of such a file: number, offset, bytes.
    pub(super) extent: Option<(u64, u64, Bytes)>,
    /// The read of that: which value, and whose.
    pub(super) wanted: Option<(Pointer, Vec<u8>)>,
    /// R6: damaged values whose entries have been left out, by file and offset.
    pub(super) lost: Vec<(u64, u64)>,
}

/// What became of the next entry.
enum Next {
    Emitted,
    /// Its value has no place yet.
    Waits(Placed),
    End,
}

impl Merge {
    /// Whether it may append to the value file.
    pub(super) fn appends_to(&self, number: u64) -> bool {
        let done = self.install.values.iter().map(|meta| meta.number);
        done.chain(self.values.iter().map(|values| values.number)).any(|other| other == number)
    }

    fn file(&self) -> FileName {
        FileName::new(FileKind::Table, self.builder.number())
    }

    /// Bytes of memory that it takes beside its sources' own.
    pub(super) fn memory(&self) -> usize {
        let read = |source: &Source| match source {
            Source::Memory(..) => 0,
            Source::Run(cursor) => cursor.memory(),
        };
        let values = self.values.as_ref().map_or(0, ValueWriter::ready);
        let extent = self.extent.as_ref().map_or(0, |(_, _, data)| data.len());
        self.builder.memory() + values + extent + self.sources.iter().map(read).sum::<usize>()
    }

    /// Tables made so far.
    pub(super) fn tables(&self) -> impl Iterator<Item = FileName> {
        let done = self.install.added.iter().map(|table| table.meta.file());
        done.chain(self.is_created.then(|| self.file()))
    }

    /// The key of the entry that comes next.
    pub(super) fn next_key(&self) -> Vec<u8> {
        self.sources.iter().filter_map(Source::key).min().unwrap_or_default().to_vec()
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
            && let Some(segment) = frozen.segment
            && self.is_committed(frozen.group)
        {
            let position = frozen.memtable.seek(&[], false);
            let mut install = Install::new(InstallKind::Flush);
            install.covers = Some((segment, frozen.group));
            self.start_merge(
                cx,
                MergeKind::Flush,
                install,
                [Source::Memory(frozen.memtable, position)].into(),
                0,
                frozen.dropped,
            );
        }
        if self.compaction.is_none() && !self.moving {
            if let Some((level, at)) = self.next_mendable() {
                return self.start_mending(cx, level, at);
            }
            if core::mem::take(&mut self.levels_changed) && !self.clear_dropped(cx) {
                self.start_compaction(cx);
            }
        }
    }

    fn start_compaction(&mut self, cx: &mut StoreCx<'_>) {
        let base = 4 * self.options.memtable_bytes as u64;
        let barred = &self.barred;
        let is_damaged = |number| barred.contains_key(&number);
        // Space is won back in turn with the levels' own work.
        self.values_turn = !self.values_turn;
        let choice = levels::choose(&self.levels.metas(), base, is_damaged);
        if self.values_turn || choice.is_none() {
            let all: Vec<ValueFile> = self.values.all().copied().collect();
            let tables: Vec<&TableMeta> = self.levels.all().map(|table| &table.meta).collect();
            if let Some(number) = values::choose(&all, &self.values.condemned(), &tables, is_damaged) {
                return self.rewrite(cx, number);
            }
        }
        let choice = choice.map(|choice| (choice, false)).or_else(|| self.choose_garbage());
        let Some((choice, in_place)) = choice else {
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
            // What is rewritten in place at the bottom has no level below.
            let Some(run) = self.levels.runs().get(of) else {
                continue;
            };
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
        self.start_merge(
            cx,
            MergeKind::Compaction,
            install,
            sources,
            level as u8 + u8::from(!in_place),
            Vec::new(),
        );
    }

    /// Writes a table anew, so that the values that it points to in condemned files go elsewhere.
    fn rewrite(&mut self, cx: &mut StoreCx<'_>, number: u64) {
        let at = self.levels.runs().iter().enumerate().find_map(|(level, run)| {
            Some((level, run.iter().position(|table| table.meta.number == number)?))
        });
        if let Some((level, at)) = at {
            let cursor = Cursor::new(&self.levels.runs()[level], at, at + 1, Reading::Bulk);
            let mut install = Install::new(InstallKind::Compaction);
            install.removed = [number].into();
            let sources = [Source::Run(Box::new(cursor))].into();
            self.start_merge(cx, MergeKind::Compaction, install, sources, level as u8, Vec::new());
        }
    }

    pub(super) fn start_merge(
        &mut self,
        cx: &mut StoreCx<'_>,
        kind: MergeKind,
        install: Install,
        sources: Vec<Source>,
        level: u8,
        dropped: Vec<(u16, u64)>,
    ) {
        let number = self.take_file_number();
        let builder = Builder::new(number, self.options.block_bytes);
        let condemned = if kind == MergeKind::Compaction { self.values.condemned() } else { BTreeSet::new() };
        let merge = Merge {
            kind,
            id: number,
            todo: VecDeque::new(),
            level,
            sources,
            builder,
            is_created: false,
            finished: None,
            install,
            collected: 0,
            has_collected: false,
            ended: false,
            dropped,
            values: None,
            condemned,
            extent: None,
            wanted: None,
            lost: Vec::new(),
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

    /// A write of the piece in hand has ended.
    pub(super) fn on_merge_written(&mut self, cx: &mut StoreCx<'_>, kind: MergeKind) {
        self.held_back = false;
        let Some(mut merge) = self.merge_slot(kind).take() else {
            return;
        };
        match merge.todo.pop_front() {
            Some(Todo::CreateValues) => {
                merge.values.iter_mut().for_each(|values| values.is_created = true);
            }
            Some(Todo::WriteValues { is_last: true }) => {
                let values = merge.values.take();
                merge.install.values.extend(values.map(|values| values.meta()));
            }
            Some(Todo::CreateTable) => merge.is_created = true,
            Some(Todo::WriteTable) => {
                if let Some(table) = merge.finished.take() {
                    merge.install.added.push(table);
                    merge.is_created = false;
                    merge.builder = Builder::new(self.take_file_number(), self.options.block_bytes);
                }
            }
            Some(Todo::WriteValues { is_last: false }) | None => {}
        }
        self.go_on_writing(cx, merge);
    }

    /// Merges on until a piece is ready, a block is missing, or all is merged.
    pub(super) fn make_piece(&mut self, cx: &mut StoreCx<'_>, kind: MergeKind) {
        let Some(mut merge) = self.merge_slot(kind).take() else {
            return;
        };
        for entries in 0.. {
            if self.is_piece(&merge) || entries >= PIECE_ENTRIES {
                break;
            }
            self.stats.entries_walked += 1;
            match self.settle_sources(&mut merge) {
                Ok(missing) if missing.is_empty() => {}
                Ok(missing) => {
                    for (source, op) in missing {
                        self.disk(cx, Purpose::MergeRead(kind, source, merge.id), op);
                    }
                    *self.merge_slot(kind) = Some(merge);
                    return;
                }
                Err(damage) => {
                    return self.abandon_damaged(cx, &merge, &damage.0, Trouble::Damaged(damage.1));
                }
            }
            match self.emit_next(&mut merge) {
                Next::Emitted => {}
                Next::Waits(Placed::NeedsValue(pointer)) => return self.read_value(cx, merge, pointer),
                Next::Waits(Placed::Damaged(pointer, reason)) => {
                    self.leave_value(cx, &mut merge, pointer, reason);
                }
                Next::Waits(_) => self.open_writer(&mut merge),
                Next::End => {
                    merge.ended = true;
                    break;
                }
            }
        }
        self.end_piece(cx, merge);
    }

    /// Whether there is enough to be written.
    fn is_piece(&self, merge: &Merge) -> bool {
        let values = merge.values.as_ref();
        let ready = merge.builder.ready() + values.map_or(0, ValueWriter::ready);
        let is_full = values.is_some_and(|values| values.len() >= self.options.value_file_bytes);
        ready >= PIECE || is_full || merge.builder.len() >= self.options.table_bytes
    }

    fn end_piece(&mut self, cx: &mut StoreCx<'_>, mut merge: Merge) {
        merge.has_collected |= merge.collected > 0;
        for _ in 0..core::mem::take(&mut merge.collected) {
            cx.counters.add(Counter::TombstoneDropped);
        }
        if merge.ended || merge.builder.len() >= self.options.table_bytes {
            merge.finished = merge.builder.finish(merge.level).map(Arc::new);
        }
        if merge.ended && merge.finished.is_none() && merge.is_created {
            // All of the last table was dropped on the way.
            self.doomed.push(merge.file());
            merge.is_created = false;
        }
        if let Some(values) = &merge.values {
            let is_last = merge.ended || values.len() >= self.options.value_file_bytes;
            if !values.is_created {
                merge.todo.push_back(Todo::CreateValues);
            }
            if is_last || values.ready() > 0 {
                merge.todo.push_back(Todo::WriteValues { is_last });
            }
        }
        // A piece writes something, so that others have their turn.
        let is_idle = merge.todo.is_empty() && !merge.ended;
        if merge.builder.ready() > 0 || merge.finished.is_some() || is_idle {
            if !merge.is_created {
                merge.todo.push_back(Todo::CreateTable);
            }
            merge.todo.push_back(Todo::WriteTable);
        }
        self.go_on_writing(cx, merge);
    }

    /// The next write of the piece; without one the next piece, or the manifest.
    fn go_on_writing(&mut self, cx: &mut StoreCx<'_>, mut merge: Merge) {
        let kind = merge.kind;
        let Some(todo) = merge.todo.front().copied() else {
            if !merge.ended {
                *self.merge_slot(kind) = Some(merge);
                return self.make_piece(cx, kind);
            }
            for table in &mut merge.install.added {
                if let Some(without) = table.without(&merge.dropped) {
                    *table = Arc::new(without);
                }
            }
            let install = merge.install.clone();
            *self.merge_slot(kind) = Some(merge);
            self.installs.push_back(install);
            return self.start_install(cx);
        };
        let table = merge.file();
        let op = match (todo, &mut merge.values) {
            (Todo::CreateValues, Some(values)) => DiskOp::Create { file: values.file(), preallocate: 0 },
            (Todo::WriteValues { is_last }, Some(values)) => {
                let (file, (offset, data)) = (values.file(), values.take());
                self.stats.value_bytes_written += data.len() as u64;
                if data.is_empty() {
                    DiskOp::Sync { file }
                } else {
                    DiskOp::Write { file, offset, data, sync: is_last }
                }
            }
            (Todo::CreateTable, _) => DiskOp::Create { file: table, preallocate: 0 },
            (Todo::WriteTable, _) => {
                let (offset, data) = merge.builder.take();
                self.stats.table_bytes_written += data.len() as u64;
                DiskOp::Write { file: table, offset, data, sync: merge.finished.is_some() }
            }
            (Todo::CreateValues | Todo::WriteValues { .. }, None) => unreachable!("values have their writer"),
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
            loop {
                let step = cursor.settle(&mut self.cache);
                // R6: a block that can be read again says what has been superseded by what others held.
                if matches!(step, Step::Damaged(_) | Step::Entry) && self.may_skip(cursor) {
                    cursor.skip_block();
                    continue;
                }
                match step {
                    Step::Missing => missing.extend(cursor.read().map(|op| (number, op))),
                    Step::Damaged(reason) => return Err(Box::new((*cursor.clone(), reason))),
                    Step::Entry | Step::End => {}
                }
                break;
            }
        }
        Ok(missing)
    }

    /// Writes the best entry of the next key. Every source stands at its next entry.
    fn emit_next(&mut self, merge: &mut Merge) -> Next {
        let Merge { kind, sources, builder, install, values, condemned, extent, collected, lost, .. } = merge;
        let mut best: Option<(usize, &[u8], Rank, &[u8])> = None;
        let mut same: u64 = 0;
        for (number, source) in sources.iter().enumerate() {
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
            return Next::End;
        };
        let is_flush = *kind == MergeKind::Flush;
        let healed = entry::pointer(body).filter(|pointer| self.is_value_healed(*pointer));
        if let Some(pointer) = healed {
            // R6: the value is damaged, and the record has been brought again.
            lost.push((pointer.file, pointer.offset));
        } else if !(entry::may_go(body) && self.is_garbage(key, rank, body, is_flush, &install.removed)) {
            let (most, values) = (self.options.value_inline_max, values.as_mut());
            let placing = Placing { most, values, condemned, extent: extent.as_ref() };
            match placing.place(body, &mut self.body) {
                Placed::AsItIs => builder.add(key, rank, body),
                Placed::Apart => {
                    let moved = entry::pointer(body).map_or(0, |pointer| u64::from(pointer.len));
                    self.stats.value_bytes_moved += moved;
                    builder.add(key, rank, &self.body);
                }
                waits => return Next::Waits(waits),
            }
        } else if !rank.erases {
            *collected += 1;
        }
        // Only a source at the very key moves on; the mask has its number modulo 64.
        let name = if sources.len() <= 64 { Vec::new() } else { key.to_vec() };
        for (number, source) in sources.iter_mut().enumerate() {
            let is_at = same & (1 << (number % 64)) != 0;
            if is_at && (name.is_empty() || source.key() == Some(&name)) {
                source.advance();
            }
        }
        Next::Emitted
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
            DiskResult::Failed(_) if cursor.narrow() => {}
            DiskResult::Failed(error) => {
                let met = cursor.clone();
                if !self.may_skip(&met) {
                    if let Some(merge) = self.merge_slot(kind).take() {
                        self.abandon_damaged(cx, &merge, &met, Trouble::Unread(error.text));
                    }
                    return;
                }
                if let Some(Source::Run(cursor)) =
                    self.merge_slot(kind).as_mut().and_then(|merge| merge.sources.get_mut(source))
                {
                    cursor.reading = false;
                    cursor.skip_block();
                }
            }
            _ => return,
        }
        let Some(merge) = self.merge_slot(kind) else {
            return;
        };
        let is_waiting = |source: &Source| matches!(source, Source::Run(cursor) if cursor.reading);
        if !merge.sources.iter().any(is_waiting) {
            self.make_piece(cx, kind);
        }
    }

    /// No space: what was written of the tables is removed; the merge starts anew later.
    pub(super) fn abandon(&mut self, cx: &mut StoreCx<'_>, kind: MergeKind) {
        if let Some(merge) = self.merge_slot(kind).take() {
            self.remove_made(cx, &merge);
            self.levels_changed = true;
        }
    }

    /// A block of an input is damaged: the tables stay as they are until the damage is repaired.
    fn abandon_damaged(&mut self, cx: &mut StoreCx<'_>, merge: &Merge, cursor: &Cursor, trouble: Trouble) {
        self.remove_made(cx, merge);
        if let Some((table, at)) = cursor.place() {
            self.report_damage(cx, &table, at, trouble);
        }
        self.levels_changed = true;
    }
}
