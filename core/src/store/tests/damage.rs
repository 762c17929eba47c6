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

#[test]
fn a_missing_file_is_refused_by_name() {
    let engine = at_rest();
    for kind in [FileKind::Manifest, FileKind::Table, FileKind::Value] {
        assert!(!files(&engine, kind).is_empty());
        for (file, _) in files(&engine, kind) {
            let mut engine = engine.clone();
            engine.disk.lose(file);
            is_refused(engine, file, "a missing file");
        }
    }
}

#[test]
fn a_missing_segment_is_refused() {
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
        let before = engine.disk.contents();
        let reason = engine.open(false).expect_err("a missing segment");
        assert!(reason.contains(".wal"), "{reason}");
        assert_eq!(engine.disk.contents(), before);
    }
}

/// Demands that nothing which `at_rest` put is missing.
fn is_whole(engine: &mut Engine, context: &str) {
    for name in 0..40 {
        let number = (1..150).filter(|number| number % 40 == name).max().unwrap_or(0);
        assert_eq!(engine.get(&key(name)), Ok(Some(record(name, number))), "{context}: key {name}");
    }
}

#[test]
fn a_truncated_file_is_refused_by_name() {
    let engine = at_rest();
    for (file, data) in files(&engine, FileKind::Table) {
        for len in [0, 5, data.len() / 2, data.len() - 1] {
            let mut engine = engine.clone();
            engine.disk.cut(file, len);
            is_refused(engine, file, "a truncated file");
        }
    }
    for (number, _) in engine.store.segments.clone() {
        let file = FileName::new(FileKind::Wal, number);
        let mut engine = engine.clone();
        engine.disk.cut(file, 5_000);
        is_refused(engine, file, "a truncated segment");
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
fn swapped_files_are_refused_by_name() {
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
            let reason = engine.open(false).expect_err("swapped files");
            assert!(reason.contains(kind.suffix()), "{reason}");
            assert_eq!(engine.disk.contents(), before, "a refused directory is left as it is");
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
fn a_flipped_bit_in_an_acknowledged_group_is_refused() {
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
                    is_refused(engine, *file, "a flipped bit in the log");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 5, "groups were there to be damaged");
}

#[test]
fn a_flipped_bit_in_a_table_is_never_shown_and_is_reported() {
    let engine = at_rest();
    let mut reported = 0;
    for (file, data) in files(&engine, FileKind::Table) {
        for offset in (0..data.len()).step_by(13) {
            let mut engine = engine.clone();
            engine.disk.flip(file, offset);
            let before = engine.disk.contents();
            if let Err(reason) = engine.open(false) {
                assert!(reason.contains(&format!("{file}")), "{reason}");
                assert_eq!(engine.disk.contents(), before, "a refused directory is left as it is");
                continue;
            }
            for name in 0..40 {
                match engine.get(&key(name)) {
                    Ok(found) => {
                        let number = (1..150).filter(|number| number % 40 == name).max().unwrap_or(0);
                        assert_eq!(found, Some(record(name, number)), "byte {offset} of {file}");
                    }
                    Err(reason) => {
                        assert!(reason.contains(&format!("{file}")), "{reason}");
                        reported += 1;
                    }
                }
            }
            assert_eq!(engine.fatal(), None, "damage of a block is no reason to stop");
        }
    }
    assert!(reported > 10, "{reported} reads met damage");
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
