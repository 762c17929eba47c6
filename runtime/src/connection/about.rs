//! Commands about the connection and the server.

use super::{Connection, Replies};
use crate::access::DEFAULT;
use crate::clients::Name;
use crate::commands::facts::categories_of;
use crate::commands::{
    COMMANDS, Found, all, err, find, help, integer, key_specs, level_name, named, parse_level, syntax, word,
    wrong_arity,
};
use crate::glob;
use crate::reply;
use crate::resp::{Args, Value};
use crate::users::Identity;
use bytes::Bytes;
use samara_core::base::{Failure, Hlc, Level, WallTime};
use samara_core::rules::clock::Clock;
use samara_core::rules::quorum::majority;
use std::sync::atomic::Ordering;

const NO_PASSWORD: &str = "AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
const HELLO_FIRST: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";

pub(super) type Answer = Result<Value, Value>;

impl Connection {
    /// Carries out the command of this full name.
    pub(super) fn own(&mut self, name: &str, a: Args<'_>) -> Answer {
        match name {
            "ping" if a.len() == 1 => Ok(Value::Status("PONG")),
            "ping" if a.len() == 2 => Ok(Value::Bulk(a.copy(1))),
            "quit" => {
                self.closing = true;
                Ok(Value::Status("OK"))
            }
            "reset" => {
                self.speak(2);
                (self.level, self.replies) = (self.server.level, Replies::On);
                self.client.set_name(Name::Own, Bytes::new());
                self.become_user(self.server.users.newcomer());
                Ok(Value::Status("RESET"))
            }
            "select" => match integer(&a[1])? {
                0 => Ok(Value::Status("OK")),
                _ => Err(err("DB index is out of range")),
            },
            "auth" => self.auth(&a.tail(1)),
            "hello" => self.hello(a),
            "consistency" => self.consistency(a),
            "session" => self.resume(a),
            "info" => Ok(self.server.info(&a.tail(1))),
            "time" => Ok(time()),
            "wait" => self.wait(&a),
            "asking" | "readonly" | "readwrite" => Err(err("This instance has cluster support disabled")),
            "command" => commands("info", a),
            _ => match name.split_once('|') {
                Some(("acl", sub)) => self.acl(sub, a),
                Some(("client", sub)) => self.client(sub, a),
                Some(("command", sub)) => commands(sub, a),
                Some(("config", sub)) => self.server.config(sub, &a),
                Some(("cluster", sub)) => self.server.cluster(sub, &a),
                Some(("slowlog", sub)) => self.server.stats.slowlog.slowlog(sub, &a),
                Some(("latency", sub)) => self.server.stats.slowlog.latency(sub, &a),
                Some(("object", _)) => Ok(help("OBJECT", "ENCODING FREQ IDLETIME")),
                Some(("memory", _)) => Ok(help("MEMORY", "USAGE")),
                Some(("debug", _)) => Ok(help("DEBUG", "SLEEP")),
                _ => Err(wrong_arity(name)),
            },
        }
    }

    fn hello(&mut self, a: Args<'_>) -> Answer {
        let mut version = self.version;
        if let Some(wanted) = a.at(1) {
            version = match integer(wanted)
                .map_err(|_| err("Protocol version is not an integer or out of range"))?
            {
                2 => 2,
                3 => 3,
                _ => return Err(Value::error("NOPROTO unsupported protocol version")),
            };
        }
        let (mut at, mut name, mut credentials) = (2, None, None);
        while at < a.len() {
            let left = a.len() - at - 1;
            match word(&a[at]).as_str() {
                "SETNAME" if left >= 1 => {
                    name = Some(client_name(&a, at + 1)?);
                    at += 2;
                }
                "AUTH" if left >= 2 => {
                    credentials = Some(a.tail(at + 1).head(2));
                    at += 3;
                }
                _ => {
                    return Err(Value::error([b"ERR Syntax error in HELLO option '", &a[at], b"'"].concat()));
                }
            }
        }
        if let Some(credentials) = credentials {
            self.auth(&credentials)?;
        }
        if self.identity.must_authenticate() {
            return Err(Value::error(HELLO_FIRST));
        }
        self.speak(version);
        if let Some(name) = name {
            self.client.set_name(Name::Own, name);
        }
        Ok(Value::Map(vec![
            (Value::text("server"), Value::text("samara")),
            (Value::text("version"), Value::text(env!("CARGO_PKG_VERSION"))),
            (Value::text("proto"), Value::Integer(i64::from(self.version))),
            (Value::text("id"), Value::Integer(self.client.id as i64)),
            (Value::text("mode"), Value::text("standalone")),
            (Value::text("role"), Value::text("master")),
            (Value::text("modules"), Value::Array(Vec::new())),
        ]))
    }

