//! Data directories as every version of the format has left them: they open, and show exactly what was put, for ever.
//!
//! `golden/v3` and `golden/v4` are such, with tables of both compressions, value files, a log that holds what no table has, a dropped
//! slot, and the files of identity and ceiling. When the format's version rises, its directory is made once by
//! `cargo test -p samara-core --test golden -- --ignored` and committed; what a version left is never made anew.

use bytes::Bytes;
use samara_core::base::{
    Address, Applied, ClusterId, Config, Counters, Epoch, Hlc, Instant, Member, NodeId, Now, OpId, Outcome,
    Record, RecordKey, ShardId, Slot, Stamp, WallTime,
};
use samara_core::io::{
    DiskError, DiskErrorKind, DiskOp, DiskResult, FileInfo, FileName, Input, Outbox, Output,
};
use samara_core::node::{FORMAT_VERSION, Node, NodeOptions};
use samara_core::store::{Direction, ScanRange, Store, StoreCx, StoreEvent, StoreOptions};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::PathBuf;

const NOW: Now = Now { mono: Instant(1_000_000_000), wall: WallTime(1_000_000) };
/// A slot of which everything was dropped, and one that took records again afterwards.
const DROPPED: u16 = 7;
const RETURNED: u16 = 8;

#[derive(Default, Clone)]
struct Disk(BTreeMap<FileName, Vec<u8>>);

impl Disk {
    fn perform(&mut self, op: DiskOp) -> DiskResult {
        match op {
            DiskOp::Create { file, preallocate } => {
                assert!(self.0.insert(file, vec![0; preallocate as usize]).is_none(), "{file} exists");
            }
            DiskOp::Write { file, offset, data, .. } => {
                let content = self.0.get_mut(&file).expect("the file was created");
                let end = offset as usize + data.len();
                content.resize(content.len().max(end), 0);
                content[offset as usize..end].copy_from_slice(&data);
            }
            DiskOp::Read { file, offset, len } => {
                let Some(content) = self.0.get(&file) else {
                    let text = format!("{file}: not found");
                    return DiskResult::Failed(DiskError { kind: DiskErrorKind::NotFound, text });
                };
                let start = content.len().min(offset as usize);
                let end = content.len().min(start + len as usize);
                return DiskResult::Data(Bytes::copy_from_slice(&content[start..end]));
            }
            DiskOp::Truncate { file, len } => {
                self.0.get_mut(&file).expect("the file was created").resize(len as usize, 0);
            }
            DiskOp::Rename { from, to } => {
                let content = self.0.remove(&from).expect("the file was created");
                self.0.insert(to, content);
            }
            DiskOp::Remove { file } => {
                self.0.remove(&file);
            }
            DiskOp::List => {
                let info = |(file, content): (&FileName, &Vec<u8>)| FileInfo {
                    file: *file,
                    len: content.len() as u64,
                };
                return DiskResult::Files(self.0.iter().map(info).collect());
            }
            DiskOp::Sync { .. } | DiskOp::SyncDir => {}
        }
        DiskResult::Done
    }
}

fn store_options() -> StoreOptions {
    StoreOptions {
        memtable_bytes: 16 << 10,
        wal_segment_bytes: 16 << 10,
        block_bytes: 1 << 10,
        value_file_bytes: 24 << 10,
        ..StoreOptions::default()
    }
}

fn node_options() -> NodeOptions {
    let member = Member { node: NodeId(3), zone: String::new(), tokens: 150, shards: 1 };
    let config = Config { cluster: ClusterId(9), epoch: Epoch(1), members: vec![member], replication: 1 };
    NodeOptions {
        address: Address { node: NodeId(3), shard: ShardId(0) },
        config,
        seed: [3; 32],
        store: store_options(),
        floors: samara_core::rules::floor::Floors::default(),
        promises_max: 64,
    }
}

