//! What a planned operation asks of the core, and what it stands for in the judges' eyes.

use crate::commands::What;
use crate::deed::Deed;
use bytes::Bytes;
use samara_check::history::{Answer, Function};
use samara_core::base::{ExpireWhen, Expiry, KeyOp, Outcome, Response, Stamp, When};

/// A question on one key with what is recorded of it.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The key.
    pub key: Bytes,
    /// What is asked of the core.
    pub op: KeyOp,
    /// What the checker takes it for.
    pub function: Function,
    /// What it is exactly.
    pub deed: Deed,
}

/// What a client knows of a key: the value last seen, and a version with its value.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The value last read or written.
    pub seen: Bytes,
    /// A version that was read or written.
    pub version: Stamp,
    /// Its value.
    pub of_version: Bytes,
}

fn set(value: &Bytes, expiry: Expiry, when: When, want_old: bool) -> KeyOp {
    KeyOp::Set { value: value.clone(), expiry, when, want_old }
}

fn put(value: &Bytes, ttl_ms: Option<u64>) -> Function {
    Function::Put { value: value.to_vec(), ttl_ms }
}

fn delete_if(value: &Bytes, version: Option<Stamp>) -> Deed {
    Deed::If { value: Some(value.to_vec()), version, then: None, ttl_ms: None }
}

/// Translates an operation on one key that writes `unique`, if it writes anything.
pub fn ask(what: What, key: Bytes, unique: &Bytes, known: &Known) -> Ask {
    let (function, op) = match what {
        What::Set | What::SetMany(_) => (put(unique, None), set(unique, Expiry::Clear, When::Always, false)),
        What::SetTtl(ttl) => (put(unique, Some(ttl)), set(unique, Expiry::After(ttl), When::Always, false)),
        What::SetAbsent | What::SetPresent => {
            let present = what == What::SetPresent;
            let when = if present { When::Present } else { When::Absent };
            let function = Function::PutIf { value: unique.to_vec(), present };
            (function, set(unique, Expiry::Clear, when, false))
        }
        What::Cas => {
            let function = Function::Cas { old: known.seen.to_vec(), new: unique.to_vec() };
            (function, set(unique, Expiry::Clear, When::Equals(known.seen.clone()), false))
        }
        // A version stands for the one value it was read with: the checker, which knows no versions, sees a CAS from that.
        What::SetVersion => {
            let function = Function::Cas { old: known.of_version.to_vec(), new: unique.to_vec() };
            (function, set(unique, Expiry::Clear, When::Version(known.version), false))
        }
        What::GetSet => (put(unique, None), set(unique, Expiry::Clear, When::Always, true)),
        What::Delete | What::DeleteMany(_) => {
            (Function::Delete, KeyOp::Delete { when: When::Always, want_old: false })
        }
        What::GetDelete => (Function::Delete, KeyOp::Delete { when: When::Always, want_old: true }),
        What::DeleteEquals => {
            (Function::Delete, KeyOp::Delete { when: When::Equals(known.seen.clone()), want_old: false })
        }
        What::DeleteVersion => {
            (Function::Delete, KeyOp::Delete { when: When::Version(known.version), want_old: false })
        }
        What::Incr => (Function::Incr(1), KeyOp::Add(1)),
        What::IncrFloat => (Function::Incr(1), KeyOp::AddFloat(Bytes::from_static(b"1"))),
        What::Append => (Function::Append(unique.to_vec()), KeyOp::Append(unique.clone())),
        What::SetKeep => (put(unique, None), set(unique, Expiry::Keep, When::Always, false)),
        What::Expire(ttl) => (Function::Get, expire(Expiry::After(ttl))),
        What::Persist => (Function::Get, expire(Expiry::Clear)),
        What::Read | What::ReadMany(_) | What::Page(_) | What::Move { .. } | What::SetAllAbsent(_) => {
            (Function::Get, KeyOp::Read)
        }
    };
    let deed = match what {
        What::DeleteEquals => delete_if(&known.seen, None),
        What::DeleteVersion => delete_if(&known.of_version, Some(known.version)),
        What::SetKeep => Deed::PutKeep(unique.to_vec()),
        What::Expire(ttl) => Deed::Expire { ttl_ms: Some(ttl) },
        What::Persist => Deed::Expire { ttl_ms: None },
        _ => Deed::Plain,
    };
    Ask { key, op, function, deed }
}

