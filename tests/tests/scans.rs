//! Walks over the key space of real nodes: SCAN goes on at another node when its node is killed.

mod support;

use redis::Connection;
use std::collections::BTreeMap;
use support::{Cluster, connect, open, served};

fn set_all(connection: &mut Connection, keys: &[String]) {
    for chunk in keys.chunks(200) {
        let mut pipe = redis::pipe();
        for key in chunk {
            pipe.cmd("SET").arg(key).arg("v").ignore();
        }
        pipe.query::<()>(connection).expect("all are set");
    }
}

fn page(connection: &mut Connection, cursor: u64, options: &[&str]) -> Option<(u64, Vec<String>)> {
    redis::cmd("SCAN").arg(cursor).arg(options).query(connection).ok()
}

/// All keys of a walk, with how often each came, and the number of pages.
fn walk(connection: &mut Connection, options: &[&str], most: usize) -> (BTreeMap<String, u32>, usize) {
    let (mut cursor, mut found, mut pages) = (0, BTreeMap::new(), 0);
    loop {
        let (next, keys) = page(connection, cursor, options).expect("a page");
        assert!(keys.len() <= most, "{} keys in one page of {options:?}", keys.len());
        for key in keys {
            *found.entry(key).or_insert(0) += 1;
        }
        (cursor, pages) = (next, pages + 1);
        if cursor == 0 {
            return (found, pages);
        }
    }
}

/// Keys of many slots, and many keys of one.
fn keys() -> Vec<String> {
    (0..1_500).map(|i| format!("k:{i}")).chain((0..1_500).map(|i| format!("{{tag}}:{i:04}"))).collect()
}

