//! What rules of access know of each command: its categories, as Valkey's, and how it uses its keys.

use super::table::{COMMANDS, Command, CommandId};
use crate::resp::Args;
use std::sync::LazyLock;

/// The categories, in the order in which ACL CAT lists them. Those of other data types hold no command here; they are known
/// so that rules written for Valkey are taken.
pub const CATEGORIES: [&str; 21] = [
    "@keyspace",
    "@read",
    "@write",
    "@set",
    "@sortedset",
    "@list",
    "@hash",
    "@string",
    "@bitmap",
    "@hyperloglog",
    "@geo",
    "@stream",
    "@pubsub",
    "@admin",
    "@fast",
    "@slow",
    "@blocking",
    "@dangerous",
    "@connection",
    "@transaction",
    "@scripting",
];

const KEYSPACE: u32 = 1;
const READ: u32 = 1 << 1;
const WRITE: u32 = 1 << 2;
const STRING: u32 = 1 << 7;
const ADMIN: u32 = 1 << 13;
const FAST: u32 = 1 << 14;
const SLOW: u32 = 1 << 15;
const DANGEROUS: u32 = 1 << 17;
const CONNECTION: u32 = 1 << 18;

/// What a command does with a key, as far as rules tell it apart. A command that only looks whether a key is there needs
/// neither: any pattern that matches is enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// It shows the value, or what depends on it.
    pub read: bool,
    /// It changes the key.
    pub write: bool,
}

impl Needs {
    const NONE: Self = Self { read: false, write: false };
    const READ: Self = Self { read: true, write: false };
    const WRITE: Self = Self { read: false, write: true };
    const BOTH: Self = Self { read: true, write: true };
}

/// What rules of access know of a command.
#[derive(Debug, Clone, Copy)]
struct Facts {
    categories: u32,
    /// Of its first key, and of the others.
    needs: [Needs; 2],
}

/// By number of the command.
static FACTS: LazyLock<Vec<Facts>> = LazyLock::new(|| {
    let own = |command: &Command| Facts { categories: categories(command.name), needs: needs(command.name) };
    COMMANDS.iter().flat_map(|command| std::iter::once(command).chain(command.subs)).map(own).collect()
});

/// Whether a command is of the category of this place in [`CATEGORIES`].
pub fn is_of(id: CommandId, category: usize) -> bool {
    FACTS[id.index()].categories >> category & 1 == 1
}

/// The names of the categories of a command.
pub fn categories_of(id: CommandId) -> impl Iterator<Item = &'static str> {
    CATEGORIES.iter().enumerate().filter(move |(category, _)| is_of(id, *category)).map(|(_, name)| *name)
}

/// What a call does with its first key, and with the others. SET reads where it answers or compares the old value.
pub fn needs_of(id: CommandId, command: &Command, a: &Args<'_>) -> [Needs; 2] {
    let needs = FACTS[id.index()].needs;
    let reads = |option: &[u8]| option.eq_ignore_ascii_case(b"get") || option.eq_ignore_ascii_case(b"ifeq");
    if command.name == "set" && a.tail(3).iter().any(reads) {
        return [Needs::BOTH; 2];
    }
    needs
}

