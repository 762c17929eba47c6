//! One client's connection: its session, its level, and its commands, answered in the order in which they came.

mod about;
mod acl;
mod pipeline;
mod sequence;

use crate::clients::{Client, Name};
use crate::commands::{Action, Found, Walk, Worded, err, lookup};
use crate::reply::Shape;
use crate::resp::{Args, Decoder, Value};
use crate::scan;
use crate::server::Server;
use crate::users::Identity;
use bytes::{Buf, BytesMut};
use samara_core::base::Level;
use samara_core::rules::sequence::Task;
use samara_core::rules::slots::slot_of;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub use pipeline::Pipeline;

/// Bytes of answers that may wait for one client. One that reads nothing for so long is closed, as by Valkey's
/// client-output-buffer-limit.
const OUTPUT_MAX: usize = 256 << 20;
/// The same before a password has been given: what waits then are refusals.
const OUTPUT_MAX_STRANGER: usize = 64 << 10;
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
    Sequence(Task, Worded),
    /// DEBUG SLEEP.
    Sleep(Duration),
    /// SESSION: the token covers what came before.
    Token,
    /// ACL SAVE and ACL LOAD: they wait for the disk.
    File(acl::Job),
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    server: Arc<Server>,
    pipeline: Pipeline,
    barrier: Option<Barrier>,
    level: Level,
    /// Who it is, and may do.
    identity: Identity,
    /// What others may know of it.
    client: Arc<Client>,
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
    let client = server.clients.enter(id, stream.peer_addr().ok(), stream.local_addr().ok());
    let identity = server.users.newcomer();
    let mut connection = Connection {
        level: server.level,
        identity,
        pipeline,
        barrier: None,
        client,
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
        let bytes = connection.output.len() + connection.pipeline.held();
        let name = connection.client.name(Name::Own);
        tracing::warn!(
            "client {id} {name:?} is closed: {bytes} bytes of answers wait and it does not read them"
        );
    }
    connection.count_output(0);
    connection.server.clients.leave(id);
}

/// Waits until then.
async fn until(time: Option<Instant>) {
    if let Some(time) = time {
        tokio::time::sleep_until(time).await;
    }
}

impl Connection {
    async fn run(&mut self, mut read: ReadHalf<TcpStream>, mut write: WriteHalf<TcpStream>) -> Gone {
        let (mut decoder, mut input) = (Decoder::default(), BytesMut::new());
        let outlet = self.pipeline.outlet();
        let server = self.server.clone();
        let stopped = server.stopped();
        tokio::pin!(stopped);
        let client = self.client.clone();
        let killed = client.killed();
        tokio::pin!(killed);
        let mut open = true;
        let mut stranger_until = None;
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
            stranger_until = self.stranger_until(stranger_until);
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
                    Ok(count) if count > 0 => self.client.heard(),
                    // The client may have closed its side only; what it asked for is answered.
                    Ok(_) => open = false,
                    Err(_) => return Gone::Ended,
                },
                () = &mut stopped, if !self.closing => self.closing = true,
                () = &mut killed => return Gone::Ended,
                () = until(stranger_until), if stranger_until.is_some() => return Gone::Ended,
            }
        }
    }

    /// Until when it may be without a password: from when it came, or was reset, on.
    fn stranger_until(&self, before: Option<Instant>) -> Option<Instant> {
        let from_now = || Instant::now() + self.server.guard.auth_timeout;
        self.identity.must_authenticate().then(|| before.unwrap_or_else(from_now))
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
        let own = if self.identity.must_authenticate() { OUTPUT_MAX_STRANGER } else { OUTPUT_MAX };
        bytes > own as u64 || most
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
            decoder.set_stranger(self.identity.must_authenticate());
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

    /// Whether the connection's user may make a request. Rules may have changed since the last one.
    fn allow(&mut self, found: Found, args: &Args<'_>) -> Result<(), Value> {
        if !self.server.users.refresh(&mut self.identity) {
            // The user is gone, and so is this connection: there is nobody to answer.
            (self.closing, self.cut) = (true, true);
            return Err(Value::Null);
        }
        self.identity.check(found, args).map_err(|refusal| self.refuse(refusal, found, args))
    }

    /// What a request comes down to, with what is left of it without IDEMPOTENT, if it is there and allowed.
    fn admit<'a>(&mut self, args: Args<'a>) -> Result<(Args<'a>, Option<u128>, Action), Value> {
        let found = lookup(&args)?;
        self.allow(found, &args)?;
        if found.command.name != "idempotent" {
            return Ok((args, None, found.parse(&args)?));
        }
        let (args, id) = idempotent(args)?;
        let found = lookup(&args)?;
        self.allow(found, &args)?;
        let action = found.parse(&args)?;
        may_be_retried(found, &action)?;
        Ok((args, Some(id), action))
    }

    fn command(&mut self, args: Args<'_>) {
        self.server.stats.commands.fetch_add(1, Ordering::Relaxed);
        let (args, id, action) = match self.admit(args) {
            Ok(parts) => parts,
            Err(_) if self.cut => return,
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
            Action::Sequence(task, worded) => self.barrier = Some(Barrier::Sequence(task, worded)),
            Action::Sleep(time) => self.barrier = Some(Barrier::Sleep(time)),
            Action::Own("session") if args.len() == 1 => self.barrier = Some(Barrier::Token),
            Action::Own("acl|save") => self.barrier = Some(Barrier::File(acl::Job::Save)),
            Action::Own("acl|load") => self.barrier = Some(Barrier::File(acl::Job::Load)),
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
            Some(Barrier::Walk(walk)) => {
                scan::walk(&mut self.pipeline, self.level, &walk, &self.server.cursors).await
            }
            Some(Barrier::Sequence(task, worded)) => sequence::run(&mut self.pipeline, task, worded).await,
            Some(Barrier::Sleep(time)) => {
                tokio::time::sleep(time).await;
                Value::Status("OK")
            }
            Some(Barrier::File(job)) => self.file_of_users(job).await,
            Some(Barrier::Token) => Value::text(format!("{:016x}", self.pipeline.token.0)),
            None => return,
        };
        self.answer(value);
        self.encode_answers();
    }
}

