//! One client's connection: its session, its level, and its commands, answered in the order in which they came.

use crate::commands::{
    Action, COMMANDS, Command, KeyRequest, Many, err, find, parse, syntax, word, wrong_arity,
};
use crate::driver::{Event, Shard};
use crate::reply::{self, Shape};
use crate::resp::{Decoder, Value};
use crate::scan;
use crate::server::Server;
use bytes::{Bytes, BytesMut};
use samara_core::base::{Body, Failure, Hlc, KeyOp, Level, Reply, Request, Response};
use samara_core::rules::slots::slot_of;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Replies of a pipeline that may wait in memory before they are written.
const WAITING_MAX: usize = 1024;

/// What a connection is to the cluster.
#[derive(Debug)]
pub struct Session {
    server: Arc<Server>,
    level: Level,
    token: Hlc,
}

/// An answer to come.
pub type Answer = oneshot::Receiver<Reply>;

impl Session {
    /// The shards of this process.
    pub fn shards(&self) -> &[Shard] {
        &self.server.shards
    }

    /// Asks a shard.
    pub fn ask(&self, shard: usize, body: Body) -> Answer {
        self.send(shard, body, None)
    }

    /// Asks the shard of a key.
    pub fn ask_key(&self, request: KeyRequest, idempotency: Option<u128>) -> Answer {
        let shard = usize::from(slot_of(&request.key).0) % self.server.shards.len();
        self.send(shard, Body::Key { key: request.key, op: request.op }, idempotency)
    }

    fn send(&self, shard: usize, body: Body, idempotency: Option<u128>) -> Answer {
        let (sender, answer) = oneshot::channel();
        let request = Request { level: self.level, session: self.token, idempotency, body };
        // A shard that has stopped drops the sender: `hear` says so.
        let _stopped = self.server.shards[shard].send(Event::Client(request, sender));
        answer
    }

    /// Waits for an answer, and goes on in the session it belongs to.
    pub async fn hear(&mut self, answer: Answer) -> Result<Response, Failure> {
        match answer.await {
            Ok(reply) => {
                self.token = self.token.max(reply.session);
                reply.result
            }
            // The shard stopped with the operation in flight.
            Err(_) => Err(Failure::Timeout),
        }
    }
}

/// A command whose answer is to come.
enum Pending {
    Now(Value),
    One { answer: Answer, shape: Shape, name: &'static str, since: Instant },
    Many { answers: Vec<Answer>, how: Many },
}

/// A connection.
pub struct Connection {
    session: Session,
    id: u64,
    name: Bytes,
    version: u8,
    closing: bool,
    silent: bool,
}

/// Serves a client until it goes.
pub async fn serve(mut stream: TcpStream, server: Arc<Server>, id: u64) {
    stream.set_nodelay(true).ok();
    let session = Session { level: server.level, server, token: Hlc(0) };
    let mut connection =
        Connection { session, id, name: Bytes::new(), version: 2, closing: false, silent: false };
    let (mut decoder, mut input, mut output) =
        (Decoder::default(), BytesMut::with_capacity(4096), BytesMut::new());
    loop {
        input.reserve(4096);
        match stream.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        connection.work(&mut decoder, &mut input, &mut output).await;
        if stream.write_all(&output).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        output.clear();
        if connection.closing {
            return;
        }
    }
}

impl Connection {
    /// Carries out every whole request in `input`.
    async fn work(&mut self, decoder: &mut Decoder, input: &mut BytesMut, output: &mut BytesMut) {
        let mut waiting = Vec::new();
        while !self.closing {
            match decoder.next(input) {
                Ok(None) => break,
                Ok(Some(arguments)) => self.command(arguments, &mut waiting, output).await,
                Err(error) => {
                    waiting.push(Pending::Now(err(&format!("Protocol error: {}", error.0))));
                    self.closing = true;
                }
            }
            if waiting.len() >= WAITING_MAX {
                self.answer(&mut waiting, output).await;
            }
        }
        self.answer(&mut waiting, output).await;
    }

