//! Every error that a client can be answered, brought about: `docs/COMMANDS.md` lists their first words, and this table says
//! for each where a test brings it about, so that none is listed that nobody has seen.

mod support;

use redis::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use support::{Cluster, connect, wait_for};

/// `(first word, how it comes about, file of the test, its function)`: each is a test of real nodes over real connections.
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("ERR", "what is no command", "tests/tests/errors.rs", "errors_of_a_cluster"),
    ("NOPROTO", "HELLO 4", "tests/tests/errors.rs", "errors_of_a_cluster"),
    ("UNAVAILABLE", "two of three nodes are killed", "tests/tests/errors.rs", "without_a_majority"),
    (
        "TIMEOUT",
        "a retry comes after its key's memory",
        "tests/tests/sessions.rs",
        "an_id_too_old_is_in_doubt_and",
    ),
    (
        "OVERLOADED",
        "as many bytes as a node takes are announced",
        "tests/tests/errors.rs",
        "what_has_been_promised_to_others",
    ),
    (
        "DISKFULL",
        "a small disk is filled",
        "tests/tests/disk.rs",
        "a_full_disk_refuses_values_serves_the_rest",
    ),
    ("CLOCKSKEW", "an id and a token of tomorrow", "tests/tests/errors.rs", "errors_of_a_cluster"),
    ("TOOLARGE", "a key of more than 64 KiB", "tests/tests/errors.rs", "errors_of_a_cluster"),
    ("BELOWFLOOR", "an eventual write under a floor", "tests/tests/errors.rs", "errors_of_a_cluster"),
    ("CROSSSLOT", "RENAME over two slots", "tests/tests/errors.rs", "errors_of_a_cluster"),
    ("NOAUTH", "a command before the password", "tests/tests/access/rules.rs", "nothing_is_done_before"),
    ("WRONGPASS", "another password", "tests/tests/access/rules.rs", "nothing_is_done_before"),
    (
        "NOPERM",
        "a command, and a key, that a user may not use",
        "tests/tests/access/rules.rs",
        "a_user_does_what",
    ),
    (
        "DENIED",
        "no password, and another machine's address",
        "tests/tests/access/entrance.rs",
        "without_a_password_only",
    ),
];

fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_documented_error_has_its_test() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).expect(file);
    let document = read("docs/COMMANDS.md");
    let (_, errors) = document.split_once("## Errors").expect("the section on errors");
    let documented: Vec<&str> = errors
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(word, _)| word))
        .collect();
    let tested: Vec<&str> = TABLE.iter().map(|(word, ..)| *word).collect();
    assert_eq!(documented, tested);
    for (word, how, file, function) in TABLE {
        assert!(file.starts_with("tests/tests/"), "{word}: {file} starts no node");
        assert!(read(file).contains(&format!("fn {function}")), "{word} ({how}): no {function} in {file}");
    }
}

#[test]
fn errors_of_a_cluster() {
    let floors = ["--consistency-floor", "money:=causal,order:=strong"];
    let cluster = Cluster::start_with("errors", &floors);
    let ask = |node: usize, level: &str, line: &str| -> Result<Value, String> {
        let mut connection = connect(cluster.clients[node]).ok_or("not connected")?;
        redis::cmd("CONSISTENCY").arg(level).query::<()>(&mut connection).map_err(|e| e.to_string())?;
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().expect("a command"));
        words.for_each(|word| {
            command.arg(word);
        });
        command.query(&mut connection).map_err(|error| error.to_string())
    };
    let long = format!("SET {} v", "k".repeat(64 * 1024 + 1));
    let table = [
        ("strong", "NOPE", "unknown command"),
        ("strong", "SET k", "wrong number of arguments"),
        ("strong", "HELLO 4", "NOPROTO"),
        ("strong", long.as_str(), "TOOLARGE"),
        ("strong", "RENAME a b", "CrossSlot"),
        ("strong", "IDEMPOTENT ffffffff-ffff-7000-8000-000000000001 INCR n", "CLOCKSKEW"),
        ("strong", "SESSION ffffffffffffffff", "CLOCKSKEW"),
        ("eventual", "SET money:1 v", "BELOWFLOOR"),
        ("eventual", "GET money:1", "BELOWFLOOR"),
        ("eventual", "MGET a money:1", "BELOWFLOOR"),
        ("causal", "DEL order:1", "BELOWFLOOR"),
        ("causal", "SET order:1 v", "floor is strong"),
        ("eventual", "SET money:1 v", "floor is causal"),
    ];
    for node in 0..3 {
        for (level, line, expected) in table {
            let answer = ask(node, level, line);
            let shown = &line[..line.len().min(40)];
            assert!(
                answer.as_ref().is_err_and(|error| error.contains(expected)),
                "{level} {shown}: {answer:?}"
            );
        }
        // At the floor or above, and what is always strong, and keys without a floor.
        for (level, line) in [
            ("causal", "SET money:1 v"),
            ("strong", "SET order:1 v"),
            ("eventual", "INCR order:2"),
            ("eventual", "SET order:3 v NX"),
            ("eventual", "SET other v"),
        ] {
            ask(node, level, line).unwrap_or_else(|error| panic!("{level} {line}: {error}"));
        }
    }
    let floor = ask(0, "strong", "CONFIG GET samara-consistency-floor").expect("a setting");
    assert!(format!("{floor:?}").contains("money:=causal,order:=strong"), "{floor:?}");
}

#[test]
fn without_a_majority_nothing_strong_is_done() {
    let mut cluster = Cluster::start("no-majority");
    (1..3).for_each(|node| cluster.kill(node));
    let ports = cluster.clients.clone();
    let refused = wait_for("a certain refusal", || {
        let mut connection = connect(ports[0])?;
        let answer = redis::cmd("SET").arg("k").arg("v").query::<()>(&mut connection);
        answer.err().map(|error| error.to_string()).filter(|error| error.contains("UNAVAILABLE"))
    });
    assert!(refused.contains("not applied"), "{refused}");
}

/// Bytes of a request that an HTTP client announces count before they come, so that a node is never asked for more than it has.
#[test]
fn what_has_been_promised_to_others_is_not_given_twice() {
    let cluster = Cluster::start("overloaded");
    let announce = || {
        let mut stream = TcpStream::connect(("127.0.0.1", cluster.http[0])).expect("the HTTP port");
        let head = "POST /v1/batch HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n", 64 << 20).expect("sent");
        stream
    };
    let set = || {
        let mut connection = connect(cluster.clients[0]).expect("a connection");
        redis::cmd("SET").arg("k").arg("v").query::<()>(&mut connection).map_err(|error| error.to_string())
    };
    set().expect("nothing is announced yet");
    // Sixteen times 64 MiB are all that a node takes; each is given half a minute to come.
    let refused = wait_for("a refusal", || {
        let held: Vec<TcpStream> = (0..16).map(|_| announce()).collect();
        let refused = (0..200).find_map(|_| set().err().filter(|error| error.contains("OVERLOADED")));
        let mut one_more = announce();
        one_more.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a timeout");
        let mut answer = String::new();
        let refused_too = refused.is_some() && {
            one_more.read_to_string(&mut answer).ok();
            answer.starts_with("HTTP/1.1 503") && answer.contains("\"code\":\"OVERLOADED\"")
        };
        drop(held);
        refused.filter(|_| refused_too)
    });
    assert!(refused.contains("OVERLOADED") && refused.contains("not applied"), "{refused}");
    // Who goes away without sending gives it back.
    wait_for("the room to be free again", || set().ok());
}
