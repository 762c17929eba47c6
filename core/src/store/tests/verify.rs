//! What verification says of directories that are sound, and of those that are not.

use super::*;
use crate::io::{DiskError, DiskErrorKind, DiskOp, FileKind, FileName};
use crate::store::verify::{Findings, StoreVerifier};

/// Verifies the files of a disk, which it cannot change.
fn verify(disk: &TestDisk, is_fresh: bool) -> Findings {
    let mut findings = Findings::default();
    let contents: BTreeMap<FileName, Vec<u8>> = disk.contents().into_iter().collect();
    let mut verifier = StoreVerifier::new(disk.list(), is_fresh, &mut findings);
    while let Some(op) = verifier.next_read(&mut findings) {
        let DiskOp::Read { file, offset, len } = op else { panic!("verification only reads: {op:?}") };
        let Some(data) = contents.get(&file) else {
            let error = DiskError { kind: DiskErrorKind::NotFound, text: "no such file".into() };
            verifier.on_result(DiskResult::Failed(error), &mut findings);
            continue;
        };
        let start = data.len().min(offset as usize);
        let end = data.len().min(start + len as usize);
        verifier.on_result(DiskResult::Data(Bytes::copy_from_slice(&data[start..end])), &mut findings);
    }
    findings
}

/// A store at rest with tables and groups in the log, and what its verification says.
fn at_rest(seed: u64) -> (Engine, Findings) {
    let mut engine = Engine::started(small(), seed);
    for number in 1..150 {
        engine.put(number % 40, number);
        engine.settle();
    }
    let findings = verify(&engine.disk, false);
    assert_eq!(findings.damage, [], "a store at rest is sound");
    assert!(findings.tables > 1 && findings.records > 40, "{findings:?}");
    (engine, findings)
}

fn damaged_files(findings: &Findings) -> Vec<FileName> {
    findings.damage.iter().map(|finding| finding.file).collect()
}

#[test]
fn a_crash_leaves_nothing_that_verification_calls_damage() {
    for seed in 0..60 {
        let mut engine = Engine::started(small(), seed);
        let mut model = Model::default();
        for _ in 0..3 {
            for _ in 0..100 + engine.below(200) {
                if engine.store.admit().is_ok() {
                    let name = engine.below(60);
                    model.put(&mut engine, name);
                }
                engine.step();
            }
            let mut rng = engine.rng.clone();
            engine.disk.crash(&mut rng);
            engine.below(7);
            let findings = verify(&engine.disk, false);
            assert_eq!(findings.damage, [], "seed {seed}");
            assert_eq!(engine.open(false), Ok(()), "seed {seed}");
        }
    }
}

#[test]
fn a_crash_of_the_first_start_leaves_no_damage() {
    for stop in 0..30 {
        let mut engine = Engine::new(small(), 8);
        engine.call(|store, cx| store.boot(cx, true));
        while engine.disk.done < stop && engine.step() {}
        let mut rng = Rng::new([3; 32], stop as u64);
        engine.disk.crash(&mut rng);
        assert_eq!(verify(&engine.disk, true).damage, [], "after {stop} operations");
    }
}

#[test]
fn every_flipped_bit_of_a_live_file_is_found() {
    let (engine, _) = at_rest(11);
    let live: Vec<u64> = engine.store.levels.all().map(|table| table.meta.number).collect();
    let mut flips = 0;
    for (file, data) in engine.disk.contents() {
        let step = match file.kind {
            FileKind::Table if live.contains(&file.number) => 13,
            FileKind::Wal => 509,
            FileKind::Manifest => 41,
            _ => continue,
        };
        for offset in (0..data.len()).step_by(step) {
            let mut disk = engine.disk.clone();
            disk.flip(file, offset);
            let findings = verify(&disk, false);
            assert!(damaged_files(&findings).contains(&file), "{file}, byte {offset}: {findings:?}");
            flips += 1;
        }
    }
    assert!(flips > 400, "{flips} flips");
}

#[test]
fn a_damaged_block_is_told_with_its_place_and_its_keys() {
    let (mut engine, _) = at_rest(12);
    let table = engine.store.levels.all().next().expect("a table").meta.clone();
    engine.disk.flip(table.file(), 40);
    let findings = verify(&engine.disk, false);
    let [finding] = &findings.damage[..] else { panic!("{findings:?}") };
    assert_eq!((finding.file, finding.offset, finding.what.as_str()), (table.file(), Some(0), "damaged"));
    assert!(finding.means.contains("key") && finding.means.contains("(slot "), "{}", finding.means);
}

