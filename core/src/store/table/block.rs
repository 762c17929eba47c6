//! Data blocks: entries in order of their keys, each key without what it shares with the one before; every sixteenth
//! stands whole, and where those stand is listed at the end.

use super::super::codec::{Reader, put_varint};
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// Entries between two whole keys.
const RESTART_EVERY: usize = 16;

#[derive(Debug, Clone, Default)]
pub(super) struct BlockBuilder {
    data: Vec<u8>,
    restarts: Vec<u32>,
    entries: usize,
    last: Vec<u8>,
}

impl BlockBuilder {
    pub(super) fn len(&self) -> usize {
        self.data.len() + self.restarts.len() * 4
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    pub(super) fn push(&mut self, name: &[u8], body: &[u8]) {
        let shared = if self.entries.is_multiple_of(RESTART_EVERY) {
            self.restarts.push(self.data.len() as u32);
            0
        } else {
            name.iter().zip(&self.last).take_while(|(a, b)| a == b).count()
        };
        for number in [shared, name.len() - shared, body.len()] {
            put_varint(&mut self.data, number as u64);
        }
        self.data.extend_from_slice(&name[shared..]);
        self.data.extend_from_slice(body);
        self.entries += 1;
        self.last.clear();
        self.last.extend_from_slice(name);
    }

    /// The block as it is written; the builder is empty then, and keeps its memory.
    pub(super) fn finish(&mut self, emit: impl FnOnce(&[u8])) {
        for restart in &self.restarts {
            self.data.extend_from_slice(&restart.to_le_bytes());
        }
        self.data.extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        emit(&self.data);
        self.data.clear();
        self.restarts.clear();
        self.entries = 0;
        self.last.clear();
    }
}

/// A verified data block.
#[derive(Debug, Clone)]
pub(in super::super) struct Block {
    data: Bytes,
    /// Where the entries end and the list of restarts begins.
    end: usize,
    restarts: usize,
}

/// An entry's place in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) struct Spot {
    body: (usize, usize),
    next: usize,
}

impl Block {
    pub(super) fn open(data: Bytes) -> Option<Self> {
        let at = data.len().checked_sub(4)?;
        let restarts = Reader(&data[at..]).u32()? as usize;
        let end = restarts.checked_mul(4).and_then(|bytes| at.checked_sub(bytes))?;
        (restarts > 0).then_some(Self { data, end, restarts })
    }

    /// A value that stands apart, kept in memory as a block without entries.
    pub(in super::super) fn of_value(value: Bytes) -> Self {
        Self { data: value, end: 0, restarts: 0 }
    }

    /// Bytes that the block takes in memory.
    pub(in super::super) fn bytes(&self) -> usize {
        self.data.len() + 96
    }

    /// Copies the block out of a larger piece that was read with it.
    pub(in super::super) fn detach(&mut self) {
        self.data = Bytes::copy_from_slice(&self.data);
    }

    /// The bytes that hold its bodies.
    pub(in super::super) fn owner(&self) -> &Bytes {
        &self.data
    }

    pub(in super::super) fn body(&self, spot: Spot) -> &[u8] {
        self.data.get(spot.body.0..spot.body.1).unwrap_or_default()
    }

    /// The entry at `at`: the length that its key shares, the rest of it, and the body's spot.
    fn raw(&self, at: usize) -> Option<(usize, Range<usize>, Spot)> {
        let entries = self.data.get(..self.end)?;
        let mut reader = Reader(entries.get(at..)?);
        let (shared, rest, body) = (reader.len()?, reader.len()?, reader.len()?);
        let start = self.end - reader.0.len();
        let middle = start.checked_add(rest)?;
        let next = middle.checked_add(body).filter(|next| *next <= self.end)?;
        Some((shared, start..middle, Spot { body: (middle, next), next }))
    }

    fn restart(&self, number: usize) -> Option<usize> {
        let at = self.end + number * 4;
        Some(Reader(self.data.get(at..at + 4)?).u32()? as usize)
    }

    /// Which is the last whole key at or before `name`, or the first.
    fn restart_for(&self, name: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (1, self.restarts);
        while low < high {
            let middle = usize::midpoint(low, high);
            let key = self.raw(self.restart(middle)?).and_then(|(_, key, _)| self.data.get(key))?;
            if key <= name { low = middle + 1 } else { high = middle }
        }
        Some(low - 1)
    }

    /// The entry that begins at `at`; `key` holds the one before and becomes this one's. A block has been verified: an
    /// entry that does not decode ends it.
    fn entry(&self, at: usize, key: &mut Vec<u8>) -> Option<Spot> {
        let (shared, rest, spot) = self.raw(at)?;
        key.truncate(shared);
        key.extend_from_slice(&self.data[rest]);
        Some(spot)
    }

