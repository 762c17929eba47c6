//! Real files in one directory, on a few I/O threads.

use super::Disk;
use crate::inbox::Shard;
use crate::stats::Stats;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};
use samara_core::base::Ticket;
use samara_core::io::{DiskError, DiskErrorKind, DiskOp, DiskResult, FileInfo, FileKind, FileName};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

/// I/O threads of a shard: the log's write, a table's write, and reads go on at the same time.
const THREADS: usize = 4;

/// A shard's directory: locked while this lives.
#[derive(Debug)]
pub struct FileDisk {
    jobs: Sender<(Ticket, DiskOp)>,
    threads: Vec<JoinHandle<()>>,
    directory: Arc<Directory>,
    stats: Arc<Stats>,
    _lock: File,
}

/// Open files, by name.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    open: Mutex<HashMap<FileName, Arc<File>>>,
    /// Nothing may be written any more.
    abandoned: AtomicBool,
}

impl FileDisk {
    /// Opens (or makes) a shard's directory. Fails if another process has it.
    pub fn open(path: &Path, done: &Shard, stats: Arc<Stats>) -> Result<Self, String> {
        let name = path.display();
        make_directory(path).map_err(|error| format!("{name}: cannot make the data directory: {error}"))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(|error| format!("{}: {error}", lock_path.display()))?;
        lock.try_lock().map_err(|_| {
            format!(
                "{name}: another process uses this data directory; stop it, or give another one by --data"
            )
        })?;
        let (jobs, queue) = unbounded();
        let directory = Arc::new(Directory {
            path: path.to_owned(),
            open: Mutex::default(),
            abandoned: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let (directory, queue) = (directory.clone(), queue.clone());
            let (done, stats) = (done.clone(), stats.clone());
            let thread = std::thread::Builder::new().name(format!("disk-{number}"));
            let spawned = thread.spawn(move || work(&directory, &queue, &done, &stats));
            threads.push(spawned.map_err(|error| format!("cannot start an I/O thread: {error}"))?);
        }
        Ok(Self { jobs, threads, directory, stats, _lock: lock })
    }

    /// Performs what has been queued, makes it durable, and gives the directory back.
    pub fn close(self) -> io::Result<()> {
        drop(self.jobs);
        for thread in self.threads {
            thread.join().map_err(|_| io::Error::other("an I/O thread has died"))?;
        }
        let open = self.directory.open.lock().map_err(|_| io::Error::other("an I/O thread has died"))?;
        for file in open.values() {
            file.sync_data()?;
        }
        File::open(&self.directory.path)?.sync_all()
    }

    /// Gives the directory back as it is: what is still queued is not done.
    pub fn abandon(self) {
        self.directory.abandoned.store(true, Ordering::SeqCst);
    }
}

impl Disk for FileDisk {
    fn submit(&mut self, ticket: Ticket, op: DiskOp) {
        self.stats.gauges.disk.begin(&op);
        // The threads live as long as the sender does: the queue is never closed here.
        let _queued = self.jobs.send((ticket, op));
    }
}

fn work(directory: &Directory, queue: &Receiver<(Ticket, DiskOp)>, done: &Shard, stats: &Stats) {
    while let Ok((ticket, op)) = queue.recv() {
        if directory.abandoned.load(Ordering::SeqCst) {
            return;
        }
        let began = Instant::now();
        let result = directory.perform(&op).unwrap_or_else(|error| {
            let kind = match error.kind() {
                io::ErrorKind::NotFound => DiskErrorKind::NotFound,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskErrorKind::Full,
                _ => DiskErrorKind::Io,
            };
            DiskResult::Failed(DiskError { kind, text: format!("{}: {error}", describe(directory, &op)) })
        });
        stats.gauges.disk.end(&op, began.elapsed());
        done.disk(ticket, result);
    }
}

/// Makes a directory and those above it, and makes their names durable: without that, a crash of the machine could take
/// away the whole directory with what was acknowledged in it.
fn make_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
    std::fs::create_dir_all(path)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

fn describe(directory: &Directory, op: &DiskOp) -> String {
    let file = match op {
        DiskOp::Create { file, .. }
        | DiskOp::Write { file, .. }
        | DiskOp::Read { file, .. }
        | DiskOp::Sync { file }
        | DiskOp::Truncate { file, .. }
        | DiskOp::Remove { file } => file,
        DiskOp::Rename { from, .. } => from,
        DiskOp::List | DiskOp::SyncDir => return directory.path.display().to_string(),
    };
    directory.path.join(file.to_string()).display().to_string()
}

impl Directory {
    fn file(&self, name: FileName) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().map_err(|_| io::Error::other("an I/O thread has died"))?;
        if let Some(file) = open.get(&name) {
            return Ok(file.clone());
        }
        let file =
            Arc::new(OpenOptions::new().read(true).write(true).open(self.path.join(name.to_string()))?);
        open.insert(name, file.clone());
        Ok(file)
    }

    fn forget(&self, name: FileName) {
        if let Ok(mut open) = self.open.lock() {
            open.remove(&name);
        }
    }

    fn perform(&self, op: &DiskOp) -> io::Result<DiskResult> {
        match op {
            DiskOp::Create { file, preallocate } => {
                let path = self.path.join(file.to_string());
                let made = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
                if file.kind == FileKind::Temp {
                    take_space(&made, *preallocate)?;
                } else {
                    reserve(&made, *preallocate)?;
                }
            }
            DiskOp::Write { file, offset, data, sync } => {
                let file = self.file(*file)?;
                file.write_all_at(data, *offset)?;
                if *sync {
                    file.sync_data()?;
                }
            }
            DiskOp::Read { file, offset, len } => return self.read(*file, *offset, *len),
            DiskOp::Sync { file } => self.file(*file)?.sync_data()?,
            DiskOp::Truncate { file, len } => self.file(*file)?.set_len(*len)?,
            DiskOp::Rename { from, to } => {
                std::fs::rename(self.path.join(from.to_string()), self.path.join(to.to_string()))?;
                self.forget(*from);
                self.forget(*to);
            }
            DiskOp::Remove { file } => {
                std::fs::remove_file(self.path.join(file.to_string()))?;
                self.forget(*file);
            }
            DiskOp::List => return self.list(),
            DiskOp::SyncDir => File::open(&self.path)?.sync_all()?,
        }
        Ok(DiskResult::Done)
    }

    fn read(&self, file: FileName, offset: u64, len: u32) -> io::Result<DiskResult> {
        let file = self.file(file)?;
        let mut data = vec![0; len as usize];
        let mut filled = 0;
        while filled < data.len() {
            match file.read_at(&mut data[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        data.truncate(filled);
        Ok(DiskResult::Data(Bytes::from(data)))
    }

    fn list(&self) -> io::Result<DiskResult> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Some(file) = entry.file_name().to_str().and_then(FileName::parse) {
                files.push(FileInfo { file, len: entry.metadata()?.len() });
            }
        }
        files.sort_by_key(|info| info.file);
        Ok(DiskResult::Files(files))
    }
}

/// Fills a new file with zeros: the space is taken now, so that a later write of the log cannot fail for want of it.
fn reserve(file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let piece = zeros.len().min((len - at) as usize);
        file.write_all_at(&zeros[..piece], at)?;
        at += piece as u64;
    }
    if len > 0 { file.sync_all() } else { Ok(()) }
}

/// Takes the space of a file that is never written, as the reserve is: at once where the file system can do that.
fn take_space(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
        Ok(()) => file.sync_all(),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => reserve(file, len),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
