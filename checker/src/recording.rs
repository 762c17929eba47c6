//! A recorded history in compact form: what readers of files produce and what the checkers work on.
//!
//! An operation is a fixed-size [`Record`]; keys, values and names of processes are numbers into an [`Interner`], so that
//! a million operations take some 100 MB and a comparison of values is a comparison of numbers.

use crate::history::{Answer, Change, Expiry, Function, History, Level, Operation, Outcome, When};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Byte strings by number, each kept once. Number 0 stands for nothing (an absent value, an empty column).
#[derive(Debug, Default, Clone)]
pub struct Interner {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    table: HashTable<u32>,
}

/// The number of nothing: an absent value.
pub const NOTHING: u32 = 0;

const HASHER: FixedState = FixedState::with_seed(0x5a3a_7a5a);

impl Interner {
    /// The number of `text`, from 1.
    pub fn id(&mut self, text: &[u8]) -> u32 {
        let hash = HASHER.hash_one(text);
        if let Some(id) = self.table.find(hash, |id| self.text(*id) == text) {
            return *id;
        }
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
        let id = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        let (bytes, ends) = (&self.bytes, &self.ends);
        self.table.insert_unique(hash, id, |id| HASHER.hash_one(slice(bytes, ends, *id)));
        id
    }

    /// The number of `text`, if it has one.
    pub fn find(&self, text: &[u8]) -> Option<u32> {
        self.table.find(HASHER.hash_one(text), |id| self.text(*id) == text).copied()
    }

    /// The text of a number; empty for [`NOTHING`].
    pub fn text(&self, id: u32) -> &[u8] {
        slice(&self.bytes, &self.ends, id)
    }

    /// How many texts there are; the highest number given so far.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all texts.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[usize], id: u32) -> &'a [u8] {
    let Some(at) = (id as usize).checked_sub(1) else {
        return &[];
    };
    let start = at.checked_sub(1).map_or(0, |before| ends[before]);
    &bytes[start..ends[at]]
}

/// From here on processes of a [`History`] have names in its recording.
pub const NAMED: u64 = 1 << 63;

/// What an operation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Read.
    Get,
    /// Write `argument`; `number` is its time to live in milliseconds, negative for none.
    Put,
    /// Write `argument` if the key is absent.
    PutAbsent,
    /// Write `argument` if the key is present.
    PutPresent,
    /// Delete.
    Delete,
    /// Write `argument` if the value is `expected`.
    Cas,
    /// Add `number`.
    Incr,
    /// Append `argument`.
    Append,
    /// What [`Record::update`] says: with `argument`, `expected` and `number`, which is the time to live in milliseconds or the offset of a range.
    Update,
}

/// What an update does, and when ([`Function::Update`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Update {
    /// The condition.
    pub when: Condition,
    /// What is done.
    pub does: Does,
    /// How long the value lives then.
    pub lives: Lives,
}

/// See [`When`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Condition {
    /// None.
    #[default]
    Always,
    /// Absent.
    Absent,
    /// Present.
    Present,
    /// It is `expected`.
    Equals,
}

/// See [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Does {
    /// Writes `argument`.
    #[default]
    Set,
    /// Deletes.
    Delete,
    /// Writes `argument` at the offset `number`.
    SetRange,
    /// Changes the time to live.
    Expire,
}

/// See [`Expiry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Lives {
    /// Until it is deleted.
    #[default]
    Clear,
    /// As what was there before.
    Keep,
    /// So many milliseconds as `number` says.
    After,
}

/// What an operation answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reply {
    /// Nothing is known: it may take effect any time after its call, or never.
    Unknown,
    /// It was done, and the answer says no more.
    Done,
    /// `seen` was read.
    Value,
    /// It changed the key.
    Applied,
    /// It did not change the key: its condition did not hold. `seen` is what was there instead, where [`Record::observed`].
    NotApplied,
    /// The new number or length is `answer`.
    Integer,
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds (or the place in the file) at which it was called.
    pub call: u64,
    /// Nanoseconds at which it returned; not used when unknown.
    pub ret: u64,
    /// Time to live of a put, milliseconds; delta of an increment. Negative for a put that stays.
    pub number: i64,
    /// The answer of an increment or append.
    pub answer: i64,
    /// The version that the operation saw or produced; 0 where the recording has none.
    pub version: u64,
    /// The client, a number of [`Recording::processes`].
    pub process: u32,
    /// The session, a number of [`Recording::processes`]; the process, where the recording names no session.
    pub session: u32,
    /// The node that served it, a number of [`Recording::processes`], or [`NOTHING`].
    pub node: u32,
    /// The key, a number of [`Recording::keys`].
    pub key: u32,
    /// The value written, a number of [`Recording::values`].
    pub argument: u32,
    /// The value that a compare-and-set expects.
    pub expected: u32,
    /// The value that was read or observed; [`NOTHING`] for absent.
    pub seen: u32,
    /// The line of the call in its file, from 1; 0 when it is of no file.
    pub line: u32,
    /// What was asked.
    pub code: Code,
    /// What was answered.
    pub reply: Reply,
    /// Whether a condition that did not hold ([`Reply::NotApplied`]) came with the value that was there.
    pub observed: bool,
    /// How strictly it is ordered.
    pub level: Level,
    /// Of [`Code::Update`]: what it does.
    pub update: Update,
}

