//! What is asked of many keys at once: one frame to each node and batch, and an answer for each key.

use super::machine::{Cluster, DELETE, LEVELS, set};
use bytes::Bytes;
use samara_core::base::{Body, Failure, Hlc, KeyOp, Level, Request, Response};
use samara_core::io::{Input, Tag};
use samara_core::wire::codec::FRAME_MESSAGES_MAX;
use samara_core::wire::{Envelope, Frames, decode};
use std::collections::BTreeMap;

/// Keys of a command.
const KEYS: usize = 1_000;

/// What went over the links.
#[derive(Debug, Default)]
struct Traffic {
    /// Frames from one node to another.
    frames: BTreeMap<(usize, usize), usize>,
    messages: usize,
    /// How often messages were exchanged until all was answered.
    rounds: usize,
}

impl Cluster {
    /// Asks one operation each of many keys in one batch, as a host hands them over.
    fn ask_all(&mut self, node: usize, level: Level, ops: Vec<(Bytes, KeyOp)>) -> Vec<Tag> {
        let deadline = self.now().mono.plus_ms(5_000);
        let mut tags = Vec::new();
        for (key, op) in ops {
            self.tags += 1;
            let tag = Tag(self.tags);
            let body = Body::Key { key, op };
            let request = Request { level, session: Hlc(0), idempotency: None, body };
            self.step(node, Input::Client { tag, request, deadline });
            tags.push(tag);
        }
        tags
    }

    /// Exchanges frames until nobody has anything to say: in each round every node works off what has come, and then what it
    /// has to say goes out, as in the driver of a shard.
    fn exchange(&mut self) -> Traffic {
        let mut traffic = Traffic::default();
        while !self.mail.is_empty() {
            traffic.rounds += 1;
            let mut links: BTreeMap<(usize, usize), Frames> = BTreeMap::new();
            for (to, envelope) in self.mail.drain(..) {
                let from = usize::from(envelope.from.node.0) - 1;
                links.entry((from, to)).or_default().push(&envelope);
                traffic.messages += 1;
            }
            for ((from, to), mut frames) in links {
                let (bytes, mut at) = (frames.finish(), 0);
                while at < bytes.len() {
                    let mut came: Vec<Envelope> = Vec::new();
                    at += decode(&bytes[at..], &mut came).expect("our own frame").expect("a whole one");
                    *traffic.frames.entry((from, to)).or_default() += 1;
                    for envelope in came {
                        self.step(to, Input::Message(envelope));
                    }
                }
            }
        }
        traffic
    }
}

fn keys() -> impl Iterator<Item = Bytes> {
    (0..KEYS).map(|number| Bytes::from(format!("key{number}")))
}

/// A table of operations on many keys, at every level, from every node.
#[test]
fn many_keys_travel_in_one_frame_to_each_node_and_batch() {
    const { assert!(KEYS <= FRAME_MESSAGES_MAX, "they fit into a frame") };
    let mut cluster = Cluster::start(3);
    // Room for the promises of all keys, as in a node that is not made small for a test.
    cluster.options.iter_mut().for_each(|options| options.promises_max = 4 * KEYS);
    (0..3).for_each(|node| cluster.boot(node));
    cluster.run_ms(1_000);
    cluster.mail.clear();
    for (node, level) in LEVELS.into_iter().enumerate() {
        for (name, op) in [("MSET", set("v")), ("MGET", KeyOp::Read), ("DEL", DELETE)] {
            let tags = cluster.ask_all(node, level, keys().map(|key| (key, op.clone())).collect());
            let traffic = cluster.exchange();
            for (link, frames) in &traffic.frames {
                let what = format!("{name} at {level:?}: {frames} frames over {link:?} in {traffic:?}");
                assert!(*frames <= traffic.rounds, "{what}");
            }
            // A strong write has at most a forward, a prepare, an accept, and the answer of each.
            assert!(traffic.rounds <= 6, "{name} at {level:?}: {traffic:?}");
            // An eventual read asks others only now and then, to repair them.
            assert!(traffic.messages >= KEYS / 4, "{name} at {level:?}: {traffic:?}");
            for tag in tags {
                let reply =
                    cluster.replies.remove(&tag).unwrap_or_else(|| panic!("{name} at {level:?}: no answer"));
                match (name, reply.result) {
                    ("MGET", Ok(Response::Value { value, .. })) => assert_eq!(value, "v"),
                    ("MSET" | "DEL", Ok(Response::Mutated { .. })) => {}
                    (_, other) => panic!("{name} at {level:?}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn keys_whose_replicas_are_away_fail_alone() {
    let mut cluster = Cluster::start(6);
    cluster.run_ms(50);
    let tags = cluster.ask_all(0, Level::Strong, keys().map(|key| (key, set("v"))).collect());
    cluster.run_ms(500);
    assert!(tags.iter().all(|tag| cluster.replies.remove(tag).is_some_and(|reply| reply.result.is_ok())));
    let holds = |node: &usize, key: &Bytes| cluster.node(*node).is_replica_of(key);
    let away: Vec<bool> = keys().map(|key| [4, 5].iter().all(|node| holds(node, &key))).collect();
    (cluster.nodes[4], cluster.nodes[5]) = (None, None);
    // Until they are missed.
    cluster.run_ms(2_000);
    let (lost, kept) =
        (away.iter().filter(|away| **away).count(), away.iter().filter(|away| !**away).count());
    assert!(lost > 50 && kept > 50, "{lost} keys have lost their majority, {kept} have not");
    for (name, op) in [("MGET", KeyOp::Read), ("MSET", set("w")), ("DEL", DELETE)] {
        let tags = cluster.ask_all(0, Level::Strong, keys().map(|key| (key, op.clone())).collect());
        cluster.run_ms(5_500);
        for (tag, away) in tags.iter().zip(&away) {
            let result = cluster.replies.remove(tag).expect("all are answered").result;
            match (away, result) {
                (true, Err(Failure::Unavailable)) | (false, Ok(_)) => {}
                (away, other) => panic!("{name}: {other:?} where the majority is away: {away}"),
            }
        }
    }
}
