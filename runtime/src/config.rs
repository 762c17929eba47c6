//! How a node is set up: flags over environment over file over defaults.

use crate::connection::parse_level;
use clap::Args;
use samara_core::base::{ClusterId, Level};
use samara_core::store::Durability;
use serde::Deserialize;
use std::path::PathBuf;

/// A member of a static cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberConfig {
    /// Its node id.
    pub id: u16,
    /// Host and port for peers.
    pub peer: String,
    /// Host and port that clients are told.
    pub client: (String, u16),
    /// Its failure domain.
    pub zone: String,
}

/// A node, ready to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its id.
    pub id: u16,
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Every member, this node included.
    pub members: Vec<MemberConfig>,
    /// Replicas of a key.
    pub replication: u8,
    /// Level that connections begin with.
    pub level: Level,
    /// When a write counts as durable.
    pub durability: Durability,
    /// Shards of the process.
    pub shards: u16,
    /// Data directory.
    pub data: PathBuf,
    /// Client address.
    pub listen: String,
    /// Peer address.
    pub peer_listen: String,
    /// HTTP address.
    pub http_listen: String,
}

impl NodeConfig {
    /// The durability as the flag says it.
    pub fn durability_text(&self) -> String {
        match self.durability {
            Durability::Sync => "sync".into(),
            Durability::Interval(ms) => format!("interval:{ms}"),
        }
    }
}

/// Flags of `samara node`.
#[derive(Debug, Clone, Default, Args)]
pub struct NodeFlags {
    /// A TOML file with the same names as the flags (underscores for dashes).
    #[arg(long, env = "SAMARA_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data directory.
    #[arg(long, env = "SAMARA_DATA")]
    pub data: Option<PathBuf>,
    /// Client address.
    #[arg(long, env = "SAMARA_LISTEN")]
    pub listen: Option<String>,
    /// Peer address.
    #[arg(long, env = "SAMARA_PEER_LISTEN")]
    pub peer_listen: Option<String>,
    /// HTTP address.
    #[arg(long, env = "SAMARA_HTTP_LISTEN")]
    pub http_listen: Option<String>,
    /// Host that other nodes and clients are told.
    #[arg(long, env = "SAMARA_ADVERTISE")]
    pub advertise: Option<String>,
    /// This node's id within --members.
    #[arg(long, env = "SAMARA_NODE_ID")]
    pub node_id: Option<u16>,
    /// Every member of a static cluster: ID@HOST:PEERPORT[/ZONE],... (default: this node alone).
    #[arg(long, env = "SAMARA_MEMBERS")]
    pub members: Option<String>,
    /// Not offered yet: membership is static, see --members.
    #[arg(long, env = "SAMARA_JOIN")]
    pub join: Option<String>,
    /// Failure domain of this node, where --members does not say it.
    #[arg(long, env = "SAMARA_ZONE")]
    pub zone: Option<String>,
    /// Replicas of a key.
    #[arg(long, env = "SAMARA_REPLICATION_FACTOR")]
    pub replication_factor: Option<u8>,
    /// Level that connections begin with: strong, causal or eventual.
    #[arg(long, env = "SAMARA_CONSISTENCY")]
    pub consistency: Option<String>,
    /// Shards of the process: fixed when the data directory is made.
    #[arg(long, env = "SAMARA_SHARDS")]
    pub shards: Option<u16>,
    /// sync, or interval:MS.
    #[arg(long, env = "SAMARA_DURABILITY")]
    pub durability: Option<String>,
}

/// The file of --config.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    data: Option<PathBuf>,
    listen: Option<String>,
    peer_listen: Option<String>,
    http_listen: Option<String>,
    advertise: Option<String>,
    node_id: Option<u16>,
    members: Option<String>,
    zone: Option<String>,
    replication_factor: Option<u8>,
    consistency: Option<String>,
    shards: Option<u16>,
    durability: Option<String>,
}

/// Reads a level.
pub fn level(text: &str) -> Result<Level, String> {
    parse_level(text).ok_or_else(|| format!("--consistency {text}: give strong, causal or eventual"))
}

/// Reads a durability.
pub fn durability(text: &str) -> Result<Durability, String> {
    let bad = || format!("--durability {text}: give sync, or interval:MS with MS from 1 to 60000");
    if text == "sync" {
        return Ok(Durability::Sync);
    }
    let ms = text.strip_prefix("interval:").and_then(|ms| ms.parse().ok()).ok_or_else(bad)?;
    if (1..=60_000).contains(&ms) { Ok(Durability::Interval(ms)) } else { Err(bad()) }
}

