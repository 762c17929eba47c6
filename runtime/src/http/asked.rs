//! What the head of a request says: level, session, id, conditions, and the arguments in its address.

use super::Web;
use super::access::Caller;
use super::operation::Kind;
use super::problem::Problem;
use crate::commands::{KeyRequest, level_name, parse_level};
use crate::connection::{Pipeline, uuid_v7};
use crate::reply::{parse_version, version_text};
use crate::server::Server;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use bytes::Bytes;
use percent_encoding::percent_decode;
use samara_core::base::{Failure, Hlc, Level, Response as Answer, Stamp, Wanted, When};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The session's token, in requests and answers.
const SESSION: HeaderName = HeaderName::from_static("x-session");
const CONSISTENCY: HeaderName = HeaderName::from_static("x-consistency");
const IDEMPOTENCY: HeaderName = HeaderName::from_static("idempotency-key");

/// A request for keys: as a connection of its own, of one request.
#[derive(Debug)]
pub struct Asked {
    server: Arc<Server>,
    caller: Caller,
    /// Its operations.
    pub pipeline: Pipeline,
    /// Its level.
    pub level: Level,
    id: Option<u128>,
}

/// A header that is text, if it is there.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let bad = |_| Problem::bad(format!("{name} is not text"));
    headers.get(name).map(|value| value.to_str().map(str::trim).map_err(bad)).transpose()
}

impl Asked {
    /// Reads the head of a request.
    pub fn new(web: &Web, parts: &Parts) -> Result<Self, Problem> {
        let (server, headers) = (web.server.clone(), &parts.headers);
        let caller = parts.extensions.get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| {
            Problem::new(StatusCode::UNAUTHORIZED, "NOAUTH", "nobody has said who makes this request")
        })?;
        let mut pipeline = Pipeline::new(server.shards.clone(), server.stats.clone());
        let level = match text(headers, &CONSISTENCY)? {
            None => server.level,
            Some(name) => {
                caller.allow(&server, &[b"consistency", b""])?;
                parse_level(name)
                    .ok_or_else(|| Problem::bad("X-Consistency is strong, causal or eventual"))?
            }
        };
        if let Some(token) = text(headers, &SESSION)? {
            caller.allow(&server, &[b"session", b""])?;
            let token = Some(token).filter(|token| token.len() == 16 && !token.starts_with('+'));
            let token = token.and_then(|token| u64::from_str_radix(token, 16).ok());
            let bad = || Problem::bad("X-Session is a token of 16 hex digits that an answer gave");
            pipeline.token = Hlc(token.ok_or_else(bad)?);
        }
        let id = text(headers, &IDEMPOTENCY)?.map(|id| {
            let id = id.trim_matches('"');
            uuid_v7(id.as_bytes()).ok_or_else(|| Problem::bad("Idempotency-Key is a UUIDv7 (RFC 9562)"))
        });
        let id = id.transpose()?;
        if id.is_some() {
            caller.allow(&server, &[b"idempotent", b"", b""])?;
        }
        server.stats.http_requests.fetch_add(1, Ordering::Relaxed);
        Ok(Self { server, caller, pipeline, level, id })
    }

    /// Whether a retry of the request is to find what it did before.
    pub fn may_be_retried(&self) -> bool {
        self.id.is_some()
    }

    /// Whether whoever asks may carry out an operation on a key.
    pub fn allow(&self, kind: Kind, request: &KeyRequest) -> Result<(), Problem> {
        self.caller.allow_key(&self.server, kind, request)
    }

    /// Whether whoever asks may walk slot by slot.
    pub fn allow_scan(&self, pattern: Option<&Bytes>, values: bool) -> Result<(), Problem> {
        self.caller.allow_scan(&self.server, pattern, values)
    }

    /// Whether whoever asks may walk in order.
    pub fn allow_range(&self, wanted: &Wanted) -> Result<(), Problem> {
        self.caller.allow_range(&self.server, wanted)
    }

    /// Reads keys: they have no ids.
    pub async fn read(&mut self, requests: Vec<KeyRequest>) -> Vec<Result<Answer, Failure>> {
        self.pipeline.ask(self.level, requests, None).await
    }

    /// Carries out operations on keys, under the request's id if it has one.
    pub async fn write(&mut self, requests: Vec<KeyRequest>) -> Vec<Result<Answer, Failure>> {
        self.pipeline.ask(self.level, requests, self.id).await
    }

    /// Tells the session's token and the level.
    pub fn sign(&self, response: &mut Response) {
        let headers = response.headers_mut();
        if let Ok(token) = HeaderValue::from_str(&format!("{:016x}", self.pipeline.token.0)) {
            headers.insert(SESSION, token);
        }
        headers.insert(CONSISTENCY, HeaderValue::from_static(level_name(self.level)));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.server.stats.http_requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A version as an entity tag.
pub fn etag(version: Stamp) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{}\"", version_text(version))).ok()
}

/// The version of an entity tag.
fn version(tag: &str) -> Result<Stamp, Problem> {
    let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
    parse_version(inner)
        .ok_or_else(|| Problem::bad(format!("{tag} is no ETag of a key: give one as an answer had it")))
}

/// The condition of a write, by If-Match and If-None-Match.
pub fn condition(headers: &HeaderMap) -> Result<When, Problem> {
    match (text(headers, &header::IF_MATCH)?, text(headers, &header::IF_NONE_MATCH)?) {
        (None, None) => Ok(When::Always),
        (Some("*"), None) => Ok(When::Present),
        (Some(tag), None) => version(tag).map(When::Version),
        (None, Some("*")) => Ok(When::Absent),
        (None, Some(_)) => Err(Problem::bad("If-None-Match of a write is *")),
        (Some(_), Some(_)) => Err(Problem::bad("a request has If-Match or If-None-Match, not both")),
    }
}

/// The version that a reader has already, by If-None-Match.
pub fn known(headers: &HeaderMap) -> Result<Option<Stamp>, Problem> {
    text(headers, &header::IF_NONE_MATCH)?.filter(|tag| *tag != "*").map(version).transpose()
}

/// The arguments of an address, as bytes: `+` is a space.
#[derive(Debug, Default)]
pub struct Arguments(Vec<(String, Bytes)>);

impl Arguments {
    /// Those of an address, each among `known` and given once.
    pub fn new(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let mut all: Vec<(String, Bytes)> = Vec::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                return Err(Problem::bad(format!(
                    "{name:?} is no argument here: there are {}",
                    known.join(", ")
                )));
            }
            if all.iter().any(|(other, _)| other == name) {
                return Err(Problem::bad(format!("{name} is given twice")));
            }
            let value: Vec<u8> = percent_decode(value.replace('+', " ").as_bytes()).collect();
            all.push((name.into(), Bytes::from(value)));
        }
        Ok(Self(all))
    }

    /// An argument.
    pub fn bytes(&self, name: &str) -> Option<Bytes> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }

    /// An argument that is text.
    pub fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        let bad = |_| Problem::bad(format!("{name} is not UTF-8"));
        self.bytes(name).map(|value| String::from_utf8(value.to_vec()).map_err(bad)).transpose()
    }

    /// Whether a switch is on: `name`, `name=true` or `name=1`.
    pub fn is_on(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name)?.as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(Problem::bad(format!("{name} is true or false"))),
        }
    }
}
