//! What a store is told at its start, and what it counts.

use crate::base::limits::VALUE_INLINE_MAX;

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
    /// Bytes of changes after which a commit group ends, and the rest goes into the next: what one step writes at most.
    pub wal_group_bytes: usize,
    /// Target bytes of a data block.
    pub block_bytes: usize,
    /// Values above so many bytes stand apart, in value files.
    pub value_inline_max: usize,
    /// Bytes of a value file after which another is begun.
    pub value_file_bytes: u64,
    /// Target bytes of a table.
    pub table_bytes: u64,
    /// Bytes of the block cache.
    pub cache_bytes: usize,
    /// Bytes of disk kept in reserve, so that a full disk can still flush and compact; 0 for none.
    pub reserve_bytes: u64,
    /// Milliseconds within which every byte of every table is read and verified once; 0 for never.
    pub scrub_ms: u64,
    /// Milliseconds without an answer of the disk after which the node steps aside.
    pub disk_slow_ms: u64,
    /// Milliseconds without an answer of the disk after which the node stops.
    pub disk_hung_ms: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            memtable_bytes: 64 << 20,
            wal_segment_bytes: 32 << 20,
            wal_group_bytes: 1 << 20,
            block_bytes: 8 << 10,
            value_inline_max: VALUE_INLINE_MAX,
            value_file_bytes: 256 << 20,
            table_bytes: 64 << 20,
            cache_bytes: 128 << 20,
            reserve_bytes: 0,
            scrub_ms: 0,
            disk_slow_ms: 3_000,
            disk_hung_ms: 30_000,
        }
    }
}

/// What the store has done since its start, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Bytes of pages written to the log.
    pub wal_bytes_written: u64,
    /// Bytes of tables written by flushes and compactions.
    pub table_bytes_written: u64,
    /// Bytes of values that stand apart, written by flushes and compactions.
    pub value_bytes_written: u64,
    /// Bytes of live values that were written anew, so that the dead around them could go.
    pub value_bytes_moved: u64,
    /// Tables that changed their level without being rewritten.
    pub tables_moved: u64,
    /// Bytes read by scrubbing.
    pub scrubbed_bytes: u64,
    /// Entries that merges and scans have looked at.
    pub entries_walked: u64,
    /// Times a commit was held back because compaction lags behind.
    pub commits_slowed: u64,
    /// Longest time that writers waited for memory, for the log's next segment or for compaction, milliseconds.
    pub stall_max_ms: u64,
}
