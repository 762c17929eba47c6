//! What the smallest whole cluster has to do: the simulator breaks it; here it only has to work.

use super::machine::{Cluster, DELETE, LEVELS, set};
use bytes::Bytes;
use samara_core::base::limits::OPERATIONS_MAX;
use samara_core::base::{
    Body, Counter, Failure, Hlc, KeyOp, Level, NodeId, Outcome, Record, Request, RequestId, Response, Slot,
    Stamp, Wanted, When,
};
use samara_core::io::{Input, Tag};
use samara_core::node::Node;
use samara_core::wire::{Answer, Message, Refusal};

#[test]
fn any_node_answers_any_key_at_every_level() {
    let mut cluster = Cluster::start(5);
    cluster.run_ms(50);
    for (i, level) in LEVELS.into_iter().enumerate() {
        for key in ["a", "b", "c", "d", "e", "f"] {
            let value = format!("{key}{i}");
            cluster.ask(i, level, key, set(value.clone())).expect("a write");
            cluster.run_ms(2_000);
            for node in 0..5 {
                for level in LEVELS {
                    let read = cluster.read(node, level, key);
                    assert_eq!(read, Ok(Some(Bytes::from(value.clone()))), "{key} at node {node}, {level:?}");
                }
            }
        }
    }
}

#[test]
fn increments_from_all_nodes_add_up() {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(50);
    for i in 1..=60 {
        let response = cluster.ask(i % 3, Level::Strong, "n", KeyOp::Add(1)).expect("an increment");
        let Response::Mutated { outcome, .. } = response else { panic!("{response:?}") };
        assert_eq!(outcome, Outcome::Integer(i as i64));
    }
}

#[test]
fn a_majority_serves_strong_operations_and_one_node_only_eventual_ones() {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(50);
    cluster.ask(0, Level::Strong, "k", set("1")).expect("all are up");
    cluster.nodes[0] = None;
    cluster.ask(1, Level::Strong, "k", set("2")).expect("two of three");
    assert_eq!(cluster.read(2, Level::Strong, "k"), Ok(Some("2".into())));
    cluster.nodes[1] = None;
    assert_eq!(cluster.read(2, Level::Strong, "k"), Err(Failure::Unavailable));
    cluster.run_ms(2_000);
    assert_eq!(cluster.ask(2, Level::Strong, "k", set("3")), Err(Failure::Unavailable));
    cluster.ask(2, Level::Eventual, "j", set("4")).expect("an eventual write needs one copy");
    assert_eq!(cluster.read(2, Level::Eventual, "j"), Ok(Some("4".into())));
}

#[test]
fn everything_acknowledged_survives_the_restart_of_all() {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(50);
    for i in 0..300 {
        let key = format!("key{i}");
        cluster.ask(i % 3, Level::Strong, &key, set(format!("value {i}"))).expect("a write");
    }
    cluster.nodes = vec![None, None, None];
    cluster.mail.clear();
    cluster.run_ms(10);
    (0..3).for_each(|node| cluster.boot(node));
    cluster.run_ms(500);
    for i in 0..300 {
        let read = cluster.read(i % 3, Level::Strong, &format!("key{i}"));
        assert_eq!(read, Ok(Some(Bytes::from(format!("value {i}")))));
    }
    let flushed: u64 = cluster
        .nodes
        .iter()
        .flatten()
        .map(|node| {
            node.counters()
                .iter()
                .filter(|(name, _)| *name == "disk_reads")
                .map(|(_, count)| count)
                .sum::<u64>()
        })
        .sum();
    assert!(flushed > 0, "the memtable is small enough for tables to be read");
}

#[test]
fn a_hint_reaches_the_replica_that_was_down() {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(50);
    cluster.nodes[2] = None;
    cluster.run_ms(2_000);
    for level in LEVELS {
        cluster.ask(0, level, &format!("{level:?}"), set("x")).expect("two of three are up");
    }
    cluster.run_ms(2_000);
    let hints =
        |cluster: &Cluster| -> usize { cluster.nodes.iter().flatten().map(|node| node.probe().hints).sum() };
    assert!(hints(&cluster) >= 3, "{} hints", hints(&cluster));
    cluster.boot(2);
    cluster.run_ms(5_000);
    assert_eq!(hints(&cluster), 0);
    cluster.nodes[0] = None;
    cluster.nodes[1] = None;
    for level in LEVELS {
        assert_eq!(cluster.read(2, Level::Eventual, &format!("{level:?}")), Ok(Some("x".into())));
    }
}

