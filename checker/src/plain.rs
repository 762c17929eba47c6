//! The plain search of Wing and Gong with Lowe's memoisation: the reference that the fast algorithms are compared with.
//!
//! It is short enough to be believed. Operations of unknown outcome need not be linearized at all, and states that have been
//! reached with the same set of operations are visited once.

use crate::history::{Function, History, Level, Operation, Outcome};
use crate::linearizability::{Counterexample, Options, Verdict};
use crate::model::{State, Values, step};
use std::collections::{BTreeMap, HashSet};

/// Judges every key of the history, whose keys hold `initial` at first.
pub fn check(history: &History, initial: Option<&[u8]>, options: &Options) -> Verdict {
    let mut keys: BTreeMap<&[u8], Vec<Interval<'_>>> = BTreeMap::new();
    for operation in &history.operations {
        if let Some(interval) = Interval::of(operation, options) {
            keys.entry(&operation.key).or_default().push(interval);
        }
    }
    let mut undecided = None;
    for (key, intervals) in keys {
        match check_key(key, intervals, initial, options) {
            Verdict::Holds => {}
            Verdict::Undecided { key } => undecided = Some(Verdict::Undecided { key }),
            violated @ Verdict::Violated(_) => return violated,
        }
    }
    undecided.unwrap_or(Verdict::Holds)
}

/// An operation with the interval in which its point must lie.
#[derive(Debug, Clone)]
struct Interval<'a> {
    operation: &'a Operation,
    call: u64,
    /// `None`: any time, or never.
    ret: Option<u64>,
}

impl<'a> Interval<'a> {
    /// `None` for an operation that this checker has nothing to say of.
    fn of(operation: &'a Operation, options: &Options) -> Option<Self> {
        let read = operation.function == Function::Get;
        let (call, ret) = match (operation.level, &operation.outcome) {
            (_, Outcome::Unknown) if read => return None,
            (Level::Strong, Outcome::Ok(_)) => (operation.call, Some(operation.ret)),
            (Level::Strong, Outcome::Unknown) => (operation.call, None),
            _ if read => return None,
            (Level::Causal, Outcome::Ok(_)) => {
                (operation.call.saturating_sub(options.weak_slack), Some(operation.ret))
            }
            _ => (operation.call.saturating_sub(options.weak_slack), None),
        };
        Some(Self { operation, call, ret })
    }
}

/// The calls and returns of a key in order of time, as a doubly linked list over indices.
struct Timeline {
    /// `(operation, is a return)`, by event; event 0 is the head.
    events: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Events of each operation.
    calls: Vec<usize>,
    returns: Vec<Option<usize>>,
}

