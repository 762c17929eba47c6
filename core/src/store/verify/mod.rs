//! Verification of a directory that no node uses: every byte is read, nothing is written, and all that is damaged is
//! listed, where a start would stop at the first.

mod table;

use super::log::{self, Segment};
use super::manifest::State;
use super::purpose::MANIFEST;
use super::table::{FOOTER, Footer, Table, TableMeta};
use super::values::{HEADER, check_header, check_version};
use super::wal::Replayed;
use super::{wal, wal_file};
use crate::io::{DiskOp, DiskResult, FileInfo, FileKind, FileName};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use table::TableCheck;

/// Bytes read at a time.
const CHUNK: u64 = 1 << 20;
/// Findings that are listed; further ones are counted only.
const LISTED_MAX: usize = 1_000;

/// Something in a file that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: FileName,
    /// Where in it, if it is one place.
    pub offset: Option<u64>,
    /// What is the matter.
    pub what: String,
    /// What it means for who runs the node.
    pub means: String,
}

/// What a verification has found so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// What is damaged.
    pub damage: Vec<Finding>,
    /// What is worth telling and harms nothing.
    pub notes: Vec<Finding>,
    /// Damage beyond what is listed.
    pub omitted: u64,
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Tables read through.
    pub tables: u64,
    /// Records found in tables and in the log.
    pub records: u64,
}

impl Findings {
    /// Something is damaged.
    pub(crate) fn damage(&mut self, file: FileName, offset: Option<u64>, what: &str, means: &str) {
        if self.damage.len() >= LISTED_MAX {
            self.omitted += 1;
            return;
        }
        self.damage.push(Finding { file, offset, what: what.into(), means: means.into() });
    }

    /// Something is worth telling.
    pub(crate) fn note(&mut self, file: FileName, what: &str, means: &str) {
        if self.notes.len() < LISTED_MAX {
            self.notes.push(Finding { file, offset: None, what: what.into(), means: means.into() });
        }
    }
}

/// The next read.
#[derive(Debug)]
enum Task {
    Manifest {
        len: u64,
    },
    Footer(TableMeta),
    Parts {
        meta: TableMeta,
        footer: Footer,
        data: Vec<u8>,
    },
    Blocks(Box<TableCheck>),
    /// The header of a value file.
    Values(u64),
    Pages {
        segment: u64,
        offset: u64,
        len: u64,
    },
}

/// The verification of a store's files as a machine: ask `next_read` for a read, give its result to `on_result`.
#[derive(Debug)]
pub(crate) struct StoreVerifier {
    is_fresh: bool,
    files: Vec<FileInfo>,
    tasks: VecDeque<Task>,
    state: State,
    /// The manifest says which tables and segments count.
    is_known: bool,
    segments: BTreeMap<u64, Segment>,
    is_over: bool,
}

/// What a table, or the whole node, is worth without a piece.
const WILL_NOT_START: &str = "the node will not start: restore the file from a copy made at the same time as the others, or \
                              replace this node by one with a new id";

/// R6: what a damaged file is worth that others hold copies of.
const BROUGHT_AGAIN: &str = "the node starts without a vote on the keys concerned, and brings them again from a majority of the \
                             other replicas; what no other replica holds needs the file from a copy made at the same time as \
                             the others";

impl StoreVerifier {
    /// Verifies `files`. `is_fresh`: the directory has no identity, and so must hold no data.
    pub(crate) fn new(files: Vec<FileInfo>, is_fresh: bool, findings: &mut Findings) -> Self {
        let mut verifier = Self {
            is_fresh,
            files,
            tasks: VecDeque::new(),
            state: State::default(),
            is_known: false,
            segments: BTreeMap::new(),
            is_over: false,
        };
        match verifier.len_of(MANIFEST) {
            Some(len) => verifier.tasks.push_back(Task::Manifest { len }),
            None => verifier.on_no_manifest(findings),
        }
        verifier
    }

    fn len_of(&self, file: FileName) -> Option<u64> {
        self.files.iter().find(|info| info.file == file).map(|info| info.len)
    }

    fn has(&self, kind: FileKind) -> bool {
        self.files.iter().any(|info| info.file.kind == kind)
    }

