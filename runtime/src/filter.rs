//! MATCH on a walk over the key space.

use crate::glob::{self, Glob};
use bytes::Bytes;
use samara_core::base::{PageEntry, Slot};
use samara_core::rules::slots::{has_hash_tag, slot_of};

/// MATCH, with what its literal beginning says about where matching keys can be.
#[derive(Debug)]
pub struct Filter {
    glob: Option<Glob>,
    /// Every key that matches begins so.
    prefix: Vec<u8>,
    /// The one slot of all keys that match, where the prefix holds a whole hash tag.
    slot: Option<Slot>,
}

impl Filter {
    /// The filter of a pattern; without one everything is taken.
    pub fn new(pattern: Option<&Bytes>) -> Self {
        let prefix = pattern.map(|pattern| glob::prefix(pattern)).unwrap_or_default();
        let slot = has_hash_tag(&prefix).then(|| slot_of(&prefix));
        Self { glob: pattern.map(|pattern| Glob::new(pattern)), prefix, slot }
    }

    /// Whether a key matches.
    pub fn takes(&self, entry: &PageEntry) -> bool {
        self.glob.as_ref().is_none_or(|glob| glob.matches(&entry.key))
    }

    /// The first place at or behind `from` where a key can match. In a slot with many keys this passes over all that do not
    /// begin with the prefix; where a page covers many slots there is nothing to gain, and it does not go from slot to slot.
    pub fn seek(&self, (slot, after): (Slot, Option<Bytes>)) -> Option<(Slot, Option<Bytes>)> {
        let (mut slot, mut after) = (slot, after);
        if let Some(only) = self.slot {
            if slot > only {
                return None;
            }
            if slot < only {
                (slot, after) = (only, None);
            }
        } else if after.is_none() {
            return Some((slot, None)).filter(|(slot, _)| slot.0 < Slot::COUNT);
        }
        if self.prefix.is_empty() {
            return Some((slot, after));
        }
        let last = after.as_deref().unwrap_or_default();
        if last > &self.prefix[..] && !last.starts_with(&self.prefix) {
            let next = Slot(slot.0 + 1);
            return (self.slot.is_none() && next.0 < Slot::COUNT).then_some((next, None));
        }
        if last < &self.prefix[..] {
            let before = before(&self.prefix);
            if after.as_ref().is_none_or(|after| **after < before[..]) {
                after = Some(Bytes::from(before));
            }
        }
        Some((slot, after))
    }
}

/// A key below `prefix` and above nearly all that are: no key of ordinary length lies between.
fn before(prefix: &[u8]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    match key.pop() {
        None | Some(0) => {}
        Some(last) => {
            key.push(last - 1);
            key.extend_from_slice(&[0xff; 64]);
        }
    }
    key
}
