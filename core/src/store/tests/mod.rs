//! The engine against a disk that loses what was not synced, and against a map.

mod bounds;
mod crash;
mod damage;
mod decoders;
mod disk;
mod drop;
mod faults;
mod garbage;
mod model;
mod snapshots;
mod space;
mod steps;
mod values;
mod verify;

use super::{
    Direction, Durability, Lookup, Lsn, Pressure, ReadToken, ScanRange, Store, StoreCx, StoreEvent,
    StoreOptions, StoreStats,
};
use crate::base::rng::Rng;
use crate::base::{
    Counter, Counters, Hlc, Instant, NodeId, Now, Record, RecordKey, Slot, Stamp, Ticket, WallTime,
};
use crate::io::{DiskResult, Outbox, Output};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Bound;
use disk::TestDisk;

/// Sizes at which flushes and merges happen within a few hundred records.
fn small() -> StoreOptions {
    StoreOptions {
        durability: Durability::Sync,
        memtable_bytes: 6 << 10,
        wal_segment_bytes: 32 << 10,
        wal_group_bytes: 2 << 10,
        block_bytes: 512,
        value_inline_max: 3_000,
        value_file_bytes: 40 << 10,
        table_bytes: 8 << 10,
        cache_bytes: 4 << 10,
        ..StoreOptions::default()
    }
}

fn key(number: u64) -> RecordKey {
    RecordKey { slot: Slot((number % 5) as u16), key: Bytes::from(format!("key-{number:04}")) }
}

fn ballot(number: u64) -> Stamp {
    Stamp { hlc: Hlc(number), node: NodeId((number % 3) as u16) }
}

/// The record of a ballot: its value can be told from the ballot, some span several pages, and a part can be compressed.
fn record(key: u64, number: u64) -> Record {
    let len = if number.is_multiple_of(9) { 9_000 } else { 20 + number as usize % 100 };
    let spread = if number.is_multiple_of(4) { 0 } else { 0x9e37_79b9_7f4a_7c15 };
    let byte = |at: u64| ((key ^ number).wrapping_add(at.wrapping_mul(spread) ^ (at * at)) >> 3) as u8;
    let value = (!number.is_multiple_of(11)).then(|| (0..len as u64).map(byte).collect::<Bytes>());
    Record { ballot: ballot(number), written: ballot(number), value, ..Record::default() }
}

/// A store on its disk.
#[derive(Clone)]
struct Engine {
    options: StoreOptions,
    store: Store,
    disk: TestDisk,
    rng: Rng,
    now_ms: u64,
    events: Vec<StoreEvent>,
    counters: Counters,
}

