//! Files that are not as they were written: what the operator sees, and that nothing is touched.

use super::*;
use crate::io::{FileKind, FileName};

/// A store at rest with tables, a manifest and several groups in the log.
fn at_rest() -> Engine {
    let mut engine = Engine::started(small(), 11);
    for number in 1..150 {
        engine.put(number % 40, number);
        engine.settle();
    }
    assert!(engine.counters.value(Counter::MemtableFlushed) > 0);
    engine
}

fn files(engine: &Engine, kind: FileKind) -> Vec<(FileName, Vec<u8>)> {
    engine.disk.contents().into_iter().filter(|(file, _)| file.kind == kind).collect()
}

/// Opens, and demands that the start is refused with the file's name and that nothing is changed.
pub(super) fn is_refused(mut engine: Engine, file: FileName, what: &str) {
    let before = engine.disk.contents();
    let reason = engine.open(false).expect_err(what);
    assert!(reason.contains(&format!("{file}")), "{what}: {reason}");
    assert_eq!(engine.disk.contents(), before, "{what}: a refused directory is left as it is");
}

/// Opens, and demands that the damage is told with the file's name, that what is shown is right, and that every key of
/// which something is missing is suspect.
fn is_suspect(mut engine: Engine, file: FileName, what: &str) -> Engine {
    engine.open(false).unwrap_or_else(|reason| panic!("{what}: {reason}"));
    assert!(engine.damage().contains(&format!("{file}")), "{what}: {}", engine.damage());
    shows_no_loss(&mut engine, what);
    engine
}

/// A key that is not suspect shows the newest record that was put.
fn shows_no_loss(engine: &mut Engine, what: &str) {
    for name in 0..40 {
        let wanted = record(name, newest(name));
        match engine.get(&key(name)) {
            Ok(Some(found)) if found == wanted => {}
            other => assert!(engine.store.is_suspect(&key(name)), "{what}: key {name} shows {other:?}"),
        }
    }
}

/// The last ballot that `at_rest` put for a key.
fn newest(name: u64) -> u64 {
    (1..150).filter(|number| number % 40 == name).max().unwrap_or(0)
}

/// Brings everything again that is suspect, and demands that nothing of the damage is left, not even after a restart.
fn heals(mut engine: Engine, what: &str) {
    for name in 0..40 {
        engine.put(name, newest(name));
        engine.settle();
    }
    let suspects = engine.store.suspects();
    assert!(!suspects.is_empty(), "{what}: something was suspect");
    for (first, end) in suspects {
        engine.call(|store, _| store.heal(&first, &end));
    }
    engine.settle();
    for life in 0..2 {
        assert_eq!(engine.store.suspect_extent(), (0, 0), "{what}: healed, life {life}");
        engine.call(|store, _| store.scrub());
        engine.settle();
        assert_eq!(engine.store.damaged_blocks(), 0, "{what}: scrub finds nothing, life {life}");
        is_whole(&mut engine, what);
        assert_eq!(engine.fatal(), None);
        engine.open(false).unwrap_or_else(|reason| panic!("{what}: {reason}"));
    }
}

#[test]
fn a_missing_manifest_is_refused_by_name() {
    let engine = at_rest();
    for (file, _) in files(&engine, FileKind::Manifest) {
        let mut engine = engine.clone();
        engine.disk.lose(file);
        is_refused(engine, file, "a missing file");
    }
}

#[test]
fn the_keys_of_a_missing_table_are_suspect_until_they_are_healed() {
    let engine = at_rest();
    for (file, _) in files(&engine, FileKind::Table) {
        let mut engine = engine.clone();
        engine.disk.lose(file);
        heals(is_suspect(engine, file, "a missing table"), "a missing table");
    }
}

#[test]
fn suspicion_outlives_the_damage_and_restarts() {
    let engine = at_rest();
    let live = engine.store.segments.iter().map(|(number, _)| *number).collect::<Vec<_>>();
    let page_of = |(file, data): &(FileName, Vec<u8>)| {
        live.contains(&file.number) && data[4..8] == (file.number as u32).to_le_bytes()
    };
    let (file, _) = files(&engine, FileKind::Wal).into_iter().find(page_of).expect("a live segment");
    let mut engine = engine.clone();
    engine.disk.flip(file, 700);
    let mut engine = is_suspect(engine, file, "a damaged group");
    engine.settle();
    engine.put(1, newest(1));
    engine.settle();
    assert!(!files(&engine, FileKind::Wal).iter().any(|(other, _)| *other == file), "the segment is gone");
    for _ in 0..3 {
        engine.open(false).expect("a start");
        engine.settle();
        assert!((0..40).all(|name| engine.store.is_suspect(&key(name))), "and what it held is still suspect");
        assert!(engine.events.contains(&StoreEvent::Suspect));
    }
    heals(engine, "a damaged group");
}

