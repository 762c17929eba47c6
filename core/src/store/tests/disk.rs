//! A disk in memory: a volatile cache of 512-byte sectors, names that are durable after `SyncDir`, operations done in any
//! order, faults on demand.

use crate::base::Ticket;
use crate::base::rng::Rng;
use crate::io::{DiskError, DiskErrorKind, DiskOp, DiskResult, FileInfo, FileKind, FileName};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec::Vec;
use bytes::Bytes;

const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that differ between the two, or may.
    dirty: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(FileName, usize),
    Unset(FileName),
    Rename(FileName, FileName),
}

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    /// Creations and growing writes fail with `Full`.
    pub(super) full: bool,
    /// The same for files of one kind alone.
    pub(super) full_for: Option<FileKind>,
    /// Creations and growing writes beyond so many bytes of all files fail with `Full`.
    pub(super) capacity: Option<usize>,
    /// Syncs and synced writes of files of this kind fail.
    pub(super) sync: Option<FileKind>,
    /// Syncs of the directory fail.
    pub(super) dir_sync: bool,
    /// Reads of files of this kind fail.
    pub(super) read: Option<FileKind>,
    /// So many operations have failed.
    pub(super) injected: usize,
}

#[derive(Debug, Clone, Default)]
pub(super) struct TestDisk {
    inodes: Vec<Inode>,
    names: BTreeMap<FileName, usize>,
    durable_names: BTreeMap<FileName, usize>,
    changes: Vec<NameChange>,
    pub(super) pending: Vec<(Ticket, DiskOp)>,
    pub(super) faults: Faults,
    made: BTreeSet<FileName>,
    /// Operations done since the beginning.
    pub(super) done: usize,
}

fn apply(names: &mut BTreeMap<FileName, usize>, change: &NameChange) {
    match change {
        NameChange::Set(name, inode) => {
            names.insert(*name, *inode);
        }
        NameChange::Unset(name) => {
            names.remove(name);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(*to, inode);
            }
        }
    }
}

impl TestDisk {
    /// Does the pending operation at `index`.
    pub(super) fn complete(&mut self, index: usize) -> (Ticket, DiskResult) {
        let (ticket, op) = self.pending.remove(index);
        self.done += 1;
        let result = self.perform(&op).unwrap_or_else(DiskResult::Failed);
        (ticket, result)
    }

    fn perform(&mut self, op: &DiskOp) -> Result<DiskResult, DiskError> {
        match op {
            DiskOp::Create { file, preallocate } => {
                self.check_space(*file, *preallocate as usize)?;
                assert!(!self.names.contains_key(file), "{file} is created twice");
                let zeros = alloc::vec![0; *preallocate as usize];
                self.inodes.push(Inode { cached: zeros.clone(), durable: zeros, dirty: BTreeSet::new() });
                self.made.insert(*file);
                self.rename(NameChange::Set(*file, self.inodes.len() - 1));
            }
            DiskOp::Write { file, offset, data, sync } => {
                self.check(*sync && self.faults.sync == Some(file.kind))?;
                let end = *offset as usize + data.len();
                let len = self.inode(*file)?.cached.len();
                if end > len {
                    self.check_space(*file, end - len)?;
                }
                let inode = self.inode(*file)?;
                inode.cached.resize(end.max(inode.cached.len()), 0);
                inode.cached[*offset as usize..end].copy_from_slice(data);
                inode.dirty.extend(*offset as usize / SECTOR..end.div_ceil(SECTOR));
                if *sync {
                    inode.sync();
                }
            }
            DiskOp::Read { file, offset, len } => {
                self.check(self.faults.read == Some(file.kind))?;
                let data = &self.inode(*file)?.cached;
                let start = (*offset as usize).min(data.len());
                let end = (start + *len as usize).min(data.len());
                return Ok(DiskResult::Data(Bytes::copy_from_slice(&data[start..end])));
            }
            DiskOp::Sync { file } => {
                self.check(self.faults.sync == Some(file.kind))?;
                self.inode(*file)?.sync();
            }
            DiskOp::Truncate { file, len } => {
                let inode = self.inode(*file)?;
                inode.cached.resize(*len as usize, 0);
                inode.sync();
            }
            DiskOp::Rename { from, to } => {
                self.inode(*from)?;
                self.rename(NameChange::Rename(*from, *to));
            }
            DiskOp::Remove { file } => {
                self.inode(*file)?;
                self.rename(NameChange::Unset(*file));
            }
            DiskOp::List => return Ok(DiskResult::Files(self.list())),
            DiskOp::SyncDir => {
                self.check(self.faults.dir_sync)?;
                self.durable_names = self.names.clone();
                self.changes.clear();
            }
        }
        Ok(DiskResult::Done)
    }

