//! Keys over HTTP as programs use them, against real nodes.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::Cluster;

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        problem["code"].as_str().expect("a code").to_string()
    }
}

fn send(port: u16, head: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the HTTP port");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut text = format!("{head} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        write!(text, "Content-Length: {}\r\n", body.len()).expect("a string takes all");
    }
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").expect("a string takes all");
    }
    stream.write_all(&[text.as_bytes(), b"\r\n", body].concat()).expect("the request is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).expect("a head is text");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.to_ascii_lowercase(), value.to_string())
    };
    Answer {
        status: status.parse().expect("a number"),
        headers: lines.map(header).collect(),
        body: answer[end + 4..].to_vec(),
    }
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn a_key_is_written_read_and_deleted_under_conditions() {
    let cluster = Cluster::start("http-keys");
    let (one, two) = (cluster.http[0], cluster.http[1]);
    assert_eq!(send(one, "GET /v1/kv/a%20b/c", &[], b"").code(), "NOTFOUND");
    let put = send(one, "PUT /v1/kv/a%20b/c", &[], b"\xffx\0");
    assert_eq!((put.status, put.body.len()), (204, 0), "{put:?}");
    let got = send(two, "GET /v1/kv/a%20b%2Fc", &[], b"");
    assert_eq!((got.status, &got.body[..]), (200, &b"\xffx\0"[..]));
    assert_eq!(got.header("etag"), put.header("etag"), "one version at every node");
    assert_eq!(got.header("content-type"), "application/octet-stream");
    // A HEAD has all but the value.
    let head = send(two, "HEAD /v1/kv/a%20b/c", &[], b"");
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, "3"));
    // JSON, with bytes that are no text.
    let json =
        send(two, "GET /v1/kv/a%20b/c", &[("Accept", "text/plain, application/json;q=0.9")], b"").json();
    assert_eq!((&json["key"], &json["value"]), (&json!("a b/c"), &json!({"base64": "/3gA"})));
    assert_eq!(json["metadata"]["ttl"], Value::Null);
    assert_eq!(format!("\"{}\"", json["metadata"]["version"].as_str().expect("text")), got.header("etag"));
    assert!(json["metadata"]["last_modified"].as_u64().is_some_and(|ms| ms > 1_700_000_000_000));
    // Versions as conditions.
    let tag = got.header("etag").to_string();
    assert_eq!(send(one, "GET /v1/kv/a%20b/c", &[("If-None-Match", &tag)], b"").status, 304);
    let again = send(two, "PUT /v1/kv/a%20b/c", &[("If-Match", &tag)], b"two");
    assert_eq!(again.status, 204);
    let late = send(one, "PUT /v1/kv/a%20b/c", &[("If-Match", &tag)], b"three");
    assert_eq!((late.code().as_str(), late.status), ("PRECONDITION", 412));
    assert_eq!(late.header("etag"), again.header("etag"), "it says which version is there");
    assert_eq!(send(one, "PUT /v1/kv/a%20b/c", &[("If-None-Match", "*")], b"x").status, 412);
    assert_eq!(send(one, "PUT /v1/kv/fresh", &[("If-None-Match", "*")], b"x").status, 204);
    assert_eq!(send(one, "PUT /v1/kv/none", &[("If-Match", "*")], b"x").status, 412);
    assert_eq!(send(one, "DELETE /v1/kv/a%20b/c", &[("If-Match", &tag)], b"").status, 412);
    assert_eq!(send(one, "GET /v1/kv/a%20b/c", &[], b"").body, b"two", "nothing of that was applied");
    assert_eq!(send(one, "DELETE /v1/kv/a%20b/c", &[("If-Match", again.header("etag"))], b"").status, 204);
    assert_eq!(send(two, "DELETE /v1/kv/a%20b/c", &[], b"").code(), "NOTFOUND");
    assert_eq!(send(two, "GET /v1/kv/a%20b/c", &[], b"").status, 404);
}

