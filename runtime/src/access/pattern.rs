//! A pattern of keys, and what may be done with the keys that match.

use super::{Refused, has_spaces};
use crate::commands::facts::Needs;
use crate::glob::Glob;
use bytes::Bytes;

/// Bytes of a pattern: one that is longer would need memory for each match.
pub const PATTERN_BYTES_MAX: usize = 1_000;
const TOO_LONG: &str = "A pattern of keys or channels has at most 1000 bytes";

/// How a pattern is matched.
#[derive(Debug, Clone)]
enum Matcher {
    /// A literal.
    Exactly,
    /// A literal, and `*` behind it.
    Beginning(Bytes),
    Glob(Box<Glob>),
}

/// A pattern of keys.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Bytes,
    matcher: Matcher,
    /// What may be done with keys that match.
    pub allows: Needs,
}

impl Pattern {
    /// Reads a rule `~pattern`, `%R~pattern`, `%W~pattern` or `%RW~pattern`.
    pub fn parse(rule: &[u8]) -> Result<Self, Refused> {
        let (allows, text) = match rule.split_first() {
            Some((b'~', text)) => (Needs { read: true, write: true }, text),
            Some((b'%', rest)) => {
                let end = rest.iter().position(|byte| *byte == b'~').ok_or(Refused::Syntax)?;
                let mut allows = Needs::default();
                for letter in &rest[..end] {
                    match letter.to_ascii_uppercase() {
                        b'R' if !allows.read => allows.read = true,
                        b'W' if !allows.write => allows.write = true,
                        _ => return Err(Refused::Syntax),
                    }
                }
                if allows == Needs::default() {
                    return Err(Refused::Syntax);
                }
                (allows, &rest[end + 1..])
            }
            _ => return Err(Refused::Syntax),
        };
        if has_spaces(text) {
            return Err(Refused::Syntax);
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(Refused::TooMany(TOO_LONG));
        }
        let is_literal = |text: &[u8]| !text.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
        let text = Bytes::copy_from_slice(text);
        let matcher = match text.strip_suffix(b"*") {
            Some(beginning) if is_literal(beginning) => Matcher::Beginning(text.slice(..beginning.len())),
            _ if is_literal(&text) => Matcher::Exactly,
            _ => Matcher::Glob(Box::new(Glob::new(&text))),
        };
        Ok(Self { text, matcher, allows })
    }

    /// Whether both are the same pattern, whatever they allow.
    pub fn is_same(&self, other: &Self) -> bool {
        self.text == other.text
    }

    /// Whether it allows what is needed of `key`. It takes no memory.
    pub fn covers(&self, key: &[u8], needs: Needs) -> bool {
        self.allows_all(needs)
            && match &self.matcher {
                Matcher::Exactly => self.text == key,
                Matcher::Beginning(literal) => key.starts_with(literal),
                Matcher::Glob(glob) => glob.matches(key),
            }
    }

    /// Whether it allows reading of all keys from `low` up to, and without, `high`.
    pub fn covers_range(&self, low: &[u8], high: Option<&[u8]>) -> bool {
        let Matcher::Beginning(literal) = &self.matcher else {
            return false;
        };
        self.allows.read && is_within(literal, low, high)
    }

    /// Whether it allows reading of all keys that begin with `beginning`.
    pub fn covers_beginning(&self, beginning: &[u8]) -> bool {
        let Matcher::Beginning(literal) = &self.matcher else {
            return false;
        };
        self.allows.read && beginning.starts_with(literal)
    }

    fn allows_all(&self, needs: Needs) -> bool {
        (self.allows.read || !needs.read) && (self.allows.write || !needs.write)
    }

    /// As a rule, of which a user with all rights on it sees the short form.
    pub fn rule(&self) -> Vec<u8> {
        let kind: &[u8] = match (self.allows.read, self.allows.write) {
            (true, false) => b"%R~",
            (false, true) => b"%W~",
            _ => b"~",
        };
        [kind, &self.text].concat()
    }
}

