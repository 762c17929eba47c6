use super::*;
use crate::base::config::TOKENS_DEFAULT;
use crate::base::{ClusterId, Epoch};
use alloc::collections::BTreeSet;
use alloc::format;
use proptest::prelude::*;

fn config(nodes: impl IntoIterator<Item = u16>, zones: u16, replication: u8) -> Config {
    let member = |node: u16| Member {
        node: NodeId(node),
        zone: if zones == 0 { String::new() } else { format!("z{}", node % zones) },
        tokens: TOKENS_DEFAULT,
        shards: 1,
    };
    let members = nodes.into_iter().map(member).collect();
    Config { cluster: ClusterId(1), epoch: Epoch(1), members, replication }
}

fn all_slots() -> impl Iterator<Item = Slot> {
    (0..Slot::COUNT).map(Slot)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn replicas_are_distinct_and_as_many_as_there_can_be(nodes in 1_u16..12, replication in 1_u8..=5) {
        let table = SlotTable::new(&config(1..=nodes, 0, replication));
        for slot in all_slots() {
            let replicas: BTreeSet<_> = table.replicas(slot).iter().collect();
            prop_assert_eq!(replicas.len(), usize::from(replication).min(usize::from(nodes)));
            prop_assert_eq!(table.preference(slot).len(), usize::from(nodes));
        }
    }

    #[test]
    fn a_new_node_moves_only_what_it_takes(nodes in 3_u16..10) {
        let (old, new) = (SlotTable::new(&config(1..=nodes, 0, 3)), SlotTable::new(&config(1..=nodes + 1, 0, 3)));
        for slot in all_slots() {
            let was: BTreeSet<_> = old.replicas(slot).iter().collect();
            let is: BTreeSet<_> = new.replicas(slot).iter().collect();
            let came: Vec<_> = is.difference(&was).collect();
            prop_assert!(came.is_empty() || came == [&&NodeId(nodes + 1)], "{slot} moved between old nodes");
        }
    }

    #[test]
    fn slots_are_balanced(nodes in 3_u16..10) {
        let table = SlotTable::new(&config(1..=nodes, 0, 3));
        let mut held: BTreeMap<NodeId, usize> = BTreeMap::new();
        for slot in all_slots() {
            for node in table.replicas(slot) {
                *held.entry(*node).or_default() += 1;
            }
        }
        let fair = usize::from(Slot::COUNT) * 3.min(usize::from(nodes)) / usize::from(nodes);
        for (node, count) in held {
            prop_assert!(count > fair * 6 / 10 && count < fair * 14 / 10, "{node} holds {count}, fair is {fair}");
        }
    }

    #[test]
    fn replicas_lie_in_distinct_zones(nodes in 3_u16..12) {
        let table = SlotTable::new(&config(1..=nodes, 3, 3));
        for slot in all_slots() {
            let zones: BTreeSet<u16> = table.replicas(slot).iter().map(|node| node.0 % 3).collect();
            prop_assert_eq!(zones.len(), 3, "{} lies in {:?}", slot, zones);
        }
    }
}

#[test]
fn fewer_zones_than_replicas_still_fill_the_list() {
    let table = SlotTable::new(&config(1..=4, 2, 3));
    for slot in all_slots() {
        assert_eq!(table.replicas(slot).iter().collect::<BTreeSet<_>>().len(), 3);
    }
}

#[test]
fn the_ring_is_the_same_for_ever() {
    let table = SlotTable::new(&config(1..=5, 0, 3));
    let sample: Vec<_> = [0, 1, 5000, 12_182, 16_383].map(|slot| table.replicas(Slot(slot)).to_vec()).into();
    insta::assert_debug_snapshot!(sample);
}
