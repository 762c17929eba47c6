//! How a node is told who is let in, and what it does with those who are not.

use crate::node::{Node, hear, samara};
use crate::support::wait_for;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const NO_AUTH: &str = "-NOAUTH Authentication required.";
const HUNTER: &str = "default hunter2";

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a path of ASCII")
}

#[test]
fn a_password_comes_from_a_file_the_environment_or_a_flag() {
    let mut node = Node::new("entrance-password");
    let (password, config) =
        (node.file("password", "hunter2\n"), node.file("c.toml", "requirepass = \"hunter2\"\n"));
    let file = ["--requirepass-file", text(&password)];
    let flag = ["--requirepass", "hunter2"];
    let toml = ["--config", text(&config)];
    let environment = [("SAMARA_REQUIREPASS", "hunter2")];
    let ways =
        [(&file[..], &[][..], false), (&flag, &[], true), (&toml, &[], false), (&[], &environment, false)];
    for (flags, environment, warns) in ways {
        node.start(flags, environment);
        assert_eq!(node.ask("", "GET k"), NO_AUTH, "{flags:?}");
        assert_eq!(
            node.ask("", "AUTH hunter3"),
            "-WRONGPASS invalid username-password pair or user is disabled."
        );
        assert_eq!(node.ask(HUNTER, "SET k v"), "+OK");
        assert_eq!(node.ask(HUNTER, "ACL SAVE").split(' ').next(), Some("-ERR"));
        let log = node.log();
        assert_eq!(log.contains("everybody on this machine can see it"), warns, "{log}");
        assert!(!log.contains("hunter"), "{log}");
    }
    node.stop();
    for (flags, expected) in [
        (&["--requirepass", ""][..], "it is empty"),
        (&["--requirepass-file", "/nonexistent"], "--requirepass-file /nonexistent: No such file"),
        (&["--requirepass", "x", "--users-file", "f"], "exclude each other"),
        (&["--protected-mode", "on"], "--protected-mode on: give yes or no"),
        (&["--auth-timeout", "0"], "--auth-timeout 0: give 1"),
        (&["--http-open", "x"], "--http-open x: give metrics"),
    ] {
        let said = node.refused(flags);
        assert!(said.contains(expected), "{flags:?}: {said}");
    }
    let help = samara(&["node", "--help"], &environment);
    assert!(!String::from_utf8_lossy(&help.stdout).contains("hunter2"));
}

#[test]
fn users_come_from_a_file_and_go_back_to_it() {
    let mut node = Node::new("entrance-users");
    let bad = node.file("bad", "user default on >x ~* +@all\n\nuser app on +nope\n");
    let said = node.refused(&["--users-file", text(&bad)]);
    assert!(
        said.contains(&format!(
            "--users-file {}, line 3: user app: rule +nope: Unknown command",
            bad.display()
        )),
        "{said}"
    );
    let said = node.refused(&["--users-file", "/nonexistent"]);
    assert!(said.contains("--users-file /nonexistent: No such file") && said.contains("make it"), "{said}");

    let users = node.file("users", "# who is let in\nuser default off\nuser root on >hunter2 ~* &* +@all\nuser app on >pw ~app:* +@read +@write\n");
    std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o600)).expect("permissions");
    let flags = ["--users-file", text(&users)];
    node.start(&flags, &[]);
    assert_eq!(node.ask("", "GET k"), NO_AUTH);
    assert_eq!(node.ask("app pw", "SET app:1 v"), "+OK");
    assert_eq!(node.ask("app pw", "SET k v"), "-NOPERM No permissions to access a key");
    assert_eq!(node.ask("root hunter2", "ACL SETUSER new on nopass ~new +get"), "+OK");
    assert_eq!(node.ask("root hunter2", "ACL DELUSER app"), ":1");
    // What is not saved is gone after a start; what is saved is there.
    node.start(&flags, &[]);
    assert_eq!(node.ask("app pw", "GET app:1"), "v");
    assert_eq!(node.ask("root hunter2", "ACL SETUSER new on nopass ~new +get"), "+OK");
    assert_eq!(node.ask("root hunter2", "ACL DELUSER app"), ":1");
    assert_eq!(node.ask("root hunter2", "ACL SAVE"), "+OK");
    node.start(&flags, &[]);
    assert_eq!(node.ask("", "AUTH app pw"), "-WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(node.ask("new x", "GET new"), "$-1");
    let saved = std::fs::read_to_string(&users).expect("the file");
    assert_eq!(saved.lines().count(), 3, "{saved}");
    assert!(!saved.contains("hunter2") && saved.contains("user new on nopass"), "{saved}");
    assert_eq!(std::fs::metadata(&users).expect("the file").permissions().mode() & 0o777, 0o600);
    let names: Vec<_> = std::fs::read_dir(&node.scratch.0)
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("temp")), "{names:?}");

    // ACL LOAD: who has changed is cut, who is as before stays; a bad file changes nothing.
    let login = |user: &str| {
        let mut wire = node.wire();
        wire.get_mut().write_all(format!("AUTH {user}\r\n").as_bytes()).expect("sent");
        assert_eq!(hear(&mut wire), "+OK");
        wire
    };
    let (mut root, mut new) = (login("root hunter2"), login("new x"));
    let ask = |wire: &mut BufReader<TcpStream>, line: &str| {
        wire.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("sent");
        hear(wire)
    };
    std::fs::write(&users, format!("{saved}user broken on foo\n")).expect("a file");
    let said = ask(&mut root, "ACL LOAD");
    assert!(
        said.starts_with("-ERR ") && said.contains("line 4: user broken: rule foo: Syntax error"),
        "{said}"
    );
    assert_eq!(ask(&mut new, "GET new"), "$-1");
    std::fs::write(&users, saved.replace("~new ", "~newer ")).expect("a file");
    assert_eq!(ask(&mut root, "ACL LOAD"), "+OK");
    assert_eq!(new.read(&mut [0]).ok(), Some(0), "its rules have changed");
    assert_eq!(ask(&mut root, "ACL WHOAMI"), "root");
    assert_eq!(node.ask("new x", "GET new"), "-NOPERM No permissions to access a key");
}

