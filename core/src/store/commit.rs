//! Group commit: one write of the log is in flight at a time; all that is put meanwhile goes into the next.

use super::manifest::{Install, InstallKind};
use super::{Durability, FROZEN_MAX, Frozen, Lsn, Purpose, Store, StoreCx, wal, wal_file};
use crate::base::Counter;
use crate::base::planted::{self, Bug};
use crate::io::DiskOp;
use crate::store::StoreEvent;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The commit in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Committing {
    lsn: Lsn,
    group: u64,
}

/// Segments that one memtable may fill before it is flushed however small it is: overwrites of few keys, and commits of
/// few records, fill the log alone.
const SEGMENTS_MAX: usize = 16;
/// The same on a full disk: the log must not use up the reserve that was given back.
const SEGMENTS_WHEN_SHORT: usize = 2;
/// Tables of level 0 from which on each commit waits for a piece of the compaction: writers are slowed, not stopped.
const SLOW_FROM: usize = 8;
/// Tables of level 0 from which on new records are refused.
pub(super) const STOP_FROM: usize = 40;

impl Store {
    /// Called once at the end of every step: starts a group commit if one is due and none is in flight, a flush, a
    /// compaction.
    pub fn commit(&mut self, cx: &mut StoreCx<'_>) {
        if !self.serving {
            return;
        }
        if self.full_until.is_some_and(|until| until <= cx.now.mono) {
            self.full_until = None;
            self.levels_changed = true;
            self.start_install(cx);
        }
        if self.barred.values().any(|until| *until <= cx.now.mono) {
            self.barred.retain(|_, until| *until > cx.now.mono);
            self.levels_changed = true;
        }
        self.prepare_segment(cx, self.options.wal_segment_bytes);
        self.sync_log_if_due(cx);
        if self.committing.is_none() && !self.pending.is_empty() && !self.must_wait() {
            self.write_group(cx);
        }
        self.freeze_for_snapshot();
        self.take_snapshots(cx);
        self.mend(cx);
        self.start_merges(cx);
        self.prepare_reserve(cx);
        self.start_scrub(cx);
        self.note_stall(cx.now.mono);
    }

    /// Debt: with many tables in level 0, each commit waits until the compaction has done a piece since the last.
    fn must_wait(&mut self) -> bool {
        let is_deep = self.compaction.is_some() && self.levels.runs()[0].len() >= SLOW_FROM;
        self.held_back &= is_deep;
        if self.held_back {
            self.stats.commits_slowed += 1;
        }
        self.held_back
    }

    /// Keeps the next segment ready, of at least `capacity` bytes: one used before, or a new one.
    fn prepare_segment(&mut self, cx: &mut StoreCx<'_>, capacity: u64) {
        let enough = self.spare.is_some_and(|(_, spare)| spare >= capacity);
        if enough || self.creating.is_some() || self.full_until.is_some() {
            return;
        }
        // Too small for the group that waits: it stays listed, empty, until a flush lets it go.
        self.spare = None;
        let number = self.take_file_number();
        let tail = self.tail.map(|tail| tail.segment);
        let fits = |(free, room): &(u64, u64)| *room >= capacity && Some(*free) != tail;
        let op = if let Some(at) = self.free.iter().position(fits) {
            let (old, room) = self.free.remove(at);
            self.creating = Some((number, room));
            DiskOp::Rename { from: wal_file(old), to: wal_file(number) }
        } else {
            self.creating = Some((number, capacity));
            DiskOp::Create { file: wal_file(number), preallocate: capacity }
        };
        self.disk(cx, Purpose::SegmentMake, op);
    }

    /// The segment's name is durable: the manifest names it before anything is written to it, so that its loss is seen.
    pub(super) fn on_segment_named(&mut self, cx: &mut StoreCx<'_>) {
        if let Some(segment) = self.creating {
            let mut install = Install::new(InstallKind::Segment);
            install.segment = Some(segment);
            self.installs.push_back(install);
            self.start_install(cx);
        }
    }

