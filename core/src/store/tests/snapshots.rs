//! Snapshots: what they show, what they hold, and what becomes of it afterwards.

use super::*;
use crate::io::{FileKind, FileName};
use crate::store::{SNAPSHOTS_MAX, SnapshotId};
use alloc::collections::BTreeSet;

type Records = BTreeMap<RecordKey, Record>;

fn sizes() -> StoreOptions {
    StoreOptions { value_inline_max: 64, value_file_bytes: 12 << 10, memtable_bytes: 8 << 10, ..small() }
}

fn take(engine: &mut Engine) -> SnapshotId {
    engine.call(Store::snapshot).expect("few are held")
}

fn is_taken(engine: &Engine, id: SnapshotId) -> bool {
    engine.events.contains(&StoreEvent::Snapshot { id })
}

/// All records of a snapshot in an order, page by page.
fn shown(
    engine: &mut Engine,
    id: SnapshotId,
    direction: Direction,
    limit: usize,
) -> Vec<(RecordKey, Record)> {
    let mut range = ScanRange { low: Bound::Unbounded, high: Bound::Unbounded, direction };
    let mut all = Vec::new();
    loop {
        let token = engine.call(|store, cx| store.scan_snapshot(cx, id, &range, limit, 2_000));
        let (records, done) = engine.page(token);
        all.extend(records);
        if done {
            return all;
        }
        let last = all.last().map(|(key, _): &(RecordKey, Record)| key.clone()).expect("a page has a record");
        match direction {
            Direction::Forward => range.low = Bound::Excluded(last),
            Direction::Backward => range.high = Bound::Excluded(last),
        }
    }
}

fn check(engine: &mut Engine, id: SnapshotId, wanted: &Records, context: &str) {
    let forward = shown(engine, id, Direction::Forward, 7);
    assert_eq!(forward, wanted.clone().into_iter().collect::<Vec<_>>(), "{context}");
    let mut backward = shown(engine, id, Direction::Backward, 5);
    backward.reverse();
    assert_eq!(backward, forward, "{context}: backwards");
}

/// Tables and value files on the disk, and those that the store has as its own.
fn files(engine: &Engine) -> (BTreeSet<FileName>, BTreeSet<FileName>) {
    let is_data = |kind| matches!(kind, FileKind::Table | FileKind::Value);
    let there = engine.disk.list().into_iter().map(|info| info.file).filter(|file| is_data(file.kind));
    let tables = engine.store.levels.all().map(|table| table.meta.file());
    let values = engine.store.values.all().map(|file| FileName::new(FileKind::Value, file.meta.number));
    (there.collect(), tables.chain(values).collect())
}

#[test]
fn a_snapshot_shows_its_moment_while_all_is_overwritten_compacted_and_dropped() {
    let (mut held, mut freed) = (0, 0);
    for seed in 0..12 {
        let mut engine = Engine::started(sizes(), 700 + seed);
        let (mut now, mut number) = (Records::new(), 0);
        let mut snapshots: BTreeMap<SnapshotId, Records> = BTreeMap::new();
        for round in 0..900u64 {
            if engine.store.admit().is_ok() {
                let name = engine.below(60);
                number += 1;
                engine.put(name, number);
                now.insert(key(name), record(name, number));
            }
            (0..engine.below(6)).for_each(|_| {
                engine.step();
            });
            match engine.below(120) {
                0 if snapshots.len() < SNAPSHOTS_MAX => {
                    let id = take(&mut engine);
                    while !is_taken(&engine, id) {
                        assert!(engine.step(), "a snapshot waits for nothing");
                    }
                    snapshots.insert(id, now.clone());
                }
                1 => {
                    let slot = Slot(engine.below(5) as u16);
                    engine.call(|store, cx| store.drop_slots(cx, &[slot]));
                    now.retain(|key, _| key.slot != slot);
                }
                2 => {
                    for (id, wanted) in &snapshots {
                        check(&mut engine, *id, wanted, &format!("seed {seed}, round {round}, {id:?}"));
                    }
                }
                3 => {
                    if let Some((id, wanted)) = snapshots.pop_first() {
                        check(&mut engine, id, &wanted, &format!("seed {seed}, round {round}, at its end"));
                        engine.call(|store, cx| store.release(cx, id));
                        freed += 1;
                    }
                }
                _ => {}
            }
            assert_eq!(engine.fatal(), None);
        }
        engine.settle();
        let (there, live) = files(&engine);
        held += there.difference(&live).count();
        for (id, wanted) in &snapshots {
            check(&mut engine, *id, wanted, &format!("seed {seed}, at rest"));
            engine.call(|store, cx| store.release(cx, *id));
        }
        engine.settle();
        let (there, live) = files(&engine);
        assert_eq!(there, live, "seed {seed}: nothing is left that nobody needs");
        assert_eq!(engine.all(50).into_iter().collect::<Records>(), now, "seed {seed}: the store as it is");
    }
    assert!(
        held > 20 && freed > 20,
        "{held} files were held at the end, {freed} snapshots were released before"
    );
}

