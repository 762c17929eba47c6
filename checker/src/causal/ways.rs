//! On what ways one transaction sees another, for proofs.

use super::path::{self, Edge, Effort, Hop};
use super::proof::{Link, Proof};
use super::resolve::{Map, Source};
use super::{Checker, Isolation};

impl Checker<'_> {
    /// Of what a cycle is made.
    pub(super) fn proof_of_cycle(&self, hops: Vec<Hop>) -> Proof {
        let causal = hops.iter().all(|(_, edge, _)| !matches!(edge, Edge::Overwritten(_)));
        let mut proof = Proof::of_accesses(
            if causal { "CyclicCO" } else { "CyclicCF" },
            "these transactions would each have to stand before the next, and the last before the first",
            Vec::new(),
        );
        proof.about = hops.iter().map(|(from, _, _)| *from).collect();
        proof.cycle = hops.iter().map(|(_, edge, _)| *edge).collect();
        proof.cycle_of(hops);
        self.witnessed(&mut proof);
        proof
    }

    /// Finds for each write that was seen and not read who saw it, and how.
    pub(super) fn witnessed(&self, proof: &mut Proof) {
        let effort = &mut self.effort();
        let mut readers: Map<(u32, u32), Vec<u32>> = Map::default();
        for Link { hop: (_, edge, to), .. } in &proof.links {
            if let Edge::Overwritten(key) = edge {
                readers.insert((*to, *key), Vec::new());
            }
        }
        for read in &self.resolved.reads {
            if let Source::Transaction(writer) = read.source
                && let Some(all) = readers.get_mut(&(writer, read.key))
            {
                all.push(read.reader);
            }
        }
        let order = if readers.is_empty() { Vec::new() } else { self.order() };
        for at in 0..proof.links.len() {
            let (other, Edge::Overwritten(key), writer) = proof.links[at].hop else { continue };
            let all = &readers[&(writer, key)];
            let way = match self.isolation {
                Isolation::ReadCommitted | Isolation::ReadAtomic => {
                    self.seen_at_once(other, (writer, key), all)
                }
                _ => self.way_from(other, all, &order, effort),
            };
            match way {
                Some(way) => {
                    let reader = way.last().map_or(writer, |(_, _, reader)| *reader);
                    proof.links[at].reader = Some(reader);
                    proof.because(way);
                    proof.because(vec![(writer, Edge::Reads(key), reader)]);
                }
                None => proof.complete = false,
            }
        }
    }

    /// The shortest way of causality to one of `ends` from a transaction that is wanted.
    pub(super) fn way_back(
        &self,
        end: u32,
        wanted: impl Fn(u32) -> bool,
        effort: &mut Effort,
    ) -> Option<Vec<Hop>> {
        let count = self.history.transactions.len();
        path::shortest(count, [end], wanted, |at, each| self.before(at, each), effort).map(path::reversed)
    }

    /// The shortest way of causality from a transaction to one of `ends`, with the order of all: what comes earlier in it leads nowhere.
    pub(super) fn way_from(
        &self,
        start: u32,
        ends: &[u32],
        order: &[u32],
        effort: &mut Effort,
    ) -> Option<Vec<Hop>> {
        let later = |at: u32| order[at as usize] >= order[start as usize];
        let before = |at: u32, each: &mut dyn FnMut(u32, Edge)| {
            self.before(at, &mut |before, edge| {
                if later(before) {
                    each(before, edge);
                }
            });
        };
        let ends = ends.iter().copied().filter(|end| later(*end));
        path::shortest(order.len(), ends, |at| at == start, before, effort).map(path::reversed)
    }

    /// The shortest way of causality from a write to one of `ends` over another write of the key, in two parts.
    pub(super) fn way_over(
        &self,
        (start, key): (u32, u32),
        ends: &[u32],
        order: &[u32],
        effort: &mut Effort,
    ) -> Option<(Vec<Hop>, Vec<Hop>)> {
        // Of each transaction there is a second one, for the ways that have been over another write, seen from their ends.
        let count = order.len() as u32;
        let later = |at: u32| order[at as usize] >= order[start as usize];
        let before = |at: u32, each: &mut dyn FnMut(u32, Edge)| {
            self.before(at % count, &mut |before, edge| {
                let over = at >= count || before != start && self.writes(before, key);
                if later(before) {
                    each(before + if over { count } else { 0 }, edge);
                }
            });
        };
        let ends = ends.iter().copied().filter(|end| later(*end));
        let mut way = path::shortest(2 * order.len(), ends, |at| at == start + count, before, effort)?;
        let first = way.split_off(way.iter().position(|(to, _, _)| *to >= count)?);
        let plain = |part: Vec<Hop>| {
            path::reversed(
                part.into_iter().map(|(to, edge, from)| (to % count, edge, from % count)).collect(),
            )
        };
        Some((plain(first), plain(way)))
    }

    /// Whether a transaction writes a key.
    pub(super) fn writes(&self, at: u32, key: u32) -> bool {
        self.history.accesses(at as usize).iter().any(|access| access.write && access.key == key)
    }

    /// What comes directly before a transaction: in its session, and what it reads from.
    pub(super) fn before(&self, at: u32, each: &mut dyn FnMut(u32, Edge)) {
        let session = &self.resolved.sessions[self.session(at) as usize];
        if let Some(place) = self.resolved.place[at as usize].checked_sub(1) {
            each(session[place as usize], Edge::Session);
        }
        for read in self.resolved.reads_of(at) {
            if let Source::Transaction(writer) = read.source {
                each(writer, Edge::Reads(read.key));
            }
        }
    }

    /// How one of `readers`, who read the key from the writer, saw the other directly, as the levels of single transactions have it.
    fn seen_at_once(&self, other: u32, (writer, key): (u32, u32), readers: &[u32]) -> Option<Vec<Hop>> {
        readers.iter().find_map(|reader| {
            let reads = self.resolved.reads_of(*reader);
            let atomic = self.isolation == Isolation::ReadAtomic;
            let upto = if atomic {
                reads.len()
            } else {
                reads
                    .iter()
                    .rposition(|read| read.source == Source::Transaction(writer) && read.key == key)?
            };
            let direct = reads[..upto].iter().find(|read| read.source == Source::Transaction(other));
            let (first, second) = (self.place(other), self.place(*reader));
            let own = atomic && first.session == second.session && first.at < second.at;
            let edge = direct.map(|read| Edge::Reads(read.key)).or(own.then_some(Edge::Session))?;
            Some(vec![(other, edge, *reader)])
        })
    }
}
