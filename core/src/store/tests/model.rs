//! The engine and a map side by side.

use super::*;

/// Puts, reads, operations done in any order, kills and crashes; `rounds` lives of a store.
pub(super) fn run(options: &StoreOptions, seed: u64, rounds: u64) -> (Counters, StoreStats) {
    let context = format!("seed {seed}");
    let mut engine = Engine::started(options.clone(), seed);
    let mut model = Model::default();
    let mut stats = StoreStats::default();
    for round in 0..rounds {
        for _ in 0..50 + engine.below(250) {
            match engine.below(10) {
                0..6 if engine.store.admit().is_ok() => {
                    let name = engine.below(60);
                    model.put(&mut engine, name);
                }
                6 => {
                    let name = engine.below(80);
                    let wanted = model.newest(name);
                    let wanted = (wanted > 0).then(|| record(name, wanted));
                    assert_eq!(engine.get(&key(name)), Ok(wanted), "{context}, round {round}: key {name}");
                }
                7 => engine.now_ms += 3,
                _ => {
                    engine.step();
                }
            }
            assert_eq!(engine.fatal(), None, "{context}, round {round}");
        }
        if engine.below(3) == 0 {
            model.check_all(&mut engine, &context);
        }
        let mut durable = engine.store.durable();
        if engine.below(4) == 0 {
            let mut rng = engine.rng.clone();
            engine.disk.kill(&mut rng);
        } else {
            if options.durability != Durability::Sync {
                durable = Lsn(0);
            }
            let mut rng = engine.rng.clone();
            engine.disk.crash(&mut rng);
        }
        engine.below(1 << 20);
        stats.value_bytes_moved += engine.store.stats().value_bytes_moved;
        assert_eq!(engine.open(false), Ok(()), "{context}, round {round}");
        model.check_recovered(&mut engine, durable, &format!("{context}, round {round}"));
    }
    engine.settle();
    model.check_all(&mut engine, &context);
    (engine.counters.clone(), stats)
}

#[test]
fn what_is_durable_survives_and_nothing_else_appears() {
    let mut total = [0; 4];
    for seed in 0..60 {
        let (counters, _) = run(&small(), seed, 8);
        let counted =
            [Counter::MemtableFlushed, Counter::CompactionFinished, Counter::TornTailCut, Counter::DiskReads];
        for (sum, counter) in total.iter_mut().zip(counted) {
            *sum += counters.value(counter);
        }
    }
    assert!(total.iter().all(|count| *count > 5), "flushes, merges, torn tails, reads: {total:?}");
}

#[test]
fn interval_durability_survives_the_death_of_the_process() {
    let options = StoreOptions { durability: Durability::Interval(5), ..small() };
    for seed in 0..40 {
        run(&options, seed, 6);
    }
}

#[test]
fn the_highest_ballot_wins_whatever_the_order_and_wherever_it_lies() {
    let mut engine = Engine::started(small(), 1);
    for number in 0..600 {
        engine.put(number % 100, 1_000 - number);
        engine.settle();
    }
    for name in 0..100 {
        let highest = 1_000 - name;
        assert_eq!(engine.get(&key(name)), Ok(Some(record(name, highest))));
    }
    assert!(engine.counters.value(Counter::MemtableFlushed) > 0);
}

#[test]
fn an_erasure_hides_what_is_below_it_in_memory_and_on_disk() {
    let mut engine = Engine::started(small(), 2);
    for number in 1..400 {
        engine.put(number % 40, number);
        engine.settle();
    }
    for name in 0..20 {
        engine.call(|store, cx| store.erase(cx, key(name), ballot(1_000)));
    }
    for name in 20..40 {
        engine.call(|store, cx| store.erase(cx, key(name), ballot(3)));
    }
    engine.settle();
    for round in 0..2 {
        for name in 0..40 {
            let is_there = engine.get(&key(name)).expect("a read").is_some();
            assert_eq!(is_there, name >= 20, "key {name}, round {round}");
        }
        assert_eq!(engine.all(5).len(), 20);
        assert_eq!(engine.open(false), Ok(()));
    }
}

#[test]
fn a_full_disk_refuses_and_recovers_when_there_is_space() {
    let mut engine = Engine::started(small(), 3);
    let mut model = Model::default();
    engine.disk.faults.full = true;
    for name in 0..2_000 {
        if engine.store.admit().is_ok() {
            model.put(&mut engine, name % 50);
        }
        engine.settle();
        engine.now_ms += 1;
        assert_eq!(engine.fatal(), None);
    }
    assert_eq!(engine.store.admit(), Err(Pressure::Full));
    engine.disk.faults.full = false;
    for _ in 0..3 {
        engine.now_ms += 2_000;
        engine.call(|_, _| ());
        engine.settle();
    }
    assert_eq!(engine.store.admit(), Ok(()));
    model.check_all(&mut engine, "after the disk was full");
}

