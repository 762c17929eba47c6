//! A set of rules that holds or does not hold as a whole: commands, and the keys that they may name. A user has one, and more in
//! parentheses; what any of them allows is allowed.

use super::pattern::{PATTERN_BYTES_MAX, Pattern};
use super::{Refused, has_spaces};
use crate::commands::facts::{self, CATEGORIES};
use crate::commands::{CommandId, Found, all, named, values_between};
use crate::resp::Args;
use bytes::Bytes;

const WORDS: usize = CommandId::COUNT.div_ceil(64);
/// Patterns of keys, of channels, and first arguments of a selector.
const LIST_MAX: usize = 1_000;
const TOO_LONG: &str = "At most 1000 patterns and first arguments each, of at most 1000 bytes";

/// What of a request is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    /// The command.
    Command,
    /// The argument at this place, which is a key, or a bound of a range of keys.
    Key(usize),
}

/// Keys or channels that are allowed.
#[derive(Debug, Clone)]
enum Allowed<T> {
    All,
    These(Vec<T>),
}

impl<T> Default for Allowed<T> {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl<T> Allowed<T> {
    fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Whether one of them does what `test` asks.
    fn any(&self, test: impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::These(these) => these.iter().any(test),
        }
    }

    /// As rules.
    fn rules(&self, all: &str, rule: impl Fn(&T) -> Vec<u8>) -> Vec<u8> {
        match self {
            Self::All => all.as_bytes().to_vec(),
            Self::These(these) => these.iter().map(rule).collect::<Vec<_>>().join(&b' '),
        }
    }
}

/// The rules.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// `+@all`, with nothing taken away since.
    all_commands: bool,
    /// Whether the rules began at `+@all`.
    from_all: bool,
    commands: [u64; WORDS],
    /// Commands that are allowed with these first arguments only.
    first_arguments: Vec<(CommandId, Vec<u8>)>,
    /// The rules on commands, in order, as they are told.
    rules: Vec<(bool, Vec<u8>)>,
    keys: Allowed<Pattern>,
    channels: Allowed<Bytes>,
}

impl Selector {
    /// Whether there is nothing that it forbids.
    pub fn allows_everything(&self) -> bool {
        self.all_commands && self.keys.is_all()
    }

    /// Applies a rule.
    pub fn set(&mut self, rule: &[u8]) -> Result<(), Refused> {
        match rule.to_ascii_lowercase().as_slice() {
            b"allkeys" | b"~*" => self.keys = Allowed::All,
            b"resetkeys" => self.keys = Allowed::default(),
            b"allchannels" | b"&*" => self.channels = Allowed::All,
            b"resetchannels" => self.channels = Allowed::default(),
            b"allcommands" | b"+@all" => self.reset_commands(true),
            b"nocommands" | b"-@all" => self.reset_commands(false),
            lower => match rule.first() {
                Some(b'~' | b'%') => return self.add_pattern(rule),
                Some(b'&') => return self.add_channel(&rule[1..]),
                Some(b'+' | b'-') => {
                    let allow = rule[0] == b'+';
                    match &lower[1..] {
                        category @ [b'@', ..] => self.set_category(category, allow)?,
                        name if allow && name.contains(&b'|') => return self.allow_part(name),
                        name => self.set_command(named(name).ok_or(Refused::Unknown)?, allow),
                    }
                    self.note(allow, &lower[1..]);
                }
                _ => return Err(Refused::Syntax),
            },
        }
        Ok(())
    }

    fn reset_commands(&mut self, allow: bool) {
        (self.all_commands, self.from_all) = (allow, allow);
        self.commands = [if allow { u64::MAX } else { 0 }; WORDS];
        self.first_arguments = Vec::new();
        self.rules = Vec::new();
    }

    fn set_bit(&mut self, id: CommandId, allow: bool) {
        let bit = 1 << (id.index() % 64);
        let word = &mut self.commands[id.index() / 64];
        if allow {
            *word |= bit;
        } else {
            *word &= !bit;
            self.all_commands = false;
        }
    }

    /// Allows or forbids a command with all its subcommands.
    fn set_command(&mut self, found: Found, allow: bool) {
        self.set_bit(found.id, allow);
        self.first_arguments.retain(|(id, _)| *id != found.id);
        found.subs().for_each(|sub| self.set_bit(sub.id, allow));
    }

    fn set_category(&mut self, name: &[u8], allow: bool) -> Result<(), Refused> {
        let category = CATEGORIES.iter().position(|category| category.as_bytes() == name);
        let category = category.ok_or(Refused::Unknown)?;
        all()
            .filter(|found| facts::is_of(found.id, category))
            .for_each(|found| self.set_command(found, allow));
        Ok(())
    }

