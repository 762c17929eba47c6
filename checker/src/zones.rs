//! Linearizability of a register whose values are written once each, in O(n log n) (Gibbons and Korach, "Testing shared
//! memories", 1997).
//!
//! All operations on one value form a *cluster*: its write and its reads. Between the earliest return (`from`) and the latest
//! call (`to`) of a cluster lies its *zone*. A cluster X must stand before Y when `X.from < Y.to`; there is an order when no
//! two clusters must stand before each other. When `from < to` the zone is *forward*: it holds the value throughout. So the history is
//! linearizable when each cluster is so for itself, no two forward zones overlap, and no backward zone lies within a forward one.
//!
//! A successful compare-and-set from u to v reads u and writes v with nothing in between: the clusters of u and v merge to one
//! *block*, whose own order is given. The argument stands for blocks as it does for clusters.

use crate::kernel::{Act, Kernel, NEVER, OTHER, Op, Test};

/// Why there is no order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// These operations (at most eight, with the writes of what they read) have no order.
    Conflict(Vec<u32>),
}

const NONE: u32 = u32::MAX;

/// A block: the classes that it holds one after the other, as the first of a chain, and its zone.
struct Block {
    first: u32,
    from: u64,
    to: u64,
    /// The operations that `from` and `to` are of.
    ends: (u32, u32),
}

/// Judges a key whose values are written once each; `None` when this one's are not, or when conditions are more than equality.
pub(crate) fn judge(kernel: &Kernel) -> Option<Result<(), Why>> {
    let zones = Zones::new(kernel)?;
    Some(zones.judge())
}

struct Zones<'a> {
    kernel: &'a Kernel,
    /// The write or swap that sets a class; [`NONE`] for the initial one, and for one that nobody sets.
    writer: Vec<u32>,
    /// The swap that takes a class away.
    taker: Vec<u32>,
    /// Reads, ordered by class.
    reads: Vec<u32>,
    /// The end of a class's reads.
    ends: Vec<u32>,
    /// Writes of values that nobody observes.
    unseen: Vec<u32>,
    /// The first conflict met while classes were gathered.
    conflict: Option<Vec<u32>>,
}

impl<'a> Zones<'a> {
    /// `None` when the key is not of this kind.
    fn new(kernel: &'a Kernel) -> Option<Self> {
        if !kernel.positive || kernel.expiring {
            return None;
        }
        let mut zones = Self {
            kernel,
            writer: vec![NONE; kernel.classes],
            taker: vec![NONE; kernel.classes],
            reads: Vec::new(),
            ends: vec![0; kernel.classes],
            unseen: Vec::new(),
            conflict: None,
        };
        for (at, op) in kernel.ops.iter().enumerate() {
            match op.act {
                Act::Observe(Test::Is(class)) => zones.ends[class as usize] += 1,
                Act::Write(OTHER, 0) => zones.unseen.push(at as u32),
                Act::Write(class, 0) => zones.write(class, at as u32)?,
                // Nobody can tell whether a swap of unknown outcome to an unseen value was done: those are gone already.
                Act::Swap(Test::Is(from), to) | Act::Maybe(Test::Is(from), to) => {
                    if matches!(op.act, Act::Maybe(..)) && !op.is_unknown() {
                        return None;
                    }
                    if to != OTHER {
                        zones.write(to, at as u32)?;
                    }
                    zones.take(from, at as u32)?;
                }
                _ => return None,
            }
        }
        zones.gather();
        Some(zones)
    }

    fn write(&mut self, class: u32, at: u32) -> Option<()> {
        if class == self.kernel.initial || self.writer[class as usize] != NONE {
            return None;
        }
        self.writer[class as usize] = at;
        Some(())
    }

    fn take(&mut self, class: u32, at: u32) -> Option<()> {
        let before = std::mem::replace(&mut self.taker[class as usize], at);
        if before == NONE {
            return Some(());
        }
        // One of two swaps from the same value may not have happened; which one is for the search to say.
        let both = [before, at];
        if both.iter().any(|at| self.kernel.ops[*at as usize].is_unknown()) {
            return None;
        }
        self.conflict.get_or_insert_with(|| both.to_vec());
        Some(())
    }

    /// Sorts the reads by class.
    fn gather(&mut self) {
        let mut sum = 0;
        for end in &mut self.ends {
            let count = *end;
            *end = sum;
            sum += count;
        }
        self.reads = vec![0; sum as usize];
        for (at, op) in self.kernel.ops.iter().enumerate() {
            if let Act::Observe(Test::Is(class)) = op.act {
                let end = &mut self.ends[class as usize];
                self.reads[*end as usize] = at as u32;
                *end += 1;
            }
        }
    }

    fn reads(&self, class: u32) -> &[u32] {
        let start = class.checked_sub(1).map_or(0, |before| self.ends[before as usize]);
        &self.reads[start as usize..self.ends[class as usize] as usize]
    }

    fn op(&self, at: u32) -> &Op {
        &self.kernel.ops[at as usize]
    }

    fn judge(&self) -> Result<(), Why> {
        if let Some(conflict) = &self.conflict {
            return Err(self.conflict(conflict));
        }
        let mut blocks = Vec::new();
        let mut covered = vec![false; self.kernel.classes];
        for class in 0..self.kernel.classes as u32 {
            let writer = self.writer[class as usize];
            let starts = class == self.kernel.initial
                || (writer != NONE && matches!(self.op(writer).act, Act::Write(..)));
            if starts {
                blocks.extend(self.block(class, &mut covered)?);
            }
        }
        for class in 0..self.kernel.classes as u32 {
            if !covered[class as usize] {
                self.loose(class)?;
            }
        }
        for at in &self.unseen {
            let op = self.op(*at);
            blocks.push(Block { first: OTHER, from: op.ret, to: op.call, ends: (*at, *at) });
        }
        self.between(blocks)
    }