fn expire(expiry: Expiry) -> KeyOp {
    KeyOp::Expire { expiry, when: ExpireWhen::Always, want_value: false }
}

/// Translates a step of a command on several keys: `own` is the value that the command wrote last, which is all that it may
/// overwrite or delete. `wall_ms` is the world's clock.
pub fn step(key: Bytes, op: KeyOp, wall_ms: u64, own: &Bytes) -> Ask {
    let (function, deed) = match &op {
        KeyOp::Set { expiry: Expiry::At(1), when, .. } => {
            let version = if let When::Version(version) = when { Some(*version) } else { None };
            (Function::Delete, delete_if(own, version))
        }
        KeyOp::Set { value, expiry, when, .. } => {
            let ttl_ms = match expiry {
                Expiry::At(at) => Some(at.saturating_sub(wall_ms)),
                _ => None,
            };
            let new = Some(value.to_vec());
            match when {
                When::Version(version) => {
                    let deed =
                        Deed::If { value: Some(own.to_vec()), version: Some(*version), then: new, ttl_ms };
                    (put(value, ttl_ms), deed)
                }
                When::Absent => {
                    let deed = Deed::If { value: None, version: None, then: new, ttl_ms };
                    (Function::PutIf { value: value.to_vec(), present: false }, deed)
                }
                _ => (put(value, ttl_ms), Deed::Plain),
            }
        }
        _ => (Function::Get, Deed::Plain),
    };
    // With a time to live, the checker sees what was written, and not under which condition.
    let function = match (&deed, function) {
        (Deed::If { ttl_ms: Some(ttl), then: Some(new), .. }, _) => {
            Function::Put { value: new.clone(), ttl_ms: Some(*ttl) }
        }
        (_, function) => function,
    };
    Ask { key, op, function, deed }
}

/// What an answer makes of the question: the value that SET GET and GETDEL answer says what they were a condition on.
pub fn answered(ask: &mut Ask, response: &Response) {
    let (KeyOp::Set { want_old: true, .. } | KeyOp::Delete { want_old: true, .. }) = &ask.op else { return };
    let Response::Mutated { outcome: Outcome::Changed { applied: true, old }, .. } = response else { return };
    match (&ask.op, old) {
        (KeyOp::Set { value, .. }, Some(old)) => {
            ask.function = Function::Cas { old: old.to_vec(), new: value.to_vec() };
        }
        (KeyOp::Set { value, .. }, None) => {
            ask.function = Function::PutIf { value: value.to_vec(), present: false };
        }
        (_, Some(old)) => ask.deed = delete_if(old, None),
        (_, None) => {}
    }
}

/// The answer as the judges read it.
pub fn answer(ask: &Ask, is_strong: bool, response: &Response) -> Answer {
    match (&ask.function, response) {
        (_, Response::Mutated { outcome: Outcome::Integer(number), .. }) => Answer::Integer(*number),
        (Function::Incr(_), Response::Mutated { outcome: Outcome::Changed { old: Some(text), .. }, .. }) => {
            let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            number.map_or(Answer::Done, Answer::Integer)
        }
        (Function::Get, Response::Value { value, .. }) => Answer::Value(Some(value.to_vec())),
        (Function::Get, Response::Absent { .. }) => Answer::Value(None),
        // A delete of a weak level is blind: its answer says nothing.
        (Function::Delete, _) if !is_strong => Answer::Done,
        (function, Response::Mutated { outcome: Outcome::Changed { applied, .. }, .. }) => {
            let tells = ask.deed != Deed::Plain
                || matches!(function, Function::PutIf { .. } | Function::Cas { .. } | Function::Delete);
            if tells { Answer::Applied(*applied) } else { Answer::Done }
        }
        _ => Answer::Done,
    }
}

/// Whether a write was applied.
pub fn is_applied(response: &Response) -> bool {
    matches!(response, Response::Mutated { outcome: Outcome::Changed { applied: true, .. }, .. })
}
