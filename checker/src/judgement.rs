//! A judgement on one history, as data.

use crate::causal::Anomaly;
use crate::formats::{Format, Reading};
use crate::history::Operation;
use crate::multi;
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
    /// What the reader should know: reads that could not be judged, and the like.
    pub notes: Vec<String>,
    /// The operations to be shown with a violation of linearizability.
    pub shown: Vec<Operation>,
    /// Operations that were decided and let go of while the rest was read.
    pub let_go: usize,
}

/// A note on a file without operations.
pub(crate) const NOTHING_JUDGED: &str = "there is no operation in it, so that nothing was judged";
