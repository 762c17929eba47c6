//! A running node: its shards, its ports, its end.

use crate::clients::Clients;
use crate::config::NodeConfig;
use crate::cursors::Cursors;
use crate::descriptors::Share;
use crate::disk::files::FileDisk;
use crate::driver::{Driver, End};
use crate::http::{self, Web};
use crate::inbox::Shard;
use crate::listen;
use crate::peers::{self, Peers, Setup};
use crate::server::{Server, Stop};
use crate::stats::Stats;
use samara_core::base::{Address, NodeId, ShardId, limits};
use samara_core::node::NodeOptions;
use samara_core::rules::ring::SlotTable;
use samara_core::store::StoreOptions;
use std::net::{TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Longest time that clients are given to take their answers when the node stops.
const DRAIN: Duration = Duration::from_millis(limits::REQUEST_DEADLINE_MS + 1_000);
/// Longest time that a shard is given to end.
const END: Duration = Duration::from_secs(10);

/// The open ports of a node that has not been started.
#[derive(Debug)]
pub struct Ports {
    clients: TcpListener,
    peers: TcpListener,
    http: TcpListener,
}

/// A node whose ports are open.
#[derive(Debug)]
pub struct Running {
    shards: Arc<Vec<Shard>>,
    server: Arc<Server>,
    threads: Vec<JoinHandle<()>>,
    /// Told by each shard: how it ended.
    pub ended: UnboundedReceiver<End>,
    /// What is counted, and whether it is ready.
    pub stats: Arc<Stats>,
}

fn bind(address: &str, what: &str, flag: &str) -> Result<TcpListener, String> {
    let open = || {
        let address = address.to_socket_addrs()?.next();
        let address = address.ok_or_else(|| std::io::Error::other("the host has no address"))?;
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from(socket))
    };
    open().map_err(|error: std::io::Error| {
        format!("cannot open the {what} port {address}: {error}; give another by {flag}")
    })
}

impl Ports {
    /// Opens the ports of a node. `Err` names the one that is in the way.
    pub fn open(node: &NodeConfig) -> Result<Self, String> {
        Ok(Self {
            clients: bind(&node.listen, "client", node.flags.0)?,
            peers: bind(&node.peer_listen, "peer", node.flags.1)?,
            http: bind(&node.http_listen, "HTTP", node.flags.2)?,
        })
    }
}

/// Opens the directories of a node and starts its shards. `Err` names what is in the way.
pub fn start(node: &NodeConfig, ports: Ports, share: Share) -> Result<Running, String> {
    let users = Arc::new(node.guard.users()?);
    for address in [&node.listen, &node.http_listen] {
        if let Some(warning) = node.guard.warning(&users, address) {
            tracing::warn!("{warning}");
        }
    }
    let stats = Arc::new(Stats::default());
    let shards: Arc<Vec<Shard>> = Arc::new((0..node.shards).map(|_| Shard::default()).collect());
    let mut disks = Vec::new();
    for (number, inbox) in shards.iter().enumerate() {
        let directory = directory(node, number as u16);
        disks.push(FileDisk::open(&directory, inbox, stats.clone(), share.handles)?);
    }
    let cluster = node.cluster_config();
    let addresses = node.members.iter().map(|member| (NodeId(member.id), member.client.clone())).collect();
    let server = Arc::new(Server {
        shards: shards.clone(),
        level: node.level,
        stats: stats.clone(),
        node: NodeId(node.id),
        table: SlotTable::new(&cluster),
        config: cluster,
        addresses,
        durability: node.durability_text(),
        setup: node.setup_text(),
        floors: node.floors_text(),
        max_clients: share.clients,
        guard: node.guard.clone(),
        users,
        clients: Clients::default(),
        cursors: Cursors::default(),
        stop: Stop::default(),
    });
    let unready = Arc::new(AtomicUsize::new(usize::from(node.shards)));
    let (tell_end, ended) = unbounded_channel();
    let mut threads = Vec::new();
    for (shard, disk) in (0..node.shards).zip(disks) {
        let job = ShardJob {
            node: node.clone(),
            shard,
            disk,
            server: server.clone(),
            unready: unready.clone(),
            clients: copy(&ports.clients)?,
            peers: copy(&ports.peers)?,
        };
        let tell_end: UnboundedSender<End> = tell_end.clone();
        let thread = std::thread::Builder::new().name(format!("shard-{shard}")).spawn(move || {
            // Whoever waits for the end may have gone already.
            let _gone = tell_end.send(job.run());
        });
        threads.push(thread.map_err(|error| format!("cannot start the thread of shard {shard}: {error}"))?);
    }
    let web = tokio::net::TcpListener::from_std(ports.http);
    let web = web.map_err(|error| format!("cannot serve HTTP on {}: {error}", node.http_listen))?;
    let served = Web { server: server.clone(), connections: share.http };
    tokio::spawn(http::serve(web, served));
    Ok(Running { shards, server, threads, ended, stats })
}

/// Where the files of a shard are.
fn directory(node: &NodeConfig, shard: u16) -> PathBuf {
    node.data.join(format!("shard-{shard}"))
}

