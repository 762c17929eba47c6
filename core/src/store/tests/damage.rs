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
fn is_refused(mut engine: Engine, file: FileName, what: &str) {
    let before = engine.disk.contents();
    let reason = engine.open(false).expect_err(what);
    assert!(reason.contains(&format!("{file}")), "{what}: {reason}");
    assert_eq!(engine.disk.contents(), before, "{what}: a refused directory is left as it is");
}

#[test]
fn a_missing_file_is_refused_by_name() {
    let engine = at_rest();
    for kind in [FileKind::Manifest, FileKind::Table] {
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

#[test]
fn a_truncated_file_is_refused_by_name() {
    let engine = at_rest();
    for kind in [FileKind::Manifest, FileKind::Table] {
        for (file, data) in files(&engine, kind) {
            for len in [0, 5, data.len() / 2] {
                let mut engine = engine.clone();
                engine.disk.cut(file, len);
                is_refused(engine, file, "a truncated file");
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
fn a_flipped_bit_in_an_acknowledged_group_is_refused() {
    const PAGE: usize = 4096;
    let engine = at_rest();
    let segments: Vec<_> =
        files(&engine, FileKind::Wal).into_iter().filter(|(_, data)| data.iter().any(|b| *b != 0)).collect();
    let (last, _) = segments.last().expect("a segment in use").clone();
    for (file, data) in &segments {
        let used: Vec<usize> = (0..data.len() / PAGE)
            .filter(|page| data[page * PAGE..][..PAGE].iter().any(|b| *b != 0))
            .collect();
        // The last group of all cannot be told from one that was torn.
        let checked = if *file == last { &used[..used.len().saturating_sub(1)] } else { &used[..] };
        for page in checked {
            for offset in [0, 9, 33, 60] {
                let mut engine = engine.clone();
                engine.disk.flip(*file, page * PAGE + offset);
                is_refused(engine, *file, "a flipped bit in the log");
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_a_table_is_never_shown() {
    let engine = at_rest();
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
                        break;
                    }
                }
            }
        }
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