impl Timeline {
    fn new(intervals: &[Interval<'_>]) -> Self {
        let mut order: Vec<(u64, bool, usize)> = Vec::new();
        for (at, interval) in intervals.iter().enumerate() {
            order.push((interval.call, false, at));
            if let Some(ret) = interval.ret {
                order.push((ret.max(interval.call), true, at));
            }
        }
        // Intervals are closed: at equal times calls come first, and the operations are concurrent.
        order.sort_unstable();
        let count = order.len() + 1;
        let mut timeline = Self {
            events: vec![(usize::MAX, false)],
            next: (1..=count).collect(),
            previous: (0..=count).map(|at| at.saturating_sub(1)).collect(),
            calls: vec![0; intervals.len()],
            returns: vec![None; intervals.len()],
        };
        for (_, is_return, at) in order {
            let event = timeline.events.len();
            timeline.events.push((at, is_return));
            if is_return {
                timeline.returns[at] = Some(event);
            } else {
                timeline.calls[at] = event;
            }
        }
        timeline
    }

    /// The earliest return of what is not placed yet.
    fn first_return(&self, intervals: &[Interval<'_>]) -> u64 {
        let mut event = self.next[0];
        while let Some((operation, is_return)) = self.events.get(event) {
            if *is_return {
                let interval = &intervals[*operation];
                return interval.ret.map_or(u64::MAX, |ret| ret.max(interval.call));
            }
            event = self.next[event];
        }
        u64::MAX
    }

    fn unlink(&mut self, event: usize) {
        let (before, after) = (self.previous[event], self.next[event]);
        self.next[before] = after;
        if after < self.previous.len() {
            self.previous[after] = before;
        }
    }

    fn relink(&mut self, event: usize) {
        let (before, after) = (self.previous[event], self.next[event]);
        self.next[before] = event;
        if after < self.previous.len() {
            self.previous[after] = event;
        }
    }

    fn lift(&mut self, operation: usize) {
        self.unlink(self.calls[operation]);
        if let Some(ret) = self.returns[operation] {
            self.unlink(ret);
        }
    }

    fn unlift(&mut self, operation: usize) {
        if let Some(ret) = self.returns[operation] {
            self.relink(ret);
        }
        self.relink(self.calls[operation]);
    }
}

/// A choice made on the way: the operation, the state before it, and which of its outcomes was taken.
struct Choice {
    operation: usize,
    before: State,
    alternative: usize,
}

fn check_key(
    key: &[u8],
    mut intervals: Vec<Interval<'_>>,
    initial: Option<&[u8]>,
    options: &Options,
) -> Verdict {
    let mut values = Values::default();
    let state = initial.map_or(State::ABSENT, |value| values.holding(value));
    intervals.sort_by_key(|interval| (interval.call, interval.ret.unwrap_or(u64::MAX)));
    let mut search = Search {
        timeline: Timeline::new(&intervals),
        values,
        done: vec![0; intervals.len().div_ceil(64)],
        visited: HashSet::new(),
        path: Vec::new(),
        state,
        must: intervals.iter().filter(|interval| interval.ret.is_some()).count(),
        longest: Vec::new(),
        steps: 0,
    };
    match search.run(&intervals, options) {
        Some(true) => Verdict::Holds,
        None => Verdict::Undecided { key: key.to_vec() },
        Some(false) => {
            let prefix: Vec<Operation> =
                search.longest.iter().map(|at| intervals[*at].operation.clone()).collect();
            let left = intervals.iter().enumerate().filter(|(at, _)| !search.longest.contains(at));
            let stuck = left
                .filter_map(|(_, interval)| Some((interval.ret?, interval.operation)))
                .min_by_key(|(ret, _)| *ret);
            let stuck =
                stuck.map_or_else(|| intervals[0].operation.clone(), |(_, operation)| operation.clone());
            Verdict::Violated(Counterexample { key: key.to_vec(), prefix, stuck, smallest: Vec::new() })
        }
    }
}

struct Search {
    timeline: Timeline,
    values: Values,
    done: Vec<u64>,
    visited: HashSet<(Vec<u64>, State)>,
    path: Vec<Choice>,
    state: State,
    /// Operations with a return that are still to be placed.
    must: usize,
    longest: Vec<usize>,
    steps: u64,
}

impl Search {
    fn run(&mut self, intervals: &[Interval<'_>], options: &Options) -> Option<bool> {
        let mut event = self.timeline.next[0];
        let mut alternative = 0;
        loop {
            if self.must == 0 {
                return Some(true);
            }
            self.steps += 1;
            if self.steps > options.steps_max {
                return None;
            }
            if let Some((operation, false)) = self.timeline.events.get(event).copied() {
                let placed = self.place(intervals, options, operation, alternative);
                event = self.timeline.next[if placed { 0 } else { event }];
                alternative = 0;
                continue;
            }
            // An operation has returned that could not be placed, or the list is at its end: goes back.
            let Some(Choice { operation, before, alternative: taken }) = self.path.pop() else {
                return Some(false);
            };
            self.done[operation / 64] &= !(1 << (operation % 64));
            self.must += usize::from(intervals[operation].ret.is_some());
            self.state = before;
            self.timeline.unlift(operation);
            event = self.timeline.calls[operation];
            alternative = taken + 1;
        }
    }

    /// Places `operation` next, taking its first outcome from `from` on that leads somewhere new.
    fn place(
        &mut self,
        intervals: &[Interval<'_>],
        options: &Options,
        operation: usize,
        from: usize,
    ) -> bool {
        let until = self.timeline.first_return(intervals);
        let asked = intervals[operation].operation;
        let outcomes = step(&mut self.values, self.state, asked, until, options.expiry_slack);
        self.done[operation / 64] |= 1 << (operation % 64);
        for (alternative, next) in outcomes.into_iter().enumerate().skip(from) {
            let Some(next) = next else {
                continue;
            };
            if !self.visited.insert((self.done.clone(), next)) {
                continue;
            }
            self.path.push(Choice { operation, before: self.state, alternative });
            self.state = next;
            self.must -= usize::from(intervals[operation].ret.is_some());
            self.timeline.lift(operation);
            if self.path.len() > self.longest.len() {
                self.longest = self.path.iter().map(|choice| choice.operation).collect();
            }
            return true;
        }
        self.done[operation / 64] &= !(1 << (operation % 64));
        false
    }
}
