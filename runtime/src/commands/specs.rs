//! Key specifications: where the keys of a command stand and what it does with them, as COMMAND INFO tells clients that find
//! keys by themselves.

use super::table::Command;
use crate::resp::Value;

/// What a command does with a key: how it reads and writes it, and to which end.
type Flags = &'static [&'static str];

/// What Valkey's command tables say; for commands of ours, what they say of the nearest relative. Of the first key, and of the
/// others.
fn flags(name: &str) -> [Flags; 2] {
    const LOOK: Flags = &["RO"];
    const READ: Flags = &["RO", "access"];
    const UPDATE: Flags = &["RW", "update"];
    const READ_AND_UPDATE: Flags = &["RW", "access", "update"];
    const OVERWRITE: Flags = &["OW", "update"];
    const INSERT: Flags = &["OW", "insert"];
    const MOVE: Flags = &["RW", "access", "delete"];
    let of_all = match name {
        "copy" => return [READ, OVERWRITE],
        "rename" => return [MOVE, OVERWRITE],
        "renamenx" => return [MOVE, INSERT],
        "append" => &["RW", "insert"],
        "cas" | "decr" | "decrby" | "getex" | "getset" | "incr" | "incrby" | "incrbyfloat" => READ_AND_UPDATE,
        "del" | "mdel" | "unlink" => &["RM", "delete"],
        "exists" | "memory|usage" | "object|encoding" | "object|freq" | "object|idletime" | "strlen"
        | "touch" | "type" => LOOK,
        "expire" | "expireat" | "persist" | "pexpire" | "pexpireat" | "setrange" => UPDATE,
        "getdel" => MOVE,
        "mset" | "psetex" | "setex" => OVERWRITE,
        "msetnx" | "setnx" => INSERT,
        // Its options decide.
        "set" => &["RW", "access", "update", "variable_flags"],
        _ => READ,
    };
    [of_all; 2]
}

/// The specifications of a command; none if it has no keys at fixed places.
pub fn key_specs(command: &Command) -> Vec<Value> {
    let Command { name, first, last, step, .. } = *command;
    let [of_first, of_others] = flags(name);
    let behind = last - first as i32;
    match first {
        0 => Vec::new(),
        // Each key has its own.
        _ if of_first != of_others => {
            vec![spec(of_first, first, 0, step), spec(of_others, first + 1, behind - 1, step)]
        }
        _ if last < 0 => vec![spec(of_first, first, last, step)],
        _ => vec![spec(of_first, first, behind, step)],
    }
}

/// Keys from the argument `begin` on, up to the one `last` behind it (negative: counted from the end).
fn spec(flags: Flags, begin: usize, last: i32, step: usize) -> Value {
    let text = Value::text;
    let kind = |kind, spec| Value::Map(vec![(text("type"), text(kind)), (text("spec"), Value::Map(spec))]);
    let range = vec![
        (text("lastkey"), Value::Integer(last.into())),
        (text("keystep"), Value::Integer(step as i64)),
        (text("limit"), Value::Integer(0)),
    ];
    Value::Map(vec![
        (text("flags"), Value::Set(flags.iter().map(|flag| Value::Status(flag)).collect())),
        (text("begin_search"), kind("index", vec![(text("index"), Value::Integer(begin as i64))])),
        (text("find_keys"), kind("range", range)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::facts::{Needs, needs};
    use crate::commands::table::{Found, all};

    /// What clients are told and what rules of access go by is one statement.
    #[test]
    fn specifications_and_needs_agree() {
        for Found { command, .. } in all().filter(|found| found.command.first > 0) {
            for (flags, Needs { read, write }) in flags(command.name).iter().zip(needs(command.name)) {
                let has = |flag: &str| flags.contains(&flag);
                let name = command.name;
                assert_eq!(has("RO"), !command.writes() || name == "copy" && has("access"), "{name}");
                assert_eq!(has("RW") || has("OW") || has("RM"), write, "{name}");
                if name != "set" {
                    assert_eq!(has("access"), read, "{name}: it shows what depends on the value");
                }
            }
        }
    }
}
