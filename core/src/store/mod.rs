//! The storage engine: an LSM tree over the virtual disk, as a state machine (O'Neil et al., "The Log-Structured
//! Merge-Tree"). The record with the highest ballot wins, whatever the order of arrival and wherever it lies.

mod cache;
mod commit;
mod cursor;
mod manifest;
mod memtable;
mod merge;
mod reads;
mod recovery;
mod table;
mod wal;

use crate::base::{Counters, Instant, Now, Record, RecordKey, Stamp, Ticket};
use crate::io::{DiskErrorKind, DiskOp, DiskResult, FileKind, FileName, Outbox, Output};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cache::BlockCache;
use commit::Committing;
use memtable::Memtable;
use merge::{Install, Merge, MergeKind};
use reads::ReadJob;
use recovery::Recovery;
use table::Table;

/// Position in the write-ahead log: every `put` and `erase` gets the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// Names a pending `get` or `scan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadToken(pub u64);

/// When a commit counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After `fdatasync` (group commit).
    Sync,
    /// After the write reached the operating system; a sync follows at least every so many milliseconds. A crash of the
    /// process loses nothing; a crash of the machine loses at most that much.
    Interval(u64),
}

/// Sizes. Small in simulation so that flushes and compactions happen within a run.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// When a commit counts as durable.
    pub durability: Durability,
    /// Bytes of keys and values after which the memtable is flushed.
    pub memtable_bytes: usize,
    /// Bytes of one WAL segment.
    pub wal_segment_bytes: u64,
    /// Target bytes of a data block.
    pub block_bytes: usize,
    /// Target bytes of a table.
    pub table_bytes: u64,
    /// Bytes of the block cache.
    pub cache_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            memtable_bytes: 64 << 20,
            wal_segment_bytes: 32 << 20,
            block_bytes: 8 << 10,
            table_bytes: 64 << 20,
            cache_bytes: 128 << 20,
        }
    }
}

/// What every call into the store gets.
pub struct StoreCx<'a> {
    /// The clocks.
    pub now: Now,
    /// Where disk operations go.
    pub out: &'a mut Outbox,
    /// What happened, for the node to route.
    pub events: &'a mut Vec<StoreEvent>,
    /// What is counted.
    pub counters: &'a mut Counters,
}

/// What the store tells the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// Recovery finished; nothing was written before everything had been verified.
    Recovered,
    /// Everything up to this LSN is durable. LSNs of events rise.
    Durable(Lsn),
    /// A pending `get` ended. The memtable has been consulted again: this is the newest record now.
    Got {
        /// Which.
        token: ReadToken,
        /// The record with the highest ballot.
        record: Option<Record>,
        /// The LSN that must be durable before the record may be shown (R0); `Lsn(0)` if it is.
        lsn: Lsn,
    },
    /// A `scan` ended.
    Scanned {
        /// Which.
        token: ReadToken,
        /// Records in store order.
        records: Vec<(RecordKey, Record)>,
        /// Whether the end of the range was reached.
        done: bool,
        /// The LSN that must be durable before the records may be shown.
        lsn: Lsn,
    },
    /// The store cannot go on: damage beyond a torn tail, a failed write or sync.
    Fatal(String),
}

/// The answer of `get`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// From memory.
    Ready {
        /// The record with the highest ballot.
        record: Option<Record>,
        /// The LSN that must be durable before the record may be shown (R0); `Lsn(0)` if it is.
        lsn: Lsn,
    },
    /// The disk is asked; `StoreEvent::Got` follows.
    Pending(ReadToken),
}

/// What stands for a key in one place: a record, or the erasure of everything up to a ballot.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    ballot: Stamp,
    /// `None` erases.
    record: Option<Record>,
    lsn: Lsn,
}

impl Entry {
    /// The one order of entries: by ballot; an erasure covers the record of its own ballot.
    fn beats(&self, other: &Self) -> bool {
        (self.ballot, self.record.is_none()) > (other.ballot, other.record.is_none())
    }

    fn bytes(&self) -> usize {
        self.record
            .as_ref()
            .map_or(0, |record| record.value.as_ref().map_or(0, bytes::Bytes::len) + record.recent.len() * 80)
    }
}

/// The better of two entries.
fn better(a: Option<Entry>, b: Option<Entry>) -> Option<Entry> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.beats(&a) { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// A memtable that takes no more writes and waits for its flush.
#[derive(Debug, Clone)]
struct Frozen {
    memtable: Arc<Memtable>,
    /// Once it is in a table, segments up to this one and groups up to this one are not needed.
    segment: u64,
    group: u64,
}

/// What a disk operation in flight is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Recovery,
    Commit,
    /// Sync of the log up to a group (interval durability).
    LogSync(u64),
    SegmentCreate,
    SegmentDir,
    Merge(MergeKind),
    MergeBlock(MergeKind, usize),
    Manifest,
    GetBlock(ReadToken),
    ScanBlock(ReadToken, usize),
    Remove,
}

