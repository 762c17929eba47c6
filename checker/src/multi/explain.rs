//! Why transactions have no order: the longest prefix in time that has one, and the smallest part that has none either.

use super::feeders::Txn;
use super::search::{Budget, Found, Object, decide, events};
use crate::kernel::NEVER;

/// What is shown of a violation.
pub(super) struct Why {
    /// Which could not be placed when it returned, of the history.
    pub(super) stuck: u32,
    /// How many have an order before that, and the last of them.
    pub(super) prefix: usize,
    pub(super) last: Vec<u32>,
    /// The smallest part that was found; what it demands of what is left out is left out.
    pub(super) smallest: Vec<Txn>,
}

/// Transactions of the longest order that are shown.
const SHOWN: usize = 20;
/// Steps for each part that is tried, and how many transactions are tried in all.
const STEPS_EACH: u64 = 100_000;
const JUDGED_MAX: usize = 1_000_000;

/// Explains why the transactions of an object have no order.
pub(super) fn explain(object: &Object, budget: &Budget) -> Why {
    let events = events(&object.txns);
    let returns: Vec<usize> = (0..events.len()).filter(|event| events[*event].1).collect();
    // Before the return at `low` there is an order; with that at `high` there is none.
    let (mut low, mut high) = (0, returns.len().saturating_sub(1));
    let mut order = Vec::new();
    while low < high {
        let middle = usize::midpoint(low, high);
        let part = until(object, returns[middle]);
        match decide(&part, object, &mut budget.clone()) {
            Found::Order(found) => {
                order = found.into_iter().map(|at| part[at as usize].source).collect();
                low = middle + 1;
            }
            Found::None => high = middle,
            Found::Spent(_) => break,
        }
    }
    let end = returns.get(high).copied().unwrap_or(0);
    let stuck = events.get(end).map_or(0, |(_, _, at)| object.txns[*at as usize].source);
    let smallest = Parts { object, all: until(object, end), judged: 0 }.smallest();
    let last = order[order.len().saturating_sub(SHOWN)..].to_vec();
    Why { stuck, prefix: order.len(), last, smallest }
}

/// What was known after an event: what is called later is not there, what is open may happen or not.
fn until(object: &Object, event: usize) -> Vec<Txn> {
    let events = events(&object.txns);
    let mut part: Vec<Txn> = Vec::new();
    let mut place = vec![usize::MAX; object.txns.len()];
    for (_, is_return, at) in &events[..=event.min(events.len() - 1)] {
        let txn = &object.txns[*at as usize];
        if *is_return {
            part[place[*at as usize]] = txn.clone();
        } else {
            place[*at as usize] = part.len();
            part.push(Txn { ret: NEVER, reads: Vec::new(), broken: false, ..txn.clone() });
        }
    }
    part
}

struct Parts<'a> {
    object: &'a Object,
    all: Vec<Txn>,
    judged: usize,
}

impl Parts<'_> {
    fn smallest(mut self) -> Vec<Txn> {
        let mut kept: Vec<usize> = (0..self.all.len()).collect();
        let mut run = kept.len().div_ceil(2);
        while run > 0 {
            let mut at = kept.len();
            while at > 0 {
                let start = at.saturating_sub(run);
                let without: Vec<usize> = kept[..start].iter().chain(&kept[at..]).copied().collect();
                if !without.is_empty() && self.fails(&without) {
                    kept = without;
                }
                at = start;
            }
            run = if run == 1 { 0 } else { run.div_ceil(2) };
        }
        self.part(&kept)
    }

    /// Some of the transactions. What they read of the others is left out: then each order of all is one of these.
    fn part(&self, kept: &[usize]) -> Vec<Txn> {
        let mut gone = vec![false; self.object.cells];
        let mut is_kept = vec![false; self.all.len()];
        for at in kept {
            is_kept[*at] = true;
        }
        for (txn, _) in self.all.iter().zip(&is_kept).filter(|(_, kept)| !**kept) {
            txn.writes.iter().for_each(|(_, cell)| gone[*cell as usize] = true);
        }
        let part = kept.iter().map(|at| {
            let mut txn = self.all[*at].clone();
            txn.reads.retain(|(_, cell)| !gone[*cell as usize]);
            txn
        });
        part.collect()
    }

    fn fails(&mut self, kept: &[usize]) -> bool {
        self.judged += kept.len() + self.all.len() / 8 + 16;
        if self.judged > JUDGED_MAX {
            return false;
        }
        let mut budget = Budget { steps: STEPS_EACH, deadline: None, memory: 16 << 20 };
        let part = self.part(kept);
        decide(&part, self.object, &mut budget) == Found::None
    }
}