    fn on_no_manifest(&mut self, findings: &mut Findings) {
        if !self.is_fresh || self.has(FileKind::Table) || self.has(FileKind::Value) {
            findings.damage(MANIFEST, None, "missing", WILL_NOT_START);
        }
        self.plan(findings);
    }

    /// The next read; `None` when all has been read.
    pub(crate) fn next_read(&mut self, findings: &mut Findings) -> Option<DiskOp> {
        loop {
            let read = |file, offset, len: u64| Some(DiskOp::Read { file, offset, len: len as u32 });
            match self.tasks.front_mut() {
                Some(Task::Manifest { len }) => return read(MANIFEST, 0, *len),
                Some(Task::Footer(meta)) => {
                    return read(meta.file(), meta.len - FOOTER as u64, FOOTER as u64);
                }
                Some(Task::Parts { meta, footer, data }) => {
                    let offset = footer.parts_at + data.len() as u64;
                    return read(meta.file(), offset, CHUNK.min(meta.len - FOOTER as u64 - offset));
                }
                Some(Task::Blocks(check)) => match check.next_read(findings) {
                    Some(op) => return Some(op),
                    None => drop(self.tasks.pop_front()),
                },
                Some(Task::Values(number)) => {
                    return read(FileName::new(FileKind::Value, *number), 0, HEADER as u64);
                }
                Some(Task::Pages { segment, offset, len }) => {
                    return read(wal_file(*segment), *offset, CHUNK.min(*len - *offset));
                }
                None if self.is_over => return None,
                None => {
                    self.is_over = true;
                    self.check_log(findings);
                }
            }
        }
    }

    /// The result of the read that `next_read` gave last.
    pub(crate) fn on_result(&mut self, result: DiskResult, findings: &mut Findings) {
        let data = match result {
            DiskResult::Data(data) => Ok(data),
            DiskResult::Failed(error) => Err(format!("cannot be read: {}", error.text)),
            _ => Err("cannot be read".to_string()),
        };
        findings.bytes += data.as_ref().map_or(0, |data| data.len() as u64);
        match self.tasks.pop_front() {
            Some(Task::Manifest { .. }) => self.on_manifest(data, findings),
            Some(Task::Footer(meta)) => self.on_footer(meta, data, findings),
            Some(Task::Parts { meta, footer, data: parts }) => {
                self.on_parts(meta, footer, parts, data, findings);
            }
            Some(Task::Blocks(mut check)) => {
                check.on_data(data, findings);
                self.tasks.push_front(Task::Blocks(check));
            }
            Some(Task::Values(number)) => on_header(number, data, findings),
            Some(Task::Pages { segment, offset, len }) => self.on_pages(segment, offset, len, data, findings),
            None => {}
        }
    }

    fn on_manifest(&mut self, data: Result<Bytes, String>, findings: &mut Findings) {
        let decoded = data.and_then(|data| {
            let number = log::number_in(FileKind::Manifest, &data).unwrap_or(0);
            let file = FileName::new(FileKind::Manifest, number);
            for offset in log::damaged_sectors(file, 0, &data) {
                let what = "a sector does not pass its check";
                findings.damage(MANIFEST, Some(offset), what, "see what is said of the whole file");
            }
            State::decode(&data).map(|(state, _)| state)
        });
        match decoded {
            Ok(state) => (self.state, self.is_known) = (state, true),
            // The first start of a directory may have ended before its manifest was whole.
            Err(_) if self.is_fresh && !self.has(FileKind::Table) => {
                findings.note(MANIFEST, "not finished", "the next start makes it anew");
            }
            Err(reason) => {
                let what = reason.split(';').next().unwrap_or_default();
                let what = what.strip_prefix(&format!("{MANIFEST}: ")).unwrap_or(what);
                findings.damage(MANIFEST, None, what, WILL_NOT_START);
            }
        }
        findings.files += 1;
        self.plan(findings);
    }

