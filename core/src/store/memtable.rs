//! The sorted, size-bounded table of what is not in a file yet.
//!
//! Entries lie encoded in chunks of memory, in order of arrival; a sorted list of leaves, each a sorted list of places,
//! gives the order by key. No allocation per entry, and no entry moves.

use super::entry::{Rank, prefix};
use alloc::vec::Vec;
use bytes::Bytes;
use core::cmp::Ordering;

/// Places in a leaf at which it is split.
const LEAF: usize = 128;
/// Items in a chunk of items.
const ITEMS: usize = 512;
/// Bytes of a full-grown chunk of keys and bodies; the first ones are smaller.
const CHUNK: usize = 256 << 10;
const CHUNK_FIRST: usize = 4 << 10;
/// Bytes that an entry takes beside its key and body.
const OVERHEAD: usize = 80;
/// Marks a chunk that holds one large entry.
const LARGE: u32 = 1 << 31;

#[derive(Debug, Clone, Copy)]
struct Item {
    rank: Rank,
    lsn: u64,
    chunk: u32,
    offset: u32,
    key_len: u32,
    body_len: u32,
    /// Bytes kept for the body: a later one that fits goes to the same place.
    room: u32,
}

/// The first bytes of the key decide nearly always; the item has the rest.
#[derive(Debug, Clone, Copy)]
struct Place {
    prefix: u64,
    item: u32,
}

/// What a memtable holds for a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) rank: Rank,
    pub(super) lsn: u64,
    pub(super) key: &'a [u8],
    pub(super) body: &'a [u8],
    /// The memory that holds the body, where it can be shared.
    pub(super) owner: Option<&'a Bytes>,
}

/// A position between entries. It holds until a key is inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    leaf: usize,
    place: usize,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Memtable {
    leaves: Vec<Vec<Place>>,
    /// The first place of each leaf.
    heads: Vec<Place>,
    items: Vec<Vec<Item>>,
    sealed: Vec<Bytes>,
    open: Vec<u8>,
    large: Vec<Bytes>,
    keys: u32,
    bytes: usize,
}