#[test]
fn a_missing_segment_makes_everything_suspect() {
    let options = StoreOptions { memtable_bytes: 1 << 20, wal_segment_bytes: 16 << 10, ..small() };
    let mut engine = Engine::started(options, 12);
    for number in 1..60 {
        engine.put(number, number);
        engine.settle();
    }
    let used = |(_, data): &(FileName, Vec<u8>)| data.iter().any(|byte| *byte != 0);
    let segments: Vec<_> = files(&engine, FileKind::Wal).into_iter().filter(used).collect();
    assert!(segments.len() > 3);
    for (file, _) in &segments[..segments.len() - 1] {
        let mut engine = engine.clone();
        engine.disk.lose(*file);
        engine.open(false).expect("a start");
        assert!(engine.damage().contains(".wal"), "{}", engine.damage());
        assert!((1..60).all(|name| engine.store.is_suspect(&key(name))));
        let left = (1..60).filter(|name| engine.get(&key(*name)) == Ok(Some(record(*name, *name)))).count();
        assert!(left > 20 && left < 59, "{left} of 59 keys are left");
    }
}

/// Demands that nothing which `at_rest` put is missing.
fn is_whole(engine: &mut Engine, context: &str) {
    for name in 0..40 {
        assert_eq!(engine.get(&key(name)), Ok(Some(record(name, newest(name)))), "{context}: key {name}");
    }
}

#[test]
fn a_truncated_file_makes_its_keys_suspect() {
    let engine = at_rest();
    for (file, data) in files(&engine, FileKind::Table) {
        for len in [0, 5, data.len() / 2, data.len() - 1] {
            let mut engine = engine.clone();
            engine.disk.cut(file, len);
            heals(is_suspect(engine, file, "a truncated table"), "a truncated table");
        }
    }
    for (number, _) in engine.store.segments.clone() {
        let file = FileName::new(FileKind::Wal, number);
        let mut engine = engine.clone();
        engine.disk.cut(file, 5_000);
        heals(is_suspect(engine, file, "a truncated segment"), "a truncated segment");
    }
}

#[test]
fn a_truncated_manifest_is_refused_or_loses_nothing() {
    let engine = at_rest();
    let (file, data) = files(&engine, FileKind::Manifest).remove(0);
    let mut refused = 0;
    for len in (0..data.len()).step_by(512) {
        let mut engine = engine.clone();
        engine.disk.cut(file, len);
        let before = engine.disk.contents();
        match engine.open(false) {
            // The edits that are gone named nothing that has been used.
            Ok(()) => is_whole(&mut engine, "a truncated manifest"),
            Err(reason) => {
                refused += 1;
                assert!(reason.contains("manifest") || reason.contains("missing"), "{reason}");
                assert_eq!(engine.disk.contents(), before, "a refused directory is left as it is");
            }
        }
    }
    assert!(refused > 8, "{refused} refused");
}

