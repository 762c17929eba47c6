//! Sorted string tables (FORMAT.md): data blocks with prefix compression, a filter, an index, a footer; each part with a
//! checksum bound to its place, so that a misdirected write is seen. Everything is verified when it is read.

use super::Entry;
use crate::base::checksum::crc32c;
use crate::base::{Record, RecordKey, Slot, Stamp};
use crate::io::{FileKind, FileName};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes of the footer.
pub(super) const FOOTER: usize = 64;
const MAGIC: &[u8; 8] = b"SAMTABL1";
/// Entries between two whole keys.
const RESTART_EVERY: usize = 16;
const FILTER_BITS_PER_KEY: usize = 10;
const FILTER_PROBES: u32 = 7;

/// What the manifest knows of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableMeta {
    pub(super) number: u64,
    pub(super) len: u64,
    pub(super) entries: u64,
    pub(super) first: RecordKey,
    pub(super) last: RecordKey,
    /// The highest ballot: a record above it need not be looked for here.
    pub(super) highest: Stamp,
}

impl TableMeta {
    pub(super) fn file(&self) -> FileName {
        FileName::new(FileKind::Table, self.number)
    }
}

/// A table ready to be read.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) meta: TableMeta,
    index: Vec<BlockHandle>,
    filter: Bytes,
}

/// Where a block lies, and its last key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlockHandle {
    last: RecordKey,
    pub(super) offset: u64,
    pub(super) len: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    ballot: Stamp,
    record: Option<Record>,
}

fn checksum(number: u64, offset: u64, data: &[u8]) -> [u8; 4] {
    crc32c(&[&number.to_le_bytes(), &offset.to_le_bytes(), data]).to_le_bytes()
}

/// Takes the checksum off a part that was read at `offset`.
fn verified(number: u64, offset: u64, data: &Bytes) -> Result<Bytes, String> {
    let at = data.len().checked_sub(4).filter(|at| checksum(number, offset, &data[..*at]) == data[*at..]);
    at.map(|at| data.slice(..at)).ok_or_else(|| damaged(number, offset))
}

fn damaged(number: u64, offset: u64) -> String {
    let file = FileName::new(FileKind::Table, number);
    format!(
        "{file}: damaged at byte {offset}; restore the file from a copy, or replace this node by one with a new id"
    )
}

