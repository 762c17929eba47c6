//! Commands on several keys. Those of one slot may depend on each other; the others are operations side by side.
#![expect(clippy::unnecessary_wraps, reason = "all entries of the table have one type")]

use super::strings::{one, store};
use super::table::Command;
use super::{Action, KeyRequest, Many, Worded, err, integer, syntax, word, wrong_arity};
use crate::reply::{Fixed, Shape};
use crate::resp::{Args, Value};
use samara_core::base::{Expiry, KeyOp, When};
use samara_core::rules::sequence::Task;
use samara_core::rules::slots::slot_of;
use std::collections::HashSet;

type Parsed = Result<Action, Value>;

/// EXISTS, TOUCH: a key named twice counts twice.
pub(super) fn count(_: &'static Command, a: &Args<'_>) -> Parsed {
    let read = |index| KeyRequest { key: a.copy(index), op: KeyOp::Read };
    Ok(Action::Many((1..a.len()).map(read).collect(), Many::Count))
}

/// DEL: a key named twice is deleted once.
pub(super) fn delete(_: &'static Command, a: &Args<'_>) -> Parsed {
    let mut seen = HashSet::new();
    let fresh = (1..a.len()).filter(|index| a.len() == 2 || seen.insert(&a[*index]));
    let delete =
        |index| KeyRequest { key: a.copy(index), op: KeyOp::Delete { when: When::Always, want_old: false } };
    Ok(Action::Many(fresh.map(delete).collect(), Many::Count))
}

pub(super) fn mget(_: &'static Command, a: &Args<'_>) -> Parsed {
    let read = |index| KeyRequest { key: a.copy(index), op: KeyOp::Read };
    Ok(Action::Many((1..a.len()).map(read).collect(), Many::Values))
}

/// Places of the keys of MSET and MSETNX: of a key that is given twice the last value counts, and an earlier one must not
/// be sent, for the operations run side by side.
fn pairs(command: &'static Command, a: &Args<'_>) -> Result<Vec<usize>, Value> {
    if a.len().is_multiple_of(2) {
        return Err(wrong_arity(command.name));
    }
    let mut seen = HashSet::new();
    let mut places: Vec<usize> =
        (1..a.len()).step_by(2).rev().filter(|index| seen.insert(&a[*index])).collect();
    places.reverse();
    Ok(places)
}

pub(super) fn mset(command: &'static Command, a: &Args<'_>) -> Parsed {
    let set = |index| {
        let op = store(a, index + 1, Expiry::Clear, When::Always, false);
        KeyRequest { key: a.copy(index), op }
    };
    Ok(Action::Many(pairs(command, a)?.into_iter().map(set).collect(), Many::Ok))
}

/// The keys of a command that changes one depending on another are of one slot.
fn one_slot<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> Result<(), Value> {
    let first = keys.next().map(slot_of);
    if keys.all(|key| Some(slot_of(key)) == first) {
        return Ok(());
    }
    Err(Value::error("CROSSSLOT Keys in request don't hash to the same slot"))
}

pub(super) fn msetnx(command: &'static Command, a: &Args<'_>) -> Parsed {
    let places = pairs(command, a)?;
    one_slot(command.keys(a))?;
    let pair = |index: usize| (a.copy(index), a.copy(index + 1));
    Ok(Action::Sequence(Task::SetAllAbsent(places.into_iter().map(pair).collect()), Worded::Count))
}

fn task(a: &Args<'_>, replace: bool, remove: bool) -> Task {
    Task::Move { source: a.copy(1), target: a.copy(2), replace, remove }
}

pub(super) fn rename(command: &'static Command, a: &Args<'_>) -> Parsed {
    one_slot(command.keys(a))?;
    if a[1] == a[2] {
        return Ok(one(a, KeyOp::Read, Shape::Present(Fixed::Ok)));
    }
    Ok(Action::Sequence(task(a, true, true), Worded::Ok))
}

pub(super) fn renamenx(command: &'static Command, a: &Args<'_>) -> Parsed {
    one_slot(command.keys(a))?;
    if a[1] == a[2] {
        return Ok(one(a, KeyOp::Read, Shape::Present(Fixed::Integer(0))));
    }
    Ok(Action::Sequence(task(a, false, true), Worded::Applied))
}

pub(super) fn copy(command: &'static Command, a: &Args<'_>) -> Parsed {
    let (mut replace, mut at) = (false, 3);
    while at < a.len() {
        match (word(&a[at]).as_str(), a.at(at + 1)) {
            ("REPLACE", _) => replace = true,
            ("DB", Some(number)) => {
                at += 1;
                if integer(number)? != 0 {
                    return Err(err("DB index is out of range"));
                }
            }
            _ => return Err(syntax()),
        }
        at += 1;
    }
    if a[1] == a[2] {
        return Err(err("source and destination objects are the same"));
    }
    one_slot(command.keys(a))?;
    Ok(Action::Sequence(task(a, replace, false), Worded::Count))
}
