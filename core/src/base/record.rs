//! The record of a key: what a replica has accepted (PROTOCOL section 3).

use super::stamp::{OpId, Stamp};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What an applied mutation answered; kept beside its operation id so that a retry gets the same answer (C3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// A `Set`, `Delete` or `Cas`: whether it changed anything, and the value before when that was asked for.
    Changed {
        /// False when the condition did not hold.
        applied: bool,
        /// The value before (`SET ... GET`, `GETDEL`), if asked for and present.
        old: Option<Bytes>,
    },
    /// The new number (INCR), the new length (APPEND), or 1/0 (EXPIRE, PERSIST).
    Integer(i64),
    /// The current value was not what the operation needs; nothing changed.
    Rejected(Rejection),
    /// The operation was applied; its answer was too large to keep for retries.
    NotKept,
}

/// Why an operation on the current value was refused. The front end words it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rejection {
    /// The value is not a 64-bit signed integer.
    NotInteger,
    /// The result would leave the range of a 64-bit signed integer.
    Overflow,
    /// The value is not a floating-point number.
    NotFloat,
    /// The result would be NaN or infinite.
    NotFinite,
    /// The resulting value would exceed the limit on values.
    TooLarge,
}

/// One entry of `recent`: an operation that is part of this record's past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The operation.
    pub op_id: OpId,
    /// Its answer.
    pub outcome: Outcome,
    /// The ballot at which it was applied.
    pub stamp: Stamp,
}

/// What a replica holds for a key. `ballot` alone orders records; two records of one key with equal ballots are equal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// The proposal that put this record here.
    pub ballot: Stamp,
    /// The version that users see: the ballot of the write itself; a settled record keeps it.
    pub written: Stamp,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Milliseconds since the Unix epoch on the HLC after which the record counts as a tombstone; 0 = never.
    pub expires_at: u64,
    /// The latest mutations of the key, oldest first, bounded by `limits::RECENT_MAX`.
    pub recent: Vec<Applied>,
    /// The highest stamp pruned from `recent`, ever.
    pub evicted_upto: Stamp,
}

impl Record {
    /// G2: what a key that holds nothing shows below the watermark `upto`: ballot 0, and nothing known up to there.
    pub fn absent(upto: Stamp) -> Self {
        Self { written: upto, evicted_upto: upto, ..Self::default() }
    }

    /// Whether the record shows a value at `at_ms` on the HLC (T2: an expired record is a tombstone).
    pub fn is_live(&self, at_ms: u64) -> bool {
        self.value.is_some() && !self.is_expired(at_ms)
    }

    /// Whether the record carries a value whose time has come.
    pub fn is_expired(&self, at_ms: u64) -> bool {
        self.value.is_some() && self.expires_at != 0 && self.expires_at <= at_ms
    }
}

/// A key with its slot; the order of the store: by slot, then by key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordKey {
    /// The hash slot; numbers from `Slot::COUNT` on are the shard's own key spaces (hints).
    pub slot: super::ids::Slot,
    /// The user's key.
    pub key: Bytes,
}

impl RecordKey {
    /// The first possible key of `slot`.
    pub const fn start_of(slot: super::ids::Slot) -> Self {
        Self { slot, key: Bytes::new() }
    }

    /// The key for people, where a stretch of keys begins with it.
    pub fn as_first(&self) -> String {
        match &self.key[..] {
            b"" => format!("start of slot {}", self.slot.0),
            key => format!("{} (slot {})", key.escape_ascii(), self.slot.0),
        }
    }

    /// The key for people, where a stretch of keys ends before it.
    pub fn as_end(&self) -> String {
        let slot = self.slot.0;
        match (&self.key[..], slot.checked_sub(1)) {
            (b"", Some(before)) => format!("end of slot {before}"),
            (b"", None) => "start of slot 0".into(),
            // The first key behind another one.
            ([key @ .., 0], _) if !key.is_empty() => format!("{} (slot {slot})", key.escape_ascii()),
            (key, _) => format!("before {} (slot {slot})", key.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RecordKey;
    use crate::base::Slot;
    use bytes::Bytes;

    #[test]
    fn bounds_of_stretches_are_named_by_key_or_slot() {
        let table: [(u16, &[u8], &str, &str); 5] = [
            (7, b"", "start of slot 7", "end of slot 6"),
            (0, b"", "start of slot 0", "start of slot 0"),
            (7, b"a\xff", "a\\xff (slot 7)", "before a\\xff (slot 7)"),
            (7, b"a\0", "a\\x00 (slot 7)", "a (slot 7)"),
            (7, b"\0", "\\x00 (slot 7)", "before \\x00 (slot 7)"),
        ];
        for (slot, key, first, end) in table {
            let key = RecordKey { slot: Slot(slot), key: Bytes::from_static(key) };
            assert_eq!((key.as_first().as_str(), key.as_end().as_str()), (first, end));
        }
    }
}
