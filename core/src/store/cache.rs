//! The bounded block cache: CLOCK with a second chance, so that one pass over much data does not empty it.

use super::table::Block;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;

#[derive(Debug, Clone)]
pub(super) struct BlockCache {
    capacity: usize,
    bytes: usize,
    /// By table number and offset: the block, and whether it was used since the hand passed.
    blocks: BTreeMap<(u64, u64), (Arc<Block>, bool)>,
    hand: VecDeque<(u64, u64)>,
}

impl BlockCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, bytes: 0, blocks: BTreeMap::new(), hand: VecDeque::new() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&mut self, table: u64, offset: u64) -> Option<Arc<Block>> {
        let (block, used) = self.blocks.get_mut(&(table, offset))?;
        *used = true;
        Some(block.clone())
    }

    pub(super) fn insert(&mut self, table: u64, offset: u64, block: &Arc<Block>) {
        if block.bytes() > self.capacity / 4 || self.blocks.contains_key(&(table, offset)) {
            return;
        }
        self.bytes += block.bytes();
        self.blocks.insert((table, offset), (block.clone(), false));
        self.hand.push_back((table, offset));
        while self.bytes > self.capacity {
            let Some(place) = self.hand.pop_front() else {
                return;
            };
            match self.blocks.get_mut(&place) {
                Some((_, used)) if *used => {
                    *used = false;
                    self.hand.push_back(place);
                }
                _ => {
                    if let Some((block, _)) = self.blocks.remove(&place) {
                        self.bytes -= block.bytes();
                    }
                }
            }
        }
    }
}
