//! The users of the Redis port over HTTP.

use crate::node::Node;
use std::path::PathBuf;

type Headers<'a> = &'a [(&'a str, &'a str)];
/// Method, path, headers, body; the status and a part of the answer.
type Row<'a> = (&'a str, &'a str, Headers<'a>, &'a str, u16, &'a str);

const USERS: &str = "user default on >hunter2 ~* &* +@all
user app on >pw ~app:* %R~shared* +@read +@write -del
user w on >pw %W~* +set +get +scan +range
";
const ROOT: (&str, &str) = ("Authorization", "Bearer :hunter2");
/// `app:pw`.
const APP: (&str, &str) = ("Authorization", "Basic YXBwOnB3");
const W: (&str, &str) = ("Authorization", "Bearer w:pw");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const NO_KEY: &str = "No permissions to access a key";

fn start(name: &str, more: &[&str]) -> Node {
    let mut node = Node::new(name);
    let users: PathBuf = node.file("users", USERS);
    let flags = ["--users-file", users.to_str().expect("a path of ASCII")];
    node.start(&[&flags[..], more].concat(), &[]);
    let rows: [Row<'_>; 3] = [
        ("PUT", "/v1/kv/app:1", &[ROOT], "v", 204, ""),
        ("PUT", "/v1/kv/secret", &[ROOT], "s", 204, ""),
        ("PUT", "/v1/kv/shared", &[ROOT], "s", 204, ""),
    ];
    expect(&node, &rows);
    node
}

