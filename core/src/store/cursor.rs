//! Walks a run of tables in key order, block by block, without ever waiting: where a block is missing it says which.

use super::cache::BlockCache;
use super::levels::Run;
use super::table::{Block, BlockAt, Spot, Table};
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
pub(super) struct Cursor {
    run: Run,
    /// The table in hand, and the end of those it walks.
    at: usize,
    end: usize,
    block_at: BlockAt,
    block: Option<Arc<Block>>,
    spot: Spot,
    key: Vec<u8>,
    /// `key` and `spot` are those of the current entry.
    is_on: bool,
    /// The current entry is the first at or after this name (after it if the flag is set).
    target: Option<(Vec<u8>, bool)>,
    /// What was read: table number, offset, bytes.
    extent: Option<(u64, u64, Bytes)>,
    reading_kind: Reading,
    ahead: u32,
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

impl Cursor {
    /// A cursor over `run[from..to]`, at its first entry.
    pub(super) fn new(run: &Run, from: usize, to: usize, reading_kind: Reading) -> Self {
        Self {
            run: run.clone(),
            at: from,
            end: to.min(run.len()),
            block_at: BlockAt::default(),
            block: None,
            spot: Spot::default(),
            key: Vec::new(),
            is_on: false,
            target: None,
            extent: None,
            reading_kind,
            ahead: if reading_kind == Reading::Bulk { AHEAD_MAX } else { 0 },
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

    fn table(&self) -> Option<&Arc<Table>> {
        self.run.get(self.at).filter(|_| self.at < self.end)
    }

    /// Whether the table may still be read.
    pub(super) fn uses(&self, number: u64) -> bool {
        let left = self.run.get(self.at..self.end).unwrap_or_default();
        left.iter().any(|table| table.meta.number == number)
    }

    /// Makes the current entry stand, as far as what has been read reaches.
    pub(super) fn settle(&mut self, cache: &mut BlockCache) -> Step {
        while !self.is_on {
            let Some(table) = self.table() else {
                return Step::End;
            };
            if table.handle(self.block_at).is_none() {
                (self.at, self.block_at) = (self.at + 1, BlockAt::default());
                continue;
            }
            let block = match self.block.take().map_or_else(|| self.find(cache), |block| Ok(Some(block))) {
                Ok(Some(block)) => block,
                Ok(None) => return Step::Missing,
                Err(reason) => return Step::Damaged(reason),
            };
            let spot = match self.target.take() {
                Some((name, exclusive)) => block.seek(&name, exclusive, &mut self.key),
                None => block.first(&mut self.key),
            };
            self.enter(block, spot);
        }
        Step::Entry
    }

    fn enter(&mut self, block: Arc<Block>, spot: Option<Spot>) {
        if let Some(spot) = spot {
            (self.spot, self.is_on, self.block) = (spot, true, Some(block));
        } else {
            self.skip_block();
        }
    }

    /// Leaves the current entry for the next.
    pub(super) fn advance(&mut self) {
        if let Some(block) = self.block.take().filter(|_| self.is_on) {
            let spot = block.next(self.spot, &mut self.key);
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
        let (mut len, mut at) = (first.len, self.block_at);
        while len < self.ahead {
            at = table.block_after(at);
            match table.handle(at) {
                Some(next)
                    if next.offset == first.offset + u64::from(len) && next.len <= self.ahead - len =>
                {
                    len += next.len;
                }
                _ => break,
            }
        }
        let (file, offset) = (table.meta.file(), first.offset);
        self.ahead = (len * 2).min(AHEAD_MAX).max(self.ahead);
        self.reading = true;
        Some(DiskOp::Read { file, offset, len })
    }

    /// What was asked for has come.
    pub(super) fn on_data(&mut self, data: Bytes) {
        self.reading = false;
        if let Some((table, handle)) =
            self.table().and_then(|table| Some((table, table.handle(self.block_at)?)))
        {
            let number = table.meta.number;
            // Shorter than the block: what is there does not pass the check, and is reported as damage.
            let mut data = data;
            if data.len() < handle.len as usize {
                let mut padded = data.to_vec();
                padded.resize(handle.len as usize, 0);
                data = Bytes::from(padded);
            }
            self.extent = Some((number, handle.offset, data));
        }
    }

    /// Leaves the block in hand, whatever is left in it.
    pub(super) fn skip_block(&mut self) {
        (self.is_on, self.block) = (false, None);
        if let Some(table) = self.table() {
            self.block_at = table.block_after(self.block_at);
        }
    }

    /// The table and block in hand.
    pub(super) fn place(&self) -> Option<(Arc<Table>, BlockAt)> {
        self.table().map(|table| (table.clone(), self.block_at))
    }
}
