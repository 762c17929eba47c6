//! The core's answers in Redis' words.

use crate::resp::Value;
use samara_core::base::{Failure, Hlc, KeyOp, Outcome, Rejection, Response};

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
}

/// The error of a failure, with what to do.
pub fn failure(failure: Failure) -> Value {
    Value::Error(
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
        }
        .into(),
    )
}

fn rejection(rejection: Rejection) -> Value {
    Value::Error(
        match rejection {
            Rejection::NotInteger => "ERR value is not an integer or out of range",
            Rejection::Overflow => "ERR increment or decrement would overflow",
            Rejection::NotFloat => "ERR value is not a valid float",
            Rejection::NotFinite => "ERR increment would produce NaN or Infinity",
            Rejection::TooLarge => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        }
        .into(),
    )
}

/// Words an answer.
pub fn word(shape: Shape, result: &Result<Response, Failure>) -> Value {
    match result {
        Err(reason) => failure(*reason),
        Ok(Response::Mutated { outcome, .. }) => mutated(shape, outcome),
        Ok(Response::Value { value, version, expires_at, now_ms }) => {
            let left = expires_at.saturating_sub(*now_ms);
            match shape {
                Shape::Length => Value::Integer(value.len() as i64),
                Shape::Range(start, end) => Value::Bulk(value.slice(range(start, end, value.len()))),
                Shape::Type => Value::Status("string"),
                Shape::Ttl { .. } if *expires_at == 0 => Value::Integer(-1),
                Shape::Ttl { unit, absolute: true } => Value::Integer((expires_at / unit) as i64),
                Shape::Ttl { unit, absolute: false } => Value::Integer(((left + unit / 2) / unit) as i64),
                Shape::Meta => Value::Map(vec![
                    (Value::text("version"), Value::text(version_text(version.hlc, version.node.0))),
                    (Value::text("last_modified"), Value::Integer(version.hlc.ms() as i64)),
                    (Value::text("ttl_ms"), Value::Integer(if *expires_at == 0 { -1 } else { left as i64 })),
                    (Value::text("size"), Value::Integer(value.len() as i64)),
                ]),
                _ => Value::Bulk(value.clone()),
            }
        }
        Ok(Response::Absent { .. }) => match shape {
            Shape::Length => Value::Integer(0),
            Shape::Range(..) => Value::Bulk(bytes::Bytes::new()),
            Shape::Type => Value::Status("none"),
            Shape::Ttl { .. } => Value::Integer(-2),
            _ => Value::Null,
        },
        Ok(Response::Page(_)) => Value::Error("ERR a page where a value was expected".into()),
    }
}

fn version_text(hlc: Hlc, node: u16) -> String {
    format!("{:016x}-{node:04x}", hlc.0)
}

fn mutated(shape: Shape, outcome: &Outcome) -> Value {
    match (shape, outcome) {
        (_, Outcome::Rejected(reason)) => rejection(*reason),
        (_, Outcome::NotKept) => failure(Failure::Timeout),
        (_, Outcome::Integer(number)) => Value::Integer(*number),
        (Shape::Old, Outcome::Changed { old, .. }) => old.clone().map_or(Value::Null, Value::Bulk),
        (Shape::Applied, Outcome::Changed { applied, .. }) => Value::Integer(i64::from(*applied)),
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

/// The name of an operation in metrics.
pub fn operation_name(op: &KeyOp) -> &'static str {
    match op {
        KeyOp::Read => "get",
        KeyOp::Set { .. } => "set",
        KeyOp::Delete { .. } => "delete",
        KeyOp::Add(_) | KeyOp::AddFloat(_) => "incr",
        KeyOp::Append(_) => "append",
        KeyOp::SetRange { .. } => "setrange",
        KeyOp::Expire { .. } => "expire",
    }
}

/// The word of an outcome in metrics.
pub fn outcome_name(result: &Result<Response, Failure>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Failure::Unavailable) => "unavailable",
        Err(Failure::Timeout) => "timeout",
        Err(Failure::Overloaded) => "overloaded",
        Err(Failure::ClockSkew) => "clockskew",
        Err(Failure::DiskFull) => "diskfull",
        Err(Failure::TooLarge) => "toolarge",
    }
}

#[cfg(test)]
mod tests {
    use super::range;

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
