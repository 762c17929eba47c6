//! The sequential behaviour of one key: what may follow from an operation on a state.

use crate::history::{Answer, Change, Expiry, Function, Operation, Outcome, When};
use std::collections::HashMap;

/// The state of a key: an interned value and when it may, and must, have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    value: u32,
    /// From here on (nanoseconds) the value may be gone.
    may_expire: u64,
    /// From here on it must be gone.
    must_expire: u64,
}

const ABSENT: u32 = 0;

impl State {
    /// The key is absent.
    pub const ABSENT: Self = Self { value: ABSENT, may_expire: u64::MAX, must_expire: u64::MAX };
}

/// Values by number, for one key.
#[derive(Debug, Default)]
pub struct Values {
    ids: HashMap<Vec<u8>, u32>,
    values: Vec<Vec<u8>>,
}

impl Values {
    fn id(&mut self, value: &[u8]) -> u32 {
        if let Some(id) = self.ids.get(value) {
            return *id;
        }
        self.values.push(value.to_vec());
        let id = self.values.len() as u32;
        self.ids.insert(value.to_vec(), id);
        id
    }

    /// The state of a key that holds `value` for ever.
    pub fn holding(&mut self, value: &[u8]) -> State {
        lasting(self.id(value))
    }

    fn value(&self, id: u32) -> Option<&[u8]> {
        id.checked_sub(1).and_then(|at| self.values.get(at as usize)).map(Vec::as_slice)
    }
}

fn lasting(value: u32) -> State {
    State { value, ..State::ABSENT }
}

/// The states that may follow: none when the answer is impossible. `until`: the earliest return of those that come after it in the order; it takes
/// effect before that. `slack` (nanoseconds) is how far the clocks that judge expiry may be from the history's clock.
pub fn step(
    values: &mut Values,
    state: State,
    operation: &Operation,
    until: u64,
    slack: u64,
) -> [Option<State>; 2] {
    let end = if operation.outcome == Outcome::Unknown { u64::MAX } else { operation.ret }.min(until);
    let kept =
        (operation.call <= state.must_expire).then(|| apply(values, state, operation, slack)).flatten();
    // What stays does not expire, however long an operation of unknown outcome may take.
    let expired = (state.value != ABSENT && state.may_expire != u64::MAX && end >= state.may_expire)
        .then(|| apply(values, State::ABSENT, operation, slack))
        .flatten();
    [kept, expired.filter(|state| Some(*state) != kept)]
}

/// The state when its value expires `ttl` milliseconds after the operation.
fn expiring(state: State, ttl: u64, operation: &Operation, slack: u64) -> State {
    let ttl = ttl.saturating_mul(1_000_000);
    let end = if operation.outcome == Outcome::Unknown { u64::MAX } else { operation.ret };
    State {
        may_expire: operation.call.saturating_add(ttl).saturating_sub(slack).min(u64::MAX - 1),
        must_expire: end.saturating_add(ttl).saturating_add(slack),
        ..state
    }
}

fn update(
    values: &mut Values,
    state: State,
    (when, change): (&When, &Change),
    operation: &Operation,
    slack: u64,
) -> Option<State> {
    let present = state.value != ABSENT;
    let holds = match when {
        When::Always => true,
        When::Absent => !present,
        When::Present => present,
        When::Equals(value) => state.value == values.id(value),
    };
    let until = |next: State, expiry: &Expiry| match expiry {
        Expiry::Clear => lasting(next.value),
        Expiry::Keep => next,
        Expiry::After(ttl) => expiring(next, *ttl, operation, slack),
    };
    let mut length = values.value(state.value).map_or(0, <[u8]>::len);
    let next = match change {
        _ if !holds => None,
        Change::Set { value, expiry } => Some(until(State { value: values.id(value), ..state }, expiry)),
        Change::Delete => present.then_some(State::ABSENT),
        // What lives for good anyway is not changed.
        Change::Expire(Expiry::Clear) => {
            (present && state.may_expire != u64::MAX).then(|| lasting(state.value))
        }
        Change::Expire(expiry) => present.then(|| until(state, expiry)),
        Change::SetRange { data, .. } if data.is_empty() => None,
        Change::SetRange { offset, data } => {
            let text = overwritten(values.value(state.value).unwrap_or_default(), *offset as usize, data);
            length = text.len();
            Some(State { value: values.id(&text), ..state })
        }
    };
    let fits = match &operation.outcome {
        Outcome::Ok(Answer::Applied(applied)) => *applied == next.is_some(),
        Outcome::Ok(Answer::Integer(answer)) => {
            !matches!(change, Change::SetRange { .. }) || *answer == length as i64
        }
        Outcome::Ok(Answer::Value(old)) => old.as_deref() == values.value(state.value),
        Outcome::Ok(Answer::Refused(found)) => {
            next.is_none() && found.as_deref() == values.value(state.value)
        }
        Outcome::Ok(Answer::Done) | Outcome::Unknown => true,
    };
    fits.then_some(next.unwrap_or(state))
}

/// A value with bytes overwritten from an offset on.
pub(crate) fn overwritten(value: &[u8], offset: usize, data: &[u8]) -> Vec<u8> {
    let mut text = value.to_vec();
    text.resize(text.len().max(offset + data.len()), 0);
    text[offset..offset + data.len()].copy_from_slice(data);
    text
}

fn apply(values: &mut Values, state: State, operation: &Operation, slack: u64) -> Option<State> {
    let known = match &operation.outcome {
        Outcome::Ok(answer) => Some(answer),
        Outcome::Unknown => None,
    };
    let found = match known {
        Some(Answer::Refused(found)) => Some(found.as_deref() == values.value(state.value)),
        _ => None,
    };
    let applied = |changes: bool| match known {
        Some(Answer::Applied(applied)) => *applied == changes,
        _ => found.is_none_or(|found| found && !changes),
    };
    let integer = |number: i64| match known {
        Some(Answer::Integer(answer)) => *answer == number,
        _ => true,
    };
    match &operation.function {
        Function::Get => match known {
            Some(Answer::Value(seen)) => {
                let seen = seen.as_ref().map_or(ABSENT, |value| values.id(value));
                (seen == state.value).then_some(state)
            }
            _ => Some(state),
        },
        Function::Put { value, ttl_ms } => {
            let next = lasting(values.id(value));
            Some(ttl_ms.map_or(next, |ttl| expiring(next, ttl, operation, slack)))
        }
        Function::PutIf { value, present } => {
            let changes = (state.value != ABSENT) == *present;
            applied(changes).then(|| if changes { lasting(values.id(value)) } else { state })
        }
        Function::Delete => applied(state.value != ABSENT).then_some(State::ABSENT),
        Function::Cas { old, new } => {
            let changes = state.value == values.id(old);
            applied(changes).then(|| if changes { State { value: values.id(new), ..state } } else { state })
        }
        Function::Incr(delta) => {
            let present = match values.value(state.value) {
                None => 0,
                Some(text) => std::str::from_utf8(text).ok()?.parse::<i64>().ok()?,
            };
            let sum = present.checked_add(*delta)?;
            integer(sum).then(|| State { value: values.id(sum.to_string().as_bytes()), ..state })
        }
        Function::Append(tail) => {
            let mut value = values.value(state.value).unwrap_or_default().to_vec();
            value.extend_from_slice(tail);
            integer(value.len() as i64).then(|| State { value: values.id(&value), ..state })
        }
        Function::Update { when, change } => update(values, state, (when, change), operation, slack),
    }
}
