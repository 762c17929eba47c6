//! What an event must say. JSON is strict: there a key is named, and a value is a string, a number or bytes. EDN's registers have no key, may hold
//! nothing, and any form is a value.

use super::datum::{Datum, Wrong};

const OBJECT: &str = "an object is no value here: give a string, a number, or {\"base64\": \"...\"}";
const ARRAY: &str = "an array is no value here: give a string, a number, or {\"base64\": \"...\"}";

/// Refuses what is no single value.
pub(super) fn single(value: &Datum<'_>, at: usize) -> Result<(), Wrong> {
    match value {
        Datum::List(_) => Err(Wrong { at, reason: ARRAY.into() }),
        Datum::Map(_) if value.scalar().is_none() => Err(Wrong { at, reason: OBJECT.into() }),
        _ => Ok(()),
    }
}

/// Refuses what cannot be the name of a key.
pub(super) fn key(key: &Datum<'_>, at: usize) -> Result<(), Wrong> {
    if *key == Datum::Nil {
        return Err(Wrong { at, reason: "a key is a string or a number, and not null".into() });
    }
    single(key, at)
}

/// Refuses an operation that does not say what it writes.
pub(super) fn written(
    name: &[u8],
    value: Option<&Datum<'_>>,
    at: usize,
    is_strict: bool,
) -> Result<(), Wrong> {
    let puts = matches!(name, b"put" | b"write" | b"w" | b"set");
    let nothing = || {
        let name = String::from_utf8_lossy(name).into_owned();
        Err(Wrong { at, reason: format!("{name} without a value: \"value\" is missing or null") })
    };
    match (name, value) {
        // Knossos: a write of nil leaves nothing.
        (_, Some(Datum::Nil)) if puts && !is_strict => Ok(()),
        (b"put_absent" | b"put_present" | b"append", None | Some(Datum::Nil)) => nothing(),
        (_, None | Some(Datum::Nil)) if puts => nothing(),
        (b"put_absent" | b"put_present" | b"append", Some(value)) if is_strict => single(value, at),
        (_, Some(value)) if puts && is_strict => single(value, at),
        (b"cas", Some(Datum::List(pair))) => {
            if pair.get(1) == Some(&Datum::Nil) {
                return Err(Wrong { at, reason: "a cas writes a value, and not null".into() });
            }
            pair.iter().filter(|_| is_strict).try_for_each(|value| single(value, at))
        }
        _ => Ok(()),
    }
}
