//! What a file cannot say of itself: how it is to be understood.

/// What a read of nil means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nil {
    /// Nothing is known of what was read (Knossos).
    Any,
    /// The key was absent.
    Absent,
}

/// What a failed compare-and-set means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedCas {
    /// It did not happen, and nothing else is known (Jepsen's rule for `fail`).
    DidNotHappen,
    /// It was done and found another value.
    Mismatch,
}

/// How a file is to be understood, where files of one format differ.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent customs of files")]
pub struct Reading {
    /// A read of nil; the format's custom unless told: any value in EDN, absent elsewhere.
    pub nil: Option<Nil>,
    /// A failed compare-and-set; the format's custom unless told: a mismatch in the etcd logs, else it did not happen
    /// (JSON lines say `"error": "mismatch"` themselves).
    pub failed_cas: Option<FailedCas>,
    /// The value of every key before the first operation; absent unless told. EDN maps with `:key` (Porcupine's key-value
    /// logs) begin with the empty string.
    pub initial: Option<Vec<u8>>,
    /// Keys are absent before the first operation, whatever the format's custom is.
    pub initially_absent: bool,
    /// Values are `[key value]`, as Jepsen's independent keys are.
    pub independent: bool,
    /// There is one register: operations need no key in JSON either.
    pub register: bool,
    /// An absent counter reads as 0.
    pub counter: bool,
    /// Every operation is a transaction on several registers, whatever it is called, and a read of nil means what it means for operations. Without it
    /// only those called `txn` are, and a read of nil means that nothing was written yet, unless [`Reading::nil`] tells.
    pub multi: bool,
}
