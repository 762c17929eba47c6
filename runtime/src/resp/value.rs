//! Replies.

use bytes::{BufMut, Bytes, BytesMut};

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `+OK`
    Status(&'static str),
    /// `-ERR ...`: the text as sent, with line ends made spaces.
    Error(Bytes),
    /// `:1`
    Integer(i64),
    /// `$3`
    Bulk(Bytes),
    /// Text: `=7 txt:...` in RESP3, a bulk string in RESP2.
    Verbatim(Bytes),
    /// Absent.
    Null,
    /// `*2`
    Array(Vec<Value>),
    /// `~2`; in RESP2 an array.
    Set(Vec<Value>),
    /// `%1`; in RESP2 a flat array.
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// A bulk string of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Bulk(Bytes::from(text.into()))
    }

    /// An error of `text`, whose first word is the kind.
    pub fn error(text: impl Into<Bytes>) -> Self {
        Self::Error(text.into())
    }

    /// Bytes of payload, roughly: what holding the reply costs.
    pub fn weight(&self) -> usize {
        match self {
            Self::Status(_) | Self::Integer(_) | Self::Null => 0,
            Self::Error(bytes) | Self::Bulk(bytes) | Self::Verbatim(bytes) => bytes.len(),
            Self::Array(items) | Self::Set(items) => items.iter().map(|item| 16 + item.weight()).sum(),
            Self::Map(pairs) => pairs.iter().map(|(key, value)| 32 + key.weight() + value.weight()).sum(),
        }
    }

    /// Appends the reply as RESP `version` 2 or 3 writes it.
    pub fn encode(&self, version: u8, out: &mut BytesMut) {
        match self {
            Self::Status(text) => line(out, b'+', text.as_bytes()),
            Self::Error(text) => {
                let start = out.len() + 1;
                line(out, b'-', text);
                for byte in
                    out[start..start + text.len()].iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n'))
                {
                    *byte = b' ';
                }
            }
            Self::Integer(number) => head(out, b':', *number),
            Self::Bulk(bytes) => bulk(out, bytes),
            Self::Verbatim(text) if version == 3 => {
                head(out, b'=', text.len() as i64 + 4);
                out.put_slice(b"txt:");
                out.put_slice(text);
                out.put_slice(b"\r\n");
            }
            Self::Verbatim(text) => bulk(out, text),
            Self::Null if version == 3 => out.put_slice(b"_\r\n"),
            Self::Null => out.put_slice(b"$-1\r\n"),
            Self::Array(items) => list(out, b'*', items, version),
            Self::Set(items) => list(out, if version == 3 { b'~' } else { b'*' }, items, version),
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

fn line(out: &mut BytesMut, kind: u8, text: &[u8]) {
    out.put_u8(kind);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

fn bulk(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(bytes.len() + 16);
    head(out, b'$', bytes.len() as i64);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn list(out: &mut BytesMut, kind: u8, items: &[Value], version: u8) {
    head(out, kind, items.len() as i64);
    for item in items {
        item.encode(version, out);
    }
}

/// A type byte, a number, and the end of the line.
fn head(out: &mut BytesMut, kind: u8, number: i64) {
    let mut digits = [0; 24];
    let mut at = digits.len() - 2;
    digits[at..].copy_from_slice(b"\r\n");
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    at -= 1;
    digits[at] = kind;
    out.put_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: &Value, version: u8) -> Vec<u8> {
        let mut out = BytesMut::new();
        value.encode(version, &mut out);
        out.to_vec()
    }

    #[test]
    fn each_kind_in_both_versions() {
        let map = Value::Map(vec![(Value::text("a"), Value::Integer(-1))]);
        let table: [(Value, &[u8], &[u8]); 8] = [
            (Value::Status("OK"), b"+OK\r\n", b"+OK\r\n"),
            (Value::error("ERR a\r\nb"), b"-ERR a  b\r\n", b"-ERR a  b\r\n"),
            (Value::Integer(i64::MIN), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
            (Value::text(""), b"$0\r\n\r\n", b"$0\r\n\r\n"),
            (Value::Verbatim(Bytes::from_static(b"hi")), b"$2\r\nhi\r\n", b"=6\r\ntxt:hi\r\n"),
            (Value::Null, b"$-1\r\n", b"_\r\n"),
            (Value::Set(vec![Value::Integer(0)]), b"*1\r\n:0\r\n", b"~1\r\n:0\r\n"),
            (map, b"*2\r\n$1\r\na\r\n:-1\r\n", b"%1\r\n$1\r\na\r\n:-1\r\n"),
        ];
        for (value, two, three) in table {
            assert_eq!(encoded(&value, 2), two, "{value:?}");
            assert_eq!(encoded(&value, 3), three, "{value:?}");
        }
    }
}
