//! Walks a run of tables in key order or backwards, block by block, without ever waiting: where a block is missing it says which.

use super::cache::BlockCache;
use super::entry;
use super::levels::Run;
use super::table::{Block, BlockAt, Spot, Stretch, Table};
use crate::io::DiskOp;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes that a compaction reads at a time.
const AHEAD_MAX: u32 = 256 << 10;

/// How a cursor gets its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Through the cache; reads ahead more and more as it goes on.
    Cached,
    /// Past the cache, in large pieces (compaction, scrub).
    Bulk,
}

#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says something of its own: where it stands, how it reads"
)]
pub(super) struct Cursor {
    run: Run,
    /// The table in hand, and where those begin and end that it walks.
    at: usize,
    from: usize,
    end: usize,
    backward: bool,
    block_at: BlockAt,
    block: Option<Arc<Block>>,
    spot: Spot,
    /// Of a backward cursor: the entries up to the current one.
    stretch: Stretch,
    key: Vec<u8>,
    /// `key` and `spot` are those of the current entry.
    is_on: bool,
    /// The current entry is the first at or after this name (after it if the flag is set); of a backward cursor the last
    /// at or before it (before it).
    target: Option<(Vec<u8>, bool)>,
    /// What was read: table number, offset, bytes.
    extent: Option<(u64, u64, Bytes)>,
    /// What is being read: offset and length.
    asked: (u64, u32),
    reading_kind: Reading,
    ahead: u32,
    /// The last read was of more than one block.
    is_wide: bool,
    /// A read is under way.
    pub(super) reading: bool,
}

/// What a cursor has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The current entry stands.
    Entry,
    /// The block must be read first.
    Missing,
    /// The block was read and is damaged.
    Damaged(String),
    End,
}

/// A block that cannot be read, and why.
pub(super) type DamagedBlock = ((Arc<Table>, BlockAt), String);

/// Makes the entry of every cursor stand, as far as what has been read reaches: the reads that are missing, by the number of
/// their cursor; or the first damaged block, which its cursor has passed.
pub(super) fn settle_all(
    cursors: &mut [Cursor],
    cache: &mut BlockCache,
) -> (Vec<(usize, DiskOp)>, Option<DamagedBlock>) {
    let mut missing = Vec::new();
    for (source, cursor) in cursors.iter_mut().enumerate() {
        if cursor.key().is_some() {
            continue;
        }
        match cursor.settle(cache) {
            Step::Missing => missing.extend(cursor.read().map(|op| (source, op))),
            Step::Damaged(reason) => {
                let damage = cursor.place().map(|place| (place, reason));
                cursor.skip_block();
                return (missing, damage);
            }
            Step::Entry | Step::End => {}
        }
    }
    (missing, None)
}

impl Cursor {
    /// A cursor over `run[from..to]`, at its first entry.
    pub(super) fn new(run: &Run, from: usize, to: usize, reading_kind: Reading) -> Self {
        Self {
            run: run.clone(),
            at: from,
            from,
            backward: false,
            end: to.min(run.len()),
            block_at: BlockAt::default(),
            block: None,
            spot: Spot::default(),
            stretch: Stretch::default(),
            key: Vec::new(),
            is_on: false,
            target: None,
            extent: None,
            asked: (0, 0),
            reading_kind,
            ahead: if reading_kind == Reading::Bulk { AHEAD_MAX } else { 0 },
            is_wide: false,
            reading: false,
        }
    }

    /// A cursor at the first entry at or after `name` (after it if `exclusive`); the tables of `run[from..to]` are in order.
    pub(super) fn seek(run: &Run, from: usize, to: usize, name: &[u8], exclusive: bool) -> Self {
        let mut cursor = Self::new(run, from, to, Reading::Cached);
        let tables = &run[from..cursor.end];
        cursor.at = from + tables.partition_point(|table| *table.meta.last < *name);
        if let Some(table) = cursor.table() {
            cursor.block_at = table.block_for(name);
            cursor.target = Some((name.to_vec(), exclusive));
        }
        cursor
    }