    async fn answer(&mut self, waiting: &mut Vec<Pending>, output: &mut BytesMut) {
        for pending in waiting.drain(..) {
            let value = match pending {
                Pending::Now(value) => value,
                Pending::One { answer, shape, name, since } => {
                    let result = self.session.hear(answer).await;
                    let level = level_name(self.session.level);
                    self.session.server.stats.record(
                        name,
                        level,
                        reply::outcome_name(&result),
                        since.elapsed(),
                    );
                    reply::word(shape, &result)
                }
                Pending::Many { answers, how } => self.gather(answers, how).await,
            };
            if !self.silent {
                value.encode(self.version, output);
            }
        }
    }

    async fn gather(&mut self, answers: Vec<Answer>, how: Many) -> Value {
        let (mut values, mut count, mut failed) = (Vec::new(), 0, None);
        for answer in answers {
            let result = self.session.hear(answer).await;
            match reply::found(&result) {
                Ok(found) => count += i64::from(found),
                Err(failure) => failed = Some(failure),
            }
            if how == Many::Values {
                values.push(reply::word(Shape::Value, &result));
            }
        }
        match (failed, how) {
            (Some(failure), _) => reply::failure(failure),
            (None, Many::Count) => Value::Integer(count),
            (None, Many::Values) => Value::Array(values),
            (None, Many::Ok) => Value::Status("OK"),
        }
    }

    async fn command(&mut self, arguments: Vec<Bytes>, waiting: &mut Vec<Pending>, output: &mut BytesMut) {
        self.session.server.stats.commands.fetch_add(1, Ordering::Relaxed);
        let (arguments, idempotency) = match idempotent(arguments) {
            Ok(parts) => parts,
            Err(value) => return waiting.push(Pending::Now(value)),
        };
        match parse(&arguments) {
            Err(value) => waiting.push(Pending::Now(value)),
            Ok(Action::Now(value)) => waiting.push(Pending::Now(value)),
            Ok(Action::One(request, shape)) => {
                let name = reply::operation_name(&request.op);
                let answer = self.session.ask_key(request, idempotency);
                waiting.push(Pending::One { answer, shape, name, since: Instant::now() });
            }
            Ok(Action::Many(requests, how)) => {
                if idempotency.is_some() && requests.len() != 1 {
                    return waiting.push(Pending::Now(err("IDEMPOTENT takes a command on one key")));
                }
                let answers = requests.into_iter().map(|request| self.session.ask_key(request, idempotency));
                waiting.push(Pending::Many { answers: answers.collect(), how });
            }
            Ok(Action::Walk(walk)) => {
                self.answer(waiting, output).await;
                let value = scan::walk(&mut self.session, &walk).await;
                waiting.push(Pending::Now(value));
            }
            Ok(Action::Connection) => {
                // What changes the connection must not overtake the commands before it.
                self.answer(waiting, output).await;
                let value = self.own(&arguments).unwrap_or_else(|value| value);
                waiting.push(Pending::Now(value));
            }
        }
    }

    /// Commands about the connection and the server.
    fn own(&mut self, a: &[Bytes]) -> Result<Value, Value> {
        let name = word(&a[0]);
        Ok(match name.as_str() {
            "PING" => match a.len() {
                1 => Value::Status("PONG"),
                2 => Value::Bulk(a[1].clone()),
                _ => return Err(wrong_arity("ping")),
            },
            "ECHO" => Value::Bulk(a[1].clone()),
            "QUIT" => {
                self.closing = true;
                Value::Status("OK")
            }
            "RESET" => {
                (self.version, self.session.level, self.name) = (2, self.session.server.level, Bytes::new());
                Value::Status("RESET")
            }
            "SELECT" if a[1] == "0" => Value::Status("OK"),
            "SELECT" => {
                crate::commands::integer(&a[1])?;
                return Err(err("DB index is out of range"));
            }
            "HELLO" => self.hello(a)?,
            "CLIENT" => self.client(a)?,
            "CONSISTENCY" => self.consistency(a)?,
            "SESSION" => self.resume(a)?,
            "COMMAND" => commands(a)?,
            "CONFIG" => self.session.server.config(a)?,
            "CLUSTER" => self.session.server.cluster(a)?,
            "INFO" => self.session.server.info(),
            "TIME" => time(),
            "READONLY" | "READWRITE" => Value::Status("OK"),
            _ => return Err(err("this command has no meaning here")),
        })
    }

