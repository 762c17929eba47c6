//! The store keeps to its budget of memory: what is really allocated, counted by the allocator, against what was given.

use allocation_counter::{measure, opt_out};
use bytes::Bytes;
use samara_core::base::{Counters, Hlc, Instant, NodeId, Now, Record, RecordKey, Slot, Stamp, WallTime};
use samara_core::io::{DiskOp, DiskResult, FileInfo, FileName, Outbox, Output};
use samara_core::store::{Durability, Lookup, Store, StoreCx, StoreEvent, StoreOptions};
use std::collections::{BTreeMap, VecDeque};

const BUDGET: usize = 8 << 20;
const KEYS: u64 = 60_000;

/// A disk in memory, which does not count.
#[derive(Default)]
struct Disk(BTreeMap<FileName, Vec<u8>>);

impl Disk {
    fn perform(&mut self, op: &DiskOp) -> DiskResult {
        match op {
            DiskOp::Create { file, preallocate } => {
                self.0.insert(*file, vec![0; *preallocate as usize]);
            }
            DiskOp::Write { file, offset, data, .. } => {
                let content = self.0.get_mut(file).expect("the file was created");
                let end = *offset as usize + data.len();
                content.resize(content.len().max(end), 0);
                content[*offset as usize..end].copy_from_slice(data);
            }
            DiskOp::Truncate { file, len } => {
                self.0.get_mut(file).expect("the file was created").resize(*len as usize, 0);
            }
            DiskOp::Rename { from, to } => {
                let content = self.0.remove(from).expect("the file was created");
                self.0.insert(*to, content);
            }
            DiskOp::Remove { file } => {
                self.0.remove(file);
            }
            DiskOp::List => {
                let info = |(file, content): (&FileName, &Vec<u8>)| FileInfo {
                    file: *file,
                    len: content.len() as u64,
                };
                return DiskResult::Files(self.0.iter().map(info).collect());
            }
            DiskOp::Read { .. } | DiskOp::Sync { .. } | DiskOp::SyncDir => {}
        }
        DiskResult::Done
    }

    /// What a read brings is the store's own.
    fn read(&self, op: &DiskOp) -> Option<DiskResult> {
        let DiskOp::Read { file, offset, len } = op else {
            return None;
        };
        let content = &self.0[file];
        let start = content.len().min(*offset as usize);
        let end = content.len().min(start + *len as usize);
        Some(DiskResult::Data(Bytes::copy_from_slice(&content[start..end])))
    }
}

struct Engine {
    store: Store,
    disk: Disk,
    queue: VecDeque<(samara_core::base::Ticket, DiskOp)>,
    events: Vec<StoreEvent>,
    counters: Counters,
    ballot: u64,
    /// The most that the store's own account came to.
    accounted: usize,
}

