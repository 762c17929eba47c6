//! Writing a table, part by part.

use super::super::entry::{self, Rank};
use super::block::BlockBuilder;
use super::format::{self, FOOTER, Footer, Place, Thrift, filter_of, hash, put_part};
use super::index::{Handle, Index, IndexBuilder, separator};
use super::{Partition, Table, TableMeta};
use crate::base::Stamp;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;

/// Keys of a partition: what its filter costs to make in one step.
const PARTITION_KEYS: usize = 16 << 10;
/// Blocks of a partition.
const PARTITION_BLOCKS: usize = 1024;

/// Builds a table part by part; `take` what has been built and write it at its offset.
#[derive(Debug, Clone)]
pub(in super::super) struct Builder {
    number: u64,
    block_bytes: usize,
    built: Vec<u8>,
    /// File offset of `built`.
    offset: u64,
    block: BlockBuilder,
    /// The first key of the block, shortened.
    separator: Vec<u8>,
    last: Vec<u8>,
    first: Bytes,
    index: IndexBuilder,
    hashes: Vec<u64>,
    /// Filter and index of each partition that is full.
    partitions: Vec<(Vec<u8>, Vec<u8>)>,
    entries: u64,
    may_go: u64,
    lowest: Stamp,
    highest: Stamp,
    thrift: Thrift,
    /// Bytes of values that the entries point to, by value file.
    values: BTreeMap<u64, u64>,
}

impl Builder {
    pub(in super::super) fn new(number: u64, block_bytes: usize) -> Self {
        Self {
            number,
            block_bytes,
            built: Vec::new(),
            offset: 0,
            block: BlockBuilder::default(),
            separator: Vec::new(),
            last: Vec::new(),
            first: Bytes::new(),
            index: IndexBuilder::default(),
            hashes: Vec::new(),
            partitions: Vec::new(),
            entries: 0,
            may_go: 0,
            lowest: Stamp::upto(crate::base::Hlc(u64::MAX)),
            highest: Stamp::ZERO,
            thrift: Thrift::default(),
            values: BTreeMap::new(),
        }
    }

    /// Bytes ready to be written.
    pub(in super::super) fn ready(&self) -> usize {
        self.built.len()
    }

    /// Bytes of memory that it takes.
    pub(in super::super) fn memory(&self) -> usize {
        let partitions = self.partitions.iter().map(|(filter, index)| filter.len() + index.len());
        self.built.capacity() + self.block.len() + self.hashes.capacity() * 8 + partitions.sum::<usize>()
    }

    /// Bytes of the table so far.
    pub(in super::super) fn len(&self) -> u64 {
        self.position() + self.block.len() as u64
    }

    pub(in super::super) fn number(&self) -> u64 {
        self.number
    }

    /// Takes the built bytes with their file offset.
    pub(in super::super) fn take(&mut self) -> (u64, Bytes) {
        let (at, bytes) = (self.offset, core::mem::take(&mut self.built));
        self.offset += bytes.len() as u64;
        (at, Bytes::from(bytes))
    }

    fn position(&self) -> u64 {
        self.offset + self.built.len() as u64
    }

    /// Adds an entry; keys rise.
    pub(in super::super) fn add(&mut self, name: &[u8], rank: Rank, body: &[u8]) {
        assert!(self.entries == 0 || *self.last < *name, "keys of a table rise");
        if self.entries == 0 {
            self.first = Bytes::copy_from_slice(name);
        }
        if self.block.is_empty() {
            self.separator.clear();
            self.separator.extend_from_slice(if self.entries == 0 {
                name
            } else {
                separator(&self.last, name)
            });
        }
        self.block.push(name, body);
        self.hashes.push(hash(name));
        self.entries += 1;
        self.may_go += u64::from(entry::may_go(body));
        if let Some(pointer) = entry::pointer(body) {
            *self.values.entry(pointer.file).or_default() += u64::from(pointer.stored);
        }
        self.lowest = self.lowest.min(rank.ballot);
        self.highest = self.highest.max(rank.ballot);
        self.last.clear();
        self.last.extend_from_slice(name);
        if self.block.len() >= self.block_bytes {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        if self.block.is_empty() {
            return;
        }
        let offset = self.position();
        let compress = self.thrift.is_due();
        let (number, start, built) = (self.number, self.built.len(), &mut self.built);
        let mut has_paid = false;
        self.block.finish(|block| has_paid = put_part(number, offset, block, compress, built));
        self.thrift.note(compress, has_paid);
        let handle = Handle { offset, len: (self.built.len() - start) as u32 };
        self.index.push(&self.separator, handle);
        if self.hashes.len() >= PARTITION_KEYS || self.index.len() >= PARTITION_BLOCKS {
            self.end_partition();
        }
    }

    fn end_partition(&mut self) {
        if self.index.len() > 0 {
            self.partitions.push((filter_of(&self.hashes), self.index.take()));
            self.hashes.clear();
        }
    }

    fn part(&mut self, data: &[u8]) -> Place {
        let (offset, start) = (self.position(), self.built.len());
        put_part(self.number, offset, data, false, &mut self.built);
        (offset, (self.built.len() - start) as u32)
    }

    /// Ends the table: filters, indexes and the footer stand in `built`; the table can be used once all is durable.
    pub(in super::super) fn finish(&mut self, level: u8) -> Option<Table> {
        if self.entries == 0 {
            return None;
        }
        self.end_block();
        self.end_partition();
        let parts_at = self.position();
        let mut places = Vec::with_capacity(self.partitions.len());
        let mut partitions = Vec::with_capacity(self.partitions.len());
        for (filter, index) in core::mem::take(&mut self.partitions) {
            places.push((self.part(&filter), self.part(&index)));
            let index = Index::decode(Bytes::from(index), parts_at)?;
            partitions.push(Partition { filter: Bytes::from(filter), index });
        }
        let list = self.part(&format::encode_list(&places));
        let footer = Footer { parts_at, list }.encode(self.number, self.position());
        assert!(footer.len() == FOOTER, "the footer has its size");
        self.built.extend_from_slice(&footer);
        let meta = TableMeta {
            number: self.number,
            level,
            len: self.position(),
            entries: self.entries,
            first: self.first.clone(),
            last: Bytes::copy_from_slice(&self.last),
            lowest: self.lowest,
            highest: self.highest,
            may_go: self.may_go,
            values: self.values.iter().map(|(number, bytes)| (*number, *bytes)).collect(),
            dropped: Vec::new(),
        };
        Some(Table { meta, partitions })
    }
}
