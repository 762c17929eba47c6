//! The HTTP port: keys, health, readiness, metrics, and what operators ask.

mod access;
mod asked;
mod batch;
mod keys;
mod listener;
mod loss;
mod operation;
mod problem;
mod text;
mod walk;

use crate::foreign::{self, ForeignPeer};
use crate::server::Server;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use listener::{Bounded, Peer};
use problem::Problem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// How long a body may take to come.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of requests in the whole process; more are answered OVERLOADED.
const REQUEST_BYTES_MAX: u64 = 1 << 30;

/// What the HTTP port serves.
#[derive(Debug, Clone)]
pub struct Web {
    /// The node.
    pub server: Arc<Server>,
    /// Connections at a time.
    pub connections: u64,
}

/// Serves until the node stops.
pub async fn serve(listener: TcpListener, web: Web) {
    let (server, connections) = (web.server.clone(), web.connections);
    let app = Router::new()
        .route("/v1/kv/", any(keys::serve))
        .route("/v1/kv/{*key}", any(keys::serve))
        .route("/v1/batch", post(batch::serve))
        .route("/v1/scan", get(walk::serve))
        .route("/openapi.json", get(openapi))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/admin/status", get(status))
        .route("/admin/scrub", post(scrub))
        .route("/admin/accept-loss", post(loss::accept))
        .fallback(nothing)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn(same_origin))
        .layer(from_fn_with_state(web.clone(), access::let_in))
        .with_state(web)
        .into_make_service_with_connect_info::<Peer>();
    let listener = Bounded::new(listener, connections, server.guard.auth_timeout);
    let served = axum::serve(listener, app).with_graceful_shutdown(async move { server.stopped().await });
    if let Err(error) = served.await {
        tracing::error!("the HTTP port has ended: {error}");
    }
}

/// The answer where there is nothing.
async fn nothing(request: Request) -> Problem {
    let detail = format!("nothing is served at {}; see /openapi.json", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, "NOTFOUND", detail)
}

/// The answer to a method that means nothing where it is asked; the methods that do are in Allow.
async fn no_method(request: Request) -> Problem {
    let detail = format!("{} is not for {}; see Allow", request.method(), request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "BADREQUEST", detail)
}

/// What a page of another origin asks a browser to send is not carried out where it could change something.
async fn same_origin(request: Request, next: Next) -> Response {
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    if !is_read && is_foreign(request.headers()) {
        let detail = "a page of another origin may not change anything here";
        return Problem::new(StatusCode::FORBIDDEN, "FORBIDDEN", detail).into_response();
    }
    next.run(request).await
}

fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    text(header::ORIGIN).is_some_and(|origin| {
        let host = origin.split_once("://").map(|(_, host)| host);
        host.is_none() || host != text(header::HOST)
    })
}

/// Bytes of a request that the process has taken on.
struct Held<'a>(&'a Web, u64);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.server.stats.request_bytes.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// The body of a request, of at most `most` bytes: its size is judged before memory is taken.
async fn read_body(web: &Web, parts: &Parts, body: Body, most: usize) -> Result<Bytes, Problem> {
    let too_large = || Problem::too_large(format!("a body is at most {most} bytes here"));
    let told = content_length(&parts.headers);
    if told.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let bytes = told.unwrap_or(most as u64);
    let before = web.server.stats.request_bytes.fetch_add(bytes, Ordering::Relaxed);
    let _held = Held(web, bytes);
    if before + bytes > REQUEST_BYTES_MAX {
        return Err(Problem::failed(samara_core::base::Failure::Overloaded));
    }
    let mut request = Request::new(body);
    DefaultBodyLimit::max(most).apply(&mut request);
    match tokio::time::timeout(BODY_PATIENCE, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large()),
        Ok(Err(rejection)) => Err(Problem::bad(rejection.body_text())),
        Err(_) => {
            let detail = format!("the body has not come within {} s", BODY_PATIENCE.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "BADREQUEST", detail))
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The description of this interface, for programs.
async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}

/// Whether the node serves: it has recovered, its disk answers, and it is of one cluster with a majority of its members.
async fn ready(State(web): State<Web>) -> (StatusCode, String) {
    if !web.server.stats.ready.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: the shards have not recovered yet\n".into());
    }
    let mut unready = web.server.stats.gauges.unready();
    let (foreign, cut_off) = refusing(&web.server);
    if cut_off {
        unready.push_str(&foreign::reason(&foreign, &web.server.setup));
    }
    if unready.is_empty() {
        (StatusCode::OK, "ready\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, unready)
    }
}

async fn metrics(State(web): State<Web>) -> String {
    web.server.stats.render()
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(web): State<Web>) -> Response {
    let ready = web.server.stats.ready.load(Ordering::Relaxed);
    let (foreign, cut_off) = refusing(&web.server);
    json(StatusCode::OK, &web.server.stats.gauges.status(web.server.node.0, ready, cut_off, foreign))
}

/// The members that take this node for one of another cluster, and whether they leave it no majority.
fn refusing(server: &Server) -> (Vec<ForeignPeer>, bool) {
    let foreign = server.stats.foreign.peers(Instant::now());
    let cut_off = foreign::is_cut_off(server.config.members.len(), foreign.len());
    (foreign, cut_off)
}

/// Starts a scrub of every shard; what it finds stands in the status.
async fn scrub(State(web): State<Web>) -> Response {
    web.server.shards.iter().for_each(|shard| shard.scrub());
    json(StatusCode::ACCEPTED, &serde_json::json!({"scrubbing": web.server.shards.len()}))
}
