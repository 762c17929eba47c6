//! A crash at every single I/O of a life with rotations, flushes, merges and manifest changes.

use super::*;

/// A fixed life up to `stop` operations; false when it ended before.
fn live(engine: &mut Engine, model: &mut Model, stop: usize) -> bool {
    for round in 0..220u64 {
        if engine.store.admit().is_ok() {
            model.put(engine, round * 7 % 40);
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

#[test]
fn a_crash_at_any_io_leaves_the_old_or_the_new_state() {
    let mut stop = 0;
    loop {
        let mut engine = Engine::started(small(), 7);
        let mut model = Model::default();
        let goes_on = live(&mut engine, &mut model, stop);
        let durable = engine.store.durable();
        for subset in 0..4u8 {
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
            assert!(
                engine.counters.value(Counter::CompactionFinished) > 0,
                "a merge was among the operations"
            );
            return;
        }
        stop += 1;
    }
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
    live(&mut engine, &mut model, usize::MAX);
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