impl Memtable {
    /// Bytes held, with the overhead of the structure. Overwritten bodies count until the table goes, if they did not make
    /// room for their successors.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys == 0
    }

    fn item(&self, number: u32) -> &Item {
        &self.items[number as usize / ITEMS][number as usize % ITEMS]
    }

    fn held(&self, item: &Item) -> Held<'_> {
        let (chunk, owner) = if item.chunk & LARGE != 0 {
            let chunk = &self.large[(item.chunk & !LARGE) as usize];
            (&chunk[..], Some(chunk))
        } else {
            match self.sealed.get(item.chunk as usize) {
                Some(chunk) => (&chunk[..], Some(chunk)),
                None => (&self.open[..], None),
            }
        };
        let (start, key, body) = (item.offset as usize, item.key_len as usize, item.body_len as usize);
        let (key, body) = chunk[start..start + key + body].split_at(key);
        Held { rank: item.rank, lsn: item.lsn, key, body, owner }
    }

    fn compare(&self, place: &Place, key: &[u8], wanted: u64) -> Ordering {
        place.prefix.cmp(&wanted).then_with(|| self.held(self.item(place.item)).key.cmp(key))
    }

    /// Where `key` is, or would be inserted.
    fn locate(&self, key: &[u8]) -> Result<(usize, usize), (usize, usize)> {
        let wanted = prefix(key);
        let after = self.heads.partition_point(|head| self.compare(head, key, wanted) != Ordering::Greater);
        let leaf = after.saturating_sub(1);
        let Some(places) = self.leaves.get(leaf) else {
            return Err((0, 0));
        };
        match places.binary_search_by(|place| self.compare(place, key, wanted)) {
            Ok(at) => Ok((leaf, at)),
            Err(at) => Err((leaf, at)),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Held<'_>> {
        let (leaf, at) = self.locate(key).ok()?;
        Some(self.held(self.item(self.leaves[leaf][at].item)))
    }

    /// Inserts, unless something of at least this rank is there: then its LSN is the answer.
    pub(super) fn insert(&mut self, key: &[u8], rank: Rank, lsn: u64, body: &[u8]) -> Result<(), u64> {
        match self.locate(key) {
            Ok((leaf, at)) => {
                let number = self.leaves[leaf][at].item;
                let held = *self.item(number);
                if held.rank >= rank {
                    return Err(held.lsn);
                }
                let item =
                    self.overwrite(held, rank, lsn, body).unwrap_or_else(|| self.store(key, rank, lsn, body));
                self.items[number as usize / ITEMS][number as usize % ITEMS] = item;
            }
            Err((leaf, at)) => {
                let item = self.store(key, rank, lsn, body);
                let number = self.keys;
                if (number as usize).is_multiple_of(ITEMS) {
                    let capacity = if number == 0 { 16 } else { ITEMS };
                    self.items.push(Vec::with_capacity(capacity));
                }
                self.items[number as usize / ITEMS].push(item);
                self.keys += 1;
                self.bytes += OVERHEAD;
                self.place(leaf, at, Place { prefix: prefix(key), item: number });
            }
        }
        Ok(())
    }

    /// Takes out every entry of a slot. Its memory goes with the table.
    pub(super) fn drop_slot(&mut self, slot: u16) {
        let slot = u64::from(slot);
        let from = self.heads.partition_point(|head| head.prefix >> 48 < slot).saturating_sub(1);
        let to = self.heads.partition_point(|head| head.prefix >> 48 <= slot);
        for leaf in (from..to).rev() {
            self.leaves[leaf].retain(|place| place.prefix >> 48 != slot);
            if let Some(first) = self.leaves[leaf].first() {
                self.heads[leaf] = *first;
            } else {
                self.leaves.remove(leaf);
                self.heads.remove(leaf);
            }
        }
    }

    fn place(&mut self, leaf: usize, at: usize, place: Place) {
        if self.leaves.is_empty() {
            self.leaves.push(Vec::new());
            self.heads.push(place);
        }
        let places = &mut self.leaves[leaf];
        places.insert(at, place);
        self.heads[leaf] = places[0];
        if places.len() >= LEAF {
            // A rising sequence of keys fills leaves; others split in the middle.
            let half = if at + 1 == places.len() { LEAF - 1 } else { LEAF / 2 };
            let mut right = Vec::with_capacity(LEAF);
            right.extend(places.drain(half..));
            self.heads.insert(leaf + 1, right[0]);
            self.leaves.insert(leaf + 1, right);
        }
    }

    fn store(&mut self, key: &[u8], rank: Rank, lsn: u64, body: &[u8]) -> Item {
        let need = key.len() + body.len();
        self.bytes += need;
        let (key_len, body_len) = (key.len() as u32, body.len() as u32);
        if need > CHUNK / 8 {
            let mut chunk = Vec::with_capacity(need);
            chunk.extend_from_slice(key);
            chunk.extend_from_slice(body);
            self.large.push(Bytes::from(chunk));
            let chunk = (self.large.len() as u32 - 1) | LARGE;
            return Item { rank, lsn, chunk, offset: 0, key_len, body_len, room: body_len };
        }
        if self.open.len() + need > self.open.capacity() {
            let full = core::mem::take(&mut self.open);
            let grown = (full.capacity() * 2).clamp(CHUNK_FIRST, CHUNK);
            if !full.is_empty() {
                self.sealed.push(Bytes::from(full));
            }
            self.open = Vec::with_capacity(grown.max(need));
        }
        let offset = self.open.len() as u32;
        self.open.extend_from_slice(key);
        self.open.extend_from_slice(body);
        let chunk = self.sealed.len() as u32;
        Item { rank, lsn, chunk, offset, key_len, body_len, room: body_len }
    }

    /// Puts a body where an older one of the key lies, if it fits and nobody can hold a slice of that chunk.
    fn overwrite(&mut self, held: Item, rank: Rank, lsn: u64, body: &[u8]) -> Option<Item> {
        if held.chunk as usize != self.sealed.len() || body.len() > held.room as usize {
            return None;
        }
        let start = held.offset as usize + held.key_len as usize;
        self.open.get_mut(start..start + body.len())?.copy_from_slice(body);
        Some(Item { rank, lsn, body_len: body.len() as u32, ..held })
    }

    /// Before the first entry at or after `key` (after it if `exclusive`).
    pub(super) fn seek(&self, key: &[u8], exclusive: bool) -> Position {
        let (leaf, place) = match self.locate(key) {
            Ok((leaf, place)) => (leaf, place + usize::from(exclusive)),
            Err(at) => at,
        };
        Position { leaf, place }
    }

    /// The entry after the position.
    pub(super) fn at(&self, position: Position) -> Option<Held<'_>> {
        let places = self.leaves.get(position.leaf)?;
        let place = match places.get(position.place) {
            Some(place) => place,
            None => self.leaves.get(position.leaf + 1)?.first()?,
        };
        Some(self.held(self.item(place.item)))
    }

    /// The position behind the entry after `position`.
    pub(super) fn step(&self, position: Position) -> Position {
        let Position { leaf, place } = position;
        match self.leaves.get(leaf) {
            Some(places) if place < places.len() => Position { leaf, place: place + 1 },
            _ => Position { leaf: leaf + 1, place: 1 },
        }
    }

    /// Behind the last entry at or before `key` (before it if `exclusive`); behind all without a key.
    pub(super) fn seek_back(&self, key: Option<&[u8]>, exclusive: bool) -> Position {
        let Some(key) = key else {
            return Position { leaf: self.leaves.len(), place: 0 };
        };
        let (leaf, place) = match self.locate(key) {
            Ok((leaf, place)) => (leaf, place + usize::from(!exclusive)),
            Err(at) => at,
        };
        Position { leaf, place }
    }

    /// The entry before the position.
    pub(super) fn before(&self, position: Position) -> Option<Held<'_>> {
        let place = match position.place.checked_sub(1) {
            Some(at) => self.leaves.get(position.leaf)?.get(at)?,
            None => self.leaves.get(position.leaf.checked_sub(1)?)?.last()?,
        };
        Some(self.held(self.item(place.item)))
    }

    /// The position ahead of the entry before `position`.
    pub(super) fn step_back(&self, position: Position) -> Position {
        let Position { leaf, place } = position;
        if place > 0 {
            return Position { leaf, place: place - 1 };
        }
        let leaf = leaf.saturating_sub(1);
        Position { leaf, place: self.leaves.get(leaf).map_or(0, |places| places.len().saturating_sub(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Hlc, NodeId, Stamp};
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    fn rank(number: u64) -> Rank {
        Rank { ballot: Stamp { hlc: Hlc(number), node: NodeId(1) }, erases: false }
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(keys in proptest::collection::vec(
            (proptest::collection::vec(0u8..4, 2..12), 0u64..9, 0usize..60), 0..900)) {
            let mut memtable = Memtable::default();
            let mut model: BTreeMap<Vec<u8>, (u64, Vec<u8>)> = BTreeMap::new();
            for (at, (key, number, len)) in keys.iter().enumerate() {
                let body = alloc::vec![at as u8; *len];
                let is_newer = model.get(key).is_none_or(|(held, _)| held < number);
                prop_assert_eq!(memtable.insert(key, rank(*number), at as u64, &body).is_ok(), is_newer);
                if is_newer {
                    model.insert(key.clone(), (*number, body));
                }
            }
            let mut position = memtable.seek(&[], false);
            for (key, (number, body)) in &model {
                let held = memtable.at(position).expect("an entry");
                prop_assert_eq!((held.key, held.rank, held.body), (&key[..], rank(*number), &body[..]));
                position = memtable.step(position);
            }
            prop_assert!(memtable.at(position).is_none());
            let mut position = memtable.seek_back(None, false);
            for key in model.keys().rev() {
                prop_assert_eq!(memtable.before(position).map(|held| held.key), Some(&key[..]));
                position = memtable.step_back(position);
            }
            prop_assert!(memtable.before(position).is_none());
            for (key, _, _) in &keys {
                prop_assert!(memtable.get(key).is_some());
                let after = memtable.at(memtable.seek(key, true)).map(|held| held.key.to_vec());
                let bounds = (core::ops::Bound::Excluded(key.clone()), core::ops::Bound::Unbounded);
                prop_assert_eq!(after, model.range(bounds).next().map(|(key, _)| key.clone()));
                let before = memtable.before(memtable.seek_back(Some(key), true)).map(|held| held.key.to_vec());
                prop_assert_eq!(before, model.range(..key.clone()).next_back().map(|(key, _)| key.clone()));
                let here = memtable.before(memtable.seek_back(Some(key), false)).map(|held| held.key);
                prop_assert_eq!(here, Some(&key[..]));
            }
        }
    }
}