impl Engine {
    fn new(options: StoreOptions, seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            store: Store::new(options.clone()),
            options,
            disk: TestDisk::default(),
            rng: Rng::new(bytes, 0),
            now_ms: 1_000,
            events: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// A fresh store that has recovered.
    fn started(options: StoreOptions, seed: u64) -> Self {
        let mut engine = Self::new(options, seed);
        assert_eq!(engine.open(true), Ok(()));
        engine
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Store, &mut StoreCx<'_>) -> T) -> T {
        let mono = Instant(0).plus_ms(self.now_ms);
        let now = Now { mono, wall: WallTime(self.now_ms) };
        let mut out = Outbox::new();
        let mut cx = StoreCx { now, out: &mut out, events: &mut self.events, counters: &mut self.counters };
        let answer = call(&mut self.store, &mut cx);
        self.store.commit(&mut cx);
        for output in out.drain() {
            if let Output::Disk { ticket, op } = output {
                self.disk.pending.push((ticket, op));
            }
        }
        answer
    }

    /// Does one pending operation, any of them; false if there is none.
    fn step(&mut self) -> bool {
        if self.disk.pending.is_empty() {
            return false;
        }
        let index = self.rng.below(self.disk.pending.len() as u64) as usize;
        self.complete(index);
        true
    }

    /// Does the pending operation at `index`.
    fn complete(&mut self, index: usize) {
        let (ticket, result): (Ticket, DiskResult) = self.disk.complete(index);
        self.call(|store, cx| store.on_disk(cx, ticket, result));
    }

    /// Runs until nothing is to be done.
    fn settle(&mut self) {
        for _ in 0..200_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the store never comes to rest");
    }

    fn fatal(&self) -> Option<&String> {
        self.events.iter().find_map(|event| match event {
            StoreEvent::Fatal(reason) => Some(reason),
            _ => None,
        })
    }

    /// A new store on the same disk. The reason if it refuses to start.
    fn open(&mut self, fresh: bool) -> Result<(), String> {
        self.store = Store::new(self.options.clone());
        self.events.clear();
        self.call(|store, cx| store.boot(cx, fresh));
        loop {
            if let Some(reason) = self.fatal() {
                return Err(reason.clone());
            }
            if self.events.contains(&StoreEvent::Recovered) {
                return Ok(());
            }
            assert!(self.step(), "recovery waits for nothing");
        }
    }

    fn put(&mut self, name: u64, number: u64) -> Lsn {
        self.call(|store, cx| store.put(cx, key(name), record(name, number)))
    }

    fn get(&mut self, name: &RecordKey) -> Result<Option<Record>, String> {
        let token = match self.call(|store, cx| store.get(cx, name)) {
            Lookup::Ready { record, .. } => return Ok(record),
            Lookup::Pending(token) => token,
        };
        loop {
            if let Some(reason) = self.fatal() {
                return Err(reason.clone());
            }
            let found = self.events.iter().find_map(|event| match event {
                StoreEvent::Got { token: other, record, .. } if *other == token => Some(record.clone()),
                _ => None,
            });
            if let Some(record) = found {
                return Ok(record);
            }
            if self.events.contains(&StoreEvent::Unreadable { token }) {
                return Err(self.damage());
            }
            assert!(self.step(), "a read waits for nothing");
        }
    }

    /// What the store last said of damage.
    fn damage(&self) -> String {
        let damaged = self.events.iter().rev().find_map(|event| match event {
            StoreEvent::Damaged { file, reason, .. } => Some(format!("{file}: {reason}")),
            _ => None,
        });
        damaged.expect("who cannot read says why")
    }

    fn page(&mut self, token: ReadToken) -> (Vec<(RecordKey, Record)>, bool) {
        loop {
            let found = self.events.iter().find_map(|event| match event {
                StoreEvent::Scanned { token: other, records, done, .. } if *other == token => {
                    Some((records.clone(), *done))
                }
                _ => None,
            });
            if let Some(page) = found {
                return page;
            }
            if !self.step() {
                self.now_ms += 1;
                self.call(|_, _| ());
            }
        }
    }

    /// All records, page by page.
    fn all(&mut self, limit: usize) -> Vec<(RecordKey, Record)> {
        let (low, high, direction) = (Bound::Unbounded, Bound::Unbounded, Direction::Forward);
        self.pages(ScanRange { low, high, direction }, limit)
    }

    /// The records of a range, page by page.
    fn pages(&mut self, mut range: ScanRange, limit: usize) -> Vec<(RecordKey, Record)> {
        let mut all: Vec<(RecordKey, Record)> = Vec::new();
        loop {
            let next = range.clone();
            let token = self.call(|store, cx| store.scan_range(cx, next, limit, 2_000));
            let (records, done) = self.page(token);
            assert!(records.len() <= limit);
            all.extend(records);
            if done {
                return all;
            }
            let last = all.last().expect("a page that is not the last has a record").0.clone();
            match range.direction {
                Direction::Forward => range.low = Bound::Excluded(last),
                Direction::Backward => range.high = Bound::Excluded(last),
            }
        }
    }
}

/// What a map says of the store: per key, what must be there and what may be.
#[derive(Clone, Default)]
struct Model {
    /// The highest ballot that is durable (0: none), and higher ones that were put since.
    keys: BTreeMap<u64, (u64, Vec<(u64, Lsn)>)>,
    ballots: u64,
}

impl Model {
    fn put(&mut self, engine: &mut Engine, name: u64) {
        self.ballots += 1;
        let lsn = engine.put(name, self.ballots);
        self.keys.entry(name).or_default().1.push((self.ballots, lsn));
    }

    fn newest(&self, name: u64) -> u64 {
        self.keys.get(&name).map_or(0, |(least, later)| later.last().map_or(*least, |(number, _)| *number))
    }

    /// After a crash: what was durable must be there; what was not may be. From then on what was found must stay.
    fn check_recovered(&mut self, engine: &mut Engine, durable: Lsn, context: &str) {
        for (name, (least, later)) in &mut self.keys {
            let must = later.iter().filter(|(_, lsn)| *lsn <= durable).map(|(number, _)| *number);
            let must = must.max().unwrap_or(*least).max(*least);
            let found = engine.get(&key(*name)).unwrap_or_else(|reason| panic!("{context}: {reason}"));
            let number = found.as_ref().map_or(0, |record| record.ballot.hlc.0);
            assert!(number >= must, "{context}: key {name} lost ballot {must}, found {number}");
            let is_known = number == must || later.iter().any(|(other, _)| *other == number);
            assert!(is_known, "{context}: key {name} shows ballot {number}, which nobody put");
            if let Some(found) = found {
                assert_eq!(found, record(*name, number), "{context}: key {name}");
            }
            (*least, *later) = (number, Vec::new());
        }
    }

    /// Without a crash: exactly the newest of each key, by point reads and by a scan.
    fn check_all(&self, engine: &mut Engine, context: &str) {
        let scanned: BTreeMap<RecordKey, Record> = engine.all(7).into_iter().collect();
        let range =
            ScanRange { low: Bound::Unbounded, high: Bound::Unbounded, direction: Direction::Backward };
        let mut backwards = engine.pages(range, 9);
        backwards.reverse();
        assert_eq!(backwards, scanned.clone().into_iter().collect::<Vec<_>>(), "{context}: backwards");
        let there = self.keys.keys().filter(|name| self.newest(**name) > 0).count();
        assert_eq!(scanned.len(), there, "{context}: a scan shows as many keys as there are");
        for name in self.keys.keys().copied() {
            let number = self.newest(name);
            let wanted = (number > 0).then(|| record(name, number));
            assert_eq!(engine.get(&key(name)), Ok(wanted.clone()), "{context}: key {name}");
            assert_eq!(scanned.get(&key(name)), wanted.as_ref(), "{context}: key {name} in a scan");
        }
    }
}
