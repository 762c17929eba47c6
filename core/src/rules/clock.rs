//! The hybrid logical clock with its durable ceiling (PROTOCOL S1-S4; Kulkarni et al., "Logical Physical Clocks").

use crate::base::limits::MAX_DRIFT_MS;
use crate::base::planted::{self, Bug};
use crate::base::{Hlc, NodeId, Stamp, WallTime};

/// Readings kept free below the ceiling when an input is admitted: more stamps than one input can ever use.
const ADMISSION_SLACK_MS: u64 = 10;

/// The clock of one shard. Its reading never falls and never passes the durable ceiling.
#[derive(Debug, Clone)]
pub struct Clock {
    node: NodeId,
    last: Hlc,
    ceiling: Hlc,
}

impl Clock {
    /// S4: starts at the higher of the physical clock and the ceiling found on disk; `ceiling` is the new durable one.
    pub fn start(node: NodeId, wall: WallTime, found: Hlc, ceiling: Hlc) -> Self {
        assert!(found <= ceiling, "the ceiling never falls");
        let found = if planted::on(Bug::S4ClockIgnoresCeiling) { Hlc(0) } else { found };
        let last = found.next().max(Hlc::from_ms(wall.0));
        Self { node, last: last.min(ceiling), ceiling }
    }

    /// The present reading. At or above every stamp issued, promised or accepted here.
    pub fn last(&self) -> Hlc {
        self.last
    }

    /// The durable ceiling.
    pub fn ceiling(&self) -> Hlc {
        self.ceiling
    }

    /// S3: a raise of the ceiling has become durable.
    pub fn raise(&mut self, ceiling: Hlc) {
        self.ceiling = self.ceiling.max(ceiling);
    }

    /// S2: whether a peer's reading is too far ahead of the physical clock to be believed.
    pub fn is_skewed(wall: WallTime, other: Hlc) -> bool {
        other.ms() > wall.0.saturating_add(MAX_DRIFT_MS) && !planted::on(Bug::S2SkewBelieved)
    }

    /// Moves to the highest of this clock, the physical clock and `other` and returns true; or returns false, unmoved, when
    /// that would come too near the ceiling: then the caller waits for a raise.
    pub fn admit(&mut self, wall: WallTime, other: Hlc) -> bool {
        let wanted = self.last.max(Hlc::from_ms(wall.0)).max(other);
        if !planted::on(Bug::S3StampAboveCeiling) && wanted.ms() + ADMISSION_SLACK_MS > self.ceiling.ms() {
            return false;
        }
        self.last = wanted;
        true
    }

    /// S1: a fresh stamp, above every stamp seen; `None` if it would pass the ceiling.
    pub fn issue(&mut self) -> Option<Stamp> {
        let next = self.last.next();
        if next > self.ceiling && !planted::on(Bug::S3StampAboveCeiling) {
            return None;
        }
        self.last = next;
        let anonymous = planted::on(Bug::S1StampWithoutNode);
        Some(Stamp { hlc: next, node: if anonymous { NodeId(1) } else { self.node } })
    }

    /// Lets the physical clock carry the reading on, as far as the ceiling permits.
    pub fn tick(&mut self, wall: WallTime) {
        let limit = Hlc::from_ms(self.ceiling.ms().saturating_sub(ADMISSION_SLACK_MS));
        self.last = self.last.max(Hlc::from_ms(wall.0).min(limit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(ceiling_ms: u64) -> Clock {
        Clock::start(NodeId(3), WallTime(1_000), Hlc(0), Hlc::from_ms(ceiling_ms))
    }

    #[test]
    fn s1_stamps_rise_even_when_the_wall_clock_does_not() {
        let mut clock = clock(2_000);
        let first = clock.issue().expect("below the ceiling");
        let second = clock.issue().expect("below the ceiling");
        assert!(second > first);
        assert_eq!(second.node, NodeId(3));
    }

    #[test]
    fn s3_no_stamp_passes_the_ceiling() {
        let mut clock = clock(2_000);
        assert!(!clock.admit(WallTime(1_995), Hlc(0)), "too near the ceiling");
        assert_eq!(clock.last(), Hlc::from_ms(1_000), "a refused admission moves nothing");
        clock.raise(Hlc::from_ms(3_000));
        assert!(clock.admit(WallTime(1_995), Hlc(0)));
        clock.tick(WallTime(9_000));
        assert!(clock.last() < clock.ceiling());
        let issued = core::iter::from_fn(|| clock.issue()).count();
        assert!(issued > 100_000, "the slack holds {issued} stamps");
        assert!(clock.last() <= clock.ceiling());
    }

    #[test]
    fn s4_a_start_is_above_everything_issued_before() {
        let found = Hlc(Hlc::from_ms(5_000).0 + 77);
        let clock = Clock::start(NodeId(1), WallTime(1_000), found, Hlc::from_ms(6_000));
        assert!(clock.last() > found);
    }

    #[test]
    fn s2_a_peer_far_ahead_is_not_believed() {
        assert!(Clock::is_skewed(WallTime(1_000), Hlc::from_ms(1_501)));
        assert!(!Clock::is_skewed(WallTime(1_000), Hlc::from_ms(1_500)));
    }
}
