//! Redis commands: a table of what there is, and the translation of each into operations of the core.

mod keys;
mod strings;
mod table;

use crate::reply::Shape;
use crate::resp::Value;
use bytes::Bytes;
use samara_core::base::{KeyOp, limits};

pub use table::{COMMANDS, Command, find};

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
    /// Something on the whole key space.
    Walk(Walk),
    /// Something about the connection itself.
    Connection,
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
    /// FLUSHDB, FLUSHALL.
    Flush,
}

/// An error of the ERR kind.
pub(crate) fn err(text: &str) -> Value {
    Value::Error(format!("ERR {text}"))
}

pub(crate) fn syntax() -> Value {
    err("syntax error")
}

pub(crate) fn not_integer() -> Value {
    err("value is not an integer or out of range")
}

/// An integer argument, as strictly as Redis reads it.
pub(crate) fn integer(argument: &Bytes) -> Result<i64, Value> {
    samara_core::rules::register::parse_integer(argument).ok_or_else(not_integer)
}

/// A command's arguments in upper case where they are words.
pub(crate) fn word(argument: &Bytes) -> String {
    String::from_utf8_lossy(argument).to_ascii_uppercase()
}

/// The error for a wrong number of arguments.
pub fn wrong_arity(name: &str) -> Value {
    err(&format!("wrong number of arguments for '{}' command", name.to_ascii_lowercase()))
}

fn unknown(arguments: &[Bytes]) -> Value {
    let shown = |argument: &Bytes| String::from_utf8_lossy(&argument[..argument.len().min(128)]).into_owned();
    let mut rest = String::new();
    for argument in &arguments[1..] {
        if rest.len() >= 128 {
            break;
        }
        rest.push_str(&format!("'{}' ", shown(argument)));
    }
    err(&format!("unknown command '{}', with args beginning with: {rest}", shown(&arguments[0])))
}

/// Translates a request. `Err` is the reply.
pub fn parse(arguments: &[Bytes]) -> Result<Action, Value> {
    let Some(command) = find(&arguments[0]) else {
        return Err(unknown(arguments));
    };
    if !command.takes(arguments.len()) {
        return Err(wrong_arity(command.name));
    }
    for key in command.keys(arguments) {
        if key.len() > limits::KEY_BYTES_MAX {
            return Err(Value::Error(format!("TOOLARGE a key is at most {} bytes", limits::KEY_BYTES_MAX)));
        }
    }
    let action = strings::parse(command.name, arguments)?;
    match action {
        Some(action) => Ok(action),
        None => keys::parse(command.name, arguments).map(|action| action.unwrap_or(Action::Connection)),
    }
}
