//! The table of commands, as COMMAND tells it.

use super::{Action, keys, range, several, strings, unknown, unknown_sub, wrong_arity};
use crate::resp::{Args, Value};
use samara_core::base::limits;

/// A command, or a subcommand under its full name (`client|id`).
#[derive(Debug)]
pub struct Command {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Arguments with the name; negative: at least so many.
    pub arity: i32,
    /// What COMMAND says about it.
    pub flags: &'static [&'static str],
    /// Position of the first key; 0 = none.
    pub first: usize,
    /// Position of the last key; negative counts from the end.
    pub last: i32,
    /// Distance between keys.
    pub step: usize,
    /// Its subcommands.
    pub subs: &'static [Command],
    pub(super) parse: Parse,
}

pub(super) type Parse = fn(&'static Command, &Args<'_>) -> Result<Action, Value>;

const READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];
const OWN: &[&str] = &["noscript", "loading", "stale", "fast"];
const WALK: &[&str] = &["readonly"];

const fn key(name: &'static str, arity: i32, flags: &'static [&'static str], parse: Parse) -> Command {
    Command { name, arity, flags, first: 1, last: 1, step: 1, subs: &[], parse }
}

const fn keys_to_end(
    name: &'static str,
    arity: i32,
    flags: &'static [&'static str],
    parse: Parse,
) -> Command {
    Command { name, arity, flags, first: 1, last: -1, step: 1, subs: &[], parse }
}

