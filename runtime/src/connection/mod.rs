//! One client's connection: its session, its level, and its commands, answered in the order in which they came.

mod about;
mod pipeline;

use crate::commands::{Action, Walk, err, parse, wrong_arity};
use crate::reply::Shape;
use crate::resp::{Args, Decoder, Value};
use crate::scan;
use crate::server::Server;
use bytes::{Buf, Bytes, BytesMut};
use samara_core::base::{KeyOp, Level};
use samara_core::rules::slots::slot_of;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

pub use pipeline::Pipeline;

/// Bytes of answers that may wait for one client. One that reads nothing for so long is closed, as by Valkey's
/// client-output-buffer-limit.
const OUTPUT_MAX: usize = 256 << 20;
/// Bytes of answers that may wait in the whole process.
const OUTPUT_MAX_ALL: u64 = 2 << 30;
/// An output buffer larger than this is given back when it has been written.
const BUFFER_KEPT: usize = 64 << 10;
/// Bytes of answers that are encoded ahead of the socket.
const OUTPUT_AT_A_TIME: usize = 1 << 20;
/// Room for a read from the socket.
const READ: usize = 4 << 10;

/// What CLIENT REPLY has set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replies {
    On,
    /// The command after this one gets no answer, and this one neither.
    SkipNext,
    Skip,
    Off,
}

/// A command that waits until all before it have been answered.
#[derive(Debug)]
enum Barrier {
    Walk(Walk),
    /// SESSION: the token covers what came before.
    Token,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    server: Arc<Server>,
    pipeline: Pipeline,
    barrier: Option<Barrier>,
    level: Level,
    id: u64,
    name: Bytes,
    client_library: (Bytes, Bytes),
    /// The RESP version spoken.
    version: u8,
    replies: Replies,
    /// No more commands are taken; the connection ends when all answers have been written.
    closing: bool,
    /// It ends now, whatever has not been written.
    cut: bool,
    output: BytesMut,
    /// What this connection has added to the process's count of answer bytes.
    counted: u64,
}

/// Why a connection ended at once.
#[derive(Debug, PartialEq, Eq)]
enum Gone {
    /// The client left, or all has been said.
    Ended,
    /// It did not read its answers.
    Slow,
}

/// Serves a client until it goes or the node stops.
pub async fn serve(stream: TcpStream, server: Arc<Server>, id: u64) {
    stream.set_nodelay(true).ok();
    let pipeline = Pipeline::new(server.shards.clone(), server.stats.clone());
    let mut connection = Connection {
        level: server.level,
        pipeline,
        barrier: None,
        id,
        name: Bytes::new(),
        client_library: (Bytes::new(), Bytes::new()),
        version: 2,
        replies: Replies::On,
        closing: false,
        cut: false,
        output: BytesMut::new(),
        counted: 0,
        server,
    };
    let (read, write) = tokio::io::split(stream);
    if connection.run(read, write).await == Gone::Slow {
        connection.server.stats.slow_clients_closed.fetch_add(1, Ordering::Relaxed);
        let (bytes, name) = (connection.output.len() + connection.pipeline.held(), &connection.name);
        tracing::warn!(
            "client {id} {name:?} is closed: {bytes} bytes of answers wait and it does not read them"
        );
    }
    connection.count_output(0);
}

impl Connection {
    async fn run(&mut self, mut read: ReadHalf<TcpStream>, mut write: WriteHalf<TcpStream>) -> Gone {
        let (mut decoder, mut input) = (Decoder::default(), BytesMut::new());
        let outlet = self.pipeline.outlet();
        let server = self.server.clone();
        let stopped = server.stopped();
        tokio::pin!(stopped);
        let mut open = true;
        loop {
            self.work(&mut decoder, &mut input);
            self.pipeline.flush();
            if self.cut {
                return Gone::Ended;
            }
            if self.count_output(self.output.len() + self.pipeline.held()) {
                return Gone::Slow;
            }
            if self.barrier.is_some() && self.pipeline.is_idle() {
                if self.write_all(&mut write).await.is_err() {
                    return Gone::Ended;
                }
                self.pass_barrier().await;
                continue;
            }
            if (self.closing || !open) && self.pipeline.is_idle() && self.output.is_empty() {
                return Gone::Ended;
            }
            let reading = open && !self.closing && self.barrier.is_none() && self.pipeline.has_room();
            if reading {
                input.reserve(READ);
            }
            tokio::select! {
                biased;
                () = outlet.wait(), if !self.pipeline.is_idle() => self.hear(),
                written = write.write(&self.output), if !self.output.is_empty() => match written {
                    Ok(count) if count > 0 => {
                        self.output.advance(count);
                        if self.output.is_empty() {
                            if write.flush().await.is_err() {
                                return Gone::Ended;
                            }
                            if self.output.capacity() > BUFFER_KEPT {
                                self.output = BytesMut::new();
                            }
                        }
                    }
                    _ => return Gone::Ended,
                },
                got = read.read_buf(&mut input), if reading => match got {
                    Ok(count) if count > 0 => {}
                    // The client may have closed its side only; what it asked for is answered.
                    Ok(_) => open = false,
                    Err(_) => return Gone::Ended,
                },
                () = &mut stopped, if !self.closing => self.closing = true,
            }
        }
    }

    async fn write_all(&mut self, write: &mut WriteHalf<TcpStream>) -> std::io::Result<()> {
        write.write_all(&self.output).await?;
        self.output.clear();
        write.flush().await
    }

