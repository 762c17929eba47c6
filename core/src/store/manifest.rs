//! Which files are live: an edit log, one group of pages per edit (see `log`), replaced as a whole now and then by write,
//! sync, rename and directory sync. A crash at any point leaves the old or the new state; files are removed only after
//! the state without them is durable.

use super::log::{self, End, PAGE, Place, Segment};
use super::purpose::MANIFEST;
use super::spans::Spans;
use super::table::{Table, TableMeta};
use super::values::ValueMeta;
use super::{Purpose, Store, StoreCx, StoreEvent, wal_file};
use crate::base::{Counter, Slot};
use crate::io::{DiskOp, FileKind, FileName};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Pages after which the edit log is replaced by one edit, if that is much shorter.
const PAGES_MAX: u64 = 64;

/// A change of the set of live files; the first of a manifest makes the whole set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Edit {
    removed: Vec<u64>,
    added: Vec<TableMeta>,
    /// Segments of the log that are no longer needed, and new ones with their capacity.
    segments_removed: Vec<u64>,
    segments_added: Vec<(u64, u64)>,
    /// New value files, and new ends of old ones; then those that no table points to.
    values_added: Vec<ValueMeta>,
    values_removed: Vec<u64>,
    /// Slots whose entries count as not there in every table so far, and in every group of the log up to the one named.
    dropped: Vec<(u16, u64)>,
    /// No file has this number or a higher one.
    next_file: u64,
    /// The first commit group that is not in a table.
    first_group: u64,
    /// R6: the suspect stretches from here on, where they have changed. Stands behind the rest, so that an edit without
    /// it reads as one of the time before there were any.
    #[serde(skip)]
    suspects: Option<Spans>,
}

/// The live files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct State {
    pub(super) tables: Vec<TableMeta>,
    /// Segments of the log with their capacity, in order.
    pub(super) segments: Vec<(u64, u64)>,
    pub(super) values: Vec<ValueMeta>,
    /// Slots dropped while the log still held entries of theirs, up to these groups.
    pub(super) dropped: Vec<(u16, u64)>,
    pub(super) next_file: u64,
    pub(super) first_group: u64,
    pub(super) suspects: Spans,
}

impl State {
    fn apply(&mut self, edit: Edit) {
        self.tables.retain(|table| !edit.removed.contains(&table.number));
        for table in &mut self.tables {
            table.drop_slots(&edit.dropped);
        }
        self.dropped.extend(&edit.dropped);
        self.dropped.retain(|(_, group)| *group >= edit.first_group);
        self.tables.extend(edit.added);
        let is_replaced = |meta: &ValueMeta| edit.values_added.iter().any(|new| new.number == meta.number);
        self.values.retain(|meta| !is_replaced(meta));
        self.values.extend(&edit.values_added);
        self.values.retain(|meta| !edit.values_removed.contains(&meta.number));
        self.segments.retain(|(number, _)| !edit.segments_removed.contains(number));
        self.segments.extend(edit.segments_added);
        (self.next_file, self.first_group) = (edit.next_file, edit.first_group);
        if let Some(suspects) = edit.suspects {
            self.suspects = suspects;
        }
    }

    fn as_edit(&self) -> Edit {
        Edit {
            added: self.tables.clone(),
            segments_added: self.segments.clone(),
            values_added: self.values.clone(),
            dropped: self.dropped.clone(),
            next_file: self.next_file,
            first_group: self.first_group,
            suspects: Some(self.suspects.clone()).filter(|suspects| !suspects.is_empty()),
            ..Edit::default()
        }
    }

    /// A whole manifest of this state.
    pub(super) fn encode(&self, generation: u64) -> Bytes {
        self.as_edit().encode(generation, 0, 1)
    }

    /// The state that a manifest's edits make, and its generation.
    pub(super) fn decode(data: &Bytes) -> Result<(Self, u64), String> {
        let bad = || {
            format!(
                "{MANIFEST}: damaged; restore the file from a copy, or replace this node by one with a new id"
            )
        };
        let generation = log::number_in(FileKind::Manifest, data).ok_or_else(bad)?;
        let mut segment = Segment::new(FileName::new(FileKind::Manifest, generation));
        segment.add(data);
        segment
            .check_version()
            .map_err(|reason| reason.replace(&format!("{}", segment.file), &format!("{MANIFEST}")))?;
        let mut state = Self::default();
        let (last, end) = segment.walk(u64::MAX, |_, payload| {
            state.apply(Edit::decode(payload).ok_or_else(bad)?);
            Ok::<(), String>(())
        })?;
        if last == 0 || last < segment.synced() || end == End::Damaged {
            return Err(bad());
        }
        Ok((state, generation))
    }
}

