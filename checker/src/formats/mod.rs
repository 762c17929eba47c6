//! Formats of recorded histories: what each looks like, how to tell them apart, and how to read them.
//!
//! | format | looks like |
//! | --- | --- |
//! | [`Format::Jsonl`] | one JSON object a line, one event each: the project's own format |
//! | [`Format::Json`] | a JSON array of events, as elle-cli reads |
//! | [`Format::Edn`] | EDN maps of Jepsen, Knossos, Elle and Porcupine: in one vector, or one after the other |
//! | [`Format::EtcdLog`] | lines of text `INFO jepsen.util - PROCESS<TAB>:TYPE<TAB>:F<TAB>VALUE`, as Porcupine's tests hold |
//! | [`Format::Awdit`] | transactions as lines `w KEY VALUE`, `r KEY VALUE`; `-----` ends one, `=====` ends a session |
//!
//! Files are read from front to back in pieces; only the operations stay in memory, or even these only until they are decided (`window`).

mod awdit;
mod builder;
mod calls;
mod chunks;
pub(crate) mod datum;
mod demands;
mod edn;
mod event;
mod json;
mod reading;
mod updates;
pub(crate) mod window;

use crate::recording::Recording;
use crate::transactions::Transactions;
use builder::{Builder, Stop};
use chunks::Chunks;
use datum::{Cursor, Wrong};
use std::io::{BufRead, Read};
use window::Window;

pub use reading::{FailedCas, Nil, Reading};

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
}

impl Place {
    /// Goes on behind `text`.
    fn pass(&mut self, text: &[u8]) {
        if let Some(last) = memchr::memrchr(b'\n', text) {
            self.line += memchr::memchr_iter(b'\n', text).count();
            self.column = text.len() - last;
        } else {
            self.column += text.len();
        }
    }
}

/// Where and why input is not a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadInput {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1; 1 where the line as a whole is meant.
    pub column: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl std::fmt::Display for BadInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.reason)
    }
}

impl std::error::Error for BadInput {}

impl BadInput {
    pub(crate) fn at(place: Place, reason: impl Into<String>) -> Self {
        Self { line: place.line, column: place.column, reason: reason.into() }
    }
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON lines.
    Jsonl,
    /// A JSON array of events.
    Json,
    /// EDN maps, in a vector or bare.
    Edn,
    /// Text lines of Jepsen's log.
    EtcdLog,
    /// AWDIT's text.
    Awdit,
}

/// What a file holds.
#[derive(Debug, Clone)]
pub enum Loaded {
    /// Operations on single keys.
    Operations(Recording),
    /// Transactions.
    Transactions(Transactions),
}

/// Tells the format by how the text begins, if it looks like any.
///
/// ```
/// use samara_check::formats::{Format, detect};
/// assert_eq!(detect(br#"{"process": 1, "type": "invoke"}"#), Some(Format::Jsonl));
/// assert_eq!(detect(b"[{:process 1, :type :invoke}]"), Some(Format::Edn));
/// assert_eq!(detect(b"INFO  jepsen.util - 0\t:invoke\t:read\tnil"), Some(Format::EtcdLog));
/// assert_eq!(detect(b"w 1 1\n-----"), Some(Format::Awdit));
/// assert_eq!(detect(b"hello"), None);
/// ```
pub fn detect(start: &[u8]) -> Option<Format> {
    let mut cursor = Cursor::new(start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start));
    // A comment that the beginning cuts short is EDN all the same.
    let comment = cursor.take_while(|byte| byte.is_ascii_whitespace()).len() < start.len();
    if comment && matches!(cursor.peek(), Some(b';' | b'#' | b'(')) {
        return Some(Format::Edn);
    }
    if let opening @ (b'[' | b'{') = cursor.peek()? {
        cursor.at += 1;
        cursor.take_while(|byte| byte.is_ascii_whitespace());
        match (opening, cursor.peek()) {
            (b'{', Some(b'"' | b'}')) => Some(Format::Jsonl),
            (b'{', _) => Some(Format::Edn),
            (_, Some(b'{')) => {
                cursor.at += 1;
                cursor.take_while(|byte| byte.is_ascii_whitespace());
                let json = matches!(cursor.peek(), Some(b'"'));
                Some(if json { Format::Json } else { Format::Edn })
            }
            _ => Some(Format::Edn),
        }
    } else {
        let line = cursor.take_while(|byte| byte != b'\n').trim_ascii();
        let access = matches!(line, [b'w' | b'r', b' ' | b'\t', ..]);
        let rule = line.len() >= 3 && line.iter().all(|byte| matches!(byte, b'-' | b'='));
        if access || rule {
            return Some(Format::Awdit);
        }
        line.windows(2).any(|pair| pair == b"\t:").then_some(Format::EtcdLog)
    }
}

