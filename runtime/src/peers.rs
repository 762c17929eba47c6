//! Frames between nodes over TCP: one outgoing connection per peer and shard, made again when it breaks. What a peer does not
//! take in time is dropped: the protocol lives with loss, and memory stays bounded.

use crate::inbox::Shard;
use crate::stats::Stats;
use bytes::{Buf, BytesMut};
use samara_core::base::{Address, ClusterId, NodeId};
use samara_core::wire::{Envelope, Frames, PROTOCOL_VERSION, decode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

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
/// A receive buffer larger than this is given back when it has been emptied.
const BUFFER_KEPT: usize = 1 << 20;

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
    pub fn start(
        cluster: ClusterId,
        me: NodeId,
        targets: Vec<(Address, String)>,
        stats: &Arc<Stats>,
    ) -> Self {
        let links = targets.into_iter().map(|(address, target)| {
            let link = Arc::new(Link::default());
            let hello = hello(cluster, me, address);
            tokio::spawn(keep_connected(hello, target, link.clone(), stats.clone()));
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

async fn keep_connected(hello: Vec<u8>, target: String, link: Arc<Link>, stats: Arc<Stats>) {
    let mut pause = PAUSE;
    loop {
        if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(&target)).await {
            tracing::debug!("connected to peer {target}");
            stats.peer_connections_total.fetch_add(1, Ordering::Relaxed);
            pause = PAUSE;
            link.set_connected(true);
            let why = send(stream, &hello, &link).await;
            link.set_connected(false);
            tracing::debug!("the connection to peer {target} has ended: {why}");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Sends frames until the connection ends; why it did.
async fn send(stream: TcpStream, hello: &[u8], link: &Link) -> String {
    stream.set_nodelay(true).ok();
    let (mut read, mut write) = tokio::io::split(stream);
    let closed = async move {
        // Nothing comes on this side: a byte, an end or an error all mean that the peer is not there any more.
        match read.read(&mut [0]).await {
            Ok(0) => "the peer closed it".to_string(),
            Ok(_) => "the peer sent bytes where it has nothing to say".to_string(),
            Err(error) => error.to_string(),
        }
    };
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
        why = closed => why,
        why = sending => why,
    }
}

/// Accepts connections of peers for as long as the process lives.
pub async fn listen(listener: TcpListener, cluster: ClusterId, shards: Arc<Vec<Shard>>) {
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
                tokio::spawn(async move {
                    if let Err(reason) = receive(stream, cluster, &shards).await {
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

/// Checks a greeting: the peer's node id, and the number of the shard it wants.
fn greeted(greeting: &[u8; HELLO], cluster: ClusterId) -> Result<(u16, u16), String> {
    let field = |at: usize| u16::from_le_bytes([greeting[at], greeting[at + 1]]);
    if greeting[..8] != *MAGIC {
        return Err("not a peer of this protocol".into());
    }
    if field(8) != PROTOCOL_VERSION {
        return Err(format!("it speaks protocol version {}, this node {PROTOCOL_VERSION}", field(8)));
    }
    if greeting[10..26] != cluster.0.to_le_bytes() {
        return Err("it belongs to another cluster: every node must be given the same --members, zones and --replication-factor".into());
    }
    Ok((field(26), field(28)))
}

async fn receive(mut stream: TcpStream, cluster: ClusterId, shards: &[Shard]) -> Result<(), String> {
    stream.set_nodelay(true).ok();
    let mut greeting = [0; HELLO];
    if !matches!(timeout(SILENCE, stream.read_exact(&mut greeting)).await, Ok(Ok(_))) {
        return Ok(());
    }
    let (from, shard) = greeted(&greeting, cluster)?;
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
            start: StartNumber(1),
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
        assert!(greeted(&good, ClusterId(8)).is_err_and(|reason| reason.contains("another cluster")));
        let (mut magic, mut version) = (good, good);
        magic[0] = b'X';
        version[8] += 1;
        assert!(greeted(&magic, ClusterId(7)).is_err_and(|reason| reason.contains("not a peer")));
        assert!(greeted(&version, ClusterId(7)).is_err_and(|reason| reason.contains("protocol version")));
    }
}
