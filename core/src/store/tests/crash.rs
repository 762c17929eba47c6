//! A crash at every single I/O of a life with rotations, flushes, merges and manifest changes.

use super::*;
use crate::io::{FileKind, FileName};

/// A fixed life of puts up to `stop` operations; false when it ended before.
fn live(engine: &mut Engine, model: &mut Model, names: &[u64], stop: usize) -> bool {
    for name in names {
        if engine.store.admit().is_ok() {
            model.put(engine, *name);
        }
        for _ in 0..2 {
            if engine.disk.done >= stop {
                return true;
            }
            engine.step();
        }
    }
    while engine.disk.done < stop {
        if !engine.step() {
            return false;
        }
    }
    true
}

/// The keys of such a life.
fn usual() -> Vec<u64> {
    (0..220).map(|round| round * 7 % 40).collect()
}

/// Crashes after every single operation of a life, `subsets` times each; the life as it was without a crash.
fn crash_anywhere(options: &StoreOptions, names: &[u64], subsets: u8) -> Engine {
    let mut stop = 0;
    loop {
        let mut engine = Engine::started(options.clone(), 7);
        let mut model = Model::default();
        let goes_on = live(&mut engine, &mut model, names, stop);
        let durable = engine.store.durable();
        for subset in 0..subsets {
            let context = format!("crash after {stop} operations, subset {subset}");
            let mut engine = engine.clone();
            let mut model = model.clone();
            let mut rng = Rng::new([subset; 32], stop as u64);
            engine.disk.crash(&mut rng);
            assert_eq!(engine.open(false), Ok(()), "{context}");
            model.check_recovered(&mut engine, durable, &context);
            engine.settle();
            engine.disk.crash(&mut rng);
            assert_eq!(engine.open(false), Ok(()), "{context}, again");
            model.check_recovered(&mut engine, Lsn(0), &format!("{context}, again"));
        }
        if !goes_on {
            return engine;
        }
        stop += 1;
    }
}

#[test]
fn a_crash_at_any_io_leaves_the_old_or_the_new_state() {
    let engine = crash_anywhere(&small(), &usual(), 4);
    assert!(engine.counters.value(Counter::CompactionFinished) > 0, "a merge was among the operations");
}

#[test]
fn a_crash_at_any_io_of_value_files_leaves_the_old_or_the_new_state() {
    let sizes = StoreOptions { value_inline_max: 64, value_file_bytes: 6 << 10, ..small() };
    let options = StoreOptions { memtable_bytes: 8 << 10, wal_segment_bytes: 16 << 10, ..sizes };
    // Some keys are overwritten much more often than others: files die in part.
    let names: Vec<u64> =
        (0..240).map(|round| if round % 3 == 0 { round / 3 % 40 } else { round % 5 }).collect();
    let engine = crash_anywhere(&options, &names, 3);
    assert!(engine.store.stats().value_bytes_moved > 0, "values were written anew");
    let removed = |file: &FileName| !engine.disk.list().iter().any(|info| info.file == *file);
    let made = (1..engine.store.next_file).map(|number| FileName::new(FileKind::Value, number));
    let gone = made.filter(|file| engine.disk.was_made(*file)).filter(removed).count();
    assert!(gone > 2, "{gone} value files came and went");
}

#[test]
fn a_crash_during_the_first_start_leaves_a_directory_that_starts() {
    for stop in 0..30 {
        for subset in 0..4u8 {
            let mut engine = Engine::new(small(), 8);
            engine.call(|store, cx| store.boot(cx, true));
            while engine.disk.done < stop && engine.step() {}
            let mut rng = Rng::new([subset; 32], stop as u64);
            engine.disk.crash(&mut rng);
            assert_eq!(engine.open(true), Ok(()), "crash after {stop} operations, subset {subset}");
        }
    }
}

#[test]
fn a_crash_during_recovery_loses_nothing() {
    let mut engine = Engine::started(small(), 9);
    let mut model = Model::default();
    live(&mut engine, &mut model, &usual(), usize::MAX);
    for round in 0..10u64 {
        model.put(&mut engine, round);
    }
    let durable = engine.store.durable();
    let mut rng = Rng::new([9; 32], 0);
    engine.disk.crash(&mut rng);
    for stop in 0..60 {
        let mut engine = engine.clone();
        let mut model = model.clone();
        engine.store = Store::new(small());
        engine.call(|store, cx| store.boot(cx, false));
        for _ in 0..stop {
            engine.step();
        }
        engine.disk.crash(&mut rng);
        let context = format!("recovery ended after {stop} operations");
        assert_eq!(engine.open(false), Ok(()), "{context}");
        model.check_recovered(&mut engine, durable, &context);
    }
}