/// Why a shard has ended, with its directory: the core knows files by name only.
fn within(directory: &Path, reason: String) -> String {
    let directory = directory.display().to_string();
    if reason.contains(&directory) { reason } else { format!("{directory}: {reason}") }
}

fn copy(listener: &TcpListener) -> Result<TcpListener, String> {
    listener.try_clone().map_err(|error| format!("cannot share a port between shards: {error}"))
}

/// What the thread of a shard is given.
struct ShardJob {
    node: NodeConfig,
    shard: u16,
    disk: FileDisk,
    server: Arc<Server>,
    unready: Arc<AtomicUsize>,
    clients: TcpListener,
    peers: TcpListener,
}

impl ShardJob {
    /// Runs the shard with its share of the connections, all on this thread.
    fn run(self) -> End {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                return End::Fatal(format!("shard {}: cannot start its runtime: {error}", self.shard));
            }
        };
        let directory = directory(&self.node, self.shard);
        let (end, disk) = runtime.block_on(self.serve());
        // Nobody is kept waiting by what follows: what is still connected here is cut, and the ports are closed.
        drop(runtime);
        match end {
            End::Stopped => match disk.close() {
                Ok(()) => End::Stopped,
                Err(error) => End::Fatal(format!("the last sync has failed: {error}")),
            },
            End::Fatal(reason) => {
                disk.abandon();
                End::Fatal(within(&directory, reason))
            }
        }
    }

    async fn serve(self) -> (End, FileDisk) {
        let listeners = tokio::net::TcpListener::from_std(self.clients)
            .and_then(|clients| Ok((clients, tokio::net::TcpListener::from_std(self.peers)?)));
        let (clients, incoming) = match listeners {
            Ok(listeners) => listeners,
            Err(error) => return (End::Fatal(format!("cannot serve the ports: {error}")), self.disk),
        };
        let (shard, me) = (ShardId(self.shard), NodeId(self.node.id));
        let others = self.node.members.iter().filter(|member| member.id != self.node.id);
        let targets = others.map(|member| (Address { node: NodeId(member.id), shard }, member.peer.clone()));
        let (server, unready) = (self.server, self.unready);
        let setup = Setup { cluster: self.node.cluster, node: me, text: server.setup.clone() };
        let setup = Arc::new(setup);
        let outgoing = Peers::start(&setup, targets.collect(), &server.stats);
        let options = NodeOptions {
            address: Address { node: me, shard },
            config: server.config.clone(),
            seed: seed(),
            store: store_options(&self.node),
            promises_max: limits::PROMISES_MAX,
            floors: self.node.floors(),
        };
        let inbox = server.shards[usize::from(self.shard)].clone();
        let driver = Driver::new(options, inbox, self.disk, outgoing, server.stats.clone());
        tokio::spawn(peers::listen(incoming, setup, server.shards.clone(), server.stats.clone()));
        tokio::spawn(listen::listen(clients, server.clone()));
        let ready = || {
            if unready.fetch_sub(1, Ordering::Relaxed) == 1 {
                server.stats.ready.store(true, Ordering::Relaxed);
            }
        };
        driver.run(ready).await
    }
}

/// The store's sizes: the node's memory and reserve, shared by its shards.
fn store_options(node: &NodeConfig) -> StoreOptions {
    let shards = u64::from(node.shards);
    let sizes = StoreOptions {
        durability: node.durability,
        reserve_bytes: node.disk.reserve_bytes / shards,
        scrub_ms: node.disk.scrub_ms,
        disk_slow_ms: node.disk.slow_ms,
        disk_hung_ms: node.disk.hung_ms,
        ..StoreOptions::default()
    };
    sizes.within((node.memory_bytes / shards) as usize)
}

/// A seed from the hasher's process-wide randomness: it spreads back-off, and tells this life of the directory from those of
/// other directories (S5).
fn seed() -> [u8; 32] {
    use std::hash::{BuildHasher, RandomState};
    let mut seed = [0; 32];
    for (at, chunk) in seed.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&RandomState::new().hash_one(at).to_le_bytes());
    }
    seed
}

impl Running {
    /// Takes no more clients and no more commands.
    pub fn refuse_new(&self) {
        self.server.stop.stop();
    }

    /// Waits until the commands in flight have been answered.
    pub async fn drain(&self) {
        let idle = async {
            let busy = || {
                let stats = &self.stats;
                stats.connections.load(Ordering::Relaxed) + stats.http_requests.load(Ordering::Relaxed) > 0
            };
            while busy() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(DRAIN, idle).await.is_err() {
            let left = self.stats.connections.load(Ordering::Relaxed);
            tracing::warn!("{left} clients did not take their answers; their connections are cut");
        }
    }

    /// Ends the shards, with everything synced. `Err` says why one did not end well.
    pub async fn stop(mut self) -> Result<(), String> {
        self.shards.iter().for_each(|shard| shard.stop());
        let threads = self.threads;
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        if tokio::time::timeout(END, joined).await.is_err() {
            return Err(format!("a shard did not end within {} s", END.as_secs()));
        }
        while let Ok(end) = self.ended.try_recv() {
            if let End::Fatal(reason) = end {
                return Err(reason);
            }
        }
        Ok(())
    }
}
