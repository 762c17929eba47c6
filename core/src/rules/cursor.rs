//! Cursors of SCAN: a place in store order in one number, with nothing kept by the server that could be lost.
//!
//! A cursor names a slot and, inside of one, the last key that was covered, by a mark of 39 bits: a hash of the key. A node
//! remembers the keys of its latest cursors; any other node finds the key by looking for its mark in the one slot. Where the
//! key is gone for good, or two keys share a mark, the walk goes on from the earliest place that fits: a key may come again,
//! none is missed. A cursor is below 2^53, so that clients that hold it as a floating-point number hold it exactly.

use crate::base::Slot;

const MARK_BITS: u32 = 39;

/// A cursor taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The slot.
    pub slot: Slot,
    /// The mark of the last key covered in it; 0: the slot has not been begun.
    pub mark: u64,
}

impl Cursor {
    /// The cursor of a place: after `key` in `slot`, or before the slot's first key.
    pub fn new(slot: Slot, key: Option<&[u8]>) -> Self {
        Self { slot, mark: key.map_or(0, mark) }
    }

    /// Reads the number that a client gives; `None` beyond the last slot.
    pub fn decode(number: u64) -> Option<Self> {
        let slot = u16::try_from(number >> MARK_BITS).ok().filter(|slot| *slot < Slot::COUNT)?;
        Some(Self { slot: Slot(slot), mark: number & ((1 << MARK_BITS) - 1) })
    }

    /// The number for the client. 0 is the beginning, and stands for the end, too.
    pub fn encode(self) -> u64 {
        u64::from(self.slot.0) << MARK_BITS | self.mark
    }

    /// Whether this cursor stands after `key`.
    pub fn is_after(self, key: &[u8]) -> bool {
        self.mark == mark(key)
    }
}

/// FNV-1a (Fowler, Noll, Vo) over the key, finished as in splitmix64: the same at every node and for ever. Never 0.
fn mark(key: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((hash ^ (hash >> 31)) >> (64 - MARK_BITS)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn a_cursor_comes_back_as_it_was_and_fits_a_float() {
        for slot in [0, 1, 8_191, Slot::COUNT - 1] {
            for key in [None, Some(&b""[..]), Some(b"k"), Some(&[0xff; 1000])] {
                let cursor = Cursor::new(Slot(slot), key);
                assert!(cursor.encode() < 1 << 53);
                assert_eq!(Cursor::decode(cursor.encode()), Some(cursor));
                assert!(key.is_none_or(|key| cursor.is_after(key) && cursor.mark != 0));
            }
        }
        assert_eq!(Cursor::new(Slot(0), None).encode(), 0);
        assert_eq!(Cursor::decode(u64::from(Slot::COUNT) << MARK_BITS), None);
        assert_eq!(Cursor::decode(u64::MAX), None);
    }

    #[test]
    fn marks_are_the_same_for_ever_and_spread() {
        assert_eq!((mark(b"user:1"), mark(b"")), (0x0019_485e_0d49, 0x007a_950a_f4d4));
        let marks: BTreeSet<u64> = (0..10_000_u32).map(|number| mark(&number.to_le_bytes())).collect();
        assert_eq!(marks.len(), 10_000);
    }
}