impl Record {
    /// Whether it sets a value that lives for a time.
    pub fn expires(&self) -> bool {
        self.code == Code::Put && self.number >= 0
            || self.code == Code::Update && self.update.lives == Lives::After
    }

    /// The value that it certainly found, if it tells: what was read, or was there where a condition did not hold.
    pub fn found(&self) -> Option<u32> {
        let tells = self.reply == Reply::Value || self.reply == Reply::NotApplied && self.observed;
        tells.then_some(self.seen)
    }

    /// Whether it may change the key.
    pub fn is_write(&self) -> bool {
        self.code != Code::Get && self.reply != Reply::NotApplied
    }
}

/// What a key holds before the first operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Initial {
    /// Nothing.
    #[default]
    Absent,
    /// This value.
    Value(u32),
}

impl Initial {
    /// The number of the initial value.
    pub fn value(self) -> u32 {
        match self {
            Self::Absent => NOTHING,
            Self::Value(id) => id,
        }
    }
}

/// A recorded history.
#[derive(Debug, Default, Clone)]
pub struct Recording {
    /// The operations, in the order of their calls in the file.
    pub records: Vec<Record>,
    /// Names of keys.
    pub keys: Interner,
    /// Values.
    pub values: Interner,
    /// Names of processes, sessions and nodes.
    pub processes: Interner,
    /// What keys hold before the first operation.
    pub initial: Initial,
    /// What single keys hold before the first operation, where it is not [`Recording::initial`]; ordered by key.
    pub initial_of: Vec<(u32, Initial)>,
}

impl Recording {
    /// The value of `key` before the first operation.
    pub fn initial_value(&self, key: u32) -> u32 {
        let own = self.initial_of.binary_search_by_key(&key, |(of, _)| *of);
        own.map_or(self.initial, |at| self.initial_of[at].1).value()
    }

    /// Says what `key` holds before the first operation.
    pub fn set_initial(&mut self, key: u32, initial: Initial) {
        match self.initial_of.binary_search_by_key(&key, |(of, _)| *of) {
            Ok(at) => self.initial_of[at].1 = initial,
            Err(at) => self.initial_of.insert(at, (key, initial)),
        }
    }

    /// The places of the records of each key, in the order of the recording.
    pub fn by_key(&self) -> Vec<Vec<u32>> {
        let mut counts = vec![0_usize; self.keys.len() + 1];
        self.records.iter().for_each(|record| counts[record.key as usize] += 1);
        let mut places: Vec<Vec<u32>> = counts.into_iter().map(Vec::with_capacity).collect();
        for (at, record) in self.records.iter().enumerate() {
            places[record.key as usize].push(at as u32);
        }
        places
    }

    /// Takes over a history that was built in memory.
    pub fn of(history: &History) -> Self {
        let mut recording = Self::default();
        recording.records.reserve(history.operations.len());
        for operation in &history.operations {
            let record = recording.record(operation);
            recording.records.push(record);
        }
        recording
    }

    fn record(&mut self, operation: &Operation) -> Record {
        let process = self.processes.id(operation.process.to_string().as_bytes());
        let mut record = Record {
            call: operation.call,
            ret: operation.ret,
            number: -1,
            answer: 0,
            version: 0,
            process,
            session: process,
            node: NOTHING,
            key: self.keys.id(&operation.key),
            argument: NOTHING,
            expected: NOTHING,
            seen: NOTHING,
            line: 0,
            code: Code::Get,
            reply: Reply::Unknown,
            observed: false,
            level: operation.level,
            update: Update::default(),
        };
        match &operation.function {
            Function::Get => {}
            Function::Put { value, ttl_ms } => {
                record.code = Code::Put;
                record.argument = self.values.id(value);
                record.number = ttl_ms.map_or(-1, |ttl| i64::try_from(ttl).unwrap_or(i64::MAX));
            }
            Function::PutIf { value, present } => {
                record.code = if *present { Code::PutPresent } else { Code::PutAbsent };
                record.argument = self.values.id(value);
            }
            Function::Delete => record.code = Code::Delete,
            Function::Cas { old, new } => {
                record.code = Code::Cas;
                record.expected = self.values.id(old);
                record.argument = self.values.id(new);
            }
            Function::Incr(delta) => {
                record.code = Code::Incr;
                record.number = *delta;
            }
            Function::Append(tail) => {
                record.code = Code::Append;
                record.argument = self.values.id(tail);
            }
            Function::Update { when, change } => self.describe_update(&mut record, when, change),
        }
        match &operation.outcome {
            Outcome::Unknown => {}
            Outcome::Ok(Answer::Done) => record.reply = Reply::Done,
            Outcome::Ok(Answer::Applied(true)) => record.reply = Reply::Applied,
            Outcome::Ok(Answer::Applied(false)) => record.reply = Reply::NotApplied,
            Outcome::Ok(Answer::Refused(found)) => {
                record.reply = Reply::NotApplied;
                record.observed = true;
                record.seen = found.as_ref().map_or(NOTHING, |value| self.values.id(value));
            }
            Outcome::Ok(Answer::Integer(number)) => {
                record.reply = Reply::Integer;
                record.answer = *number;
            }
            Outcome::Ok(Answer::Value(value)) => {
                record.reply = Reply::Value;
                record.seen = value.as_ref().map_or(NOTHING, |value| self.values.id(value));
            }
        }
        record
    }

