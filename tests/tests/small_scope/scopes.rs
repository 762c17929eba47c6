//! The scopes that are searched: small enough to be searched whole, each for what its operations can do to each other.

use crate::clients::Ask;
use crate::model::Scope;
use bytes::Bytes;
use samara_core::base::{Expiry, KeyOp, Level, NodeId, When};

fn set(value: &'static str, when: When) -> KeyOp {
    KeyOp::Set { value: Bytes::from_static(value.as_bytes()), expiry: Expiry::Clear, when, want_old: false }
}

/// A strong increment.
fn add(at: usize) -> Ask {
    Ask { at, level: Level::Strong, op: KeyOp::Add(1), retry_at: None }
}

/// A causal write, of a number, so that increments may follow.
fn weak(at: usize) -> Ask {
    Ask { at, level: Level::Causal, op: set("7", When::Always), retry_at: None }
}

fn read(at: usize, level: Level) -> Ask {
    Ask { at, level, op: KeyOp::Read, retry_at: None }
}

/// What is asked again at the other coordinator, under an id of the client's.
fn retried(op: KeyOp) -> Ask {
    Ask { at: 0, level: Level::Strong, op, retry_at: Some(1) }
}

/// Each coordinator runs what it is asked: the second believes the first, which is preferred, to be down. Its clock is ahead.
fn scope(programs: Vec<Vec<Ask>>) -> Scope {
    let suspects = [vec![], vec![NodeId(1)]];
    Scope { programs, suspects, ahead: [0, 100], symmetric: true, ..Scope::default() }
}

/// One operation whose round may be given up and begun anew, while each of its requests may arrive again.
pub fn one() -> Scope {
    Scope { ticks: [1, 0], duplicates: 1, ..scope(vec![vec![add(0)]]) }
}

/// Two coordinators on one key, and requests that arrive again.
pub fn duel() -> Scope {
    Scope { duplicates: 1, ..scope(vec![vec![add(0)], vec![add(1)]]) }
}

/// Two coordinators on one key, one of which begins its round anew.
pub fn duel_with_timeout() -> Scope {
    Scope { ticks: [1, 0], ..scope(vec![vec![add(0)], vec![add(1)]]) }
}

/// A settled coordinator (C6), while a request arrives again.
pub fn settled() -> Scope {
    Scope { duplicates: 1, ..scope(vec![vec![add(0), add(0), add(0)]]) }
}

/// A settled coordinator and another.
pub fn settled_duel() -> Scope {
    Scope { duplicates: 1, ..scope(vec![vec![add(0), add(0)], vec![add(1)]]) }
}

/// A round and a weak write, and requests that arrive again.
pub fn mixed() -> Scope {
    Scope { duplicates: 1, ..scope(vec![vec![add(0)], vec![weak(1)]]) }
}

/// The same when the weak write's clock is behind: it may come in under a promise.
pub fn mixed_behind() -> Scope {
    Scope { ahead: [100, 0], ..mixed() }
}

/// The same when the clocks are alike.
pub fn mixed_even() -> Scope {
    Scope { ahead: [0, 0], ..mixed() }
}

/// A settled coordinator and a weak write.
pub fn settled_mixed() -> Scope {
    scope(vec![vec![add(0), add(0)], vec![weak(1)]])
}

/// The same when the weak write's clock is behind.
pub fn settled_mixed_behind() -> Scope {
    Scope { ahead: [100, 0], ..settled_mixed() }
}

/// A weak write and what its client does next, beside a round.
pub fn weak_then_strong() -> Scope {
    scope(vec![vec![add(0)], vec![weak(1), add(1)]])
}

/// A coordinator loses its power.
pub fn coordinator_crash() -> Scope {
    Scope { coord_crashes: [1, 0], ..scope(vec![vec![add(0), add(0)], vec![add(1)]]) }
}

/// A replica loses its power, and with it its promises, beside a round and a weak write.
pub fn replica_crash() -> Scope {
    Scope { replica_crashes: 1, ..scope(vec![vec![add(0)], vec![weak(1)]]) }
}

/// A replica loses its power under two coordinators.
pub fn replica_crash_duel() -> Scope {
    Scope { replica_crashes: 1, ..scope(vec![vec![add(0), add(0)], vec![add(1)]]) }
}

/// A promise is displaced from the table under two coordinators.
pub fn displaced_promise() -> Scope {
    Scope { evictions: 1, ..scope(vec![vec![add(0)], vec![add(1)]]) }
}

/// A promise is displaced from the table, beside a weak write.
pub fn displaced_promise_mixed() -> Scope {
    Scope { evictions: 1, ..scope(vec![vec![add(0)], vec![weak(1)]]) }
}

/// A client asks the other coordinator when the first is silent, which goes on.
pub fn retry() -> Scope {
    scope(vec![vec![retried(KeyOp::Add(1))], vec![add(1)]])
}

/// The same when the first coordinator crashes, and the second begins its round anew.
pub fn retry_after_crash() -> Scope {
    Scope { coord_crashes: [1, 0], ticks: [0, 1], ..scope(vec![vec![retried(KeyOp::Add(1))]]) }
}

/// A condition that does not hold for a retry, and would for the attempt before it, which goes on.
pub fn retried_condition() -> Scope {
    let swap = retried(set("5", When::Equals(Bytes::from_static(b"1"))));
    Scope { ahead: [100, 0], ..scope(vec![vec![swap], vec![add(1)]]) }
}

/// A strong read beside a round.
pub fn strong_read() -> Scope {
    Scope { symmetric: false, ..scope(vec![vec![add(0)], vec![read(1, Level::Strong)]]) }
}

/// A causal read beside a weak write, which it may have to write back.
pub fn causal_read() -> Scope {
    Scope { symmetric: false, ..scope(vec![vec![weak(0)], vec![read(1, Level::Causal)]]) }
}

/// A forward to the preferred coordinator, from which the sender takes over.
pub fn forward() -> Scope {
    Scope { suspects: [vec![], vec![]], ticks: [0, 1], ..scope(vec![vec![add(0)], vec![add(1)]]) }
}
