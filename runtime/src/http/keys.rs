//! `/v1/kv/{key}`: one key.

use super::Web;
use super::asked::{Arguments, Asked, condition, etag, known};
use super::operation::{Cas, Incr, Kind, Settled, expiry, settle, within};
use super::problem::Problem;
use super::read_body;
use crate::commands::KeyRequest;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use percent_encoding::percent_decode;
use samara_core::base::{Expiry, KeyOp, When, limits};
use serde::de::DeserializeOwned;

/// Where the keys are.
pub const PREFIX: &str = "/v1/kv/";
/// Bytes of JSON beside a value, which may be in base64.
const JSON_MAX: usize = 2 * limits::VALUE_BYTES_MAX + (64 << 10);
const TTL_MS: HeaderName = HeaderName::from_static("x-ttl-ms");

/// The key of an address; `suffix` is what follows it.
fn key(path: &str, suffix: &str) -> Result<Bytes, Problem> {
    let raw = path.strip_prefix(PREFIX).and_then(|raw| raw.strip_suffix(suffix)).unwrap_or_default();
    let key: Vec<u8> = percent_decode(raw.as_bytes()).collect();
    if key.len() > limits::KEY_BYTES_MAX {
        return Err(Problem::too_large(format!("a key is at most {} bytes", limits::KEY_BYTES_MAX)));
    }
    Ok(Bytes::from(key))
}

/// Serves a request for one key.
pub async fn serve(State(web): State<Web>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut asked = match Asked::new(&web, &parts) {
        Ok(asked) => asked,
        Err(problem) => return problem.into_response(),
    };
    let outcome = match parts.method {
        Method::GET | Method::HEAD => get(&mut asked, &parts).await,
        Method::PUT => match read_body(&web, &parts, body, limits::VALUE_BYTES_MAX).await {
            Ok(body) => put(&mut asked, &parts, body).await,
            Err(problem) => Err(problem),
        },
        Method::DELETE => delete(&mut asked, &parts).await,
        Method::POST => match read_body(&web, &parts, body, JSON_MAX).await {
            Ok(body) => post(&mut asked, &parts, &body).await,
            Err(problem) => Err(problem),
        },
        _ => {
            let detail = "a key takes GET, HEAD, PUT and DELETE, and POST on KEY:incr and KEY:cas";
            Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "BADREQUEST", detail))
        }
    };
    let mut response = outcome.unwrap_or_else(Problem::into_response);
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = HeaderValue::from_static("GET, HEAD, PUT, DELETE, POST");
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    asked.sign(&mut response);
    response
}

async fn ask(asked: &mut Asked, kind: Kind, key: Bytes, op: KeyOp) -> Result<Settled, Problem> {
    let is_conditional = matches!(
        &op,
        KeyOp::Set { when, .. } | KeyOp::Delete { when, .. } if *when != When::Always
    );
    let request = KeyRequest { key: key.clone(), op };
    asked.allow(kind, &request)?;
    let request = vec![request];
    let mut results = if kind == Kind::Get { asked.read(request).await } else { asked.write(request).await };
    let result = results.pop().unwrap_or(Err(samara_core::base::Failure::Timeout));
    settle(kind, is_conditional, &key, result)
}

/// The answer of a change.
fn changed(settled: Settled) -> Response {
    let mut response = match settled.json {
        Some(json) => (settled.status, Json(json)).into_response(),
        None => settled.status.into_response(),
    };
    if let Some(tag) = etag(settled.version) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Whether the client asks for JSON by name.
fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(','));
    kinds.any(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    })
}

async fn get(asked: &mut Asked, parts: &Parts) -> Result<Response, Problem> {
    Arguments::new(&parts.uri, &[])?;
    let known = known(&parts.headers)?;
    let settled = ask(asked, Kind::Get, key(parts.uri.path(), "")?, KeyOp::Read).await?;
    if known == Some(settled.version) {
        return Ok(changed(Settled { status: StatusCode::NOT_MODIFIED, json: None, ..settled }));
    }
    if wants_json(&parts.headers) {
        return Ok(changed(settled));
    }
    let (value, ttl_ms) = settled.value.clone().unwrap_or_default();
    let mut response = changed(Settled { json: None, ..settled });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(value.len()));
    if let Some(ttl_ms) = ttl_ms {
        headers.insert(TTL_MS, HeaderValue::from(ttl_ms));
    }
    *response.body_mut() = value.into();
    Ok(response)
}

async fn put(asked: &mut Asked, parts: &Parts, value: Bytes) -> Result<Response, Problem> {
    let arguments = Arguments::new(&parts.uri, &["ttl", "keepttl"])?;
    let seconds = |text: String| {
        text.parse().map_err(|_| Problem::bad(format!("ttl is a number of seconds, not {text:?}")))
    };
    let ttl = arguments.text("ttl")?.map(seconds).transpose()?.map(expiry).transpose()?;
    let expiry = match (ttl, arguments.is_on("keepttl")?) {
        (Some(_), true) => return Err(Problem::bad("ttl and keepttl exclude each other")),
        (None, true) => Expiry::Keep,
        (ttl, false) => ttl.unwrap_or(Expiry::Clear),
    };
    let when = condition(&parts.headers)?;
    let op = KeyOp::Set { value: within(value)?, expiry, when, want_old: false };
    ask(asked, Kind::Put, key(parts.uri.path(), "")?, op).await.map(changed)
}

async fn delete(asked: &mut Asked, parts: &Parts) -> Result<Response, Problem> {
    Arguments::new(&parts.uri, &[])?;
    let op = KeyOp::Delete { when: condition(&parts.headers)?, want_old: false };
    ask(asked, Kind::Delete, key(parts.uri.path(), "")?, op).await.map(changed)
}

async fn post(asked: &mut Asked, parts: &Parts, body: &[u8]) -> Result<Response, Problem> {
    Arguments::new(&parts.uri, &[])?;
    let path = parts.uri.path();
    if path.ends_with(":incr") {
        let incr = if body.is_empty() { Incr::default() } else { parse_json(&parts.headers, body)? };
        return ask(asked, Kind::Incr, key(path, ":incr")?, incr.op()).await.map(changed);
    }
    if path.ends_with(":cas") {
        let op = parse_json::<Cas>(&parts.headers, body)?.op()?;
        return ask(asked, Kind::Cas, key(path, ":cas")?, op).await.map(changed);
    }
    let detail = "POST is for KEY:incr and KEY:cas; a value is written by PUT";
    Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "BADREQUEST", detail))
}

/// A body that is JSON and says so: what a page of another origin can send without asking first says something else.
pub fn parse_json<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let detail = "the body is JSON, with Content-Type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BADREQUEST", detail));
    }
    serde_json::from_slice(body)
        .map_err(|error| Problem::bad(format!("the body is not as expected: {error}")))
}
