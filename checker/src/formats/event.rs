//! One event of a history, in Jepsen's shape, whatever the notation.

use super::datum::{Cursor, Datum, Wrong};
use super::{demands, edn, json};

/// What an event says of its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// One event; a field that is missing is `None`.
#[derive(Debug, Default)]
pub(super) struct Event<'a> {
    pub(super) kind: Option<Kind>,
    pub(super) process: Option<Datum<'a>>,
    pub(super) f: Option<Datum<'a>>,
    pub(super) key: Option<Datum<'a>>,
    pub(super) value: Option<Datum<'a>>,
    pub(super) observed: Option<Datum<'a>>,
    pub(super) error: Option<Datum<'a>>,
    pub(super) time: Option<u64>,
    pub(super) ttl_ms: Option<i64>,
    pub(super) keep_ttl: bool,
    pub(super) when: Option<Datum<'a>>,
    /// What was there before, where the answer tells.
    pub(super) old: Option<Datum<'a>>,
    pub(super) version: Option<Datum<'a>>,
    pub(super) level: Option<Datum<'a>>,
    pub(super) session: Option<Datum<'a>>,
    pub(super) node: Option<Datum<'a>>,
    pub(super) meta: Option<Datum<'a>>,
    /// Where in the text the value and the key stand, for messages.
    pub(super) value_at: usize,
    pub(super) key_at: usize,
}

impl<'a> Event<'a> {
    fn field(&mut self, name: &[u8], value: Datum<'a>, at: usize) -> Result<(), Wrong> {
        match name {
            b"type" => {
                self.kind = Some(if value.is(b"invoke") {
                    Kind::Invoke
                } else if value.is(b"ok") {
                    Kind::Ok
                } else if value.is(b"fail") {
                    Kind::Fail
                } else if value.is(b"info") {
                    Kind::Info
                } else {
                    return Err(Wrong { at, reason: "type is not invoke, ok, fail or info".into() });
                });
            }
            b"process" => self.process = Some(value),
            b"f" => self.f = Some(value),
            b"key" => {
                self.key = Some(value);
                self.key_at = at;
            }
            b"value" => {
                self.value = Some(value);
                self.value_at = at;
            }
            b"observed" => self.observed = Some(value),
            b"error" => self.error = Some(value),
            b"time" => {
                let Some(time) = value.unsigned() else {
                    return Err(Wrong { at, reason: "time is a whole number of nanoseconds".into() });
                };
                self.time = Some(time);
            }
            b"ttl_ms" => {
                let ttl = value.integer().filter(|ttl| *ttl >= 0);
                if ttl.is_none() && value != Datum::Nil {
                    return Err(Wrong { at, reason: "ttl_ms is a whole number of milliseconds".into() });
                }
                self.ttl_ms = ttl;
            }
            b"keep_ttl" => self.keep_ttl = value == Datum::Bool(true),
            b"when" => self.when = Some(value),
            b"old" => self.old = Some(value),
            b"version" => self.version = Some(value),
            b"level" => self.level = Some(value),
            b"session" => self.session = Some(value),
            b"node" => self.node = Some(value),
            b"meta" => self.meta = Some(value),
            _ => {}
        }
        Ok(())
    }
}

/// Fields of a JSON event that are no objects, but for bytes in base64; nor arrays, but for what an operation or a transaction asks for.
const VALUES: [&[u8]; 7] = [b"key", b"value", b"observed", b"old", b"process", b"session", b"node"];

/// Reads an event as a JSON object.
pub(super) fn from_json<'a>(cursor: &mut Cursor<'a>) -> Result<Event<'a>, Wrong> {
    let mut event = Event::default();
    json::object(cursor, |cursor, name| {
        json::space(cursor);
        let at = cursor.at;
        let value = json::value(cursor)?;
        if VALUES.contains(&&*name) && !(*name == *b"value" && matches!(value, Datum::List(_))) {
            demands::single(&value, at)?;
        }
        event.field(&name, value, at)
    })?;
    Ok(event)
}

/// Reads an event as an EDN map.
pub(super) fn from_edn<'a>(cursor: &mut Cursor<'a>) -> Result<Event<'a>, Wrong> {
    let mut event = Event::default();
    edn::space(cursor)?;
    // Records print as a tag before the map.
    if cursor.peek() == Some(b'#') {
        cursor.take_while(|byte| byte != b'{' && !edn::is_delimiter(byte));
        edn::space(cursor)?;
    }
    if cursor.peek() != Some(b'{') {
        return cursor.wrong(format!("expected a map of one event, found {}", cursor.found()));
    }
    let opening = cursor.at;
    cursor.at += 1;
    loop {
        edn::space(cursor)?;
        match cursor.peek() {
            None => {
                return Err(Wrong { at: opening, reason: "the map that begins here does not end".into() });
            }
            Some(b'}') => {
                cursor.at += 1;
                return Ok(event);
            }
            Some(_) => {}
        }
        let name = edn::value(cursor)?;
        edn::space(cursor)?;
        let at = cursor.at;
        let value = edn::value(cursor)?;
        event.field(name.scalar().unwrap_or_default().as_ref(), value, at)?;
    }
}

/// Reads an event as a line of Jepsen's log, `... PROCESS<TAB>:TYPE<TAB>:F<TAB>VALUE`; `None` for a line of another kind.
pub(super) fn from_log(line: &[u8]) -> Result<Option<Event<'_>>, Wrong> {
    let mut columns = line.splitn(4, |byte| *byte == b'\t');
    let (Some(head), Some(kind), Some(f), Some(value)) =
        (columns.next(), columns.next(), columns.next(), columns.next())
    else {
        return Ok(None);
    };
    let process = head.rsplit(u8::is_ascii_whitespace).next().unwrap_or(head);
    let mut event = Event::default();
    let mut at = head.len() - process.len();
    for (name, text) in [("process", process), ("type", kind), ("f", f), ("value", value)] {
        let mut cursor = Cursor { text: &line[..at + text.len()], at };
        let datum = edn::value(&mut cursor)?;
        event.field(name.as_bytes(), datum, at)?;
        at += text.len() + 1;
    }
    Ok(Some(event))
}