    /// Tells the process how many bytes of answers wait here; whether that is too much.
    fn count_output(&mut self, bytes: usize) -> bool {
        let (bytes, all) = (bytes as u64, &self.server.stats.answer_bytes);
        if bytes != self.counted {
            all.fetch_add(bytes, Ordering::Relaxed);
            all.fetch_sub(self.counted, Ordering::Relaxed);
            self.counted = bytes;
        }
        let most = bytes > BUFFER_KEPT as u64 && all.load(Ordering::Relaxed) > OUTPUT_MAX_ALL;
        bytes > OUTPUT_MAX as u64 || most
    }

    /// Takes what has been answered.
    fn hear(&mut self) {
        self.pipeline.hear();
        self.encode_answers();
    }

    fn encode_answers(&mut self) {
        // What waits behind a full buffer stays in the pipeline, where values are shared and not copied.
        while self.output.len() < OUTPUT_AT_A_TIME
            && let Some((version, value)) = self.pipeline.next_answer()
        {
            if version > 0 {
                value.encode(version, &mut self.output);
            }
        }
    }

    /// Takes the whole requests in `input`, as far as there is room.
    fn work(&mut self, decoder: &mut Decoder, input: &mut BytesMut) {
        while !self.closing && self.barrier.is_none() && self.pipeline.has_room() {
            match decoder.advance(input) {
                Ok(false) => break,
                Ok(true) => {
                    self.command(decoder.args(input));
                    decoder.consume(input);
                }
                Err(error) => {
                    self.server.stats.protocol_errors.fetch_add(1, Ordering::Relaxed);
                    self.answer(Value::error([b"ERR Protocol error: ", &error.0[..]].concat()));
                    self.closing = true;
                }
            }
        }
        self.encode_answers();
    }

    /// The version in which the command at hand is answered; 0 for not at all.
    fn reply_version(&self) -> u8 {
        if self.replies == Replies::On { self.version } else { 0 }
    }

    fn answer(&mut self, value: Value) {
        self.pipeline.add_answer(self.reply_version(), value);
    }

    fn command(&mut self, args: Args<'_>) {
        self.server.stats.commands.fetch_add(1, Ordering::Relaxed);
        let outcome = idempotent(args).and_then(|(args, id)| {
            let action = parse(&args)?;
            if id.is_some() && !writes_one_key(&action) {
                return Err(err("IDEMPOTENT takes a command that writes one key"));
            }
            Ok((args, id, action))
        });
        let (args, id, action) = match outcome {
            Ok(parts) => parts,
            Err(value) => {
                // What comes from a browser is no request: nothing is answered that a page could use.
                self.cut = [&b"host:"[..], b"post"].iter().any(|name| args[0].eq_ignore_ascii_case(name));
                self.closing |= self.cut;
                self.answer(value);
                return self.after_command();
            }
        };
        let (version, level) = (self.reply_version(), self.level);
        match action {
            Action::Now(value) => self.answer(value),
            Action::One(request, Shape::Meta) => {
                let replicas = self.server.replicas(slot_of(&request.key));
                self.pipeline.add_meta(version, level, request, replicas);
            }
            Action::One(request, shape) => self.pipeline.add_one(version, level, request, shape, id),
            Action::Many(requests, how) => self.pipeline.add_many(version, level, requests, how, id),
            Action::Walk(walk) => self.barrier = Some(Barrier::Walk(walk)),
            Action::Own("session") if args.len() == 1 => self.barrier = Some(Barrier::Token),
            Action::Own(name) => {
                let value = self.own(name, args).unwrap_or_else(|value| value);
                // CLIENT REPLY and HELLO change how they are answered themselves.
                self.answer(value);
            }
        }
        self.after_command();
    }

    fn after_command(&mut self) {
        self.replies = match self.replies {
            Replies::SkipNext => Replies::Skip,
            Replies::Skip => Replies::On,
            same => same,
        };
    }

    async fn pass_barrier(&mut self) {
        let value = match self.barrier.take() {
            Some(Barrier::Walk(walk)) => scan::walk(&mut self.pipeline, self.level, &walk).await,
            Some(Barrier::Token) => Value::text(format!("{:016x}", self.pipeline.token.0)),
            None => return,
        };
        self.answer(value);
        self.encode_answers();
    }
}

fn writes_one_key(action: &Action) -> bool {
    match action {
        Action::One(request, _) => request.op != KeyOp::Read,
        Action::Many(requests, _) => requests.len() == 1 && requests[0].op != KeyOp::Read,
        _ => false,
    }
}

/// Takes `IDEMPOTENT id` off a request: the id is a UUIDv7 (RFC 9562).
fn idempotent(args: Args<'_>) -> Result<(Args<'_>, Option<u128>), Value> {
    if !args[0].eq_ignore_ascii_case(b"idempotent") {
        return Ok((args, None));
    }
    if args.len() < 3 {
        return Err(wrong_arity("idempotent"));
    }
    let digits: String = String::from_utf8_lossy(&args[1]).chars().filter(|digit| *digit != '-').collect();
    let id = u128::from_str_radix(&digits, 16).ok().filter(|id| digits.len() == 32 && (id >> 76) & 0xf == 7);
    let id = id.ok_or_else(|| err("an idempotency id is a UUIDv7"))?;
    Ok((args.tail(2), Some(id)))
}
