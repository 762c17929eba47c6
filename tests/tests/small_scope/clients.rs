//! What clients ask, what they saw, and whether that is linearizable: the project's own checker judges.

use bytes::Bytes;
use samara_check::history::{Answer, Function, History, Level as Judged, Operation, Outcome as Ending};
use samara_check::linearizability::{Options, Verdict, check};
use samara_core::base::{Failure, KeyOp, Level, Outcome, Response, When};
use samara_core::io::Tag;

/// One operation of a client's program.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The coordinator asked: 0 or 1.
    pub at: usize,
    pub level: Level,
    pub op: KeyOp,
    /// The client gives it an id of its own, and asks this coordinator again when the first does not answer.
    pub retry_at: Option<usize>,
}

/// How an operation ended for its client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ended {
    Value(Option<Vec<u8>>),
    Applied(bool),
    Integer(i64),
    /// Certainly not applied.
    Failed,
    Unknown,
}

/// An operation that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Begun {
    /// The operations that had ended before, as a set of their numbers.
    before: u32,
    ended: Option<Ended>,
}

/// A client: it has one operation at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Client {
    /// How much of the program has ended.
    done: usize,
    /// How often the present operation was asked.
    attempts: u64,
    /// Whether an answer may still come.
    waits: bool,
}

/// All clients, and what they saw so far. Operations are numbered through, client by client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Clients {
    clients: Vec<Client>,
    begun: Vec<Option<Begun>>,
}

/// Attempts of one operation have tags of their own.
const ATTEMPTS: u64 = 2;

/// The number of a client's operation.
fn number(programs: &[Vec<Ask>], client: usize, at: usize) -> usize {
    programs[..client].iter().map(Vec::len).sum::<usize>() + at
}

impl Clients {
    pub fn new(programs: &[Vec<Ask>]) -> Self {
        let operations = programs.iter().map(Vec::len).sum();
        Self { clients: vec![Client::default(); programs.len()], begun: vec![None; operations] }
    }

    /// Whether everybody has all answers.
    pub fn is_done(&self) -> bool {
        self.begun.iter().all(|begun| begun.as_ref().is_some_and(|begun| begun.ended.is_some()))
    }

    /// Whether somebody waits for an answer.
    pub fn is_waiting(&self) -> bool {
        self.clients.iter().any(|client| client.waits)
    }

