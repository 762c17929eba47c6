//! Majorities over a slot's replicas. One set so far; a joint epoch will need a majority of each of two (E3).

use crate::base::NodeId;

/// How many of `n` replicas are a majority.
pub const fn majority(n: usize) -> usize {
    n / 2 + 1
}

/// A set of a slot's replicas, by their position in the preference list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Votes(u32);

impl Votes {
    /// Adds the replica `node`; false if it is not one of `replicas` or is already in.
    pub fn add(&mut self, replicas: &[NodeId], node: NodeId) -> bool {
        let Some(position) = replicas.iter().position(|replica| *replica == node) else {
            return false;
        };
        let bit = 1 << position;
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }

    /// Whether `node` is in.
    pub fn has(self, replicas: &[NodeId], node: NodeId) -> bool {
        replicas.iter().position(|replica| *replica == node).is_some_and(|at| self.0 & (1 << at) != 0)
    }

    /// How many are in.
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether those in are a majority.
    pub const fn is_majority(self, replicas: &[NodeId]) -> bool {
        self.count() >= majority(replicas.len())
    }

    /// Whether the others are too few for a majority: with those in refusing, it cannot be reached any more.
    pub const fn blocks_majority(self, replicas: &[NodeId]) -> bool {
        replicas.len() - self.count() < majority(replicas.len())
    }

    /// The union.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every replica is in.
    pub const fn is_all(self, replicas: &[NodeId]) -> bool {
        self.count() == replicas.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn two_majorities_share_a_replica(n in 1_usize..=9, a in 0_u32..512, b in 0_u32..512) {
            let mask = (1 << n) - 1;
            let (a, b) = (Votes(a & mask), Votes(b & mask));
            if a.count() >= majority(n) && b.count() >= majority(n) {
                prop_assert!(a.0 & b.0 != 0);
            }
        }

        #[test]
        fn refusals_block_exactly_when_the_rest_is_no_majority(n in 1_usize..=9, refused in 0_u32..512) {
            let replicas: alloc::vec::Vec<NodeId> = (0..n as u16).map(NodeId).collect();
            let refused = Votes(refused & ((1 << n) - 1));
            let rest = Votes(!refused.0 & ((1 << n) - 1));
            prop_assert_eq!(refused.blocks_majority(&replicas), !rest.is_majority(&replicas));
        }
    }

    #[test]
    fn a_vote_counts_once_and_only_from_a_replica() {
        let replicas = [NodeId(4), NodeId(7), NodeId(9)];
        let mut votes = Votes::default();
        assert!(votes.add(&replicas, NodeId(7)));
        assert!(!votes.add(&replicas, NodeId(7)), "a duplicated answer");
        assert!(!votes.add(&replicas, NodeId(5)), "not a replica");
        assert!(!votes.is_majority(&replicas));
        assert!(votes.add(&replicas, NodeId(9)));
        assert!(votes.is_majority(&replicas));
    }
}