    /// A class that is reached from no write: all that demand it are in vain.
    fn loose(&self, class: u32) -> Result<(), Why> {
        let writer = self.writer[class as usize];
        let mut vain = self.reads(class).iter().copied();
        let known = |at: u32| (at != NONE && !self.op(at).is_unknown()).then_some(at);
        match vain.next().or_else(|| known(writer)).or_else(|| known(self.taker[class as usize])) {
            Some(at) => Err(self.conflict(&[at])),
            None => Ok(()),
        }
    }

    /// The classes of the chain that begins with `class`, as far as something that certainly happened needs them. The last
    /// may be [`OTHER`]: a swap to a value that nobody sees. Empty when nothing needs any.
    fn chain(&self, class: u32, covered: &mut [bool]) -> Vec<u32> {
        let mut chain = vec![class];
        let mut needed = usize::from(class == self.kernel.initial);
        let mut next = class;
        loop {
            covered[next as usize] = true;
            let writer = self.writer[next as usize];
            let happened = writer != NONE && !self.op(writer).is_unknown();
            if happened || !self.reads(next).is_empty() {
                needed = chain.len();
            }
            let taker = self.taker[next as usize];
            let Some(to) = (taker != NONE).then(|| self.op(taker).sets()).flatten() else { break };
            if !self.op(taker).is_unknown() {
                needed = chain.len() + 1;
            }
            chain.push(to);
            if to == OTHER {
                break;
            }
            next = to;
        }
        chain.truncate(needed);
        chain
    }

    /// The block of the chain that begins with `class`: `None` when nothing of it needs to have happened.
    fn block(&self, class: u32, covered: &mut [bool]) -> Result<Option<Block>, Why> {
        let chain = self.chain(class, covered);
        if chain.is_empty() {
            return Ok(None);
        }
        let mut block = Block { first: class, from: NEVER, to: 0, ends: (NONE, NONE) };
        // Everything before a place in the chain must have been called when what stands at the place returns.
        let (mut called, mut caller) = (0, NONE);
        let mut before = NONE;
        for class in chain {
            let writer = if before == NONE { self.writer[class as usize] } else { before };
            let write = [writer];
            for group in [if writer == NONE { &[] } else { write.as_slice() }, self.reads(class)] {
                for at in group {
                    let op = self.op(*at);
                    if op.ret < called {
                        return Err(self.conflict(&[*at, caller]));
                    }
                    if op.ret < block.from {
                        (block.from, block.ends.0) = (op.ret, *at);
                    }
                    if op.call >= block.to {
                        (block.to, block.ends.1) = (op.call, *at);
                    }
                }
                if let Some(last) = group.iter().copied().max_by_key(|at| self.op(*at).call)
                    && self.op(last).call > called
                {
                    (called, caller) = (self.op(last).call, last);
                }
            }
            before = self.taker[class as usize];
        }
        if class == self.kernel.initial {
            // Before everything, even what is called at time 0.
            block.ends.0 = NONE;
        }
        Ok(Some(block))
    }

    /// No two blocks may have to stand before each other.
    fn between(&self, blocks: Vec<Block>) -> Result<(), Why> {
        // Nothing returns before the initial value was there.
        let initial = blocks.iter().find(|block| block.ends.0 == NONE);
        if let Some(initial) = initial.filter(|initial| initial.ends.1 != NONE) {
            for block in blocks.iter().filter(|block| block.ends.0 != NONE) {
                if block.from < initial.to {
                    return Err(self.conflict(&[block.ends.0, initial.ends.1]));
                }
            }
        }
        let (mut forward, backward): (Vec<Block>, Vec<Block>) =
            blocks.into_iter().filter(|block| block.ends.0 != NONE).partition(|block| block.from < block.to);
        forward.sort_unstable_by_key(|block| block.from);
        for pair in forward.windows(2) {
            if pair[1].from < pair[0].to {
                return Err(self.pair(&pair[0], &pair[1]));
            }
        }
        for block in &backward {
            let at = forward.partition_point(|other| other.from < block.to);
            if let Some(other) =
                at.checked_sub(1).map(|at| &forward[at]).filter(|other| block.from < other.to)
            {
                return Err(self.pair(other, block));
            }
        }
        Ok(())
    }

    fn pair(&self, a: &Block, b: &Block) -> Why {
        let writers = [a.first, b.first].map(|class| self.writer[class as usize]);
        let mut all = vec![a.ends.0, a.ends.1, b.ends.0, b.ends.1];
        all.extend(writers.into_iter().filter(|at| *at != NONE));
        self.conflict(&all)
    }

    /// The operations of a conflict with the writes of what they read.
    fn conflict(&self, ops: &[u32]) -> Why {
        let mut all: Vec<u32> = ops.iter().copied().filter(|at| *at != NONE).collect();
        let mut at = 0;
        while at < all.len() {
            if let Some(writer) = self.op(all[at]).needs().map(|class| self.writer[class as usize])
                && writer != NONE
                && !all.contains(&writer)
            {
                all.push(writer);
            }
            at += 1;
        }
        all.sort_unstable();
        all.dedup();
        Why::Conflict(all)
    }
}
