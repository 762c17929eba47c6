//! `POST /v1/batch`: operations on several keys in one request. Each is on its own: they run side by side, those of one key in
//! their order, and there is a result for each.

use super::Web;
use super::asked::Asked;
use super::keys::parse_json;
use super::operation::{Cas, Expected, Incr, Kind, expiry, given, settle, within};
use super::problem::Problem;
use super::read_body;
use super::text::Text;
use crate::commands::KeyRequest;
use crate::reply::version_text;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use samara_core::base::{Expiry, KeyOp, Stamp, When, limits};
use serde::Deserialize;
use serde_json::{Number, Value, json};
use std::collections::HashSet;

/// Operations in one request.
const OPERATIONS_MAX: usize = 10_000;
/// Bytes of a request.
const BATCH_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    operations: Vec<Item>,
}

/// One operation.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Item {
    Get {
        key: Text,
    },
    Put {
        key: Text,
        value: Text,
        ttl: Option<f64>,
    },
    Delete {
        key: Text,
    },
    Incr {
        key: Text,
        by: Option<Number>,
    },
    Cas {
        key: Text,
        #[serde(default, deserialize_with = "given")]
        expected: Option<Expected>,
        value: Text,
        ttl: Option<f64>,
    },
}

impl Item {
    fn request(self) -> Result<(Kind, KeyRequest), Problem> {
        let bytes = |text: Text| text.bytes().map_err(Problem::bad);
        let (kind, key, op) = match self {
            Self::Get { key } => (Kind::Get, key, KeyOp::Read),
            Self::Put { key, value, ttl } => {
                let expiry = ttl.map(expiry).transpose()?.unwrap_or(Expiry::Clear);
                let value = within(bytes(value)?)?;
                (Kind::Put, key, KeyOp::Set { value, expiry, when: When::Always, want_old: false })
            }
            Self::Delete { key } => {
                (Kind::Delete, key, KeyOp::Delete { when: When::Always, want_old: false })
            }
            Self::Incr { key, by } => (Kind::Incr, key, Incr { by }.op()),
            Self::Cas { key, expected, value, ttl } => (Kind::Cas, key, Cas { expected, value, ttl }.op()?),
        };
        let key = bytes(key)?;
        if key.len() > limits::KEY_BYTES_MAX {
            return Err(Problem::too_large(format!("a key is at most {} bytes", limits::KEY_BYTES_MAX)));
        }
        Ok((kind, KeyRequest { key, op }))
    }
}

/// Serves a batch. What is wrong with one operation is wrong with all: nothing is done then.
pub async fn serve(State(web): State<Web>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut asked = match Asked::new(&web, &parts) {
        Ok(asked) => asked,
        Err(problem) => return problem.into_response(),
    };
    let outcome = match read_body(&web, &parts, body, BATCH_BYTES_MAX).await {
        Ok(body) => run(&mut asked, &parts, &body).await,
        Err(problem) => Err(problem),
    };
    let mut response = outcome
        .map_or_else(Problem::into_response, |results| Json(json!({"results": results})).into_response());
    asked.sign(&mut response);
    response
}

async fn run(asked: &mut Asked, parts: &Parts, body: &[u8]) -> Result<Vec<Value>, Problem> {
    let batch: Batch = parse_json(&parts.headers, body)?;
    if batch.operations.len() > OPERATIONS_MAX {
        return Err(Problem::too_large(format!("a batch has at most {OPERATIONS_MAX} operations")));
    }
    let mut requests = Vec::with_capacity(batch.operations.len());
    for (at, item) in batch.operations.into_iter().enumerate() {
        let here =
            |problem: Problem| Problem { detail: format!("operation {at}: {}", problem.detail), ..problem };
        let (kind, request) = item.request().map_err(here)?;
        asked.allow(kind, &request).map_err(here)?;
        requests.push((kind, request));
    }
    let mut seen = HashSet::new();
    if asked.may_be_retried()
        && let Some((_, again)) = requests.iter().find(|(_, request)| !seen.insert(request.key.clone()))
    {
        let key = String::from_utf8_lossy(&again.key);
        return Err(Problem::bad(format!(
            "under an Idempotency-Key each key is named once; {key:?} is named twice"
        )));
    }
    let named: Vec<(Kind, Bytes)> =
        requests.iter().map(|(kind, request)| (*kind, request.key.clone())).collect();
    let only_reads = named.iter().all(|(kind, _)| *kind == Kind::Get);
    let requests: Vec<KeyRequest> = requests.into_iter().map(|(_, request)| request).collect();
    let results = if only_reads { asked.read(requests).await } else { asked.write(requests).await };
    Ok(named
        .into_iter()
        .zip(results)
        .map(|((kind, key), result)| match settle(kind, false, &key, result) {
            Ok(settled) => {
                let mut body = settled.json.unwrap_or_else(|| bare(&key, settled.version));
                body["status"] = settled.status.as_u16().into();
                body
            }
            Err(problem) => {
                let mut body = problem.json();
                body["key"] = json!(Text::from(&key[..]));
                body
            }
        })
        .collect())
}

fn bare(key: &[u8], version: Stamp) -> Value {
    json!({"key": Text::from(key), "metadata": {"version": version_text(version), "last_modified": version.hlc.ms()}})
}
