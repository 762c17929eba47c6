//! Causal memory: for each session, the writes that its reads force into an order have no cycle.

mod why;

use super::proof::Proof;
use super::resolve::Map;
use super::{Checker, LOOK_EVERY, Source};
use std::time::Instant;

/// The transactions in the past of one session that are judged at most: the cost grows with their square.
const PAST_MAX: usize = 20_000;

/// The happens-before relation of each session, saturated: whoever reads x from w sees every other write of x that happens before it as
/// overwritten, so that one happens before w.
pub(super) fn check(checker: &Checker<'_>) -> Result<Option<Proof>, String> {
    for session in 0..checker.resolved.sessions.len() as u32 {
        let past = past(checker, session);
        if past.len() > PAST_MAX {
            return Err(format!(
                "causal memory: session {session} has {} transactions in its past, and at most {PAST_MAX} are judged",
                past.len()
            ));
        }
        if let Some(proof) = saturate(checker, session, &past)? {
            return Ok(Some(proof));
        }
    }
    Ok(None)
}

/// Everything that the last transaction of a session depends on, in an order of dependence.
fn past(checker: &Checker<'_>, session: u32) -> Vec<u32> {
    let mut past = Vec::new();
    let mut state = vec![0_u8; checker.history.transactions.len()];
    let Some(last) = checker.resolved.sessions[session as usize].last() else { return past };
    let mut stack = vec![*last];
    while let Some(at) = stack.last().copied() {
        if state[at as usize] != 0 {
            stack.pop();
            if state[at as usize] == 1 {
                state[at as usize] = 2;
                past.push(at);
            }
            continue;
        }
        state[at as usize] = 1;
        stack.extend(predecessors(checker, at).iter().filter(|before| state[**before as usize] == 0));
    }
    past
}

fn predecessors(checker: &Checker<'_>, at: u32) -> Vec<u32> {
    let mut all = Vec::new();
    checker.before(at, &mut |before, _| all.push(before));
    all
}

/// That a write stands before another, for a transaction of the session sees the one and reads the other.
#[derive(Clone, Copy)]
struct Derived {
    other: u32,
    writer: u32,
    key: u32,
    reader: u32,
    /// In which round it was found: by what was known before that.
    round: usize,
}

fn saturate(checker: &Checker<'_>, session: u32, past: &[u32]) -> Result<Option<Proof>, String> {
    let mut number = vec![u32::MAX; checker.history.transactions.len()];
    past.iter().enumerate().for_each(|(at, of)| number[*of as usize] = at as u32);
    let mut before: Vec<Vec<u32>> = past
        .iter()
        .map(|at| predecessors(checker, *at).into_iter().map(|of| number[of as usize]).collect())
        .collect();
    let mut derived: Vec<Derived> = Vec::new();
    let words = past.len().div_ceil(64);
    let writers = writers(checker, past);
    let is_late = || checker.deadline.is_some_and(|deadline| Instant::now() >= deadline);
    for round in 0.. {
        if is_late() {
            return Err(format!("causal memory: out of time at session {session}"));
        }
        let Some(order) = order(&before) else {
            return Ok(why::cyclic(checker, past, &derived));
        };
        let reach = reachable(&order, &before, words);
        let known = derived.len();
        for (count, at) in checker.resolved.sessions[session as usize].iter().enumerate() {
            if count.is_multiple_of(LOOK_EVERY) && is_late() {
                return Err(format!("causal memory: out of time at session {session}"));
            }
            let row = number[*at as usize] as usize * words;
            for read in checker.resolved.reads_of(*at) {
                for index in writers.get(&read.key).into_iter().flatten().map(|index| *index as usize) {
                    let other = past[index];
                    let seen = reach[row + index / 64] >> (index % 64) & 1 == 1;
                    if !seen || other == *at {
                        continue;
                    }
                    let Source::Transaction(writer) = read.source else {
                        return Ok(Some(why::nothing_read(checker, (*at, read.key), &derived[..known])));
                    };
                    let place = number[writer as usize] as usize;
                    let stands = reach[place * words + index / 64] >> (index % 64) & 1 == 1;
                    if writer != other && !stands && !before[place].contains(&(index as u32)) {
                        before[place].push(index as u32);
                        derived.push(Derived { other, writer, key: read.key, reader: *at, round });
                    }
                }
            }
        }
        if derived.len() == known {
            break;
        }
    }
    Ok(None)
}

/// Which of the past write each key.
fn writers(checker: &Checker<'_>, past: &[u32]) -> Map<u32, Vec<u32>> {
    let mut writers: Map<u32, Vec<u32>> = Map::default();
    for (index, at) in past.iter().enumerate() {
        for access in checker.history.accesses(*at as usize).iter().filter(|access| access.write) {
            let of = writers.entry(access.key).or_default();
            if of.last() != Some(&(index as u32)) {
                of.push(index as u32);
            }
        }
    }
    writers
}

/// For each of `order`, as bits in `words` words: what stands before it, directly or not.
fn reachable(order: &[u32], before: &[Vec<u32>], words: usize) -> Vec<u64> {
    let mut reach = vec![0_u64; words * before.len()];
    for at in order {
        for from in &before[*at as usize] {
            let (at, from) = (*at as usize, *from as usize);
            for word in 0..words {
                reach[at * words + word] |= reach[from * words + word];
            }
            reach[at * words + from / 64] |= 1 << (from % 64);
        }
    }
    reach
}

/// An order in which everything stands after what is before it, if there is one.
fn order(before: &[Vec<u32>]) -> Option<Vec<u32>> {
    let mut waits: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut after: Vec<Vec<u32>> = vec![Vec::new(); before.len()];
    for (at, all) in before.iter().enumerate() {
        for from in all {
            after[*from as usize].push(at as u32);
        }
    }
    let mut order: Vec<u32> = (0..before.len() as u32).filter(|at| waits[*at as usize] == 0).collect();
    let mut next = 0;
    while let Some(at) = order.get(next).copied() {
        next += 1;
        for follower in &after[at as usize] {
            waits[*follower as usize] -= 1;
            if waits[*follower as usize] == 0 {
                order.push(*follower);
            }
        }
    }
    (order.len() == before.len()).then_some(order)
}
