//! What a violation of causal memory follows from: which writes a session must take to stand before others, and why.

use super::Derived;
use crate::causal::Checker;
use crate::causal::graph::Graph;
use crate::causal::path::{self, Edge, Effort, Hop};
use crate::causal::proof::Proof;
use crate::causal::resolve::Map;

/// Orders of writes that an explanation rests on at most.
const ORDERS_MAX: usize = 1_000;

/// What was derived, by the write that comes later.
struct Known<'a> {
    checker: &'a Checker<'a>,
    by_writer: Map<u32, Vec<Derived>>,
}

/// The reads of a session fit no single order of the writes that they see.
pub(super) fn cyclic(checker: &Checker<'_>, past: &[u32], derived: &[Derived]) -> Option<Proof> {
    let mut edges = Vec::new();
    for at in past {
        checker.before(*at, &mut |before, edge| edges.push((before, *at, edge)));
    }
    edges.extend(derived.iter().map(|of| (of.other, of.writer, Edge::Overwritten(of.key))));
    let mut effort = checker.effort();
    let cycle = Graph::new(checker.history.transactions.len(), &edges).cycle(&mut checker.effort())?;
    let what = "the reads of this session fit no single order of the writes that they see";
    let mut proof = Proof::of_accesses("CyclicHB", what, Vec::new());
    proof.about = cycle.iter().map(|(from, _, _)| *from).collect();
    proof.cycle = cycle.iter().map(|(_, edge, _)| *edge).collect();
    proof.cycle_of(cycle);
    Known::new(checker, derived).explain(&mut proof, &mut effort);
    Some(proof)
}

/// A transaction reads nothing of a key, though a write happens before it.
pub(super) fn nothing_read(checker: &Checker<'_>, (reader, key): (u32, u32), derived: &[Derived]) -> Proof {
    let known = Known::new(checker, derived);
    let mut effort = checker.effort();
    let wrote = |at: u32| at != reader && checker.writes(at, key);
    let way = known.way(reader, wrote, usize::MAX, &mut effort);
    let what = "the second reads nothing, though the first happens before it";
    let mut proof = Proof::of_accesses("WriteHBInitRead", what, Vec::new());
    proof.complete = way.is_some();
    let first = way.iter().flatten().next().map(|(from, _, _)| *from);
    proof.about = first.into_iter().chain([reader]).collect();
    let back = first.map(|first| (reader, Edge::Nothing(key), first));
    proof.cycle_of(way.into_iter().flatten().chain(back));
    known.explain(&mut proof, &mut effort);
    proof
}

impl<'a> Known<'a> {
    fn new(checker: &'a Checker<'a>, derived: &[Derived]) -> Self {
        let mut by_writer: Map<u32, Vec<Derived>> = Map::default();
        for of in derived {
            by_writer.entry(of.writer).or_default().push(*of);
        }
        Self { checker, by_writer }
    }

    /// The shortest way to a transaction by what was known when a round began.
    fn way(
        &self,
        end: u32,
        wanted: impl Fn(u32) -> bool,
        round: usize,
        effort: &mut Effort,
    ) -> Option<Vec<Hop>> {
        let before = |at: u32, each: &mut dyn FnMut(u32, Edge)| {
            self.checker.before(at, each);
            let derived = self.by_writer.get(&at).into_iter().flatten();
            derived.filter(|of| of.round < round).for_each(|of| each(of.other, Edge::Overwritten(of.key)));
        };
        path::shortest(self.checker.history.transactions.len(), [end], wanted, before, effort)
            .map(path::reversed)
    }

    /// Shows of each order of writes whose read forces it, and of what that rests on, too, which was known earlier.
    fn explain(&self, proof: &mut Proof, effort: &mut Effort) {
        let mut next = 0;
        while let Some(link) = proof.links.get(next).copied() {
            next += 1;
            let (other, Edge::Overwritten(key), writer) = link.hop else { continue };
            let mut all = self.by_writer.get(&writer).into_iter().flatten();
            let found = all.find(|of| of.other == other && of.key == key).filter(|_| next <= ORDERS_MAX);
            let way = found.and_then(|of| self.way(of.reader, |at| at == other, of.round, effort));
            let (Some(of), Some(way)) = (found, way) else {
                proof.complete = false;
                return;
            };
            proof.links[next - 1].reader = Some(of.reader);
            proof.because(way);
            proof.because(vec![(writer, Edge::Reads(key), of.reader)]);
        }
    }
}