    /// What a client may ask now: the coordinator, the tag and the operation. An answer that does not come lets it ask
    /// once more, elsewhere.
    pub fn next<'p>(&self, programs: &'p [Vec<Ask>], client: usize) -> Option<(usize, Tag, &'p Ask)> {
        let state = self.clients[client];
        let ask = programs[client].get(state.done)?;
        let place = match (state.attempts, state.waits) {
            (0, _) => ask.at,
            (1, _) => ask.retry_at?,
            _ => return None,
        };
        let tag = number(programs, client, state.done) as u64 * ATTEMPTS + state.attempts + 1;
        Some((place, Tag(tag), ask))
    }

    /// The client asks.
    pub fn ask(&mut self, programs: &[Vec<Ask>], client: usize) {
        let number = number(programs, client, self.clients[client].done);
        let ended = self
            .begun
            .iter()
            .enumerate()
            .filter(|(_, begun)| begun.as_ref().is_some_and(|begun| begun.ended.is_some()));
        let before = ended.fold(0, |set, (number, _)| set | 1 << number);
        self.begun[number].get_or_insert(Begun { before, ended: None });
        self.clients[client].attempts += 1;
        self.clients[client].waits = true;
    }

    /// An answer comes; one that is not waited for any more is ignored.
    pub fn on_reply(&mut self, programs: &[Vec<Ask>], tag: Tag, result: &Result<Response, Failure>) {
        let (of, attempt) = ((tag.0 - 1) / ATTEMPTS, (tag.0 - 1) % ATTEMPTS + 1);
        let client = (0..programs.len()).find(|client| {
            let state = self.clients[*client];
            let is_next = number(programs, *client, state.done) as u64 == of && state.attempts == attempt;
            state.waits && is_next && state.done < programs[*client].len()
        });
        let Some(client) = client else { return };
        let ended = match result {
            Ok(Response::Value { value, .. }) => Ended::Value(Some(value.to_vec())),
            Ok(Response::Absent { .. }) => Ended::Value(None),
            Ok(Response::Mutated { outcome: Outcome::Changed { applied, .. }, .. }) => {
                Ended::Applied(*applied)
            }
            Ok(Response::Mutated { outcome: Outcome::Integer(sum), .. }) => Ended::Integer(*sum),
            Ok(other) => panic!("nobody asked for {other:?}"),
            Err(Failure::Timeout) => Ended::Unknown,
            Err(_) if attempt > 1 => Ended::Unknown,
            Err(_) => Ended::Failed,
        };
        self.end(programs, client, ended);
    }

    /// A coordinator has lost its power: who waits for it waits in vain.
    pub fn on_crash(&mut self, programs: &[Vec<Ask>], coordinator: usize) {
        for client in 0..programs.len() {
            let state = self.clients[client];
            let Some(ask) = programs[client].get(state.done).filter(|_| state.waits) else { continue };
            let place = if state.attempts > 1 { ask.retry_at } else { Some(ask.at) };
            if place != Some(coordinator) {
                continue;
            }
            if state.attempts == 1 && ask.retry_at.is_some() {
                self.clients[client].waits = false;
            } else {
                self.end(programs, client, Ended::Unknown);
            }
        }
    }

    fn end(&mut self, programs: &[Vec<Ask>], client: usize, ended: Ended) {
        let done = self.clients[client].done;
        if let Some(begun) = &mut self.begun[number(programs, client, done)] {
            begun.ended = Some(ended);
        }
        self.clients[client] = Client { done: done + 1, ..Client::default() };
    }

    /// What the clients saw. Only what had ended before what began is known of the times: the sets of what had ended grow,
    /// so their sizes are the times.
    fn history(&self, programs: &[Vec<Ask>]) -> History {
        let asks =
            programs.iter().enumerate().flat_map(|(client, asks)| asks.iter().map(move |ask| (client, ask)));
        let sizes = |number: usize| {
            let after = self.begun.iter().flatten().filter(move |begun| begun.before & 1 << number != 0);
            after.map(|begun| u64::from(begun.before.count_ones())).min()
        };
        let mut operations = Vec::new();
        for (number, (client, ask)) in asks.enumerate() {
            let Some(begun) = &self.begun[number] else { continue };
            let outcome = match &begun.ended {
                Some(Ended::Failed) => continue,
                None | Some(Ended::Unknown) => Ending::Unknown,
                Some(Ended::Value(value)) => Ending::Ok(Answer::Value(value.clone())),
                Some(Ended::Applied(applied)) => Ending::Ok(Answer::Applied(*applied)),
                Some(Ended::Integer(sum)) => Ending::Ok(Answer::Integer(*sum)),
            };
            let function = function(&ask.op);
            // A weak write stands where its stamp puts it, which may be before it was asked. Any read is as good as a strong
            // one here: what it shows, a majority holds.
            let is_weak = ask.level != Level::Strong && function != Function::Get;
            let outcome = if let (true, Ending::Ok(_)) = (is_weak, &outcome) {
                Ending::Ok(Answer::Done)
            } else {
                outcome
            };
            let outcome = match (&function, outcome) {
                (Function::Put { .. }, Ending::Ok(Answer::Applied(true))) => Ending::Ok(Answer::Done),
                (_, outcome) => outcome,
            };
            operations.push(Operation {
                process: client as u64,
                key: b"k".to_vec(),
                function,
                outcome,
                call: if is_weak { 0 } else { 2 * u64::from(begun.before.count_ones()) },
                ret: sizes(number).map_or(u64::MAX / 2, |size| 2 * size - 1),
                level: if is_weak { Judged::Causal } else { Judged::Strong },
            });
        }
        History { operations }
    }

    /// Whether one order explains every answer.
    pub fn judge(&self, programs: &[Vec<Ask>]) -> Verdict {
        check(&self.history(programs), &Options { weak_slack: u64::MAX / 2, ..Options::default() })
    }
}

fn function(op: &KeyOp) -> Function {
    let of = |value: &Bytes| value.to_vec();
    match op {
        KeyOp::Read => Function::Get,
        KeyOp::Set { value, when: When::Always, .. } => Function::Put { value: of(value), ttl_ms: None },
        KeyOp::Set { value, when: When::Absent, .. } => Function::PutIf { value: of(value), present: false },
        KeyOp::Set { value, when: When::Equals(old), .. } => Function::Cas { old: of(old), new: of(value) },
        KeyOp::Delete { .. } => Function::Delete,
        KeyOp::Add(delta) => Function::Incr(*delta),
        KeyOp::Append(tail) => Function::Append(of(tail)),
        other => panic!("{other:?} is not judged here"),
    }
}