/// A hash that is the same for ever: FNV-1a, finished by splitmix64.
fn hash(key: &RecordKey) -> u64 {
    let bytes = key.slot.0.to_be_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes.iter().chain(key.key.iter()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ (hash >> 31)
}

fn probes(hash: u64, bits: u64) -> impl Iterator<Item = usize> {
    let step = (hash >> 32) | 1;
    (0..u64::from(FILTER_PROBES)).map(move |i| (hash.wrapping_add(i.wrapping_mul(step)) % bits) as usize)
}

/// Builds a table part by part; `take` what has been built and write it at `offset`.
#[derive(Debug, Clone)]
pub(super) struct Builder {
    number: u64,
    block_bytes: usize,
    built: Vec<u8>,
    /// File offset of `built`.
    offset: u64,
    block: Vec<u8>,
    block_entries: usize,
    restarts: Vec<u32>,
    last_key: Vec<u8>,
    last: Option<RecordKey>,
    first: Option<RecordKey>,
    index: Vec<BlockHandle>,
    hashes: Vec<u64>,
    highest: Stamp,
}

impl Builder {
    pub(super) fn new(number: u64, block_bytes: usize) -> Self {
        Self {
            number,
            block_bytes,
            built: Vec::new(),
            offset: 0,
            block: Vec::new(),
            block_entries: 0,
            restarts: Vec::new(),
            last_key: Vec::new(),
            last: None,
            first: None,
            index: Vec::new(),
            hashes: Vec::new(),
            highest: Stamp::ZERO,
        }
    }

    /// Bytes ready to be written.
    pub(super) fn ready(&self) -> usize {
        self.built.len()
    }

    /// Takes the built bytes with their file offset.
    pub(super) fn take(&mut self) -> (u64, Bytes) {
        let (at, bytes) = (self.offset, core::mem::take(&mut self.built));
        self.offset += bytes.len() as u64;
        (at, Bytes::from(bytes))
    }

    fn position(&self) -> u64 {
        self.offset + self.built.len() as u64
    }

    /// Adds an entry; keys rise.
    pub(super) fn add(&mut self, key: &RecordKey, entry: &Entry) {
        assert!(self.last.as_ref().is_none_or(|last| last < key), "keys of a table rise");
        let mut name = Vec::with_capacity(2 + key.key.len());
        name.extend_from_slice(&key.slot.0.to_be_bytes());
        name.extend_from_slice(&key.key);
        let shared = if self.block_entries.is_multiple_of(RESTART_EVERY) {
            self.restarts.push(self.block.len() as u32);
            0
        } else {
            name.iter().zip(&self.last_key).take_while(|(a, b)| a == b).count()
        };
        let stored = Stored { ballot: entry.ballot, record: entry.record.clone() };
        let body = postcard::to_allocvec(&stored).unwrap_or_default();
        assert!(!body.is_empty(), "encoding into memory failed");
        for number in [shared, name.len() - shared, body.len()] {
            self.block.extend_from_slice(&(number as u32).to_le_bytes());
        }
        self.block.extend_from_slice(&name[shared..]);
        self.block.extend_from_slice(&body);
        self.block_entries += 1;
        self.last_key = name;
        self.hashes.push(hash(key));
        self.highest = self.highest.max(entry.ballot);
        self.first.get_or_insert_with(|| key.clone());
        self.last = Some(key.clone());
        if self.block.len() >= self.block_bytes {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        let Some(last) = self.last.clone().filter(|_| self.block_entries > 0) else {
            return;
        };
        for restart in self.restarts.drain(..) {
            self.block.extend_from_slice(&restart.to_le_bytes());
        }
        let restarts = self.block_entries.div_ceil(RESTART_EVERY) as u32;
        self.block.extend_from_slice(&restarts.to_le_bytes());
        let block = core::mem::take(&mut self.block);
        let (offset, len) = self.part(&block);
        self.index.push(BlockHandle { last, offset, len });
        self.block_entries = 0;
        self.last_key.clear();
    }

    /// Appends a part with its checksum.
    fn part(&mut self, data: &[u8]) -> (u64, u32) {
        let offset = self.position();
        self.built.extend_from_slice(data);
        self.built.extend_from_slice(&checksum(self.number, offset, data));
        (offset, data.len() as u32 + 4)
    }

    /// Ends the table: the filter, the index and the footer stand in `built`; the table can be used once all is durable.
    pub(super) fn finish(&mut self) -> Option<Table> {
        self.end_block();
        let (first, last) = (self.first.clone()?, self.last.clone()?);
        let bits = (self.hashes.len() * FILTER_BITS_PER_KEY).max(64).next_multiple_of(8);
        let mut filter = alloc::vec![0_u8; bits / 8];
        for hash in &self.hashes {
            for bit in probes(*hash, bits as u64) {
                filter[bit / 8] |= 1 << (bit % 8);
            }
        }
        let (filter_at, filter_len) = self.part(&filter);
        let index = postcard::to_allocvec(&self.index).unwrap_or_default();
        let (index_at, index_len) = self.part(&index);
        let footer_at = self.position();
        let mut footer = Vec::with_capacity(FOOTER);
        footer.extend_from_slice(MAGIC);
        footer.extend_from_slice(&filter_at.to_le_bytes());
        footer.extend_from_slice(&u64::from(filter_len).to_le_bytes());
        footer.extend_from_slice(&index_at.to_le_bytes());
        footer.extend_from_slice(&u64::from(index_len).to_le_bytes());
        footer.resize(FOOTER - 4, 0);
        let crc = checksum(self.number, footer_at, &footer);
        footer.extend_from_slice(&crc);
        self.built.extend_from_slice(&footer);
        let meta = TableMeta {
            number: self.number,
            len: self.position(),
            entries: self.hashes.len() as u64,
            first,
            last,
            highest: self.highest,
        };
        Some(Table { meta, index: core::mem::take(&mut self.index), filter: Bytes::from(filter) })
    }
}

/// Where a table's filter and index lie: `(offset, len)` each.
pub(super) struct Footer {
    pub(super) filter: (u64, u32),
    pub(super) index: (u64, u32),
}

impl Footer {
    /// Reads the last `FOOTER` bytes of a table of `len` bytes.
    pub(super) fn decode(number: u64, len: u64, data: &Bytes) -> Result<Self, String> {
        let offset = len.saturating_sub(FOOTER as u64);
        let body = verified(number, offset, data)?;
        let field = |at: usize| body.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        let part = |at: usize| {
            let (offset, bytes) = (field(at)?, field(at + 8)?);
            (offset.checked_add(bytes)? <= len).then_some((offset, u32::try_from(bytes).ok()?))
        };
        match (body.get(..8) == Some(MAGIC), part(8), part(24)) {
            (true, Some(filter), Some(index)) => Ok(Self { filter, index }),
            _ => Err(damaged(number, offset)),
        }
    }
}

impl Table {
    /// Opens a table from its filter and index as they were read.
    pub(super) fn open(
        meta: TableMeta,
        footer: &Footer,
        filter: &Bytes,
        index: &Bytes,
    ) -> Result<Self, String> {
        let filter = verified(meta.number, footer.filter.0, filter)?;
        let index = verified(meta.number, footer.index.0, index)?;
        let index: Vec<BlockHandle> =
            postcard::from_bytes(&index).map_err(|_| damaged(meta.number, footer.index.0))?;
        if index.is_empty() || filter.is_empty() {
            return Err(damaged(meta.number, footer.index.0));
        }
        Ok(Self { meta, index, filter })
    }

    /// Whether the key's range and the filter leave a chance that `key` is here.
    pub(super) fn covers(&self, key: &RecordKey) -> bool {
        *key >= self.meta.first && *key <= self.meta.last
    }

    pub(super) fn may_hold(&self, key: &RecordKey) -> bool {
        let bits = self.filter.len() as u64 * 8;
        probes(hash(key), bits).all(|bit| self.filter[bit / 8] & (1 << (bit % 8)) != 0)
    }

    /// Number of the block that would hold `key`; `None` past the end.
    pub(super) fn block_for(&self, key: &RecordKey) -> Option<usize> {
        let at = self.index.partition_point(|handle| handle.last < *key);
        (at < self.index.len()).then_some(at)
    }

    pub(super) fn block(&self, at: usize) -> Option<&BlockHandle> {
        self.index.get(at)
    }

    /// Bytes of the filter and the index in memory, about.
    pub(super) fn memory(&self) -> usize {
        self.filter.len() + self.index.iter().map(|handle| handle.last.key.len() + 64).sum::<usize>()
    }
}

/// A verified data block.
#[derive(Debug, Clone)]
pub(super) struct Block {
    data: Bytes,
    restarts: Vec<u32>,
}

impl Block {
    pub(super) fn decode(number: u64, handle: &BlockHandle, data: &Bytes) -> Result<Self, String> {
        let bad = || damaged(number, handle.offset);
        let body = verified(number, handle.offset, data)?;
        let u32_at = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
        let count = body.len().checked_sub(4).and_then(u32_at).ok_or_else(bad)? as usize;
        let start =
            count.checked_mul(4).and_then(|bytes| (body.len() - 4).checked_sub(bytes)).ok_or_else(bad)?;
        let restarts: Option<Vec<u32>> = (0..count).map(|i| u32_at(start + 4 * i)).collect();
        let restarts = restarts.filter(|all| all.iter().all(|at| (*at as usize) < start)).ok_or_else(bad)?;
        Ok(Self { data: body.slice(..start), restarts })
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.restarts.len() * 4 + 64
    }

    /// The entry at `at`: shared length, rest of the name, body, and where the next begins.
    fn raw(&self, at: usize) -> Option<(usize, &[u8], &[u8], usize)> {
        let number =
            |at: usize| Some(u32::from_le_bytes(self.data.get(at..at + 4)?.try_into().ok()?) as usize);
        let (shared, rest, body) = (number(at)?, number(at + 4)?, number(at + 8)?);
        let name_at = at + 12;
        let body_at = name_at.checked_add(rest)?;
        let end = body_at.checked_add(body)?;
        Some((shared, self.data.get(name_at..body_at)?, self.data.get(body_at..end)?, end))
    }

    /// The first entry at or after `from` (after it if `exclusive`). The block has been verified: an entry that does
    /// not decode ends it.
    pub(super) fn seek(&self, from: &RecordKey, exclusive: bool) -> Option<(RecordKey, Entry)> {
        let mut target = Vec::with_capacity(2 + from.key.len());
        target.extend_from_slice(&from.slot.0.to_be_bytes());
        target.extend_from_slice(&from.key);
        let is_before = |at: &u32| self.raw(*at as usize).is_some_and(|(_, name, _, _)| name <= &target[..]);
        let restart = self.restarts.partition_point(is_before).saturating_sub(1);
        let mut at = *self.restarts.get(restart)? as usize;
        let mut name: Vec<u8> = Vec::new();
        while let Some((shared, rest, body, next)) = self.raw(at) {
            name.truncate(shared);
            name.extend_from_slice(rest);
            if name > target || (!exclusive && name == target) {
                let stored: Stored = postcard::from_bytes(body).ok()?;
                let slot = Slot(u16::from_be_bytes([*name.first()?, *name.get(1)?]));
                let key = RecordKey { slot, key: Bytes::copy_from_slice(&name[2..]) };
                let lsn = super::Lsn(0);
                return Some((key, Entry { ballot: stored.ballot, record: stored.record, lsn }));
            }
            at = next;
        }
        None
    }

    /// The entry of `key`.
    pub(super) fn get(&self, key: &RecordKey) -> Option<Entry> {
        self.seek(key, false).filter(|(found, _)| found == key).map(|(_, entry)| entry)
    }
}