impl Engine {
    fn call<T>(&mut self, call: impl FnOnce(&mut Store, &mut StoreCx<'_>) -> T) -> T {
        let now = Now { mono: Instant(1), wall: WallTime(1) };
        let mut out = Outbox::new();
        let mut cx = StoreCx { now, out: &mut out, events: &mut self.events, counters: &mut self.counters };
        let answer = call(&mut self.store, &mut cx);
        self.store.commit(&mut cx);
        for output in out.drain() {
            if let Output::Disk { ticket, op } = output {
                self.queue.push_back((ticket, op));
            }
        }
        let accounted = self.store.memory().iter().map(|(_, bytes)| bytes).sum();
        self.accounted = self.accounted.max(accounted);
        answer
    }

    fn step(&mut self) -> bool {
        let Some((ticket, op)) = self.queue.pop_front() else {
            return false;
        };
        let disk = &mut self.disk;
        let mut result = disk.read(&op);
        if result.is_none() {
            opt_out(|| result = Some(disk.perform(&op)));
        }
        drop(op);
        let result = result.expect("it was done");
        self.call(|store, cx| store.on_disk(cx, ticket, result));
        true
    }

    fn put(&mut self, number: u64) {
        self.ballot += 1;
        let ballot = Stamp { hlc: Hlc(self.ballot), node: NodeId(1) };
        // Some stand apart, most are small.
        let len = if number.is_multiple_of(97) { 9_000 } else { 40 + number as usize % 400 };
        // Bytes that do not compress.
        let mut state = number << 20 | self.ballot;
        let byte = |_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 56) as u8
        };
        let value = Some((0..len).map(byte).collect::<Bytes>());
        let record = Record { ballot, written: ballot, value, ..Record::default() };
        let lsn = self.call(|store, cx| store.put(cx, key(number), record));
        while lsn.0 > self.store.durable().0 + 64 || self.store.admit().is_err() {
            assert!(self.step(), "a write waits for nothing");
        }
        self.events.clear();
    }

    fn get(&mut self, number: u64) {
        if let Lookup::Pending(token) = self.call(|store, cx| store.get(cx, &key(number))) {
            let is_its =
                |event: &StoreEvent| matches!(event, StoreEvent::Got { token: other, .. } if *other == token);
            while !self.events.iter().any(is_its) {
                assert!(self.step(), "a read waits for nothing");
            }
        }
        self.events.clear();
    }

    /// Many reads and writes at once.
    fn crowd(&mut self) {
        for number in 0..200 {
            let _lookup = self.call(|store, cx| store.get(cx, &key(number * 17)));
        }
        for number in 0..8 {
            self.call(|store, cx| store.scan(cx, key(number), false, None, 50, 32 << 10));
        }
        while self.step() {}
        self.events.clear();
    }

    fn scan(&mut self, number: u64) {
        self.call(|store, cx| store.scan(cx, key(number), false, None, 50, 32 << 10));
        while !self.events.iter().any(|event| matches!(event, StoreEvent::Scanned { .. })) {
            assert!(self.step(), "a scan waits for nothing");
        }
        self.events.clear();
    }
}

fn key(number: u64) -> RecordKey {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    RecordKey { slot: Slot((spread >> 50) as u16), key: Bytes::copy_from_slice(&spread.to_be_bytes()) }
}

#[test]
fn what_is_allocated_stays_within_the_budget() {
    let options = StoreOptions {
        durability: Durability::Sync,
        wal_segment_bytes: 1 << 20,
        table_bytes: 1 << 20,
        value_file_bytes: 4 << 20,
        ..StoreOptions::default()
    };
    let mut accounted = 0;
    let used = measure(|| {
        let mut engine = Engine {
            store: Store::new(options.within(BUDGET)),
            disk: Disk::default(),
            queue: VecDeque::new(),
            events: Vec::new(),
            counters: Counters::default(),
            ballot: 0,
            accounted: 0,
        };
        engine.call(|store, cx| store.boot(cx, true));
        while engine.step() {}
        engine.crowd();
        for round in 0..3 {
            for number in 0..KEYS {
                engine.put(number.wrapping_mul(7_919) % KEYS);
                if number % 4 == round {
                    engine.get(number * 31 % KEYS);
                    engine.get(number % 300);
                }
                if number % 200 == 0 {
                    engine.scan(number);
                }
            }
        }
        engine.crowd();
        let bytes: usize = engine.disk.0.values().map(Vec::len).sum();
        assert!(bytes > 2 * BUDGET, "{bytes} bytes of files are more than memory holds");
        accounted = engine.accounted;
        opt_out(|| drop(std::mem::take(&mut engine.disk)));
    });
    let most = BUDGET as u64 * 105 / 100;
    let (peak, budget) = (used.bytes_max, BUDGET);
    println!(
        "at most {peak} bytes allocated, {accounted} by the store's own account, of a budget of {budget}"
    );
    assert!(
        peak <= most,
        "{peak} bytes allocated at the peak, {accounted} accounted, of a budget of {budget}"
    );
    assert!(accounted as u64 <= most, "{accounted} bytes by the store's own account");
    assert!(accounted as u64 * 2 > peak, "the account tells of what is there");
}
