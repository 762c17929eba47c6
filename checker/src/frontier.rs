//! Linearizability of any key by a frontier that is advanced at each return: Lowe's just-in-time linearization ("Testing for
//! linearizability", 2017), with what makes it fast on registers.
//!
//! The *frontier* is the set of configurations ([`Config`]) in which the operations returned so far can stand. At a return, the
//! operation must be in the order: either it is already, or open operations are put in order until it is. It suffices to do so as late as
//! this, for any order can be cut into such batches.
//! - *Eager reads*: what demands the present value and changes nothing is placed as soon as the value is there.
//! - *Absorbed writes*: a write that was open while another was placed may stand just before that one, seen by nobody. It is then *free*: at
//!   its return it needs nothing.
//! - *Useful writes only*: within a batch a write is placed to be seen by something open, else it could as well be absorbed.
//! - *Interchangeable writes*: of open writes of one value the one that returns first is used.
//! - *Closed values*: a value whose operations are all open can be written, read and overwritten at no cost when a write is placed.
//! - *Dead ends*: a value that is still demanded, and that nobody will set in time, is not left.
//! - *Forgotten values*: a value that nothing can tell from others before some write is both called and returned is as good as any.
//! - *Domination*: of two configurations of one value, one that has everything the other has makes the other superfluous.
//!
//! When the frontier grows beyond its bound, only a part of it is kept. What is found to hold then still holds; that nothing is left
//! then proves nothing: the search goes back with a higher bound ([`beam`]), and begins anew when that does not help.

mod beam;
mod moves;

use crate::configs::{Bits, Config, Met, Open, add, has, members, minus, promise, prune, remove};
use crate::kernel::{ABSENT, Act, Kernel, OTHER, Op};
use crate::slots::{NONE, Slots};
use crate::witness::Trace;
use std::time::Instant;

/// What a search may spend, and has spent.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    /// Steps that are left.
    pub(crate) steps: u64,
    /// When to stop.
    pub(crate) deadline: Option<Instant>,
    /// Bytes that the frontier may take.
    pub(crate) memory: usize,
}

impl Budget {
    /// Takes one step; `false` when there is none left.
    fn step(&mut self) -> bool {
        if self.steps == 0 {
            return false;
        }
        self.steps -= 1;
        if self.steps.is_multiple_of(256) && self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
        {
            self.steps = 0;
        }
        self.steps > 0
    }
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// An order: operations of the kernel, when it was asked for.
    Order(Vec<u32>),
    /// None: this operation cannot be placed at its return, and the longest order before it, when it was asked for.
    Stuck(u32, Vec<u32>),
    /// The budget is spent; so many events were decided. Of an attempt: at this event.
    Spent(usize),
}

/// What a search is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Whether there is an order.
    Verdict,
    /// Whether an order is found with a frontier of this width at most.
    Attempt(usize),
    /// The order, or the longest one from which none of the whole can come.
    Order,
    /// The longest prefix in time that has an order by itself: what comes later is not looked at.
    Prefix,
}

/// Sizes of the frontier for those keys whose order is not found by a narrow one that goes back.
const PASSES: [usize; 3] = [4_096, 65_536, 1 << 20];

/// Searches with frontiers of growing size. `events`: how many events of the kernel count.
pub(crate) fn search(
    kernel: &mut Kernel,
    slots: &Slots,
    events: usize,
    want: Want,
    budget: &mut Budget,
) -> Found {
    match slots.count {
        0..=64 => sized::<1>(kernel, slots, events, want, budget),
        65..=128 => sized::<2>(kernel, slots, events, want, budget),
        129..=256 => sized::<4>(kernel, slots, events, want, budget),
        257..=1024 => sized::<16>(kernel, slots, events, want, budget),
        1025..=8192 => sized::<128>(kernel, slots, events, want, budget),
        _ => Found::Spent(0),
    }
}

fn sized<const W: usize>(
    kernel: &mut Kernel,
    slots: &Slots,
    events: usize,
    want: Want,
    budget: &mut Budget,
) -> Found {
    let widest = budget.memory / (size_of::<Config<W>>() * 8);
    let width = if let Want::Attempt(width) = want { width } else { usize::MAX }.min(widest.max(256));
    let mut decided = match Search::<W>::new(kernel, slots, 0, want).beam(events, width, budget) {
        Ok(found) => return found,
        Err((_, trouble)) if matches!(want, Want::Attempt(_)) => return Found::Spent(trouble),
        Err((event, _)) => event,
    };
    for configs in PASSES {
        // A configuration may be in the frontier, in the next one, on the stack and among those met.
        if configs > widest || budget.steps == 0 {
            break;
        }
        match Search::<W>::new(kernel, slots, configs, want).run(events, budget) {
            Ok(found) => return found,
            Err(event) => decided = decided.max(event),
        }
    }
    Found::Spent(decided)
}

