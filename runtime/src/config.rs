//! How a node is set up: flags over environment over file over defaults.

use crate::commands::{level_name, parse_level};
use crate::credentials::Secret;
use crate::guard::{Guard, GuardFlags};
use clap::Args;
use samara_core::base::{ClusterId, Config, Epoch, Level, Member, NodeId, config::TOKENS_DEFAULT};
use samara_core::rules::floor::Floors;
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
    /// The weakest level by key prefix.
    pub floors: Vec<(String, Level)>,
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
    /// Client connections at a time.
    pub max_clients: u64,
    /// Bytes of memory for the store of all shards.
    pub memory_bytes: u64,
    /// What is asked of the disk.
    pub disk: DiskConfig,
    /// Who is let in.
    pub guard: Guard,
    /// What to change when one of the three ports is taken: the flags, for messages.
    pub flags: (&'static str, &'static str, &'static str),
}

/// Client connections at a time, as Valkey's maxclients.
pub const MAX_CLIENTS: u64 = 10_000;
/// Bytes of memory for the store of a shard.
pub const MEMORY_BYTES: u64 = 512 << 20;

/// What is asked of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskConfig {
    /// Bytes of disk kept in reserve for a full disk.
    pub reserve_bytes: u64,
    /// Milliseconds within which all tables are scrubbed once; 0 for never.
    pub scrub_ms: u64,
    /// Milliseconds without an answer after which the node steps aside.
    pub slow_ms: u64,
    /// Milliseconds without an answer after which the node stops.
    pub hung_ms: u64,
}

impl Default for DiskConfig {
    /// No reserve; a scrub in two weeks; aside after 3 s, stopped after 30 s.
    fn default() -> Self {
        Self { reserve_bytes: 0, scrub_ms: 14 * 24 * 3_600_000, slow_ms: 3_000, hung_ms: 30_000 }
    }
}

impl NodeConfig {
    /// The configuration of epoch 1: every node that is given the same members computes the same.
    pub fn cluster_config(&self) -> Config {
        let member = |member: &MemberConfig| Member {
            node: NodeId(member.id),
            zone: member.zone.clone(),
            tokens: TOKENS_DEFAULT,
            shards: self.shards,
        };
        Config {
            cluster: self.cluster,
            epoch: Epoch(1),
            members: self.members.iter().map(member).collect(),
            replication: self.replication,
        }
    }

    /// The floors for the core.
    pub fn floors(&self) -> Floors {
        Floors::new(self.floors.iter().map(|(prefix, level)| (prefix.clone().into(), *level)).collect())
    }

