//! What clients ask and what they are answered. The front ends (RESP, HTTP) translate to and from this.

use super::{Hlc, Outcome, Slot, Stamp};
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Consistency level of one request (PROTOCOL section 1). Ordered from weakest to strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Level {
    /// Quorum of one; converges.
    Eventual,
    /// Majority; sessions.
    Causal,
    /// Linearizable per key.
    Strong,
}

/// A client's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Level wanted. Operations on the current value are strong whatever it says.
    pub level: Level,
    /// The session's token: the highest HLC the session has seen; 0 for none. The coordinator merges it first.
    pub session: Hlc,
    /// A client's UUIDv7 (IDEMPOTENT, Idempotency-Key): the operation takes effect at most once, retries included.
    pub idempotency: Option<u128>,
    /// What to do.
    pub body: Body,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// An operation on one key.
    Key {
        /// The key, 1 to `limits::KEY_BYTES_MAX` bytes (empty keys are allowed, as in Redis).
        key: Bytes,
        /// The operation.
        op: KeyOp,
    },
    /// Keys in store order, from (`slot`, after `after`), over all slots of the cluster. Merged from a majority of
    /// every slot's replicas, without linearizability.
    Scan {
        /// First slot.
        slot: Slot,
        /// Only keys greater than this in `slot`.
        after: Option<Bytes>,
        /// Most entries wanted (bounded by `limits::SCAN_PAGE_MAX`).
        limit: u32,
        /// Which keys.
        wanted: Wanted,
    },
}

/// Which keys a walk over the key space wants, and which way it goes. By default: all live keys, upwards, without values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Wanted {
    /// Only keys at or above this.
    pub low: Bytes,
    /// Only keys below this.
    pub high: Option<Bytes>,
    /// Downwards: from the last slot to the first, and in each from the last key to the first. `after` is then the lowest
    /// key covered, and only keys below it follow.
    pub reverse: bool,
    /// Only keys of the slot that the walk begins in.
    pub one_slot: bool,
    /// The values, too.
    pub values: bool,
    /// Keys that are deleted or expired, too, as long as a replica knows of them.
    pub dead: bool,
}

impl Wanted {
    /// Whether a key is in the range.
    pub fn takes(&self, key: &Bytes) -> bool {
        *key >= self.low && self.high.as_ref().is_none_or(|high| key < high)
    }
}

/// An operation on one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyOp {
    /// Read the value with its version and expiry. Answer: `Response::Value` or `Response::Absent`.
    Read,
    /// Write a value. Answer: `Outcome::Changed`.
    Set {
        /// The value, at most `limits::VALUE_BYTES_MAX`.
        value: Bytes,
        /// What becomes of the expiry.
        expiry: Expiry,
        /// Under which condition.
        when: When,
        /// Whether the old value is wanted (SET GET, GETSET).
        want_old: bool,
    },
    /// Delete. Answer: `Outcome::Changed { applied: existed }`. Unconditional deletes of level causal or eventual are
    /// blind and always answer `applied: true`.
    Delete {
        /// Under which condition; one that does not hold answers `applied: false`, as an absent key does.
        when: When,
        /// Whether the old value is wanted (GETDEL).
        want_old: bool,
    },
    /// Add to a 64-bit integer; an absent key counts as 0. Answer: `Outcome::Integer` or `Rejected`.
    Add(i64),
    /// Add to a floating-point number given as text; an absent key counts as 0. Answer: `Changed { old: new text }`.
    AddFloat(Bytes),
    /// Append bytes. Answer: `Integer(new length)`.
    Append(Bytes),
    /// Overwrite at an offset, zero-filled. Answer: `Integer(new length)`.
    SetRange {
        /// Byte offset.
        offset: u32,
        /// Bytes to write; empty changes nothing.
        data: Bytes,
    },
    /// Change the expiry of a live key. Answer: `Integer(1)` or `Integer(0)`.
    Expire {
        /// The new expiry; `Keep` is not meaningful here; `Clear` is PERSIST.
        expiry: Expiry,
        /// Under which condition on the present expiry.
        when: ExpireWhen,
        /// Answer with the value (GETEX): `Changed { applied: existed, old: value }` instead of an integer.
        want_value: bool,
    },
}

