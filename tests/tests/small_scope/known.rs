//! Machines, messages and what clients saw, numbered: equal ones once. So each machine runs once for each of its states and
//! each thing that can happen to it, by the real code, and a state of the world is a few numbers.

use crate::clients::{Ask, Clients};
use crate::machines::{CoordMachine, Ground, Packet, ReplicaMachine, Said};
use samara_check::linearizability::Verdict;
use samara_core::base::{Body, Counters, Hlc, Level, NodeId, Record, Reply, Request, Stamp};
use samara_core::io::Tag;
use samara_core::wire::{Answer, Message};
use std::collections::{BTreeSet, HashMap};

/// An invariant that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    TwoRecords,
    ChosenLost,
    ReadUnkept,
    Fell,
}

/// What happens to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AtReplica {
    Message(u16),
    Crash,
    Evict,
}

/// What happens to a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AtCoord {
    Message(u16),
    /// A client's operation, by its tag.
    Ask(Tag),
    Tick,
    Crash,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    pub machine: u32,
    pub sent: Vec<u16>,
    pub replies: Vec<(Tag, Reply)>,
    pub fell: bool,
}

/// Equal things have one number.
struct Numbered<T> {
    items: Vec<T>,
    numbers: HashMap<String, u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { items: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T> Numbered<T> {
    fn number(&mut self, description: String, item: impl FnOnce() -> T) -> u32 {
        *self.numbers.entry(description).or_insert_with(|| {
            self.items.push(item());
            self.items.len() as u32 - 1
        })
    }
}

/// Everything that has a number, and what is known of it.
#[derive(Default)]
pub struct Known {
    replicas: Numbered<ReplicaMachine>,
    coords: Numbered<CoordMachine>,
    clients: Numbered<(Clients, bool)>,
    packets: Numbered<Packet>,
    records: Numbered<Record>,
    of_replicas: HashMap<(u32, AtReplica), Effect>,
    of_coords: HashMap<(u32, AtCoord), Effect>,
    renamed: HashMap<(u16, [u16; 3]), u16>,
    /// What the machines have counted.
    pub counted: BTreeSet<&'static str>,
}

fn count(counted: &mut BTreeSet<&'static str>, counters: &Counters) {
    counted.extend(counters.iter().filter(|(_, value)| *value > 0).map(|(name, _)| name));
}

/// Whether whoever made `later` knew of every operation in `earlier`, or knew that it may have been superseded unseen.
fn covers(later: &Record, earlier: &Record) -> bool {
    earlier.recent.iter().all(|applied| {
        let is_known = later.recent.iter().any(|known| known.op_id == applied.op_id);
        is_known || later.evicted_upto >= applied.op_id.stamp
    })
}

/// Whether a message is for a coordinator, and not for a replica.
pub fn is_for_coord(body: &Message) -> bool {
    matches!(body, Message::Answer { .. } | Message::Forward { .. })
}

/// Whether a message comes from a replica.
fn is_of_replica(body: &Message) -> bool {
    matches!(body, Message::Answer { answer, .. } if !matches!(answer, Answer::Forwarded(_) ))
}

impl Known {
    /// How many distinct states the replicas, the coordinators and the clients have, and how many messages there are.
    pub fn sizes(&self) -> [usize; 4] {
        [
            self.replicas.items.len(),
            self.coords.items.len(),
            self.clients.items.len(),
            self.packets.items.len(),
        ]
    }

    pub fn packet(&self, packet: u16) -> &Packet {
        &self.packets.items[usize::from(packet)]
    }

    /// The message in words.
    pub fn words(&self, packet: u16) -> String {
        let Packet { from, to, body } = self.packet(packet);
        format!("{from} -> {to}: {body:?}")
    }

    /// Whether it is a replica's answer.
    pub fn is_of_replica(&self, packet: u16) -> bool {
        is_of_replica(&self.packet(packet).body)
    }

    pub fn clients(&self, clients: u32) -> &Clients {
        &self.clients.items[clients as usize].0
    }

    /// Whether what they saw is linearizable.
    pub fn is_linearizable(&self, clients: u32) -> bool {
        self.clients.items[clients as usize].1
    }

    pub fn number_clients(&mut self, programs: &[Vec<Ask>], clients: Clients) -> u32 {
        self.clients.number(format!("{clients:?}"), || {
            let holds = clients.judge(programs) == Verdict::Holds;
            (clients, holds)
        })
    }

    pub fn number_replica(&mut self, ground: &Ground, replica: ReplicaMachine) -> u32 {
        self.replicas.number(replica.description(ground), || replica)
    }

    pub fn number_coord(&mut self, coord: CoordMachine) -> u32 {
        self.coords.number(coord.description(), || coord)
    }

    fn number_packet(&mut self, packet: Packet) -> u16 {
        let number = self.packets.number(format!("{packet:?}"), || packet);
        u16::try_from(number).expect("a small scope has few messages")
    }

    /// The message as it is when replica n is called `names[n - 1]`.
    pub fn renamed(&mut self, packet: u16, names: [u16; 3]) -> u16 {
        if let Some(renamed) = self.renamed.get(&(packet, names)) {
            return *renamed;
        }
        let mut other = self.packet(packet).clone();
        let name = |node: NodeId| NodeId(names[usize::from(node.0) - 1]);
        if is_of_replica(&other.body) {
            other.from = name(other.from);
        } else if !is_for_coord(&other.body) {
            other.to = name(other.to);
        }
        let renamed = self.number_packet(other);
        self.renamed.insert((packet, names), renamed);
        renamed
    }

    /// What comes of something at a replica.
    pub fn at_replica(&mut self, ground: &Ground, machine: u32, what: AtReplica) -> Effect {
        if let Some(effect) = self.of_replicas.get(&(machine, what)) {
            return effect.clone();
        }
        let mut replica = self.replicas.items[machine as usize].clone();
        let held = |replica: &ReplicaMachine| replica.held(ground).map(|(ballot, _)| ballot);
        let before = (replica.promised(ground), held(&replica));
        let packets = match what {
            AtReplica::Message(packet) => replica.on_message(ground, self.packet(packet)),
            AtReplica::Crash => replica.crash(ground),
            AtReplica::Evict => replica.evict(ground),
        };
        let fell = replica.promised(ground) < before.0 || held(&replica) < before.1;
        count(&mut self.counted, replica.counters());
        let sent = packets.into_iter().map(|packet| self.number_packet(packet)).collect();
        let after = self.number_replica(ground, replica);
        let effect = Effect { machine: after, sent, replies: Vec::new(), fell };
        self.of_replicas.insert((machine, what), effect.clone());
        effect
    }

    /// What comes of something at a coordinator; `asked` is what a client asks.
    pub fn at_coord(&mut self, ground: &Ground, machine: u32, what: AtCoord, asked: Option<&Ask>) -> Effect {
        if let Some(effect) = self.of_coords.get(&(machine, what)) {
            return effect.clone();
        }
        let mut coord = self.coords.items[machine as usize].clone();
        let said = match (what, asked) {
            (AtCoord::Message(packet), _) => coord.on_message(ground, self.packet(packet)),
            (AtCoord::Ask(tag), Some(ask)) => coord.on_client(ground, tag, request(ground, tag, ask)),
            (AtCoord::Ask(tag), None) => panic!("{tag:?} asks nothing"),
            (AtCoord::Tick, _) => coord.tick(ground),
            (AtCoord::Crash, _) => {
                coord.crash();
                Said::default()
            }
        };
        count(&mut self.counted, coord.counters());
        let sent = said.packets.into_iter().map(|packet| self.number_packet(packet)).collect();
        let after = self.number_coord(coord);
        let effect = Effect { machine: after, sent, replies: said.replies, fell: false };
        self.of_coords.insert((machine, what), effect.clone());
        effect
    }

    /// Whether hearing this message changes nothing for a coordinator, now or ever: it has had its answer or given up.
    pub fn is_dead(&mut self, ground: &Ground, coord: u32, packet: u16) -> bool {
        let effect = self.at_coord(ground, coord, AtCoord::Message(packet), None);
        effect.machine == coord && effect.sent.is_empty() && effect.replies.is_empty()
    }

    /// The record that a message proposes or repairs, by number, and whether a round proposes it.
    pub fn proposed(&mut self, packet: u16) -> Option<(u16, bool)> {
        let body = &self.packet(packet).body;
        let (Message::Accept { record, .. } | Message::Weak { record, .. } | Message::Repair { record, .. }) =
            body
        else {
            return None;
        };
        let (record, of_round) = (record.clone(), matches!(body, Message::Accept { .. }));
        let number = self.records.number(format!("{record:?}"), || record);
        Some((u16::try_from(number).expect("a small scope has few records"), of_round))
    }

    /// Whether it says that a record is held or superseded.
    pub fn acknowledges(&self, packet: u16) -> bool {
        matches!(self.packet(packet).body, Message::Answer { answer: Answer::Accepted { .. }, .. })
    }

    /// Whether it is the record of this version.
    pub fn is_version(&self, record: u16, version: Stamp) -> bool {
        self.records.items[usize::from(record)].written == version
    }

    /// Whether two different records have one ballot.
    pub fn is_doubled(&self, one: u16, other: u16) -> bool {
        let ballot = |number: u16| self.records.items[usize::from(number)].ballot;
        one != other && ballot(one) == ballot(other)
    }

    /// Whether a round that proposed `later` did not know of `chosen`, which a majority holds at a lower ballot.
    pub fn is_lost(&self, chosen: u16, later: u16) -> bool {
        let record = |number: u16| &self.records.items[usize::from(number)];
        let (chosen, later) = (record(chosen), record(later));
        later.ballot > chosen.ballot && !covers(later, chosen)
    }
}

fn request(ground: &Ground, tag: Tag, ask: &Ask) -> Request {
    let body = Body::Key { key: ground.key.clone(), op: ask.op.clone() };
    // A UUIDv7 of the operation, the same for all its attempts.
    let uuid = (1_000_000 << 80) | u128::from((tag.0 - 1) / 2 + 1);
    let idempotency = ask.retry_at.map(|_| uuid);
    let level = if idempotency.is_some() { Level::Strong } else { ask.level };
    Request { level, session: Hlc(0), idempotency, body }
}
