//! One table, block by block and record by record.

use super::super::cache::BlockCache;
use super::super::cursor::{Cursor, Reading, Step};
use super::super::entry;
use super::super::pointer::Pointer;
use super::super::table::{Table, TableMeta, hash};
use super::{BROUGHT_AGAIN, Findings, WILL_NOT_START};
use crate::io::DiskOp;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// The table's head or tail: without it nothing of the table can be found.
pub(super) fn damaged(findings: &mut Findings, meta: &TableMeta, reason: &str, is_other_version: bool) {
    let file = meta.file();
    let what = reason.split(';').next().unwrap_or_default();
    let what = what.strip_prefix(&format!("{file}: ")).unwrap_or(what);
    let offset = what.rsplit_once("at byte ").and_then(|(_, offset)| offset.parse().ok());
    findings.damage(file, offset, what, if is_other_version { WILL_NOT_START } else { BROUGHT_AGAIN });
}

/// The walk through one table.
#[derive(Debug)]
pub(super) struct TableCheck {
    table: Arc<Table>,
    cursor: Cursor,
    cache: BlockCache,
    last: Vec<u8>,
    /// A value that the current entry points to and that is being read.
    value: Option<Pointer>,
    entries: u64,
    /// Whether every block could be read.
    is_whole: bool,
    is_over: bool,
}

impl TableCheck {
    pub(super) fn new(table: Arc<Table>) -> Self {
        let run = Arc::new(alloc::vec![table.clone()]);
        Self {
            table,
            cursor: Cursor::new(&run, 0, 1, Reading::Bulk),
            cache: BlockCache::new(0),
            last: Vec::new(),
            value: None,
            entries: 0,
            is_whole: true,
            is_over: false,
        }
    }

    /// Checks what has been read and gives the next read; `None` at the end of the table.
    pub(super) fn next_read(&mut self, findings: &mut Findings) -> Option<DiskOp> {
        while !self.is_over {
            match self.cursor.settle(&mut self.cache) {
                Step::Entry => {
                    self.check_entry(findings);
                    self.value = self.cursor.body().and_then(|(body, _)| entry::pointer(body));
                    if let Some(Pointer { offset, stored, .. }) = self.value {
                        let file = self.value.map(Pointer::name)?;
                        return Some(DiskOp::Read { file, offset, len: stored });
                    }
                    self.cursor.advance();
                }
                Step::Damaged(_) => {
                    self.lose_block(findings, "damaged");
                    self.cursor.skip_block();
                }
                Step::Missing => return self.cursor.read(),
                Step::End => {
                    self.is_over = true;
                    self.check_end(findings);
                }
            }
        }
        None
    }

    pub(super) fn on_data(&mut self, data: Result<Bytes, String>, findings: &mut Findings) {
        if let Some(pointer) = self.value.take() {
            self.check_value(pointer, data, findings);
            return self.cursor.advance();
        }
        match data {
            Ok(data) => self.cursor.on_data(data),
            Err(reason) => {
                self.lose_block(findings, &reason);
                self.cursor.reading = false;
                self.cursor.skip_block();
            }
        }
    }

    fn check_value(&self, pointer: Pointer, data: Result<Bytes, String>, findings: &mut Findings) {
        let opened = data.and_then(|data| pointer.open(&data).map_err(|_| "a damaged value".into()));
        if let Err(what) = opened {
            let key = entry::decode_key(self.cursor.key().unwrap_or_default());
            let (slot, key) = (key.slot.0, key.key.escape_ascii());
            let means = format!(
                "the value of {key} (slot {slot}) is suspect here, and brought again from its other replicas"
            );
            findings.damage(pointer.name(), Some(pointer.offset), &what, &means);
        }
    }

    fn lose_block(&mut self, findings: &mut Findings, what: &str) {
        self.is_whole = false;
        let Some((table, at)) = self.cursor.place() else {
            return;
        };
        let (first, last) = table.span(at);
        let offset = table.handle(at).map(|handle| handle.offset);
        let means = format!(
            "keys from {} to {} of this table are suspect here, and brought again from the other replicas of these keys",
            first.as_first(),
            last.as_end()
        );
        findings.damage(table.meta.file(), offset, what, &means);
    }

    fn check_entry(&mut self, findings: &mut Findings) {
        let (Some(key), Some((body, owner))) = (self.cursor.key(), self.cursor.body()) else {
            return;
        };
        self.entries += 1;
        let meta = &self.table.meta;
        let rank = entry::rank(body);
        let is_in_order = self.entries == 1 || *key > *self.last;
        let is_in_range = meta.is_unknown() || meta.covers(key);
        let has_stamp = |ballot| meta.is_unknown() || (meta.lowest <= ballot && ballot <= meta.highest);
        let complaint = if key.len() < 2 || !is_in_order || !is_in_range {
            "a key is out of place"
        } else if rank.is_none_or(|rank| !has_stamp(rank.ballot))
            || entry::decode(body, Some(owner)).is_none()
        {
            "a record cannot be read"
        } else if !self.table.may_hold(key, hash(key)) {
            "a filter denies a key that is there"
        } else {
            ""
        };
        self.last.clear();
        self.last.extend_from_slice(key);
        if !complaint.is_empty() {
            let offset =
                self.cursor.place().and_then(|(table, at)| table.handle(at)).map(|handle| handle.offset);
            let means = "its checks pass, so it was written like this: keep a copy and report it as a defect of samara";
            findings.damage(meta.file(), offset, complaint, means);
        }
    }

    fn check_end(&mut self, findings: &mut Findings) {
        let meta = &self.table.meta;
        findings.tables += 1;
        findings.records += self.entries;
        if self.is_whole && !meta.is_unknown() && self.entries != meta.entries {
            let what = format!("holds {} records, and the manifest says {}", self.entries, meta.entries);
            findings.damage(meta.file(), None, &what, "keep a copy and report it as a defect of samara");
        }
    }
}