const fn bare(name: &'static str, arity: i32, flags: &'static [&'static str], parse: Parse) -> Command {
    Command { name, arity, flags, first: 0, last: 0, step: 0, subs: &[], parse }
}

const fn own(name: &'static str, arity: i32) -> Command {
    bare(name, arity, OWN, |command, _| Ok(Action::Own(command.name)))
}

/// A subcommand that reads the key behind it.
const fn third(name: &'static str, arity: i32, parse: Parse) -> Command {
    Command { name, arity, flags: &["readonly"], first: 2, last: 2, step: 1, subs: &[], parse }
}

const fn container(name: &'static str, arity: i32, subs: &'static [Command]) -> Command {
    let mut command = own(name, arity);
    command.subs = subs;
    command
}

const ACL: &[Command] = &[
    own("acl|cat", -2),
    own("acl|deluser", -3),
    own("acl|dryrun", -4),
    own("acl|genpass", -2),
    own("acl|getuser", 3),
    own("acl|help", 2),
    own("acl|list", 2),
    own("acl|load", 2),
    own("acl|log", -2),
    own("acl|save", 2),
    own("acl|setuser", -3),
    own("acl|users", 2),
    own("acl|whoami", 2),
];

const CLIENT: &[Command] = &[
    own("client|getname", 2),
    own("client|help", 2),
    own("client|id", 2),
    own("client|info", 2),
    own("client|kill", -3),
    own("client|list", -2),
    own("client|no-evict", 3),
    own("client|no-touch", 3),
    own("client|reply", 3),
    own("client|setinfo", 4),
    own("client|setname", 3),
];

const CLUSTER: &[Command] = &[
    bare("cluster|countkeysinslot", 3, WALK, keys::count_in_slot),
    bare("cluster|getkeysinslot", 4, WALK, keys::keys_in_slot),
    own("cluster|help", 2),
    own("cluster|info", 2),
    own("cluster|keyslot", 3),
    own("cluster|myid", 2),
    own("cluster|nodes", 2),
    own("cluster|shards", 2),
    own("cluster|slots", 2),
];

const COMMAND: &[Command] = &[
    own("command|count", 2),
    own("command|docs", -2),
    own("command|getkeys", -3),
    own("command|help", 2),
    own("command|info", -2),
    own("command|list", -2),
];

const CONFIG: &[Command] =
    &[own("config|get", -3), own("config|help", 2), own("config|resetstat", 2), own("config|set", -4)];

const DEBUG: &[Command] = &[own("debug|help", 2), bare("debug|sleep", 3, OWN, keys::sleep)];

const LATENCY: &[Command] =
    &[own("latency|help", 2), own("latency|history", 3), own("latency|latest", 2), own("latency|reset", -2)];

const MEMORY: &[Command] = &[own("memory|help", 2), third("memory|usage", -3, keys::memory)];

const OBJECT: &[Command] = &[
    third("object|encoding", 3, keys::encoding),
    third("object|freq", 3, keys::freq),
    own("object|help", 2),
    third("object|idletime", 3, keys::idletime),
];

const SLOWLOG: &[Command] =
    &[own("slowlog|get", -2), own("slowlog|help", 2), own("slowlog|len", 2), own("slowlog|reset", 2)];

/// Every command there is, by name.
pub const COMMANDS: &[Command] = &[
    container("acl", -2, ACL),
    key("append", 3, WRITE, strings::append),
    own("asking", 1),
    own("auth", -2),
    key("cas", 4, WRITE, strings::cas),
    container("client", -2, CLIENT),
    container("cluster", -2, CLUSTER),
    container("command", -1, COMMAND),
    container("config", -2, CONFIG),
    own("consistency", -1),
    Command { last: 2, ..key("copy", -3, WRITE, several::copy) },
    bare("dbsize", 1, WALK, keys::dbsize),
    container("debug", -2, DEBUG),
    key("decr", 2, WRITE, strings::decr),
    key("decrby", 3, WRITE, strings::decrby),
    keys_to_end("del", -2, &["write"], several::delete),
    bare("echo", 2, OWN, |_, a| Ok(Action::Now(Value::Bulk(a.copy(1))))),
    keys_to_end("exists", -2, READ, several::count),
    key("expire", -3, WRITE, keys::expire),
    key("expireat", -3, WRITE, keys::expireat),
    key("expiretime", 2, READ, keys::expiretime),
    bare("flushall", -1, &["write"], keys::flush),
    bare("flushdb", -1, &["write"], keys::flush),
    key("get", 2, READ, strings::get),
    key("getdel", 2, WRITE, strings::getdel),
    key("getex", -2, WRITE, strings::getex),
    key("getrange", 4, READ, strings::getrange),
    key("getset", 3, WRITE, strings::getset),
    own("hello", -1),
    own("idempotent", -3),
    key("incr", 2, WRITE, strings::incr),
    key("incrby", 3, WRITE, strings::incrby),
    key("incrbyfloat", 3, WRITE, strings::incrbyfloat),
    own("info", -1),
    bare("keys", 2, WALK, keys::keys),
    container("latency", -2, LATENCY),
    keys_to_end("mdel", -2, &["write"], several::delete),
    container("memory", -2, MEMORY),
    key("meta", 2, READ, keys::meta),
    keys_to_end("mget", -2, READ, several::mget),
    Command { last: -1, step: 2, ..key("mset", -3, WRITE, several::mset) },
    Command { last: -1, step: 2, ..key("msetnx", -3, WRITE, several::msetnx) },
    container("object", -2, OBJECT),
    key("persist", 2, WRITE, keys::persist),
    key("pexpire", -3, WRITE, keys::pexpire),
    key("pexpireat", -3, WRITE, keys::pexpireat),
    key("pexpiretime", 2, READ, keys::pexpiretime),
    own("ping", -1),
    key("psetex", 4, WRITE, strings::psetex),
    key("pttl", 2, READ, keys::pttl),
    own("quit", -1),
    bare("randomkey", 1, WALK, keys::randomkey),
    bare("range", -3, WALK, range::range),
    own("readonly", 1),
    own("readwrite", 1),
    Command { last: 2, ..key("rename", 3, &["write"], several::rename) },
    Command { last: 2, ..key("renamenx", 3, &["write", "fast"], several::renamenx) },
    own("reset", 1),
    bare("scan", -2, WALK, keys::scan),
    own("select", 2),
    own("session", -1),
    key("set", -3, WRITE, strings::set),
    key("setex", 4, WRITE, strings::setex),
    key("setnx", 3, WRITE, strings::setnx),
    key("setrange", 4, WRITE, strings::setrange),
    container("slowlog", -2, SLOWLOG),
    key("strlen", 2, READ, strings::strlen),
    key("substr", 4, READ, strings::getrange),
    own("time", 1),
    keys_to_end("touch", -2, READ, several::count),
    key("ttl", 2, READ, keys::ttl),
    key("type", 2, READ, keys::kind),
    keys_to_end("unlink", -2, &["write"], several::delete),
    own("wait", 3),
];

/// The number of a command or subcommand: a command's subcommands follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(u16);

impl CommandId {
    /// How many there are.
    pub const COUNT: usize = {
        let last = COMMANDS.len() - 1;
        FIRST_IDS[last] as usize + 1 + COMMANDS[last].subs.len()
    };

    /// As a place in a table of all commands.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The number of each command.
const FIRST_IDS: [u16; COMMANDS.len()] = {
    let mut ids = [0; COMMANDS.len()];
    let (mut at, mut next) = (0, 0);
    while at < COMMANDS.len() {
        ids[at] = next;
        next += 1 + COMMANDS[at].subs.len() as u16;
        at += 1;
    }
    ids
};

/// A command of the table, and its number.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// The command, or the subcommand.
    pub command: &'static Command,
    /// Its number.
    pub id: CommandId,
}

/// Finds a command by name, in any case.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    found(name).map(|found| found.command)
}

