//! Large values stand apart: what is written, what is won back, and what becomes of damage.

use super::*;
use crate::io::{DiskOp, FileKind, FileName};

/// Nearly every value stands apart, and value files are short.
fn apart() -> StoreOptions {
    StoreOptions { value_inline_max: 64, value_file_bytes: 12 << 10, memtable_bytes: 16 << 10, ..small() }
}

fn value_files(engine: &Engine) -> Vec<FileName> {
    let files = engine.disk.list().into_iter().map(|info| info.file);
    files.filter(|file| file.kind == FileKind::Value).collect()
}

/// A store whose keys were overwritten many times, at rest.
fn churned(options: StoreOptions) -> (Engine, Model) {
    let (mut engine, mut model) = (Engine::started(options, 21), Model::default());
    for round in 0..2_000u64 {
        model.put(&mut engine, if round % 4 == 0 { round / 4 % 97 } else { round % 11 });
        engine.settle();
    }
    (engine, model)
}

#[test]
fn dead_values_are_won_back_and_the_live_ones_stay() {
    let (mut engine, model) = churned(apart());
    model.check_all(&mut engine, "after the churn");
    let stats = engine.store.stats();
    assert!(stats.value_bytes_moved > 10_000, "live values were written anew: {stats:?}");
    let (count, bytes, live) = engine.store.values();
    assert!(count > 2 && live > 0 && bytes < live * 5 / 2, "{count} files of {bytes} bytes, {live} alive");
    assert_eq!(value_files(&engine).len(), count, "files that hold nothing alive are gone");
    assert_eq!(engine.open(false), Ok(()));
    assert_eq!(engine.store.values(), (count, bytes, live), "the manifest knows the same");
    model.check_all(&mut engine, "after a start");
}

#[test]
fn the_model_holds_where_nearly_every_value_stands_apart() {
    let mut moved = 0;
    for seed in 0..25 {
        let (counters, stats) = model::run(&apart(), 1_000 + seed, 8);
        assert!(counters.value(Counter::MemtableFlushed) > 0);
        moved += stats.value_bytes_moved;
    }
    assert!(moved > 10_000, "{moved} bytes of live values were written anew");
}

/// Bytes written per byte put where values of 8 KiB are overwritten in random order.
fn amplification(value_inline_max: usize) -> f64 {
    let sizes = StoreOptions { memtable_bytes: 64 << 10, wal_segment_bytes: 256 << 10, ..small() };
    let options =
        StoreOptions { value_inline_max, value_file_bytes: 1 << 20, table_bytes: 64 << 10, ..sizes };
    let mut engine = Engine::started(options, 3);
    let mut put = 0;
    for number in 1..1_500u64 {
        let name = engine.below(300);
        // Nothing that can be compressed.
        let mut state = number;
        let mut byte = |_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 56) as u8
        };
        let bytes: Vec<u8> = (0..8_192).map(&mut byte).collect();
        put += bytes.len();
        let value = Some(Bytes::from(bytes));
        let record = Record { ballot: ballot(number), written: ballot(number), value, ..Record::default() };
        engine.call(|store, cx| store.put(cx, key(name), record));
        engine.settle();
    }
    let stats = engine.store.stats();
    (stats.table_bytes_written + stats.value_bytes_written) as f64 / put as f64
}

#[test]
fn compaction_does_not_write_large_values_again() {
    let (with, without) = (amplification(4_096), amplification(usize::MAX));
    assert!(with < 2.5, "flush and what is won back: {with:.2} bytes written per byte put");
    assert!(with < without / 2.0, "apart {with:.2}, in tables {without:.2} bytes written per byte put");
}

#[test]
fn a_read_keeps_the_value_file_that_it_needs() {
    let (mut engine, _) = churned(apart());
    let names: Vec<u64> = (0..97).collect();
    let mut tokens = Vec::new();
    for name in names {
        if let Lookup::Pending(token) = engine.call(|store, cx| store.get(cx, &key(name))) {
            tokens.push(token);
        }
    }
    let range = ScanRange { low: Bound::Unbounded, high: Bound::Unbounded, direction: Direction::Backward };
    let scan = engine.call(|store, cx| store.scan_range(cx, range, 1_000, 1 << 20));
    assert!(tokens.len() > 20);
    // Reads are held up while all values are overwritten and all is compacted.
    let is_read = |op: &DiskOp| matches!(op, DiskOp::Read { .. });
    let mut held = Vec::new();
    let before = value_files(&engine);
    for number in 10_000..12_000 {
        let (reads, others) = engine.disk.pending.drain(..).partition(|(_, op)| is_read(op));
        if held.is_empty() {
            held = reads;
            engine.disk.pending = others;
        } else {
            engine.disk.pending = reads.into_iter().chain(others).collect::<Vec<_>>();
        }
        engine.put(number % 97, number);
        while engine.disk.pending.iter().any(|(_, op)| !is_read(op)) || engine.store.admit().is_err() {
            engine.step();
        }
    }
    engine.disk.pending.extend(held);
    engine.settle();
    assert_eq!(engine.fatal(), None);
    assert_eq!(engine.store.damaged_blocks(), 0, "nothing that was read had gone");
    for token in tokens {
        let is_answer = |event: &StoreEvent| matches!(event, StoreEvent::Got { token: of, record: Some(_), .. } if *of == token);
        assert!(engine.events.iter().any(is_answer), "every read was answered");
    }
    assert_eq!(engine.page(scan).0.len(), 97);
    let gone = before.iter().filter(|file| !value_files(&engine).contains(file)).count();
    assert!(gone > 0, "files went once nobody read them");
}