#[test]
fn a_snapshot_is_the_state_of_one_moment_while_writes_go_on() {
    for seed in 0..30 {
        let mut engine = Engine::started(sizes(), 800 + seed);
        let mut puts: Vec<u64> = Vec::new();
        let mut id = None;
        let mut put_before = 0;
        for round in 0..400usize {
            if engine.store.admit().is_ok() {
                let name = engine.below(40);
                puts.push(name);
                engine.put(name, puts.len() as u64);
            }
            engine.step();
            if round == 200 {
                (id, put_before) = (Some(take(&mut engine)), puts.len());
            }
        }
        let id = id.expect("it was asked for");
        engine.settle();
        assert!(is_taken(&engine, id), "seed {seed}");
        let found = shown(&mut engine, id, Direction::Forward, 50);
        let upto = found.iter().map(|(_, record)| record.ballot.hlc.0).max().unwrap_or(0) as usize;
        assert!(upto >= put_before, "seed {seed}: all that was put before shows");
        let mut wanted = Records::new();
        for (at, name) in puts[..upto].iter().enumerate() {
            wanted.insert(key(*name), record(*name, at as u64 + 1));
        }
        assert_eq!(found.into_iter().collect::<Records>(), wanted, "seed {seed}: as after put {upto}");
    }
}

#[test]
fn snapshots_hold_no_memtable_and_are_few() {
    let mut engine = Engine::started(sizes(), 900);
    let filters = |engine: &Engine| {
        engine.store.memory().iter().find(|(kind, _)| *kind == "filters").map_or(0, |it| it.1)
    };
    let mut ids = Vec::new();
    let mut pinned = 0;
    for number in 1..3_000u64 {
        engine.put(number % 200, number);
        engine.settle();
        if number % 500 == 0 && ids.len() < SNAPSHOTS_MAX {
            ids.push(take(&mut engine));
            engine.settle();
            assert!(
                engine.store.active.is_empty() && engine.store.frozen.is_empty(),
                "all of it is in tables"
            );
        }
        let live: usize = engine.store.levels.all().map(|table| table.memory()).sum();
        pinned = pinned.max(filters(&engine) - live);
        // Filters and indexes of so many stores as there were at the moments, and not more.
        assert!(filters(&engine) <= live * (1 + ids.len()) + 4_096, "number {number}");
    }
    assert!(pinned > 0, "what snapshots hold is counted");
    assert_eq!(engine.call(Store::snapshot), None, "one too many");
    for id in ids {
        engine.call(|store, cx| store.release(cx, id));
    }
    let live: usize = engine.store.levels.all().map(|table| table.memory()).sum();
    assert_eq!(filters(&engine), live, "nothing is held any more");
    assert!(engine.call(Store::snapshot).is_some());
    // Of a snapshot that is not there nothing is shown.
    let range = ScanRange { low: Bound::Unbounded, high: Bound::Unbounded, direction: Direction::Forward };
    let token = engine.call(|store, cx| store.scan_snapshot(cx, SnapshotId(77), &range, 5, 500));
    assert!(engine.events.contains(&StoreEvent::Unreadable { token }));
}

#[test]
fn a_start_removes_what_only_a_snapshot_held() {
    let mut engine = Engine::started(sizes(), 901);
    let mut model = Model::default();
    for round in 0..300 {
        model.put(&mut engine, round % 50);
        engine.settle();
    }
    let id = take(&mut engine);
    engine.settle();
    assert!(is_taken(&engine, id));
    for round in 0..900 {
        model.put(&mut engine, round % 50);
        engine.settle();
    }
    let (there, live) = files(&engine);
    assert!(there.difference(&live).count() > 0, "files are held");
    let durable = engine.store.durable();
    let mut rng = Rng::new([3; 32], 0);
    engine.disk.crash(&mut rng);
    assert_eq!(engine.open(false), Ok(()));
    engine.settle();
    let (there, live) = files(&engine);
    assert_eq!(there, live);
    model.check_recovered(&mut engine, durable, "after a crash");
}
