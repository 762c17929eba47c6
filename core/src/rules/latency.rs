//! How long each peer takes to answer, and so how long to wait before another one is asked too (a hedged request; Dean and
//! Barroso, "The Tail at Scale"). The estimate is that of TCP's retransmission timer (Jacobson, "Congestion Avoidance and
//! Control"): a smoothed mean and a smoothed deviation. A wrong estimate costs a message or some latency, never safety.

use crate::base::{Instant, NodeId};
use alloc::collections::BTreeMap;

/// Microseconds to wait for a peer of which nothing is known.
const UNKNOWN_US: u64 = 20_000;
/// Least and most microseconds to wait.
const BOUNDS_US: (u64, u64) = (2_000, 100_000);

#[derive(Debug, Clone, Copy)]
struct Estimate {
    mean_us: u64,
    deviation_us: u64,
}

/// Answer times of peers.
#[derive(Debug, Clone, Default)]
pub struct Latency(BTreeMap<NodeId, Estimate>);

impl Latency {
    /// `peer` answered at `now` what it was asked at `sent`.
    pub fn observe(&mut self, peer: NodeId, sent: Instant, now: Instant) {
        let took_us = (now.0.saturating_sub(sent.0) / 1_000).min(10 * BOUNDS_US.1);
        let first = Estimate { mean_us: took_us, deviation_us: took_us / 2 };
        let estimate = self.0.entry(peer).or_insert(first);
        let off_us = took_us.abs_diff(estimate.mean_us);
        estimate.deviation_us = (3 * estimate.deviation_us + off_us) / 4;
        estimate.mean_us = (7 * estimate.mean_us + took_us) / 8;
    }

    /// When, after a request at `sent`, an answer of `peer` is late.
    pub fn late_at(&self, peer: NodeId, sent: Instant) -> Instant {
        let wait_us = self.0.get(&peer).map_or(UNKNOWN_US, |estimate| {
            (estimate.mean_us + 4 * estimate.deviation_us).clamp(BOUNDS_US.0, BOUNDS_US.1)
        });
        Instant(sent.0.saturating_add(wait_us * 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(at: u64) -> Instant {
        Instant(at * 1_000)
    }

    #[test]
    fn patience_follows_the_peer_and_stays_within_its_bounds() {
        let mut latency = Latency::default();
        let peer = NodeId(2);
        assert_eq!(latency.late_at(peer, us(7)), us(7 + UNKNOWN_US), "nothing is known");
        for _ in 0..50 {
            latency.observe(peer, us(0), us(5_000));
        }
        let steady = latency.late_at(peer, us(0));
        assert!(steady >= us(5_000) && steady < us(5_200), "a steady peer is late soon: {steady:?}");
        latency.observe(peer, us(0), us(9_000));
        assert!(latency.late_at(peer, us(0)) > us(9_000), "one slow answer makes it more patient");
        for _ in 0..50 {
            latency.observe(peer, us(0), us(90_000_000));
        }
        assert_eq!(latency.late_at(peer, us(0)), us(BOUNDS_US.1));
        for _ in 0..100 {
            latency.observe(peer, us(0), us(1));
        }
        assert_eq!(latency.late_at(peer, us(0)), us(BOUNDS_US.0));
    }
}