    fn hello(&mut self, a: &[Bytes]) -> Result<Value, Value> {
        let mut rest = a[1..].iter();
        if let Some(version) = rest.next() {
            self.version = match &version[..] {
                b"2" => 2,
                b"3" => 3,
                _ => return Err(Value::Error("NOPROTO unsupported protocol version".into())),
            };
        }
        while let Some(option) = rest.next() {
            match word(option).as_str() {
                "SETNAME" => self.name = rest.next().cloned().ok_or_else(syntax)?,
                "AUTH" => {
                    return Err(err(
                        "AUTH <password> called without any password configured for the default user",
                    ));
                }
                _ => {
                    return Err(err(&format!(
                        "Syntax error in HELLO option '{}'",
                        String::from_utf8_lossy(option)
                    )));
                }
            }
        }
        Ok(Value::Map(vec![
            (Value::text("server"), Value::text("samara")),
            (Value::text("version"), Value::text(env!("CARGO_PKG_VERSION"))),
            (Value::text("proto"), Value::Integer(i64::from(self.version))),
            (Value::text("id"), Value::Integer(self.id as i64)),
            (Value::text("mode"), Value::text("standalone")),
            (Value::text("role"), Value::text("master")),
            (Value::text("modules"), Value::Array(Vec::new())),
        ]))
    }

    fn client(&mut self, a: &[Bytes]) -> Result<Value, Value> {
        let describe = |own: &Self| {
            let (id, name) = (own.id, String::from_utf8_lossy(&own.name));
            format!("id={id} name={name} db=0 resp={} lib-name= lib-ver=\n", own.version)
        };
        Ok(match (word(&a[1]).as_str(), a.len()) {
            ("ID", 2) => Value::Integer(self.id as i64),
            ("GETNAME", 2) if self.name.is_empty() => Value::Null,
            ("GETNAME", 2) => Value::Bulk(self.name.clone()),
            ("SETNAME", 3) => {
                if a[2].iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
                    return Err(err("Client names cannot contain spaces, newlines or special characters."));
                }
                self.name = a[2].clone();
                Value::Status("OK")
            }
            ("SETINFO", 4) | ("NO-EVICT" | "NO-TOUCH", 3) => Value::Status("OK"),
            ("INFO" | "LIST", 2) => Value::text(describe(self)),
            ("REPLY", 3) => match word(&a[2]).as_str() {
                "ON" => {
                    self.silent = false;
                    Value::Status("OK")
                }
                "OFF" => {
                    self.silent = true;
                    Value::Status("OK")
                }
                _ => return Err(syntax()),
            },
            (sub, _) => return Err(unknown_sub(sub, "CLIENT")),
        })
    }

    fn consistency(&mut self, a: &[Bytes]) -> Result<Value, Value> {
        match a {
            [_] => Ok(Value::text(level_name(self.session.level))),
            [_, level] => {
                let level = String::from_utf8_lossy(level);
                self.session.level = parse_level(&level).ok_or_else(|| {
                    err(&format!("unknown consistency level '{level}': strong, causal or eventual"))
                })?;
                Ok(Value::Status("OK"))
            }
            _ => Err(wrong_arity("consistency")),
        }
    }

