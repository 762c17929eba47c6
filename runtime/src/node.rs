//! A running node: its shards, its ports, its end.

use crate::disk::Disk;
use crate::driver::{Driver, End, Event, Shard};
use crate::peers::{self, Peers};
use crate::server::{self, Server};
use crate::stats::Stats;
use crate::{config::NodeConfig, http};
use samara_core::base::{Address, Config, Epoch, Member, NodeId, ShardId, limits};
use samara_core::node::NodeOptions;
use samara_core::store::StoreOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A node whose ports are open.
#[derive(Debug)]
pub struct Running {
    shards: Arc<Vec<Shard>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// Told once: how a shard ended.
    pub ended: tokio::sync::mpsc::UnboundedReceiver<End>,
    /// What is counted, and whether it is ready.
    pub stats: Arc<Stats>,
}

async fn bind(address: &str, what: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("{what} port {address}: {error}"))
}

/// Opens the directories and ports of a node and starts its shards. `Err` names what is in the way; nothing was changed.
pub async fn start(node: &NodeConfig) -> Result<Running, String> {
    let (clients, peers, web) = (
        bind(&node.listen, "client").await?,
        bind(&node.peer_listen, "peer").await?,
        bind(&node.http_listen, "HTTP").await?,
    );
    let cluster = Config {
        cluster: node.cluster,
        epoch: Epoch(1),
        members: node
            .members
            .iter()
            .map(|member| Member {
                node: NodeId(member.id),
                zone: member.zone.clone(),
                tokens: samara_core::base::config::TOKENS_DEFAULT,
                shards: node.shards,
            })
            .collect(),
        replication: node.replication,
    };
    let stats = Arc::new(Stats::default());
    let (tell_end, ended) = unbounded_channel();
    let (mut senders, mut threads) = (Vec::new(), Vec::new());
    let unready = Arc::new(AtomicUsize::new(usize::from(node.shards)));
    for shard in 0..node.shards {
        let (sender, events) = unbounded_channel();
        let disk = Disk::open(&node.data.join(format!("shard-{shard}")), &sender)?;
        senders.push(sender);
        let job = ShardJob {
            node: node.clone(),
            cluster: cluster.clone(),
            shard,
            events,
            disk,
            stats: stats.clone(),
        };
        let (tell_end, unready, ready) = (tell_end.clone(), unready.clone(), stats.clone());
        let on_ready = move || {
            if unready.fetch_sub(1, Ordering::Relaxed) == 1 {
                ready.ready.store(true, Ordering::Relaxed);
            }
        };
        let thread = std::thread::Builder::new().name(format!("shard-{shard}")).spawn(move || {
            // Whoever waits for the end may have gone already.
            let _gone = tell_end.send(job.run(on_ready));
        });
        threads.push(thread.map_err(|error| format!("cannot start the thread of shard {shard}: {error}"))?);
    }
    let shards = Arc::new(senders);
    let addresses = node.members.iter().map(|member| (NodeId(member.id), member.client.clone())).collect();
    let server = Server {
        shards: shards.clone(),
        level: node.level,
        stats: stats.clone(),
        node: NodeId(node.id),
        config: cluster,
        addresses,
        durability: node.durability_text(),
    };
    tokio::spawn(server::listen(clients, Arc::new(server)));
    tokio::spawn(peers::listen(peers, node.cluster, shards.clone()));
    tokio::spawn(http::serve(web, stats.clone()));
    Ok(Running { shards, threads, ended, stats })
}

/// What the thread of a shard is given.
struct ShardJob {
    node: NodeConfig,
    cluster: Config,
    shard: u16,
    events: UnboundedReceiver<Event>,
    disk: Disk,
    stats: Arc<Stats>,
}

impl ShardJob {
    fn run(self, on_ready: impl Fn()) -> End {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                return End::Fatal(format!("shard {}: cannot start its runtime: {error}", self.shard));
            }
        };
        let shard = ShardId(self.shard);
        let me = NodeId(self.node.id);
        runtime.block_on(async move {
            let others = self.node.members.iter().filter(|member| member.id != self.node.id);
            let targets =
                others.map(|member| (Address { node: NodeId(member.id), shard }, member.peer.clone()));
            let peers = Peers::start(self.node.cluster, me, targets.collect());
            let options = NodeOptions {
                address: Address { node: me, shard },
                config: self.cluster,
                seed: seed(),
                store: StoreOptions { durability: self.node.durability, ..StoreOptions::default() },
                promises_max: limits::PROMISES_MAX,
            };
            Driver::new(options, self.events, self.disk, peers, self.stats).run(on_ready).await
        })
    }
}

/// A seed from the hasher's process-wide randomness: it only spreads back-off.
fn seed() -> [u8; 32] {
    use std::hash::{BuildHasher, RandomState};
    let mut seed = [0; 32];
    for (at, chunk) in seed.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&RandomState::new().hash_one(at).to_le_bytes());
    }
    seed
}

impl Running {
    /// Answers what is in flight, then ends the shards.
    pub async fn stop(self) {
        for shard in self.shards.iter() {
            // A shard that has ended does not need to be told.
            let _ended = shard.send(Event::Stop);
        }
        let threads = self.threads;
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        if tokio::time::timeout(std::time::Duration::from_secs(10), joined).await.is_err() {
            tracing::warn!("a shard did not end within ten seconds");
        }
    }
}
