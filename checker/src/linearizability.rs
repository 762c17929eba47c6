//! Linearizability, key by key (Herlihy and Wing), by the search of Wing and Gong with Lowe's memoisation.
//!
//! Two strengthenings keep the search short: operations of unknown outcome need not be linearized at all, and states that
//! have been reached with the same set of operations are visited once.

use crate::history::{History, Operation};

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
}

/// Judges every key of the history.
pub fn check(history: &History, options: &Options) -> Verdict {
    crate::plain::check(history, None, options)
}

#[cfg(test)]
#[path = "linearizability_tests.rs"]
mod tests;