impl KeyOp {
    /// Bytes of the values that it carries.
    pub fn payload(&self) -> usize {
        match self {
            Self::Set { value, when: When::Equals(expected), .. } => value.len() + expected.len(),
            Self::Delete { when: When::Equals(expected), .. } => expected.len(),
            Self::Set { value, .. } | Self::Append(value) | Self::AddFloat(value) => value.len(),
            Self::SetRange { data, .. } => data.len(),
            Self::Read | Self::Delete { .. } | Self::Add(_) | Self::Expire { .. } => 0,
        }
    }
}

/// What a write does to a key's expiry. Times are milliseconds since the Unix epoch, judged on the HLC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiry {
    /// The key lives until deleted.
    Clear,
    /// As it was (KEEPTTL).
    Keep,
    /// Expires at this time; a past time deletes.
    At(u64),
    /// Expires this many milliseconds after the coordinator's HLC.
    After(u64),
}

/// Condition of a write on the current value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// None.
    Always,
    /// NX.
    Absent,
    /// XX.
    Present,
    /// IFEQ, CAS.
    Equals(Bytes),
    /// The live value's version is this one.
    Version(Stamp),
}

/// Condition of an expiry change on the present expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpireWhen {
    /// None.
    Always,
    /// NX: only if the key has no expiry.
    NoExpiry,
    /// XX: only if it has one.
    HasExpiry,
    /// GT: only if later than the present one (none counts as infinite).
    Later,
    /// LT: only if earlier than the present one (none counts as infinite).
    Earlier,
    /// XX LT: only if the key has an expiry, and the new one is earlier.
    HasExpiryAndEarlier,
}

/// A client's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The session's token from now on: merge it into the next request's.
    pub session: Hlc,
    /// The answer.
    pub result: Result<Response, Failure>,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// `Read`: the key is live.
    Value {
        /// The value.
        value: Bytes,
        /// Version: the stamp of the write.
        version: Stamp,
        /// Milliseconds since the Unix epoch; 0 = never.
        expires_at: u64,
        /// The coordinator's HLC in milliseconds when it judged expiry: TTL = `expires_at - now_ms`.
        now_ms: u64,
    },
    /// `Read`: no live value.
    Absent {
        /// Version of the tombstone or expired record, `Stamp::ZERO` if there was none.
        version: Stamp,
    },
    /// A mutation.
    Mutated {
        /// Its answer.
        outcome: Outcome,
        /// The version it wrote, or the one it saw when it changed nothing.
        version: Stamp,
    },
    /// A page of `Scan`.
    Page(Page),
}

impl Response {
    /// The version that it names.
    pub fn version_mut(&mut self) -> Option<&mut Stamp> {
        match self {
            Self::Value { version, .. } | Self::Absent { version } | Self::Mutated { version, .. } => {
                Some(version)
            }
            Self::Page(_) => None,
        }
    }
}

/// A page of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Page {
    /// Live keys in store order.
    pub entries: Vec<PageEntry>,
    /// Where to go on (`slot`, `after`); `None` at the end.
    pub next: Option<(Slot, Option<Bytes>)>,
}

/// A live key of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageEntry {
    /// Its slot.
    pub slot: Slot,
    /// The key.
    pub key: Bytes,
    /// Milliseconds since the Unix epoch; 0 = never.
    pub expires_at: u64,
    /// The value, where values are wanted; else empty.
    pub value: Bytes,
}

/// Why a request was not answered. The first words are those of INTERFACES.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// UNAVAILABLE: certainly not applied, no quorum.
    Unavailable,
    /// TIMEOUT: the outcome is unknown.
    Timeout,
    /// OVERLOADED: not applied, retry later.
    Overloaded,
    /// CLOCKSKEW: not applied; a clock is off by more than `max_drift`.
    ClockSkew,
    /// DISKFULL: not applied.
    DiskFull,
    /// TOOLARGE: not applied; a limit on keys or values.
    TooLarge,
    /// BELOWFLOOR: not applied; the key's key space demands at least this level.
    BelowFloor(Level),
}
