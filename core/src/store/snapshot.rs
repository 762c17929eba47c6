//! Snapshots: the tables of one moment, which stay readable whatever is written, compacted or dropped afterwards. A snapshot
//! holds files, not memory: what was in memtables goes into tables first, so that a reader that takes its time costs disk
//! space alone, beside the filters and indexes of tables that are live no more. It ends with the process: a start removes
//! what only snapshots held.

use super::levels::Levels;
use super::{Store, StoreCx, StoreEvent};
use alloc::collections::BTreeMap;

/// Snapshots that may be held at a time.
pub const SNAPSHOTS_MAX: usize = 4;

/// Names a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub u64);

/// A snapshot, wanted or there.
#[derive(Debug, Clone)]
enum Snapshot {
    /// Memtables are still to be flushed: those frozen by the time this one is frozen, if it must be.
    Freezing,
    /// The flush that covers this group of the log brings the last of it into a table.
    Flushing(u64),
    Ready(Levels),
}

/// The snapshots that are held.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshots {
    held: BTreeMap<SnapshotId, Snapshot>,
    given: u64,
}

impl Snapshots {
    fn ready(&self) -> impl Iterator<Item = &Levels> {
        self.held.values().filter_map(|snapshot| match snapshot {
            Snapshot::Ready(levels) => Some(levels),
            Snapshot::Freezing | Snapshot::Flushing(_) => None,
        })
    }

    /// Whether a snapshot holds the file of this number, as a table or for values that a table points to.
    pub(super) fn uses(&self, number: u64) -> bool {
        self.ready().any(|levels| levels.all().any(|table| table.meta.uses(number)))
    }

    pub(super) fn levels(&self, id: SnapshotId) -> Option<&Levels> {
        match self.held.get(&id)? {
            Snapshot::Ready(levels) => Some(levels),
            Snapshot::Freezing | Snapshot::Flushing(_) => None,
        }
    }

    /// Bytes of filters and indexes that only snapshots hold.
    pub(super) fn memory(&self, live: &Levels) -> usize {
        let mut pinned = BTreeMap::new();
        for table in self.ready().flat_map(Levels::all) {
            pinned.insert(table.meta.number, table.memory());
        }
        for table in live.all() {
            pinned.remove(&table.meta.number);
        }
        pinned.values().sum()
    }

    fn wants_freeze(&self) -> bool {
        self.held.values().any(|snapshot| matches!(snapshot, Snapshot::Freezing))
    }
}

impl Store {
    /// A snapshot of all that has been put so far, and of what is put until it is taken: `StoreEvent::Snapshot` follows,
    /// perhaps within this call. `None` if too many are held.
    pub fn snapshot(&mut self, cx: &mut StoreCx<'_>) -> Option<SnapshotId> {
        assert!(self.serving, "a snapshot is of a store that has recovered");
        if self.snapshots.held.len() >= SNAPSHOTS_MAX {
            return None;
        }
        self.snapshots.given += 1;
        let id = SnapshotId(self.snapshots.given);
        self.snapshots.held.insert(id, Snapshot::Freezing);
        self.freeze_for_snapshot();
        self.take_snapshots(cx);
        Some(id)
    }

    /// Lets go of a snapshot: files that nothing else needs are removed. A scan under way of it goes on to its end.
    pub fn release(&mut self, cx: &mut StoreCx<'_>, id: SnapshotId) {
        self.snapshots.held.remove(&id);
        self.fit_cache();
        self.after_read(cx);
    }

    /// Whether the memtable is to be frozen, however small it is.
    pub(super) fn wants_freeze(&self) -> bool {
        self.snapshots.wants_freeze()
    }

    /// Freezes the memtable for those who wait, if nothing of it is still on its way to the log.
    pub(super) fn freeze_for_snapshot(&mut self) {
        if !self.snapshots.wants_freeze() {
            return;
        }
        let is_logged = self.pending.is_empty() && self.frozen.len() < super::FROZEN_MAX;
        if let Some(tail) = self.tail.filter(|_| is_logged && !self.active.is_empty()) {
            self.freeze(Some(tail.segment), tail.group);
        }
        if self.active.is_empty() {
            self.on_frozen();
        }
    }

    /// All that those who wait want is in frozen memtables or in tables.
    pub(super) fn on_frozen(&mut self) {
        let upto = self.frozen.back().map_or(0, |frozen| frozen.group);
        for snapshot in self.snapshots.held.values_mut() {
            if matches!(snapshot, Snapshot::Freezing) {
                *snapshot = Snapshot::Flushing(upto);
            }
        }
    }

    /// Takes the snapshots whose last memtable has just become a table.
    pub(super) fn take_snapshots(&mut self, cx: &mut StoreCx<'_>) {
        for (id, snapshot) in &mut self.snapshots.held {
            if matches!(snapshot, Snapshot::Flushing(upto) if *upto < self.first_group) {
                *snapshot = Snapshot::Ready(self.levels.clone());
                cx.events.push(StoreEvent::Snapshot { id: *id });
            }
        }
    }
}
