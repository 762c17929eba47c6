//! Slots that are dropped: gone at once, gone after a crash, and empty when they return.

use super::*;
use crate::io::FileKind;

fn drop(engine: &mut Engine, slot: u16) {
    engine.call(|store, cx| store.drop_slots(cx, &[Slot(slot)]));
}

fn is_dropped(engine: &Engine, slot: u16) -> bool {
    let wanted = StoreEvent::Dropped { slots: [Slot(slot)].into() };
    engine.events.contains(&wanted)
}

fn everything(direction: Direction) -> ScanRange {
    ScanRange { low: Bound::Unbounded, high: Bound::Unbounded, direction }
}

/// Demands exactly what the map holds, by point reads and by scans both ways.
fn check(engine: &mut Engine, there: &BTreeMap<RecordKey, Record>, context: &str) {
    let mut wanted: Vec<_> = there.iter().map(|(key, record)| (key.clone(), record.clone())).collect();
    for direction in [Direction::Forward, Direction::Backward] {
        assert_eq!(engine.pages(everything(direction), 6), wanted, "{context}: {direction:?}");
        wanted.reverse();
    }
    for name in 0..70 {
        assert_eq!(engine.get(&key(name)), Ok(there.get(&key(name)).cloned()), "{context}: key {name}");
    }
}

#[test]
fn a_dropped_slot_is_empty_and_takes_old_ballots_again() {
    let (mut drops, mut compactions) = (0, 0);
    for seed in 0..25 {
        let options = if seed % 2 == 0 { small() } else { StoreOptions { value_inline_max: 64, ..small() } };
        let mut engine = Engine::started(options, 500 + seed);
        let mut there: BTreeMap<RecordKey, Record> = BTreeMap::new();
        for round in 1..700u64 {
            if engine.store.admit().is_ok() {
                let name = engine.below(60);
                // Ballots rise and fall: what decides is what has come since the slot was dropped.
                let number = if engine.below(3) == 0 { round } else { 700 - round };
                engine.put(name, number);
                let put = record(name, number);
                let held = there.entry(key(name)).or_insert_with(|| put.clone());
                if put.ballot > held.ballot {
                    *held = put;
                }
            }
            (0..engine.below(6)).for_each(|_| {
                engine.step();
            });
            if engine.below(40) == 0 {
                let slot = engine.below(5) as u16;
                drop(&mut engine, slot);
                there.retain(|key, _| key.slot != Slot(slot));
                drops += 1;
            }
            if engine.below(60) == 0 {
                check(&mut engine, &there, &format!("seed {seed}, round {round}"));
            }
            if engine.below(150) == 0 {
                engine.settle();
                let mut rng = engine.rng.clone();
                engine.disk.crash(&mut rng);
                assert_eq!(engine.open(false), Ok(()));
                check(&mut engine, &there, &format!("seed {seed}, started anew in round {round}"));
            }
            assert_eq!(engine.fatal(), None);
        }
        engine.settle();
        check(&mut engine, &there, &format!("seed {seed}, at rest"));
        compactions += engine.counters.value(Counter::CompactionFinished);
    }
    assert!(drops > 200 && compactions > 50, "{drops} drops, {compactions} compactions");
}

#[test]
fn a_crash_at_any_io_leaves_a_slot_whole_or_empty() {
    let (mut stop, mut kept, mut gone) = (0, 0, 0);
    loop {
        let mut engine = Engine::started(StoreOptions { value_inline_max: 64, ..small() }, 31);
        for round in 0..150 {
            engine.put(round % 40, round + 1);
            engine.step();
        }
        engine.settle();
        for round in 150..160 {
            engine.put(round % 40, round + 1);
            engine.step();
        }
        let before = engine.all(1_000).into_iter().filter(|(key, _)| key.slot == Slot(2)).collect::<Vec<_>>();
        let (others, durable) = (engine.all(1_000).len() - before.len(), engine.store.durable());
        engine.disk.done = 0;
        drop(&mut engine, 2);
        for round in 160..240u64 {
            if engine.disk.done < stop {
                // Other slots go on meanwhile.
                engine.put(if round % 5 == 2 { round + 1 } else { round } % 40, round + 1);
                engine.step();
            }
        }
        let mut goes_on = true;
        while goes_on && engine.disk.done < stop {
            goes_on = engine.step();
        }
        let is_told = is_dropped(&engine, 2);
        let is_durable = engine.store.durable() >= Lsn(160) || durable >= Lsn(160);
        for subset in 0..3u8 {
            let context = format!("crash after {stop} operations, subset {subset}");
            let mut engine = engine.clone();
            let mut rng = Rng::new([subset; 32], stop as u64);
            engine.disk.crash(&mut rng);
            assert_eq!(engine.open(false), Ok(()), "{context}");
            let all = engine.all(1_000);
            let after: Vec<_> = all.iter().filter(|(key, _)| key.slot == Slot(2)).cloned().collect();
            assert!(all.len() - after.len() >= others, "{context}: other slots keep theirs");
            if is_told {
                assert_eq!(after, [], "{context}: what was told stays");
            } else if !after.is_empty() {
                assert_eq!(after.len(), before.len(), "{context}: the whole slot");
                assert!(!is_durable || after == before, "{context}: as it was");
                kept += 1;
            }
            gone += usize::from(after.is_empty());
            // Once more, with what recovery and its merges made of it.
            engine.settle();
            engine.disk.crash(&mut rng);
            assert_eq!(engine.open(false), Ok(()), "{context}, again");
            let again: Vec<_> =
                engine.all(1_000).into_iter().filter(|(key, _)| key.slot == Slot(2)).collect();
            assert_eq!(again, after, "{context}, again");
        }
        if !goes_on {
            break;
        }
        stop += 1;
    }
    assert!(kept > 2 && gone > 50, "{kept} times the old state, {gone} times the new");
}

