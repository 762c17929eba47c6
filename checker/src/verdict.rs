//! What a check of linearizability may assume and spend, and what it finds.

use crate::history::Operation;
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

impl Limits {
    /// When to give up, counted from now.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }
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
