//! The coordinator alone: calls go in, messages and events come out, and the test plays the replicas.

use super::*;
use crate::base::limits::MAX_DRIFT_MS;
use crate::base::{
    ClusterId, Config, Counters, Epoch, Expiry, Member, Now, Outcome, ShardId, WallTime, When,
};
use crate::rules::clock::Clock;
use crate::wire::{ForwardResult, Refusal};
use alloc::string::String;
use alloc::vec;

/// A coordinator at node 1 of a cluster, with what a step would give it.
struct Desk {
    coord: Coord,
    table: SlotTable,
    liveness: Liveness,
    clock: Clock,
    counters: Counters,
    requests: u64,
    now_ms: u64,
    sends: Vec<(Address, Message)>,
    events: Vec<CoordEvent>,
}

const WALL_MS: u64 = 1_000_000;

impl Desk {
    fn new(members: u16) -> Self {
        let member = |node| Member { node: NodeId(node), zone: String::new(), tokens: 150, shards: 1 };
        let members: Vec<Member> = (1..=members).map(member).collect();
        let config = Config { cluster: ClusterId(1), epoch: Epoch(1), members, replication: 3 };
        let table = SlotTable::new(&config);
        let ceiling = Hlc::from_ms(WALL_MS + 1_000_000);
        let found = Hlc::from_ms(WALL_MS - 1_000);
        Self {
            coord: Coord::new(address(1), Rng::new([7; 32], 0), Stamp::upto(found)),
            liveness: Liveness::new(NodeId(1), table.members(), Instant(0)),
            table,
            clock: Clock::start(NodeId(1), WallTime(WALL_MS), found, ceiling),
            counters: Counters::default(),
            requests: 0,
            now_ms: 0,
            sends: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A key whose replicas fulfil `wanted`.
    fn key(&self, wanted: impl Fn(&[NodeId]) -> bool) -> Bytes {
        let keys = (0_u32..100_000).map(|number| Bytes::from(alloc::format!("key{number}")));
        keys.into_iter().find(|key| wanted(self.replicas(key))).expect("some key is placed so")
    }

    fn replicas(&self, key: &Bytes) -> &[NodeId] {
        self.table.replicas(slot_of(key))
    }

    fn call<R>(&mut self, call: impl FnOnce(&mut Coord, &mut CoordCx<'_, '_>) -> R) -> R {
        let wall = WallTime(WALL_MS + self.now_ms);
        self.clock.tick(wall);
        let mut cx = Cx {
            now: Now { mono: Instant(0).plus_ms(self.now_ms), wall },
            clock: &mut self.clock,
            sends: &mut self.sends,
            counters: &mut self.counters,
            requests: &mut self.requests,
        };
        let (table, liveness) = (&self.table, &self.liveness);
        call(&mut self.coord, &mut CoordCx { cx: &mut cx, table, liveness, events: &mut self.events })
    }

    fn ask(&mut self, level: Level, key: &Bytes, op: KeyOp) -> Tag {
        let tag = Tag(self.requests + 1_000);
        let body = Body::Key { key: key.clone(), op };
        let request = Request { level, idempotency: None, session: Hlc(0), body };
        let deadline = Instant(0).plus_ms(self.now_ms + REQUEST_DEADLINE_MS);
        self.call(|coord, cx| coord.on_client(cx, tag, request, deadline));
        tag
    }

    fn answer(&mut self, from: NodeId, request: RequestId, answer: Answer) {
        self.call(|coord, cx| coord.on_answer(cx, address(from.0), request, answer));
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.call(Coord::on_timeout);
    }

    /// The messages sent since the last look.
    fn sent(&mut self) -> Vec<(NodeId, Message)> {
        self.sends.drain(..).map(|(to, message)| (to.node, message)).collect()
    }

    /// The queries sent since the last look: to whom, and whether only for the stamps.
    fn queries(&mut self) -> (RequestId, Vec<(NodeId, bool)>) {
        let mut id = RequestId(0);
        let mut asked = Vec::new();
        for (to, message) in self.sent() {
            if let Message::Query { request, digest, .. } = message {
                id = request;
                asked.push((to, digest));
            }
        }
        (id, asked)
    }

    fn reply(&mut self) -> Option<Result<Response, Failure>> {
        let replies = self.events.iter().filter_map(|event| match event {
            CoordEvent::Reply { reply, .. } => Some(reply.result.clone()),
            _ => None,
        });
        replies.last()
    }
}

fn address(node: u16) -> Address {
    Address { node: NodeId(node), shard: ShardId(0) }
}

fn record(ms: u64, value: &'static str) -> Record {
    let ballot = Stamp { hlc: Hlc::from_ms(WALL_MS - 1_000 + ms), node: NodeId(2) };
    Record { ballot, written: ballot, value: Some(Bytes::from_static(value.as_bytes())), ..Record::default() }
}

fn found(record: &Record) -> Answer {
    Answer::Found { ballot: record.ballot, record: Some(record.clone()) }
}

fn digest(record: &Record) -> Answer {
    Answer::Found { ballot: record.ballot, record: None }
}

fn set(value: &'static str) -> KeyOp {
    KeyOp::Set {
        value: Bytes::from_static(value.as_bytes()),
        expiry: Expiry::Clear,
        when: When::Always,
        want_old: false,
    }
}

fn value_of(reply: Option<Result<Response, Failure>>) -> Option<Bytes> {
    match reply {
        Some(Ok(Response::Value { value, .. })) => Some(value),
        _ => None,
    }
}

#[test]
fn a_read_goes_on_without_the_replica_that_reported_a_newer_ballot_and_fell_silent() {
    for level in [Level::Strong, Level::Causal] {
        let mut desk = Desk::new(3);
        let key = desk.key(|replicas| replicas.len() == 3);
        let (old, newer) = (record(1, "old"), record(2, "newer"));
        desk.ask(level, &key, KeyOp::Read);
        let (request, _) = desk.queries();
        desk.answer(NodeId(2), request, digest(&newer));
        desk.answer(NodeId(1), request, found(&old));
        let (request, asked) = desk.queries();
        assert_eq!(asked.len(), 3, "all are asked for the record: {asked:?}");
        desk.answer(NodeId(1), request, found(&old));
        desk.answer(NodeId(3), request, found(&old));
        assert_eq!(value_of(desk.reply()), Some(Bytes::from_static(b"old")), "{level:?}");
    }
}

#[test]
fn a_late_record_is_asked_for_elsewhere_and_one_in_time_is_not() {
    for late in [false, true] {
        let mut desk = Desk::new(5);
        let key = desk.key(|replicas| !replicas.contains(&NodeId(1)));
        let replicas = desk.replicas(&key).to_vec();
        let held = record(1, "held");
        desk.ask(Level::Strong, &key, KeyOp::Read);
        let (request, asked) = desk.queries();
        let body_from = asked.iter().find(|(_, digest)| !digest).expect("one is asked for the record").0;
        for node in replicas.iter().filter(|node| **node != body_from) {
            desk.answer(*node, request, digest(&held));
        }
        assert_eq!(desk.queries().1, [], "the record may still come");
        if late {
            desk.pass(25);
            let (request, asked) = desk.queries();
            assert_eq!(asked.len(), 3, "it is late: all are asked");
            assert!(asked.iter().all(|(_, digest)| !digest));
            for node in replicas.iter().filter(|node| **node != body_from) {
                desk.answer(*node, request, found(&held));
            }
        } else {
            desk.answer(body_from, request, found(&held));
        }
        assert_eq!(value_of(desk.reply()), Some(Bytes::from_static(b"held")));
        assert_eq!(desk.counters.value(Counter::ReadHedged), u64::from(late));
    }
}

#[test]
fn an_eventual_read_takes_the_first_answer_even_of_the_node_that_was_late() {
    for first_wins in [false, true] {
        let mut desk = Desk::new(5);
        let key = desk.key(|replicas| !replicas.contains(&NodeId(1)));
        let held = record(1, "held");
        desk.ask(Level::Eventual, &key, KeyOp::Read);
        let (request, asked) = desk.queries();
        let slow = asked[1].0;
        assert_eq!(asked[0].0, NodeId(1), "its own hints first");
        desk.answer(NodeId(1), request, Answer::Found { ballot: Stamp::ZERO, record: None });
        desk.pass(25);
        let (again, asked) = desk.queries();
        assert_eq!(again, request, "answers of both still count");
        assert_eq!(asked.len(), 1);
        assert_ne!(asked[0].0, slow);
        desk.answer(if first_wins { slow } else { asked[0].0 }, request, found(&held));
        assert_eq!(value_of(desk.reply()), Some(Bytes::from_static(b"held")));
    }
}

#[test]
fn that_a_fallback_node_has_no_hint_is_no_answer() {
    let mut desk = Desk::new(5);
    let key = desk.key(|replicas| replicas.contains(&NodeId(1)));
    let replicas = desk.replicas(&key).to_vec();
    let held = record(1, "held");
    desk.ask(Level::Eventual, &key, KeyOp::Read);
    let (request, mut asked) = desk.queries();
    while asked.iter().all(|(node, _)| replicas.contains(node)) {
        desk.pass(25);
        asked.extend(desk.queries().1);
    }
    let fallback = asked.last().expect("all replicas are slow").0;
    desk.answer(fallback, request, Answer::Found { ballot: Stamp::ZERO, record: None });
    assert!(desk.reply().is_none(), "{fallback} cannot know what the replicas hold");
    desk.answer(replicas[0], request, found(&held));
    assert_eq!(value_of(desk.reply()), Some(Bytes::from_static(b"held")));
}

#[test]
fn a_hint_counts_only_when_its_node_has_acknowledged_it() {
    let mut desk = Desk::new(5);
    let key = desk.key(|replicas| !replicas.contains(&NodeId(1)));
    let replicas = desk.replicas(&key).to_vec();
    // Two replicas are down: each has a fallback; one of these stays silent.
    desk.now_ms = 2_000;
    for node in [1, 2, 3, 4, 5].map(NodeId).iter().filter(|node| !replicas[1..].contains(node)) {
        desk.liveness.on_heard(*node, Instant(0).plus_ms(1_900));
    }
    desk.liveness.on_tick(Instant(0).plus_ms(2_000));
    desk.ask(Level::Eventual, &key, set("new"));
    let sent = desk.sent();
    let hints: Vec<(NodeId, NodeId, RequestId)> = sent
        .iter()
        .filter_map(|(to, message)| match message {
            Message::Hint { target, request, .. } => Some((*to, *target, *request)),
            _ => None,
        })
        .collect();
    assert_eq!(hints.len(), 2, "{sent:?}");
    let ((acked, covered, request), (_, lost, _)) = (hints[0], hints[1]);
    desk.answer(acked, request, Answer::Accepted { next_granted: false });
    assert!(matches!(desk.reply(), Some(Ok(Response::Mutated { .. }))));
    desk.answer(replicas[0], request, Answer::Accepted { next_granted: false });
    for _ in 0..4 {
        desk.pass(PHASE_MS);
    }
    let kept: Vec<NodeId> = desk
        .events
        .iter()
        .filter_map(|event| match event {
            CoordEvent::KeepHint { target, .. } => Some(*target),
            _ => None,
        })
        .collect();
    assert_eq!(kept, [lost], "the coordinator keeps what the silent fallback may have lost, not {covered}");
}

/// A forward from node 2 with an operation id of the given time; what comes back at once.
fn forward(desk: &mut Desk, key: &Bytes, op_ms: u64, number: u128, idempotent: bool) -> Vec<Message> {
    let op_id = OpId { stamp: Stamp { hlc: Hlc::from_ms(op_ms), node: NodeId(2) }, number };
    let op = set("forwarded");
    desk.call(|coord, cx| {
        coord.on_forward(cx, address(2), RequestId(50), key, op_id, idempotent, op, u32::MAX);
    });
    desk.sent().into_iter().map(|(_, message)| message).collect()
}

#[test]
fn a_forward_that_may_repeat_one_from_before_the_start_is_not_run() {
    let mut desk = Desk::new(3);
    let key = desk.key(|replicas| replicas[0] == NodeId(1) && replicas[1] == NodeId(2));
    let refused = Message::Answer { request: RequestId(50), answer: Answer::Refused(Refusal::TooOld) };
    assert_eq!(forward(&mut desk, &key, WALL_MS - 1_500, 1, false), [refused]);
    let run = forward(&mut desk, &key, WALL_MS - 1_500, 2, true);
    assert!(matches!(run[0], Message::Prepare { .. }), "a client's own id is never a first attempt: {run:?}");
    let other = desk.key(|replicas| replicas[0] == NodeId(1) && replicas[1] == NodeId(3));
    let run = forward(&mut desk, &other, WALL_MS - 500, 3, false);
    assert!(matches!(run[0], Message::Prepare { .. }), "certainly new: {run:?}");
    assert_eq!(forward(&mut desk, &other, WALL_MS - 500, 3, false), [], "a duplicate");
}

#[test]
fn a_forwarders_patience_is_bounded_like_everybodys() {
    let mut desk = Desk::new(3);
    let key = desk.key(|replicas| replicas[0] == NodeId(1));
    forward(&mut desk, &key, WALL_MS - 500, 1, false);
    let mut answered = Vec::new();
    for _ in 0..(REQUEST_DEADLINE_MS + 2 * MAX_DRIFT_MS) / PHASE_MS {
        desk.pass(PHASE_MS);
        answered.extend(desk.sent().into_iter().filter_map(|(_, message)| match message {
            Message::Answer { answer: Answer::Forwarded(result), .. } => Some(result),
            _ => None,
        }));
    }
    assert_eq!(answered, [ForwardResult::Done(Err(Failure::Unavailable))]);
    assert_eq!(desk.coord.forwarded, 0);
}

#[test]
fn forwarded_work_is_bounded() {
    let mut desk = Desk::new(3);
    let key = desk.key(|replicas| replicas[0] == NodeId(1));
    desk.coord.forwarded = OPERATIONS_MAX;
    let overloaded = ForwardResult::Done(Err(Failure::Overloaded));
    let answer = Answer::Forwarded(overloaded);
    let expected = Message::Answer { request: RequestId(50), answer };
    assert_eq!(forward(&mut desk, &key, WALL_MS - 500, 1, false), vec![expected]);
    assert_eq!(desk.coord.forwarded, OPERATIONS_MAX);
}

#[test]
fn where_a_majority_has_no_room_only_deletions_are_sent() {
    let mut desk = Desk::new(3);
    let key = desk.key(|replicas| replicas.len() == 3);
    let delete = KeyOp::Delete { when: When::Always, want_old: false };
    desk.liveness.set_full(NodeId(2), true);
    desk.ask(Level::Strong, &key, set("fits"));
    assert!(!desk.sent().is_empty(), "two have room");
    desk.liveness.set_full(NodeId(3), true);
    for level in [Level::Strong, Level::Causal] {
        desk.ask(level, &key, set("too much"));
        assert_eq!(desk.reply(), Some(Err(Failure::DiskFull)));
        assert_eq!(desk.sent(), [], "and so it is certain that nothing is applied");
    }
    let other = desk.key(|replicas| replicas.len() == 3 && replicas[0] == NodeId(1));
    desk.ask(Level::Causal, &other, delete);
    assert_eq!(desk.sent().len(), 3, "a deletion makes room");
    desk.ask(Level::Eventual, &other, set("one has room"));
    assert_eq!(desk.sent().len(), 3);
    desk.liveness.set_full(NodeId(1), true);
    desk.ask(Level::Eventual, &other, set("nobody has"));
    assert_eq!(desk.sent(), []);
    desk.liveness.set_full(NodeId(2), false);
    desk.ask(Level::Eventual, &other, set("one has room again"));
    assert_eq!(desk.sent().len(), 3);
    assert_eq!(desk.counters.value(Counter::EndedDiskFull), 3);
}

#[test]
fn a_settled_coordinator_needs_one_round_trip() {
    let mut desk = Desk::new(3);
    let key = desk.key(|replicas| replicas[0] == NodeId(1));
    desk.ask(Level::Strong, &key, KeyOp::Add(1));
    let prepared = desk.sent();
    let Message::Prepare { request, ballot, .. } = prepared[0].1 else {
        panic!("C1 comes first: {prepared:?}");
    };
    for node in [NodeId(1), NodeId(2)] {
        desk.answer(node, request, Answer::Promise { ballot, accepted: None });
    }
    for expected in [1, 2, 3] {
        let sent = desk.sent();
        let Message::Accept { request, .. } = sent[0].1 else {
            panic!("C5: {sent:?}");
        };
        for node in [NodeId(1), NodeId(3)] {
            desk.answer(node, request, Answer::Accepted { next_granted: true });
        }
        let outcome = Outcome::Integer(expected);
        assert!(
            matches!(desk.reply(), Some(Ok(Response::Mutated { outcome: is, .. })) if is == outcome),
            "after {expected}"
        );
        desk.ask(Level::Strong, &key, KeyOp::Add(1));
    }
}

/// The version that each client was answered, in order.
fn versions(desk: &mut Desk) -> Vec<Stamp> {
    let answered = desk.events.drain(..).filter_map(|event| match event {
        CoordEvent::Reply { reply: Reply { result: Ok(mut response), .. }, .. } => {
            response.version_mut().copied()
        }
        _ => None,
    });
    answered.collect()
}

#[test]
fn what_is_overwritten_in_its_own_round_has_a_version_that_no_record_has() {
    let mut desk = Desk::new(3);
    let key = desk.key(|replicas| replicas[0] == NodeId(1));
    desk.ask(Level::Strong, &key, set("first"));
    let prepared = desk.sent();
    let Message::Prepare { request, ballot, .. } = prepared[0].1 else { panic!("C1: {prepared:?}") };
    for value in ["second", "third", "fourth"] {
        desk.ask(Level::Strong, &key, set(value));
    }
    for node in [NodeId(1), NodeId(2)] {
        desk.answer(node, request, Answer::Promise { ballot, accepted: None });
    }
    let accept = |desk: &mut Desk| {
        let sent = desk.sent();
        let Message::Accept { request, record, .. } = sent[0].1.clone() else { panic!("C5: {sent:?}") };
        for node in [NodeId(1), NodeId(2)] {
            desk.answer(node, request, Answer::Accepted { next_granted: true });
        }
        record
    };
    let first = accept(&mut desk);
    assert_eq!(versions(&mut desk), [first.written]);
    let last = accept(&mut desk);
    let combined = versions(&mut desk);
    assert_eq!(combined, [last.written.overwritten(), last.written.overwritten(), last.written]);
    assert!(combined[0] > first.written, "versions rise");
    assert_eq!(desk.counters.value(Counter::AnswerOverwritten), 2);
    // A retry is answered the same.
    let retried: Vec<Stamp> = {
        let draft = crate::rules::register::Draft::new(Some(&last), last.ballot, 0);
        last.recent.iter().map(|applied| draft.version_of(applied)).collect()
    };
    assert_eq!(retried[1..], combined);
    // Whoever wrote "second" must not take "fourth" for it.
    for (version, applied) in [(combined[0], false), (combined[2], true)] {
        let when = When::Version(version);
        desk.ask(
            Level::Strong,
            &key,
            KeyOp::Set { value: "fifth".into(), expiry: Expiry::Clear, when, want_old: false },
        );
        accept(&mut desk);
        let reply = desk.reply();
        let is_told = |outcome: &Outcome| *outcome == Outcome::Changed { applied, old: None };
        assert!(
            matches!(&reply, Some(Ok(Response::Mutated { outcome, .. })) if is_told(outcome)),
            "{reply:?}"
        );
    }
}
