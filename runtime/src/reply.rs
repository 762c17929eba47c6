//! The core's answers in Redis' words.

use crate::resp::Value;
use bytes::Bytes;
use samara_core::base::{Failure, Hlc, Level, NodeId, Outcome, Rejection, Response, Stamp};
use samara_core::rules::register::parse_integer;

/// How the answer of one operation is worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The value, or null.
    Value,
    /// OK.
    Ok,
    /// OK, or null where the condition did not hold.
    OkOrNull,
    /// The old value, or null.
    Old,
    /// 1 or 0.
    Applied,
    /// The number.
    Integer,
    /// The length of the value.
    Length,
    /// GETRANGE.
    Range(i64, i64),
    /// TYPE.
    Type,
    /// Time left, or the time of the end, in units of so many milliseconds.
    Ttl {
        /// Milliseconds in a unit.
        unit: u64,
        /// The time of the end instead of the time left.
        absolute: bool,
    },
    /// META.
    Meta,
    /// OBJECT ENCODING.
    Encoding,
    /// OBJECT IDLETIME: seconds since the last write, for reads leave no trace.
    Idle,
    /// MEMORY USAGE of a key of so many bytes.
    Memory(usize),
    /// This error if the key is there, else null.
    Refuse(&'static str),
    /// This if the key is there, else the error that says it is not.
    Present(Fixed),
}

/// A reply that is known but for whether the key is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixed {
    /// OK.
    Ok,
    /// A number.
    Integer(i64),
}

/// What a record takes beside its key and value, roughly: stamps, expiry, one remembered operation.
const RECORD_BYTES: usize = 96;

/// The error of a failure, with what to do.
pub fn failure(failure: Failure) -> Value {
    Value::error(failure_text(failure))
}

/// The words of a failure: its name, whether something was applied, and what to do.
pub fn failure_text(failure: Failure) -> &'static str {
    match failure {
        Failure::Unavailable => {
            "UNAVAILABLE not applied: too few replicas can be reached; retry when they are back"
        }
        Failure::Timeout => "TIMEOUT the outcome is unknown; read the key, or retry under IDEMPOTENT",
        Failure::Overloaded => "OVERLOADED not applied: a limit was reached; retry later",
        Failure::ClockSkew => {
            "CLOCKSKEW not applied: a clock is off by more than 500 ms; check time synchronisation"
        }
        Failure::DiskFull => {
            "DISKFULL not applied: no space left on a replica's disk; delete keys or add space"
        }
        Failure::TooLarge => "TOOLARGE not applied: a key is at most 64 KiB, a value at most 16 MiB",
        Failure::BelowFloor(Level::Strong) => {
            "BELOWFLOOR not applied: this key's floor is strong; ask at that level: CONSISTENCY strong"
        }
        Failure::BelowFloor(_) => {
            "BELOWFLOOR not applied: this key's floor is causal; ask at that level or strong: CONSISTENCY causal"
        }
    }
}

/// The words of a rejection.
pub fn rejection_text(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::NotInteger => "ERR value is not an integer or out of range",
        Rejection::Overflow => "ERR increment or decrement would overflow",
        Rejection::NotFloat => "ERR value is not a valid float",
        Rejection::NotFinite => "ERR increment would produce NaN or Infinity",
        Rejection::TooLarge => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
    }
}

/// Words an answer.
pub fn word(shape: Shape, result: Result<Response, Failure>) -> Value {
    match result {
        Err(reason) => failure(reason),
        Ok(Response::Mutated { outcome, .. }) => mutated(shape, outcome),
        Ok(Response::Value { value, version, expires_at, now_ms }) => match shape {
            Shape::Length => Value::Integer(value.len() as i64),
            Shape::Range(start, end) => Value::Bulk(value.slice(range(start, end, value.len()))),
            Shape::Type => Value::Status("string"),
            Shape::Ttl { unit, absolute } => ttl(expires_at, now_ms, unit, absolute),
            Shape::Meta => Value::Map(vec![
                (Value::text("version"), Value::text(version_text(version))),
                (Value::text("last_modified"), Value::Integer(version.hlc.ms() as i64)),
                (Value::text("ttl_ms"), ttl(expires_at, now_ms, 1, false)),
                (Value::text("size"), Value::Integer(value.len() as i64)),
            ]),
            Shape::Encoding => Value::text(encoding(&value)),
            Shape::Idle => Value::Integer((now_ms.saturating_sub(version.hlc.ms()) / 1_000) as i64),
            Shape::Memory(key) => Value::Integer((key + value.len() + RECORD_BYTES) as i64),
            Shape::Refuse(error) => Value::error(error),
            Shape::Present(Fixed::Ok) => Value::Status("OK"),
            Shape::Present(Fixed::Integer(number)) => Value::Integer(number),
            _ => Value::Bulk(value),
        },
        Ok(Response::Absent { .. }) => match shape {
            Shape::Length => Value::Integer(0),
            Shape::Range(..) => Value::Bulk(Bytes::new()),
            Shape::Type => Value::Status("none"),
            Shape::Ttl { .. } => Value::Integer(-2),
            Shape::Present(_) => Value::error("ERR no such key"),
            _ => Value::Null,
        },
        Ok(Response::Page(_)) => Value::error("ERR a page where a value was expected"),
    }
}

