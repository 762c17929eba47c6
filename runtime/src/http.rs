//! The HTTP port: health, readiness, metrics, and what operators ask.

use crate::inbox::Shard;
use crate::stats::Stats;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;

/// What the HTTP port serves.
#[derive(Debug, Clone)]
pub struct Web {
    /// This node's id.
    pub node: u16,
    /// What is counted.
    pub stats: Arc<Stats>,
    /// The shards.
    pub shards: Arc<Vec<Shard>>,
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, web: Web) {
    let app = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/admin/status", get(status))
        .route("/admin/scrub", post(scrub))
        .with_state(web);
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!("the HTTP port has ended: {error}");
    }
}

/// Whether the node serves: it has recovered, and its disk answers.
async fn ready(State(web): State<Web>) -> (StatusCode, String) {
    if !web.stats.ready.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: the shards have not recovered yet\n".into());
    }
    let unready = web.stats.gauges.unready();
    if unready.is_empty() {
        (StatusCode::OK, "ready\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, unready)
    }
}

async fn metrics(State(web): State<Web>) -> String {
    web.stats.render()
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(web): State<Web>) -> Response {
    let ready = web.stats.ready.load(Ordering::Relaxed);
    json(StatusCode::OK, &web.stats.gauges.status(web.node, ready))
}

/// Starts a scrub of every shard; what it finds stands in the status.
async fn scrub(State(web): State<Web>) -> Response {
    web.shards.iter().for_each(|shard| shard.scrub());
    json(StatusCode::ACCEPTED, &serde_json::json!({"scrubbing": web.shards.len()}))
}
