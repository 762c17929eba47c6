//! Operations of the disk that fail, for each kind of file: what the operator is told, what a client can still have, and
//! that nothing that was acknowledged is lost.

use super::*;
use crate::io::{FileKind, FileName};
use crate::store::table::{FOOTER, Footer};

/// A store at rest that has files of every kind, and does not keep in memory what is in its tables.
fn at_rest() -> (Engine, Model) {
    let options =
        StoreOptions { cache_bytes: 0, value_inline_max: 64, value_file_bytes: 12 << 10, ..small() };
    let (mut engine, mut model) = (Engine::started(options, 41), Model::default());
    for number in 0..400 {
        model.put(&mut engine, number % 60);
        engine.settle();
    }
    for kind in [FileKind::Wal, FileKind::Table, FileKind::Value, FileKind::Manifest] {
        assert!(engine.disk.list().iter().any(|info| info.file.kind == kind), "{kind:?}");
    }
    (engine, model)
}

/// Reads every key: how many could not be read. What was read is right.
fn unreadable(engine: &mut Engine, model: &Model, kind: FileKind) -> Vec<u64> {
    let mut unread = Vec::new();
    for name in 0..60 {
        match engine.get(&key(name)) {
            Ok(found) => assert_eq!(found, Some(record(name, model.newest(name))), "key {name}"),
            Err(reason) => {
                assert!(reason.contains(kind.suffix()) && reason.contains("injected"), "{reason}");
                unread.push(name);
            }
        }
        assert_eq!(engine.fatal(), None, "an unreadable block is no reason to stop");
    }
    unread
}

#[test]
fn what_cannot_be_read_is_refused_by_name_and_is_damage_only_if_it_lasts() {
    for kind in [FileKind::Table, FileKind::Value] {
        let (mut engine, model) = at_rest();
        engine.disk.faults.read = Some(kind);
        let unread = unreadable(&mut engine, &model, kind);
        assert!(unread.len() > 10, "{kind:?}: {unread:?}");
        let is_suspect = |engine: &Engine, name: &u64| engine.store.is_suspect(&key(*name));
        assert!(!unread.iter().any(|name| is_suspect(&engine, name)), "a disk may recover");

        // The disk gives everything back: nothing was lost, nobody has to do anything.
        let mut recovered = engine.clone();
        recovered.disk.faults.read = None;
        recovered.now_ms += 20_000;
        assert_eq!(unreadable(&mut recovered, &model, kind), [], "{kind:?}");
        assert_eq!(
            recovered.store.damaged_blocks(),
            0,
            "{kind:?}: what was read again is not reported any more"
        );
        assert_eq!(recovered.store.status().damage, [], "{kind:?}");

        // It does not: half a minute after the first time that counts as damage.
        engine.now_ms += 31_000;
        engine.events.clear();
        assert_eq!(unreadable(&mut engine, &model, kind), unread);
        assert!(unread.iter().all(|name| is_suspect(&engine, name)), "{kind:?}: R6");
    }
}

#[test]
fn a_start_that_cannot_read_a_file_is_refused_by_name_and_changes_nothing() {
    for kind in [FileKind::Manifest, FileKind::Wal, FileKind::Table, FileKind::Value] {
        let (mut engine, model) = at_rest();
        engine.settle();
        let before = engine.disk.contents();
        engine.disk.faults.read = Some(kind);
        let reason = engine.open(false).expect_err("a start");
        assert!(reason.contains(&format!(".{}", kind.suffix())) && reason.contains("injected"), "{reason}");
        assert!(reason.contains("check the disk and start again"), "{reason}");
        assert_eq!(engine.disk.contents(), before, "{kind:?}: the directory is left as it is");
        // It may be read the next time.
        engine.disk.faults.read = None;
        engine.disk.pending.clear();
        assert_eq!(engine.open(false), Ok(()));
        model.check_all(&mut engine, "after a start that was refused");
    }
}

