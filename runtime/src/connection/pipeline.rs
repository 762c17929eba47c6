//! The requests of one connection on their way to the shards and back. They run side by side as far as program order allows:
//! operations on one key keep their order, a causal session is strictly in order, and answers are written in the order of
//! the requests.

use crate::commands::{KeyRequest, Many};
use crate::inbox::{Asked, Outlet, Shard};
use crate::reply::{self, Shape};
use crate::resp::Value;
use crate::stats::{Operation, Stats};
use bytes::Bytes;
use samara_core::base::{Body, Failure, Hlc, KeyOp, Level, Outcome, Reply, Request, Response, When};
use samara_core::rules::slots::slot_of;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Operations of one connection in flight.
const IN_FLIGHT_MAX: usize = 1024;
/// Bytes of requests in flight in the whole process; more are answered OVERLOADED.
const REQUEST_BYTES_MAX: u64 = 1 << 30;

/// A command whose answer has not been written.
#[derive(Debug)]
struct Pending {
    /// The RESP version it is answered in; 0: the client wants no answer.
    version: u8,
    /// Operations that it waits for.
    operations: usize,
    then: Then,
}

#[derive(Debug)]
enum Then {
    Now(Value),
    One(Shape),
    /// META: the replicas come to what the answer says.
    Meta(Vec<Value>),
    Many(Many),
}

/// An operation that has not been sent.
#[derive(Debug)]
struct Waiting {
    request: KeyRequest,
    level: Level,
    idempotency: Option<u128>,
}

/// An operation that has been sent.
#[derive(Debug)]
struct Sent {
    operation: Operation,
    level: Level,
    key: u64,
    writes: bool,
    bytes: u64,
    since: Instant,
    result: Option<Result<Response, Failure>>,
}

/// How an operation in flight uses its key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Uses {
    reads: u32,
    writes: u32,
}

/// The requests of a connection.
#[derive(Debug)]
pub struct Pipeline {
    shards: Arc<Vec<Shard>>,
    stats: Arc<Stats>,
    outlet: Arc<Outlet>,
    /// The session's token (PROTOCOL W1).
    pub token: Hlc,
    pending: VecDeque<Pending>,
    waiting: VecDeque<Waiting>,
    /// What has been sent and not been answered to the client, by number from `base` on.
    sent: VecDeque<Sent>,
    base: u32,
    /// Operations at the front of `sent` that have their results.
    complete: usize,
    in_flight: usize,
    causal: usize,
    /// The keys in flight, by hash. Two keys of one hash only wait for each other.
    keys: HashMap<u64, Uses, foldhash::fast::FixedState>,
    /// Per shard, what the next `flush` sends.
    batches: Vec<Vec<Asked>>,
    answers: Vec<(u32, Reply)>,
    /// Bytes of results that wait for those before them.
    held: usize,
}

impl Pipeline {
    /// The pipeline of a new connection.
    pub fn new(shards: Arc<Vec<Shard>>, stats: Arc<Stats>) -> Self {
        Self {
            batches: shards.iter().map(|_| Vec::new()).collect(),
            shards,
            stats,
            outlet: Arc::default(),
            token: Hlc(0),
            pending: VecDeque::new(),
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            base: 0,
            complete: 0,
            in_flight: 0,
            causal: 0,
            keys: HashMap::default(),
            answers: Vec::new(),
            held: 0,
        }
    }

