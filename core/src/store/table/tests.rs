//! A table alone: what was added is found, and any bytes are read without a panic.

use super::super::entry::Rank;
use super::*;
use crate::base::{Hlc, NodeId};
use alloc::collections::BTreeMap;
use proptest::prelude::*;

fn rank(number: u64) -> Rank {
    Rank { ballot: Stamp { hlc: Hlc(number), node: NodeId(1) }, erases: false }
}

/// A table's file.
fn written(entries: &BTreeMap<Vec<u8>, Vec<u8>>, block_bytes: usize) -> (TableMeta, Bytes) {
    let mut builder = Builder::new(5, block_bytes);
    for (at, (name, body)) in entries.iter().enumerate() {
        builder.add(name, rank(at as u64), body);
    }
    let table = builder.finish(3).expect("entries");
    let (offset, data) = builder.take();
    assert_eq!(offset, 0);
    assert_eq!(table.meta.len, data.len() as u64);
    (table.meta, data)
}

fn opened(meta: &TableMeta, data: &Bytes) -> Result<Table, String> {
    let start = data.len().saturating_sub(FOOTER);
    let footer = Footer::decode(meta.number, data.len() as u64, &data[start..])?;
    let parts = data.slice(footer.parts_at as usize..start);
    Table::open(meta.clone(), &footer, &parts)
}

fn block(table: &Table, data: &Bytes, at: BlockAt) -> Result<Block, String> {
    let handle = table.handle(at).expect("a block");
    table.decode(handle, &data.slice(handle.offset as usize..handle.offset as usize + handle.len as usize))
}

