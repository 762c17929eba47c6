//! Invariants watched after every event (PROTOCOL section 9), from what enters and leaves a node.

use bytes::Bytes;
use samara_core::base::limits::MAX_DRIFT_MS;
use samara_core::base::{Config, Hlc, NodeId, OpId, Outcome, Record, RequestId, Stamp, StartNumber};
use samara_core::rules::ring::SlotTable;
use samara_core::rules::slots::slot_of;
use samara_core::wire::{Answer, Envelope, ForwardResult, Message};
use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What has been promised and acknowledged, by node and key.
#[derive(Debug)]
pub struct Monitor {
    /// (a) One record per (key, ballot), the same wherever it is.
    records: HashMap<(Bytes, Stamp), u64>,
    /// The versions at which a value stood in a record, by key and the last value appended.
    located: HashMap<(Bytes, Bytes), Vec<Stamp>>,
    /// Requests that a node has got: what an acknowledgement of them means.
    asked: HashMap<(NodeId, NodeId, RequestId), Asked>,
    /// (b) The highest ballot that a node has acknowledged or shown for a key: what it holds never falls, crashes included.
    shown: BTreeMap<(NodeId, Bytes), Stamp>,
    /// Who has shown a record: a node that sees a majority show it knows it to be chosen, and tells itself so unseen.
    holders: HashMap<(Bytes, Stamp), Vec<NodeId>>,
    /// (c) The highest promise of a node, in this life or an earlier one.
    promised: BTreeMap<(NodeId, Bytes), Stamp>,
    /// The operations in the past of a record, with the ballots at which they were applied.
    pasts: HashMap<(Bytes, Stamp), Vec<(OpId, Stamp)>>,
    /// The last value in a record.
    values: HashMap<(Bytes, Stamp), Bytes>,
    /// Nodes that have acknowledged an accept.
    acks: HashMap<(Bytes, Stamp), Vec<NodeId>>,
    /// (d) The ballot at which an operation was applied, in a chain of chosen records.
    applied: HashMap<(Bytes, OpId), Stamp>,
    /// Operations that a node has proposed a record for.
    proposed: HashSet<(NodeId, OpId)>,
    /// Keys on which a round has begun: from then on, an eventual write may be superseded by what could not see it.
    rounds: HashSet<Bytes>,
    /// How many acknowledgements choose a record.
    majority: usize,
    /// Who holds what.
    table: SlotTable,
    /// (e) Requests that came from another life of a peer than the one that the node takes for the present one.
    stale: HashSet<(NodeId, NodeId, RequestId)>,
    /// (f) The highest clock that a node has sent.
    clocks: HashMap<NodeId, Hlc>,
    /// (g) Who has promised a ballot, by R1 or as the `next` of R2.
    promisers: HashMap<(Bytes, Stamp), Vec<NodeId>>,
    /// (h) The values in chosen records, and those that a client was told were not written.
    chosen: HashSet<(Bytes, Bytes)>,
    denied: HashSet<(Bytes, Bytes)>,
    /// (j) Versions whose values expire.
    expiring: HashSet<(Bytes, Stamp)>,
    /// The highest version of a key that anybody has proposed, and the versions that have become tombstones.
    newest: HashMap<Bytes, Stamp>,
    ended: HashSet<(Bytes, Stamp)>,
    /// (i) Hints that a fallback node has acknowledged: the replica, the key and the ballot.
    hints: BTreeMap<(NodeId, Bytes), Stamp>,
}

#[derive(Debug, Clone)]
struct Asked {
    key: Bytes,
    ballot: Stamp,
    next: Stamp,
    kind: Kind,
    /// The node's promise when the request came.
    promised: Stamp,
    /// The highest ballot that the node had shown or acknowledged when the request came.
    shown: Stamp,
    /// The ballot held when the request came, where that was in memory.
    held: Option<Stamp>,
    /// It has been answered: a copy that comes later meets another state.
    answered: bool,
    /// R6: the node had no vote on the key when the request came.
    suspect: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Accept,
    Weak,
    /// R5, of a record that the sender did not know to be chosen.
    Repair,
    /// R5, of a chosen record: taken under any promise.
    Chosen,
    Prepare,
    /// W2: of a record for the replica named.
    Hint(NodeId),
    /// Of an operation, to its preferred coordinator.
    Forward(OpId),
    Query,
    /// W2: to a node that is no replica, and shows its hint.
    HintQuery,
}

