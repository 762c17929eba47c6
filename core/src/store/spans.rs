//! Stretches of keys.

use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Stretches of encoded keys, from the first (included) to the second (excluded), in order, none touching another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Spans(Vec<(Bytes, Bytes)>);

impl Spans {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Bytes, Bytes)> {
        self.0.iter()
    }

    /// Whether every key from `first` up to `end` is in.
    pub(super) fn contains(&self, first: &[u8], end: &[u8]) -> bool {
        first >= end || self.at(first).is_some_and(|(_, held)| **held >= *end)
    }

    /// The stretch that holds `name`.
    fn at(&self, name: &[u8]) -> Option<&(Bytes, Bytes)> {
        let after = self.0.partition_point(|(first, _)| **first <= *name);
        self.0.get(after.checked_sub(1)?).filter(|(_, end)| **end > *name)
    }

    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.at(name).is_some()
    }

    /// The first stretch with a key from `first` up to `end`.
    pub(super) fn overlap(&self, first: &[u8], end: &[u8]) -> Option<&(Bytes, Bytes)> {
        let at = self.0.partition_point(|(_, held)| **held <= *first);
        self.0.get(at).filter(|(held, _)| first < end && **held < *end)
    }

    pub(super) fn add(&mut self, first: &[u8], end: &[u8]) {
        if first >= end {
            return;
        }
        // Those that touch it become one with it.
        let from = self.0.partition_point(|(_, held)| **held < *first);
        let to = self.0.partition_point(|(held, _)| **held <= *end);
        let (mut low, mut high) = (Bytes::copy_from_slice(first), Bytes::copy_from_slice(end));
        for (held_first, held_end) in self.0.drain(from..to) {
            (low, high) = (low.min(held_first), high.max(held_end));
        }
        self.0.insert(from, (low, high));
    }

    pub(super) fn remove(&mut self, first: &[u8], end: &[u8]) {
        if first >= end {
            return;
        }
        let mut left = Vec::with_capacity(self.0.len() + 1);
        for (held_first, held_end) in self.0.drain(..) {
            if *held_end <= *first || *held_first >= *end {
                left.push((held_first, held_end));
                continue;
            }
            if *held_first < *first {
                left.push((held_first.clone(), Bytes::copy_from_slice(first)));
            }
            if *held_end > *end {
                left.push((Bytes::copy_from_slice(end), held_end));
            }
        }
        self.0 = left;
    }

    pub(super) fn remove_all(&mut self, others: &Self) {
        others.iter().for_each(|(first, end)| self.remove(first, end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spans_hold_what_a_set_of_keys_would(
            changes in proptest::collection::vec((any::<bool>(), 0u8..40, 0u8..40), 1..40)
        ) {
            let mut spans = Spans::default();
            let mut model = [false; 40];
            for (is_added, first, end) in changes {
                if is_added { spans.add(&[first], &[end]) } else { spans.remove(&[first], &[end]) }
                model.iter_mut().enumerate().filter(|(key, _)| (*key as u8) >= first && (*key as u8) < end)
                    .for_each(|(_, held)| *held = is_added);
                for (key, held) in model.iter().enumerate() {
                    prop_assert_eq!(spans.has(&[key as u8]), *held);
                }
                for low in 0..40u8 {
                    let high = (low + 7).min(40);
                    let keys = &model[usize::from(low)..usize::from(high)];
                    prop_assert_eq!(spans.contains(&[low], &[high]), keys.iter().all(|held| *held));
                    prop_assert_eq!(spans.overlap(&[low], &[high]).is_some(), keys.iter().any(|held| *held));
                }
                let apart = |pair: &[(Bytes, Bytes)]| pair[0].1 < pair[1].0;
                prop_assert!(spans.0.windows(2).all(apart), "in order, and none touches another");
            }
        }
    }
}
