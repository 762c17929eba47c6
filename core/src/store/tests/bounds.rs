//! What is bounded, by count and not by the clock: the work of one step, what writers wait for, and the reads of many keys.

use super::*;
use crate::io::{DiskOp, FileKind};

/// What a call asked of the disk, and what it looked at.
#[derive(Debug, Clone, Copy, Default)]
struct Work {
    written: usize,
    asked: usize,
    entries: u64,
}

impl Work {
    fn most(self, other: Self) -> Self {
        Self {
            written: self.written.max(other.written),
            asked: self.asked.max(other.asked),
            entries: self.entries.max(other.entries),
        }
    }
}

struct Measured {
    engine: Engine,
    most: Work,
    /// Operations that have been asked for so far.
    known: usize,
}

impl Measured {
    fn new(options: StoreOptions) -> Self {
        let mut engine = Engine::started(options, 51);
        engine.settle();
        Self { known: 0, engine, most: Work::default() }
    }

    fn measure<T>(&mut self, act: impl FnOnce(&mut Engine) -> T) -> T {
        let (asked, entries) = (self.engine.disk.pending.len(), self.engine.store.stats().entries_walked);
        let done = self.engine.disk.done;
        let answer = act(&mut self.engine);
        let left = asked - (self.engine.disk.done - done);
        let mut work =
            Work { entries: self.engine.store.stats().entries_walked - entries, ..Work::default() };
        for (_, op) in &self.engine.disk.pending[left..] {
            match op {
                DiskOp::Write { data, .. } => work.written += data.len(),
                DiskOp::Read { len, .. } => work.asked += *len as usize,
                _ => {}
            }
        }
        self.known += self.engine.disk.pending.len() - left;
        self.most = self.most.most(work);
        answer
    }

    fn step(&mut self) -> bool {
        self.measure(Engine::step)
    }
}

fn sizes() -> StoreOptions {
    StoreOptions {
        memtable_bytes: 512 << 10,
        wal_segment_bytes: 256 << 10,
        wal_group_bytes: 32 << 10,
        block_bytes: 4 << 10,
        table_bytes: 256 << 10,
        value_inline_max: 1 << 10,
        value_file_bytes: 1 << 20,
        cache_bytes: 64 << 10,
        ..small()
    }
}

/// A record of bytes that do not compress; some stand apart.
fn spread(number: u64) -> Record {
    let mut state = number | 1;
    let byte = |_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    let len = if number.is_multiple_of(20) { 3_000 } else { 40 + number % 100 };
    let value = Some((0..len).map(byte).collect::<Bytes>());
    Record { ballot: ballot(number), written: ballot(number), value, ..Record::default() }
}

fn name(number: u64) -> RecordKey {
    RecordKey { slot: Slot((number % 5) as u16), key: Bytes::from(format!("key-{number:07}")) }
}

/// Puts, erases, scans and reads of a store of so many keys; the most that one step did.
fn busy(keys: u64) -> (Work, Counters) {
    let mut store = Measured::new(sizes());
    for number in 1..=keys * 3 {
        let name = name(number.wrapping_mul(7_919) % keys);
        store.measure(|engine| engine.call(|store, cx| store.put(cx, name, spread(number))));
        while store.engine.store.admit().is_err() || store.engine.below(3) == 0 {
            if !store.step() {
                break;
            }
        }
        if number % 500 == 0 {
            let range =
                ScanRange { low: Bound::Unbounded, high: Bound::Unbounded, direction: Direction::Forward };
            store.measure(|engine| engine.call(|store, cx| store.scan_range(cx, range, 200, 32 << 10)));
        }
    }
    while store.step() {}
    // Nearly all is erased, so that a scan passes much and shows little.
    for number in 0..keys {
        let upto = ballot(u64::MAX >> 8);
        store.measure(|engine| engine.call(|store, cx| store.erase(cx, name(number), upto)));
        if store.engine.store.admit().is_err() {
            store.step();
        }
    }
    for direction in [Direction::Forward, Direction::Backward] {
        let range = ScanRange { low: Bound::Unbounded, high: Bound::Unbounded, direction };
        let token =
            store.measure(|engine| engine.call(|store, cx| store.scan_range(cx, range, 200, 32 << 10)));
        while store.step() {}
        let is_end = |event: &StoreEvent| matches!(event, StoreEvent::Scanned { token: of, done: true, records, .. } if *of == token && records.is_empty());
        assert!(store.engine.events.iter().any(is_end), "nothing is left");
    }
    (store.most, store.engine.counters)
}

