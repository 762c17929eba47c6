//! Requests out of bytes, in any pieces. What it accepts, and the words for what it does not, are Valkey's
//! (networking.c: processMultibulkBuffer, processInlineBuffer).

use super::{Args, inline};
use bytes::{Buf, BytesMut};
use samara_core::rules::register::parse_integer;
use std::ops::Range;

/// Arguments of one request.
pub const ARGUMENTS_MAX: i64 = 1024 * 1024;
/// Bytes of one argument: a value, and room for the core to say that it is too large.
pub const ARGUMENT_BYTES_MAX: i64 = 16 * 1024 * 1024 + 1024;
/// Bytes of one request.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of an inline request or of a length line.
const LINE_MAX: usize = 64 * 1024;
/// The same limits before a password has been given, as Valkey's, and of a line.
const STRANGER_ARGUMENTS_MAX: i64 = 10;
const STRANGER_BYTES_MAX: i64 = 16 * 1024;
/// A receive buffer larger than this is given back when it has been emptied.
const BUFFER_KEPT: usize = 64 * 1024;

/// A request that broke the protocol: the reply says it, and the connection is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolError(pub Vec<u8>);

fn broken<T>(text: impl Into<Vec<u8>>) -> Result<T, ProtocolError> {
    Err(ProtocolError(text.into()))
}

/// Where the decoder stands in the request at the beginning of the buffer. It never takes memory that has not been sent: a
/// length only says how much to wait for.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Arguments still to come; `None` before the length line.
    left: Option<i64>,
    /// Bytes of the buffer that have been understood.
    at: usize,
    ranges: Vec<Range<usize>>,
    /// The arguments of an inline request, without quotes.
    inline: Vec<u8>,
    is_inline: bool,
    /// No password has been given: the next request is to be small.
    is_stranger: bool,
}

impl Decoder {
    /// Whether the next whole request is in `buffer`. If so, `args` shows it until `consume`.
    pub fn advance(&mut self, buffer: &mut BytesMut) -> Result<bool, ProtocolError> {
        loop {
            let left = match self.left {
                Some(left) => left,
                None => match buffer.get(self.at) {
                    None => {
                        // Only empty requests so far: nothing of them is kept.
                        self.consume(buffer);
                        return Ok(false);
                    }
                    Some(b'*') => match self.count_line(buffer)? {
                        None => return Ok(false),
                        Some(count) => count,
                    },
                    Some(_) => match self.inline_request(buffer)? {
                        None => return Ok(false),
                        Some(true) => return Ok(true),
                        Some(false) => continue,
                    },
                },
            };
            if left <= 0 {
                self.left = None;
                if self.ranges.is_empty() {
                    continue;
                }
                return Ok(true);
            }
            self.left = Some(left);
            if !self.argument(buffer)? {
                return Ok(false);
            }
            self.left = Some(left - 1);
        }
    }

    /// Whether the next request comes from somebody who has not given a password yet.
    pub fn set_stranger(&mut self, is_stranger: bool) {
        self.is_stranger = is_stranger;
    }

    fn line_max(&self) -> usize {
        if self.is_stranger { STRANGER_BYTES_MAX as usize } else { LINE_MAX }
    }

    /// The request that `advance` has found.
    pub fn args<'a>(&'a self, buffer: &'a BytesMut) -> Args<'a> {
        Args::new(if self.is_inline { &self.inline } else { buffer }, &self.ranges)
    }

    /// Drops the request that `advance` has found.
    pub fn consume(&mut self, buffer: &mut BytesMut) {
        buffer.advance(self.at);
        if buffer.is_empty() && buffer.capacity() > BUFFER_KEPT {
            *buffer = BytesMut::new();
        }
        self.at = 0;
        self.left = None;
        self.ranges.clear();
        if self.ranges.capacity() > 1024 {
            self.ranges = Vec::new();
        }
        if self.is_inline {
            self.inline = Vec::new();
            self.is_inline = false;
        }
    }

    fn count_line(&mut self, buffer: &[u8]) -> Result<Option<i64>, ProtocolError> {
        let Some(line) = self.line(buffer, "too big mbulk count string")? else {
            return Ok(None);
        };
        match parse_integer(&buffer[line]) {
            Some(count) if self.is_stranger && count > STRANGER_ARGUMENTS_MAX => {
                broken("unauthenticated multibulk length")
            }
            Some(count) if count <= ARGUMENTS_MAX => Ok(Some(count)),
            _ => broken("invalid multibulk length"),
        }
    }

    /// What follows the type byte up to the end of its line, which has been passed.
    fn line(&mut self, buffer: &[u8], too_long: &str) -> Result<Option<Range<usize>>, ProtocolError> {
        let rest = &buffer[self.at..];
        let Some(end) = memchr(b'\r', &rest[..rest.len().min(self.line_max() + 1)]) else {
            return if rest.len() > self.line_max() { broken(too_long) } else { Ok(None) };
        };
        // The byte after the return is taken for a newline, whatever it is.
        if end + 2 > rest.len() {
            return Ok(None);
        }
        let line = self.at + 1..self.at + end.max(1);
        self.at += end + 2;
        Ok(Some(line))
    }