#[test]
fn compaction_leaves_what_it_cannot_read_and_takes_it_up_again_later() {
    for kind in [FileKind::Table, FileKind::Value] {
        let (mut engine, mut model) = at_rest();
        engine.disk.faults.read = Some(kind);
        for round in 0..900u64 {
            if engine.store.admit().is_ok() {
                model.put(&mut engine, if round % 3 == 0 { round % 60 } else { round % 7 });
            }
            engine.settle();
            engine.now_ms += 5;
        }
        assert_eq!(engine.fatal(), None, "{kind:?}");
        assert!(engine.disk.faults.injected > 3, "{kind:?}: merges met it");
        engine.disk.faults.read = None;
        let before = engine.counters.value(Counter::CompactionFinished);
        for _ in 0..20 {
            engine.now_ms += 11_000;
            engine.call(|_, _| ());
            engine.settle();
        }
        let merged = engine.counters.value(Counter::CompactionFinished) - before;
        // Merges that need no value have gone on all the time.
        assert!(merged > 0 || kind == FileKind::Value, "what was left is taken up");
        assert_eq!((engine.store.admit(), engine.store.suspect_extent()), (Ok(()), (0, 0)), "{kind:?}");
        model.check_all(&mut engine, "once the disk reads again");
        engine.call(|store, _| store.scrub());
        engine.settle();
        assert_eq!(engine.store.damaged_blocks(), 0, "{kind:?}: all was read again");
    }
}

/// Puts until the store stops; why it did, and what was durable by then.
fn until_fatal(engine: &mut Engine, model: &mut Model) -> String {
    for round in 0..4_000u64 {
        if engine.store.admit().is_ok() {
            model.put(engine, round % 60);
        }
        (0..4).for_each(|_| {
            engine.step();
        });
        if let Some(reason) = engine.fatal() {
            return reason.clone();
        }
    }
    panic!("the store went on");
}

#[test]
fn a_failed_write_or_sync_of_any_file_stops_the_store_by_name_and_loses_nothing() {
    let kinds = [FileKind::Wal, FileKind::Table, FileKind::Value, FileKind::Manifest].map(Some);
    for kind in kinds.into_iter().chain([None]) {
        for subset in 0..8u8 {
            let (mut engine, mut model) = at_rest();
            match kind {
                Some(_) => engine.disk.faults.sync = kind,
                None => engine.disk.faults.dir_sync = true,
            }
            let reason = until_fatal(&mut engine, &mut model);
            let what = format!("{kind:?}, subset {subset}: {reason}");
            assert!(kind.is_none_or(|kind| reason.contains(&format!(".{}", kind.suffix()))), "{what}");
            assert!(reason.contains("injected") && reason.contains("check the disk"), "{what}");
            let durable = engine.store.durable();
            // Nothing is acknowledged from now on.
            engine.put(1, 1_000_000);
            (0..50).for_each(|_| {
                engine.step();
            });
            let said = engine.events.iter().position(|event| matches!(event, StoreEvent::Fatal(_)));
            let after = &engine.events[said.expect("it was told")..];
            let acknowledged = after
                .iter()
                .filter_map(|event| if let StoreEvent::Durable(lsn) = event { Some(*lsn) } else { None });
            if kind == Some(FileKind::Wal) {
                assert_eq!(
                    acknowledged.max(),
                    None,
                    "{what}: nothing is durable after a failed sync of the log"
                );
            }
            let mut rng = Rng::new([subset; 32], 0);
            engine.disk.crash(&mut rng);
            engine.disk.faults = disk::Faults::default();
            assert_eq!(engine.open(false), Ok(()), "{what}");
            model.keys.entry(1).or_default().1.push((1_000_000, Lsn(u64::MAX)));
            model.check_recovered(&mut engine, durable, &what);
        }
    }
}

#[test]
fn a_failed_write_of_a_new_manifest_refuses_the_start_and_the_old_one_stays() {
    let (mut engine, model) = at_rest();
    let manifest = FileName::new(FileKind::Manifest, 0);
    let old = |engine: &Engine| engine.disk.contents().into_iter().find(|(file, _)| *file == manifest);
    let before = old(&engine);
    engine.disk.faults.sync = Some(FileKind::Temp);
    let reason = engine.open(false).expect_err("a start writes its manifest anew");
    assert!(reason.contains(".temp") && reason.contains("injected"), "{reason}");
    assert_eq!(old(&engine), before, "the old manifest stays");
    engine.disk.faults.sync = None;
    engine.disk.pending.clear();
    assert_eq!(engine.open(false), Ok(()));
    model.check_all(&mut engine, "after a start that was refused");
}