/// Starts a node on the disk; the reason if it refuses.
fn start_node(disk: &mut Disk) -> Result<(), String> {
    let mut node = Node::new(node_options());
    let mut inputs = VecDeque::from([Input::Boot]);
    let mut is_ready = false;
    while let Some(input) = inputs.pop_front() {
        let mut out = Outbox::new();
        node.step(NOW, input, &mut out);
        for output in out.drain() {
            match output {
                Output::Disk { ticket, op } => {
                    let result = disk.perform(op);
                    inputs.push_back(Input::Disk { ticket, result });
                }
                Output::Ready => is_ready = true,
                Output::Fatal { reason } => return Err(reason),
                Output::Notice { .. } | Output::Reply { .. } | Output::Send { .. } => {}
            }
        }
    }
    assert!(is_ready, "the node is ready");
    Ok(())
}

/// A store on a disk that does everything at once.
struct Engine {
    store: Store,
    disk: Disk,
    events: Vec<StoreEvent>,
    counters: Counters,
}

impl Engine {
    fn open(disk: Disk) -> Self {
        let (store, counters) = (Store::new(store_options()), Counters::default());
        let mut engine = Self { store, disk, events: Vec::new(), counters };
        engine.call(|store, cx| store.boot(cx, false));
        assert_eq!(engine.events, [StoreEvent::Recovered]);
        engine
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Store, &mut StoreCx<'_>) -> T) -> T {
        let mut out = Outbox::new();
        let (events, counters) = (&mut self.events, &mut self.counters);
        let mut cx = StoreCx { now: NOW, out: &mut out, events, counters };
        let answer = call(&mut self.store, &mut cx);
        self.store.commit(&mut cx);
        while !out.is_empty() {
            let outputs: Vec<Output> = out.drain().collect();
            for output in outputs {
                if let Output::Disk { ticket, op } = output {
                    let result = self.disk.perform(op);
                    let (events, counters) = (&mut self.events, &mut self.counters);
                    let mut cx = StoreCx { now: NOW, out: &mut out, events, counters };
                    self.store.on_disk(&mut cx, ticket, result);
                    self.store.commit(&mut cx);
                }
            }
        }
        answer
    }

    fn all(&mut self, direction: Direction) -> Vec<(RecordKey, Record)> {
        let range = ScanRange { low: Bound::Unbounded, high: Bound::Unbounded, direction };
        self.events.clear();
        self.call(|store, cx| store.scan_range(cx, range, 10_000, 64 << 20));
        match self.events.pop() {
            Some(StoreEvent::Scanned { records, done: true, .. }) => records,
            other => panic!("{other:?}"),
        }
    }
}

fn key(number: u64) -> RecordKey {
    let slot = Slot((number % 12) as u16 + if number % 50 == 3 { Slot::COUNT } else { 0 });
    RecordKey { slot, key: Bytes::from(format!("key-{number:03}")) }
}

/// What the format has to carry: values that can be compressed and that cannot, empty ones, large ones, none; expiry,
/// settled versions, answers of every kind.
fn record(number: u64, version: u64) -> Record {
    let stamp = |ms: u64| Stamp { hlc: Hlc(ms << 16 | number), node: NodeId(3) };
    let ballot = stamp(1_000 + version);
    let len = [90, 0, 300, 5_000, 900, 40, 9_001, 60, 2_000, 7, 120][number as usize % 11];
    let mut state = number << 8 | version | 1;
    let mut byte = |_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        if number.is_multiple_of(2) { b'a' + (number % 20) as u8 } else { (state >> 56) as u8 }
    };
    let value = (number % 13 != 5).then(|| (0..len).map(&mut byte).collect::<Bytes>());
    let outcomes = [
        Outcome::Changed { applied: true, old: None },
        Outcome::Changed { applied: false, old: Some(Bytes::from("before")) },
        Outcome::Integer(-5),
        Outcome::NotKept,
    ];
    let recent = outcomes.into_iter().take(number as usize % 5).enumerate().map(|(at, outcome)| Applied {
        op_id: OpId { stamp: stamp(900), number: u128::from(number) << 70 | at as u128 },
        outcome,
        stamp: ballot,
    });
    Record {
        ballot,
        written: if number.is_multiple_of(3) { stamp(500) } else { ballot },
        value,
        expires_at: if number.is_multiple_of(7) { 4_000_000_000_000 + number } else { 0 },
        recent: recent.collect(),
        evicted_upto: if number.is_multiple_of(4) { stamp(100) } else { Stamp::ZERO },
    }
}

