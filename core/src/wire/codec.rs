//! Frames: `length u32 | version u16 | crc32c u32 | postcard body`, little endian. The CRC covers version and body. The body
//! is what the messages to one peer have in common (sender, start, epoch, clock), and then these one after the other: what a
//! client asks of many keys at once travels in one frame to each node. The clock is the highest of all messages (S2 asks
//! for the sender's clock: that is what it is when the frame goes).

use super::message::{Envelope, Message};
use crate::base::checksum::crc32c;
use crate::base::{Address, Epoch, Hlc, StartNumber};
use alloc::vec::Vec;
use core::fmt;

/// Version of the messages between nodes. A peer of another version is refused at the handshake.
pub const PROTOCOL_VERSION: u16 = 3;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 10;
/// Largest body accepted: a value, its record, and room for the rest.
pub const BODY_BYTES_MAX: usize = crate::base::limits::VALUE_BYTES_MAX + 1024 * 1024;

/// Messages in one frame at most: what a frame of tiny ones takes in memory stays bounded.
pub const FRAME_MESSAGES_MAX: usize = 1_024;
/// Bytes of a body from which on no further message is put into it.
const FRAME_BYTES: usize = 256 * 1024;

/// Why bytes are not a frame. The connection that sent them is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecError {
    /// Longer than `BODY_BYTES_MAX`.
    TooLarge,
    /// Of another protocol version.
    Version(u16),
    /// The checksum does not match.
    Checksum,
    /// Not a message.
    Malformed,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "frame larger than {BODY_BYTES_MAX} bytes"),
            Self::Version(v) => {
                write!(f, "frame of protocol version {v}, this node speaks {PROTOCOL_VERSION}")
            }
            Self::Checksum => write!(f, "frame checksum does not match"),
            Self::Malformed => write!(f, "frame body is not a message"),
        }
    }
}

/// What the messages of a frame have in common.
type Head = (Address, StartNumber, Epoch, Hlc);

/// Frames for one peer, made message by message.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    open: Option<Open>,
}

/// The last frame, to which messages of the same sender, start and epoch are still added.
#[derive(Debug)]
struct Open {
    start: usize,
    head: Head,
    messages: usize,
}

impl Open {
    /// Whether a message with `head` may be added: all is the same but the clock, and that is written in as many bytes.
    fn takes(&self, head: &Head) -> bool {
        let (mine, its) = (self.head.3.0.max(1).ilog2() / 7, head.3.0.max(1).ilog2() / 7);
        (self.head.0, self.head.1, self.head.2) == (head.0, head.1, head.2) && mine == its
    }
}

impl Frames {
    /// Adds a message, to the last frame if it fits in there.
    pub fn push(&mut self, envelope: &Envelope) {
        let Envelope { from, start, epoch, hlc, body } = envelope;
        let head = (*from, *start, *epoch, *hlc);
        let fits = |open: &Open, len: usize| {
            open.takes(&head) && open.messages < FRAME_MESSAGES_MAX && len - open.start < FRAME_BYTES
        };
        match &mut self.open {
            Some(open) if fits(open, self.bytes.len()) => {
                open.messages += 1;
                open.head.3 = open.head.3.max(*hlc);
            }
            _ => {
                self.close();
                let start = self.bytes.len();
                self.open = Some(Open { start, head, messages: 1 });
                self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
                self.append(&head);
            }
        }
        self.append(body);
    }

    fn append<T: serde::Serialize>(&mut self, value: &T) {
        let before = self.bytes.len();
        // Encoding into memory fails only when memory runs out, which aborts: the error is impossible.
        self.bytes = postcard::to_extend(value, core::mem::take(&mut self.bytes)).unwrap_or_default();
        assert!(self.bytes.len() > before, "encoding into memory failed");
    }

    /// Seals the last frame: its clock, length and checksum.
    fn close(&mut self) {
        let Some(Open { start, head, .. }) = self.open.take() else {
            return;
        };
        let room = &mut self.bytes[start + HEADER_BYTES..];
        // As long as the head that was there: `Open::takes` saw to it.
        let written = postcard::to_slice(&head, room).is_ok();
        assert!(written, "encoding into memory failed");
        let body_len = self.bytes.len() - start - HEADER_BYTES;
        assert!(body_len <= BODY_BYTES_MAX, "a frame larger than its limit was made");
        let version = PROTOCOL_VERSION.to_le_bytes();
        let crc = crc32c(&[&version, &self.bytes[start + HEADER_BYTES..]]);
        self.bytes[start..start + 4].copy_from_slice(&(body_len as u32).to_le_bytes());
        self.bytes[start + 4..start + 6].copy_from_slice(&version);
        self.bytes[start + 6..start + HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    /// Whether nothing was added since the last `finish`.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes of all frames, to be taken away.
    pub fn finish(&mut self) -> &mut Vec<u8> {
        self.close();
        &mut self.bytes
    }
}

/// Decodes the frame at the beginning of `data`: adds its messages to `envelopes` and returns the frame's length, or `None`
/// while bytes are missing. After an error, `envelopes` may hold messages of a frame that is none.
pub fn decode(data: &[u8], envelopes: &mut Vec<Envelope>) -> Result<Option<usize>, CodecError> {
    let Some((header, rest)) = data.split_at_checked(HEADER_BYTES) else {
        return Ok(None);
    };
    let body_len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if body_len > BODY_BYTES_MAX {
        return Err(CodecError::TooLarge);
    }
    let version = u16::from_le_bytes([header[4], header[5]]);
    if version != PROTOCOL_VERSION {
        return Err(CodecError::Version(version));
    }
    let Some(body) = rest.get(..body_len) else {
        return Ok(None);
    };
    let crc = u32::from_le_bytes([header[6], header[7], header[8], header[9]]);
    if crc32c(&[&header[4..6], body]) != crc {
        return Err(CodecError::Checksum);
    }
    let malformed = |_| CodecError::Malformed;
    let ((from, start, epoch, hlc), mut left): (Head, &[u8]) =
        postcard::take_from_bytes(body).map_err(malformed)?;
    for _ in 0..FRAME_MESSAGES_MAX {
        let (message, rest): (Message, &[u8]) = postcard::take_from_bytes(left).map_err(malformed)?;
        envelopes.push(Envelope { from, start, epoch, hlc, body: message });
        if rest.is_empty() {
            return Ok(Some(HEADER_BYTES + body_len));
        }
        left = rest;
    }
    Err(CodecError::Malformed)
}
