//! Starting: everything is read and verified before anything is written.

use super::manifest::{MANIFEST, State};
use super::table::{FOOTER, Footer, Table, TableMeta};
use super::wal::{self, PAGE, Segment};
use super::{Purpose, Store, StoreCx, StoreEvent, wal_file};
use crate::base::planted::{self, Bug};
use crate::base::{Counter, Ticket};
use crate::io::{DiskErrorKind, DiskOp, DiskResult, FileInfo, FileKind, FileName};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes of the log read at a time.
const CHUNK: u64 = 1 << 20;

#[derive(Debug, Clone)]
pub(super) struct Recovery {
    fresh: bool,
    stage: Stage,
    /// What each read in flight is for.
    waiting: BTreeMap<Ticket, Wanted>,
    files: Vec<FileInfo>,
    state: State,
    opening: BTreeMap<u64, Opening>,
    segments: BTreeMap<u64, Segment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    List,
    Manifest,
    Tables,
    Log,
    /// From here on the directory is written to.
    Clean,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Whole,
    Footer(u64),
    Filter(u64),
    Index(u64),
    Pages { segment: u64, offset: u64, len: u64 },
}

#[derive(Debug, Clone, Default)]
struct Opening {
    footer: Bytes,
    filter: Bytes,
    index: Bytes,
}

impl Store {
    /// Starts recovery. `fresh`: the directory has no identity yet; then tables or a WAL with pages are damage.
    pub fn boot(&mut self, cx: &mut StoreCx<'_>, fresh: bool) {
        self.recovery = Some(Recovery {
            fresh,
            stage: Stage::List,
            waiting: BTreeMap::new(),
            files: Vec::new(),
            state: State::default(),
            opening: BTreeMap::new(),
            segments: BTreeMap::new(),
        });
        self.want(cx, Wanted::Whole, DiskOp::List);
    }

    fn want(&mut self, cx: &mut StoreCx<'_>, wanted: Wanted, op: DiskOp) {
        self.disk(cx, Purpose::Recovery, op);
        let ticket = Ticket(self.tickets);
        if let Some(recovery) = &mut self.recovery {
            recovery.waiting.insert(ticket, wanted);
        }
    }

    pub(super) fn on_recovery(
        &mut self,
        cx: &mut StoreCx<'_>,
        ticket: Ticket,
        file: FileName,
        result: DiskResult,
    ) {
        let Some(recovery) = &mut self.recovery else {
            return;
        };
        let Some(wanted) = recovery.waiting.remove(&ticket) else {
            return;
        };
        if let Err(reason) = recovery.take(wanted, file, result) {
            return cx.events.push(StoreEvent::Fatal(reason));
        }
        if let Wanted::Pages { segment, offset, len } = wanted
            && offset + CHUNK < len
        {
            self.read_pages(cx, segment, offset + CHUNK, len);
        }
        while self.recovery.as_ref().is_some_and(|recovery| recovery.waiting.is_empty()) {
            if let Err(reason) = self.next_stage(cx) {
                return cx.events.push(StoreEvent::Fatal(reason));
            }
        }
    }

    fn next_stage(&mut self, cx: &mut StoreCx<'_>) -> Result<(), String> {
        let Some(recovery) = &mut self.recovery else {
            return Ok(());
        };
        match recovery.stage {
            Stage::List => {
                recovery.stage = Stage::Manifest;
                match recovery.files.iter().find(|info| info.file == MANIFEST) {
                    Some(info) => {
                        let len = info.len as u32;
                        self.want(cx, Wanted::Whole, DiskOp::Read { file: MANIFEST, offset: 0, len });
                    }
                    None => recovery.check_without_manifest()?,
                }
            }
            Stage::Manifest => {
                recovery.stage = Stage::Tables;
                let tables = recovery.state.tables.clone();
                for meta in &tables {
                    recovery.check_table(meta)?;
                }
                for meta in tables {
                    let offset = meta.len - FOOTER as u64;
                    let op = DiskOp::Read { file: meta.file(), offset, len: FOOTER as u32 };
                    self.want(cx, Wanted::Footer(meta.number), op);
                }
            }
            Stage::Tables => self.open_tables(cx)?,
            Stage::Log => self.replay(cx)?,
            Stage::Clean => {
                recovery.stage = Stage::Done;
                // Nothing else exists yet in a fresh directory: a torn first manifest makes it fresh again, since the
                // identity comes last.
                if recovery.fresh {
                    let (next_file, first_group) = (self.next_file, self.first_group);
                    let data = State { next_file, first_group, ..State::default() }.encode();
                    let op = DiskOp::Write { file: MANIFEST, offset: 0, data, sync: true };
                    self.want(cx, Wanted::Whole, op);
                }
            }
            Stage::Done => {
                self.recovery = None;
                self.serving = true;
                cx.events.push(StoreEvent::Recovered);
            }
        }
        Ok(())
    }

