//! Redis commands: a table of what there is, and the translation of each into operations of the core.

pub mod facts;
mod keys;
mod number;
mod range;
mod several;
mod specs;
mod strings;
mod table;

use crate::reply::Shape;
use crate::resp::{Args, Value};
use bytes::Bytes;
use samara_core::base::{KeyOp, Level, Wanted};
use samara_core::rules::sequence::{Ending, Task};
use std::time::Duration;

pub use range::{behind, values_between};
pub use specs::key_specs;
pub use table::{COMMANDS, Command, CommandId, Found, all, find, lookup, lookup_any, named};

/// One operation on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// The key.
    pub key: Bytes,
    /// What to do with it.
    pub op: KeyOp,
}

/// What a command comes down to.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The answer is known.
    Now(Value),
    /// One operation, and how its answer is worded.
    One(KeyRequest, Shape),
    /// Several operations, each on its own; the answers are put together.
    Many(Vec<KeyRequest>, Many),
    /// Several operations of one slot, one after the other, each as the answers before it say.
    Sequence(Task, Worded),
    /// Something on the whole key space.
    Walk(Walk),
    /// DEBUG SLEEP: this connection stands still.
    Sleep(Duration),
    /// Something about the connection or the server: the command's full name.
    Own(&'static str),
}

/// How the ending of a sequence is worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worded {
    /// OK, or the error of a source that is not there.
    Ok,
    /// 1 or 0, or the error of a source that is not there.
    Applied,
    /// 1 or 0.
    Count,
}

impl Worded {
    /// The reply.
    pub fn reply(self, ending: Ending) -> Value {
        match (self, ending) {
            (Self::Ok | Self::Applied, Ending::NoSource) => err("no such key"),
            (Self::Ok, _) => Value::Status("OK"),
            (_, ending) => Value::Integer(i64::from(ending == Ending::Done)),
        }
    }
}

/// How the answers of several operations are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Many {
    /// Number of those that found or changed a key.
    Count,
    /// The values, in order.
    Values,
    /// OK if all succeeded.
    Ok,
}

/// Something on the whole key space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walk {
    /// SCAN.
    Scan {
        /// The slot to go on at.
        cursor: u64,
        /// MATCH.
        pattern: Option<Bytes>,
        /// COUNT.
        count: u64,
        /// Whether TYPE leaves anything (all values are strings).
        strings: bool,
    },
    /// KEYS.
    Keys(Bytes),
    /// DBSIZE.
    Size,
    /// RANDOMKEY.
    Random,
    /// RANGE, with its LIMIT.
    Range(Wanted, u64),
    /// CLUSTER COUNTKEYSINSLOT.
    CountInSlot(u16),
    /// CLUSTER GETKEYSINSLOT.
    KeysInSlot(u16, u64),
    /// FLUSHDB, FLUSHALL.
    Flush,
}

/// An error of the ERR kind.
pub(crate) fn err(text: &str) -> Value {
    Value::error(format!("ERR {text}"))
}

pub(crate) fn syntax() -> Value {
    err("syntax error")
}

pub(crate) fn not_integer() -> Value {
    err("value is not an integer or out of range")
}

/// An integer argument, as strictly as Valkey reads it.
pub(crate) fn integer(argument: &[u8]) -> Result<i64, Value> {
    samara_core::rules::register::parse_integer(argument).ok_or_else(not_integer)
}

/// An argument in upper case, where it is a word.
pub(crate) fn word(argument: &[u8]) -> String {
    String::from_utf8_lossy(argument).to_ascii_uppercase()
}

/// The error for a wrong number of arguments.
pub fn wrong_arity(name: &str) -> Value {
    err(&format!("wrong number of arguments for '{name}' command"))
}

/// At most so many bytes of an argument, up to a NUL, as C prints them.
fn shown(argument: &[u8], most: usize) -> &[u8] {
    let end = argument.iter().position(|byte| *byte == 0).unwrap_or(argument.len());
    &argument[..end.min(most)]
}

fn unknown(a: &Args<'_>) -> Value {
    let mut rest = Vec::new();
    for argument in a.tail(1).iter() {
        if rest.len() >= 128 {
            break;
        }
        let room = 128 - rest.len();
        rest.push(b'\'');
        rest.extend_from_slice(shown(argument, room));
        rest.extend_from_slice(b"' ");
    }
    let text =
        [b"ERR unknown command '", shown(&a[0], 128), b"', with args beginning with: ", &rest].concat();
    Value::error(text)
}

/// The error for a subcommand that is not there.
pub(crate) fn unknown_sub(sub: &[u8], command: &str) -> Value {
    let command = command.to_ascii_uppercase();
    let text =
        [b"ERR unknown subcommand '", shown(sub, 128), b"'. Try ", command.as_bytes(), b" HELP."].concat();
    Value::error(text)
}

/// The error for a subcommand that takes another number of arguments.
pub(crate) fn unknown_or_wrong(sub: &[u8], command: &str) -> Value {
    let text = [
        b"ERR unknown subcommand or wrong number of arguments for '",
        shown(sub, 128),
        b"'. Try ",
        command.as_bytes(),
        b" HELP.",
    ];
    Value::error(text.concat())
}

/// The answer of a HELP subcommand.
pub(crate) fn help(command: &str, subs: &str) -> Value {
    let line = |text: String| Value::Bulk(Bytes::from(text));
    Value::Array(vec![
        line(format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")),
        line(format!("{subs} HELP")),
    ])
}

/// Translates a request, which is not empty. `Err` is the reply.
pub fn parse(a: &Args<'_>) -> Result<Action, Value> {
    lookup(a)?.parse(a)
}

/// The name of a level.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Strong => "strong",
        Level::Causal => "causal",
        Level::Eventual => "eventual",
    }
}

/// The level of a name, in any case.
pub fn parse_level(name: &str) -> Option<Level> {
    [Level::Strong, Level::Causal, Level::Eventual]
        .into_iter()
        .find(|level| level_name(*level).eq_ignore_ascii_case(name))
}
