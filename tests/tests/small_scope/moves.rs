//! What a coordinator may do next.
//!
//! It speaks when it has heard enough, and what it hears before matters to nobody else. So one step of the world is all that
//! leads to its next word: requests reach replicas, each just in time for the answer that it changes, and the answers are heard.
//! Every run has one of these runs as its equal: a delivery that nobody hears of yet can as well come later, if ever.

use crate::known::{AtCoord, AtReplica, Effect, Known, is_for_coord};
use crate::machines::Packet;
use crate::model::{State, World};
use std::collections::{BTreeMap, HashSet};

/// What happens at a replica, one thing after the other, the last of it heard by the coordinator.
#[derive(Debug, Clone)]
struct Pull {
    state: State,
    answer: u16,
}

/// A way to the next word of a coordinator.
#[derive(Debug, Clone)]
struct Path {
    state: State,
    /// Whom it has heard: an answer of each replica, and a word of the other coordinator.
    heard: u8,
    messages: Vec<u16>,
}

/// A world in which a coordinator has spoken, and what it heard before.
#[derive(Debug, Clone)]
pub struct Next {
    pub state: State,
    pub heard: Vec<u16>,
    /// It spoke because its time passed.
    pub ticked: bool,
}

/// The worlds in which the coordinator `at` has spoken next.
pub fn next(world: &World, known: &mut Known, state: &State, at: usize, may_tick: bool) -> Vec<Next> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    let mut paths = vec![Path { state: state.clone(), heard: 0, messages: Vec::new() }];
    let ground = world.ground();
    let plain = known.at_coord(ground, state.coords[at], AtCoord::Tick, None);
    let mut place = 0;
    while place < paths.len() {
        let path = paths[place].clone();
        place += 1;
        let tick = known.at_coord(ground, path.state.coords[at], AtCoord::Tick, None);
        if may_tick && says(&tick) && (path.heard == 0 || tick != plain) {
            let mut next = path.state.clone();
            next.left.ticks[at] -= 1;
            world.speak(known, &mut next, at, &tick);
            found.push(Next { state: next, heard: path.messages.clone(), ticked: true });
        }
        for from in (0..4).filter(|from| path.heard & 1 << from == 0) {
            for Pull { mut state, answer } in pulls(world, known, &path.state, at, from) {
                let effect = known.at_coord(ground, state.coords[at], AtCoord::Message(answer), None);
                let messages = [&path.messages[..], &[answer]].concat();
                if says(&effect) {
                    world.speak(known, &mut state, at, &effect);
                    found.push(Next { state, heard: messages, ticked: false });
                } else if effect.machine != state.coords[at] {
                    state.coords[at] = effect.machine;
                    if seen.insert((state.clone(), path.heard | 1 << from)) {
                        paths.push(Path { state, heard: path.heard | 1 << from, messages });
                    }
                }
            }
        }
    }
    let mut distinct = HashSet::new();
    found.retain(|next| distinct.insert(next.state.clone()));
    found
}

fn says(effect: &Effect) -> bool {
    !effect.sent.is_empty() || !effect.replies.is_empty()
}

/// How the coordinator can hear of replica `from`, or of the other coordinator.
fn pulls(world: &World, known: &mut Known, state: &State, at: usize, from: usize) -> Vec<Pull> {
    let is_from = |known: &Known, packet: u16| {
        let Packet { from: sender, to, body } = known.packet(packet);
        let of_replica = known.is_of_replica(packet);
        let wanted = if from < 3 { of_replica && usize::from(sender.0) == from + 1 } else { !of_replica };
        is_for_coord(body) && usize::from(to.0) == at + 1 && wanted
    };
    let there: Vec<u16> = state.net.iter().copied().filter(|packet| is_from(known, *packet)).collect();
    let mut pulls: Vec<Pull> = Vec::new();
    for answer in there {
        let mut state = state.clone();
        state.net.retain(|other| *other != answer || from == 3);
        pulls.push(Pull { state, answer });
    }
    if from < 3 {
        let start = state.replicas[from];
        let mut run = Run { world, known, at, replica: from, start, pulls: &mut pulls };
        run.extend(state, &mut Vec::new());
    }
    pulls
}