    /// One argument; false while bytes are missing.
    fn argument(&mut self, buffer: &[u8]) -> Result<bool, ProtocolError> {
        let start = self.at;
        let Some(line) = self.line(buffer, "too big bulk count string")? else {
            return Ok(false);
        };
        if buffer[start] != b'$' {
            return broken([&b"expected '$', got '"[..], &[buffer[start]], b"'"].concat());
        }
        let len = match parse_integer(&buffer[line]) {
            Some(len) if self.is_stranger && len > STRANGER_BYTES_MAX => {
                return broken("unauthenticated bulk length");
            }
            Some(len) if (0..=ARGUMENT_BYTES_MAX).contains(&len) => len as usize,
            _ => return broken("invalid bulk length"),
        };
        if self.at + len > REQUEST_BYTES_MAX {
            return broken(format!("request exceeds {REQUEST_BYTES_MAX} bytes"));
        }
        if buffer.len() < self.at + len + 2 {
            self.at = start;
            return Ok(false);
        }
        self.ranges.push(self.at..self.at + len);
        self.at += len + 2;
        Ok(true)
    }

    /// A request in one line of words; `Some(false)` if the line was empty.
    fn inline_request(&mut self, buffer: &[u8]) -> Result<Option<bool>, ProtocolError> {
        let rest = &buffer[self.at..];
        let Some(end) = memchr(b'\n', &rest[..rest.len().min(self.line_max() + 1)]) else {
            return if rest.len() > self.line_max() { broken("too big inline request") } else { Ok(None) };
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        if inline::split(line, &mut self.inline, &mut self.ranges).is_none() {
            return broken("unbalanced quotes in request");
        }
        self.at += end + 1;
        self.is_inline = !self.ranges.is_empty();
        Ok(Some(self.is_inline))
    }
}

fn memchr(wanted: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    fn all(input: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, String> {
        let (mut decoder, mut buffer, mut requests) = (Decoder::default(), BytesMut::from(input), Vec::new());
        loop {
            match decoder.advance(&mut buffer) {
                Ok(false) => return Ok(requests),
                Ok(true) => {}
                Err(error) => return Err(String::from_utf8_lossy(&error.0).into_owned()),
            }
            requests.push(decoder.args(&buffer).iter().map(<[u8]>::to_vec).collect());
            decoder.consume(&mut buffer);
        }
    }

    #[test]
    fn requests_come_in_pipelines_and_in_pieces() {
        let whole = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n\r\n*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n";
        let expected = all(whole).expect("good requests");
        assert_eq!(expected.len(), 3);
        let (mut decoder, mut buffer, mut requests) = (Decoder::default(), BytesMut::new(), Vec::new());
        for byte in whole {
            buffer.put_u8(*byte);
            while decoder.advance(&mut buffer).expect("a good request") {
                requests.push(decoder.args(&buffer).iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
                decoder.consume(&mut buffer);
            }
        }
        assert_eq!(requests, expected);
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_breaks_the_protocol_is_named() {
        let long = vec![b'1'; LINE_MAX + 1];
        let table: [(&[u8], &str); 10] = [
            (b"*x\r\n", "invalid multibulk length"),
            (b"*99999999\r\n", "invalid multibulk length"),
            (b"*01\r\n", "invalid multibulk length"),
            (b"*1\r\n!3\r\n", "expected '$', got '!'"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$ 1\r\n", "invalid bulk length"),
            (b"*1\r\n$99999999999\r\n", "invalid bulk length"),
            (b"get 'k\r\n", "unbalanced quotes in request"),
            (b"get \"k\"x\r\n", "unbalanced quotes in request"),
            (&long, "too big inline request"),
        ];
        for (input, words) in table {
            assert_eq!(all(input), Err(words.to_string()), "{:?}", &input[..input.len().min(30)]);
        }
        let (count, bulk) = ([&b"*"[..], &long].concat(), [&b"*1\r\n$"[..], &long].concat());
        assert_eq!(all(&count), Err("too big mbulk count string".into()));
        assert_eq!(all(&bulk), Err("too big bulk count string".into()));
    }

    #[test]
    fn a_length_takes_no_memory_before_its_bytes_have_come() {
        let mut decoder = Decoder::default();
        let mut buffer = BytesMut::from(&b"*1000000\r\n$16000000\r\nab"[..]);
        assert_eq!(decoder.advance(&mut buffer), Ok(false));
        assert!(buffer.capacity() < 1024 && decoder.ranges.capacity() < 16);
    }

    #[test]
    fn a_stranger_sends_small_requests_only() {
        let said = |input: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.set_stranger(true);
            decoder
                .advance(&mut BytesMut::from(input))
                .map_err(|error| String::from_utf8_lossy(&error.0).into_owned())
        };
        let line = vec![b'a'; 16 * 1024 + 1];
        let table: [(&[u8], Result<bool, &str>); 7] = [
            (b"*10\r\n$16384\r\n", Ok(false)),
            (b"*11\r\n", Err("unauthenticated multibulk length")),
            (b"*99999999\r\n", Err("unauthenticated multibulk length")),
            (b"*1\r\n$16385\r\n", Err("unauthenticated bulk length")),
            (b"*1\r\n$99999999999\r\n", Err("unauthenticated bulk length")),
            (b"AUTH x\r\n", Ok(true)),
            (&line, Err("too big inline request")),
        ];
        for (input, expected) in table {
            assert_eq!(
                said(input),
                expected.map_err(str::to_string),
                "{}",
                input[..input.len().min(30)].escape_ascii()
            );
        }
    }

    #[test]
    fn a_request_is_bounded_as_a_whole() {
        let mut decoder = Decoder::default();
        let mut buffer = BytesMut::from(&b"*6\r\n"[..]);
        for _ in 0..5 {
            buffer.put_slice(b"$16777216\r\n");
            buffer.put_bytes(b'x', 16 << 20);
            buffer.put_slice(b"\r\n");
        }
        let error = decoder.advance(&mut buffer).expect_err("more than 64 MiB");
        assert!(String::from_utf8_lossy(&error.0).contains("request exceeds"));
    }
}
