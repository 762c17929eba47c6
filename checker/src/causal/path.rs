//! The way between transactions on which the fewest must be shown: a row of one session counts as one step, however long it is.

use std::collections::VecDeque;

/// Why one transaction stands before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// Session order.
    Session,
    /// The second reads what the first wrote to this key.
    Reads(u32),
    /// Someone who sees the first reads this key from the second: it must have overwritten.
    Overwritten(u32),
    /// The first reads nothing of this key, which the second writes.
    Nothing(u32),
}

/// The first stands before the second, and why.
pub(super) type Hop = (u32, Edge, u32);

/// How many transactions may still be looked at for an explanation.
pub(super) struct Effort(pub(super) usize);

/// Not reached yet, and where a way begins.
const NEVER: u32 = u32::MAX;
const START: u32 = u32::MAX - 1;

/// The shortest way among `count` transactions, hop by hop, from one of `starts` to one that is wanted, over one edge at least. `next` tells where the edges of
/// one lead. `None`: there is none, or the effort is spent.
pub(super) fn shortest(
    count: usize,
    starts: impl IntoIterator<Item = u32>,
    wanted: impl Fn(u32) -> bool,
    next: impl Fn(u32, &mut dyn FnMut(u32, Edge)),
    effort: &mut Effort,
) -> Option<Vec<Hop>> {
    // A state is a transaction that was come to by way of its session, so that going on by it costs nothing (odd), or otherwise. Of each
    // the state before it.
    let mut before: Vec<u32> = vec![NEVER; 2 * count];
    let mut queue: VecDeque<(u32, u32)> = starts.into_iter().map(|start| (2 * start, START)).collect();
    while let Some((state, by)) = queue.pop_front() {
        let at = state / 2;
        if by != START && wanted(at) {
            let mut states = vec![state, by];
            let mut last = by;
            while before[last as usize] != START {
                last = before[last as usize];
                states.push(last);
            }
            states.reverse();
            let hops = states.windows(2).map(|pair| (pair[0] / 2, edge(pair, &next), pair[1] / 2));
            return Some(hops.collect());
        }
        if before[state as usize] != NEVER {
            continue;
        }
        effort.0 = effort.0.checked_sub(1)?;
        before[state as usize] = by;
        next(at, &mut |to, edge| {
            let session = edge == Edge::Session;
            let reached = 2 * to + u32::from(session);
            if session && state % 2 == 1 {
                queue.push_front((reached, state));
            } else {
                queue.push_back((reached, state));
            }
        });
    }
    None
}

/// The edge by which one state leads to the next.
fn edge(states: &[u32], next: impl Fn(u32, &mut dyn FnMut(u32, Edge))) -> Edge {
    let mut found = Edge::Session;
    next(states[0] / 2, &mut |to, edge| {
        if to == states[1] / 2 && states[1].is_multiple_of(2) && edge != Edge::Session {
            found = edge;
        }
    });
    found
}

/// The same way with the rows of one session as one hop each.
fn joined(way: Vec<Hop>) -> Vec<Hop> {
    let mut joined: Vec<Hop> = Vec::new();
    for hop in way {
        match joined.last_mut() {
            Some((_, Edge::Session, last)) if hop.1 == Edge::Session => *last = hop.2,
            _ => joined.push(hop),
        }
    }
    joined
}

/// A cycle with the rows of one session as one hop each, also where it is closed.
pub(super) fn joined_cycle(mut cycle: Vec<Hop>) -> Vec<Hop> {
    if let Some(at) = cycle.iter().position(|(_, edge, _)| *edge != Edge::Session) {
        cycle.rotate_left(at);
    }
    joined(cycle)
}

/// A way that was found from its end on, as it goes, with the rows of one session as one hop each.
pub(super) fn reversed(way: Vec<Hop>) -> Vec<Hop> {
    joined(way.into_iter().rev().map(|(to, edge, from)| (from, edge, to)).collect())
}
