//! Messages between nodes and their encoding.

pub mod codec;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod decoders;
pub mod message;

pub use codec::{CodecError, Frames, PROTOCOL_VERSION, decode};
pub use message::{Answer, Envelope, ForwardResult, MarkRange, MarkStep, Marked, Message, Refusal};