#[test]
fn a_value_expires_counts_and_is_compared() {
    let cluster = Cluster::start("http-values");
    let port = cluster.http[2];
    assert_eq!(send(port, "PUT /v1/kv/t?ttl=100.5", &[], b"v").status, 204);
    let left = send(port, "GET /v1/kv/t", &[], b"").header("x-ttl-ms").parse::<u64>().expect("a number");
    assert!((1..=100_500).contains(&left), "{left}");
    send(port, "PUT /v1/kv/t?keepttl", &[], b"w");
    let ttl =
        send(port, "GET /v1/kv/t", &[("Accept", "application/json")], b"").json()["metadata"]["ttl"].clone();
    assert!(ttl.as_f64().is_some_and(|ttl| ttl > 0.0 && ttl <= 100.5), "{ttl}");
    send(port, "PUT /v1/kv/t", &[], b"x");
    assert_eq!(send(port, "GET /v1/kv/t", &[], b"").header("x-ttl-ms"), "", "a plain PUT ends the expiry");
    for bad in [
        "ttl=0",
        "ttl=-1",
        "ttl=x",
        "ttl=NaN",
        "ttl=1e300",
        "ttl=5&keepttl",
        "ttl=1&ttl=2",
        "tll=5",
        "keepttl=maybe",
    ] {
        assert_eq!(send(port, &format!("PUT /v1/kv/t?{bad}"), &[], b"y").code(), "BADREQUEST", "{bad}");
    }
    assert_eq!(send(port, "POST /v1/kv/n:incr", &[], b"").json()["value"], 1);
    assert_eq!(send(port, "POST /v1/kv/n:incr", &[JSON], b"{\"by\": -5}").json()["value"], -4);
    assert_eq!(send(port, "POST /v1/kv/n:incr", &[JSON], b"{\"by\": 0.5}").json()["value"], -3.5);
    let rejected = send(port, "POST /v1/kv/t:incr", &[], b"");
    assert_eq!((rejected.status, rejected.code()), (409, "ERR".into()));
    let cas = |body: Value| send(port, "POST /v1/kv/c:cas", &[JSON], body.to_string().as_bytes());
    assert_eq!(cas(json!({"expected": null, "value": "1"})).json()["applied"], true);
    assert_eq!(cas(json!({"expected": null, "value": "2"})).json()["applied"], false);
    assert_eq!(cas(json!({"expected": "1", "value": {"base64": "/w=="}})).json()["applied"], true);
    assert_eq!(send(port, "GET /v1/kv/c", &[], b"").body, b"\xff");
    assert_eq!(cas(json!({"expected": "1"})).code(), "BADREQUEST");
    assert_eq!(cas(json!({"expected": "1", "value": {"base64": "*"}})).code(), "BADREQUEST");
    // A condition that was forgotten is not taken for one that nothing may be there.
    let forgotten = send(port, "POST /v1/kv/forgotten:cas", &[JSON], b"{\"value\": \"1\"}");
    assert_eq!((forgotten.status, forgotten.code()), (400, "BADREQUEST".into()));
    let detail = forgotten.json()["detail"].as_str().unwrap_or_default().to_string();
    assert!(detail.contains("expected is missing") && detail.contains("null"), "{detail}");
    let batch = b"{\"operations\": [{\"op\": \"cas\", \"key\": \"forgotten\", \"value\": \"1\"}]}";
    assert_eq!(send(port, "POST /v1/batch", &[JSON], batch).code(), "BADREQUEST");
    assert_eq!(send(port, "GET /v1/kv/forgotten", &[], b"").code(), "NOTFOUND");
}

/// Headers of a causal session.
fn causal(token: &str) -> [(&str, &str); 2] {
    [("X-Consistency", "CAUSAL"), ("X-Session", token)]
}

#[test]
fn levels_sessions_and_ids_are_headers() {
    let cluster = Cluster::start("http-heads");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let id = format!("{:08x}-{:04x}-7000-8000-000000000001", now >> 16, now & 0xffff);
    for node in [0, 1, 2, 0] {
        let answer = send(cluster.http[node], "POST /v1/kv/once:incr", &[("Idempotency-Key", &id)], b"");
        assert_eq!((answer.status, &answer.json()["value"]), (200, &json!(1)), "a retry at node {node}");
    }
    let mut token = String::from("0000000000000000");
    for round in 0..20 {
        let value = round.to_string();
        let put = send(cluster.http[round % 3], "PUT /v1/kv/s", &causal(&token), value.as_bytes());
        assert_eq!((put.status, put.header("x-consistency")), (204, "causal"));
        token = put.header("x-session").to_string();
        let got = send(cluster.http[(round + 1) % 3], "GET /v1/kv/s", &causal(&token), b"");
        assert_eq!(got.body, value.as_bytes(), "a session sees its own write at another node");
        assert!(got.header("x-session") >= token.as_str());
        token = got.header("x-session").to_string();
    }
    let port = cluster.http[0];
    for (name, bad) in [
        ("X-Consistency", "weak"),
        ("X-Session", "1"),
        ("X-Session", "+000000000000001"),
        ("Idempotency-Key", "7"),
        ("If-Match", "7"),
        ("If-None-Match", "\"7\""),
    ] {
        assert_eq!(send(port, "PUT /v1/kv/k", &[(name, bad)], b"").code(), "BADREQUEST", "{name}: {bad}");
    }
    let tomorrow = format!("{:08x}-0000-7000-8000-000000000001", (now + 86_400_000) >> 16);
    let skewed = send(port, "PUT /v1/kv/k", &[("Idempotency-Key", &tomorrow)], b"");
    assert_eq!((skewed.status, skewed.code()), (503, "CLOCKSKEW".into()));
}