/// What Valkey's command tables say; for commands of ours, what they say of the nearest relative.
fn categories(name: &str) -> u32 {
    match name {
        "append" | "cas" | "decr" | "decrby" | "getdel" | "getex" | "getset" | "incr" | "incrby"
        | "incrbyfloat" | "setnx" => WRITE | STRING | FAST,
        "mset" | "msetnx" | "psetex" | "set" | "setex" | "setrange" => WRITE | STRING | SLOW,
        "get" | "mget" | "strlen" => READ | STRING | FAST,
        "getrange" | "substr" => READ | STRING | SLOW,
        "dbsize" | "exists" | "expiretime" | "meta" | "pexpiretime" | "pttl" | "touch" | "ttl" | "type" => {
            KEYSPACE | READ | FAST
        }
        "object|encoding" | "object|freq" | "object|idletime" | "randomkey" | "range" | "scan" => {
            KEYSPACE | READ | SLOW
        }
        "keys" => KEYSPACE | READ | SLOW | DANGEROUS,
        "expire" | "expireat" | "persist" | "pexpire" | "pexpireat" | "renamenx" | "unlink" => {
            KEYSPACE | WRITE | FAST
        }
        "copy" | "del" | "mdel" | "rename" => KEYSPACE | WRITE | SLOW,
        "flushall" | "flushdb" => KEYSPACE | WRITE | SLOW | DANGEROUS,
        "asking" | "auth" | "consistency" | "echo" | "hello" | "idempotent" | "ping" | "quit"
        | "readonly" | "readwrite" | "reset" | "select" | "session" => CONNECTION | FAST,
        "time" => FAST,
        "client|kill" | "client|list" | "client|no-evict" => ADMIN | SLOW | DANGEROUS | CONNECTION,
        "client" => SLOW,
        "command" | "wait" => CONNECTION | SLOW,
        "memory|usage" => READ | SLOW,
        "object|help" => KEYSPACE | SLOW,
        "info" => SLOW | DANGEROUS,
        "acl|deluser" | "acl|dryrun" | "acl|getuser" | "acl|list" | "acl|load" | "acl|log" | "acl|save"
        | "acl|setuser" | "acl|users" | "config|get" | "config|resetstat" | "config|set" | "debug"
        | "debug|help" | "debug|sleep" | "latency|history" | "latency|latest" | "latency|reset"
        | "slowlog|get" | "slowlog|len" | "slowlog|reset" => ADMIN | SLOW | DANGEROUS,
        name if name.starts_with("client|") || name.starts_with("command|") => CONNECTION | SLOW,
        // Containers, and what only tells.
        _ => SLOW,
    }
}

/// What the command of this name does with its first key, and with the others, by default.
pub(super) fn needs(name: &str) -> [Needs; 2] {
    match name {
        "append" | "del" | "expire" | "expireat" | "mdel" | "mset" | "msetnx" | "persist" | "pexpire"
        | "pexpireat" | "psetex" | "set" | "setex" | "setnx" | "setrange" | "unlink" => [Needs::WRITE; 2],
        "cas" | "decr" | "decrby" | "getdel" | "getex" | "getset" | "incr" | "incrby" | "incrbyfloat" => {
            [Needs::BOTH; 2]
        }
        "copy" => [Needs::READ, Needs::WRITE],
        "rename" | "renamenx" => [Needs::BOTH, Needs::WRITE],
        "exists" | "memory|usage" | "object|encoding" | "object|freq" | "object|idletime" | "strlen"
        | "touch" | "type" => [Needs::NONE; 2],
        _ => [Needs::READ; 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::table::{Found, all, named};

    /// What COMMAND says of a command and its categories are one statement.
    #[test]
    fn flags_and_categories_agree() {
        for Found { command, id } in all() {
            let of = |name: &str| categories_of(id).any(|category| category[1..] == *name);
            assert!(of("fast") != of("slow"), "{}: it is one of the two", command.name);
            assert_eq!(of("write"), command.writes(), "{}", command.name);
            if of("read") {
                assert!(command.flags.contains(&"readonly"), "{}", command.name);
            }
            let takes_keys = command.first > 0;
            let only_reads = takes_keys && !command.writes();
            let [first, rest] = needs(command.name);
            assert!(!(only_reads && (first.write || rest.write)), "{}: a read changes nothing", command.name);
            assert!(!(command.writes() && takes_keys) || rest.write, "{}: a write writes", command.name);
        }
    }

    #[test]
    fn set_reads_only_where_it_looks_at_the_old_value() {
        let found = named(b"set").expect("it is there");
        let needs = |words: &[&str]| {
            let line = words.concat();
            let mut end = 0;
            let ranges: Vec<_> = words
                .iter()
                .map(|word| {
                    end += word.len();
                    end - word.len()..end
                })
                .collect();
            needs_of(found.id, found.command, &Args::new(line.as_bytes(), &ranges))[0]
        };
        assert_eq!(needs(&["SET", "get", "get", "NX"]), Needs::WRITE);
        assert_eq!(needs(&["SET", "k", "v", "EX", "9", "GeT"]), Needs::BOTH);
        assert_eq!(needs(&["SET", "k", "v", "IFEQ", "w"]), Needs::BOTH);
    }
}
