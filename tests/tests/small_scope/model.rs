//! The world as a model: every order in which messages can arrive, be lost, or arrive again, and every moment at which a
//! timer can fire or a machine can crash.

use crate::clients::{Ask, Clients};
use crate::known::{AtCoord, AtReplica, Broken, Effect, Known, is_for_coord};
use crate::machines::{CoordMachine, Ground, Packet, ReplicaMachine};
use crate::moves::{self, Next};
use samara_core::base::{NodeId, Response, Stamp};
use stateright::{Model, Property};
use std::collections::BTreeSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What may happen in a run, and how often.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// What each client asks.
    pub programs: Vec<Vec<Ask>>,
    /// Whom each coordinator believes to be down.
    pub suspects: [Vec<NodeId>; 2],
    /// How far each coordinator's clock is ahead, in stamps: whoever is behind is refused first and has to begin anew.
    pub ahead: [u64; 2],
    /// How often each coordinator's time may pass.
    pub ticks: [u8; 2],
    /// How often each coordinator may crash.
    pub coord_crashes: [u8; 2],
    /// How often a replica may crash.
    pub replica_crashes: u8,
    /// How often a promise may be displaced from a replica's table of one.
    pub evictions: u8,
    /// How often a request may reach a replica once more.
    pub duplicates: u8,
    /// No coordinator prefers a replica: worlds that differ in nothing but which replica is which are one.
    pub symmetric: bool,
}

/// How much of what the scope permits is left.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Left {
    pub ticks: [u8; 2],
    pub coord_crashes: [u8; 2],
    pub replica_crashes: u8,
    pub evictions: u8,
    pub duplicates: u8,
}

/// A state of the world, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub replicas: [u32; 3],
    pub coords: [u32; 2],
    clients: u32,
    /// The messages on their way, in order of their numbers. One that never arrives is lost.
    pub net: Vec<u16>,
    /// Every record that was proposed: the replicas that have acknowledged it, as a set, and whether a round proposed it.
    records: Vec<(u16, u8)>,
    pub left: Left,
    broken: Option<Broken>,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A coordinator comes to its next word, in one of the ways that there are.
    Speak(usize, usize),
    /// A client asks.
    Ask(usize),
    /// A coordinator loses its power.
    Crash(usize),
}

/// Marks a record as proposed by a round.
const OF_ROUND: u8 = 1 << 7;
/// What each coordinator may do next.
type Moves = Arc<[Vec<Next>; 2]>;

/// The property that some world has, if the scope says anything at all.
pub const ALL_ANSWERED: &str = "all are answered";
/// Of three replicas.
const MAJORITY: u32 = 2;
const ORDERS: [[u16; 3]; 6] = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];

/// The model that is checked.
pub struct World {
    ground: Ground,
    scope: Scope,
    known: Mutex<Known>,
    /// What may come of the latest state that was asked about.
    latest: Mutex<Option<(State, Moves)>>,
}

impl State {
    /// A message is on its way.
    pub fn send(&mut self, packet: u16) {
        if let Err(place) = self.net.binary_search(&packet) {
            self.net.insert(place, packet);
        }
    }

    fn mark(&mut self, record: u16, mark: u8) {
        match self.records.binary_search_by_key(&record, |(record, _)| *record) {
            Ok(place) => self.records[place].1 |= mark,
            Err(place) => self.records.insert(place, (record, mark)),
        }
    }

    /// Whether a majority has acknowledged a record of this version.
    fn is_kept(&self, known: &Known, version: Stamp) -> bool {
        let is_kept = |(record, marks): &(u16, u8)| {
            known.is_version(*record, version) && (marks & !OF_ROUND).count_ones() >= MAJORITY
        };
        self.records.iter().any(is_kept)
    }

    fn judge(&self, known: &Known) -> Option<Broken> {
        for (record, marks) in &self.records {
            let is_chosen = (marks & !OF_ROUND).count_ones() >= MAJORITY;
            for (other, others) in &self.records {
                if known.is_doubled(*record, *other) {
                    return Some(Broken::TwoRecords);
                }
                if is_chosen && others & OF_ROUND != 0 && known.is_lost(*record, *other) {
                    return Some(Broken::ChosenLost);
                }
            }
        }
        None
    }
}

