//! Invariants watched after every event (PROTOCOL section 9), from what enters and leaves a node.

use bytes::Bytes;
use samara_core::base::{NodeId, Record, RequestId, Stamp};
use samara_core::wire::{Answer, Envelope, Message};
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
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
    /// (b) The highest ballot that a node has acknowledged for a key: it never falls, crashes included.
    acked: BTreeMap<(NodeId, Bytes), Stamp>,
    /// The highest ballot that a node has shown: a lower one may be acknowledged as superseded.
    shown: BTreeMap<(NodeId, Bytes), Stamp>,
    /// (c) The highest promise of a node in its present life.
    promised: BTreeMap<(NodeId, Bytes), Stamp>,
}

#[derive(Debug, Clone)]
struct Asked {
    key: Bytes,
    ballot: Stamp,
    next: Stamp,
    repair: bool,
    /// The ballot held when the request came, where that was in memory.
    held: Option<Stamp>,
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
    /// The versions at which `value` was seen in a record of `key`.
    pub fn locate(&self, key: &[u8], value: &[u8]) -> Vec<Stamp> {
        let place = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        self.located.get(&place).cloned().unwrap_or_default()
    }

    /// A node starts anew: its promises are floors from now on.
    pub fn on_crash(&mut self, node: NodeId) {
        self.promised.retain(|(held, _), _| *held != node);
        self.asked.retain(|(held, _, _), _| *held != node);
    }

    /// A message is delivered to `node`.
    pub fn on_delivery(&mut self, node: NodeId, envelope: &Envelope, peek: impl Fn(&Bytes) -> Option<Stamp>) {
        let (key, request, ballot, next, repair) = match &envelope.body {
            Message::Accept { request, key, record, next } => (key, request, record.ballot, *next, false),
            Message::Weak { request, key, record } => (key, request, record.ballot, Stamp::ZERO, false),
            Message::Repair { request, key, record, .. } => (key, request, record.ballot, Stamp::ZERO, true),
            Message::Prepare { request, key, ballot } => (key, request, *ballot, Stamp::ZERO, false),
            Message::Query { request, key, .. } => (key, request, Stamp::ZERO, Stamp::ZERO, false),
            _ => return,
        };
        let asked = Asked { key: key.clone(), ballot, next, repair, held: peek(key) };
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
            Message::Answer { request, answer } => match self.asked.get(&(node, to, *request)).cloned() {
                Some(asked) => self.on_answer(node, &asked, answer),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn on_record(&mut self, key: &Bytes, record: &Record) -> Result<(), String> {
        let digest = digest(record);
        let held = match self.records.entry((key.clone(), record.ballot)) {
            Entry::Occupied(held) => *held.get(),
            Entry::Vacant(place) => {
                place.insert(digest);
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
            Answer::Accepted { next_granted } => {
                let acked = self.acked.get(&place).copied().unwrap_or_default();
                let promised = self.promised.get(&place).copied().unwrap_or_default();
                let held = self.shown.get(&place).copied().unwrap_or_default().max(acked);
                let under = asked.held.is_some_and(|held| held < asked.ballot);
                if under && asked.ballot < promised && asked.ballot > held && !asked.repair {
                    return Err(format!(
                        "R2: {node} acknowledged ballot {} of {:?} under its promise {promised}",
                        asked.ballot, asked.key
                    ));
                }
                self.acked.insert(place.clone(), acked.max(asked.ballot));
                if *next_granted {
                    self.promised.insert(place, promised.max(asked.next));
                }
                Ok(())
            }
            Answer::Promise { ballot, accepted } => {
                let shown = accepted.as_ref().map_or(Stamp::ZERO, |record| record.ballot);
                self.on_shown(node, asked, shown)?;
                let promised = self.promised.entry(place).or_default();
                *promised = (*promised).max(*ballot);
                accepted.as_ref().map_or(Ok(()), |record| self.on_record(&asked.key, record))
            }
            Answer::Found { ballot, record } => {
                self.on_shown(node, asked, *ballot)?;
                record.as_ref().map_or(Ok(()), |record| self.on_record(&asked.key, record))
            }
            _ => Ok(()),
        }
    }

    /// (b) What a node shows is at least what it has acknowledged.
    fn on_shown(&mut self, node: NodeId, asked: &Asked, shown: Stamp) -> Result<(), String> {
        let held = self.shown.entry((node, asked.key.clone())).or_default();
        *held = (*held).max(shown);
        match self.acked.get(&(node, asked.key.clone())) {
            Some(acked) if shown < *acked => {
                Err(format!("{node} acknowledged ballot {acked} of {:?} and now shows {shown}", asked.key))
            }
            _ => Ok(()),
        }
    }
}
