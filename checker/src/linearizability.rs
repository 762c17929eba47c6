//! Linearizability, key by key (Herlihy and Wing, 1990).
//!
//! A history is linearizable when each of its keys is. A key is judged by the fastest means that applies: the versions in its
//! replies, zones where values are written once each, and else a frontier that is advanced at each return.

use crate::explain::{Violation, explain};
use crate::frontier::{self, Budget, Found};
use crate::history::{History, Operation};
use crate::kernel::Kernel;
use crate::recording::Recording;
use crate::slots::Slots;
use crate::versions;
use crate::zones::{self, Why};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What the checker may assume and spend.
#[derive(Debug, Clone)]
pub struct Options {
    /// How far clocks that judge expiry may be off, nanoseconds.
    pub expiry_slack: u64,
    /// How far before its call a weak write may stand in the order, nanoseconds (clocks decide among weak writes).
    pub weak_slack: u64,
    /// Steps of the search for one key before it gives up.
    pub steps_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { expiry_slack: 0, weak_slack: 0, steps_max: 50_000_000 }
    }
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every key is linearizable.
    Holds,
    /// Some key is not.
    Violated(Counterexample),
    /// The search for this key was given up.
    Undecided {
        /// The key.
        key: Vec<u8>,
    },
}

/// Why a key is not linearizable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterexample {
    /// The key.
    pub key: Vec<u8>,
    /// The longest prefix that could be put in order.
    pub prefix: Vec<Operation>,
    /// The operation that returned next and could not be placed.
    pub stuck: Operation,
    /// The smallest part of the history that was found to have no order either: what is read in it is also written in it.
    pub smallest: Vec<Operation>,
}

/// What a check of a recording may spend.
#[derive(Debug, Clone)]
pub struct Limits {
    /// When to give up what is not decided.
    pub timeout: Option<Duration>,
    /// Threads.
    pub threads: usize,
    /// Bytes that each thread's search may take beyond the recording.
    pub memory: usize,
    /// Whether the versions in replies may show the order. They can only show that there is one: when they show none, the values decide.
    pub versions: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: None, threads: 1, memory: 256 << 20, versions: true }
    }
}

/// The judgement on a recording.
#[derive(Debug, Clone)]
pub struct Report {
    /// The judgement. [`Verdict::Undecided`] names the first key that was given up, when no key is violated.
    pub verdict: Verdict,
    /// How many keys there are.
    pub keys: usize,
    /// Keys that were given up.
    pub undecided: Vec<Undecided>,
}

/// A key that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecided {
    /// The key.
    pub key: Vec<u8>,
    /// How many operations it has.
    pub operations: usize,
    /// How many of its first operations are certainly linearizable.
    pub decided: usize,
}

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
    let deadline = limits.timeout.map(|timeout| Instant::now() + timeout);
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
            KeyVerdict::Violated(example) => Some(example.clone()),
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
    Violated(Counterexample),
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
        let mut conflict = None;
        match zones::judge(&kernel) {
            Some(Ok(())) => return KeyVerdict::Holds,
            Some(Err(Why::Conflict(ops))) => conflict = Some(ops),
            None => {}
        }
        let slots = Slots::new(&kernel);
        let mut budget = Budget { steps: self.steps, deadline: self.deadline, memory: self.limits.memory };
        let events = kernel.events.len();
        let stuck = match frontier::search(&mut kernel, &slots, events, false, &mut budget) {
            Found::Stuck(stuck, _) => Some(stuck),
            Found::Order(_) => {
                assert!(conflict.is_none(), "zones and frontier disagree");
                return KeyVerdict::Holds;
            }
            Found::Spent(event) if conflict.is_none() => {
                let decided = kernel.events[..event].iter().filter(|code| *code & 1 == 1).count();
                return KeyVerdict::Undecided { decided };
            }
            Found::Spent(_) => None,
        };
        let violation = Violation { stuck, conflict };
        let example = explain(self.recording, self.options, &mut kernel, &slots, &violation, budget);
        KeyVerdict::Violated(example)
    }
}

#[cfg(test)]
#[path = "linearizability_tests.rs"]
mod tests;