impl Edit {
    fn decode(payload: &[u8]) -> Option<Self> {
        let (mut edit, rest): (Self, &[u8]) = postcard::take_from_bytes(payload).ok()?;
        if !rest.is_empty() {
            edit.suspects = Some(postcard::from_bytes(rest).ok()?);
        }
        Some(edit)
    }

    fn encode(&self, generation: u64, page: u64, group: u64) -> Bytes {
        let mut body = postcard::to_allocvec(self).unwrap_or_default();
        assert!(!body.is_empty(), "encoding into memory failed");
        if let Some(suspects) = &self.suspects {
            body = postcard::to_extend(suspects, body).unwrap_or_default();
            assert!(!body.is_empty(), "encoding into memory failed");
        }
        let place = Place { group, follows: 0, synced: group - 1 };
        log::encode_group(FileName::new(FileKind::Manifest, generation), page, place, &body)
    }
}

/// What an install is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InstallKind {
    Flush,
    Compaction,
    /// A trivial move.
    Move,
    /// Slots are dropped.
    Drop,
    /// Tables go of which nothing is left but what was dropped.
    Clear,
    /// A new segment of the log.
    Segment,
    /// R6: suspect stretches came or went.
    Suspicion,
    /// Tables that cannot be opened, and whose keys are healed, go.
    Broken,
}

/// A change on its way into the manifest.
#[derive(Debug, Clone)]
pub(super) struct Install {
    pub(super) kind: InstallKind,
    pub(super) added: Vec<Arc<Table>>,
    pub(super) removed: Vec<u64>,
    /// A flush: segments up to this one and groups up to this one are not needed any more.
    pub(super) covers: Option<(u64, u64)>,
    pub(super) segment: Option<(u64, u64)>,
    /// Value files written, with their new ends, and those that go with this change.
    pub(super) values: Vec<ValueMeta>,
    pub(super) values_removed: Vec<u64>,
    /// Slots dropped, each with the last group of the log that may hold entries of its.
    pub(super) dropped: Vec<(u16, u64)>,
}

impl Install {
    pub(super) fn new(kind: InstallKind) -> Self {
        Self {
            kind,
            added: Vec::new(),
            removed: Vec::new(),
            covers: None,
            segment: None,
            values: Vec::new(),
            values_removed: Vec::new(),
            dropped: Vec::new(),
        }
    }
}

/// What is done next for the install under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The tables' own names must be durable before a manifest that names them.
    Names,
    Append,
    CreateTemp(FileName),
    WriteTemp(FileName),
    Rename,
    Replaced,
}

/// An install on its way to the disk.
#[derive(Debug, Clone)]
pub(super) struct Installing {
    pub(super) install: Install,
    stage: Stage,
    pages: u64,
}

/// The end of the edit log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ManifestTail {
    pub(super) generation: u64,
    pub(super) pages: u64,
    pub(super) group: u64,
    /// A failed write may have left something at the end: the next edit replaces the whole.
    is_spoilt: bool,
}

impl ManifestTail {
    /// A manifest that has just been replaced, of so many bytes.
    pub(super) fn replaced(generation: u64, bytes: usize) -> Self {
        Self { generation, pages: (bytes / PAGE) as u64, group: 1, is_spoilt: false }
    }
}

impl Store {
    /// Begins the next install if none is under way.
    pub(super) fn start_install(&mut self, cx: &mut StoreCx<'_>) {
        if self.installing.is_some() || self.full_until.is_some() {
            return;
        }
        let Some(mut install) = self.installs.pop_front() else {
            return;
        };
        self.retire_values(&mut install);
        let has_new_names = matches!(install.kind, InstallKind::Flush | InstallKind::Compaction);
        self.installing = Some(Installing { install, stage: Stage::Names, pages: 0 });
        if has_new_names {
            return self.disk(cx, Purpose::Manifest, DiskOp::SyncDir);
        }
        self.on_manifest_step(cx);
    }

    /// Whether the change on its way lets a value file go.
    pub(super) fn installing_removes(&self, number: u64) -> bool {
        self.installing.as_ref().is_some_and(|installing| installing.install.values_removed.contains(&number))
    }

