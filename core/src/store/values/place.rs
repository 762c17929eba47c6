//! Where a value goes when its entry is written to a table.

use super::super::entry;
use super::super::pointer::Pointer;
use super::ValueWriter;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// What is needed to give an entry's value its place.
pub(in super::super) struct Placing<'a> {
    /// Longer values stand apart.
    pub(in super::super) most: usize,
    pub(in super::super) values: Option<&'a mut ValueWriter>,
    /// Value files whose values are written anew.
    pub(in super::super) condemned: &'a BTreeSet<u64>,
    /// What was read of such a file: number, offset, bytes.
    pub(in super::super) extent: Option<&'a (u64, u64, Bytes)>,
}

/// What became of the value.
pub(in super::super) enum Placed {
    /// The body goes to the table as it is.
    AsItIs,
    /// Another body goes there, whose value has been written.
    Apart,
    /// A value file is needed first.
    NeedsWriter,
    /// The value must be read first, to be written anew.
    NeedsValue(Pointer),
    /// The value cannot be read.
    Damaged(Pointer, String),
}

impl Placing<'_> {
    /// Writes the value of `body` to the value file if it belongs there; then `out` is the body that points to it.
    pub(in super::super) fn place(self, body: &[u8], out: &mut Vec<u8>) -> Placed {
        if let Some(pointer) = entry::pointer(body) {
            if !self.condemned.contains(&pointer.file) {
                return Placed::AsItIs;
            }
            let Some(part) = self.extent.and_then(|extent| in_extent(extent, pointer)) else {
                return Placed::NeedsValue(pointer);
            };
            return match (pointer.open(&part), self.values) {
                (Ok(value), Some(values)) => {
                    entry::put_apart(body, values.put(&value), out);
                    Placed::Apart
                }
                (Ok(_), None) => Placed::NeedsWriter,
                (Err(reason), _) => Placed::Damaged(pointer, reason),
            };
        }
        match (entry::large_value(body, self.most), self.values) {
            (None, _) => Placed::AsItIs,
            (Some(value), Some(values)) => {
                entry::put_apart(body, values.put(value), out);
                Placed::Apart
            }
            (Some(_), None) => Placed::NeedsWriter,
        }
    }
}

/// The bytes at the place of a value, if they have been read.
fn in_extent(extent: &(u64, u64, Bytes), pointer: Pointer) -> Option<Bytes> {
    let (file, offset, data) = extent;
    let start = usize::try_from(pointer.offset.checked_sub(*offset)?).ok()?;
    let end = start.checked_add(pointer.stored as usize)?;
    (*file == pointer.file && end <= data.len()).then(|| data.slice(start..end))
}
