//! `samara admin`: what an operator asks a running node over its HTTP port.

use crate::credentials::Credentials;
use crate::foreign::WHAT_TO_DO;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest time to wait for the node.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
const ANSWER_MAX: u64 = 64 << 20;
/// How often a scrub is looked at while one waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A node, and who asks it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its HTTP address.
    pub address: String,
    /// Who asks, where a password is asked for.
    pub credentials: Option<Credentials>,
}

impl Target {
    /// The header that says who asks (RFC 7617).
    fn authorization(&self) -> String {
        self.credentials.as_ref().map_or_else(String::new, |Credentials { user, password }| {
            format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{}", password.0)))
        })
    }
}

/// Asks a node. The answer's status and body, or why there is none.
fn ask(node: &Target, method: &str, path: &str) -> Result<(u16, String), String> {
    let address = host_and_port(&node.address);
    let failed = |error: std::io::Error| {
        format!("{address}: no node answers: {error}; give the HTTP address of a running node by --addr")
    };
    let mut addresses = address.to_socket_addrs().map_err(failed)?;
    let first = addresses.next().ok_or_else(|| failed(std::io::Error::other("the host has no address")))?;
    let mut stream = TcpStream::connect_timeout(&first, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n{}\r\n",
        node.authorization()
    );
    stream.write_all(head.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).map_err(failed)?;
    parse(&answer)
        .ok_or_else(|| format!("{address}: the answer is not HTTP: is this the HTTP port of a node?"))
}

/// An address as it is pasted from a browser is meant well.
fn host_and_port(address: &str) -> &str {
    address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/')
}

/// Status and body of an answer whose length is known: the node sends no chunks.
fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8(answer.to_vec()).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.to_string()))
}

fn ask_json(node: &Target, method: &str, path: &str) -> Result<Value, String> {
    let (address, (status, body)) = (&node.address, ask(node, method, path)?);
    if status == 401 {
        return Err(format!(
            "{address}: the node asks for a user and a password, or does not know these: give --user and SAMARA_PASSWORD or --password-file"
        ));
    }
    if status >= 300 {
        return Err(format!("{address}: {method} {path}: status {status}: {}", body.trim()));
    }
    serde_json::from_str(&body).map_err(|error| format!("{address}: the answer is not JSON: {error}"))
}

/// The node's state: JSON, or text for people.
pub fn status(node: &Target, json: bool) -> Result<String, String> {
    let status = ask_json(node, "GET", "/admin/status")?;
    Ok(if json { format!("{status}\n") } else { text(&status) })
}

/// Starts a scrub of every shard; with `wait`, goes on until it has ended. The node's state then, and whether there is
/// damage.
pub fn scrub(node: &Target, json: bool, wait: bool) -> Result<(String, bool), String> {
    let before = ask_json(node, "GET", "/admin/status")?;
    ask_json(node, "POST", "/admin/scrub")?;
    let mut now = ask_json(node, "GET", "/admin/status")?;
    while wait && !has_ended(&before, &now) {
        std::thread::sleep(LOOK_EVERY);
        now = ask_json(node, "GET", "/admin/status")?;
        show_progress(&now);
    }
    let is_damaged = shards(&now).any(|shard| number(&shard["damaged_blocks"]) > 0);
    if json {
        return Ok((format!("{now}\n"), is_damaged));
    }
    let begun = "a scrub of every shard has been started: samara admin status tells how far it is\n";
    Ok((if wait { text(&now) } else { text(&now) + begun }, is_damaged))
}

