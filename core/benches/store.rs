//! The storage engine against fjall: same machine, same run, same data, equal cache, alternating rounds, medians, ratios.
//!
//! `cargo bench -p samara-core --bench store -- [RECORDS] [ROUNDS]` (defaults: 1,000,000 and 3). Ours runs on one thread that
//! also does the I/O, with up to 256 writes outstanding; fjall keeps its own background threads. Writes of both count when
//! the operating system has them (interval durability; fjall's default). A bench decides no test.

use bytes::Bytes;
use samara_core::base::{
    Counters, Hlc, Instant as Mono, NodeId, Now, Record, RecordKey, Slot, Stamp, Ticket, WallTime,
};
use samara_core::io::{DiskError, DiskErrorKind, DiskOp, DiskResult, FileInfo, FileName, Outbox, Output};
use samara_core::store::{Durability, Lookup, Store, StoreCx, StoreEvent, StoreOptions};
use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CACHE: usize = 128 << 20;
const WINDOW: u64 = 256;
const READS: u64 = 200_000;
const SCANS: u64 = 5_000;

/// A key that looks random and is a permutation of its number.
fn name(number: u64) -> [u8; 16] {
    let mut x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93 | 1);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(x ^ (x >> 32)).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// A hundred bytes that do not compress.
fn value(number: u64) -> Vec<u8> {
    let mut x = number | 1;
    let step = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..100).map(step).collect()
}

fn key(number: u64) -> RecordKey {
    let name = name(number);
    RecordKey {
        slot: Slot(u16::from_be_bytes([name[0], name[1]]) & 0x3fff),
        key: Bytes::copy_from_slice(&name),
    }
}

struct Files {
    path: PathBuf,
    open: HashMap<FileName, File>,
}

impl Files {
    fn file(&mut self, name: FileName) -> Result<&File> {
        if !self.open.contains_key(&name) {
            let path = self.path.join(name.to_string());
            self.open.insert(name, OpenOptions::new().read(true).write(true).open(path)?);
        }
        Ok(&self.open[&name])
    }

    fn perform(&mut self, op: &DiskOp) -> Result<DiskResult> {
        match op {
            DiskOp::Create { file, preallocate } => {
                let path = self.path.join(file.to_string());
                let made = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
                let zeros = vec![0; 1 << 20];
                for at in (0..*preallocate).step_by(zeros.len()) {
                    made.write_all_at(&zeros[..zeros.len().min((preallocate - at) as usize)], at)?;
                }
                self.open.insert(*file, made);
            }
            DiskOp::Write { file, offset, data, sync } => {
                let file = self.file(*file)?;
                file.write_all_at(data, *offset)?;
                if *sync {
                    file.sync_data()?;
                }
            }
            DiskOp::Read { file, offset, len } => {
                let mut data = vec![0; *len as usize];
                let count = self.file(*file)?.read_at(&mut data, *offset)?;
                data.truncate(count);
                return Ok(DiskResult::Data(Bytes::from(data)));
            }
            DiskOp::Sync { file } => self.file(*file)?.sync_data()?,
            DiskOp::Truncate { file, len } => self.file(*file)?.set_len(*len)?,
            DiskOp::Rename { from, to } => {
                std::fs::rename(self.path.join(from.to_string()), self.path.join(to.to_string()))?;
                self.open.remove(to);
                if let Some(file) = self.open.remove(from) {
                    self.open.insert(*to, file);
                }
            }
            DiskOp::Remove { file } => {
                self.open.remove(file);
                std::fs::remove_file(self.path.join(file.to_string()))?;
            }
            DiskOp::List => {
                let mut files = Vec::new();
                for entry in std::fs::read_dir(&self.path)? {
                    let entry = entry?;
                    if let Some(file) = entry.file_name().to_str().and_then(FileName::parse) {
                        files.push(FileInfo { file, len: entry.metadata()?.len() });
                    }
                }
                files.sort_by_key(|info| info.file);
                return Ok(DiskResult::Files(files));
            }
            DiskOp::SyncDir => File::open(&self.path)?.sync_all()?,
        }
        Ok(DiskResult::Done)
    }
}

