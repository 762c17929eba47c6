//! A disk that is really full: what is refused, what goes on, and how deletes and compaction make room again.

use super::*;

/// Large beside the manifest, which may grow to 256 KiB before it is replaced.
const CAPACITY: usize = 2 << 20;
const RESERVE: u64 = 512 << 10;

fn name(number: u64) -> RecordKey {
    RecordKey { slot: Slot((number % 5) as u16), key: Bytes::from(format!("key-{number:05}")) }
}

fn value(number: u64, ballot: u64, is_there: bool) -> Record {
    let ballot = Stamp { hlc: Hlc(ballot), node: NodeId(1) };
    // Bytes that do not compress.
    let byte =
        |at: u64| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(at * at * 0x85eb) >> 11) as u8;
    let value = is_there.then(|| (0..900).map(byte).collect::<Vec<u8>>().into());
    Record { ballot, written: ballot, value, ..Record::default() }
}

/// Lets all that can be done be done, while time goes on.
fn pass(engine: &mut Engine, rounds: u64) {
    for _ in 0..rounds {
        engine.settle();
        engine.now_ms += 600;
        engine.call(|_, _| ());
    }
    engine.settle();
    assert_eq!(engine.fatal(), None);
}

/// Puts new keys until the disk takes no more. How many were taken.
fn fill(engine: &mut Engine, above: u64) -> u64 {
    let mut taken = 0;
    let mut refused = 0;
    while refused < 5 {
        if engine.store.admit().is_ok() {
            refused = 0;
            taken += 1;
            engine.call(|store, cx| store.put(cx, name(taken), value(taken, above + taken, true)));
            engine.settle();
        } else {
            assert_eq!(engine.store.admit(), Err(Pressure::Full));
            refused += 1;
            pass(engine, 1);
        }
        assert!(taken < 10_000, "the disk never fills");
    }
    taken
}

fn full(reserve_bytes: u64) -> (Engine, u64) {
    let mut engine = Engine::new(StoreOptions { reserve_bytes, ..small() }, 31);
    engine.disk.faults.capacity = Some(CAPACITY);
    assert_eq!(engine.open(true), Ok(()));
    pass(&mut engine, 2);
    let taken = fill(&mut engine, 0);
    assert!(taken > 100, "{taken} keys were taken");
    (engine, taken)
}

fn is_all_there(engine: &mut Engine, taken: u64) {
    for number in 1..=taken {
        assert_eq!(engine.get(&name(number)), Ok(Some(value(number, number, true))), "key {number}");
    }
}

/// Tombstones, which a full disk still takes, for every key.
fn delete_all(engine: &mut Engine, taken: u64, cycle: u64) {
    let above = cycle * 10_000_000 - 1_000_000;
    for number in 1..=taken {
        engine.call(|store, cx| store.put(cx, name(number), value(number, above + number, false)));
        engine.settle();
        engine.now_ms += 40;
    }
    for slot in 0..5 {
        engine.store.set_watermark(Slot(slot), Stamp::upto(Hlc(above + taken)), taken / 5);
    }
}

#[test]
fn without_a_reserve_nothing_is_lost_and_space_from_outside_ends_it() {
    let (mut engine, taken) = full(0);
    is_all_there(&mut engine, taken);
    delete_all(&mut engine, taken, 1);
    pass(&mut engine, 20);
    for number in 1..=taken {
        let found = engine.get(&name(number)).expect("reads go on");
        assert!(found.is_none_or(|record| record.value.is_none()), "key {number} was deleted");
    }
    engine.disk.faults.capacity = Some(4 * CAPACITY);
    pass(&mut engine, 60);
    assert_eq!(engine.store.admit(), Ok(()), "the operator has made room");
    engine.call(|store, cx| store.put(cx, name(1), value(1, 20_000_000, true)));
    pass(&mut engine, 2);
    assert_eq!(engine.get(&name(1)), Ok(Some(value(1, 20_000_000, true))));
}

#[test]
fn deletes_make_room_for_the_reserve_again_and_then_values_are_taken() {
    let (mut engine, mut taken) = full(RESERVE);
    let first = taken;
    is_all_there(&mut engine, taken);
    for cycle in 1..=4 {
        delete_all(&mut engine, taken, cycle);
        pass(&mut engine, 40);
        assert_eq!(engine.store.admit(), Ok(()), "cycle {cycle}: {:?}", engine.disk.list());
        for number in 1..=taken {
            let found = engine.get(&name(number)).expect("reads go on");
            assert!(found.is_none_or(|record| record.value.is_none()), "key {number} was deleted");
        }
        taken = fill(&mut engine, cycle * 10_000_000);
        assert!(taken * 10 >= first * 9, "cycle {cycle}: {taken} keys were taken, and {first} at first");
    }
}

#[test]
fn a_store_that_has_its_reserve_starts_on_a_disk_without_a_byte_left() {
    for reserve in [RESERVE, 0] {
        let mut engine = Engine::started(StoreOptions { reserve_bytes: reserve, ..small() }, 32);
        for number in 1..=60 {
            engine.call(|store, cx| store.put(cx, name(number), value(number, number, true)));
            engine.settle();
        }
        let mut rng = Rng::new([4; 32], 0);
        engine.disk.kill(&mut rng);
        engine.disk.faults.capacity = Some(engine.disk.used());
        match engine.open(false) {
            Ok(()) => is_all_there(&mut engine, 60),
            Err(reason) => {
                assert!(reserve == 0 && reason.contains("no space left"), "reserve {reserve}: {reason}");
            }
        }
    }
}
