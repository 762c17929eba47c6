//! Invariants watched after every event (PROTOCOL section 9), from what enters and leaves a node.

use bytes::Bytes;
use samara_core::base::{NodeId, OpId, Record, RequestId, Stamp};
use samara_core::wire::{Answer, Envelope, Message};
use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What has been promised and acknowledged, by node and key.
#[derive(Debug, Default)]
pub struct Monitor {
    /// (a) One record per (key, ballot), the same wherever it is.
    records: HashMap<(Bytes, Stamp), u64>,
    /// The versions at which a value stood in a record, by key and the last value appended.
    located: HashMap<(Bytes, Bytes), Vec<Stamp>>,
    /// Requests that a node has got: what an acknowledgement of them means.
    asked: HashMap<(NodeId, NodeId, RequestId), Asked>,
    /// (b) The highest ballot that a node has acknowledged or shown for a key: what it holds never falls, crashes included.
    shown: BTreeMap<(NodeId, Bytes), Stamp>,
    /// (c) The highest promise of a node, in this life or an earlier one.
    promised: BTreeMap<(NodeId, Bytes), Stamp>,
    /// The operations in the past of a record, with the ballots at which they were applied.
    pasts: HashMap<(Bytes, Stamp), Vec<(OpId, Stamp)>>,
    /// Nodes that have acknowledged an accept.
    acks: HashMap<(Bytes, Stamp), Vec<NodeId>>,
    /// (d) The ballot at which an operation was applied, in a chain of chosen records.
    applied: HashMap<(Bytes, OpId), Stamp>,
    /// Keys on which a round has begun: from then on, an eventual write may be superseded by what could not see it.
    rounds: HashSet<Bytes>,
    /// How many acknowledgements choose a record.
    majority: usize,
}

#[derive(Debug, Clone)]
struct Asked {
    key: Bytes,
    ballot: Stamp,
    next: Stamp,
    kind: Kind,
    /// The node's promise when the request came.
    promised: Stamp,
    /// The ballot held when the request came, where that was in memory.
    held: Option<Stamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Accept,
    Weak,
    /// R5, of a record that the sender did not know to be chosen.
    Repair,
    /// R5, of a chosen record: taken under any promise.
    Chosen,
    Other,
}

fn digest(record: &Record) -> u64 {
    let mut hasher = DefaultHasher::new();
    record.written.hash(&mut hasher);
    record.value.hash(&mut hasher);
    record.expires_at.hash(&mut hasher);
    record.evicted_upto.hash(&mut hasher);
    record.recent.len().hash(&mut hasher);
    for applied in &record.recent {
        applied.op_id.hash(&mut hasher);
    }
    hasher.finish()
}

/// The last of the values that a record's value is made of: each client's value begins with a `v`.
fn last_value(value: &Bytes) -> Bytes {
    let start = value.iter().rposition(|byte| *byte == b'v').unwrap_or(0);
    value.slice(start..)
}

impl Monitor {
    /// A monitor of keys with so many replicas.
    pub fn new(replication: u8) -> Self {
        Self { majority: usize::from(replication) / 2 + 1, ..Self::default() }
    }

    /// Whether a round has been begun on `key`, be it only to settle it.
    pub fn saw_a_round(&self, key: &Bytes) -> bool {
        self.rounds.contains(key)
    }

    /// The versions at which `value` was seen in a record of `key`.
    pub fn locate(&self, key: &[u8], value: &[u8]) -> Vec<Stamp> {
        let place = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        self.located.get(&place).cloned().unwrap_or_default()
    }

    /// A node starts anew. What it has promised stays: S4 makes the ceiling, which is above it, the floor.
    pub fn on_crash(&mut self, node: NodeId) {
        self.asked.retain(|(held, _, _), _| *held != node);
    }

    /// A message is delivered to `node`.
    pub fn on_delivery(&mut self, node: NodeId, envelope: &Envelope, peek: impl Fn(&Bytes) -> Option<Stamp>) {
        let (key, request, ballot, next, kind) = match &envelope.body {
            Message::Accept { request, key, record, next } => {
                (key, request, record.ballot, *next, Kind::Accept)
            }
            Message::Weak { request, key, record } => (key, request, record.ballot, Stamp::ZERO, Kind::Weak),
            Message::Repair { request, key, record, chosen } => {
                let kind = if *chosen { Kind::Chosen } else { Kind::Repair };
                (key, request, record.ballot, Stamp::ZERO, kind)
            }
            Message::Prepare { request, key, ballot } => (key, request, *ballot, Stamp::ZERO, Kind::Other),
            Message::Query { request, key, .. } => (key, request, Stamp::ZERO, Stamp::ZERO, Kind::Other),
            _ => return,
        };
        let promised = self.promised.get(&(node, key.clone())).copied().unwrap_or_default();
        let asked = Asked { key: key.clone(), ballot, next, kind, promised, held: peek(key) };
        self.asked.insert((node, envelope.from.node, *request), asked);
    }

