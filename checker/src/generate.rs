//! Histories made to measure and test checkers: a key-value store that is linearizable, watched by clients, with lies on demand.

use crate::history::Level;
use crate::recording::{Code, NOTHING, Record, Recording, Reply, Update};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// What values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Every value once.
    Unique,
    /// Values of a pool of this size.
    Pool(u64),
}

/// How often each kind of operation is done, in parts of their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Reads.
    pub get: u32,
    /// Writes.
    pub put: u32,
    /// Deletes that answer whether there was something.
    pub delete: u32,
    /// Compare-and-sets; half of them expect what is there.
    pub cas: u32,
    /// Increments, which answer the sum. They go with reads only.
    pub incr: u32,
}

/// What to make.
///
/// ```
/// use samara_check::generate::{Mix, Workload, Written, generate};
/// use samara_check::linearizability::{Limits, Options, Verdict, check_recording};
///
/// let workload = Workload { operations: 1_000, clients: 10, lies: 1, ..Workload::default() };
/// let report = check_recording(&generate(&workload), &Options::default(), &Limits::default());
/// assert!(matches!(report.verdict, Verdict::Violated(_)));
/// ```
#[derive(Debug, Clone)]
pub struct Workload {
    /// The same seed makes the same history.
    pub seed: u64,
    /// Operations in all.
    pub operations: usize,
    /// Clients, one operation at a time each.
    pub clients: usize,
    /// Keys, chosen evenly.
    pub keys: usize,
    /// What is written.
    pub written: Written,
    /// The mix.
    pub mix: Mix,
    /// Of how many operations in a thousand the outcome is unknown: half of them take effect, some of these late.
    pub unknown_per_mille: u32,
    /// Whether replies carry versions.
    pub versions: bool,
    /// How many reads, in the second half, answer with a value that was overwritten for certain.
    pub lies: usize,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            seed: 1,
            operations: 10_000,
            clients: 50,
            keys: 1,
            written: Written::Unique,
            mix: Mix { get: 50, put: 50, delete: 0, cas: 0, incr: 0 },
            unknown_per_mille: 10,
            versions: false,
            lies: 0,
        }
    }
}

/// A small generator of pseudorandom numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}

#[derive(Default, Clone)]
struct Key {
    value: u32,
    version: u64,
    /// Values that were overwritten, with the time at which this was certain.
    past: VecDeque<(u32, u64)>,
}

struct World<'a> {
    workload: &'a Workload,
    random: Random,
    recording: Recording,
    keys: Vec<Key>,
    /// Operations by the time at which they take effect.
    coming: BinaryHeap<Reverse<(u64, u64, usize)>>,
    clients: Vec<u32>,
    written: u64,
    lies: usize,
    version: u64,
}

/// Makes a history.
pub fn generate(workload: &Workload) -> Recording {
    let mut world = World {
        workload,
        random: Random(workload.seed),
        recording: Recording::default(),
        keys: vec![Key::default(); workload.keys],
        coming: BinaryHeap::new(),
        clients: Vec::new(),
        written: 0,
        lies: 0,
        version: 0,
    };
    for key in 0..workload.keys {
        world.recording.keys.id(format!("k{key}").as_bytes());
    }
    for client in 0..workload.clients {
        world.clients.push(0);
        world.renew(client);
        let call = world.random.below(1_000);
        world.ask(client, call);
    }
    while let Some(Reverse((time, _, at))) = world.coming.pop() {
        world.happen(at, time);
    }
    let mut recording = world.recording;
    recording.records.truncate(workload.operations);
    recording.records.sort_by_key(|record| record.call);
    recording
}

