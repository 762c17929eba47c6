//! Operations on keys as HTTP knows them, and how their answers are worded.

use super::problem::Problem;
use super::text::Text;
use crate::reply::version_text;
use axum::http::StatusCode;
use bytes::Bytes;
use samara_core::base::{Expiry, Failure, KeyOp, Outcome, Response, Stamp, When, limits};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a client wants of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The value.
    Get,
    /// To set it.
    Put,
    /// To delete it.
    Delete,
    /// To add to it.
    Incr,
    /// To set it if it is as expected.
    Cas,
}

/// An answer that is no problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Its status.
    pub status: StatusCode,
    /// The version that the answer is about.
    pub version: Stamp,
    /// The value that was read, and when it expires, in milliseconds from now.
    pub value: Option<(Bytes, Option<u64>)>,
    /// The answer as JSON, where it has a body.
    pub json: Option<Value>,
}

/// Arguments of an increment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incr {
    /// What is added; 1 where it is not given.
    pub by: Option<Number>,
}

/// What must be there for a compare-and-set: a value, or null for none.
#[derive(Debug, Clone, Deserialize)]
pub struct Expected(Option<Text>);

/// Tells a field that is null from one that is not there.
pub fn given<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Expected>, D::Error> {
    Expected::deserialize(field).map(Some)
}

/// Arguments of a compare-and-set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cas {
    /// What must be there.
    #[serde(default, deserialize_with = "given")]
    pub expected: Option<Expected>,
    /// The new value.
    pub value: Text,
    /// Seconds that the new value lives; as long as the old one where it is not given.
    pub ttl: Option<f64>,
}

/// The expiry of so many seconds from now (PROTOCOL T2).
pub fn expiry(seconds: f64) -> Result<Expiry, Problem> {
    let millis = (seconds * 1_000.0).round();
    let bad =
        || Problem::bad("ttl is a number of seconds above zero, with at most three decimals that count");
    if !(1.0..9.0e15).contains(&millis) {
        return Err(bad());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    now.checked_add(millis as u64).filter(|at| i64::try_from(*at).is_ok()).ok_or_else(bad)?;
    Ok(Expiry::After(millis as u64))
}

/// A value of at most what is taken.
pub fn within(value: Bytes) -> Result<Bytes, Problem> {
    if value.len() > limits::VALUE_BYTES_MAX {
        return Err(Problem::too_large(format!("a value is at most {} bytes", limits::VALUE_BYTES_MAX)));
    }
    Ok(value)
}

impl Incr {
    /// The operation.
    pub fn op(&self) -> KeyOp {
        match &self.by {
            None => KeyOp::Add(1),
            Some(by) => by.as_i64().map_or_else(|| KeyOp::AddFloat(Bytes::from(by.to_string())), KeyOp::Add),
        }
    }
}

impl Cas {
    /// The operation.
    pub fn op(self) -> Result<KeyOp, Problem> {
        let bytes = |text: Text| text.bytes().map_err(Problem::bad);
        let expected = self.expected.ok_or_else(|| {
            Problem::bad(
                "expected is missing: give the value that must be there, or null if the key must not exist",
            )
        })?;
        let when = expected.0.map(bytes).transpose()?.map_or(When::Absent, When::Equals);
        let expiry = self.ttl.map(expiry).transpose()?.unwrap_or(Expiry::Keep);
        Ok(KeyOp::Set { value: within(bytes(self.value)?)?, expiry, when, want_old: false })
    }
}

/// What is known of a value beside it.
fn metadata(version: Stamp, ttl_ms: Option<u64>) -> Value {
    json!({
        "version": version_text(version),
        "last_modified": version.hlc.ms(),
        "ttl": ttl_ms.map(|ms| ms as f64 / 1_000.0),
    })
}

/// Words the answer of an operation on `key`.
pub fn settle(
    kind: Kind,
    is_conditional: bool,
    key: &[u8],
    result: Result<Response, Failure>,
) -> Result<Settled, Problem> {
    let absent = || Problem::new(StatusCode::NOT_FOUND, "NOTFOUND", "no such key");
    let (outcome, version) = match result.map_err(Problem::failed)? {
        Response::Value { value, version, expires_at, now_ms } => {
            let ttl_ms = (expires_at != 0).then(|| expires_at.saturating_sub(now_ms));
            let metadata = metadata(version, ttl_ms);
            let json = json!({"key": Text::from(key), "value": Text::from(&value[..]), "metadata": metadata});
            let value = Some((value, ttl_ms));
            return Ok(Settled { status: StatusCode::OK, version, value, json: Some(json) });
        }
        Response::Absent { .. } | Response::Page(_) => return Err(absent()),
        Response::Mutated { outcome, version } => (outcome, version),
    };
    let done = |status, json| Ok(Settled { status, version, value: None, json });
    let number = |value: Value| {
        let metadata = json!({"version": version_text(version), "last_modified": version.hlc.ms()});
        done(StatusCode::OK, Some(json!({"key": Text::from(key), "value": value, "metadata": metadata})))
    };
    match (kind, outcome) {
        (_, Outcome::Rejected(reason)) => Err(Problem::rejected(reason)),
        (_, Outcome::NotKept) => Err(Problem::failed(Failure::Timeout)),
        (_, Outcome::Integer(value)) => number(value.into()),
        (Kind::Incr, Outcome::Changed { old, .. }) => {
            let text = old.unwrap_or_default();
            number(serde_json::from_slice(&text).unwrap_or_else(|_| json!(Text::from(&text[..]))))
        }
        (Kind::Cas, Outcome::Changed { applied, .. }) => {
            let metadata = json!({"version": version_text(version), "last_modified": version.hlc.ms()});
            let json = json!({"key": Text::from(key), "applied": applied, "metadata": metadata});
            done(StatusCode::OK, Some(json))
        }
        (_, Outcome::Changed { applied: true, .. }) => done(StatusCode::NO_CONTENT, None),
        (_, Outcome::Changed { applied: false, .. }) if is_conditional => {
            let detail = "not applied: the key is not as If-Match or If-None-Match says; ETag is its version";
            let version = (version != Stamp::ZERO).then_some(version);
            let problem = Problem::new(StatusCode::PRECONDITION_FAILED, "PRECONDITION", detail);
            Err(Problem { version, ..problem })
        }
        (_, Outcome::Changed { applied: false, .. }) => Err(absent()),
    }
}