    /// A backward cursor over `run[from..to]`, at the last entry at or before `name` (before it if `exclusive`), or at the
    /// last of all; the tables are in order.
    pub(super) fn seek_back(run: &Run, from: usize, to: usize, name: Option<&[u8]>, exclusive: bool) -> Self {
        let mut cursor = Self::new(run, from, to, Reading::Cached);
        let tables = &run[from..cursor.end];
        let left =
            name.map_or(tables.len(), |name| tables.partition_point(|table| *table.meta.first <= *name));
        cursor.backward = true;
        cursor.at = (from + left).checked_sub(1).filter(|_| left > 0).unwrap_or(usize::MAX);
        if let Some(table) = cursor.table() {
            cursor.block_at = name.map_or_else(|| table.last_block(), |name| table.block_for(name));
            cursor.target = name.map(|name| (name.to_vec(), exclusive));
        }
        cursor
    }

    fn table(&self) -> Option<&Arc<Table>> {
        self.run.get(self.at).filter(|_| self.at >= self.from && self.at < self.end)
    }

    /// Bytes of what was read and is held.
    pub(super) fn memory(&self) -> usize {
        self.extent.as_ref().map_or(0, |(_, _, data)| data.len())
            + self.block.as_ref().map_or(0, |block| block.bytes())
    }

    /// Whether a file may still be read: a table's, or one that such a table points to.
    pub(super) fn uses(&self, number: u64) -> bool {
        let left = if self.backward { self.from..self.at.wrapping_add(1) } else { self.at..self.end };
        let left = self.run.get(left).unwrap_or_default();
        left.iter().any(|table| table.meta.uses(number))
    }

    /// Makes the current entry stand, as far as what has been read reaches.
    pub(super) fn settle(&mut self, cache: &mut BlockCache) -> Step {
        while !self.is_on {
            let Some(table) = self.table() else {
                return Step::End;
            };
            if table.handle(self.block_at).is_none() {
                self.next_table();
                continue;
            }
            let block = match self.block.take().map_or_else(|| self.find(cache), |block| Ok(Some(block))) {
                Ok(Some(block)) => block,
                Ok(None) => return Step::Missing,
                Err(reason) => return Step::Damaged(reason),
            };
            let spot = match (self.target.take(), self.backward) {
                (Some((name, exclusive)), false) => block.seek(&name, exclusive, &mut self.key),
                (None, false) => block.first(&mut self.key),
                (Some((name, exclusive)), true) => {
                    block.seek_back(&name, exclusive, &mut self.stretch, &mut self.key)
                }
                (None, true) => block.last(&mut self.stretch, &mut self.key),
            };
            self.enter(block, spot);
        }
        Step::Entry
    }

    fn next_table(&mut self) {
        if self.backward {
            self.at = self.at.wrapping_sub(1);
            self.block_at = self.table().map_or_else(BlockAt::default, |table| table.last_block());
        } else {
            (self.at, self.block_at) = (self.at + 1, BlockAt::default());
        }
    }

    fn enter(&mut self, block: Arc<Block>, spot: Option<Spot>) {
        if let Some(spot) = spot {
            (self.spot, self.is_on, self.block) = (spot, true, Some(block));
            self.pass_dropped();
        } else {
            self.skip_block();
        }
    }

    /// The current entry is of a slot that was dropped: goes on where the next slot begins, or backwards where the one
    /// before ends.
    fn pass_dropped(&mut self) {
        let Some(table) = self.table().filter(|table| table.meta.drops(&self.key)) else {
            return;
        };
        let slot = entry::slot_of(&self.key);
        let next = if self.backward { Some(slot) } else { slot.checked_add(1) };
        let block_at = next.map(|next| table.block_for(&next.to_be_bytes()));
        (self.is_on, self.block) = (false, None);
        match (next, block_at) {
            (Some(next), Some(block_at)) => {
                self.block_at = block_at;
                self.target = Some((next.to_be_bytes().to_vec(), self.backward));
            }
            _ => self.next_table(),
        }
    }

