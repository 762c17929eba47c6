//! The port that clients come to.

use crate::connection::serve;
use crate::guard::DENIED;
use crate::server::Server;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// Accepts clients until the node stops.
pub async fn listen(listener: TcpListener, server: Arc<Server>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = server.stopped() => return,
        };
        match accepted {
            Ok((stream, client)) => welcome(stream, client.ip(), &server),
            Err(error) => {
                tracing::warn!("cannot accept a client: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn welcome(stream: TcpStream, client: IpAddr, server: &Arc<Server>) {
    let stats = &server.stats;
    if stats.connections.fetch_add(1, Ordering::Relaxed) >= server.max_clients {
        stats.connections.fetch_sub(1, Ordering::Relaxed);
        stats.connections_refused.fetch_add(1, Ordering::Relaxed);
        return send_away(stream, "ERR max number of clients reached");
    }
    if server.guard.denies(&server.users, client) {
        stats.connections.fetch_sub(1, Ordering::Relaxed);
        stats.connections_refused.fetch_add(1, Ordering::Relaxed);
        return send_away(stream, DENIED);
    }
    keep_alive(&stream);
    let id = stats.connections_total.fetch_add(1, Ordering::Relaxed) + 1;
    let counted = Counted(server.clone());
    tokio::spawn(async move {
        let counted = counted;
        serve(stream, counted.0.clone(), id).await;
    });
}

/// A connection that counts as long as this lives, however it ends.
struct Counted(Arc<Server>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.stats.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn send_away(mut stream: TcpStream, reason: &'static str) {
    tokio::spawn(async move {
        // A client that has gone already needs no answer.
        let _gone = stream.write_all(format!("-{reason}\r\n").as_bytes()).await;
        let _gone = stream.flush().await;
    });
}

/// A client that is gone without a word is noticed after some minutes, as by Valkey's tcp-keepalive.
#[cfg(not(madsim))]
fn keep_alive(stream: &TcpStream) {
    let every = Duration::from_secs(100);
    let probes = socket2::TcpKeepalive::new().with_time(3 * every).with_interval(every).with_retries(3);
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_keepalive(&probes) {
        tracing::debug!("a client's connection is not probed: {error}");
    }
}

#[cfg(madsim)]
fn keep_alive(_: &TcpStream) {}
