//! Point reads and scans, as resumable jobs.

use super::cursor::{self, Cursor, Step};
use super::memtable::Memtable;
use super::table::Table;
use super::{Entry, Lookup, Lsn, Purpose, ReadToken, Store, StoreCx, StoreEvent, better};
use crate::base::{Counter, Record, RecordKey, Stamp};
use crate::io::DiskResult;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A read that waits for the disk.
#[derive(Debug, Clone)]
pub(super) enum ReadJob {
    Get(GetJob),
    Scan(ScanJob),
}

#[derive(Debug, Clone)]
pub(super) struct GetJob {
    key: RecordKey,
    /// Tables still to be looked at, the one with the highest ballots last.
    left: Vec<Arc<Table>>,
    /// The table whose block is being read, and the block.
    reading: Option<(Arc<Table>, usize)>,
    best: Option<Entry>,
    version: u64,
}

#[derive(Debug, Clone)]
pub(super) struct ScanJob {
    at: RecordKey,
    exclusive: bool,
    to: Option<RecordKey>,
    limit: usize,
    bytes: usize,
    cursors: Vec<Cursor>,
    /// Memtables frozen when the scan began or since: they may have become tables that it does not know.
    pins: Vec<Arc<Memtable>>,
    records: Vec<(RecordKey, Record)>,
    lsn: Lsn,
}

impl ReadJob {
    pub(super) fn uses(&self, number: u64) -> bool {
        match self {
            Self::Get(job) => {
                let reading = job.reading.iter().map(|(table, _)| table);
                job.left.iter().chain(reading).any(|table| table.meta.number == number)
            }
            Self::Scan(job) => job.cursors.iter().any(|cursor| cursor.table.meta.number == number),
        }
    }

    pub(super) fn pin(&mut self, memtable: &Arc<Memtable>) {
        if let Self::Scan(job) = self {
            job.pins.push(memtable.clone());
        }
    }
}

impl Store {
    /// The best entry in memory.
    fn in_memory(&self, key: &RecordKey) -> Option<Entry> {
        let frozen = self.frozen.iter().filter_map(|frozen| frozen.memtable.get(key));
        frozen
            .chain(self.active.get(key))
            .fold(None, |best: Option<&Entry>, entry| match best {
                Some(best) if !entry.beats(best) => Some(best),
                _ => Some(entry),
            })
            .cloned()
    }

    /// The ballot held for `key` in memory; `None` if only tables could hold it.
    pub fn peek(&self, key: &RecordKey) -> Option<Stamp> {
        self.in_memory(key).map(|entry| entry.ballot)
    }

    /// The LSN that must be durable before `entry` may be shown.
    fn shown_at(&self, lsn: Lsn) -> Lsn {
        if lsn > self.durable { lsn } else { Lsn(0) }
    }

    /// The record with the highest ballot.
    pub fn get(&mut self, cx: &mut StoreCx<'_>, key: &RecordKey) -> Lookup {
        let mut job = self.get_job(cx, key.clone());
        match self.run_get(cx, &mut job) {
            Ok(()) => {
                let lsn = self.shown_at(job.best.as_ref().map_or(Lsn(0), |entry| entry.lsn));
                Lookup::Ready { record: job.best.and_then(|entry| entry.record), lsn }
            }
            Err(op) => {
                let token = self.take_token();
                self.reads.insert(token, ReadJob::Get(job));
                self.disk(cx, Purpose::GetBlock(token), op);
                Lookup::Pending(token)
            }
        }
    }

    fn take_token(&mut self) -> ReadToken {
        self.next_token += 1;
        ReadToken(self.next_token)
    }

    fn get_job(&mut self, cx: &mut StoreCx<'_>, key: RecordKey) -> GetJob {
        let best = self.in_memory(&key);
        let known = best.as_ref().map(|entry| entry.ballot);
        let mut left: Vec<Arc<Table>> = Vec::new();
        for table in &self.tables {
            if known.is_some_and(|known| known > table.meta.highest) || !table.covers(&key) {
                continue;
            }
            if table.may_hold(&key) {
                left.push(table.clone());
            } else {
                cx.counters.add(Counter::FilterSpared);
            }
        }
        left.sort_by_key(|table| (table.meta.highest, table.meta.number));
        GetJob { key, left, reading: None, best, version: self.version }
    }

    /// Looks into the tables as far as the cache reaches; the next read otherwise.
    fn run_get(&mut self, cx: &mut StoreCx<'_>, job: &mut GetJob) -> Result<(), crate::io::DiskOp> {
        while let Some(table) = job.left.pop() {
            if job.best.as_ref().is_some_and(|best| best.ballot > table.meta.highest) {
                job.left.clear();
                break;
            }
            let Some((at, handle)) = table.block_for(&job.key).and_then(|at| Some((at, table.block(at)?)))
            else {
                continue;
            };
            let Some(block) = self.cache.get(table.meta.number, handle.offset) else {
                cx.counters.add(Counter::DiskReads);
                let op = cursor::read_of(&table, handle);
                job.reading = Some((table, at));
                return Err(op);
            };
            job.best = better(job.best.take(), block.get(&job.key));
        }
        Ok(())
    }

