//! Clients of etcd: transactions over gRPC, one connection for each client.

use crate::Figures;
use crate::messages::{Compare, Put, Range, Request, RequestOp, Txn, TxnResponse};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use prost::Message;
use std::fmt::Display;
use std::time::{Duration, Instant};

const KEY: &[u8] = b"counter";
/// Byte of compression and length before each message of gRPC.
const PREFIX: usize = 5;

/// How long after its end a round may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What each client does again and again.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Operation {
    /// Adds one to the number at the key.
    Count,
    /// Puts a number at the key, whatever is there.
    Put,
}

/// Runs the clients side by side until the time is over. The number at the key is checked against what was counted.
pub(crate) async fn run(
    port: u16,
    clients: usize,
    time: Duration,
    operation: Operation,
) -> Result<Figures, String> {
    let set = tokio::task::LocalSet::new();
    let round = set.run_until(async move {
        let mut first = Client::connect(port).await?;
        first.txn(&transaction(Vec::new(), 0, Vec::new())).await?;
        let mut connected = Vec::new();
        for _ in 0..clients {
            connected.push(Client::connect(port).await?);
        }
        let start = Instant::now();
        let tasks: Vec<_> = connected
            .into_iter()
            .map(|client| tokio::task::spawn_local(client.work(start + time, operation)))
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await.map_err(text)??);
        }
        let seconds = start.elapsed().as_secs_f64();
        if operation == Operation::Count {
            let (_, number) = first.read().await?;
            if number != latencies.len() as u64 {
                return Err(format!("{} were counted, but the key says {number}", latencies.len()));
            }
        }
        latencies.sort_unstable();
        let at = |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or_default();
        Ok(Figures { operations: latencies.len() as u64, seconds, p50: at(50), p99: at(99) })
    });
    tokio::time::timeout(time + PATIENCE, round).await.map_err(|_| "etcd answers no more".to_string())?
}

fn text(error: impl Display) -> String {
    format!("etcd: {error}")
}

/// Puts a number when the comparisons hold; else reads the key.
fn transaction(compare: Vec<Compare>, number: u64, failure: Vec<RequestOp>) -> Txn {
    let put = Put { key: KEY.to_vec(), value: number.to_string().into_bytes() };
    Txn { compare, success: vec![RequestOp { request: Some(Request::Put(put)) }], failure }
}

fn read() -> Vec<RequestOp> {
    vec![RequestOp { request: Some(Request::Range(Range { key: KEY.to_vec() })) }]
}

struct Client {
    requests: SendRequest<Bytes>,
    uri: http::Uri,
}

impl Client {
    async fn connect(port: u16) -> Result<Self, String> {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        let (requests, connection) = h2::client::handshake(stream).await.map_err(text)?;
        tokio::task::spawn_local(async move { connection.await.ok() });
        let uri = format!("http://127.0.0.1:{port}/etcdserverpb.KV/Txn").parse().map_err(text)?;
        Ok(Self { requests, uri })
    }

    /// How long each operation took.
    async fn work(mut self, end: Instant, operation: Operation) -> Result<Vec<Duration>, String> {
        let mut latencies = Vec::new();
        let (mut revision, mut number) = self.read().await?;
        // What was begun before the end is finished, so that all that was counted is known.
        let mut asked = Instant::now();
        while asked < end {
            let done = match operation {
                Operation::Put => self.txn(&transaction(Vec::new(), number, Vec::new())).await?.succeeded,
                Operation::Count => {
                    let compare =
                        Compare { result: 0, target: 2, key: KEY.to_vec(), mod_revision: Some(revision) };
                    let answer = self.txn(&transaction(vec![compare], number + 1, read())).await?;
                    (revision, number) = if answer.succeeded {
                        (
                            answer.header.as_ref().ok_or("etcd: an answer without a header")?.revision,
                            number + 1,
                        )
                    } else {
                        seen(&answer)?
                    };
                    answer.succeeded
                }
            };
            if done {
                latencies.push(asked.elapsed());
                asked = Instant::now();
            }
        }
        Ok(latencies)
    }

    /// Revision of the last change, and the number.
    async fn read(&mut self) -> Result<(i64, u64), String> {
        let answer = self.txn(&Txn { compare: Vec::new(), success: read(), failure: Vec::new() }).await?;
        seen(&answer)
    }

    async fn txn(&mut self, txn: &Txn) -> Result<TxnResponse, String> {
        let length = txn.encoded_len();
        let mut body = BytesMut::with_capacity(PREFIX + length);
        body.put_u8(0);
        body.put_u32(length as u32);
        txn.encode(&mut body).map_err(text)?;
        let request = http::Request::post(self.uri.clone())
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(text)?;
        std::future::poll_fn(|context| self.requests.poll_ready(context)).await.map_err(text)?;
        let (response, mut stream) = self.requests.send_request(request, false).map_err(text)?;
        stream.send_data(body.freeze(), true).map_err(text)?;
        let mut answer = response.await.map_err(text)?.into_body();
        let mut bytes = BytesMut::new();
        while let Some(part) = answer.data().await {
            let part = part.map_err(text)?;
            answer.flow_control().release_capacity(part.len()).map_err(text)?;
            bytes.extend_from_slice(&part);
        }
        let trailers = answer.trailers().await.map_err(text)?;
        let status = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
        if status.is_none_or(|status| status != "0") || bytes.len() < PREFIX {
            return Err(format!("etcd answered with status {status:?}"));
        }
        TxnResponse::decode(&bytes[PREFIX..]).map_err(text)
    }
}

/// What a transaction that read has found.
fn seen(answer: &TxnResponse) -> Result<(i64, u64), String> {
    let range = answer.responses.first().and_then(|response| response.range.as_ref());
    let found = range.and_then(|range| range.kvs.first()).ok_or("etcd: the counter is gone")?;
    let number = std::str::from_utf8(&found.value).ok().and_then(|number| number.parse().ok());
    Ok((found.mod_revision, number.ok_or("etcd: the counter holds no number")?))
}