#[test]
fn a_scan_pages_through_all_live_keys_once() {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(50);
    for i in 0..250 {
        cluster.ask(0, Level::Strong, &format!("k{i}"), set("v")).expect("a write");
    }
    cluster
        .ask(0, Level::Strong, "k7", KeyOp::Delete { when: When::Always, want_old: false })
        .expect("a delete");
    let mut found = Vec::new();
    let mut next = Some((Slot(0), None));
    while let Some((slot, after)) = next {
        let body = Body::Scan { slot, after, limit: 40, wanted: Wanted::default() };
        let request = Request { level: Level::Strong, session: Hlc(0), idempotency: None, body };
        let Ok(Response::Page(page)) = cluster.request(1, request) else { panic!("a page") };
        found.extend(page.entries.into_iter().map(|entry| entry.key));
        next = page.next;
    }
    found.sort();
    let before = found.len();
    found.dedup();
    assert_eq!((before, found.len()), (249, 249));
}

/// All pages of a walk.
fn walk(cluster: &mut Cluster, from: Slot, limit: u32, wanted: &Wanted) -> Vec<(Slot, String, Bytes)> {
    let (mut found, mut next) = (Vec::new(), Some((from, None)));
    while let Some((slot, after)) = next {
        let body = Body::Scan { slot, after, limit, wanted: wanted.clone() };
        let request = Request { level: Level::Strong, session: Hlc(0), idempotency: None, body };
        let Ok(Response::Page(page)) = cluster.request(1, request) else { panic!("a page") };
        assert!(page.entries.len() <= limit as usize);
        let shown = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
        found.extend(page.entries.into_iter().map(|entry| (entry.slot, shown(&entry.key), entry.value)));
        next = page.next;
    }
    found
}

#[test]
fn a_range_is_walked_in_either_order_with_pages_of_any_size() {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(50);
    // Many slots with a few keys, and one slot with many.
    let keys: Vec<String> =
        (0..60).map(|i| format!("k{i:02}")).chain((0..80).map(|i| format!("{{t}}{i:02}"))).collect();
    for key in &keys {
        cluster.ask(0, Level::Strong, key, set(key.clone())).expect("a write");
    }
    cluster
        .ask(0, Level::Strong, "k20", KeyOp::Delete { when: When::Always, want_old: false })
        .expect("a delete");
    let live: Vec<&String> = keys.iter().filter(|key| *key != "k20").collect();
    let tag = samara_core::rules::slots::slot_of(b"{t}");
    let table = [
        ("", None, false),
        ("k", None, false),
        ("k1", Some("k3"), false),
        ("", Some("k05"), false),
        ("{t}", Some("{t}~"), true),
        ("{t}30", Some("{t}50"), true),
        ("{t}30", Some("{t}50"), false),
        ("x", Some("y"), false),
        ("k3", Some("k1"), false),
    ];
    for (low, high, one_slot) in table {
        let mut expected: Vec<&String> = live.clone();
        expected.retain(|key| key.as_str() >= low && high.is_none_or(|high| key.as_str() < high));
        expected.sort();
        for (reverse, limit) in [(false, 1), (false, 7), (false, 1000), (true, 1), (true, 7), (true, 1000)] {
            let high = high.map(Bytes::from);
            let wanted = Wanted { low: low.into(), high, reverse, one_slot, values: true, dead: false };
            let from = match (one_slot, reverse) {
                (true, _) => tag,
                (false, true) => Slot(Slot::COUNT - 1),
                (false, false) => Slot(0),
            };
            let found = walk(&mut cluster, from, limit, &wanted);
            let place = |found: &(Slot, String, Bytes)| (found.0, found.1.clone());
            let ordered = found.is_sorted_by(|a, b| (place(a) < place(b)) != reverse);
            assert!(ordered, "{wanted:?} in pages of {limit}");
            assert!(
                found.iter().all(|(_, key, value)| key.as_bytes() == &value[..]),
                "values are those of the keys"
            );
            let mut keys: Vec<&String> = found.iter().map(|(_, key, _)| key).collect();
            keys.sort();
            assert_eq!(keys, expected, "{wanted:?} in pages of {limit}");
        }
    }
    let wanted = Wanted { dead: true, ..Wanted::default() };
    let found = walk(&mut cluster, Slot(0), 50, &wanted);
    assert!(found.iter().any(|(_, key, _)| key == "k20"), "what is deleted is listed where it is wanted");
    assert!(found.iter().all(|(_, _, value)| value.is_empty()), "no values where none are wanted");
}

