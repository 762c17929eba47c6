//! The operations of the virtual disk on the files of a directory, one at a time.

use super::handles::{Handle, Handles};
use super::system::System;
use bytes::Bytes;
use rustix::fs::Advice;
use samara_core::io::{DiskErrorKind, DiskOp, DiskResult, FileInfo, FileKind, FileName};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};

/// A read of so many bytes goes through a file: the system is told what comes next.
const LONG_READ: u64 = 128 << 10;
/// A read of up to so many bytes is answered at once if the system has them in memory: handing it to a thread and back
/// takes longer than copying them.
const SHORT_READ: u64 = 64 << 10;
/// Written pages of the log are given back to the system in pieces of this size: nobody reads them but a start.
const GIVE_BACK: u64 = 4 << 20;

/// A shard's directory.
#[derive(Debug)]
pub(super) struct Directory {
    system: Arc<dyn System>,
    path: PathBuf,
    itself: File,
    handles: Handles,
    /// A sync has failed: what it should have made durable is undefined, and a second one would say that all is well.
    broken: OnceLock<String>,
    /// The file system cannot say what it has in memory.
    waits_always: AtomicBool,
    /// Nothing may be written any more.
    abandoned: AtomicBool,
    /// Held while anything can still be written.
    _lock: File,
}

/// Why an operation failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: DiskErrorKind,
    pub(super) text: String,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => DiskErrorKind::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskErrorKind::Full,
            _ => DiskErrorKind::Io,
        };
        Self { kind, text: error.to_string() }
    }
}

impl Directory {
    pub(super) fn new(
        system: Arc<dyn System>,
        path: PathBuf,
        itself: File,
        lock: File,
        handles: Handles,
    ) -> Self {
        let (broken, waits_always, abandoned) =
            (OnceLock::new(), AtomicBool::new(false), AtomicBool::new(false));
        Self { system, path, itself, handles, broken, waits_always, abandoned, _lock: lock }
    }

    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    #[cfg(test)]
    pub(super) fn open_files(&self) -> usize {
        self.handles.count()
    }

    /// The file that an operation is about, for people.
    pub(super) fn describe(&self, op: &DiskOp) -> String {
        let file = match op {
            DiskOp::Rename { from, .. } => Some(*from),
            other => other.file(),
        };
        file.map_or_else(|| self.path.clone(), |file| self.path_of(file)).display().to_string()
    }

    fn path_of(&self, file: FileName) -> PathBuf {
        self.path.join(file.to_string())
    }

    fn handle(&self, file: FileName) -> io::Result<Arc<Handle>> {
        self.handles.get(&*self.system, file, &self.path_of(file))
    }

    /// After a failed sync the system takes the pages for clean although the disk has not got them. Whatever a start decides
    /// by is read from the disk; pages that are still to be written stay, and are written by the sync of recovery.
    pub(super) fn forget_what_may_not_be_on_disk(&self) -> io::Result<()> {
        for FileInfo { file, .. } in self.files()? {
            if !matches!(file.kind, FileKind::Table | FileKind::Value | FileKind::Temp)
                && let Ok(open) = File::open(self.path_of(file))
            {
                self.system.advise(&open, 0, 0, Advice::DontNeed);
            }
        }
        Ok(())
    }

    pub(super) fn perform(&self, op: &DiskOp) -> Result<DiskResult, Failure> {
        match op {
            DiskOp::Read { file, offset, len } => return Ok(self.read(*file, *offset, *len)?),
            DiskOp::List => return Ok(DiskResult::Files(self.files()?)),
            _ => self.check_sound()?,
        }
        match op {
            DiskOp::Create { file, preallocate } => self.create(*file, *preallocate)?,
            DiskOp::Write { file, offset, data, sync } => {
                let handle = self.handle(*file)?;
                let written = self.write(&handle.file, data, *offset);
                handle.is_dirty.store(true, Ordering::Release);
                written?;
                if *sync {
                    self.sync(&handle)?;
                    self.give_back(*file, &handle, offset + data.len() as u64);
                }
            }
            DiskOp::Sync { file } => self.sync(&*self.handle(*file)?)?,
            DiskOp::Truncate { file, len } => {
                let handle = self.handle(*file)?;
                self.again_if_interrupted(|| self.system.truncate(&handle.file, *len))?;
                handle.is_dirty.store(true, Ordering::Release);
            }
            DiskOp::Rename { from, to } => {
                self.system.rename(&self.path_of(*from), &self.path_of(*to))?;
                self.handles.rename(*from, *to);
            }
            DiskOp::Remove { file } => {
                self.system.remove(&self.path_of(*file))?;
                self.handles.forget(*file);
            }
            DiskOp::SyncDir => self.synced(self.system.sync_all(&self.itself))?,
            DiskOp::Read { .. } | DiskOp::List => {}
        }
        Ok(DiskResult::Done)
    }

