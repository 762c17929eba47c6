//! Which files are live. The manifest is replaced as a whole by write, sync, rename and directory sync, so a crash at any
//! point leaves the old or the new state; files are removed only after the state without them is durable.

use super::merge::{Install, MergeKind};
use super::table::TableMeta;
use super::{Purpose, Store, StoreCx, wal_file};
use crate::base::checksum::crc32c;
use crate::io::{DiskOp, FileKind, FileName};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub(super) const MANIFEST: FileName = FileName::new(FileKind::Manifest, 0);
const MAGIC: &[u8; 8] = b"SAMMANI1";

/// The content of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) tables: Vec<TableMeta>,
    /// No file has this number or a higher one.
    pub(super) next_file: u64,
    /// The first commit group that is not in a table.
    pub(super) first_group: u64,
    /// Segments below are not needed.
    pub(super) first_segment: u64,
}

impl State {
    pub(super) fn encode(&self) -> Bytes {
        let body = postcard::to_allocvec(self).unwrap_or_default();
        let mut data = Vec::with_capacity(body.len() + 16);
        data.extend_from_slice(MAGIC);
        data.extend_from_slice(&(body.len() as u32).to_le_bytes());
        data.extend_from_slice(&crc32c(&[MAGIC, &body]).to_le_bytes());
        data.extend_from_slice(&body);
        Bytes::from(data)
    }

    pub(super) fn decode(data: &[u8]) -> Result<Self, String> {
        let bad = || {
            format!(
                "{MANIFEST}: damaged; restore the file from a copy, or replace this node by one with a new id"
            )
        };
        let (head, rest) = data.split_at_checked(16).ok_or_else(bad)?;
        let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let body = rest.get(..len).ok_or_else(bad)?;
        if head[..8] != *MAGIC || crc32c(&[MAGIC, body]).to_le_bytes() != head[12..16] {
            return Err(bad());
        }
        postcard::from_bytes(body).map_err(|_| bad())
    }
}

/// An install on its way to the disk.
#[derive(Debug, Clone)]
pub(super) struct Installing {
    install: Install,
    temp: FileName,
    steps_done: u8,
}

impl Store {
    /// Begins the next install if none is under way.
    pub(super) fn start_install(&mut self, cx: &mut StoreCx<'_>) {
        if self.installing.is_some() || self.full_until.is_some() {
            return;
        }
        let Some(install) = self.installs.pop_front() else {
            return;
        };
        let temp = FileName::new(FileKind::Temp, self.take_file_number());
        self.installing = Some(Installing { install, temp, steps_done: 0 });
        // The table's own name must be durable before a manifest that names it.
        self.disk(cx, Purpose::Manifest, DiskOp::SyncDir);
    }

    pub(super) fn take_file_number(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file - 1
    }

    pub(super) fn on_manifest_step(&mut self, cx: &mut StoreCx<'_>) {
        let Some(installing) = &mut self.installing else {
            return;
        };
        installing.steps_done += 1;
        let temp = installing.temp;
        let op = match installing.steps_done {
            1 => DiskOp::Create { file: temp, preallocate: 0 },
            2 => {
                let data = self.next_state().encode();
                DiskOp::Write { file: temp, offset: 0, data, sync: true }
            }
            3 => DiskOp::Rename { from: temp, to: MANIFEST },
            4 => DiskOp::SyncDir,
            _ => return self.on_installed(cx),
        };
        self.disk(cx, Purpose::Manifest, op);
    }

    /// The state with the install under way applied.
    fn next_state(&self) -> State {
        let mut state = State {
            tables: self.tables.iter().map(|table| table.meta.clone()).collect(),
            next_file: self.next_file,
            first_group: self.first_group,
            first_segment: self.first_segment,
        };
        if let Some(Installing { install, .. }) = &self.installing {
            state.tables.retain(|table| !install.removed.contains(&table.number));
            state.tables.extend(install.added.iter().map(|table| table.meta.clone()));
            if let Some((segment, group)) = install.covers {
                state.first_group = group + 1;
                state.first_segment = segment + 1;
            }
        }
        state
    }

    /// No space for the manifest: tried again later.
    pub(super) fn retry_install(&mut self, cx: &mut StoreCx<'_>) {
        if let Some(installing) = self.installing.take() {
            self.disk(cx, Purpose::Remove, DiskOp::Remove { file: installing.temp });
            self.installs.push_front(installing.install);
        }
    }

    fn on_installed(&mut self, cx: &mut StoreCx<'_>) {
        let Some(Installing { install, .. }) = self.installing.take() else {
            return;
        };
        self.tables.retain(|table| !install.removed.contains(&table.meta.number));
        self.tables.extend(install.added.iter().cloned());
        self.doomed.extend(install.removed.iter().map(|number| FileName::new(FileKind::Table, *number)));
        if let Some((segment, group)) = install.covers {
            self.version += 1;
            self.first_group = group + 1;
            self.first_segment = segment + 1;
            self.doomed
                .extend(self.segments.iter().filter(|held| **held <= segment).map(|held| wal_file(*held)));
            self.segments.retain(|held| *held > segment);
            self.frozen.pop_front();
        }
        let counter = match install.kind {
            MergeKind::Flush => {
                self.flush = None;
                crate::base::Counter::MemtableFlushed
            }
            MergeKind::Compaction => {
                self.compaction = None;
                crate::base::Counter::CompactionFinished
            }
        };
        cx.counters.add(counter);
        self.remove_doomed(cx);
        self.start_install(cx);
    }

    /// Removes files that nobody reads any more.
    pub(super) fn remove_doomed(&mut self, cx: &mut StoreCx<'_>) {
        let doomed = core::mem::take(&mut self.doomed);
        for file in doomed {
            // The log's last segment stays until the log goes on in the next: it may be written or synced right now.
            let is_used = match file.kind {
                FileKind::Table => self.reads.values().any(|job| job.uses(file.number)),
                FileKind::Wal => self.tail.is_some_and(|tail| tail.segment == file.number),
                _ => false,
            };
            if is_used {
                self.doomed.push(file);
            } else {
                self.disk(cx, Purpose::Remove, DiskOp::Remove { file });
            }
        }
    }
}
