//! What is wrong at a glance: a transaction that contradicts itself, and a read that nobody can have fed. A read was fed by the last write of its
//! register before it; that one was called before the read returned, and no write that certainly happened lies wholly between the two.

use crate::kernel::NEVER;

/// A transaction: what it sees first of each register, and what it leaves there. Registers and *cells* (a register and a value) are numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Txn {
    pub(super) call: u64,
    /// [`NEVER`]: of unknown outcome; such a one demands nothing.
    pub(super) ret: u64,
    pub(super) reads: Vec<(u32, u32)>,
    pub(super) writes: Vec<(u32, u32)>,
    /// It contradicts itself, so that it has no place anywhere.
    pub(super) broken: bool,
    /// Which transaction of the history it is.
    pub(super) source: u32,
}

/// Whether some transaction has no place in any order.
pub(super) fn show_none(txns: &[Txn], initial: &[u32], cells: usize) -> bool {
    // By register, the known writes by their returns, with the latest call so far.
    let mut changes: Vec<Vec<(u64, u64)>> = vec![Vec::new(); initial.len()];
    // By cell, the writes by their calls, with the latest return so far.
    let mut feeders: Vec<Vec<(u64, u64)>> = vec![Vec::new(); cells];
    for cell in initial {
        feeders[*cell as usize].push((0, 0));
    }
    for txn in txns {
        for (register, cell) in &txn.writes {
            feeders[*cell as usize].push((txn.call, txn.ret));
            if txn.ret != NEVER {
                changes[*register as usize].push((txn.ret, txn.call));
            }
        }
    }
    for list in changes.iter_mut().chain(&mut feeders) {
        list.sort_unstable();
        let mut latest = 0;
        for (_, other) in list {
            latest = latest.max(*other);
            *other = latest;
        }
    }
    let before = |list: &[(u64, u64)], until: usize| until.checked_sub(1).map(|last| list[last].1);
    let known = txns.iter().filter(|txn| txn.ret != NEVER);
    known.into_iter().any(|txn| {
        let is_fed = |(register, cell): &(u32, u32)| {
            let (changes, feeders) = (&changes[*register as usize], &feeders[*cell as usize]);
            let called = feeders.partition_point(|(call, _)| *call <= txn.ret);
            let overwritten = before(changes, changes.partition_point(|(ret, _)| *ret < txn.call));
            before(feeders, called).is_some_and(|ret| overwritten.is_none_or(|call| ret >= call))
        };
        txn.broken || !txn.reads.iter().all(is_fed)
    })
}