    fn rename(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }

    fn check(&mut self, fails: bool) -> Result<(), DiskError> {
        self.faults.injected += usize::from(fails);
        if fails { Err(error(DiskErrorKind::Io, "injected")) } else { Ok(()) }
    }

    fn check_space(&mut self, file: FileName, more: usize) -> Result<(), DiskError> {
        let is_over = self.faults.capacity.is_some_and(|capacity| self.used() + more > capacity);
        let is_full = self.faults.full || is_over || self.faults.full_for == Some(file.kind);
        self.faults.injected += usize::from(is_full);
        if is_full { Err(error(DiskErrorKind::Full, "no space left")) } else { Ok(()) }
    }

    /// Bytes of all files.
    pub(super) fn used(&self) -> usize {
        self.names.values().map(|inode| self.inodes[*inode].cached.len()).sum()
    }

    fn inode(&mut self, file: FileName) -> Result<&mut Inode, DiskError> {
        let index = self.names.get(&file).ok_or_else(|| error(DiskErrorKind::NotFound, "no such file"))?;
        Ok(&mut self.inodes[*index])
    }

    pub(super) fn list(&self) -> Vec<FileInfo> {
        let info = |(file, inode): (&FileName, &usize)| FileInfo {
            file: *file,
            len: self.inodes[*inode].cached.len() as u64,
        };
        self.names.iter().map(info).collect()
    }

    /// The process dies: operations under way are done or not, what is in the cache stays.
    pub(super) fn kill(&mut self, rng: &mut Rng) {
        while !self.pending.is_empty() {
            let index = rng.below(self.pending.len() as u64) as usize;
            let (_, mut op) = self.pending.remove(index);
            if rng.below(2) == 0 {
                continue;
            }
            if let DiskOp::Write { sync, .. } = &mut op {
                *sync = false;
            }
            if !matches!(op, DiskOp::Sync { .. } | DiskOp::SyncDir) {
                let _result = self.perform(&op);
            }
        }
    }

    /// The machine dies: of what was not synced, any subset of sectors and a prefix of the name changes survive.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        self.kill(rng);
        let mut names = self.durable_names.clone();
        let kept = rng.below(self.changes.len() as u64 + 1) as usize;
        for change in &self.changes[..kept] {
            apply(&mut names, change);
        }
        self.changes.clear();
        (self.names, self.durable_names) = (names.clone(), names);
        // Of 64 sectors so many survive: few, half, and nearly all, where pages of one group part ways.
        let survivors = [4, 32, 60, 63][rng.below(4) as usize];
        for inode in &mut self.inodes {
            for sector in core::mem::take(&mut inode.dirty) {
                if rng.below(64) < survivors {
                    inode.keep(sector);
                }
            }
            inode.cached = inode.durable.clone();
        }
    }

    /// Flips a bit where the medium holds it.
    pub(super) fn flip(&mut self, file: FileName, offset: usize) {
        if let Ok(inode) = self.inode(file) {
            inode.cached[offset] ^= 0x10;
            inode.durable = inode.cached.clone();
        }
    }

    /// The operator's hand: cuts a file.
    pub(super) fn cut(&mut self, file: FileName, len: usize) {
        if let Ok(inode) = self.inode(file) {
            inode.cached.truncate(len);
            inode.durable = inode.cached.clone();
        }
    }

    /// The operator's hand: gives two files each other's name.
    pub(super) fn swap(&mut self, one: FileName, other: FileName) {
        for names in [&mut self.names, &mut self.durable_names] {
            if let (Some(a), Some(b)) = (names.get(&one).copied(), names.get(&other).copied()) {
                names.insert(one, b);
                names.insert(other, a);
            }
        }
    }

    /// The operator's hand: loses a file.
    pub(super) fn lose(&mut self, file: FileName) {
        self.names.remove(&file);
        self.durable_names.remove(&file);
    }

    /// Whether there ever was a file of that name.
    pub(super) fn was_made(&self, file: FileName) -> bool {
        self.made.contains(&file)
    }

    /// All files with their bytes.
    pub(super) fn contents(&self) -> Vec<(FileName, Vec<u8>)> {
        self.names.iter().map(|(file, inode)| (*file, self.inodes[*inode].cached.clone())).collect()
    }
}

impl Inode {
    fn sync(&mut self) {
        self.durable = self.cached.clone();
        self.dirty.clear();
    }

    fn keep(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.cached.len());
        if start < end {
            self.durable.resize(end.max(self.durable.len()), 0);
            self.durable[start..end].copy_from_slice(&self.cached[start..end]);
        }
    }
}

fn error(kind: DiskErrorKind, text: &str) -> DiskError {
    DiskError { kind, text: text.to_string() }
}
