//! The bounded block cache: CLOCK with small counters. What is read once goes first; one pass over much data does not
//! empty it (generalised CLOCK, Smith 1978).

use super::table::Block;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Laps of the hand that a block survives at most.
const USED_MAX: u8 = 3;

#[derive(Debug, Clone)]
struct Frame {
    place: (u64, u64),
    block: Arc<Block>,
    used: u8,
}

#[derive(Debug, Clone)]
pub(super) struct BlockCache {
    capacity: usize,
    bytes: usize,
    /// By table number and offset. Never iterated: the order of the frames decides.
    places: HashMap<(u64, u64), u32, FixedState>,
    frames: Vec<Frame>,
    hand: usize,
}

impl BlockCache {
    pub(super) fn new(capacity: usize) -> Self {
        let places = HashMap::with_hasher(FixedState::with_seed(0));
        Self { capacity, bytes: 0, places, frames: Vec::new(), hand: 0 }
    }

    /// Takes another capacity.
    pub(super) fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        while self.bytes > self.capacity && !self.frames.is_empty() {
            self.evict();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&mut self, table: u64, offset: u64) -> Option<&Arc<Block>> {
        let frame = &mut self.frames[*self.places.get(&(table, offset))? as usize];
        frame.used = (frame.used + 1).min(USED_MAX);
        Some(&frame.block)
    }

    pub(super) fn insert(&mut self, table: u64, offset: u64, block: &Arc<Block>) {
        let bytes = block.bytes();
        if bytes > self.capacity / 4 || self.places.contains_key(&(table, offset)) {
            return;
        }
        while self.bytes + bytes > self.capacity && !self.frames.is_empty() {
            self.evict();
        }
        self.bytes += bytes;
        self.places.insert((table, offset), self.frames.len() as u32);
        self.frames.push(Frame { place: (table, offset), block: block.clone(), used: 0 });
    }

    /// Takes out the first block under the hand that was not used since it passed.
    fn evict(&mut self) {
        loop {
            if self.hand >= self.frames.len() {
                self.hand = 0;
            }
            let frame = &mut self.frames[self.hand];
            if frame.used > 0 {
                frame.used -= 1;
                self.hand += 1;
                continue;
            }
            let gone = self.frames.swap_remove(self.hand);
            self.places.remove(&gone.place);
            if let Some(moved) = self.frames.get(self.hand) {
                self.places.insert(moved.place, self.hand as u32);
            }
            self.bytes -= gone.block.bytes();
            self.hand += 1;
            return;
        }
    }
}
