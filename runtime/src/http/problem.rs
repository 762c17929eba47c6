//! Errors over HTTP: `application/problem+json` (RFC 9457), with the first word of the error that Redis clients get as `code`.

use crate::reply;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use samara_core::base::{Failure, Rejection, Stamp};
use serde_json::{Value, json};

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// The word that programs look at.
    pub code: &'static str,
    /// For people: what happened, and what to do.
    pub detail: String,
    /// The key's present version, where a condition on it did not hold.
    pub version: Option<Stamp>,
}

impl Problem {
    /// A problem of this status and code.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), version: None }
    }

    /// A request that makes no sense.
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BADREQUEST", detail)
    }

    /// More bytes than are taken.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "TOOLARGE", detail)
    }

    /// An operation that the cluster did not carry out, or whose outcome is not known.
    pub fn failed(failure: Failure) -> Self {
        let status = match failure {
            Failure::Unavailable | Failure::Overloaded | Failure::ClockSkew => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Failure::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Failure::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            Failure::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Failure::BelowFloor(_) => StatusCode::FORBIDDEN,
        };
        let (code, detail) = reply::failure_text(failure).split_once(' ').unwrap_or_default();
        // Levels and ids are headers here.
        let detail = detail
            .replace("CONSISTENCY ", "X-Consistency: ")
            .replace("under IDEMPOTENT", "under the same Idempotency-Key");
        Self::new(status, code, detail)
    }

    /// An operation that does not fit the present value.
    pub fn rejected(rejection: Rejection) -> Self {
        let text = reply::rejection_text(rejection);
        Self::new(StatusCode::CONFLICT, "ERR", text.strip_prefix("ERR ").unwrap_or(text))
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "type": format!("urn:samara:error:{}", self.code.to_ascii_lowercase()),
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.json())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.code == "OVERLOADED" {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(tag) = self.version.and_then(super::asked::etag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}
