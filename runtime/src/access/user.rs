//! A user: whether and with which passwords it comes in, and what it may do.

use super::{DEFAULT, Denied, Password, Refused, Selector};
use crate::commands::Found;
use crate::resp::Args;
use bytes::Bytes;

/// Passwords and selectors of a user.
const LIST_MAX: usize = 100;
const TOO_MANY: &str = "At most 100 passwords and 100 selectors";

/// A user.
#[derive(Debug, Clone)]
pub struct User {
    name: Bytes,
    is_on: bool,
    has_no_password: bool,
    /// `sanitize-payload` of Valkey, which is kept and has no meaning here.
    sanitizes: bool,
    passwords: Vec<Password>,
    /// The first is that of the rules outside of parentheses.
    selectors: Vec<Selector>,
}

impl User {
    /// A new user: off, without a password, allowed nothing.
    pub fn new(name: Bytes) -> Self {
        Self {
            name,
            is_on: false,
            has_no_password: false,
            sanitizes: true,
            passwords: Vec::new(),
            selectors: vec![Selector::default()],
        }
    }

    /// The default user of a node without passwords: anybody is it, and it may do everything.
    pub fn open() -> Self {
        let mut user = Self::new(Bytes::from_static(DEFAULT));
        for rule in ["+@all", "~*", "&*", "on", "nopass"] {
            user.set(rule.as_bytes()).expect("these rules are sound");
        }
        user
    }

    /// Its name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Whether it comes in at all.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether any password is right for it.
    pub fn has_no_password(&self) -> bool {
        self.has_no_password
    }

    /// Whether everybody is this user without saying a word.
    pub fn is_open(&self) -> bool {
        self.is_on && self.has_no_password
    }

    /// Whether there is nothing that it is forbidden.
    pub fn may_do_everything(&self) -> bool {
        self.selectors.iter().any(Selector::allows_everything)
    }

    /// Its passwords.
    pub fn passwords(&self) -> &[Password] {
        &self.passwords
    }

    /// Its selectors; there is at least one.
    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// Whether it comes in with this password. Every password of it is compared, whatever the answer.
    pub fn accepts(&self, password: Password) -> bool {
        let is_right = password.is_among(&self.passwords);
        self.is_on && (self.has_no_password || is_right)
    }

    /// Applies a rule of ACL SETUSER.
    pub fn set(&mut self, rule: &[u8]) -> Result<(), Refused> {
        match rule.to_ascii_lowercase().as_slice() {
            b"" => {}
            b"on" => self.is_on = true,
            b"off" => self.is_on = false,
            b"sanitize-payload" => self.sanitizes = true,
            b"skip-sanitize-payload" => self.sanitizes = false,
            b"nopass" => (self.has_no_password, self.passwords) = (true, Vec::new()),
            b"resetpass" => (self.has_no_password, self.passwords) = (false, Vec::new()),
            b"clearselectors" => self.selectors.truncate(1),
            b"reset" => *self = Self::new(self.name.clone()),
            _ => match (rule[0], &rule[1..]) {
                (b'>', text) => self.add(Password::of(text))?,
                (b'#', hash) => self.add(Password::parse(hash)?)?,
                (b'<', text) => self.remove(Password::of(text))?,
                (b'!', hash) => self.remove(Password::parse(hash)?)?,
                (b'(', [inner @ .., b')']) => self.add_selector(inner)?,
                _ => self.selectors[0].set(rule)?,
            },
        }
        Ok(())
    }

    fn add(&mut self, password: Password) -> Result<(), Refused> {
        if !password.is_among(&self.passwords) {
            if self.passwords.len() >= LIST_MAX {
                return Err(Refused::TooMany(TOO_MANY));
            }
            self.passwords.push(password);
        }
        self.has_no_password = false;
        Ok(())
    }

    fn remove(&mut self, password: Password) -> Result<(), Refused> {
        if !password.is_among(&self.passwords) {
            return Err(Refused::NoSuchPassword);
        }
        self.passwords.retain(|other| *other != password);
        Ok(())
    }

    fn add_selector(&mut self, rules: &[u8]) -> Result<(), Refused> {
        if self.selectors.len() > LIST_MAX {
            return Err(Refused::TooMany(TOO_MANY));
        }
        let mut selector = Selector::default();
        let words = rules.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.into_iter().try_for_each(|rule| selector.set(rule))?;
        self.selectors.push(selector);
        Ok(())
    }

    /// Whether it may make a request: what any of its selectors allows is allowed. Otherwise the key that none of them allows,
    /// or else the command.
    pub fn check(&self, found: Found, a: &Args<'_>) -> Result<(), Denied> {
        let mut worst = Denied::Command;
        for selector in &self.selectors {
            match selector.check(found, a) {
                Ok(()) => return Ok(()),
                Err(denied) => worst = worst.max(denied),
            }
        }
        Err(worst)
    }

    /// Whether it may read every key that begins so, by this command.
    pub fn reads_beginning(&self, found: Found, a: &Args<'_>, beginning: &[u8]) -> bool {
        self.selectors.iter().any(|selector| selector.reads_beginning(found, a, beginning))
    }

    /// What GETUSER tells under `flags`.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        let on = if self.is_on { "on" } else { "off" };
        let sanitizes = if self.sanitizes { "sanitize-payload" } else { "skip-sanitize-payload" };
        [on].into_iter().chain(self.has_no_password.then_some("nopass")).chain([sanitizes])
    }

    /// The rules from which it can be made again.
    pub fn describe(&self) -> Vec<u8> {
        let mut parts: Vec<Vec<u8>> = self.flags().map(|flag| flag.as_bytes().to_vec()).collect();
        parts.extend(self.passwords.iter().map(|password| format!("#{}", password.text()).into_bytes()));
        parts.push(self.selectors[0].describe());
        let others =
            self.selectors[1..].iter().map(|selector| [b"(", &selector.describe()[..], b")"].concat());
        parts.extend(others);
        parts.join(&b' ')
    }

    /// The line of ACL LIST and of a file of users.
    pub fn line(&self) -> Vec<u8> {
        [b"user ", &self.name[..], b" ", &self.describe()].concat()
    }
}