/// Whether an answer counts for a majority of the strong kind: R1, R2, R3.
fn is_vote(asked: &Asked, answer: &Answer) -> bool {
    match answer {
        Answer::Promise { .. } | Answer::Found { .. } => true,
        Answer::Accepted { .. } => asked.kind == Kind::Accept,
        _ => false,
    }
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

fn denied_and_chosen((key, value): &(Bytes, Bytes)) -> String {
    format!("C4: a client was told that {value:?} was not written to {key:?}, and it was chosen")
}

/// C10: every ballot of an operation is above its id. C3: no operation is in a record's past twice. And the increments of a counter, which sees nothing else, each count
/// once: of those that its record remembers every sum is one more than the one before, and the last is its value.
fn check_past(key: &Bytes, record: &Record) -> Result<(), String> {
    if let Some(applied) = record.recent.iter().find(|applied| applied.op_id.stamp > applied.stamp) {
        return Err(format!(
            "C10: {:?} of {key:?} was applied at {}, below its id",
            applied.op_id, applied.stamp
        ));
    }
    let mut ids: Vec<OpId> = record.recent.iter().map(|applied| applied.op_id).collect();
    ids.sort_unstable();
    if let Some([twice, ..]) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("C3: a record of {key:?} at {} was made by {:?} twice", record.ballot, twice));
    }
    if !key.starts_with(b"counter") {
        return Ok(());
    }
    let sum = |outcome: &Outcome| match outcome {
        Outcome::Integer(sum) => Some(*sum),
        _ => None,
    };
    let sums: Vec<i64> = record.recent.iter().filter_map(|applied| sum(&applied.outcome)).collect();
    let value = record.value.as_ref().and_then(|value| std::str::from_utf8(value).ok()?.parse::<i64>().ok());
    if sums.windows(2).all(|pair| pair[1] == pair[0] + 1) && sums.last().copied().or(value) == value {
        return Ok(());
    }
    Err(format!("C3: {key:?} holds {value:?} after increments to {sums:?}"))
}

/// The last of the values that a record's value is made of: each client's value begins with a `v`.
fn last_value(value: &Bytes) -> Bytes {
    let start = value.iter().rposition(|byte| *byte == b'v').unwrap_or(0);
    value.slice(start..)
}

impl Monitor {
    /// A monitor of a cluster.
    pub fn new(config: &Config) -> Self {
        let replicas = usize::from(config.replication).min(config.members.len());
        Self {
            majority: replicas / 2 + 1,
            table: SlotTable::new(config),
            records: HashMap::new(),
            located: HashMap::new(),
            asked: HashMap::new(),
            shown: BTreeMap::new(),
            holders: HashMap::new(),
            promised: BTreeMap::new(),
            pasts: HashMap::new(),
            values: HashMap::new(),
            acks: HashMap::new(),
            applied: HashMap::new(),
            proposed: HashSet::new(),
            rounds: HashSet::new(),
            stale: HashSet::new(),
            clocks: HashMap::new(),
            promisers: HashMap::new(),
            chosen: HashSet::new(),
            denied: HashSet::new(),
            expiring: HashSet::new(),
            newest: HashMap::new(),
            ended: HashSet::new(),
            hints: BTreeMap::new(),
        }
    }

