//! Three shells, async parts and all, over simulated TCP, time and disks (madsim), with kills in the middle: what clients saw is
//! linearizable, and a seed gives the same run twice. Compiled under `RUSTFLAGS="--cfg madsim"` alone.
#![cfg(madsim)]

use madsim::runtime::{Handle, NodeHandle, Runtime};
use samara::clients::Clients;
use samara::cursors::Cursors;
use samara::disk::memory::{MemoryDisk, Platter};
use samara::driver::Driver;
use samara::guard::Guard;
use samara::inbox::Shard;
use samara::peers::{self, Peers, Setup};
use samara::server::{Server, Stop};
use samara::stats::Stats;
use samara_check::history::{Answer, Function, History, Level, Operation, Outcome};
use samara_check::linearizability::{self, Options, Verdict};
use samara_core::base::config::TOKENS_DEFAULT;
use samara_core::base::{Address, ClusterId, Config, Epoch, Member, NodeId, ShardId};
use samara_core::node::NodeOptions;
use samara_core::rules::ring::SlotTable;
use samara_core::store::{Durability, StoreOptions};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

const NODES: u16 = 3;
const CLIENTS: u64 = 4;
const CLUSTER: ClusterId = ClusterId(7);

fn ip(node: u16) -> IpAddr {
    IpAddr::from([10, 0, 0, node as u8])
}

fn config() -> Config {
    let member = |node| Member { node: NodeId(node), zone: String::new(), tokens: TOKENS_DEFAULT, shards: 1 };
    Config { cluster: CLUSTER, epoch: Epoch(1), members: (1..=NODES).map(member).collect(), replication: 3 }
}

/// One life of a node, until it is killed.
async fn shell(node: u16, platter: Platter) {
    let inbox = Shard::default();
    let shards = Arc::new(vec![inbox.clone()]);
    let stats = Arc::new(Stats::default());
    let server = Arc::new(Server {
        shards: shards.clone(),
        level: samara_core::base::Level::Strong,
        stats: stats.clone(),
        node: NodeId(node),
        table: SlotTable::new(&config()),
        config: config(),
        addresses: (1..=NODES).map(|node| (NodeId(node), (ip(node).to_string(), 6379))).collect(),
        durability: "sync".into(),
        setup: String::new(),
        floors: String::new(),
        max_clients: 100,
        guard: Guard { is_protected: false, ..Guard::default() },
        users: Arc::default(),
        clients: Clients::default(),
        cursors: Cursors::default(),
        stop: Stop::default(),
    });
    let clients = TcpListener::bind("0.0.0.0:6379").await.expect("a free port");
    let incoming = TcpListener::bind("0.0.0.0:7379").await.expect("a free port");
    let setup = Arc::new(Setup { cluster: CLUSTER, node: NodeId(node), text: String::new() });
    tokio::spawn(peers::listen(incoming, setup.clone(), shards, stats.clone()));
    tokio::spawn(samara::listen::listen(clients, server));
    let others = (1..=NODES).filter(|other| *other != node);
    let address = |node| Address { node: NodeId(node), shard: ShardId(0) };
    let targets = others.map(|other| (address(other), format!("{}:7379", ip(other)))).collect();
    let outgoing = Peers::start(&setup, targets, &stats);
    let disk = MemoryDisk::new(platter, inbox.clone(), Duration::from_micros(300));
    let options = NodeOptions {
        address: address(node),
        config: config(),
        seed: [node as u8; 32],
        store: StoreOptions {
            durability: Durability::Sync,
            memtable_bytes: 16 << 10,
            wal_segment_bytes: 256 << 10,
            ..StoreOptions::default()
        },
        promises_max: 64,
        floors: samara_core::rules::floor::Floors::default(),
    };
    let ready = || stats.ready.store(true, Ordering::Relaxed);
    let (end, _) = Driver::new(options, inbox, disk, outgoing, stats.clone()).run(ready).await;
    panic!("node {node} has ended by itself: {end:?}");
}

/// A client's connection.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(node: u16) -> Option<Self> {
        let stream =
            timeout(Duration::from_secs(1), TcpStream::connect((ip(node), 6379))).await.ok()?.ok()?;
        Some(Self { stream, buffer: Vec::new() })
    }

    /// The first line of the reply, and the value of a bulk string.
    async fn ask(&mut self, request: &str) -> Option<(String, Option<Vec<u8>>)> {
        let answer = async {
            self.stream.write_all(request.as_bytes()).await.ok()?;
            self.stream.flush().await.ok()?;
            let line = String::from_utf8(self.line().await?).ok()?;
            let value = match line.strip_prefix('$') {
                Some("-1") | None => None,
                Some(_) => Some(self.line().await?),
            };
            Some((line, value))
        };
        timeout(Duration::from_secs(8), answer).await.ok()?
    }

    async fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                return Some(line[..line.len() - 2].to_vec());
            }
            let mut piece = [0; 512];
            let count = self.stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
            self.buffer.extend_from_slice(&piece[..count]);
        }
    }
}

