//! Point reads, as resumable jobs.

use super::cache::BlockCache;
use super::entry::{self, Content, Rank};
use super::pointer::Pointer;
use super::table::{Block, BlockAt, Handle, Table, hash};
use super::trouble::Trouble;
use super::{Lookup, Lsn, Purpose, ReadJob, ReadToken, Store, StoreCx, StoreEvent};
use crate::base::{Counter, Record, RecordKey, Stamp};
use crate::io::{DiskOp, DiskResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// The best entry found so far.
#[derive(Debug, Clone)]
pub(super) struct Best {
    pub(super) rank: Rank,
    pub(super) lsn: Lsn,
    pub(super) content: Content,
}

/// What is being read.
#[derive(Debug, Clone)]
enum Reading {
    Block(Arc<Table>, BlockAt, Handle),
    /// The value of the best entry.
    Value(Pointer),
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
    reading: Reading,
    best: Option<Best>,
    version: u64,
    /// What is being read is of no use any more.
    is_stale: bool,
}

impl GetJob {
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Forgets what it has seen; what is being read counts as not read.
    pub(super) fn restart(&mut self) {
        (self.best, self.left, self.is_stale) = (None, Vec::new(), true);
    }

    pub(super) fn uses(&self, number: u64) -> bool {
        let in_hand = match &self.reading {
            Reading::Block(table, ..) => table.meta.uses(number),
            Reading::Value(pointer) => pointer.file == number,
        };
        let best = self.best.as_ref().and_then(Best::pointer);
        let is_best = best.is_some_and(|pointer| pointer.file == number);
        in_hand || is_best || self.left.iter().any(|table| table.meta.uses(number))
    }
}

impl Best {
    /// Where the value is to be read.
    fn pointer(&self) -> Option<Pointer> {
        match &self.content {
            Content::Apart(_, pointer) => Some(*pointer),
            Content::Erased | Content::Record(_) => None,
        }
    }

    fn complete(&mut self, value: Bytes) {
        if let Content::Apart(record, _) = &mut self.content {
            let mut record = core::mem::take(record);
            record.value = Some(value);
            self.content = Content::Record(record);
        }
    }
}

/// Takes in what a place holds, if it is better.
fn improve(best: &mut Option<Best>, rank: Rank, lsn: Lsn, content: impl FnOnce() -> Option<Content>) {
    if best.as_ref().is_none_or(|best| rank > best.rank)
        && let Some(content) = content()
    {
        *best = Some(Best { rank, lsn, content });
    }
}

/// Completes the best entry from the cache, if its value stands apart; where that is to be read, if it must be.
fn find_value(cache: &mut BlockCache, best: &mut Option<Best>) -> Option<Pointer> {
    let best = best.as_mut()?;
    let pointer = best.pointer()?;
    let Some(block) = cache.get(pointer.file, pointer.offset) else {
        return Some(pointer);
    };
    best.complete(block.owner().clone());
    None
}

/// Looks for a key in one table, as far as the cache reaches.
fn look(
    cache: &mut BlockCache,
    table: &Arc<Table>,
    name: &[u8],
    best: &mut Option<Best>,
    at: BlockAt,
) -> Looked {
    let Some(handle) = table.handle(at) else {
        return Looked::Done;
    };
    let Some(block) = cache.get(table.meta.number, handle.offset) else {
        return Looked::Missing { table: table.clone(), at, handle };
    };
    if let Some(body) = block.get(name)
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
        let frozen = self.frozen.iter().rev().filter_map(|frozen| frozen.get(name));
        for held in self.active.get(name).into_iter().chain(frozen) {
            improve(&mut best, held.rank, Lsn(held.lsn), || entry::decode(held.body, held.owner));
        }
        best
    }

    /// The ballot held for `key` in memory; `None` if only tables could hold it.
    pub fn peek(&self, key: &RecordKey) -> Option<Stamp> {
        let mut name = Vec::new();
        entry::encode_key(key, &mut name);
        let frozen = self.frozen.iter().filter_map(|frozen| frozen.get(&name));
        let held = frozen.chain(self.active.get(&name));
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
        let hash = hash(name);
        if let Some(record) = self.hot.get(name, hash) {
            cx.counters.add(Counter::RecordCacheHits);
            return Lookup::Ready { record: Some(record.clone()), lsn: Lsn(0) };
        }
        let mut best = self.in_memory(name);
        let is_in_memory = best.is_some();
        let durable = self.durable;
        let Self { levels, cache, .. } = &mut *self;
        let mut tables = levels.covering(name);
        while let Some(table) = tables.next() {
            if is_beaten(table, best.as_ref()) {
                continue;
            }
            let Some(at) = table.place_for(name, hash) else {
                cx.counters.add(Counter::FilterSpared);
                continue;
            };
            if let Looked::Missing { table, at, handle } = look(cache, table, name, &mut best, at) {
                let mut left: Vec<Arc<Table>> = tables.cloned().collect();
                left.reverse();
                let reading = Reading::Block(table, at, handle);
                let job = GetJob {
                    name: name.to_vec(),
                    hash,
                    left,
                    reading,
                    best,
                    version: self.version,
                    is_stale: false,
                };
                let token = self.take_token();
                self.read_next(cx, token, job);
                return Lookup::Pending(token);
            }
        }
        drop(tables);
        if let Some(pointer) = find_value(cache, &mut best) {
            let (left, reading) = (Vec::new(), Reading::Value(pointer));
            let job = GetJob {
                name: name.to_vec(),
                hash,
                left,
                reading,
                best,
                version: self.version,
                is_stale: false,
            };
            let token = self.take_token();
            self.read_next(cx, token, job);
            return Lookup::Pending(token);
        }
        let lsn = best.as_ref().map_or(Lsn(0), |best| best.lsn);
        let lsn = if lsn > durable { lsn } else { Lsn(0) };
        let record = best.and_then(|best| best.content.record());
        if !is_in_memory {
            self.offer_hot(name, hash, record.as_ref());
        }
        Lookup::Ready { record, lsn }
    }

    /// A record was read of which memory holds nothing newer: it may be kept for the next read.
    fn offer_hot(&mut self, name: &[u8], hash: u64, record: Option<&Record>) {
        if let Some(record) = record
            && self.hot.offer(name, hash, record)
        {
            self.share_cache();
        }
    }

    pub(super) fn take_token(&mut self) -> ReadToken {
        self.next_token += 1;
        ReadToken(self.next_token)
    }

    fn read_next(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, job: GetJob) {
        cx.counters.add(Counter::DiskReads);
        let (file, offset, len) = match &job.reading {
            Reading::Block(table, _, handle) => (table.meta.file(), handle.offset, handle.len),
            Reading::Value(pointer) => (pointer.name(), pointer.offset, pointer.stored),
        };
        let op = DiskOp::Read { file, offset, len };
        self.reads.insert(token, ReadJob::Get(job));
        self.disk(cx, Purpose::GetBlock(token), op);
    }

    pub(super) fn on_get_block(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, result: &DiskResult) {
        let Some(ReadJob::Get(mut job)) = self.reads.remove(&token) else {
            return;
        };
        let data = match result {
            DiskResult::Data(data) => Ok(data),
            DiskResult::Failed(error) => Err(Trouble::Unread(error.text.clone())),
            _ => return,
        };
        let is_stale = core::mem::take(&mut job.is_stale);
        if !is_stale && !self.take_read(cx, &mut job, data) {
            cx.events.push(StoreEvent::Unreadable { token });
            return self.after_read(cx);
        }
        if job.version != self.version {
            // A flush has moved entries from memory to a table that this job does not know: looks again.
            job.version = self.version;
            let mut tables: Vec<_> = self.levels.covering(&job.name).cloned().collect();
            tables.reverse();
            job.left = tables;
        }
        if let Some(reading) = self.look_on(&mut job, is_stale) {
            job.reading = reading;
            return self.read_next(cx, token, job);
        }
        let mut best = job.best;
        let held = self.in_memory(&job.name);
        let is_in_memory = held.is_some();
        if let Some(held) = held {
            improve(&mut best, held.rank, held.lsn, || Some(held.content));
        }
        let lsn = self.shown_at(best.as_ref().map_or(Lsn(0), |best| best.lsn));
        let record = best.and_then(|best| best.content.record());
        if !is_in_memory {
            self.offer_hot(&job.name, job.hash, record.as_ref());
        }
        cx.events.push(StoreEvent::Got { token, record, lsn });
        self.after_read(cx);
    }

    /// Takes in what a job has read; false if it is damaged.
    fn take_read(&mut self, cx: &mut StoreCx<'_>, job: &mut GetJob, data: Result<&Bytes, Trouble>) -> bool {
        match job.reading.clone() {
            Reading::Block(table, at, handle) => {
                match data.and_then(|data| table.decode(handle, data).map_err(Trouble::Damaged)) {
                    Ok(block) => {
                        let block = Arc::new(block);
                        if let Some(body) = block.get(&job.name)
                            && let Some(rank) = entry::rank(body)
                        {
                            improve(&mut job.best, rank, Lsn(0), || entry::decode(body, Some(block.owner())));
                        }
                        self.cache.insert(table.meta.number, handle.offset, &block);
                        self.on_block_sound(&table, at);
                    }
                    Err(trouble) => {
                        self.report_damage(cx, &table, at, trouble);
                        return false;
                    }
                }
            }
            Reading::Value(pointer) => {
                match data.and_then(|data| pointer.open(data).map_err(Trouble::Damaged)) {
                    Ok(value) => {
                        let block = Arc::new(Block::of_value(value.clone()));
                        self.cache.insert(pointer.file, pointer.offset, &block);
                        self.on_value_sound(pointer, &job.name);
                        if let Some(best) = &mut job.best {
                            best.complete(value);
                        }
                    }
                    Err(trouble) => {
                        self.report_value_damage(cx, &job.name, pointer, trouble);
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Looks on in the tables that are left, as far as the cache reaches; what is to be read next.
    fn look_on(&mut self, job: &mut GetJob, is_stale: bool) -> Option<Reading> {
        while let Some(table) = job.left.pop() {
            if is_beaten(&table, job.best.as_ref()) {
                continue;
            }
            let Some(at) = table.place_for(&job.name, job.hash) else {
                continue;
            };
            if let Looked::Missing { table, at, handle } =
                look(&mut self.cache, &table, &job.name, &mut job.best, at)
            {
                // The block that has just come, and did not stay in the cache, is not read twice.
                if !is_stale
                    && let Reading::Block(of, block, _) = &job.reading
                    && (of.meta.number, *block) == (table.meta.number, at)
                {
                    continue;
                }
                return Some(Reading::Block(table, at, handle));
            }
        }
        find_value(&mut self.cache, &mut job.best).map(Reading::Value)
    }

    /// Reads under way of records that are concerned begin anew.
    pub(super) fn restart_gets(&mut self, is_concerned: impl Fn(&[u8]) -> bool) {
        self.version += 1;
        for job in self.reads.values_mut() {
            if let ReadJob::Get(job) = job
                && is_concerned(&job.name)
            {
                job.restart();
            }
        }
    }

    /// A read has ended: files that waited for it may go.
    pub(super) fn after_read(&mut self, cx: &mut StoreCx<'_>) {
        if !self.doomed.is_empty() {
            self.remove_doomed(cx);
        }
    }
}
