//! All users, and the file that they are kept in.

use super::{DEFAULT, Password, Refused, User, has_spaces};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Users of a node.
const USERS_MAX: usize = 10_000;
/// Bytes of a user's name.
const NAME_BYTES_MAX: usize = 1_000;

/// A user as it is now.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The user.
    pub user: Arc<User>,
    /// Which user of this name it is: one that is deleted and made again is another.
    pub serial: u64,
}

/// All users; the default user is always there.
#[derive(Debug, Clone)]
pub struct Table {
    users: BTreeMap<Bytes, Entry>,
    next: u64,
}

impl Default for Table {
    /// The default user alone, without a password.
    fn default() -> Self {
        let entry = Entry { user: Arc::new(User::open()), serial: 0 };
        Self { users: BTreeMap::from([(Bytes::from_static(DEFAULT), entry)]), next: 1 }
    }
}

impl Table {
    /// The user of this name.
    pub fn named(&self, name: &[u8]) -> Option<&Entry> {
        self.users.get(name)
    }

    /// The default user.
    pub fn default_user(&self) -> &Entry {
        self.named(DEFAULT).expect("the default user is never removed")
    }

    /// All users, by name.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.users.values().map(|entry| &*entry.user)
    }

    /// The serials of all users.
    pub fn serials(&self) -> impl Iterator<Item = u64> {
        self.users.values().map(|entry| entry.serial)
    }

    /// The user that comes in with this name and password. Whether the name, the password or the user's being on is what
    /// is wrong, the same work is done.
    pub fn admit(&self, name: &[u8], password: &[u8]) -> Option<&Entry> {
        let password = Password::of(password);
        let entry = self.named(name);
        let user = entry.unwrap_or_else(|| self.default_user());
        let accepts = user.user.accepts(password);
        entry.filter(|_| accepts)
    }

    /// Makes a user or changes one by rules, all or none of them. `Err` is Valkey's text.
    pub fn set(&mut self, name: &[u8], rules: &[&[u8]]) -> Result<(), Vec<u8>> {
        if has_spaces(name) {
            return Err(b"Usernames can't contain spaces or null characters".to_vec());
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(format!("A username has at most {NAME_BYTES_MAX} bytes").into_bytes());
        }
        let rules = merged(rules).map_err(|start| {
            [b"Unmatched parenthesis in acl selector starting at '", start, b"'."].concat()
        })?;
        let (mut user, serial) = match self.named(name) {
            Some(entry) => ((*entry.user).clone(), entry.serial),
            None if self.users.len() >= USERS_MAX => {
                return Err(format!("There are at most {USERS_MAX} users").into_bytes());
            }
            None => (User::new(Bytes::copy_from_slice(name)), self.next),
        };
        for rule in &rules {
            user.set(rule).map_err(|refused| {
                let (text, rule) = (refused.text().as_bytes(), &rule[..rule.len().min(200)]);
                [b"Error in ACL SETUSER modifier '", rule, b"': ", text].concat()
            })?;
        }
        self.next += u64::from(serial == self.next);
        self.users.insert(user.name().clone(), Entry { user: Arc::new(user), serial });
        Ok(())
    }

    /// Removes a user; whether there was one. Not the default user.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        assert!(name != DEFAULT, "the default user is never removed");
        self.users.remove(name).is_some()
    }

    /// Takes the users of a file instead of all that there are. Those that are as they were stay who they were.
    pub fn replace(&mut self, users: Vec<User>) {
        let mut next = BTreeMap::new();
        for user in users.into_iter().chain([User::open()]) {
            let name = user.name().clone();
            if next.contains_key(&name) {
                continue;
            }
            let same =
                self.named(&name).filter(|old| name == DEFAULT || old.user.describe() == user.describe());
            let serial = same.map_or(self.next, |old| old.serial);
            self.next += u64::from(serial == self.next);
            next.insert(name, Entry { user: Arc::new(user), serial });
        }
        self.users = next;
    }

    /// The text of a file of users.
    pub fn file(&self) -> Vec<u8> {
        self.iter().flat_map(|user| [user.line(), b"\n".to_vec()].concat()).collect()
    }
}

/// A rule as a log may show it: without a password.
fn shown(rule: &[u8]) -> Vec<u8> {
    match rule.first() {
        Some(b'>' | b'<') => vec![rule[0], b'*', b'*', b'*'],
        _ => rule[..rule.len().min(200)].to_vec(),
    }
}

/// Puts selectors together that are spread over several words. `Err` is where one begins that has no end.
fn merged<'a>(words: &[&'a [u8]]) -> Result<Vec<Vec<u8>>, &'a [u8]> {
    let mut rules: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<(&[u8], Vec<u8>)> = None;
    for word in words {
        open = match open.take() {
            None if word.starts_with(b"(") && !word.ends_with(b")") => Some((word, word.to_vec())),
            None => {
                rules.push(word.to_vec());
                None
            }
            Some((start, text)) => {
                let text = [&text[..], b" ", word].concat();
                if word.ends_with(b")") {
                    rules.push(text);
                    None
                } else {
                    Some((start, text))
                }
            }
        };
    }
    match open {
        Some((start, _)) => Err(start),
        None => Ok(rules),
    }
}

/// Reads a file of users: a line `user NAME rule...` each, empty lines, and comments from `#` at the beginning of a line. `Err`
/// names the line, and what to do.
pub fn parse_file(text: &[u8]) -> Result<Vec<User>, String> {
    let mut users: Vec<User> = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let here = |what: String| format!("line {}: {what}", index + 1);
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (keyword, name) = (words.next().unwrap_or_default(), words.next());
        let name = name
            .filter(|_| keyword == b"user")
            .ok_or_else(|| here("a line is `user NAME rule...`, as ACL LIST prints it".into()))?;
        let shown_name = String::from_utf8_lossy(name).into_owned();
        if has_spaces(name) || name.len() > NAME_BYTES_MAX {
            return Err(here(format!(
                "{shown_name:?} is no name: at most {NAME_BYTES_MAX} bytes, no spaces"
            )));
        }
        if users.iter().any(|user| user.name() == name) {
            return Err(here(format!("user {shown_name} is defined twice; keep one of the lines")));
        }
        if users.len() >= USERS_MAX {
            return Err(here(format!("there are at most {USERS_MAX} users")));
        }
        let words: Vec<&[u8]> = words.collect();
        let rules = merged(&words).map_err(|start| {
            let start = String::from_utf8_lossy(start).into_owned();
            here(format!("user {shown_name}: {start:?} begins a selector that no ) ends"))
        })?;
        let mut user = User::new(Bytes::copy_from_slice(name));
        for rule in &rules {
            user.set(rule).map_err(|refused| {
                let rule = String::from_utf8_lossy(&shown(rule)).into_owned();
                here(format!("user {shown_name}: rule {rule}: {}{}", refused.text(), advice(refused)))
            })?;
        }
        users.push(user);
    }
    Ok(users)
}

/// What to do about a rule that is not taken, where the text does not say it.
fn advice(refused: Refused) -> &'static str {
    match refused {
        Refused::Unknown => "; ACL CAT lists the categories, ACL CAT category and COMMAND LIST the commands",
        Refused::Syntax => "; rules are words like on, >password, ~pattern, +command, +@category",
        _ => "",
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