/// The encoding that Redis would choose for a value that is set.
fn encoding(value: &[u8]) -> &'static str {
    match value.len() {
        0..=20 if parse_integer(value).is_some() => "int",
        0..=44 => "embstr",
        _ => "raw",
    }
}

/// The time left, rounded to the nearest unit, or the time of the end; -1 without one.
fn ttl(expires_at: u64, now_ms: u64, unit: u64, absolute: bool) -> Value {
    if expires_at == 0 {
        return Value::Integer(-1);
    }
    let at = if absolute { expires_at } else { expires_at.saturating_sub(now_ms) };
    Value::Integer((at.saturating_add(unit / 2) / unit) as i64)
}

/// A version as users see it.
pub fn version_text(version: Stamp) -> String {
    format!("{:016x}-{:04x}", version.hlc.0, version.node.0)
}

/// The version that a text names.
pub fn parse_version(text: &str) -> Option<Stamp> {
    let (hlc, node) = text.split_once('-')?;
    let is_hex =
        |part: &str, digits: usize| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hex(hlc, 16) || !is_hex(node, 4) {
        return None;
    }
    let hlc = Hlc(u64::from_str_radix(hlc, 16).ok()?);
    Some(Stamp { hlc, node: NodeId(u16::from_str_radix(node, 16).ok()?) })
}

fn mutated(shape: Shape, outcome: Outcome) -> Value {
    match (shape, outcome) {
        (_, Outcome::Rejected(reason)) => Value::error(rejection_text(reason)),
        (_, Outcome::NotKept) => failure(Failure::Timeout),
        (_, Outcome::Integer(number)) => Value::Integer(number),
        (Shape::Old, Outcome::Changed { old, .. }) => old.map_or(Value::Null, Value::Bulk),
        (Shape::Applied, Outcome::Changed { applied, .. }) => Value::Integer(i64::from(applied)),
        (Shape::OkOrNull, Outcome::Changed { applied: false, .. }) => Value::Null,
        (_, Outcome::Changed { .. }) => Value::Status("OK"),
    }
}

/// GETRANGE's bounds: negative ones count from the end, and both are inclusive.
fn range(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    let len = len as i64;
    let from_end = |at: i64| if at < 0 { (len + at).max(0) } else { at };
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if start > end || len == 0 { 0..0 } else { start as usize..end as usize + 1 }
}

/// Whether an operation of DEL, EXISTS and their like found its key.
pub fn found(result: &Result<Response, Failure>) -> Result<bool, Failure> {
    match result {
        Err(reason) => Err(*reason),
        Ok(
            Response::Value { .. }
            | Response::Mutated { outcome: Outcome::Changed { applied: true, .. }, .. },
        ) => Ok(true),
        Ok(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_version, range, version_text};
    use samara_core::base::{Hlc, NodeId, Stamp};

    #[test]
    fn versions_are_read_as_they_are_written() {
        let version = Stamp { hlc: Hlc(0x0190_d0f0_0000_0001), node: NodeId(7) };
        assert_eq!(parse_version(&version_text(version)), Some(version));
        for bad in ["", "-", "1-1", "0190d0f000000001-", "0190d0f000000001-00007", "+190d0f000000001-0007"] {
            assert_eq!(parse_version(bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges_of_redis() {
        let table = [
            (0, 3, 0..4),
            (-3, -1, 8..11),
            (0, -1, 0..11),
            (10, 100, 10..11),
            (5, 2, 0..0),
            (-1, -5, 0..0),
            (20, 30, 0..0),
        ];
        for (start, end, expected) in table {
            assert_eq!(range(start, end, 11), expected, "{start} {end}");
        }
        assert_eq!(range(0, 0, 0), 0..0);
    }
}