    /// Asks for filters and indexes where footers have come; then opens the tables and goes on to the log.
    fn open_tables(&mut self, cx: &mut StoreCx<'_>) -> Result<(), String> {
        let Some(recovery) = &mut self.recovery else {
            return Ok(());
        };
        let tables = recovery.state.tables.clone();
        let mut reads = Vec::new();
        for meta in &tables {
            let opening = recovery.opening.entry(meta.number).or_default();
            let footer = Footer::decode(meta.number, meta.len, &opening.footer)?;
            if opening.filter.is_empty() {
                let part = |(offset, len)| DiskOp::Read { file: meta.file(), offset, len };
                reads.push((Wanted::Filter(meta.number), part(footer.filter)));
                reads.push((Wanted::Index(meta.number), part(footer.index)));
            } else {
                let table = Table::open(meta.clone(), &footer, &opening.filter, &opening.index)?;
                self.tables.push(Arc::new(table));
            }
        }
        if !reads.is_empty() {
            for (wanted, op) in reads {
                self.want(cx, wanted, op);
            }
            return Ok(());
        }
        recovery.stage = Stage::Log;
        let first = recovery.state.first_segment;
        let is_live = |info: &&FileInfo| info.file.kind == FileKind::Wal && info.file.number >= first;
        let segments: Vec<FileInfo> = recovery.files.iter().filter(is_live).copied().collect();
        recovery.segments =
            segments.iter().map(|info| (info.file.number, Segment::new(info.file.number))).collect();
        for info in segments {
            if info.len > 0 {
                self.read_pages(cx, info.file.number, 0, info.len);
            }
        }
        Ok(())
    }

    fn read_pages(&mut self, cx: &mut StoreCx<'_>, segment: u64, offset: u64, len: u64) {
        let op = DiskOp::Read { file: wal_file(segment), offset, len: CHUNK.min(len - offset) as u32 };
        self.want(cx, Wanted::Pages { segment, offset, len }, op);
    }

    /// Everything has been read: replays the log, and begins to write.
    fn replay(&mut self, cx: &mut StoreCx<'_>) -> Result<(), String> {
        let Some(recovery) = &mut self.recovery else {
            return Ok(());
        };
        let first_group = recovery.state.first_group.max(1);
        let segments: Vec<Segment> = recovery.segments.values().cloned().collect();
        if recovery.fresh && segments.iter().any(|segment| !segment.is_empty()) {
            return Err(without_identity());
        }
        let replayed = wal::replay(&segments, first_group, planted::on(Bug::WalRecoveryDropsTail))?;
        recovery.stage = Stage::Clean;
        let files = recovery.files.clone();
        let live: Vec<u64> = recovery.state.tables.iter().map(|table| table.number).collect();
        let highest = files.iter().map(|info| info.file.number).max().unwrap_or(0);
        self.next_file = recovery.state.next_file.max(highest + 1);
        self.first_group = first_group;
        self.first_segment = recovery.state.first_segment;
        let has_manifest = files.iter().any(|info| info.file == MANIFEST);
        if replayed.torn {
            cx.counters.add(Counter::TornTailCut);
        }
        for (key, entry) in replayed.changes {
            if self.active.get(&key).is_none_or(|held| entry.beats(held)) {
                self.active.insert(key, entry);
            }
        }
        let used: Vec<u64> =
            segments.iter().filter(|segment| !segment.is_empty()).map(|segment| segment.number).collect();
        let (group, segment) = (replayed.last_group, used.last().copied().unwrap_or(0));
        self.tail = Some(wal::Tail { segment, offset: 0, capacity: 0, follows: group, group, synced: group });
        self.rotate = true;
        self.clean(cx, &files, &live, &used, has_manifest);
        self.segments = used;
        Ok(())
    }