#[test]
fn a_failed_sync_is_fatal_and_names_the_file() {
    let mut engine = Engine::started(small(), 4);
    engine.settle();
    engine.disk.faults.sync = Some(crate::io::FileKind::Wal);
    let lsn = engine.put(1, 1);
    engine.settle();
    let reason = engine.fatal().expect("a failed sync is fatal");
    assert!(reason.contains(".wal"), "{reason}");
    assert!(engine.store.durable() < lsn, "nothing is acknowledged after a failed sync");
}

#[test]
fn a_store_and_its_copy_go_the_same_way() {
    let mut engine = Engine::started(small(), 5);
    let mut model = Model::default();
    for name in 0..100 {
        model.put(&mut engine, name % 30);
        engine.step();
    }
    let mut copy = engine.clone();
    for name in 0..100 {
        engine.put(name, 5_000 + name);
        copy.put(name, 5_000 + name);
        engine.step();
        copy.step();
    }
    engine.settle();
    copy.settle();
    assert_eq!(engine.disk.contents(), copy.disk.contents());
    assert_eq!(engine.events, copy.events);
}

/// A bound at or near a key, or none.
fn bound(engine: &mut Engine) -> Bound<RecordKey> {
    let near = key(engine.below(80));
    let near = if engine.below(4) == 0 {
        RecordKey { slot: near.slot, key: near.key.slice(..engine.below(9) as usize) }
    } else {
        near
    };
    match engine.below(5) {
        0 => Bound::Unbounded,
        1 | 2 => Bound::Included(near),
        _ => Bound::Excluded(near),
    }
}

#[test]
fn a_scan_shows_any_range_in_either_order() {
    for seed in 0..20 {
        let mut engine = Engine::started(small(), seed);
        let mut there: BTreeMap<RecordKey, Record> = BTreeMap::new();
        let mut shown = 0;
        for number in 1..500 {
            let name = engine.below(70);
            engine.put(name, number);
            there.insert(key(name), record(name, number));
            (0..engine.below(9)).for_each(|_| {
                engine.step();
            });
            if number % 3 != 0 {
                continue;
            }
            let (low, high) = (bound(&mut engine), bound(&mut engine));
            let is_empty = match (&low, &high) {
                (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
                (Bound::Included(low), Bound::Included(high)) => low > high,
                (
                    Bound::Included(low) | Bound::Excluded(low),
                    Bound::Included(high) | Bound::Excluded(high),
                ) => low >= high,
            };
            let range = (low.clone(), high.clone());
            let mut wanted: Vec<_> = if is_empty {
                Vec::new()
            } else {
                there.range(range).map(|(key, record)| (key.clone(), record.clone())).collect()
            };
            shown += wanted.len();
            let limit = 1 + engine.below(12) as usize;
            for direction in [Direction::Forward, Direction::Backward] {
                let range = ScanRange { low: low.clone(), high: high.clone(), direction };
                let found = engine.pages(range.clone(), limit);
                assert_eq!(found, wanted, "seed {seed}, put {number}: {range:?}");
                wanted.reverse();
            }
        }
        assert!(shown > 1_000 && engine.counters.value(Counter::CompactionFinished) > 0, "{shown} shown");
    }
}

#[test]
fn a_backward_scan_reads_ahead() {
    let options = StoreOptions {
        memtable_bytes: 256 << 10,
        wal_segment_bytes: 256 << 10,
        table_bytes: 256 << 10,
        value_inline_max: 1 << 20,
        ..small()
    };
    let mut engine = Engine::started(options, 1);
    for number in 1..2_000 {
        engine.put(number, 7 * number + 1);
        engine.settle();
    }
    let mut reads = Vec::new();
    for direction in [Direction::Forward, Direction::Backward] {
        let before = engine.counters.value(Counter::DiskReads);
        let range = ScanRange { low: Bound::Unbounded, high: Bound::Unbounded, direction };
        let token = engine.call(|store, cx| store.scan_range(cx, range, 1_000, 1 << 20));
        assert_eq!(engine.page(token).0.len(), 1_000);
        reads.push(engine.counters.value(Counter::DiskReads) - before);
    }
    assert!(reads[1] <= reads[0] + 8 && reads[1] < 60, "reads forward and backward: {reads:?}");
}