    pub(super) fn on_get_block(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, result: &DiskResult) {
        let Some(ReadJob::Get(mut job)) = self.reads.remove(&token) else {
            return;
        };
        if let Some((table, at)) = job.reading.take()
            && let Some(handle) = table.block(at)
        {
            match cursor::decode(&table, handle, result) {
                Ok(block) => {
                    let block = Arc::new(block);
                    self.cache.insert(table.meta.number, handle.offset, &block);
                    job.best = better(job.best.take(), block.get(&job.key));
                }
                Err(reason) => return cx.events.push(StoreEvent::Fatal(reason)),
            }
        }
        if job.version != self.version {
            // A flush has moved entries from memory to a table that this job does not know: looks again.
            let best = job.best.take();
            job = self.get_job(cx, job.key);
            job.best = better(job.best.take(), best);
        }
        if let Err(op) = self.run_get(cx, &mut job) {
            self.reads.insert(token, ReadJob::Get(job));
            return self.disk(cx, Purpose::GetBlock(token), op);
        }
        let best = better(self.in_memory(&job.key), job.best);
        let lsn = self.shown_at(best.as_ref().map_or(Lsn(0), |entry| entry.lsn));
        cx.events.push(StoreEvent::Got { token, record: best.and_then(|entry| entry.record), lsn });
        if !self.doomed.is_empty() {
            self.remove_doomed(cx);
        }
    }

    /// Records from `from` (excluded if `exclusive`) up to `to` (excluded; `None` = end), at most `limit` records and about
    /// `bytes` bytes (at least one record). `StoreEvent::Scanned` follows, perhaps within this call.
    pub fn scan(
        &mut self,
        cx: &mut StoreCx<'_>,
        from: RecordKey,
        exclusive: bool,
        to: Option<RecordKey>,
        limit: usize,
        bytes: usize,
    ) -> ReadToken {
        let token = self.take_token();
        let cursors = self.tables.iter().filter_map(|table| Cursor::new(table, &from)).collect();
        let pins = self.frozen.iter().map(|frozen| frozen.memtable.clone()).collect();
        let job = ScanJob {
            at: from,
            exclusive,
            to,
            limit,
            bytes,
            cursors,
            pins,
            records: Vec::new(),
            lsn: Lsn(0),
        };
        self.run_scan(cx, token, job);
        token
    }

    fn run_scan(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, mut job: ScanJob) {
        let mut taken = job.records.iter().map(|(key, record)| size(key, record)).sum::<usize>();
        let done = loop {
            if job.records.len() >= job.limit || taken >= job.bytes {
                break false;
            }
            let mut missing = Vec::new();
            for (source, cursor) in job.cursors.iter_mut().enumerate() {
                if let Step::Missing = cursor.advance(&job.at, job.exclusive, &mut self.cache) {
                    missing.extend(cursor.read().map(|op| (source, op)));
                }
            }
            if !missing.is_empty() {
                for (source, op) in missing {
                    cx.counters.add(Counter::DiskReads);
                    self.disk(cx, Purpose::ScanBlock(token, source), op);
                }
                self.reads.insert(token, ReadJob::Scan(job));
                return;
            }
            let Some((key, entry)) = self.next_of(&job) else {
                break true;
            };
            if job.to.as_ref().is_some_and(|to| key >= *to) {
                break true;
            }
            if let Some(record) = entry.record {
                taken += size(&key, &record);
                job.lsn = job.lsn.max(entry.lsn);
                job.records.push((key.clone(), record));
            }
            (job.at, job.exclusive) = (key, true);
        };
        let lsn = self.shown_at(job.lsn);
        cx.events.push(StoreEvent::Scanned { token, records: job.records, done, lsn });
    }

    /// The best entry of the next key over all sources.
    fn next_of(&self, job: &ScanJob) -> Option<(RecordKey, Entry)> {
        let frozen = self.frozen.iter().map(|frozen| &frozen.memtable);
        let memtables = job.pins.iter().chain(frozen).map(|memtable| &**memtable).chain([&self.active]);
        let in_memory = memtables.filter_map(|memtable| memtable.next(&job.at, job.exclusive));
        let on_disk = job.cursors.iter().filter_map(Cursor::current).map(|(key, entry)| (key, entry));
        let heads: Vec<(&RecordKey, &Entry)> = in_memory.chain(on_disk).collect();
        let key = heads.iter().map(|(key, _)| *key).min()?;
        let same = heads.iter().filter(|(name, _)| *name == key).map(|(_, entry)| (*entry).clone());
        let best = same.fold(None, |best, entry| better(best, Some(entry)))?;
        Some((key.clone(), best))
    }

    pub(super) fn on_scan_block(
        &mut self,
        cx: &mut StoreCx<'_>,
        token: ReadToken,
        source: usize,
        result: &DiskResult,
    ) {
        let Some(ReadJob::Scan(mut job)) = self.reads.remove(&token) else {
            return;
        };
        if let Some(cursor) = job.cursors.get_mut(source) {
            match cursor.on_block(result) {
                Ok(block) => self.cache.insert(cursor.table.meta.number, cursor.offset(), &block),
                Err(reason) => return cx.events.push(StoreEvent::Fatal(reason)),
            }
        }
        if job.cursors.iter().any(|cursor| cursor.reading) {
            self.reads.insert(token, ReadJob::Scan(job));
            return;
        }
        self.run_scan(cx, token, job);
        if !self.doomed.is_empty() {
            self.remove_doomed(cx);
        }
    }
}

fn size(key: &RecordKey, record: &Record) -> usize {
    key.key.len() + record.value.as_ref().map_or(0, bytes::Bytes::len) + 64
}