fn port(address: &str) -> Result<u16, String> {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.ok_or_else(|| format!("{address}: give an address as HOST:PORT"))
}

fn members(text: &str, client_port: u16) -> Result<Vec<MemberConfig>, String> {
    let one = |item: &str| {
        let bad = || format!("--members: {item:?} is not ID@HOST:PEERPORT[/ZONE]");
        let (id, rest) = item.split_once('@').ok_or_else(bad)?;
        let (peer, zone) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, _) = peer.rsplit_once(':').ok_or_else(bad)?;
        port(peer).map_err(|_| bad())?;
        let id = id.parse().ok().filter(|id| *id > 0 && *id < u16::MAX).ok_or_else(bad)?;
        Ok(MemberConfig { id, peer: peer.into(), client: (host.into(), client_port), zone: zone.into() })
    };
    let mut members: Vec<MemberConfig> = text.split(',').map(one).collect::<Result<_, String>>()?;
    members.sort_by_key(|member| member.id);
    if let Some(twice) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(format!("--members: node {} is named twice", twice[0].id));
    }
    Ok(members)
}

/// The identity of a static cluster: every node that is given the same members computes the same.
fn cluster_id(members: &[MemberConfig]) -> ClusterId {
    let mut id = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    for byte in members.iter().flat_map(|member| member.id.to_le_bytes()) {
        id = (id ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    ClusterId(id)
}

impl NodeFlags {
    /// Puts flags, environment, file and defaults together.
    pub fn resolve(self) -> Result<NodeConfig, String> {
        let file = match &self.config {
            None => File::default(),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
                toml::from_str(&text)
                    .map_err(|error| format!("{}: {}", path.display(), error.to_string().trim()))?
            }
        };
        if self.join.is_some() {
            return Err(
                "--join: membership is static in this version; start every node with --node-id and --members"
                    .into(),
            );
        }
        let listen = self.listen.or(file.listen).unwrap_or_else(|| "127.0.0.1:6379".into());
        let peer_listen = self.peer_listen.or(file.peer_listen).unwrap_or_else(|| "127.0.0.1:7379".into());
        let http_listen = self.http_listen.or(file.http_listen).unwrap_or_else(|| "127.0.0.1:8379".into());
        let (client_port, peer_port) = (port(&listen)?, port(&peer_listen)?);
        port(&http_listen)?;
        let host = self.advertise.or(file.advertise).unwrap_or_else(|| "127.0.0.1".into());
        let id = self.node_id.or(file.node_id).unwrap_or(1);
        let zone = self.zone.or(file.zone).unwrap_or_default();
        let mut members = match self.members.or(file.members) {
            Some(text) => members(&text, client_port)?,
            None => {
                let peer = format!("{host}:{peer_port}");
                vec![MemberConfig { id, peer, client: (host.clone(), client_port), zone: String::new() }]
            }
        };
        let me = members.iter_mut().find(|member| member.id == id);
        let me = me.ok_or_else(|| format!("--node-id {id} is not among --members"))?;
        if me.zone.is_empty() {
            me.zone = zone;
        }
        let common = |flag: Option<String>, name: &str| flag.or_else(|| std::env::var(name).ok());
        let consistency = common(self.consistency, "CONSISTENCY_LEVEL").or(file.consistency);
        let factor = match (self.replication_factor, std::env::var("REPLICATION_FACTOR").ok()) {
            (Some(factor), _) => Some(factor),
            (None, Some(text)) => {
                Some(text.parse().map_err(|_| format!("REPLICATION_FACTOR={text}: give a number"))?)
            }
            (None, None) => file.replication_factor,
        };
        let replication = factor.unwrap_or(3);
        if !(1..=7).contains(&replication) {
            return Err(format!("--replication-factor {replication}: give 1 to 7"));
        }
        let shards = self.shards.or(file.shards).unwrap_or(1);
        if !(1..=64).contains(&shards) {
            return Err(format!("--shards {shards}: give 1 to 64"));
        }
        Ok(NodeConfig {
            id,
            cluster: cluster_id(&members),
            members,
            replication,
            level: level(consistency.as_deref().unwrap_or("strong"))?,
            durability: durability(self.durability.or(file.durability).as_deref().unwrap_or("sync"))?,
            shards,
            data: self.data.or(file.data).unwrap_or_else(|| PathBuf::from("samara-data")),
            listen,
            peer_listen,
            http_listen,
        })
    }
}