    /// Removes what is not live and makes durable what was read.
    fn clean(
        &mut self,
        cx: &mut StoreCx<'_>,
        files: &[FileInfo],
        live: &[u64],
        used: &[u64],
        has_manifest: bool,
    ) {
        for info in files {
            let FileName { kind, number } = info.file;
            let stale = match kind {
                FileKind::Temp => true,
                FileKind::Table => !live.contains(&number),
                FileKind::Wal => !used.contains(&number),
                FileKind::Identity | FileKind::Ceiling | FileKind::Manifest => false,
            };
            if stale {
                self.want(cx, Wanted::Whole, DiskOp::Remove { file: info.file });
            }
        }
        for segment in used {
            self.want(cx, Wanted::Whole, DiskOp::Sync { file: wal_file(*segment) });
        }
        if !has_manifest {
            self.want(cx, Wanted::Whole, DiskOp::Create { file: MANIFEST, preallocate: 0 });
        }
        self.want(cx, Wanted::Whole, DiskOp::SyncDir);
    }
}

fn without_identity() -> String {
    format!(
        "{}: missing, although the directory holds data; restore the file from a copy, or replace this node by one \
         with a new id",
        FileName::new(FileKind::Identity, 0)
    )
}

impl Recovery {
    fn take(&mut self, wanted: Wanted, file: FileName, result: DiskResult) -> Result<(), String> {
        match (wanted, result) {
            (Wanted::Whole, DiskResult::Files(files)) => self.files = files,
            (Wanted::Whole, DiskResult::Data(data)) => {
                // A fresh directory whose first start ended early may hold a manifest that was never finished.
                self.state = match State::decode(&data) {
                    Err(_) if self.fresh => State::default(),
                    decoded => decoded?,
                };
                if self.fresh && !self.state.tables.is_empty() {
                    return Err(without_identity());
                }
            }
            (Wanted::Footer(number), DiskResult::Data(data)) => {
                self.opening.entry(number).or_default().footer = data;
            }
            (Wanted::Filter(number), DiskResult::Data(data)) => {
                self.opening.entry(number).or_default().filter = data;
            }
            (Wanted::Index(number), DiskResult::Data(data)) => {
                self.opening.entry(number).or_default().index = data;
            }
            (Wanted::Pages { segment, .. }, DiskResult::Data(data)) => {
                let whole = data.len() - data.len() % PAGE;
                self.segments
                    .entry(segment)
                    .or_insert_with(|| Segment::new(segment))
                    .add(&data.slice(..whole));
            }
            (_, DiskResult::Failed(error))
                if self.stage == Stage::Clean && error.kind == DiskErrorKind::NotFound => {}
            (_, DiskResult::Failed(error)) => {
                return Err(format!(
                    "{file}: cannot recover: {}; check the disk and start again",
                    error.text
                ));
            }
            _ => {}
        }
        Ok(())
    }

    fn check_without_manifest(&self) -> Result<(), String> {
        let has_table = self.files.iter().any(|info| info.file.kind == FileKind::Table);
        match (self.fresh, has_table) {
            (true, false) => Ok(()),
            (true, true) => Err(without_identity()),
            (false, _) => Err(format!(
                "{MANIFEST}: missing; restore the file from a copy, or replace this node by one with a new id"
            )),
        }
    }

    fn check_table(&self, meta: &TableMeta) -> Result<(), String> {
        let found = self.files.iter().find(|info| info.file == meta.file());
        let what = match found {
            None => "missing",
            Some(info) if info.len < meta.len || meta.len < FOOTER as u64 => "truncated",
            Some(_) => return Ok(()),
        };
        Err(format!(
            "{}: {what}; restore the file from a copy, or replace this node by one with a new id",
            meta.file()
        ))
    }
}