impl Purpose {
    /// What the operation does, for the operator.
    fn words(self) -> &'static str {
        match self {
            Self::Recovery => "recover",
            Self::Commit => "write the log",
            Self::LogSync(_) => "sync the log",
            Self::SegmentCreate | Self::SegmentDir => "make a segment of the log",
            Self::Merge(_) => "write a table",
            Self::Manifest => "replace the manifest",
            Self::MergeBlock(..) | Self::GetBlock(_) | Self::ScanBlock(..) => "read a block",
            Self::Remove => "remove a file",
        }
    }
}

/// The file that an operation is about; the manifest for those about the directory.
fn file_of(op: &DiskOp) -> FileName {
    match op {
        DiskOp::Create { file, .. }
        | DiskOp::Write { file, .. }
        | DiskOp::Read { file, .. }
        | DiskOp::Sync { file }
        | DiskOp::Truncate { file, .. }
        | DiskOp::Remove { file } => *file,
        DiskOp::Rename { to, .. } => *to,
        DiskOp::List | DiskOp::SyncDir => manifest::MANIFEST,
    }
}

/// Memtables that may wait for their flush before writers are refused.
const FROZEN_MAX: usize = 3;
/// Bytes of changes that may wait for a commit before writers are refused.
const PENDING_BYTES_MAX: u64 = 64 << 20;
/// Milliseconds until space is looked for again on a full disk.
const FULL_RETRY_MS: u64 = 500;

/// The engine of one shard.
#[derive(Debug, Clone)]
pub struct Store {
    options: StoreOptions,
    tickets: u64,
    purposes: BTreeMap<Ticket, (Purpose, FileName)>,
    recovery: Option<Recovery>,
    serving: bool,
    active: Memtable,
    frozen: VecDeque<Frozen>,
    tables: Vec<Arc<Table>>,
    /// Rises when a flush adds a table: a read that began before looks again.
    version: u64,
    pending: wal::Pending,
    tail: Option<wal::Tail>,
    /// The segment after this one: its number and capacity, once it can be used.
    spare: Option<(u64, u64)>,
    creating: Option<(u64, u64)>,
    rotate: bool,
    committing: Option<Committing>,
    syncing: bool,
    sync_due: Option<Instant>,
    segments: Vec<u64>,
    last_lsn: Lsn,
    durable: Lsn,
    next_file: u64,
    /// The first commit group that is not in a table, and the first segment that may hold one such.
    first_group: u64,
    first_segment: u64,
    flush: Option<Merge>,
    compaction: Option<Merge>,
    installs: VecDeque<Install>,
    installing: Option<manifest::Installing>,
    doomed: Vec<FileName>,
    reads: BTreeMap<ReadToken, ReadJob>,
    next_token: u64,
    cache: BlockCache,
    full_until: Option<Instant>,
}

impl Store {
    /// High bits of every ticket of the store, so that the node can route completions.
    pub const TICKET_TAG: u64 = 1 << 62;

    /// A store that has not been booted.
    pub fn new(options: StoreOptions) -> Self {
        let cache = BlockCache::new(options.cache_bytes);
        Self {
            options,
            tickets: Self::TICKET_TAG,
            purposes: BTreeMap::new(),
            recovery: None,
            serving: false,
            active: Memtable::default(),
            frozen: VecDeque::new(),
            tables: Vec::new(),
            version: 0,
            pending: wal::Pending::default(),
            tail: None,
            spare: None,
            creating: None,
            rotate: false,
            committing: None,
            syncing: false,
            sync_due: None,
            segments: Vec::new(),
            last_lsn: Lsn(0),
            durable: Lsn(0),
            next_file: 1,
            first_group: 1,
            first_segment: 0,
            flush: None,
            compaction: None,
            installs: VecDeque::new(),
            installing: None,
            doomed: Vec::new(),
            reads: BTreeMap::new(),
            next_token: 0,
            cache,
            full_until: None,
        }
    }

