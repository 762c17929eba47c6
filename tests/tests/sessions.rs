//! Sessions and idempotency ids as clients use them over real nodes: a token and an id mean the same at every node.

mod support;

use redis::{Connection, FromRedisValue, Value};
use std::time::{SystemTime, UNIX_EPOCH};
use support::{Cluster, connect};

fn ask<T: FromRedisValue>(connection: &mut Connection, line: &str) -> Result<T, String> {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().expect("a command"));
    words.for_each(|word| {
        command.arg(word);
    });
    command.query(connection).map_err(|error| error.to_string())
}

fn at(cluster: &Cluster, node: usize) -> Connection {
    connect(cluster.clients[node]).expect("the node is up")
}

/// A UUIDv7 of a time so many milliseconds from now.
fn id(offset_ms: i128, number: u32) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i128;
    let digits = format!("{:012x}70008000{number:012x}", now + offset_ms);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}

#[test]
fn a_session_goes_on_at_another_node() {
    let cluster = Cluster::start("sessions");
    let mut first = at(&cluster, 0);
    ask::<()>(&mut first, "CONSISTENCY causal").expect("a level");
    let mut last = String::new();
    for round in 0..50 {
        ask::<()>(&mut first, &format!("SET s {round}")).expect("a causal write");
        let token: String = ask(&mut first, "SESSION").expect("a token");
        assert_eq!(token.len(), 16, "{token}");
        assert!(token > last, "a token rises with what the session did: {last} then {token}");
        // Resumed elsewhere on a new connection, which has seen nothing of the session.
        let mut second = at(&cluster, 1 + round % 2);
        ask::<()>(&mut second, "CONSISTENCY causal").expect("a level");
        ask::<()>(&mut second, &format!("SESSION {token}")).expect("the token is good at every node");
        let after: String = ask(&mut second, "SESSION").expect("a token");
        assert!(after >= token, "a resumed session does not go back: {token} then {after}");
        assert_eq!(ask::<usize>(&mut second, "GET s"), Ok(round), "it sees its own write");
        ask::<()>(&mut second, &format!("SET t {round}")).expect("a causal write");
        // What the session writes at a slow clock's node still comes after what it saw.
        let token: String = ask(&mut second, "SESSION").expect("a token");
        ask::<()>(&mut first, &format!("SESSION {token}")).expect("the way back");
        assert_eq!(ask::<usize>(&mut first, "GET t"), Ok(round));
        last = token;
    }
    // An older token does not take a session back.
    ask::<()>(&mut first, "SESSION 0000000000000001").expect("an old token is a token");
    let kept: String = ask(&mut first, "SESSION").expect("a token");
    assert!(kept >= last, "{kept} is not below {last}");
}

#[test]
fn a_retry_under_an_id_gets_the_first_answer_wherever_it_comes() {
    let cluster = Cluster::start("idempotency");
    // (command, first answer): each is sent once more at every node, and must answer the same.
    let table: &[(&str, &str, &str)] = &[
        ("", "INCR once", "int(1)"),
        ("", "INCRBYFLOAT float 1.5", "bulk-string('\"1.5\"')"),
        ("", "APPEND tail abc", "int(3)"),
        ("", "SETRANGE range 1 x", "int(2)"),
        ("", "SET fresh v NX", "ok"),
        ("", "SET fresh w NX", "nil"),
        ("", "SETNX other v", "int(1)"),
        ("DEL gone", "CAS gone x y", "int(0)"),
        ("SET gone x", "CAS gone x y", "int(1)"),
        ("SET d v", "DEL d", "int(1)"),
        ("", "DEL absent", "int(0)"),
        ("MSET d1 1 d2 2", "DEL d1 d2 none", "int(2)"),
        ("", "MSET m1 1 m2 2", "ok"),
        ("SET g old", "GETDEL g", "bulk-string('\"old\"')"),
        ("SET g old", "GETSET g new", "bulk-string('\"old\"')"),
        ("SET e v", "EXPIRE e 1000", "int(1)"),
        ("", "EXPIRE none 1000", "int(0)"),
        ("SET e v EX 1000", "PERSIST e", "int(1)"),
        ("SET text abc", "INCR text", "value is not an integer"),
    ];
    let mut number = 0;
    for (before, line, expected) in table {
        if !before.is_empty() {
            ask::<Value>(&mut at(&cluster, 0), before).expect(before);
        }
        number += 1;
        let id = id(0, number);
        for node in [0, 1, 2, 0] {
            let answer = ask::<Value>(&mut at(&cluster, node), &format!("IDEMPOTENT {id} {line}"));
            let shown = answer.map_or_else(|error| error, |value| format!("{value:?}"));
            assert!(shown.contains(expected), "{line} at node {}: {shown}", node + 1);
            // What others do meanwhile does not change the answer of the retry.
            let key = line.split(' ').nth(1).expect("a key");
            if node == 1 {
                ask::<Value>(&mut at(&cluster, 0), &format!("SET {key} meanwhile")).expect("a write");
            }
        }
    }
    // The same id on another key is another operation: each key keeps its own answers.
    let id = id(0, 9_000);
    for key in ["x1", "x2"] {
        assert_eq!(ask::<i64>(&mut at(&cluster, 0), &format!("IDEMPOTENT {id} INCR {key}")), Ok(1));
    }
}

#[test]
fn an_id_too_old_is_in_doubt_and_one_too_far_ahead_is_refused() {
    let cluster = Cluster::start("old-ids");
    let mut connection = at(&cluster, 0);
    // C3: a causal write hides the past of its key, so whether this id was run before cannot be told.
    ask::<()>(&mut connection, "CONSISTENCY causal").expect("a level");
    ask::<()>(&mut connection, "SET n 5").expect("a write");
    ask::<()>(&mut connection, "CONSISTENCY strong").expect("a level");
    let old = ask::<i64>(&mut connection, &format!("IDEMPOTENT {} INCR n", id(-3_600_000, 1)));
    assert!(old.as_ref().is_err_and(|error| error.contains("TIMEOUT")), "{old:?}");
    assert_eq!(ask::<i64>(&mut connection, "GET n"), Ok(5), "in doubt it is not run");
    let ahead = ask::<i64>(&mut connection, &format!("IDEMPOTENT {} INCR n", id(60_000, 2)));
    assert!(ahead.as_ref().is_err_and(|error| error.contains("CLOCKSKEW")), "{ahead:?}");
    assert_eq!(ask::<i64>(&mut connection, &format!("IDEMPOTENT {} INCR n", id(0, 3))), Ok(6));
}
