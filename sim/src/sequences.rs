//! RENAME, RENAMENX, COPY and MSETNX: the client plays the node that carries them out, with the core's own sequence of steps,
//! each of which is asked, and judged, like any other operation. A node that dies between two steps leaves the rest undone.

use crate::commands::What;
use crate::deeds;
use crate::order::{Witness, written_value};
use crate::plan::PlannedOperation;
use crate::situations::Situations;
use bytes::Bytes;
use samara_check::history::{Answer, Function, Level, Outcome};
use samara_core::base::{Expiry, Failure, KeyOp, Response};
use samara_core::rules::sequence::{Ending, Next, Sequence, Task};

/// The command of a client that is under way, and what came of those before it.
#[derive(Debug, Clone, Default)]
pub struct Walking {
    /// The plan of the command.
    pub planned: Option<PlannedOperation>,
    /// What it wants next.
    pub next: Option<(Bytes, KeyOp)>,
    sequence: Option<Sequence>,
    /// Keys and values of MSETNX.
    pairs: Vec<(Bytes, Bytes)>,
    /// The last write that was asked for, and all that it has made.
    writing: Option<(Bytes, Bytes)>,
    made: Vec<(Bytes, Bytes)>,
    own: Bytes,
    /// Values that an MSETNX which answered 0 had written, with the time of its answer.
    refused: Vec<(Bytes, Bytes, u64)>,
    met: Situations,
}

impl Walking {
    /// Begins a command; `unique` makes a value of a number.
    pub fn begin(&mut self, planned: &PlannedOperation, keys: u64, unique: impl Fn(u64) -> Bytes) {
        let name = |number: u64| Bytes::from(planned.name(number % keys.max(2)));
        self.pairs.clear();
        let task = match planned.what {
            What::SetAllAbsent(count) => {
                self.pairs = (0..count.min(keys)).map(|at| (name(planned.key + at), unique(at))).collect();
                Task::SetAllAbsent(self.pairs.clone())
            }
            What::Move { to, replace, remove } => {
                Task::Move { source: name(planned.key), target: name(to), replace, remove }
            }
            _ => return,
        };
        let mut sequence = Sequence::new(task);
        let first = sequence.begin();
        (self.planned, self.sequence) = (Some(planned.clone()), Some(sequence));
        (self.made, self.writing, self.own) = (Vec::new(), None, Bytes::new());
        self.go(first, 0);
    }

    /// The value that the command wrote last, or that of the key which it is about to take back.
    pub fn own(&self) -> &Bytes {
        &self.own
    }

    /// The node is gone: the rest is not done.
    pub fn abandon(&mut self) {
        (self.sequence, self.next, self.planned) = (None, None, None);
    }

    /// The answer of a step.
    pub fn on_answer(&mut self, result: Result<Response, Failure>, now: u64) {
        let Some(mut sequence) = self.sequence.take() else { return };
        if let (Some((key, value)), Ok(response)) = (self.writing.take(), &result)
            && deeds::is_applied(response)
        {
            self.own = value.clone();
            self.made.push((key, value));
        }
        let next = sequence.on_answer(result);
        self.sequence = Some(sequence);
        self.go(next, now);
    }

    fn go(&mut self, next: Next, now: u64) {
        match next {
            Next::Ask(key, op) => {
                match &op {
                    KeyOp::Set { expiry: Expiry::At(1), .. } => {
                        if let Some((_, value)) = self.pairs.iter().find(|(of, _)| *of == key) {
                            self.own = value.clone();
                        }
                    }
                    KeyOp::Set { value, .. } => {
                        if self.made.len() == 1 && self.pairs.is_empty() {
                            self.meet("moved_again");
                        }
                        self.writing = Some((key.clone(), value.clone()));
                    }
                    _ => {}
                }
                self.next = Some((key, op));
            }
            Next::Done(result) => {
                let is_set = !self.pairs.is_empty();
                match result {
                    Ok(Ending::Done) => self.meet(if is_set { "set_all" } else { "moved" }),
                    Ok(Ending::Exists) if is_set && !self.made.is_empty() => {
                        self.meet("set_all_taken_back");
                        self.refused.extend(self.made.drain(..).map(|(key, value)| (key, value, now)));
                    }
                    Ok(_) => self.meet("several_refused"),
                    Err(_) => self.meet("several_failed"),
                }
                self.abandon();
            }
        }
    }

    fn meet(&mut self, situation: &'static str) {
        *self.met.entry(situation).or_default() += 1;
    }

    /// What was met.
    pub fn met(&self) -> &Situations {
        &self.met
    }

    /// What an MSETNX that was refused had written is not seen after its answer: nobody has begun to read it then, and found
    /// it. A value that a RENAME or COPY took along is its own. An eventual read may find a replica that has missed the deletion.
    pub fn check(&self, witnesses: &[Witness]) -> Result<(), String> {
        for (key, value, at) in &self.refused {
            let sees = |witness: &&Witness| {
                let operation = &witness.operation;
                let seen = Outcome::Ok(Answer::Value(Some(value.to_vec())));
                operation.key == key[..]
                    && operation.function == Function::Get
                    && operation.level != Level::Eventual
                    && operation.call > *at
                    && operation.outcome == seen
            };
            let moved = |witness: &Witness| {
                witness.operation.key != key[..]
                    && written_value(&witness.operation.function) == Some(&value[..])
            };
            if let Some(back) = witnesses.iter().find(sees)
                && !witnesses.iter().any(moved)
            {
                return Err(format!(
                    "several_keys: MSETNX answered 0 at {} us, and its {value:?} of {key:?} is seen at {} us",
                    at / 1_000,
                    back.operation.call / 1_000
                ));
            }
        }
        Ok(())
    }
}
