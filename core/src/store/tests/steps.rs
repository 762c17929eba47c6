//! The engine and a map side by side, step by step as proptest draws and shrinks them: puts, erasures, reads, operations of
//! the disk done in any order, a full disk, kills, crashes, starts. A failure is kept under proptest-regressions.

use super::*;
use crate::base::Slot;
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Key and bytes of the value; none is a tombstone.
    Put(u8, Option<u16>),
    /// The key's record goes up to its present ballot.
    Erase(u8),
    Get(u8),
    /// A whole scan in pages of so many records.
    Scan(u8),
    /// So many pending operations are done, each chosen by the next number.
    Disk(u8, u8),
    Time(u16),
    Full(bool),
    Kill(u8),
    Crash(u8),
    Scrub,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len =
        prop_oneof![4 => (0u16..200).prop_map(Some), 1 => (4_000u16..9_000).prop_map(Some), 1 => Just(None)];
    let step = prop_oneof![
        30 => (0u8..24, len).prop_map(|(key, len)| Step::Put(key, len)),
        2 => (0u8..24).prop_map(Step::Erase),
        8 => (0u8..26).prop_map(Step::Get),
        2 => (1u8..9).prop_map(Step::Scan),
        30 => (1u8..12, any::<u8>()).prop_map(|(count, which)| Step::Disk(count, which)),
        4 => (1u16..900).prop_map(Step::Time),
        1 => any::<bool>().prop_map(Step::Full),
        1 => any::<u8>().prop_map(Step::Kill),
        1 => any::<u8>().prop_map(Step::Crash),
        1 => Just(Step::Scrub),
    ];
    proptest::collection::vec(step, 1..320)
}

/// What stands for a key: the number of the put that made it, and its bytes; or an erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    lsn: Lsn,
    record: Option<Record>,
}

/// Per key, the oldest version that may be found, and all later ones.
#[derive(Default)]
struct Versions(BTreeMap<u8, Vec<Version>>);

impl Versions {
    fn newest(&self, name: u8) -> Option<Record> {
        self.0.get(&name).and_then(|versions| versions.last()?.record.clone())
    }

    /// After a crash one version from the newest durable one on must be there; from then on it is the only one.
    fn settle(&mut self, name: u8, durable: Lsn, found: Option<Record>) -> Result<(), TestCaseError> {
        let Some(versions) = self.0.get_mut(&name) else {
            prop_assert_eq!(found, None, "key {} was never put", name);
            return Ok(());
        };
        let from = versions.iter().rposition(|version| version.lsn <= durable).unwrap_or(0);
        // Before its first put a key was not there.
        let may_be_absent = versions[from].lsn > durable && found.is_none();
        let is_known = may_be_absent || versions[from..].iter().any(|version| version.record == found);
        prop_assert!(is_known, "key {}: {:?} is none of {:?}", name, found, &versions[from..]);
        *versions = alloc::vec![Version { lsn: Lsn(0), record: found }];
        Ok(())
    }
}

struct Run {
    engine: Engine,
    versions: Versions,
    puts: u64,
}

impl Run {
    fn name(name: u8) -> RecordKey {
        RecordKey { slot: Slot(u16::from(name % 5)), key: Bytes::from(format!("key-{name:02}")) }
    }

    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Put(name, len) => {
                // As the replica does: a full disk takes no values, and still takes tombstones.
                let is_taken = match self.engine.store.admit() {
                    Ok(()) => true,
                    Err(Pressure::Full) => len.is_none(),
                    Err(Pressure::Busy) => false,
                };
                if is_taken {
                    self.put(name, len);
                }
            }
            Step::Erase(name) => {
                let upto = self.versions.newest(name).map_or(Stamp::ZERO, |record| record.ballot);
                let lsn = self.engine.call(|store, cx| store.erase(cx, Self::name(name), upto));
                if self.versions.newest(name).is_some() {
                    self.versions.0.entry(name).or_default().push(Version { lsn, record: None });
                }
            }
            Step::Get(name) => {
                let found = self.engine.get(&Self::name(name));
                prop_assert_eq!(found, Ok(self.versions.newest(name)), "key {}", name);
            }
            Step::Scan(limit) => self.scan(usize::from(limit))?,
            Step::Disk(count, which) => {
                for at in 0..usize::from(count) {
                    let pending = self.engine.disk.pending.len();
                    if pending > 0 {
                        self.engine.complete((usize::from(which) + at * 7) % pending);
                    }
                }
            }
            Step::Time(ms) => {
                self.engine.now_ms += u64::from(ms);
                self.engine.call(|_, _| ());
            }
            Step::Full(full) => self.engine.disk.faults.full = full,
            Step::Kill(seed) => self.start_again(seed, false)?,
            Step::Crash(seed) => self.start_again(seed, true)?,
            Step::Scrub => self.engine.call(|store, _| store.scrub()),
        }
        prop_assert_eq!(self.engine.fatal(), None);
        Ok(())
    }

    fn put(&mut self, name: u8, len: Option<u16>) {
        self.puts += 1;
        let ballot = Stamp { hlc: Hlc(self.puts), node: NodeId(1) };
        let value = len.map(|len| Bytes::from(alloc::vec![self.puts as u8; usize::from(len)]));
        let record = Record { ballot, written: ballot, value, ..Record::default() };
        let lsn = self.engine.call(|store, cx| store.put(cx, Self::name(name), record.clone()));
        self.versions.0.entry(name).or_default().push(Version { lsn, record: Some(record) });
    }

    fn scan(&mut self, limit: usize) -> Result<(), TestCaseError> {
        let mut wanted: Vec<(RecordKey, Record)> =
            (0..26).filter_map(|name| Some((Self::name(name), self.versions.newest(name)?))).collect();
        wanted.sort_by(|(a, _), (b, _)| (a.slot, &a.key).cmp(&(b.slot, &b.key)));
        prop_assert_eq!(self.engine.all(limit), wanted, "a whole scan");
        Ok(())
    }

    fn start_again(&mut self, seed: u8, loses_power: bool) -> Result<(), TestCaseError> {
        let durable = self.engine.store.durable();
        let mut rng = crate::base::rng::Rng::new([seed; 32], 0);
        if loses_power {
            self.engine.disk.crash(&mut rng);
        } else {
            self.engine.disk.kill(&mut rng);
        }
        // A start needs space for a manifest.
        self.engine.disk.faults.full = false;
        prop_assert_eq!(self.engine.open(false), Ok(()), "a start");
        for name in 0..26 {
            let found = self.engine.get(&Self::name(name));
            let found = found.map_err(TestCaseError::fail)?;
            self.versions.settle(name, durable, found)?;
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_and_a_map_go_the_same_way(steps in steps(), inline in prop_oneof![Just(64usize), Just(4_096)]) {
        let options = StoreOptions { value_inline_max: inline, value_file_bytes: 24 << 10, reserve_bytes: 8 << 10, ..small() };
        let mut run = Run { engine: Engine::started(options, 1), versions: Versions::default(), puts: 0 };
        for step in steps {
            run.apply(step)?;
        }
        run.engine.disk.faults.full = false;
        run.engine.now_ms += 2_000;
        run.engine.call(|_, _| ());
        run.engine.settle();
        run.scan(7)?;
        prop_assert_eq!(run.engine.store.damaged_blocks(), 0);
    }
}