fn entries() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let name = proptest::collection::vec(0u8..6, 2..14);
    let body = (any::<u8>(), 0usize..300).prop_map(|(byte, len)| alloc::vec![byte; len]);
    proptest::collection::btree_map(name, body, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_added_is_found(
        entries in entries(), block_bytes in 40usize..3000, probes in proptest::collection::vec(proptest::collection::vec(0u8..7, 2..14), 20)
    ) {
        let (meta, data) = written(&entries, block_bytes);
        let table = opened(&meta, &data).expect("opens");
        prop_assert_eq!(meta.entries, entries.len() as u64);
        let mut key = Vec::new();
        for (name, body) in &entries {
            prop_assert!(meta.covers(name) && table.may_hold(name, hash(name)));
            let held = block(&table, &data, table.block_for(name)).expect("a block");
            prop_assert_eq!(held.get(name), Some(&body[..]));
        }
        // Every block in order is every entry in order.
        let (mut at, mut all) = (BlockAt::default(), Vec::new());
        while table.handle(at).is_some() {
            let held = block(&table, &data, at).expect("a block");
            let mut spot = held.first(&mut key);
            while let Some(here) = spot {
                all.push((key.clone(), held.body(here).to_vec()));
                spot = held.next(here, &mut key);
            }
            at = table.block_after(at);
        }
        prop_assert!(all.iter().map(|(name, body)| (name, body)).eq(&entries));
        for probe in &probes {
            for exclusive in [false, true] {
                let mut at = table.block_for(probe);
                let mut found = None;
                while let (None, Some(_)) = (&found, table.handle(at)) {
                    let held = block(&table, &data, at).expect("a block");
                    found = held.seek(probe, exclusive, &mut key).map(|_| key.clone());
                    at = table.block_after(at);
                }
                let wanted = entries.keys().find(|name| *name > probe || (!exclusive && *name == probe));
                prop_assert_eq!(found.as_ref(), wanted);
            }
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_never_read(entries in entries(), places in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4)) {
        let (meta, data) = written(&entries, 200);
        let mut changed = data.to_vec();
        for (at, mask) in places {
            let at = at.index(changed.len());
            changed[at] ^= mask;
        }
        let changed = Bytes::from(changed);
        let Ok(table) = opened(&meta, &changed) else { return Ok(()) };
        let (mut at, mut key) = (BlockAt::default(), Vec::new());
        while table.handle(at).is_some() {
            if let Ok(held) = block(&table, &changed, at) {
                let mut spot = held.first(&mut key);
                while let Some(here) = spot {
                    prop_assert_eq!(entries.get(&key).map(|body| &body[..]), Some(held.body(here)));
                    spot = held.next(here, &mut key);
                }
            }
            at = table.block_after(at);
        }
    }

    #[test]
    fn any_bytes_behind_a_good_checksum_are_read_without_a_panic(data in proptest::collection::vec(any::<u8>(), 0..400), count in 0u32..40) {
        let mut key = Vec::new();
        for tail in [None, Some(count)] {
            let mut data = data.clone();
            data.extend(tail.into_iter().flat_map(u32::to_le_bytes));
            let data = Bytes::from(data);
            let _ = format::decode_list(&data);
            if let Some(index) = Index::decode(data.clone(), 1 << 20) {
                let _ = (index.block_for(b"abc", prefix(b"abc")), index.separator(index.len() - 1));
            }
            if let Some(held) = Block::open(data) {
                let _ = held.get(b"abc");
                let mut spot = held.first(&mut key);
                for _ in 0..1000 {
                    let Some(here) = spot else { break };
                    spot = held.next(here, &mut key);
                }
            }
        }
        let data = Bytes::from(data);
        let mut part = Vec::new();
        for kind in 0..3 {
            part.clear();
            part.extend_from_slice(&data);
            part.push(kind);
            let crc = crate::base::checksum::crc32c(&[&5u64.to_le_bytes(), &9u64.to_le_bytes(), &part]);
            part.extend_from_slice(&crc.to_le_bytes());
            let _ = verified(5, 9, &Bytes::from(part.clone()));
        }
    }
}

#[test]
fn a_filter_has_less_than_one_false_positive_in_a_hundred() {
    let hashes: Vec<u64> = (0..16_384u64).map(|number| hash(&number.to_be_bytes())).collect();
    let filter = format::filter_of(&hashes);
    assert!(filter.len() * 8 <= hashes.len() * 10 + 64, "at most ten bits a key");
    assert!(hashes.iter().all(|hash| may_hold(&filter, *hash)), "no false negatives");
    let absent = (1_000_000..1_100_000u64).filter(|number| may_hold(&filter, hash(&number.to_be_bytes())));
    let count = absent.count();
    assert!(count < 1_000, "{count} of 100,000");
}

/// Sound input for the decoders of a table's parts, out of a table's file.
pub(in super::super) fn seeds(number: u64, data: &Bytes) -> Vec<(&'static str, Vec<u8>)> {
    let at = data.len() - FOOTER;
    let footer = Footer::decode(number, data.len() as u64, &data[at..]).expect("a footer");
    let meta = TableMeta::unknown(number, data.len() as u64);
    let table = Table::open(meta, &footer, &data.slice(footer.parts_at as usize..at)).expect("a table");
    let list = verified(number, footer.list.0, &data.slice(footer.list.0 as usize..at)).expect("a list");
    let mut seeds = alloc::vec![("partitions", list.to_vec())];
    for partition in &table.partitions {
        seeds.push(("filter", partition.filter.to_vec()));
        seeds.push(("index", partition.index.data().to_vec()));
    }
    // The checksum is bound to the file: the whole is made anew for the number that the decoders expect.
    let mut again = Builder::new(fuzz::NUMBER, 1000);
    let (mut place, mut key) = (BlockAt::default(), Vec::new());
    while let Some(handle) = table.handle(place) {
        let part = &data[handle.offset as usize..][..handle.len as usize - 4];
        let mut sealed = part.to_vec();
        sealed.extend_from_slice(&format::checksum(fuzz::NUMBER, fuzz::OFFSET, part));
        seeds.push(("part", sealed));
        seeds.push(("part_within", part.to_vec()));
        let held = block(&table, data, place).expect("a block");
        seeds.push(("block", held.owner().to_vec()));
        let mut spot = held.first(&mut key);
        while let Some(here) = spot {
            let body = held.body(here);
            seeds.push(("record", body.to_vec()));
            again.add(&key, super::super::entry::rank(body).expect("a rank"), body);
            spot = held.next(here, &mut key);
        }
        place = table.block_after(place);
    }
    let whole = again.finish(0).map(|_| again.take().1).expect("entries");
    let footer = whole.slice(whole.len() - FOOTER..);
    seeds.push(("footer_within", footer[..FOOTER - 4].to_vec()));
    seeds.push(("footer", whole.to_vec()));
    seeds.push(("table", whole.to_vec()));
    seeds
}
