//! Scans: the records of a range in order, or backwards, as resumable jobs.

use super::cursor::{self, Cursor, DamagedBlock};
use super::entry::{self, Content, Rank};
use super::levels::Run;
use super::memtable::{Held, Memtable, Position};
use super::page::Page;
use super::pointer::Pointer;
use super::trouble::Trouble;
use super::{Frozen, Lsn, Purpose, ReadJob, ReadToken, SnapshotId, Store, StoreCx, StoreEvent};
use crate::base::limits::SCAN_STEP_ENTRIES;
use crate::base::{Counter, RecordKey};
use crate::io::{DiskOp, DiskResult};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::cmp::Ordering;
use core::ops::Bound;

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest key to the highest.
    Forward,
    /// From the highest key to the lowest.
    Backward,
}

/// The keys that a scan shows, and in which order. A scan that goes on behind a page begins at its last key, excluded: the
/// new `low` of a forward scan, the new `high` of a backward one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRange {
    /// The lower bound.
    pub low: Bound<RecordKey>,
    /// The upper bound.
    pub high: Bound<RecordKey>,
    /// The order.
    pub direction: Direction,
}

/// A place among the keys.
#[derive(Debug, Clone, Default)]
struct Edge {
    /// Without a name it is an end of the store.
    is_named: bool,
    name: Vec<u8>,
    exclusive: bool,
}

impl Edge {
    fn new(bound: &Bound<RecordKey>) -> Self {
        let mut edge = Self::default();
        if let Bound::Included(key) | Bound::Excluded(key) = bound {
            entry::encode_key(key, &mut edge.name);
            (edge.is_named, edge.exclusive) = (true, matches!(bound, Bound::Excluded(_)));
        }
        edge
    }

    fn pass(&mut self, name: &[u8]) {
        self.name.clear();
        self.name.extend_from_slice(name);
        (self.is_named, self.exclusive) = (true, true);
    }

    fn name(&self) -> Option<&[u8]> {
        self.is_named.then_some(&self.name)
    }
}

/// A memtable that a scan keeps, and the slots whose entries there count as not there.
#[derive(Debug, Clone)]
struct Pin {
    memtable: Arc<Memtable>,
    dropped: Vec<(u16, u64)>,
}

/// An entry at the head of a source.
struct Head<'a> {
    key: &'a [u8],
    rank: Option<Rank>,
    lsn: Lsn,
    body: &'a [u8],
    owner: Option<&'a Bytes>,
}

/// The sources that stand at a key: a bit for the number of each, modulo 64.
#[derive(Debug, Clone, Copy, Default)]
struct Same(u64);

impl Same {
    fn with(self, number: usize) -> Self {
        Self(self.0 | 1 << (number % 64))
    }

    /// Whether a source stood at the key that was `name`; `key` is where it stands.
    fn has(self, number: usize, of: usize, key: Option<&[u8]>, name: &[u8]) -> bool {
        self.0 & (1 << (number % 64)) != 0 && (of <= 64 || key == Some(name))
    }
}

#[derive(Debug, Clone)]
pub(super) struct ScanJob {
    backward: bool,
    /// What is scanned; else the store as it is.
    snapshot: Option<SnapshotId>,
    /// Where the scan began, and where it stands.
    from: Edge,
    at: Edge,
    /// How often it was begun anew.
    turn: u32,
    /// Where it ends.
    to: Edge,
    limit: usize,
    bytes: usize,
    taken: usize,
    cursors: Vec<Cursor>,
    /// Memtables frozen when the scan began or since: they may have become tables that it does not know.
    pins: Vec<Pin>,
    page: Page,
    /// Values that stand apart and are still to come, by the number of their record.
    values: BTreeMap<usize, Pointer>,
    /// The page is full, or the range has ended (then true).
    ended: Option<bool>,
    lsn: Lsn,
    /// Damaged blocks are left out.
    skips: bool,
    /// Records whose values are damaged, by number.
    unread: BTreeSet<usize>,
}