#[test]
fn strangers_are_kept_short() {
    let mut node = Node::new("entrance-strangers");
    node.start(&["--requirepass", "hunter2", "--auth-timeout", "3600"], &[]);
    let many = format!("*11\r\n{}", "$1\r\na\r\n".repeat(11));
    let long = format!("*2\r\n$4\r\nAUTH\r\n$16385\r\n{}\r\n", "x".repeat(16_385));
    let line = "x".repeat(16_385);
    let said = |bytes: &[u8]| {
        let mut wire = node.wire();
        // The node may close before it has read everything.
        wire.get_mut().write_all(bytes).ok();
        let mut line = String::new();
        wire.read_line(&mut line).ok();
        let ended = matches!(wire.read(&mut [0]), Ok(0) | Err(_));
        assert!(ended, "it is closed after {line}");
        line.trim_end().to_string()
    };
    assert_eq!(said(many.as_bytes()), "-ERR Protocol error: unauthenticated multibulk length");
    assert_eq!(said(long.as_bytes()), "-ERR Protocol error: unauthenticated bulk length");
    assert_eq!(said(line.as_bytes()), "-ERR Protocol error: too big inline request");
    // After the password, the same are requests; and after RESET no more.
    let mut wire = node.wire();
    let request = [b"AUTH hunter2\r\n", many.replacen("$1\r\na", "$4\r\nMGET", 1).as_bytes()].concat();
    wire.get_mut().write_all(&request).expect("sent");
    assert_eq!((hear(&mut wire), hear(&mut wire)), ("+OK".into(), "*10".into()));
    let reset = [b"AUTH hunter2\r\nRESET\r\n", many.as_bytes()].concat();
    let mut wire = node.wire();
    wire.get_mut().write_all(&reset).expect("sent");
    assert_eq!((hear(&mut wire), hear(&mut wire)), ("+OK".into(), "+RESET".into()));
    assert_eq!(hear(&mut wire), "-ERR Protocol error: unauthenticated multibulk length");

    // One that reads nothing is closed before its refusals take memory.
    let mut deaf = node.wire();
    let pings = b"PING\r\n".repeat(10_000);
    wait_for("a client that reads nothing to be closed", || {
        deaf.get_ref().try_clone().expect("a handle").write_all(&pings).is_err().then_some(())
    });
    // It is closed a moment before it is counted.
    wait_for("it to be counted", || {
        let metrics = node.http("GET", "/metrics", &[("Authorization", "Bearer :hunter2")], "").1;
        metrics.lines().any(|line| line == "samara_slow_clients_closed_total 1").then_some(())
    });
    drop(deaf.read(&mut [0]));
}

