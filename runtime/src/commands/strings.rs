//! Commands on values.

use super::{Action, KeyRequest, Many, err, integer, syntax, word, wrong_arity};
use crate::reply::Shape;
use crate::resp::Value;
use bytes::Bytes;
use samara_core::base::{ExpireWhen, Expiry, KeyOp, When, limits};

fn one(key: &Bytes, op: KeyOp, shape: Shape) -> Action {
    Action::One(KeyRequest { key: key.clone(), op }, shape)
}

fn plain_set(value: &Bytes, expiry: Expiry, when: When, want_old: bool) -> KeyOp {
    KeyOp::Set { value: value.clone(), expiry, when, want_old }
}

/// Translates a command on values; `None` if `name` is none.
pub(super) fn parse(name: &str, a: &[Bytes]) -> Result<Option<Action>, Value> {
    Ok(Some(match name {
        "get" => one(&a[1], KeyOp::Read, Shape::Value),
        "set" => set(a)?,
        "setnx" => one(&a[1], plain_set(&a[2], Expiry::Clear, When::Absent, false), Shape::Applied),
        "setex" => timed_set(a, 1_000)?,
        "psetex" => timed_set(a, 1)?,
        "getset" => one(&a[1], plain_set(&a[2], Expiry::Clear, When::Always, true), Shape::Old),
        "getdel" => one(&a[1], KeyOp::Delete { want_old: true }, Shape::Old),
        "getex" => getex(a)?,
        "cas" => {
            one(&a[1], plain_set(&a[3], Expiry::Keep, When::Equals(a[2].clone()), false), Shape::Applied)
        }
        "append" => one(&a[1], KeyOp::Append(a[2].clone()), Shape::Integer),
        "strlen" => one(&a[1], KeyOp::Read, Shape::Length),
        "getrange" | "substr" => {
            let (start, end) = (integer(&a[2])?, integer(&a[3])?);
            one(&a[1], KeyOp::Read, Shape::Range(start, end))
        }
        "setrange" => set_range(a)?,
        "incr" => one(&a[1], KeyOp::Add(1), Shape::Integer),
        "decr" => one(&a[1], KeyOp::Add(-1), Shape::Integer),
        "incrby" => one(&a[1], KeyOp::Add(integer(&a[2])?), Shape::Integer),
        "decrby" => {
            let delta = integer(&a[2])?.checked_neg().ok_or_else(|| err("decrement would overflow"))?;
            one(&a[1], KeyOp::Add(delta), Shape::Integer)
        }
        "incrbyfloat" => {
            let number = std::str::from_utf8(&a[2]).ok().and_then(|text| text.parse::<f64>().ok());
            if number.is_none_or(f64::is_nan) {
                return Err(err("value is not a valid float"));
            }
            one(&a[1], KeyOp::AddFloat(a[2].clone()), Shape::Old)
        }
        "mget" => {
            let reads = a[1..].iter().map(|key| KeyRequest { key: key.clone(), op: KeyOp::Read });
            Action::Many(reads.collect(), Many::Values)
        }
        "mset" => {
            if a.len() % 2 == 0 {
                return Err(wrong_arity("mset"));
            }
            let pairs = a[1..].chunks(2);
            let set = |pair: &[Bytes]| KeyRequest {
                key: pair[0].clone(),
                op: plain_set(&pair[1], Expiry::Clear, When::Always, false),
            };
            Action::Many(pairs.map(set).collect(), Many::Ok)
        }
        _ => return Ok(None),
    }))
}

fn set_range(a: &[Bytes]) -> Result<Action, Value> {
    let offset = integer(&a[2])?;
    if offset < 0 {
        return Err(err("offset is out of range"));
    }
    let offset = u32::try_from(offset).ok().filter(|at| *at as usize + a[3].len() <= limits::VALUE_BYTES_MAX);
    let offset = offset.ok_or_else(|| err("string exceeds maximum allowed size (proto-max-bulk-len)"))?;
    Ok(one(&a[1], KeyOp::SetRange { offset, data: a[3].clone() }, Shape::Integer))
}

/// An expiry argument: `unit` milliseconds each, positive, and not overflowing.
fn expiry(argument: &Bytes, unit: i64, absolute: bool, command: &str) -> Result<Expiry, Value> {
    let invalid = || err(&format!("invalid expire time in '{command}' command"));
    let number = integer(argument)?;
    let millis = number.checked_mul(unit).filter(|millis| *millis > 0).ok_or_else(invalid)?;
    // T2: a time that would overflow the clock's 48 bits is an error.
    if millis >= 1 << 47 {
        return Err(invalid());
    }
    Ok(if absolute { Expiry::At(millis as u64) } else { Expiry::After(millis as u64) })
}

fn timed_set(a: &[Bytes], unit: i64) -> Result<Action, Value> {
    let command = if unit == 1 { "psetex" } else { "setex" };
    let expiry = expiry(&a[2], unit, false, command)?;
    Ok(one(&a[1], plain_set(&a[3], expiry, When::Always, false), Shape::Ok))
}

/// The expiry that an option names, if it is one.
fn expiry_option(option: &str, next: Option<&Bytes>, command: &str) -> Option<Result<Expiry, Value>> {
    let (unit, absolute) = match option {
        "EX" => (1_000, false),
        "PX" => (1, false),
        "EXAT" => (1_000, true),
        "PXAT" => (1, true),
        _ => return None,
    };
    Some(next.map_or_else(|| Err(syntax()), |next| expiry(next, unit, absolute, command)))
}

fn set(a: &[Bytes]) -> Result<Action, Value> {
    let (mut chosen, mut when, mut want_old) = (None, When::Always, false);
    let mut at = 3;
    while at < a.len() {
        let option = word(&a[at]);
        if let Some(expiry) = expiry_option(&option, a.get(at + 1), "set") {
            if chosen.replace(expiry?).is_some() {
                return Err(syntax());
            }
            at += 2;
            continue;
        }
        match option.as_str() {
            "KEEPTTL" if chosen.is_none() => chosen = Some(Expiry::Keep),
            "NX" if when == When::Always => when = When::Absent,
            "XX" if when == When::Always => when = When::Present,
            "IFEQ" if when == When::Always && at + 1 < a.len() => {
                at += 1;
                when = When::Equals(a[at].clone());
            }
            "GET" => want_old = true,
            _ => return Err(syntax()),
        }
        at += 1;
    }
    let shape = if want_old { Shape::Old } else { Shape::OkOrNull };
    Ok(one(&a[1], plain_set(&a[2], chosen.unwrap_or(Expiry::Clear), when, want_old), shape))
}

fn getex(a: &[Bytes]) -> Result<Action, Value> {
    let expiry = match a.get(2).map(word) {
        None => return Ok(one(&a[1], KeyOp::Read, Shape::Value)),
        Some(option) if option == "PERSIST" && a.len() == 3 => Expiry::Clear,
        Some(option) => match expiry_option(&option, a.get(3), "getex") {
            Some(expiry) if a.len() == 4 => expiry?,
            _ => return Err(syntax()),
        },
    };
    Ok(one(&a[1], KeyOp::Expire { expiry, when: ExpireWhen::Always, want_value: true }, Shape::Old))
}