impl World<'_> {
    fn renew(&mut self, client: usize) {
        let name = self.recording.processes.len().to_string();
        self.clients[client] = self.recording.processes.id(name.as_bytes());
    }

    /// A client asks for something at `call`.
    fn ask(&mut self, client: usize, call: u64) {
        if self.recording.records.len() >= self.workload.operations {
            return;
        }
        let takes = 200 + self.random.below(1_800);
        let happens = call + self.random.below(takes);
        let process = self.clients[client];
        let key = self.random.below(self.workload.keys as u64) as u32 + 1;
        let mut record = Record {
            call,
            ret: call + takes,
            number: -1,
            answer: 0,
            version: 0,
            process,
            session: process,
            node: NOTHING,
            key,
            argument: NOTHING,
            expected: NOTHING,
            seen: NOTHING,
            line: 0,
            code: Code::Get,
            reply: Reply::Done,
            observed: false,
            level: Level::Strong,
            update: Update::default(),
        };
        self.choose(&mut record);
        let at = self.recording.records.len();
        let mut applies = true;
        let mut when = happens;
        if self.random.below(1_000) < u64::from(self.workload.unknown_per_mille) {
            record.reply = Reply::Unknown;
            applies = self.random.below(2) == 0;
            if self.random.below(4) == 0 {
                when += self.random.below(100_000);
            }
            self.renew(client);
        }
        self.recording.records.push(record);
        if applies {
            self.coming.push(Reverse((when, self.random.draw(), at)));
        }
        let pause = 1 + self.random.below(400);
        self.ask_later(client, call + takes + pause);
    }

    /// The client's next operation is asked when its time has come: kept in order by the heap.
    fn ask_later(&mut self, client: usize, call: u64) {
        self.coming.push(Reverse((call, self.random.draw(), usize::MAX - client)));
    }

    fn value(&mut self) -> u32 {
        let number = match self.workload.written {
            Written::Unique => {
                self.written += 1;
                self.written
            }
            Written::Pool(size) => self.random.below(size) + 1,
        };
        self.recording.values.id(number.to_string().as_bytes())
    }

    fn choose(&mut self, record: &mut Record) {
        let mix = self.workload.mix;
        let kinds = [
            (mix.get, Code::Get),
            (mix.put, Code::Put),
            (mix.delete, Code::Delete),
            (mix.cas, Code::Cas),
            (mix.incr, Code::Incr),
        ];
        let sum: u32 = kinds.iter().map(|(parts, _)| parts).sum();
        let mut left = self.random.below(u64::from(sum.max(1))) as u32;
        for (parts, code) in kinds {
            if left < parts {
                record.code = code;
                break;
            }
            left -= parts;
        }
        match record.code {
            Code::Put => record.argument = self.value(),
            Code::Incr => record.number = 1,
            Code::Cas => {
                let present = self.keys[record.key as usize - 1].value;
                let guess = self.random.below(2) == 0 || present == NOTHING;
                record.expected = if guess { self.value() } else { present };
                record.argument = self.value();
            }
            _ => {}
        }
    }

    /// An operation takes effect.
    fn happen(&mut self, at: usize, time: u64) {
        if at > usize::MAX - self.clients.len() - 1 {
            self.ask(usize::MAX - at, time);
            return;
        }
        let mut record = self.recording.records[at];
        let key = &mut self.keys[record.key as usize - 1];
        let known = record.reply != Reply::Unknown;
        let (mut value, mut reply) = (key.value, Reply::Done);
        match record.code {
            Code::Get => {
                reply = Reply::Value;
                record.seen = key.value;
            }
            Code::Put => value = record.argument,
            Code::Delete => {
                reply = if value == NOTHING { Reply::NotApplied } else { Reply::Applied };
                value = NOTHING;
            }
            Code::Cas if key.value == record.expected => {
                reply = Reply::Applied;
                value = record.argument;
            }
            Code::Incr => {
                let text = std::str::from_utf8(self.recording.values.text(value)).unwrap_or("");
                let sum = text.parse::<i64>().unwrap_or(0) + record.number;
                (reply, record.answer) = (Reply::Integer, sum);
                value = self.recording.values.id(sum.to_string().as_bytes());
            }
            _ => reply = Reply::NotApplied,
        }
        let key = &mut self.keys[record.key as usize - 1];
        let changes = record.is_write() && !matches!(reply, Reply::NotApplied | Reply::Value);
        if changes {
            self.version += 1;
            let certain = if known { record.ret } else { u64::MAX };
            key.past.push_back((key.value, certain));
            if key.past.len() > 64 {
                key.past.pop_front();
            }
            (key.value, key.version) = (value, self.version);
        }
        if self.workload.versions && known {
            record.version = key.version;
        }
        if known {
            record.reply = reply;
            let late = at > self.workload.operations / 2;
            if reply == Reply::Value && late && self.lies < self.workload.lies {
                let stale =
                    key.past.iter().find(|(value, certain)| *certain < record.call && *value != key.value);
                if let Some((value, _)) = stale {
                    record.seen = *value;
                    self.lies += 1;
                }
            }
        }
        self.recording.records[at] = record;
    }
}
