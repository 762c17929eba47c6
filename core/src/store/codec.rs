//! The small parts of every format on disk: little-endian numbers, LEB128, stamps. Reading never panics and takes no
//! memory: whatever the bytes, it gives a value or `None`.

use crate::base::{Hlc, NodeId, Stamp};
use alloc::vec::Vec;

/// Bytes of a stamp.
pub(super) const STAMP: usize = 10;

/// Reads a slice from its beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let first = self.u8()?;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        u64::try_from(self.long(u128::from(first & 0x7f), 7)?).ok()
    }

    pub(super) fn varint_u128(&mut self) -> Option<u128> {
        self.long(0, 0)
    }

    /// LEB128 of which `shift` bits, those of `value`, have been read.
    fn long(&mut self, mut value: u128, mut shift: u32) -> Option<u128> {
        loop {
            let byte = self.u8()?;
            let bits = u128::from(byte & 0x7f);
            if shift >= 128 || (bits << shift) >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
            shift += 7;
        }
    }

    pub(super) fn len(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    pub(super) fn stamp(&mut self) -> Option<Stamp> {
        let hlc = Hlc(self.u64()?);
        Some(Stamp { hlc, node: NodeId(self.u16()?) })
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, value: u64) {
    put_varint_u128(out, u128::from(value));
}

pub(super) fn put_varint_u128(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_stamp(out: &mut Vec<u8>, stamp: Stamp) {
    out.extend_from_slice(&stamp.hlc.0.to_le_bytes());
    out.extend_from_slice(&stamp.node.0.to_le_bytes());
}
