//! Why a key is not linearizable: how far an order reaches, and the smallest part of the history that has none.

use crate::frontier::{Budget, Found, Want, search};
use crate::kernel::Kernel;
use crate::linearizability::{Counterexample, Options};
use crate::parts::Parts;
use crate::recording::{NOTHING, Recording};
use crate::slots::{NONE, Slots};

/// What is known of a violation: the search got stuck at the return of an operation, or zones found a conflict.
pub(crate) struct Violation {
    pub(crate) stuck: Option<u32>,
    pub(crate) conflict: Option<Vec<u32>>,
}

/// Explains a violation of a key.
pub(crate) fn explain(
    recording: &Recording,
    options: &Options,
    kernel: &mut Kernel,
    violation: &Violation,
    mut budget: Budget,
) -> Counterexample {
    let slots = &Slots::new(kernel);
    let mut prefix = Vec::new();
    let mut stuck = violation.stuck;
    budget.steps = budget.steps.max(EXPLAIN_STEPS);
    let mut longest = budget.clone();
    let conflict = violation.conflict.as_deref().unwrap_or_default();
    if let Some(first) = stuck.or(conflict.iter().copied().max_by_key(|at| slots.ret[*at as usize])) {
        // What zones found fails when the last of it has returned, or before.
        let certain = conflict.iter().map(|at| slots.ret[*at as usize]).max().filter(|ret| *ret != NONE);
        let events = certain.map_or(kernel.events.len(), |ret| ret as usize + 1);
        if let Found::Stuck(last, order) = search(kernel, slots, events, Want::Prefix, &mut longest) {
            (stuck, prefix) = (Some(last), order);
        } else if stuck.is_some() {
            let events = (slots.ret[first as usize] as usize + 1).min(kernel.events.len());
            if let Found::Stuck(_, order) = search(kernel, slots, events, Want::Order, &mut budget) {
                prefix = order;
            }
        }
    }
    let smallest = match (&violation.conflict, stuck) {
        (Some(conflict), _) => {
            let all = with_witnesses(kernel, conflict);
            all.iter().map(|at| kernel.ops[*at as usize].source).collect()
        }
        (None, Some(stuck)) => Parts::new(recording, options, kernel, stuck).smallest(),
        (None, None) => Vec::new(),
    };
    let last = violation.conflict.as_ref().and_then(|ops| ops.last().copied());
    let stuck = stuck.or(last).unwrap_or(0);
    let key = kernel.ops.first().map_or(NOTHING, |op| recording.records[op.source as usize].key);
    let source = |at: u32| recording.operation(kernel.ops[at as usize].source);
    Counterexample {
        key: recording.keys.text(key).to_vec(),
        prefix: prefix.into_iter().map(source).collect(),
        stuck: source(stuck),
        smallest: smallest.into_iter().map(|at| recording.operation(at)).collect(),
    }
}

/// Adds to a conflict what shows that its operations of unknown outcome happened: of each, one that demands what it set.
fn with_witnesses(kernel: &Kernel, conflict: &[u32]) -> Vec<u32> {
    let mut all = conflict.to_vec();
    let mut next = 0;
    while let Some(at) = all.get(next).copied() {
        next += 1;
        let op = kernel.ops[at as usize];
        let Some(class) = op.sets().filter(|_| op.is_unknown()) else { continue };
        let shows = |other: u32| other != at && kernel.ops[other as usize].needs() == Some(class);
        if !all.iter().any(|other| shows(*other)) {
            let witnesses = (0..kernel.ops.len() as u32).filter(|other| shows(*other));
            all.extend(witnesses.min_by_key(|other| kernel.ops[*other as usize].is_unknown()));
        }
    }
    all
}

/// Steps that an explanation gets at least.
const EXPLAIN_STEPS: u64 = 20_000;
