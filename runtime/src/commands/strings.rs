//! Commands on values.
#![expect(clippy::unnecessary_wraps, reason = "all entries of the table have one type")]

use super::number::is_float;
use super::table::Command;
use super::{Action, KeyRequest, err, integer, not_integer, syntax, word};
use crate::reply::Shape;
use crate::resp::{Args, Value};
use samara_core::base::{ExpireWhen, Expiry, KeyOp, When, limits};
use std::time::{SystemTime, UNIX_EPOCH};

type Parsed = Result<Action, Value>;

/// An operation on the key that is the first argument.
pub(super) fn one(a: &Args<'_>, op: KeyOp, shape: Shape) -> Action {
    Action::One(KeyRequest { key: a.copy(1), op }, shape)
}

pub(super) fn store(a: &Args<'_>, value: usize, expiry: Expiry, when: When, want_old: bool) -> KeyOp {
    KeyOp::Set { value: a.copy(value), expiry, when, want_old }
}

pub(super) fn get(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, KeyOp::Read, Shape::Value))
}

pub(super) fn setnx(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, store(a, 2, Expiry::Clear, When::Absent, false), Shape::Applied))
}

pub(super) fn getset(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, store(a, 2, Expiry::Clear, When::Always, true), Shape::Old))
}

pub(super) fn getdel(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, KeyOp::Delete { when: When::Always, want_old: true }, Shape::Old))
}

pub(super) fn cas(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, store(a, 3, Expiry::Keep, When::Equals(a.copy(2)), false), Shape::Applied))
}

pub(super) fn append(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, KeyOp::Append(a.copy(2)), Shape::Integer))
}

pub(super) fn strlen(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, KeyOp::Read, Shape::Length))
}

pub(super) fn getrange(_: &'static Command, a: &Args<'_>) -> Parsed {
    let (start, end) = (integer(&a[2])?, integer(&a[3])?);
    Ok(one(a, KeyOp::Read, Shape::Range(start, end)))
}

pub(super) fn incr(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, KeyOp::Add(1), Shape::Integer))
}

pub(super) fn decr(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, KeyOp::Add(-1), Shape::Integer))
}

pub(super) fn incrby(_: &'static Command, a: &Args<'_>) -> Parsed {
    Ok(one(a, KeyOp::Add(integer(&a[2])?), Shape::Integer))
}

pub(super) fn decrby(_: &'static Command, a: &Args<'_>) -> Parsed {
    let delta = integer(&a[2])?.checked_neg().ok_or_else(|| err("decrement would overflow"))?;
    Ok(one(a, KeyOp::Add(delta), Shape::Integer))
}

pub(super) fn incrbyfloat(_: &'static Command, a: &Args<'_>) -> Parsed {
    if !is_float(&a[2]) {
        return Err(err("value is not a valid float"));
    }
    Ok(one(a, KeyOp::AddFloat(a.copy(2)), Shape::Old))
}

