//! Logical clients: one command at a time, a session, and a record of what they saw. A command is one operation, several at
//! once (MGET), or several one after the other (RENAME).

use crate::commands::What;
use crate::deeds::{self, Ask, Known, is_applied};
use crate::order::Witness;
use crate::plan::{PlannedLevel, PlannedOperation};
use crate::sequences::Walking;
use crate::strolls::Strolls;
use bytes::Bytes;
use samara_check::history::{Function, Level as Judged, Operation, Outcome as Judgement};
use samara_core::base::{Body, Failure, Hlc, Level, Reply, Request, Response, Stamp};
use std::collections::BTreeMap;

/// Operations of one command have processes of their own from here on: nothing orders them.
const SIDE_BY_SIDE: u64 = 1_000_000_000;

/// A client on its way through its plan.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its number; part of its process ids and values.
    pub number: u64,
    /// Commands begun.
    pub begun: usize,
    /// The operations in flight.
    pub open: Vec<Open>,
    session: Hlc,
    process: u64,
    /// What it knows of each key.
    known: BTreeMap<Bytes, Known>,
    /// Walks over the key space.
    pub strolls: Strolls,
    /// The command on several keys under way, and those that are over.
    pub walking: Walking,
    /// The highest version seen by key, for the guarantees of the session.
    versions: BTreeMap<Bytes, Stamp>,
}

/// An operation in flight.
#[derive(Debug, Clone)]
pub struct Open {
    /// The plan.
    pub planned: PlannedOperation,
    /// What is recorded of it.
    pub operation: Operation,
    /// Distinguishes late replies.
    pub tag: u64,
    /// Node asked.
    pub node: usize,
    /// When the present attempt was made.
    pub asked_at: u64,
    /// The same id for every attempt.
    pub idempotency: Option<u128>,
    /// An earlier attempt has an unknown outcome.
    pub in_doubt: bool,
    /// Attempts left.
    pub attempts: u32,
    ask: Ask,
    request: Request,
}

/// What became of an attempt.
#[derive(Debug)]
pub enum Ended {
    /// The operation is over; recorded if it may have happened.
    Over(Option<Box<Witness>>),
    /// The client tries again what had this tag, under the same idempotency id.
    Again(u64),
    /// A promise to the session was broken.
    Broken(String),
}

fn level(planned: PlannedLevel) -> (Level, Judged) {
    match planned {
        PlannedLevel::Eventual => (Level::Eventual, Judged::Eventual),
        PlannedLevel::Causal => (Level::Causal, Judged::Causal),
        PlannedLevel::Strong => (Level::Strong, Judged::Strong),
    }
}

impl Client {
    /// A client that has done nothing.
    pub fn new(number: u64) -> Self {
        Self {
            number,
            begun: 0,
            open: Vec::new(),
            session: Hlc(0),
            process: number,
            known: BTreeMap::new(),
            strolls: Strolls::default(),
            walking: Walking::default(),
            versions: BTreeMap::new(),
        }
    }

    /// The operation in flight with this tag.
    pub fn open(&self, tag: u64) -> Option<&Open> {
        self.open.iter().find(|open| open.tag == tag)
    }

