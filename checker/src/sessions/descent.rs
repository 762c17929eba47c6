//! Which write of a key is newer than which where versions do not say: a session that had read or written one of them wrote the other.
//!
//! Monotonic writes and writes-follow-reads demand that these stand in this order wherever both are, and so what stands behind the second, and so on.

use super::Map;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use std::collections::VecDeque;

pub(super) type Newer = HashSet<u32, FixedState>;

const NONE: u32 = u32::MAX;

/// The writes of each key, each with those that directly come after it.
#[derive(Default)]
pub(super) struct Descent {
    /// By record, the last of its links.
    last: Vec<u32>,
    /// The newer write, and the link before.
    links: Vec<(u32, u32)>,
}

impl Descent {
    pub(super) fn new(records: usize) -> Self {
        Self { last: vec![NONE; records], links: Vec::new() }
    }

    /// `newer` was written by who had seen `older`.
    pub(super) fn add(&mut self, older: u32, newer: u32) {
        let last = &mut self.last[older as usize];
        let known = self.links.get(*last as usize).is_some_and(|(known, _)| *known == newer);
        if older != newer && !known {
            self.links.push((newer, *last));
            *last = self.links.len() as u32 - 1;
        }
    }

    /// Those that directly come after a write.
    pub(super) fn after(&self, write: u32) -> impl Iterator<Item = u32> {
        let mut link = self.last[write as usize];
        std::iter::from_fn(move || {
            let (newer, before) = *self.links.get(link as usize)?;
            link = before;
            Some(newer)
        })
    }

    /// All that come after a write, as far as the steps suffice; `false` when they do not.
    pub(super) fn all_after(&self, write: u32, steps: &mut usize) -> (Newer, bool) {
        let (mut newer, mut left) = (Newer::default(), vec![write]);
        while let Some(at) = left.pop() {
            for next in self.after(at) {
                if *steps == 0 {
                    return (newer, false);
                }
                *steps -= 1;
                if next != write && newer.insert(next) {
                    left.push(next);
                }
            }
        }
        (newer, true)
    }

    /// The shortest way from a write to one that comes after it, both included.
    pub(super) fn way(&self, from: u32, to: u32) -> Option<Vec<u32>> {
        let mut before: Map<u32, u32> = Map::default();
        let mut left = VecDeque::from([from]);
        while let Some(at) = left.pop_front() {
            if at == to {
                let mut way = vec![to];
                let mut at = to;
                while at != from {
                    at = before[&at];
                    way.push(at);
                }
                way.reverse();
                return Some(way);
            }
            for next in self.after(at) {
                if next != from && !before.contains_key(&next) {
                    before.insert(next, at);
                    left.push_back(next);
                }
            }
        }
        None
    }
}
