//! Commands on keys and on the key space.
#![expect(clippy::unnecessary_wraps, reason = "all entries of the table have one type")]

use super::strings::{now_ms, one};
use super::table::Command;
use super::{Action, KeyRequest, Walk, err, integer, not_integer, syntax, word};
use crate::reply::Shape;
use crate::resp::{Args, Value};
use bytes::Bytes;
use samara_core::base::{ExpireWhen, Expiry, KeyOp, Slot, limits};
use std::time::Duration;

/// Seconds of DEBUG SLEEP.
const SLEEP_MAX: f64 = 3_600.0;

type Parsed = Result<Action, Value>;

pub(super) fn kind(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, KeyOp::Read, Shape::Type))
}

pub(super) fn ttl(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, KeyOp::Read, Shape::Ttl { unit: 1_000, absolute: false }))
}

pub(super) fn pttl(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, KeyOp::Read, Shape::Ttl { unit: 1, absolute: false }))
}

pub(super) fn expiretime(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, KeyOp::Read, Shape::Ttl { unit: 1_000, absolute: true }))
}

pub(super) fn pexpiretime(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, KeyOp::Read, Shape::Ttl { unit: 1, absolute: true }))
}

pub(super) fn meta(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, KeyOp::Read, Shape::Meta))
}

pub(super) fn persist(_: &'static Command, a: &Args<'_>) -> Parsed {
    let op = KeyOp::Expire { expiry: Expiry::Clear, when: ExpireWhen::Always, want_value: false };
    Ok(one(a, op, Shape::Integer))
}

pub(super) fn keys(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(Action::Walk(Walk::Keys(glob(a, 1)?)))
}

/// A pattern, of bounded length: a longer one takes memory and matches no key that a shorter one could not.
fn glob(a: &Args<'_>, at: usize) -> Result<Bytes, Value> {
    if a[at].len() > 2 * limits::KEY_BYTES_MAX {
        return Err(Value::error(format!(
            "TOOLARGE a pattern is at most {} bytes",
            2 * limits::KEY_BYTES_MAX
        )));
    }
    Ok(a.copy(at))
}

pub(super) fn dbsize(_: &'static Command, _: &Args<'_>) -> Parsed {
    Ok(Action::Walk(Walk::Size))
}

pub(super) fn randomkey(_: &'static Command, _: &Args<'_>) -> Parsed {
    Ok(Action::Walk(Walk::Random))
}

pub(super) fn flush(_: &'static Command, a: &Args<'_>) -> Parsed {
    match a.at(1).map(word).as_deref() {
        None | Some("SYNC" | "ASYNC") if a.len() <= 2 => Ok(Action::Walk(Walk::Flush)),
        _ => Err(syntax()),
    }
}

pub(super) fn expire(command: &'static Command, a: &Args<'_>) -> Parsed {
    change_expiry(command, a, 1_000, false)
}

pub(super) fn pexpire(command: &'static Command, a: &Args<'_>) -> Parsed {
    change_expiry(command, a, 1, false)
}

pub(super) fn expireat(command: &'static Command, a: &Args<'_>) -> Parsed {
    change_expiry(command, a, 1_000, true)
}

pub(super) fn pexpireat(command: &'static Command, a: &Args<'_>) -> Parsed {
    change_expiry(command, a, 1, true)
}

/// NX, XX, GT, LT. XX adds nothing to GT: a key without expiry is never before any time.
fn expire_when(a: &Args<'_>) -> Result<ExpireWhen, Value> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for option in a.tail(3).iter() {
        match word(option).as_str() {
            "NX" => nx = true,
            "XX" => xx = true,
            "GT" => gt = true,
            "LT" => lt = true,
            _ => return Err(Value::error([b"ERR Unsupported option ", option].concat())),
        }
    }
    if nx && (xx || gt || lt) {
        return Err(err("NX and XX, GT or LT options at the same time are not compatible"));
    }
    if gt && lt {
        return Err(err("GT and LT options at the same time are not compatible"));
    }
    Ok(match (nx, xx, gt, lt) {
        (true, ..) => ExpireWhen::NoExpiry,
        (_, _, true, _) => ExpireWhen::Later,
        (_, true, _, true) => ExpireWhen::HasExpiryAndEarlier,
        (_, _, _, true) => ExpireWhen::Earlier,
        (_, true, ..) => ExpireWhen::HasExpiry,
        _ => ExpireWhen::Always,
    })
}

