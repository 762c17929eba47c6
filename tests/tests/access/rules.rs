//! What users may do, over connections to a cluster.

use crate::support::{Cluster, wait_for};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A connection on which replies come one after the other.
struct Wire(BufReader<TcpStream>);

impl Wire {
    fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the node is up");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
        Self(BufReader::new(stream))
    }

    fn send(&mut self, lines: &str) {
        let bulk = |word: &str| format!("${}\r\n{word}\r\n", word.len());
        for line in lines.split('\n') {
            let words: Vec<String> = line.split(' ').map(bulk).collect();
            let request = format!("*{}\r\n{}", words.len(), words.concat());
            self.0.get_mut().write_all(request.as_bytes()).expect("sent");
        }
    }

    /// The next reply, on one line; `None` if the connection has ended.
    fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let line = line.trim_end().to_string();
        let count = line.get(1..).and_then(|rest| rest.parse::<usize>().ok());
        let parts = |wire: &mut Self, count: usize| -> Option<String> {
            let parts: Option<Vec<String>> = (0..count).map(|_| wire.hear()).collect();
            Some(format!("[{}]", parts?.join(" ")))
        };
        match (line.as_bytes()[0], count) {
            (b'$' | b'=', Some(count)) => {
                let mut body = vec![0; count + 2];
                self.0.read_exact(&mut body).ok()?;
                body.truncate(count);
                Some(String::from_utf8_lossy(&body).into_owned())
            }
            (b'*' | b'~', Some(count)) => parts(self, count),
            (b'%', Some(count)) => parts(self, 2 * count),
            _ => Some(line),
        }
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.hear().unwrap_or_else(|| "(closed)".into())
    }

    /// Asks line by line; each reply begins as the table says.
    fn expect(&mut self, table: &[(&str, &str)]) {
        for (line, expected) in table {
            let answer = self.ask(line);
            assert!(answer.starts_with(expected), "{line}: {answer}, not {expected}");
        }
    }
}

const NO_KEY: &str = "-NOPERM No permissions to access a key";
const NO_AUTH: &str = "-NOAUTH Authentication required.";
const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.";

#[test]
fn nothing_is_done_before_the_password() {
    let cluster = Cluster::start("access-password");
    let port = cluster.clients[0];
    let mut admin = Wire::open(port);
    admin.expect(&[
        ("AUTH x", "-ERR AUTH <password> called without any password configured for the default user."),
        ("ACL SETUSER default resetpass >secret >other", "+OK"),
        ("ACL SETUSER off off nopass", "+OK"),
        ("SET k v", "+OK"),
    ]);
    let mut wire = Wire::open(port);
    wire.expect(&[
        ("GET k", NO_AUTH),
        ("PING", NO_AUTH),
        ("get", "-ERR wrong number of arguments"),
        ("NOPE", "-ERR unknown command"),
        ("HELLO", "-NOAUTH HELLO must be called with the client already authenticated"),
        ("HELLO 3", "-NOAUTH HELLO must be called with the client already authenticated"),
        ("IDEMPOTENT x SET k w", NO_AUTH),
        ("ACL WHOAMI", NO_AUTH),
        ("CLIENT ID", NO_AUTH),
        ("AUTH wrong", WRONG),
        ("AUTH default wrong", WRONG),
        ("AUTH nobody secret", WRONG),
        ("AUTH off x", WRONG),
        ("AUTH a b c", "-ERR syntax error"),
        ("HELLO 3 AUTH default wrong", WRONG),
        ("GET k", NO_AUTH),
        ("HELLO 2 AUTH default other", "["),
        ("GET k", "v"),
        ("AUTH wrong", WRONG),
        ("GET k", "v"),
        ("RESET", "+RESET"),
        ("GET k", NO_AUTH),
        ("AUTH secret", "+OK"),
        ("GET k", "v"),
        ("RESET", "+RESET"),
        ("QUIT", "+OK"),
    ]);
    // Inline requests are requests.
    let mut inline = Wire::open(port);
    inline.0.get_mut().write_all(b"GET k\r\nauth secret\r\nGET k\r\n").expect("sent");
    let answers: Vec<_> = (0..3).map(|_| inline.hear()).collect();
    assert_eq!(answers, [NO_AUTH, "+OK", "v"].map(|answer| Some(answer.to_string())));
    // Other nodes have users of their own.
    Wire::open(cluster.clients[1]).expect(&[("GET k", "v")]);
    admin.expect(&[("ACL SETUSER default nopass", "+OK")]);
    Wire::open(port).expect(&[("GET k", "v")]);
}