/// The search for sequences of events at a replica.
struct Run<'a> {
    world: &'a World,
    known: &'a mut Known,
    at: usize,
    replica: usize,
    start: u32,
    pulls: &'a mut Vec<Pull>,
}

impl Run<'_> {
    /// Goes on after `so_far`, which has led to `state`.
    fn extend(&mut self, state: &State, so_far: &mut Vec<AtReplica>) {
        for what in self.events(state) {
            let effect = self.effect(state.replicas[self.replica], what);
            so_far.push(what);
            if let Some(answer) = self.answer(&effect, what)
                && !self.is_late(so_far)
            {
                let mut next = state.clone();
                self.put(&mut next, what, &effect, Some(answer));
                self.pulls.push(Pull { state: next.clone(), answer });
                self.keep(&next, so_far, answer);
            }
            // What changes nothing here matters to nobody before its answer is heard.
            if effect.machine != state.replicas[self.replica] {
                let mut next = state.clone();
                self.put(&mut next, what, &effect, None);
                self.extend(&next, so_far);
            }
            so_far.pop();
        }
    }

    /// One of the requests may reach the replica once more.
    fn keep(&mut self, next: &State, so_far: &[AtReplica], answer: u16) {
        if next.left.duplicates == 0 {
            return;
        }
        for what in so_far {
            let AtReplica::Message(packet) = *what else { continue };
            let mut again = next.clone();
            again.left.duplicates -= 1;
            again.send(packet);
            self.pulls.push(Pull { state: again, answer });
        }
    }

    /// What may happen at the replica.
    fn events(&self, state: &State) -> Vec<AtReplica> {
        let is_request = |packet: &u16| {
            let Packet { to, body, .. } = self.known.packet(*packet);
            !is_for_coord(body) && usize::from(to.0) == self.replica + 1
        };
        let mut events: Vec<AtReplica> =
            state.net.iter().copied().filter(is_request).map(AtReplica::Message).collect();
        events.extend((state.left.replica_crashes > 0).then_some(AtReplica::Crash));
        events.extend((state.left.evictions > 0).then_some(AtReplica::Evict));
        events
    }

    fn effect(&mut self, machine: u32, what: AtReplica) -> Effect {
        self.known.at_replica(self.world.ground(), machine, what)
    }

    /// The answer to the coordinator, if it asked.
    fn answer(&self, effect: &Effect, what: AtReplica) -> Option<u16> {
        let AtReplica::Message(packet) = what else { return None };
        let is_ours = usize::from(self.known.packet(packet).from.0) == self.at + 1;
        effect.sent.first().copied().filter(|_| is_ours)
    }

    /// Whether one of the events before the last could as well come after it: then it comes later, if ever.
    fn is_late(&mut self, events: &[AtReplica]) -> bool {
        let all = self.run(events);
        (0..events.len() - 1).any(|early| {
            let mut other = events.to_vec();
            let moved = other.remove(early);
            other.push(moved);
            self.run(&other) == all
        })
    }

    /// What comes of a sequence of events: the replica, and what it answered to each.
    fn run(&mut self, events: &[AtReplica]) -> (u32, BTreeMap<AtReplica, Vec<u16>>) {
        let (mut machine, mut answers) = (self.start, BTreeMap::new());
        for what in events {
            let effect = self.effect(machine, *what);
            machine = effect.machine;
            answers.insert(*what, effect.sent);
        }
        (machine, answers)
    }

    fn put(&mut self, state: &mut State, what: AtReplica, effect: &Effect, heard: Option<u16>) {
        state.replicas[self.replica] = effect.machine;
        World::happen(self.known, state, self.replica, what, effect, heard);
    }
}
