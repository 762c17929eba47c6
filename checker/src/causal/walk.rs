//! Visits transactions after all that they depend on, with a clock of what each sees.
//!
//! A clock has no column for a session but for a *chain*: a row of writes each of which sees all before it. A session keeps to one chain, and goes
//! over to one that was left (its session ended, as a crash ends one) as soon as it sees all of that. So the columns that still change are about as
//! many as the sessions at work, however many have crashed, and lie side by side. What no other session ever sees is in no chain.

use super::clock::Clock;
use super::resolve::{Map, Source};
use super::{Checker, Place};
use std::collections::{BTreeSet, VecDeque};

/// In no chain.
const NONE: u32 = u32::MAX;

/// How many chains that were left are looked at, to go over to one of them.
const PROBES: usize = 8;

/// After how many looks in vain a chain that was left is given up: perhaps nobody will ever see its end.
const LOOKS: u16 = 1_000;

/// Writes of a chain up to this many are looked through; for more there is an index.
const SCAN: u32 = 16;

/// One chain: what was written, key and transaction, in its order.
#[derive(Default)]
struct Chain {
    writes: Vec<(u32, u32)>,
    looks: u16,
}

/// What was visited so far.
pub(super) struct Walked {
    chains: Vec<Chain>,
    /// The chains that no session goes on with.
    left: BTreeSet<u32>,
    /// The chain of each session.
    of_session: Vec<u32>,
    /// Where each transaction is: its chain, and how many writes of that are seen with it.
    at: Vec<(u32, u32)>,
    /// The places, from 1, of the writes of a key in a chain.
    places: Map<(u32, u32), Vec<u32>>,
    /// For each key the first place of each chain that writes it.
    firsts: Vec<Vec<(u32, u32)>>,
    /// The last write of a key by a session, of those that no other session sees.
    own: Map<(u32, u32), u32>,
    /// The clocks of those that are still read from, themselves included.
    clocks: Vec<Option<Clock>>,
}

impl Walked {
    fn new(transactions: usize, sessions: usize, keys: usize) -> Self {
        Self {
            chains: Vec::new(),
            left: BTreeSet::new(),
            of_session: vec![NONE; sessions],
            at: vec![(NONE, 0); transactions],
            places: Map::default(),
            firsts: vec![Vec::new(); keys + 1],
            own: Map::default(),
            clocks: vec![None; transactions],
        }
    }

    /// Whether a transaction at `place` in its session is seen by `clock`, the clock of one at `of`, or is that itself.
    pub(super) fn is_past(&self, at: u32, place: Place, of: Place, clock: &Clock) -> bool {
        let (chain, upto) = self.at[at as usize];
        place.session == of.session && place.at <= of.at || chain != NONE && clock.seen(chain) >= upto
    }

    /// The clock of a transaction that is still read from.
    pub(super) fn clock(&self, at: u32) -> Option<&Clock> {
        self.clocks[at as usize].as_ref()
    }

    /// The last write of a key by a session before the one that is visited, when no other session sees it.
    pub(super) fn own(&self, session: u32, key: u32) -> Option<u32> {
        self.own.get(&(session, key)).copied()
    }

    /// Some write of a key that a clock sees.
    pub(super) fn any(&self, clock: &Clock, key: u32) -> Option<u32> {
        let firsts = self.firsts[key as usize].iter();
        let (chain, place) = firsts.copied().find(|(chain, place)| clock.seen(*chain) >= *place)?;
        Some(self.chains[chain as usize].writes[place as usize - 1].1)
    }

    /// Calls `each` with the last write of a key in every chain, of those that `clock` sees and `other` does not; with some perhaps twice.
    pub(super) fn beyond(&self, clock: &Clock, other: &Clock, key: u32, each: &mut impl FnMut(u32)) {
        let firsts = &self.firsts[key as usize];
        let mut consider = |chain: u32, before: u32, upto: u32| {
            if let Some(write) = self.last(chain, key, before, upto) {
                each(write);
            }
        };
        // Two clocks that differ in more chains than write the key, as do those of a session that has seen nothing yet, are compared in these alone.
        let mut left = if firsts.len() <= FEW { 0 } else { firsts.len() };
        let few = left > 0
            && clock.beyond(other, &mut |chain, before, upto| {
                consider(chain, before, upto);
                left -= 1;
                left > 0
            });
        if few {
            return;
        }
        for (chain, place) in firsts {
            let upto = clock.seen(*chain);
            if upto >= *place {
                consider(*chain, other.seen(*chain), upto);
            }
        }
    }

    fn last(&self, chain: u32, key: u32, before: u32, upto: u32) -> Option<u32> {
        if upto <= before {
            return None;
        }
        let writes = &self.chains[chain as usize].writes;
        if upto - before <= SCAN {
            let range = &writes[before as usize..upto as usize];
            return range.iter().rev().find(|(of, _)| *of == key).map(|(_, at)| *at);
        }
        let places = self.places.get(&(chain, key))?;
        let place = places[places.partition_point(|place| *place <= upto).checked_sub(1)?];
        (place > before).then(|| writes[place as usize - 1].1)
    }

    /// Puts a transaction and what it writes into a chain, which its clock sees then.
    fn put(&mut self, at: u32, session: u32, keys: impl Iterator<Item = u32>, clock: &mut Clock) {
        let chain = self.chain(session, clock);
        for key in keys {
            let writes = &mut self.chains[chain as usize].writes;
            writes.push((key, at));
            let place = writes.len() as u32;
            let places = self.places.entry((chain, key)).or_default();
            if places.is_empty() {
                self.firsts[key as usize].push((chain, place));
            }
            places.push(place);
        }
        let upto = self.chains[chain as usize].writes.len() as u32;
        clock.see(chain, upto);
        self.at[at as usize] = (chain, upto);
    }

