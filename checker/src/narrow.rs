//! Narrower intervals that follow from who can have written what is demanded: propagation of time windows, as in scheduling, before
//! the search.
//!
//! What demands a value was *fed* by the last operation before it that set the value. That one was called before the demand returned, and no write
//! that certainly happened lies wholly between the two. From the *feeders* that are left follows, without any search:
//! - a demand without feeders has no place: there is no order;
//! - a feeder takes effect after all changes that return before the demand is called, and the demand before all that are called after its
//!   feeders returned;
//! - a demand takes effect after the first of its feeders can;
//! - an only feeder takes effect before the demand returns; was its outcome unknown, it is not any more;
//! - from the latest return of the feeders to the call of the demand the key holds this value (a *hold*): what cannot stand at it takes effect
//!   before or after.
//!
//! Narrower intervals leave fewer feeders, so this is repeated. Every order of the operations in their intervals is one in the narrower ones,
//! and the reverse: the search decides the same question with fewer operations open at a time.

use crate::kernel::{Act, Kernel, NEVER, Op};

/// How often the intervals are gone through at most.
const ROUNDS_MAX: usize = 16;
/// Feeders that are looked at for one demand; one with more is left as it is.
const FEEDERS_MAX: usize = 32;

/// Narrows the intervals of a key whose values do not expire and are not computed. `Err`: this operation has no place in any order.
pub(crate) fn narrow(kernel: &mut Kernel) -> Result<(), u32> {
    if kernel.expiring || kernel.computed {
        return Ok(());
    }
    for _ in 0..ROUNDS_MAX {
        let round = Round::new(kernel);
        let (holds, fed) = round.feed(&mut kernel.ops)?;
        let held = hold(&mut kernel.ops, holds)?;
        if !(fed || held) {
            break;
        }
    }
    kernel.order();
    Ok(())
}

/// One that can set a class.
#[derive(Clone, Copy)]
struct Setter {
    class: u32,
    /// The class that it demands, if it has a condition.
    needs: Option<u32>,
    call: u64,
    ret: u64,
    at: u32,
    /// The latest return of those of its class that are called before it, and its own.
    latest: u64,
}

/// While the value is certainly `class`: strictly between these times, because of the demand `at`.
#[derive(Clone, Copy)]
struct Hold {
    from: u64,
    to: u64,
    class: u32,
    at: u32,
}

/// Who can have fed a demand.
#[derive(Default)]
struct Feeders {
    count: usize,
    first_call: u64,
    last_ret: u64,
    only: Option<u32>,
}

impl Feeders {
    fn none() -> Self {
        Self { first_call: NEVER, ..Self::default() }
    }

    fn add(&mut self, call: u64, ret: u64, at: Option<u32>) {
        self.count += 1;
        self.first_call = self.first_call.min(call);
        self.last_ret = self.last_ret.max(ret);
        self.only = at;
    }
}

/// The operations by what they set, as the intervals were when the round began.
struct Round {
    initial: u32,
    /// By class, in the order of their calls; those that return, and the others.
    known: Vec<Setter>,
    unknown: Vec<Setter>,
    /// Changes that certainly happened: by their returns, with the latest call so far.
    changes: Vec<(u64, u64)>,
    /// The same by their calls, with the earliest return from there on.
    coming: Vec<(u64, u64)>,
}

impl Round {
    fn new(kernel: &Kernel) -> Self {
        let mut round = Self {
            initial: kernel.initial,
            known: Vec::new(),
            unknown: Vec::new(),
            changes: Vec::new(),
            coming: Vec::new(),
        };
        for (at, op) in kernel.ops.iter().enumerate() {
            let Some(class) = op.sets() else { continue };
            let needs = op.needs();
            let setter = Setter { class, needs, call: op.call, ret: op.ret, at: at as u32, latest: op.ret };
            if op.is_unknown() {
                round.unknown.push(setter);
                continue;
            }
            round.known.push(setter);
            if !matches!(op.act, Act::Maybe(..)) {
                round.changes.push((op.ret, op.call));
                round.coming.push((op.call, op.ret));
            }
        }
        round.unknown.sort_unstable_by_key(|setter| (setter.class, setter.call));
        round.known.sort_unstable_by_key(|setter| (setter.class, setter.call));
        for at in 1..round.known.len() {
            let before = round.known[at - 1];
            if before.class == round.known[at].class {
                round.known[at].latest = round.known[at].latest.max(before.latest);
            }
        }
        round.changes.sort_unstable();
        let mut latest = 0;
        for (_, call) in &mut round.changes {
            latest = latest.max(*call);
            *call = latest;
        }
        round.coming.sort_unstable();
        let mut earliest = NEVER;
        for (_, ret) in round.coming.iter_mut().rev() {
            earliest = earliest.min(*ret);
            *ret = earliest;
        }
        round
    }

    /// The latest call among the changes that returned before `time`: what returned before it was overwritten by then.
    fn overwritten(&self, time: u64) -> Option<u64> {
        let count = self.changes.partition_point(|(ret, _)| *ret < time);
        count.checked_sub(1).map(|last| self.changes[last].1)
    }

    /// The earliest return among the changes that are called after `time`: what was there before is overwritten by then.
    fn overwrites(&self, time: u64) -> u64 {
        let first = self.coming.partition_point(|(call, _)| *call <= time);
        self.coming.get(first).map_or(NEVER, |(_, ret)| *ret)
    }

