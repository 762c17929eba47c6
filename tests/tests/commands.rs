//! Every command with its answers and its errors, as a Redis client sees them, over a real cluster.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use support::{Cluster, connect};

/// A reply in the words of redis-cli.
fn show(value: &redis::Value) -> String {
    match value {
        redis::Value::Nil => "(nil)".into(),
        redis::Value::Int(number) => format!("(integer) {number}"),
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::SimpleString(text) => text.clone(),
        redis::Value::Okay => "OK".into(),
        redis::Value::Array(items) => items.iter().map(show).collect::<Vec<_>>().join(" "),
        redis::Value::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| format!("{}={}", show(key), show(value)))
            .collect::<Vec<_>>()
            .join(" "),
        other => format!("{other:?}"),
    }
}

fn run(connection: &mut redis::Connection, line: &str) -> String {
    let mut words = line.split(' ').map(|word| if word == "''" { "" } else { word });
    let mut command = redis::cmd(words.next().expect("a command"));
    words.for_each(|word| {
        command.arg(word);
    });
    match command.query::<redis::Value>(connection) {
        Ok(value) => show(&value),
        Err(error) => error.to_string(),
    }
}

/// `(command, what the answer contains; with = before it, what the answer is; with ~ before it, the seconds of which less than a
/// minute has gone)`.
const TABLE: &[(&str, &str)] = &[
    ("PING", "=PONG"),
    ("PING hi", "=hi"),
    ("ECHO hi", "=hi"),
    ("GET nothing", "=(nil)"),
    ("SET k v", "=OK"),
    ("GET k", "=v"),
    ("SET k w NX", "=(nil)"),
    ("SET k w XX", "=OK"),
    ("SET k x GET", "=w"),
    ("SET k y IFEQ x", "=OK"),
    ("SET k z IFEQ x", "=(nil)"),
    ("SET k v BAD", "syntax error"),
    ("SET k v EX", "syntax error"),
    ("SET k v EX 0", "invalid expire time in 'set' command"),
    ("SET k v PX -5", "invalid expire time in 'set' command"),
    ("SET k v EX x", "not an integer"),
    ("SET k v NX XX", "syntax error"),
    ("SET k v PX 1 KEEPTTL", "syntax error"),
    ("SET k v PX 100000", "=OK"),
    ("TTL k", "~100"),
    ("SET k v KEEPTTL", "=OK"),
    ("TTL k", "~100"),
    ("PERSIST k", "=(integer) 1"),
    ("PERSIST k", "=(integer) 0"),
    ("TTL k", "=(integer) -1"),
    ("TTL none", "=(integer) -2"),
    ("SETNX k a", "=(integer) 0"),
    ("SETNX k2 a", "=(integer) 1"),
    ("SETEX k2 100 b", "=OK"),
    ("SETEX k2 0 b", "invalid expire"),
    ("PSETEX k2 100000 b", "=OK"),
    ("GETSET k2 c", "=b"),
    ("TTL k2", "=(integer) -1"),
    ("GETEX k2 EX 1050", "=c"),
    ("TTL k2", "~1050"),
    ("GETEX k2 PERSIST", "=c"),
    ("TTL k2", "=(integer) -1"),
    ("GETEX k2 BAD", "syntax error"),
    ("GETDEL k2", "=c"),
    ("GETDEL k2", "=(nil)"),
    ("MSET a 1 b 2 c 3", "=OK"),
    ("MSET a 1 b", "wrong number of arguments for 'mset'"),
    ("MGET a none c", "=1 (nil) 3"),
    ("EXISTS a b none a", "=(integer) 3"),
    ("DEL a none", "=(integer) 1"),
    ("UNLINK b", "=(integer) 1"),
    ("TOUCH c", "=(integer) 1"),
    ("TYPE c", "=string"),
    ("TYPE none", "=none"),
    ("APPEND c 45", "=(integer) 3"),
    ("GET c", "=345"),
    ("STRLEN c", "=(integer) 3"),
    ("STRLEN none", "=(integer) 0"),
    ("GETRANGE c 0 -2", "=34"),
    ("SUBSTR c -2 -1", "=45"),
    ("GETRANGE c x 1", "not an integer"),
    ("SETRANGE c 1 xx", "=(integer) 3"),
    ("GET c", "=3xx"),
    ("SETRANGE c -1 x", "offset is out of range"),
    ("SETRANGE c 99999999 x", "exceeds maximum allowed size"),
    ("INCR n", "=(integer) 1"),
    ("INCRBY n 10", "=(integer) 11"),
    ("DECR n", "=(integer) 10"),
    ("DECRBY n 3", "=(integer) 7"),
    ("INCR c", "value is not an integer or out of range"),
    ("INCRBY n x", "value is not an integer or out of range"),
    ("SET big 9223372036854775807", "=OK"),
    ("INCR big", "would overflow"),
    ("DECRBY n -9223372036854775808", "decrement would overflow"),
    ("SET f 10.5", "=OK"),
    ("INCRBYFLOAT f 0.1", "=10.6"),
    ("INCRBYFLOAT c 1", "not a valid float"),
    ("INCRBYFLOAT f abc", "not a valid float"),
    ("EXPIRE n 100", "=(integer) 1"),
    ("EXPIRE n 200 NX", "=(integer) 0"),
    ("EXPIRE n 50 GT", "=(integer) 0"),
    ("EXPIRE n 200 GT", "=(integer) 1"),
    ("EXPIRE n 50 LT", "=(integer) 1"),
    ("EXPIRE n 50 GT LT", "not compatible"),
    ("EXPIRE n 50 NX XX", "not compatible"),
    ("EXPIRE n 50 MAYBE", "Unsupported option MAYBE"),
    ("EXPIRE n x", "not an integer"),
    ("EXPIRE none 5", "=(integer) 0"),
    ("PEXPIRE n 90000", "=(integer) 1"),
    ("TTL n", "~90"),
    ("EXPIREAT n 4102444800", "=(integer) 1"),
    ("EXPIRETIME n", "=(integer) 4102444800"),
    ("PEXPIRETIME n", "=(integer) 4102444800000"),
    ("EXPIRE n -1", "=(integer) 1"),
    ("EXISTS n", "=(integer) 0"),
    ("EXPIRE c 99999999999999999", "invalid expire time in 'expire' command"),
    ("CAS c 3xx 4", "=(integer) 1"),
    ("CAS c 3xx 5", "=(integer) 0"),
    ("GET c", "=4"),
    ("META c", "version"),
    ("META none", "=(nil)"),
    ("CONSISTENCY", "=strong"),
    ("CONSISTENCY EVENTUAL", "=OK"),
    ("CONSISTENCY", "=eventual"),
    ("CONSISTENCY causal", "=OK"),
    ("SET causal 1", "=OK"),
    ("GET causal", "=1"),
    ("CONSISTENCY strong", "=OK"),
    ("CONSISTENCY x", "unknown consistency level"),
    ("IDEMPOTENT 0190d0f0-0000-7000-8000-000000000001 GET k", "a command that writes keys"),
    ("IDEMPOTENT 0190d0f0-0000-7000-8000-000000000001 RENAME {k}a {k}b", "no command of several steps"),
    ("IDEMPOTENT 0190d0f0-0000-7000-8000-000000000001 PING", "a command that writes keys"),
    ("IDEMPOTENT 0190d0f0-0000-7000-8000-000000000001", "wrong number of arguments"),
    ("IDEMPOTENT x INCR q", "UUIDv7"),
    ("IDEMPOTENT 0190d0f0-0000-4000-8000-000000000001 INCR q", "UUIDv7"),
    ("IDEMPOTENT ffffffff-ffff-7000-8000-000000000001 INCR q", "CLOCKSKEW"),
    ("GET q", "=(nil)"),
    ("SESSION", ""),
    ("SESSION zz", "not a session token"),
    ("SESSION +000000000000001", "not a session token"),
    ("SESSION 00000000000000012", "not a session token"),
    ("SESSION ffffffffffffffff", "CLOCKSKEW"),
    ("GET k", "=v"),
    ("MSETNX a 1 b 2", "same slot"),
    ("RENAME a b", "same slot"),
    ("RENAMENX a b", "same slot"),
    ("COPY a b", "same slot"),
    ("MEMORY USAGE k", "=(integer) 98"),
    ("OBJECT IDLETIME k", "(integer)"),
    ("WAIT 1 100", "=(integer) 1"),
    ("SLOWLOG LEN", "(integer)"),
    ("LATENCY LATEST", ""),
    ("CLIENT LIST", "id="),
    ("CLIENT INFO", "resp=2"),
    ("CLIENT NO-TOUCH on", "=OK"),
    ("DEBUG SLEEP 0.01", "=OK"),
    ("DEBUG SLEEP x", "=OK"),
    ("DEBUG JMAP", "unknown subcommand"),
    ("CLUSTER NODES", "myself,master"),
    ("CLUSTER SHARDS", "slots"),
    ("CLUSTER COUNTKEYSINSLOT 12182", "=(integer) 0"),
    ("SET foo x", "=OK"),
    ("CLUSTER COUNTKEYSINSLOT 12182", "=(integer) 1"),
    ("CLUSTER GETKEYSINSLOT 12182 5", "=foo"),
    ("CLUSTER GETKEYSINSLOT 12182 0", "="),
    ("CLUSTER GETKEYSINSLOT 16384 1", "Invalid slot"),
    ("CLUSTER COUNTKEYSINSLOT x", "not an integer"),
    ("RANGE [fon (fop", "=foo"),
    ("SELECT 0", "=OK"),
    ("SELECT 1", "DB index is out of range"),
    ("COMMAND COUNT", "(integer)"),
    ("COMMAND GETKEYS MSET a 1 b 2", "=a b"),
    ("CLIENT SETNAME me", "=OK"),
    ("CLIENT GETNAME", "=me"),
    ("CLIENT NOPE", "unknown subcommand"),
    ("CONFIG GET appendfsync", "always"),
    ("CONFIG SET a b", "Unknown option"),
    ("CONFIG SET save 1", "CONFIG SET failed"),
    ("CLUSTER KEYSLOT foo", "=(integer) 12182"),
    ("INFO", "samara_version"),
    ("TIME", ""),
    ("DBSIZE", "(integer)"),
    ("HELLO 4", "NOPROTO"),
    ("NOPE a b", "unknown command 'NOPE', with args beginning with: 'a' 'b'"),
    ("GET", "wrong number of arguments for 'get' command"),
    ("GET a b", "wrong number of arguments for 'get' command"),
    ("SCAN x", "invalid cursor"),
    ("SCAN 0 COUNT 0", "syntax error"),
    ("FLUSHALL", "=OK"),
    ("DBSIZE", "=(integer) 0"),
    ("RANDOMKEY", "=(nil)"),
    ("KEYS *", "="),
];