impl Pin {
    /// Leaves entries of slots that were dropped.
    fn pass_dropped(&self, position: &mut Position, backward: bool) {
        while !self.dropped.is_empty() {
            let held = if backward { self.memtable.before(*position) } else { self.memtable.at(*position) };
            let slot = held.map(|held| entry::slot_of(held.key));
            let Some(slot) = slot.filter(|slot| self.dropped.iter().any(|(dropped, _)| dropped == slot))
            else {
                return;
            };
            *position = match slot.checked_add(1) {
                _ if backward => self.memtable.seek_back(Some(&slot.to_be_bytes()), true),
                Some(next) => self.memtable.seek(&next.to_be_bytes(), false),
                None => self.memtable.seek_back(None, false),
            };
        }
    }
}

impl ScanJob {
    fn new(range: &ScanRange, limit: usize, bytes: usize) -> Self {
        let backward = range.direction == Direction::Backward;
        let (low, high) = (Edge::new(&range.low), Edge::new(&range.high));
        let (at, to) = if backward { (high, low) } else { (low, high) };
        Self {
            backward,
            snapshot: None,
            from: at.clone(),
            at,
            turn: 0,
            to,
            limit,
            bytes,
            taken: 0,
            cursors: Vec::new(),
            pins: Vec::new(),
            page: Page::of_at_most(limit),
            values: BTreeMap::new(),
            ended: None,
            lsn: Lsn(0),
            skips: false,
            unread: BTreeSet::new(),
        }
    }

    pub(super) fn uses(&self, number: u64) -> bool {
        self.cursors.iter().any(|cursor| cursor.uses(number))
            || self.values.values().any(|pointer| pointer.file == number)
    }

    pub(super) fn turn(&self) -> u32 {
        self.turn
    }

    /// Bytes of what it has read and found.
    pub(super) fn memory(&self) -> usize {
        self.taken + self.cursors.iter().map(Cursor::memory).sum::<usize>()
    }

    pub(super) fn pin(&mut self, memtable: &Arc<Memtable>) {
        if self.snapshot.is_none() {
            self.pins.push(Pin { memtable: memtable.clone(), dropped: Vec::new() });
        }
    }

    fn seek(&self, memtable: &Memtable) -> Position {
        if self.backward {
            memtable.seek_back(self.at.name(), self.at.exclusive)
        } else {
            memtable.seek(&self.at.name, self.at.exclusive)
        }
    }

    /// A cursor over tables in order that stands where the scan does, if some of them is left.
    fn cursor(&self, run: &Run, from: usize, to: usize) -> Option<Cursor> {
        let Edge { name, exclusive, .. } = &self.at;
        if self.backward {
            let is_left = self.at.name().is_none_or(|name| *run[from].meta.first <= *name);
            is_left.then(|| Cursor::seek_back(run, from, to, self.at.name(), *exclusive))
        } else {
            (*run[to - 1].meta.last >= **name).then(|| Cursor::seek(run, from, to, name, *exclusive))
        }
    }
}

/// The next entry of a memtable, without those of slots that were dropped.
fn head_of<'a>(
    memtable: &'a Memtable,
    position: &mut Position,
    pin: Option<&Pin>,
    backward: bool,
) -> Option<Held<'a>> {
    if let Some(pin) = pin {
        pin.pass_dropped(position, backward);
    }
    if backward { memtable.before(*position) } else { memtable.at(*position) }
}

impl Store {
    /// Records from `from` (excluded if `exclusive`) up to `to` (excluded; `None` = end), upwards: see `scan_range`.
    pub fn scan(
        &mut self,
        cx: &mut StoreCx<'_>,
        from: RecordKey,
        exclusive: bool,
        to: Option<RecordKey>,
        limit: usize,
        bytes: usize,
    ) -> ReadToken {
        let low = if exclusive { Bound::Excluded(from) } else { Bound::Included(from) };
        let high = to.map_or(Bound::Unbounded, Bound::Excluded);
        self.scan_range(cx, ScanRange { low, high, direction: Direction::Forward }, limit, bytes)
    }

    /// The records of `range` in its order, at most `limit` records and about `bytes` bytes (at least one record).
    /// `StoreEvent::Scanned` follows, perhaps within this call.
    #[expect(clippy::needless_pass_by_value, reason = "the caller is done with its bounds")]
    pub fn scan_range(
        &mut self,
        cx: &mut StoreCx<'_>,
        range: ScanRange,
        limit: usize,
        bytes: usize,
    ) -> ReadToken {
        let token = self.take_token();
        let job = ScanJob::new(&range, limit, bytes);
        self.begin_scan(cx, token, job);
        token
    }