    fn again_if_interrupted<T>(&self, call: impl Fn() -> io::Result<T>) -> io::Result<T> {
        loop {
            match call() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted && !self.is_abandoned() => {}
                result => return result,
            }
        }
    }

    fn check_sound(&self) -> Result<(), Failure> {
        match self.broken.get() {
            None => Ok(()),
            Some(reason) => Err(Failure {
                kind: DiskErrorKind::Io,
                text: format!("nothing is written after a failed sync: {reason}"),
            }),
        }
    }

    /// Makes what was written to the file durable.
    fn sync(&self, handle: &Handle) -> Result<(), Failure> {
        // Nothing panics under this lock.
        let _alone = handle.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_sound()?;
        handle.is_dirty.store(false, Ordering::Release);
        self.synced(self.system.sync_data(&handle.file))
    }

    /// The result of a sync. Whatever is wrong with one, for want of space or by an interrupt, is never made good by
    /// another: the system may have thrown away the pages and told it only once.
    fn synced(&self, result: io::Result<()>) -> Result<(), Failure> {
        result.map_err(|error| {
            let text = format!("the sync has failed: {error}");
            Failure { kind: DiskErrorKind::Io, text: self.broken.get_or_init(|| text).clone() }
        })
    }

    fn write(&self, file: &File, mut data: &[u8], mut offset: u64) -> io::Result<()> {
        while !data.is_empty() {
            let count = self.again_if_interrupted(|| self.system.write_at(file, data, offset))?;
            if count == 0 {
                return Err(io::Error::other("the system takes no more bytes and does not say why"));
            }
            data = &data[count..];
            offset += count as u64;
        }
        Ok(())
    }

    fn read(&self, name: FileName, offset: u64, len: u32) -> io::Result<DiskResult> {
        let handle = self.handle(name)?;
        let wanted = len as usize;
        self.announce(&handle, offset, u64::from(len));
        let mut data = Vec::with_capacity(wanted);
        while data.len() < wanted {
            let at = offset + data.len() as u64;
            let before = data.len();
            let mut attempt = || self.system.read_at(&handle.file, &mut data, at);
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted && !self.is_abandoned() => {}
                Err(error) => return Err(error),
                Ok(_) if data.len() == before => break,
                Ok(_) => {}
            }
        }
        data.truncate(wanted);
        Ok(DiskResult::Data(Bytes::from(data)))
    }

    /// A short read that the system can answer from memory. `None`: the disk must be asked, on a thread that may wait.
    pub(super) fn read_cached(&self, op: &DiskOp) -> Option<DiskResult> {
        let DiskOp::Read { file, offset, len } = op else {
            return None;
        };
        if u64::from(*len) > SHORT_READ || self.waits_always.load(Ordering::Relaxed) {
            return None;
        }
        let handle = self.handles.get_open(*file)?;
        let mut data = vec![0; *len as usize];
        match self.system.read_cached_at(&handle.file, &mut data, *offset) {
            Ok(count) if count == data.len() => Some(DiskResult::Data(Bytes::from(data))),
            Err(error) if is_not_offered(&error) => {
                self.waits_always.store(true, Ordering::Relaxed);
                None
            }
            // A part of it, the end of the file, or an error: the usual read finds out.
            _ => None,
        }
    }

    /// Who reads a file in long pieces, one behind the other, has the next one fetched while he works on this one.
    fn announce(&self, handle: &Handle, offset: u64, len: u64) {
        if len >= LONG_READ && handle.read_to.swap(offset + len, Ordering::Relaxed) == offset {
            self.system.advise(&handle.file, offset + len, len, Advice::WillNeed);
        }
    }

    /// The log's pages are written once and read by a start only: they need no memory of the system's.
    fn give_back(&self, file: FileName, handle: &Handle, written: u64) {
        let from = handle.given_back.load(Ordering::Relaxed);
        if file.kind != FileKind::Wal || written.abs_diff(from) < GIVE_BACK {
            return;
        }
        handle.given_back.store(written, Ordering::Relaxed);
        if written > from {
            self.system.advise(&handle.file, from, written - from, Advice::DontNeed);
        }
    }

    /// Makes a file with its space. What cannot have its space leaves nothing behind: it would take what others need.
    fn create(&self, file: FileName, preallocate: u64) -> Result<(), Failure> {
        let path = self.path_of(file);
        let made = self.handles.make_room_for(|| self.system.create(&path))?;
        let filled = match (preallocate, file.kind) {
            (0, _) => return Ok(()),
            (_, FileKind::Temp) => self.take_space(&made, preallocate),
            _ => self.fill(&made, preallocate),
        };
        let done = filled.map_err(Failure::from).and_then(|()| self.synced(self.system.sync_all(&made)));
        self.system.advise(&made, 0, 0, Advice::DontNeed);
        if done.is_err() {
            // It has no name in the manifest yet; if it cannot be removed now, the next start does it.
            let _left = self.system.remove(&path);
        }
        done
    }

    /// Fills a new file with zeros: the space is taken now, so that a later write of the log cannot fail for want of it,
    /// and its sync has no lengths or extents to write.
    fn fill(&self, file: &File, len: u64) -> io::Result<()> {
        let zeros = vec![0; 1 << 20];
        let mut at = 0;
        while at < len {
            let piece = zeros.len().min((len - at) as usize);
            self.write(file, &zeros[..piece], at)?;
            at += piece as u64;
        }
        Ok(())
    }

    /// Takes the space of a file that is never written, as the reserve is: at once where the file system can do that.
    fn take_space(&self, file: &File, len: u64) -> io::Result<()> {
        match self.again_if_interrupted(|| self.system.allocate(file, len)) {
            Err(error) if is_not_offered(&error) => self.fill(file, len),
            result => result,
        }
    }

    fn files(&self) -> io::Result<Vec<FileInfo>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Some(file) = entry.file_name().to_str().and_then(FileName::parse) {
                files.push(FileInfo { file, len: entry.metadata()?.len() });
            }
        }
        files.sort_by_key(|info| info.file);
        Ok(files)
    }

    /// Makes everything durable that was written.
    pub(super) fn sync_everything(&self) -> io::Result<()> {
        let failed = |failure: Failure| io::Error::other(failure.text);
        for (file, handle) in self.handles.dirty() {
            self.sync(&handle).map_err(|Failure { text, .. }| io::Error::other(format!("{file}: {text}")))?;
        }
        self.check_sound().map_err(failed)?;
        self.synced(self.system.sync_all(&self.itself)).map_err(failed)
    }
}

/// The file system has no such call.
fn is_not_offered(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::OPNOTSUPP | Errno::NOSYS))
}
