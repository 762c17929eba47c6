//! RESP2 and RESP3: an incremental decoder of requests, with limits, and an encoder of replies.
//!
//! The decoder never takes memory that has not been sent: a length only says how much to wait for. Arguments are slices of
//! the receive buffer, not copies.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Arguments of one request.
pub const ARGUMENTS_MAX: i64 = 1024 * 1024;
/// Bytes of one argument.
pub const ARGUMENT_BYTES_MAX: i64 = 16 * 1024 * 1024 + 1024;
/// Bytes of one request.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of an inline request or of a length line.
const LINE_MAX: usize = 64 * 1024;

/// A request that broke the protocol: the reply says it, and the connection is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolError(pub String);

/// Where the decoder stands in the request at the beginning of the buffer.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Arguments still to come, `None` before the length line.
    left: Option<i64>,
    arguments: Vec<Bytes>,
    taken: usize,
}

fn broken<T>(text: impl Into<String>) -> Result<T, ProtocolError> {
    Err(ProtocolError(text.into()))
}

/// Takes a line without its end; `None` while it is not complete.
fn line(buffer: &mut BytesMut, too_long: &str) -> Result<Option<Bytes>, ProtocolError> {
    let Some(end) = buffer.iter().take(LINE_MAX).position(|byte| *byte == b'\n') else {
        return if buffer.len() >= LINE_MAX { broken(too_long) } else { Ok(None) };
    };
    let mut line = buffer.split_to(end + 1).freeze();
    line.truncate(end);
    if line.last() == Some(&b'\r') {
        line.truncate(end - 1);
    }
    Ok(Some(line))
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

impl Decoder {
    /// The next whole request of `buffer`, or `None` while bytes are missing. Empty requests are skipped.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            let left = match self.left {
                Some(left) => left,
                None => match buffer.first() {
                    None => return Ok(None),
                    Some(b'*') => match line(buffer, "too big mbulk count string")? {
                        None => return Ok(None),
                        Some(line) => match number(&line[1..]) {
                            Some(count) if count <= ARGUMENTS_MAX => count,
                            _ => return broken("invalid multibulk length"),
                        },
                    },
                    Some(_) => match line(buffer, "too big inline request")? {
                        None => return Ok(None),
                        Some(line) => match split_inline(&line)? {
                            arguments if arguments.is_empty() => continue,
                            arguments => return Ok(Some(arguments)),
                        },
                    },
                },
            };
            if left <= 0 {
                self.left = None;
                self.taken = 0;
                let arguments = std::mem::take(&mut self.arguments);
                if arguments.is_empty() {
                    continue;
                }
                return Ok(Some(arguments));
            }
            self.left = Some(left);
            match self.argument(buffer)? {
                None => return Ok(None),
                Some(argument) => {
                    self.taken += argument.len();
                    if self.taken > REQUEST_BYTES_MAX {
                        return broken("request exceeds 67108864 bytes");
                    }
                    self.arguments.push(argument);
                    self.left = Some(left - 1);
                }
            }
        }
    }

    fn argument(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, ProtocolError> {
        let Some(first) = buffer.first() else {
            return Ok(None);
        };
        if *first != b'$' {
            return broken(format!("expected '$', got '{}'", char::from(*first)));
        }
        let Some(end) = buffer.iter().take(64).position(|byte| *byte == b'\n') else {
            return if buffer.len() >= 64 { broken("too big bulk count string") } else { Ok(None) };
        };
        let digits = buffer[1..end].strip_suffix(b"\r").unwrap_or(&buffer[1..end]);
        let len = match number(digits) {
            Some(len) if (0..=ARGUMENT_BYTES_MAX).contains(&len) => len as usize,
            _ => return broken("invalid bulk length"),
        };
        if buffer.len() < end + 1 + len + 2 {
            return Ok(None);
        }
        buffer.advance(end + 1);
        let argument = buffer.split_to(len).freeze();
        buffer.advance(2);
        Ok(Some(argument))
    }
}