    /// T1: a strong read of `key` was answered that `version` is no more. Where that is a value whose time has come, a tombstone
    /// of it has been proposed, or something newer.
    pub fn on_absent(&self, key: &[u8], version: Stamp) -> Result<(), String> {
        let place = (Bytes::copy_from_slice(key), version);
        let is_newer = self.newest.get(&place.0).is_some_and(|newest| *newest > version);
        if !self.expiring.contains(&place) || self.ended.contains(&place) || is_newer {
            return Ok(());
        }
        Err(format!("T1: {:?} at {version} was answered as expired, and no tombstone was proposed", place.0))
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
        self.stale.retain(|(held, _, _)| *held != node);
    }

    /// A message has moved the clock of `node` from `before` to `after`, while its wall clock stands at `wall_ms` (S2).
    pub fn on_clock(node: NodeId, before: Hlc, after: Hlc, wall_ms: u64) -> Result<(), String> {
        // Stamps issued meanwhile count on from what there was.
        if after.ms() > before.ms() + 1 && after.ms() > wall_ms + MAX_DRIFT_MS {
            return Err(format!(
                "S2: {node} let a message move its clock to {} ms, which is more than {MAX_DRIFT_MS} ms ahead of {wall_ms} ms",
                after.ms()
            ));
        }
        Ok(())
    }

    /// A client was told that its conditional write of `value` did not happen (C3, C4).
    pub fn on_denied(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let place = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        let result = if self.chosen.contains(&place) { Err(denied_and_chosen(&place)) } else { Ok(()) };
        self.denied.insert(place);
        result
    }

    /// W2, W3: with no hint left anywhere, every hint that was acknowledged has reached its replica, unless a round has settled
    /// the key since.
    pub fn hints_arrived(&self) -> Result<(), String> {
        let lost = self.hints.iter().find(|((target, key), ballot)| {
            let held = self.shown.get(&(*target, key.clone())).copied().unwrap_or_default();
            held < **ballot && !self.rounds.contains(key)
        });
        match lost {
            None => Ok(()),
            Some(((target, key), ballot)) => Err(format!(
                "W3: a hint of {key:?} at {ballot} for {target} was acknowledged and never delivered"
            )),
        }
    }

    /// R6: the node may have lost what it held of these keys. It has no vote on them until it has been healed, and may show
    /// less from then on.
    pub fn on_suspect(&mut self, node: NodeId, is_suspect: impl Fn(&Bytes) -> bool) {
        let of_node = (node, Bytes::new())..(NodeId(node.0 + 1), Bytes::new());
        for ((_, key), shown) in self.shown.range_mut(of_node) {
            if is_suspect(key) {
                *shown = Stamp::ZERO;
            }
        }
    }

    /// A message is delivered to `node`, for which `present` is the present life of its sender.
    pub fn on_delivery(
        &mut self,
        node: NodeId,
        envelope: &Envelope,
        present: StartNumber,
        peek: impl Fn(&Bytes) -> Option<Stamp>,
        is_suspect: impl Fn(&Bytes) -> bool,
    ) {
        let from = envelope.from.node;
        if let Some(request) = envelope.body.request_id().map(|request| (node, from, request)) {
            if envelope.start != present {
                // A copy that came in time may still be answered.
                if !self.asked.contains_key(&request) {
                    self.stale.insert(request);
                }
                return;
            }
            self.stale.remove(&request);
        }
        let (key, request, ballot, next, kind) = match &envelope.body {
            Message::Accept { request, key, record, next } => {
                (key, request, record.ballot, *next, Kind::Accept)
            }
            Message::Weak { request, key, record } => (key, request, record.ballot, Stamp::ZERO, Kind::Weak),
            Message::Repair { request, key, record, chosen } => {
                let kind = if *chosen { Kind::Chosen } else { Kind::Repair };
                (key, request, record.ballot, Stamp::ZERO, kind)
            }
            Message::Prepare { request, key, ballot } => (key, request, *ballot, Stamp::ZERO, Kind::Prepare),
            Message::Query { request, key, .. } => {
                let holds = self.table.replicas(slot_of(key)).contains(&node);
                let kind = if holds { Kind::Query } else { Kind::HintQuery };
                (key, request, Stamp::ZERO, Stamp::ZERO, kind)
            }
            Message::Forward { request, key, op_id, .. } => {
                (key, request, Stamp::ZERO, Stamp::ZERO, Kind::Forward(*op_id))
            }
            Message::Hint { request, target, key, record } => {
                (key, request, record.ballot, Stamp::ZERO, Kind::Hint(*target))
            }
            _ => return,
        };
        let place = (node, key.clone());
        let promised = self.promised.get(&place).copied().unwrap_or_default();
        let shown = self.shown.get(&place).copied().unwrap_or_default();
        let (key, held, suspect, answered) = (key.clone(), peek(key), is_suspect(key), false);
        let asked = Asked { key, ballot, next, kind, promised, shown, held, answered, suspect };
        let place = self.asked.entry((node, from, *request));
        place
            .and_modify(|first| {
                if first.answered {
                    *first = asked.clone();
                }
            })
            .or_insert(asked);
    }