    /// The same of a snapshot that has been taken; `Unreadable` if it is not there, or was released before the scan began.
    pub fn scan_snapshot(
        &mut self,
        cx: &mut StoreCx<'_>,
        id: SnapshotId,
        range: &ScanRange,
        limit: usize,
        bytes: usize,
    ) -> ReadToken {
        let token = self.take_token();
        let mut job = ScanJob::new(range, limit, bytes);
        job.snapshot = Some(id);
        self.begin_scan(cx, token, job);
        token
    }

    /// R6: the records from `from` up to `to` upwards, without what stands in damaged blocks: their keys are suspect, and so
    /// are asked for elsewhere. A block that only could not be read this time ends it as `Unreadable`.
    pub fn scan_readable(
        &mut self,
        cx: &mut StoreCx<'_>,
        from: RecordKey,
        exclusive: bool,
        to: Option<RecordKey>,
        limit: usize,
        bytes: usize,
    ) -> ReadToken {
        let token = self.take_token();
        let low = if exclusive { Bound::Excluded(from) } else { Bound::Included(from) };
        let high = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut job = ScanJob::new(&ScanRange { low, high, direction: Direction::Forward }, limit, bytes);
        job.skips = true;
        self.begin_scan(cx, token, job);
        token
    }

    fn begin_scan(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, mut job: ScanJob) {
        let pin =
            |frozen: &Frozen| Pin { memtable: frozen.memtable.clone(), dropped: frozen.dropped.clone() };
        let levels = match job.snapshot {
            // What is put or dropped since the snapshot does not show.
            Some(id) => self.snapshots.levels(id),
            None => Some(&self.levels),
        };
        let Some(levels) = levels else {
            return cx.events.push(StoreEvent::Unreadable { token });
        };
        if job.snapshot.is_none() {
            job.pins = self.frozen.iter().map(pin).collect();
        }
        for (level, run) in levels.runs().iter().enumerate().filter(|(_, run)| !run.is_empty()) {
            if level == 0 {
                // The latest first: of equal entries that one is shown.
                let cursors = (0..run.len()).rev().filter_map(|at| job.cursor(run, at, at + 1));
                let cursors: Vec<Cursor> = cursors.collect();
                job.cursors.extend(cursors);
            } else if let Some(cursor) = job.cursor(run, 0, run.len()) {
                job.cursors.push(cursor);
            }
        }
        self.run_scan(cx, token, job);
    }

    /// Begins a scan anew: what it has seen may have gone.
    pub(super) fn restart_scan(&mut self, cx: &mut StoreCx<'_>, token: ReadToken) {
        if let Some(ReadJob::Scan(job)) = self.reads.remove(&token) {
            self.scan_anew(cx, token, job);
        }
    }

    fn scan_anew(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, mut job: ScanJob) {
        job.at = job.from.clone();
        (job.turn, job.taken, job.ended, job.lsn) = (job.turn + 1, 0, None, Lsn(0));
        job.cursors.clear();
        job.page = Page::default();
        job.values.clear();
        job.unread.clear();
        self.begin_scan(cx, token, job);
    }