fn expect(node: &Node, rows: &[Row<'_>]) {
    for (method, path, headers, body, status, part) in rows {
        let (got, answer) = node.http(method, path, headers, body);
        assert!(got == *status && answer.contains(part), "{method} {path} {headers:?}: {answer}");
    }
}

#[test]
fn nobody_is_served_before_the_password() {
    let node = start("web-password", &[]);
    expect(&node, &[("GET", "/healthz", &[], "", 200, "alive"), ("GET", "/readyz", &[], "", 200, "ready")]);
    for path in ["/v1/kv/app:1", "/v1/scan", "/metrics", "/admin/status", "/nothing", "/", "//v1/kv/app:1"] {
        let rows: [Row<'_>; 8] = [
            ("GET", path, &[], "", 401, "\"code\":\"NOAUTH\""),
            ("GET", path, &[], "", 401, "www-authenticate: Basic realm=\"samara\""),
            ("POST", path, &[JSON], "{}", 401, "NOAUTH"),
            ("GET", path, &[("Authorization", "Bearer app:wrong")], "", 401, "\"code\":\"WRONGPASS\""),
            ("GET", path, &[("Authorization", "Bearer none:pw")], "", 401, "\"code\":\"WRONGPASS\""),
            ("GET", path, &[("Authorization", "Basic !!!")], "", 401, "application/problem+json"),
            ("GET", path, &[APP, ROOT], "", 401, "given twice"),
            ("GET", path, &[("Authorization", "")], "", 401, "application/problem+json"),
        ];
        expect(&node, &rows);
    }
    assert!(!node.log().contains("hunter2") && !node.log().contains("YXBwOnB3"), "{}", node.log());
}

#[test]
fn keys_are_judged_as_by_their_commands() {
    let node = start("web-keys", &[]);
    let batch = |key: &str| {
        let put = format!("{{\"op\": \"put\", \"key\": \"{key}\", \"value\": \"v\"}}");
        format!("{{\"operations\": [{{\"op\": \"get\", \"key\": \"app:1\"}}, {put}]}}")
    };
    let (good, bad) = (batch("app:2"), batch("secret"));
    let cas = "{\"expected\": null, \"value\": \"v\"}";
    let id = ("Idempotency-Key", "0190d0f0-0000-7000-8000-000000000001");
    let rows: [Row<'_>; 22] = [
        ("GET", "/v1/kv/app:1", &[APP], "", 200, "v"),
        ("GET", "/v1/kv/app%3A1", &[APP], "", 200, "v"),
        ("PUT", "/v1/kv/app:1", &[APP], "w", 204, ""),
        ("GET", "/v1/kv/secret", &[APP], "", 403, NO_KEY),
        ("HEAD", "/v1/kv/secret", &[APP], "", 403, ""),
        ("GET", "/v1/kv/s%65cret", &[APP], "", 403, "\"code\":\"NOPERM\""),
        ("GET", "/v1/kv/shared", &[APP], "", 200, "s"),
        ("PUT", "/v1/kv/shared", &[APP], "v", 403, NO_KEY),
        ("DELETE", "/v1/kv/app:1", &[APP], "", 403, "User app has no permissions to run the 'del' command"),
        ("POST", "/v1/kv/app:n:incr", &[APP], "", 200, ""),
        ("POST", "/v1/kv/app:n:incr", &[APP, JSON], "{\"by\": 0.5}", 200, ""),
        ("POST", "/v1/kv/n:incr", &[APP], "", 403, NO_KEY),
        ("POST", "/v1/kv/n:cas", &[APP, JSON], cas, 403, NO_KEY),
        ("POST", "/v1/batch", &[APP, JSON], &good, 200, "results"),
        ("POST", "/v1/batch", &[APP, JSON], &bad, 403, "operation 1: No permissions"),
        ("GET", "/v1/kv/secret", &[ROOT], "", 200, "s"),
        ("GET", "/v1/kv/w", &[W], "", 403, NO_KEY),
        ("PUT", "/v1/kv/w", &[W], "v", 204, ""),
        ("POST", "/v1/kv/w:incr", &[W], "", 403, "'incr'"),
        // Headers stand for commands.
        ("PUT", "/v1/kv/app:1", &[APP, id], "v", 403, "'idempotent'"),
        ("GET", "/v1/kv/app:1", &[APP, ("X-Consistency", "eventual")], "", 403, "'consistency'"),
        ("GET", "/v1/kv/app:1", &[APP, ("X-Session", "0000000000000000")], "", 403, "'session'"),
    ];
    expect(&node, &rows);
}

#[test]
fn walks_show_names_to_whoever_may_walk_and_values_to_whoever_may_read_them_all() {
    let node = start("web-walks", &[]);
    let rows: [Row<'_>; 12] = [
        ("GET", "/v1/scan", &[APP], "", 200, "secret"),
        ("GET", "/v1/scan?values=true", &[APP], "", 403, "NOPERM"),
        ("GET", "/v1/scan?values=true&match=s*", &[APP], "", 403, "NOPERM"),
        ("GET", "/v1/scan?values=true&match=app:*", &[APP], "", 200, "app:1"),
        ("GET", "/v1/scan?values=true&match=app%3A*", &[APP], "", 200, "app:1"),
        ("GET", "/v1/scan?prefix=app:&values=true", &[APP], "", 200, "app:1"),
        ("GET", "/v1/scan?prefix=app:&values=true&reverse=true", &[APP], "", 200, "app:1"),
        ("GET", "/v1/scan?prefix=a&values=true", &[APP], "", 403, NO_KEY),
        ("GET", "/v1/scan?prefix=s", &[APP], "", 200, "secret"),
        ("GET", "/v1/scan?values=true", &[W], "", 403, "NOPERM"),
        ("GET", "/v1/scan?reverse=true&values=true", &[W], "", 403, "NOPERM"),
        ("GET", "/v1/scan?values=true", &[ROOT], "", 200, "secret"),
    ];
    expect(&node, &rows);
}

#[test]
fn the_server_itself_is_for_those_who_may_and_what_is_open_is_open() {
    let node = start("web-server", &[]);
    let rows: [Row<'_>; 6] = [
        ("GET", "/metrics", &[APP], "", 403, "'info'"),
        ("GET", "/admin/status", &[APP], "", 403, "'info'"),
        ("POST", "/admin/scrub", &[APP], "", 403, "'config|set'"),
        ("GET", "/metrics", &[ROOT], "", 200, "samara_errors_total{kind=\"noperm_command\"} 3"),
        ("GET", "/admin/status", &[ROOT], "", 200, "shards"),
        ("POST", "/admin/scrub", &[ROOT], "", 202, ""),
    ];
    expect(&node, &rows);
    let log = node.ask("default hunter2", "ACL DRYRUN app INFO");
    assert_eq!(log, "User app has no permissions to run the 'info' command");
    let open = start("web-open", &["--http-open", "metrics,admin"]);
    let rows: [Row<'_>; 4] = [
        ("GET", "/metrics", &[], "", 200, "samara_"),
        ("GET", "/admin/status", &[], "", 200, "shards"),
        ("POST", "/admin/scrub", &[], "", 202, ""),
        ("GET", "/v1/kv/app:1", &[], "", 401, "NOAUTH"),
    ];
    expect(&open, &rows);
}
