//! What the hot paths of the store allocate: the payload, and nothing else.

use allocation_counter::measure;
use bytes::Bytes;
use samara_core::base::{
    Counters, Hlc, Instant, NodeId, Now, Record, RecordKey, Slot, Stamp, Ticket, WallTime,
};
use samara_core::io::{DiskError, DiskErrorKind, DiskOp, DiskResult, FileInfo, FileName, Outbox, Output};
use samara_core::store::{Durability, Lookup, Store, StoreCx, StoreEvent, StoreOptions};
use std::collections::{BTreeMap, VecDeque};

const VALUE: usize = 100;

/// A store on a disk in memory that does what it is asked, in order, when told.
struct Engine {
    store: Store,
    files: BTreeMap<FileName, Vec<u8>>,
    queue: VecDeque<(Ticket, DiskOp)>,
    out: Outbox,
    events: Vec<StoreEvent>,
    counters: Counters,
}

impl Engine {
    fn started(options: StoreOptions) -> Self {
        let mut engine = Self {
            store: Store::new(options),
            files: BTreeMap::new(),
            queue: VecDeque::new(),
            out: Outbox::new(),
            events: Vec::new(),
            counters: Counters::default(),
        };
        engine.call(|store, cx| store.boot(cx, true));
        engine.settle();
        assert!(engine.events.contains(&StoreEvent::Recovered));
        engine.events.clear();
        engine
    }