#[test]
fn commands_answer_as_redis_does() {
    let cluster = Cluster::start("commands");
    let mut connection = connect(cluster.clients[1]).expect("node 2 is up");
    for (line, expected) in TABLE {
        let answer = run(&mut connection, line);
        if let Some(seconds) = expected.strip_prefix('~') {
            let most: i64 = seconds.parse().expect("a number");
            let left = answer.strip_prefix("(integer) ").and_then(|left| left.parse::<i64>().ok());
            assert!(left.is_some_and(|left| left <= most && left > most - 60), "{line}: {answer}");
            continue;
        }
        match expected.strip_prefix('=') {
            Some(exact) => assert_eq!(answer, exact, "{line}"),
            None => assert!(answer.contains(expected), "{line}: {answer:?} does not contain {expected:?}"),
        }
    }
    scan_finds_every_key(&cluster);
    limits_and_broken_protocol(&cluster);
    clients_are_listed_and_killed(&cluster);
}

fn clients_are_listed_and_killed(cluster: &Cluster) {
    let mut one = connect(cluster.clients[0]).expect("node 1 is up");
    let mut other = connect(cluster.clients[0]).expect("node 1 is up");
    run(&mut other, "CLIENT SETNAME other");
    let id = run(&mut other, "CLIENT ID").replace("(integer) ", "");
    let listed = run(&mut one, &format!("CLIENT LIST ID {id}"));
    assert!(listed.contains(&format!("id={id} ")) && listed.contains("name=other "), "{listed}");
    assert_eq!(run(&mut one, &format!("CLIENT KILL ID {id}")), "(integer) 1");
    let gone = run(&mut other, "PING");
    assert!(!gone.contains("PONG"), "a killed connection answers nothing: {gone}");
    support::wait_for("the killed to leave the list", || {
        run(&mut connect(cluster.clients[0])?, &format!("CLIENT LIST ID {id}")).is_empty().then_some(())
    });
    // Whoever kills itself has its answer first.
    let own = run(&mut one, "CLIENT ID").replace("(integer) ", "");
    assert_eq!(run(&mut one, &format!("CLIENT KILL ID {own} SKIPME yes")), "(integer) 0");
    assert_eq!(run(&mut one, &format!("CLIENT KILL ID {own} SKIPME no")), "(integer) 1");
    assert!(!run(&mut one, "PING").contains("PONG"));
}