#[test]
fn a_user_does_what_its_rules_allow() {
    let cluster = Cluster::start("access-rules");
    let port = cluster.clients[0];
    let mut admin = Wire::open(port);
    admin.expect(&[
        ("ACL SETUSER app on >pw ~app:* %R~shared:* +@read +@write +ping +acl|whoami -del", "+OK"),
        ("SET shared:1 s", "+OK"),
        ("SET secret s", "+OK"),
    ]);
    let id = "0190d0f0-0000-7000-8000-000000000001";
    let mut app = Wire::open(port);
    app.expect(&[("AUTH app pw", "+OK"), ("ACL WHOAMI", "app")]);
    for version in ["2", "3"] {
        app.expect(&[
            (&format!("HELLO {version}"), "[server"),
            ("SET app:1 v", "+OK"),
            ("GET app:1", "v"),
            ("GET shared:1", "s"),
            ("SET shared:1 v", NO_KEY),
            ("GET secret", NO_KEY),
            ("gEt secret", NO_KEY),
            ("MGET app:1 secret", NO_KEY),
            ("MSET app:1 v secret v", NO_KEY),
            ("COPY {app:1}secret app:1", NO_KEY),
            ("RENAME app:1 secret", NO_KEY),
            ("RANGE - + VALUES", NO_KEY),
            ("RANGE [app: (app; VALUES", "[app:1 v]"),
            ("DEL app:1", "-NOPERM User app has no permissions to run the 'del' command"),
            ("CONFIG GET save", "-NOPERM User app has no permissions to run the 'config|get' command"),
            ("config Get save", "-NOPERM User app has no permissions to run the 'config|get' command"),
            ("ACL SETUSER app +@all", "-NOPERM User app has no permissions to run the 'acl|setuser' command"),
            (
                &format!("IDEMPOTENT {id} SET app:1 v"),
                "-NOPERM User app has no permissions to run the 'idempotent'",
            ),
            ("SESSION", "-NOPERM"),
            ("PERSIST app:1", ":0"),
        ]);
    }
    admin.expect(&[("ACL SETUSER app +idempotent +session", "+OK")]);
    app.expect(&[
        (
            &format!("IDEMPOTENT {id} DEL app:1"),
            "-NOPERM User app has no permissions to run the 'del' command",
        ),
        (&format!("IDEMPOTENT {id} SET secret v"), NO_KEY),
        (
            &format!("IDEMPOTENT {id} CONFIG SET a b"),
            "-NOPERM User app has no permissions to run the 'config|set'",
        ),
        (
            &format!("IDEMPOTENT {id} IDEMPOTENT {id} SET secret v"),
            "-ERR IDEMPOTENT takes a command that writes keys",
        ),
        ("SESSION", ""),
    ]);
    // A change holds from the next command on, for better or worse.
    admin.expect(&[("ACL SETUSER app resetkeys ~other:*", "+OK")]);
    app.expect(&[("GET app:1", NO_KEY), ("SET other:1 v", "+OK")]);
    admin.expect(&[("ACL SETUSER app off resetpass", "+OK")]);
    app.expect(&[("GET other:1", "v"), ("AUTH app pw", WRONG), ("GET other:1", "v")]);
    // Requests in a pipeline are judged as who one is when they come.
    let mut pipeline = Wire::open(port);
    admin.expect(&[("ACL SETUSER app on >pw", "+OK")]);
    pipeline.send(
        "GET secret\nAUTH app pw\nGET secret\nGET other:1\nAUTH default x\nGET secret\nRESET\nGET secret",
    );
    let answers: Vec<_> = (0..8).map(|_| pipeline.hear().unwrap_or_default()).collect();
    assert_eq!(answers, ["s", "+OK", NO_KEY, "v", "+OK", "s", "+RESET", "s"]);
}