#[test]
fn the_longest_step_does_a_bounded_piece_of_work_whatever_the_size() {
    for keys in [3_000, 30_000] {
        let (most, counters) = busy(keys);
        assert!(counters.value(Counter::CompactionFinished) > 0, "{keys} keys");
        // A group of the log, a piece of a flush and one of a compaction, each with its values, and an edit of the manifest.
        assert!(most.written < 640 << 10, "{keys} keys: {most:?}");
        // A page of a scan from every source, and what a compaction reads at a time of each of its inputs.
        assert!(most.asked < 2 << 20, "{keys} keys: {most:?}");
        // A piece of a flush, one of a compaction, and a turn of a scan.
        assert!(most.entries <= 2 * 4_096, "{keys} keys: {most:?}");
    }
}

#[test]
fn a_burst_goes_into_groups_of_bounded_size_and_none_of_it_is_lost() {
    let mut engine = Engine::started(sizes(), 52);
    engine.settle();
    let mut longest = 0;
    let (mut number, mut bursts) = (0, 0);
    while number < 14_000 {
        // All at once, as far as the store admits it: the first group is on its way meanwhile.
        while engine.store.admit().is_ok() && number < 14_000 {
            number += 1;
            engine.call(|store, cx| store.put(cx, name(number), spread(number)));
        }
        bursts += 1;
        for _ in 0..3 {
            engine.step();
        }
        let groups = engine.disk.pending.iter().filter_map(|(_, op)| match op {
            DiskOp::Write { file, data, .. } if file.kind == FileKind::Wal => Some(data.len()),
            _ => None,
        });
        longest = longest.max(groups.max().unwrap_or(0));
    }
    // A group ends with the record that fills it.
    assert!(longest <= (32 << 10) + 3 * 4_096, "{longest} bytes in one group");
    assert!(bursts > 3, "{bursts} bursts");
    engine.settle();
    assert!(engine.counters.value(Counter::MemtableFlushed) > 2);
    let mut rng = Rng::new([1; 32], 0);
    engine.disk.crash(&mut rng);
    assert_eq!(engine.open(false), Ok(()));
    for number in 1..=14_000 {
        assert_eq!(engine.get(&name(number)), Ok(Some(spread(number))), "key {number}");
    }
}

#[test]
fn writers_wait_for_a_bounded_number_of_operations() {
    let mut engine = Engine::started(sizes(), 53);
    engine.settle();
    let (mut longest, mut waits) = (0, 0);
    for number in 1..=60_000u64 {
        let mut waited = 0;
        while engine.store.admit().is_err() {
            assert!(engine.step(), "writers wait for nothing");
            waited += 1;
        }
        longest = longest.max(waited);
        waits += u64::from(waited > 0);
        engine.call(|store, cx| store.put(cx, name(number.wrapping_mul(7_919) % 20_000), spread(number)));
        // Of the disk's work just so much is done that the log keeps up.
        if number % 150 == 0 {
            engine.step();
        }
    }
    assert!(waits > 20, "{waits} waits");
    // A flush of a memtable, its names and its place in the manifest, beside as much of a compaction.
    assert!(longest < 64, "a writer waited for {longest} operations");
}