    /// The chain that a session goes on with: its own, or one to the left of it that was left and that it sees to the end.
    fn chain(&mut self, session: u32, clock: &Clock) -> u32 {
        let own = self.of_session[session as usize];
        let mut given_up = None;
        let mut found = None;
        for chain in self.left.range(..own).take(PROBES) {
            let of = &mut self.chains[*chain as usize];
            if clock.seen(*chain) as usize == of.writes.len() {
                found = Some(*chain);
                break;
            }
            of.looks = of.looks.saturating_add(1);
            if of.looks >= LOOKS {
                given_up = Some(*chain);
            }
        }
        if let Some(chain) = given_up {
            self.left.remove(&chain);
        }
        let chain = match (found, own) {
            (Some(chain), own) => {
                self.left.remove(&chain);
                self.leave(own);
                chain
            }
            (None, NONE) => {
                self.chains.push(Chain::default());
                self.chains.len() as u32 - 1
            }
            (None, own) => own,
        };
        self.of_session[session as usize] = chain;
        chain
    }

    fn leave(&mut self, chain: u32) {
        if chain != NONE {
            self.chains[chain as usize].looks = 0;
            self.left.insert(chain);
        }
    }
}

/// A key that so few chains write is looked for in these, rather than in all that two clocks differ in.
const FEW: usize = 16;

impl Checker<'_> {
    /// Visits transactions after all that they depend on, each with its clock: what it sees of other sessions, and of its own what others
    /// see, too. `false` when some depend on themselves; `true`, too, when time is over.
    pub(super) fn walk(&self, mut visit: impl FnMut(u32, &Clock, &Walked)) -> bool {
        let count = self.history.transactions.len();
        let sessions = self.resolved.sessions.len();
        let (mut waits, mut readers, seen) = self.dependences();
        let by_writer = self.resolved.by_writer(count);
        let mut walked = Walked::new(count, sessions, self.history.keys.len());
        let mut current: Vec<Clock> = vec![Clock::new(sessions); sessions];
        let mut ready: VecDeque<u32> = (0..count as u32).filter(|at| waits[*at as usize] == 0).collect();
        let mut visited = 0;
        while let Some(at) = ready.pop_front() {
            if self.is_late(visited) {
                return true;
            }
            visited += 1;
            let Place { session, at: place } = self.place(at);
            let mut clock = std::mem::replace(&mut current[session as usize], Clock::new(sessions));
            for read in self.resolved.reads_of(at) {
                let Source::Transaction(writer) = read.source else { continue };
                if let Some(its) = walked.clock(writer).filter(|_| self.session(writer) != session) {
                    clock.join(its);
                }
            }
            visit(at, &clock, &walked);
            for read in self.resolved.reads_of(at) {
                let Source::Transaction(writer) = read.source else { continue };
                readers[writer as usize] -= 1;
                if readers[writer as usize] == 0 {
                    walked.clocks[writer as usize] = None;
                }
            }
            let accesses = self.history.accesses(at as usize);
            let keys = accesses.iter().filter(|access| access.write).map(|access| access.key);
            if place >= seen[session as usize] {
                walked.own.extend(keys.map(|key| ((session, key), at)));
            } else if accesses.iter().any(|access| access.write) {
                walked.put(at, session, keys, &mut clock);
                if place + 1 == seen[session as usize] {
                    let chain = std::mem::replace(&mut walked.of_session[session as usize], NONE);
                    walked.leave(chain);
                }
            }
            let next = self.resolved.sessions[session as usize].get(place as usize + 1).copied();
            for follower in by_writer.of(at).iter().copied().chain(next) {
                waits[follower as usize] -= 1;
                if waits[follower as usize] == 0 {
                    ready.push_back(follower);
                }
            }
            if readers[at as usize] > 0 {
                walked.clocks[at as usize] = Some(clock.clone());
            }
            if next.is_some() {
                current[session as usize] = clock;
            }
        }
        visited == count
    }

    /// The place of each transaction in an order in which it comes after all that it depends on; those that depend on themselves come last.
    pub(super) fn order(&self) -> Vec<u32> {
        let (mut waits, _, _) = self.dependences();
        let by_writer = self.resolved.by_writer(waits.len());
        let mut order = vec![u32::MAX; waits.len()];
        let mut ready: VecDeque<u32> =
            (0..waits.len() as u32).filter(|at| waits[*at as usize] == 0).collect();
        for next in 0.. {
            let Some(at) = ready.pop_front() else { break };
            order[at as usize] = next;
            let Place { session, at: place } = self.place(at);
            let own = self.resolved.sessions[session as usize].get(place as usize + 1).copied();
            for follower in by_writer.of(at).iter().copied().chain(own) {
                waits[follower as usize] -= 1;
                if waits[follower as usize] == 0 {
                    ready.push_back(follower);
                }
            }
        }
        order
    }

    /// For how many each transaction waits, how often it is read from, and how many of each session come before the last that another session
    /// reads from, itself included.
    fn dependences(&self) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
        let mut waits: Vec<u32> = self.resolved.place.iter().map(|place| u32::from(*place > 0)).collect();
        let mut readers = vec![0_u32; waits.len()];
        let mut seen = vec![0_u32; self.resolved.sessions.len()];
        for read in &self.resolved.reads {
            let Source::Transaction(writer) = read.source else { continue };
            waits[read.reader as usize] += 1;
            readers[writer as usize] += 1;
            let Place { session, at } = self.place(writer);
            if session != self.session(read.reader) {
                seen[session as usize] = seen[session as usize].max(at + 1);
            }
        }
        (waits, readers, seen)
    }
}