    /// Which value files go with an install: those that no table points to any more and no other merge appends to.
    fn retire_values(&self, install: &mut Install) {
        let known = self.levels.all().map(|table| &table.meta).chain(self.suspicion.broken.values());
        let removed = known.filter(|meta| install.removed.contains(&meta.number));
        let added = install.added.iter().map(|table| &table.meta);
        let mut dead = self.values.dead_after(removed, added);
        let flush = self.flush.as_ref().filter(|_| install.kind != InstallKind::Flush);
        let compaction = self.compaction.as_ref().filter(|_| install.kind != InstallKind::Compaction);
        for merge in flush.into_iter().chain(compaction) {
            dead.retain(|number| !merge.appends_to(*number));
        }
        install.values_removed = dead;
    }

    pub(super) fn take_file_number(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file - 1
    }

    pub(super) fn on_manifest_step(&mut self, cx: &mut StoreCx<'_>) {
        let Some(mut installing) = self.installing.take() else {
            return;
        };
        let replace = self.manifest.is_spoilt || self.manifest.pages >= PAGES_MAX;
        let (stage, op) = match installing.stage {
            Stage::Names if replace => {
                let temp = FileName::new(FileKind::Temp, self.take_file_number());
                (Stage::CreateTemp(temp), DiskOp::Create { file: temp, preallocate: 0 })
            }
            Stage::Names => {
                let ManifestTail { generation, pages, group, .. } = self.manifest;
                let data = self.edit_of(&installing.install).encode(generation, pages, group + 1);
                installing.pages = (data.len() / PAGE) as u64;
                let offset = pages * PAGE as u64;
                (Stage::Append, DiskOp::Write { file: MANIFEST, offset, data, sync: true })
            }
            Stage::CreateTemp(temp) => {
                let mut state = self.state();
                state.apply(self.edit_of(&installing.install));
                let data = state.encode(self.manifest.generation + 1);
                installing.pages = (data.len() / PAGE) as u64;
                (Stage::WriteTemp(temp), DiskOp::Write { file: temp, offset: 0, data, sync: true })
            }
            Stage::WriteTemp(temp) => (Stage::Rename, DiskOp::Rename { from: temp, to: MANIFEST }),
            Stage::Rename => (Stage::Replaced, DiskOp::SyncDir),
            Stage::Append => {
                self.manifest.pages += installing.pages;
                self.manifest.group += 1;
                return self.on_installed(cx, &installing.install);
            }
            Stage::Replaced => {
                let generation = self.manifest.generation + 1;
                self.manifest = ManifestTail::replaced(generation, installing.pages as usize * PAGE);
                return self.on_installed(cx, &installing.install);
            }
        };
        installing.stage = stage;
        self.installing = Some(installing);
        self.disk(cx, Purpose::Manifest, op);
    }

    /// The state as it is installed.
    pub(super) fn state(&self) -> State {
        State {
            tables: self.known_tables(),
            segments: self.segments.clone(),
            values: self.values.metas(),
            dropped: self.dropped.clone(),
            next_file: self.next_file,
            first_group: self.first_group,
            suspects: self.suspicion.target(),
        }
    }

    /// The live tables, and those that cannot be opened.
    fn known_tables(&self) -> Vec<TableMeta> {
        let live = self.levels.all().map(|table| table.meta.clone());
        live.chain(self.suspicion.broken.values().cloned()).collect()
    }

    fn edit_of(&self, install: &Install) -> Edit {
        let covered = |segment: &u64| install.covers.is_some_and(|(upto, _)| *segment <= upto);
        Edit {
            removed: install.removed.clone(),
            added: install.added.iter().map(|table| table.meta.clone()).collect(),
            segments_removed: self.segments.iter().map(|(number, _)| *number).filter(covered).collect(),
            segments_added: install.segment.into_iter().collect(),
            values_added: install.values.clone(),
            values_removed: install.values_removed.clone(),
            dropped: install.dropped.clone(),
            next_file: self.next_file,
            first_group: install.covers.map_or(self.first_group, |(_, group)| group + 1),
            suspects: (install.kind == InstallKind::Suspicion).then(|| self.suspicion.target()),
        }
    }

    /// No space for the manifest: tried again later, as a whole.
    pub(super) fn retry_install(&mut self, cx: &mut StoreCx<'_>) {
        if let Some(installing) = self.installing.take() {
            match installing.stage {
                Stage::CreateTemp(file) | Stage::WriteTemp(file) => {
                    self.disk(cx, Purpose::Remove, DiskOp::Remove { file });
                }
                Stage::Append => self.manifest.is_spoilt = true,
                Stage::Names | Stage::Rename | Stage::Replaced => {}
            }
            self.installs.push_front(installing.install);
        }
    }

