//! Who asks over HTTP, and whether he may: the users of the Redis port, by `Authorization: Basic` or `Bearer user:password`.

use super::Web;
use super::listener::Peer;
use super::operation::Kind;
use super::problem::Problem;
use crate::access::DEFAULT;
use crate::commands::{Found, KeyRequest, lookup};
use crate::glob;
use crate::guard::DENIED;
use crate::resp::Args;
use crate::server::Server;
use crate::users::{Identity, NO_AUTH, WRONG_PASSWORD};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use samara_core::base::{KeyOp, Wanted};

/// Who makes a request.
#[derive(Debug, Clone)]
pub struct Caller {
    identity: Identity,
    address: String,
}

/// What anybody is told.
const FREE: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];

/// Lets a request in if it says who makes it, and that one may; what it does with keys is judged where they are read.
pub async fn let_in(State(web): State<Web>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|info| info.0.clone());
    if let Some(peer) = &peer {
        peer.begin();
    }
    let path = request.uri().path();
    if FREE.contains(&path) {
        return next.run(request).await;
    }
    let (server, guard) = (&web.server, &web.server.guard);
    if peer.as_ref().is_none_or(|peer| guard.denies(&server.users, peer.address.ip())) {
        return problem(StatusCode::FORBIDDEN, DENIED).into_response();
    }
    let is_open =
        guard.metrics_are_open && path == "/metrics" || guard.admin_is_open && path.starts_with("/admin/");
    if is_open {
        return next.run(request).await;
    }
    let address = peer.map(|peer| peer.address.to_string()).unwrap_or_default();
    let caller = match identify(server, request.headers(), address) {
        Ok(caller) => caller,
        Err(problem) => return ask_for_password(problem),
    };
    if let Err(problem) =
        for_server(request.method(), path).map_or(Ok(()), |words| caller.allow(server, words))
    {
        return problem.into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// The command that stands for what is asked of the server itself.
fn for_server(method: &Method, path: &str) -> Option<&'static [&'static [u8]]> {
    let is_read = [Method::GET, Method::HEAD].contains(method);
    match path {
        _ if path.starts_with("/v1/") => None,
        _ if is_read => Some(&[b"info"]),
        _ => Some(&[b"config", b"set", b"", b""]),
    }
}

/// A problem whose text begins with its code.
fn problem(status: StatusCode, text: &'static str) -> Problem {
    let (code, detail) = text.split_once(' ').unwrap_or((text, ""));
    Problem::new(status, code, detail.trim_end_matches('.'))
}

fn ask_for_password(problem: Problem) -> Response {
    let mut response = problem.into_response();
    let how = HeaderValue::from_static("Basic realm=\"samara\", charset=\"UTF-8\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
    response
}

/// Who the head of a request says that makes it; without a word, the default user if it has no password.
fn identify(server: &Server, headers: &HeaderMap, address: String) -> Result<Caller, Problem> {
    let mut said = headers.get_all(header::AUTHORIZATION).iter();
    let identity = match (said.next(), said.next()) {
        (None, _) => server.users.newcomer(),
        (Some(_), Some(_)) => {
            let detail = "Authorization is given twice: who is it?";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "WRONGPASS", detail));
        }
        (Some(value), None) => {
            let (name, password) = credentials(value.as_bytes())?;
            server.users.admit(&name, &password).ok_or_else(|| {
                server.note_wrong_password(&name, format!("addr={address} http"));
                problem(StatusCode::UNAUTHORIZED, WRONG_PASSWORD)
            })?
        }
    };
    if identity.must_authenticate() {
        return Err(problem(StatusCode::UNAUTHORIZED, NO_AUTH));
    }
    Ok(Caller { identity, address })
}

/// Name and password of `Basic BASE64` (RFC 7617) or `Bearer NAME:PASSWORD`; without a name the default user's.
fn credentials(value: &[u8]) -> Result<(Bytes, Bytes), Problem> {
    let bad = || {
        let detail = "Authorization is `Basic` and user:password in base64, or `Bearer user:password`";
        Problem::new(StatusCode::UNAUTHORIZED, "WRONGPASS", detail)
    };
    let space = value.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
    let (scheme, rest) = (&value[..space], value[space + 1..].trim_ascii());
    let pair = match scheme.to_ascii_lowercase().as_slice() {
        b"basic" => STANDARD.decode(rest).map_err(|_| bad())?,
        b"bearer" => rest.to_vec(),
        _ => return Err(bad()),
    };
    let colon = pair.iter().position(|byte| *byte == b':').ok_or_else(bad)?;
    let pair = Bytes::from(pair);
    let name = if colon == 0 { Bytes::from_static(DEFAULT) } else { pair.slice(..colon) };
    Ok((name, pair.slice(colon + 1..)))
}

