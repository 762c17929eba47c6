//! What was refused lately, for ACL LOG.

use bytes::Bytes;
use std::collections::VecDeque;

/// Entries kept, as Valkey's acllog-max-len.
const ENTRIES_MAX: usize = 128;
/// Entries that are searched for the same.
const SEARCHED: usize = 10;
/// The same within so many milliseconds is one entry.
const TOGETHER_MS: u64 = 60_000;
/// Bytes of a name that are kept.
const SHOWN_MAX: usize = 256;

/// What was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct What {
    /// `command`, `key` or `auth`.
    pub reason: &'static str,
    /// The command or the key.
    pub object: Bytes,
    /// The user, or who somebody said to be.
    pub user: Bytes,
}

/// An entry.
#[derive(Debug, Clone)]
pub struct Refused {
    /// What was refused.
    pub what: What,
    /// How often.
    pub count: u64,
    /// The client that was refused last, as CLIENT LIST shows it.
    pub client: String,
    /// Its number.
    pub id: u64,
    /// When it was first, in milliseconds since the epoch.
    pub first_ms: u64,
    /// When it was last.
    pub last_ms: u64,
}

/// The latest refusals, the latest first.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Refused>,
    next: u64,
}

impl What {
    /// What was refused, with names cut to what is kept.
    pub fn new(reason: &'static str, object: &[u8], user: &[u8]) -> Self {
        let kept = |text: &[u8]| Bytes::copy_from_slice(&text[..text.len().min(SHOWN_MAX)]);
        Self { reason, object: kept(object), user: kept(user) }
    }
}

impl Log {
    /// Notes a refusal.
    pub fn note(&mut self, what: What, client: String, now_ms: u64) {
        let is_same = |entry: &Refused| entry.what == what && now_ms.abs_diff(entry.last_ms) <= TOGETHER_MS;
        let at = self.entries.iter().take(SEARCHED).position(is_same);
        let mut entry = at.and_then(|at| self.entries.remove(at)).unwrap_or_else(|| {
            self.next += 1;
            Refused { what, count: 0, client: String::new(), id: self.next - 1, first_ms: now_ms, last_ms: 0 }
        });
        entry.count += 1;
        (entry.client, entry.last_ms) = (client, now_ms);
        self.entries.push_front(entry);
        self.entries.truncate(ENTRIES_MAX);
    }

    /// The latest entries.
    pub fn latest(&self, count: usize) -> impl Iterator<Item = &Refused> {
        self.entries.iter().take(count)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_within_a_minute_is_one_entry_and_the_log_is_bounded() {
        let mut log = Log::default();
        let what = |object: &str| What::new("key", object.as_bytes(), b"u");
        log.note(what("a"), "one".into(), 1_000);
        log.note(what("b"), "two".into(), 2_000);
        log.note(what("a"), "three".into(), 3_000);
        let told: Vec<_> =
            log.latest(9).map(|e| (e.what.object.clone(), e.count, e.id, e.first_ms, e.last_ms)).collect();
        assert_eq!(told, [("a".into(), 2, 0, 1_000, 3_000), ("b".into(), 1, 1, 2_000, 2_000)]);
        log.note(what("a"), "four".into(), 3_000 + TOGETHER_MS + 1);
        assert_eq!(log.latest(9).count(), 3);
        for number in 0..1_000 {
            log.note(what(&format!("{number}{}", "x".repeat(1_000))), String::new(), number);
        }
        assert_eq!(log.latest(usize::MAX).count(), ENTRIES_MAX);
        assert!(log.latest(usize::MAX).all(|entry| entry.what.object.len() <= SHOWN_MAX));
        log.clear();
        assert_eq!(log.latest(1).count(), 0);
    }
}
