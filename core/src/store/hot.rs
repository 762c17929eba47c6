//! Records that are read again and again, whole: a read of one of them needs neither the memtables nor a block.
//!
//! What stands here is what tables hold of a key of which memory holds nothing, so it is the newest record and durable. A
//! write of the key takes it out. A record comes in when it is read from a table for the second time within a while (a
//! doorkeeper: Einziger, Friedman and Manes, "TinyLFU"), so that one pass over much data changes nothing; CLOCK decides what goes.

use super::entry::slot_of;
use crate::base::{Applied, Outcome, Record};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;
use hashbrown::HashTable;

/// Larger values are left to the cache of blocks, of which they are a good part each.
const VALUE_MAX: usize = 1024;
/// Laps of the hand that a record survives at most.
const USED_MAX: u8 = 3;
/// Bytes that an entry takes beside its name, its value and its history: the frame, its place in the table, two allocations.
const OVERHEAD: usize = size_of::<Frame>() + 48;
/// Bytes of capacity for which the doorkeeper remembers one key.
const SEEN_PER: usize = 128;

#[derive(Debug, Clone)]
struct Frame {
    hash: u64,
    name: Box<[u8]>,
    record: Record,
    used: u8,
}

impl Frame {
    fn bytes(&self) -> usize {
        let old = |applied: &Applied| match &applied.outcome {
            Outcome::Changed { old: Some(old), .. } => old.len(),
            _ => 0,
        };
        let recent: usize =
            self.record.recent.iter().map(|applied| size_of::<Applied>() + old(applied)).sum();
        OVERHEAD + self.name.len() + self.record.value.as_ref().map_or(0, Bytes::len) + recent
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct HotRecords {
    capacity: usize,
    bytes: usize,
    /// Numbers of frames, by hash. Never iterated: the order of the frames decides.
    places: HashTable<u32>,
    frames: Vec<Frame>,
    hand: usize,
    /// Marks of keys that were read from a table a while ago.
    seen: Vec<u32>,
}

impl HotRecords {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Takes another capacity.
    pub(super) fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        while self.bytes > capacity && !self.frames.is_empty() {
            self.evict();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.seen.len() * size_of::<u32>()
    }

    fn place(&self, name: &[u8], hash: u64) -> Option<usize> {
        let frames = &self.frames;
        let is_it = |place: &u32| {
            let frame = &frames[*place as usize];
            frame.hash == hash && *frame.name == *name
        };
        self.places.find(hash, is_it).map(|place| *place as usize)
    }

    pub(super) fn get(&mut self, name: &[u8], hash: u64) -> Option<&Record> {
        let place = self.place(name, hash)?;
        let frame = &mut self.frames[place];
        frame.used = (frame.used + 1).min(USED_MAX);
        Some(&frame.record)
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The record of `name` has been read from a table, and is the newest. Whether it came in.
    pub(super) fn offer(&mut self, name: &[u8], hash: u64, record: &Record) -> bool {
        // A tombstone waits to be dropped; it is not kept from that.
        let Some(value) = record.value.as_ref().filter(|value| value.len() <= VALUE_MAX) else {
            return false;
        };
        if self.seen.is_empty() {
            self.seen.resize((self.capacity / SEEN_PER).max(1), 0);
        }
        let at = (hash % self.seen.len() as u64) as usize;
        let mark = (hash >> 32) as u32 | 1;
        if self.seen[at] != mark {
            self.seen[at] = mark;
            return false;
        }
        if self.place(name, hash).is_some() {
            return false;
        }
        // A copy: a slice would keep a whole block in memory. Its first clone prepares it for being shared.
        let value = Bytes::copy_from_slice(value);
        drop(value.clone());
        let record = Record { value: Some(value), ..record.clone() };
        let frame = Frame { hash, name: name.into(), record, used: 0 };
        let bytes = frame.bytes();
        if bytes > self.capacity {
            return false;
        }
        while self.bytes + bytes > self.capacity && !self.frames.is_empty() {
            self.evict();
        }
        let Self { places, frames, .. } = self;
        places.insert_unique(hash, frames.len() as u32, |place| frames[*place as usize].hash);
        frames.push(frame);
        self.bytes += bytes;
        true
    }

    /// Something was put for `name`, or was dropped.
    pub(super) fn remove(&mut self, name: &[u8], hash: u64) {
        if !self.frames.is_empty()
            && let Some(place) = self.place(name, hash)
        {
            self.take_out(place);
        }
    }

    /// Entries of these slots are gone.
    pub(super) fn drop_slots(&mut self, slots: &[(u16, u64)]) {
        self.remove_where(|name, _| slots.iter().any(|(slot, _)| *slot == slot_of(name)));
    }

    /// What could expire may have been dropped from the tables.
    pub(super) fn forget_expiring(&mut self) {
        self.remove_where(|_, record| record.expires_at != 0);
    }

    pub(super) fn remove_where(&mut self, goes: impl Fn(&[u8], &Record) -> bool) {
        for place in (0..self.frames.len()).rev() {
            if goes(&self.frames[place].name, &self.frames[place].record) {
                self.take_out(place);
            }
        }
    }

    fn take_out(&mut self, place: usize) {
        let gone = self.frames.swap_remove(place);
        let find = |places: &mut HashTable<u32>, hash: u64, number: usize| {
            let found = places.find_entry(hash, |place| *place as usize == number);
            found.map(hashbrown::hash_table::OccupiedEntry::remove).is_ok()
        };
        assert!(find(&mut self.places, gone.hash, place), "every frame has its place");
        // The last one stands where it stood.
        if let Some(moved) = self.frames.get(place).map(|moved| moved.hash) {
            assert!(find(&mut self.places, moved, self.frames.len()), "every frame has its place");
            let frames = &self.frames;
            self.places.insert_unique(moved, place as u32, |place| frames[*place as usize].hash);
        }
        self.bytes -= gone.bytes();
    }

    /// Takes out the first record under the hand that was not used since it passed.
    fn evict(&mut self) {
        loop {
            if self.hand >= self.frames.len() {
                self.hand = 0;
            }
            let frame = &mut self.frames[self.hand];
            if frame.used == 0 {
                self.take_out(self.hand);
                self.hand += 1;
                return;
            }
            frame.used -= 1;
            self.hand += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::hash;
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    fn record(number: u64, len: usize) -> Record {
        let value = Some(Bytes::from(alloc::vec![number as u8; len]));
        Record { value, expires_at: number % 2, ..Record::default() }
    }

    #[test]
    fn a_record_comes_in_at_its_second_reading_and_goes_with_a_write() {
        let mut hot = HotRecords::new(64 << 10);
        let hash = hash(b"name");
        hot.offer(b"name", hash, &record(2, 10));
        assert_eq!(hot.get(b"name", hash), None);
        hot.offer(b"name", hash, &record(2, 10));
        assert_eq!(hot.get(b"name", hash), Some(&record(2, 10)));
        hot.remove(b"name", hash);
        assert_eq!(hot.get(b"name", hash), None);
        for _ in 0..3 {
            hot.offer(b"name", hash, &record(2, VALUE_MAX + 1));
            hot.offer(b"name", hash, &Record::default());
        }
        assert_eq!(hot.get(b"name", hash), None, "neither what is large nor a tombstone");
    }

    #[test]
    fn a_pass_over_much_data_does_not_displace_what_is_used() {
        let mut hot = HotRecords::new(64 << 10);
        let name = |number: u64| number.to_be_bytes();
        for number in 0..40 {
            // Twice each, one after the other: two that share a mark's place would hide each other.
            hot.offer(&name(number / 2), hash(&name(number / 2)), &record(0, 50));
        }
        for number in 1_000..100_000 {
            hot.offer(&name(number), hash(&name(number)), &record(0, 50));
        }
        let held = (0..20).filter(|number| hot.get(&name(*number), hash(&name(*number))).is_some());
        assert_eq!(held.count(), 20);
        assert!(hot.bytes() <= 64 << 10);
    }

    proptest! {
        #[test]
        fn it_shows_what_was_offered_last_and_stays_within_its_bytes(
            ops in proptest::collection::vec((0u8..8, 0u64..40, 0usize..200), 1..600), capacity in 500usize..20_000
        ) {
            let mut hot = HotRecords::new(capacity);
            let mut model: BTreeMap<u64, Record> = BTreeMap::new();
            for (op, number, len) in ops {
                let name = [&(number as u16 % 3).to_be_bytes()[..], &number.to_be_bytes()].concat();
                let hash = hash(&name);
                match op {
                    0 => {
                        hot.remove(&name, hash);
                        model.remove(&number);
                    }
                    1 if len < 20 => {
                        hot.drop_slots(&[(number as u16 % 3, 0)]);
                        model.retain(|other, _| other % 3 != number % 3);
                    }
                    2 if len < 10 => {
                        hot.forget_expiring();
                        model.retain(|other, _| other % 2 == 0);
                    }
                    _ => {
                        // One record stands for a key until it is taken out.
                        let record = model.entry(number).or_insert_with(|| record(number, len)).clone();
                        hot.offer(&name, hash, &record);
                    }
                }
                prop_assert!(hot.bytes <= capacity);
                prop_assert_eq!(hot.bytes, hot.frames.iter().map(Frame::bytes).sum::<usize>());
                prop_assert_eq!(hot.places.len(), hot.frames.len());
                if let Some(found) = hot.get(&name, hash) {
                    prop_assert_eq!(Some(found), model.get(&number));
                }
            }
        }
    }
}