#[test]
fn what_was_put_into_a_group_number_that_a_drop_named_is_kept() {
    let mut engine = Engine::started(small(), 32);
    engine.put(2, 1);
    engine.settle();
    // The drop names a group that is never written.
    engine.call(|store, cx| {
        store.put(cx, key(7), record(7, 2));
        store.drop_slots(cx, &[Slot(2)]);
    });
    while !is_dropped(&engine, 2) {
        let at = engine.disk.pending.iter().position(
            |(_, op)| !matches!(op, crate::io::DiskOp::Write { file, .. } if file.kind == FileKind::Wal),
        );
        let (ticket, result) = engine.disk.complete(at.expect("the manifest is written"));
        engine.call(|store, cx| store.on_disk(cx, ticket, result));
    }
    let mut rng = Rng::new([1; 32], 0);
    engine.disk.pending.clear();
    engine.disk.crash(&mut rng);
    assert_eq!(engine.open(false), Ok(()));
    assert_eq!(engine.get(&key(7)), Ok(None));
    for name in [2, 7, 12] {
        engine.put(name, 5);
        engine.settle();
    }
    engine.disk.crash(&mut rng);
    assert_eq!(engine.open(false), Ok(()));
    for name in [2, 7, 12] {
        assert_eq!(engine.get(&key(name)), Ok(Some(record(name, 5))), "key {name}");
    }
}

#[test]
fn files_that_hold_nothing_else_go_at_once() {
    let mut engine = Engine::started(StoreOptions { value_inline_max: 64, ..small() }, 33);
    for number in 1..200 {
        engine.put(number % 20 * 5 + 2, number);
        engine.settle();
    }
    let count =
        |engine: &Engine, kind| engine.disk.list().iter().filter(|info| info.file.kind == kind).count();
    assert!(count(&engine, FileKind::Table) > 0 && count(&engine, FileKind::Value) > 0);
    drop(&mut engine, 2);
    engine.settle();
    assert_eq!((count(&engine, FileKind::Table), count(&engine, FileKind::Value)), (0, 0));
    assert_eq!(engine.store.tables(), (0, 0));
    assert_eq!(engine.all(10), []);
}

#[test]
fn reads_under_way_show_nothing_of_a_dropped_slot() {
    let mut engine = Engine::started(StoreOptions { cache_bytes: 0, value_inline_max: 64, ..small() }, 34);
    for number in 1..300 {
        engine.put(number % 40, number);
        engine.settle();
    }
    let mut met = 0;
    for name in (2..40).step_by(5) {
        for steps in 0..6 {
            let mut engine = engine.clone();
            let get = engine.call(|store, cx| store.get(cx, &key(name)));
            let scan = engine.call(|store, cx| {
                let range = everything(if steps % 2 == 0 { Direction::Forward } else { Direction::Backward });
                store.scan_range(cx, range, 1_000, 1 << 20)
            });
            (0..steps * 3).for_each(|_| {
                engine.step();
            });
            let Lookup::Pending(get) = get else { continue };
            let is_end = |event: &StoreEvent| match event {
                StoreEvent::Got { token, .. } => *token == get,
                StoreEvent::Scanned { token, .. } => *token == scan,
                _ => false,
            };
            let ended = engine.events.iter().filter(|event| is_end(event)).count();
            engine.events.clear();
            drop(&mut engine, 2);
            engine.settle();
            assert_eq!(engine.store.damaged_blocks(), 0);
            let ends = engine.events.iter().filter(|event| is_end(event)).count();
            assert_eq!(ended + ends, 2, "every read ends once");
            met += ends;
            for event in &engine.events {
                match event {
                    StoreEvent::Got { record, .. } => assert_eq!(*record, None),
                    StoreEvent::Scanned { records, done, .. } => {
                        assert!(*done && records.len() == 32, "{} records", records.len());
                        assert!(records.iter().all(|(key, _)| key.slot != Slot(2)));
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(met > 20, "{met} reads were under way");
}
