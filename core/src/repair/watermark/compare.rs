//! G1 (b): what the lists of a slot's replicas say they differ on. A pure decision.

use crate::base::{NodeId, Stamp};
use crate::rules::quorum::majority;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use bytes::Bytes;

/// A replica's keys with their ballots, and the last key it looked at if its list was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) node: NodeId,
    pub(super) entries: Vec<(Bytes, Stamp)>,
    pub(super) last: Option<Bytes>,
}

/// A key on which replicas differ at or below the watermark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) key: Bytes,
    /// The highest ballot at or below the watermark, and a replica that holds it.
    pub(super) ballot: Stamp,
    pub(super) holder: NodeId,
    /// Those that hold less.
    pub(super) lower: Vec<NodeId>,
    /// R5: a majority holds this very ballot.
    pub(super) chosen: bool,
}

/// How far all lists reach; `None`: to the end of the range.
pub(super) fn covered(lists: &[Listed]) -> Option<Bytes> {
    lists.iter().filter_map(|listed| listed.last.clone()).min()
}

/// The keys on which the replicas differ, as far as all lists reach. A replica whose record is above the watermark has
/// nothing to be compared: it will neither show nor drop an older one. `me` is preferred as the holder.
pub(super) fn differences(lists: &[Listed], upto: Stamp, me: NodeId) -> Vec<Difference> {
    let covered = covered(lists);
    let is_covered = |key: &Bytes| covered.as_ref().is_none_or(|covered| key <= covered);
    let maps: Vec<(NodeId, BTreeMap<&Bytes, Stamp>)> = lists
        .iter()
        .map(|listed| (listed.node, listed.entries.iter().map(|(key, ballot)| (key, *ballot)).collect()))
        .collect();
    let keys: BTreeSet<&Bytes> =
        maps.iter().flat_map(|(_, map)| map.keys().copied()).filter(|key| is_covered(key)).collect();
    let mut found = Vec::new();
    for key in keys {
        let held = maps.iter().map(|(node, map)| (*node, map.get(key).copied().unwrap_or_default()));
        let held: Vec<(NodeId, Stamp)> = held.filter(|(_, ballot)| *ballot <= upto).collect();
        let Some(ballot) = held.iter().map(|(_, ballot)| *ballot).max() else {
            continue;
        };
        let lower: Vec<NodeId> =
            held.iter().filter(|(_, held)| *held < ballot).map(|(node, _)| *node).collect();
        if lower.is_empty() {
            continue;
        }
        let holders: Vec<NodeId> =
            held.iter().filter(|(_, held)| *held == ballot).map(|(node, _)| *node).collect();
        let Some(holder) = holders.iter().find(|node| **node == me).or(holders.first()).copied() else {
            continue;
        };
        let chosen = holders.len() >= majority(lists.len());
        found.push(Difference { key: key.clone(), ballot, holder, lower, chosen });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Hlc;

    fn stamp(ms: u64) -> Stamp {
        Stamp { hlc: Hlc::from_ms(ms), node: NodeId(1) }
    }

    fn listed(node: u16, entries: &[(&'static str, u64)], last: Option<&'static str>) -> Listed {
        let entries = entries.iter().map(|(key, ms)| (Bytes::from(*key), stamp(*ms))).collect();
        Listed { node: NodeId(node), entries, last: last.map(Bytes::from) }
    }

    fn found(lists: &[Listed]) -> Vec<(Bytes, u64, u16, Vec<u16>, bool)> {
        let plain = |found: Difference| {
            let lower = found.lower.iter().map(|node| node.0).collect();
            (found.key, found.ballot.hlc.ms(), found.holder.0, lower, found.chosen)
        };
        differences(lists, stamp(10), NodeId(2)).into_iter().map(plain).collect()
    }

    #[test]
    fn what_is_equal_or_above_the_watermark_does_not_differ() {
        let lists = [listed(1, &[("a", 5), ("b", 20)], None), listed(2, &[("a", 5), ("b", 21)], None)];
        assert_eq!(found(&lists), []);
        let lists =
            [listed(1, &[("a", 5)], None), listed(2, &[("a", 20)], None), listed(3, &[("a", 5)], None)];
        assert_eq!(found(&lists), [], "one that is above has nothing to be compared");
        assert_eq!(found(&[listed(1, &[], None), listed(2, &[("a", 20)], None)]), []);
    }

    #[test]
    fn the_highest_below_the_watermark_goes_to_those_that_hold_less() {
        let lists =
            [listed(1, &[("a", 5)], None), listed(2, &[("a", 5)], None), listed(3, &[("a", 3)], None)];
        assert_eq!(found(&lists), [("a".into(), 5, 2, alloc::vec![3], true)]);
        let lists = [listed(1, &[("a", 5)], None), listed(2, &[("a", 20)], None), listed(3, &[], None)];
        assert_eq!(found(&lists), [("a".into(), 5, 1, alloc::vec![3], false)], "5 was not chosen");
        let lists = [listed(1, &[], None), listed(2, &[("a", 10)], None), listed(3, &[], None)];
        assert_eq!(found(&lists), [("a".into(), 10, 2, alloc::vec![1, 3], false)]);
    }

    #[test]
    fn lists_are_compared_as_far_as_the_shortest_reaches() {
        let lists = [listed(1, &[("a", 5)], Some("a")), listed(2, &[("a", 5), ("b", 4)], None)];
        assert_eq!(covered(&lists), Some("a".into()));
        assert_eq!(found(&lists), []);
    }
}