fn change_expiry(command: &'static Command, a: &Args<'_>, unit: i64, absolute: bool) -> Parsed {
    let when = expire_when(a)?;
    let invalid = || err(&format!("invalid expire time in '{}' command", command.name));
    let millis = integer(&a[2])?.checked_mul(unit).ok_or_else(invalid)?;
    if !absolute {
        millis.checked_add(now_ms()).ok_or_else(invalid)?;
    }
    // A time that has passed deletes the key: the Unix epoch, or no time at all, is such a time.
    let expiry = match (absolute, u64::try_from(millis)) {
        (true, Ok(at)) => Expiry::At(at.max(1)),
        (false, Ok(after)) => Expiry::After(after),
        (_, Err(_)) => Expiry::At(1),
    };
    Ok(one(a, KeyOp::Expire { expiry, when, want_value: false }, Shape::Integer))
}

pub(super) fn scan(_: &'static Command, a: &Args<'_>) -> Parsed {
    let text = if a[1].is_empty() { b"0" } else { &a[1] };
    let cursor = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
    let cursor = cursor.ok_or_else(|| err("invalid cursor"))?;
    let (mut pattern, mut count, mut strings) = (None, 10, true);
    let mut at = 2;
    while at < a.len() {
        let (option, argument) = (word(&a[at]), a.at(at + 1).ok_or_else(syntax)?);
        match option.as_str() {
            "MATCH" => pattern = Some(glob(a, at + 1)?),
            "COUNT" => {
                let number = integer(argument).map_err(|_| not_integer())?;
                count = u64::try_from(number).ok().filter(|count| *count > 0).ok_or_else(syntax)?;
            }
            "TYPE" => strings = argument.eq_ignore_ascii_case(b"string"),
            _ => return Err(syntax()),
        }
        at += 2;
    }
    Ok(Action::Walk(Walk::Scan { cursor, pattern, count, strings }))
}

pub(super) fn encoding(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(of_third(a, Shape::Encoding))
}

pub(super) fn idletime(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(of_third(a, Shape::Idle))
}

pub(super) fn freq(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(of_third(
        a,
        Shape::Refuse(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ),
    ))
}

pub(super) fn memory(_: &'static Command, a: &Args<'_>) -> Parsed {
    for at in (3..a.len()).step_by(2) {
        match (word(&a[at]).as_str(), a.at(at + 1)) {
            ("SAMPLES", Some(count)) if integer(count)? >= 0 => {}
            _ => return Err(syntax()),
        }
    }
    Ok(of_third(a, Shape::Memory(a[2].len())))
}

/// A read of the key that is the argument after a subcommand.
fn of_third(a: &Args<'_>, shape: Shape) -> Action {
    Action::One(KeyRequest { key: a.copy(2), op: KeyOp::Read }, shape)
}

fn slot(a: &Args<'_>, wrong: &str) -> Result<u16, Value> {
    let slot = integer(&a[2])?;
    u16::try_from(slot).ok().filter(|slot| *slot < Slot::COUNT).ok_or_else(|| err(wrong))
}

pub(super) fn count_in_slot(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(Action::Walk(Walk::CountInSlot(slot(a, "Invalid slot")?)))
}

pub(super) fn keys_in_slot(_: &'static Command, a: &Args<'_>) -> Parsed {
    let (slot, most) = (slot(a, "Invalid slot or number of keys")?, integer(&a[3])?);
    let most = u64::try_from(most).map_err(|_| err("Invalid slot or number of keys"))?;
    Ok(Action::Walk(Walk::KeysInSlot(slot, most)))
}

/// DEBUG SLEEP: what is no number is none, as C reads it.
pub(super) fn sleep(_: &'static Command, a: &Args<'_>) -> Parsed {
    let seconds = std::str::from_utf8(&a[2]).ok().and_then(|text| text.parse::<f64>().ok());
    let seconds = seconds.filter(|seconds| seconds.is_finite()).unwrap_or(0.0).clamp(0.0, SLEEP_MAX);
    Ok(Action::Sleep(Duration::from_secs_f64(seconds)))
}