#[test]
fn a_damaged_value_is_never_shown_and_a_repair_heals_it() {
    let (engine, model) = churned(apart());
    let (mut reported, mut healed) = (0, 0);
    for file in value_files(&engine) {
        let len =
            engine.disk.contents().iter().find(|(other, _)| *other == file).map_or(0, |(_, data)| data.len());
        for offset in (32..len).step_by(211) {
            let mut engine = engine.clone();
            engine.disk.flip(file, offset);
            assert_eq!(engine.open(false), Ok(()), "values are read when they are asked for");
            for name in 0..97 {
                let number = model.newest(name);
                let wanted = (number > 0).then(|| record(name, number));
                match engine.get(&key(name)) {
                    Ok(found) => assert_eq!(found, wanted, "byte {offset} of {file}"),
                    Err(reason) => {
                        assert!(reason.contains(&format!("{file}")), "{reason}");
                        reported += 1;
                        // The same record comes from another replica.
                        engine.put(name, number);
                        assert_eq!(engine.get(&key(name)), Ok(wanted), "healed");
                        healed += 1;
                    }
                }
            }
            assert_eq!(engine.fatal(), None, "damage of a value is no reason to stop");
        }
    }
    assert!(reported > 10 && healed > 10, "{reported} reads met damage");
}

#[test]
fn a_damaged_value_does_not_stop_compaction_and_scrub_finds_it() {
    let (engine, model) = churned(apart());
    let mut found = 0;
    for file in value_files(&engine) {
        let mut engine = engine.clone();
        let mut model = model.clone();
        engine.disk.flip(file, 40);
        engine.call(|store, _| store.scrub());
        engine.settle();
        if engine.store.damaged_blocks() == 0 {
            // A dead value stood there.
            continue;
        }
        found += 1;
        assert!(engine.damage().contains(&format!("{file}")));
        for round in 0..600u64 {
            model.put(&mut engine, round % 97);
            engine.settle();
        }
        assert_eq!(engine.fatal(), None);
        model.check_all(&mut engine, "newer records need no damaged value");
        assert_eq!(engine.store.damaged_blocks(), 0, "the damaged file has gone with its last value");
    }
    assert!(found > 0);
}

/// Opens with a value file that is not what it was: what is shown is right, the rest is suspect; and brought again from
/// `whole`, it heals.
fn heals(mut engine: Engine, whole: &[(RecordKey, Record)], file: FileName, what: &str) {
    engine.open(false).unwrap_or_else(|reason| panic!("{what}: {reason}"));
    assert!(engine.damage().contains(&format!("{file}")), "{what}: {}", engine.damage());
    for (key, record) in whole {
        let found = engine.get(key);
        assert!(
            found.as_ref() == Ok(&Some(record.clone())) || engine.store.is_suspect(key),
            "{what}: {found:?}"
        );
    }
    heals_now(engine, whole, what);
}

fn heals_now(mut engine: Engine, whole: &[(RecordKey, Record)], what: &str) {
    for (key, record) in whole {
        engine.call(|store, cx| store.put(cx, key.clone(), record.clone()));
        engine.settle();
    }
    for (first, end) in engine.store.suspects() {
        engine.call(|store, _| store.heal(&first, &end));
    }
    engine.settle();
    for life in 0..2 {
        engine.call(|store, _| store.scrub());
        engine.settle();
        assert_eq!(engine.store.suspect_extent(), (0, 0), "{what}: healed, life {life}");
        assert_eq!(engine.all(50), whole, "{what}: life {life}");
        engine.open(false).unwrap_or_else(|reason| panic!("{what}: {reason}"));
    }
}

#[test]
fn a_value_file_that_is_not_what_it_was_makes_keys_suspect_until_they_are_healed() {
    let (mut engine, _) = churned(apart());
    let whole = engine.all(50);
    let files = value_files(&engine);
    assert!(files.len() > 2);
    for file in &files {
        let mut lost = engine.clone();
        lost.disk.lose(*file);
        heals(lost, &whole, *file, "a missing value file");
        for len in [0, 20, 5_000] {
            let mut cut = engine.clone();
            cut.disk.cut(*file, len);
            heals(cut, &whole, *file, "a truncated value file");
        }
        let mut flipped = engine.clone();
        flipped.disk.flip(*file, 9);
        heals(flipped, &whole, *file, "a header of another file");
    }
    let mut swapped = engine.clone();
    swapped.disk.swap(files[0], files[1]);
    swapped.open(false).expect("a start");
    assert!(swapped.damage().contains(".value"), "{}", swapped.damage());
    heals_now(swapped, &whole, "swapped value files");
}

#[test]
fn a_damaged_value_is_left_out_once_its_key_is_healed() {
    let (mut engine, _) = churned(apart());
    let whole = engine.all(50);
    let mut found = 0;
    for file in value_files(&engine) {
        let len =
            engine.disk.list().iter().find(|info| info.file == file).map_or(0, |info| info.len as usize);
        for offset in (100..len.min(8_000)).step_by(1_300) {
            let mut engine = engine.clone();
            engine.disk.flip(file, offset);
            engine.open(false).expect("a start");
            engine.call(|store, _| store.scrub());
            engine.settle();
            if engine.store.suspects().is_empty() {
                continue;
            }
            found += 1;
            heals_now(engine, &whole, "a damaged value");
        }
    }
    assert!(found > 5, "{found} damaged values were found");
}
