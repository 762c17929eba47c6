//! Open files, by name, as many as the process may spare.

use super::system::System;
use samara_core::io::{FileKind, FileName};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An open file.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) file: File,
    /// Something was written since the last sync. Such a file stays open: an error that the system meets when it writes
    /// the pages out is told to those who have the file open, and may be forgotten with the last of them.
    pub(super) is_dirty: AtomicBool,
    /// One sync at a time: the system tells an error once, and two at once could share it out.
    pub(super) syncing: Mutex<()>,
    /// Up to where the log's pages have been given back to the system.
    pub(super) given_back: AtomicU64,
    /// Where the last long read ended.
    pub(super) read_to: AtomicU64,
}

impl Handle {
    pub(super) fn new(file: File) -> Arc<Self> {
        Arc::new(Self {
            file,
            is_dirty: AtomicBool::new(false),
            syncing: Mutex::default(),
            given_back: AtomicU64::new(0),
            read_to: AtomicU64::new(u64::MAX),
        })
    }
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<FileName, (Arc<Handle>, u64)>,
    uses: u64,
    /// Rises with each renaming and removal.
    names: u64,
}

impl Table {
    /// Closes the file that was used longest ago, of those that nobody uses and that hold nothing unsynced.
    fn close_one(&mut self) -> bool {
        let idle = self.open.iter().filter(|(_, (handle, _))| {
            // Whoever uses a handle has got it from this table, under its lock.
            Arc::strong_count(handle) == 1 && !handle.is_dirty.load(Ordering::Acquire)
        });
        let oldest = idle.min_by_key(|(_, (_, used))| *used).map(|(name, _)| *name);
        oldest.is_some_and(|name| self.open.remove(&name).is_some())
    }
}

/// The open files of a directory.
#[derive(Debug)]
pub(super) struct Handles {
    table: Mutex<Table>,
    most: usize,
}

impl Handles {
    /// Keeps up to `most` files open, and more only while they are in use or hold what is not synced.
    pub(super) fn new(most: usize) -> Self {
        Self { table: Mutex::default(), most }
    }

    /// Nothing panics under this lock, and the table is whole at any time.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, opened if need be. It is opened without the lock: a slow look-up of one file is not in the way of others.
    pub(super) fn get(&self, system: &dyn System, name: FileName, path: &Path) -> io::Result<Arc<Handle>> {
        loop {
            let names = {
                let mut table = self.lock();
                table.uses += 1;
                let now = table.uses;
                if let Some((handle, used)) = table.open.get_mut(&name) {
                    *used = now;
                    return Ok(handle.clone());
                }
                table.names
            };
            let file = self.make_room_for(|| system.open(path))?;
            let mut table = self.lock();
            if table.names != names || table.open.contains_key(&name) {
                // Opened by another meanwhile, or the name may stand for another file now.
                continue;
            }
            if matches!(name.kind, FileKind::Table | FileKind::Value) {
                // Lookups read single blocks; whoever goes through a file asks for large pieces by himself.
                system.advise(&file, 0, 0, rustix::fs::Advice::Random);
            }
            while table.open.len() >= self.most && table.close_one() {}
            let (handle, now) = (Handle::new(file), table.uses);
            table.open.insert(name, (handle.clone(), now));
            return Ok(handle);
        }
    }

    /// The file, if it is open.
    pub(super) fn get_open(&self, name: FileName) -> Option<Arc<Handle>> {
        let mut table = self.lock();
        table.uses += 1;
        let now = table.uses;
        let (handle, used) = table.open.get_mut(&name)?;
        *used = now;
        Some(handle.clone())
    }

    /// Opens something; where the process has no handle left, others are closed for it.
    pub(super) fn make_room_for(&self, open: impl Fn() -> io::Result<File>) -> io::Result<File> {
        loop {
            match open() {
                Err(error) if is_out_of_handles(&error) && self.lock().close_one() => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                opened => return opened,
            }
        }
    }

    /// The file has another name.
    pub(super) fn rename(&self, from: FileName, to: FileName) {
        let mut table = self.lock();
        table.names += 1;
        match table.open.remove(&from) {
            Some(renamed) => drop(table.open.insert(to, renamed)),
            None => drop(table.open.remove(&to)),
        }
    }

    /// The file is gone.
    pub(super) fn forget(&self, name: FileName) {
        let mut table = self.lock();
        table.names += 1;
        table.open.remove(&name);
    }

    /// The files that hold what is not synced.
    pub(super) fn dirty(&self) -> Vec<(FileName, Arc<Handle>)> {
        let table = self.lock();
        let dirty = table.open.iter().filter(|(_, (handle, _))| handle.is_dirty.load(Ordering::Acquire));
        dirty.map(|(name, (handle, _))| (*name, handle.clone())).collect()
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().open.len()
    }
}

fn is_out_of_handles(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}