    /// Which files are to be read. Without a manifest every table is read for itself.
    fn plan(&mut self, findings: &mut Findings) {
        if self.is_known {
            self.check_names(findings);
        }
        for FileInfo { file, len } in self.files.clone() {
            let named = self.state.tables.iter().find(|meta| meta.number == file.number);
            match (file.kind, named) {
                (FileKind::Table, Some(meta)) if len >= meta.len.max(FOOTER as u64) => {
                    self.tasks.push_back(Task::Footer(meta.clone()));
                }
                (FileKind::Value, _) if self.state.values.iter().any(|meta| meta.number == file.number) => {
                    self.tasks.push_back(Task::Values(file.number));
                }
                (FileKind::Value, _) if self.is_known => {
                    let means = "left by a flush or compaction that was cut short; the next start removes it";
                    findings.note(file, "no live value file: the manifest does not name it", means);
                }
                (FileKind::Table, None) if self.is_known => {
                    let what = "no live table: the manifest does not name it";
                    findings.note(
                        file,
                        what,
                        "left by a flush or compaction that was cut short; the next start removes it",
                    );
                }
                (FileKind::Table, None) if len >= FOOTER as u64 => {
                    self.tasks.push_back(Task::Footer(TableMeta::unknown(file.number, len)));
                }
                (FileKind::Table, None) => {
                    findings.damage(file, None, "too short for a table", WILL_NOT_START);
                }
                (FileKind::Wal, _) => {
                    self.segments.insert(file.number, Segment::new(file));
                    findings.files += 1;
                    if len > 0 {
                        self.tasks.push_back(Task::Pages { segment: file.number, offset: 0, len });
                    }
                }
                _ => {}
            }
        }
        if self.is_fresh && self.is_known && !self.state.tables.is_empty() {
            let file = FileName::new(FileKind::Identity, 0);
            findings.damage(file, None, "missing, although the directory holds data", WILL_NOT_START);
        }
    }

    /// Every file that the manifest names must be there in its length, and every value file that a table points to be
    /// named.
    fn check_names(&self, findings: &mut Findings) {
        for (number, _) in self.state.tables.iter().flat_map(|table| &table.values) {
            if !self.state.values.iter().any(|meta| meta.number == *number) {
                let lost = FileName::new(FileKind::Value, *number);
                let what = format!("a table points to {lost}, which it does not name");
                findings.damage(MANIFEST, None, &what, WILL_NOT_START);
            }
        }
        let tables = self.state.tables.iter().map(|meta| (meta.file(), meta.len.max(FOOTER as u64)));
        let segments = self.state.segments.iter().map(|(number, capacity)| (wal_file(*number), *capacity));
        let values =
            self.state.values.iter().map(|meta| (FileName::new(FileKind::Value, meta.number), meta.len));
        for (file, wanted) in tables.chain(segments).chain(values) {
            match self.len_of(file) {
                None => findings.damage(file, None, "missing", BROUGHT_AGAIN),
                Some(len) if len < wanted => {
                    let what = format!("truncated: {len} of {wanted} bytes are there");
                    findings.damage(file, Some(len), &what, BROUGHT_AGAIN);
                }
                Some(_) => {}
            }
        }
    }

    fn on_footer(&mut self, meta: TableMeta, data: Result<Bytes, String>, findings: &mut Findings) {
        findings.files += 1;
        let check = |data: &Bytes| Footer::check_version(meta.number, meta.len, data).is_err();
        let is_other = data.as_ref().is_ok_and(check);
        let footer = data.and_then(|data| Footer::decode(meta.number, meta.len, &data));
        match footer {
            Ok(footer) => self.tasks.push_front(Task::Parts { meta, footer, data: Vec::new() }),
            Err(reason) => table::damaged(findings, &meta, &reason, is_other),
        }
    }

    fn on_parts(
        &mut self,
        meta: TableMeta,
        footer: Footer,
        mut parts: Vec<u8>,
        data: Result<Bytes, String>,
        findings: &mut Findings,
    ) {
        let end = meta.len - FOOTER as u64;
        let data = data.and_then(|data| {
            let wanted = CHUNK.min(end - footer.parts_at - parts.len() as u64);
            if data.len() as u64 == wanted { Ok(data) } else { Err("shorter than when it was listed".into()) }
        });
        match data {
            Ok(data) => parts.extend_from_slice(&data),
            Err(reason) => return table::damaged(findings, &meta, &reason, false),
        }
        if footer.parts_at + (parts.len() as u64) < end {
            return self.tasks.push_front(Task::Parts { meta, footer, data: parts });
        }
        match Table::open(meta.clone(), &footer, &Bytes::from(parts)) {
            Ok(opened) => {
                if opened.end_of_blocks() != Some(footer.parts_at) {
                    table::damaged(findings, &meta, "its blocks do not lie one behind the other", false);
                }
                self.tasks.push_front(Task::Blocks(Box::new(TableCheck::new(Arc::new(opened)))));
            }
            Err(reason) => table::damaged(findings, &meta, &reason, false),
        }
    }

