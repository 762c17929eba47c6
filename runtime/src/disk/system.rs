//! The calls that the disk driver makes of the operating system, at one border: tests break them there.

use rustix::fs::{Advice, FallocateFlags};
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::path::Path;

/// What is made of the operating system's calls. Each is one call: what is short or interrupted is the caller's to go on with.
pub trait System: Debug + Send + Sync + 'static {
    /// Opens a file that is there, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    /// Makes a file; fails if it exists.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    /// `pread` into the spare capacity of `into`.
    fn read_at(&self, file: &File, into: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(file, rustix::buffer::spare_capacity(into), offset)?)
    }

    /// `preadv2` of what the system has in memory: never waits for the disk.
    fn read_cached_at(&self, file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let into = &mut [io::IoSliceMut::new(into)];
        Ok(rustix::io::preadv2(file, into, offset, rustix::io::ReadWriteFlags::NOWAIT)?)
    }

    /// `pwrite`.
    fn write_at(&self, file: &File, data: &[u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwrite(file, data, offset)?)
    }

    /// `fdatasync`.
    fn sync_data(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(file)?)
    }

    /// `fsync`.
    fn sync_all(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fsync(file)?)
    }

    /// `fallocate` from the beginning, with the length set.
    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len)?)
    }

    /// `ftruncate`.
    fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(file, len)?)
    }

    /// `rename`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    /// `unlink`.
    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    /// `posix_fadvise` on a stretch of a file, up to its end with a length of 0. Advice may be left unheard.
    fn advise(&self, file: &File, offset: u64, len: u64, advice: Advice) {
        let _unheard = rustix::fs::fadvise(file, offset, NonZeroU64::new(len), advice);
    }
}

/// The operating system itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel;

impl System for Kernel {}
