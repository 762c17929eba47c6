//! The arguments of RANGE.

use super::table::Command;
use super::{Action, Walk, err, integer, syntax, word};
use crate::resp::{Args, Value};
use bytes::Bytes;
use samara_core::base::Wanted;

/// Keys where no LIMIT is given.
const LIMIT_DEFAULT: u64 = 1_000;
/// Keys at most.
const LIMIT_MAX: u64 = 1_000_000;

/// Reads the arguments of RANGE behind its name.
pub(super) fn range(_: &'static Command, a: &Args<'_>) -> Result<Action, Value> {
    let mut wanted = Wanted { low: low(&a[1])?, high: high(&a[2])?, ..Wanted::default() };
    let (mut limit, mut at) = (LIMIT_DEFAULT, 3);
    while at < a.len() {
        match (word(&a[at]).as_str(), a.at(at + 1)) {
            ("LIMIT", Some(number)) => {
                let number = integer(number)?;
                limit = u64::try_from(number)
                    .ok()
                    .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                    .ok_or_else(|| err(&format!("LIMIT is from 1 to {LIMIT_MAX}")))?;
                at += 1;
            }
            ("REV", _) => wanted.reverse = true,
            ("VALUES", _) => wanted.values = true,
            _ => return Err(syntax()),
        }
        at += 1;
    }
    Ok(Action::Walk(Walk::Range(wanted, limit)))
}

/// The bounds between which a RANGE shows values; `None` where it shows none, or is answered with an error.
pub fn values_between(command: &Command, a: &Args<'_>) -> Option<(Bytes, Option<Bytes>)> {
    if command.name != "range" || !a.tail(3).iter().any(|option| option.eq_ignore_ascii_case(b"values")) {
        return None;
    }
    Some((low(a.at(1)?).ok()?, high(a.at(2)?).ok()?))
}

fn bad_bound() -> Value {
    err("a bound of RANGE is - or +, [key with the key, or (key without it")
}

/// The first key behind `key`.
pub fn behind(key: &[u8]) -> Bytes {
    Bytes::from([key, b"\0"].concat())
}

fn low(text: &[u8]) -> Result<Bytes, Value> {
    match text {
        b"-" => Ok(Bytes::new()),
        [b'[', key @ ..] => Ok(Bytes::copy_from_slice(key)),
        [b'(', key @ ..] => Ok(behind(key)),
        _ => Err(bad_bound()),
    }
}

fn high(text: &[u8]) -> Result<Option<Bytes>, Value> {
    match text {
        b"+" => Ok(None),
        [b'[', key @ ..] => Ok(Some(behind(key))),
        [b'(', key @ ..] => Ok(Some(Bytes::copy_from_slice(key))),
        _ => Err(bad_bound()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(start: &str, end: &str) -> Option<Wanted> {
        Some(Wanted {
            low: low(start.as_bytes()).ok()?,
            high: high(end.as_bytes()).ok()?,
            ..Wanted::default()
        })
    }

    #[test]
    fn bounds_are_open_or_closed() {
        let takes = |start, end, key: &str| {
            wanted(start, end).map(|wanted| wanted.takes(&Bytes::copy_from_slice(key.as_bytes())))
        };
        let table = [
            ("-", "+", "", Some(true)),
            ("[b", "+", "b", Some(true)),
            ("(b", "+", "b", Some(false)),
            ("(b", "+", "b\0", Some(true)),
            ("-", "[b", "b", Some(true)),
            ("-", "(b", "b", Some(false)),
            ("-", "[b", "b\0", Some(false)),
            ("[c", "[b", "b", Some(false)),
            ("b", "+", "b", None),
            ("-", "", "b", None),
            ("+", "-", "b", None),
        ];
        for (start, end, key, expected) in table {
            assert_eq!(takes(start, end, key), expected, "{start} {end} {key:?}");
        }
    }
}
