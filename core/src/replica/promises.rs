//! The bounded table of promises (PROTOCOL section 3). A key without an entry has promised its slot's floor.

use crate::base::planted::{self, Bug};
use crate::base::{Slot, Stamp};
use crate::rules::slots::slot_of;
use alloc::collections::{BTreeMap, VecDeque};
use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Volatile promises of one shard.
#[derive(Debug, Clone)]
pub struct Promises {
    /// `(promise, number of its last rise)`. Looked up only, never iterated.
    table: HashMap<Bytes, (Stamp, u64), FixedState>,
    /// Rises in order; the front entry that is still current is the one to evict.
    order: VecDeque<(Bytes, Slot, u64)>,
    rises: u64,
    capacity: usize,
    /// S4: the ceiling found at the start; the floor of every slot without a higher one.
    start_floor: Stamp,
    floors: BTreeMap<Slot, Stamp>,
}

/// What stands for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Promised {
    /// The promise: the table's entry, or the floor.
    pub ballot: Stamp,
    /// Whether it is an entry of the table.
    pub exact: bool,
    /// The slot's floor.
    pub floor: Stamp,
}

impl Promised {
    /// R2: whether an accept or weak write at `ballot` passes the promise and the floor.
    pub fn admits(self, ballot: Stamp) -> bool {
        ballot >= self.ballot && (ballot > self.floor || (self.exact && self.ballot == ballot))
    }

    /// The higher of promise and floor.
    pub fn highest(self) -> Stamp {
        self.ballot.max(self.floor)
    }
}

impl Promises {
    /// An empty table of `capacity` entries over the floor of a start.
    pub fn new(capacity: usize, start_floor: Stamp) -> Self {
        assert!(capacity > 0, "a table without entries could promise nothing");
        Self {
            table: HashMap::with_hasher(FixedState::with_seed(0x5a_3a7a)),
            order: VecDeque::new(),
            rises: 0,
            capacity,
            start_floor,
            floors: BTreeMap::new(),
        }
    }

    /// What stands for `key`.
    pub fn of(&self, slot: Slot, key: &Bytes) -> Promised {
        let floor = self.floors.get(&slot).copied().unwrap_or(self.start_floor).max(self.start_floor);
        match self.table.get(key) {
            Some((ballot, _)) => Promised { ballot: *ballot, exact: true, floor },
            None => Promised { ballot: floor, exact: false, floor },
        }
    }

    /// Raises the promise of `key` to `ballot` if it is lower. Returns true if a promise had to be evicted for it.
    pub fn raise(&mut self, slot: Slot, key: &Bytes, ballot: Stamp) -> bool {
        let present = self.of(slot, key);
        if ballot <= present.ballot {
            return false;
        }
        self.rises += 1;
        self.table.insert(key.clone(), (ballot, self.rises));
        self.order.push_back((key.clone(), slot, self.rises));
        let mut evicted = false;
        while self.table.len() > self.capacity || self.order.len() > 4 * self.capacity {
            evicted |= self.pop_oldest();
        }
        evicted
    }

    /// Raises the promise of `key` only if it has an entry (R4).
    pub fn raise_entry(&mut self, slot: Slot, key: &Bytes, ballot: Stamp) {
        if self.of(slot, key).exact {
            self.raise(slot, key, ballot);
        }
    }

    /// R6: raises the floor of every slot from `first` to `last` to `floor`, and evicts the promises at or below it: a
    /// promise that stood in the table would still admit its own ballot, which the floor shall keep out.
    pub fn raise_floor(&mut self, first: Slot, last: Slot, floor: Stamp) {
        if floor <= self.start_floor {
            return;
        }
        for slot in first.0..=last.0 {
            let held = self.floors.entry(Slot(slot)).or_default();
            *held = floor.max(*held);
        }
        if planted::on(Bug::R6SourceKeepsPromises) {
            return;
        }
        let concerned = |(_, slot, _): &&(Bytes, Slot, u64)| *slot >= first && *slot <= last;
        for (key, _, _) in self.order.iter().filter(concerned) {
            if self.table.get(key).is_some_and(|(ballot, _)| *ballot <= floor) {
                self.table.remove(key);
            }
        }
    }

    /// The highest floor of the slots from `first` to `last`.
    pub fn highest_floor(&self, first: Slot, last: Slot) -> Stamp {
        let floors = self.floors.range(first..=last).map(|(_, floor)| *floor);
        floors.max().unwrap_or_default().max(self.start_floor)
    }