/// What is suspect in these slots is given up as far as it is lost; goes on until nothing of it is suspect any more.
/// Without `sure` nothing is done. The node's state then.
pub fn accept_loss(
    node: &Target,
    json: bool,
    (first, last): (u16, u16),
    sure: bool,
) -> Result<(String, bool), String> {
    let address = &node.address;
    let mut before = ask_json(node, "GET", "/admin/status")?;
    while before["ready"] != true {
        eprintln!("{address}: the node does not serve yet; what is suspect is known when it does");
        std::thread::sleep(LOOK_EVERY);
        before = ask_json(node, "GET", "/admin/status")?;
    }
    let stretches = suspects(&before, first, last);
    if stretches.is_empty() {
        let nothing = format!("{address}: nothing is suspect in the slots {first} to {last}\n");
        return Ok((if json { format!("{before}\n") } else { nothing }, false));
    }
    if !sure {
        return Err(format!(
            "{address}: suspect are keys of the slots {}. Accepting the loss cannot be undone: writes that were \
             acknowledged, and of which only this node's damaged files had the copy that counts, are gone. First see that the \
             other replicas are up and that it does not heal by itself; then say --yes",
            stretches.join(", ")
        ));
    }
    ask_json(node, "POST", &format!("/admin/accept-loss?first={first}&last={last}"))?;
    loop {
        let now = ask_json(node, "GET", "/admin/status")?;
        let left = suspects(&now, first, last);
        if left.is_empty() {
            return Ok((if json { format!("{now}\n") } else { text(&now) }, false));
        }
        eprintln!("still suspect: slots {}", left.join(", "));
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Stretches of slots from `first` to `last` on which some shard has no vote.
fn suspects(status: &Value, first: u16, last: u16) -> Vec<String> {
    let within = shards(status)
        .flat_map(suspects_of)
        .filter(|(from, to)| *from <= u64::from(last) && *to >= u64::from(first));
    within.map(|(from, to)| format!("{from} to {to}")).collect()
}

/// The first and the last slot of each suspect stretch of a shard.
fn suspects_of(shard: &Value) -> impl Iterator<Item = (u64, u64)> {
    let slots = shard["suspect"]["slots"].as_array().into_iter().flatten();
    slots.map(|pair| (number(&pair[0]), number(&pair[1])))
}

fn shards(status: &Value) -> impl Iterator<Item = &Value> {
    status["shards"].as_array().into_iter().flatten()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Every shard has ended a round since `before`.
fn has_ended(before: &Value, now: &Value) -> bool {
    let rounds = |status: &Value, of: &Value| {
        shards(status)
            .find(|shard| shard["shard"] == *of)
            .map_or(0, |shard| number(&shard["scrub"]["rounds"]))
    };
    shards(now).all(|shard| rounds(now, &shard["shard"]) > rounds(before, &shard["shard"]))
}

fn show_progress(status: &Value) {
    for shard in shards(status).filter(|shard| shard["scrub"]["running"] == true) {
        let (done, of) = (number(&shard["scrub"]["read_bytes"]), number(&shard["scrub"]["of_bytes"]));
        eprintln!("shard {}: {done} of {of} bytes scrubbed", shard["shard"]);
    }
}

fn text(status: &Value) -> String {
    let mut text = String::new();
    let is_ready = status["ready"] == true && status["cut_off"] != true;
    let ready = if is_ready { "ready" } else { "not ready" };
    // Writing to a string cannot fail.
    let _written = writeln!(text, "node {}: {ready}", status["node"]);
    for peer in status["foreign"].as_array().into_iter().flatten() {
        let (node, setup) = (&peer["node"], peer["setup"].as_str().unwrap_or("?"));
        let _written = writeln!(
            text,
            "  node {node} takes this node for one of another cluster: it was started with {setup}; {WHAT_TO_DO}"
        );
    }
    for shard in shards(status) {
        write_shard(&mut text, shard);
    }
    text
}

fn write_shard(text: &mut String, shard: &Value) {
    let word = |value: &Value| value.as_str().unwrap_or("?").to_string();
    let memory: u64 =
        shard["memory_bytes"].as_object().into_iter().flatten().map(|(_, bytes)| number(bytes)).sum();
    let (log, scrub) = (number(&shard["log_bytes"]), &shard["scrub"]);
    let _written = writeln!(
        text,
        "shard {}: {}; {} tables of {} bytes, log of {log} bytes, {memory} bytes of memory",
        shard["shard"],
        word(&shard["phase"]),
        shard["tables"],
        shard["table_bytes"]
    );
    if shard["aside"] == true {
        let wait = &shard["disk_wait"];
        let (file, what, ms) = (word(&wait["file"]), word(&wait["what"]), &wait["for_ms"]);
        let _written = writeln!(
            text,
            "  has stepped aside: the disk has not ended an operation on {file} (to {what}) for {ms} ms"
        );
    }
    if shard["disk_slow"] == true && shard["aside"] != true {
        let _written =
            writeln!(text, "  the disk is slow: an operation took long within the last ten seconds");
    }
    if shard["disk_full"] == true {
        let _written = writeln!(text, "  the disk is full: no new values are taken until there is space");
    }
    let running = if scrub["running"] == true {
        format!("a round is under way: {} of {} bytes", scrub["read_bytes"], scrub["of_bytes"])
    } else {
        "no round is under way".to_string()
    };
    let _written = writeln!(text, "  scrub: {running}; {} rounds since the start", scrub["rounds"]);
    let damage = shard["damage"].as_array();
    for damage in damage.into_iter().flatten() {
        let (file, reason) = (word(&damage["file"]), word(&damage["reason"]));
        let (first, last) = (word(&damage["first"]), word(&damage["last"]));
        let _written = writeln!(text, "  damaged: {file}, keys {first} to {last}: {reason}");
    }
    if number(&shard["suspect"]["stretches"]) > 0 {
        let stretches = suspects_of(shard).map(|(from, to)| format!("{from} to {to}")).collect::<Vec<_>>();
        let what = if shard["suspect"]["stuck"] == true {
            "too few other replicas hold some of them: see samara admin accept-loss"
        } else {
            "they are brought again from the other replicas"
        };
        let _written = writeln!(text, "  suspect: keys of the slots {}; {what}", stretches.join(", "));
    }
    let _written = writeln!(
        text,
        "  damaged blocks: {}; longest step {} us, longest write stall {} ms",
        shard["damaged_blocks"], shard["step_max_us"], shard["write_stall_max_ms"]
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart_and_what_is_none_is_refused() {
        let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(answer), Some((202, "{}".to_string())));
        for bad in [&b""[..], b"+PONG\r\n\r\n", b"HTTP/1.1 2", b"HTTP/1.1 abc\r\n\r\n", b"\xff\xff\r\n\r\n"] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn a_scrub_has_ended_when_each_shard_has_ended_a_round() {
        let status = |one: u64, other: u64| {
            serde_json::json!({"shards": [
                {"shard": 0, "scrub": {"rounds": one}}, {"shard": 1, "scrub": {"rounds": other}}
            ]})
        };
        assert!(has_ended(&status(1, 1), &status(2, 3)));
        assert!(!has_ended(&status(1, 1), &status(2, 1)));
    }

    #[test]
    fn addresses_are_taken_as_people_paste_them() {
        for address in ["http://a:8379/", "http://a:8379", "a:8379/", "a:8379"] {
            assert_eq!(host_and_port(address), "a:8379");
        }
    }

    #[test]
    fn a_port_where_nobody_listens_is_told_in_one_line() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("is bound").to_string();
        drop(listener);
        let node = Target { address, credentials: None };
        let reason = status(&node, false).expect_err("nobody listens");
        assert!(reason.contains("no node answers") && reason.contains("--addr"), "{reason}");
    }
}
