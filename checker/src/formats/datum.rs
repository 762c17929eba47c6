//! Values as JSON and EDN know them, borrowed from the text where they can be.

use super::Place;
use std::borrow::Cow;

/// A value of JSON or EDN.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Datum<'a> {
    /// `null` or `nil`.
    Nil,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(&'a [u8]),
    /// A string.
    Text(Cow<'a, [u8]>),
    /// A keyword or symbol of EDN, without its colon.
    Word(&'a [u8]),
    /// A vector, list or set.
    List(Vec<Datum<'a>>),
    /// A map.
    Map(Vec<(Datum<'a>, Datum<'a>)>),
}

impl<'a> Datum<'a> {
    /// The text of a scalar: of a string its content, of a number or word as it was written.
    pub(crate) fn scalar(&self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Nil => Some(Cow::Borrowed(b"nil")),
            Self::Bool(true) => Some(Cow::Borrowed(b"true")),
            Self::Bool(false) => Some(Cow::Borrowed(b"false")),
            Self::Number(text) | Self::Word(text) => Some(Cow::Borrowed(text)),
            Self::Text(text) => Some(text.clone()),
            Self::List(_) => None,
            Self::Map(fields) => match fields.as_slice() {
                [(name, Self::Text(text))] if name.is(b"base64") => base64(text).map(Cow::Owned),
                _ => None,
            },
        }
    }

    /// The bytes of a value that a key may hold: scalars as they are, anything else as its own text.
    pub(crate) fn bytes(&self) -> Cow<'a, [u8]> {
        self.scalar().unwrap_or_else(|| Cow::Owned(format!("{self:?}").into_bytes()))
    }

    /// The name of a client, session or node: a number as it was written, and a text that looks like one in quotation marks, so that they are two.
    pub(crate) fn name(&self) -> Cow<'a, [u8]> {
        let bytes = self.bytes();
        let looks = matches!(bytes.first(), Some(b'0'..=b'9' | b'+' | b'-' | b'"'));
        if looks && !matches!(self, Self::Number(_)) {
            return Cow::Owned([&b"\""[..], &bytes, &b"\""[..]].concat());
        }
        bytes
    }

    /// Whether it is this text, whatever its kind.
    pub(crate) fn is(&self, text: &[u8]) -> bool {
        match self {
            Self::Number(own) | Self::Word(own) => *own == text,
            Self::Text(own) => own.as_ref() == text,
            _ => false,
        }
    }

    /// As an integer.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Number(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// As an unsigned integer.
    pub(crate) fn unsigned(&self) -> Option<u64> {
        match self {
            Self::Number(text) => unsigned(text),
            _ => None,
        }
    }

    /// As a list.
    pub(crate) fn list(&self) -> Option<&[Datum<'a>]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }
}

fn unsigned(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Decodes standard base64, with or without padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.iter().filter(|byte| **byte != b'=') {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

/// Encodes standard base64 with padding.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Reads a text from left to right and knows where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) at: usize,
}

/// What is wrong, and at which byte of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) at: usize,
    pub(crate) reason: String,
}

impl Wrong {
    /// Where it is in the file, when the text begins at `origin`.
    pub(crate) fn place(&self, text: &[u8], origin: Place) -> Place {
        let before = &text[..self.at.min(text.len())];
        let lines = before.split(|byte| *byte == b'\n').count() - 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count();
        let first = if lines == 0 { origin.column } else { 1 };
        Place { line: origin.line + lines, column: first + column }
    }
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(crate) fn wrong<T>(&self, reason: impl Into<String>) -> Result<T, Wrong> {
        Err(Wrong { at: self.at, reason: reason.into() })
    }

    pub(crate) fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a [u8] {
        let from = self.at;
        let length = self.text[from..].iter().position(|byte| !keep(*byte));
        self.at = length.map_or(self.text.len(), |length| from + length);
        &self.text[from..self.at]
    }

    /// What stands here, for a message.
    pub(crate) fn found(&self) -> String {
        match self.peek() {
            None => "the end".into(),
            Some(byte) if byte.is_ascii_graphic() => format!("'{}'", char::from(byte)),
            Some(byte) => format!("byte {byte:#04x}"),
        }
    }

    /// A string in double quotes, whose opening quote stands here; escapes as in JSON and EDN.
    pub(crate) fn quoted(&mut self) -> Result<Cow<'a, [u8]>, Wrong> {
        let opening = self.at;
        self.at += 1;
        let from = self.at;
        let plain = self.take_while(|byte| byte != b'"' && byte != b'\\');
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = self.text[from..self.at].to_vec();
        loop {
            match self.peek() {
                None => {
                    return Err(Wrong {
                        at: opening,
                        reason: "the string that begins here does not end".into(),
                    });
                }
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => self.escape(&mut text)?,
                Some(byte) => {
                    text.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), Wrong> {
        let code = self.text.get(self.at + 1).copied();
        let byte = match code {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(plain @ (b'"' | b'\\' | b'/')) => plain,
            Some(b'u') => return self.unicode(text),
            _ => return self.wrong("no such escape in a string"),
        };
        text.push(byte);
        self.at += 2;
        Ok(())
    }

    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    fn unicode(&mut self, text: &mut Vec<u8>) -> Result<(), Wrong> {
        let Some(first) = self.unit(self.at) else {
            return self.wrong("\\u is followed by four hexadecimal digits");
        };
        let (code, length) = match (first, self.unit(self.at + 6)) {
            (0xd800..=0xdbff, Some(second @ 0xdc00..=0xdfff)) => {
                (0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12)
            }
            _ => (first, 6),
        };
        let Some(char) = char::from_u32(code) else {
            return self.wrong("half of a surrogate pair");
        };
        text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        self.at += length;
        Ok(())
    }
}

/// How deep lists and maps may nest.
pub(crate) const DEPTH_MAX: usize = 64;
