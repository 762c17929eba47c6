//! A disk in memory for tests: what has been synced survives the shard that wrote it, what has not is lost.

use super::Disk;
use crate::inbox::Shard;
use bytes::Bytes;
use samara_core::base::Ticket;
use samara_core::io::{DiskError, DiskErrorKind, DiskOp, DiskResult, FileInfo, FileName};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One file: its contents now, and as the platter has them.
#[derive(Debug, Clone, Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Where the two may differ.
    dirty: Vec<Range<usize>>,
}

impl Contents {
    fn resize(&mut self, len: usize) {
        self.dirty.push(self.now.len().min(len)..self.now.len().max(len));
        self.now.resize(len, 0);
    }

    fn write(&mut self, start: usize, data: &[u8]) {
        if self.now.len() < start + data.len() {
            self.resize(start + data.len());
        }
        self.now[start..start + data.len()].copy_from_slice(data);
        self.dirty.push(start..start + data.len());
    }

    fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for range in self.dirty.drain(..) {
            let range = range.start.min(self.now.len())..range.end.min(self.now.len());
            self.durable[range.clone()].copy_from_slice(&self.now[range]);
        }
    }
}

/// The files of one shard. The names are durable after `SyncDir`.
#[derive(Debug, Default)]
struct Files {
    now: BTreeMap<FileName, Arc<Mutex<Contents>>>,
    durable: BTreeMap<FileName, Arc<Mutex<Contents>>>,
}

/// What survives: cloned handles show the same files.
#[derive(Debug, Clone, Default)]
pub struct Platter(Arc<Mutex<Files>>);

/// A disk on a platter, with a latency.
#[derive(Debug)]
pub struct MemoryDisk {
    platter: Platter,
    done: Shard,
    latency: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Platter {
    /// Loses all that has not been synced, as a crash of the machine does.
    pub fn crash(&self) {
        let mut files = lock(&self.0);
        for contents in files.durable.values().chain(files.now.values()) {
            let mut contents = lock(contents);
            let Contents { now, durable, .. } = &mut *contents;
            now.clone_from(durable);
            contents.dirty.clear();
        }
        files.now = files.durable.clone();
    }

    fn perform(&self, op: DiskOp) -> Result<DiskResult, DiskErrorKind> {
        let mut files = lock(&self.0);
        let find = |files: &Files, name| files.now.get(&name).cloned().ok_or(DiskErrorKind::NotFound);
        match op {
            DiskOp::Create { file, preallocate } => {
                if files.now.contains_key(&file) {
                    return Err(DiskErrorKind::Io);
                }
                let zeros = vec![0; preallocate as usize];
                let contents = Contents { now: zeros.clone(), durable: zeros, dirty: Vec::new() };
                files.now.insert(file, Arc::new(Mutex::new(contents)));
            }
            DiskOp::Write { file, offset, data, sync } => {
                let contents = find(&files, file)?;
                let mut contents = lock(&contents);
                contents.write(offset as usize, &data);
                if sync {
                    contents.sync();
                }
            }
            DiskOp::Read { file, offset, len } => {
                let contents = find(&files, file)?;
                let contents = lock(&contents);
                let start = contents.now.len().min(offset as usize);
                let end = contents.now.len().min(start + len as usize);
                return Ok(DiskResult::Data(Bytes::copy_from_slice(&contents.now[start..end])));
            }
            DiskOp::Sync { file } => {
                let contents = find(&files, file)?;
                lock(&contents).sync();
            }
            DiskOp::Truncate { file, len } => {
                let contents = find(&files, file)?;
                lock(&contents).resize(len as usize);
            }
            DiskOp::Rename { from, to } => {
                let contents = files.now.remove(&from).ok_or(DiskErrorKind::NotFound)?;
                files.now.insert(to, contents);
            }
            DiskOp::Remove { file } => {
                files.now.remove(&file).ok_or(DiskErrorKind::NotFound)?;
            }
            DiskOp::List => {
                let info = |(file, contents): (&FileName, &Arc<Mutex<Contents>>)| FileInfo {
                    file: *file,
                    len: lock(contents).now.len() as u64,
                };
                return Ok(DiskResult::Files(files.now.iter().map(info).collect()));
            }
            DiskOp::SyncDir => files.durable = files.now.clone(),
        }
        Ok(DiskResult::Done)
    }
}

impl MemoryDisk {
    /// A disk whose operations take `latency` each, side by side.
    pub fn new(platter: Platter, done: Shard, latency: Duration) -> Self {
        Self { platter, done, latency }
    }
}

impl Disk for MemoryDisk {
    fn submit(&mut self, ticket: Ticket, op: DiskOp) {
        let (platter, done, latency) = (self.platter.clone(), self.done.clone(), self.latency);
        tokio::spawn(async move {
            tokio::time::sleep(latency).await;
            let failed = |kind| DiskResult::Failed(DiskError { kind, text: format!("{op:?}") });
            let result = platter.perform(op.clone()).unwrap_or_else(failed);
            done.disk(ticket, result);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use samara_core::io::FileKind;

    #[test]
    fn a_crash_loses_what_was_not_synced_and_nothing_else() {
        let platter = Platter::default();
        let file = FileName::new(FileKind::Wal, 1);
        let write = |offset, data: &'static [u8], sync| {
            platter.perform(DiskOp::Write { file, offset, data: Bytes::from_static(data), sync })
        };
        let read = || platter.perform(DiskOp::Read { file, offset: 0, len: 100 });
        platter.perform(DiskOp::Create { file, preallocate: 4 }).expect("no such file yet");
        platter.crash();
        assert_eq!(read(), Err(DiskErrorKind::NotFound), "its name was not durable");
        platter.perform(DiskOp::Create { file, preallocate: 4 }).expect("no such file any more");
        platter.perform(DiskOp::SyncDir).expect("works");
        write(0, b"ab", false).expect("works");
        write(2, b"cdef", true).expect("works");
        write(0, b"x", false).expect("works");
        assert_eq!(read(), Ok(DiskResult::Data(Bytes::from_static(b"xbcdef"))));
        platter.crash();
        assert_eq!(read(), Ok(DiskResult::Data(Bytes::from_static(b"abcdef"))));
    }
}