    /// The first entry; its key goes to `key`.
    pub(in super::super) fn first(&self, key: &mut Vec<u8>) -> Option<Spot> {
        key.clear();
        self.entry(0, key)
    }

    /// The entry after `spot`, whose key `key` holds.
    pub(in super::super) fn next(&self, spot: Spot, key: &mut Vec<u8>) -> Option<Spot> {
        self.entry(spot.next, key)
    }

    /// The first entry at or after `name` (after it if `exclusive`).
    pub(in super::super) fn seek(&self, name: &[u8], exclusive: bool, key: &mut Vec<u8>) -> Option<Spot> {
        let mut at = self.restart(self.restart_for(name)?)?;
        key.clear();
        loop {
            let spot = self.entry(at, key)?;
            if &key[..] > name || (!exclusive && &key[..] == name) {
                return Some(spot);
            }
            at = spot.next;
        }
    }

    /// The body of `name`. No key is put together: how much an entry shares with the one before it tells how it compares.
    pub(in super::super) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let mut at = self.restart(self.restart_for(name)?)?;
        // Bytes that the entry before, which is below `name`, has in common with it.
        let mut common = 0;
        loop {
            let (shared, rest, spot) = self.raw(at)?;
            at = spot.next;
            if shared > common {
                continue;
            }
            if shared < common {
                // It differs from the one before where that one is still like `name`; so does the next whole key.
                return None;
            }
            let (rest, wanted) = (self.data.get(rest)?, name.get(common..)?);
            let more = rest.iter().zip(wanted).take_while(|(a, b)| a == b).count();
            match (rest.get(more), wanted.get(more)) {
                (None, None) => return Some(self.body(spot)),
                (None, Some(_)) => {}
                (Some(here), Some(there)) if here < there => {}
                _ => return None,
            }
            common += more;
        }
    }

    /// Decodes the entries from one whole key to the next. Bytes that do not decode end them.
    fn unfold(&self, number: usize, stretch: &mut Stretch) -> Option<()> {
        let end = if number + 1 < self.restarts { self.restart(number + 1)? } else { self.end };
        let mut at = self.restart(number)?;
        stretch.number = number;
        stretch.keys.clear();
        stretch.entries.clear();
        let mut before = 0;
        while let Some((shared, rest, spot)) = self.raw(at).filter(|_| at < end) {
            let start = stretch.keys.len();
            let shared = shared.min(start - before);
            stretch.keys.extend_from_within(before..before + shared);
            stretch.keys.extend_from_slice(&self.data[rest]);
            before = start;
            stretch.entries.push((start, spot));
            at = spot.next;
        }
        Some(())
    }

    /// The last entry; its key goes to `key`, and `stretch` remembers the way back.
    pub(in super::super) fn last(&self, stretch: &mut Stretch, key: &mut Vec<u8>) -> Option<Spot> {
        self.unfold(self.restarts.checked_sub(1)?, stretch)?;
        self.top(stretch, key)
    }

    /// The last entry at or before `name` (before it if `exclusive`).
    pub(in super::super) fn seek_back(
        &self,
        name: &[u8],
        exclusive: bool,
        stretch: &mut Stretch,
        key: &mut Vec<u8>,
    ) -> Option<Spot> {
        self.unfold(self.restart_for(name)?, stretch)?;
        loop {
            let spot = self.top(stretch, key)?;
            if &key[..] < name || (!exclusive && &key[..] == name) {
                return Some(spot);
            }
            stretch.pop();
        }
    }

    /// The entry before the one on top of `stretch`.
    pub(in super::super) fn before(&self, stretch: &mut Stretch, key: &mut Vec<u8>) -> Option<Spot> {
        stretch.pop();
        self.top(stretch, key)
    }

    fn top(&self, stretch: &mut Stretch, key: &mut Vec<u8>) -> Option<Spot> {
        while stretch.entries.is_empty() {
            self.unfold(stretch.number.checked_sub(1)?, stretch)?;
        }
        let (start, spot) = *stretch.entries.last()?;
        key.clear();
        key.extend_from_slice(&stretch.keys[start..]);
        Some(spot)
    }
}

/// The entries from one whole key to the next, to be walked backwards: the current entry is the last.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Stretch {
    number: usize,
    keys: Vec<u8>,
    /// Where the key of each begins, and its spot.
    entries: Vec<(usize, Spot)>,
}

impl Stretch {
    fn pop(&mut self) {
        if let Some((start, _)) = self.entries.pop() {
            self.keys.truncate(start);
        }
    }
}
