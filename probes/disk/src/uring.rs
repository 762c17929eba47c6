//! A prototype on io_uring: the shard's own thread submits and reaps, woken by an event of the ring. A write and its sync are
//! linked. Buffers are allocated for each read, as the node's driver does.

use crate::Driver;
use bytes::Bytes;
use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::EventfdFlags;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;

const ENTRIES: u32 = 256;
/// Completions of a write that its sync follows.
const SILENT: u64 = u64::MAX;

/// What an operation in flight must not lose.
enum Held {
    Read(Vec<u8>),
    Write(Bytes),
}

pub struct Ring {
    ring: IoUring,
    file: File,
    held: Vec<Option<Held>>,
    free: Vec<usize>,
    event: AsyncFd<OwnedFd>,
    runtime: Runtime,
}

impl Ring {
    pub fn new(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).expect("it is there");
        let ring = IoUring::new(ENTRIES).expect("the kernel allows io_uring");
        let event =
            rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("an eventfd");
        ring.submitter().register_eventfd(event.as_raw_fd()).expect("an event of the ring");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let guard = runtime.enter();
        let event = AsyncFd::new(event).expect("an event of the runtime");
        drop(guard);
        Self { ring, file, held: Vec::new(), free: Vec::new(), event, runtime }
    }

    fn hold(&mut self, held: Held) -> usize {
        let at = self.free.pop().unwrap_or_else(|| {
            self.held.push(None);
            self.held.len() - 1
        });
        self.held[at] = Some(held);
        at
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the buffer is held in `held` until the completion has come, and the file is open as long as the ring.
        unsafe { self.ring.submission().push(entry) }.expect("the ring is longer than the depth");
    }

    fn reap(&mut self) -> (usize, u64) {
        let (mut ended, mut bytes) = (0, 0);
        let done: Vec<(u64, i32)> =
            self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
        for (at, result) in done {
            assert!(result >= 0, "the operation failed with {result}");
            if at == SILENT {
                continue;
            }
            ended += 1;
            let held = self.held[at as usize].take();
            self.free.push(at as usize);
            if let Some(Held::Read(mut data)) = held {
                // SAFETY: the kernel has filled so many bytes of its capacity.
                unsafe { data.set_len(result as usize) };
                bytes += Bytes::from(data).len() as u64;
            }
        }
        (ended, bytes)
    }
}

impl Driver for Ring {
    fn append(&mut self, offset: u64, data: Bytes) {
        let (pointer, len) = (data.as_ptr(), data.len() as u32);
        let at = self.hold(Held::Write(data));
        let file = types::Fd(self.file.as_raw_fd());
        let write = opcode::Write::new(file, pointer, len).offset(offset).build();
        self.push(&write.flags(squeue::Flags::IO_LINK).user_data(SILENT));
        let sync = opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build();
        self.push(&sync.user_data(at as u64));
    }

    fn read(&mut self, offset: u64, len: u32) {
        let mut data = Vec::with_capacity(len as usize);
        let pointer = data.as_mut_ptr();
        let at = self.hold(Held::Read(data));
        let file = types::Fd(self.file.as_raw_fd());
        self.push(&opcode::Read::new(file, pointer, len).offset(offset).build().user_data(at as u64));
    }

    fn wait(&mut self) -> (usize, u64) {
        self.ring.submit().expect("the kernel takes what is asked");
        loop {
            let reaped = self.reap();
            if reaped.0 > 0 {
                return reaped;
            }
            let event = &self.event;
            self.runtime.block_on(async {
                let mut ready = event.readable().await.expect("the event is there");
                let mut count = [0; 8];
                if rustix::io::read(event.get_ref(), &mut count).is_err() {
                    ready.clear_ready();
                }
            });
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // What is held is the kernel's until its completion: a probe never ends with anything in flight.
        for held in self.held.iter().flatten() {
            match held {
                Held::Read(data) => assert!(data.is_empty()),
                Held::Write(data) => assert!(!data.is_empty()),
            }
        }
    }
}
