//! Starting: everything is read and verified before anything is written.

use super::entry::{self, Rank};
use super::log::Segment;
use super::manifest::{ManifestTail, State};
use super::purpose::MANIFEST;
use super::table::{FOOTER, Footer, Table, TableMeta};
use super::values::{self, HEADER, ValueMeta};
use super::wal::{self, Replayed};
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

/// Bytes of the log, or of a table's filters and indexes, read at a time.
const CHUNK: u64 = 1 << 20;

#[derive(Debug, Clone)]
pub(super) struct Recovery {
    fresh: bool,
    stage: Stage,
    /// What each operation in flight is for.
    waiting: BTreeMap<Ticket, Wanted>,
    files: Vec<FileInfo>,
    state: State,
    generation: u64,
    opening: BTreeMap<u64, Opening>,
    segments: BTreeMap<u64, Segment>,
    /// The new manifest until it has its name.
    temp: FileName,
    /// R6: tables that cannot be opened, with the reason.
    broken: BTreeMap<u64, String>,
    /// R6: value files that are not whole.
    values_broken: BTreeMap<u64, String>,
    /// R6: what was found first of the log that is missing or damaged.
    log_damage: Option<(FileName, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    List,
    Manifest,
    Tables,
    Log,
    /// From here on the directory is written to. First what was read is made durable.
    Settle,
    /// Then a manifest of it is written beside the old one, and takes its place.
    Create,
    Write,
    Rename,
    Name,
    /// Then what is not live goes.
    Clean,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Done,
    Files,
    Manifest,
    Footer(u64),
    /// The header of a value file.
    Values(u64),
    /// A piece of a table's filters and indexes: where it begins and where the last ends.
    Parts {
        number: u64,
        offset: u64,
        end: u64,
    },
    Pages {
        segment: u64,
        offset: u64,
        len: u64,
    },
}

#[derive(Debug, Clone, Default)]
struct Opening {
    footer: Bytes,
    parts: Vec<u8>,
}

fn another_copy(file: FileName, what: &str) -> String {
    format!("{file}: {what}; restore the file from a copy, or replace this node by one with a new id")
}

fn without_identity() -> String {
    another_copy(FileName::new(FileKind::Identity, 0), "missing, although the directory holds data")
}

impl Store {
    /// Starts recovery. `fresh`: the directory has no identity yet; then tables or a WAL with pages are damage.
    pub fn boot(&mut self, cx: &mut StoreCx<'_>, fresh: bool) {
        self.recovery = Some(Recovery {
            fresh,
            stage: Stage::List,
            waiting: BTreeMap::new(),
            files: Vec::new(),
            state: State { next_file: 1, first_group: 1, ..State::default() },
            generation: 0,
            opening: BTreeMap::new(),
            segments: BTreeMap::new(),
            temp: FileName::new(FileKind::Temp, 0),
            broken: BTreeMap::new(),
            values_broken: BTreeMap::new(),
            log_damage: None,
        });
        self.want(cx, Wanted::Files, DiskOp::List);
    }