    /// The floors as the flag says them.
    pub fn floors_text(&self) -> String {
        let one = |(prefix, level): &(String, Level)| format!("{prefix}={}", level_name(*level));
        self.floors.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// What makes the cluster this one, as the flags say it: nodes that were given something else are of another.
    pub fn setup_text(&self) -> String {
        let one = |member: &MemberConfig| match member.zone.as_str() {
            "" => format!("{}@{}", member.id, member.peer),
            zone => format!("{}@{}/{zone}", member.id, member.peer),
        };
        let members: Vec<String> = self.members.iter().map(one).collect();
        format!("--members {} --replication-factor {}", members.join(","), self.replication)
    }

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
#[command(after_help = HOW_MEMBERS)]
pub struct NodeFlags {
    /// A TOML file with the same names as the flags (underscores for dashes).
    #[arg(long, env = "SAMARA_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data directory (default: samara-data).
    #[arg(long, env = "SAMARA_DATA")]
    pub data: Option<PathBuf>,
    /// Address for clients (Redis protocol) (default: 127.0.0.1:6379).
    #[arg(long, env = "SAMARA_LISTEN")]
    pub listen: Option<String>,
    /// Address for the other nodes (default: 127.0.0.1:7379).
    #[arg(long, env = "SAMARA_PEER_LISTEN")]
    pub peer_listen: Option<String>,
    /// Address for HTTP: /healthz, /readyz, /metrics (default: 127.0.0.1:8379).
    #[arg(long, env = "SAMARA_HTTP_LISTEN")]
    pub http_listen: Option<String>,
    /// Host that clients of a node without --members are told (default: 127.0.0.1).
    #[arg(long, env = "SAMARA_ADVERTISE")]
    pub advertise: Option<String>,
    /// This node's id, one of those in --members; needed with it (default without: 1).
    #[arg(long, env = "SAMARA_NODE_ID")]
    pub node_id: Option<u16>,
    /// Every member of the cluster: `ID@HOST:PEERPORT[:CLIENTPORT][/ZONE],...` (default: this node alone).
    #[arg(long, env = "SAMARA_MEMBERS")]
    pub members: Option<String>,
    /// Not offered yet, membership is static: see --members.
    #[arg(long, env = "SAMARA_JOIN", hide = true)]
    pub join: Option<String>,
    /// Failure domain of this node, where --members does not say it.
    #[arg(long, env = "SAMARA_ZONE")]
    pub zone: Option<String>,
    /// Replicas of a key, 1 to 7; also REPLICATION_FACTOR (default: 3).
    #[arg(long, env = "SAMARA_REPLICATION_FACTOR")]
    pub replication_factor: Option<u8>,
    /// Level that connections begin with: strong, causal or eventual; also CONSISTENCY_LEVEL (default: strong).
    #[arg(long, env = "SAMARA_CONSISTENCY")]
    pub consistency: Option<String>,
    /// The weakest level at which keys may be used, the same for every node: `LEVEL` for all keys, `PREFIX=LEVEL` for those
    /// that begin so (the longest prefix counts), separated by commas. What is asked below it is refused (default: none).
    #[arg(long, env = "SAMARA_CONSISTENCY_FLOOR")]
    pub consistency_floor: Option<String>,
    /// Shards of the process, 1 to 64, the same for every node: fixed when the data directory is made (default: 1).
    #[arg(long, env = "SAMARA_SHARDS")]
    pub shards: Option<u16>,
    /// When a write is acknowledged: sync (after fdatasync) or interval:MS (default: sync).
    #[arg(long, env = "SAMARA_DURABILITY")]
    pub durability: Option<String>,
    /// Client connections at a time (default: 10000).
    #[arg(long, env = "SAMARA_MAX_CLIENTS")]
    pub max_clients: Option<u64>,
    /// MiB of memory for the store: memtables, cache, filters, what waits for the disk (default: 512 a shard).
    #[arg(long, env = "SAMARA_MEMORY")]
    pub memory: Option<u64>,
    /// MiB of disk kept in reserve, so that a full disk can still delete and compact (default: 256).
    #[arg(long, env = "SAMARA_RESERVE")]
    pub reserve: Option<u64>,
    /// Hours within which every table is read and verified once; 0 for never (default: 336).
    #[arg(long, env = "SAMARA_SCRUB_HOURS")]
    pub scrub_hours: Option<u64>,
    /// Milliseconds without an answer of the disk after which the node steps aside (default: 3000).
    #[arg(long, env = "SAMARA_DISK_SLOW_MS")]
    pub disk_slow_ms: Option<u64>,
    /// Milliseconds without an answer of the disk after which the node stops (default: 30000).
    #[arg(long, env = "SAMARA_DISK_HUNG_MS")]
    pub disk_hung_ms: Option<u64>,
    /// Who is let in.
    #[command(flatten)]
    pub guard: GuardFlags,
}

/// How nodes come to know each other, for --help.
const HOW_MEMBERS: &str = "\
Members: in this version membership is static. Give every node the same --members, with all nodes of the cluster,
and each its own --node-id. For example, on three hosts:
  samara node --node-id 1 --members 1@a:7379,2@b:7379,3@c:7379 --listen 0.0.0.0:6379 --peer-listen 0.0.0.0:7379
  samara node --node-id 2 --members 1@a:7379,2@b:7379,3@c:7379 --listen 0.0.0.0:6379 --peer-listen 0.0.0.0:7379
  samara node --node-id 3 --members 1@a:7379,2@b:7379,3@c:7379 --listen 0.0.0.0:6379 --peer-listen 0.0.0.0:7379
The data directory remembers cluster and node id, and is refused under others.

Precedence: flags, then the environment (SAMARA_ and the flag's name in upper case with underscores), then the file of
--config, then defaults.";

/// What the file of --config sets.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
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
    consistency_floor: Option<String>,
    shards: Option<u16>,
    durability: Option<String>,
    max_clients: Option<u64>,
    memory: Option<u64>,
    reserve: Option<u64>,
    scrub_hours: Option<u64>,
    disk_slow_ms: Option<u64>,
    disk_hung_ms: Option<u64>,
    requirepass: Option<Secret>,
    requirepass_file: Option<PathBuf>,
    users_file: Option<PathBuf>,
    protected_mode: Option<String>,
    auth_timeout: Option<u64>,
    http_open: Option<String>,
}

impl Settings {
    fn guard(&mut self) -> GuardFlags {
        GuardFlags {
            requirepass: self.requirepass.take(),
            requirepass_file: self.requirepass_file.take(),
            users_file: self.users_file.take(),
            protected_mode: self.protected_mode.take(),
            auth_timeout: self.auth_timeout,
            http_open: self.http_open.take(),
        }
    }
}

/// Reads a level.
pub fn level(text: &str) -> Result<Level, String> {
    parse_level(text).ok_or_else(|| format!("--consistency {text}: give strong, causal or eventual"))
}

/// Reads floors: `LEVEL` or `PREFIX=LEVEL`, separated by commas.
pub fn floors(text: &str) -> Result<Vec<(String, Level)>, String> {
    let one = |item: &str| {
        let (prefix, name) = item.rsplit_once('=').unwrap_or(("", item));
        let level = parse_level(name).ok_or_else(|| {
            format!("--consistency-floor {item}: give LEVEL or PREFIX=LEVEL, with strong, causal or eventual")
        })?;
        Ok((prefix.to_string(), level))
    };
    if text.is_empty() { Ok(Vec::new()) } else { text.split(',').map(one).collect() }
}

/// Connections do not begin at a level that no key without a prefix of its own may be used at.
pub fn level_above_floor(level: Level, floors: &[(String, Level)]) -> Result<Level, String> {
    let of_all = floors.iter().rev().find(|(prefix, _)| prefix.is_empty());
    match of_all {
        Some((_, floor)) if level < *floor => Err(format!(
            "--consistency {}: it is below --consistency-floor {}; give that or a stronger one",
            level_name(level),
            level_name(*floor)
        )),
        _ => Ok(level),
    }
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

/// Splits `HOST:PORT[:PORT]`; a host that has colons itself stands in brackets.
fn host_and_ports(text: &str) -> Option<(&str, &str, Option<&str>)> {
    let after_host = match text.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => text.find(':')?,
    };
    let (host, ports) = (&text[..after_host], text[after_host..].strip_prefix(':')?);
    match ports.split_once(':') {
        Some((peer, client)) => Some((host, peer, Some(client))),
        None => Some((host, ports, None)),
    }
}

fn member(item: &str, client_port: u16) -> Option<MemberConfig> {
    let (id, rest) = item.split_once('@')?;
    let (place, zone) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, peer, client) = host_and_ports(place)?;
    let peer: u16 = peer.parse().ok()?;
    let client = client.map_or(Some(client_port), |port| port.parse().ok())?;
    let id = id.parse().ok().filter(|id| *id > 0 && *id < u16::MAX)?;
    if host.is_empty() {
        return None;
    }
    let bare = host.trim_matches(['[', ']']).to_string();
    Some(MemberConfig { id, peer: format!("{host}:{peer}"), client: (bare, client), zone: zone.into() })
}

fn members(text: &str, client_port: u16) -> Result<Vec<MemberConfig>, String> {
    let one = |item: &str| {
        let bad = || {
            format!(
                "--members: {item:?} is not ID@HOST:PEERPORT[:CLIENTPORT][/ZONE], with ID from 1 to 65534"
            )
        };
        member(item.trim(), client_port).ok_or_else(bad)
    };
    let mut members: Vec<MemberConfig> = text.split(',').map(one).collect::<Result<_, String>>()?;
    members.sort_by_key(|member| member.id);
    if let Some(twice) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(format!("--members: node {} is named twice", twice[0].id));
    }
    Ok(members)
}

