//! The smallest part of a key's history that has no order either.
//!
//! A part proves something only when leaving out the rest cannot have broken it. In an order of the whole, whatever demands a value was *fed* by the
//! last change before it. So a part in which every demand has kept all that can have fed it has an order when the whole has one: leave the rest
//! out, and each demand still finds what fed it. Reads can always be left out, and so can anything that feeds none of those that stay. A demand that
//! nothing can have fed is shown with the last that might have, and with what overwrote that.

use crate::frontier::{Budget, Found, Want, search};
use crate::kernel::{Act, Kernel, NEVER, Op, Test};
use crate::linearizability::Options;
use crate::narrow::narrow;
use crate::recording::Recording;
use crate::slots::Slots;
use crate::zones::{self, Why};

/// Operations that are judged in all while the smallest part is looked for: at least, for each of the key, and at most.
const JUDGED_MIN: usize = 50_000;
const JUDGED_EACH: usize = 2;
const JUDGED_MAX: usize = 1_000_000;
/// A part that is larger than this explains nothing.
const SHOWN_MAX: usize = 200;
/// How many of the latest operations are tried first.
const TRIED_FIRST: usize = 4;

/// A change of the value.
#[derive(Clone, Copy)]
struct Change {
    class: u32,
    call: u64,
    ret: u64,
    at: u32,
    /// The latest return of those before it in the list, and its own.
    latest: u64,
}

/// Changes in the order of their calls, those that return and the others.
#[derive(Clone, Default)]
struct Changes {
    known: Vec<Change>,
    unknown: Vec<Change>,
}

impl Changes {
    fn push(&mut self, change: Change) {
        let known = change.ret != NEVER;
        if known { self.known.push(change) } else { self.unknown.push(change) }
    }

    fn sort(&mut self) {
        self.unknown.sort_by_key(|change| change.call);
        self.known.sort_by_key(|change| change.call);
        let mut latest = 0;
        for change in &mut self.known {
            latest = latest.max(change.ret);
            change.latest = latest;
        }
    }

    /// Those that are called at `until` at the latest, and return at `from` or later.
    fn between(&self, from: u64, until: u64) -> impl Iterator<Item = &Change> {
        let called = |list: &[Change]| list.partition_point(|change| change.call <= until);
        let known = self.known[..called(&self.known)].iter().rev();
        let known =
            known.take_while(move |change| change.latest >= from).filter(move |change| change.ret >= from);
        known.chain(&self.unknown[..called(&self.unknown)])
    }
}

/// A history of which parts can be left out.
pub(crate) struct Parts<'a> {
    recording: &'a Recording,
    options: &'a Options,
    kernel: &'a Kernel,
    /// What may be left out, in the order of the calls; and what always stays.
    items: Vec<u32>,
    rest: Vec<u32>,
    /// Changes by class, and all; none where only reads are left out.
    of_class: Vec<Changes>,
    all: Changes,
    /// Changes that certainly happened: by their returns, with the latest call so far and whose it is.
    certain: Vec<(u64, u64, u32)>,
    judged: usize,
    judged_max: usize,
}

impl<'a> Parts<'a> {
    /// `stuck` cannot be placed when it returns.
    pub(crate) fn new(
        recording: &'a Recording,
        options: &'a Options,
        kernel: &'a Kernel,
        stuck: u32,
    ) -> Self {
        let end = kernel.ops[stuck as usize].ret;
        let mut parts = Self {
            recording,
            options,
            kernel,
            items: Vec::new(),
            rest: Vec::new(),
            of_class: Vec::new(),
            all: Changes::default(),
            certain: Vec::new(),
            judged: 0,
            judged_max: (kernel.ops.len() * JUDGED_EACH).clamp(JUDGED_MIN, JUDGED_MAX),
        };
        let follows = kernel.expiring || kernel.computed;
        for at in (0..kernel.ops.len() as u32).filter(|at| kernel.ops[*at as usize].call <= end) {
            let observes = matches!(kernel.ops[at as usize].act, Act::Observe(_));
            // What follows from all before it can only do without reads.
            if follows && !observes { parts.rest.push(at) } else { parts.items.push(at) }
        }
        if !follows {
            parts.list_changes();
        }
        parts.items.sort_by_key(|at| kernel.ops[*at as usize].call);
        parts
    }

    fn list_changes(&mut self) {
        self.of_class = vec![Changes::default(); self.kernel.classes];
        for (at, op) in self.kernel.ops.iter().enumerate() {
            let Some(class) = op.sets() else { continue };
            let change = Change { class, call: op.call, ret: op.ret, at: at as u32, latest: op.ret };
            self.of_class[class as usize].push(change);
            self.all.push(change);
            if !op.is_unknown() && !matches!(op.act, Act::Maybe(..)) {
                self.certain.push((op.ret, op.call, at as u32));
            }
        }
        self.of_class.iter_mut().chain([&mut self.all]).for_each(Changes::sort);
        self.certain.sort_unstable();
        let mut latest = (0, 0);
        for (_, call, at) in &mut self.certain {
            latest = latest.max((*call, *at));
            (*call, *at) = latest;
        }
    }