    /// Leaves the current entry for the next.
    pub(super) fn advance(&mut self) {
        if let Some(block) = self.block.take().filter(|_| self.is_on) {
            let spot = if self.backward {
                block.before(&mut self.stretch, &mut self.key)
            } else {
                block.next(self.spot, &mut self.key)
            };
            self.enter(block, spot);
        }
    }

    /// The key of the current entry.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.is_on.then_some(&self.key)
    }

    /// The body of the current entry, and what holds it.
    pub(super) fn body(&self) -> Option<(&[u8], &Bytes)> {
        let block = self.block.as_ref().filter(|_| self.is_on)?;
        Some((block.body(self.spot), block.owner()))
    }

    /// The block in hand, from what was read or from the cache.
    fn find(&mut self, cache: &mut BlockCache) -> Result<Option<Arc<Block>>, String> {
        let Some((table, handle)) =
            self.table().and_then(|table| Some((table, table.handle(self.block_at)?)))
        else {
            return Ok(None);
        };
        let number = table.meta.number;
        if let Some((of, offset, data)) = &self.extent
            && *of == number
            && let Some(start) = handle.offset.checked_sub(*offset).and_then(|at| usize::try_from(at).ok())
            && let Some(end) = start.checked_add(handle.len as usize)
            && end <= data.len()
        {
            let mut block = table.decode(handle, &data.slice(start..end))?;
            if self.reading_kind == Reading::Cached {
                if data.len() > handle.len as usize {
                    block.detach();
                }
                let block = Arc::new(block);
                cache.insert(number, handle.offset, &block);
                return Ok(Some(block));
            }
            return Ok(Some(Arc::new(block)));
        }
        match self.reading_kind {
            Reading::Cached => Ok(cache.get(number, handle.offset).cloned()),
            Reading::Bulk => Ok(None),
        }
    }

    /// The read of the missing block and, more and more, of those behind it.
    pub(super) fn read(&mut self) -> Option<DiskOp> {
        let table = self.table()?;
        let first = table.handle(self.block_at)?;
        let (mut offset, mut len, mut at) = (first.offset, first.len, self.block_at);
        while len < self.ahead {
            at = if self.backward { table.block_before(at) } else { table.block_after(at) };
            let Some(next) = table.handle(at).filter(|next| next.len <= self.ahead - len) else {
                break;
            };
            if self.backward && next.offset + u64::from(next.len) == offset {
                offset = next.offset;
            } else if self.backward || next.offset != offset + u64::from(len) {
                break;
            }
            len += next.len;
        }
        let file = table.meta.file();
        self.is_wide = len > first.len;
        self.ahead = (len * 2).min(AHEAD_MAX).max(self.ahead);
        (self.reading, self.asked) = (true, (offset, len));
        Some(DiskOp::Read { file, offset, len })
    }

    /// What was asked for has come.
    pub(super) fn on_data(&mut self, data: Bytes) {
        self.reading = false;
        if let Some(table) = self.table() {
            let (number, (offset, len)) = (table.meta.number, self.asked);
            // Shorter than asked: what is there of a block does not pass the check, and is reported as damage.
            let mut data = data;
            if data.len() < len as usize {
                let mut padded = data.to_vec();
                padded.resize(len as usize, 0);
                data = Bytes::from(padded);
            }
            self.extent = Some((number, offset, data));
        }
    }

    /// Leaves the block in hand, whatever is left in it.
    pub(super) fn skip_block(&mut self) {
        (self.is_on, self.block) = (false, None);
        if let Some(table) = self.table() {
            self.block_at = if self.backward {
                table.block_before(self.block_at)
            } else {
                table.block_after(self.block_at)
            };
        }
    }

    /// A read of several blocks at once has failed: the next asks for one alone. False if this one did.
    pub(super) fn narrow(&mut self) -> bool {
        self.reading = false;
        self.ahead = 0;
        core::mem::take(&mut self.is_wide)
    }

    /// The table and block in hand.
    pub(super) fn place(&self) -> Option<(Arc<Table>, BlockAt)> {
        self.table().map(|table| (table.clone(), self.block_at))
    }
}
