//! The search of one key, in stages: narrowed intervals, attempts with few operations of unknown outcome, and all of them.
//!
//! An operation of unknown outcome may be placed anywhere after its call, or nowhere, and each doubles what a frontier can hold. Most
//! of those that nothing needs for certain ([`narrow`]) are not needed at all. So an order is first sought without any. Where that fails, those are let
//! in that can set what is demanded there. An order that is found so is one of the whole, for what is left out need not happen.
//! That none is found proves nothing: only a search with all of them does.

use crate::frontier::{self, Budget, Found, Want};
use crate::kernel::{Kernel, NEVER};
use crate::narrow::narrow;
use crate::slots::Slots;

/// What a search says of a key.
pub(crate) enum Searched {
    /// There is an order.
    Holds,
    /// There is none: this operation cannot be placed.
    Stuck(u32),
    /// So many operations were found to have an order.
    Spent(usize),
}

/// Keys of so many events are narrowed at once; larger ones when a first search did not decide them.
const NARROWED_AT_ONCE: usize = 200_000;
/// How wide the frontier of an attempt may become: more where nothing else is left to try.
const WIDTHS: [usize; 4] = [64, 256, 1_024, 4_096];
/// Attempts at most.
const ATTEMPTS_MAX: usize = 100;

/// Searches a key. `again`: a smaller budget did not suffice.
pub(crate) fn search(kernel: &Kernel, again: bool, budget: &mut Budget) -> Searched {
    let mut narrowed = kernel.clone();
    let mut furthest = 0;
    if again || kernel.events.len() <= NARROWED_AT_ONCE {
        if let Err(at) = narrow(&mut narrowed) {
            return Searched::Stuck(at);
        }
        match attempts(&narrowed, budget) {
            None => return Searched::Holds,
            Some(time) => furthest = time,
        }
    }
    let slots = Slots::new(&narrowed);
    let events = narrowed.events.len();
    match frontier::search(&mut narrowed, &slots, events, Want::Verdict, budget) {
        Found::Order(_) => Searched::Holds,
        Found::Stuck(at, _) => Searched::Stuck(at),
        Found::Spent(event) => {
            let time = narrowed.events.get(event).map_or(NEVER, |code| narrowed.time(*code)).max(furthest);
            Searched::Spent(kernel.ops.iter().filter(|op| op.ret < time).count())
        }
    }
}

/// Looks for an order with few operations of unknown outcome, for half of the budget. `None`: one is found; else up to which time one was.
fn attempts(all: &Kernel, budget: &mut Budget) -> Option<u64> {
    let mut let_in: Vec<bool> = all.ops.iter().map(|op| !op.is_unknown()).collect();
    if all.expiring || all.computed || let_in.iter().all(|known| *known) {
        return Some(0);
    }
    let mut part = Budget { steps: budget.steps / 2, ..budget.clone() };
    let before = part.steps;
    let (mut furthest, mut width) = (Some(0), WIDTHS[0]);
    for _ in 0..ATTEMPTS_MAX {
        let Some((trouble, time)) = attempt(all, &let_in, width, &mut part) else {
            furthest = None;
            break;
        };
        furthest = furthest.max(Some(time));
        if part.steps == 0 {
            break;
        }
        if !let_in_for(all, trouble, &mut let_in) {
            let Some(wider) = WIDTHS.iter().find(|wider| **wider > width) else { break };
            width = *wider;
        }
    }
    budget.steps -= before - part.steps;
    furthest
}

/// Searches with those that are let in; the operation at which it fails, and up to which time an order was found.
fn attempt(all: &Kernel, let_in: &[bool], width: usize, budget: &mut Budget) -> Option<(u32, u64)> {
    let mut kernel = all.clone();
    let places: Vec<u32> = (0..all.ops.len() as u32).filter(|at| let_in[*at as usize]).collect();
    kernel.ops = places.iter().map(|at| all.ops[*at as usize]).collect();
    let (trouble, time) = if let Err(at) = narrow(&mut kernel) {
        (at, 0)
    } else {
        let slots = Slots::new(&kernel);
        let events = kernel.events.len();
        match frontier::search(&mut kernel, &slots, events, Want::Attempt(width), budget) {
            Found::Order(_) => return None,
            Found::Stuck(at, _) => (at, kernel.ops[at as usize].ret),
            Found::Spent(event) => {
                kernel.events.get(event).map_or((0, 0), |code| (code >> 1, kernel.time(*code)))
            }
        }
    };
    Some((places[trouble as usize], time))
}

/// Lets those in that can set what the operation demands; if they are in already, those that can set what others demand at
/// the same time. `false` when there are none.
fn let_in_for(all: &Kernel, trouble: u32, let_in: &mut [bool]) -> bool {
    let at = all.ops[trouble as usize];
    let mut wanted = vec![false; all.classes];
    let mark = |class: Option<u32>, wanted: &mut Vec<bool>| {
        if let Some(wanted) = class.and_then(|class| wanted.get_mut(class as usize)) {
            *wanted = true;
        }
    };
    mark(at.needs(), &mut wanted);
    if let_in_of(all, &wanted, at.ret, let_in) {
        return true;
    }
    let length = at.ret.saturating_sub(at.call);
    let (from, to) = (at.call.saturating_sub(length), at.ret.saturating_add(length));
    for (place, op) in all.ops.iter().enumerate() {
        if let_in[place] && op.call <= to && op.ret >= from {
            mark(op.needs(), &mut wanted);
        }
    }
    let_in_of(all, &wanted, to, let_in)
}

fn let_in_of(all: &Kernel, wanted: &[bool], until: u64, let_in: &mut [bool]) -> bool {
    let mut any = false;
    for (op, is_in) in all.ops.iter().zip(let_in) {
        let wanted = op.sets().is_some_and(|class| wanted.get(class as usize) == Some(&true));
        if !*is_in && wanted && op.call <= until {
            (*is_in, any) = (true, true);
        }
    }
    any
}
