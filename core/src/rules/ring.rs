//! The consistent-hash ring with virtual nodes (DESIGN section 3; DeCandia et al., "Dynamo"), computed once per epoch into
//! a table of slots.

use crate::base::{Address, Config, Member, NodeId, ShardId, Slot};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// Who holds each slot. Lookup is an index; slots with equal lists share one.
#[derive(Debug, Clone)]
pub struct SlotTable {
    members: Vec<Member>,
    replication: usize,
    /// All members in order of preference; the first `replication` are the replicas.
    lists: Vec<Vec<NodeId>>,
    /// Index into `lists`, by slot.
    slots: Vec<u16>,
}

/// Where the token `index` of a node stands on the ring: two rounds of the splitmix64 finaliser over (node, index), so
/// that a node's tokens depend on nothing but its id.
fn token_position(node: NodeId, index: u16) -> u64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    mix(mix(u64::from(node.0).wrapping_add(0x9e37_79b9_7f4a_7c15))
        ^ u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl SlotTable {
    /// The table of a configuration with at least one member.
    pub fn new(config: &Config) -> Self {
        assert!(!config.members.is_empty(), "a cluster has members");
        assert!(config.replication > 0, "a slot has a replica");
        let mut tokens: Vec<(u64, NodeId)> = Vec::new();
        for member in &config.members {
            tokens.extend(
                (0..member.tokens.max(1)).map(|index| (token_position(member.node, index), member.node)),
            );
        }
        tokens.sort_unstable();
        let zones: BTreeMap<NodeId, &String> = config.members.iter().map(|m| (m.node, &m.zone)).collect();
        let replication = usize::from(config.replication).min(config.members.len());
        let mut table =
            Self { members: config.members.clone(), replication, lists: Vec::new(), slots: Vec::new() };
        let mut known: BTreeMap<Vec<NodeId>, u16> = BTreeMap::new();
        for slot in 0..Slot::COUNT {
            let position = u64::from(slot) << 50;
            let first = tokens.partition_point(|(at, _)| *at < position);
            let list = preference_list(&tokens, first, config.members.len(), replication, &zones);
            let index = *known.entry(list).or_insert_with_key(|list| {
                table.lists.push(list.clone());
                (table.lists.len() - 1) as u16
            });
            table.slots.push(index);
        }
        table
    }

    /// The replicas of `slot`, most preferred first; empty for slots that are not the users'.
    pub fn replicas(&self, slot: Slot) -> &[NodeId] {
        self.preference(slot).get(..self.replication).unwrap_or(&[])
    }

    /// All members, the replicas of `slot` first, then clockwise: the fallbacks of a sloppy quorum.
    pub fn preference(&self, slot: Slot) -> &[NodeId] {
        self.slots.get(usize::from(slot.0)).map_or(&[], |index| &self.lists[usize::from(*index)])
    }

    /// All members by id.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().map(|member| member.node)
    }

    /// The shard that serves `slot` at `node`; `None` if it is no member.
    pub fn address(&self, node: NodeId, slot: Slot) -> Option<Address> {
        let member = self.members.iter().find(|member| member.node == node)?;
        Some(Address { node, shard: ShardId(slot.0 % member.shards.max(1)) })
    }
}

/// All members clockwise from token `first`: first one of each zone until there are enough replicas, then the passed-over.
fn preference_list(
    tokens: &[(u64, NodeId)],
    first: usize,
    members: usize,
    replication: usize,
    zones: &BTreeMap<NodeId, &String>,
) -> Vec<NodeId> {
    let mut clockwise: Vec<NodeId> = Vec::with_capacity(members);
    for (_, node) in tokens[first..].iter().chain(&tokens[..first]) {
        if !clockwise.contains(node) {
            clockwise.push(*node);
            if clockwise.len() == members {
                break;
            }
        }
    }
    let mut chosen: Vec<NodeId> = Vec::with_capacity(members);
    for node in &clockwise {
        let zone = zones[node];
        let taken = !zone.is_empty() && chosen.iter().any(|other| zones[other] == zone);
        if chosen.len() < replication && !taken {
            chosen.push(*node);
        }
    }
    let rest: Vec<NodeId> = clockwise.into_iter().filter(|node| !chosen.contains(node)).collect();
    chosen.extend(rest);
    chosen
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