    fn resume(&mut self, a: &[Bytes]) -> Result<Value, Value> {
        match a {
            [_] => Ok(Value::text(format!("{:016x}", self.session.token.0))),
            [_, token] => {
                let token =
                    std::str::from_utf8(token).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
                let token = token.ok_or_else(|| err("not a session token: use what SESSION answered"))?;
                self.session.token = self.session.token.max(Hlc(token));
                Ok(Value::Status("OK"))
            }
            _ => Err(wrong_arity("session")),
        }
    }
}

/// Takes `IDEMPOTENT id` off a request: the id is a UUIDv7.
fn idempotent(mut arguments: Vec<Bytes>) -> Result<(Vec<Bytes>, Option<u128>), Value> {
    if !arguments[0].eq_ignore_ascii_case(b"idempotent") {
        return Ok((arguments, None));
    }
    if arguments.len() < 3 {
        return Err(wrong_arity("idempotent"));
    }
    let digits: String =
        String::from_utf8_lossy(&arguments[1]).chars().filter(|digit| *digit != '-').collect();
    let id = u128::from_str_radix(&digits, 16).ok().filter(|id| digits.len() == 32 && (id >> 76) & 0xf == 7);
    let id = id.ok_or_else(|| err("an idempotency id is a UUIDv7"))?;
    arguments.drain(..2);
    match parse(&arguments)? {
        Action::One(request, _) if request.op != KeyOp::Read => Ok((arguments, Some(id))),
        Action::Many(requests, _) if requests.len() == 1 && requests[0].op != KeyOp::Read => {
            Ok((arguments, Some(id)))
        }
        _ => Err(err("IDEMPOTENT takes a command that writes one key")),
    }
}

pub(crate) fn unknown_sub(sub: &str, command: &str) -> Value {
    err(&format!("unknown subcommand or wrong number of arguments for '{sub}'. Try {command} HELP."))
}

/// The name of a level.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Strong => "strong",
        Level::Causal => "causal",
        Level::Eventual => "eventual",
    }
}

/// The level of a name, in any case.
pub fn parse_level(name: &str) -> Option<Level> {
    [Level::Strong, Level::Causal, Level::Eventual]
        .into_iter()
        .find(|level| level_name(*level).eq_ignore_ascii_case(name))
}

fn time() -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Value::Array(vec![Value::text(now.as_secs().to_string()), Value::text(now.subsec_micros().to_string())])
}

fn describe(command: &Command) -> Value {
    let flag = if command.write { "write" } else { "readonly" };
    Value::Array(vec![
        Value::text(command.name),
        Value::Integer(i64::from(command.arity)),
        Value::Array(vec![Value::Status(flag)]),
        Value::Integer(command.first as i64),
        Value::Integer(i64::from(command.last)),
        Value::Integer(command.step as i64),
    ])
}

fn commands(a: &[Bytes]) -> Result<Value, Value> {
    let sub = a.get(1).map(word);
    Ok(match sub.as_deref() {
        None => Value::Array(COMMANDS.iter().map(describe).collect()),
        Some("COUNT") => Value::Integer(COMMANDS.len() as i64),
        Some("LIST") => Value::Array(COMMANDS.iter().map(|command| Value::text(command.name)).collect()),
        Some("INFO") if a.len() > 2 => {
            Value::Array(a[2..].iter().map(|name| find(name).map_or(Value::Null, describe)).collect())
        }
        Some("INFO") => Value::Array(COMMANDS.iter().map(describe).collect()),
        Some("DOCS") => Value::Map(Vec::new()),
        Some("GETKEYS") if a.len() > 2 => {
            let command = find(&a[2]).ok_or_else(|| err("Invalid command specified"))?;
            if !command.takes(a.len() - 2) {
                return Err(err("Invalid number of arguments specified for command"));
            }
            let keys: Vec<Value> = command.keys(&a[2..]).cloned().map(Value::Bulk).collect();
            if keys.is_empty() {
                return Err(err("The command has no key arguments"));
            }
            Value::Array(keys)
        }
        Some(sub) => return Err(unknown_sub(sub, "COMMAND")),
    })
}