    /// A disk operation with one of the store's tickets ended.
    pub fn on_disk(&mut self, cx: &mut StoreCx<'_>, ticket: Ticket, result: DiskResult) {
        let Some((purpose, file)) = self.purposes.remove(&ticket) else {
            return;
        };
        if let DiskResult::Failed(error) = &result
            && !matches!(purpose, Purpose::Recovery | Purpose::Remove)
        {
            let is_space = matches!(purpose, Purpose::SegmentCreate | Purpose::Merge(_) | Purpose::Manifest);
            if error.kind == DiskErrorKind::Full && is_space {
                return self.on_full(cx, purpose);
            }
            let reason =
                format!("{file}: cannot {}: {}; check the disk and start again", purpose.words(), error.text);
            return cx.events.push(StoreEvent::Fatal(reason));
        }
        match purpose {
            Purpose::Recovery => self.on_recovery(cx, ticket, file, result),
            Purpose::Commit => self.on_committed(cx),
            Purpose::LogSync(group) => self.on_log_synced(cx, group),
            Purpose::SegmentCreate => self.disk(cx, Purpose::SegmentDir, DiskOp::SyncDir),
            Purpose::SegmentDir => self.on_segment_ready(),
            Purpose::Merge(kind) => self.on_merge_written(cx, kind),
            Purpose::MergeBlock(kind, source) => self.on_merge_block(cx, kind, source, &result),
            Purpose::Manifest => self.on_manifest_step(cx),
            Purpose::GetBlock(token) => self.on_get_block(cx, token, &result),
            Purpose::ScanBlock(token, source) => self.on_scan_block(cx, token, source, &result),
            Purpose::Remove => {}
        }
    }

    fn disk(&mut self, cx: &mut StoreCx<'_>, purpose: Purpose, op: DiskOp) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.purposes.insert(ticket, (purpose, file_of(&op)));
        cx.out.push(Output::Disk { ticket, op });
    }

    /// No space: what was under way is undone and tried again later.
    fn on_full(&mut self, cx: &mut StoreCx<'_>, purpose: Purpose) {
        self.full_until = Some(cx.now.mono.plus_ms(FULL_RETRY_MS));
        match purpose {
            Purpose::SegmentCreate => self.creating = None,
            Purpose::Merge(kind) => self.abandon(cx, kind),
            Purpose::Manifest => self.retry_install(cx),
            _ => {}
        }
    }

    /// Stores a record unless one with a ballot at least as high is there; the highest ballot wins whatever the order.
    /// Returns the LSN that must be durable before the outcome may be acknowledged: its own, or that of the record in
    /// its way.
    pub fn put(&mut self, _cx: &mut StoreCx<'_>, key: RecordKey, record: Record) -> Lsn {
        self.apply(key, record.ballot, Some(record))
    }

    /// Removes the record of `key` unless its ballot is above `upto` (hints, after delivery).
    pub fn erase(&mut self, _cx: &mut StoreCx<'_>, key: RecordKey, upto: Stamp) -> Lsn {
        self.apply(key, upto, None)
    }

    fn apply(&mut self, key: RecordKey, ballot: Stamp, record: Option<Record>) -> Lsn {
        assert!(self.serving, "nothing is written before recovery has ended");
        let entry = Entry { ballot, record, lsn: Lsn(self.last_lsn.0 + 1) };
        if let Some(held) = self.active.get(&key).filter(|held| !entry.beats(held)) {
            return held.lsn;
        }
        self.last_lsn = entry.lsn;
        self.pending.push(&key, &entry);
        self.active.insert(key, entry);
        self.last_lsn
    }

    /// Everything up to here is durable.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Whether new records can be taken: `Err(Full)` on a full disk, `Err(Busy)` when flushes lag behind.
    pub fn admit(&self) -> Result<(), Pressure> {
        if self.full_until.is_some() {
            return Err(Pressure::Full);
        }
        let lagging = self.frozen.len() >= FROZEN_MAX && self.active.bytes() >= self.options.memtable_bytes;
        if lagging || self.pending.group_bytes() > PENDING_BYTES_MAX { Err(Pressure::Busy) } else { Ok(()) }
    }

    /// When `commit` wants to be called again at the latest (interval durability, a full disk).
    pub fn next_deadline(&self) -> Option<Instant> {
        self.sync_due.into_iter().chain(self.full_until).min()
    }

    /// Bytes held in memory, by kind: memtables, block cache, filters and indexes.
    pub fn memory(&self) -> [(&'static str, usize); 3] {
        let frozen: usize = self.frozen.iter().map(|frozen| frozen.memtable.bytes()).sum();
        let tables = self.tables.iter().map(|table| table.memory()).sum();
        [
            ("memtables", self.active.bytes() + frozen),
            ("block_cache", self.cache.bytes()),
            ("filters", tables),
        ]
    }

    /// Live tables and their bytes.
    pub fn tables(&self) -> (usize, u64) {
        (self.tables.len(), self.tables.iter().map(|table| table.meta.len).sum())
    }
}

/// Why the store takes no new records for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// Memtables wait for their flush.
    Busy,
    /// No space left on the disk.
    Full,
}

fn wal_file(segment: u64) -> FileName {
    FileName::new(FileKind::Wal, segment)
}

#[cfg(test)]
mod tests;
