//! Operations that change a value or its time to live under conditions, as an event asks for them.

use super::datum::{Datum, Wrong};
use super::demands;
use super::event::Event;
use crate::history::{Change, Expiry, When};

/// What an event asks for, if it is none of the plainer operations.
pub(super) fn asked(
    name: &[u8],
    value: &Datum<'_>,
    event: &Event<'_>,
) -> Result<Option<(When, Change)>, Wrong> {
    let wrong = |reason: &str| Wrong { at: event.value_at, reason: reason.into() };
    let ttl = event.ttl_ms.and_then(|ttl| u64::try_from(ttl).ok());
    if event.keep_ttl && ttl.is_some() {
        return Err(wrong("a value keeps its time to live or gets a new one, not both"));
    }
    let expiry = match ttl {
        _ if event.keep_ttl => Expiry::Keep,
        Some(ttl) => Expiry::After(ttl),
        None => Expiry::Clear,
    };
    let when = when(event)?;
    let plain = when.is_none() && !event.keep_ttl;
    let when = when.unwrap_or(When::Always);
    let change = match name {
        b"put" | b"write" | b"w" | b"set" if plain => return Ok(None),
        b"put" | b"write" | b"w" | b"set" if *value == Datum::Nil => {
            return Err(wrong("a put with options has a value"));
        }
        b"put" | b"write" | b"w" | b"set" => Change::Set { value: value.bytes().into_owned(), expiry },
        b"put_absent" | b"put_present" if ttl.is_some() || event.keep_ttl || !plain => {
            return Err(wrong("a put_absent or put_present has no options: say put with \"when\""));
        }
        b"delete" | b"del" if !plain => Change::Delete,
        b"setrange" => {
            let shape = || wrong("the value of a setrange is [offset bytes]");
            let Some([offset, data]) = value.list() else { return Err(shape()) };
            let offset = offset.unsigned().and_then(|offset| u32::try_from(offset).ok());
            let offset = offset.filter(|offset| *offset <= OFFSET_MAX).ok_or_else(shape)?;
            if *data == Datum::Nil || demands::single(data, 0).is_err() {
                return Err(shape());
            }
            Change::SetRange { offset, data: data.bytes().into_owned() }
        }
        b"expire" if ttl.is_none() && !event.keep_ttl => return Err(wrong("an expire has \"ttl_ms\"")),
        b"expire" => Change::Expire(expiry),
        b"persist" => Change::Expire(Expiry::Clear),
        _ if !plain => return Err(wrong("only put, delete, setrange, expire and persist have options")),
        _ => return Ok(None),
    };
    Ok(Some((when, change)))
}

/// The largest offset of a setrange: values are not longer.
const OFFSET_MAX: u32 = 16 << 20;

fn when(event: &Event<'_>) -> Result<Option<When>, Wrong> {
    let when = match &event.when {
        None | Some(Datum::Nil) => return Ok(None),
        Some(when) if when.is(b"always") => When::Always,
        Some(when) if when.is(b"absent") => When::Absent,
        Some(when) if when.is(b"present") => When::Present,
        Some(Datum::Map(fields)) => match fields.as_slice() {
            [(name, value)]
                if name.is(b"equals") && *value != Datum::Nil && demands::single(value, 0).is_ok() =>
            {
                When::Equals(value.bytes().into_owned())
            }
            _ => return Err(Wrong { at: event.value_at, reason: CONDITIONS.into() }),
        },
        Some(_) => return Err(Wrong { at: event.value_at, reason: CONDITIONS.into() }),
    };
    Ok(Some(when))
}

const CONDITIONS: &str = "\"when\" is always, absent, present or {\"equals\": value}";