    fn on_pages(
        &mut self,
        segment: u64,
        offset: u64,
        len: u64,
        data: Result<Bytes, String>,
        findings: &mut Findings,
    ) {
        let wanted = CHUNK.min(len - offset);
        let file = wal_file(segment);
        let data = data.unwrap_or_else(|reason| {
            findings.damage(file, Some(offset), &reason, "what this part of the log holds is lost");
            Bytes::from(alloc::vec![0; wanted as usize])
        });
        let means = "if an acknowledged change lies there, it is said below";
        for at in log::damaged_sectors(file, offset, &data) {
            findings.damage(file, Some(at), "a sector does not pass its check", means);
        }
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.add(&data);
        }
        if offset + wanted < len {
            self.tasks.push_front(Task::Pages { segment, offset: offset + wanted, len });
        }
    }

    /// All pages have been read: replays the log as a start would.
    fn check_log(&mut self, findings: &mut Findings) {
        let segments: Vec<Segment> = core::mem::take(&mut self.segments).into_values().collect();
        let has_groups = segments.iter().any(|segment| !segment.is_empty());
        if self.is_fresh && has_groups {
            let file = FileName::new(FileKind::Identity, 0);
            findings.damage(file, None, "missing, although the log holds changes", WILL_NOT_START);
        }
        if !self.is_known {
            return;
        }
        let first_group = self.state.first_group.max(1);
        let is_named =
            |segment: &&Segment| self.state.segments.iter().any(|(named, _)| *named == segment.file.number);
        let (named, others): (Vec<&Segment>, Vec<&Segment>) = segments.iter().partition(is_named);
        for lost in others.iter().filter(|segment| segment.is_needed_from(first_group)) {
            let what = format!("does not name {}, which holds acknowledged groups", lost.file);
            findings.damage(MANIFEST, None, &what, WILL_NOT_START);
        }
        for reason in segments.iter().filter_map(|segment| segment.check_foreign(first_group).err()) {
            log_damage(findings, &segments, &reason, WILL_NOT_START);
        }
        let named: Vec<Segment> = named.into_iter().cloned().collect();
        let mut records = 0;
        match wal::replay(&named, first_group, false, |_, _, _, _| records += 1) {
            Err(reason) => log_damage(findings, &segments, &reason, WILL_NOT_START),
            Ok(Replayed { damage: Some((_, reason)), .. }) => {
                log_damage(findings, &segments, &reason, BROUGHT_AGAIN);
            }
            Ok(replayed) if replayed.torn => {
                let file = named.last().map_or(wal_file(0), |segment| segment.file);
                let what = "ends with a group that was never written whole";
                findings.note(file, what, "nobody was told of it; the next start cuts it off");
            }
            Ok(_) => {}
        }
        findings.records += records;
    }
}

/// The header of a value file. The values are read with the tables that point to them.
fn on_header(number: u64, data: Result<Bytes, String>, findings: &mut Findings) {
    findings.files += 1;
    let is_other = data.as_ref().is_ok_and(|data| check_version(number, data).is_err());
    if let Err(reason) = data.and_then(|data| check_header(number, &data)) {
        let file = FileName::new(FileKind::Value, number);
        let what = reason.split(';').next().unwrap_or_default();
        let what = what.strip_prefix(&format!("{file}: ")).unwrap_or(what);
        findings.damage(file, Some(0), what, if is_other { WILL_NOT_START } else { BROUGHT_AGAIN });
    }
}

/// Takes a reason of the log's recovery apart.
fn log_damage(findings: &mut Findings, segments: &[Segment], reason: &str, means: &str) {
    let named = segments.iter().map(|segment| segment.file);
    let file = named.into_iter().find(|file| reason.starts_with(&format!("{file}:"))).unwrap_or(wal_file(0));
    let what = reason.split(';').next().unwrap_or_default();
    let what = what.strip_prefix(&format!("{file}: ")).unwrap_or(what);
    findings.damage(file, None, what, means);
}