/// IDEMPOTENT is for what a retry must not do again. Each key keeps the answers of its own operations: those of several
/// keys are found key by key. A sequence has no one register that could remember how far it came.
fn may_be_retried(found: Found, action: &Action) -> Result<(), Value> {
    match action {
        Action::One(..) | Action::Many(..) if found.command.writes() => Ok(()),
        Action::Sequence(..) => {
            Err(err("IDEMPOTENT takes no command of several steps: RENAME, RENAMENX, COPY and MSETNX"))
        }
        _ => Err(err("IDEMPOTENT takes a command that writes keys")),
    }
}

/// Takes `IDEMPOTENT id` off a request of at least three arguments: the id is a UUIDv7 (RFC 9562).
fn idempotent(args: Args<'_>) -> Result<(Args<'_>, u128), Value> {
    let id = uuid_v7(&args[1]).ok_or_else(|| {
        err("an idempotency id is a UUIDv7: 32 hex digits, or 8-4-4-4-12, of version 7 and variant 8, 9, a or b")
    })?;
    Ok((args.tail(2), id))
}

/// A UUIDv7 in one of its two written forms.
pub fn uuid_v7(text: &[u8]) -> Option<u128> {
    let is_dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let mut id = 0_u128;
    for (at, byte) in text.iter().enumerate() {
        match text.len() {
            36 if is_dash(at) => (*byte == b'-').then_some(())?,
            32 | 36 => id = id << 4 | u128::from((*byte as char).to_digit(16)?),
            _ => return None,
        }
    }
    (text.len() >= 32 && (id >> 76) & 0xf == 7 && (id >> 62) & 3 == 2).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::uuid_v7;

    #[test]
    fn ids_are_uuids_of_version_7() {
        let good = 0x0190_d0f0_0000_7000_8000_0000_0000_0001;
        let table: [(&str, Option<u128>); 13] = [
            ("0190d0f0-0000-7000-8000-000000000001", Some(good)),
            ("0190D0F0-0000-7000-8000-000000000001", Some(good)),
            ("0190d0f0000070008000000000000001", Some(good)),
            ("0190d0f0-0000-4000-8000-000000000001", None),
            ("0190d0f0-0000-7000-0000-000000000001", None),
            ("0190d0f0-0000-7000-c000-000000000001", None),
            ("0190d0f00000-7000-8000-0000-00000001", None),
            ("0190d0f0-0000-7000-8000-00000000000g", None),
            ("+190d0f0-0000-7000-8000-000000000001", None),
            ("0190d0f0-0000-7000-8000-00000000001", None),
            ("{0190d0f0-0000-7000-8000-000000000001}", None),
            ("-------------------------------------", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(uuid_v7(text.as_bytes()), expected, "{text}");
        }
    }
}