    /// Takes the oldest rise off the queue; if it is its key's current one, evicts the promise into the floor.
    fn pop_oldest(&mut self) -> bool {
        let Some((key, slot, rise)) = self.order.pop_front() else {
            return false;
        };
        match self.table.get(&key) {
            Some((ballot, current)) if *current == rise => {
                let ballot = *ballot;
                self.table.remove(&key);
                if !planted::on(Bug::R1EvictWithoutFloor) {
                    let floor = self.floors.entry(slot).or_default();
                    *floor = (*floor).max(ballot);
                }
                true
            }
            _ => false,
        }
    }
}

impl super::Replica {
    /// What stands for `key`, for invariants.
    pub fn promised(&self, key: &Bytes) -> Promised {
        self.promises.of(slot_of(key), key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Hlc, NodeId};

    fn stamp(n: u64) -> Stamp {
        Stamp { hlc: Hlc(n), node: NodeId(1) }
    }

    fn key(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    #[test]
    fn a_key_without_an_entry_has_promised_the_floor() {
        let promises = Promises::new(4, stamp(10));
        let promised = promises.of(Slot(1), &key("a"));
        assert_eq!((promised.ballot, promised.exact), (stamp(10), false));
        assert!(!promised.admits(stamp(10)), "the floor itself may have been promised to anybody");
        assert!(promised.admits(stamp(11)));
    }

    #[test]
    fn an_exact_promise_admits_its_own_ballot_even_below_the_floor() {
        let mut promises = Promises::new(2, Stamp::ZERO);
        promises.raise(Slot(1), &key("a"), stamp(5));
        promises.raise(Slot(1), &key("b"), stamp(9));
        assert!(promises.raise(Slot(1), &key("c"), stamp(7)), "a is the oldest and goes");
        assert!(promises.of(Slot(1), &key("c")).admits(stamp(7)));
        let a = promises.of(Slot(1), &key("a"));
        assert_eq!((a.ballot, a.exact), (stamp(5), false));
        assert!(!a.admits(stamp(5)));
    }

    #[test]
    fn eviction_raises_only_the_floor_of_its_slot() {
        let mut promises = Promises::new(1, Stamp::ZERO);
        promises.raise(Slot(1), &key("a"), stamp(5));
        promises.raise(Slot(2), &key("b"), stamp(6));
        assert_eq!(promises.of(Slot(1), &key("z")).floor, stamp(5));
        assert_eq!(promises.of(Slot(2), &key("z")).floor, Stamp::ZERO);
    }

    #[test]
    fn repeated_rises_of_one_key_neither_grow_the_queue_nor_evict_it() {
        let mut promises = Promises::new(4, Stamp::ZERO);
        for n in 1..1_000 {
            promises.raise(Slot(1), &key("hot"), stamp(n));
        }
        assert!(promises.order.len() <= 16);
        assert!(promises.of(Slot(1), &key("hot")).exact);
    }

    #[test]
    fn a_promise_never_falls() {
        let mut promises = Promises::new(4, Stamp::ZERO);
        promises.raise(Slot(1), &key("a"), stamp(5));
        promises.raise(Slot(1), &key("a"), stamp(3));
        assert_eq!(promises.of(Slot(1), &key("a")).ballot, stamp(5));
    }
    proptest::proptest! {
        /// R1, S4: however few entries there are, what a key shows never falls and never understates what was promised,
        /// and only the very ballot of a promise in the table is admitted again.
        #[test]
        fn a_small_table_forgets_nothing_that_matters(
            capacity in 1_usize..5,
            rises in proptest::collection::vec((0_u16..3, 0_u8..4, 1_u64..60), 1..120),
        ) {
            let mut promises = Promises::new(capacity, stamp(10));
            let mut promised: BTreeMap<(Slot, Bytes), Stamp> = BTreeMap::new();
            for (slot, name, ballot) in rises {
                let (slot, name) = (Slot(slot), Bytes::from(alloc::vec![slot as u8, name]));
                let before = promises.of(slot, &name).highest();
                promises.raise(slot, &name, stamp(ballot));
                proptest::prop_assert!(promises.of(slot, &name).highest() >= before);
                let held = promised.entry((slot, name)).or_insert(stamp(10));
                *held = (*held).max(stamp(ballot));
                proptest::prop_assert!(promises.table.len() <= capacity);
                for ((slot, name), held) in &promised {
                    let shown = promises.of(*slot, name);
                    proptest::prop_assert!(shown.highest() >= *held);
                    for other in (1..60).map(stamp) {
                        let again = shown.exact && other == *held;
                        proptest::prop_assert!(!shown.admits(other) || other > *held || again);
                    }
                }
            }
        }
    }
}
