//! The storage engine: an LSM tree over the virtual disk, as a state machine (O'Neil et al., "The Log-Structured
//! Merge-Tree"). The record with the highest ballot wins, whatever the order of arrival and wherever it lies.

mod cache;
mod codec;
mod commit;
mod cursor;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod decoders;
mod drop;
mod entry;
mod garbage;
mod hot;
mod levels;
mod log;
mod manifest;
mod memtable;
mod merge;
mod options;
mod page;
mod pointer;
mod purpose;
mod reads;
mod recovery;
mod reserve;
mod scan;
mod scrub;
mod separate;
mod snapshot;
mod spans;
mod status;
mod suspect;
mod table;
mod trouble;
mod turns;
mod unread;
mod values;
pub mod verify;
mod wal;

use crate::base::{Counters, Instant, Now, Record, RecordKey, Slot, Stamp, Ticket};
use crate::io::{DiskOp, DiskResult, FileKind, FileName, Outbox, Output};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cache::BlockCache;
use commit::Committing;
use entry::Rank;
use garbage::Collectable;
use hot::HotRecords;
use levels::Levels;
use manifest::{Install, ManifestTail};
use memtable::{Held, Memtable};
use merge::Merge;
pub use options::{Durability, StoreOptions, StoreStats};
use purpose::{InFlight, OnFailure, Purpose};
use reads::GetJob;
use recovery::Recovery;
use reserve::Reserve;
use scan::ScanJob;
pub use scan::{Direction, ScanRange};
use scrub::Scrub;
use snapshot::Snapshots;
pub use snapshot::{SNAPSHOTS_MAX, SnapshotId};
use suspect::Suspicion;
use table::BlockAt;
use values::ValueFiles;

pub use status::{Damage, ScrubStatus, StoreStatus};

/// Position in the write-ahead log: every `put` and `erase` gets the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// Names a pending `get` or `scan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadToken(pub u64);

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
    /// A `get` or `scan` met a block that cannot be read. It has no answer here: other copies have to give it.
    Unreadable {
        /// Which.
        token: ReadToken,
    },
    /// A block of a table cannot be read or does not pass its check; told once per block and life of the store. Reads of
    /// the keys that it may hold are `Unreadable` unless memory or another table has a ballot above all of the table's.
    Damaged {
        /// The table.
        file: FileName,
        /// The keys that the block may hold: from this one,
        first: RecordKey,
        /// to this one.
        last: RecordKey,
        /// What was found, for the operator.
        reason: String,
        /// R6: the keys are suspect from now on. Else the disk only did not give the block back, and may the next time.
        is_suspect: bool,
    },
    /// What `drop_slots` dropped is gone for good: a start does not bring it back.
    Dropped {
        /// The slots of one call.
        slots: Vec<Slot>,
    },
    /// A snapshot has been taken: `scan_snapshot` shows it until it is released.
    Snapshot {
        /// Which.
        id: SnapshotId,
    },
    /// R6: an earlier life left suspect stretches, or this start found some.
    Suspect,
    /// R6: stretches that were healed are no longer suspect.
    Healed,
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

/// A memtable that takes no more writes and waits for its flush.
#[derive(Debug, Clone)]
struct Frozen {
    memtable: Arc<Memtable>,
    /// The last group of the log that holds entries of it.
    group: u64,
    /// The segment with that group, once it is on its way: once the memtable is in a table, segments up to this one are not
    /// needed.
    segment: Option<u64>,
    /// Slots whose entries count as not there.
    dropped: Vec<(u16, u64)>,
}

impl Frozen {
    fn get(&self, name: &[u8]) -> Option<Held<'_>> {
        let is_dropped =
            !self.dropped.is_empty() && self.dropped.iter().any(|(slot, _)| *slot == entry::slot_of(name));
        if is_dropped { None } else { self.memtable.get(name) }
    }
}

/// A read that waits for the disk.
#[derive(Debug, Clone)]
enum ReadJob {
    Get(GetJob),
    Scan(ScanJob),
}

