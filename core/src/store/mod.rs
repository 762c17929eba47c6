//! The storage engine: an LSM tree over the virtual disk, as a state machine.

use crate::base::{Counters, Now, Record, RecordKey, Ticket};
use crate::io::{DiskResult, Outbox};
use alloc::string::String;
use alloc::vec::Vec;

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

/// The engine of one shard.
#[derive(Debug, Clone)]
pub struct Store {
    _options: StoreOptions,
}

impl Store {
    /// High bits of every ticket of the store, so that the node can route completions.
    pub const TICKET_TAG: u64 = 1 << 62;

    /// A store that has not been booted.
    pub fn new(options: StoreOptions) -> Self {
        Self { _options: options }
    }

    /// Starts recovery. `fresh`: the directory has no identity yet; then tables or a WAL with pages are damage.
    pub fn boot(&mut self, _cx: &mut StoreCx<'_>, _fresh: bool) {}

    /// A disk operation with one of the store's tickets ended.
    pub fn on_disk(&mut self, _cx: &mut StoreCx<'_>, _ticket: Ticket, _result: DiskResult) {}

    /// Stores a record unless one with a ballot at least as high is there; the highest ballot wins whatever the order.
    /// Returns the LSN that makes it durable.
    pub fn put(&mut self, _cx: &mut StoreCx<'_>, _key: RecordKey, _record: Record) -> Lsn {
        Lsn(0)
    }

    /// Removes the record of `key` unless its ballot is above `upto` (hints, after delivery).
    pub fn erase(&mut self, _cx: &mut StoreCx<'_>, _key: RecordKey, _upto: crate::base::Stamp) -> Lsn {
        Lsn(0)
    }

    /// The record with the highest ballot.
    pub fn get(&mut self, _cx: &mut StoreCx<'_>, _key: &RecordKey) -> Lookup {
        Lookup::Ready { record: None, lsn: Lsn(0) }
    }

    /// Records from `from` (excluded if `exclusive`) up to `to` (excluded; `None` = end), at most `limit` records and about
    /// `bytes` bytes (at least one record). `StoreEvent::Scanned` follows, perhaps within this call.
    pub fn scan(
        &mut self,
        _cx: &mut StoreCx<'_>,
        _from: RecordKey,
        _exclusive: bool,
        _to: Option<RecordKey>,
        _limit: usize,
        _bytes: usize,
    ) -> ReadToken {
        ReadToken(0)
    }

    /// Called once at the end of every step: starts a group commit if one is due and none is in flight, a flush, a
    /// compaction.
    pub fn commit(&mut self, _cx: &mut StoreCx<'_>) {}

    /// Everything up to here is durable.
    pub fn durable(&self) -> Lsn {
        Lsn(0)
    }

    /// Whether new records can be taken: `Err(Full)` on a full disk, `Err(Busy)` when flushes lag behind.
    pub fn admit(&self) -> Result<(), Pressure> {
        Ok(())
    }

    /// When `commit` wants to be called again at the latest (interval durability).
    pub fn next_deadline(&self) -> Option<crate::base::Instant> {
        None
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