/// The identity of a static cluster: every node that is given the same members, zones and replication factor computes the
/// same. Whoever has others looks for copies at other nodes, and would find no quorum in common.
fn cluster_id(members: &[MemberConfig], replication: usize) -> ClusterId {
    let mut id = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    let mut add =
        |byte: u8| id = (id ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    for member in members {
        member.id.to_le_bytes().into_iter().for_each(&mut add);
        // Bytes that no text has end it.
        member.zone.bytes().chain([0xff]).for_each(&mut add);
    }
    // Beyond the number of members it makes no difference.
    replication.min(members.len()).to_le_bytes().into_iter().for_each(&mut add);
    ClusterId(id)
}

impl NodeFlags {
    /// Puts flags, environment, file and defaults together.
    pub fn resolve(self) -> Result<NodeConfig, String> {
        let mut file = self.file()?;
        let guard = self.guard.clone().or(file.guard()).resolve()?;
        if self.join.is_some() {
            return Err(
                "--join: membership is static in this version; start every node with the same --members and \
                        its own --node-id, see samara node --help"
                    .into(),
            );
        }
        let listen = self.listen.clone().or(file.listen).unwrap_or_else(|| "127.0.0.1:6379".into());
        let peer_listen =
            self.peer_listen.clone().or(file.peer_listen).unwrap_or_else(|| "127.0.0.1:7379".into());
        let http_listen =
            self.http_listen.clone().or(file.http_listen).unwrap_or_else(|| "127.0.0.1:8379".into());
        for address in [&listen, &peer_listen, &http_listen] {
            port(address)?;
        }
        let host = self.advertise.clone().or(file.advertise).unwrap_or_else(|| "127.0.0.1".into());
        let zone = self.zone.clone().or(file.zone).unwrap_or_default();
        let given = (self.node_id.or(file.node_id), self.members.clone().or(file.members));
        let (id, members) = who(given, &zone, &host, port(&listen)?, port(&peer_listen)?)?;
        let consistency = or_common(self.consistency, "CONSISTENCY_LEVEL").or(file.consistency);
        let factor =
            or_common(self.replication_factor.map(|factor| factor.to_string()), "REPLICATION_FACTOR");
        let factor = factor.or(file.replication_factor.map(|factor| factor.to_string()));
        let factor = factor.unwrap_or_else(|| "3".into());
        let replication: Option<u8> = factor.parse().ok().filter(|factor| (1..=7).contains(factor));
        let replication = replication.ok_or_else(|| format!("--replication-factor {factor}: give 1 to 7"))?;
        let shards = self.shards.or(file.shards).unwrap_or(1);
        if !(1..=64).contains(&shards) {
            return Err(format!("--shards {shards}: give 1 to 64"));
        }
        let floors = floors(self.consistency_floor.or(file.consistency_floor).as_deref().unwrap_or(""))?;
        let max_clients = self.max_clients.or(file.max_clients).unwrap_or(MAX_CLIENTS);
        if max_clients == 0 {
            return Err("--max-clients 0: give at least 1".into());
        }
        let memory = self.memory.or(file.memory);
        let memory_bytes = memory.map_or(MEMORY_BYTES * u64::from(shards), |mib| mib.saturating_mul(1 << 20));
        if !(16 << 20..=1 << 50).contains(&(memory_bytes / u64::from(shards))) {
            return Err(format!("--memory {}: give at least 16 MiB a shard", memory.unwrap_or(0)));
        }
        let disk = disk_config(
            self.reserve.or(file.reserve),
            self.scrub_hours.or(file.scrub_hours),
            self.disk_slow_ms.or(file.disk_slow_ms),
            self.disk_hung_ms.or(file.disk_hung_ms),
        )?;
        Ok(NodeConfig {
            id,
            cluster: cluster_id(&members, replication.into()),
            members,
            replication,
            level: level_above_floor(level(consistency.as_deref().unwrap_or("strong"))?, &floors)?,
            floors,
            durability: durability(self.durability.or(file.durability).as_deref().unwrap_or("sync"))?,
            shards,
            data: self.data.or(file.data).unwrap_or_else(|| PathBuf::from("samara-data")),
            listen,
            peer_listen,
            http_listen,
            max_clients,
            memory_bytes,
            disk,
            guard,
            flags: ("--listen", "--peer-listen", "--http-listen"),
        })
    }

    fn file(&self) -> Result<Settings, String> {
        let Some(path) = &self.config else {
            return Ok(Settings::default());
        };
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("--config {name}: {error}"))?;
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            format!("--config {name}, line {line}: {}", error.message())
        })
    }
}