    fn on_installed(&mut self, cx: &mut StoreCx<'_>, install: &Install) {
        self.values.extend(&install.values);
        let known = self.levels.all().map(|table| &table.meta).chain(self.suspicion.broken.values());
        for meta in known.filter(|meta| install.removed.contains(&meta.number)) {
            self.values.discount(meta);
        }
        for table in &install.added {
            self.values.count(&table.meta);
        }
        for number in &install.values_removed {
            self.values.remove(*number);
            self.doomed.push(FileName::new(FileKind::Value, *number));
        }
        self.levels.change(&install.removed, &install.added);
        self.levels_changed = true;
        self.fit_cache();
        if install.kind != InstallKind::Move {
            self.doomed.extend(install.removed.iter().map(|number| FileName::new(FileKind::Table, *number)));
        }
        for number in &install.removed {
            if !install.added.iter().any(|table| table.meta.number == *number) {
                self.forget_damage(*number);
            }
        }
        if let Some((segment, group)) = install.covers {
            self.version += 1;
            self.first_group = group + 1;
            self.dropped.retain(|(_, upto)| *upto > group);
            let (gone, held): (Vec<_>, _) = self.segments.iter().partition(|(number, _)| *number <= segment);
            self.segments = held;
            for (number, capacity) in gone {
                // A segment of an earlier life may hold groups that recovery cut: it is not used again.
                if number >= self.life_from {
                    self.free.push((number, capacity));
                } else {
                    self.doomed.push(wal_file(number));
                }
            }
            self.frozen.pop_front();
        }
        match install.kind {
            InstallKind::Flush => {
                self.flush = None;
                self.take_snapshots(cx);
                cx.counters.add(Counter::MemtableFlushed);
            }
            InstallKind::Compaction => self.on_compacted(cx),
            InstallKind::Move => {
                self.moving = false;
                self.stats.tables_moved += install.added.len() as u64;
            }
            InstallKind::Drop => {
                let slots = install.dropped.iter().map(|(slot, _)| Slot(*slot)).collect();
                cx.events.push(StoreEvent::Dropped { slots });
            }
            InstallKind::Clear => self.moving = false,
            InstallKind::Segment => {
                self.segments.extend(install.segment);
                self.spare = install.segment;
                self.creating = None;
            }
            InstallKind::Suspicion => self.on_suspicion_installed(cx),
            InstallKind::Broken => self.on_broken_gone(&install.removed),
        }
        self.remove_doomed(cx);
        self.start_install(cx);
    }

    fn on_compacted(&mut self, cx: &mut StoreCx<'_>) {
        if let Some(compaction) = self.compaction.take() {
            if compaction.has_collected {
                self.hot.forget_expiring();
            }
            self.on_values_left(&compaction.lost);
        }
        cx.counters.add(Counter::CompactionFinished);
    }

    /// Removes files that nobody reads any more; keeps a few segments of the log to be used again.
    pub(super) fn remove_doomed(&mut self, cx: &mut StoreCx<'_>) {
        let doomed = core::mem::take(&mut self.doomed);
        for file in doomed {
            let is_used = match file.kind {
                FileKind::Table | FileKind::Value => {
                    self.reads.values().any(|job| job.uses(file.number))
                        || self.scrub_uses(file.number)
                        || self.snapshots.uses(file.number)
                }
                FileKind::Wal => self.tail.is_some_and(|tail| tail.segment == file.number),
                _ => false,
            };
            if is_used {
                self.doomed.push(file);
            } else {
                self.disk(cx, Purpose::Remove, DiskOp::Remove { file });
            }
        }
        self.remove_free_segments(cx);
    }

    /// The log's last segment stays until the log goes on in the next: it may be written or synced right now.
    fn remove_free_segments(&mut self, cx: &mut StoreCx<'_>) {
        const KEPT: usize = 2;
        let kept = if self.is_short_of_space() { 0 } else { KEPT };
        let tail = self.tail.map(|tail| tail.segment);
        while self.free.len() > kept {
            let Some(at) = self.free.iter().position(|(number, _)| Some(*number) != tail) else {
                return;
            };
            let (number, _) = self.free.remove(at);
            self.disk(cx, Purpose::Remove, DiskOp::Remove { file: wal_file(number) });
        }
    }
}