/// Bytes from the beginning that are looked at to tell the format.
const DETECT_MAX: u64 = 4096;

/// Reads a history of the given format, or of the one that [`detect`] finds.
///
/// ```
/// use samara_check::formats::{self, Loaded, Reading};
/// let text = "[{:process 0, :type :invoke, :f :write, :value 1}\n {:process 0, :type :ok, :f :write, :value 1}]";
/// let Loaded::Operations(recording) = formats::read(text.as_bytes(), None, &Reading::default())? else { panic!() };
/// assert_eq!(recording.records.len(), 1);
///
/// let broken = formats::read("[{:process 0,\n  :type ]".as_bytes(), None, &Reading::default()).unwrap_err();
/// assert_eq!((broken.line, broken.column), (2, 9));
/// # Ok::<(), formats::BadInput>(())
/// ```
pub fn read(input: impl Read, format: Option<Format>, reading: &Reading) -> Result<Loaded, BadInput> {
    match read_through(input, format, reading, None) {
        Ok(through) => Ok(through.left),
        Err(broken) => Err(broken.input()),
    }
}

/// What was read of a file, when parts of it were decided and let go of on the way.
pub(crate) struct Through {
    /// What is left to be judged.
    pub(crate) left: Loaded,
    /// How many operations were let go of.
    pub(crate) decided: usize,
}

/// Why a file could not be judged.
pub(crate) enum Broken {
    Input(BadInput),
    /// It is no order of times in which parts can be let go of.
    OutOfOrder(BadInput),
    /// What is demanded does not fit what it holds.
    Demand(String),
}

impl Broken {
    fn input(self) -> BadInput {
        match self {
            Self::Input(bad) | Self::OutOfOrder(bad) => bad,
            Self::Demand(reason) => BadInput { line: 1, column: 1, reason },
        }
    }

    /// As a line that begins with the name of the file.
    pub(crate) fn line(self, name: &str) -> String {
        match self {
            Self::Demand(reason) => format!("{name}: {reason}"),
            Self::OutOfOrder(bad) => {
                format!("{name}:{bad}: such a history is judged as a whole, from a file")
            }
            Self::Input(bad) => format!("{name}:{bad}"),
        }
    }
}

impl From<BadInput> for Broken {
    fn from(bad: BadInput) -> Self {
        Self::Input(bad)
    }
}

/// Reads a history and lets go of what `window` has decided on the way.
pub(crate) fn read_through(
    input: impl Read,
    format: Option<Format>,
    reading: &Reading,
    window: Option<Window<'_>>,
) -> Result<Through, Broken> {
    let place = Place { line: 1, column: 1 };
    // A pipe may bring the beginning in pieces.
    let mut input = input;
    let mut start = Vec::new();
    let begun = input.by_ref().take(DETECT_MAX).read_to_end(&mut start);
    begun.map_err(|error| BadInput::at(place, error.to_string()))?;
    let mut input = std::io::BufReader::with_capacity(1 << 20, start.as_slice().chain(input));
    if start.is_empty() {
        return Ok(Through { left: Loaded::Operations(Recording::default()), decided: 0 });
    }
    let format = match format {
        Some(format) => format,
        None => detect(&start)
            .ok_or_else(|| BadInput::at(place, "the format is none that is known; name it with --format"))?,
    };
    if format == Format::Awdit {
        let mut reader = awdit::Reader::default();
        lines(&mut input, |line, place| reader.line(line, place).map_err(|wrong| bad(&wrong, line, place)))?;
        return Ok(Through { left: Loaded::Transactions(reader.finish()), decided: 0 });
    }
    let mut builder = Builder::new(format, reading, window);
    let ended = events(&mut input, format, &mut builder);
    match (ended, builder.stop) {
        (Ok(()), _) | (Err(_), Some(Stop::Decided)) => {
            let (left, decided) = builder.finish();
            Ok(Through { left, decided })
        }
        (Err(bad), Some(Stop::OutOfOrder)) => Err(Broken::OutOfOrder(bad)),
        (Err(bad), None) => Err(Broken::Input(bad)),
    }
}

