//! Stamps: hybrid logical time plus the issuing node (PROTOCOL S1). A stamp is a last-writer-wins version and a Paxos
//! ballot at once; a stamp is used for one proposal, ever.

use super::ids::NodeId;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Hybrid logical clock reading: 48 bits of milliseconds since the Unix epoch, 16 bits of counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The reading with counter 0 at `millis` since the Unix epoch. Milliseconds beyond 48 bits saturate.
    pub const fn from_ms(millis: u64) -> Self {
        let max = (1 << 48) - 1;
        Self((if millis > max { max } else { millis }) << 16)
    }

    /// The millisecond part.
    pub const fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The next reading. Counter overflow carries into the milliseconds.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// `(hlc, node)`, totally ordered in that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// When.
    pub hlc: Hlc,
    /// Who; breaks ties.
    pub node: NodeId,
}

impl Stamp {
    /// Below every stamp ever issued: the ballot of an absent key.
    pub const ZERO: Self = Self { hlc: Hlc(0), node: NodeId(0) };

    /// The highest stamp with this reading, whoever issued it. Floors and ceilings are made with it.
    pub const fn upto(hlc: Hlc) -> Self {
        Self { hlc, node: NodeId(u16::MAX) }
    }

    /// C7: the version of a value that was overwritten within the very round of this ballot. It is below the ballot, and no
    /// record ever names it: no node has the id 0.
    #[must_use]
    pub const fn overwritten(self) -> Self {
        Self { hlc: self.hlc, node: NodeId(0) }
    }

    /// Whether this is a bound made by `upto` and not the stamp of a proposal: no node has that id.
    pub const fn is_bound(self) -> bool {
        self.node.0 == u16::MAX
    }
}

impl Default for Stamp {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}@{}", self.hlc.ms(), self.hlc.0 & 0xffff, self.node)
    }
}

/// Names one logical mutation over all its attempts (C10): a stamp of the cluster plus a number, or a client's UUIDv7
/// whose time is the stamp and whose 128 bits are the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct OpId {
    /// Every ballot used for the operation is above this stamp.
    pub stamp: Stamp,
    /// Distinguishes operations of equal stamps.
    pub number: u128,
}