#[test]
fn an_operation_too_many_is_refused() {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(50);
    let ask = |cluster: &mut Cluster, number: usize| {
        let body = Body::Key { key: Bytes::from(format!("k{number}")), op: KeyOp::Read };
        let request = Request { level: Level::Strong, session: Hlc(0), idempotency: None, body };
        let deadline = cluster.now().mono.plus_ms(1_000);
        cluster.step(0, Input::Client { tag: Tag(number as u64), request, deadline });
    };
    // Nothing is delivered meanwhile: all of them wait.
    (0..OPERATIONS_MAX).for_each(|number| ask(&mut cluster, number));
    assert!(cluster.replies.is_empty());
    ask(&mut cluster, OPERATIONS_MAX);
    let reply = cluster.replies.remove(&Tag(OPERATIONS_MAX as u64)).expect("it is answered at once");
    assert_eq!(reply.result, Err(Failure::Overloaded));
}

#[test]
fn a_full_disk_acknowledges_no_write_and_still_reads() {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(50);
    cluster.ask(0, Level::Strong, "first", set("v")).expect("a write");
    cluster.disks.iter_mut().for_each(|disk| disk.1 = true);
    let value = vec![b'x'; 3_000];
    let mut write = |i: u32| cluster.ask(0, Level::Strong, &format!("k{i}"), set(value.clone()));
    let first = (0..500).find_map(|i| write(i).err());
    // An accept that a full replica has refused may be taken when it comes twice: nothing is certain of it.
    assert_eq!(first, Some(Failure::Timeout));
    assert_eq!(cluster.read(1, Level::Strong, "first"), Ok(Some(Bytes::from_static(b"v"))));
    cluster.disks.iter_mut().for_each(|disk| disk.1 = false);
    cluster.run_ms(5_000);
    cluster.ask(0, Level::Strong, "again", set("w")).expect("there is room again");
}

/// A tombstone of this stamp.
fn tombstone(stamp: Stamp) -> Record {
    Record { ballot: stamp, written: stamp, ..Record::default() }
}

#[test]
fn g1_a_deletion_is_collected_and_stays_so_after_a_restart() {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(50);
    cluster.ask(0, Level::Strong, "k", set("v")).expect("a write");
    cluster.ask(1, Level::Strong, "k", DELETE).expect("a deletion");
    cluster.run_ms(6_000);
    assert_eq!(cluster.watermarks("k"), [Stamp::ZERO; 3], "a request could still be on its way");
    cluster.run_ms(14_000);
    let raised = cluster.watermarks("k");
    assert!(raised[0] > Stamp::ZERO && raised.iter().all(|other| *other == raised[0]), "{raised:?}");
    assert_eq!((0..3).map(|at| cluster.node(at).probe().garbage).sum::<usize>(), 0);
    for node in 0..3 {
        cluster.nodes[node] = None;
        cluster.boot(node);
        cluster.run_ms(1_000);
        assert_eq!(cluster.watermarks("k"), raised);
        let seen = cluster.ask(node, Level::Strong, "k", KeyOp::Read);
        assert_eq!(seen, Ok(Response::Absent { version: raised[0] }), "the watermark stands for what was");
    }
    cluster.ask(2, Level::Causal, "k", set("w")).expect("a write over what was collected");
    assert_eq!(cluster.read(0, Level::Strong, "k"), Ok(Some("w".into())));
    let begun = cluster.counted(Counter::WatermarkBegun);
    cluster.run_ms(60_000);
    assert_eq!(cluster.counted(Counter::WatermarkBegun), begun, "without garbage there is no round");
}

