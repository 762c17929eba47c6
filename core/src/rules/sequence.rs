//! Commands on several keys of one slot: RENAME, RENAMENX, COPY and MSETNX as sequences of operations on single keys.
//!
//! Each key is a register of its own (PROTOCOL section 4), and nothing makes two of them change at one point of time. So
//! these commands are done in steps, each of them linearizable and done at most once:
//!
//! - moving: read the source; write the target, with the source's expiry; delete the source if its version is still the
//!   one that was read. If it is not, the step before is done again with what the source holds now. The value is always
//!   under one of the two names at least; between the steps under both, and for good where the node dies between them.
//! - setting several if none is there: read all; then write each, in the order of the keys, if it is still absent. Where
//!   one is not, those written so far are deleted again unless somebody has changed them. Others can see some of them
//!   meanwhile; where the node dies between two writes, those written stay.
//!
//! The machine asks for one operation at a time and is told its answer. A failure before the first write is passed on; one
//! after it is an unknown outcome, whatever it said of its own step.

use crate::base::planted::{self, Bug};
use crate::base::{Expiry, Failure, KeyOp, Outcome, Response, Stamp, When};
use alloc::vec::Vec;
use bytes::Bytes;

/// How often a move follows a source that changes under it, before its outcome is called unknown.
pub const MOVES_MAX: u32 = 16;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// RENAME, RENAMENX, COPY. The keys are two, of one slot.
    Move {
        /// The key whose value is wanted.
        source: Bytes,
        /// The key that gets it.
        target: Bytes,
        /// Whether an existing target is overwritten.
        replace: bool,
        /// Whether the source goes.
        remove: bool,
    },
    /// MSETNX. The keys are distinct, and of one slot.
    SetAllAbsent(Vec<(Bytes, Bytes)>),
}

/// What the sequence wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This operation, of level strong; then `Sequence::on_answer`.
    Ask(Bytes, KeyOp),
    /// It is over.
    Done(Result<Ending, Failure>),
}

/// How a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As wanted.
    Done,
    /// Nothing was changed: the target, or one of the keys to be set, is there.
    Exists,
    /// Nothing was changed: there is no source.
    NoSource,
}

/// A command under way. Order of calls: `new`, `begin`, then `on_answer` for each `Next::Ask`.
#[derive(Debug, Clone)]
pub struct Sequence {
    task: Task,
    at: Step,
    /// A write was sent.
    wrote: bool,
    /// Writes of the target so far.
    moves: u32,
    /// Version of what this sequence wrote last to the target.
    target_version: Stamp,
    /// MSETNX: versions of what has been written, in the order of the keys.
    written: Vec<Stamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    ReadSource,
    /// Holds the version of the source that was read.
    WriteTarget(Stamp),
    DeleteSource,
    /// Number of the key.
    Look(usize),
    Write(usize),
    TakeBack(usize),
    Over,
}

fn delete_version(version: Stamp) -> KeyOp {
    let changed = planted::on(Bug::C4MoveDeletesWhatChanged);
    let when = if changed { When::Present } else { When::Version(version) };
    // A time that has passed deletes.
    KeyOp::Set { value: Bytes::new(), expiry: Expiry::At(1), when, want_old: false }
}

impl Sequence {
    /// A sequence that has not begun.
    pub fn new(mut task: Task) -> Self {
        if let Task::SetAllAbsent(pairs) = &mut task {
            // One order for all: of two that meet, the one that wins the first common key has no cause to give up.
            pairs.sort();
            assert!(!pairs.is_empty(), "there is something to set");
            assert!(pairs.windows(2).all(|pair| pair[0].0 < pair[1].0), "keys are distinct");
        }
        let at = match task {
            Task::Move { .. } => Step::ReadSource,
            Task::SetAllAbsent(_) => Step::Look(0),
        };
        let target_version = Stamp::ZERO;
        Self { task, at, wrote: false, moves: 0, target_version, written: Vec::new() }
    }

    /// The first step.
    pub fn begin(&mut self) -> Next {
        let key = match (&self.task, self.at) {
            (Task::Move { source, target, .. }, Step::ReadSource) => {
                assert!(source != target, "a key is not moved to itself");
                source.clone()
            }
            (Task::SetAllAbsent(pairs), Step::Look(0)) => pairs[0].0.clone(),
            _ => return self.over(Err(Failure::Timeout)),
        };
        Next::Ask(key, KeyOp::Read)
    }

    /// The answer to what was asked for last.
    pub fn on_answer(&mut self, result: Result<Response, Failure>) -> Next {
        let response = match result {
            Ok(response) => response,
            Err(failure) => return self.fail(failure),
        };
        match self.at {
            Step::ReadSource => self.on_source(response),
            Step::WriteTarget(source_version) => self.on_target_written(&response, source_version),
            Step::DeleteSource => self.on_source_deleted(&response),
            Step::Look(number) => self.on_looked(number, &response),
            Step::Write(number) => self.on_written(number, &response),
            Step::TakeBack(number) => self.take_back(number),
            Step::Over => self.over(Err(Failure::Timeout)),
        }
    }

