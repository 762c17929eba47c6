//! RESP2 and RESP3 (the Redis serialization protocol): an incremental decoder of requests, with limits, and an encoder of
//! replies.

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod any;
mod decode;
mod inline;
mod value;

pub use decode::{ARGUMENT_BYTES_MAX, ARGUMENTS_MAX, Decoder, ProtocolError, REQUEST_BYTES_MAX};
pub use value::Value;

use bytes::Bytes;
use std::ops::{Index, Range};

/// The arguments of one request, the command's name first. They point into the receive buffer: what outlives the request
/// is copied out, once, so that a small value never pins a large buffer.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    buffer: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Args<'a> {
    /// Arguments that are these ranges of `buffer`.
    pub fn new(buffer: &'a [u8], ranges: &'a [Range<usize>]) -> Self {
        Self { buffer, ranges }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The argument at `index`, if there is one.
    pub fn at(&self, index: usize) -> Option<&'a [u8]> {
        self.ranges.get(index).map(|range| &self.buffer[range.clone()])
    }

    /// A copy of the argument at `index`.
    pub fn copy(&self, index: usize) -> Bytes {
        Bytes::copy_from_slice(&self[index])
    }

    /// The arguments from `from` on.
    #[must_use]
    pub fn tail(&self, from: usize) -> Self {
        Self { buffer: self.buffer, ranges: self.ranges.get(from..).unwrap_or_default() }
    }

    /// At most the first `count` arguments.
    #[must_use]
    pub fn head(&self, count: usize) -> Self {
        Self { buffer: self.buffer, ranges: &self.ranges[..count.min(self.ranges.len())] }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let buffer = self.buffer;
        self.ranges.iter().map(move |range| &buffer[range.clone()])
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    fn index(&self, index: usize) -> &[u8] {
        &self.buffer[self.ranges[index].clone()]
    }
}
