//! Logical clients: one operation at a time, a session, and a record of what they saw.

use crate::order::Witness;
use crate::plan::{PlannedLevel, PlannedOperation, What};
use crate::strolls::Strolls;
use bytes::Bytes;
use samara_check::history::{Answer, Function, Level as Judged, Operation, Outcome as Judgement};
use samara_core::base::{
    Body, Expiry, Failure, Hlc, KeyOp, Level, Outcome, Reply, Request, Response, Stamp, When,
};
use std::collections::BTreeMap;

/// A client on its way through its plan.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its number; part of its process ids and values.
    pub number: u64,
    /// Operations begun.
    pub begun: usize,
    /// The operation in flight.
    pub open: Option<Open>,
    session: Hlc,
    process: u64,
    /// The value last read or written, by key: what a CAS expects.
    seen: BTreeMap<Bytes, Bytes>,
    /// The version last read, by key, and its value.
    read: BTreeMap<Bytes, (Stamp, Bytes)>,
    /// Walks over the key space.
    pub strolls: Strolls,
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
    key: Bytes,
    request: Request,
}

/// What became of an attempt.
#[derive(Debug)]
pub enum Ended {
    /// The operation is over; recorded if it may have happened.
    Over(Option<Witness>),
    /// The client tries again under the same idempotency id.
    Again,
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
            open: None,
            session: Hlc(0),
            process: number,
            seen: BTreeMap::new(),
            read: BTreeMap::new(),
            strolls: Strolls::default(),
            versions: BTreeMap::new(),
        }
    }

    /// Begins an operation at `now` nanoseconds (`wall_ms` on the world's clock); the request for the node.
    pub fn begin(&mut self, planned: &PlannedOperation, tag: u64, now: u64, wall_ms: u64) -> Request {
        let counter = planned.what == What::Incr;
        let key = Bytes::from(format!("{}{}", if counter { "counter" } else { "key" }, planned.key));
        let padding = "_".repeat(planned.padding as usize);
        let unique = Bytes::from(format!("v{}.{}{padding}", self.number, self.begun));
        let expected = self.seen.get(&key).cloned().unwrap_or_default();
        let (function, op) = match (planned.what, self.read.get(&key).cloned().unwrap_or_default()) {
            (What::SetVersion, (version, old)) => set_version(unique, version, &old),
            _ => ask(planned.what, unique, expected),
        };
        let (level, mut judged) = level(planned.level);
        let weak = matches!(planned.what, What::Read | What::Set | What::SetTtl(_) | What::Delete);
        if !weak || (planned.idempotent && !is_read(planned.what)) {
            judged = Judged::Strong;
        }
        let idempotency = (planned.idempotent && !is_read(planned.what)).then(|| {
            (u128::from(wall_ms) << 80) | (7 << 76) | (u128::from(self.number) << 32) | self.begun as u128
        });
        let request = match planned.what {
            What::Page(limit) => self.strolls.request(limit, now, self.session),
            _ => Request {
                level,
                session: self.session,
                idempotency,
                body: Body::Key { key: key.clone(), op },
            },
        };
        let operation = Operation {
            process: self.process,
            key: key.to_vec(),
            function,
            outcome: Judgement::Unknown,
            call: now,
            ret: now,
            level: judged,
        };
        self.begun += 1;
        self.open = Some(Open {
            planned: planned.clone(),
            operation,
            tag,
            node: planned.node as usize,
            asked_at: now,
            idempotency,
            in_doubt: false,
            attempts: 3,
            key,
            request: request.clone(),
        });
        request
    }

    /// The request of the next attempt.
    pub fn again(&mut self, tag: u64, now: u64, nodes: usize) -> Option<Request> {
        let open = self.open.as_mut()?;
        (open.tag, open.asked_at) = (tag, now);
        // Whoever did not answer may be down: the next attempt asks another node.
        open.node = (open.node + 1) % nodes;
        Some(open.request.clone())
    }

    /// The connection broke, or the client gave up waiting.
    pub fn on_unknown(&mut self, now: u64) -> Ended {
        self.on_failed(Failure::Timeout, now)
    }

    /// The node answered.
    pub fn on_reply(&mut self, reply: Reply, now: u64) -> Ended {
        self.session = self.session.max(reply.session);
        match reply.result {
            Ok(response) => self.on_response(&response, now),
            Err(failure) => self.on_failed(failure, now),
        }
    }

    fn on_failed(&mut self, failure: Failure, now: u64) -> Ended {
        let Some(open) = &mut self.open else {
            return Ended::Over(None);
        };
        open.in_doubt |= failure == Failure::Timeout;
        open.attempts -= 1;
        if open.idempotency.is_some() && open.attempts > 0 {
            return Ended::Again;
        }
        let Some(mut open) = self.open.take() else {
            return Ended::Over(None);
        };
        if !open.in_doubt || matches!(open.planned.what, What::Page(_)) {
            return Ended::Over(None);
        }
        open.operation.ret = now;
        // After an unknown outcome a process never acts again: the client goes on as a new one.
        self.process += 1_000;
        Ended::Over(Some(Witness { operation: open.operation, version: None }))
    }

    fn on_response(&mut self, response: &Response, now: u64) -> Ended {
        let Some(open) = self.open.take() else {
            return Ended::Over(None);
        };
        if let Response::Page(page) = response {
            self.strolls.on_page(page, now);
            return Ended::Over(None);
        }
        let mut operation = open.operation;
        operation.ret = now;
        operation.outcome = Judgement::Ok(answer(&operation, response));
        if let Err(broken) = self.keep_session(&open.key, &operation, response) {
            return Ended::Broken(broken);
        }
        match (&operation.function, response) {
            (Function::Get, Response::Value { value, version, .. }) => {
                self.read.insert(open.key.clone(), (*version, value.clone()));
                self.seen.insert(open.key, value.clone());
            }
            (Function::Put { value, .. } | Function::Cas { new: value, .. }, _) => {
                let value = Bytes::from(value.clone());
                // Who wrote under a condition goes on from his own version, as one does with the ETag of a PUT.
                if let (Some(version), true) = (version_of(response), is_applied(response)) {
                    self.read.insert(open.key.clone(), (version, value.clone()));
                }
                self.seen.insert(open.key, value);
            }
            _ => {}
        }
        Ended::Over(Some(Witness { operation, version: version_of(response) }))
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

fn is_read(what: What) -> bool {
    matches!(what, What::Read | What::Page(_))
}

/// A version stands for the one value it was read with: the checker, which knows no versions, sees a CAS from that.
fn set_version(unique: Bytes, version: Stamp, old: &Bytes) -> (Function, KeyOp) {
    let function = Function::Cas { old: old.to_vec(), new: unique.to_vec() };
    let when = When::Version(version);
    (function, KeyOp::Set { value: unique, expiry: Expiry::Clear, when, want_old: false })
}

fn ask(what: What, unique: Bytes, expected: Bytes) -> (Function, KeyOp) {
    let set =
        |value: &Bytes, expiry, when| KeyOp::Set { value: value.clone(), expiry, when, want_old: false };
    match what {
        What::Read | What::Page(_) | What::SetVersion => (Function::Get, KeyOp::Read),
        What::Set => {
            let function = Function::Put { value: unique.to_vec(), ttl_ms: None };
            (function, set(&unique, Expiry::Clear, When::Always))
        }
        What::SetTtl(ttl) => {
            let function = Function::Put { value: unique.to_vec(), ttl_ms: Some(ttl) };
            (function, set(&unique, Expiry::After(ttl), When::Always))
        }
        What::SetAbsent => {
            let function = Function::PutIf { value: unique.to_vec(), present: false };
            (function, set(&unique, Expiry::Clear, When::Absent))
        }
        What::Cas => {
            let function = Function::Cas { old: expected.to_vec(), new: unique.to_vec() };
            (function, set(&unique, Expiry::Clear, When::Equals(expected)))
        }
        What::Delete => (Function::Delete, KeyOp::Delete { when: When::Always, want_old: false }),
        What::Incr => (Function::Incr(1), KeyOp::Add(1)),
        What::Append => (Function::Append(unique.to_vec()), KeyOp::Append(unique)),
    }
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

fn is_applied(response: &Response) -> bool {
    matches!(response, Response::Mutated { outcome: Outcome::Changed { applied: true, .. }, .. })
}

fn answer(operation: &Operation, response: &Response) -> Answer {
    match (&operation.function, response) {
        (Function::Get, Response::Value { value, .. }) => Answer::Value(Some(value.to_vec())),
        (Function::Get, Response::Absent { .. }) => Answer::Value(None),
        // A delete of a weak level is blind: its answer says nothing.
        (Function::Delete, _) if operation.level != Judged::Strong => Answer::Done,
        (
            Function::PutIf { .. } | Function::Cas { .. } | Function::Delete,
            Response::Mutated { outcome: Outcome::Changed { applied, .. }, .. },
        ) => Answer::Applied(*applied),
        (_, Response::Mutated { outcome: Outcome::Integer(number), .. }) => Answer::Integer(*number),
        _ => Answer::Done,
    }
}
