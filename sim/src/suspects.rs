//! R6, watched from outside: what a source of a re-sync has raised its floor over it takes no more; a suspect replica vouches
//! for no watermark; it is healed only by a majority of the others; and a restart forgets no suspicion that was durable.

use bytes::Bytes;
use samara_core::base::{Config, NodeId, RecordKey, RequestId, Slot, Stamp};
use samara_core::node::Node;
use samara_core::rules::quorum::majority;
use samara_core::rules::ring::SlotTable;
use samara_core::rules::slots::slot_of;
use samara_core::wire::{Answer, Envelope, Message};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A request and who sent it to whom.
type Asked = (NodeId, NodeId, RequestId);

/// What a suspect replica has asked for.
#[derive(Debug, Clone)]
struct Stretch {
    from: RecordKey,
    until: RecordKey,
    floor: Stamp,
}

/// What is known of the suspect replicas and their sources.
#[derive(Debug)]
pub struct Suspects {
    table: SlotTable,
    keys: Vec<RecordKey>,
    /// Suspect keys as they were last seen.
    seen: BTreeSet<(NodeId, RecordKey)>,
    /// Of them, those that a crash must not make forgotten.
    durable: BTreeSet<(NodeId, RecordKey)>,
    asked: HashMap<Asked, Stretch>,
    /// Who has sent what it holds of a suspect key since it became one.
    brought: BTreeMap<(NodeId, RecordKey), BTreeSet<NodeId>>,
    /// The floor of a source over a key, once it has shown what it holds.
    floors: BTreeMap<(NodeId, RecordKey), Stamp>,
    /// Requests at or below such a floor for what is not held, and steps of a watermark asked of a suspect replica.
    late: HashSet<Asked>,
    marks: HashMap<Asked, Slot>,
}

impl Suspects {
    /// For runs on these keys.
    pub fn new(config: &Config, keys: impl Iterator<Item = Bytes>) -> Self {
        let keys = keys.map(|key| RecordKey { slot: slot_of(&key), key }).collect();
        Self {
            table: SlotTable::new(config),
            keys,
            seen: BTreeSet::new(),
            durable: BTreeSet::new(),
            asked: HashMap::new(),
            brought: BTreeMap::new(),
            floors: BTreeMap::new(),
            late: HashSet::new(),
            marks: HashMap::new(),
        }
    }

    /// The keys that a page covers.
    fn covered(
        &self,
        stretch: &Stretch,
        records: &[(RecordKey, samara_core::base::Record)],
        done: bool,
    ) -> Vec<RecordKey> {
        let last = records.last().filter(|_| !done).map(|(key, _)| key);
        let is_covered = |key: &&RecordKey| {
            **key >= stretch.from && **key < stretch.until && last.is_none_or(|last| *key <= last)
        };
        self.keys.iter().filter(is_covered).cloned().collect()
    }

    /// `from` sends a message to `to`.
    pub fn on_send(
        &mut self,
        from: NodeId,
        to: NodeId,
        envelope: &Envelope,
        node: Option<&Node>,
    ) -> Result<(), String> {
        match &envelope.body {
            Message::Resync { request, from: first, until, floor, .. } => {
                let stretch =
                    Stretch { from: first.clone(), until: until.clone(), floor: Stamp::upto(*floor) };
                self.asked.insert((from, to, *request), stretch);
            }
            Message::Answer { request, answer: Answer::Resynced { records, done, .. } } => {
                if let Some(stretch) = self.asked.get(&(to, from, *request)).cloned() {
                    for key in self.covered(&stretch, records, *done) {
                        let held = self.floors.entry((from, key)).or_default();
                        *held = stretch.floor.max(*held);
                    }
                }
            }
            Message::Answer { request, answer: Answer::Accepted { .. } }
                if self.late.contains(&(to, from, *request)) =>
            {
                return Err(format!(
                    "R6: {from} took what is below the floor that it raised for a suspect replica"
                ));
            }
            Message::Answer { request, answer: Answer::Marked(_) } => {
                let slot = self.marks.get(&(to, from, *request)).copied();
                if let Some(slot) = slot.filter(|slot| node.is_some_and(|node| node.is_slot_suspect(*slot))) {
                    return Err(format!(
                        "R6: {from} vouches for a watermark of slot {}, which is suspect there",
                        slot.0
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A message is delivered to `to`.
    pub fn on_delivery(&mut self, to: NodeId, envelope: &Envelope, node: &Node) {
        let from = envelope.from.node;
        match &envelope.body {
            Message::Accept { request, key, record, .. } | Message::Weak { request, key, record } => {
                let place = (to, RecordKey { slot: slot_of(key), key: key.clone() });
                let is_below = self.floors.get(&place).is_some_and(|floor| record.ballot <= *floor);
                if is_below && node.peek(key).is_some_and(|held| held < record.ballot) {
                    self.late.insert((from, to, *request));
                }
            }
            Message::Mark { request, slot, .. } if node.is_slot_suspect(*slot) => {
                self.marks.insert((from, to, *request), *slot);
            }
            Message::Answer { request, answer: Answer::Resynced { records, done, .. } } => {
                if let Some(stretch) = self.asked.get(&(to, from, *request)).cloned() {
                    for key in self.covered(&stretch, records, *done) {
                        self.brought.entry((to, key)).or_default().insert(from);
                    }
                }
            }
            _ => {}
        }
    }

    /// The power of `node` fails: a re-sync begins anew.
    pub fn on_crash(&mut self, node: NodeId) {
        self.seen.retain(|(of, _)| *of != node);
        self.brought.retain(|(of, _), _| *of != node);
    }

    /// After a step of a node that serves.
    pub fn look(&mut self, name: NodeId, node: &Node) -> Result<(), String> {
        for key in &self.keys {
            let place = (name, key.clone());
            let is_suspect = node.is_suspect(&key.key);
            if self.durable.contains(&place) && !is_suspect && !self.seen.contains(&place) {
                return Err(format!("R6: {name} forgot over a restart that {:?} is suspect there", key.key));
            }
            if is_suspect && self.seen.insert(place.clone()) {
                self.brought.remove(&place);
            }
            if !is_suspect && self.seen.remove(&place) {
                let sources = self.brought.remove(&place).unwrap_or_default();
                let needed = majority(self.table.replicas(key.slot).len());
                if sources.len() < needed {
                    let from = sources.len();
                    return Err(format!(
                        "R6: {name} was healed on {:?} by {from} of {needed} sources",
                        key.key
                    ));
                }
            }
            if is_suspect && node.is_suspect_for_ever(&key.key) {
                self.durable.insert(place);
            } else {
                self.durable.remove(&place);
            }
        }
        Ok(())
    }

    /// Whether there is anything to be looked for at a node.
    pub fn concerns(&self, name: NodeId) -> bool {
        let least = RecordKey::start_of(Slot(0));
        let of_node = (name, least.clone())..(NodeId(name.0 + 1), least);
        self.seen.range(of_node.clone()).next().is_some() || self.durable.range(of_node).next().is_some()
    }
}
