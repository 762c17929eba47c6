//! A judgement on one history, as data.

use crate::causal::Anomaly;
use crate::formats::{Format, Reading};
use crate::history::Operation;
use crate::multi;
use crate::names::Names;
use crate::unjudged::NotJudged;
use crate::verdict::{Limits, Options, Report};

/// What a history must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Every key is linearizable.
    Linearizable,
    /// Causally consistent (CC).
    Causal,
    /// Causally convergent (CCv): concurrent writes stand in one order for all.
    CausalConvergence,
    /// Causal memory (CM).
    CausalMemory,
    /// Read your writes, monotonic reads, monotonic writes, writes follow reads.
    Session,
    /// Replicas agree in the end, nothing acknowledged is lost, counters count once.
    Eventual,
    /// Transactions are seen whole.
    ReadAtomic,
    /// Transactions read what is committed, in an order.
    ReadCommitted,
}

/// The levels by their names.
const NAMES: [(&str, Level); 9] = [
    ("linearizable", Level::Linearizable),
    ("causal", Level::CausalConvergence),
    ("ccv", Level::CausalConvergence),
    ("cc", Level::Causal),
    ("cm", Level::CausalMemory),
    ("session", Level::Session),
    ("eventual", Level::Eventual),
    ("read-atomic", Level::ReadAtomic),
    ("read-committed", Level::ReadCommitted),
];

impl Level {
    /// The level of this name.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(other, _)| *other == name).map(|(_, level)| *level)
    }

    /// Its name on the command line; of causal convergence, which has two, `causal`.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, level)| *level == self).map_or("", |(name, _)| *name)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }
}

/// How to judge.
#[derive(Debug, Clone, Default)]
pub struct Demand {
    /// What is demanded; linearizable of operations and causal convergence of transactions unless told.
    pub level: Option<Level>,
    /// Format of the file, unless it shall be found out.
    pub format: Option<Format>,
    /// How the file is to be understood.
    pub reading: Reading,
    /// What linearizability may assume.
    pub options: Options,
    /// What may be spent.
    pub limits: Limits,
    /// How many operations of a file are kept, at the least, before what is decided is let go of.
    pub keep: Option<usize>,
}

/// What was found.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Of linearizability.
    Linearizability(Report),
    /// Of the checks that look at who read from whom: what is wrong, if anything. `Err`: given up, and why.
    Anomaly(Result<Option<Anomaly>, String>),
    /// Of transactions as one object: why they have no order, if they have none. `Err`: given up, and why.
    Transactions(Result<Option<multi::Counterexample>, String>),
}

/// A judgement on one history.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// What was demanded.
    pub level: Level,
    /// The name by which it was demanded.
    pub level_name: &'static str,
    /// Operations, or accesses of transactions.
    pub operations: usize,
    /// Keys.
    pub keys: usize,
    /// Seconds that reading took.
    pub reading_seconds: f64,
    /// Seconds that judging took.
    pub seconds: f64,
    /// What was found.
    pub outcome: Outcome,
    /// What the reader should know: that nothing was there to be judged, and the like.
    pub notes: Vec<String>,
    /// What was not judged.
    pub unjudged: NotJudged,
    /// The names of clients in the explanation, of those that have one.
    pub names: Names,
    /// The operations to be shown with a violation of linearizability.
    pub shown: Vec<Operation>,
    /// Operations that were decided and let go of while the rest was read.
    pub let_go: usize,
}

impl Judgement {
    /// One in which nothing was judged yet.
    pub(crate) fn new(level: Level, outcome: Outcome) -> Self {
        Self {
            level,
            level_name: level.name(),
            operations: 0,
            keys: 0,
            reading_seconds: 0.0,
            seconds: 0.0,
            outcome,
            notes: Vec::new(),
            unjudged: NotJudged::default(),
            names: Names::new(),
            shown: Vec::new(),
            let_go: 0,
        }
    }
}

/// A note on a file without operations.
pub(crate) const NOTHING_JUDGED: &str = "there is no operation in it, so that nothing was judged";
