//! Sorted string tables: data blocks, then per partition a filter and an index, then the list of partitions
//! and a footer. Each part has a checksum bound to its file and place, so that a misdirected write is seen. Everything is
//! verified when it is read.

mod block;
mod builder;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod index;

pub(super) use block::{Block, Spot, Stretch};
pub(super) use builder::Builder;
pub(super) use format::{FOOTER, Footer, Thrift, checksum, hash, put_part, verified_part};
pub(super) use index::Handle;

use super::entry::{prefix, slot_of};
use crate::base::{RecordKey, Stamp};
use crate::io::{FileKind, FileName};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use format::{damaged, may_hold, verified};
use index::Index;
use serde::{Deserialize, Serialize};

/// What the manifest knows of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableMeta {
    pub(super) number: u64,
    pub(super) level: u8,
    pub(super) len: u64,
    pub(super) entries: u64,
    /// The first and the last key, as they are ordered.
    pub(super) first: Bytes,
    pub(super) last: Bytes,
    /// The stamp range: a record above the highest need not be looked for here.
    pub(super) lowest: Stamp,
    pub(super) highest: Stamp,
    /// Tombstones, erasures and records that expire.
    pub(super) may_go: u64,
    /// Bytes of values that its entries point to, by value file, in order.
    pub(super) values: Vec<(u64, u64)>,
    /// Slots whose entries count as not there, in order: they were dropped after the table was made.
    pub(super) dropped: Vec<u16>,
}

impl TableMeta {
    pub(super) fn file(&self) -> FileName {
        FileName::new(FileKind::Table, self.number)
    }

    pub(super) fn covers(&self, name: &[u8]) -> bool {
        *name >= *self.first && *name <= *self.last
    }

    /// Takes in slots whose entries count as not there from now on; whether that changes something.
    pub(super) fn drop_slots(&mut self, slots: &[(u16, u64)]) -> bool {
        let (first, last) = (slot_of(&self.first), slot_of(&self.last));
        let before = self.dropped.len();
        for (slot, _) in slots.iter().filter(|(slot, _)| (first..=last).contains(slot)) {
            if let Err(at) = self.dropped.binary_search(slot) {
                self.dropped.insert(at, *slot);
            }
        }
        self.dropped.len() > before
    }

    /// Whether the entry of this name counts as not there.
    pub(super) fn drops(&self, name: &[u8]) -> bool {
        !self.dropped.is_empty() && self.dropped.binary_search(&slot_of(name)).is_ok()
    }

    /// Whether every entry counts as not there.
    pub(super) fn is_dropped(&self) -> bool {
        let slots = usize::from(slot_of(&self.last) - slot_of(&self.first)) + 1;
        self.dropped.len() == slots
    }

    /// The bytes of values that it points to in a value file, if any.
    pub(super) fn points_to(&self, number: u64) -> Option<u64> {
        let at = self.values.binary_search_by_key(&number, |(file, _)| *file).ok()?;
        Some(self.values[at].1)
    }

    /// Whether the file of this number is its own, or one that it points to.
    pub(super) fn uses(&self, number: u64) -> bool {
        self.number == number || self.points_to(number).is_some()
    }

    /// What is known of a table that no manifest tells of.
    pub(super) fn unknown(number: u64, len: u64) -> Self {
        let (lowest, highest) = (Stamp::ZERO, Stamp::ZERO);
        let (first, last) = (Bytes::new(), Bytes::new());
        let (values, dropped) = (Vec::new(), Vec::new());
        Self { number, level: 0, len, entries: 0, first, last, lowest, highest, may_go: 0, values, dropped }
    }

    /// Whether no manifest tells of the table.
    pub(super) fn is_unknown(&self) -> bool {
        self.entries == 0
    }

    /// Whether the two share a stretch of keys.
    pub(super) fn overlaps(&self, first: &[u8], last: &[u8]) -> bool {
        *self.first <= *last && *self.last >= *first
    }
}

/// A run of blocks with its own filter and index.
#[derive(Debug, Clone)]
struct Partition {
    filter: Bytes,
    index: Index,
}

/// A table ready to be read.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) meta: TableMeta,
    partitions: Vec<Partition>,
}

/// A block's number: partition, and place in its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct BlockAt {
    partition: usize,
    block: usize,
}

impl Table {
    /// Opens a table from its partitions' parts as they were read: everything from `footer.parts_at` to the footer.
    pub(super) fn open(meta: TableMeta, footer: &Footer, parts: &Bytes) -> Result<Self, String> {
        let number = meta.number;
        let part = |(offset, len): (u64, u32)| {
            let start = offset.checked_sub(footer.parts_at).and_then(|at| usize::try_from(at).ok());
            let end =
                start.and_then(|start| start.checked_add(len as usize)).filter(|end| *end <= parts.len());
            let (Some(start), Some(end)) = (start, end) else {
                return Err(damaged(number, offset));
            };
            verified(number, offset, &parts.slice(start..end))
        };
        let list = part(footer.list)?;
        let places = format::decode_list(&list).ok_or_else(|| damaged(number, footer.list.0))?;
        let mut partitions = Vec::with_capacity(places.len());
        for (filter, index) in places {
            let index =
                Index::decode(part(index)?, footer.parts_at).ok_or_else(|| damaged(number, index.0))?;
            let at = filter.0;
            let filter = part(filter)?;
            if filter.len() < 8 {
                return Err(damaged(number, at));
            }
            partitions.push(Partition { filter, index });
        }
        Ok(Self { meta, partitions })
    }

