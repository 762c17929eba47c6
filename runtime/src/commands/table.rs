//! The table of commands, as COMMAND tells it.

use bytes::Bytes;

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Arguments with the name; negative: at least so many.
    pub arity: i32,
    /// Whether it writes.
    pub write: bool,
    /// Position of the first key; 0 = none.
    pub first: usize,
    /// Position of the last key; negative counts from the end.
    pub last: i32,
    /// Distance between keys.
    pub step: usize,
}

const fn read(name: &'static str, arity: i32, first: usize, last: i32, step: usize) -> Command {
    Command { name, arity, write: false, first, last, step }
}

const fn write(name: &'static str, arity: i32, first: usize, last: i32, step: usize) -> Command {
    Command { name, arity, write: true, first, last, step }
}

const fn other(name: &'static str, arity: i32) -> Command {
    Command { name, arity, write: false, first: 0, last: 0, step: 0 }
}

/// Every command there is, by name.
pub const COMMANDS: &[Command] = &[
    write("append", 3, 1, 1, 1),
    write("cas", 4, 1, 1, 1),
    other("client", -2),
    other("cluster", -2),
    other("command", -1),
    other("config", -2),
    other("consistency", -1),
    other("dbsize", 1),
    write("decr", 2, 1, 1, 1),
    write("decrby", 3, 1, 1, 1),
    write("del", -2, 1, -1, 1),
    other("echo", 2),
    read("exists", -2, 1, -1, 1),
    write("expire", -3, 1, 1, 1),
    write("expireat", -3, 1, 1, 1),
    read("expiretime", 2, 1, 1, 1),
    Command { name: "flushall", arity: -1, write: true, first: 0, last: 0, step: 0 },
    Command { name: "flushdb", arity: -1, write: true, first: 0, last: 0, step: 0 },
    read("get", 2, 1, 1, 1),
    write("getdel", 2, 1, 1, 1),
    write("getex", -2, 1, 1, 1),
    read("getrange", 4, 1, 1, 1),
    write("getset", 3, 1, 1, 1),
    other("hello", -1),
    Command { name: "idempotent", arity: -3, write: true, first: 0, last: 0, step: 0 },
    write("incr", 2, 1, 1, 1),
    write("incrby", 3, 1, 1, 1),
    write("incrbyfloat", 3, 1, 1, 1),
    other("info", -1),
    other("keys", 2),
    write("mdel", -2, 1, -1, 1),
    read("meta", 2, 1, 1, 1),
    read("mget", -2, 1, -1, 1),
    write("mset", -3, 1, -1, 2),
    write("persist", 2, 1, 1, 1),
    write("pexpire", -3, 1, 1, 1),
    write("pexpireat", -3, 1, 1, 1),
    read("pexpiretime", 2, 1, 1, 1),
    other("ping", -1),
    write("psetex", 4, 1, 1, 1),
    read("pttl", 2, 1, 1, 1),
    other("quit", -1),
    other("randomkey", 1),
    other("readonly", 1),
    other("readwrite", 1),
    other("reset", 1),
    other("scan", -2),
    other("select", 2),
    other("session", -1),
    write("set", -3, 1, 1, 1),
    write("setex", 4, 1, 1, 1),
    write("setnx", 3, 1, 1, 1),
    write("setrange", 4, 1, 1, 1),
    read("strlen", 2, 1, 1, 1),
    read("substr", 4, 1, 1, 1),
    other("time", 1),
    read("touch", -2, 1, -1, 1),
    read("ttl", 2, 1, 1, 1),
    read("type", 2, 1, 1, 1),
    write("unlink", -2, 1, -1, 1),
];

/// Finds a command by name, in any case.
pub fn find(name: &Bytes) -> Option<&'static Command> {
    let mut lower = [0; 16];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let at = COMMANDS.binary_search_by(|command| command.name.as_bytes().cmp(lower)).ok()?;
    COMMANDS.get(at)
}

impl Command {
    /// Whether it takes so many arguments, its name included.
    pub fn takes(&self, count: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { count >= wanted } else { count == wanted }
    }

    /// Its keys among `arguments`.
    pub fn keys<'a>(&self, arguments: &'a [Bytes]) -> impl Iterator<Item = &'a Bytes> {
        let last = if self.last < 0 { arguments.len() as i32 + self.last } else { self.last };
        let range = if self.first == 0 { 0..0 } else { self.first..(last as usize + 1).min(arguments.len()) };
        arguments[range].iter().step_by(self.step.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_so_that_it_can_be_searched() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for command in COMMANDS {
            assert_eq!(find(&Bytes::from(command.name.to_uppercase())), Some(command));
        }
        assert_eq!(find(&Bytes::from_static(b"a very long name of no command")), None);
    }

    #[test]
    fn keys_are_found_by_position() {
        let arguments: Vec<Bytes> = ["MSET", "a", "1", "b", "2"].map(Bytes::from).into();
        let keys: Vec<_> =
            find(&arguments[0]).map(|mset| mset.keys(&arguments).collect()).unwrap_or_default();
        assert_eq!(keys, [&b"a"[..], b"b"]);
    }
}
