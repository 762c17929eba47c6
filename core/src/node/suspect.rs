//! R6 as the node's host sees it: what is damaged, what is done about it, and what only the operator can decide.

use super::Node;
use crate::base::{RecordKey, Slot};
use crate::io::{Outbox, Output};
use crate::store::StoreEvent;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What a node knows of damage, for metrics and invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SuspectProbe {
    /// Suspect stretches of keys.
    pub stretches: usize,
    /// Slots in which they lie; with several shards, those of the other shards in between are counted too.
    pub slots: usize,
    /// Whether some cannot be healed because too few other replicas hold them.
    pub stuck: bool,
    /// Blocks of tables known to be damaged.
    pub damaged_blocks: usize,
}

impl Node {
    /// R6: what is suspect.
    pub fn suspect_probe(&self) -> SuspectProbe {
        let (stretches, slots) = self.store.suspect_extent();
        let damaged_blocks = self.store.damaged_blocks();
        SuspectProbe { stretches, slots, stuck: self.replica.is_stuck() && stretches > 0, damaged_blocks }
    }

    /// The first and the last slot of suspect stretches of users' keys, with neighbours as one; up to `limit` of them.
    pub(super) fn suspect_slots(&self, limit: usize) -> Vec<(Slot, Slot)> {
        let mut all: Vec<(Slot, Slot)> = Vec::new();
        for (first, end) in self.store.suspects() {
            let (first, last) = (first.slot, last_slot(&end));
            if first.0 >= Slot::COUNT {
                break;
            }
            match all.last_mut().filter(|(_, upto)| first.0 <= upto.0 + 1) {
                Some((_, upto)) => *upto = last.max(*upto),
                None => all.push((first, last)),
            }
        }
        all.truncate(limit);
        all
    }

    /// R6: whether the node has no vote on `key`.
    pub fn is_suspect(&self, key: &bytes::Bytes) -> bool {
        let slot = crate::rules::slots::slot_of(key);
        let holds = self.table.replicas(slot).contains(&self.options.address.node);
        holds && self.store.is_suspect(&RecordKey { slot, key: key.clone() })
    }

    /// R6: whether the node has no vote on `key`, and a crash changes nothing about that.
    pub fn is_suspect_for_ever(&self, key: &bytes::Bytes) -> bool {
        self.store
            .is_suspect_durably(&RecordKey { slot: crate::rules::slots::slot_of(key), key: key.clone() })
    }

    /// R6: whether the node has no vote on some key of a slot that it holds.
    pub fn is_slot_suspect(&self, slot: Slot) -> bool {
        let holds = slot.0 < Slot::COUNT && self.table.replicas(slot).contains(&self.options.address.node);
        let next = Slot(slot.0.saturating_add(1));
        holds && self.store.is_any_suspect(&RecordKey::start_of(slot), &RecordKey::start_of(next))
    }

    /// Tells the operator of damage and of its end.
    pub(super) fn tell_suspects(&mut self, event: &StoreEvent, out: &mut Outbox) {
        let text = match event {
            StoreEvent::Damaged { reason, is_suspect: false, .. } => {
                format!("{reason}: this node does not answer for its keys until the disk gives it back")
            }
            StoreEvent::Damaged { first, last, reason, .. } => format!(
                "{reason}: {} are suspect; this node has no vote on them until it has brought them again from a majority \
                 of the other replicas, which it does by itself",
                words(first, last)
            ),
            StoreEvent::Healed => match self.store.suspect_extent() {
                (0, _) => "nothing is suspect any more: what was damaged has been brought again, or its loss accepted, and \
                           its files have been replaced"
                    .into(),
                _ => return,
            },
            _ => return,
        };
        out.push(Output::Notice { text });
    }

    /// Says once that some keys wait for the operator.
    pub(super) fn tell_stuck(&mut self, out: &mut Outbox) {
        let is_stuck = self.suspect_probe().stuck;
        if is_stuck && !self.told_stuck {
            let (_, slots) = self.store.suspect_extent();
            let text = format!(
                "keys in {slots} slots are suspect, and too few other replicas hold them to bring them again: they stay \
                 without a vote here. Restore the damaged files from a copy and start again, or accept the loss of what \
                 only they held (samara admin accept-loss)"
            );
            out.push(Output::Notice { text });
        }
        self.told_stuck = is_stuck;
    }
}

fn words(first: &RecordKey, last: &RecordKey) -> String {
    if first.slot.0 >= Slot::COUNT {
        return "hints for other nodes, or watermarks".into();
    }
    if first.slot == last.slot {
        return format!("keys of slot {}", first.slot.0);
    }
    format!("keys of the slots {} to {}", first.slot.0, last_slot(last).0)
}

/// The last slot of users' keys below the end of a stretch: the slots above the users' are the shard's own.
fn last_slot(end: &RecordKey) -> Slot {
    let upto = end.slot.0.saturating_sub(u16::from(end.key.is_empty()));
    Slot(upto.min(Slot::COUNT - 1))
}