    fn over(&mut self, result: Result<Ending, Failure>) -> Next {
        self.at = Step::Over;
        Next::Done(result)
    }

    /// A step failed. A definite failure of the first write leaves everything as it was.
    fn fail(&mut self, failure: Failure) -> Next {
        let first =
            matches!(self.at, Step::WriteTarget(_) if self.moves == 1) || matches!(self.at, Step::Write(0));
        self.over(Err(if self.wrote && !first { Failure::Timeout } else { failure }))
    }

    fn on_source(&mut self, response: Response) -> Next {
        let Task::Move { target, replace, .. } = &self.task else {
            return self.over(Err(Failure::Timeout));
        };
        let Response::Value { value, version, expires_at, .. } = response else {
            // Gone after the target was written: somebody deleted it meanwhile, and that is what was to be done.
            return self.over(Ok(if self.wrote { Ending::Done } else { Ending::NoSource }));
        };
        if self.moves == MOVES_MAX {
            return self.over(Err(Failure::Timeout));
        }
        let when = match (*replace, self.wrote) {
            (true, _) => When::Always,
            (false, false) => When::Absent,
            (false, true) => When::Version(self.target_version),
        };
        let expiry = if expires_at == 0 { Expiry::Clear } else { Expiry::At(expires_at) };
        let ask = Next::Ask(target.clone(), KeyOp::Set { value, expiry, when, want_old: false });
        (self.at, self.wrote) = (Step::WriteTarget(version), true);
        self.moves += 1;
        ask
    }

    fn on_target_written(&mut self, response: &Response, source_version: Stamp) -> Next {
        let Some((true, version)) = changed(response) else {
            // Somebody has changed the target that this sequence made: which of the two values counts is theirs to say.
            let first = self.moves == 1;
            return self.over(if first { Ok(Ending::Exists) } else { Err(Failure::Timeout) });
        };
        self.target_version = version;
        match &self.task {
            Task::Move { source, remove: true, .. } => {
                self.at = Step::DeleteSource;
                Next::Ask(source.clone(), delete_version(source_version))
            }
            _ => self.over(Ok(Ending::Done)),
        }
    }

    fn on_source_deleted(&mut self, response: &Response) -> Next {
        match (changed(response), &self.task) {
            (Some((false, _)), Task::Move { source, .. }) => {
                self.at = Step::ReadSource;
                Next::Ask(source.clone(), KeyOp::Read)
            }
            _ => self.over(Ok(Ending::Done)),
        }
    }

    fn on_looked(&mut self, number: usize, response: &Response) -> Next {
        if !matches!(response, Response::Absent { .. }) {
            return self.over(Ok(Ending::Exists));
        }
        let Task::SetAllAbsent(pairs) = &self.task else {
            return self.over(Err(Failure::Timeout));
        };
        match pairs.get(number + 1) {
            Some((key, _)) => {
                self.at = Step::Look(number + 1);
                Next::Ask(key.clone(), KeyOp::Read)
            }
            None => self.write(0),
        }
    }

    fn write(&mut self, number: usize) -> Next {
        let Task::SetAllAbsent(pairs) = &self.task else {
            return self.over(Err(Failure::Timeout));
        };
        let Some((key, value)) = pairs.get(number) else {
            return self.over(Ok(Ending::Done));
        };
        let (value, when) = (value.clone(), When::Absent);
        let ask = Next::Ask(key.clone(), KeyOp::Set { value, expiry: Expiry::Clear, when, want_old: false });
        (self.at, self.wrote) = (Step::Write(number), true);
        ask
    }

    fn on_written(&mut self, number: usize, response: &Response) -> Next {
        match changed(response) {
            Some((true, version)) => {
                self.written.push(version);
                self.write(number + 1)
            }
            _ if planted::on(Bug::C4RefusedSetLeavesHalf) => self.over(Ok(Ending::Exists)),
            _ => self.take_back(number),
        }
    }

    /// Deletes the key before `number`, unless it has been changed since.
    fn take_back(&mut self, number: usize) -> Next {
        let (Some(number), Task::SetAllAbsent(pairs)) = (number.checked_sub(1), &self.task) else {
            return self.over(Ok(Ending::Exists));
        };
        self.at = Step::TakeBack(number);
        Next::Ask(pairs[number].0.clone(), delete_version(self.written[number]))
    }
}

/// Whether a write was applied, and its version.
fn changed(response: &Response) -> Option<(bool, Stamp)> {
    match response {
        Response::Mutated { outcome: Outcome::Changed { applied, .. }, version } => {
            Some((*applied, *version))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "sequence_tests.rs"]
mod tests;