    fn read_headers(&mut self, cx: &mut StoreCx<'_>) {
        let values = self.recovery.as_ref().map(|recovery| recovery.state.values.clone());
        for ValueMeta { number, .. } in values.unwrap_or_default() {
            let file = FileName::new(FileKind::Value, number);
            let op = DiskOp::Read { file, offset: 0, len: HEADER as u32 };
            self.want(cx, Wanted::Values(number), op);
        }
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
        match wanted {
            Wanted::Pages { segment, offset, len } if offset + CHUNK < len => {
                self.read_pages(cx, segment, offset + CHUNK, len);
            }
            Wanted::Parts { number, offset, end } if offset + CHUNK < end => {
                self.read_parts(cx, number, offset + CHUNK, end);
            }
            _ => {}
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
        let (stage, temp) = (recovery.stage, recovery.temp);
        match stage {
            Stage::List => {
                recovery.stage = Stage::Manifest;
                match recovery.files.iter().find(|info| info.file == MANIFEST) {
                    Some(info) => {
                        let len = info.len as u32;
                        self.want(cx, Wanted::Manifest, DiskOp::Read { file: MANIFEST, offset: 0, len });
                    }
                    None => recovery.check_without_manifest()?,
                }
            }
            Stage::Manifest => {
                recovery.stage = Stage::Tables;
                recovery.check_files()?;
                for meta in recovery.sound_tables() {
                    let offset = meta.len - FOOTER as u64;
                    let op = DiskOp::Read { file: meta.file(), offset, len: FOOTER as u32 };
                    self.want(cx, Wanted::Footer(meta.number), op);
                }
                self.read_headers(cx);
            }
            Stage::Tables => self.open_tables(cx)?,
            Stage::Log => {
                self.replay(cx)?;
                self.settle_log(cx);
            }
            Stage::Settle => {
                recovery.stage = Stage::Create;
                self.want(cx, Wanted::Done, DiskOp::Create { file: temp, preallocate: 0 });
            }
            Stage::Create => {
                recovery.stage = Stage::Write;
                let generation = recovery.generation + 1;
                let data = self.state().encode(generation);
                self.manifest = ManifestTail::replaced(generation, data.len());
                self.want(cx, Wanted::Done, DiskOp::Write { file: temp, offset: 0, data, sync: true });
            }
            Stage::Write => {
                recovery.stage = Stage::Rename;
                self.want(cx, Wanted::Done, DiskOp::Rename { from: temp, to: MANIFEST });
            }
            Stage::Rename => {
                recovery.stage = Stage::Name;
                self.want(cx, Wanted::Done, DiskOp::SyncDir);
            }
            Stage::Name => {
                recovery.stage = Stage::Clean;
                self.clean(cx);
            }
            Stage::Clean => {
                recovery.stage = Stage::Done;
                self.want(cx, Wanted::Done, DiskOp::SyncDir);
            }
            Stage::Done => self.serve(cx),
        }
        Ok(())
    }

    /// Recovery is over.
    fn serve(&mut self, cx: &mut StoreCx<'_>) {
        let is_log_damaged = self.recovery.take().is_some_and(|recovery| recovery.log_damage.is_some());
        self.serving = true;
        self.levels_changed = true;
        self.fit_cache();
        cx.events.push(StoreEvent::Recovered);
        self.tell_found(cx);
        if let (true, Some(tail)) = (is_log_damaged, self.tail) {
            // What was whole goes into a table, so that the damaged segments can go.
            self.freeze(Some(tail.segment), tail.group);
        }
    }

    /// Asks for filters and indexes where footers have come; then opens the tables and goes on to the log.
    fn open_tables(&mut self, cx: &mut StoreCx<'_>) -> Result<(), String> {
        let Some(recovery) = &mut self.recovery else {
            return Ok(());
        };
        let (mut reads, mut opened) = (Vec::new(), Vec::new());
        for meta in recovery.sound_tables() {
            let opening = recovery.opening.entry(meta.number).or_default();
            Footer::check_version(meta.number, meta.len, &opening.footer)?;
            let footer = match Footer::decode(meta.number, meta.len, &opening.footer) {
                Ok(footer) => footer,
                Err(reason) => {
                    recovery.broken.insert(meta.number, reason);
                    continue;
                }
            };
            if opening.parts.is_empty() {
                reads.push((meta.number, footer.parts_at, meta.len - FOOTER as u64));
                continue;
            }
            let parts = Bytes::from(core::mem::take(&mut opening.parts));
            match Table::open(meta.clone(), &footer, &parts) {
                Ok(table) => opened.push(Arc::new(table)),
                Err(reason) => {
                    recovery.broken.insert(meta.number, reason);
                }
            }
        }
        if !reads.is_empty() {
            for (number, offset, end) in reads {
                self.read_parts(cx, number, offset, end);
            }
            return Ok(());
        }
        recovery.stage = Stage::Log;
        recovery.opening.clear();
        for (number, reason) in &recovery.values_broken {
            for meta in recovery.state.tables.iter().filter(|meta| meta.points_to(*number).is_some()) {
                recovery.broken.entry(meta.number).or_insert_with(|| reason.clone());
            }
        }
        opened.retain(|table| !recovery.broken.contains_key(&table.meta.number));
        // The others keep the value files alive that they point to.
        let broken = recovery.state.tables.iter().filter(|meta| recovery.broken.contains_key(&meta.number));
        let broken: Vec<TableMeta> = broken.cloned().collect();
        // Those that the manifest does not name are read, too: they must hold nothing that is not in a table.
        let is_log = |info: &&FileInfo| info.file.kind == FileKind::Wal;
        let segments: Vec<(u64, u64)> =
            recovery.files.iter().filter(is_log).map(|info| (info.file.number, info.len)).collect();
        recovery.segments =
            segments.iter().map(|(number, _)| (*number, Segment::new(wal_file(*number)))).collect();
        self.values.extend(&recovery.state.values);
        for meta in opened.iter().map(|table| &table.meta).chain(&broken) {
            self.values.count(meta);
        }
        self.suspicion.values_broken = recovery.values_broken.keys().copied().collect();
        self.levels.change(&[], &opened);
        for (number, len) in segments.into_iter().filter(|(_, len)| *len > 0) {
            self.read_pages(cx, number, 0, len);
        }
        Ok(())
    }

    fn read_parts(&mut self, cx: &mut StoreCx<'_>, number: u64, offset: u64, end: u64) {
        let file = FileName::new(FileKind::Table, number);
        let op = DiskOp::Read { file, offset, len: CHUNK.min(end - offset) as u32 };
        self.want(cx, Wanted::Parts { number, offset, end }, op);
    }

    fn read_pages(&mut self, cx: &mut StoreCx<'_>, segment: u64, offset: u64, len: u64) {
        let op = DiskOp::Read { file: wal_file(segment), offset, len: CHUNK.min(len - offset) as u32 };
        self.want(cx, Wanted::Pages { segment, offset, len }, op);
    }

    /// Everything has been read: replays the log.
    fn replay(&mut self, cx: &mut StoreCx<'_>) -> Result<(), String> {
        let Some(recovery) = &mut self.recovery else {
            return Ok(());
        };
        let first_group = recovery.state.first_group.max(1);
        let mut segments: Vec<Segment> = core::mem::take(&mut recovery.segments).into_values().collect();
        if recovery.fresh && segments.iter().any(|segment| !segment.is_empty()) {
            return Err(without_identity());
        }
        let is_named = |segment: &Segment| {
            recovery.state.segments.iter().any(|(named, _)| *named == segment.file.number)
        };
        if let Some(lost) =
            segments.iter().find(|segment| !is_named(segment) && segment.is_needed_from(first_group))
        {
            let what = format!("damaged: it does not name {}, which holds acknowledged groups", lost.file);
            return Err(another_copy(MANIFEST, &what));
        }
        for segment in &segments {
            segment.check_foreign(first_group).map_err(|reason| {
                let what = format!("damaged: it does not name {}", segment.file);
                if is_named(segment) { reason } else { another_copy(MANIFEST, &what) }
            })?;
        }
        segments.retain(is_named);
        let is_short = recovery.log_damage.is_some();
        let active = &mut self.active;
        let dropped = &recovery.state.dropped;
        let mut insert = |group: u64, name: &[u8], rank: Rank, body: &[u8]| {
            let is_dropped = |(slot, upto): &(u16, u64)| group <= *upto && entry::slot_of(name) == *slot;
            if !dropped.iter().any(is_dropped) {
                // An entry that is beaten by what is there changes nothing.
                let _beaten = active.insert(name, rank, 0, body);
            }
        };
        let Replayed { last_group, torn, damage } = if planted::on(Bug::WalRecoveryDropsTail) {
            let mut changes = Vec::new();
            let replayed = wal::replay(&segments, first_group, is_short, |group, name, rank, body| {
                changes.push((group, name.to_vec(), rank, body.to_vec()));
            })?;
            changes.pop();
            for (group, name, rank, body) in &changes {
                insert(*group, name, *rank, body);
            }
            replayed
        } else {
            wal::replay(&segments, first_group, is_short, insert)?
        };
        recovery.log_damage = recovery.log_damage.take().or(damage);
        if torn {
            cx.counters.add(Counter::TornTailCut);
        }
        // Groups that come from now on take numbers that a cut tail may have had.
        let dropped = recovery.state.dropped.iter();
        self.dropped = dropped.map(|(slot, upto)| (*slot, (*upto).min(last_group))).collect();
        let highest = recovery.files.iter().map(|info| info.file.number).max().unwrap_or(0);
        self.next_file = recovery.state.next_file.max(highest + 1);
        self.life_from = self.next_file;
        self.first_group = first_group;
        let used = segments.iter().filter(|segment| !segment.is_empty()).map(|segment| segment.file.number);
        let used: Vec<u64> = used.collect();
        let is_used = |(number, _): &&(u64, u64)| used.contains(number);
        self.segments = recovery.state.segments.iter().filter(is_used).copied().collect();
        let segment = used.last().copied().unwrap_or(0);
        let (follows, group, synced) = (last_group, last_group, last_group);
        self.tail = Some(wal::Tail { segment, offset: 0, capacity: 0, follows, group, synced });
        self.rotate = true;
        self.take_damage();
        Ok(())
    }

    /// R6: what has been found, and what an earlier life left, stands in the manifest before anything else is written.
    fn take_damage(&mut self) {
        let Some(recovery) = &mut self.recovery else {
            return;
        };
        if !planted::on(Bug::R6SuspectForgotten) {
            self.suspicion.spans = core::mem::take(&mut recovery.state.suspects);
        }
        for meta in &recovery.state.tables {
            if let Some(reason) = recovery.broken.remove(&meta.number) {
                self.suspicion.table_broken(meta, reason);
            }
        }
        if let Some((file, reason)) = &recovery.log_damage {
            self.suspicion.log_damaged(*file, reason.clone());
        }
    }

    /// Makes durable what was read: it may have been in the system's cache only.
    fn settle_log(&mut self, cx: &mut StoreCx<'_>) {
        let temp = FileName::new(FileKind::Temp, self.take_file_number());
        if let Some(recovery) = &mut self.recovery {
            recovery.stage = Stage::Settle;
            recovery.temp = temp;
        }
        for (segment, _) in self.segments.clone() {
            self.want(cx, Wanted::Done, DiskOp::Sync { file: wal_file(segment) });
        }
        // What was in preparation or in reserve goes first: on a full disk the new manifest needs its space.
        let files = self.recovery.as_ref().map(|recovery| recovery.files.clone()).unwrap_or_default();
        for FileInfo { file, .. } in files.into_iter().filter(|info| info.file.kind == FileKind::Temp) {
            self.want(cx, Wanted::Done, DiskOp::Remove { file });
        }
        self.want(cx, Wanted::Done, DiskOp::SyncDir);
    }

    /// Removes what the manifest does not name.
    fn clean(&mut self, cx: &mut StoreCx<'_>) {
        let files = self.recovery.as_ref().map(|recovery| recovery.files.clone()).unwrap_or_default();
        for FileInfo { file, .. } in files {
            let is_live = match file.kind {
                FileKind::Table => {
                    self.levels.all().any(|table| table.meta.number == file.number)
                        || self.suspicion.broken.contains_key(&file.number)
                }
                FileKind::Value => self.values.contains(file.number),
                FileKind::Wal => self.segments.iter().any(|(number, _)| *number == file.number),
                // What was in preparation has gone since the log was settled.
                FileKind::Identity | FileKind::Ceiling | FileKind::Manifest | FileKind::Temp => true,
            };
            if !is_live {
                self.want(cx, Wanted::Done, DiskOp::Remove { file });
            }
        }
    }
}

impl Recovery {
    fn take(&mut self, wanted: Wanted, file: FileName, result: DiskResult) -> Result<(), String> {
        match (wanted, result) {
            (Wanted::Files, DiskResult::Files(files)) => self.files = files,
            (Wanted::Manifest, DiskResult::Data(data)) => match State::decode(&data) {
                // A fresh directory whose first start ended early may hold a manifest; it names nothing yet.
                Ok((state, generation)) => (self.state, self.generation) = (state, generation),
                Err(_) if self.fresh => {}
                Err(reason) => return Err(reason),
            },
            (Wanted::Footer(number), DiskResult::Data(data)) => {
                self.opening.entry(number).or_default().footer = data;
            }
            (Wanted::Values(number), DiskResult::Data(data)) => {
                values::check_version(number, &data)?;
                if let Err(reason) = values::check_header(number, &data) {
                    self.values_broken.insert(number, reason);
                }
            }
            (Wanted::Parts { number, offset, end }, DiskResult::Data(data)) => {
                if data.len() as u64 != CHUNK.min(end - offset) {
                    self.broken.insert(number, format!("{file}: truncated"));
                }
                self.opening.entry(number).or_default().parts.extend_from_slice(&data);
            }
            (Wanted::Pages { segment, offset, len }, DiskResult::Data(data)) => {
                if data.len() as u64 != CHUNK.min(len - offset) {
                    self.log_damage.get_or_insert_with(|| (file, format!("{file}: truncated")));
                }
                if let Some(segment) = self.segments.get_mut(&segment) {
                    segment.add(&data);
                }
            }
            // It has been found missing.
            (Wanted::Values(number), DiskResult::Failed(error))
                if error.kind == DiskErrorKind::NotFound && self.values_broken.contains_key(&number) => {}
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
        let is_data = |info: &FileInfo| matches!(info.file.kind, FileKind::Table | FileKind::Value);
        let has_data = self.files.iter().any(is_data);
        match (self.fresh, has_data) {
            (true, false) => Ok(()),
            (true, true) => Err(without_identity()),
            (false, _) => Err(another_copy(MANIFEST, "missing")),
        }
    }

    /// Every file that the manifest names must be there in its length: those that are not are damage.
    fn check_files(&mut self) -> Result<(), String> {
        if self.fresh && !self.state.tables.is_empty() {
            return Err(without_identity());
        }
        let files = &self.files;
        let lack = |file: FileName, len: u64| match files.iter().find(|info| info.file == file) {
            None => Some(format!("{file}: missing")),
            Some(info) if info.len < len => Some(format!("{file}: truncated")),
            Some(_) => None,
        };
        for TableMeta { number, len, .. } in &self.state.tables {
            if let Some(reason) = lack(FileName::new(FileKind::Table, *number), (*len).max(FOOTER as u64)) {
                self.broken.insert(*number, reason);
            }
        }
        // The keys whose values stand in a file that is not whole are those of all the tables that point to it.
        let values = self.state.values.iter().map(|meta| (meta.number, meta.len));
        for (number, reason) in values
            .filter_map(|(number, len)| Some((number, lack(FileName::new(FileKind::Value, number), len)?)))
        {
            self.values_broken.insert(number, reason);
        }
        let is_known = |number: &u64| self.state.values.iter().any(|meta| meta.number == *number);
        let mut pointed = self.state.tables.iter().flat_map(|table| table.values.iter().map(|(at, _)| at));
        if let Some(lost) = pointed.find(|number| !is_known(number)) {
            let lost = FileName::new(FileKind::Value, *lost);
            return Err(another_copy(
                MANIFEST,
                &format!("damaged: a table points to {lost}, which it does not name"),
            ));
        }
        // A manifest that has lost its last edits names files that are gone, and not those that took their place.
        let is_named =
            |info: &FileInfo| self.state.tables.iter().any(|table| table.number == info.file.number);
        let other = files.iter().find(|info| info.file.kind == FileKind::Table && !is_named(info));
        let is_there = |file: FileName| files.iter().any(|info| info.file == file);
        let named = self.state.tables.iter().map(TableMeta::file);
        let mut named = named.chain(self.state.segments.iter().map(|(number, _)| wal_file(*number)));
        if let (Some(missing), Some(other)) = (named.find(|file| !is_there(*file)), other) {
            let what = format!("damaged: it names {missing}, which is missing, and not {}", other.file);
            return Err(another_copy(MANIFEST, &what));
        }
        for (number, capacity) in &self.state.segments {
            if let Some(reason) = lack(wal_file(*number), *capacity) {
                self.log_damage.get_or_insert((wal_file(*number), reason));
            }
        }
        Ok(())
    }

    /// The tables that have not been found broken.
    fn sound_tables(&self) -> Vec<TableMeta> {
        let is_sound = |meta: &&TableMeta| !self.broken.contains_key(&meta.number);
        self.state.tables.iter().filter(is_sound).cloned().collect()
    }
}
