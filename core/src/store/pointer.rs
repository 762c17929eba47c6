//! What an entry says of a value that stands apart (see `values`).

use super::codec::Reader;
use crate::io::{FileKind, FileName};
use alloc::vec::Vec;

/// Bytes of a pointer.
pub(super) const POINTER: usize = 28;

/// Where a value stands apart from its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) file: u64,
    pub(super) offset: u64,
    /// Bytes of the part in the file.
    pub(super) stored: u32,
    /// Bytes of the value.
    pub(super) len: u32,
    /// The checksum of the part: what stands at the place must be this very value, and not an earlier one that was given up.
    pub(super) crc: u32,
}

impl Pointer {
    pub(super) fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.file.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.stored.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (file, offset) = (reader.u64()?, reader.u64()?);
        let (stored, len, crc) = (reader.u32()?, reader.u32()?, reader.u32()?);
        Some(Self { file, offset, stored, len, crc })
    }

    pub(super) fn name(self) -> FileName {
        FileName::new(FileKind::Value, self.file)
    }
}