#[test]
fn a_user_that_is_deleted_loses_its_connections() {
    let cluster = Cluster::start("access-deleted");
    let port = cluster.clients[0];
    let mut admin = Wire::open(port);
    admin.expect(&[("ACL SETUSER a on nopass ~* +@all", "+OK"), ("ACL SETUSER b on nopass ~* +@all", "+OK")]);
    let (mut a, mut b) = (Wire::open(port), Wire::open(port));
    a.expect(&[("AUTH a x", "+OK"), ("CLIENT SETNAME conn-a", "+OK")]);
    b.expect(&[("AUTH b x", "+OK")]);
    let list = admin.ask("CLIENT LIST");
    assert!(
        list.contains("name=conn-a") && list.contains("user=a ") && list.contains("user=default "),
        "{list}"
    );
    admin.expect(&[
        ("CLIENT KILL USER nobody", "-ERR No such user 'nobody'"),
        ("ACL DELUSER default", "-ERR The 'default' user cannot be removed"),
        ("ACL DELUSER a nobody", ":1"),
        ("ACL SETUSER a on nopass ~* +@all", "+OK"),
    ]);
    assert_eq!(a.hear(), None, "it is cut, and the new user of that name is another");
    // Who deletes itself is told so first.
    b.expect(&[("PING", "+PONG"), ("ACL DELUSER b", ":1")]);
    assert_eq!(b.hear(), None);
    let mut again = Wire::open(port);
    again.expect(&[("AUTH a x", "+OK")]);
    admin.expect(&[("CLIENT KILL USER a", ":1")]);
    assert_eq!(again.hear(), None);
    wait_for("the list to be short", || (admin_list(port) == 2).then_some(()));
}

fn admin_list(port: u16) -> usize {
    Wire::open(port).ask("CLIENT LIST").lines().count()
}

#[test]
fn refusals_are_logged_and_counted_and_no_password_is_shown() {
    let cluster = Cluster::start("access-log");
    let port = cluster.clients[0];
    let mut admin = Wire::open(port);
    admin.expect(&[("ACL SETUSER app on >hunter2 ~a +get", "+OK"), ("ACL LOG RESET", "+OK")]);
    let mut app = Wire::open(port);
    app.expect(&[
        ("AUTH app hunter3", WRONG),
        ("HELLO 3 AUTH app hunter2", "["),
        ("SET a v", "-NOPERM"),
        ("SET a v", "-NOPERM"),
        ("GET b", NO_KEY),
    ]);
    let log = admin.ask("ACL LOG");
    for part in [
        "reason key context toplevel object b username app",
        "count :2 reason command context toplevel object set",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(log.contains("reason auth context toplevel object AUTH username app"), "{log}");
    let info = admin.ask("INFO stats");
    for line in ["acl_access_denied_auth:1", "acl_access_denied_cmd:2", "acl_access_denied_key:1"] {
        assert!(info.contains(line), "{line}: {info}");
    }
    for line in ["SLOWLOG GET 100", "CLIENT LIST", "ACL LOG 100", "INFO", "LATENCY LATEST", "CONFIG GET *"] {
        let said = admin.ask(line);
        assert!(!said.contains("hunter"), "{line}: {said}");
    }
    admin.expect(&[("ACL LOG RESET", "+OK"), ("ACL LOG", "[]")]);
}