    /// `node` sends a message; `ceiling` is its durable ceiling.
    pub fn on_send(
        &mut self,
        node: NodeId,
        to: NodeId,
        envelope: &Envelope,
        ceiling: Stamp,
    ) -> Result<(), String> {
        if Stamp::upto(envelope.hlc) > ceiling {
            return Err(format!(
                "S3: {node} sent a clock of {} above its ceiling {ceiling}",
                envelope.hlc.ms()
            ));
        }
        match &envelope.body {
            Message::Accept { key, record, .. }
            | Message::Weak { key, record, .. }
            | Message::Repair { key, record, .. } => {
                self.on_record(key, record)?;
                if record.ballot.hlc > envelope.hlc {
                    return Err(format!("S2: {node} sent the ballot {} above its own clock", record.ballot));
                }
                Ok(())
            }
            Message::Prepare { key, .. } => {
                self.rounds.insert(key.clone());
                Ok(())
            }
            Message::Answer { request, answer } => match self.asked.get(&(node, to, *request)).cloned() {
                Some(asked) => self.on_answer(node, &asked, answer),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn on_record(&mut self, key: &Bytes, record: &Record) -> Result<(), String> {
        if record.ballot == Stamp::ZERO {
            // G2: nothing is held; the watermark that is told instead differs from replica to replica.
            return Ok(());
        }
        let digest = digest(record);
        let held = match self.records.entry((key.clone(), record.ballot)) {
            Entry::Occupied(held) => *held.get(),
            Entry::Vacant(place) => {
                place.insert(digest);
                let past = record.recent.iter().map(|applied| (applied.op_id, applied.stamp)).collect();
                self.pasts.insert((key.clone(), record.ballot), past);
                if let Some(value) = record.value.as_ref().map(last_value) {
                    let versions = self.located.entry((key.clone(), value)).or_default();
                    if let Err(place) = versions.binary_search(&record.written) {
                        versions.insert(place, record.written);
                    }
                }
                digest
            }
        };
        if held == digest {
            return Ok(());
        }
        Err(format!("two different records of {key:?} at ballot {}", record.ballot))
    }

    fn on_answer(&mut self, node: NodeId, asked: &Asked, answer: &Answer) -> Result<(), String> {
        let place = (node, asked.key.clone());
        match answer {
            Answer::Accepted { next_granted } => self.on_accepted(node, asked, *next_granted),
            Answer::Promise { ballot, accepted } => {
                self.on_shown(node, asked, Stamp::ZERO, accepted.as_ref())?;
                let promised = self.promised.entry(place).or_default();
                *promised = (*promised).max(*ballot);
                accepted.as_ref().map_or(Ok(()), |record| self.on_record(&asked.key, record))
            }
            Answer::Found { ballot, record } => {
                self.on_shown(node, asked, *ballot, record.as_ref())?;
                record.as_ref().map_or(Ok(()), |record| self.on_record(&asked.key, record))
            }
            _ => Ok(()),
        }
    }

    /// R2, R4, R5: nothing is taken under a promise but what is known to be chosen, and a promise is granted only where
    /// no higher one stands.
    fn on_accepted(&mut self, node: NodeId, asked: &Asked, next_granted: bool) -> Result<(), String> {
        let place = (node, asked.key.clone());
        let held = asked.held.is_some_and(|held| held < asked.ballot);
        let known = self.shown.get(&place).copied().unwrap_or_default();
        let bound = matches!(asked.kind, Kind::Accept | Kind::Weak | Kind::Repair);
        if held && known < asked.ballot && asked.ballot < asked.promised && bound {
            return Err(format!(
                "{:?}: {node} acknowledged ballot {} of {:?} under its promise {}",
                asked.kind, asked.ballot, asked.key, asked.promised
            ));
        }
        // R5: what is below the accepted record under a higher promise is refused, not dropped.
        let other = asked.held.is_some_and(|held| held > asked.ballot);
        if asked.kind == Kind::Repair && other && asked.ballot < asked.promised {
            return Err(format!(
                "R5: {node} acknowledged a repair of {:?} at {} which it did not take, under its promise {}",
                asked.key, asked.ballot, asked.promised
            ));
        }
        if next_granted && asked.promised > asked.next {
            return Err(format!(
                "R2: {node} granted {} of {:?} under its promise {}",
                asked.next, asked.key, asked.promised
            ));
        }
        let shown = self.shown.entry(place.clone()).or_default();
        *shown = (*shown).max(asked.ballot);
        if next_granted {
            let promised = self.promised.entry(place).or_default();
            *promised = (*promised).max(asked.next);
        }
        if asked.kind == Kind::Accept { self.on_vote(node, asked) } else { Ok(()) }
    }

    /// (d) An operation takes effect once in the chain of chosen records.
    fn on_vote(&mut self, node: NodeId, asked: &Asked) -> Result<(), String> {
        let place = (asked.key.clone(), asked.ballot);
        let votes = self.acks.entry(place.clone()).or_default();
        if votes.contains(&node) {
            return Ok(());
        }
        votes.push(node);
        if votes.len() != self.majority {
            return Ok(());
        }
        for (op_id, stamp) in self.pasts.get(&place).into_iter().flatten() {
            let first = *self.applied.entry((asked.key.clone(), *op_id)).or_insert(*stamp);
            if first != *stamp {
                return Err(format!(
                    "C3: {op_id:?} of {:?} was applied at {first} and again at {stamp}, both chosen",
                    asked.key
                ));
            }
        }
        Ok(())
    }

    /// (b) What a node shows or has acknowledged is there for ever, crashes included; or it is gone below a watermark, which
    /// the node tells (G2).
    fn on_shown(
        &mut self,
        node: NodeId,
        asked: &Asked,
        ballot: Stamp,
        record: Option<&Record>,
    ) -> Result<(), String> {
        let shown = match record {
            Some(record) if record.ballot == Stamp::ZERO => record.evicted_upto,
            Some(record) => record.ballot,
            None => ballot,
        };
        let held = self.shown.entry((node, asked.key.clone())).or_default();
        if shown < *held {
            return Err(format!("{node} held ballot {held} of {:?} and now shows {shown}", asked.key));
        }
        *held = shown;
        Ok(())
    }
}
