//! The simulated disk: what is durable, what is only cached, sector by sector.
//!
//! A write changes the cached content at once; it becomes durable by a sync. A crash keeps any subset of the sectors that
//! were written and not synced, and each directory operation that was not synced is kept or undone.

use crate::random::Stream;
use bytes::Bytes;
use samara_core::io::{DiskError, DiskErrorKind, DiskOp, DiskResult, FileInfo, FileKind, FileName};
use std::collections::BTreeMap;

/// Bytes that are written whole or not at all.
pub const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
struct File {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that differ, perhaps, between the two.
    dirty: std::collections::BTreeSet<usize>,
}

impl File {
    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        self.cached[offset..end].copy_from_slice(data);
        self.dirty.extend(offset / SECTOR..=(end.max(1) - 1) / SECTOR);
    }

    fn sync(&mut self) {
        self.durable.resize(self.cached.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let start = sector * SECTOR;
            let end = self.cached.len().min(start + SECTOR);
            if start < end {
                self.durable[start..end].copy_from_slice(&self.cached[start..end]);
            }
        }
    }

    /// Keeps each unsynced sector with a chance of `keep` in a thousand; how many were lost.
    fn crash(&mut self, keep: u64, random: &mut Stream) -> u64 {
        let mut lost = 0;
        for sector in std::mem::take(&mut self.dirty) {
            let start = sector * SECTOR;
            let end = self.cached.len().min(start + SECTOR);
            if start >= end {
                continue;
            }
            if random.chance(keep) {
                if self.durable.len() < end {
                    self.durable.resize(end, 0);
                }
                self.durable[start..end].copy_from_slice(&self.cached[start..end]);
            } else {
                lost += 1;
            }
        }
        self.cached.clone_from(&self.durable);
        lost
    }
}

/// A change of the directory that a crash may undo.
#[derive(Debug, Clone)]
enum Change {
    Created(FileName),
    Renamed { from: FileName, to: FileName, replaced: Option<File> },
    Removed(FileName, File),
}

/// What is wrong with a disk for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Broken {
    /// No space is left: files neither come nor grow.
    pub full: bool,
    /// The next sync fails; what it should have made durable may be lost.
    pub sync_fails: bool,
    /// Tables and values cannot be read.
    pub reads_fail: bool,
}

/// The disk of one node.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    files: BTreeMap<FileName, File>,
    unsynced: Vec<Change>,
    /// What is wrong with it.
    pub broken: Broken,
}

fn failed(file: FileName, kind: DiskErrorKind, what: &str) -> DiskResult {
    DiskResult::Failed(DiskError { kind, text: format!("{file}: {what}") })
}

fn missing(file: FileName) -> DiskResult {
    DiskResult::Failed(DiskError { kind: DiskErrorKind::NotFound, text: format!("{file}: not found") })
}

impl Disk {
    /// Whether an operation fails for what is wrong with the disk.
    fn refused(&mut self, op: &DiskOp) -> Option<DiskResult> {
        match op {
            DiskOp::Create { file, .. } if self.broken.full => {
                Some(failed(*file, DiskErrorKind::Full, "no space left"))
            }
            DiskOp::Write { file, offset, data, .. } if self.broken.full => {
                let len = self.files.get(file).map_or(0, |content| content.cached.len() as u64);
                let grows = offset + data.len() as u64 > len;
                grows.then(|| failed(*file, DiskErrorKind::Full, "no space left"))
            }
            DiskOp::Read { file, .. }
                if self.broken.reads_fail && matches!(file.kind, FileKind::Table | FileKind::Value) =>
            {
                Some(failed(*file, DiskErrorKind::Io, "input/output error"))
            }
            DiskOp::Write { file, sync: true, .. } | DiskOp::Sync { file } if self.broken.sync_fails => {
                self.broken.sync_fails = false;
                Some(failed(*file, DiskErrorKind::Io, "the sync has failed"))
            }
            _ => None,
        }
    }

