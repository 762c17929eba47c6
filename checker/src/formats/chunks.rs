//! Cuts a stream into its top-level forms, so that a file need not be in memory to be parsed.

use super::{BadInput, LINE_MAX, Place};
use std::io::BufRead;

/// The forms of a stream: those of one outer list, or bare ones.
pub(super) struct Chunks<'a, R> {
    input: &'a mut R,
    /// Comments and character literals of EDN.
    edn: bool,
    chunk: Vec<u8>,
    place: Place,
    /// The outer list: not seen yet, open, closed.
    outer: Outer,
}

#[derive(PartialEq, Clone, Copy)]
enum Outer {
    Bare,
    Open(Place),
    Closed,
}

impl<'a, R: BufRead> Chunks<'a, R> {
    pub(super) fn new(input: &'a mut R, edn: bool) -> Self {
        Self { input, edn, chunk: Vec::new(), place: Place { line: 1, column: 1 }, outer: Outer::Bare }
    }

    /// The form that [`Chunks::next`] found.
    pub(super) fn text(&self) -> &[u8] {
        &self.chunk
    }

    fn peek(&mut self) -> Result<Option<u8>, BadInput> {
        let place = self.place;
        let buffer = self.input.fill_buf().map_err(|error| BadInput::at(place, error.to_string()))?;
        Ok(buffer.first().copied())
    }

    fn take(&mut self) -> Result<Option<u8>, BadInput> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.input.consume(1);
            if byte == b'\n' {
                self.place = Place { line: self.place.line + 1, column: 1 };
            } else {
                self.place.column += 1;
            }
        }
        Ok(byte)
    }

    /// Goes to the next form, and tells where it begins.
    pub(super) fn next(&mut self) -> Result<Option<Place>, BadInput> {
        loop {
            let origin = self.place;
            match self.peek()? {
                None => {
                    return match self.outer {
                        Outer::Open(place) => {
                            Err(BadInput::at(place, "the list that begins here does not end"))
                        }
                        _ => Ok(None),
                    };
                }
                Some(b' ' | b'\t' | b'\r' | b'\n' | b',') => {
                    self.take()?;
                }
                Some(0xef) if origin == (Place { line: 1, column: 1 }) => {
                    for _ in 0..3 {
                        self.take()?;
                    }
                }
                Some(b';') if self.edn => while !matches!(self.take()?, None | Some(b'\n')) {},
                Some(b'[' | b'(') if self.outer == Outer::Bare => {
                    self.take()?;
                    self.outer = Outer::Open(origin);
                }
                Some(b']' | b')') if matches!(self.outer, Outer::Open(_)) => {
                    self.take()?;
                    self.outer = Outer::Closed;
                }
                Some(_) if self.outer == Outer::Closed => {
                    return Err(BadInput::at(origin, "text after the end of the list"));
                }
                Some(b'#') if self.edn => {
                    self.take()?;
                    if self.peek()? == Some(b'_') {
                        self.discard()?;
                    } else {
                        self.form(b"#")?;
                        return Ok(Some(origin));
                    }
                }
                Some(_) => {
                    self.form(b"")?;
                    return Ok(Some(origin));
                }
            }
        }
    }

    /// Skips the form behind `#_`, whose second character stands here.
    fn discard(&mut self) -> Result<(), BadInput> {
        self.take()?;
        while self.peek()?.is_some_and(|byte| byte.is_ascii_whitespace() || byte == b',') {
            self.take()?;
        }
        self.form(b"")
    }

    /// Collects the form that begins here, behind what of it was read: up to the brace that closes it, or to the end of a word.
    fn form(&mut self, before: &[u8]) -> Result<(), BadInput> {
        self.chunk.clear();
        self.chunk.extend_from_slice(before);
        let mut scan = Scan { edn: self.edn, depth: 0, within: Within::Form, begun: !before.is_empty() };
        loop {
            let place = self.place;
            let buffer = self.input.fill_buf().map_err(|error| BadInput::at(place, error.to_string()))?;
            if buffer.is_empty() {
                return Ok(());
            }
            let (length, ends) = scan.over(buffer);
            self.chunk.extend_from_slice(&buffer[..length]);
            self.place.pass(&buffer[..length]);
            self.input.consume(length);
            if ends {
                return Ok(());
            }
            if self.chunk.len() > LINE_MAX {
                return Err(BadInput::at(place, format!("a form is longer than {LINE_MAX} bytes")));
            }
        }
    }
}

/// In what a scan is.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Form,
    String,
    /// Behind a backslash, in a string or not.
    Escape(bool),
    Comment,
}

/// A search for the end of a form, piece by piece.
struct Scan {
    edn: bool,
    depth: usize,
    within: Within,
    /// Whether something of the form was seen.
    begun: bool,
}

impl Scan {
    /// How many bytes of the piece belong to the form, and whether it ends there.
    fn over(&mut self, piece: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while let Some(byte) = piece.get(at).copied() {
            match self.within {
                Within::Escape(string) => self.within = if string { Within::String } else { Within::Form },
                Within::Comment => {
                    let Some(end) = memchr::memchr(b'\n', &piece[at..]) else { return (piece.len(), false) };
                    at += end;
                    self.within = Within::Form;
                }
                Within::String => {
                    let Some(end) = memchr::memchr2(b'"', b'\\', &piece[at..]) else {
                        return (piece.len(), false);
                    };
                    at += end;
                    self.within = if piece[at] == b'"' { Within::Form } else { Within::Escape(true) };
                }
                Within::Form => {
                    let ends = self.depth == 0 && self.begun && !matches!(byte, b'{' | b'[' | b'(' | b'"');
                    if ends && (byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b')')) {
                        return (at, true);
                    }
                    self.begun = true;
                    match byte {
                        b'{' | b'[' | b'(' => self.depth += 1,
                        b'}' | b']' | b')' => {
                            self.depth = self.depth.saturating_sub(1);
                            if self.depth == 0 {
                                return (at + 1, true);
                            }
                        }
                        b'"' => self.within = Within::String,
                        b';' if self.edn => self.within = Within::Comment,
                        b'\\' if self.edn => self.within = Within::Escape(false),
                        _ => {}
                    }
                }
            }
            at += 1;
        }
        (at, false)
    }
}