/// The puts in order: a key and its version.
fn puts() -> impl Iterator<Item = (u64, u64)> {
    (0..3).flat_map(|version| (0..110).step_by(1 + version as usize).map(move |number| (number, version)))
}

/// What the directory shows.
fn wanted() -> Vec<(RecordKey, Record)> {
    let mut there: BTreeMap<RecordKey, Record> = BTreeMap::new();
    for (number, version) in puts() {
        there.insert(key(number), record(number, version));
    }
    there.retain(|key, _| ![DROPPED, RETURNED].contains(&key.slot.0));
    there.remove(&key(22));
    there.insert(key(20), record(20, 1));
    there.insert(key(1), record(1, 50));
    there.into_iter().collect()
}

fn directory(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}"))
}

fn read_directory(version: u32) -> Disk {
    let mut disk = Disk::default();
    for entry in std::fs::read_dir(directory(version)).expect("a golden directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        let file = name.to_str().and_then(FileName::parse).expect("a file of ours");
        disk.0.insert(file, std::fs::read(entry.path()).expect("a file"));
    }
    disk
}

/// Makes the directory of the present version. What is there is left as it is.
#[test]
#[ignore = "makes the golden directory of a new version of the format, once"]
fn make() {
    let path = directory(FORMAT_VERSION);
    assert!(!path.exists(), "{} is there: a golden directory is never made anew", path.display());
    let mut disk = Disk::default();
    start_node(&mut disk).expect("a fresh directory");
    let mut engine = Engine::open(disk);
    for (number, version) in puts() {
        engine.call(|store, cx| store.put(cx, key(number), record(number, version)));
    }
    engine.call(|store, cx| store.drop_slots(cx, &[Slot(DROPPED), Slot(RETURNED)]));
    engine.call(|store, cx| store.erase(cx, key(22), record(22, 90).ballot));
    // Lower than what the slot held before it was dropped, and a last put that is in the log alone.
    engine.call(|store, cx| store.put(cx, key(20), record(20, 1)));
    engine.call(|store, cx| store.put(cx, key(1), record(1, 50)));
    std::fs::create_dir_all(&path).expect("a directory");
    for (file, content) in &engine.disk.0 {
        std::fs::write(path.join(file.to_string()), content).expect("a file");
    }
}

#[test]
fn what_every_version_left_opens_and_shows_exactly_what_was_put() {
    let versions = [3, 4];
    assert_eq!(
        FORMAT_VERSION, versions[1],
        "a new version of the format leaves a golden directory of its own"
    );
    for version in versions {
        let disk = read_directory(version);
        for suffix in ["identity", "ceiling", "manifest", "wal", "table", "value"] {
            assert!(disk.0.keys().any(|file| file.kind.suffix() == suffix), "a {suffix}");
        }
        let mut engine = Engine::open(disk.clone());
        let mut wanted = wanted();
        assert!(wanted.len() > 80);
        assert_eq!(engine.all(Direction::Forward), wanted);
        wanted.reverse();
        assert_eq!(engine.all(Direction::Backward), wanted);
        engine.call(|store, _| store.scrub());
        engine.call(|_, _| ());
        assert_eq!(engine.store.damaged_blocks(), 0);
        let mut disk = disk;
        for start in ["the first start", "the second"] {
            assert_eq!(
                start_node(&mut disk),
                Ok(()),
                "{start} on version {version}: identity and ceiling, too"
            );
            assert_eq!(
                identity(&mut disk)[8..12],
                FORMAT_VERSION.to_le_bytes(),
                "it is of this version from then on"
            );
        }
    }
}

fn identity(disk: &mut Disk) -> &mut Vec<u8> {
    disk.0.iter_mut().find(|(file, _)| file.kind.suffix() == "identity").expect("an identity").1
}

#[test]
fn a_directory_of_another_version_is_refused_with_that_version() {
    let mut disk = read_directory(3);
    // The version stands behind the magic, and is told before anything else is looked at.
    identity(&mut disk)[8] = 2;
    let before = disk.clone();
    let reason = start_node(&mut disk).expect_err("another version");
    assert!(reason.contains("format version 2, this program reads versions 3 and 4"), "{reason}");
    assert!(disk.0 == before.0, "a refused directory is left as it is");
}