impl World {
    pub fn new(scope: Scope) -> Self {
        Self { ground: Ground::new(), scope, known: Mutex::default(), latest: Mutex::default() }
    }

    /// What all machines have in common.
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// What the machines have counted anywhere.
    pub fn counted(&self) -> BTreeSet<&'static str> {
        self.known().counted.clone()
    }

    /// How many distinct states the replicas, the coordinators and the clients have, and how many messages there are.
    pub fn sizes(&self) -> [usize; 4] {
        self.known().sizes()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A coordinator has spoken.
    pub fn speak(&self, known: &mut Known, next: &mut State, at: usize, effect: &Effect) {
        next.coords[at] = effect.machine;
        for packet in &effect.sent {
            next.send(*packet);
            if let Some((record, of_round)) = known.proposed(*packet) {
                next.mark(record, if of_round { OF_ROUND } else { 0 });
            }
        }
        if !effect.replies.is_empty() {
            let mut clients = known.clients(next.clients).clone();
            for (tag, reply) in &effect.replies {
                if let Ok(Response::Value { version, .. }) = &reply.result
                    && !next.is_kept(known, *version)
                {
                    next.broken = Some(Broken::ReadUnkept);
                }
                clients.on_reply(&self.scope.programs, *tag, &reply.result);
            }
            next.clients = known.number_clients(&self.scope.programs, clients);
        }
        self.tidy(known, next);
    }

    /// Something has happened at a replica; what it answered is on its way, but for what is heard at once.
    pub fn happen(
        known: &mut Known,
        next: &mut State,
        at: usize,
        what: AtReplica,
        effect: &Effect,
        heard: Option<u16>,
    ) {
        next.replicas[at] = effect.machine;
        match what {
            AtReplica::Message(packet) => next.net.retain(|other| *other != packet),
            AtReplica::Crash => next.left.replica_crashes -= 1,
            AtReplica::Evict => next.left.evictions -= 1,
        }
        for answer in effect.sent.iter().filter(|answer| Some(**answer) != heard) {
            next.send(*answer);
        }
        if let AtReplica::Message(packet) = what
            && effect.sent.iter().any(|answer| known.acknowledges(*answer))
            && let Some((record, _)) = known.proposed(packet)
        {
            next.mark(record, 1 << at);
        }
        if effect.fell {
            next.broken = Some(Broken::Fell);
        }
    }

    /// Answers that nobody waits for any more are gone, and what can be judged is.
    fn tidy(&self, known: &mut Known, next: &mut State) {
        let coords = next.coords;
        next.net.retain(|packet| {
            let Packet { to, body, .. } = known.packet(*packet);
            let to = usize::from(to.0) - 1;
            !is_for_coord(body) || !known.is_dead(&self.ground, coords[to], *packet)
        });
        next.broken = next.judge(known).or(next.broken);
        if self.scope.symmetric {
            canonical(known, next);
        }
    }

    /// What the coordinators may do next.
    fn moves(&self, known: &mut Known, state: &State) -> Moves {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, moves)) = latest.as_ref()
            && of == state
        {
            return moves.clone();
        }
        let is_waiting = known.clients(state.clients).is_waiting();
        let moves = Arc::new([0, 1].map(|at| {
            let may_tick = is_waiting && state.left.ticks[at] > 0;
            moves::next(self, known, state, at, may_tick)
        }));
        *latest = Some((state.clone(), moves.clone()));
        moves
    }

    fn step(&self, known: &mut Known, last: &State, step: Step) -> Option<State> {
        let (mut next, programs) = (last.clone(), &self.scope.programs);
        match step {
            Step::Speak(at, number) => next = self.moves(known, last)[at][number].state.clone(),
            Step::Ask(client) => {
                let mut clients = known.clients(last.clients).clone();
                let (at, tag, ask) = clients.next(programs, client)?;
                clients.ask(programs, client);
                next.clients = known.number_clients(programs, clients);
                let effect = known.at_coord(&self.ground, last.coords[at], AtCoord::Ask(tag), Some(ask));
                self.speak(known, &mut next, at, &effect);
            }
            Step::Crash(at) => {
                next.left.coord_crashes[at] -= 1;
                let mut clients = known.clients(last.clients).clone();
                clients.on_crash(programs, at);
                next.clients = known.number_clients(programs, clients);
                let effect = known.at_coord(&self.ground, last.coords[at], AtCoord::Crash, None);
                self.speak(known, &mut next, at, &effect);
            }
        }
        (next != *last).then_some(next)
    }
}