#[test]
fn g3_a_member_that_is_down_holds_the_watermark_back() {
    let mut cluster = Cluster::start(4);
    cluster.run_ms(50);
    let key = Bytes::from_static(b"k");
    let outsider = (0..4).find(|at| !cluster.node(*at).is_replica_of(&key)).expect("one of four");
    cluster.nodes[outsider] = None;
    cluster.run_ms(1_500);
    let other = (outsider + 1) % 4;
    cluster.ask(other, Level::Causal, "k", DELETE).expect("a deletion");
    cluster.run_ms(30_000);
    assert_eq!(cluster.watermarks("k"), [Stamp::ZERO; 3], "it may hold a hint");
    let held: Vec<_> =
        cluster.nodes.iter().flatten().map(Node::held_back).filter(|held| held.records > 0).collect();
    assert_eq!(held.len(), 1, "the slot has one driver");
    assert_eq!((held[0].records, held[0].by), (1, Some(NodeId(outsider as u16 + 1))));
    assert!(held[0].oldest_ms >= 29_000, "{held:?}");
    cluster.boot(outsider);
    cluster.run_ms(15_000);
    assert!(cluster.watermarks("k").iter().all(|raised| *raised > Stamp::ZERO));
}

#[test]
fn g2_what_comes_late_brings_nothing_back() {
    let mut cluster = Cluster::start(4);
    cluster.run_ms(50);
    let key = Bytes::from_static(b"k");
    let Ok(Response::Mutated { version, .. }) = cluster.ask(0, Level::Strong, "k", set("v")) else {
        panic!("a write");
    };
    cluster.ask(0, Level::Strong, "k", DELETE).expect("a deletion");
    cluster.run_ms(20_000);
    let raised = cluster.watermarks("k")[0];
    assert!(raised > version);
    let old = Record { value: Some("v".into()), ..tombstone(version) };
    for to in 0..4 {
        let (from, request) = ((to + 1) % 4, RequestId(77));
        let (key, record) = (key.clone(), old.clone());
        if cluster.node(to).is_replica_of(&key) {
            let body = Message::Repair { request, key: key.clone(), record: record.clone(), chosen: true };
            assert_eq!(cluster.deliver(from, to, body), [Answer::Refused(Refusal::BelowWatermark(raised))]);
            let body = Message::Weak { request, key: key.clone(), record: record.clone() };
            assert_eq!(cluster.deliver(from, to, body), [Answer::Refused(Refusal::TooOld)]);
        } else {
            let body = Message::Hint { request, target: NodeId(1), key, record };
            assert_eq!(cluster.deliver(from, to, body), [Answer::Refused(Refusal::TooOld)]);
            assert_eq!(cluster.node(to).probe().hints, 0);
            assert_eq!(cluster.node(to).counters().value(Counter::HintRefusedClosed), 1);
        }
    }
    for level in LEVELS {
        assert_eq!(cluster.read(0, level, "k"), Ok(None));
    }
}

#[test]
fn g1_replicas_that_differ_are_made_alike_before_anything_is_dropped() {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(50);
    let key = Bytes::from_static(b"k");
    cluster.ask(0, Level::Causal, "k", set("v")).expect("a write");
    cluster.run_ms(1_000);
    let hlc = cluster.node(1).probe().hlc;
    let record = tombstone(Stamp { hlc, node: NodeId(2) });
    let body = Message::Weak { request: RequestId(77), key, record };
    assert_eq!(cluster.deliver(1, 2, body), [Answer::Accepted { next_granted: false }]);
    cluster.run_ms(30_000);
    assert_eq!(cluster.counted(Counter::WatermarkRepaired), 1);
    assert!(cluster.watermarks("k").iter().all(|raised| *raised > Stamp::ZERO));
    for node in 0..3 {
        assert_eq!(cluster.read(node, Level::Eventual, "k"), Ok(None), "the deletion came to all");
    }
}
