//! The search for an order of transactions on one object: at each return, the transaction must be in the order (Lowe's just-in-time linearization),
//! depth first, with what was tried before remembered.
//!
//! - *Eager*: an open transaction that sees what it demands, and whose writes neither replace nor are anything that is still demanded, is placed at
//!   once. Transactions that only read are of this kind.
//! - *Absorbed*: an open blind write that nobody demands stands just before another that overwrites all of it.
//! - *Dead ends*: a value that is still demanded, and that nobody is left to write in time, is not overwritten.
//! - *Going back*: where the search gets no farther, it returns to an earlier choice and comes again by another way, ever farther. What was found
//!   to be dead stays so, and what was left is tried later: only when nothing is left there is no order.
//! - Of what was tried, only the registers that somebody will read are remembered.

use super::feeders::{Txn, show_none};
use crate::kernel::NEVER;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use std::collections::BTreeSet;
use std::time::Instant;

/// What may be spent.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    pub(super) steps: u64,
    pub(super) deadline: Option<Instant>,
    /// Bytes for what was tried.
    pub(super) memory: usize,
}

impl Budget {
    fn step(&mut self) -> bool {
        let late = self.steps.is_multiple_of(256) && self.deadline.is_some_and(|at| Instant::now() >= at);
        self.steps = if late { 0 } else { self.steps.saturating_sub(1) };
        self.steps > 0
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// An order: places in the list.
    Order(Vec<u32>),
    /// There is none.
    None,
    /// The budget is spent; so many had returned where the search came farthest.
    Spent(usize),
}

/// The calls and returns of the transactions in order of time: `(time, is a return, which)`. Intervals are closed: calls come first.
pub(super) fn events(txns: &[Txn]) -> Vec<(u64, bool, u32)> {
    let mut events = Vec::with_capacity(txns.len() * 2);
    for (at, txn) in txns.iter().enumerate() {
        events.push((txn.call, false, at as u32));
        if txn.ret != NEVER {
            events.push((txn.ret.max(txn.call), true, at as u32));
        }
    }
    events.sort_unstable();
    events
}

/// Registers that transactions connect.
pub(super) struct Object {
    pub(super) txns: Vec<Txn>,
    /// The cell of each register at first.
    pub(super) initial: Vec<u32>,
    pub(super) cells: usize,
}

/// Searches an order of transactions, which are all of an object or some.
pub(super) fn decide(txns: &[Txn], object: &Object, budget: &mut Budget) -> Found {
    if show_none(txns, &object.initial, object.cells) {
        return Found::None;
    }
    Search::new(txns, &object.initial, object.cells).run(budget)
}

/// What was done, to be undone.
enum Done {
    Called(u32),
    Placed(u32),
    Set(u32, u32),
}

/// A return whose transaction was not placed: what can be placed next there.
struct Choice {
    event: usize,
    /// How this is remembered.
    key: Box<[u32]>,
    trail: usize,
    candidates: Vec<u32>,
    next: usize,
}

struct Search<'a> {
    txns: &'a [Txn],
    events: Vec<(u64, bool, u32)>,
    /// By blocks of events, the registers that are written before and read after.
    relevant: Vec<Vec<u32>>,
    state: Vec<u32>,
    /// By cell: how many that are not placed demand it, and can write it.
    demands: Vec<u32>,
    setters: Vec<u32>,
    /// By cell: when its writes are called.
    calls: Vec<Vec<u64>>,
    now: u64,
    /// Open ones that are not placed: known, and of unknown outcome; and those of unknown outcome that are placed.
    open: BTreeSet<u32>,
    unknown: BTreeSet<u32>,
    happened: BTreeSet<u32>,
    placed: Vec<bool>,
    trail: Vec<Done>,
    choices: Vec<Choice>,
    tried: HashSet<Box<[u32]>, FixedState>,
    bytes: usize,
    patience: Patience,
}

/// When to go back, and how far.
#[derive(Default)]
struct Patience {
    farthest: usize,
    /// Choices since the search came farther, or went back.
    waited: u64,
    level: u32,
}

