//! A listener that has at most so many connections at a time; others wait until one has ended. A connection that leaves the
//! head of its next request owing for too long ends.

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// The listener.
#[derive(Debug)]
pub struct Bounded {
    listener: TcpListener,
    room: Arc<Semaphore>,
    patience: Duration,
}

impl Bounded {
    /// A listener for so many connections, which gives each so much time for the head of a request.
    pub fn new(listener: TcpListener, connections: u64, patience: Duration) -> Self {
        let most = usize::try_from(connections).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { listener, room: Arc::new(Semaphore::new(most)), patience }
    }
}

/// The client of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// A request of it is being served.
    is_served: Arc<AtomicBool>,
}

impl Peer {
    /// The head of a request has come.
    pub fn begin(&self) {
        self.is_served.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self { address: *stream.remote_addr(), is_served: stream.io().is_served.clone() }
    }
}

/// A connection, and its place among those that there may be.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
    is_served: Arc<AtomicBool>,
    patience: Duration,
    /// When the patience ends.
    end: Pin<Box<Sleep>>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed.
        let place = self.room.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        stream.set_nodelay(true).ok();
        let (patience, end) = (self.patience, Box::pin(sleep(self.patience)));
        (Connection { stream, _place: place, is_served: Arc::default(), patience, end }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let is_owing = !self.is_served.load(Ordering::Relaxed);
        if read.is_pending() && is_owing && self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if written.is_ready() {
            // It is answered: the time for the next request begins.
            self.is_served.store(false, Ordering::Relaxed);
            let end = Instant::now() + self.patience;
            self.end.as_mut().reset(end);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
