//! The cluster as Redis Cluster's clients see it.

use crate::commands::help;
use crate::resp::{Args, Value};
use crate::server::Server;
use bytes::Bytes;
use samara_core::base::{NodeId, Slot};
use samara_core::rules::slots::slot_of;
use std::collections::BTreeMap;

impl Server {
    /// CLUSTER.
    pub fn cluster(&self, sub: &str, a: &Args<'_>) -> Result<Value, Value> {
        match sub {
            "keyslot" => Ok(Value::Integer(i64::from(slot_of(&a[2]).0))),
            "myid" => Ok(Value::text(node_name(self.node))),
            "info" => Ok(Value::Verbatim(Bytes::from(format!(
                "cluster_enabled:1\r\ncluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n\
                 cluster_known_nodes:{0}\r\ncluster_size:{0}\r\ncluster_current_epoch:{1}\r\n",
                self.config.members.len(),
                self.config.epoch.0
            )))),
            "slots" => Ok(self.slots()),
            "shards" => Ok(self.cluster_shards()),
            "nodes" => Ok(Value::Verbatim(Bytes::from(self.nodes()))),
            _ => Ok(help("CLUSTER", "COUNTKEYSINSLOT GETKEYSINSLOT INFO KEYSLOT MYID NODES SHARDS SLOTS")),
        }
    }

    /// The replicas of a slot, as `host:port`.
    pub fn replicas(&self, slot: Slot) -> Vec<Value> {
        let address = |node: &NodeId| {
            let (host, port) = self.addresses.get(node).cloned().unwrap_or_default();
            Value::text(format!("{host}:{port}"))
        };
        self.table.replicas(slot).iter().map(address).collect()
    }

    /// Ranges of slots with equal replicas.
    fn ranges(&self) -> Vec<(u16, u16, &[NodeId])> {
        let mut ranges: Vec<(u16, u16, &[NodeId])> = Vec::new();
        for slot in 0..Slot::COUNT {
            let replicas = self.table.replicas(Slot(slot));
            match ranges.last_mut() {
                Some((_, end, held)) if *held == replicas => *end = slot,
                _ => ranges.push((slot, slot, replicas)),
            }
        }
        ranges
    }

    /// The ranges by the replicas that hold them, the preferred one first.
    fn by_replicas(&self) -> BTreeMap<&[NodeId], Vec<(u16, u16)>> {
        let mut held: BTreeMap<&[NodeId], Vec<(u16, u16)>> = BTreeMap::new();
        for (from, to, replicas) in self.ranges() {
            held.entry(replicas).or_default().push((from, to));
        }
        held
    }

    fn cluster_shards(&self) -> Value {
        let member = |(place, node): (usize, &NodeId)| {
            let (host, port) = self.addresses.get(node).cloned().unwrap_or_default();
            let role = if place == 0 { "master" } else { "replica" };
            Value::Map(vec![
                (Value::text("id"), Value::text(node_name(*node))),
                (Value::text("port"), Value::Integer(i64::from(port))),
                (Value::text("ip"), Value::text(host.clone())),
                (Value::text("endpoint"), Value::text(host)),
                (Value::text("role"), Value::text(role)),
                (Value::text("replication-offset"), Value::Integer(0)),
                (Value::text("health"), Value::text("online")),
            ])
        };
        let shard = |(replicas, ranges): (&[NodeId], Vec<(u16, u16)>)| {
            let slots = ranges.iter().flat_map(|(from, to)| [*from, *to]);
            let slots = slots.map(|slot| Value::Integer(i64::from(slot))).collect();
            Value::Map(vec![
                (Value::text("slots"), Value::Array(slots)),
                (Value::text("nodes"), Value::Array(replicas.iter().enumerate().map(member).collect())),
            ])
        };
        Value::Array(self.by_replicas().into_iter().map(shard).collect())
    }

    /// CLUSTER NODES: a slot stands with its preferred replica.
    fn nodes(&self) -> String {
        let mut held: BTreeMap<NodeId, Vec<(u16, u16)>> = BTreeMap::new();
        for (from, to, replicas) in self.ranges() {
            let Some(first) = replicas.first() else { continue };
            let ranges = held.entry(*first).or_default();
            match ranges.last_mut() {
                Some((_, end)) if *end + 1 == from => *end = to,
                _ => ranges.push((from, to)),
            }
        }
        let line = |node: NodeId| {
            let (host, port) = self.addresses.get(&node).cloned().unwrap_or_default();
            let myself = if node == self.node { "myself," } else { "" };
            let range = |(from, to): &(u16, u16)| {
                if from == to { format!(" {from}") } else { format!(" {from}-{to}") }
            };
            let slots: String = held.get(&node).into_iter().flatten().map(range).collect();
            let epoch = self.config.epoch.0;
            format!("{} {host}:{port}@0 {myself}master - 0 0 {epoch} connected{slots}\n", node_name(node))
        };
        self.config.members.iter().map(|member| line(member.node)).collect()
    }

    fn slots(&self) -> Value {
        let member = |node: &NodeId| {
            let (host, port) = self.addresses.get(node).cloned().unwrap_or_default();
            Value::Array(vec![
                Value::text(host),
                Value::Integer(i64::from(port)),
                Value::text(node_name(*node)),
                Value::Array(Vec::new()),
            ])
        };
        let range = |(from, to, replicas): (u16, u16, &[NodeId])| {
            let mut range = vec![Value::Integer(i64::from(from)), Value::Integer(i64::from(to))];
            range.extend(replicas.iter().map(member));
            Value::Array(range)
        };
        Value::Array(self.ranges().into_iter().map(range).collect())
    }
}

/// A node's name in the form of Redis Cluster: 40 hex digits.
fn node_name(node: NodeId) -> String {
    format!("{:040x}", node.0)
}
