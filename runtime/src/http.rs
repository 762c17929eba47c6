//! The HTTP port: health, readiness, metrics.

use crate::stats::Stats;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, stats: Arc<Stats>) {
    let app = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(stats);
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!("the HTTP port has ended: {error}");
    }
}

async fn ready(State(stats): State<Arc<Stats>>) -> (StatusCode, &'static str) {
    if stats.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: the shards have not recovered yet\n")
    }
}

async fn metrics(State(stats): State<Arc<Stats>>) -> String {
    stats.render()
}
