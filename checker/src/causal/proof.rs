//! Why a history is not at a level: the transactions that show it, and how each stands to others.

use super::path::{Edge, Hop};
use crate::recording::NOTHING;
use crate::transactions::{Access, Transactions};
use std::collections::{BTreeMap, BTreeSet};

/// One transaction stands before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) hop: Hop,
    /// Of a write that was seen and not read: by whom.
    pub(super) reader: Option<u32>,
    pub(super) of_cycle: bool,
}

/// Why a history is not at a level.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) name: &'static str,
    pub(super) what: String,
    /// The transactions that the sentence is about, in its order; of a cycle all of its.
    pub(super) about: Vec<u32>,
    /// Of a cycle: how each leads to the next. Empty for what is told in a sentence.
    pub(super) cycle: Vec<Edge>,
    pub(super) links: Vec<Link>,
    /// Accesses that matter, by transaction and place, beside those of the links.
    pub(super) accesses: Vec<(u32, usize)>,
    /// Whether nothing is missing, as it is where finding it would take too long.
    pub(super) complete: bool,
}

impl Proof {
    /// What is wrong with single accesses.
    pub(super) fn of_accesses(name: &'static str, what: &str, accesses: Vec<(u32, usize)>) -> Self {
        let about = accesses.first().map(|(at, _)| *at).into_iter().collect();
        let (cycle, links) = (Vec::new(), Vec::new());
        Self { name, what: what.into(), about, cycle, links, accesses, complete: true }
    }

    /// Of each transaction that matters the places of the accesses that do.
    pub(super) fn kept(&self, history: &Transactions) -> BTreeMap<u32, BTreeSet<usize>> {
        let mut kept: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
        for (at, place) in &self.accesses {
            kept.entry(*at).or_default().insert(*place);
        }
        let last_write = |at: u32, key: u32, value: Option<u32>| {
            let mut writes = history.accesses(at as usize).iter().enumerate().rev();
            let found = writes.find(|(_, access)| {
                access.write && access.key == key && value.is_none_or(|value| value == access.value)
            });
            found.map(|(place, _)| place)
        };
        let mut keep = |at: u32, place: Option<usize>| kept.entry(at).or_default().extend(place);
        for Link { hop: (from, edge, to), .. } in &self.links {
            match *edge {
                Edge::Session => {
                    keep(*from, None);
                    keep(*to, None);
                }
                Edge::Reads(key) => {
                    let mut reads = history.accesses(*to as usize).iter().enumerate();
                    let read = reads.find(|(_, access)| {
                        !access.write
                            && access.key == key
                            && last_write(*from, key, Some(access.value)).is_some()
                    });
                    keep(*to, read.map(|(place, _)| place));
                    keep(*from, read.and_then(|(_, access)| last_write(*from, key, Some(access.value))));
                }
                // What is read of the second is a link of its own.
                Edge::Overwritten(key) => keep(*from, last_write(*from, key, None)),
                Edge::Nothing(key) => {
                    let mut reads = history.accesses(*from as usize).iter();
                    let nothing = Access { key, value: NOTHING, write: false };
                    keep(*from, reads.position(|access| *access == nothing));
                    keep(*to, last_write(*to, key, None));
                }
            }
        }
        kept
    }

    /// Adds the cycle.
    pub(super) fn cycle_of(&mut self, hops: impl IntoIterator<Item = Hop>) {
        self.links.extend(hops.into_iter().map(|hop| Link { hop, reader: None, of_cycle: true }));
    }

    /// Adds what shows that something holds.
    pub(super) fn because(&mut self, hops: Vec<Hop>) {
        for hop in hops {
            if !self.links.iter().any(|link| link.hop == hop) {
                self.links.push(Link { hop, reader: None, of_cycle: false });
            }
        }
    }
}
