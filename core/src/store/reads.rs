//! Point reads, as resumable jobs.

use super::cache::BlockCache;
use super::entry::{self, Rank};
use super::table::{BlockAt, Handle, Table, hash};
use super::{Lookup, Lsn, Purpose, ReadJob, ReadToken, Store, StoreCx, StoreEvent};
use crate::base::{Counter, Record, RecordKey, Stamp};
use crate::io::{DiskOp, DiskResult};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The best entry found so far.
#[derive(Debug, Clone)]
pub(super) struct Best {
    pub(super) rank: Rank,
    pub(super) lsn: Lsn,
    pub(super) record: Option<Record>,
}

/// What a look into tables came to.
enum Looked {
    /// All that can hold the key have been looked at.
    Done,
    /// A block must be read first.
    Missing { table: Arc<Table>, at: BlockAt, handle: Handle },
}

#[derive(Debug, Clone)]
pub(super) struct GetJob {
    name: Vec<u8>,
    hash: u64,
    /// Tables still to be looked at, the next one last.
    left: Vec<Arc<Table>>,
    /// The block that is being read.
    reading: (Arc<Table>, BlockAt, Handle),
    best: Option<Best>,
    version: u64,
}

impl GetJob {
    pub(super) fn uses(&self, number: u64) -> bool {
        self.left.iter().chain([&self.reading.0]).any(|table| table.meta.number == number)
    }
}

/// Takes in what a place holds, if it is better.
fn improve(best: &mut Option<Best>, rank: Rank, lsn: Lsn, record: impl FnOnce() -> Option<Option<Record>>) {
    if best.as_ref().is_none_or(|best| rank > best.rank)
        && let Some(record) = record()
    {
        *best = Some(Best { rank, lsn, record });
    }
}

/// Looks for a key in one table, as far as the cache reaches.
fn look(
    cache: &mut BlockCache,
    table: &Arc<Table>,
    name: &[u8],
    scratch: &mut Vec<u8>,
    best: &mut Option<Best>,
) -> Looked {
    let at = table.block_for(name);
    let Some(handle) = table.handle(at) else {
        return Looked::Done;
    };
    let Some(block) = cache.get(table.meta.number, handle.offset) else {
        return Looked::Missing { table: table.clone(), at, handle };
    };
    if let Some(body) = block.get(name, scratch)
        && let Some(rank) = entry::rank(body)
    {
        improve(best, rank, Lsn(0), || entry::decode(body, Some(block.owner())));
    }
    Looked::Done
}

/// Whether a table can be passed over: the best ballot found is above all of its own.
fn is_beaten(table: &Table, best: Option<&Best>) -> bool {
    best.is_some_and(|best| best.rank.ballot > table.meta.highest)
}

impl Store {
    /// The best entry in memory.
    fn in_memory(&self, name: &[u8]) -> Option<Best> {
        let mut best = None;
        let frozen = self.frozen.iter().rev().map(|frozen| &*frozen.memtable);
        for memtable in [&self.active].into_iter().chain(frozen) {
            if let Some(held) = memtable.get(name) {
                improve(&mut best, held.rank, Lsn(held.lsn), || entry::decode(held.body, held.owner));
            }
        }
        best
    }

    /// The ballot held for `key` in memory; `None` if only tables could hold it.
    pub fn peek(&self, key: &RecordKey) -> Option<Stamp> {
        let mut name = Vec::new();
        entry::encode_key(key, &mut name);
        let frozen = self.frozen.iter().map(|frozen| &*frozen.memtable);
        let held = frozen.chain([&self.active]).filter_map(|memtable| memtable.get(&name));
        held.map(|held| held.rank).max().map(|rank| rank.ballot)
    }

    /// The LSN that must be durable before an entry may be shown.
    pub(super) fn shown_at(&self, lsn: Lsn) -> Lsn {
        if lsn > self.durable { lsn } else { Lsn(0) }
    }

    /// The record with the highest ballot.
    pub fn get(&mut self, cx: &mut StoreCx<'_>, key: &RecordKey) -> Lookup {
        let mut name = core::mem::take(&mut self.name);
        entry::encode_key(key, &mut name);
        let lookup = self.get_name(cx, &name);
        self.name = name;
        lookup
    }