    /// The same table with slots whose entries count as not there; `None` if it has none of theirs.
    pub(super) fn without(&self, slots: &[(u16, u64)]) -> Option<Self> {
        let mut meta = self.meta.clone();
        meta.drop_slots(slots).then(|| Self { meta, partitions: self.partitions.clone() })
    }

    /// The same table on another level.
    pub(super) fn moved(&self, level: u8) -> Self {
        Self { meta: TableMeta { level, ..self.meta.clone() }, partitions: self.partitions.clone() }
    }

    fn partition_for(&self, name: &[u8], wanted: u64) -> usize {
        self.partitions.partition_point(|partition| partition.index.begins_by(name, wanted)).saturating_sub(1)
    }

    /// Whether the filter leaves a chance that the key of this hash is here.
    pub(super) fn may_hold(&self, name: &[u8], hash: u64) -> bool {
        may_hold(&self.partitions[self.partition_for(name, prefix(name))].filter, hash)
    }

    /// The block that holds the entry of `name` if the table has one; `None` if the filter knows that it has not.
    pub(super) fn place_for(&self, name: &[u8], hash: u64) -> Option<BlockAt> {
        let wanted = prefix(name);
        let partition = self.partition_for(name, wanted);
        let held = &self.partitions[partition];
        may_hold(&held.filter, hash).then(|| BlockAt { partition, block: held.index.block_for(name, wanted) })
    }

    /// The block that holds the first entry at or after `name`, if it is not past the block's end: then the next does.
    pub(super) fn block_for(&self, name: &[u8]) -> BlockAt {
        let wanted = prefix(name);
        let partition = self.partition_for(name, wanted);
        BlockAt { partition, block: self.partitions[partition].index.block_for(name, wanted) }
    }

    pub(super) fn handle(&self, at: BlockAt) -> Option<Handle> {
        self.partitions.get(at.partition)?.index.handle(at.block)
    }

    pub(super) fn block_after(&self, at: BlockAt) -> BlockAt {
        let BlockAt { partition, block } = at;
        match self.partitions.get(partition) {
            Some(held) if block + 1 < held.index.len() => BlockAt { partition, block: block + 1 },
            _ => BlockAt { partition: partition + 1, block: 0 },
        }
    }

    /// The block before, or a number that no block has.
    pub(super) fn block_before(&self, at: BlockAt) -> BlockAt {
        let BlockAt { partition, block } = at;
        if block > 0 {
            return BlockAt { partition, block: block - 1 };
        }
        match partition.checked_sub(1).and_then(|before| Some((before, self.partitions.get(before)?))) {
            Some((before, held)) => BlockAt { partition: before, block: held.index.len().saturating_sub(1) },
            None => BlockAt { partition: usize::MAX, block: 0 },
        }
    }

    pub(super) fn last_block(&self) -> BlockAt {
        self.block_before(BlockAt { partition: self.partitions.len(), block: 0 })
    }

    /// The stretch of keys that a block may hold: from its first key to that of the next block, or the table's last.
    pub(super) fn span(&self, at: BlockAt) -> (RecordKey, RecordKey) {
        let (first, end) = self.stretch_of(at);
        (super::entry::decode_key(&first), super::entry::decode_key(&end))
    }

    /// The same as encoded keys, the second excluded. A separator may be shorter than a slot's two bytes; zeros behind it
    /// change nothing, since every key has them.
    pub(super) fn stretch_of(&self, at: BlockAt) -> (Vec<u8>, Vec<u8>) {
        let whole = |separator: &[u8]| {
            let mut name = separator.to_vec();
            name.resize(name.len().max(2), 0);
            name
        };
        let first = self.partitions.get(at.partition).map_or(&b""[..], |held| held.index.separator(at.block));
        let next = self.block_after(at);
        let end = self.partitions.get(next.partition).map(|held| whole(held.index.separator(next.block)));
        let end = end.unwrap_or_else(|| {
            let mut last = self.meta.last.to_vec();
            last.push(0);
            last
        });
        (whole(first), end)
    }

    /// Where the last block ends, if they lie one behind the other from the beginning of the file.
    pub(super) fn end_of_blocks(&self) -> Option<u64> {
        let indexes = self.partitions.iter().map(|partition| &partition.index);
        let mut handles = indexes.flat_map(|index| (0..index.len()).filter_map(|at| index.handle(at)));
        handles.try_fold(0, |end, handle| (handle.offset == end).then_some(end + u64::from(handle.len)))
    }

    /// Bytes of the filters and the indexes in memory.
    pub(super) fn memory(&self) -> usize {
        self.partitions.iter().map(|held| held.filter.len() + held.index.bytes() + 96).sum()
    }

    /// The verified block of a handle, from its bytes as they were read.
    pub(super) fn decode(&self, handle: Handle, data: &Bytes) -> Result<Block, String> {
        let body = verified(self.meta.number, handle.offset, data)?;
        Block::open(body).ok_or_else(|| damaged(self.meta.number, handle.offset))
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::seeds;