fn found(name: &[u8]) -> Option<Found> {
    let mut lower = [0; 16];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let at = COMMANDS.binary_search_by(|command| command.name.as_bytes().cmp(lower)).ok()?;
    Some(Found { command: &COMMANDS[at], id: CommandId(FIRST_IDS[at]) })
}

/// The command or subcommand of this full name (`get`, `client|id`), in any case.
pub fn named(name: &[u8]) -> Option<Found> {
    match name.iter().position(|byte| *byte == b'|') {
        None => found(name),
        Some(bar) => found(&name[..bar])?.part(&name[bar + 1..]),
    }
}

/// Every command and subcommand, by number.
pub fn all() -> impl Iterator<Item = Found> {
    let commands = COMMANDS.iter().flat_map(|command| std::iter::once(command).chain(command.subs));
    (0..).zip(commands).map(|(id, command)| Found { command, id: CommandId(id) })
}

/// The command that a request is for, whatever its number of arguments.
pub fn lookup_any(a: &Args<'_>) -> Option<Found> {
    let wanted = found(a.at(0)?)?;
    match a.at(1) {
        Some(sub) if !wanted.command.subs.is_empty() => wanted.part(sub),
        _ => Some(wanted),
    }
}

/// The command that a request is for: `Err` is the reply where there is none, or where it takes another number of arguments.
pub fn lookup(a: &Args<'_>) -> Result<Found, Value> {
    let mut wanted = found(&a[0]).ok_or_else(|| unknown(a))?;
    if let (false, Some(sub)) = (wanted.command.subs.is_empty(), a.at(1)) {
        // A container without a subcommand is a command of its own: COMMAND has a meaning so.
        wanted = wanted.part(sub).ok_or_else(|| unknown_sub(sub, wanted.command.name))?;
    }
    if wanted.command.takes(a.len()) { Ok(wanted) } else { Err(wrong_arity(wanted.command.name)) }
}

impl Found {
    /// The subcommand of this name, in any case.
    pub fn part(self, name: &[u8]) -> Option<Self> {
        let at = self.command.subs.iter().position(|sub| sub.is_sub(name))?;
        Some(Self { command: &self.command.subs[at], id: CommandId(self.id.0 + 1 + at as u16) })
    }

