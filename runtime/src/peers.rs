//! Frames between nodes over TCP: one outgoing connection per peer and shard, made again when it breaks. What a peer does not
//! take in time is dropped: the protocol lives with loss, and memory stays bounded.

use crate::foreign::WHAT_TO_DO;
use crate::inbox::Shard;
use crate::stats::Stats;
use bytes::{Buf, BytesMut};
use samara_core::base::{Address, ClusterId, NodeId};
use samara_core::wire::{Envelope, Frames, PROTOCOL_VERSION, decode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Bytes of frames that may wait for a peer's socket.
const QUEUE_BYTES: usize = 64 << 20;
/// A connection that neither takes nor brings a byte for so long is given up. Heartbeats go five times a second.
const SILENCE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Incoming connections at a time.
const INCOMING_MAX: usize = 4_096;
const MAGIC: &[u8; 8] = b"SAMPEER1";
/// Magic, protocol version, cluster, node, receiving shard.
const HELLO: usize = 8 + 2 + 16 + 2 + 2;
/// How a refusal begins: its length as two bytes and the refuser's setup as text follow.
const REFUSAL: &[u8; 8] = b"SAMOTHER";
/// Bytes of a setup that are told; of a long one the beginning.
const SETUP_MAX: usize = 2_048;
/// How long a refused peer is given to take the refusal.
const REFUSING: Duration = Duration::from_secs(1);
/// A receive buffer larger than this is given back when it has been emptied.
const BUFFER_KEPT: usize = 1 << 20;

/// Who this node is to its peers.
#[derive(Debug)]
pub struct Setup {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// What makes the cluster this one, for operators.
    pub text: String,
}

/// The outgoing side of one shard.
#[derive(Debug)]
pub struct Peers {
    links: Vec<(Address, Frames, Arc<Link>)>,
    stats: Arc<Stats>,
}

/// Frames on their way to one peer.
#[derive(Debug, Default)]
struct Link {
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    connected: bool,
    bytes: Vec<u8>,
}

impl Link {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frames that waited while the peer was away are too old to be worth sending.
    fn set_connected(&self, connected: bool) {
        *self.queue() = Queue { connected, bytes: Vec::new() };
    }

    /// Takes what waits into `bytes`, which is empty.
    async fn take(&self, bytes: &mut Vec<u8>) {
        loop {
            {
                let mut queue = self.queue();
                if !queue.bytes.is_empty() {
                    return std::mem::swap(bytes, &mut queue.bytes);
                }
            }
            self.wake.notified().await;
        }
    }
}

impl Peers {
    /// Starts a connection to each shard in `targets`.
    pub fn start(setup: &Arc<Setup>, targets: Vec<(Address, String)>, stats: &Arc<Stats>) -> Self {
        let links = targets.into_iter().map(|(address, target)| {
            let link = Arc::new(Link::default());
            let peer = Peer { address, target, setup: setup.clone(), stats: stats.clone() };
            tokio::spawn(peer.keep_connected(link.clone()));
            (address, Frames::default(), link)
        });
        Self { links: links.collect(), stats: stats.clone() }
    }

    /// Queues a message for the next flush; those of one step to one peer share a frame.
    pub fn send(&mut self, to: Address, message: &Envelope) {
        if let Some((_, batch, _)) = self.links.iter_mut().find(|(address, ..)| *address == to) {
            batch.push(message);
        }
    }

    /// Hands what was queued to the sockets.
    pub fn flush(&mut self) {
        for (_, batch, link) in self.links.iter_mut().filter(|(_, batch, _)| !batch.is_empty()) {
            let batch = batch.finish();
            let mut queue = link.queue();
            if !queue.connected || queue.bytes.len() + batch.len() > QUEUE_BYTES {
                self.stats.peer_frames_dropped.fetch_add(1, Ordering::Relaxed);
                batch.clear();
                continue;
            }
            if queue.bytes.is_empty() {
                std::mem::swap(&mut queue.bytes, batch);
                drop(queue);
                link.wake.notify_one();
            } else {
                queue.bytes.append(batch);
            }
        }
    }
}

fn hello(cluster: ClusterId, me: NodeId, to: Address) -> Vec<u8> {
    let mut hello = Vec::with_capacity(HELLO);
    hello.extend_from_slice(MAGIC);
    hello.extend_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    hello.extend_from_slice(&cluster.0.to_le_bytes());
    hello.extend_from_slice(&me.0.to_le_bytes());
    hello.extend_from_slice(&to.shard.0.to_le_bytes());
    hello
}

/// A shard of a peer, as this node connects to it.
struct Peer {
    address: Address,
    target: String,
    setup: Arc<Setup>,
    stats: Arc<Stats>,
}

impl Peer {
    async fn keep_connected(self, link: Arc<Link>) {
        let Self { target, setup, .. } = &self;
        let hello = hello(setup.cluster, setup.node, self.address);
        let mut pause = PAUSE;
        loop {
            if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(target)).await {
                tracing::debug!("connected to peer {target}");
                self.stats.peer_connections_total.fetch_add(1, Ordering::Relaxed);
                pause = PAUSE;
                link.set_connected(true);
                let why = send(stream, &hello, &link).await;
                link.set_connected(false);
                match why {
                    Ended::Refused(theirs) => {
                        self.note_refusal(&theirs);
                        pause = PAUSE_MAX;
                    }
                    Ended::Because(why) => {
                        tracing::debug!("the connection to peer {target} has ended: {why}");
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn note_refusal(&self, theirs: &str) {
        let (node, target, ours) = (self.address.node.0, &self.target, &self.setup.text);
        if self.stats.foreign.refused(node, theirs, Instant::now()) {
            tracing::error!(
                "node {node} at {target} takes this node for one of another cluster and refuses it: it was started with \
                 {theirs}, this node with {ours}. The two replicate nothing to each other: {WHAT_TO_DO}"
            );
        }
    }
}

/// Why an outgoing connection ended.
enum Ended {
    /// The peer is of another cluster: its setup.
    Refused(String),
    Because(String),
}

/// Waits for the end of a connection from whose peer nothing comes but a refusal: a byte, an end or an error all mean that it is
/// not there any more.
async fn wait_for_end(mut read: impl AsyncRead + Unpin) -> Ended {
    let mut said = vec![0];
    match read.read(&mut said).await {
        Ok(0) => return Ended::Because("the peer closed it".into()),
        Ok(_) => {}
        Err(error) => return Ended::Because(error.to_string()),
    }
    let mut rest = read.take((REFUSAL.len() + 2 + SETUP_MAX) as u64);
    // What has come until then is all that there is.
    let _ended = timeout(REFUSING, rest.read_to_end(&mut said)).await;
    refusal_in(&said).map_or_else(
        || Ended::Because("the peer sent bytes where it has nothing to say".into()),
        Ended::Refused,
    )
}

/// A refusal, with the setup of the refuser.
fn refusal(setup: &str) -> Vec<u8> {
    let told = &setup.as_bytes()[..setup.len().min(SETUP_MAX)];
    [&REFUSAL[..], &(told.len() as u16).to_le_bytes(), told].concat()
}

/// The refuser's setup, on one line.
fn refusal_in(bytes: &[u8]) -> Option<String> {
    let rest = bytes.strip_prefix(REFUSAL)?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let told = rest.get(..usize::from(u16::from_le_bytes(*len)))?;
    let told = String::from_utf8_lossy(told);
    Some(told.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect())
}

/// Sends frames until the connection ends; why it did.
async fn send(stream: TcpStream, hello: &[u8], link: &Link) -> Ended {
    stream.set_nodelay(true).ok();
    let (read, mut write) = tokio::io::split(stream);
    let sending = async move {
        let mut bytes = hello.to_vec();
        loop {
            let sent = async {
                write.write_all(&bytes).await?;
                write.flush().await
            };
            match timeout(SILENCE, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return format!("it took nothing for {} s", SILENCE.as_secs()),
            }
            bytes.clear();
            if bytes.capacity() > BUFFER_KEPT {
                bytes = Vec::new();
            }
            link.take(&mut bytes).await;
        }
    };
    tokio::select! {
        biased;
        ended = wait_for_end(read) => ended,
        why = sending => Ended::Because(why),
    }
}

/// Accepts connections of peers for as long as the process lives.
pub async fn listen(listener: TcpListener, setup: Arc<Setup>, shards: Arc<Vec<Shard>>, stats: Arc<Stats>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                if open.load(Ordering::Relaxed) >= INCOMING_MAX {
                    tracing::warn!("peer at {from}: {INCOMING_MAX} connections of peers are open already");
                    continue;
                }
                open.fetch_add(1, Ordering::Relaxed);
                let (shards, open) = (shards.clone(), open.clone());
                let (setup, stats) = (setup.clone(), stats.clone());
                tokio::spawn(async move {
                    if let Err(reason) = receive(stream, &setup, &shards, &stats).await {
                        tracing::warn!("peer at {from}: {reason}; the connection is closed");
                    }
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a peer: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Why a greeting is refused.
#[derive(Debug, PartialEq, Eq)]
enum Stranger {
    /// It is of another cluster, under this node id.
    Foreign(u16),
    Other(String),
}

/// Checks a greeting: the peer's node id, and the number of the shard it wants.
fn greeted(greeting: &[u8; HELLO], cluster: ClusterId) -> Result<(u16, u16), Stranger> {
    let field = |at: usize| u16::from_le_bytes([greeting[at], greeting[at + 1]]);
    if greeting[..8] != *MAGIC {
        return Err(Stranger::Other("not a peer of this protocol".into()));
    }
    if field(8) != PROTOCOL_VERSION {
        let theirs = field(8);
        return Err(Stranger::Other(format!(
            "it speaks protocol version {theirs}, this node {PROTOCOL_VERSION}"
        )));
    }
    if greeting[10..26] != cluster.0.to_le_bytes() {
        return Err(Stranger::Foreign(field(26)));
    }
    Ok((field(26), field(28)))
}

/// Tells a peer of another cluster why it is refused.
async fn refuse(stream: &mut TcpStream, setup: &Setup) {
    let told = async {
        stream.write_all(&refusal(&setup.text)).await?;
        stream.shutdown().await?;
        // What it has sent meanwhile is taken: closed over it, the connection would lose the refusal on its way.
        let mut rest = [0; 1_024];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    // A peer that does not take it is refused all the same.
    let _told = timeout(REFUSING, told).await;
}

async fn receive(
    mut stream: TcpStream,
    setup: &Setup,
    shards: &[Shard],
    stats: &Stats,
) -> Result<(), String> {
    stream.set_nodelay(true).ok();
    let mut greeting = [0; HELLO];
    if !matches!(timeout(SILENCE, stream.read_exact(&mut greeting)).await, Ok(Ok(_))) {
        return Ok(());
    }
    let (from, shard) = match greeted(&greeting, setup.cluster) {
        Ok(greeted) => greeted,
        Err(Stranger::Other(reason)) => return Err(reason),
        Err(Stranger::Foreign(node)) => {
            refuse(&mut stream, setup).await;
            if !stats.foreign.came_foreign(node, Instant::now()) {
                return Ok(());
            }
            return Err(format!(
                "it belongs to another cluster, as its node {node}; this node was started with {}: {WHAT_TO_DO}",
                setup.text
            ));
        }
    };
    stats.foreign.came(from);
    let shard = shards.get(usize::from(shard)).ok_or("it asks for a shard that is not here")?;
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    loop {
        if buffer.is_empty() && buffer.capacity() > BUFFER_KEPT {
            buffer = BytesMut::new();
        }
        buffer.reserve(64 << 10);
        match timeout(SILENCE, stream.read_buf(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => {}
            Err(_) => return Err(format!("silent for {} s", SILENCE.as_secs())),
            _ => return Ok(()),
        }
        let mut bytes = 0;
        while let Some(len) = decode(&buffer[bytes..], &mut frames).map_err(|error| error.to_string())? {
            bytes += len;
            if let Some(other) = frames.last().filter(|envelope| envelope.from.node.0 != from) {
                return Err(format!("node {from} sent a frame of {}", other.from));
            }
        }
        buffer.advance(bytes);
        if !frames.is_empty() {
            shard.peer(&mut frames, bytes).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use samara_core::base::{Epoch, Hlc, ShardId, StartNumber};
    use samara_core::wire::Message;

    #[test]
    fn what_a_peer_does_not_take_is_dropped_and_counted() {
        let (to, link) = (Address { node: NodeId(2), shard: ShardId(0) }, Arc::new(Link::default()));
        let stats: Arc<Stats> = Arc::default();
        let mut peers = Peers { links: vec![(to, Frames::default(), link.clone())], stats: stats.clone() };
        let frame = Envelope {
            from: Address { node: NodeId(1), shard: ShardId(0) },
            start: StartNumber::new(1, 7),
            epoch: Epoch(1),
            hlc: Hlc(1),
            body: Message::Ping { ceiling: Hlc(1), full: false },
        };
        let send = |peers: &mut Peers| {
            peers.send(to, &frame);
            peers.flush();
            (link.queue().bytes.len(), stats.peer_frames_dropped.load(Ordering::Relaxed))
        };
        assert_eq!(send(&mut peers), (0, 1), "the peer is away");
        link.set_connected(true);
        let (len, dropped) = send(&mut peers);
        assert!(len > 0 && dropped == 1);
        assert_eq!(send(&mut peers), (2 * len, 1), "frames wait for the socket");
        link.queue().bytes = vec![0; QUEUE_BYTES];
        assert_eq!(send(&mut peers), (QUEUE_BYTES, 2), "the peer is too slow");
    }

    #[test]
    fn greetings_of_strangers_are_refused() {
        let to = Address { node: NodeId(2), shard: ShardId(3) };
        let good: [u8; HELLO] = hello(ClusterId(7), NodeId(1), to).try_into().expect("its length is fixed");
        assert_eq!(greeted(&good, ClusterId(7)), Ok((1, 3)));
        assert_eq!(greeted(&good, ClusterId(8)), Err(Stranger::Foreign(1)));
        let (mut magic, mut version) = (good, good);
        magic[0] = b'X';
        version[8] += 1;
        let refused = |greeting, part: &str| matches!(greeted(greeting, ClusterId(7)), Err(Stranger::Other(reason)) if reason.contains(part));
        assert!(refused(&magic, "not a peer"));
        assert!(refused(&version, "protocol version"));
    }

    #[test]
    fn a_refusal_carries_the_setup_of_the_refuser_on_one_line() {
        let text = "--members 1@a:1,2@b:1 --replication-factor 3";
        assert_eq!(refusal_in(&refusal(text)).as_deref(), Some(text));
        assert_eq!(refusal_in(&refusal("a\nb")).as_deref(), Some("a b"));
        let long = "x".repeat(2 * SETUP_MAX);
        assert_eq!(refusal_in(&refusal(&long)).map(|told| told.len()), Some(SETUP_MAX));
        for end in 0..refusal(text).len() {
            assert_eq!(refusal_in(&refusal(text)[..end]), None, "cut at {end}");
        }
        assert_eq!(refusal_in(b"HTTP/1.1 400 Bad Request"), None);
    }
}