    /// One call without the end of the step.
    fn bare<T>(&mut self, call: impl FnOnce(&mut Store, &mut StoreCx<'_>) -> T) -> T {
        let now = Now { mono: Instant(1_000_000), wall: WallTime(1) };
        let (out, events, counters) = (&mut self.out, &mut self.events, &mut self.counters);
        call(&mut self.store, &mut StoreCx { now, out, events, counters })
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Store, &mut StoreCx<'_>) -> T) -> T {
        let answer = self.bare(|store, cx| {
            let answer = call(store, cx);
            store.commit(cx);
            answer
        });
        for output in self.out.drain() {
            if let Output::Disk { ticket, op } = output {
                self.queue.push_back((ticket, op));
            }
        }
        answer
    }

    fn settle(&mut self) {
        while let Some((ticket, op)) = self.queue.pop_front() {
            let result = self.perform(op);
            self.call(|store, cx| store.on_disk(cx, ticket, result));
        }
    }

    fn perform(&mut self, op: DiskOp) -> DiskResult {
        match op {
            DiskOp::Create { file, preallocate } => {
                self.files.insert(file, vec![0; preallocate as usize]);
            }
            DiskOp::Write { file, offset, data, .. } => {
                let content = self.files.get_mut(&file).expect("the file was made");
                let end = offset as usize + data.len();
                content.resize(content.len().max(end), 0);
                content[offset as usize..end].copy_from_slice(&data);
            }
            DiskOp::Read { file, offset, len } => {
                let Some(content) = self.files.get(&file) else {
                    let (kind, text) = (DiskErrorKind::NotFound, String::new());
                    return DiskResult::Failed(DiskError { kind, text });
                };
                let start = content.len().min(offset as usize);
                let end = content.len().min(start + len as usize);
                return DiskResult::Data(Bytes::copy_from_slice(&content[start..end]));
            }
            DiskOp::Rename { from, to } => {
                let content = self.files.remove(&from).expect("the file was made");
                self.files.insert(to, content);
            }
            DiskOp::Remove { file } => drop(self.files.remove(&file)),
            DiskOp::List => {
                let info =
                    |(file, data): (&FileName, &Vec<u8>)| FileInfo { file: *file, len: data.len() as u64 };
                return DiskResult::Files(self.files.iter().map(info).collect());
            }
            DiskOp::Truncate { .. } | DiskOp::Sync { .. } | DiskOp::SyncDir => {}
        }
        DiskResult::Done
    }

    fn put(&mut self, number: u64, ballot: u64) {
        self.call(|store, cx| store.put(cx, key(number), record(ballot)));
    }
}

fn key(number: u64) -> RecordKey {
    RecordKey { slot: Slot((number % 16) as u16), key: Bytes::from(format!("key-{number:08}")) }
}

fn record(ballot: u64) -> Record {
    let ballot = Stamp { hlc: Hlc(ballot), node: NodeId(1) };
    let value = Some(Bytes::from(vec![ballot.hlc.0 as u8; VALUE]));
    Record { ballot, written: ballot, value, ..Record::default() }
}

fn options() -> StoreOptions {
    StoreOptions { durability: Durability::Sync, wal_segment_bytes: 4 << 20, ..StoreOptions::default() }
}

/// What a read allocates. The answer is dropped outside of the measurement.
fn of_get(engine: &mut Engine, name: &RecordKey, found: bool) -> (u64, u64) {
    let mut answer = None;
    let used = measure(|| answer = Some(engine.bare(|store, cx| store.get(cx, name))));
    let Some(Lookup::Ready { record, .. }) = answer else { panic!("the read went to disk") };
    assert_eq!(record.is_some(), found);
    (used.count_total, used.bytes_total)
}

#[test]
fn a_read_from_memory_allocates_the_value_and_nothing_else() {
    let mut engine = Engine::started(options());
    for number in 0..1_000 {
        engine.put(number, number + 1);
    }
    engine.settle();
    let (there, absent) = (key(500), key(5_000));
    of_get(&mut engine, &there, true);
    assert_eq!(of_get(&mut engine, &there, true), (1, VALUE as u64), "the copy of the value");
    assert_eq!(of_get(&mut engine, &absent, false), (0, 0));
}

#[test]
fn a_read_from_a_cached_block_allocates_the_value_and_nothing_else() {
    let mut engine = Engine::started(StoreOptions { memtable_bytes: 64 << 10, ..options() });
    for number in 0..4_000 {
        engine.put(number, number + 1);
        engine.settle();
    }
    assert!(engine.store.tables().0 > 0, "tables have been written");
    let (there, absent) = (key(17), key(40_000));
    if let Lookup::Pending(_) = engine.call(|store, cx| store.get(cx, &there)) {
        engine.settle();
    }
    // Another key of a block that has been read, for the first time.
    let from_block = (18..3_000).find_map(|number| {
        let (name, mut answer) = (key(number), None);
        let used = measure(|| answer = Some(engine.bare(|store, cx| store.get(cx, &name))));
        engine.call(|_, _| ());
        engine.settle();
        matches!(answer, Some(Lookup::Ready { .. })).then_some((used.count_total, used.bytes_total))
    });
    assert_eq!(from_block, Some((1, VALUE as u64)), "the copy of the value");
    assert_eq!(of_get(&mut engine, &absent, false), (0, 0), "the filters answer");

    // The second reading keeps the record whole.
    of_get(&mut engine, &there, true);
    assert_eq!(of_get(&mut engine, &there, true), (0, 0), "the value is shared");
}

#[test]
fn a_write_over_a_key_in_memory_allocates_nothing() {
    let mut engine = Engine::started(options());
    for number in 0..1_000 {
        engine.put(number, number + 1);
    }
    engine.settle();
    // What waits for a commit has its buffer.
    let changes: Vec<(RecordKey, Record)> = (0..500).map(|at| (key(at), record(10_000 + at))).collect();
    let put = |engine: &mut Engine, changes: Vec<(RecordKey, Record)>| {
        measure(|| {
            engine.bare(|store, cx| {
                for (key, record) in changes {
                    store.put(cx, key, record);
                }
            });
        })
    };
    put(&mut engine, changes);
    engine.call(|_, _| ());
    engine.settle();
    let changes = (0..500).map(|at| (key(at), record(20_000 + at))).collect();
    assert_eq!(put(&mut engine, changes).count_total, 0);
}

#[test]
fn new_keys_share_their_allocations_and_a_commit_allocates_its_pages() {
    let mut engine = Engine::started(options());
    for number in 0..2_000 {
        engine.put(number, number + 1);
    }
    engine.settle();
    let changes: Vec<(RecordKey, Record)> = (2_000..4_000).map(|at| (key(at), record(at))).collect();
    let used = measure(|| {
        engine.bare(|store, cx| {
            for (key, record) in changes {
                store.put(cx, key, record);
            }
        });
    });
    assert!(used.count_total < 2_000 / 10, "{} allocations for 2,000 new keys", used.count_total);

    // A step that writes one group: its pages, the entry of the operation in flight.
    engine.call(|_, _| ());
    engine.settle();
    engine.bare(|store, cx| store.put(cx, key(1), record(50_000)));
    let used = measure(|| engine.bare(Store::commit));
    assert!(used.count_total <= 2, "{} allocations for a commit", used.count_total);
}