    /// Performs an operation on the cached state. Whether it failed for what is wrong with the disk.
    pub fn try_perform(&mut self, op: &DiskOp) -> (DiskResult, bool) {
        let refused = self.refused(op);
        if let (Some(_), DiskOp::Write { sync: true, file, offset, data }) = (&refused, op)
            && !self.broken.full
        {
            // The bytes are in the system's cache; whether they reach the medium is up to the next crash.
            let (file, offset, data) = (*file, *offset, data.clone());
            self.perform(&DiskOp::Write { file, offset, data, sync: false });
        }
        match refused {
            Some(result) => (result, true),
            None => (self.perform(op), false),
        }
    }

    /// Performs an operation as a sound disk does.
    pub fn perform(&mut self, op: &DiskOp) -> DiskResult {
        match op {
            DiskOp::Create { file, preallocate } => {
                if self.files.contains_key(file) {
                    let text = format!("{file}: exists");
                    return DiskResult::Failed(DiskError { kind: DiskErrorKind::Io, text });
                }
                let zeros = vec![0; *preallocate as usize];
                let made = File { cached: zeros.clone(), durable: zeros, ..File::default() };
                self.files.insert(*file, made);
                self.unsynced.push(Change::Created(*file));
            }
            DiskOp::Write { file, offset, data, sync } => {
                let Some(content) = self.files.get_mut(file) else { return missing(*file) };
                content.write(*offset as usize, data);
                if *sync {
                    content.sync();
                }
            }
            DiskOp::Read { file, offset, len } => {
                let Some(content) = self.files.get(file) else { return missing(*file) };
                let start = content.cached.len().min(*offset as usize);
                let end = content.cached.len().min(start + *len as usize);
                return DiskResult::Data(Bytes::copy_from_slice(&content.cached[start..end]));
            }
            DiskOp::Sync { file } => match self.files.get_mut(file) {
                Some(content) => content.sync(),
                None => return missing(*file),
            },
            DiskOp::Truncate { file, len } => match self.files.get_mut(file) {
                Some(content) => content.cached.truncate(*len as usize),
                None => return missing(*file),
            },
            DiskOp::Rename { from, to } => {
                let Some(content) = self.files.remove(from) else { return missing(*from) };
                let replaced = self.files.insert(*to, content);
                self.unsynced.push(Change::Renamed { from: *from, to: *to, replaced });
            }
            DiskOp::Remove { file } => match self.files.remove(file) {
                Some(content) => self.unsynced.push(Change::Removed(*file, content)),
                None => return missing(*file),
            },
            DiskOp::List => {
                let info = |(file, content): (&FileName, &File)| FileInfo {
                    file: *file,
                    len: content.cached.len() as u64,
                };
                return DiskResult::Files(self.files.iter().map(info).collect());
            }
            DiskOp::SyncDir => self.unsynced.clear(),
        }
        DiskResult::Done
    }

    /// The files with what is durable of them.
    pub fn durable_files(&self) -> impl Iterator<Item = (FileName, &[u8])> {
        self.files.iter().map(|(file, content)| (*file, &content.durable[..]))
    }

    /// What a sector holds; the last one of a file may be shorter than others.
    pub fn sector(&self, file: FileName, sector: usize) -> Option<&[u8]> {
        let content = &self.files.get(&file)?.cached;
        let end = content.len().min((sector + 1) * SECTOR);
        content.get(sector * SECTOR..end).filter(|bytes| !bytes.is_empty())
    }

    /// Whether a write to the sector has not been synced.
    pub fn is_dirty(&self, file: FileName, sector: usize) -> bool {
        self.files.get(&file).is_some_and(|content| content.dirty.contains(&sector))
    }

    /// Changes what a sector holds, without anybody having written it.
    pub fn set_sector(&mut self, file: FileName, sector: usize, bytes: &[u8]) {
        if let Some(content) = self.files.get_mut(&file) {
            let range = sector * SECTOR..sector * SECTOR + bytes.len();
            for place in [&mut content.cached, &mut content.durable] {
                if let Some(held) = place.get_mut(range.clone()) {
                    held.copy_from_slice(bytes);
                }
            }
        }
    }

    /// A copy of its files as a reader sees them, all of it durable.
    pub(crate) fn copied(&self) -> Self {
        let mut files = self.files.clone();
        files.values_mut().for_each(File::sync);
        Self { files, ..Self::default() }
    }

