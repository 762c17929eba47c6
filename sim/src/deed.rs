//! What operations do that the checker, which judges histories of any store, has no function for.

use samara_core::base::Stamp;

/// What an operation did, where the checker's functions do not say it: this judge does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Deed {
    /// The function of the operation says it.
    #[default]
    Plain,
    /// A write or a deletion under a condition.
    If {
        /// The value that must stand, or `None` if nothing may.
        value: Option<Vec<u8>>,
        /// The version that it must have.
        version: Option<Stamp>,
        /// What is written then; `None` deletes.
        then: Option<Vec<u8>>,
        /// Milliseconds to live.
        ttl_ms: Option<u64>,
    },
    /// SET KEEPTTL.
    PutKeep(Vec<u8>),
    /// PEXPIRE; PERSIST without a time.
    Expire {
        /// Milliseconds to live.
        ttl_ms: Option<u64>,
    },
}