pub(super) fn setrange(_: &'static Command, a: &Args<'_>) -> Parsed {
    let offset = integer(&a[2])?;
    if offset < 0 {
        return Err(err("offset is out of range"));
    }
    if a[3].is_empty() {
        return Ok(one(a, KeyOp::Read, Shape::Length));
    }
    let fits = |at: &u32| *at as usize + a[3].len() <= limits::VALUE_BYTES_MAX;
    let offset = u32::try_from(offset).ok().filter(fits);
    let offset = offset.ok_or_else(|| err("string exceeds maximum allowed size (proto-max-bulk-len)"))?;
    Ok(one(a, KeyOp::SetRange { offset, data: a.copy(3) }, Shape::Integer))
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// An expiry argument, in units of `unit` milliseconds: positive, and not overflowing (PROTOCOL T2).
fn expiry(argument: &[u8], unit: i64, absolute: bool, command: &str) -> Result<Expiry, Value> {
    let invalid = || err(&format!("invalid expire time in '{command}' command"));
    let millis = integer(argument)?.checked_mul(unit).filter(|millis| *millis > 0).ok_or_else(invalid)?;
    if absolute {
        return Ok(Expiry::At(millis as u64));
    }
    millis.checked_add(now_ms()).ok_or_else(invalid)?;
    Ok(Expiry::After(millis as u64))
}

pub(super) fn setex(command: &'static Command, a: &Args<'_>) -> Parsed {
    timed_set(command, a, 1_000)
}

pub(super) fn psetex(command: &'static Command, a: &Args<'_>) -> Parsed {
    timed_set(command, a, 1)
}

fn timed_set(command: &'static Command, a: &Args<'_>, unit: i64) -> Parsed {
    let expiry = expiry(&a[2], unit, false, command.name)?;
    Ok(one(a, store(a, 3, expiry, When::Always, false), Shape::Ok))
}

/// What the options of SET and GETEX say. Valkey reads all of them before it looks at any number.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own in the command's syntax")]
struct Options {
    /// The option that names an expiry, and the place of its argument.
    expiry: Option<(&'static str, usize)>,
    keep: bool,
    persist: bool,
    absent: bool,
    present: bool,
    equals: Option<usize>,
    get: bool,
}

impl Options {
    fn parse(a: &Args<'_>, from: usize, set: bool) -> Result<Self, Value> {
        let mut options = Self::default();
        let mut at = from;
        while at < a.len() {
            let option = word(&a[at]);
            let timed = ["EX", "PX", "EXAT", "PXAT"].into_iter().find(|name| *name == option);
            match (option.as_str(), timed) {
                (_, Some(name)) if at + 1 < a.len() && options.may_expire(name) => {
                    options.expiry = Some((name, at + 1));
                    at += 1;
                }
                ("KEEPTTL", _) if set && options.expiry.is_none() => options.keep = true,
                ("PERSIST", _) if !set && options.expiry.is_none() => options.persist = true,
                ("NX", _) if set && !options.present && options.equals.is_none() => options.absent = true,
                ("XX", _) if set && !options.absent && options.equals.is_none() => options.present = true,
                ("IFEQ", _) if set && !options.absent && !options.present && at + 1 < a.len() => {
                    at += 1;
                    options.equals = Some(at);
                }
                ("GET", _) if set => options.get = true,
                _ => return Err(syntax()),
            }
            at += 1;
        }
        Ok(options)
    }

    fn may_expire(&self, name: &str) -> bool {
        !self.keep && !self.persist && self.expiry.is_none_or(|(other, _)| other == name)
    }

    fn expiry(&self, a: &Args<'_>, command: &str) -> Result<Option<Expiry>, Value> {
        let Some((name, at)) = self.expiry else {
            return Ok(self.keep.then_some(Expiry::Keep));
        };
        let unit = if name.starts_with('E') { 1_000 } else { 1 };
        expiry(&a[at], unit, name.ends_with("AT"), command).map(Some)
    }
}

pub(super) fn set(_: &'static Command, a: &Args<'_>) -> Parsed {
    if a.len() == 3 {
        return Ok(one(a, store(a, 2, Expiry::Clear, When::Always, false), Shape::Ok));
    }
    let options = Options::parse(a, 3, true)?;
    let expiry = options.expiry(a, "set")?.unwrap_or(Expiry::Clear);
    let when = match (options.absent, options.present, options.equals) {
        (true, ..) => When::Absent,
        (_, true, _) => When::Present,
        (_, _, Some(at)) => When::Equals(a.copy(at)),
        _ => When::Always,
    };
    let shape = if options.get { Shape::Old } else { Shape::OkOrNull };
    Ok(one(a, store(a, 2, expiry, when, options.get), shape))
}

pub(super) fn getex(_: &'static Command, a: &Args<'_>) -> Parsed {
    let options = Options::parse(a, 2, false)?;
    let expiry = match options.expiry(a, "getex") {
        Ok(Some(expiry)) => expiry,
        Ok(None) if options.persist => Expiry::Clear,
        Ok(None) => return Ok(one(a, KeyOp::Read, Shape::Value)),
        // Valkey looks for the key before it looks at the number.
        Err(error) if error == not_integer() => {
            return Ok(one(a, KeyOp::Read, Shape::Refuse("ERR value is not an integer or out of range")));
        }
        Err(_) => {
            return Ok(one(a, KeyOp::Read, Shape::Refuse("ERR invalid expire time in 'getex' command")));
        }
    };
    Ok(one(a, KeyOp::Expire { expiry, when: ExpireWhen::Always, want_value: true }, Shape::Old))
}
