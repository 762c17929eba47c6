//! Walks a table in key order, block by block, without ever waiting: where a block is missing it says which.

use super::Entry;
use super::cache::BlockCache;
use super::table::{Block, BlockHandle, Table};
use crate::base::RecordKey;
use crate::io::{DiskOp, DiskResult};
use alloc::string::String;
use alloc::sync::Arc;

#[derive(Debug, Clone)]
pub(super) struct Cursor {
    pub(super) table: Arc<Table>,
    at: usize,
    block: Option<Arc<Block>>,
    current: Option<(RecordKey, Entry)>,
    /// A read of the block `at` is under way.
    pub(super) reading: bool,
}

/// What a cursor has.
pub(super) enum Step {
    /// The next entry is in `current`.
    Entry,
    /// The block must be read first.
    Missing,
    End,
}

impl Cursor {
    /// A cursor that will find entries from `from` on; `None` if there are none.
    pub(super) fn new(table: &Arc<Table>, from: &RecordKey) -> Option<Self> {
        let at = table.block_for(from)?;
        Some(Self { table: table.clone(), at, block: None, current: None, reading: false })
    }

    /// Moves to the first entry after `from` (at or after it unless `exclusive`). `from` never falls.
    pub(super) fn advance(&mut self, from: &RecordKey, exclusive: bool, cache: &mut BlockCache) -> Step {
        let is_before = |key: &RecordKey| if exclusive { key <= from } else { key < from };
        if self.current.as_ref().is_some_and(|(key, _)| !is_before(key)) {
            return Step::Entry;
        }
        self.current = None;
        while let Some(handle) = self.table.block(self.at) {
            let held = self.block.take();
            let Some(block) = held.or_else(|| cache.get(self.table.meta.number, handle.offset)) else {
                return Step::Missing;
            };
            self.current = block.seek(from, exclusive);
            if self.current.is_some() {
                self.block = Some(block);
                return Step::Entry;
            }
            self.at += 1;
        }
        Step::End
    }

    pub(super) fn current(&self) -> Option<&(RecordKey, Entry)> {
        self.current.as_ref()
    }

    /// The read of the missing block.
    pub(super) fn read(&mut self) -> Option<DiskOp> {
        let handle = self.table.block(self.at)?;
        self.reading = true;
        Some(read_of(&self.table, handle))
    }

    /// The missing block has come.
    pub(super) fn on_block(&mut self, result: &DiskResult) -> Result<Arc<Block>, String> {
        self.reading = false;
        let handle = self.table.block(self.at).ok_or("a block beyond the table")?;
        let block = Arc::new(decode(&self.table, handle, result)?);
        self.block = Some(block.clone());
        Ok(block)
    }

    /// Offset of the block in hand.
    pub(super) fn offset(&self) -> u64 {
        self.table.block(self.at).map_or(0, |handle| handle.offset)
    }
}

pub(super) fn read_of(table: &Table, handle: &BlockHandle) -> DiskOp {
    DiskOp::Read { file: table.meta.file(), offset: handle.offset, len: handle.len }
}

pub(super) fn decode(table: &Table, handle: &BlockHandle, result: &DiskResult) -> Result<Block, String> {
    let DiskResult::Data(data) = result else {
        return Err(alloc::format!("{}: a read gave no data", table.meta.file()));
    };
    Block::decode(table.meta.number, handle, data)
}