/// Splits an inline request at spaces, with single and double quotes as Redis reads them.
fn split_inline(line: &[u8]) -> Result<Vec<Bytes>, ProtocolError> {
    let mut arguments = Vec::new();
    let mut at = 0;
    while at < line.len() {
        if line[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let mut argument = Vec::new();
        let mut quote = None;
        loop {
            match (quote, line.get(at)) {
                (None, None) => break,
                (Some(_), None) => return broken("unbalanced quotes in request"),
                (None, Some(byte)) if byte.is_ascii_whitespace() => break,
                (None, Some(byte @ (b'"' | b'\''))) => quote = Some(*byte),
                (Some(b'"'), Some(b'\\')) => {
                    at += 1;
                    let escaped = match line.get(at) {
                        Some(b'n') => b'\n',
                        Some(b'r') => b'\r',
                        Some(b't') => b'\t',
                        Some(byte) => *byte,
                        None => return broken("unbalanced quotes in request"),
                    };
                    argument.push(escaped);
                }
                (Some(open), Some(byte)) if open == *byte => {
                    if line.get(at + 1).is_some_and(|next| !next.is_ascii_whitespace()) {
                        return broken("unbalanced quotes in request");
                    }
                    quote = None;
                }
                (_, Some(byte)) => argument.push(*byte),
            }
            at += 1;
        }
        arguments.push(Bytes::from(argument));
    }
    Ok(arguments)
}

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `+OK`
    Status(&'static str),
    /// `-ERR ...`
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$3`
    Bulk(Bytes),
    /// Absent.
    Null,
    /// `*2`
    Array(Vec<Value>),
    /// `%1`; in RESP2 a flat array.
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// A bulk string of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Bulk(Bytes::from(text.into()))
    }

    /// Appends the reply as RESP `version` 2 or 3 writes it.
    pub fn encode(&self, version: u8, out: &mut BytesMut) {
        let head = |out: &mut BytesMut, kind: u8, number: i64| {
            out.put_u8(kind);
            out.put_slice(number.to_string().as_bytes());
            out.put_slice(b"\r\n");
        };
        match self {
            Self::Status(text) => {
                out.put_u8(b'+');
                out.put_slice(text.as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::Error(text) => {
                out.put_u8(b'-');
                out.put_slice(text.replace(['\r', '\n'], " ").as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::Integer(number) => head(out, b':', *number),
            Self::Bulk(bytes) => {
                head(out, b'$', bytes.len() as i64);
                out.put_slice(bytes);
                out.put_slice(b"\r\n");
            }
            Self::Null if version == 3 => out.put_slice(b"_\r\n"),
            Self::Null => out.put_slice(b"$-1\r\n"),
            Self::Array(items) => {
                head(out, b'*', items.len() as i64);
                items.iter().for_each(|item| item.encode(version, out));
            }
            Self::Map(pairs) => {
                if version == 3 {
                    head(out, b'%', pairs.len() as i64);
                } else {
                    head(out, b'*', 2 * pairs.len() as i64);
                }
                for (key, value) in pairs {
                    key.encode(version, out);
                    value.encode(version, out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Result<Vec<Vec<Bytes>>, ProtocolError> {
        let (mut decoder, mut buffer, mut requests) = (Decoder::default(), BytesMut::from(input), Vec::new());
        while let Some(request) = decoder.next(&mut buffer)? {
            requests.push(request);
        }
        Ok(requests)
    }

    #[test]
    fn requests_come_in_pipelines_and_in_pieces() {
        let whole = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n*1\r\n$4\r\nPING\r\n";
        assert_eq!(all(whole).map(|requests| requests.len()), Ok(3));
        let (mut decoder, mut buffer, mut count) = (Decoder::default(), BytesMut::new(), 0);
        for byte in whole {
            buffer.put_u8(*byte);
            count += usize::from(decoder.next(&mut buffer).expect("a good request").is_some());
        }
        assert_eq!(count, 3);
    }

    #[test]
    fn quotes_of_inline_requests() {
        let requests = all(b"set k \"a b\\n\"  'c d'\r\n").expect("a good request");
        assert_eq!(requests[0], [&b"set"[..], b"k", b"a b\n", b"c d"]);
    }

    #[test]
    fn what_breaks_the_protocol_is_named() {
        let table: [(&[u8], &str); 7] = [
            (b"*x\r\n", "invalid multibulk length"),
            (b"*99999999\r\n", "invalid multibulk length"),
            (b"*1\r\n!3\r\n", "expected '$', got '!'"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$99999999999\r\n", "invalid bulk length"),
            (b"get 'k\r\n", "unbalanced quotes in request"),
            (b"get \"k\"x\r\n", "unbalanced quotes in request"),
        ];
        for (input, words) in table {
            assert_eq!(all(input), Err(ProtocolError(words.into())), "{input:?}");
        }
    }

    #[test]
    fn a_length_takes_no_memory_before_its_bytes_have_come() {
        let (mut decoder, mut buffer) =
            (Decoder::default(), BytesMut::from(&b"*1000000\r\n$16000000\r\nab"[..]));
        assert_eq!(decoder.next(&mut buffer), Ok(None));
        assert!(buffer.capacity() < 1024);
    }

    #[test]
    fn a_map_is_flat_in_resp2() {
        let value = Value::Map(vec![(Value::text("a"), Value::Integer(1))]);
        let encoded = |version| {
            let mut out = BytesMut::new();
            value.encode(version, &mut out);
            out.to_vec()
        };
        assert_eq!(encoded(2), b"*2\r\n$1\r\na\r\n:1\r\n");
        assert_eq!(encoded(3), b"%1\r\n$1\r\na\r\n:1\r\n");
    }
}