/// Has the builder put together all events of a file.
fn events(input: &mut impl BufRead, format: Format, builder: &mut Builder<'_>) -> Result<(), BadInput> {
    match format {
        Format::Json => chunked(input, false, event::from_json, builder),
        Format::Edn => chunked(input, true, event::from_edn, builder),
        Format::EtcdLog => lines(input, |line, place| {
            let fail = |wrong: Wrong| bad(&wrong, line, place);
            match event::from_log(line).map_err(fail)? {
                Some(event) => builder.event(&event, place).map_err(fail),
                None => Ok(()),
            }
        }),
        Format::Jsonl | Format::Awdit => lines(input, |line, place| {
            let mut cursor = Cursor::new(line);
            let fail = |wrong: Wrong| bad(&wrong, line, place);
            json::space(&mut cursor);
            if cursor.peek().is_none() {
                return Ok(());
            }
            let event = event::from_json(&mut cursor).map_err(fail)?;
            json::space(&mut cursor);
            if cursor.peek().is_some() {
                return Err(fail(Wrong { at: cursor.at, reason: "more than one object in a line".into() }));
            }
            builder.event(&event, place).map_err(fail)
        }),
    }
}

fn bad(wrong: &Wrong, text: &[u8], origin: Place) -> BadInput {
    BadInput::at(wrong.place(text, origin), wrong.reason.clone())
}

/// Calls `each` with every line, its end cut off. Lines are not copied but where they cross the pieces in which the file is read.
fn lines(
    input: &mut impl BufRead,
    mut each: impl FnMut(&[u8], Place) -> Result<(), BadInput>,
) -> Result<(), BadInput> {
    // The beginning of a line whose end was not read yet.
    let mut begun: Vec<u8> = Vec::new();
    let mut place = Place { line: 0, column: 1 };
    let mut one = |text: &[u8]| {
        place.line += 1;
        let mut text = text.strip_suffix(b"\r").unwrap_or(text);
        if place.line == 1 {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        if text.len() > LINE_MAX {
            return Err(BadInput::at(place, format!("a line is longer than {LINE_MAX} bytes")));
        }
        each(text, place)
    };
    loop {
        let piece = match input.fill_buf() {
            Ok(piece) => piece,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(BadInput::at(Place { line: 1, column: 1 }, error.to_string())),
        };
        let length = piece.len();
        if length == 0 {
            return if begun.is_empty() { Ok(()) } else { one(&begun) };
        }
        let mut rest = piece;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            if begun.is_empty() {
                one(&rest[..end])?;
            } else {
                begun.extend_from_slice(&rest[..end]);
                one(&begun)?;
                begun.clear();
            }
            rest = &rest[end + 1..];
        }
        begun.extend_from_slice(rest);
        if begun.len() > LINE_MAX {
            return one(&begun);
        }
        input.consume(length);
    }
}

/// The longest line or form that is read: a value of 16 MiB, escaped.
const LINE_MAX: usize = 128 << 20;

/// Reads forms one by one, in a list or bare.
fn chunked(
    input: &mut impl BufRead,
    edn: bool,
    parse: impl for<'t> Fn(&mut Cursor<'t>) -> Result<event::Event<'t>, Wrong>,
    builder: &mut Builder<'_>,
) -> Result<(), BadInput> {
    let mut chunks = Chunks::new(input, edn);
    while let Some(origin) = chunks.next()? {
        let text = chunks.text();
        let mut cursor = Cursor::new(text);
        let event = parse(&mut cursor).map_err(|wrong| bad(&wrong, text, origin))?;
        builder.event(&event, origin).map_err(|wrong| bad(&wrong, text, origin))?;
    }
    Ok(())
}