    /// AUTH: of the default user, or of the user that is named. Who says it wrong stays who it was.
    fn auth(&mut self, a: &Args<'_>) -> Answer {
        let users = &self.server.users;
        let (name, password) = match a.len() {
            1 if users.are_open() => return Err(err(NO_PASSWORD)),
            1 => (DEFAULT, &a[0]),
            2 => (&a[0], &a[1]),
            _ => return Err(syntax()),
        };
        match users.admit(name, password) {
            Some(identity) => {
                self.become_user(identity);
                Ok(Value::Status("OK"))
            }
            None => Err(self.refuse_password(name)),
        }
    }

    /// Goes on as this user.
    fn become_user(&mut self, identity: Identity) {
        self.client.set_user(identity.user().name().clone(), identity.serial());
        self.identity = identity;
    }

    /// Changes the RESP version.
    fn speak(&mut self, version: u8) {
        self.version = version;
        self.client.version.store(version, Ordering::Relaxed);
    }

    fn client(&mut self, sub: &str, a: Args<'_>) -> Answer {
        match sub {
            "id" => Ok(Value::Integer(self.client.id as i64)),
            "getname" => match self.client.name(Name::Own) {
                name if name.is_empty() => Ok(Value::Null),
                name => Ok(Value::Bulk(name)),
            },
            "setname" => {
                self.client.set_name(Name::Own, client_name(&a, 2)?);
                Ok(Value::Status("OK"))
            }
            "list" => self.server.clients.list(&a),
            "kill" => {
                let (answer, me) = self.server.clients.kill(&a, self.client.id, &self.server.users)?;
                self.closing |= me;
                Ok(answer)
            }
            "setinfo" => self.set_info(a),
            "no-evict" | "no-touch" => match word(&a[2]).as_str() {
                "ON" | "OFF" => Ok(Value::Status("OK")),
                _ => Err(syntax()),
            },
            "info" => Ok(Value::Verbatim(Bytes::from(self.client.describe()))),
            "reply" => {
                self.replies = match word(&a[2]).as_str() {
                    "ON" => Replies::On,
                    "OFF" => Replies::Off,
                    "SKIP" if self.replies == Replies::Off => Replies::Off,
                    "SKIP" => Replies::SkipNext,
                    _ => return Err(syntax()),
                };
                Ok(Value::Status("OK"))
            }
            _ => Ok(help("CLIENT", "GETNAME ID INFO KILL LIST NO-EVICT NO-TOUCH REPLY SETINFO SETNAME")),
        }
    }

    fn set_info(&mut self, a: Args<'_>) -> Answer {
        let bad = |what: &str| err(&format!("{what} cannot contain spaces, newlines or special characters."));
        let printable = a[3].iter().all(|byte| (b'!'..=b'~').contains(byte));
        match word(&a[2]).as_str() {
            "LIB-NAME" if printable => self.client.set_name(Name::Library, a.copy(3)),
            "LIB-VER" if printable => self.client.set_name(Name::LibraryVersion, a.copy(3)),
            "LIB-NAME" => return Err(bad("lib-name")),
            "LIB-VER" => return Err(bad("lib-ver")),
            _ => return Err(Value::error([b"ERR Unrecognized option '", &a[2], b"'"].concat())),
        }
        Ok(Value::Status("OK"))
    }

    /// WAIT: a write was answered when it was on so many other replicas, by its level; there is nothing to wait for.
    fn wait(&self, a: &Args<'_>) -> Answer {
        integer(&a[1])?;
        match integer(&a[2]) {
            Ok(0..) => {}
            Ok(_) => return Err(err("timeout is negative")),
            Err(_) => return Err(err("timeout is not an integer or out of range")),
        }
        let replicas = usize::from(self.server.config.replication).min(self.server.config.members.len());
        let others = if self.level == Level::Eventual { 0 } else { majority(replicas) - 1 };
        Ok(Value::Integer(others as i64))
    }

    fn consistency(&mut self, a: Args<'_>) -> Answer {
        match a.len() {
            1 => Ok(Value::text(level_name(self.level))),
            2 => {
                let level = String::from_utf8_lossy(&a[1]);
                self.level = parse_level(&level).ok_or_else(|| {
                    err(&format!("unknown consistency level '{level}': strong, causal or eventual"))
                })?;
                Ok(Value::Status("OK"))
            }
            _ => Err(wrong_arity("consistency")),
        }
    }