struct Search<'a, const W: usize> {
    kernel: &'a mut Kernel,
    slots: &'a Slots,
    configs_max: usize,
    configs: Vec<Config<W>>,
    next: Vec<Config<W>>,
    stack: Vec<Config<W>>,
    met: Met<W>,
    /// Whether something was left out of the frontier, and the first event at which it was.
    incomplete: Option<usize>,
    open: Open<W>,
    /// The open operation of each slot.
    holder: Vec<u32>,
    /// Open writes and others by their returns.
    writes: Vec<u32>,
    others: Vec<u32>,
    /// By class: how many of its demands and setters have been called, and demands that are open; of these, how many that change
    /// something.
    called_needs: Vec<u32>,
    called_setters: Vec<u32>,
    called_mentions: Vec<u32>,
    open_mentions: Vec<u32>,
    open_needs: Vec<u32>,
    open_takers: Vec<u32>,
    trace: Trace,
    /// Whether configurations from which no order of the whole can come are left out at once.
    foresees: bool,
    event: usize,
    /// How many unknown operations are forgotten.
    forgotten: usize,
}

/// What is left to do with an operation that returns.
enum Step {
    Go,
    Spent,
}

impl<'a, const W: usize> Search<'a, W> {
    fn new(kernel: &'a mut Kernel, slots: &'a Slots, configs_max: usize, want: Want) -> Self {
        let classes = kernel.classes;
        Self {
            configs: vec![Config::new(kernel.initial)],
            kernel,
            slots,
            configs_max,
            next: Vec::new(),
            stack: Vec::new(),
            met: Met::new(),
            incomplete: None,
            open: Open::new(),
            holder: vec![NONE; slots.count],
            writes: Vec::new(),
            others: Vec::new(),
            called_needs: vec![0; classes],
            called_setters: vec![0; classes],
            called_mentions: vec![0; classes],
            open_mentions: vec![0; classes],
            open_needs: vec![0; classes],
            open_takers: vec![0; classes],
            trace: Trace::new(matches!(want, Want::Order | Want::Prefix)),
            foresees: want != Want::Prefix,
            event: 0,
            forgotten: 0,
        }
    }

    fn op(&self, at: u32) -> Op {
        self.kernel.ops[at as usize]
    }

    fn slot(&self, at: u32) -> u32 {
        self.slots.slot[at as usize]
    }

    /// Whether the values can only be told by equality, and never change by themselves.
    fn plain(&self) -> bool {
        self.kernel.positive && !self.kernel.expiring
    }

    /// Whether it is placed as soon as the value is right. What may also be the first to see that a value has expired is not.
    fn observes(&self, op: &Op) -> bool {
        matches!(op.act, Act::Observe(test) if !(self.kernel.expiring && test.holds(ABSENT)))
    }

    /// An operation is called; `back`: this is undone.
    fn count_call(&mut self, at: u32, back: bool) {
        let op = self.op(at);
        let count = |list: &mut Vec<u32>, class: Option<u32>| {
            if let Some(count) = class.and_then(|class| list.get_mut(class as usize)) {
                *count = if back { *count - 1 } else { *count + 1 };
            }
        };
        count(&mut self.called_mentions, op.mentions());
        count(&mut self.called_needs, op.needs());
        count(&mut self.called_setters, op.sets());
    }

    fn call(&mut self, at: u32) {
        self.count_call(at, false);
        let (op, slot) = (self.op(at), self.slot(at));
        if slot == NONE {
            return;
        }
        self.enlist(at);
        match op.act {
            Act::Observe(test) if self.observes(&op) => {
                for config in &mut self.configs {
                    if test.holds(config.value) && self.kernel.lives[config.life as usize].1 >= op.asked {
                        add(&mut config.done, slot);
                        self.trace.place(config, at, self.event);
                    }
                }
            }
            Act::Write(class, life) if !op.is_unknown() => {
                for config in &mut self.configs {
                    if (config.value, config.life, life) == (class, 0, 0) {
                        add(&mut config.free, slot);
                    }
                }
            }
            _ => {}
        }
    }

