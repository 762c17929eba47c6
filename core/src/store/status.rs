//! What the store says of itself, for metrics and operators.

use super::{FROZEN_MAX, Store, StoreStats};
use crate::base::{Instant, RecordKey, Ticket};
use crate::io::FileName;
use alloc::string::String;
use alloc::vec::Vec;

/// Damaged blocks of which the store keeps a description.
const DESCRIBED_MAX: usize = 64;

/// Bytes of a segment of the log at least: with smaller ones the names would cost more than the records.
const SEGMENT_BYTES_MIN: u64 = 4 << 20;

/// A block that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The table.
    pub file: FileName,
    /// The keys that the block may hold: from this one,
    pub first: RecordKey,
    /// to this one.
    pub last: RecordKey,
    /// What was found.
    pub reason: String,
}

/// How far scrubbing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubStatus {
    /// Whether a round is under way.
    pub is_running: bool,
    /// Rounds that have ended since the start.
    pub rounds: u64,
    /// Bytes read in the round under way.
    pub read_bytes: u64,
    /// Bytes of all tables and live values.
    pub of_bytes: u64,
}

/// The store at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// Tables of each level and their bytes.
    pub levels: Vec<(usize, u64)>,
    /// Bytes of the log's segments.
    pub log_bytes: u64,
    /// Bytes of values that stand apart, and those of them that are alive.
    pub value_bytes: (u64, u64),
    /// Bytes of memory by kind.
    pub memory: [(&'static str, usize); 8],
    /// How far scrubbing is.
    pub scrub: ScrubStatus,
    /// Blocks known to be damaged.
    pub damaged_blocks: usize,
    /// Descriptions of the first of them.
    pub damage: Vec<Damage>,
    /// What has been done since the start.
    pub stats: StoreStats,
}

impl Store {
    /// The store at this moment.
    pub fn status(&self) -> StoreStatus {
        let segments = self.segments.iter().chain(&self.free);
        StoreStatus {
            levels: self.level_tables().collect(),
            log_bytes: segments.map(|(_, bytes)| bytes).sum(),
            value_bytes: self.values.bytes(),
            memory: self.memory(),
            scrub: self.scrub_status(),
            damaged_blocks: self.damaged_blocks(),
            damage: self.described.clone(),
            stats: self.stats,
        }
    }

    /// Bytes held in memory, by kind: memtables, block and record cache, filters and indexes, changes that wait for their commit, and
    /// the pieces of flush and compaction, what scans under way hold, and what disk operations in flight write and read.
    pub fn memory(&self) -> [(&'static str, usize); 8] {
        let frozen: usize = self.frozen.iter().map(|frozen| frozen.memtable.bytes()).sum();
        let merges = self.flush.iter().chain(&self.compaction).map(super::merge::Merge::memory).sum();
        [
            ("memtables", self.active.bytes() + frozen),
            ("block_cache", self.cache.bytes()),
            ("record_cache", self.hot.bytes()),
            ("filters", self.filter_bytes()),
            ("log_pending", self.pending.capacity()),
            ("merges", merges),
            ("scans", self.reads.values().map(super::ReadJob::memory).sum()),
            ("in_flight", self.in_flight_bytes),
        ]
    }

    fn filter_bytes(&self) -> usize {
        let live: usize = self.levels.all().map(|table| table.memory()).sum();
        live + self.snapshots.memory(&self.levels)
    }

    /// Filters and indexes take their memory from the cache's share, up to half of it.
    pub(super) fn fit_cache(&mut self) {
        let share = self.options.cache_bytes;
        let caches = share.saturating_sub(self.filter_bytes()).max(share / 2);
        self.hot.resize(caches / super::HOT_PART);
        self.share_cache();
    }

    /// What the cache of records does not take of its part is the blocks'.
    pub(super) fn share_cache(&mut self) {
        let part = self.hot.capacity();
        self.cache.resize((part * super::HOT_PART).saturating_sub(self.hot.bytes().min(part)));
    }

    /// The operation that was asked of the disk first, of those that have not ended: its ticket, its file, what it is for.
    pub fn oldest_operation(&self) -> Option<(Ticket, FileName, &'static str)> {
        let (ticket, asked) = self.purposes.first_key_value()?;
        Some((*ticket, asked.file, asked.purpose.words()))
    }

    /// Keeps a description of a damaged block.
    pub(super) fn describe(&mut self, damage: Damage) {
        if self.described.len() < DESCRIBED_MAX {
            self.described.push(damage);
        }
    }

    /// Forgets the damage of a table that is gone.
    pub(super) fn forget_damage(&mut self, number: u64) {
        self.damaged.remove(&number);
        self.barred.remove(&number);
        self.suspicion.forget_table(number);
        self.described.retain(|damage| damage.file.number != number);
    }

    /// Notes whether writers wait: for a memtable, for the log's next segment, or for compaction.
    pub(super) fn note_stall(&mut self, now: Instant) {
        let is_held = self.committing.is_none() && !self.pending.is_empty();
        let is_stalled = is_held || self.admit() == Err(super::Pressure::Busy);
        if is_stalled {
            self.stalled_since.get_or_insert(now);
        } else if let Some(since) = self.stalled_since.take() {
            self.stats.stall_max_ms = self.stats.stall_max_ms.max(now.ms_since(since));
        }
    }
}

impl super::StoreOptions {
    /// Sizes for a budget of so many bytes of memory: half of it for memtables, three eighths for cache, filters and
    /// indexes, the rest for what waits for the disk and for the pieces of flush and compaction. Segments of the log are no larger than a
    /// memtable: a small budget often stands for a small disk.
    #[must_use]
    pub fn within(self, budget: usize) -> Self {
        let memtable_bytes = budget / 2 / (FROZEN_MAX + 1);
        let wal_segment_bytes = self.wal_segment_bytes.min((memtable_bytes as u64).max(SEGMENT_BYTES_MIN));
        Self { memtable_bytes, cache_bytes: budget / 8 * 3, wal_segment_bytes, ..self }
    }
}
