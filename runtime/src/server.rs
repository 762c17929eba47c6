//! What all connections of a node share, and the port that clients come to.

use crate::commands::{err, integer, word, wrong_arity};
use crate::connection::{level_name, serve, unknown_sub};
use crate::driver::Shard;
use crate::glob;
use crate::resp::Value;
use crate::stats::Stats;
use bytes::Bytes;
use samara_core::base::{Config, Level, NodeId, Slot};
use samara_core::rules::ring::SlotTable;
use samara_core::rules::slots::slot_of;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;

/// What all connections of a node share.
#[derive(Debug)]
pub struct Server {
    /// The shards of this process.
    pub shards: Arc<Vec<Shard>>,
    /// The level that a connection begins with.
    pub level: Level,
    /// What is counted.
    pub stats: Arc<Stats>,
    /// This node.
    pub node: NodeId,
    /// The cluster.
    pub config: Config,
    /// Host and client port of each member, as clients are told.
    pub addresses: BTreeMap<NodeId, (String, u16)>,
    /// How long a commit may wait for its sync, as CONFIG GET says it.
    pub durability: String,
}

/// Accepts clients for as long as the process lives.
pub async fn listen(listener: TcpListener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let id = server.stats.connections_total.fetch_add(1, Ordering::Relaxed) + 1;
                server.stats.connections.fetch_add(1, Ordering::Relaxed);
                let server = server.clone();
                tokio::spawn(async move {
                    serve(stream, server.clone(), id).await;
                    server.stats.connections.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a client: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl Server {
    /// INFO.
    pub fn info(&self) -> Value {
        let stats = &self.stats;
        let up = stats.started.elapsed().as_secs();
        Value::text(format!(
            "# Server\r\nredis_version:7.2.0\r\nserver_name:samara\r\nsamara_version:{}\r\nredis_mode:standalone\r\n\
             process_id:{}\r\nuptime_in_seconds:{up}\r\n\r\n# Clients\r\nconnected_clients:{}\r\n\r\n# Stats\r\n\
             total_connections_received:{}\r\ntotal_commands_processed:{}\r\n\r\n# Replication\r\nrole:master\r\n\
             connected_slaves:0\r\n\r\n# Cluster\r\ncluster_enabled:0\r\nsamara_node:{}\r\nsamara_members:{}\r\n\
             samara_replication:{}\r\nsamara_shards:{}\r\nsamara_consistency:{}\r\n",
            env!("CARGO_PKG_VERSION"),
            std::process::id(),
            stats.connections.load(Ordering::Relaxed),
            stats.connections_total.load(Ordering::Relaxed),
            stats.commands.load(Ordering::Relaxed),
            self.node.0,
            self.config.members.len(),
            self.config.replication,
            self.shards.len(),
            level_name(self.level),
        ))
    }

    /// CONFIG.
    pub fn config(&self, a: &[Bytes]) -> Result<Value, Value> {
        let known = [
            ("appendonly", "yes".to_string()),
            ("appendfsync", if self.durability == "sync" { "always".into() } else { "everysec".to_string() }),
            ("databases", "1".into()),
            ("maxmemory", "0".into()),
            ("save", String::new()),
            ("samara-consistency", level_name(self.level).into()),
            ("samara-durability", self.durability.clone()),
            ("samara-replication", self.config.replication.to_string()),
        ];
        match (word(&a[1]).as_str(), a.len()) {
            ("GET", 3..) => {
                let wanted = |name: &str| {
                    a[2..].iter().any(|glob| glob::matches(&glob.to_ascii_lowercase(), name.as_bytes()))
                };
                let pairs = known.into_iter().filter(|(name, _)| wanted(name));
                Ok(Value::Map(pairs.map(|(name, value)| (Value::text(name), Value::text(value))).collect()))
            }
            ("SET", 4..) => {
                let name = String::from_utf8_lossy(&a[2]);
                Err(err(&format!(
                    "CONFIG SET failed - '{name}' is set when the node starts: see samara node --help"
                )))
            }
            ("RESETSTAT", 2) => Ok(Value::Status("OK")),
            (sub, _) => Err(unknown_sub(sub, "CONFIG")),
        }
    }

    /// CLUSTER.
    pub fn cluster(&self, a: &[Bytes]) -> Result<Value, Value> {
        match (word(&a[1]).as_str(), a.len()) {
            ("KEYSLOT", 3) => Ok(Value::Integer(i64::from(slot_of(&a[2]).0))),
            ("MYID", 2) => Ok(Value::text(node_name(self.node))),
            ("INFO", 2) => Ok(Value::text(format!(
                "cluster_enabled:1\r\ncluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n\
                 cluster_known_nodes:{0}\r\ncluster_size:{0}\r\ncluster_current_epoch:{1}\r\n",
                self.config.members.len(),
                self.config.epoch.0
            ))),
            ("SLOTS", 2) => Ok(self.slots()),
            ("COUNTKEYSINSLOT" | "GETKEYSINSLOT", _) => {
                integer(a.get(2).ok_or_else(|| wrong_arity("cluster"))?)?;
                Err(err("not offered yet: use SCAN"))
            }
            (sub, _) => Err(unknown_sub(sub, "CLUSTER")),
        }
    }

    /// Ranges of slots with equal replicas.
    fn slots(&self) -> Value {
        let table = SlotTable::new(&self.config);
        let mut ranges: Vec<(u16, u16, &[NodeId])> = Vec::new();
        for slot in 0..Slot::COUNT {
            let replicas = table.replicas(Slot(slot));
            match ranges.last_mut() {
                Some((_, end, held)) if *held == replicas => *end = slot,
                _ => ranges.push((slot, slot, replicas)),
            }
        }
        let member = |node: &NodeId| {
            let (host, port) = self.addresses.get(node).cloned().unwrap_or_default();
            Value::Array(vec![
                Value::text(host),
                Value::Integer(i64::from(port)),
                Value::text(node_name(*node)),
            ])
        };
        let range = |(from, to, replicas): (u16, u16, &[NodeId])| {
            let mut range = vec![Value::Integer(i64::from(from)), Value::Integer(i64::from(to))];
            range.extend(replicas.iter().map(member));
            Value::Array(range)
        };
        Value::Array(ranges.into_iter().map(range).collect())
    }
}

/// A node's name in the form of Redis Cluster: 40 hex digits.
fn node_name(node: NodeId) -> String {
    format!("{:040x}", node.0)
}
