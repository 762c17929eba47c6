//! The node binary: `samara dev`, `samara node`, `samara bench`, and what an operator asks.

mod bench;
mod dev;

use clap::{Parser, Subcommand};
use samara::admin::Target;
use samara::config::NodeFlags;
use samara::credentials::CredentialFlags;
use samara::descriptors;
use samara::driver::End;
use samara::node::{self, Ports, Running};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// A replicated key-value store that speaks the Redis protocol.
#[derive(Debug, Parser)]
#[command(name = "samara", version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a whole cluster on loopback in one process.
    Dev(Box<dev::Dev>),
    /// Run one node.
    Node(Box<NodeFlags>),
    /// Read every byte of a data directory that no node uses, and say what is damaged: exit 0 clean, 1 damaged, 2 no data
    /// directory.
    Verify {
        /// The data directory, or one shard's folder in it.
        directory: PathBuf,
        /// The report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask a running node over its HTTP port.
    Admin {
        /// The node's HTTP address.
        #[arg(long, default_value = "127.0.0.1:8379", global = true)]
        addr: String,
        /// The answer as JSON.
        #[arg(long, global = true)]
        json: bool,
        /// Who asks.
        #[command(flatten)]
        credentials: CredentialFlags,
        #[command(subcommand)]
        what: Asked,
    },
    /// Load a cluster and measure it; record a history for samara-check.
    Bench(Box<bench::Bench>),
}

#[derive(Debug, Subcommand)]
enum Asked {
    /// Shards, their tables, memory, disk and damage.
    Status,
    /// Read and verify every table now: exit 1 if blocks are known to be damaged.
    Scrub {
        /// Wait until every shard has been read.
        #[arg(long)]
        wait: bool,
    },
    /// Give up what the disk has lost of suspect keys, where no majority of other replicas can bring it again: the node votes
    /// on them with what is left.
    AcceptLoss {
        /// The slots that are meant, the first and the last.
        #[arg(long, value_name = "A-B", default_value = "0-16383", value_parser = slots)]
        slots: (u16, u16),
        /// Do it: it cannot be undone.
        #[arg(long)]
        yes: bool,
    },
}

/// Reads `A-B`, or one slot.
fn slots(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let slot = |text: &str| text.parse::<u16>().ok().filter(|slot| *slot < 16_384);
    let slots = slot(first).zip(slot(last)).filter(|(first, last)| first <= last);
    slots.ok_or_else(|| format!("{text}: give slots as A-B, from 0 to 16383"))
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => {
            // --help and --version; nobody is left to tell if this fails.
            let _printed = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return refuse(&in_one_line(&error)),
    };
    match &arguments.command {
        Verb::Verify { directory, json } => return verify(directory, *json),
        Verb::Admin { addr, json, credentials, what } => {
            return match credentials.resolve() {
                Ok(credentials) => admin(&Target { address: addr.clone(), credentials }, *json, what),
                Err(reason) => refuse(&reason),
            };
        }
        Verb::Dev(_) | Verb::Node(_) | Verb::Bench(_) => {}
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    if std::env::args().any(|word| word == "--requirepass" || word.starts_with("--requirepass=")) {
        tracing::warn!(
            "--requirepass: everybody on this machine can see it (ps); better give it by --requirepass-file or SAMARA_REQUIREPASS"
        );
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("cannot start: {error}")),
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Verb::Dev(dev) => dev::run(&dev).await,
            Verb::Node(flags) => run_node(*flags).await,
            Verb::Verify { .. } | Verb::Admin { .. } => Ok(()),
            Verb::Bench(bench) => bench::run(&bench).await,
        }
    });
    // Nothing is waited for any more: a shard that its disk keeps waiting would keep the process for ever.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => refuse(&reason),
    }
}

/// What is wrong with the arguments, without the usage that follows it.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let is_said = |line: &&str| !line.is_empty() && !line.starts_with("For more information");
    let words: Vec<&str> = lines.filter(is_said).collect();
    let what = words.join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    let what = if what.is_empty() || what.starts_with("A replicated") {
        "give dev, node, bench, verify or admin"
    } else if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        "admin: give status or scrub"
    } else {
        what
    };
    format!("{what}; see --help")
}

