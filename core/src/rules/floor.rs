//! Floors of key spaces: the weakest level at which the keys of a prefix may be read or written (PROTOCOL section 1).
//!
//! Mixing levels on a key can lose an eventual write. A floor forbids it: what is asked below it is refused, not raised, as
//! the guardrails of Cassandra do. Whoever asks for a weak level expects its speed and its availability; raised in silence,
//! the request would be slower and fail where it must not, and nobody would know why.

use crate::base::{Body, Level, Request};
use crate::rules::register::is_blind;
use alloc::vec::Vec;
use bytes::Bytes;

/// The floors of all key spaces. The longest prefix that a key begins with decides; a key of none has no floor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Floors(Vec<(Bytes, Level)>);

impl Floors {
    /// Floors by prefix; the empty prefix is for all keys. Of a prefix that is given twice, the last counts.
    pub fn new(mut floors: Vec<(Bytes, Level)>) -> Self {
        floors.reverse();
        floors.sort_by_key(|(prefix, _)| core::cmp::Reverse(prefix.len()));
        Self(floors)
    }

    /// The floor of a key.
    pub fn of(&self, key: &[u8]) -> Level {
        let found = self.0.iter().find(|(prefix, _)| key.starts_with(prefix));
        found.map_or(Level::Eventual, |(_, level)| *level)
    }

    /// The floor that a request is below, if it is. What is always strong is never below one, nor is a walk over keys.
    pub fn forbids(&self, request: &Request) -> Option<Level> {
        if self.0.is_empty() || request.level == Level::Strong || request.idempotency.is_some() {
            return None;
        }
        let Body::Key { key, op } = &request.body else {
            return None;
        };
        let weak = matches!(op, crate::base::KeyOp::Read) || is_blind(op);
        let floor = self.of(key);
        (weak && request.level < floor).then_some(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Expiry, Hlc, KeyOp, When};
    use alloc::vec;

    fn floors() -> Floors {
        let floor = |prefix: &'static str, level| (Bytes::from_static(prefix.as_bytes()), level);
        Floors::new(vec![
            floor("", Level::Causal),
            floor("cache:", Level::Eventual),
            floor("cache:money:", Level::Strong),
        ])
    }

    #[test]
    fn the_longest_prefix_decides() {
        let table = [
            ("", Level::Causal),
            ("cach", Level::Causal),
            ("cache:1", Level::Eventual),
            ("cache:money:1", Level::Strong),
            ("other", Level::Causal),
        ];
        for (key, level) in table {
            assert_eq!(floors().of(key.as_bytes()), level, "{key}");
        }
        assert_eq!(Floors::default().of(b"any"), Level::Eventual);
    }

    #[test]
    fn what_is_below_the_floor_is_forbidden_and_what_is_always_strong_never() {
        let set = |when| KeyOp::Set { value: Bytes::new(), expiry: Expiry::Clear, when, want_old: false };
        let ask = |level, idempotency, key: &'static str, op| {
            let body = Body::Key { key: Bytes::from_static(key.as_bytes()), op };
            floors().forbids(&Request { level, session: Hlc(0), idempotency, body })
        };
        let money = "cache:money:1";
        assert_eq!(ask(Level::Eventual, None, "k", KeyOp::Read), Some(Level::Causal));
        assert_eq!(ask(Level::Causal, None, "k", KeyOp::Read), None);
        assert_eq!(ask(Level::Eventual, None, "cache:1", set(When::Always)), None);
        assert_eq!(ask(Level::Causal, None, money, set(When::Always)), Some(Level::Strong));
        assert_eq!(
            ask(
                Level::Causal,
                None,
                money,
                KeyOp::Delete { when: crate::base::When::Always, want_old: false }
            ),
            Some(Level::Strong)
        );
        assert_eq!(ask(Level::Strong, None, money, set(When::Always)), None);
        assert_eq!(ask(Level::Eventual, None, money, set(When::Absent)), None);
        assert_eq!(ask(Level::Eventual, None, money, KeyOp::Add(1)), None);
        assert_eq!(ask(Level::Eventual, Some(1), money, set(When::Always)), None);
    }
}
