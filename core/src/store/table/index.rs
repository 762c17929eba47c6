//! The index of a partition: for each block a separator, a short key that is at or before all of the block's keys and after
//! all of the block before, and where the block lies.

use super::super::codec::Reader;
use super::super::entry::prefix;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Handle {
    pub(in super::super) offset: u64,
    pub(in super::super) len: u32,
}

/// Bytes of an entry beside its separator: where the separator ends, offset and length of the block.
const ENTRY: usize = 16;

#[derive(Debug, Clone, Default)]
pub(super) struct IndexBuilder {
    entries: Vec<u8>,
    separators: Vec<u8>,
    count: u32,
}

impl IndexBuilder {
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    pub(super) fn push(&mut self, separator: &[u8], handle: Handle) {
        self.separators.extend_from_slice(separator);
        self.entries.extend_from_slice(&(self.separators.len() as u32).to_le_bytes());
        self.entries.extend_from_slice(&handle.offset.to_le_bytes());
        self.entries.extend_from_slice(&handle.len.to_le_bytes());
        self.count += 1;
    }

    /// Takes the index in its form on disk.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut index = Vec::with_capacity(4 + self.entries.len() + self.separators.len());
        index.extend_from_slice(&self.count.to_le_bytes());
        index.append(&mut self.entries);
        index.append(&mut self.separators);
        self.count = 0;
        index
    }
}

/// The shortest key that is after `last` and at or before `first`.
pub(super) fn separator<'a>(last: &[u8], first: &'a [u8]) -> &'a [u8] {
    let shared = last.iter().zip(first).take_while(|(a, b)| a == b).count();
    &first[..first.len().min(shared + 1)]
}

/// An index as it stands on disk.
#[derive(Debug, Clone)]
pub(super) struct Index {
    data: Bytes,
    count: usize,
    /// The first bytes of each separator, which decide nearly always.
    prefixes: Arc<[u64]>,
}

impl Index {
    /// Checks the whole once, so that every later look-up finds what it expects: separators in order, blocks in order and
    /// before `blocks_end`.
    pub(super) fn decode(data: Bytes, blocks_end: u64) -> Option<Self> {
        let count = Reader(&data).u32()? as usize;
        if count == 0 || count > data.len() / ENTRY {
            return None;
        }
        let mut index = Self { data, count, prefixes: Arc::default() };
        let mut at = 0;
        for number in 0..count {
            let (_, end, handle) = index.entry(number)?;
            index.data.get(end_of(count).checked_add(end)?.checked_sub(1)?)?;
            let next = handle.offset.checked_add(u64::from(handle.len))?;
            let is_sorted = number == 0 || index.separator(number - 1) < index.separator(number);
            if handle.offset < at || next > blocks_end || !is_sorted {
                return None;
            }
            at = next;
        }
        index.prefixes = (0..count).map(|number| prefix(index.separator(number))).collect();
        Some(index)
    }

    /// Where the separator begins and ends among the separators, and the block.
    fn entry(&self, number: usize) -> Option<(usize, usize, Handle)> {
        let at = 4 + number * ENTRY;
        let mut reader = Reader(self.data.get(at..at + ENTRY)?);
        let end = reader.u32()? as usize;
        let handle = Handle { offset: reader.u64()?, len: reader.u32()? };
        let start = match number {
            0 => 0,
            _ => Reader(self.data.get(at - ENTRY..at)?).u32()? as usize,
        };
        (start < end).then_some((start, end, handle))
    }

    pub(super) fn separator(&self, number: usize) -> &[u8] {
        let separators = end_of(self.count);
        self.entry(number)
            .and_then(|(start, end, _)| self.data.get(separators + start..separators + end))
            .unwrap_or_default()
    }

    pub(super) fn handle(&self, number: usize) -> Option<Handle> {
        if number < self.count { self.entry(number).map(|(_, _, handle)| handle) } else { None }
    }

    pub(super) fn first(&self) -> &[u8] {
        self.separator(0)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    #[cfg(test)]
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.prefixes.len() * size_of::<u64>()
    }

    /// Whether the first separator is at or before `name`, whose prefix is `wanted`.
    pub(super) fn begins_by(&self, name: &[u8], wanted: u64) -> bool {
        let first = self.prefixes[0];
        first < wanted || (first == wanted && self.first() <= name)
    }

    /// The last block whose separator is at or before `name`, whose prefix is `wanted`; or the first block.
    pub(super) fn block_for(&self, name: &[u8], wanted: u64) -> usize {
        let mut low = self.prefixes.partition_point(|prefix| *prefix < wanted);
        let mut high = low + self.prefixes[low..].partition_point(|prefix| *prefix == wanted);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.separator(middle) <= name { low = middle + 1 } else { high = middle }
        }
        low.saturating_sub(1)
    }
}

fn end_of(count: usize) -> usize {
    4 + count * ENTRY
}