    /// Whether another command may be added: there is room, and all before it have been sent.
    pub fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.pending.len() < IN_FLIGHT_MAX
    }

    /// Whether everything has been answered.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Bytes of results that wait for those before them.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Where the answers come.
    pub fn outlet(&self) -> Arc<Outlet> {
        self.outlet.clone()
    }

    /// Adds a command whose answer is known.
    pub fn add_answer(&mut self, version: u8, value: Value) {
        self.held += value.weight();
        self.pending.push_back(Pending { version, operations: 0, then: Then::Now(value) });
    }

    /// Adds a command of one operation.
    pub fn add_one(
        &mut self,
        version: u8,
        level: Level,
        request: KeyRequest,
        shape: Shape,
        idempotency: Option<u128>,
    ) {
        self.pending.push_back(Pending { version, operations: 1, then: Then::One(shape) });
        self.waiting.push_back(Waiting { request, level, idempotency });
        self.send_waiting();
    }

    /// Adds META on a key whose replicas are these.
    pub fn add_meta(&mut self, version: u8, level: Level, request: KeyRequest, replicas: Vec<Value>) {
        self.pending.push_back(Pending { version, operations: 1, then: Then::Meta(replicas) });
        self.waiting.push_back(Waiting { request, level, idempotency: None });
        self.send_waiting();
    }

    /// Adds a command of several operations.
    pub fn add_many(
        &mut self,
        version: u8,
        level: Level,
        requests: Vec<KeyRequest>,
        how: Many,
        idempotency: Option<u128>,
    ) {
        self.pending.push_back(Pending { version, operations: requests.len(), then: Then::Many(how) });
        self.waiting.extend(requests.into_iter().map(|request| Waiting { request, level, idempotency }));
        self.send_waiting();
    }

    /// Hands what was sent to the shards.
    pub fn flush(&mut self) {
        for (batch, shard) in self.batches.iter_mut().zip(self.shards.iter()) {
            shard.ask(batch);
        }
    }

    /// Sends what may go.
    fn send_waiting(&mut self) {
        while let Some(next) = self.waiting.front() {
            let writes = next.request.op != KeyOp::Read;
            let key = self.keys.hasher().hash_one(&next.request.key);
            if self.in_flight > 0 && !self.may_overlap(key, writes, next.level) {
                return;
            }
            if let Some(waiting) = self.waiting.pop_front() {
                self.send(waiting, key, writes);
            }
        }
    }

    fn may_overlap(&self, key: u64, writes: bool, level: Level) -> bool {
        let uses = self.keys.get(&key).copied().unwrap_or_default();
        let conflict = if writes { uses != Uses::default() } else { uses.writes > 0 };
        self.in_flight < IN_FLIGHT_MAX && level != Level::Causal && self.causal == 0 && !conflict
    }

    fn send(&mut self, waiting: Waiting, key: u64, writes: bool) {
        let Waiting { request: KeyRequest { key: name, op }, level, idempotency } = waiting;
        let bytes = (name.len() + op.payload()) as u64;
        let operation = Operation::of(&op);
        let number = self.base.wrapping_add(self.sent.len() as u32);
        let mut sent = Sent { operation, level, key, writes, bytes, since: Instant::now(), result: None };
        if self.stats.request_bytes.load(Ordering::Relaxed) + bytes > REQUEST_BYTES_MAX {
            sent.result = Some(Err(Failure::Overloaded));
            self.sent.push_back(sent);
            return self.advance();
        }
        self.stats.request_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.sent.push_back(sent);
        self.in_flight += 1;
        self.causal += usize::from(level == Level::Causal);
        let uses = self.keys.entry(key).or_default();
        *(if writes { &mut uses.writes } else { &mut uses.reads }) += 1;
        let shard = shard_of(&name, self.shards.len());
        let body = Body::Key { key: name, op };
        let request = Request { level, session: self.token, idempotency, body };
        self.batches[shard].push((self.outlet.clone(), number, request));
    }

    /// Takes the answers that have come, and sends what waited for them.
    pub fn hear(&mut self) {
        let mut answers = std::mem::take(&mut self.answers);
        self.outlet.take(&mut answers);
        let now = Instant::now();
        for (number, reply) in answers.drain(..) {
            self.token = self.token.max(reply.session);
            let at = number.wrapping_sub(self.base) as usize;
            let sent = self.sent.get_mut(at).expect("an answer to a request that was sent");
            self.stats.record(sent.operation, sent.level, &reply.result, now.duration_since(sent.since));
            self.held += result_bytes(&reply.result);
            assert!(sent.result.is_none(), "a request is answered once");
            sent.result = Some(reply.result);
            let (key, writes, bytes) = (sent.key, sent.writes, sent.bytes);
            self.causal -= usize::from(sent.level == Level::Causal);
            self.release(key, writes, bytes);
        }
        self.answers = answers;
        self.advance();
        self.send_waiting();
    }

    fn release(&mut self, key: u64, writes: bool, bytes: u64) {
        self.in_flight -= 1;
        self.stats.request_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(uses) = self.keys.get_mut(&key) {
            *(if writes { &mut uses.writes } else { &mut uses.reads }) -= 1;
            if *uses == Uses::default() {
                self.keys.remove(&key);
            }
        }
    }

    fn advance(&mut self) {
        while self.sent.get(self.complete).is_some_and(|sent| sent.result.is_some()) {
            self.complete += 1;
        }
    }

    /// The next answer that can be written, with its RESP version.
    pub fn next_answer(&mut self) -> Option<(u8, Value)> {
        let pending = self.pending.front()?;
        if pending.operations > self.complete {
            return None;
        }
        let pending = self.pending.pop_front()?;
        let value = match pending.then {
            Then::Now(value) => {
                self.held -= value.weight();
                value
            }
            Then::One(shape) => reply::word(shape, self.next_result()),
            Then::Meta(replicas) => match reply::word(Shape::Meta, self.next_result()) {
                Value::Map(mut pairs) => {
                    pairs.push((Value::text("replicas"), Value::Array(replicas)));
                    Value::Map(pairs)
                }
                other => other,
            },
            Then::Many(how) => self.gather(pending.operations, how),
        };
        Some((pending.version, value))
    }

    fn next_result(&mut self) -> Result<Response, Failure> {
        self.complete -= 1;
        self.base = self.base.wrapping_add(1);
        let result = self.sent.pop_front().and_then(|sent| sent.result);
        let result = result.expect("only complete operations are counted");
        self.held -= result_bytes(&result).min(self.held);
        result
    }

    fn gather(&mut self, operations: usize, how: Many) -> Value {
        let (mut values, mut count, mut failed) = (Vec::new(), 0, None);
        for _ in 0..operations {
            let result = self.next_result();
            match reply::found(&result) {
                Ok(found) => count += i64::from(found),
                Err(failure) => failed = Some(failure),
            }
            if how == Many::Values {
                values.push(reply::word(Shape::Value, result));
            }
        }
        match (failed, how) {
            (Some(failure), _) => reply::failure(failure),
            (None, Many::Count) => Value::Integer(count),
            (None, Many::Values) => Value::Array(values),
            (None, Many::Ok) => Value::Status("OK"),
        }
    }

    /// Asks one operation each of several keys and waits for all answers, in order. They keep to program order and to the
    /// bounds of a connection, as commands do. Only while idle.
    pub async fn ask(
        &mut self,
        level: Level,
        requests: Vec<KeyRequest>,
        idempotency: Option<u128>,
    ) -> Vec<Result<Response, Failure>> {
        assert!(
            self.is_idle() && self.sent.is_empty(),
            "operations are asked when all before them are answered"
        );
        let count = requests.len();
        self.waiting.extend(requests.into_iter().map(|request| Waiting { request, level, idempotency }));
        self.send_waiting();
        self.flush();
        let outlet = self.outlet();
        while self.complete < count {
            outlet.wait().await;
            self.hear();
            self.flush();
        }
        (0..count).map(|_| self.next_result()).collect()
    }

    /// The number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Asks shards directly and waits for all answers, in order. Only while idle.
    pub async fn call(&mut self, level: Level, bodies: Vec<(usize, Body)>) -> Vec<Result<Response, Failure>> {
        assert!(self.is_idle() && self.sent.is_empty(), "a walk begins when all before it has been answered");
        let (count, since) = (bodies.len(), Instant::now());
        let mut operations = Vec::with_capacity(count);
        for (number, (shard, body)) in bodies.into_iter().enumerate() {
            operations.push(match &body {
                Body::Key { op, .. } => Operation::of(op),
                Body::Scan { .. } => Operation::SCAN,
            });
            let request = Request { level, session: self.token, idempotency: None, body };
            self.batches[shard].push((self.outlet.clone(), number as u32, request));
        }
        self.flush();
        let (mut results, mut missing): (Vec<_>, usize) = ((0..count).map(|_| None).collect(), count);
        while missing > 0 {
            self.outlet.wait().await;
            self.outlet.take(&mut self.answers);
            for (number, reply) in self.answers.drain(..) {
                self.token = self.token.max(reply.session);
                let operation = operations[number as usize];
                self.stats.record(operation, level, &reply.result, since.elapsed());
                results[number as usize] = Some(reply.result);
                missing -= 1;
            }
        }
        results.into_iter().flatten().collect()
    }

    /// Deletes keys and waits until all are gone. Only while idle.
    pub async fn delete(&mut self, level: Level, keys: Vec<Bytes>) -> Result<(), Failure> {
        let shards = self.shards.len();
        let delete = |key: Bytes| {
            (
                shard_of(&key, shards),
                Body::Key { key, op: KeyOp::Delete { when: When::Always, want_old: false } },
            )
        };
        let bodies = keys.into_iter().map(delete).collect();
        self.call(level, bodies).await.into_iter().try_for_each(|result| result.map(|_| ()))
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let unanswered = self.sent.iter().filter(|sent| sent.result.is_none());
        let bytes: u64 = unanswered.map(|sent| sent.bytes).sum();
        self.stats.request_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The shard that serves a key. The slot costs a checksum of the key: it is not computed where nothing depends on it.
pub(super) fn shard_of(key: &Bytes, shards: usize) -> usize {
    if shards == 1 { 0 } else { usize::from(slot_of(key).0) % shards }
}

fn result_bytes(result: &Result<Response, Failure>) -> usize {
    match result {
        Ok(
            Response::Value { value, .. }
            | Response::Mutated { outcome: Outcome::Changed { old: Some(value), .. }, .. },
        ) => value.len(),
        _ => 0,
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
