//! What the search knows after an event: which values the key may hold, and which open operations are done in each case.

use crate::kernel::OTHER;
use crate::slots::NONE;
use hashbrown::HashSet;

/// A set of slots.
pub(crate) type Bits<const W: usize> = [u64; W];

/// One way in which things may stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config<const W: usize> {
    /// The class of the value.
    pub(crate) value: u32,
    /// The number of its time to live, 0 for none.
    pub(crate) life: u32,
    /// Open operations that are placed in the order.
    pub(crate) done: Bits<W>,
    /// Open writes that are not placed but can be at no cost: just before another write that overwrote them.
    pub(crate) free: Bits<W>,
    /// The last placed operation, in the trace.
    pub(crate) trace: u32,
}

impl<const W: usize> Config<W> {
    pub(crate) fn new(value: u32) -> Self {
        Self { value, life: 0, done: [0; W], free: [0; W], trace: NONE }
    }

    /// What tells it from others.
    pub(crate) fn key(&self) -> (u32, u32, Bits<W>, Bits<W>) {
        (self.value, self.life, self.done, self.free)
    }
}

pub(crate) fn has<const W: usize>(bits: &Bits<W>, slot: u32) -> bool {
    bits[slot as usize / 64] >> (slot % 64) & 1 == 1
}

pub(crate) fn add<const W: usize>(bits: &mut Bits<W>, slot: u32) {
    bits[slot as usize / 64] |= 1 << (slot % 64);
}

pub(crate) fn remove<const W: usize>(bits: &mut Bits<W>, slot: u32) {
    bits[slot as usize / 64] &= !(1 << (slot % 64));
}

/// The members of a set.
pub(crate) fn members<const W: usize>(bits: Bits<W>) -> impl Iterator<Item = u32> {
    (0..W).flat_map(move |word| {
        let mut left = bits[word];
        std::iter::from_fn(move || {
            let bit = left.trailing_zeros();
            (left != 0).then(|| {
                left &= left - 1;
                word as u32 * 64 + bit
            })
        })
    })
}

pub(crate) fn minus<const W: usize>(a: &Bits<W>, b: &Bits<W>) -> Bits<W> {
    std::array::from_fn(|word| a[word] & !b[word])
}

/// Kinds of the operations that are open, as sets of slots.
#[derive(Debug, Clone)]
pub(crate) struct Open<const W: usize> {
    /// They demand and change nothing; all known.
    pub(crate) observers: Bits<W>,
    /// Unconditional writes.
    pub(crate) writes: Bits<W>,
    /// Those of `writes` whose return is known.
    pub(crate) known_writes: Bits<W>,
    /// All others.
    pub(crate) others: Bits<W>,
    /// Those of `others` whose return is known.
    pub(crate) known_others: Bits<W>,
}

impl<const W: usize> Open<W> {
    pub(crate) fn new() -> Self {
        Self { observers: [0; W], writes: [0; W], known_writes: [0; W], others: [0; W], known_others: [0; W] }
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        remove(&mut self.observers, slot);
        remove(&mut self.writes, slot);
        remove(&mut self.known_writes, slot);
        remove(&mut self.others, slot);
        remove(&mut self.known_others, slot);
    }
}

/// How much may still become of a configuration: what is done and free, against what is used that may yet be of use. Of two of one
/// value, one that dominates the other promises at least as much.
pub(crate) fn promise<const W: usize>(config: &Config<W>, open: &Open<W>) -> i32 {
    let sum = |word: usize| {
        let (done, free) = (config.done[word], config.free[word]);
        let used = done
            & ((open.writes[word] & !open.known_writes[word])
                | (open.others[word] & !open.known_others[word]));
        let count = |bits: u64| bits.count_ones() as i32;
        2 * count(done & (open.observers[word] | open.known_others[word]))
            + count((done | free) & open.known_writes[word])
            - 2 * count(used)
    };
    (0..W).map(sum).sum()
}

/// How many others of the same value one is compared with.
const COMPARED_MAX: usize = 48;

/// Leaves out those that another makes superfluous: it holds the same value, has all reads done that this one has done, has used
/// no write that this one has not, and where this one has used more, does not owe it. `plain`: a value that nobody observes
/// ([`OTHER`]) is then as good as any other, or worse.
pub(crate) fn prune<const W: usize>(configs: &mut Vec<Config<W>>, open: &Open<W>, plain: bool) {
    if configs.len() < 2 {
        return;
    }
    configs.sort_by_cached_key(|config| {
        let last = plain && config.value == OTHER;
        (last, config.value, config.life, std::cmp::Reverse(promise(config, open)), config.done)
    });
    let mut kept: Vec<Config<W>> = Vec::with_capacity(configs.len());
    let mut group = 0;
    for config in configs.drain(..) {
        let last = plain && config.value == OTHER;
        if kept.last().is_none_or(|last| (last.value, last.life) != (config.value, config.life)) {
            group = if last { 0 } else { kept.len() };
        }
        let from = group.max(kept.len().saturating_sub(COMPARED_MAX));
        let start = kept[group..].iter().take(COMPARED_MAX).chain(&kept[from..]);
        if !start.into_iter().any(|better| dominates(better, &config, open)) {
            kept.push(config);
        }
    }
    *configs = kept;
}

fn dominates<const W: usize>(a: &Config<W>, b: &Config<W>, open: &Open<W>) -> bool {
    (0..W).all(|word| {
        let (done_a, done_b) = (a.done[word], b.done[word]);
        let unknown = open.writes[word] & !open.known_writes[word];
        let more = done_b & !done_a;
        (done_a ^ done_b) & open.known_others[word] == 0
            && done_a & !done_b & open.others[word] == 0
            && more & open.observers[word] == 0
            && done_a & !done_b & open.writes[word] == 0
            && more & open.writes[word] & !(a.free[word] | unknown) == 0
            && b.free[word] & !done_b & !done_a & !a.free[word] == 0
    })
}

/// Configurations that were met, each once.
pub(crate) struct Met<const W: usize> {
    set: HashSet<(u32, u32, Bits<W>, Bits<W>), foldhash::fast::FixedState>,
}

impl<const W: usize> Met<W> {
    pub(crate) fn new() -> Self {
        Self { set: HashSet::default() }
    }

    pub(crate) fn clear(&mut self) {
        self.set.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether it is new.
    pub(crate) fn insert(&mut self, config: &Config<W>) -> bool {
        self.set.insert(config.key())
    }
}