    fn write_group(&mut self, cx: &mut StoreCx<'_>) {
        let need = self.pending.group_bytes();
        let fits = |tail: &wal::Tail| tail.offset + need <= tail.capacity;
        if self.rotate || !self.tail.as_ref().is_some_and(fits) {
            if !self.rotate_segment(cx, need) {
                return;
            }
            self.rotate = false;
        }
        let Some(tail) = &mut self.tail else {
            return;
        };
        let data = tail.group(&self.pending);
        let (file, offset) = (wal_file(tail.segment), tail.offset);
        tail.offset += data.len() as u64;
        assert!(tail.offset <= tail.capacity, "a group fits its segment");
        let (group, segment) = (tail.group, tail.segment);
        let (lsn, records) = self.pending.pass();
        self.committing = Some(Committing { lsn, group });
        cx.counters.add(Counter::WalCommits);
        for _ in 0..records {
            cx.counters.add(Counter::WalRecords);
        }
        self.stats.wal_bytes_written += data.len() as u64;
        self.held_back = true;
        let sync = self.options.durability == Durability::Sync;
        self.disk(cx, Purpose::Commit, DiskOp::Write { file, offset, data, sync });
        if planted::on(Bug::WalAckBeforeSync) {
            self.acknowledge(cx, lsn);
        }
        let segments_max = if self.is_short_of_space() { SEGMENTS_WHEN_SHORT } else { SEGMENTS_MAX };
        let is_full = self.active.bytes() >= self.options.memtable_bytes
            || self.wants_freeze()
            || (self.segments_since_freeze() >= segments_max && !self.active.is_empty());
        if let Some(frozen) = self.frozen.back_mut().filter(|frozen| frozen.group == group) {
            frozen.segment = Some(segment);
            self.rotate = true;
        }
        let is_logged = self.frozen.back().is_none_or(|frozen| frozen.segment.is_some());
        if is_full && !self.active.is_empty() && is_logged && self.frozen.len() < FROZEN_MAX {
            // What waits for groups behind this one stands in the memtable, too.
            let behind = self.pending.cut();
            self.freeze((behind == 0).then_some(segment), group + behind);
        }
    }

    fn segments_since_freeze(&self) -> usize {
        let last = self.frozen.iter().filter_map(|frozen| frozen.segment).max().unwrap_or(0);
        self.segments.iter().filter(|(number, _)| *number > last).count()
    }

    /// The active memtable, all of it in groups up to `group`, takes no more writes. The segment of that group, if it is known.
    pub(super) fn freeze(&mut self, segment: Option<u64>, group: u64) {
        let memtable = Arc::new(core::mem::take(&mut self.active));
        for job in self.reads.values_mut() {
            job.pin(&memtable);
        }
        self.frozen.push_back(Frozen { memtable, group, segment, dropped: Vec::new() });
        self.rotate |= segment.is_some();
        self.on_frozen();
    }

    /// Goes on in the spare segment; false while it is not ready, or the old one is not durable (interval durability).
    fn rotate_segment(&mut self, cx: &mut StoreCx<'_>, need: u64) -> bool {
        let capacity = need.max(self.options.wal_segment_bytes);
        if self.spare.is_none_or(|(_, spare)| spare < need) {
            self.prepare_segment(cx, capacity);
            return false;
        }
        if let Some(tail) = self.tail.filter(|tail| tail.synced < tail.group) {
            self.sync_log(cx, tail);
            return false;
        }
        let Some((segment, capacity)) = self.spare.take() else {
            return false;
        };
        let group = self.tail.map_or(self.first_group - 1, |tail| tail.group);
        self.tail = Some(wal::Tail { segment, offset: 0, capacity, follows: group, group, synced: group });
        self.remove_doomed(cx);
        self.prepare_segment(cx, self.options.wal_segment_bytes);
        true
    }

    pub(super) fn on_committed(&mut self, cx: &mut StoreCx<'_>) {
        let Some(Committing { lsn, group }) = self.committing.take() else {
            return;
        };
        match self.options.durability {
            Durability::Sync => {
                if let Some(tail) = &mut self.tail {
                    tail.synced = tail.synced.max(group);
                }
            }
            Durability::Interval(ms) => {
                self.sync_due = self.sync_due.or(Some(cx.now.mono.plus_ms(ms)));
            }
        }
        self.acknowledge(cx, lsn);
    }

    /// Whether the write of `group` has ended: until then its segment must stay.
    pub(super) fn is_committed(&self, group: u64) -> bool {
        self.committing.is_none_or(|committing| committing.group > group)
    }

    fn acknowledge(&mut self, cx: &mut StoreCx<'_>, lsn: Lsn) {
        if lsn > self.durable {
            self.durable = lsn;
            cx.events.push(StoreEvent::Durable(lsn));
        }
    }

    fn sync_log_if_due(&mut self, cx: &mut StoreCx<'_>) {
        if self.sync_due.is_some_and(|due| due <= cx.now.mono) {
            self.sync_due = None;
            if let Some(tail) = self.tail.filter(|tail| tail.synced < tail.group) {
                self.sync_log(cx, tail);
            }
        }
    }

    /// Syncs every group whose write has completed.
    fn sync_log(&mut self, cx: &mut StoreCx<'_>, tail: wal::Tail) {
        let written = self.committing.map_or(tail.group, |committing| committing.group - 1);
        if self.syncing || written <= tail.synced {
            return;
        }
        self.syncing = true;
        self.disk(cx, Purpose::LogSync(written), DiskOp::Sync { file: wal_file(tail.segment) });
    }

    pub(super) fn on_log_synced(&mut self, cx: &mut StoreCx<'_>, group: u64) {
        self.syncing = false;
        if let Some(tail) = &mut self.tail {
            tail.synced = tail.synced.max(group);
            if let (true, Durability::Interval(ms)) = (tail.synced < tail.group, self.options.durability) {
                self.sync_due = self.sync_due.or(Some(cx.now.mono.plus_ms(ms)));
            }
        }
    }
}
