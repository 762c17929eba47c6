//! Why a key is not linearizable: how far an order reaches, and the smallest part that has none.

use crate::frontier::{Budget, Found, search};
use crate::kernel::Kernel;
use crate::linearizability::Counterexample;
use crate::recording::{NOTHING, Recording};
use crate::slots::Slots;

/// Explains a violation: the search got stuck at the return of `stuck`, or zones found a `conflict`.
pub(crate) fn explain(
    recording: &Recording,
    kernel: &mut Kernel,
    slots: &Slots,
    stuck: Option<u32>,
    conflict: Option<Vec<u32>>,
    mut budget: Budget,
) -> Counterexample {
    let source = |kernel: &Kernel, at: u32| recording.operation(kernel.ops[at as usize].source);
    let mut prefix = Vec::new();
    if let Some(stuck) = stuck {
        let events = slots.ret[stuck as usize] as usize + 1;
        budget.steps = budget.steps.max(EXPLAIN_STEPS);
        if let Found::Stuck(_, order) = search(kernel, slots, events, true, &mut budget) {
            prefix = order;
        }
    }
    let smallest = conflict.clone().unwrap_or_default();
    let last = conflict.as_ref().and_then(|ops| ops.last().copied());
    let stuck = stuck.or(last).unwrap_or(0);
    let key = kernel.ops.first().map_or(NOTHING, |op| recording.records[op.source as usize].key);
    Counterexample {
        key: recording.keys.text(key).to_vec(),
        prefix: prefix.into_iter().map(|at| source(kernel, at)).collect(),
        stuck: source(kernel, stuck),
        smallest: smallest.into_iter().map(|at| source(kernel, at)).collect(),
    }
}

/// Steps that an explanation gets at least.
const EXPLAIN_STEPS: u64 = 1_000_000;
