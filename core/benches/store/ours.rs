//! Our engine on one thread, which also does the I/O.

use super::data::{name, value};
use super::files::Files;
use super::suite::{Engine, Setup};
use bytes::Bytes;
use samara_core::base::{
    Counters, Hlc, Instant as Mono, NodeId, Now, Record, RecordKey, Slot, Stamp, Ticket, WallTime,
};
use samara_core::io::{DiskError, DiskErrorKind, DiskOp, DiskResult, Outbox, Output};
use samara_core::store::{Durability, Lookup, Store, StoreCx, StoreEvent, StoreOptions};
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

fn key(number: u64) -> RecordKey {
    let name = name(number);
    RecordKey {
        slot: Slot(u16::from_be_bytes([name[0], name[1]]) & 0x3fff),
        key: Bytes::copy_from_slice(&name),
    }
}

pub struct Ours {
    store: Store,
    files: Files,
    queue: VecDeque<(Ticket, DiskOp)>,
    out: Outbox,
    events: Vec<StoreEvent>,
    counters: Counters,
    start: Instant,
    window: u64,
    sync: bool,
    longest: Duration,
    memory: usize,
    put: u64,
}

impl Ours {
    fn call<T>(&mut self, call: impl FnOnce(&mut Store, &mut StoreCx<'_>) -> T) -> T {
        let before = Instant::now();
        let ms = (before - self.start).as_millis() as u64;
        let now = Now { mono: Mono(0).plus_ms(ms), wall: WallTime(ms) };
        let (out, events, counters) = (&mut self.out, &mut self.events, &mut self.counters);
        let mut cx = StoreCx { now, out, events, counters };
        let answer = call(&mut self.store, &mut cx);
        self.store.commit(&mut cx);
        for output in self.out.drain() {
            if let Output::Disk { ticket, op } = output {
                self.queue.push_back((ticket, op));
            }
        }
        self.longest = self.longest.max(before.elapsed());
        answer
    }

    fn step(&mut self) -> bool {
        let Some((ticket, op)) = self.queue.pop_front() else {
            return false;
        };
        let result = self.files.perform(&op).unwrap_or_else(|error| {
            DiskResult::Failed(DiskError { kind: DiskErrorKind::Io, text: error.to_string() })
        });
        self.call(|store, cx| store.on_disk(cx, ticket, result));
        true
    }
}

impl Engine for Ours {
    fn open(path: &Path, setup: &Setup) -> Self {
        let fresh = !path.exists();
        std::fs::create_dir_all(path).expect("a directory");
        let options = StoreOptions {
            durability: if setup.sync { Durability::Sync } else { Durability::Interval(1000) },
            cache_bytes: setup.cache_bytes,
            ..StoreOptions::default()
        };
        let mut ours = Self {
            store: Store::new(options),
            files: Files::new(path.to_owned()),
            queue: VecDeque::new(),
            out: Outbox::new(),
            events: Vec::new(),
            counters: Counters::default(),
            start: Instant::now(),
            window: setup.window,
            sync: setup.sync,
            longest: Duration::ZERO,
            memory: 0,
            put: 0,
        };
        ours.call(|store, cx| store.boot(cx, fresh));
        while !ours.events.contains(&StoreEvent::Recovered) {
            assert!(ours.step(), "recovery goes on: {:?}", ours.events);
        }
        ours.longest = Duration::ZERO;
        ours
    }

    fn put(&mut self, number: u64) {
        self.put += 1;
        let ballot = Stamp { hlc: Hlc((1 << 56) + self.put), node: NodeId(1) };
        let value = Some(Bytes::from(value(number)));
        let record = Record { ballot, written: ballot, value, ..Record::default() };
        if self.sync {
            // As the peers: a window of writes, then one sync for them.
            let now = Now { mono: Mono(0), wall: WallTime(0) };
            let (out, events, counters) = (&mut self.out, &mut self.events, &mut self.counters);
            self.store.put(&mut StoreCx { now, out, events, counters }, key(number), record);
            if self.put.is_multiple_of(self.window) {
                self.sync();
            }
        } else {
            let lsn = self.call(|store, cx| store.put(cx, key(number), record));
            while lsn.0 > self.store.durable().0 + self.window || self.store.admit().is_err() {
                assert!(self.step(), "a write waits for nothing");
            }
        }
        if self.put.is_multiple_of(4096) {
            self.events.clear();
            self.memory = self.memory.max(self.store.memory().iter().map(|(_, bytes)| bytes).sum());
        }
    }

    fn sync(&mut self) {
        self.call(|_, _| ());
        let newest = self.store.newest();
        while newest > self.store.durable() || self.store.admit().is_err() {
            assert!(self.step(), "a write waits for nothing");
        }
    }

    fn settle(&mut self) {
        while self.step() {}
        self.events.clear();
    }

    fn get(&mut self, number: u64) -> bool {
        match self.call(|store, cx| store.get(cx, &key(number))) {
            Lookup::Ready { record, .. } => record.is_some(),
            Lookup::Pending(token) => loop {
                assert!(self.step(), "a read waits for nothing");
                let got = self.events.drain(..).find_map(|event| match event {
                    StoreEvent::Got { token: other, record, .. } if other == token => Some(record.is_some()),
                    _ => None,
                });
                if let Some(found) = got {
                    return found;
                }
            },
        }
    }

    fn scan(&mut self, number: u64) -> usize {
        let token = self.call(|store, cx| store.scan(cx, key(number), false, None, 100, 1 << 20));
        loop {
            let got = self.events.drain(..).find_map(|event| match event {
                StoreEvent::Scanned { token: other, records, .. } if other == token => Some(records.len()),
                _ => None,
            });
            match got {
                Some(count) => return count,
                None => assert!(self.step(), "a scan waits for nothing"),
            }
        }
    }

    fn note(&mut self) -> String {
        let memory: usize = self.store.memory().iter().map(|(_, bytes)| bytes).sum();
        let stats = self.store.stats();
        let levels: Vec<usize> = self.store.level_tables().map(|(tables, _)| tables).collect();
        format!(
            "longest step {:.2?}; memory by its own account at most {} MiB; tables by level {levels:?}; writers waited for \
             at most {} ms",
            std::mem::take(&mut self.longest),
            self.memory.max(memory) >> 20,
            stats.stall_max_ms,
        )
    }
}
