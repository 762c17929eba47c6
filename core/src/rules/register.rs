//! What an operation does to a record (PROTOCOL C3, C4, section 6): pure, so that every coordinator decides alike.

use crate::base::limits::{OUTCOME_BYTES_MAX, RECENT_MAX, RETRY_WINDOW_MS, VALUE_BYTES_MAX};
use crate::base::planted::{self, Bug};
use crate::base::{
    Applied, ExpireWhen, Expiry, KeyOp, OpId, Outcome, Record, Rejection, Response, Stamp, When,
};
use alloc::string::ToString;
use alloc::vec::Vec;
use bytes::Bytes;

/// What an operation makes of the current value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A read, or an operation whose condition does not hold.
    Unchanged(Answer),
    /// A new value (`None` deletes) with a new expiry.
    Changed {
        /// The new value.
        value: Option<Bytes>,
        /// Milliseconds since the Unix epoch; 0 = never.
        expires_at: u64,
        /// The answer.
        outcome: Outcome,
    },
}

/// The answer of an operation that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The current value is the answer.
    Current,
    /// A mutation's negative answer.
    Outcome(Outcome),
}

/// The live part of a record at a time.
struct Live<'a> {
    value: Option<&'a Bytes>,
    expires_at: u64,
    version: Stamp,
}

fn live(current: Option<&Record>, now_ms: u64) -> Live<'_> {
    match current.filter(|record| record.is_live(now_ms)) {
        Some(record) => {
            Live { value: record.value.as_ref(), expires_at: record.expires_at, version: record.written }
        }
        None => Live { value: None, expires_at: 0, version: Stamp::ZERO },
    }
}

/// Evaluates `op` on the current record at `now_ms` of the coordinator's HLC.
pub fn evaluate(op: &KeyOp, current: Option<&Record>, now_ms: u64) -> Effect {
    let live = live(current, now_ms);
    match op {
        KeyOp::Read => Effect::Unchanged(Answer::Current),
        KeyOp::Set { value, expiry, when, want_old } => set(&live, value, *expiry, when, *want_old, now_ms),
        KeyOp::Delete { when, want_old } => match live.value {
            Some(_) if !holds(&live, when) && !planted::on(Bug::C4DeleteConditionIgnored) => {
                negative(Outcome::Changed { applied: false, old: None })
            }
            None => negative(Outcome::Changed { applied: false, old: None }),
            Some(old) => {
                let old = want_old.then(|| old.clone());
                Effect::Changed {
                    value: None,
                    expires_at: 0,
                    outcome: Outcome::Changed { applied: true, old },
                }
            }
        },
        KeyOp::Add(delta) => add(&live, *delta),
        KeyOp::AddFloat(delta) => add_float(&live, delta),
        KeyOp::Append(tail) => {
            let at = live.value.map_or(0, Bytes::len);
            splice(&live, at, tail, tail.is_empty() && live.value.is_some())
        }
        KeyOp::SetRange { offset, data } => splice(&live, *offset as usize, data, data.is_empty()),
        KeyOp::Expire { expiry, when, want_value } => expire(&live, *expiry, *when, *want_value, now_ms),
    }
}

fn negative(outcome: Outcome) -> Effect {
    Effect::Unchanged(Answer::Outcome(outcome))
}

fn rejected(rejection: Rejection) -> Effect {
    negative(Outcome::Rejected(rejection))
}

/// The absolute expiry; `None` when the value dies at once.
fn resolve(expiry: Expiry, present: u64, now_ms: u64) -> Option<u64> {
    match expiry {
        Expiry::Clear => Some(0),
        Expiry::Keep if planted::on(Bug::T2KeepForgetsExpiry) => Some(0),
        Expiry::Keep => Some(present),
        Expiry::At(at) => (at > now_ms).then_some(at),
        // T2: the front end has refused what overflows; saturation keeps the order even so.
        Expiry::After(after) => (after > 0).then_some(now_ms.saturating_add(after)),
    }
}

/// Whether a condition holds of the current value.
fn holds(live: &Live<'_>, when: &When) -> bool {
    match when {
        When::Always => true,
        When::Absent => live.value.is_none(),
        When::Present => live.value.is_some(),
        When::Equals(expected) => live.value == Some(expected),
        When::Version(expected) => {
            let is_it = live.version == *expected || planted::on(Bug::C4VersionNotCompared);
            live.value.is_some() && is_it
        }
    }
}

