//! An operating system that breaks its calls as a test wants it.

use super::system::{Kernel, System};
use rustix::fs::Advice;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex};

/// A call, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Open,
    Create,
    Read,
    ReadCached,
    Write,
    Sync,
    SyncAll,
    Allocate,
    Rename,
    Remove,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the system says what it has in memory.
    is_cached: bool,
    /// Errors to come, the next one last.
    errors: BTreeMap<Call, Vec<Errno>>,
    /// These calls wait.
    held: Vec<Call>,
    /// Calls that wait now.
    waiting: usize,
    made: BTreeMap<Call, usize>,
    advice: Vec<(u64, u64, String)>,
    /// Bytes that one read or write moves at most.
    most: Option<usize>,
    /// Files that may be opened before the process has no handles left; they are never seen to be closed.
    handles: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Faulty {
    state: Mutex<State>,
    changed: Condvar,
}

impl Faulty {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock().expect("no test panics here"));
        self.changed.notify_all();
        changed
    }

    /// The next calls fail so, one after the other.
    pub(super) fn fail(&self, call: Call, errors: &[Errno]) {
        self.with(|state| {
            state.errors.entry(call).or_default().splice(0..0, errors.iter().rev().copied());
        });
    }

    /// From now on the system says what it has in memory.
    pub(super) fn tell_cached(&self) {
        self.with(|state| state.is_cached = true);
    }

    /// Reads and writes move so few bytes at a time.
    pub(super) fn move_at_most(&self, bytes: usize) {
        self.with(|state| state.most = Some(bytes));
    }

    /// From the so manieth handle on opening fails.
    pub(super) fn handles(&self, most: usize) {
        self.with(|state| state.handles = Some(most));
    }

    pub(super) fn hold(&self, call: Call) {
        self.with(|state| state.held.push(call));
    }

    pub(super) fn release(&self) {
        self.with(|state| state.held.clear());
    }

    /// Waits until so many calls are held.
    pub(super) fn wait_held(&self, count: usize) {
        let state = self.state.lock().expect("no test panics here");
        drop(self.changed.wait_while(state, |state| state.waiting < count).expect("no test panics here"));
    }

    /// How often a call has been made.
    pub(super) fn made(&self, call: Call) -> usize {
        self.with(|state| state.made.get(&call).copied().unwrap_or(0))
    }

    pub(super) fn advice(&self) -> Vec<(u64, u64, String)> {
        self.with(|state| std::mem::take(&mut state.advice))
    }

    fn call(&self, call: Call) -> io::Result<usize> {
        let mut state = self.state.lock().expect("no test panics here");
        *state.made.entry(call).or_default() += 1;
        state.waiting += 1;
        self.changed.notify_all();
        state = self.changed.wait_while(state, |state| state.held.contains(&call)).expect("no test panics");
        state.waiting -= 1;
        if call == Call::Open && state.handles == Some(0) {
            // One is closed before the next attempt.
            state.handles = Some(1);
            return Err(Errno::MFILE.into());
        }
        state.handles = state.handles.map(|left| left - usize::from(call == Call::Open));
        match state.errors.get_mut(&call).and_then(Vec::pop) {
            Some(error) => Err(error.into()),
            None => Ok(state.most.unwrap_or(usize::MAX)),
        }
    }
}

impl System for Faulty {
    fn open(&self, path: &Path) -> io::Result<File> {
        self.call(Call::Open).and_then(|_| Kernel.open(path))
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.call(Call::Create).and_then(|_| Kernel.create(path))
    }

    fn read_at(&self, file: &File, into: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        let most = self.call(Call::Read)?.min(into.capacity() - into.len());
        let mut piece = Vec::with_capacity(most);
        let count = Kernel.read_at(file, &mut piece, offset)?;
        into.extend_from_slice(&piece[..count.min(most)]);
        Ok(count.min(most))
    }

    fn read_cached_at(&self, file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
        if !self.with(|state| state.is_cached) {
            return Err(Errno::AGAIN.into());
        }
        self.call(Call::ReadCached)?;
        Kernel.read_cached_at(file, into, offset)
    }

    fn write_at(&self, file: &File, data: &[u8], offset: u64) -> io::Result<usize> {
        let most = self.call(Call::Write)?;
        Kernel.write_at(file, &data[..data.len().min(most)], offset)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.call(Call::Sync).and_then(|_| Kernel.sync_data(file))
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.call(Call::SyncAll).and_then(|_| Kernel.sync_all(file))
    }

    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        self.call(Call::Allocate).and_then(|_| Kernel.allocate(file, len))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Rename).and_then(|_| Kernel.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Remove).and_then(|_| Kernel.remove(path))
    }

    fn advise(&self, _: &File, offset: u64, len: u64, advice: Advice) {
        self.with(|state| state.advice.push((offset, len, format!("{advice:?}"))));
    }
}