    pub(super) fn run_scan(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, mut job: ScanJob) {
        // Memory does not change within a step: each memtable is searched once, and walked from there.
        let pins = core::mem::take(&mut job.pins);
        let active = [&self.active].into_iter().filter(|_| job.snapshot.is_none());
        let memory: Vec<&Memtable> = pins.iter().map(|pin| &*pin.memtable).chain(active).collect();
        let mut positions: Vec<_> = memory.iter().map(|memtable| job.seek(memtable)).collect();
        let backward = job.backward;
        let sources = memory.iter().zip(&mut positions).enumerate();
        let mut heads: Vec<Option<Held<'_>>> = sources
            .map(|(at, (memtable, position))| head_of(memtable, position, pins.get(at), backward))
            .collect();
        let (mut found, before) = (Vec::new(), self.stats.entries_walked);
        let done = loop {
            if self.stats.entries_walked - before >= SCAN_STEP_ENTRIES {
                job.pins = pins;
                self.yield_scan(cx, token, job);
                return self.report_all(cx, found);
            }
            self.stats.entries_walked += 1;
            if job.page.len() >= job.limit || (job.taken >= job.bytes && job.page.len() > 0) {
                break false;
            }
            let (missing, damage) = cursor::settle_all(&mut job.cursors, &mut self.cache);
            if let Some(damage) = damage {
                found.push(damage);
                if job.skips {
                    job.cursors.iter_mut().for_each(|cursor| cursor.reading = false);
                    continue;
                }
                self.report_all(cx, found);
                return cx.events.push(StoreEvent::Unreadable { token });
            }
            if !missing.is_empty() {
                for (source, op) in missing {
                    cx.counters.add(Counter::DiskReads);
                    self.disk(cx, Purpose::ScanBlock(token, source, job.turn), op);
                }
                job.pins = pins;
                self.reads.insert(token, ReadJob::Scan(job));
                return self.report_all(cx, found);
            }
            let Some(same) = job.take_next(&heads) else {
                break true;
            };
            let of = heads.len() + job.cursors.len();
            for (at, head) in heads.iter_mut().enumerate() {
                if same.has(at, of, head.map(|head| head.key), &job.at.name) {
                    let (memtable, position) = (memory[at], &mut positions[at]);
                    *position =
                        if backward { memtable.step_back(*position) } else { memtable.step(*position) };
                    *head = head_of(memtable, position, pins.get(at), backward);
                }
            }
        };
        job.ended = Some(done);
        self.report_all(cx, found);
        self.fetch_values(cx, token, job);
    }

    /// The scan that a read was for, unless it has begun anew since.
    pub(super) fn take_scan(&mut self, token: ReadToken, turn: u32) -> Option<ScanJob> {
        let is_its = matches!(self.reads.get(&token), Some(ReadJob::Scan(job)) if job.turn == turn);
        if !is_its {
            return None;
        }
        match self.reads.remove(&token) {
            Some(ReadJob::Scan(job)) => Some(job),
            _ => None,
        }
    }

    /// The records of the page stand: reads the values that stand apart, all at once.
    fn fetch_values(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, mut job: ScanJob) {
        let Self { cache, .. } = self;
        let records = &mut job.page.records;
        job.values.retain(|number, pointer| {
            let Some(block) = cache.get(pointer.file, pointer.offset) else {
                return true;
            };
            records[*number].1.value = Some(block.owner().clone());
            false
        });
        if job.values.is_empty() {
            return self.end_scan(cx, token, job);
        }
        for (number, pointer) in &job.values {
            cx.counters.add(Counter::DiskReads);
            let op = DiskOp::Read { file: pointer.name(), offset: pointer.offset, len: pointer.stored };
            self.disk(cx, Purpose::ScanValue(token, *number, job.turn), op);
        }
        self.reads.insert(token, ReadJob::Scan(job));
    }

    pub(super) fn on_scan_value(
        &mut self,
        cx: &mut StoreCx<'_>,
        token: ReadToken,
        number: usize,
        turn: u32,
        result: DiskResult,
    ) {
        let Some(mut job) = self.take_scan(token, turn) else {
            return;
        };
        let opened = match (job.values.remove(&number), result) {
            (Some(pointer), DiskResult::Data(data)) => {
                pointer.open(&data).map_err(|reason| (pointer, Trouble::Damaged(reason)))
            }
            (Some(pointer), DiskResult::Failed(error)) => Err((pointer, Trouble::Unread(error.text))),
            _ => return,
        };
        match opened {
            Ok(value) => job.page.records[number].1.value = Some(value),
            Err((pointer, trouble)) => {
                let mut name = Vec::new();
                entry::encode_key(&job.page.key(number), &mut name);
                self.report_value_damage(cx, &name, pointer, trouble);
                if !job.skips || !self.is_value_damaged(pointer) {
                    cx.events.push(StoreEvent::Unreadable { token });
                    return self.after_read(cx);
                }
                job.unread.insert(number);
            }
        }
        if job.values.is_empty() {
            self.end_scan(cx, token, job);
            return self.after_read(cx);
        }
        self.reads.insert(token, ReadJob::Scan(job));
    }

    fn end_scan(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, mut job: ScanJob) {
        let (lsn, done) = (self.shown_at(job.lsn), job.ended == Some(true));
        if !done && !job.unread.is_empty() && job.unread.len() == job.page.len() {
            // A page says where it ends by its last record: this one goes on behind what was damaged.
            job.from = Edge::new(&Bound::Excluded(job.page.key(job.page.len() - 1)));
            return self.scan_anew(cx, token, job);
        }
        cx.events.push(StoreEvent::Scanned { token, records: job.page.take(&job.unread), done, lsn });
    }