    /// The power fails. `keep`: the chance, in a thousand, that an unsynced sector or directory change survives. Returns
    /// how many sectors were lost.
    pub fn crash(&mut self, keep: u64, random: &mut Stream) -> u64 {
        // Directory changes are journalled in order: the crash keeps a prefix of them.
        let kept = self.unsynced.iter().take_while(|_| random.chance(keep)).count();
        for change in self.unsynced.drain(kept..).rev() {
            match change {
                Change::Created(file) => {
                    self.files.remove(&file);
                }
                Change::Renamed { from, to, replaced } => {
                    if let Some(content) = self.files.remove(&to) {
                        self.files.insert(from, content);
                    }
                    if let Some(content) = replaced {
                        self.files.insert(to, content);
                    }
                }
                Change::Removed(file, content) => {
                    self.files.insert(file, content);
                }
            }
        }
        self.unsynced.clear();
        self.files.values_mut().map(|file| file.crash(keep, random)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: FileName = FileName::new(FileKind::Wal, 1);
    const B: FileName = FileName::new(FileKind::Wal, 2);

    fn write(disk: &mut Disk, data: &'static [u8], sync: bool) {
        disk.perform(&DiskOp::Write { file: A, offset: 0, data: Bytes::from_static(data), sync });
    }

    fn content(disk: &mut Disk, file: FileName) -> Option<Vec<u8>> {
        match disk.perform(&DiskOp::Read { file, offset: 0, len: 1 << 20 }) {
            DiskResult::Data(data) => Some(data.to_vec()),
            _ => None,
        }
    }

    fn made() -> Disk {
        let mut disk = Disk::default();
        disk.perform(&DiskOp::Create { file: A, preallocate: 8 });
        disk.perform(&DiskOp::SyncDir);
        disk
    }

    #[test]
    fn a_crash_loses_what_was_not_synced_and_nothing_else() {
        let mut disk = made();
        write(&mut disk, b"one", true);
        write(&mut disk, b"two", false);
        assert_eq!(content(&mut disk, A).as_deref(), Some(&b"two\0\0\0\0\0"[..]));
        assert_eq!(disk.crash(0, &mut Stream::new(1, "t", 0)), 1);
        assert_eq!(content(&mut disk, A).as_deref(), Some(&b"one\0\0\0\0\0"[..]));
    }

    #[test]
    fn a_failed_sync_leaves_the_bytes_to_chance_and_a_full_disk_takes_no_more() {
        let mut disk = made();
        write(&mut disk, b"one", true);
        disk.broken.sync_fails = true;
        let data = Bytes::from_static(b"two");
        let op = DiskOp::Write { file: A, offset: 0, data, sync: true };
        assert!(matches!(disk.try_perform(&op), (DiskResult::Failed(_), true)));
        assert!(!disk.try_perform(&DiskOp::Sync { file: B }).1, "one sync fails");
        assert_eq!(disk.crash(0, &mut Stream::new(1, "t", 0)), 1);
        assert_eq!(content(&mut disk, A).as_deref(), Some(&b"one\0\0\0\0\0"[..]));
        disk.broken.full = true;
        assert!(!disk.try_perform(&op).1, "what is there can be written");
        assert!(disk.try_perform(&DiskOp::Create { file: B, preallocate: 0 }).1);
        let data = Bytes::from_static(b"four");
        assert!(disk.try_perform(&DiskOp::Write { file: A, offset: 6, data, sync: false }).1);
    }

    #[test]
    fn an_unsynced_rename_is_undone_or_kept_whole() {
        for keep in [0, 1000] {
            let mut disk = made();
            write(&mut disk, b"one", true);
            disk.perform(&DiskOp::Rename { from: A, to: B });
            disk.crash(keep, &mut Stream::new(1, "t", 0));
            let there = if keep == 0 { A } else { B };
            assert!(content(&mut disk, there).is_some());
            assert_eq!(disk.files.len(), 1);
        }
    }

    #[test]
    fn some_sectors_survive_and_others_do_not() {
        let mut disk = made();
        let data = Bytes::from(vec![7; SECTOR * 64]);
        disk.perform(&DiskOp::Write { file: A, offset: 0, data, sync: false });
        let lost = disk.crash(500, &mut Stream::new(3, "t", 0));
        assert!(lost > 8 && lost < 56, "{lost} of 64 sectors were lost");
    }
}