    fn get_name(&mut self, cx: &mut StoreCx<'_>, name: &[u8]) -> Lookup {
        let mut best = self.in_memory(name);
        let hash = hash(name);
        let durable = self.durable;
        let Self { levels, cache, scratch, .. } = &mut *self;
        let mut tables = levels.covering(name);
        while let Some(table) = tables.next() {
            if is_beaten(table, best.as_ref()) {
                continue;
            }
            if !table.may_hold(name, hash) {
                cx.counters.add(Counter::FilterSpared);
                continue;
            }
            if let Looked::Missing { table, at, handle } = look(cache, table, name, scratch, &mut best) {
                let mut left: Vec<Arc<Table>> = tables.cloned().collect();
                left.reverse();
                let reading = (table, at, handle);
                let job = GetJob { name: name.to_vec(), hash, left, reading, best, version: self.version };
                let token = self.take_token();
                self.read_block(cx, token, job);
                return Lookup::Pending(token);
            }
        }
        let lsn = best.as_ref().map_or(Lsn(0), |best| best.lsn);
        let lsn = if lsn > durable { lsn } else { Lsn(0) };
        Lookup::Ready { record: best.and_then(|best| best.record), lsn }
    }

    pub(super) fn take_token(&mut self) -> ReadToken {
        self.next_token += 1;
        ReadToken(self.next_token)
    }

    fn read_block(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, job: GetJob) {
        cx.counters.add(Counter::DiskReads);
        let (table, _, handle) = &job.reading;
        let op = DiskOp::Read { file: table.meta.file(), offset: handle.offset, len: handle.len };
        self.reads.insert(token, ReadJob::Get(job));
        self.disk(cx, Purpose::GetBlock(token), op);
    }

    pub(super) fn on_get_block(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, result: &DiskResult) {
        let Some(ReadJob::Get(mut job)) = self.reads.remove(&token) else {
            return;
        };
        let (table, at, handle) = job.reading.clone();
        let decoded = match result {
            DiskResult::Data(data) => table.decode(handle, data),
            DiskResult::Failed(error) => Err(error.text.clone()),
            _ => return,
        };
        match decoded {
            Ok(block) => {
                let block = Arc::new(block);
                if let Some(body) = block.get(&job.name, &mut self.scratch)
                    && let Some(rank) = entry::rank(body)
                {
                    improve(&mut job.best, rank, Lsn(0), || entry::decode(body, Some(block.owner())));
                }
                self.cache.insert(table.meta.number, handle.offset, &block);
            }
            Err(reason) => {
                self.report_damage(cx, &table, at, reason);
                cx.events.push(StoreEvent::Unreadable { token });
                return self.after_read(cx);
            }
        }
        if job.version != self.version {
            // A flush has moved entries from memory to a table that this job does not know: looks again.
            job.version = self.version;
            let mut tables: Vec<_> = self.levels.covering(&job.name).cloned().collect();
            tables.reverse();
            job.left = tables;
        }
        let mut done_with = None;
        while let Some(table) = job.left.pop() {
            if is_beaten(&table, job.best.as_ref()) || !table.may_hold(&job.name, job.hash) {
                continue;
            }
            if let Looked::Missing { table, at, handle } =
                look(&mut self.cache, &table, &job.name, &mut self.scratch, &mut job.best)
            {
                // The block that has just come, and did not stay in the cache, is not read twice.
                if (table.meta.number, at) == (job.reading.0.meta.number, job.reading.1) {
                    continue;
                }
                done_with = Some((table, at, handle));
                break;
            }
        }
        if let Some(reading) = done_with {
            job.reading = reading;
            return self.read_block(cx, token, job);
        }
        let mut best = job.best;
        if let Some(held) = self.in_memory(&job.name) {
            improve(&mut best, held.rank, held.lsn, || Some(held.record));
        }
        let lsn = self.shown_at(best.as_ref().map_or(Lsn(0), |best| best.lsn));
        cx.events.push(StoreEvent::Got { token, record: best.and_then(|best| best.record), lsn });
        self.after_read(cx);
    }

    /// A read has ended: files that waited for it may go.
    pub(super) fn after_read(&mut self, cx: &mut StoreCx<'_>) {
        if !self.doomed.is_empty() {
            self.remove_doomed(cx);
        }
    }

    /// A block cannot be read: who holds other copies of these keys is told, once per block.
    pub(super) fn report_damage(
        &mut self,
        cx: &mut StoreCx<'_>,
        table: &Arc<Table>,
        at: BlockAt,
        reason: String,
    ) {
        if self.damaged.entry(table.meta.number).or_default().insert(at) {
            let (first, last) = table.span(at);
            cx.events.push(StoreEvent::Damaged { file: table.meta.file(), first, last, reason });
        }
    }
}