    /// `node` sends a message; `ceiling` is its durable ceiling.
    pub fn on_send(
        &mut self,
        node: NodeId,
        to: NodeId,
        envelope: &Envelope,
        ceiling: Stamp,
        is_suspect: impl Fn(&Bytes) -> bool,
    ) -> Result<(), String> {
        if Stamp::upto(envelope.hlc) > ceiling {
            return Err(format!(
                "S3: {node} sent a clock of {} above its ceiling {ceiling}",
                envelope.hlc.ms()
            ));
        }
        let clock = self.clocks.entry(node).or_default();
        if envelope.hlc < *clock {
            return Err(format!(
                "S4: the clock of {node} fell from {} to {} ms",
                clock.ms(),
                envelope.hlc.ms()
            ));
        }
        *clock = envelope.hlc;
        if let Message::Accept { key, record, .. } = &envelope.body {
            self.on_proposal(node, key, record.ballot)?;
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
            Message::Answer { request, .. } if self.stale.contains(&(node, to, *request)) => {
                Err(format!("S5: {node} answered a request of {to} from another start than its present one"))
            }
            Message::Answer { request, answer } => {
                let Some(asked) = self.asked.get_mut(&(node, to, *request)) else {
                    return Ok(());
                };
                asked.answered = true;
                let asked = asked.clone();
                if asked.suspect && is_vote(&asked, answer) && is_suspect(&asked.key) {
                    return Err(format!("R6: {node} voted on {:?}, which is suspect there", asked.key));
                }
                self.on_answer(node, &asked, answer)
            }
            _ => Ok(()),
        }
    }

    /// C1, C6: whoever proposes holds promises of a majority. Its own is not seen here: it never leaves the node.
    fn on_proposal(&self, node: NodeId, key: &Bytes, ballot: Stamp) -> Result<(), String> {
        let promisers = self.promisers.get(&(key.clone(), ballot)).map_or(0, Vec::len);
        if promisers + 1 >= self.majority {
            return Ok(());
        }
        Err(format!("C1: {node} proposed {ballot} for {key:?} with {promisers} promises of other nodes"))
    }

