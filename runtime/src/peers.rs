//! Frames between nodes over TCP: one outgoing connection per peer, made again when it breaks. What does not fit a peer's
//! bounded queue is dropped: the protocol lives with loss.

use crate::driver::{Event, Shard};
use bytes::{Buf, BytesMut};
use samara_core::base::{Address, ClusterId, NodeId};
use samara_core::wire::{Envelope, PROTOCOL_VERSION, decode, encode};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Batches of frames that may wait for a peer's socket.
const QUEUE: usize = 1024;
const MAGIC: &[u8; 8] = b"SAMPEER1";
/// Magic, protocol version, cluster, node, receiving shard.
const HELLO: usize = 8 + 2 + 16 + 2 + 2;

/// The outgoing side of one shard.
#[derive(Debug)]
pub struct Peers {
    links: HashMap<Address, Link>,
}

#[derive(Debug)]
struct Link {
    queue: Sender<Vec<u8>>,
    batch: Vec<u8>,
}

impl Peers {
    /// Starts a connection to each shard in `targets`.
    pub fn start(cluster: ClusterId, me: NodeId, targets: Vec<(Address, String)>) -> Self {
        let links = targets.into_iter().map(|(address, target)| {
            let (queue, frames) = channel(QUEUE);
            tokio::spawn(keep_connected(hello(cluster, me, address), target, frames));
            (address, Link { queue, batch: Vec::new() })
        });
        Self { links: links.collect() }
    }

    /// Queues a frame for the next flush.
    pub fn send(&mut self, to: Address, message: Envelope) {
        if let Some(link) = self.links.get_mut(&to) {
            encode(&message, &mut link.batch);
        }
    }

    /// Hands what was queued to the sockets.
    pub fn flush(&mut self) {
        for link in self.links.values_mut().filter(|link| !link.batch.is_empty()) {
            let batch = std::mem::take(&mut link.batch);
            if link.queue.try_send(batch).is_err() {
                tracing::trace!("a peer's queue is full: frames are dropped");
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

async fn keep_connected(hello: Vec<u8>, target: String, mut frames: Receiver<Vec<u8>>) {
    let mut pause = Duration::from_millis(20);
    loop {
        if let Ok(mut stream) = TcpStream::connect(&target).await {
            tracing::debug!("connected to peer {target}");
            pause = Duration::from_millis(20);
            // Frames that waited while the peer was away are too old to be worth sending.
            while frames.try_recv().is_ok() {}
            stream.set_nodelay(true).ok();
            if stream.write_all(&hello).await.is_ok() {
                loop {
                    let Some(batch) = frames.recv().await else { return };
                    if stream.write_all(&batch).await.is_err() || stream.flush().await.is_err() {
                        break;
                    }
                }
            }
            tracing::debug!("the connection to peer {target} has ended");
        }
        if frames.is_closed() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

/// Accepts connections of peers for as long as the process lives.
pub async fn listen(listener: TcpListener, cluster: ClusterId, shards: Arc<Vec<Shard>>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let shards = shards.clone();
                tokio::spawn(async move {
                    if let Err(reason) = receive(stream, cluster, &shards).await {
                        tracing::warn!("peer at {from}: {reason}; the connection is closed");
                    }
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a peer: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn receive(mut stream: TcpStream, cluster: ClusterId, shards: &[Shard]) -> Result<(), String> {
    stream.set_nodelay(true).ok();
    let mut greeting = [0; HELLO];
    if stream.read_exact(&mut greeting).await.is_err() {
        return Ok(());
    }
    let field = |at: usize| u16::from_le_bytes([greeting[at], greeting[at + 1]]);
    if greeting[..8] != *MAGIC {
        return Err("not a peer of this protocol".into());
    }
    if field(8) != PROTOCOL_VERSION {
        return Err(format!("it speaks protocol version {}, this node {PROTOCOL_VERSION}", field(8)));
    }
    if greeting[10..26] != cluster.0.to_le_bytes() {
        return Err("it belongs to another cluster".into());
    }
    let from = field(26);
    let shard = shards.get(usize::from(field(28))).ok_or("it asks for a shard that is not here")?;
    let mut buffer = BytesMut::with_capacity(64 << 10);
    loop {
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
        while let Some((envelope, len)) = decode(&buffer).map_err(|error| error.to_string())? {
            buffer.advance(len);
            if envelope.from.node.0 != from {
                return Err(format!("node {from} sent a frame of {}", envelope.from));
            }
            if shard.send(Event::Peer(envelope)).is_err() {
                return Ok(());
            }
        }
    }
}