#[test]
fn swapped_segments_are_refused_and_swapped_tables_are_suspect() {
    let engine = at_rest();
    for kind in [FileKind::Table, FileKind::Wal] {
        let live = |file: &FileName| match kind {
            FileKind::Wal => engine.store.tail.is_some_and(|tail| tail.segment == file.number),
            _ => true,
        };
        let (one, _) = files(&engine, kind).into_iter().find(|(file, _)| live(file)).expect("a live file");
        for (other, _) in files(&engine, kind).into_iter().filter(|(other, _)| *other != one) {
            let mut engine = engine.clone();
            engine.disk.swap(one, other);
            let before = engine.disk.contents();
            // Whole files under each other's names can be given them back.
            if let Err(reason) = engine.open(false) {
                assert!(kind == FileKind::Wal && reason.contains(kind.suffix()), "{reason}");
                assert_eq!(engine.disk.contents(), before, "a refused directory is left as it is");
            } else {
                assert_eq!(kind, FileKind::Table);
                shows_no_loss(&mut engine, "swapped tables");
                heals(engine, "swapped tables");
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_the_manifest_is_refused() {
    let engine = at_rest();
    for (file, data) in files(&engine, FileKind::Manifest) {
        for offset in (0..data.len()).step_by(7) {
            let mut engine = engine.clone();
            engine.disk.flip(file, offset);
            is_refused(engine, file, "a flipped bit in the manifest");
        }
    }
}

#[test]
fn a_flipped_bit_in_an_acknowledged_group_makes_everything_suspect() {
    const PAGE: usize = 4096;
    let engine = at_rest();
    let live: Vec<u64> = engine.store.segments.iter().map(|(number, _)| *number).collect();
    let mut segments = files(&engine, FileKind::Wal);
    segments.retain(|(file, _)| live.contains(&file.number));
    let mut checked = 0;
    for (file, data) in &segments {
        for page in (0..data.len() / PAGE).filter(|page| data[page * PAGE..][..8].iter().any(|b| *b != 0)) {
            for offset in [0, 9, 33, 60, 700, 4095] {
                let mut engine = engine.clone();
                engine.disk.flip(*file, page * PAGE + offset);
                // A recycled segment's old pages say nothing, whatever is in them.
                if data[page * PAGE + 4..][..4] == (file.number as u32).to_le_bytes() {
                    let engine = is_suspect(engine, *file, "a flipped bit in the log");
                    assert!((0..40).all(|name| engine.store.is_suspect(&key(name))));
                    heals(engine, "a flipped bit in the log");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 5, "groups were there to be damaged");
}

#[test]
fn a_flipped_bit_in_a_table_is_never_shown_is_reported_and_heals() {
    let engine = at_rest();
    let mut reported = 0;
    for (file, data) in files(&engine, FileKind::Table) {
        for offset in (0..data.len()).step_by(13) {
            let mut engine = engine.clone();
            engine.disk.flip(file, offset);
            engine.open(false).expect("damage of a table is no reason to refuse the start");
            shows_no_loss(&mut engine, &format!("byte {offset} of {file}"));
            assert_eq!(engine.fatal(), None, "damage of a block is no reason to stop");
            if engine.store.suspects().is_empty() {
                // Nobody has read the block: scrub does.
                engine.call(|store, _| store.scrub());
                engine.settle();
            }
            assert!(engine.damage().contains(&format!("{file}")), "{}", engine.damage());
            reported += 1;
            if offset.is_multiple_of(5) {
                heals(engine, &format!("byte {offset} of {file}"));
            }
        }
    }
    assert!(reported > 10, "{reported} flipped bits were reported");
}

#[test]
fn scrub_finds_a_flipped_bit_that_nobody_reads_and_the_rest_goes_on() {
    let engine = at_rest();
    let mut engine_at_rest = engine.clone();
    engine_at_rest.call(|store, _| store.scrub());
    engine_at_rest.settle();
    assert_eq!(engine_at_rest.store.scrubbed(), (1, false));
    assert_eq!(engine_at_rest.store.damaged_blocks(), 0, "nothing is damaged");
    let (file, _) = files(&engine, FileKind::Table).remove(0);
    let mut engine = engine.clone();
    engine.disk.flip(file, 30);
    engine.call(|store, _| store.scrub());
    engine.settle();
    assert!(engine.damage().contains(&format!("{file}")));
    assert_eq!((engine.store.damaged_blocks(), engine.fatal()), (1, None));
    // Flushes and compactions of what is sound go on; the damaged table stays for its repair.
    for number in 1_000..1_400 {
        engine.put(number % 40, number);
        engine.settle();
    }
    assert_eq!(engine.fatal(), None);
    assert!(files(&engine, FileKind::Table).iter().any(|(other, _)| *other == file));
    for name in 0..40 {
        let number = (1_000..1_400).filter(|number| number % 40 == name).max().unwrap_or(0);
        assert_eq!(
            engine.get(&key(name)),
            Ok(Some(record(name, number))),
            "newer records need no damaged block"
        );
    }
}

#[test]
fn a_fresh_directory_with_data_is_refused() {
    let mut engine = at_rest();
    let before = engine.disk.contents();
    let reason = engine.open(true).expect_err("data without identity");
    assert!(reason.contains("identity"), "{reason}");
    assert_eq!(engine.disk.contents(), before);
}
