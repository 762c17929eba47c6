//! What clients ask for, and on which keys.

use serde::{Deserialize, Serialize};

/// What an operation does. Values are made unique by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// GET.
    Read,
    /// SET.
    Set,
    /// DEL.
    Delete,
    /// CAS from the value last seen by the client.
    Cas,
    /// INCR on a counter of its own.
    Incr,
    /// SET PX of so many milliseconds.
    SetTtl(u64),
    /// APPEND.
    Append,
    /// SET NX.
    SetAbsent,
    /// A write on the condition that the version is still the one last read by the client.
    SetVersion,
    /// The next page, of so many keys, of a walk over the key space.
    Page(u32),
    /// SET XX.
    SetPresent,
    /// SET GET.
    GetSet,
    /// GETDEL.
    GetDelete,
    /// A deletion on the condition that the value is the one last seen by the client.
    DeleteEquals,
    /// A deletion on the condition that the version is still the one last read by the client.
    DeleteVersion,
    /// INCRBYFLOAT on a number of its own.
    IncrFloat,
    /// SET KEEPTTL.
    SetKeep,
    /// PEXPIRE.
    Expire(u64),
    /// PERSIST.
    Persist,
    /// MSET of so many keys.
    SetMany(u64),
    /// MGET or EXISTS of so many keys.
    ReadMany(u64),
    /// DEL of so many keys.
    DeleteMany(u64),
    /// RENAME, RENAMENX, COPY to another key of the same slot.
    Move {
        /// The other key.
        to: u64,
        /// Whether an existing one is overwritten.
        replace: bool,
        /// Whether the source goes.
        remove: bool,
    },
    /// MSETNX of so many keys of one slot.
    SetAllAbsent(u64),
}

/// Which keys an operation is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// `key0`, `key1`, and counters of their own.
    #[default]
    Plain,
    /// Keys of one slot: `{t}0`, `{t}1`.
    Tagged,
    /// Keys whose time to live is changed: `timed0`, `timed1`.
    Timed,
}