#[test]
fn a_scan_goes_on_at_another_node_when_its_node_is_killed() {
    let mut cluster = Cluster::start("scans");
    let keys = keys();
    set_all(&mut connect(cluster.clients[0]).expect("node 1 is up"), &keys);
    // Keys that come and go meanwhile are no matter of the promise; these are deleted under the cursor.
    let gone: Vec<String> = (0..200).map(|i| format!("{{tag}}:{i:04}:gone")).collect();
    set_all(&mut connect(cluster.clients[0]).expect("node 1 is up"), &gone);
    let (mut cursor, mut found): (u64, BTreeMap<String, u32>) = (0, BTreeMap::new());
    let (mut node, mut connection) = (0, connect(cluster.clients[0]).expect("node 1 is up"));
    for turn in 0.. {
        if turn == 40 {
            cluster.kill(0);
        }
        if let Some((next, keys)) = page(&mut connection, cursor, &["COUNT", "30"]) {
            for key in keys {
                *found.entry(key).or_insert(0) += 1;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        } else {
            // The client goes on elsewhere with the cursor that it has.
            node = 1 + node % 2;
            connection = connect(cluster.clients[node]).expect("another node is up");
        }
        if turn % 7 == 0
            && let Some(key) = gone.get(turn / 7)
        {
            served("a delete", || redis::cmd("DEL").arg(key).query::<i64>(&mut open(cluster.clients[2])?));
        }
    }
    for key in &keys {
        assert_eq!(found.get(key), Some(&1), "{key}: present throughout, so it comes exactly once");
    }
}

#[test]
fn count_bounds_the_work_and_a_prefix_saves_it() {
    let cluster = Cluster::start("scan-work");
    let mut connection = connect(cluster.clients[1]).expect("node 2 is up");
    let keys = keys();
    set_all(&mut connection, &keys);
    let (found, pages) = walk(&mut connection, &["COUNT", "50"], 50);
    assert_eq!(found.len(), keys.len());
    assert!(found.values().all(|count| *count == 1));
    assert!((60..=62).contains(&pages), "3000 keys in pages of 50: {pages}");
    // COUNT counts what is looked at, not what matches.
    let (found, pages) = walk(&mut connection, &["COUNT", "50", "MATCH", "*:7"], 50);
    assert_eq!((found.len(), pages >= 60), (1, true), "{pages} pages");
    // A whole hash tag in the prefix names the one slot.
    let (found, pages) = walk(&mut connection, &["COUNT", "50", "MATCH", "{tag}:00*"], 50);
    assert_eq!((found.len(), pages <= 4), (100, true), "{pages} pages");
    let (found, pages) = walk(&mut connection, &["COUNT", "50", "MATCH", "{tag}:149?"], 50);
    assert_eq!((found.len(), pages <= 2), (10, true), "{pages} pages");
    // Without one, the walk passes over the many keys of a slot that begin otherwise.
    let (found, pages) = walk(&mut connection, &["COUNT", "50", "MATCH", "k:*"], 50);
    assert_eq!((found.len(), pages <= 33), (1_500, true), "{pages} pages");
    let (found, _) = walk(&mut connection, &["COUNT", "1000", "TYPE", "list"], 0);
    assert!(found.is_empty());
    // A cursor of no place is the end, as in Valkey.
    assert_eq!(page(&mut connection, u64::MAX, &[]), Some((0, Vec::new())));
    // A cursor whose key this node has never seen: the slot is walked from its beginning.
    let slot: u64 = redis::cmd("CLUSTER").arg("KEYSLOT").arg("{tag}").query(&mut connection).expect("a slot");
    let (_, keys) = page(&mut connection, (slot << 39) | 0x3039, &["COUNT", "10"]).expect("a page");
    assert_eq!(keys.first().map(String::as_str), Some("{tag}:0000"));
}

fn range(port: u16, arguments: &[&str]) -> Vec<String> {
    served("a range", || redis::cmd("RANGE").arg(arguments).query(&mut open(port)?))
}

#[test]
fn a_range_is_in_order_over_the_whole_cluster_and_goes_on_without_a_node() {
    let mut cluster = Cluster::start("ranges");
    let port = cluster.clients[0];
    set_all(&mut connect(port).expect("node 1 is up"), &keys());
    let mut sorted = keys();
    sorted.sort();
    cluster.kill(2);
    let all = range(port, &["-", "+", "LIMIT", "5000"]);
    assert_eq!(all, sorted);
    sorted.reverse();
    assert_eq!(range(port, &["-", "+", "REV", "LIMIT", "5000"]), sorted);
    sorted.reverse();
    let between = |low: &str, high: &str| -> Vec<String> {
        sorted.iter().filter(|key| key.as_str() >= low && key.as_str() < high).cloned().collect()
    };
    // A part of all slots, and a part of one.
    let part = between("k:1", "k:2");
    assert_eq!(range(port, &["[k:1", "(k:2", "LIMIT", "10"]), part[..10]);
    let last: Vec<String> = part.iter().rev().take(10).cloned().collect();
    assert_eq!(range(port, &["[k:1", "(k:2", "REV", "LIMIT", "10"]), last);
    let part = between("{tag}:0100", "{tag}:0200");
    assert_eq!(range(port, &["[{tag}:0100", "({tag}:0200"]), part);
    assert_eq!(range(port, &["({tag}:0100", "[{tag}:0101"]), ["{tag}:0101"]);
    assert_eq!(range(port, &["[k:7", "[k:7", "VALUES"]), ["k:7", "v"]);
    // In pieces, each from behind the one before.
    let (mut found, mut from) = (Vec::new(), "-".to_string());
    loop {
        let piece = range(port, &[&from, "+", "LIMIT", "700"]);
        let Some(last) = piece.last() else { break };
        from = format!("({last}");
        found.extend(piece);
    }
    assert_eq!(found, sorted);
    let refused = |arguments: &[&str]| {
        let mut other = connect(cluster.clients[1]).expect("node 2 is up");
        redis::cmd("RANGE").arg(arguments).query::<Vec<String>>(&mut other).expect_err("refused").to_string()
    };
    assert!(refused(&["a", "+"]).contains("a bound of RANGE"));
    assert!(refused(&["-", "+", "LIMIT", "0"]).contains("LIMIT is from 1"));
    assert!(refused(&["-", "+", "BAD"]).contains("syntax error"));
}