    /// Puts an update into a record.
    pub(crate) fn describe_update(&mut self, record: &mut Record, when: &When, change: &Change) {
        record.code = Code::Update;
        record.update.when = match when {
            When::Always => Condition::Always,
            When::Absent => Condition::Absent,
            When::Present => Condition::Present,
            When::Equals(value) => {
                record.expected = self.values.id(value);
                Condition::Equals
            }
        };
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut lives = |expiry: &Expiry| match expiry {
            Expiry::Clear => Lives::Clear,
            Expiry::Keep => Lives::Keep,
            Expiry::After(ttl) => {
                record.number = number(*ttl);
                Lives::After
            }
        };
        (record.update.does, record.update.lives) = match change {
            Change::Set { expiry, .. } => (Does::Set, lives(expiry)),
            Change::Delete => (Does::Delete, Lives::Clear),
            Change::SetRange { .. } => (Does::SetRange, Lives::Keep),
            Change::Expire(expiry) => (Does::Expire, lives(expiry)),
        };
        match change {
            Change::Set { value, .. } => record.argument = self.values.id(value),
            Change::SetRange { offset, data } => {
                record.argument = self.values.id(data);
                record.number = i64::from(*offset);
            }
            Change::Delete | Change::Expire(_) => {}
        }
    }

    /// An update as it was asked for.
    fn update(&self, record: &Record) -> Function {
        let value = |id: u32| self.values.text(id).to_vec();
        let when = match record.update.when {
            Condition::Always => When::Always,
            Condition::Absent => When::Absent,
            Condition::Present => When::Present,
            Condition::Equals => When::Equals(value(record.expected)),
        };
        let expiry = match record.update.lives {
            Lives::Clear => Expiry::Clear,
            Lives::Keep => Expiry::Keep,
            Lives::After => Expiry::After(record.number.try_into().unwrap_or_default()),
        };
        let change = match record.update.does {
            Does::Set => Change::Set { value: value(record.argument), expiry },
            Does::Delete => Change::Delete,
            Does::SetRange => Change::SetRange {
                offset: record.number.try_into().unwrap_or_default(),
                data: value(record.argument),
            },
            Does::Expire => Change::Expire(expiry),
        };
        Function::Update { when, change }
    }

    /// The record at `at` as an operation of a [`History`].
    pub fn operation(&self, at: u32) -> Operation {
        let record = &self.records[at as usize];
        let value = |id: u32| self.values.text(id).to_vec();
        let function = match record.code {
            Code::Get => Function::Get,
            Code::Put => {
                Function::Put { value: value(record.argument), ttl_ms: u64::try_from(record.number).ok() }
            }
            Code::PutAbsent => Function::PutIf { value: value(record.argument), present: false },
            Code::PutPresent => Function::PutIf { value: value(record.argument), present: true },
            Code::Delete => Function::Delete,
            Code::Cas => Function::Cas { old: value(record.expected), new: value(record.argument) },
            Code::Incr => Function::Incr(record.number),
            Code::Append => Function::Append(value(record.argument)),
            Code::Update => self.update(record),
        };
        let seen = || (record.seen != NOTHING).then(|| value(record.seen));
        let outcome = match record.reply {
            Reply::Unknown => Outcome::Unknown,
            Reply::Done => Outcome::Ok(Answer::Done),
            Reply::Value => Outcome::Ok(Answer::Value(seen())),
            Reply::NotApplied if record.observed => Outcome::Ok(Answer::Refused(seen())),
            Reply::Applied => Outcome::Ok(Answer::Applied(true)),
            Reply::NotApplied => Outcome::Ok(Answer::Applied(false)),
            Reply::Integer => Outcome::Ok(Answer::Integer(record.answer)),
        };
        Operation {
            process: self.process(record.process),
            key: self.keys.text(record.key).to_vec(),
            function,
            outcome,
            call: record.call,
            ret: record.ret,
            level: record.level,
        }
    }

    /// The process as the number that it was recorded as, or a number of its own, from [`NAMED`] on, where it was a name.
    pub fn process(&self, id: u32) -> u64 {
        let text = std::str::from_utf8(self.processes.text(id)).ok();
        let number =
            text.and_then(|text| text.parse().ok().filter(|number: &u64| number.to_string() == text));
        number.filter(|number| *number < NAMED).unwrap_or(NAMED + u64::from(id))
    }

    /// The whole recording as a [`History`]. What a [`History`] cannot say (versions, sessions, initial values) is left out.
    pub fn history(&self) -> History {
        History { operations: (0..self.records.len() as u32).map(|at| self.operation(at)).collect() }
    }
}