impl ReadJob {
    fn uses(&self, number: u64) -> bool {
        match self {
            Self::Get(job) => job.uses(number),
            Self::Scan(job) => job.uses(number),
        }
    }

    fn pin(&mut self, memtable: &Arc<Memtable>) {
        if let Self::Scan(job) = self {
            job.pin(memtable);
        }
    }
}

/// Memtables that may wait for their flush before writers are refused.
const FROZEN_MAX: usize = 3;
/// Bytes of changes that may wait for a commit before writers are refused: half a memtable, and at least this.
const PENDING_BYTES_MIN: usize = 1 << 20;
/// One part in so many of the cache's bytes may go to records that are read again and again.
const HOT_PART: usize = 4;
/// Milliseconds until space is looked for again on a full disk.
const FULL_RETRY_MS: u64 = 500;

/// The engine of one shard.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each says whether another piece of work is under way")]
pub struct Store {
    options: StoreOptions,
    tickets: u64,
    purposes: BTreeMap<Ticket, InFlight>,
    /// Bytes that disk operations in flight write and read.
    in_flight_bytes: usize,
    recovery: Option<Recovery>,
    serving: bool,
    active: Memtable,
    frozen: VecDeque<Frozen>,
    levels: Levels,
    /// Tables came or went since the last choice of a compaction.
    levels_changed: bool,
    values: ValueFiles,
    /// The next compaction wins space back in value files, if there is some.
    values_turn: bool,
    /// Blocks that cannot be read, by table.
    damaged: BTreeMap<u64, BTreeSet<BlockAt>>,
    /// Tables that no merge takes up until then, because a block of theirs could not be read. A disk may recover.
    barred: BTreeMap<u64, Instant>,
    /// Slots dropped while the log still holds entries of theirs, up to these groups.
    dropped: Vec<(u16, u64)>,
    /// Descriptions of the first of them.
    described: Vec<Damage>,
    collectable: Collectable,
    suspicion: Suspicion,
    /// Rises when a flush adds a table: a read that began before looks again.
    version: u64,
    pending: wal::Pending,
    tail: Option<wal::Tail>,
    /// The segment after this one: its number and capacity, once it can be used.
    spare: Option<(u64, u64)>,
    creating: Option<(u64, u64)>,
    rotate: bool,
    committing: Option<Committing>,
    /// A commit went out since the compaction did its last piece.
    held_back: bool,
    syncing: bool,
    sync_due: Option<Instant>,
    /// Segments that the manifest names, with their capacity, and those that it names no more.
    segments: Vec<(u64, u64)>,
    free: Vec<(u64, u64)>,
    last_lsn: Lsn,
    durable: Lsn,
    next_file: u64,
    /// Files from this number on were made since the start.
    life_from: u64,
    /// The first commit group that is not in a table.
    first_group: u64,
    flush: Option<Merge>,
    compaction: Option<Merge>,
    /// A trivial move is on its way.
    moving: bool,
    manifest: ManifestTail,
    installs: VecDeque<Install>,
    installing: Option<manifest::Installing>,
    doomed: Vec<FileName>,
    reads: BTreeMap<ReadToken, ReadJob>,
    next_token: u64,
    cache: BlockCache,
    hot: HotRecords,
    scrub: Scrub,
    snapshots: Snapshots,
    reserve: Reserve,
    full_until: Option<Instant>,
    /// Since when writers wait.
    stalled_since: Option<Instant>,
    stats: StoreStats,
    /// Memory used again from call to call.
    name: Vec<u8>,
    body: Vec<u8>,
}

impl Store {
    /// High bits of every ticket of the store, so that the node can route completions.
    pub const TICKET_TAG: u64 = 1 << 62;

