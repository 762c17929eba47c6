//! The node binary: `samara dev`, `samara node`.

use clap::{Args, Parser, Subcommand};
use samara::config::{self, MemberConfig, NodeConfig, NodeFlags};
use samara::driver::End;
use samara::node::{self, Running};
use samara_core::base::ClusterId;
use samara_core::store::Durability;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;

/// A replicated key-value store that speaks the Redis protocol.
#[derive(Parser)]
#[command(name = "samara", version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a whole cluster on loopback in one process.
    Dev(Dev),
    /// Run one node.
    Node(Box<NodeFlags>),
}

#[derive(Args)]
struct Dev {
    /// Nodes.
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    /// Node i serves clients on this port + i, peers on + 1000, HTTP on + 2000.
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
    /// sync, or interval:MS.
    #[arg(long, default_value = "sync")]
    durability: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("cannot start: {error}")),
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Verb::Dev(dev) => run_dev(&dev).await,
            Verb::Node(flags) => run_node(*flags).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => refuse(&reason),
    }
}

fn refuse(reason: &str) -> ExitCode {
    eprintln!("samara: {reason}");
    ExitCode::from(2)
}

async fn run_node(flags: NodeFlags) -> Result<(), String> {
    let config = flags.resolve()?;
    let running = node::start(&config).await?;
    tracing::info!(
        "node {}: clients on {}, peers on {}, HTTP on {}",
        config.id,
        config.listen,
        config.peer_listen,
        config.http_listen
    );
    supervise(vec![running], || {}).await
}

async fn run_dev(dev: &Dev) -> Result<(), String> {
    if !(1..=16).contains(&dev.nodes) {
        return Err(format!("--nodes {}: give 1 to 16", dev.nodes));
    }
    if dev.base_port.checked_add(2_000 + dev.nodes).is_none() {
        return Err(format!(
            "--base-port {}: too high, the ports up to + {} are used, too",
            dev.base_port,
            2_000 + dev.nodes
        ));
    }
    let temporary = std::env::temp_dir().join(format!("samara-dev-{}", std::process::id()));
    let data = if dev.ephemeral { temporary.clone() } else { dev.data.clone() };
    let mut nodes = Vec::new();
    for index in 0..dev.nodes {
        nodes.push(node::start(&dev_node(dev, &data, index)?).await?);
    }
    let result = supervise(nodes, || print_hints(dev, &data)).await;
    if dev.ephemeral {
        // Nothing of it is wanted any more; a leftover in the temporary directory harms nobody.
        let _left = std::fs::remove_dir_all(&temporary);
    }
    result
}

fn dev_node(dev: &Dev, data: &Path, index: u16) -> Result<NodeConfig, String> {
    let address = |offset: u16, node: u16| format!("127.0.0.1:{}", dev.base_port + offset + node);
    let member = |node: u16| MemberConfig {
        id: node + 1,
        peer: address(1_000, node),
        client: ("127.0.0.1".into(), dev.base_port + node),
        zone: String::new(),
    };
    let durability: Durability = config::durability(&dev.durability)?;
    Ok(NodeConfig {
        id: index + 1,
        cluster: ClusterId(u128::from(dev.nodes)),
        members: (0..dev.nodes).map(member).collect(),
        replication: 3,
        level: config::level(&dev.consistency)?,
        durability,
        shards: 1,
        data: data.join(format!("node-{}", index + 1)),
        listen: address(0, index),
        peer_listen: address(1_000, index),
        http_listen: address(2_000, index),
    })
}

fn print_hints(dev: &Dev, data: &Path) {
    let (first, last) = (dev.base_port, dev.base_port + dev.nodes - 1);
    println!("samara: {} nodes are ready on ports {first} to {last}; any port answers any key", dev.nodes);
    println!("data:   {}", data.display());
    println!("try:    redis-cli -p {first} set hello world");
    println!("        redis-cli -p {last} get hello");
    println!("        curl -s http://127.0.0.1:{}/metrics", first + 2_000);
    println!("stop:   Ctrl-C");
}

/// Waits for a signal or for the end of a shard. `ready` is called once, when every node serves clients.
async fn supervise(nodes: Vec<Running>, ready: impl Fn()) -> Result<(), String> {
    let (tell, mut ends) = unbounded_channel();
    let mut waiting = Vec::new();
    let stats: Vec<_> = nodes.iter().map(|node| node.stats.clone()).collect();
    for mut node in nodes {
        let tell = tell.clone();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            tokio::select! {
                end = node.ended.recv() => {
                    if let Some(End::Fatal(reason)) = end {
                        // The one who waits takes the first reason.
                        let _taken = tell.send(reason);
                    }
                }
                _ = stopped => {}
            }
            node.stop().await;
        });
        waiting.push((stop, task));
    }
    let all_ready = async {
        while !stats.iter().all(|stats| stats.ready.load(Ordering::Relaxed)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        ready();
        std::future::pending::<()>().await;
    };
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|error| format!("cannot wait for signals: {error}"))?;
    let result = tokio::select! {
        reason = ends.recv() => Err(reason.unwrap_or_default()),
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminated.recv() => Ok(()),
        () = all_ready => Ok(()),
    };
    for (stop, task) in waiting {
        // A task that has ended needs no signal.
        let _ended = stop.send(());
        let _ended = task.await;
    }
    result
}