    fn report_all(&mut self, cx: &mut StoreCx<'_>, found: Vec<DamagedBlock>) {
        for ((table, at), reason) in found {
            self.report_damage(cx, &table, at, Trouble::Damaged(reason));
        }
    }

    pub(super) fn on_scan_block(
        &mut self,
        cx: &mut StoreCx<'_>,
        token: ReadToken,
        source: usize,
        turn: u32,
        result: DiskResult,
    ) {
        let Some(mut job) = self.take_scan(token, turn) else {
            return;
        };
        if let Some(cursor) = job.cursors.get_mut(source) {
            match result {
                DiskResult::Data(data) => cursor.on_data(data),
                DiskResult::Failed(_) if cursor.narrow() => {}
                DiskResult::Failed(error) => {
                    let mut is_left_out = job.skips;
                    if let Some((table, at)) = cursor.place() {
                        cursor.skip_block();
                        self.report_damage(cx, &table, at, Trouble::Unread(error.text));
                        is_left_out &= self.is_block_damaged(&table, at);
                    }
                    if !is_left_out {
                        cx.events.push(StoreEvent::Unreadable { token });
                        return self.after_read(cx);
                    }
                }
                _ => return,
            }
        }
        if job.cursors.iter().any(|cursor| cursor.reading) {
            self.reads.insert(token, ReadJob::Scan(job));
            return;
        }
        self.run_scan(cx, token, job);
        self.after_read(cx);
    }
}

impl ScanJob {
    /// Takes the best entry of the next key over all sources, which are the heads of memtables and then the cursors: the
    /// cursors at that key go on. Which sources stood there; `None` at the end of the range.
    fn take_next(&mut self, in_memory: &[Option<Held<'_>>]) -> Option<Same> {
        let Self { cursors, backward, at, to, page, values, .. } = self;
        let in_memory_count = in_memory.len();
        let heads = in_memory.iter().enumerate().filter_map(|(number, held)| {
            let Held { rank, lsn, key, body, owner } = (*held)?;
            Some((number, Head { key, rank: Some(rank), lsn: Lsn(lsn), body, owner }))
        });
        let on_disk = cursors.iter().enumerate().filter_map(|(number, cursor)| {
            let (key, (body, owner)) = (cursor.key()?, cursor.body()?);
            let head = Head { key, rank: entry::rank(body), lsn: Lsn(0), body, owner: Some(owner) };
            Some((in_memory_count + number, head))
        });
        let (mut best, mut same): (Option<Head<'_>>, Same) = (None, Same::default());
        for (number, head) in heads.chain(on_disk) {
            let order = best.as_ref().map_or(Ordering::Less, |best| head.key.cmp(best.key));
            match if *backward && best.is_some() { order.reverse() } else { order } {
                Ordering::Less => (best, same) = (Some(head), Same::default().with(number)),
                Ordering::Equal => {
                    same = same.with(number);
                    best = best.filter(|best| best.rank >= head.rank).or(Some(head));
                }
                Ordering::Greater => {}
            }
        }
        let Head { key, lsn, body, owner, .. } = best?;
        let is_beyond = to.name().is_some_and(|to_name| match key.cmp(to_name) {
            Ordering::Equal => to.exclusive,
            order => order.is_lt() == *backward,
        });
        if is_beyond {
            return None;
        }
        let (content, value) = entry::view(body).unwrap_or((Content::Erased, None));
        let apart = if let Content::Apart(_, pointer) = &content { Some(*pointer) } else { None };
        if let Content::Record(record) | Content::Apart(record, _) = content {
            let len = apart.map_or(value.map_or(0, <[u8]>::len), |pointer| pointer.len as usize);
            values.extend(apart.map(|pointer| (page.len(), pointer)));
            page.push(key, record, value, owner);
            self.taken += len + key.len() + 64;
            self.lsn = self.lsn.max(lsn);
        }
        at.pass(key);
        let of = in_memory_count + cursors.len();
        for (number, cursor) in cursors.iter_mut().enumerate() {
            if same.has(in_memory_count + number, of, cursor.key(), &at.name) {
                cursor.advance();
            }
        }
        Some(same)
    }
}