    fn on_promise(&mut self, node: NodeId, key: &Bytes, ballot: Stamp) {
        let promisers = self.promisers.entry((key.clone(), ballot)).or_default();
        if !promisers.contains(&node) {
            promisers.push(node);
        }
        let promised = self.promised.entry((node, key.clone())).or_default();
        *promised = (*promised).max(ballot);
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
                check_past(key, record)?;
                self.note_expiry(key, record);
                let made = record.recent.iter().filter(|applied| applied.stamp == record.ballot);
                self.proposed.extend(made.map(|applied| (record.ballot.node, applied.op_id)));
                let past = record.recent.iter().map(|applied| (applied.op_id, applied.stamp)).collect();
                self.pasts.insert((key.clone(), record.ballot), past);
                if let Some(value) = record.value.as_ref().map(last_value) {
                    self.values.insert((key.clone(), record.ballot), value.clone());
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

    fn note_expiry(&mut self, key: &Bytes, record: &Record) {
        let newest = self.newest.entry(key.clone()).or_default();
        *newest = (*newest).max(record.written);
        match &record.value {
            Some(_) if record.expires_at != 0 => self.expiring.insert((key.clone(), record.written)),
            Some(_) => false,
            None => self.ended.insert((key.clone(), record.written)),
        };
    }

    fn on_answer(&mut self, node: NodeId, asked: &Asked, answer: &Answer) -> Result<(), String> {
        match answer {
            Answer::Accepted { .. } if let Kind::Hint(target) = asked.kind => {
                let hint = self.hints.entry((target, asked.key.clone())).or_default();
                *hint = (*hint).max(asked.ballot);
                Ok(())
            }
            Answer::Accepted { next_granted } => self.on_accepted(node, asked, *next_granted),
            Answer::Forwarded(ForwardResult::NotRun) => match asked.kind {
                Kind::Forward(op_id) if self.proposed.contains(&(node, op_id)) => {
                    Err(format!("C3: {node} says of {op_id:?} that it was never run, and has proposed it"))
                }
                _ => Ok(()),
            },
            Answer::Promise { ballot, accepted } => {
                self.on_shown(node, asked, Stamp::ZERO, accepted.as_ref())?;
                if *ballot <= asked.promised.max(asked.shown) {
                    let stood = asked.promised.max(asked.shown);
                    return Err(format!(
                        "R1: {node} promised {ballot} of {:?} although {stood} stood",
                        asked.key
                    ));
                }
                self.on_promise(node, &asked.key, *ballot);
                accepted.as_ref().map_or(Ok(()), |record| self.on_record(&asked.key, record))
            }
            Answer::Found { ballot, record } => {
                if asked.kind == Kind::Query {
                    self.on_shown(node, asked, *ballot, record.as_ref())?;
                }
                record.as_ref().map_or(Ok(()), |record| self.on_record(&asked.key, record))
            }
            _ => Ok(()),
        }
    }

    /// R2, R4, R5: nothing is taken under a promise but what is known to be chosen, and a promise is granted only where
    /// no higher one stands.
    fn on_accepted(&mut self, node: NodeId, asked: &Asked, next_granted: bool) -> Result<(), String> {
        let place = (node, asked.key.clone());
        // R2: what has been accepted above is never acknowledged from below.
        let above = asked.held.unwrap_or_default().max(asked.shown);
        if asked.kind == Kind::Accept && above > asked.ballot {
            return Err(format!(
                "R2: {node} acknowledged ballot {} of {:?} under its accepted {above}",
                asked.ballot, asked.key
            ));
        }
        let held = asked.held.is_some_and(|held| held < asked.ballot);
        let known = self.shown.get(&place).copied().unwrap_or_default();
        let bound = matches!(asked.kind, Kind::Accept | Kind::Weak | Kind::Repair);
        let place_of_record = (asked.key.clone(), asked.ballot);
        let chosen = asked.kind == Kind::Repair
            && self.holders.get(&place_of_record).is_some_and(|holders| holders.len() >= self.majority);
        if held && known < asked.ballot && asked.ballot < asked.promised && bound && !chosen {
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
        let shown = self.shown.entry(place).or_default();
        *shown = (*shown).max(asked.ballot);
        if next_granted {
            self.on_promise(node, &asked.key, asked.next);
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
        if let Some(value) = self.values.get(&place) {
            let value = (asked.key.clone(), value.clone());
            if self.denied.contains(&value) {
                return Err(denied_and_chosen(&value));
            }
            self.chosen.insert(value);
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
        let holders = self.holders.entry((asked.key.clone(), shown)).or_default();
        if !holders.contains(&node) {
            holders.push(node);
        }
        let held = self.shown.entry((node, asked.key.clone())).or_default();
        if shown < *held {
            return Err(format!("{node} held ballot {held} of {:?} and now shows {shown}", asked.key));
        }
        *held = shown;
        Ok(())
    }
}