/// Of the worlds that differ only in the names of the replicas, the first in order.
fn canonical(known: &mut Known, state: &mut State) {
    let mut best = None;
    for names in ORDERS {
        let mut replicas = [0; 3];
        for (replica, name) in state.replicas.iter().zip(names) {
            replicas[usize::from(name) - 1] = *replica;
        }
        if best.as_ref().is_some_and(|(best, _, _)| *best < replicas) {
            continue;
        }
        let mut net: Vec<u16> = state.net.iter().map(|packet| known.renamed(*packet, names)).collect();
        net.sort_unstable();
        let rename =
            |marks: u8| (0..3).fold(marks & OF_ROUND, |set, at| set | ((marks >> at) & 1) << (names[at] - 1));
        let records: Vec<(u16, u8)> =
            state.records.iter().map(|(record, marks)| (*record, rename(*marks))).collect();
        let other = (replicas, net, records);
        if best.as_ref().is_none_or(|best| other < *best) {
            best = Some(other);
        }
    }
    if let Some(best) = best {
        (state.replicas, state.net, state.records) = best;
    }
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut known = self.known();
        let promises_max = if self.scope.evictions > 0 { 1 } else { 64 };
        let replica = known.number_replica(&self.ground, ReplicaMachine::new(&self.ground, promises_max));
        let coords = [0, 1].map(|at| {
            let me = NodeId(at as u16 + 1);
            known.number_coord(CoordMachine::new(
                &self.ground,
                me,
                &self.scope.suspects[at],
                self.scope.ahead[at],
            ))
        });
        let clients = known.number_clients(&self.scope.programs, Clients::new(&self.scope.programs));
        let Scope { ticks, coord_crashes, replica_crashes, evictions, duplicates, .. } = self.scope;
        let left = Left { ticks, coord_crashes, replica_crashes, evictions, duplicates };
        let (net, records) = (Vec::new(), Vec::new());
        vec![State { replicas: [replica; 3], coords, clients, net, records, left, broken: None }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        let known = &mut self.known();
        let clients = known.clients(state.clients);
        let may_ask = |client: &usize| clients.next(&self.scope.programs, *client).is_some();
        actions.extend((0..self.scope.programs.len()).filter(may_ask).map(Step::Ask));
        for (at, moves) in self.moves(known, state).iter().enumerate() {
            actions.extend((0..moves.len()).map(|number| Step::Speak(at, number)));
            actions.extend((state.left.coord_crashes[at] > 0).then_some(Step::Crash(at)));
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        self.step(&mut self.known(), last, step)
    }

    fn format_step(&self, last: &State, step: Step) -> Option<String> {
        Some(match step {
            Step::Speak(at, number) => {
                let known = &mut self.known();
                let next = self.moves(known, last)[at][number].clone();
                let heard: String =
                    next.heard.iter().flat_map(|packet| ["\n      ".into(), known.words(*packet)]).collect();
                let time = if next.ticked { "\n      nothing in time" } else { "" };
                format!("coordinator {} hears{heard}{time}", at + 1)
            }
            other => format!("{other:?}"),
        })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("linearizable", |world: &World, state: &State| {
                world.known().is_linearizable(state.clients)
            }),
            Property::always("one record for a ballot", |_: &World, state: &State| {
                state.broken != Some(Broken::TwoRecords)
            }),
            Property::always("what is chosen is not lost", |_: &World, state: &State| {
                state.broken != Some(Broken::ChosenLost)
            }),
            Property::always("a majority keeps what is read", |_: &World, state: &State| {
                state.broken != Some(Broken::ReadUnkept)
            }),
            Property::always("nothing held or promised falls", |_: &World, state: &State| {
                state.broken != Some(Broken::Fell)
            }),
            Property::sometimes(ALL_ANSWERED, |world: &World, state: &State| {
                world.known().clients(state.clients).is_done()
            }),
        ]
    }
}