    /// `+command|subcommand`, or `+command|argument` of a command without subcommands. `name` is in lower case.
    fn allow_part(&mut self, name: &[u8]) -> Result<(), Refused> {
        let bar = name.iter().rposition(|byte| *byte == b'|').unwrap_or_default();
        let (whole, part) = (named(&name[..bar]).ok_or(Refused::Unknown)?, &name[bar + 1..]);
        if whole.command.name.contains('|') {
            return Err(Refused::ArgumentOfSubcommand);
        }
        if part.is_empty() {
            return Err(Refused::Syntax);
        }
        if whole.command.subs.is_empty() {
            if part.len() > PATTERN_BYTES_MAX || self.first_arguments.len() >= LIST_MAX {
                return Err(Refused::TooMany(TOO_LONG));
            }
            if has_spaces(part) {
                return Err(Refused::Syntax);
            }
            let entry = (whole.id, part.to_vec());
            if !self.first_arguments.contains(&entry) {
                self.first_arguments.push(entry);
            }
        } else {
            self.set_command(named(name).ok_or(Refused::Unknown)?, true);
        }
        self.note(true, name);
        Ok(())
    }

    /// Keeps a rule: what it replaces is dropped, so that the list holds nothing twice.
    fn note(&mut self, allow: bool, name: &[u8]) {
        self.rules.retain(|(_, other)| {
            other != name && !other.strip_prefix(name).is_some_and(|rest| rest.starts_with(b"|"))
        });
        self.rules.push((allow, name.to_vec()));
    }

    fn add_pattern(&mut self, rule: &[u8]) -> Result<(), Refused> {
        let Allowed::These(patterns) = &mut self.keys else {
            return Err(Refused::KeysAfterAll);
        };
        let (pattern, is_full) = (Pattern::parse(rule)?, patterns.len() >= LIST_MAX);
        match patterns.iter_mut().find(|other| other.is_same(&pattern)) {
            Some(other) => {
                other.allows.read |= pattern.allows.read;
                other.allows.write |= pattern.allows.write;
            }
            None if is_full => return Err(Refused::TooMany(TOO_LONG)),
            None => patterns.push(pattern),
        }
        Ok(())
    }

    /// Channels are kept so that rules written for Valkey come back as they were: there is no publish and subscribe here.
    fn add_channel(&mut self, pattern: &[u8]) -> Result<(), Refused> {
        let Allowed::These(channels) = &mut self.channels else {
            return Err(Refused::ChannelsAfterAll);
        };
        if has_spaces(pattern) {
            return Err(Refused::Syntax);
        }
        if channels.iter().all(|other| other != pattern) {
            if channels.len() >= LIST_MAX || pattern.len() > PATTERN_BYTES_MAX {
                return Err(Refused::TooMany(TOO_LONG));
            }
            channels.push(Bytes::copy_from_slice(pattern));
        }
        Ok(())
    }

    /// Whether a request is allowed. It takes no memory, but for RANGE with VALUES.
    pub fn check(&self, found: Found, a: &Args<'_>) -> Result<(), Denied> {
        if !self.all_commands && !found.is_free() && !self.allows_command(found.id, a) {
            return Err(Denied::Command);
        }
        if self.keys.is_all() {
            return Ok(());
        }
        if found.command.first > 0 {
            let [first, rest] = facts::needs_of(found.id, found.command, a);
            for (number, key) in found.command.keys(a).enumerate() {
                let needs = if number == 0 { first } else { rest };
                if !self.keys.any(|pattern| pattern.covers(key, needs)) {
                    return Err(Denied::Key(found.command.first + number * found.command.step));
                }
            }
        }
        match values_between(found.command, a) {
            Some((low, high)) if !self.keys.any(|one| one.covers_range(&low, high.as_deref())) => {
                Err(Denied::Key(1))
            }
            _ => Ok(()),
        }
    }

    fn allows_command(&self, id: CommandId, a: &Args<'_>) -> bool {
        let is_allowed = self.commands[id.index() / 64] >> (id.index() % 64) & 1 == 1;
        is_allowed
            || a.at(1).is_some_and(|first| {
                let mut parts = self.first_arguments.iter().filter(|(of, _)| *of == id);
                parts.any(|(_, part)| part.eq_ignore_ascii_case(first))
            })
    }

    /// Whether it allows the reading of every key that begins so, by this command.
    pub fn reads_beginning(&self, found: Found, a: &Args<'_>, beginning: &[u8]) -> bool {
        (self.all_commands || self.allows_command(found.id, a))
            && self.keys.any(|pattern| pattern.covers_beginning(beginning))
    }

    /// The rules on commands, from `+@all` or `-@all` on.
    pub fn command_rules(&self) -> Vec<u8> {
        let mut text = if self.from_all { b"+@all".to_vec() } else { b"-@all".to_vec() };
        for (allow, name) in &self.rules {
            text.extend_from_slice(if *allow { b" +" } else { b" -" });
            text.extend_from_slice(name);
        }
        text
    }

    /// The patterns of keys, as rules.
    pub fn key_rules(&self) -> Vec<u8> {
        self.keys.rules("~*", Pattern::rule)
    }

    /// The patterns of channels, as rules.
    pub fn channel_rules(&self) -> Vec<u8> {
        self.channels.rules("&*", |channel| [&b"&"[..], channel].concat())
    }

    /// All rules, from which it can be made again.
    pub fn describe(&self) -> Vec<u8> {
        let mut parts = vec![self.key_rules()];
        if !self.channels.is_all() {
            parts.push(b"resetchannels".to_vec());
        }
        parts.extend([self.channel_rules(), self.command_rules()]);
        parts.retain(|part| !part.is_empty());
        parts.join(&b' ')
    }
}