#[test]
fn strangers_have_little_time() {
    let mut node = Node::new("entrance-time");
    node.start(&["--requirepass", "hunter2", "--auth-timeout", "2"], &[]);
    // One that says no password is closed; one that has said it stays, though it came first.
    let mut known = node.wire();
    known.get_mut().write_all(b"AUTH hunter2\r\n").expect("sent");
    assert_eq!(hear(&mut known), "+OK");
    let mut silent = node.wire();
    let end = silent.read(&mut [0]);
    assert!(matches!(end, Ok(0)), "its time is over: {end:?}\n{}", node.log());
    let mut talking = node.wire();
    let mut refused = 0;
    while talking.get_mut().write_all(b"PING\r\n").is_ok()
        && talking.read_line(&mut String::new()).is_ok_and(|count| count > 0)
    {
        refused += 1;
    }
    assert!(refused > 0, "talk is no password");
    let mut http = TcpStream::connect(("127.0.0.1", node.ports[2])).expect("the HTTP port");
    http.write_all(b"GET /v1/kv/a HTTP/1.1\r\nHost: ").expect("sent");
    http.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
    assert_eq!(http.read(&mut [0]).ok(), Some(0), "half a head is no request");
    known.get_mut().write_all(b"PING\r\n").expect("sent");
    assert_eq!(hear(&mut known), "+PONG");
}

/// An address of this machine that is not loopback; `None` where it has none.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the system only chooses the address that it would send from.
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then(|| ip.to_string())
}

#[test]
fn without_a_password_only_this_machine_is_served() {
    let Some(host) = own_address() else {
        println!("SKIPPED: this machine has no address but loopback");
        return;
    };
    let mut node = Node::new("entrance-protected");
    node.host = "0.0.0.0";
    let from_outside = |node: &Node| {
        let mut stream = TcpStream::connect((host.as_str(), node.ports[0])).expect("the node is up");
        stream.write_all(b"PING\r\n").ok();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("an answer");
        line.trim_end().to_string()
    };
    node.start(&[], &[]);
    assert!(
        from_outside(&node).starts_with("-DENIED this node is in protected mode"),
        "{}",
        from_outside(&node)
    );
    assert_eq!(node.ask("", "PING"), "+PONG");
    let (status, body) = node.http_at(&host, "GET", "/v1/kv/k", &[], "");
    assert!(status == 403 && body.contains("DENIED"), "{body}");
    assert_eq!(node.http_at(&host, "GET", "/metrics", &[], "").0, 403);
    assert_eq!(node.http_at(&host, "GET", "/healthz", &[], "").0, 200);
    assert_eq!(node.http("GET", "/metrics", &[], "").0, 200);
    assert!(node.log().contains("only clients on this machine are served"), "{}", node.log());
    // A password given while it runs opens it, and so does the flag.
    assert_eq!(node.ask("", "ACL SETUSER default >pw"), "+OK");
    assert_eq!(from_outside(&node), NO_AUTH);
    node.start(&["--protected-mode", "no"], &[]);
    assert_eq!(from_outside(&node), "+PONG");
    assert!(
        node.log().contains("whoever reaches this port may read and change everything"),
        "{}",
        node.log()
    );
}

#[test]
fn our_own_commands_say_who_they_are() {
    let mut node = Node::new("entrance-commands");
    let password = node.file("password", "hunter2\n");
    node.start(&["--requirepass-file", text(&password)], &[]);
    let (http, resp) = (format!("127.0.0.1:{}", node.ports[2]), format!("127.0.0.1:{}", node.ports[0]));
    let status = ["admin", "--addr", &http, "status", "--json"];
    let bench = ["bench", "--addr", &resp, "--seconds", "0.2", "--clients", "2", "--keys", "10", "--json"];
    for words in [&status[..], &bench] {
        let with = |environment: &[(&str, &str)], more: &[&str]| {
            let output = samara(&[words, more].concat(), environment);
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(!said.contains("hunter"), "{said}");
            (output.status.code(), said)
        };
        for (environment, more) in [
            (&[("SAMARA_PASSWORD", "hunter2")][..], &[][..]),
            (&[("SAMARA_PASSWORD", "hunter2")], &["--user", "default"]),
            (&[], &["--password-file", text(&password)]),
        ] {
            let (code, said) = with(environment, more);
            assert_eq!(code, Some(0), "{words:?} {said}");
        }
        for (environment, more) in
            [(&[][..], &[][..]), (&[("SAMARA_PASSWORD", "hunter3")], &[]), (&[], &["--user", "default"])]
        {
            let (code, said) = with(environment, more);
            assert!(code == Some(2) && said.contains("SAMARA_PASSWORD"), "{words:?} {code:?} {said}");
        }
    }
}