#[test]
fn a_disk_that_has_no_room_for_one_kind_of_file_refuses_values_and_serves_on() {
    for kind in [FileKind::Wal, FileKind::Table, FileKind::Value, FileKind::Manifest, FileKind::Temp] {
        let (mut engine, mut model) = at_rest();
        engine.disk.faults.full_for = Some(kind);
        let mut refused = 0;
        for round in 0..2_500u64 {
            match engine.store.admit() {
                Ok(()) => model.put(&mut engine, round % 60),
                // A full disk still takes what makes room.
                Err(Pressure::Full) => refused += 1,
                Err(Pressure::Busy) => {}
            }
            engine.settle();
            engine.now_ms += 1;
            if round % 50 == 0 {
                let name = round % 60;
                let newest = Some(record(name, model.newest(name)));
                assert_eq!(engine.get(&key(name)), Ok(newest), "{kind:?}: reads go on");
            }
        }
        assert_eq!(engine.fatal(), None, "{kind:?}: a full disk is no reason to stop");
        // A manifest that cannot grow is written anew: that needs a file of another name, which has room here.
        let is_met = if kind == FileKind::Temp { engine.disk.faults.injected > 0 } else { refused > 10 };
        assert!(is_met || kind == FileKind::Manifest, "{kind:?}: {refused} times refused");
        assert!(engine.disk.faults.injected > 0, "{kind:?}");
        engine.disk.faults = disk::Faults::default();
        for _ in 0..6 {
            engine.now_ms += 2_000;
            engine.call(|_, _| ());
            engine.settle();
        }
        assert_eq!(engine.store.admit(), Ok(()), "{kind:?}: there is room again");
        model.check_all(&mut engine, "after the disk was full");
        let mut rng = Rng::new([5; 32], 0);
        let durable = engine.store.durable();
        engine.disk.crash(&mut rng);
        assert_eq!(engine.open(false), Ok(()), "{kind:?}");
        model.check_recovered(&mut engine, durable, "after a crash");
    }
}

#[test]
fn a_flipped_bit_in_the_footer_filter_or_index_of_a_table_makes_all_its_keys_suspect() {
    let (engine, _) = at_rest();
    let mut flips = 0;
    for table in engine.store.levels.all() {
        let (file, meta) = (table.meta.file(), table.meta.clone());
        let data =
            engine.disk.contents().into_iter().find(|(other, _)| *other == file).expect("it is there").1;
        let end = meta.len as usize - FOOTER;
        let footer = Footer::decode(meta.number, meta.len, &data[end..]).expect("it is sound");
        let parts = footer.parts_at as usize;
        // Filters and indexes lie between the blocks and the footer: some of their bytes, and all of the footer's.
        for offset in (parts..end).step_by(3).chain(end..meta.len as usize) {
            let mut engine = engine.clone();
            engine.disk.flip(file, offset);
            assert_eq!(engine.open(false), Ok(()), "byte {offset} of {file}: no reason to refuse the start");
            assert!(engine.damage().contains(&format!("{file}")), "{}", engine.damage());
            let (first, last) =
                (super::super::entry::decode_key(&meta.first), super::super::entry::decode_key(&meta.last));
            let all = (0..60).map(key).filter(|key| {
                (first.slot, &first.key) <= (key.slot, &key.key)
                    && (key.slot, &key.key) <= (last.slot, &last.key)
            });
            for key in all {
                assert!(engine.store.is_suspect(&key), "byte {offset} of {file}: {key:?} may be older here");
            }
            flips += 1;
        }
    }
    assert!(flips > 100, "{flips} flips");
}

#[test]
fn an_operation_that_never_ends_is_named_whatever_its_file_is() {
    for kind in [FileKind::Wal, FileKind::Table, FileKind::Value, FileKind::Manifest] {
        let (mut engine, mut model) = at_rest();
        let is_held = |op: &crate::io::DiskOp| op.file().is_some_and(|file| file.kind == kind);
        for round in 0..400 {
            if engine.store.admit().is_ok() {
                model.put(&mut engine, round % 60);
            }
            if let Some(at) = engine.disk.pending.iter().position(|(_, op)| !is_held(op)) {
                engine.complete(at);
            }
        }
        while let Some(at) = engine.disk.pending.iter().position(|(_, op)| !is_held(op)) {
            engine.complete(at);
        }
        let (_, file, what) = engine.store.oldest_operation().expect("an operation waits");
        assert_eq!(file.kind, kind, "{what}");
        assert_eq!(engine.fatal(), None, "the store itself only waits");
    }
}