/// Choices without getting farther before the search goes back, and events that it goes back; twice as much each time.
const WAIT: u64 = 500;
const BACK: usize = 8;
/// How often both are doubled.
const LEVELS: u32 = 12;

/// Events for which the relevant registers are found together.
const BLOCK: usize = 64;

fn relevant(txns: &[Txn], events: &[(u64, bool, u32)], registers: usize) -> Vec<Vec<u32>> {
    let mut spans = vec![(usize::MAX, 0); registers];
    for (event, (_, is_return, at)) in events.iter().enumerate() {
        let txn = &txns[*at as usize];
        if *is_return {
            txn.reads.iter().for_each(|(register, _)| spans[*register as usize].1 = event);
        } else {
            for (register, _) in &txn.writes {
                let first = &mut spans[*register as usize].0;
                *first = event.min(*first);
            }
        }
    }
    let mut blocks = vec![Vec::new(); events.len() / BLOCK + 1];
    for (register, (first, last)) in spans.into_iter().enumerate() {
        if first <= last {
            let blocks = &mut blocks[first / BLOCK..=last / BLOCK];
            for block in blocks {
                block.push(register as u32);
            }
        }
    }
    blocks
}

impl<'a> Search<'a> {
    fn new(txns: &'a [Txn], initial: &[u32], cells: usize) -> Self {
        let events = events(txns);
        let (mut demands, mut setters) = (vec![0; cells], vec![0; cells]);
        for txn in txns {
            txn.reads.iter().for_each(|(_, cell)| demands[*cell as usize] += 1);
            txn.writes.iter().for_each(|(_, cell)| setters[*cell as usize] += 1);
        }
        let mut calls = vec![Vec::new(); cells];
        for txn in txns {
            txn.writes.iter().for_each(|(_, cell)| calls[*cell as usize].push(txn.call));
        }
        for calls in &mut calls {
            calls.sort_unstable();
        }
        Self {
            txns,
            relevant: relevant(txns, &events, initial.len()),
            events,
            state: initial.to_vec(),
            demands,
            setters,
            calls,
            now: 0,
            open: BTreeSet::new(),
            unknown: BTreeSet::new(),
            happened: BTreeSet::new(),
            placed: vec![false; txns.len()],
            trail: Vec::new(),
            choices: Vec::new(),
            tried: HashSet::default(),
            bytes: 0,
            patience: Patience::default(),
        }
    }

    fn run(mut self, budget: &mut Budget) -> Found {
        let mut event = 0;
        loop {
            if self.bytes > budget.memory {
                self.forget();
            }
            if !budget.step() {
                let before = &self.events[..self.patience.farthest];
                return Found::Spent(before.iter().filter(|(_, is_return, _)| *is_return).count());
            }
            let Some((time, is_return, at)) = self.events.get(event).copied() else {
                let order = self.trail.iter().filter_map(|done| match done {
                    Done::Placed(at) => Some(*at),
                    _ => None,
                });
                return Found::Order(order.collect());
            };
            self.now = time;
            if event > self.patience.farthest {
                self.patience = Patience { farthest: event, ..Patience::default() };
            }
            if is_return && self.placed[at as usize] || !is_return && self.call(at) {
                event += 1;
                continue;
            }
            if is_return {
                self.remember(event, at);
            }
            self.go_back();
            match self.choose(budget) {
                Some(back) => event = back,
                None if budget.steps == 0 => {}
                None => return Found::None,
            }
        }
    }

    /// A choice at the return of `at`, unless it is known to lead nowhere.
    fn remember(&mut self, event: usize, at: u32) {
        let key = self.key(event);
        self.bytes += key.len() * 8 + 64;
        if self.tried.insert(key.clone()) {
            let candidates = self.candidates(at);
            self.choices.push(Choice { event, key, trail: self.trail.len(), candidates, next: 0 });
        } else {
            self.bytes -= key.len() * 8 + 64;
        }
    }