/// What is seen by all clients of a run.
#[derive(Clone)]
struct Load {
    history: Arc<Mutex<History>>,
    start: Instant,
    stop: Arc<std::sync::atomic::AtomicBool>,
}

impl Load {
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    async fn client(self, number: u64) {
        let mut process = number;
        let mut connection = None;
        for turn in 0_u64.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let node = 1 + ((number + turn / 15) % u64::from(NODES)) as u16;
            let open = match connection.take() {
                Some(open) => Some(open),
                None => Connection::open(node).await,
            };
            let Some(mut open) = open else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let value = format!("{number}.{turn}");
            let (key, function, request) = match turn % 3 {
                0 => {
                    let key = format!("k{}", turn % 2);
                    let put = Function::Put { value: value.clone().into_bytes(), ttl_ms: None };
                    (key.clone(), put, format!("SET {key} {value}\r\n"))
                }
                1 => ("n".to_string(), Function::Incr(1), "INCR n\r\n".to_string()),
                _ => {
                    let key = format!("k{}", turn / 3 % 2);
                    (key.clone(), Function::Get, format!("GET {key}\r\n"))
                }
            };
            let call = self.now();
            let outcome = match open.ask(&request).await {
                Some((line, _)) if line == "+OK" => Outcome::Ok(Answer::Done),
                Some((line, value)) if line.starts_with('$') => Outcome::Ok(Answer::Value(value)),
                Some((line, _)) if line.starts_with(':') => {
                    Outcome::Ok(Answer::Integer(line[1..].parse().expect("a number")))
                }
                Some((line, _)) if line.starts_with("-UNAVAILABLE") => {
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Some((line, _)) => {
                    assert!(line.starts_with("-TIMEOUT"), "{request}: {line}");
                    Outcome::Unknown
                }
                None => Outcome::Unknown,
            };
            let unknown = outcome == Outcome::Unknown;
            let (ret, key) = (self.now(), key.into_bytes());
            let operation = Operation { process, key, function, outcome, call, ret, level: Level::Strong };
            self.history.lock().expect("no client panicked").operations.push(operation);
            if unknown {
                process += CLIENTS;
            } else if turn % 15 != 14 {
                connection = Some(open);
            }
        }
    }

    fn done(&self) -> usize {
        let history = self.history.lock().expect("no client panicked");
        history.operations.iter().filter(|operation| operation.outcome != Outcome::Unknown).count()
    }

    /// Waits in simulated time; a run that makes no progress fails.
    async fn wait_for_more(&self, more: usize) {
        let until = self.done() + more;
        for _ in 0..6_000 {
            if self.done() >= until {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("no progress within a minute of simulated time");
    }
}

/// A run: load, the kill of one node, its return, the kill of all, their return. What the clients saw, and when it ended.
async fn run() -> (Vec<String>, Verdict) {
    let handle = Handle::current();
    let platters: Vec<Platter> = (0..NODES).map(|_| Platter::default()).collect();
    let start_node = |node: u16| -> NodeHandle {
        let platter = platters[usize::from(node) - 1].clone();
        let init = move || shell(node, platter.clone());
        handle.create_node().name(format!("node-{node}")).ip(ip(node)).init(init).build()
    };
    let nodes: Vec<NodeHandle> = (1..=NODES).map(start_node).collect();
    let load = Load { history: Arc::default(), start: Instant::now(), stop: Arc::default() };
    let machine = handle.create_node().name("clients").ip(IpAddr::from([10, 0, 1, 1])).build();
    let clients: Vec<_> = (0..CLIENTS).map(|number| machine.spawn(load.clone().client(number))).collect();
    load.wait_for_more(150).await;
    let crash = |node: usize| {
        handle.kill(nodes[node].id());
        platters[node].crash();
    };
    for node in 0..2 {
        crash(node);
        load.wait_for_more(60).await;
        handle.restart(nodes[node].id());
        load.wait_for_more(60).await;
    }
    (0..3).for_each(&crash);
    sleep(Duration::from_millis(200)).await;
    nodes.iter().for_each(|node| handle.restart(node.id()));
    load.wait_for_more(60).await;
    load.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no client panicked");
    }
    let history = std::mem::take(&mut *load.history.lock().expect("no client panicked"));
    let seen = history.operations.iter().map(|operation| format!("{operation:?}")).collect();
    (seen, linearizability::check(&history, &Options::default()))
}

fn run_seed(seed: u64) -> Vec<String> {
    let runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
    let (seen, verdict) = runtime.block_on(run());
    assert!(matches!(verdict, Verdict::Holds), "seed {seed}: {verdict:?}");
    assert!(seen.len() >= 330, "seed {seed}: the clients did their work");
    seen
}

#[test]
fn three_shells_survive_kills_and_stay_linearizable() {
    for seed in 0..8 {
        run_seed(seed);
    }
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in [1, 77] {
        // Each in a fresh thread: nothing thread-local is carried over.
        let twice = [seed, seed].map(|seed| {
            std::thread::spawn(move || run_seed(seed))
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        assert_eq!(twice[0], twice[1], "seed {seed}");
    }
}