    /// SESSION with a token goes on in the session that it is of. A token that no clock of the cluster can have given is
    /// refused here: taken, it would make every request after it fail.
    fn resume(&mut self, a: Args<'_>) -> Answer {
        if a.len() != 2 {
            return Err(wrong_arity("session"));
        }
        let digits = Some(&a[1]).filter(|text| text.len() == 16 && text.iter().all(u8::is_ascii_hexdigit));
        let token = digits.and_then(|text| u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok());
        let token = Hlc(token.ok_or_else(|| err("not a session token: use what SESSION answered"))?);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        if Clock::is_skewed(WallTime(now.as_millis() as u64), token) {
            return Err(reply::failure(Failure::ClockSkew));
        }
        self.pipeline.token = self.pipeline.token.max(token);
        Ok(Value::Status("OK"))
    }

    /// The level of the connection.
    pub fn level(&self) -> Level {
        self.level
    }
}

fn client_name(a: &Args<'_>, at: usize) -> Result<Bytes, Value> {
    if a[at].iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
        return Err(err("Client names cannot contain spaces, newlines or special characters."));
    }
    Ok(a.copy(at))
}

fn time() -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Value::Array(vec![Value::text(now.as_secs().to_string()), Value::text(now.subsec_micros().to_string())])
}

fn describe(found: Found) -> Value {
    let Found { command, id } = found;
    Value::Array(vec![
        Value::text(command.name),
        Value::Integer(i64::from(command.arity)),
        Value::Set(command.flags.iter().map(|flag| Value::Status(flag)).collect()),
        Value::Integer(command.first as i64),
        Value::Integer(i64::from(command.last)),
        Value::Integer(command.step as i64),
        Value::Set(categories_of(id).map(Value::Status).collect()),
        Value::Set(Vec::new()),
        Value::Set(key_specs(command)),
        if command.subs.is_empty() {
            Value::Set(Vec::new())
        } else {
            Value::Array(found.subs().map(describe).collect())
        },
    ])
}

/// COMMAND LIST FILTERBY: the commands and subcommands of a category or a pattern; of modules there are none.
fn filtered(by: &[u8], wanted: &[u8]) -> Result<Vec<Value>, Value> {
    let wanted = wanted.to_ascii_lowercase();
    let is_wanted: Box<dyn Fn(&Found) -> bool> = match word(by).as_str() {
        "MODULE" => Box::new(|_| false),
        "ACLCAT" => {
            Box::new(move |found| categories_of(found.id).any(|category| category.as_bytes()[1..] == wanted))
        }
        "PATTERN" => Box::new(move |found| glob::matches(&wanted, found.command.name.as_bytes())),
        _ => return Err(syntax()),
    };
    Ok(all().filter(is_wanted).map(|found| Value::text(found.command.name)).collect())
}

fn commands(sub: &str, a: Args<'_>) -> Answer {
    match sub {
        "count" => Ok(Value::Integer(COMMANDS.len() as i64)),
        "list" if a.len() == 2 => {
            Ok(Value::Array(COMMANDS.iter().map(|command| Value::text(command.name)).collect()))
        }
        "list" if a.len() == 5 && word(&a[2]) == "FILTERBY" => Ok(Value::Array(filtered(&a[3], &a[4])?)),
        "list" => Err(syntax()),
        "info" if a.len() > 2 => {
            let asked = a.tail(2);
            Ok(Value::Array(asked.iter().map(|name| named(name).map_or(Value::Null, describe)).collect()))
        }
        "info" => Ok(Value::Array(
            COMMANDS.iter().filter_map(|command| named(command.name.as_bytes())).map(describe).collect(),
        )),
        "docs" => Ok(Value::Map(Vec::new())),
        "getkeys" => {
            let command = find(&a[2]).ok_or_else(|| err("Invalid command specified"))?;
            let call = a.tail(2);
            if command.first == 0 {
                return Err(err("The command has no key arguments"));
            }
            if !command.takes(call.len()) {
                return Err(err("Invalid number of arguments specified for command"));
            }
            Ok(Value::Array(
                command.keys(&call).map(|key| Value::Bulk(Bytes::copy_from_slice(key))).collect(),
            ))
        }
        _ => Ok(help("COMMAND", "COUNT DOCS GETKEYS INFO LIST")),
    }
}