/// Whether every key from `low` up to, and without, `high` begins with `literal`.
fn is_within(literal: &[u8], low: &[u8], high: Option<&[u8]>) -> bool {
    if literal.is_empty() {
        return true;
    }
    let Some(high) = high else {
        return false;
    };
    // The first key that is above all which begin so.
    let kept = literal.iter().rposition(|byte| *byte != 0xff);
    let below_end = kept.is_none_or(|kept| {
        let end = [&literal[..kept], &[literal[kept] + 1]].concat();
        high <= &end[..]
    });
    low.starts_with(literal) && below_end
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Needs = Needs { read: false, write: false };
    const READ: Needs = Needs { read: true, write: false };
    const WRITE: Needs = Needs { read: false, write: true };
    const BOTH: Needs = Needs { read: true, write: true };

    fn pattern(rule: &str) -> Pattern {
        Pattern::parse(rule.as_bytes()).expect("a good rule")
    }

    #[test]
    fn a_pattern_covers_keys_for_what_it_allows() {
        let table = [
            ("~user:*", "user:1", BOTH, true),
            ("~user:*", "user:", BOTH, true),
            ("~user:*", "user", NONE, false),
            ("~*", "", BOTH, true),
            ("~k", "k", WRITE, true),
            ("~k", "k2", WRITE, false),
            ("~", "", READ, true),
            ("~h?llo", "hello", BOTH, true),
            ("~a\\*", "a*", BOTH, true),
            ("~a\\*", "ab", BOTH, false),
            ("~*:x", "abc:x", BOTH, true),
            ("%R~a*", "ab", READ, true),
            ("%R~a*", "ab", NONE, true),
            ("%R~a*", "ab", WRITE, false),
            ("%R~a*", "ab", BOTH, false),
            ("%w~a*", "ab", WRITE, true),
            ("%wr~a*", "ab", BOTH, true),
        ];
        for (rule, key, needs, expected) in table {
            assert_eq!(pattern(rule).covers(key.as_bytes(), needs), expected, "{rule} {key} {needs:?}");
        }
        for bad in ["", "x", "%", "%~x", "%RR~x", "%X~x", "%R", "~a b", "~a\0", "%R~a\n"] {
            assert!(Pattern::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        for rule in ["~a*", "%R~a*", "%W~a*", "~a?"] {
            assert_eq!(pattern(rule).rule(), rule.as_bytes());
        }
        assert_eq!(pattern("%RW~a").rule(), b"~a");
        let long = [&b"~"[..], &b"a".repeat(PATTERN_BYTES_MAX + 1)].concat();
        assert_eq!(Pattern::parse(&long).err(), Some(Refused::TooMany(TOO_LONG)));
    }

    #[test]
    fn a_range_is_covered_where_every_key_in_it_is() {
        let covers = |rule: &str, low: &str, high: Option<&str>| {
            pattern(rule).covers_range(low.as_bytes(), high.map(str::as_bytes))
        };
        assert!(covers("~*", "", None));
        assert!(covers("%R~*", "a", Some("b")));
        assert!(!covers("%W~*", "", None));
        assert!(covers("~u:*", "u:", Some("u;")));
        assert!(covers("~u:*", "u:1", Some("u:2")));
        assert!(!covers("~u:*", "u:", None));
        assert!(!covers("~u:*", "u", Some("u;")));
        assert!(!covers("~u:*", "u:", Some("u;\0")));
        assert!(!covers("~u:?", "u:1", Some("u:2")));
        assert!(pattern("~u:*").covers_beginning(b"u:1"));
        assert!(!pattern("~u:*").covers_beginning(b"u"));
        let top = Pattern::parse(b"~\xff*").expect("a good rule");
        assert!(top.covers_range(b"\xff", Some(b"\xff\xff")) && !top.covers_range(b"\xff", None));
    }
}
