//! Why a key is not linearizable: how far an order reaches, and the smallest part of the history that has none.
//!
//! A part proves something only when leaving out the rest cannot have broken it. A read can always be left out, for an order of the whole is then an
//! order of the part. A value can be left out with all that writes, reads or swaps it, when nothing demands that a value is *not* there.

use crate::frontier::{Budget, Found, Want, search};
use crate::kernel::{Act, Kernel, OTHER};
use crate::linearizability::{Counterexample, Options};
use crate::narrow::narrow;
use crate::recording::{NOTHING, Recording};
use crate::slots::{NONE, Slots};
use crate::zones::{self, Why};

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
/// Operations that are judged in all while the smallest part is looked for: at least, for each of the key, and at most.
const JUDGED_MIN: usize = 50_000;
const JUDGED_EACH: usize = 2;
const JUDGED_MAX: usize = 1_000_000;
/// A part that is larger than this explains nothing.
const SHOWN_MAX: usize = 200;

/// A history as parts that can be left out.
struct Parts<'a> {
    recording: &'a Recording,
    options: &'a Options,
    /// Operations that go only together, the latest last.
    groups: Vec<Vec<u32>>,
    judged: usize,
    judged_max: usize,
}

impl<'a> Parts<'a> {
    fn new(recording: &'a Recording, options: &'a Options, kernel: &Kernel, stuck: u32) -> Self {
        let end = kernel.ops[stuck as usize].ret;
        let mut groups: Vec<Vec<u32>> = Vec::new();
        if kernel.positive && !kernel.expiring && !kernel.computed {
            let mut root: Vec<u32> = (0..kernel.classes as u32).collect();
            for op in &kernel.ops {
                if let (Some(a), Some(b)) = (op.needs(), op.sets().filter(|class| *class != OTHER)) {
                    let (a, b) = (find(&mut root, a), find(&mut root, b));
                    root[a as usize] = b;
                }
            }
            let mut of_class: Vec<Vec<u32>> = vec![Vec::new(); kernel.classes];
            for op in kernel.ops.iter().filter(|op| op.call <= end) {
                match op.needs().or(op.sets()) {
                    Some(OTHER) | None => groups.push(vec![op.source]),
                    Some(class) => of_class[find(&mut root, class) as usize].push(op.source),
                }
            }
            groups.extend(of_class.into_iter().filter(|group| !group.is_empty()));
        } else {
            groups.push(kernel.ops.iter().filter(|op| op.call <= end).map(|op| op.source).collect());
        }
        let call = |at: &u32| recording.records[*at as usize].call;
        groups.sort_by_key(|group| group.iter().map(call).max());
        let judged_max = (kernel.ops.len() * JUDGED_EACH).clamp(JUDGED_MIN, JUDGED_MAX);
        Self { recording, options, groups, judged: 0, judged_max }
    }

    fn smallest(mut self) -> Vec<u32> {
        let mut groups = std::mem::take(&mut self.groups);
        // The latest are the likeliest to be enough.
        let mut count = 4;
        while count < groups.len() {
            let late: Vec<Vec<u32>> = groups[groups.len() - count..].to_vec();
            if self.fails(&late.concat()) {
                groups = late;
                break;
            }
            count *= 2;
        }
        self.leave_out(&mut groups);
        let mut reads: Vec<Vec<u32>> = Vec::new();
        let mut rest: Vec<u32> = Vec::new();
        for at in groups.concat() {
            let mut kernel = Kernel::new(self.recording, &[at], self.options);
            let observes = kernel.ops.pop().is_some_and(|op| matches!(op.act, Act::Observe(_)));
            if observes { reads.push(vec![at]) } else { rest.push(at) }
        }
        // What must stay is a group of its own, behind all others.
        reads.push(rest);
        self.leave_out(&mut reads);
        let smallest = reads.concat();
        if smallest.len() > SHOWN_MAX || !self.fails(&smallest) { Vec::new() } else { smallest }
    }

    /// Leaves out runs of groups, long ones first, as long as what stays fails. The last group stays.
    fn leave_out(&mut self, groups: &mut Vec<Vec<u32>>) {
        let mut run = groups.len().div_ceil(2);
        while run > 0 {
            let mut at = 0;
            while at + 1 < groups.len() {
                let end = (at + run).min(groups.len() - 1);
                let kept: Vec<u32> = groups[..at].iter().chain(&groups[end..]).flatten().copied().collect();
                if self.fails(&kept) {
                    groups.drain(at..end);
                } else {
                    at = end;
                }
            }
            run = if run == 1 { 0 } else { run.div_ceil(2) };
        }
        if groups.len() > 1 && self.fails(&groups[..groups.len() - 1].concat()) {
            groups.pop();
        }
    }

    /// Whether these operations certainly have no order.
    fn fails(&mut self, places: &[u32]) -> bool {
        self.judged += places.len() + 16;
        if self.judged > self.judged_max {
            return false;
        }
        let mut places = places.to_vec();
        places.sort_unstable();
        let mut kernel = Kernel::new(self.recording, &places, self.options);
        match zones::judge(&kernel) {
            Some(Ok(())) => return false,
            Some(Err(Why::Conflict(_))) => return true,
            None => {}
        }
        if narrow(&mut kernel).is_err() {
            return true;
        }
        let slots = Slots::new(&kernel);
        let events = kernel.events.len();
        let mut budget = Budget { steps: 20_000, deadline: None, memory: 16 << 20 };
        matches!(search(&mut kernel, &slots, events, Want::Verdict, &mut budget), Found::Stuck(..))
    }
}

fn find(root: &mut [u32], class: u32) -> u32 {
    let mut at = class;
    while root[at as usize] != at {
        root[at as usize] = root[root[at as usize] as usize];
        at = root[at as usize];
    }
    at
}
