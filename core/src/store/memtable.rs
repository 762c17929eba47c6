//! The sorted, size-bounded table of what is not in a file yet.

use super::Entry;
use crate::base::RecordKey;
use alloc::collections::BTreeMap;
use core::ops::Bound;

/// Bytes that an entry takes beside its key, value and recent operations.
const OVERHEAD: usize = 160;

#[derive(Debug, Clone, Default)]
pub(super) struct Memtable {
    entries: BTreeMap<RecordKey, Entry>,
    bytes: usize,
}

impl Memtable {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, key: &RecordKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Inserts, replacing what is there.
    pub(super) fn insert(&mut self, key: RecordKey, entry: Entry) {
        let added = entry.bytes() + key.key.len() + OVERHEAD;
        let name = key.key.len();
        if let Some(old) = self.entries.insert(key, entry) {
            self.bytes -= old.bytes() + name + OVERHEAD;
        }
        self.bytes += added;
    }

    /// The first entry after `from` (at or after it unless `exclusive`).
    pub(super) fn next(&self, from: &RecordKey, exclusive: bool) -> Option<(&RecordKey, &Entry)> {
        let start = if exclusive { Bound::Excluded(from) } else { Bound::Included(from) };
        self.entries.range((start, Bound::Unbounded)).next()
    }
}