fn set(live: &Live<'_>, value: &Bytes, expiry: Expiry, when: &When, want_old: bool, now_ms: u64) -> Effect {
    let old = if want_old { live.value.cloned() } else { None };
    if !holds(live, when) {
        return negative(Outcome::Changed { applied: false, old });
    }
    let outcome = Outcome::Changed { applied: true, old };
    match resolve(expiry, live.expires_at, now_ms) {
        Some(expires_at) => Effect::Changed { value: Some(value.clone()), expires_at, outcome },
        None => Effect::Changed { value: None, expires_at: 0, outcome },
    }
}

fn add(live: &Live<'_>, delta: i64) -> Effect {
    let present = match live.value {
        None => 0,
        Some(text) => match parse_integer(text) {
            Some(number) => number,
            None => return rejected(Rejection::NotInteger),
        },
    };
    match present.checked_add(delta) {
        None => rejected(Rejection::Overflow),
        Some(sum) => Effect::Changed {
            value: Some(Bytes::from(sum.to_string())),
            expires_at: live.expires_at,
            outcome: Outcome::Integer(sum),
        },
    }
}

/// A 64-bit integer in its one canonical form, as Redis reads it: no sign but `-`, no spaces, no leading zeros.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    core::str::from_utf8(text).ok()?.parse().ok()
}

fn parse_float(text: &[u8]) -> Option<f64> {
    let text = core::str::from_utf8(text).ok()?;
    let number: f64 = text.parse().ok()?;
    (!number.is_nan()).then_some(number)
}

fn add_float(live: &Live<'_>, delta: &Bytes) -> Effect {
    let present = match live.value {
        None => Some(0.0),
        Some(text) => parse_float(text),
    };
    let (Some(present), Some(delta)) = (present, parse_float(delta)) else {
        return rejected(Rejection::NotFloat);
    };
    let sum = present + delta;
    if !sum.is_finite() {
        return rejected(Rejection::NotFinite);
    }
    let text = Bytes::from(sum.to_string());
    Effect::Changed {
        value: Some(text.clone()),
        expires_at: live.expires_at,
        outcome: Outcome::Changed { applied: true, old: Some(text) },
    }
}

/// Overwrites from `offset` on, zero-filled: APPEND and SETRANGE. `nothing`: only the length is asked for.
fn splice(live: &Live<'_>, offset: usize, data: &Bytes, nothing: bool) -> Effect {
    let present = live.value.map_or(&[][..], |value| &value[..]);
    if nothing {
        return negative(Outcome::Integer(present.len() as i64));
    }
    let end = offset.saturating_add(data.len());
    if end > VALUE_BYTES_MAX {
        return rejected(Rejection::TooLarge);
    }
    let mut value = Vec::with_capacity(end.max(present.len()));
    value.extend_from_slice(present);
    value.resize(end.max(present.len()), 0);
    value[offset..end].copy_from_slice(data);
    let len = value.len() as i64;
    Effect::Changed {
        value: Some(Bytes::from(value)),
        expires_at: live.expires_at,
        outcome: Outcome::Integer(len),
    }
}

fn expire(live: &Live<'_>, expiry: Expiry, when: ExpireWhen, want_value: bool, now_ms: u64) -> Effect {
    let answer = |applied: bool| {
        if want_value {
            Outcome::Changed { applied: live.value.is_some(), old: live.value.cloned() }
        } else {
            Outcome::Integer(i64::from(applied))
        }
    };
    let Some(value) = live.value else {
        return negative(answer(false));
    };
    let wanted = resolve(expiry, live.expires_at, now_ms);
    let (new, present) = (wanted.unwrap_or(now_ms), live.expires_at);
    let holds = match when {
        ExpireWhen::Always => true,
        ExpireWhen::NoExpiry => present == 0,
        ExpireWhen::HasExpiry => present != 0,
        ExpireWhen::Later => present != 0 && new > present,
        ExpireWhen::Earlier => present == 0 || new < present,
        ExpireWhen::HasExpiryAndEarlier => present != 0 && new < present,
    };
    // PERSIST on a key without expiry answers 0, and a KEEPTTL-like GETEX changes nothing.
    if !holds || wanted == Some(present) {
        return negative(answer(holds && wanted == Some(present) && present != 0));
    }
    match wanted {
        Some(expires_at) => Effect::Changed { value: Some(value.clone()), expires_at, outcome: answer(true) },
        None => Effect::Changed { value: None, expires_at: 0, outcome: answer(true) },
    }
}

/// C4: the outcome as it is kept in `recent`.
fn keep(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Changed { old: Some(old), .. } if old.len() > OUTCOME_BYTES_MAX => Outcome::NotKept,
        other => other.clone(),
    }
}

/// The record that a round proposes, built up operation by operation (C7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What will be proposed.
    pub record: Record,
    /// Whether anything must be written: a change, a stored answer, or the settling of an expired record.
    pub changed: bool,
}