/// A request of these words, as the Redis port would see it.
fn with_call<T>(words: &[&[u8]], then: impl FnOnce(Found, &Args<'_>) -> T) -> Option<T> {
    let line = words.concat();
    let mut end = 0;
    let ranges: Vec<_> = words
        .iter()
        .map(|word| {
            end += word.len();
            end - word.len()..end
        })
        .collect();
    let a = Args::new(&line, &ranges);
    Some(then(lookup(&a).ok()?, &a))
}

impl Caller {
    /// Whether it may do what a command of these words does.
    pub fn allow(&self, server: &Server, words: &[&[u8]]) -> Result<(), Problem> {
        let allowed = with_call(words, |found, a| {
            self.identity.check(found, a).map_err(|refusal| {
                let client = || format!("addr={} http", self.address);
                server.note_refusal(&self.identity, refusal, found, a, client);
                let text = self.identity.text(refusal, found);
                let text = String::from_utf8_lossy(&text).into_owned();
                let (code, detail) = text.split_once(' ').unwrap_or_default();
                Problem::new(StatusCode::FORBIDDEN, "NOPERM", if code == "NOPERM" { detail } else { &text })
            })
        });
        allowed.unwrap_or_else(|| Err(Problem::new(StatusCode::FORBIDDEN, "NOPERM", "no such command")))
    }

    /// Whether it may carry out an operation on a key.
    pub fn allow_key(&self, server: &Server, kind: Kind, request: &KeyRequest) -> Result<(), Problem> {
        let key = &request.key[..];
        match (kind, &request.op) {
            (Kind::Get, _) => self.allow(server, &[b"get", key]),
            (Kind::Put, _) => self.allow(server, &[b"set", key, b""]),
            (Kind::Delete, _) => self.allow(server, &[b"del", key]),
            (Kind::Incr, KeyOp::Add(1)) => self.allow(server, &[b"incr", key]),
            (Kind::Incr, KeyOp::Add(_)) => self.allow(server, &[b"incrby", key, b"0"]),
            (Kind::Incr, _) => self.allow(server, &[b"incrbyfloat", key, b"0"]),
            (Kind::Cas, _) => self.allow(server, &[b"cas", key, b"", b""]),
        }
    }

    /// Whether it may walk slot by slot, and see the values of the keys that match.
    pub fn allow_scan(&self, server: &Server, pattern: Option<&Bytes>, values: bool) -> Result<(), Problem> {
        let words: [&[u8]; 2] = [b"scan", b"0"];
        self.allow(server, &words)?;
        let beginning = pattern.map(|pattern| glob::prefix(pattern)).unwrap_or_default();
        let reads =
            || with_call(&words, |found, a| self.identity.user().reads_beginning(found, a, &beginning));
        if values && reads() != Some(true) {
            let detail = "No permissions to read all keys that match: ask without values, or with match=PREFIX* of keys that may be read";
            return Err(Problem::new(StatusCode::FORBIDDEN, "NOPERM", detail));
        }
        Ok(())
    }

    /// Whether it may walk in order, and see the values between these bounds.
    pub fn allow_range(&self, server: &Server, wanted: &Wanted) -> Result<(), Problem> {
        let low = [b"[", &wanted.low[..]].concat();
        let high = wanted.high.as_ref().map_or_else(|| b"+".to_vec(), |high| [b"(", &high[..]].concat());
        let words: [&[u8]; 4] = [b"range", &low, &high, b"VALUES"];
        self.allow(server, if wanted.values { &words } else { &words[..3] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_both_kinds() {
        let read = |value: &str| credentials(value.as_bytes()).ok();
        let pair = |name: &str, password: &str| {
            Some((Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(password.as_bytes())))
        };
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(read(&basic("app:pw")), pair("app", "pw"));
        assert_eq!(read(&basic("app:p:w")), pair("app", "p:w"));
        assert_eq!(read(&basic(":pw")), pair("default", "pw"));
        assert_eq!(read("bearer app:pw"), pair("app", "pw"));
        assert_eq!(read("BEARER  app: "), pair("app", ""));
        for bad in ["", "Basic", "Basic app:pw", "Basic YXBw", "Bearer app", "Digest a:b", "app:pw"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