    /// Its subcommands.
    pub fn subs(self) -> impl Iterator<Item = Self> {
        (1..).zip(self.command.subs).map(move |(at, command)| Self { command, id: CommandId(self.id.0 + at) })
    }

    /// Whether anybody may ask for it before a password is given.
    pub fn is_free(self) -> bool {
        matches!(self.command.name, "auth" | "hello" | "quit" | "reset")
    }

    /// Translates a request for it. `Err` is the reply.
    pub fn parse(self, a: &Args<'_>) -> Result<Action, Value> {
        for key in self.command.keys(a) {
            if key.len() > limits::KEY_BYTES_MAX {
                return Err(Value::error(format!(
                    "TOOLARGE a key is at most {} bytes",
                    limits::KEY_BYTES_MAX
                )));
            }
        }
        (self.command.parse)(self.command, a)
    }
}

impl Command {
    /// Whether it takes so many arguments, its name included.
    pub fn takes(&self, count: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { count >= wanted } else { count == wanted }
    }

    /// Whether it writes.
    pub fn writes(&self) -> bool {
        self.flags.contains(&"write")
    }

    /// Whether `word` is the subcommand's own part of the name, in any case.
    pub fn is_sub(&self, word: &[u8]) -> bool {
        self.name.split_once('|').is_some_and(|(_, own)| own.as_bytes().eq_ignore_ascii_case(word))
    }

    /// Its keys among the arguments `a`.
    pub fn keys<'a>(&self, a: &Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let last = if self.last < 0 { a.len() as i32 + self.last } else { self.last };
        let count =
            if self.first == 0 { 0 } else { (last as usize + 1).min(a.len()).saturating_sub(self.first) };
        a.tail(self.first).iter().take(count).step_by(self.step.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_so_that_it_can_be_searched() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for command in COMMANDS {
            let found = find(command.name.to_uppercase().as_bytes());
            assert_eq!(found.map(|found| found.name), Some(command.name));
            assert!(command.subs.is_sorted_by(|a, b| a.name < b.name));
        }
        assert!(find(b"a very long name of no command").is_none());
    }

    /// Containers without a meaning of their own do not stand in the document; COMMAND has one.
    #[test]
    fn the_document_lists_exactly_these_commands() {
        let rows = include_str!("../../../docs/COMMANDS.md").lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let kind = rest.split(" | ").next()?;
            ["read", "write", "server"].contains(&kind).then_some((name.to_string(), kind.to_string()))
        });
        let kind = |command: &Command| match (command.writes(), command.flags.contains(&"readonly")) {
            (true, _) => "write",
            (false, true) => "read",
            (false, false) => "server",
        };
        let name = |command: &Command| command.name.replace('|', " ").to_uppercase();
        let own = COMMANDS.iter().filter(|command| command.subs.is_empty() || command.name == "command");
        let all = own.chain(COMMANDS.iter().flat_map(|command| command.subs));
        let mut expected: Vec<_> = all.map(|command| (name(command), kind(command).to_string())).collect();
        expected.sort();
        assert_eq!(rows.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_command_has_a_number_of_its_own() {
        for (at, Found { command, id }) in all().enumerate() {
            let again =
                named(command.name.to_uppercase().as_bytes()).map(|found| (found.id, found.command.name));
            assert_eq!((id.index(), again), (at, Some((id, command.name))));
        }
        assert_eq!(all().count(), CommandId::COUNT);
        for none in ["", "|", "get|", "get|x", "client|", "client|nope", "|id", "client|id|x", "nope"] {
            assert!(named(none.as_bytes()).is_none(), "{none}");
        }
    }

    #[test]
    fn keys_are_found_by_position() {
        let line = b"MSETa1b2";
        let ranges = [0..4, 4..5, 5..6, 6..7, 7..8];
        let arguments = Args::new(line, &ranges);
        let keys: Vec<_> = find(b"MSET").map(|mset| mset.keys(&arguments).collect()).unwrap_or_default();
        assert_eq!(keys, [b"a", b"b"]);
    }
}