#[test]
fn batches_answer_each_operation() {
    let cluster = Cluster::start("http-batch");
    let port = cluster.http[0];
    let batch = |body: &Value, headers: &[(&str, &str)]| {
        send(port, "POST /v1/batch", &[&[JSON], headers].concat(), body.to_string().as_bytes())
    };
    let operations = json!({"operations": [
        {"op": "put", "key": "a", "value": "1"},
        {"op": "incr", "key": "a", "by": 4},
        {"op": "get", "key": "a"},
        {"op": "get", "key": "none"},
        {"op": "cas", "key": "a", "expected": "5", "value": {"base64": "/w=="}, "ttl": 10},
        {"op": "incr", "key": "a"},
        {"op": "delete", "key": "a"},
        {"op": "put", "key": {"base64": "/w=="}, "value": ""},
    ]});
    let answer = batch(&operations, &[]).json();
    let results = answer["results"].as_array().expect("results");
    let statuses: Vec<&Value> = results.iter().map(|result| &result["status"]).collect();
    assert_eq!(json!(statuses), json!([204, 200, 200, 404, 200, 409, 204, 204]), "{answer}");
    assert_eq!(
        (&results[1]["value"], &results[2]["value"]),
        (&json!(5), &json!("5")),
        "one key's order is kept"
    );
    assert_eq!((&results[3]["code"], &results[4]["applied"]), (&json!("NOTFOUND"), &json!(true)));
    assert_eq!(send(port, "GET /v1/kv/%FF", &[], b"").status, 200);
    // What is wrong with one is wrong with all.
    let wrong = json!({"operations": [{"op": "put", "key": "z", "value": "1"}, {"op": "pop", "key": "z"}]});
    assert_eq!(batch(&wrong, &[]).code(), "BADREQUEST");
    let wrong = json!({"operations": [{"op": "put", "key": "z", "value": "1"}, {"op": "put", "key": "y", "value": "1", "ttl": -1}]});
    let answer = batch(&wrong, &[]);
    assert!(
        answer.json()["detail"].as_str().is_some_and(|detail| detail.starts_with("operation 1: ")),
        "{answer:?}"
    );
    assert_eq!(send(port, "GET /v1/kv/z", &[], b"").status, 404);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let id = format!("{:08x}-{:04x}-7000-8000-000000000002", now >> 16, now & 0xffff);
    let two = json!({"operations": [{"op": "incr", "key": "p"}, {"op": "incr", "key": "q"}]});
    for _ in 0..2 {
        let answer = batch(&two, &[("Idempotency-Key", &id)]).json();
        assert_eq!((&answer["results"][0]["value"], &answer["results"][1]["value"]), (&json!(1), &json!(1)));
    }
    let twice = json!({"operations": [{"op": "incr", "key": "p"}, {"op": "incr", "key": "p"}]});
    assert_eq!(batch(&twice, &[("Idempotency-Key", &id)]).code(), "BADREQUEST");
    let many: Vec<Value> =
        (0..3_000).map(|i| json!({"op": "put", "key": format!("m{i:04}"), "value": "v"})).collect();
    let answer = batch(&json!({"operations": many}), &[]).json();
    assert!(
        answer["results"]
            .as_array()
            .is_some_and(|all| all.len() == 3_000 && all.iter().all(|one| one["status"] == 204))
    );
}

