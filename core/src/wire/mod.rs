//! Messages between nodes and their encoding.

pub mod codec;
pub mod message;

pub use codec::{CodecError, Frames, PROTOCOL_VERSION, decode};
pub use message::{Answer, Envelope, ForwardResult, MarkRange, MarkStep, Marked, Message, Refusal};