    /// An operation is open.
    fn enlist(&mut self, at: u32) {
        let (op, slot) = (self.op(at), self.slot(at));
        self.holder[slot as usize] = at;
        if let Some(class) = op.mentions() {
            self.open_mentions[class as usize] += 1;
        }
        if let Some(class) = op.needs() {
            self.open_needs[class as usize] += 1;
            self.open_takers[class as usize] += u32::from(!matches!(op.act, Act::Observe(_)));
        }
        let rets = &self.slots.ret;
        let place = |list: &[u32]| {
            list.partition_point(|other| (rets[*other as usize], *other) < (rets[at as usize], at))
        };
        let known = !op.is_unknown();
        match op.act {
            Act::Observe(_) if self.observes(&op) => add(&mut self.open.observers, slot),
            Act::Write(..) => {
                add(&mut self.open.writes, slot);
                if known {
                    add(&mut self.open.known_writes, slot);
                }
                let place = place(&self.writes);
                self.writes.insert(place, at);
            }
            _ => {
                add(&mut self.open.others, slot);
                if known {
                    add(&mut self.open.known_others, slot);
                }
                let place = place(&self.others);
                self.others.insert(place, at);
            }
        }
    }

    /// An operation is no longer open.
    fn close(&mut self, at: u32) {
        let op = self.op(at);
        if let Some(class) = op.mentions() {
            self.open_mentions[class as usize] -= 1;
        }
        if let Some(class) = op.needs() {
            self.open_needs[class as usize] -= 1;
            self.open_takers[class as usize] -= u32::from(!matches!(op.act, Act::Observe(_)));
        }
        let slot = self.slot(at);
        match op.act {
            Act::Observe(_) if self.observes(&op) => {}
            Act::Write(..) => self.writes.retain(|other| *other != at),
            _ => self.others.retain(|other| *other != at),
        }
        self.open.remove(slot);
        self.holder[slot as usize] = NONE;
    }

