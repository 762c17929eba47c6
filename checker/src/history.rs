//! What clients saw: operations with the interval in which they ran.

/// Bytes of a value, as the client saw them.
pub type Value = Vec<u8>;

/// What an operation asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Function {
    /// Read.
    Get,
    /// Write. `ttl_ms` after its effect the value expires.
    Put {
        /// The value.
        value: Value,
        /// Milliseconds to live, if not for ever.
        ttl_ms: Option<u64>,
    },
    /// Write only if the key is absent (`false`) or present (`true`).
    PutIf {
        /// The value.
        value: Value,
        /// Whether the key must be present or absent.
        present: bool,
    },
    /// Delete.
    Delete,
    /// Write `new` if the value is `old`.
    Cas {
        /// Expected.
        old: Value,
        /// Written.
        new: Value,
    },
    /// Add to an integer; an absent key counts as 0.
    Incr(i64),
    /// Append bytes.
    Append(Value),
}

/// What an operation answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A read: the value, or absent.
    Value(Option<Value>),
    /// A write without condition, or an answer that says nothing.
    Done,
    /// A conditional operation or a delete: whether it changed anything.
    Applied(bool),
    /// The new number, or the new length.
    Integer(i64),
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect within its interval and answered.
    Ok(Answer),
    /// It may take effect at any time after its call, or never.
    Unknown,
}

/// How strictly an operation is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A write at this level may take effect any time from (about) its call on, or never; reads are not judged here.
    Eventual,
    /// An acknowledged write at this level takes effect before its return, in clock order among weak writes.
    Causal,
    /// Linearizable.
    Strong,
}

/// One operation of one client. Operations that certainly did not happen are left out of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The logical client.
    pub process: u64,
    /// The key.
    pub key: Vec<u8>,
    /// What was asked.
    pub function: Function,
    /// How it ended.
    pub outcome: Outcome,
    /// Nanoseconds at which it was called.
    pub call: u64,
    /// Nanoseconds at which it returned; not used when unknown.
    pub ret: u64,
    /// How strictly it is ordered.
    pub level: Level,
}

/// A recorded history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// In the order of their calls or not: the checkers sort.
    pub operations: Vec<Operation>,
}