    /// Forgets what was found to be dead, for lack of memory.
    fn forget(&mut self) {
        self.tried.clear();
        self.tried.extend(self.choices.iter().map(|choice| choice.key.clone()));
        self.bytes = self.choices.iter().map(|choice| choice.key.len() * 8 + 64).sum();
    }

    /// Goes back to an earlier choice when the search has got no farther for long.
    fn go_back(&mut self) {
        let patience = &mut self.patience;
        patience.waited += 1;
        if patience.waited < WAIT << patience.level {
            return;
        }
        let to = patience.farthest.saturating_sub(BACK << patience.level);
        (patience.waited, patience.level) = (0, (patience.level + 1).min(LEVELS));
        // The first choice stays: with it the search would end.
        while self.choices.len() > 1
            && let Some(choice) = self.choices.pop_if(|choice| choice.event > to)
        {
            self.tried.remove(&choice.key);
            self.bytes -= choice.key.len() * 8 + 64;
        }
        if let Some(choice) = self.choices.last_mut().filter(|choice| choice.next > 0) {
            // What was begun there was not tried to its end: later.
            choice.next -= 1;
            choice.candidates[choice.next..].rotate_left(1);
        }
    }

    /// Whether something good can follow.
    fn call(&mut self, at: u32) -> bool {
        self.trail.push(Done::Called(at));
        if self.txns[at as usize].ret == NEVER {
            self.unknown.insert(at);
            return true;
        }
        self.open.insert(at);
        if self.is_eager(at) {
            self.place(at);
            self.place_eager();
            return true;
        }
        let reads = &self.txns[at as usize].reads;
        reads
            .iter()
            .all(|(register, cell)| self.state[*register as usize] == *cell || self.can_be_fed(at, *cell))
    }

    /// Whether somebody can still write what an open transaction demands.
    fn can_be_fed(&self, at: u32, cell: u32) -> bool {
        let (calls, ret) = (&self.calls[cell as usize], self.txns[at as usize].ret);
        let next = calls.partition_point(|call| *call < self.now);
        let feeds = |other: &u32| {
            *other != at && self.txns[*other as usize].writes.iter().any(|write| write.1 == cell)
        };
        calls.get(next).is_some_and(|call| *call <= ret) || self.open.iter().chain(&self.unknown).any(feeds)
    }

    /// Takes the next possibility of the last choice that has one; the event to go on from.
    fn choose(&mut self, budget: &mut Budget) -> Option<usize> {
        loop {
            let choice = self.choices.last_mut()?;
            let (event, trail) = (choice.event, choice.trail);
            let candidate = choice.candidates.get(choice.next).copied();
            choice.next += 1;
            self.undo(trail);
            self.now = self.events[event].0;
            let Some(candidate) = candidate else {
                self.choices.pop();
                continue;
            };
            if !budget.step() {
                return None;
            }
            self.absorb(candidate);
            if self.place(candidate) {
                self.place_eager();
                return Some(event);
            }
        }
    }

    fn undo(&mut self, to: usize) {
        while self.trail.len() > to {
            match self.trail.pop() {
                Some(Done::Called(at)) => {
                    self.open.remove(&at);
                    self.unknown.remove(&at);
                }
                Some(Done::Set(register, cell)) => self.state[register as usize] = cell,
                Some(Done::Placed(at)) => {
                    let txn = &self.txns[at as usize];
                    self.placed[at as usize] = false;
                    txn.reads.iter().for_each(|(_, cell)| self.demands[*cell as usize] += 1);
                    txn.writes.iter().for_each(|(_, cell)| self.setters[*cell as usize] += 1);
                    if txn.ret == NEVER {
                        self.happened.remove(&at);
                        self.unknown.insert(at);
                    } else {
                        self.open.insert(at);
                    }
                }
                None => break,
            }
        }
    }

    /// How things stand before an event, as far as it matters.
    fn key(&self, event: usize) -> Box<[u32]> {
        let relevant = &self.relevant[event / BLOCK];
        let mut key = Vec::with_capacity(2 + relevant.len() + self.open.len() + self.happened.len());
        key.extend([event as u32, self.open.len() as u32]);
        key.extend(relevant.iter().map(|register| self.state[*register as usize]));
        key.extend(&self.open);
        key.extend(&self.happened);
        key.into_boxed_slice()
    }