fn refuse(reason: &str) -> ExitCode {
    eprintln!("samara: {reason}");
    ExitCode::from(2)
}

fn verify(directory: &Path, json: bool) -> ExitCode {
    let report = match samara::verify::verify(directory) {
        Ok(report) => report,
        Err(reason) => return refuse(&reason),
    };
    print(&if json { to_json(&report) } else { report.text() }, report.damage > 0)
}

fn admin(node: &Target, json: bool, what: &Asked) -> ExitCode {
    let answer = match what {
        Asked::Status => samara::admin::status(node, json).map(|text| (text, false)),
        Asked::Scrub { wait } => samara::admin::scrub(node, json, *wait),
        Asked::AcceptLoss { slots, yes } => samara::admin::accept_loss(node, json, *slots, *yes),
    };
    match answer {
        Ok((text, is_damaged)) => print(&text, is_damaged),
        Err(reason) => refuse(&reason),
    }
}

/// Prints what was asked for; exit 1 if it tells of damage.
fn print(text: &str, is_damaged: bool) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::from(u8::from(is_damaged)),
        Err(error) => refuse(&format!("cannot print the answer: {error}")),
    }
}

fn to_json(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value).expect("a report of names and numbers is JSON");
    text + "\n"
}

async fn run_node(flags: NodeFlags) -> Result<(), String> {
    let config = flags.resolve()?;
    let ports = Ports::open(&config)?;
    let others = config.members.len().saturating_sub(1);
    let share = descriptors::share(1, config.shards, others, config.max_clients)?;
    let running = node::start(&config, ports, share)?;
    if share.clients < config.max_clients {
        tracing::warn!(
            "the process may open too few files for {} clients: {} are served at a time; allow more by ulimit -n",
            config.max_clients,
            share.clients
        );
    }
    let (clients, peers, http) = (&config.listen, &config.peer_listen, &config.http_listen);
    tracing::info!("node {}: clients on {clients}, peers on {peers}, HTTP on {http}", config.id);
    let data = config.data.display();
    supervise(vec![running], || tracing::info!("ready; the data is in {data}")).await
}

/// Waits for a signal or for the end of a shard, then ends all nodes. `ready` is called once, when every node serves.
async fn supervise(mut nodes: Vec<Running>, ready: impl Fn()) -> Result<(), String> {
    let signals =
        signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let (mut terminated, mut interrupted) =
        signals.map_err(|error| format!("cannot wait for signals: {error}"))?;
    let stats: Vec<_> = nodes.iter().map(|node| node.stats.clone()).collect();
    let all_ready = async {
        while !stats.iter().all(|stats| stats.ready.load(Ordering::Relaxed)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ready();
        std::future::pending::<()>().await;
    };
    let result = tokio::select! {
        end = first_end(&mut nodes) => match end {
            End::Fatal(reason) => Err(reason),
            End::Stopped => Err("a shard has ended by itself".into()),
        },
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
        () = all_ready => Ok(()),
    };
    if result.is_ok() {
        tracing::info!("stopping: clients are answered, then everything is synced");
    }
    let end = async {
        // All nodes answer their clients before any shard ends: they need each other for it.
        for node in &nodes {
            node.refuse_new();
        }
        for node in &nodes {
            node.drain().await;
        }
        let mut all = Ok(());
        for node in nodes {
            all = all.and(node.stop().await);
        }
        all
    };
    let ended = tokio::select! {
        ended = end => ended,
        _ = interrupted.recv() => Err("interrupted again: ended at once, as by kill -9".into()),
    };
    result.and(ended)
}

/// How the first shard of any node ends.
async fn first_end(nodes: &mut [Running]) -> End {
    std::future::poll_fn(|context| {
        for node in &mut *nodes {
            if let std::task::Poll::Ready(Some(end)) = node.ended.poll_recv(context) {
                return std::task::Poll::Ready(end);
            }
        }
        std::task::Poll::Pending
    })
    .await
}