#[test]
fn what_verification_passes_starts_whole_and_everything_else_is_told() {
    let (engine, _) = at_rest(13);
    let files: Vec<FileName> = engine.disk.contents().into_iter().map(|(file, _)| file).collect();
    let (mut refused, mut suspect, mut whole) = (0, 0, 0);
    let mut compare = |disk: TestDisk, what: &str| {
        let findings = verify(&disk, false);
        let mut engine = engine.clone();
        engine.disk = disk;
        match engine.open(false) {
            Ok(()) if engine.store.suspects().is_empty() => whole += 1,
            Ok(()) => {
                suspect += 1;
                assert_ne!(findings.damage, [], "{what}: some keys are suspect");
            }
            Err(reason) => {
                refused += 1;
                assert_ne!(findings.damage, [], "{what}: the start is refused: {reason}");
            }
        }
    };
    for (at, file) in files.iter().enumerate() {
        let mut disk = engine.disk.clone();
        disk.lose(*file);
        compare(disk, "a missing file");
        for len in [0, 5, 700, 5_000] {
            let mut disk = engine.disk.clone();
            disk.cut(*file, len);
            compare(disk, "a truncated file");
        }
        for other in files[at + 1..].iter().filter(|other| other.kind == file.kind) {
            let mut disk = engine.disk.clone();
            disk.swap(*file, *other);
            compare(disk, "swapped files");
        }
    }
    assert!(refused > 5 && suspect > 20 && whole > 0, "{refused} refused, {suspect} suspect, {whole} whole");
}

#[test]
fn without_a_manifest_each_table_is_read_for_itself() {
    let (mut engine, whole) = at_rest(14);
    let table = engine.store.levels.all().next().expect("a table").meta.clone();
    engine.disk.lose(crate::store::purpose::MANIFEST);
    engine.disk.flip(table.file(), 40);
    let findings = verify(&engine.disk, false);
    assert_eq!(damaged_files(&findings), [crate::store::purpose::MANIFEST, table.file()]);
    assert!(findings.tables >= whole.tables);
}

#[test]
fn a_file_that_cannot_be_read_is_told_and_the_rest_goes_on() {
    let (engine, whole) = at_rest(15);
    let bad = engine.store.levels.all().next().expect("a table").meta.file();
    let mut findings = Findings::default();
    let contents: BTreeMap<FileName, Vec<u8>> = engine.disk.contents().into_iter().collect();
    let mut verifier = StoreVerifier::new(engine.disk.list(), false, &mut findings);
    while let Some(op) = verifier.next_read(&mut findings) {
        let DiskOp::Read { file, offset, len } = op else { panic!("{op:?}") };
        let data = &contents[&file];
        let end = data.len().min(offset as usize + len as usize);
        let result = if file == bad && offset == 0 {
            DiskResult::Failed(DiskError { kind: DiskErrorKind::Io, text: "input/output error".into() })
        } else {
            DiskResult::Data(Bytes::copy_from_slice(&data[offset as usize..end]))
        };
        verifier.on_result(result, &mut findings);
    }
    let told = findings.damage.iter().any(|finding| finding.what.contains("input/output error"));
    assert!(told && findings.tables == whole.tables, "{findings:?}");
}

#[test]
fn a_damaged_value_that_is_alive_is_told_with_its_key() {
    let options = StoreOptions { value_inline_max: 64, value_file_bytes: 12 << 10, ..small() };
    let mut engine = Engine::started(options, 16);
    for number in 1..300 {
        engine.put(number % 40, number);
        engine.settle();
    }
    assert_eq!(verify(&engine.disk, false).damage, []);
    let (mut told, mut unread) = (0, 0);
    for (file, data) in engine.disk.contents().into_iter().filter(|(file, _)| file.kind == FileKind::Value) {
        for offset in [9].into_iter().chain((32..data.len()).step_by(301)) {
            let mut disk = engine.disk.clone();
            disk.flip(file, offset);
            let findings = verify(&disk, false);
            match &findings.damage[..] {
                // Dead values, and the space between two appends, are not read.
                [] => unread += 1,
                [finding] if offset < 32 => assert_eq!((finding.file, finding.offset), (file, Some(0))),
                [finding, ..] => {
                    told += 1;
                    assert!(finding.file == file && finding.means.contains("key-"), "{finding:?}");
                }
            }
        }
    }
    assert!(told > 10 && unread < 10 * told, "{told} told, {unread} unread");
}