    fn sees(&self, txn: &Txn) -> bool {
        !txn.broken && txn.reads.iter().all(|(register, cell)| self.state[*register as usize] == *cell)
    }

    fn is_demanded(&self, txn: &Txn) -> bool {
        txn.writes.iter().any(|(_, cell)| self.demands[*cell as usize] > 0)
    }

    /// What can be placed next when `wanted` returns: itself, what feeds it, and others by their returns.
    fn candidates(&self, wanted: u32) -> Vec<u32> {
        let demanded = &self.txns[wanted as usize].reads;
        let possible = |at: &&u32| self.sees(&self.txns[**at as usize]);
        let useful = |at: &&u32| self.is_demanded(&self.txns[**at as usize]);
        let known = self.open.iter().filter(possible);
        let unknown = self.unknown.iter().filter(useful);
        let mut all: Vec<u32> = known.chain(unknown).copied().collect();
        all.sort_by_cached_key(|at| {
            let txn = &self.txns[*at as usize];
            let feeds = txn.writes.iter().any(|write| demanded.contains(write));
            (*at != wanted, !feeds, txn.ret, *at)
        });
        all
    }

    /// Whether placing it now is as good as placing it later.
    fn is_eager(&self, at: u32) -> bool {
        let txn = &self.txns[at as usize];
        let free = |(register, cell): &(u32, u32)| {
            let present = self.state[*register as usize];
            let own = txn.reads.iter().filter(|read| **read == (*register, present)).count() as u32;
            let demands = |cell: u32| self.demands[cell as usize];
            if present == *cell {
                demands(present) == own
            } else {
                demands(*cell) == 0 && demands(present) == own
            }
        };
        self.sees(txn) && txn.writes.iter().all(free)
    }

    fn place_eager(&mut self) {
        while let Some(at) = self.open.iter().copied().find(|at| self.is_eager(*at)) {
            self.place(at);
        }
    }

    /// Places the open blind writes that nobody demands, and that `by` overwrites, just before it.
    fn absorb(&mut self, by: u32) {
        let txn = &self.txns[by as usize];
        let hidden = |(register, cell): &(u32, u32)| {
            self.demands[*cell as usize] == 0
                && txn.writes.iter().any(|(other, _)| other == register)
                && !txn.reads.iter().any(|(other, _)| other == register)
        };
        let absorbed = |at: &u32| {
            let other = &self.txns[*at as usize];
            *at != by && other.reads.is_empty() && !other.broken && other.writes.iter().all(hidden)
        };
        let absorbed: Vec<u32> = self.open.iter().copied().filter(absorbed).collect();
        for at in absorbed {
            self.count_placed(at);
        }
    }

    fn count_placed(&mut self, at: u32) {
        let txn = &self.txns[at as usize];
        self.trail.push(Done::Placed(at));
        self.placed[at as usize] = true;
        self.open.remove(&at);
        if self.unknown.remove(&at) {
            self.happened.insert(at);
        }
        txn.reads.iter().for_each(|(_, cell)| self.demands[*cell as usize] -= 1);
        txn.writes.iter().for_each(|(_, cell)| self.setters[*cell as usize] -= 1);
    }

    /// Places it. `false`: nothing good can follow.
    fn place(&mut self, at: u32) -> bool {
        self.count_placed(at);
        let mut alive = true;
        for (register, cell) in &self.txns[at as usize].writes {
            let before = std::mem::replace(&mut self.state[*register as usize], *cell);
            self.trail.push(Done::Set(*register, before));
            if before != *cell && self.demands[before as usize] > 0 {
                let starves = |other: &u32| {
                    let demands = self.txns[*other as usize].reads.iter().any(|read| read.1 == before);
                    demands && !self.can_be_fed(*other, before)
                };
                alive &= self.setters[before as usize] > 0 && !self.open.iter().any(starves);
            }
        }
        alive
    }
}
