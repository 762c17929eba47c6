//! Scans: the records of a range in order, or backwards, as resumable jobs.

use super::cursor::{Cursor, Step};
use super::entry::{self, Rank};
use super::memtable::{Held, Memtable};
use super::{Lsn, Purpose, ReadJob, ReadToken, Store, StoreCx, StoreEvent};
use crate::base::{Counter, Record, RecordKey};
use crate::io::DiskResult;
use alloc::sync::Arc;
use alloc::vec::Vec;

#[derive(Debug, Clone)]
pub(super) struct ScanJob {
    /// Where the scan stands, and whether that very key is behind it.
    at: Vec<u8>,
    exclusive: bool,
    to: Option<Vec<u8>>,
    limit: usize,
    bytes: usize,
    taken: usize,
    cursors: Vec<Cursor>,
    /// Memtables frozen when the scan began or since: they may have become tables that it does not know.
    pins: Vec<Arc<Memtable>>,
    records: Vec<(RecordKey, Record)>,
    lsn: Lsn,
}

impl ScanJob {
    pub(super) fn uses(&self, number: u64) -> bool {
        self.cursors.iter().any(|cursor| cursor.uses(number))
    }

    pub(super) fn pin(&mut self, memtable: &Arc<Memtable>) {
        self.pins.push(memtable.clone());
    }
}

impl Store {
    /// Records from `from` (excluded if `exclusive`) up to `to` (excluded; `None` = end), at most `limit` records and about
    /// `bytes` bytes (at least one record). `StoreEvent::Scanned` follows, perhaps within this call.
    #[expect(clippy::needless_pass_by_value, reason = "the caller is done with its bounds")]
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
        let (mut at, mut end) = (Vec::new(), Vec::new());
        entry::encode_key(&from, &mut at);
        let to = to.map(|to| {
            entry::encode_key(&to, &mut end);
            end
        });
        let mut cursors = Vec::new();
        for (level, run) in self.levels.runs().iter().enumerate() {
            if level == 0 {
                let left = (0..run.len()).filter(|number| *run[*number].meta.last >= *at);
                cursors.extend(left.map(|number| Cursor::seek(run, number, number + 1, &at, exclusive)));
            } else if run.last().is_some_and(|table| *table.meta.last >= *at) {
                cursors.push(Cursor::seek(run, 0, run.len(), &at, exclusive));
            }
        }
        let pins = self.frozen.iter().map(|frozen| frozen.memtable.clone()).collect();
        let (records, lsn) = (Vec::new(), Lsn(0));
        let job = ScanJob { at, exclusive, to, limit, bytes, taken: 0, cursors, pins, records, lsn };
        self.run_scan(cx, token, job);
        token
    }

    fn run_scan(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, mut job: ScanJob) {
        // Memory does not change within a step: each memtable is searched once, and walked from there.
        let pins = core::mem::take(&mut job.pins);
        let memory: Vec<&Memtable> = pins.iter().map(|pin| &**pin).chain([&self.active]).collect();
        let mut positions: Vec<_> =
            memory.iter().map(|memtable| memtable.seek(&job.at, job.exclusive)).collect();
        let done = loop {
            if job.records.len() >= job.limit || (job.taken >= job.bytes && !job.records.is_empty()) {
                break false;
            }
            let mut missing = Vec::new();
            let mut damage = None;
            for (source, cursor) in job.cursors.iter_mut().enumerate() {
                if cursor.key().is_some() {
                    continue;
                }
                match cursor.settle(&mut self.cache) {
                    Step::Missing => missing.extend(cursor.read().map(|op| (source, op))),
                    Step::Damaged(reason) => damage = cursor.place().map(|place| (place, reason)),
                    Step::Entry | Step::End => {}
                }
            }
            if let Some(((table, at), reason)) = damage {
                self.report_damage(cx, &table, at, reason);
                return cx.events.push(StoreEvent::Unreadable { token });
            }
            if !missing.is_empty() {
                for (source, op) in missing {
                    cx.counters.add(Counter::DiskReads);
                    self.disk(cx, Purpose::ScanBlock(token, source), op);
                }
                job.pins = pins;
                self.reads.insert(token, ReadJob::Scan(job));
                return;
            }
            let in_memory: Vec<Option<Held<'_>>> =
                memory.iter().zip(&positions).map(|(memtable, position)| memtable.at(*position)).collect();
            if !job.take_next(&in_memory) {
                break true;
            }
            for (position, (memtable, held)) in positions.iter_mut().zip(memory.iter().zip(&in_memory)) {
                if held.is_some_and(|held| held.key == &job.at[..]) {
                    *position = memtable.step(*position);
                }
            }
        };
        let lsn = self.shown_at(job.lsn);
        cx.events.push(StoreEvent::Scanned { token, records: job.records, done, lsn });
    }

    pub(super) fn on_scan_block(
        &mut self,
        cx: &mut StoreCx<'_>,
        token: ReadToken,
        source: usize,
        result: DiskResult,
    ) {
        let Some(ReadJob::Scan(mut job)) = self.reads.remove(&token) else {
            return;
        };
        if let Some(cursor) = job.cursors.get_mut(source) {
            match result {
                DiskResult::Data(data) => cursor.on_data(data),
                DiskResult::Failed(error) => {
                    if let Some((table, at)) = cursor.place() {
                        self.report_damage(cx, &table, at, error.text);
                    }
                    cx.events.push(StoreEvent::Unreadable { token });
                    return self.after_read(cx);
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
    /// Takes the best entry of the next key over all sources; false at the end of the range.
    fn take_next(&mut self, in_memory: &[Option<Held<'_>>]) -> bool {
        let on_disk = self.cursors.iter().filter_map(Cursor::key);
        let Some(key) = in_memory.iter().flatten().map(|held| held.key).chain(on_disk).min() else {
            return false;
        };
        if self.to.as_deref().is_some_and(|to| key >= to) {
            return false;
        }
        let mut best: Option<(Rank, Lsn, &[u8], Option<&bytes::Bytes>)> = None;
        let held = in_memory.iter().flatten().filter(|held| held.key == key);
        for held in held {
            if best.is_none_or(|(rank, ..)| held.rank > rank) {
                best = Some((held.rank, Lsn(held.lsn), held.body, held.owner));
            }
        }
        for cursor in &self.cursors {
            if cursor.key() == Some(key)
                && let Some((body, owner)) = cursor.body()
                && let Some(rank) = entry::rank(body)
                && best.is_none_or(|(of_best, ..)| rank > of_best)
            {
                best = Some((rank, Lsn(0), body, Some(owner)));
            }
        }
        let found = best.and_then(|(_, lsn, body, owner)| Some((entry::decode(body, owner)??, lsn)));
        if let Some((record, lsn)) = found {
            self.taken += key.len() + record.value.as_ref().map_or(0, bytes::Bytes::len) + 64;
            self.lsn = self.lsn.max(lsn);
            self.records.push((entry::decode_key(key), record));
        }
        self.at.clear();
        let name = key.to_vec();
        self.at.extend_from_slice(&name);
        self.exclusive = true;
        for cursor in &mut self.cursors {
            if cursor.key() == Some(&name) {
                cursor.advance();
            }
        }
        true
    }
}