struct Ours {
    store: Store,
    files: Files,
    queue: VecDeque<(Ticket, DiskOp)>,
    out: Outbox,
    events: Vec<StoreEvent>,
    counters: Counters,
    start: Instant,
    longest: Duration,
    put: u64,
}

impl Ours {
    fn open(path: &Path, fresh: bool) -> Self {
        std::fs::create_dir_all(path).expect("a directory");
        let options = StoreOptions {
            durability: Durability::Interval(1000),
            cache_bytes: CACHE,
            ..StoreOptions::default()
        };
        let mut ours = Self {
            store: Store::new(options),
            files: Files { path: path.to_owned(), open: HashMap::new() },
            queue: VecDeque::new(),
            out: Outbox::new(),
            events: Vec::new(),
            counters: Counters::default(),
            start: Instant::now(),
            longest: Duration::ZERO,
            put: 0,
        };
        ours.call(|store, cx| store.boot(cx, fresh));
        while !ours.events.contains(&StoreEvent::Recovered) {
            assert!(ours.step(), "recovery goes on: {:?}", ours.events);
        }
        ours.longest = Duration::ZERO;
        ours
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Store, &mut StoreCx<'_>) -> T) -> T {
        let before = Instant::now();
        let ms = self.start.elapsed().as_millis() as u64;
        let now = Now { mono: Mono(0).plus_ms(ms), wall: WallTime(ms) };
        let (out, events, counters) = (&mut self.out, &mut self.events, &mut self.counters);
        let mut cx = StoreCx { now, out, events, counters };
        let answer = call(&mut self.store, &mut cx);
        self.store.commit(&mut cx);
        for output in self.out.drain() {
            if let Output::Disk { ticket, op } = output {
                self.queue.push_back((ticket, op));
            }
        }
        self.longest = self.longest.max(before.elapsed());
        answer
    }

    fn step(&mut self) -> bool {
        let Some((ticket, op)) = self.queue.pop_front() else {
            return false;
        };
        let result = self.files.perform(&op).unwrap_or_else(|error| {
            DiskResult::Failed(DiskError { kind: DiskErrorKind::Io, text: error.to_string() })
        });
        self.call(|store, cx| store.on_disk(cx, ticket, result));
        true
    }

    fn put(&mut self, number: u64) {
        self.put += 1;
        let ballot = Stamp { hlc: Hlc((1 << 56) + self.put), node: NodeId(1) };
        let value = Some(Bytes::from(value(number)));
        let record = Record { ballot, written: ballot, value, ..Record::default() };
        let lsn = self.call(|store, cx| store.put(cx, key(number), record));
        while lsn.0 > self.store.durable().0 + WINDOW || self.store.admit().is_err() {
            assert!(self.step(), "a write waits for nothing");
        }
        if self.put.is_multiple_of(4096) {
            self.events.clear();
        }
    }

    fn settle(&mut self) {
        while self.step() {}
        self.events.clear();
    }

    fn get(&mut self, number: u64) -> bool {
        match self.call(|store, cx| store.get(cx, &key(number))) {
            Lookup::Ready { record, .. } => record.is_some(),
            Lookup::Pending(token) => loop {
                assert!(self.step(), "a read waits for nothing");
                let got = self.events.drain(..).find_map(|event| match event {
                    StoreEvent::Got { token: other, record, .. } if other == token => Some(record.is_some()),
                    _ => None,
                });
                if let Some(found) = got {
                    return found;
                }
            },
        }
    }

    fn scan(&mut self, number: u64) -> usize {
        let token = self.call(|store, cx| store.scan(cx, key(number), false, None, 100, 1 << 20));
        loop {
            let got = self.events.drain(..).find_map(|event| match event {
                StoreEvent::Scanned { token: other, records, .. } if other == token => Some(records.len()),
                _ => None,
            });
            match got {
                Some(count) => return count,
                None => assert!(self.step(), "a scan waits for nothing"),
            }
        }
    }
}

/// Operations a second of `count` calls.
fn rate(count: u64, mut call: impl FnMut(u64)) -> f64 {
    let start = Instant::now();
    (0..count).for_each(&mut call);
    count as f64 / start.elapsed().as_secs_f64()
}