#[test]
fn reads_of_many_keys_are_in_flight_at_once() {
    let mut engine = Engine::started(StoreOptions { cache_bytes: 0, value_inline_max: 64, ..small() }, 54);
    for number in 1..600 {
        engine.put(number % 150, number);
        engine.settle();
    }
    assert!(engine.disk.pending.is_empty());
    let mut waiting = Vec::new();
    for name in 0..150 {
        if let Lookup::Pending(token) = engine.call(|store, cx| store.get(cx, &key(name))) {
            waiting.push((name, token));
        }
    }
    let reads = engine.disk.pending.iter().filter(|(_, op)| matches!(op, DiskOp::Read { .. })).count();
    assert_eq!(reads, waiting.len(), "each key that is not in memory has its read under way");
    assert!(reads > 50, "{reads} reads at once");
    let in_flight = |engine: &Engine| {
        engine.store.memory().iter().find(|(kind, _)| *kind == "in_flight").map_or(0, |it| it.1)
    };
    assert!(in_flight(&engine) > reads * 100, "and counts as memory");
    engine.settle();
    assert_eq!(in_flight(&engine), 0);
    for (name, token) in waiting {
        let newest = (1..600).filter(|number| number % 150 == name).max().map(|number| record(name, number));
        let is_its = |event: &StoreEvent| matches!(event, StoreEvent::Got { token: of, record, .. } if *of == token && *record == newest);
        assert!(engine.events.iter().any(is_its), "key {name}");
    }
}

#[test]
fn ranges_in_either_order_are_right_or_refused_while_reads_fail() {
    let (mut right, mut refused) = (0, 0);
    for seed in 0..16 {
        let options = StoreOptions { cache_bytes: 0, value_inline_max: 64, ..small() };
        let mut engine = Engine::started(options, 600 + seed);
        let mut there: BTreeMap<RecordKey, Record> = BTreeMap::new();
        for number in 1..500u64 {
            let name = engine.below(70);
            if engine.store.admit().is_ok() {
                engine.put(name, number);
                there.insert(key(name), record(name, number));
            }
            engine.step();
            if number % 10 != 0 {
                continue;
            }
            let direction = if number % 20 == 0 { Direction::Forward } else { Direction::Backward };
            let (low, high) = (key(engine.below(70)), key(engine.below(70)));
            let (low, high) = if low <= high { (low, high) } else { (high, low) };
            let mut wanted: Vec<_> =
                there.range(low.clone()..=high.clone()).map(|(k, r)| (k.clone(), r.clone())).collect();
            if direction == Direction::Backward {
                wanted.reverse();
            }
            let range = ScanRange { low: Bound::Included(low), high: Bound::Included(high), direction };
            let token = engine.call(|store, cx| store.scan_range(cx, range, 1_000, 1 << 20));
            let mut end = None;
            for _ in 0..10_000 {
                let kind = [FileKind::Table, FileKind::Value][engine.below(2) as usize];
                engine.disk.faults.read = (engine.below(12) == 0).then_some(kind);
                engine.step();
                end = engine.events.iter().find_map(|event| match event {
                    StoreEvent::Scanned { token: of, records, .. } if *of == token => {
                        Some(Some(records.clone()))
                    }
                    StoreEvent::Unreadable { token: of } if *of == token => Some(None),
                    _ => None,
                });
                if end.is_some() {
                    break;
                }
            }
            engine.disk.faults.read = None;
            match end.expect("a scan ends") {
                Some(records) => {
                    assert_eq!(records, wanted, "seed {seed}, put {number}");
                    right += 1;
                }
                None => refused += 1,
            }
            engine.events.clear();
        }
        engine.settle();
        assert_eq!(
            engine.store.suspect_extent(),
            (0, 0),
            "seed {seed}: a read that fails for a while is no damage"
        );
        let all: Vec<_> = there.into_iter().collect();
        assert_eq!(engine.all(9), all, "seed {seed}: all is right again");
    }
    assert!(right > 200 && refused > 50, "{right} right, {refused} refused");
}
