//! `samara dev`: a whole cluster on loopback in one process.

use clap::Args;
use samara::config::{self, DiskConfig, MAX_CLIENTS, MEMORY_BYTES, MemberConfig, NodeConfig};
use samara::descriptors;
use samara::guard::{Entrance, GuardFlags};
use samara::node::{self, Ports};
use samara_core::base::ClusterId;
use std::path::{Path, PathBuf};

/// Arguments of `samara dev`.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Nodes, 1 to 16.
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    /// Node i, from 0, serves clients on this port + i, peers on + 1000 + i, HTTP on + 2000 + i.
    #[arg(long, default_value_t = 6379)]
    base_port: u16,
    /// Data directory.
    #[arg(long, default_value = "samara-data")]
    data: PathBuf,
    /// Keep the data in a temporary directory, removed at the end.
    #[arg(long)]
    ephemeral: bool,
    /// Level that connections begin with: strong, causal or eventual.
    #[arg(long, default_value = "strong")]
    consistency: String,
    /// The weakest level at which keys may be used: LEVEL for all, PREFIX=LEVEL for those that begin so, with commas between.
    #[arg(long, default_value = "")]
    consistency_floor: String,
    /// When a write is acknowledged: sync (after fdatasync) or interval:MS.
    #[arg(long, default_value = "sync")]
    durability: String,
    /// Who is let in.
    #[command(flatten)]
    guard: GuardFlags,
}

/// Runs until a signal.
pub(crate) async fn run(dev: &Dev) -> Result<(), String> {
    if !(1..=16).contains(&dev.nodes) {
        return Err(format!("--nodes {}: give 1 to 16", dev.nodes));
    }
    let span = 2_000 + dev.nodes - 1;
    if dev.base_port == 0 || dev.base_port.checked_add(span).is_none() {
        return Err(format!("--base-port {}: give 1 to {}", dev.base_port, u16::MAX - span));
    }
    if !dev.ephemeral {
        beside_no_node(&dev.data)?;
    }
    let temporary = std::env::temp_dir().join(format!("samara-dev-{}", std::process::id()));
    let data = if dev.ephemeral { temporary.clone() } else { dev.data.clone() };
    let result = run_in(dev, &data).await;
    if dev.ephemeral {
        // Nothing of it is wanted any more; a leftover in the temporary directory harms nobody.
        let _left = std::fs::remove_dir_all(&temporary);
    }
    result
}

/// A cluster of `samara dev` keeps its nodes in folders of their own: in the folder of a node, or below it, there would be an
/// empty cluster next to that node's data.
fn beside_no_node(data: &Path) -> Result<(), String> {
    let whole = std::path::absolute(data).map_err(|error| format!("--data {}: {error}", data.display()))?;
    match whole.ancestors().find(|folder| is_of_a_node(folder)) {
        Some(folder) => Err(format!(
            "--data {}: {} holds the data of a node, and an empty cluster would be started next to it: give another folder by \
             --data, or start that node by samara node --data {}",
            data.display(),
            folder.display(),
            folder.display()
        )),
        None => Ok(()),
    }
}

/// Whether a folder holds shards.
fn is_of_a_node(folder: &Path) -> bool {
    let number = |name: &str| name.strip_prefix("shard-").is_some_and(|number| number.parse::<u16>().is_ok());
    // What cannot be read is none of ours.
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let shards = entries.filter(|entry| entry.file_name().to_str().is_some_and(number));
    shards.map(|entry| entry.path()).any(|shard| shard.join("lock").is_file())
}

async fn run_in(dev: &Dev, data: &Path) -> Result<(), String> {
    let mut ready_to_start = Vec::new();
    for index in 0..dev.nodes {
        let config = node_config(dev, data, index)?;
        let ports = Ports::open(&config)?;
        ready_to_start.push((config, ports));
    }
    let mut nodes = Vec::new();
    for (config, ports) in ready_to_start {
        let others = config.members.len() - 1;
        let share = descriptors::share(dev.nodes, config.shards, others, config.max_clients)?;
        nodes.push(node::start(&config, ports, share)?);
    }
    crate::supervise(nodes, || print_hints(dev, data)).await
}

fn node_config(dev: &Dev, data: &Path, index: u16) -> Result<NodeConfig, String> {
    let address = |offset: u16, node: u16| format!("127.0.0.1:{}", dev.base_port + offset + node);
    let member = |node: u16| MemberConfig {
        id: node + 1,
        peer: address(1_000, node),
        client: ("127.0.0.1".into(), dev.base_port + node),
        zone: String::new(),
    };
    let floors = config::floors(&dev.consistency_floor)?;
    Ok(NodeConfig {
        id: index + 1,
        cluster: ClusterId(u128::from(dev.nodes)),
        members: (0..dev.nodes).map(member).collect(),
        replication: 3,
        level: config::level_above_floor(config::level(&dev.consistency)?, &floors)?,
        floors,
        durability: config::durability(&dev.durability)?,
        shards: 1,
        data: data.join(format!("node-{}", index + 1)),
        listen: address(0, index),
        peer_listen: address(1_000, index),
        http_listen: address(2_000, index),
        max_clients: MAX_CLIENTS,
        memory_bytes: MEMORY_BYTES,
        disk: DiskConfig::default(),
        guard: dev.guard.resolve()?,
        flags: ("--base-port", "--base-port", "--base-port"),
    })
}

fn print_hints(dev: &Dev, data: &Path) {
    let (first, last) = (dev.base_port, dev.base_port + dev.nodes - 1);
    let kept = if dev.ephemeral { " (removed at the end)" } else { "" };
    println!("samara: {} nodes are ready on ports {first} to {last}; any port answers any key", dev.nodes);
    println!("data:   {}{kept}", data.display());
    if dev.guard.resolve().is_ok_and(|guard| guard.entrance != Entrance::Open) {
        println!(
            "users:  a password is asked for: export REDISCLI_AUTH=..., or redis-cli --user NAME --askpass"
        );
    }
    println!("try:    redis-cli -p {first} set hello world");
    println!("        redis-cli -p {last} get hello");
    println!("        redis-benchmark -p {first} -t set,get -n 100000 -r 100000");
    println!("        curl -s http://127.0.0.1:{}/metrics", first + 2_000);
    println!("stop:   Ctrl-C");
}
