//! Frames: `length u32 | version u16 | crc32c u32 | postcard body`, little endian. The CRC covers version and body.

use super::message::Envelope;
use crate::base::checksum::crc32c;
use alloc::vec::Vec;
use core::fmt;

/// Version of the messages between nodes. A peer of another version is refused at the handshake.
pub const PROTOCOL_VERSION: u16 = 1;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 10;
/// Largest body accepted: a value, its record, and room for the rest.
pub const BODY_BYTES_MAX: usize = crate::base::limits::VALUE_BYTES_MAX + 1024 * 1024;

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

/// Appends the frame of `envelope` to `buffer`.
pub fn encode(envelope: &Envelope, buffer: &mut Vec<u8>) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER_BYTES]);
    let taken = core::mem::take(buffer);
    // Encoding into memory fails only when memory runs out, which aborts: the error is impossible.
    *buffer = postcard::to_extend(envelope, taken).unwrap_or_default();
    assert!(buffer.len() >= start + HEADER_BYTES, "encoding into memory failed");
    let body_len = buffer.len() - start - HEADER_BYTES;
    assert!(body_len <= BODY_BYTES_MAX, "a message larger than its limit was made");
    let version = PROTOCOL_VERSION.to_le_bytes();
    let crc = crc32c(&[&version, &buffer[start + HEADER_BYTES..]]);
    buffer[start..start + 4].copy_from_slice(&(body_len as u32).to_le_bytes());
    buffer[start + 4..start + 6].copy_from_slice(&version);
    buffer[start + 6..start + HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// Decodes one frame at the beginning of `data`: the envelope and the frame's length, or `None` while bytes are missing.
pub fn decode(data: &[u8]) -> Result<Option<(Envelope, usize)>, CodecError> {
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
    let (envelope, left) = postcard::take_from_bytes(body).map_err(|_| CodecError::Malformed)?;
    if left.is_empty() { Ok(Some((envelope, HEADER_BYTES + body_len))) } else { Err(CodecError::Malformed) }
}
