//! Commands on keys and on the key space.

use super::{Action, KeyRequest, Many, Walk, err, integer, not_integer, syntax, word};
use crate::reply::Shape;
use crate::resp::Value;
use bytes::Bytes;
use samara_core::base::{ExpireWhen, Expiry, KeyOp};

fn each(keys: &[Bytes], op: &KeyOp) -> Action {
    let request = |key: &Bytes| KeyRequest { key: key.clone(), op: op.clone() };
    Action::Many(keys.iter().map(request).collect(), Many::Count)
}

fn read(key: &Bytes, shape: Shape) -> Action {
    Action::One(KeyRequest { key: key.clone(), op: KeyOp::Read }, shape)
}

/// Translates a command on keys; `None` if `name` is none.
pub(super) fn parse(name: &str, a: &[Bytes]) -> Result<Option<Action>, Value> {
    Ok(Some(match name {
        "del" | "unlink" | "mdel" => each(&a[1..], &KeyOp::Delete { want_old: false }),
        "exists" | "touch" => each(&a[1..], &KeyOp::Read),
        "type" => read(&a[1], Shape::Type),
        "ttl" => read(&a[1], Shape::Ttl { unit: 1_000, absolute: false }),
        "pttl" => read(&a[1], Shape::Ttl { unit: 1, absolute: false }),
        "expiretime" => read(&a[1], Shape::Ttl { unit: 1_000, absolute: true }),
        "pexpiretime" => read(&a[1], Shape::Ttl { unit: 1, absolute: true }),
        "meta" => read(&a[1], Shape::Meta),
        "expire" => expire(a, 1_000, false)?,
        "pexpire" => expire(a, 1, false)?,
        "expireat" => expire(a, 1_000, true)?,
        "pexpireat" => expire(a, 1, true)?,
        "persist" => {
            let op = KeyOp::Expire { expiry: Expiry::Clear, when: ExpireWhen::Always, want_value: false };
            Action::One(KeyRequest { key: a[1].clone(), op }, Shape::Integer)
        }
        "scan" => scan(a)?,
        "keys" => Action::Walk(Walk::Keys(a[1].clone())),
        "dbsize" => Action::Walk(Walk::Size),
        "randomkey" => Action::Walk(Walk::Random),
        "flushdb" | "flushall" => match a.get(1).map(word).as_deref() {
            None | Some("SYNC" | "ASYNC") if a.len() <= 2 => Action::Walk(Walk::Flush),
            _ => return Err(syntax()),
        },
        _ => return Ok(None),
    }))
}

fn expire(a: &[Bytes], unit: i64, absolute: bool) -> Result<Action, Value> {
    let mut when = ExpireWhen::Always;
    for option in &a[3..] {
        let next = match word(option).as_str() {
            "NX" => ExpireWhen::NoExpiry,
            "XX" => ExpireWhen::HasExpiry,
            "GT" => ExpireWhen::Later,
            "LT" => ExpireWhen::Earlier,
            _ => return Err(err(&format!("Unsupported option {}", String::from_utf8_lossy(option)))),
        };
        when = match (when, next) {
            (ExpireWhen::Always, next) => next,
            (same, next) if same == next => same,
            (ExpireWhen::Later, ExpireWhen::Earlier) | (ExpireWhen::Earlier, ExpireWhen::Later) => {
                return Err(err("GT and LT options at the same time are not compatible"));
            }
            (ExpireWhen::HasExpiry, order @ (ExpireWhen::Later | ExpireWhen::Earlier))
            | (order @ (ExpireWhen::Later | ExpireWhen::Earlier), ExpireWhen::HasExpiry) => order,
            _ => return Err(err("NX and XX, GT or LT options at the same time are not compatible")),
        };
    }
    let name = String::from_utf8_lossy(&a[0]).to_ascii_lowercase();
    let invalid = || err(&format!("invalid expire time in '{name}' command"));
    let millis = integer(&a[2])?.checked_mul(unit).filter(|millis| *millis < 1 << 47).ok_or_else(invalid)?;
    // A time that has passed deletes the key: the Unix epoch, or no time at all, is such a time.
    let expiry = match (absolute, u64::try_from(millis)) {
        (true, Ok(at)) => Expiry::At(at.max(1)),
        (false, Ok(after)) => Expiry::After(after),
        (_, Err(_)) => Expiry::At(1),
    };
    let op = KeyOp::Expire { expiry, when, want_value: false };
    Ok(Action::One(KeyRequest { key: a[1].clone(), op }, Shape::Integer))
}

fn scan(a: &[Bytes]) -> Result<Action, Value> {
    let cursor = std::str::from_utf8(&a[1]).ok().and_then(|text| text.parse::<u64>().ok());
    let cursor = cursor.ok_or_else(|| err("invalid cursor"))?;
    let (mut pattern, mut count, mut strings) = (None, 10, true);
    let mut options = a[2..].iter();
    while let Some(option) = options.next() {
        let argument = options.next().ok_or_else(syntax)?;
        match word(option).as_str() {
            "MATCH" => pattern = Some(argument.clone()),
            "COUNT" => {
                count = u64::try_from(integer(argument)?).map_err(|_| not_integer())?;
                if count == 0 {
                    return Err(syntax());
                }
            }
            "TYPE" => strings = argument.eq_ignore_ascii_case(b"string"),
            _ => return Err(syntax()),
        }
    }
    Ok(Action::Walk(Walk::Scan { cursor, pattern, count, strings }))
}