    /// An unknown operation can make no difference any more.
    fn forget(&mut self, at: u32) {
        self.close(at);
        let slot = self.slot(at);
        for config in &mut self.configs {
            remove(&mut config.done, slot);
            remove(&mut config.free, slot);
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        if self.configs.len() > 1 {
            self.met.clear();
            let (met, configs) = (&mut self.met, &mut self.configs);
            configs.retain(|config| met.insert(config));
            let plain = self.kernel.positive && !self.kernel.expiring;
            prune(configs, &self.open, plain);
        }
    }

    fn ret(&mut self, at: u32, budget: &mut Budget) -> Step {
        let slot = self.slot(at);
        if self.configs.iter().all(|config| has(&config.done, slot)) {
            self.configs.iter_mut().for_each(|config| remove(&mut config.done, slot));
            self.close(at);
            return Step::Go;
        }
        self.met.clear();
        let configs = std::mem::take(&mut self.configs);
        for mut config in configs.iter().copied() {
            if has(&config.done, slot) {
                self.next.push(config);
                continue;
            }
            if has(&config.free, slot) {
                let unfree = config;
                self.trace.absorb(&mut config, at, self.event);
                add(&mut config.done, slot);
                remove(&mut config.free, slot);
                let class = self.op(at).sets().unwrap_or(OTHER);
                // What only this write can feed must see it.
                if config.value == class || !self.dead(&config, class) {
                    self.next.push(config);
                }
                config = unfree;
                // To be seen by nobody it need not be placed again.
                if self.plain() && !self.wanted_until(&config, class, self.event as u32) {
                    continue;
                }
            }
            if matches!(self.expand(config, at, budget), Step::Spent) {
                self.next.clear();
                self.configs = configs;
                return Step::Spent;
            }
        }
        std::mem::swap(&mut self.configs, &mut self.next);
        self.next.clear();
        self.close(at);
        for config in &mut self.configs {
            remove(&mut config.done, slot);
            remove(&mut config.free, slot);
        }
        self.settle_all();
        self.tidy();
        if self.configs.len() > self.configs_max {
            let open = &self.open;
            self.configs.sort_by_cached_key(|config| std::cmp::Reverse(promise(config, open)));
            self.configs.truncate(self.configs_max);
            self.leave_out();
        }
        Step::Go
    }

    fn leave_out(&mut self) {
        self.incomplete = self.incomplete.or(Some(self.event));
    }

    /// Makes configurations equal that nothing can tell apart any more.
    fn settle_all(&mut self) {
        let mut configs = std::mem::take(&mut self.configs);
        configs.retain_mut(|config| self.forget_value(config));
        for config in &mut configs {
            if !self.plain() {
                continue;
            }
            for slot in members(minus(&config.free, &config.done)) {
                let at = self.holder[slot as usize];
                let (class, ret) = (self.op(at).sets(), self.slots.ret[at as usize]);
                if class.is_some_and(|class| !self.wanted_until(config, class, ret)) {
                    self.trace.absorb(config, at, self.event);
                    add(&mut config.done, slot);
                    remove(&mut config.free, slot);
                }
            }
        }
        self.configs = configs;
    }

    /// A value that nothing can tell from others before it is overwritten is as good as any. `false` when something needs it nevertheless, and
    /// cannot have it.
    fn forget_value(&self, config: &mut Config<W>) -> bool {
        let simple = !self.kernel.expiring && !self.kernel.computed;
        if simple && config.value != OTHER && !self.mentioned(config, config.value) {
            let value = std::mem::replace(&mut config.value, OTHER);
            return !self.dead(config, value);
        }
        true
    }

    /// Whether something may still tell the value `class`, which is held now, from others.
    fn mentioned(&self, config: &Config<W>, class: u32) -> bool {
        if class as usize >= self.open_mentions.len() {
            return true;
        }
        if self.reaches(class, self.event as u32) {
            return true;
        }
        self.open_mentions[class as usize] > 0 && {
            let undone = self.undone(config);
            members::<W>(undone).any(|slot| self.op(self.holder[slot as usize]).mentions() == Some(class))
        }
    }

    /// Whether something may still demand the value of a write of `class` that is placed at `event` at the latest.
    fn wanted_until(&self, config: &Config<W>, class: u32, event: u32) -> bool {
        if class as usize >= self.open_needs.len() || self.reaches(class, event) {
            return true;
        }
        self.open_needs[class as usize] > 0 && self.undone_need(config, class)
    }

    /// Whether `class`, when it is set at `event` at the latest, may stay until something that mentions it is called. It cannot
    /// where a write is both called and returned in between.
    fn reaches(&self, class: u32, event: u32) -> bool {
        let coming = self.slots.mentions.item(class, self.called_mentions[class as usize]);
        coming.is_some_and(|call| {
            self.slots.overwritten.get(event as usize + 1).is_none_or(|overwritten| *overwritten > call)
        })
    }

    /// Reads and others that are not placed.
    fn undone(&self, config: &Config<W>) -> Bits<W> {
        std::array::from_fn(|word| (self.open.observers[word] | self.open.others[word]) & !config.done[word])
    }

    /// Whether something that is not done yet may still demand this class.
    fn demanded(&self, config: &Config<W>, class: u32) -> bool {
        if class as usize >= self.open_needs.len() {
            return true;
        }
        if self.slots.needs.item(class, self.called_needs[class as usize]).is_some() {
            return true;
        }
        self.open_needs[class as usize] > 0 && self.undone_need(config, class)
    }

    fn undone_need(&self, config: &Config<W>, class: u32) -> bool {
        members::<W>(self.undone(config))
            .any(|slot| self.op(self.holder[slot as usize]).needs() == Some(class))
    }

    /// Whether a configuration that leaves `class` cannot be completed: something demands it before anybody can set it again.
    fn dead(&self, config: &Config<W>, class: u32) -> bool {
        if !self.foresees
            || self.kernel.computed && !self.kernel.rising
            || class == OTHER
            || class == ABSENT && self.kernel.expiring
            || class as usize >= self.open_needs.len()
        {
            return false;
        }
        let setter = self.slots.setters.item(class, self.called_setters[class as usize]).unwrap_or(NONE);
        let coming = self.slots.needs.item(class, self.called_needs[class as usize]);
        let lost = coming.is_some_and(|ret| ret != NONE && ret < setter)
            || self.open_needs[class as usize] > 0 && {
                members::<W>(self.undone(config)).any(|slot| {
                    let at = self.holder[slot as usize];
                    let ret = self.slots.ret[at as usize];
                    let waits = !matches!(self.op(at).act, Act::Maybe(..));
                    waits && self.op(at).needs() == Some(class) && ret != NONE && ret < setter
                })
            };
        lost && {
            let setters = std::array::from_fn(|word| {
                (self.open.writes[word] | self.open.others[word]) & !config.done[word]
            });
            !members::<W>(setters).any(|slot| self.op(self.holder[slot as usize]).sets() == Some(class))
        }
    }
}
