//! Real files in one directory, on a few I/O threads.

use super::directory::{Directory, Failure};
use super::handles::Handles;
use super::system::{Kernel, System};
use super::{Disk, lanes};
use crate::inbox::Shard;
use crate::stats::Stats;
use samara_core::base::Ticket;
use samara_core::io::{DiskError, DiskOp, DiskResult};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// Files that a shard keeps open, where nothing else is said.
pub const HANDLES: usize = 512;

/// A shard's directory: locked while this, or one of its threads, lives.
#[derive(Debug)]
pub struct FileDisk {
    lanes: lanes::Senders,
    threads: Vec<JoinHandle<()>>,
    directory: Arc<Directory>,
    done: Shard,
    stats: Arc<Stats>,
}

impl FileDisk {
    /// Opens (or makes) a shard's directory, with up to `handles` files open at a time. Fails if another process has it.
    pub fn open(path: &Path, done: &Shard, stats: Arc<Stats>, handles: usize) -> Result<Self, String> {
        Self::open_on(Arc::new(Kernel), path, done, stats, handles)
    }

    pub(super) fn open_on(
        system: Arc<dyn System>,
        path: &Path,
        done: &Shard,
        stats: Arc<Stats>,
        handles: usize,
    ) -> Result<Self, String> {
        let name = path.display();
        make_directory(path).map_err(|error| format!("{name}: cannot make the data directory: {error}"))?;
        let lock = lock(path)?;
        let itself = File::open(path).map_err(|error| format!("{name}: {error}"))?;
        let directory = Directory::new(system, path.to_owned(), itself, lock, Handles::new(handles));
        directory.forget_what_may_not_be_on_disk().map_err(|error| format!("{name}: {error}"))?;
        let directory = Arc::new(directory);
        let (lanes, queues) = lanes::make();
        let mut threads = Vec::new();
        for (lane, queue) in queues {
            let (directory, done, stats) = (directory.clone(), done.clone(), stats.clone());
            let thread = std::thread::Builder::new().name(format!("disk-{lane}"));
            let spawned = thread.spawn(move || {
                while let Ok((ticket, op)) = queue.recv() {
                    if directory.is_abandoned() {
                        return;
                    }
                    work(&directory, ticket, &op, &done, &stats);
                }
            });
            threads.push(spawned.map_err(|error| format!("{name}: cannot start an I/O thread: {error}"))?);
        }
        Ok(Self { lanes, threads, directory, done: done.clone(), stats })
    }

    /// Performs what has been queued, makes it durable, and gives the directory back.
    pub fn close(self) -> io::Result<()> {
        drop(self.lanes);
        for thread in self.threads {
            thread.join().map_err(|_| io::Error::other("an I/O thread has died"))?;
        }
        self.directory.sync_everything()
    }

    /// Leaves the directory as it is: what is still queued is not done. The lock goes with the last operation under way:
    /// what hangs in the system may still be written, and nobody else must build on the files until then.
    pub fn abandon(self) {
        self.directory.abandon();
    }
}

impl Disk for FileDisk {
    fn submit(&mut self, ticket: Ticket, op: DiskOp) {
        self.stats.gauges.disk.begin(&op);
        let began = Instant::now();
        if let Some(result) = self.directory.read_cached(&op) {
            self.stats.gauges.disk.end(&op, began.elapsed());
            return self.done.disk(ticket, result);
        }
        self.lanes.send(ticket, op);
    }
}

fn work(directory: &Directory, ticket: Ticket, op: &DiskOp, done: &Shard, stats: &Stats) {
    let began = Instant::now();
    let result = directory.perform(op).unwrap_or_else(|failure| {
        let Failure { kind, text } = failure;
        DiskResult::Failed(DiskError { kind, text: format!("{}: {text}", directory.describe(op)) })
    });
    stats.gauges.disk.end(op, began.elapsed());
    done.disk(ticket, result);
}

fn lock(directory: &Path) -> Result<File, String> {
    let path = directory.join("lock");
    let name = path.display();
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(|error| format!("{name}: {error}"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(format!(
            "{}: another process uses this data directory; stop it, or give another one by --data",
            directory.display()
        )),
        Err(TryLockError::Error(error)) => Err(format!(
            "{name}: cannot be locked: {error}; the data directory must be on a file system that can lock files"
        )),
    }
}

/// Makes a directory and those above it, and makes their names durable: without that, a crash of the machine could take
/// away the whole directory with what was acknowledged in it. The two names nearest to the data are synced even if they
/// are there: who made them may have died before it came to that.
fn make_directory(path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|above| !above.exists()).count();
    std::fs::create_dir_all(path)?;
    for (number, made) in path.ancestors().enumerate().take(missing.max(2)) {
        let Some(parent) = made.parent() else {
            break;
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let synced = File::open(parent).and_then(|parent| parent.sync_all());
        if number < missing {
            synced?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