    /// A store that has not been booted.
    pub fn new(options: StoreOptions) -> Self {
        let hot_bytes = options.cache_bytes / HOT_PART;
        let cache = BlockCache::new(options.cache_bytes - hot_bytes);
        Self {
            options,
            tickets: Self::TICKET_TAG,
            purposes: BTreeMap::new(),
            in_flight_bytes: 0,
            recovery: None,
            serving: false,
            active: Memtable::default(),
            frozen: VecDeque::new(),
            levels: Levels::default(),
            levels_changed: false,
            values: ValueFiles::default(),
            values_turn: false,
            damaged: BTreeMap::new(),
            barred: BTreeMap::new(),
            dropped: Vec::new(),
            described: Vec::new(),
            collectable: Collectable::default(),
            suspicion: Suspicion::default(),
            version: 0,
            pending: wal::Pending::default(),
            tail: None,
            spare: None,
            creating: None,
            rotate: false,
            committing: None,
            held_back: false,
            syncing: false,
            sync_due: None,
            segments: Vec::new(),
            free: Vec::new(),
            last_lsn: Lsn(0),
            durable: Lsn(0),
            next_file: 1,
            life_from: 1,
            first_group: 1,
            flush: None,
            compaction: None,
            moving: false,
            manifest: ManifestTail::default(),
            installs: VecDeque::new(),
            installing: None,
            doomed: Vec::new(),
            reads: BTreeMap::new(),
            next_token: 0,
            cache,
            hot: HotRecords::new(hot_bytes),
            scrub: Scrub::default(),
            snapshots: Snapshots::default(),
            reserve: Reserve::default(),
            full_until: None,
            stalled_since: None,
            stats: StoreStats::default(),
            name: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A disk operation with one of the store's tickets ended.
    pub fn on_disk(&mut self, cx: &mut StoreCx<'_>, ticket: Ticket, result: DiskResult) {
        let Some(InFlight { purpose, file, bytes }) = self.purposes.remove(&ticket) else {
            return;
        };
        self.in_flight_bytes -= bytes;
        if let DiskResult::Failed(error) = &result {
            match purpose.on_failure(error.kind) {
                OnFailure::Handled => {}
                OnFailure::Full => return self.on_full(cx, purpose),
                OnFailure::Fatal => {
                    let (what, text) = (purpose.words(), &error.text);
                    let reason = format!("{file}: cannot {what}: {text}; check the disk and start again");
                    return cx.events.push(StoreEvent::Fatal(reason));
                }
            }
        }
        match purpose {
            Purpose::Recovery => self.on_recovery(cx, ticket, file, result),
            Purpose::Commit => self.on_committed(cx),
            Purpose::LogSync(group) => self.on_log_synced(cx, group),
            Purpose::SegmentMake => self.disk(cx, Purpose::SegmentDir, DiskOp::SyncDir),
            Purpose::SegmentDir => self.on_segment_named(cx),
            Purpose::Merge(kind) => self.on_merge_written(cx, kind),
            Purpose::MergeRead(kind, source, id) => self.on_merge_read(cx, kind, source, id, result),
            Purpose::MergeValue(kind, id) => self.on_merge_value(cx, kind, id, result),
            Purpose::Manifest => self.on_manifest_step(cx),
            Purpose::GetBlock(token) => self.on_get_block(cx, token, &result),
            Purpose::ScanBlock(token, source, turn) => self.on_scan_block(cx, token, source, turn, result),
            Purpose::ScanValue(token, number, turn) => self.on_scan_value(cx, token, number, turn, result),
            Purpose::ScanTurn(token, turn) => self.on_scan_turn(cx, token, turn),
            Purpose::Scrub => self.on_scrub_read(cx, result),
            Purpose::ReserveMake => self.on_reserve_made(cx, file, &result),
            Purpose::ReserveFree => self.on_reserve_freed(cx),
            Purpose::Remove => {}
        }
    }

    fn disk(&mut self, cx: &mut StoreCx<'_>, purpose: Purpose, op: DiskOp) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let in_flight = InFlight::new(purpose, &op);
        self.in_flight_bytes += in_flight.bytes;
        self.purposes.insert(ticket, in_flight);
        cx.out.push(Output::Disk { ticket, op });
    }

    /// Stores a record unless one with a ballot at least as high is there; the highest ballot wins whatever the order.
    /// Returns the LSN that must be durable before the outcome may be acknowledged: its own, or that of the record in
    /// its way.
    #[expect(clippy::needless_pass_by_value, reason = "the store takes the record over")]
    pub fn put(&mut self, _cx: &mut StoreCx<'_>, key: RecordKey, record: Record) -> Lsn {
        self.apply(&key, record.ballot, Some(&record))
    }

    /// Removes the record of `key` unless its ballot is above `upto` (hints, after delivery).
    #[expect(clippy::needless_pass_by_value, reason = "as put does")]
    pub fn erase(&mut self, _cx: &mut StoreCx<'_>, key: RecordKey, upto: Stamp) -> Lsn {
        self.apply(&key, upto, None)
    }

    fn apply(&mut self, key: &RecordKey, ballot: Stamp, record: Option<&Record>) -> Lsn {
        assert!(self.serving, "nothing is written before recovery has ended");
        entry::encode_key(key, &mut self.name);
        self.body.clear();
        entry::encode(ballot, record, &mut self.body);
        let (rank, lsn) = (Rank { ballot, erases: record.is_none() }, Lsn(self.last_lsn.0 + 1));
        if let Err(held) = self.active.insert(&self.name, rank, lsn.0, &self.body) {
            return Lsn(held);
        }
        self.hot.remove(&self.name, table::hash(&self.name));
        self.last_lsn = lsn;
        self.pending.push(&self.name, &self.body, lsn, self.options.wal_group_bytes);
        lsn
    }

    /// Everything that has been put or erased so far is at or below it.
    pub fn newest(&self) -> Lsn {
        self.last_lsn
    }

    /// Everything up to here is durable.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Whether new records can be taken: `Err(Full)` on a full disk, `Err(Busy)` when flushes lag behind.
    pub fn admit(&self) -> Result<(), Pressure> {
        if self.full_until.is_some() || self.reserve.is_short() {
            return Err(Pressure::Full);
        }
        let lagging = self.frozen.len() >= FROZEN_MAX && self.active.bytes() >= self.options.memtable_bytes;
        // What damage keeps from being merged must not stop the writers for ever.
        let runs = self.levels.runs();
        let is_stuck = |table: &Arc<table::Table>| self.damaged.contains_key(&table.meta.number);
        let is_deep =
            runs[0].len() >= commit::STOP_FROM && !runs.iter().take(2).any(|run| run.iter().any(is_stuck));
        let is_busy =
            lagging || is_deep || self.pending.len() > PENDING_BYTES_MIN.max(self.options.memtable_bytes / 2);
        if is_busy { Err(Pressure::Busy) } else { Ok(()) }
    }

    /// When `commit` wants to be called again at the latest (interval durability, a full disk).
    pub fn next_deadline(&self) -> Option<Instant> {
        let barred = self.barred.values().copied();
        self.sync_due.into_iter().chain(self.full_until).chain(self.scrub_deadline()).chain(barred).min()
    }

    /// Live tables and their bytes.
    pub fn tables(&self) -> (usize, u64) {
        (self.levels.all().count(), self.levels.all().map(|table| table.meta.len).sum())
    }

    /// Tables of each level, from level 0 down.
    pub fn level_tables(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.levels.runs().iter().map(|run| (run.len(), run.iter().map(|table| table.meta.len).sum()))
    }

    /// Live value files, their bytes of values, and those of them that are alive.
    pub fn values(&self) -> (usize, u64, u64) {
        let (bytes, live) = self.values.bytes();
        (self.values.all().count(), bytes, live)
    }

    /// Blocks and values known to be damaged.
    pub fn damaged_blocks(&self) -> usize {
        self.damaged.values().map(BTreeSet::len).sum::<usize>() + self.values.damaged.len()
    }

    /// What has been done since the start.
    pub fn stats(&self) -> StoreStats {
        self.stats
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