impl Draft {
    /// Starts from the current record (C2), re-proposed at `ballot`. T1: an expired record becomes a tombstone.
    pub fn new(current: Option<&Record>, ballot: Stamp, now_ms: u64) -> Self {
        let mut record = current.cloned().unwrap_or_default();
        let expired = record.is_expired(now_ms);
        if expired {
            record.value = None;
            record.expires_at = 0;
        }
        record.ballot = ballot;
        Self { record, changed: expired }
    }

    /// C3: the stored answer of an operation that an earlier attempt applied.
    pub fn applied(&self, op_id: OpId) -> Option<&Applied> {
        self.record.recent.iter().rev().find(|applied| applied.op_id == op_id)
    }

    /// The version that `applied`, which is part of the past of this record, answered: that of its ballot, unless a later
    /// change of the same round has overwritten what it wrote (C7).
    pub fn version_of(&self, applied: &Applied) -> Stamp {
        let of_round = self.record.recent.iter().rev().filter(|other| other.stamp == applied.stamp);
        let mut later = of_round.take_while(|other| other.op_id != applied.op_id);
        let is_change = |other: &Applied| {
            !matches!(other.outcome, Outcome::Changed { applied: false, .. } | Outcome::Rejected(_))
        };
        if later.any(is_change) && !planted::on(Bug::C7OverwrittenSharesVersion) {
            return applied.stamp.overwritten();
        }
        applied.stamp
    }

    /// C4: applies a change.
    pub fn change(&mut self, op_id: OpId, value: Option<Bytes>, expires_at: u64, outcome: &Outcome) {
        self.record.value = value;
        self.record.expires_at = expires_at;
        self.record.written = self.record.ballot;
        self.remember(op_id, outcome);
    }

    /// Keeps the answer of `op_id` for its retries, and prunes what no retry can ask for any more.
    pub fn remember(&mut self, op_id: OpId, outcome: &Outcome) {
        let stamp = self.record.ballot;
        self.changed = true;
        if planted::on(Bug::C7OneResultKept) {
            self.record.recent.retain(|applied| applied.stamp != stamp);
        }
        self.record.recent.push(Applied { op_id, outcome: keep(outcome), stamp });
        let old = |applied: &Applied| applied.stamp.hlc.ms() + RETRY_WINDOW_MS < stamp.hlc.ms();
        let aged = self.record.recent.iter().take_while(|applied| old(applied)).count();
        let excess = self.record.recent.len().saturating_sub(RECENT_MAX);
        for pruned in self.record.recent.drain(..aged.max(excess)) {
            // C3 compares operation ids: the highest pruned id is the lowest bound that still tells every pruned one.
            self.record.evicted_upto = self.record.evicted_upto.max(pruned.op_id.stamp);
        }
    }
}

/// The record of a weak write (C9): its own operation is its only past.
pub fn weak_record(op: &KeyOp, stamp: Stamp, op_id: OpId, now_ms: u64) -> Option<(Record, Outcome)> {
    let (value, expires_at, outcome) = match evaluate(op, None, now_ms) {
        Effect::Changed { value, expires_at, outcome } => (value, expires_at, outcome),
        Effect::Unchanged(Answer::Outcome(Outcome::Changed { .. })) if matches!(op, KeyOp::Delete { .. }) => {
            (None, 0, Outcome::Changed { applied: true, old: None })
        }
        Effect::Unchanged(_) => return None,
    };
    let evicted = planted::on(Bug::C9WeakWithoutEvictedUpto);
    let record = Record {
        ballot: stamp,
        written: stamp,
        value,
        expires_at,
        recent: alloc::vec![Applied { op_id, outcome: outcome.clone(), stamp }],
        evicted_upto: if evicted { Stamp::ZERO } else { stamp },
    };
    Some((record, outcome))
}

/// Whether `op` is a blind write that a weak level may perform without reading (section 5).
pub fn is_blind(op: &KeyOp) -> bool {
    match op {
        KeyOp::Set { expiry, when, want_old, .. } => {
            matches!(when, When::Always) && !matches!(expiry, Expiry::Keep) && !want_old
        }
        KeyOp::Delete { when, want_old } => matches!(when, When::Always) && !want_old,
        _ => false,
    }
}

/// The answer of a read of `record` at `now_ms`.
pub fn read_response(record: Option<&Record>, now_ms: u64) -> Response {
    match record {
        Some(record) if record.is_live(now_ms) => Response::Value {
            value: record.value.clone().unwrap_or_default(),
            version: record.written,
            expires_at: record.expires_at,
            now_ms,
        },
        other => Response::Absent { version: other.map_or(Stamp::ZERO, |record| record.written) },
    }
}

#[cfg(test)]
#[path = "register_tests.rs"]
mod tests;