fn spread(number: u64, records: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % records
}

fn ours(path: &Path, records: u64) -> (Vec<f64>, String) {
    let mut db = Ours::open(path, true);
    let fill = rate(records, |number| db.put(number));
    let (longest, written) = (db.longest, db.store.stats());
    db.settle();
    let user = records as f64 * 116.0;
    let write_amplification =
        (written.wal_bytes_written + db.store.stats().table_bytes_written) as f64 / user;
    let hot = records.min(200_000);
    (0..hot).for_each(|number| assert!(db.get(number)));
    let cached = rate(READS, |number| assert!(db.get(spread(number, hot))));
    let all = rate(READS, |number| assert!(db.get(spread(number * 7, records))));
    let absent = rate(READS, |number| assert!(!db.get(records + number)));
    let scan = rate(SCANS, |number| assert!(db.scan(spread(number, records)) <= 100));
    let overwrite = rate(records / 2, |number| db.put(spread(number, records)));
    db.settle();
    let memory: usize = db.store.memory().iter().map(|(_, bytes)| bytes).sum();
    let (tables, bytes) = db.store.tables();
    drop(db);
    let start = Instant::now();
    let db = Ours::open(path, false);
    let note = format!(
        "ours: write amplification {write_amplification:.2} (log included), longest step of the fill {longest:?}, \
         {tables} tables of {bytes} bytes for {user} of the user, memory {memory}, reopened in {:?} with {} tables",
        start.elapsed(),
        db.store.tables().0
    );
    (vec![fill, cached, all, absent, scan, overwrite], note)
}

fn fjall(path: &Path, records: u64) -> Vec<f64> {
    let db = fjall::Database::builder(path).cache_size(CACHE as u64).open().expect("fjall opens");
    let items = db.keyspace("items", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
    let fill = rate(records, |number| items.insert(name(number), value(number)).expect("a write"));
    let hot = records.min(200_000);
    let get = |number: u64| items.get(name(number)).expect("a read").is_some();
    (0..hot).for_each(|number| assert!(get(number)));
    let cached = rate(READS, |number| assert!(get(spread(number, hot))));
    let all = rate(READS, |number| assert!(get(spread(number * 7, records))));
    let absent = rate(READS, |number| assert!(!get(records + number)));
    let scan = rate(SCANS, |number| {
        let page = items.range(name(spread(number, records)).to_vec()..).take(100);
        assert!(page.map(|item| item.into_inner().expect("a record").1.len()).sum::<usize>() <= 10_000);
    });
    let overwrite = rate(records / 2, |number| {
        let number = spread(number, records);
        items.insert(name(number), value(number)).expect("a write");
    });
    vec![fill, cached, all, absent, scan, overwrite]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let (records, rounds) = (arguments.next().unwrap_or(1_000_000), arguments.next().unwrap_or(3));
    let root = std::env::temp_dir().join(format!("samara-bench-{}", std::process::id()));
    let (mut mine, mut peer) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let paths = [root.join(format!("ours-{round}")), root.join(format!("fjall-{round}"))];
        let (rates, note) = ours(&paths[0], records);
        println!("round {round} {note}");
        println!("round {round} ours  {rates:.0?}");
        mine.push(rates);
        let rates = fjall(&paths[1], records);
        println!("round {round} fjall {rates:.0?}");
        peer.push(rates);
        let _removed = paths.iter().map(std::fs::remove_dir_all).count();
    }
    let _removed = std::fs::remove_dir_all(&root);
    println!(
        "{records} records of 16 + 100 bytes, cache {} MiB, medians of {rounds}, operations a second",
        CACHE >> 20
    );
    let names =
        ["fill random", "read, hot set in cache", "read, all", "read, absent", "scan of 100", "overwrite"];
    for (at, what) in names.iter().enumerate() {
        let of = |all: &[Vec<f64>]| median(all.iter().map(|rates| rates[at]).collect());
        let (ours, fjall) = (of(&mine), of(&peer));
        println!("{what:24} ours {ours:>10.0}  fjall {fjall:>10.0}  ours/fjall {:.2}", ours / fjall);
    }
}
