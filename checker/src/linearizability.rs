//! Linearizability, key by key (Herlihy and Wing, 1990).
//!
//! A history is linearizable when each of its keys is. A key is judged by the fastest means that applies: the versions in its
//! replies, zones where values are written once each, and else a frontier that is advanced at each return.

use crate::attempts::{Searched, search};
use crate::explain::{Violation, explain};
use crate::frontier::Budget;
use crate::history::History;
use crate::kernel::Kernel;
use crate::recording::Recording;
use crate::versions;
use crate::zones::{self, Why};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

pub use crate::verdict::{Counterexample, Limits, Options, Report, Undecided, Verdict};

/// Judges every key of the history, one after the other: the same history gets the same verdict everywhere.
///
/// ```
/// use samara_check::history::{Answer, Function, History, Level, Operation, Outcome};
/// use samara_check::linearizability::{Options, Verdict, check};
///
/// let operation = |function, answer, call, ret| Operation {
///     process: 1, key: b"k".to_vec(), function, outcome: Outcome::Ok(answer), call, ret, level: Level::Strong,
/// };
/// let write = operation(Function::Put { value: b"a".to_vec(), ttl_ms: None }, Answer::Done, 0, 10);
/// let read = operation(Function::Get, Answer::Value(None), 20, 30);
/// let history = History { operations: vec![write, read] };
/// assert!(matches!(check(&history, &Options::default()), Verdict::Violated(_)), "the write was lost");
/// ```
pub fn check(history: &History, options: &Options) -> Verdict {
    check_recording(&Recording::of(history), options, &Limits::default()).verdict
}

/// Judges every key of a recording. Keys share time fairly: each gets a small share first, those that are not decided a larger
/// one, until all are decided or the limits are reached.
///
/// With a timeout, what is decided in time depends on the machine; a verdict other than undecided does not.
pub fn check_recording(recording: &Recording, options: &Options, limits: &Limits) -> Report {
    let mut keys: Vec<(u32, Vec<u32>)> = recording
        .by_key()
        .into_iter()
        .enumerate()
        .skip(1)
        .map(|(key, places)| (key as u32, places))
        .filter(|(_, places)| !places.is_empty())
        .collect();
    keys.sort_by(|a, b| recording.keys.text(a.0).cmp(recording.keys.text(b.0)));
    let deadline = limits.deadline();
    let mut verdicts: Vec<Option<KeyVerdict>> = vec![None; keys.len()];
    let mut share = FIRST_SHARE;
    loop {
        let steps = share.min(options.steps_max);
        let left: Vec<usize> = (0..keys.len())
            .filter(|at| !matches!(verdicts[*at], Some(KeyVerdict::Holds | KeyVerdict::Violated(_))))
            .collect();
        let round = Round { recording, options, limits, deadline, steps, keys: &keys };
        round.run(&left, &mut verdicts);
        let violated = verdicts.iter().flatten().find_map(|verdict| match verdict {
            KeyVerdict::Violated(example) => Some(Counterexample::clone(example)),
            _ => None,
        });
        let undecided = undecided(recording, &keys, &verdicts);
        let spent = steps == options.steps_max || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if violated.is_some() || undecided.is_empty() || spent {
            let verdict = match (violated, undecided.first()) {
                (Some(example), _) => Verdict::Violated(example),
                (None, Some(first)) => Verdict::Undecided { key: first.key.clone() },
                (None, None) => Verdict::Holds,
            };
            return Report { verdict, keys: keys.len(), undecided };
        }
        share = share.saturating_mul(8);
    }
}

/// Steps that a key gets in the first round.
const FIRST_SHARE: u64 = 200_000;

#[derive(Clone)]
enum KeyVerdict {
    Holds,
    Violated(Box<Counterexample>),
    Undecided { decided: usize },
}

fn undecided(
    recording: &Recording,
    keys: &[(u32, Vec<u32>)],
    verdicts: &[Option<KeyVerdict>],
) -> Vec<Undecided> {
    let all = keys.iter().zip(verdicts).filter_map(|((key, places), verdict)| {
        let decided = match verdict {
            Some(KeyVerdict::Undecided { decided }) => *decided,
            None => 0,
            _ => return None,
        };
        Some(Undecided { key: recording.keys.text(*key).to_vec(), operations: places.len(), decided })
    });
    all.collect()
}

/// One share of time for each key that is left.
struct Round<'a> {
    recording: &'a Recording,
    options: &'a Options,
    limits: &'a Limits,
    deadline: Option<Instant>,
    steps: u64,
    keys: &'a [(u32, Vec<u32>)],
}

impl Round<'_> {
    fn run(&self, left: &[usize], verdicts: &mut [Option<KeyVerdict>]) {
        let threads = self.limits.threads.clamp(1, left.len().max(1));
        if threads == 1 {
            for at in left {
                let verdict = self.judge(*at);
                let violated = matches!(verdict, KeyVerdict::Violated(_));
                verdicts[*at] = Some(verdict);
                if violated {
                    return;
                }
            }
            return;
        }
        let next = AtomicUsize::new(0);
        // The first violated key, in order, that was found so far: keys after it need not be judged.
        let violated = AtomicUsize::new(usize::MAX);
        let work = || {
            let mut judged = Vec::new();
            while let Some(at) = left.get(next.fetch_add(1, Ordering::Relaxed)) {
                if *at > violated.load(Ordering::Relaxed) {
                    break;
                }
                let verdict = self.judge(*at);
                if matches!(verdict, KeyVerdict::Violated(_)) {
                    violated.fetch_min(*at, Ordering::Relaxed);
                }
                judged.push((*at, verdict));
            }
            judged
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                match worker.join() {
                    Ok(judged) => judged.into_iter().for_each(|(at, verdict)| verdicts[at] = Some(verdict)),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }

    fn judge(&self, at: usize) -> KeyVerdict {
        let places = &self.keys[at].1;
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return KeyVerdict::Undecided { decided: 0 };
        }
        if self.limits.versions && versions::show_an_order(self.recording, places, self.options) {
            return KeyVerdict::Holds;
        }
        let mut kernel = Kernel::new(self.recording, places, self.options);
        let (mut stuck, mut conflict) = (None, None);
        let mut budget = Budget { steps: self.steps, deadline: self.deadline, memory: self.limits.memory };
        match zones::judge(&kernel) {
            Some(Ok(())) => return KeyVerdict::Holds,
            Some(Err(Why::Conflict(ops))) => conflict = Some(ops),
            None => match search(&kernel, self.steps > FIRST_SHARE, &mut budget) {
                Searched::Holds => return KeyVerdict::Holds,
                Searched::Stuck(at) => stuck = Some(at),
                Searched::Spent(decided) => return KeyVerdict::Undecided { decided },
            },
        }
        let violation = Violation { stuck, conflict };
        // To explain may cost what it cost to find out.
        budget.steps = budget.steps.min(self.steps - budget.steps);
        let example = explain(self.recording, self.options, &mut kernel, &violation, budget);
        KeyVerdict::Violated(Box::new(example))
    }
}

#[cfg(test)]
#[path = "linearizability_tests.rs"]
mod tests;