    /// Whether it waits for nothing and has no step to go on with.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.walking.next.is_none()
    }

    /// The step that the command under way wants next, as a request at `now` nanoseconds (`wall_ms` on the world's clock).
    pub fn go_on(&mut self, tag: u64, now: u64, wall_ms: u64) -> Option<Request> {
        let (key, op) = self.walking.next.take()?;
        let planned = self.walking.planned.clone()?;
        let ask = deeds::step(key, op, wall_ms, self.walking.own());
        Some(self.ask(&planned, ask, tag, now, None))
    }

    /// Begins a command over so many keys in all; the requests for the node. Keys below `weak_keys` see nothing strong.
    pub fn begin(
        &mut self,
        planned: &PlannedOperation,
        (keys, weak_keys): (u64, u64),
        tags: &mut u64,
        now: u64,
        wall_ms: u64,
    ) -> Vec<(u64, Request)> {
        let padding = "_".repeat(planned.padding as usize);
        let number = self.begun;
        self.begun += 1;
        let mut tag = || {
            *tags += 1;
            *tags
        };
        let unique = |part: &str| Bytes::from(format!("v{}.{number}{part}{padding}", self.number));
        let name = |at: u64| Bytes::from(planned.name((planned.key + at) % keys));
        match planned.what {
            What::Move { .. } | What::SetAllAbsent(_) => {
                self.walking.begin(planned, keys, |at| unique(&format!("x{at}")));
                let tag = tag();
                self.go_on(tag, now, wall_ms).map(|request| (tag, request)).into_iter().collect()
            }
            What::SetMany(count) | What::ReadMany(count) | What::DeleteMany(count) => {
                let asks: Vec<Ask> = (0..count.min(keys))
                    .map(|at| {
                        let known = Known::default();
                        deeds::ask(planned.what, name(at), &unique(&format!("x{at}")), &known)
                    })
                    .collect();
                let mut requests = Vec::new();
                for (at, ask) in asks.into_iter().enumerate() {
                    let mut planned = PlannedOperation { idempotent: false, ..planned.clone() };
                    if (planned.key + at as u64) % keys < weak_keys && planned.level == PlannedLevel::Strong {
                        planned.level = PlannedLevel::Causal;
                    }
                    let tag = tag();
                    requests.push((tag, self.ask(&planned, ask, tag, now, None)));
                    if let Some(open) = self.open.last_mut() {
                        open.operation.process = SIDE_BY_SIDE + tag;
                    }
                }
                requests
            }
            what => {
                let key = Bytes::from(planned.name(planned.key));
                let known = self.known.get(&key).cloned().unwrap_or_default();
                let ask = deeds::ask(what, key, &unique(""), &known);
                let wanted = planned.idempotent && !is_read(what);
                let idempotency = wanted.then(|| {
                    (u128::from(wall_ms) << 80) | (7 << 76) | (u128::from(self.number) << 32) | number as u128
                });
                let tag = tag();
                vec![(tag, self.ask(planned, ask, tag, now, idempotency))]
            }
        }
    }

    fn ask(
        &mut self,
        planned: &PlannedOperation,
        ask: Ask,
        tag: u64,
        now: u64,
        idempotency: Option<u128>,
    ) -> Request {
        let (level, mut judged) = level(planned.level);
        let is_step = matches!(planned.what, What::Move { .. } | What::SetAllAbsent(_));
        let level = if is_step { Level::Strong } else { level };
        if is_step || !is_weak(planned.what) || idempotency.is_some() {
            judged = Judged::Strong;
        }
        let request = match planned.what {
            What::Page(limit) => self.strolls.request(limit, now, self.session),
            _ => Request {
                level,
                session: self.session,
                idempotency,
                body: Body::Key { key: ask.key.clone(), op: ask.op.clone() },
            },
        };
        let operation = Operation {
            process: self.process,
            key: ask.key.to_vec(),
            function: ask.function.clone(),
            outcome: Judgement::Unknown,
            call: now,
            ret: now,
            level: judged,
        };
        self.open.push(Open {
            planned: planned.clone(),
            operation,
            tag,
            node: planned.node as usize,
            asked_at: now,
            idempotency,
            in_doubt: false,
            attempts: 3,
            ask,
            request: request.clone(),
        });
        request
    }

    /// The request of the next attempt.
    pub fn again(&mut self, before: u64, tag: u64, now: u64, nodes: usize) -> Option<Request> {
        let open = self.open.iter_mut().find(|open| open.tag == before)?;
        (open.tag, open.asked_at) = (tag, now);
        // Whoever did not answer may be down: the next attempt asks another node.
        open.node = (open.node + 1) % nodes;
        Some(open.request.clone())
    }

    /// The connection was refused, and nothing was asked.
    pub fn on_refused(&mut self, tag: u64) {
        self.take(tag);
        self.walking.abandon();
    }

    /// The connection broke, or the client gave up waiting.
    pub fn on_unknown(&mut self, tag: u64, now: u64) -> Ended {
        self.on_failed(tag, Failure::Timeout, now)
    }

    /// The node answered.
    pub fn on_reply(&mut self, tag: u64, reply: Reply, now: u64) -> Ended {
        self.session = self.session.max(reply.session);
        match reply.result {
            Ok(response) => self.on_response(tag, response, now),
            Err(failure) => self.on_failed(tag, failure, now),
        }
    }

    fn take(&mut self, tag: u64) -> Option<Open> {
        let at = self.open.iter().position(|open| open.tag == tag)?;
        Some(self.open.remove(at))
    }

    fn on_failed(&mut self, tag: u64, failure: Failure, now: u64) -> Ended {
        let Some(open) = self.open.iter_mut().find(|open| open.tag == tag) else {
            return Ended::Over(None);
        };
        open.in_doubt |= failure == Failure::Timeout;
        open.attempts -= 1;
        if open.idempotency.is_some() && open.attempts > 0 {
            return Ended::Again(tag);
        }
        let Some(mut open) = self.take(tag) else {
            return Ended::Over(None);
        };
        if open.is_step() {
            self.walking.on_answer(Err(failure), now);
        }
        if !open.in_doubt || matches!(open.planned.what, What::Page(_)) {
            return Ended::Over(None);
        }
        open.operation.ret = now;
        // After an unknown outcome a process never acts again: the client goes on as a new one.
        self.process += 1_000;
        Ended::Over(Some(Box::new(Witness { operation: open.operation, version: None, deed: open.ask.deed })))
    }

    fn on_response(&mut self, tag: u64, response: Response, now: u64) -> Ended {
        let Some(mut open) = self.take(tag) else {
            return Ended::Over(None);
        };
        if let Response::Page(page) = &response {
            self.strolls.on_page(page, now);
            return Ended::Over(None);
        }
        deeds::answered(&mut open.ask, &response);
        let mut operation = open.operation.clone();
        operation.ret = now;
        operation.function.clone_from(&open.ask.function);
        operation.outcome =
            Judgement::Ok(deeds::answer(&open.ask, operation.level == Judged::Strong, &response));
        if let Err(broken) = self.keep_session(&open.ask.key, &operation, &response) {
            return Ended::Broken(broken);
        }
        self.learn(&open.ask.key, &operation.function, &response);
        let version = version_of(&response);
        if open.is_step() {
            self.walking.on_answer(Ok(response), now);
        }
        Ended::Over(Some(Box::new(Witness { operation, version, deed: open.ask.deed })))
    }

    /// What an answer tells of a key: what conditions of later operations are made of.
    fn learn(&mut self, key: &Bytes, function: &Function, response: &Response) {
        let known = self.known.entry(key.clone()).or_default();
        match (function, response) {
            (Function::Get, Response::Value { value, version, .. }) => {
                (known.version, known.of_version) = (*version, value.clone());
                known.seen = value.clone();
            }
            (Function::Put { value, .. } | Function::Cas { new: value, .. }, _) => {
                let value = Bytes::from(value.clone());
                // Who wrote under a condition goes on from his own version, as one does with the ETag of a PUT.
                if let (Some(version), true) = (version_of(response), is_applied(response)) {
                    (known.version, known.of_version) = (version, value.clone());
                }
                known.seen = value;
            }
            _ => {}
        }
    }

    /// Monotonic reads and read your writes, for what a majority acknowledged: versions do not fall.
    fn keep_session(
        &mut self,
        key: &Bytes,
        operation: &Operation,
        response: &Response,
    ) -> Result<(), String> {
        if operation.level == Judged::Eventual {
            return Ok(());
        }
        let Some(version) = version_of(response) else {
            return Ok(());
        };
        let last = self.versions.entry(key.clone()).or_default();
        let is_read = operation.function == Function::Get;
        if is_read && version < *last {
            return Err(format!(
                "session of client {}: read of {:?} went back from version {last} to {version}",
                self.number, operation.function
            ));
        }
        // A key that holds nothing names a watermark (G2): above all that it stands for, and no version itself.
        if !version.is_bound() {
            *last = (*last).max(version);
        }
        Ok(())
    }
}

impl Open {
    /// Whether it is a step of a command on several keys.
    fn is_step(&self) -> bool {
        matches!(self.planned.what, What::Move { .. } | What::SetAllAbsent(_))
    }
}

fn is_read(what: What) -> bool {
    matches!(what, What::Read | What::ReadMany(_) | What::Page(_))
}

/// Whether it is done at the level that it names.
fn is_weak(what: What) -> bool {
    use What::{Delete, DeleteMany, Read, ReadMany, Set, SetMany, SetTtl};
    matches!(what, Read | Set | SetTtl(_) | Delete | SetMany(_) | ReadMany(_) | DeleteMany(_))
}

/// The version that an answer names.
pub fn version_of(response: &Response) -> Option<Stamp> {
    match response {
        Response::Value { version, .. }
        | Response::Absent { version }
        | Response::Mutated { version, .. } => Some(*version),
        Response::Page(_) => None,
    }
}
