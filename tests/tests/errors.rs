//! Every error that a client can be answered, brought about: `docs/COMMANDS.md` lists their first words, and this table says
//! for each where a test brings it about, so that none is listed that nobody has seen.

mod support;

use redis::Value;
use support::{Cluster, connect, wait_for};

/// `(first word, how it comes about, file of the test, its function)`.
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("UNAVAILABLE", "two of three nodes are killed", "tests/tests/errors.rs", "without_a_majority"),
    (
        "TIMEOUT",
        "a retry comes after its key's memory",
        "tests/tests/sessions.rs",
        "an_id_too_old_is_in_doubt_and",
    ),
    (
        "OVERLOADED",
        "more operations than a shard takes",
        "core/tests/cluster/basics.rs",
        "an_operation_too_many_is_refused",
    ),
    (
        "DISKFULL",
        "the disks of two of three nodes are full",
        "core/src/coord/tests.rs",
        "where_a_majority_has_no_room_only",
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
        ("strong", long.as_str(), "TOOLARGE"),
        ("strong", "RENAME a b", "same slot"),
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