/// All pages of a scan: the keys, or keys with values.
fn pages(port: u16, arguments: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = send(port, &format!("GET /v1/scan?{arguments}{cursor}"), &[], b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        items.extend(page["items"].as_array().expect("items").iter().cloned());
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

#[test]
fn scans_go_over_the_whole_cluster() {
    let cluster = Cluster::start("http-scan");
    let port = cluster.http[1];
    let mut expected = Vec::new();
    for i in 0..40 {
        let key = format!("user:{i:02}");
        assert_eq!(send(cluster.http[i % 3], &format!("PUT /v1/kv/{key}"), &[], key.as_bytes()).status, 204);
        expected.push(key);
    }
    send(port, "PUT /v1/kv/other", &[], b"o");
    let keys = |items: Vec<Value>| -> Vec<String> {
        items.iter().map(|item| item["key"].as_str().expect("text").to_string()).collect()
    };
    assert_eq!(keys(pages(port, "prefix=user:&limit=7")), expected, "in order, each once");
    let mut reversed = keys(pages(port, "prefix=user:&limit=7&reverse=true"));
    reversed.reverse();
    assert_eq!(reversed, expected);
    assert_eq!(keys(pages(port, "start=user:05&end=user:08&limit=2")), expected[5..8]);
    assert_eq!(keys(pages(port, "prefix=user:&start=user:38&match=*9")), ["user:39"]);
    let mut all = keys(pages(port, "limit=3"));
    all.sort();
    assert_eq!(all, [&["other".to_string()][..], &expected[..]].concat());
    let mut matched = keys(pages(port, "limit=10&match=user%3A1*"));
    matched.sort();
    assert_eq!(matched, expected[10..20]);
    let valued = pages(port, "prefix=user:&values=1");
    assert!(valued.len() == 40 && valued.iter().all(|item| item["value"] == item["key"]), "{valued:?}");
    let valued = pages(port, "values=1");
    assert!(valued.iter().all(|item| item["value"].as_str().is_some_and(|value| !value.is_empty())));
    for bad in ["limit=0", "limit=10001", "cursor=x", "cursor=k*&prefix=a", "values=2", "form=a"] {
        assert_eq!(send(port, &format!("GET /v1/scan?{bad}"), &[], b"").code(), "BADREQUEST", "{bad}");
    }
}

#[test]
fn what_cannot_be_served_says_why() {
    let mut cluster = Cluster::start_with("http-errors", &["--consistency-floor", "money:=causal"]);
    let port = cluster.http[0];
    let floor = send(port, "PUT /v1/kv/money:1", &[("X-Consistency", "eventual")], b"");
    assert_eq!((floor.status, floor.code()), (403, "BELOWFLOOR".into()));
    assert!(floor.json()["detail"].as_str().is_some_and(|detail| detail.contains("X-Consistency: causal")));
    let foreign = send(port, "POST /v1/kv/n:incr", &[("Origin", "http://evil.example")], b"");
    assert_eq!((foreign.status, foreign.code()), (403, "FORBIDDEN".into()));
    assert_eq!(send(port, "GET /v1/kv/n", &[], b"").status, 404, "it was not counted");
    let own = format!("http://127.0.0.1:{port}");
    assert_eq!(send(port, "POST /v1/kv/n:incr", &[("Origin", &own)], b"").status, 200);
    let form = send(port, "POST /v1/batch", &[("Content-Type", "text/plain")], b"{\"operations\": []}");
    assert_eq!((form.status, form.code()), (415, "BADREQUEST".into()));
    let long = send(port, "PUT /v1/kv/big", &[("Content-Length", "16777217")], b"");
    assert_eq!((long.status, long.code()), (413, "TOOLARGE".into()), "refused before it is sent");
    let chunk = vec![b'v'; 17 << 20];
    let chunked = [format!("{:x}\r\n", chunk.len()).as_bytes(), &chunk, b"\r\n0\r\n\r\n"].concat();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the HTTP port");
    let head =
        "PUT /v1/kv/big HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("the head is sent");
    // The node answers, and may close before all has been sent.
    let _cut = stream.write_all(&chunked);
    let mut first = [0; 12];
    if stream.read_exact(&mut first).is_ok() {
        assert_eq!(&first, b"HTTP/1.1 413");
    }
    assert_eq!(send(port, "GET /v1/kv/big", &[], b"").status, 404);
    let method = send(port, "PATCH /v1/kv/k", &[], b"");
    assert_eq!((method.status, method.header("allow")), (405, "GET, HEAD, PUT, DELETE, POST"));
    assert_eq!(send(port, "POST /v1/kv/k", &[], b"").code(), "BADREQUEST");
    for path in ["/v1/nothing", "/v1", "/v1/", "/v1/kv", "/v1/scan/more", "/nothing"] {
        let nothing = send(port, &format!("GET {path}"), &[], b"");
        assert_eq!((nothing.status, nothing.code()), (404, "NOTFOUND".into()), "{path}");
    }
    for (request, allow) in
        [("GET /v1/batch", "POST"), ("POST /v1/scan", "GET,HEAD"), ("PUT /readyz", "GET,HEAD")]
    {
        let answer = send(port, request, &[], b"");
        assert_eq!((answer.status, answer.code()), (405, "BADREQUEST".into()), "{request}");
        assert_eq!(answer.header("allow"), allow, "{request}");
    }
    let api = send(port, "GET /openapi.json", &[], b"").json();
    for path in ["/v1/kv/{key}", "/v1/kv/{key}:incr", "/v1/kv/{key}:cas", "/v1/batch", "/v1/scan", "/healthz"]
    {
        assert!(api["paths"][path].is_object(), "{path}");
    }
    cluster.kill(1);
    cluster.kill(2);
    let alone = send(port, "PUT /v1/kv/k", &[], b"v");
    assert!(["UNAVAILABLE", "TIMEOUT"].contains(&alone.code().as_str()), "{alone:?}");
    assert_eq!(send(port, "PUT /v1/kv/k", &[("X-Consistency", "eventual")], b"v").status, 204);
}