fn disk_config(
    reserve: Option<u64>,
    scrub_hours: Option<u64>,
    slow_ms: Option<u64>,
    hung_ms: Option<u64>,
) -> Result<DiskConfig, String> {
    let default = DiskConfig::default();
    let (slow_ms, hung_ms) = (slow_ms.unwrap_or(default.slow_ms), hung_ms.unwrap_or(default.hung_ms));
    if slow_ms < 100 || hung_ms <= slow_ms {
        return Err(format!(
            "--disk-slow-ms {slow_ms}, --disk-hung-ms {hung_ms}: give at least 100, and the second above the first"
        ));
    }
    Ok(DiskConfig {
        reserve_bytes: reserve.unwrap_or(256).saturating_mul(1 << 20),
        scrub_ms: scrub_hours.map_or(default.scrub_ms, |hours| hours.saturating_mul(3_600_000)),
        slow_ms,
        hung_ms,
    })
}

/// A flag, else a variable that other programs know, too.
fn or_common(flag: Option<String>, name: &str) -> Option<String> {
    flag.or_else(|| std::env::var(name).ok())
}

/// This node's id, and the members of its cluster.
fn who(
    given: (Option<u16>, Option<String>),
    zone: &str,
    host: &str,
    client_port: u16,
    peer_port: u16,
) -> Result<(u16, Vec<MemberConfig>), String> {
    let (id, mut members) = match given {
        (Some(id), Some(text)) => (id, members(&text, client_port)?),
        (None, Some(_)) => return Err("--members needs --node-id: which of the members this node is".into()),
        (id, None) => {
            let (id, peer) = (id.unwrap_or(1), format!("{host}:{peer_port}"));
            (id, vec![MemberConfig { id, peer, client: (host.into(), client_port), zone: String::new() }])
        }
    };
    let me = members.iter_mut().find(|member| member.id == id);
    let me = me.ok_or_else(|| format!("--node-id {id} is not among --members"))?;
    if me.zone.is_empty() {
        me.zone = zone.into();
    }
    Ok((id, members))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_with_ports_and_zones() {
        let read = members("2@b:7379/z2,1@[::1]:7380:6380", 6379).expect("good members");
        assert_eq!(read[0].peer, "[::1]:7380");
        assert_eq!(read[0].client, ("::1".to_string(), 6380));
        assert_eq!((read[1].peer.as_str(), read[1].zone.as_str()), ("b:7379", "z2"));
        assert_eq!(read[1].client, ("b".to_string(), 6379));
        for bad in [
            "",
            "1",
            "1@",
            "1@a",
            "1@:7",
            "0@a:1",
            "65535@a:1",
            "x@a:1",
            "1@a:99999",
            "1@a:1:b",
            "1@a:1,1@a:2",
        ] {
            assert!(members(bad, 6379).is_err_and(|reason| reason.starts_with("--members")), "{bad:?}");
        }
    }

    #[test]
    fn clusters_that_place_keys_otherwise_are_others() {
        let id = |text: &str, replication| cluster_id(&members(text, 6379).expect("members"), replication);
        let three = id("1@a:1,2@b:1,3@c:1", 3);
        assert_eq!(three, id("3@x:7,1@a:1:9,2@b:1", 3), "addresses may change");
        assert_eq!(three, id("1@a:1,2@b:1,3@c:1", 5), "more copies than members there are not");
        for (text, replication) in [
            ("1@a:1,2@b:1,3@c:1", 1),
            ("1@a:1,2@b:1", 2),
            ("1@a:1/x,2@b:1,3@c:1", 3),
            ("1@a:1,2@b:1/x,3@c:1", 3),
        ] {
            assert_ne!(three, id(text, replication), "{text} {replication}");
        }
    }

    #[test]
    fn the_limits_of_the_disk_are_in_order() {
        let disk = disk_config(Some(1), Some(0), None, Some(9_000)).expect("good limits");
        assert_eq!(
            (disk.reserve_bytes, disk.scrub_ms, disk.slow_ms, disk.hung_ms),
            (1 << 20, 0, 3_000, 9_000)
        );
        for (slow, hung) in [(Some(99), None), (Some(5_000), Some(5_000)), (None, Some(2_000))] {
            let reason = disk_config(None, None, slow, hung).expect_err("out of order");
            assert!(reason.contains("--disk-slow-ms"), "{reason}");
        }
    }

    #[test]
    fn durabilities_and_levels() {
        assert_eq!(durability("sync"), Ok(Durability::Sync));
        assert_eq!(durability("interval:1000"), Ok(Durability::Interval(1000)));
        for bad in ["", "interval", "interval:0", "interval:60001", "interval:x", "async"] {
            assert!(durability(bad).is_err(), "{bad:?}");
        }
        assert_eq!(level("CAUSAL"), Ok(Level::Causal));
        let read = floors("causal,user:=strong,a=b=EVENTUAL").expect("good floors");
        let floor = |prefix: &str, level| (prefix.to_string(), level);
        assert_eq!(
            read,
            [floor("", Level::Causal), floor("user:", Level::Strong), floor("a=b", Level::Eventual)]
        );
        assert!(level_above_floor(Level::Eventual, &read).is_err());
        assert_eq!(level_above_floor(Level::Causal, &read), Ok(Level::Causal));
        for bad in ["weak", "user:=", "causal,", "user:=strong,x=y"] {
            assert!(floors(bad).is_err_and(|reason| reason.contains("--consistency-floor")), "{bad:?}");
        }
        assert!(level("weak").is_err_and(|reason| reason.contains("--consistency weak")));
    }
}
