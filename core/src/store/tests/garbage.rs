//! G2: space comes back when a watermark rises, without a further write.

use super::*;

fn tombstone(number: u64) -> Record {
    Record { ballot: ballot(number), written: ballot(number), ..Record::default() }
}

#[test]
fn g2_what_lies_below_a_watermark_is_dropped_and_its_space_comes_back() {
    for seed in 0..4 {
        let mut engine = Engine::started(small(), seed);
        for name in 0..300 {
            engine.put(name, 1_000 + name);
            engine.settle();
        }
        for name in 0..300 {
            engine.call(|store, cx| store.put(cx, key(name), tombstone(2_000 + name)));
            engine.settle();
        }
        assert_eq!(engine.counters.value(Counter::TombstoneDropped), 0, "no watermark, nothing goes");
        let (_, before) = engine.store.tables();
        for slot in 0..5 {
            // The tombstones of the last keys are above it.
            let upto = Stamp { hlc: Hlc(2_199), node: NodeId(u16::MAX) };
            engine.call(|store, _| store.set_watermark(Slot(slot), upto, 40));
        }
        engine.settle();
        let dropped = engine.counters.value(Counter::TombstoneDropped);
        let (_, after) = engine.store.tables();
        assert!(dropped >= 150, "seed {seed}: {dropped} dropped");
        assert!(after < before, "seed {seed}: {before} bytes before, {after} after");
        for name in 0..300 {
            let found = engine.get(&key(name)).expect("no damage");
            assert!(found.is_none() || found == Some(tombstone(2_000 + name)), "key {name} is back");
            assert!(name < 200 || found.is_some(), "key {name} was above the watermark");
        }
        let written = engine.store.stats().table_bytes_written;
        engine.call(|_, _| ());
        engine.settle();
        assert_eq!(engine.store.stats().table_bytes_written, written, "it comes to rest");
    }
}
