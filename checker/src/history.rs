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
    /// Write `new` if the value is `old`; the time to live stays what it was. One that ends it is an [`Function::Update`].
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
    /// Change the value or its time to live under a condition: what the others cannot say. It answers as the others do, or with the value that was there
    /// before ([`Answer::Value`]), whether it changed anything or not.
    Update {
        /// The condition.
        when: When,
        /// What is done when it holds.
        change: Change,
    },
}

/// A condition on the present value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// None.
    Always,
    /// The key is absent.
    Absent,
    /// The key is present.
    Present,
    /// The key holds this value.
    Equals(Value),
}

/// What an update does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Write a value.
    Set {
        /// The value.
        value: Value,
        /// How long it lives.
        expiry: Expiry,
    },
    /// Delete; [`Answer::Applied`] tells whether there was something to delete.
    Delete,
    /// Overwrite bytes from an offset on, behind zeros where the value is shorter; [`Answer::Integer`] is the new length. It keeps the time to live,
    /// and no bytes change nothing.
    SetRange {
        /// The offset.
        offset: u32,
        /// The bytes.
        data: Value,
    },
    /// Change the time to live of a key that is present; [`Answer::Applied`] tells whether it is. [`Expiry::Clear`] demands besides that it has one.
    Expire(Expiry),
}

/// How long a value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Until it is deleted.
    Clear,
    /// As long as what was there before; for ever where nothing was.
    Keep,
    /// Milliseconds after the operation took effect.
    After(u64),
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
    /// The same where it changed nothing and tells why: this was there, or nothing.
    Refused(Option<Value>),
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
