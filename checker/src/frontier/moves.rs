//! The batch of a return: puts open operations in order until the one that returns is placed.

use super::{Budget, Search, Step};
use crate::configs::{Config, add, has, members, minus, remove};
use crate::kernel::{ABSENT, Act, NEVER, Op, Test};
use crate::slots::NONE;

/// A value with the number of its time to live.
type Held = (u32, u32);

/// How many configurations a batch may meet, for each that the frontier may hold.
const MET_FACTOR: usize = 16;

impl<const W: usize> Search<'_, W> {
    /// Places `at`, which returns, after all sequences of open operations that make sense.
    pub(super) fn expand(&mut self, from: Config<W>, at: u32, budget: &mut Budget) -> Step {
        let (op, slot) = (self.op(at), self.slot(at));
        // Whatever is placed now takes effect before this one returns.
        let until = op.ret;
        let observes = self.observes(&op);
        self.stack.push(from);
        while let Some(config) = self.stack.pop() {
            if !budget.step() || self.kernel.texts.full {
                self.stack.clear();
                return Step::Spent;
            }
            if has(&config.done, slot) {
                self.next.push(config);
                continue;
            }
            if !observes {
                for held in self.outcomes(&config, &op, until).into_iter().flatten() {
                    if let Some(placed) = self.execute(config, at, held) {
                        self.next.push(placed);
                    }
                }
            }
            if self.met.len() > self.configs_max * MET_FACTOR
                || self.next.len() > self.configs_max * MET_FACTOR
            {
                self.leave_out();
                continue;
            }
            self.writes_before(&config, at);
            self.others_before(&config, at, until);
            if self.kernel.expiring {
                self.expiries(&config, until);
            }
        }
        Step::Go
    }

    fn push(&mut self, config: Option<Config<W>>) {
        if let Some(config) = config.filter(|config| self.met.insert(config)) {
            self.stack.push(config);
        }
    }

    /// Writes other than `at`: of each value the one that returns first, if it is of use.
    fn writes_before(&mut self, config: &Config<W>, at: u32) {
        let mut seen: Vec<u32> = Vec::new();
        for index in 0..self.writes.len() {
            let write = self.writes[index];
            let Act::Write(class, life) = self.op(write).act else { continue };
            if write == at || has(&config.done, self.slot(write)) {
                continue;
            }
            if life == 0 {
                if seen.contains(&class) {
                    continue;
                }
                seen.push(class);
            }
            if self.useful(config, class, life) {
                let next = self.execute(*config, write, (class, life));
                self.push(next);
            }
        }
    }

    /// Whether a write of this value lets something else take place.
    fn useful(&self, config: &Config<W>, class: u32, life: u32) -> bool {
        let plain = self.plain() && !self.kernel.computed;
        if plain {
            return self.open_needs[class as usize] > 0 && self.undone_need(config, class);
        }
        if self.kernel.computed && minus(&self.open.others, &config.done) != [0; W] {
            return true;
        }
        if life != 0 || config.life != 0 {
            return self.undone(config) != [0; W];
        }
        self.enables(config, class)
    }

    /// Whether something that is not placed can be placed at the value `class`, and could not be before. What is of unknown
    /// outcome counts only where its own value is wanted.
    fn enables(&self, config: &Config<W>, class: u32) -> bool {
        let changed = |other: u32| config.value == other && other != class;
        members(self.undone(config)).any(|slot| {
            let op = self.op(self.holder[slot as usize]);
            match op.act {
                Act::Observe(Test::Is(needed)) | Act::Swap(Test::Is(needed), _) => needed == class,
                Act::Observe(Test::Not(other)) | Act::Swap(Test::Not(other), _) => changed(other),
                Act::Maybe(test, to) if op.is_unknown() => {
                    let now = match test {
                        Test::Is(needed) => needed == class,
                        Test::Not(other) => changed(other),
                    };
                    now && self.wanted_until(config, to, NONE)
                }
                // Its effect depends on what stands before it.
                _ => true,
            }
        })
    }

    /// Operations other than reads and writes.
    fn others_before(&mut self, config: &Config<W>, at: u32, until: u64) {
        let mut seen: Vec<Act> = Vec::new();
        let simple = !self.kernel.expiring && !self.kernel.computed;
        for index in 0..self.others.len() {
            let other = self.others[index];
            let op = self.op(other);
            if other == at
                || has(&config.done, self.slot(other))
                || !self.kernel.expiring && seen.contains(&op.act)
            {
                continue;
            }
            seen.push(op.act);
            if let (true, true, Act::Maybe(_, class)) = (simple, op.is_unknown(), op.act) {
                // One that need not happen does so only to be seen.
                let seen =
                    if self.plain() { self.demanded(config, class) } else { self.enables(config, class) };
                if !seen {
                    continue;
                }
            }
            for held in self.outcomes(config, &op, until).into_iter().flatten() {
                if held == (config.value, config.life) && op.is_unknown() {
                    continue;
                }
                let next = self.execute(*config, other, held);
                self.push(next);
            }
        }
    }

    /// Reads that are right once the value has expired.
    fn expiries(&mut self, config: &Config<W>, until: u64) {
        if config.life == 0 {
            return;
        }
        for slot in members(minus(&self.open.observers, &config.done)) {
            let at = self.holder[slot as usize];
            let op = self.op(at);
            for held in self.outcomes(config, &op, until).into_iter().flatten() {
                if held != (config.value, config.life) {
                    let next = self.execute(*config, at, held);
                    self.push(next);
                }
            }
        }
    }

    /// What may follow from an operation that takes effect before `until`: as the value stands, and as it may have expired.
    pub(super) fn outcomes(&mut self, config: &Config<W>, op: &Op, until: u64) -> [Option<Held>; 2] {
        let (may, must) = self.kernel.lives[config.life as usize];
        let kept = (op.asked <= must).then(|| self.apply((config.value, config.life), op)).flatten();
        let expires =
            config.life != 0 && config.value != ABSENT && may != NEVER && op.answered.min(until) >= may;
        let expired = expires.then(|| self.apply((ABSENT, 0), op)).flatten();
        [kept, expired.filter(|held| Some(*held) != kept)]
    }

    fn apply(&mut self, (value, life): Held, op: &Op) -> Option<Held> {
        let kept = if op.keeps { life } else { 0 };
        match op.act {
            Act::Observe(test) => test.holds(value).then_some((value, life)),
            Act::Write(class, life) => Some((class, life)),
            Act::Swap(test, to) => test.holds(value).then_some((to, kept)),
            Act::Maybe(test, to) => Some(if test.holds(value) { (to, kept) } else { (value, life) }),
            Act::Add(delta, sum) => self.kernel.add(value, delta, sum).map(|value| (value, life)),
            Act::Append(tail, length) => self.kernel.append(value, tail, length).map(|value| (value, life)),
            Act::Update(update) => self.kernel.updated((value, life), update),
        }
    }

    /// Places `at` next, which makes the value `held`; `None` when nothing good can follow.
    fn execute(&mut self, mut config: Config<W>, at: u32, held: Held) -> Option<Config<W>> {
        let (op, slot) = (self.op(at), self.slot(at));
        add(&mut config.done, slot);
        remove(&mut config.free, slot);
        let present = config.value != ABSENT && config.life == 0;
        match op.act {
            Act::Write(..) => {
                if self.plain() && !self.kernel.computed {
                    self.close_values(&mut config);
                }
                config.free = minus(&self.open.known_writes, &config.done);
            }
            Act::Swap(Test::Not(ABSENT), _) if present => {
                // Before it something was present; any other present value does as well.
                for slot in members(minus(&self.open.known_writes, &config.done)) {
                    let write = self.op(self.holder[slot as usize]);
                    if matches!(write.act, Act::Write(class, 0) if class != ABSENT) {
                        add(&mut config.free, slot);
                    }
                }
            }
            _ => {}
        }
        self.trace.place(&mut config, at, self.event);
        if held.0 != config.value && self.dead(&config, config.value) {
            return None;
        }
        (config.value, config.life) = held;
        self.settle(&mut config);
        self.forget_value(&mut config).then_some(config)
    }

    /// Writes and reads, just before another write, the values whose operations are all open: nobody else needs them.
    fn close_values(&mut self, config: &mut Config<W>) {
        for slot in members(minus(&self.open.observers, &config.done)) {
            if has(&config.done, slot) {
                continue;
            }
            let Some(class) = self.op(self.holder[slot as usize]).needs() else { continue };
            if self.open_takers[class as usize] > 0 {
                continue;
            }
            let ops = &self.kernel.ops;
            let write = self.writes.iter().copied().find(|write| {
                ops[*write as usize].act == Act::Write(class, 0)
                    && !has(&config.done, self.slots.slot[*write as usize])
                    && !self.reaches(class, self.slots.ret[*write as usize])
            });
            let Some(write) = write else { continue };
            add(&mut config.done, self.slot(write));
            remove(&mut config.free, self.slot(write));
            self.trace.place(config, write, self.event);
            for slot in members(minus(&self.open.observers, &config.done)) {
                let at = self.holder[slot as usize];
                if self.op(at).needs() == Some(class) {
                    add(&mut config.done, slot);
                    self.trace.place(config, at, self.event);
                }
            }
        }
    }

    /// Places what the value allows at no cost.
    fn settle(&mut self, config: &mut Config<W>) {
        for slot in members(minus(&self.open.observers, &config.done)) {
            let at = self.holder[slot as usize];
            let op = self.op(at);
            let Act::Observe(test) = op.act else { continue };
            if test.holds(config.value) && self.kernel.lives[config.life as usize].1 >= op.asked {
                add(&mut config.done, slot);
                self.trace.place(config, at, self.event);
            }
        }
        if config.life == 0 {
            for slot in members(minus(&self.open.known_writes, &config.done)) {
                if self.op(self.holder[slot as usize]).act == Act::Write(config.value, 0) {
                    add(&mut config.free, slot);
                }
            }
        }
    }
}