    /// Adds those that can have fed an operation: called before it returned, and not certainly overwritten when it was called.
    fn feeders(&self, op: &Op, into: &mut Vec<u32>) {
        let (list, test) = match op.act {
            // What it does depends on whatever stands before it.
            Act::Maybe(..) if !op.is_unknown() => (&self.all, None),
            Act::Observe(test @ Test::Is(class))
            | Act::Swap(test @ Test::Is(class), _)
            | Act::Maybe(test @ Test::Is(class), _) => match self.of_class.get(class as usize) {
                Some(list) => (list, Some(test)),
                None => return,
            },
            Act::Observe(test) | Act::Swap(test, _) | Act::Maybe(test, _) => (&self.all, Some(test)),
            Act::Write(..) | Act::Add(..) | Act::Append(..) | Act::Update(_) => return,
        };
        let returned = self.certain.partition_point(|(ret, ..)| *ret < op.call);
        let overwriting = returned.checked_sub(1).map(|last| self.certain[last]);
        let overwritten = overwriting.map_or(0, |(_, call, _)| call);
        let feeds = |change: &&Change| test.is_none_or(|test| test.holds(change.class));
        let before = into.len();
        into.extend(list.between(overwritten, op.ret).filter(feeds).map(|change| change.at));
        if into.len() == before
            && let Some((_, _, overwriting)) = overwriting
        {
            // To show that nothing can have fed it: the last that might have, if nothing had overwritten it.
            let last = list.between(0, op.ret).filter(feeds).max_by_key(|change| change.ret);
            let initial = test.is_some_and(|test| test.holds(self.kernel.initial));
            into.extend(last.map(|change| change.at));
            into.extend((last.is_some() || initial).then_some(overwriting));
        }
    }

    /// These, with all that can have fed them, and what can have fed those; in the order of the recording.
    fn with_feeders(&self, chosen: &[u32]) -> Vec<u32> {
        let mut is_in = vec![false; self.kernel.ops.len()];
        let mut all: Vec<u32> = Vec::new();
        let mut left: Vec<u32> = chosen.iter().chain(&self.rest).copied().collect();
        while let Some(at) = left.pop() {
            if !std::mem::replace(&mut is_in[at as usize], true) {
                all.push(at);
                self.feeders(&self.kernel.ops[at as usize], &mut left);
            }
        }
        all.sort_unstable_by_key(|at| self.kernel.ops[*at as usize].source);
        all
    }

    /// The smallest part that is found, as places in the recording; none when it is too large to explain anything.
    pub(crate) fn smallest(mut self) -> Vec<u32> {
        let (mut chosen, mut proved) = (self.items.clone(), false);
        // The latest are the likeliest to be enough.
        let mut count = TRIED_FIRST;
        while count < chosen.len() && self.judged <= self.judged_max {
            let late = self.items[self.items.len() - count..].to_vec();
            if self.fails(&self.with_feeders(&late)) {
                (chosen, proved) = (late, true);
                break;
            }
            count *= 2;
        }
        if self.judged > self.judged_max {
            return Vec::new();
        }
        proved |= self.leave_out(&mut chosen);
        let smallest = self.with_feeders(&chosen);
        if smallest.len() > SHOWN_MAX || !(proved || self.fails(&smallest)) {
            return Vec::new();
        }
        smallest.into_iter().map(|at| self.kernel.ops[at as usize].source).collect()
    }

    /// Leaves out runs of the chosen, long ones first, as long as what stays has no order. Whether that was shown of what is left.
    fn leave_out(&mut self, chosen: &mut Vec<u32>) -> bool {
        let mut proved = false;
        let mut part = self.with_feeders(chosen);
        let mut run = chosen.len().div_ceil(2);
        while run > 0 {
            let mut at = 0;
            while at < chosen.len() && self.judged <= self.judged_max {
                let end = (at + run).min(chosen.len());
                let kept: Vec<u32> = chosen[..at].iter().chain(&chosen[end..]).copied().collect();
                let smaller = self.with_feeders(&kept);
                let same = smaller == part;
                if same || !smaller.is_empty() && self.fails(&smaller) {
                    proved |= !same;
                    chosen.drain(at..end);
                    part = smaller;
                } else {
                    at = end;
                }
            }
            run = if run == 1 { 0 } else { run.div_ceil(2) };
        }
        proved
    }

    /// Whether these operations certainly have no order.
    fn fails(&mut self, part: &[u32]) -> bool {
        self.judged += part.len() + 16;
        if self.judged > self.judged_max {
            return false;
        }
        let places: Vec<u32> = part.iter().map(|at| self.kernel.ops[*at as usize].source).collect();
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
