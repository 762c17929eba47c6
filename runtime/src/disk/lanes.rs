//! Which thread performs what. Each lane has its own threads, so that the log's write, for which clients wait, never stands
//! behind a read, nor a read behind the sync of a large table.

use crossbeam_channel::{Receiver, Sender, unbounded};
use samara_core::base::Ticket;
use samara_core::io::{DiskOp, FileKind};

/// An operation on its way.
pub(super) type Job = (Ticket, DiskOp);

/// Threads that read. A lookup waits for one read at a time; many lookups keep a disk's queue filled.
const READERS: usize = 8;
/// Threads for all other changes: a flush, a compaction, a manifest, a new segment at a time.
const CHANGERS: usize = 4;
/// Threads for the log, of which one write is under way at a time, and for the ceilings, of which there are two.
const LOGGERS: usize = 2;

/// Where operations are put. The queues are as long as the core has operations in flight, which its limits bound; what a
/// write holds is memory that the core counts, and a read takes its memory when it begins.
#[derive(Debug)]
pub(super) struct Senders {
    log: Sender<Job>,
    read: Sender<Job>,
    change: Sender<Job>,
}

/// The lanes, and the queue of each thread with its name.
pub(super) fn make() -> (Senders, Vec<(&'static str, Receiver<Job>)>) {
    let (log, read, change) = (unbounded(), unbounded(), unbounded());
    let lanes = [("log", LOGGERS, log.1), ("read", READERS, read.1), ("change", CHANGERS, change.1)];
    let threads =
        lanes.into_iter().flat_map(|(name, count, queue)| std::iter::repeat_n((name, queue), count));
    (Senders { log: log.0, read: read.0, change: change.0 }, threads.collect())
}

impl Senders {
    pub(super) fn send(&self, ticket: Ticket, op: DiskOp) {
        let lane = match &op {
            DiskOp::Write { file, .. } | DiskOp::Sync { file }
                if matches!(file.kind, FileKind::Wal | FileKind::Ceiling | FileKind::Identity) =>
            {
                &self.log
            }
            DiskOp::Read { .. } | DiskOp::List => &self.read,
            _ => &self.change,
        };
        // The threads live as long as the sender does: a queue is never closed here.
        let _queued = lane.send((ticket, op));
    }
}