    /// Who can have fed the demand `at` for `class` between `call` and `ret`; `None` for too many. `deep`: whether it is asked of a conditional
    /// write of unknown outcome if anything can have fed its condition.
    fn feeders(&self, (call, ret): (u64, u64), at: u32, class: u32, deep: bool) -> Option<Feeders> {
        let overwritten = self.overwritten(call);
        let mut feeders = Feeders::none();
        if class == self.initial && overwritten.is_none() {
            feeders.add(0, 0, None);
        }
        let called = |list: &[Setter]| {
            let key = |setter: &Setter| (setter.class, setter.call) <= (class, ret);
            list.partition_point(key)
        };
        let mut looked_at = 0;
        for setter in self.known[..called(&self.known)].iter().rev() {
            if setter.class != class || setter.latest < overwritten.unwrap_or(0) {
                break;
            }
            looked_at += 1;
            if looked_at > FEEDERS_MAX {
                return None;
            }
            if setter.at != at && setter.ret >= overwritten.unwrap_or(0) {
                feeders.add(setter.call.max(overwritten.unwrap_or(0)), setter.ret, Some(setter.at));
            }
        }
        let start = self.unknown.partition_point(|setter| setter.class < class);
        let unknown = &self.unknown[start..called(&self.unknown).max(start)];
        let possible = |setter: &&Setter| {
            let from = setter.call.max(overwritten.unwrap_or(0));
            let fed = |class| self.feeders((from, ret), setter.at, class, false);
            let needs = setter.needs.filter(|_| deep);
            setter.at != at && needs.and_then(fed).is_none_or(|feeders| feeders.count > 0)
        };
        for setter in unknown.iter().filter(possible).take(2) {
            feeders.add(setter.call.max(overwritten.unwrap_or(0)), NEVER, Some(setter.at));
        }
        Some(feeders)
    }

    /// Narrows the demands by their feeders, and only feeders by what they feed. Tells what holds, and whether anything changed.
    fn feed(&self, ops: &mut [Op]) -> Result<(Vec<Hold>, bool), u32> {
        let mut holds = Vec::new();
        let mut changed = false;
        for at in 0..ops.len() {
            let op = ops[at];
            let waits = !op.is_unknown() && !matches!(op.act, Act::Maybe(..));
            let Some(class) = op.needs().filter(|_| waits) else { continue };
            let Some(feeders) = self.feeders((op.call, op.ret), at as u32, class, true) else { continue };
            let call = op.call.max(feeders.first_call);
            let ret = op.ret.min(self.overwrites(feeders.last_ret));
            if feeders.count == 0 || call > ret {
                return Err(at as u32);
            }
            changed |= (call, ret) != (op.call, op.ret);
            (ops[at].call, ops[at].ret) = (call, ret);
            if let (1, Some(only)) = (feeders.count, feeders.only) {
                changed |= feeds(&mut ops[only as usize], feeders.first_call, ret);
                if ops[only as usize].call > ops[only as usize].ret {
                    // Its feeder has no place: where that is of unknown outcome, this one shows it.
                    return Err(at as u32);
                }
            }
            if feeders.last_ret < call {
                holds.push(Hold { from: feeders.last_ret, to: call, class, at: at as u32 });
            }
        }
        Ok((holds, changed))
    }
}

/// An operation certainly takes effect between these times; whether that is news.
fn feeds(op: &mut Op, from: u64, to: u64) -> bool {
    let before = (op.act, op.call, op.ret);
    if let Act::Maybe(test, to) = op.act {
        op.act = Act::Swap(test, to);
    }
    (op.call, op.ret) = (op.call.max(from), op.ret.min(to));
    before != (op.act, op.call, op.ret)
}

/// Whether an operation, if it has an effect, can have it while the key holds `class` before and after.
fn stands_at(act: Act, class: u32) -> bool {
    match act {
        Act::Observe(test) => test.holds(class),
        Act::Write(to, _) => to == class,
        Act::Swap(test, to) | Act::Maybe(test, to) => test.holds(class) && to == class,
        Act::Add(..) | Act::Append(..) | Act::Update(_) => true,
    }
}

/// Moves the ends of intervals out of what holds. Whether anything changed.
fn hold(ops: &mut [Op], mut holds: Vec<Hold>) -> Result<bool, u32> {
    holds.sort_unstable_by_key(|hold| (hold.from, hold.to));
    let mut merged: Vec<Hold> = Vec::with_capacity(holds.len());
    for hold in holds {
        match merged.last_mut().filter(|last| hold.from < last.to) {
            Some(last) if last.class == hold.class => last.to = last.to.max(hold.to),
            Some(_) => return Err(hold.at),
            None => merged.push(hold),
        }
    }
    let within = |time: u64| {
        let before = merged.partition_point(|hold| hold.from < time);
        before.checked_sub(1).map(|last| merged[last]).filter(|hold| time < hold.to)
    };
    let mut changed = false;
    for (at, op) in ops.iter_mut().enumerate() {
        if matches!(op.act, Act::Maybe(..)) && !op.is_unknown() {
            continue;
        }
        if let Some(hold) = within(op.call).filter(|hold| !stands_at(op.act, hold.class)) {
            op.call = hold.to;
            changed = true;
        }
        if let Some(hold) = within(op.ret).filter(|hold| !stands_at(op.act, hold.class)) {
            op.ret = hold.from;
            changed = true;
        }
        if op.call > op.ret {
            return Err(at as u32);
        }
    }
    Ok(changed)
}

#[cfg(test)]
#[path = "narrow_tests.rs"]
mod tests;