fn scan_finds_every_key(cluster: &Cluster) {
    let mut connection = connect(cluster.clients[0]).expect("node 1 is up");
    for i in 0..120 {
        run(&mut connection, &format!("SET user:{i} x"));
    }
    let (mut cursor, mut found) = ("0".to_string(), Vec::new());
    loop {
        let (next, keys): (String, Vec<String>) = redis::cmd("SCAN")
            .arg(&cursor)
            .arg("MATCH")
            .arg("user:*")
            .arg("COUNT")
            .arg(7)
            .query(&mut connection)
            .expect("a page");
        found.extend(keys);
        cursor = next;
        if cursor == "0" {
            break;
        }
    }
    found.sort();
    let count = found.len();
    found.dedup();
    assert_eq!((count, found.len()), (120, 120), "each key once");
}

fn limits_and_broken_protocol(cluster: &Cluster) {
    let talk = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", cluster.clients[2])).expect("node 3 is up");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream.write_all(bytes).expect("sent");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("the node closes the connection");
        String::from_utf8_lossy(&said).into_owned()
    };
    assert_eq!(talk(b"*1\r\n!x\r\n"), "-ERR Protocol error: expected '$', got '!'\r\n");
    assert_eq!(talk(b"*-5x\r\n"), "-ERR Protocol error: invalid multibulk length\r\n");
    assert_eq!(talk(b"*1\r\n$999999999999\r\n"), "-ERR Protocol error: invalid bulk length\r\n");
    assert_eq!(talk(b"PING\r\nQUIT\r\n"), "+PONG\r\n+OK\r\n");
    let mut connection = connect(cluster.clients[2]).expect("node 3 is up");
    let key = "k".repeat(64 * 1024 + 1);
    assert!(run(&mut connection, &format!("SET {key} v")).contains("TOOLARGE"));
    assert_eq!(run(&mut connection, "PING"), "PONG", "the connection goes on");
}
