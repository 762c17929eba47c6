//! Time as an argument. The host reads its clocks once per step and hands the readings in.

use serde::{Deserialize, Serialize};

/// Nanoseconds of the host's monotonic clock since an arbitrary origin. Never compared between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Instant(pub u64);

impl Instant {
    /// The end of time: a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// This instant plus `millis` milliseconds, saturating.
    #[must_use]
    pub const fn plus_ms(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis.saturating_mul(1_000_000)))
    }

    /// Milliseconds from `earlier` to this instant; 0 if `earlier` is later.
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

/// Milliseconds since the Unix epoch by the host's wall clock. May step in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct WallTime(pub u64);

/// Both clocks of a host at the beginning of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Now {
    /// Monotonic clock: timers and deadlines.
    pub mono: Instant,
    /// Wall clock: the physical part of stamps, and TTL.
    pub wall: WallTime,
}
