//! Transactions over keys, for the checks that look at sessions and at who read from whom.

use crate::recording::{Code, Interner, NOTHING, Record, Recording, Reply};
use crate::unjudged::NotJudged;

/// One access of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The key, a number of [`Transactions::keys`].
    pub key: u32,
    /// The value, a number of [`Transactions::values`]; 0 for the initial state.
    pub value: u32,
    /// Whether it was written, else read.
    pub write: bool,
}

/// One transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction {
    /// Its session, from 0.
    pub session: u32,
    /// Its line in the file, from 1; 0 when it is of no file.
    pub line: u32,
    /// The end of its accesses in [`Transactions::accesses`]; they begin where those of the one before end.
    pub end: u32,
}

/// A history of transactions. Those of one session stand in session order.
#[derive(Debug, Clone, Default)]
pub struct Transactions {
    /// The transactions.
    pub transactions: Vec<Transaction>,
    /// The accesses of all transactions.
    pub accesses: Vec<Access>,
    /// Names of keys.
    pub keys: Interner,
    /// Values.
    pub values: Interner,
    /// Names of sessions: number s + 1 is that of session s, where there are names.
    pub sessions: Interner,
    /// Whether a value that nobody wrote may be read (it came from outside of the recording), as in Elle's rw-register.
    pub unwritten_allowed: bool,
    /// What of a recording was left out.
    pub unjudged: NotJudged,
    /// When each transaction was called and when it returned ([`u64::MAX`]: its outcome is unknown); empty where the file does not say.
    pub intervals: Vec<(u64, u64)>,
    /// Those of unknown outcome that are known only from their calls. They count only where an order of all is sought.
    pub unfinished: Vec<Unfinished>,
    /// What registers hold at first where it matters, 0 for nothing; and what single ones hold where it is something else.
    pub initial: u32,
    /// By key.
    pub initial_of: Vec<(u32, u32)>,
    /// Which record of a recording each transaction is; empty where they are of none.
    pub sources: Vec<u32>,
}

/// A transaction that was called, and of which no more is known.
#[derive(Debug, Clone, Default)]
pub struct Unfinished {
    /// Its session, from 0.
    pub session: u32,
    /// Its line in the file, from 1.
    pub line: u32,
    /// When it was called.
    pub call: u64,
    /// What it would write.
    pub accesses: Vec<Access>,
}

impl Transactions {
    /// Appends a transaction.
    pub fn push(&mut self, session: u32, line: u32, accesses: &[Access]) {
        self.accesses.extend_from_slice(accesses);
        self.transactions.push(Transaction { session, line, end: self.accesses.len() as u32 });
    }

    /// The accesses of the transaction at `at`.
    pub fn accesses(&self, at: usize) -> &[Access] {
        let start = at.checked_sub(1).map_or(0, |before| self.transactions[before].end as usize);
        &self.accesses[start..self.transactions[at].end as usize]
    }

    /// Every operation of a recording as a transaction of its own. Operations that do not say what they saw or wrote (appends, increments of
    /// unknown outcome) make their keys opaque: these are left out and counted. A deletion is a write of nothing; what it may be that reads find
    /// nothing then is not known, so that they are left out, as are deletions that perhaps did nothing.
    pub fn of(recording: &Recording) -> Self {
        let mut opaque = vec![false; recording.keys.len() + 1];
        for record in &recording.records {
            let silent = matches!(record.code, Code::Append | Code::Update)
                || record.code == Code::Incr && record.reply != Reply::Integer
                || matches!(record.code, Code::Cas | Code::PutAbsent | Code::PutPresent)
                    && record.reply == Reply::Done
                || recording.initial_value(record.key) != NOTHING
                || record.code == Code::Put && record.number >= 0;
            opaque[record.key as usize] |= silent;
        }
        let mut kinds = vec![(false, false); recording.keys.len() + 1];
        for record in recording.records.iter().filter(|record| record.code != Code::Get) {
            let (counts, writes) = &mut kinds[record.key as usize];
            *(if record.code == Code::Incr { counts } else { writes }) = true;
        }
        // A counter that is also written may be 0 or absent before an increment to 1.
        opaque.iter_mut().zip(&kinds).for_each(|(opaque, (counts, writes))| *opaque |= *counts && *writes);
        let mut all = Self {
            keys: recording.keys.clone(),
            values: recording.values.clone(),
            sessions: recording.processes.clone(),
            ..Self::default()
        };
        let mut order: Vec<u32> = (0..recording.records.len() as u32).collect();
        order.sort_by_key(|at| recording.records[*at as usize].call);
        let mut deleted = vec![false; recording.keys.len() + 1];
        for record in recording.records.iter().filter(|record| record.code == Code::Delete) {
            deleted[record.key as usize] |= record.reply != Reply::NotApplied;
        }
        for at in order {
            let record = &recording.records[at as usize];
            if opaque[record.key as usize] {
                let reads = record.code == Code::Get;
                all.unjudged.ambiguous_reads += usize::from(reads && record.reply == Reply::Value);
                all.unjudged.others += usize::from(!reads);
                continue;
            }
            let mut accesses = Vec::with_capacity(2);
            all.accesses_of(record, &mut accesses);
            // An absent value may be the initial one or any delete's.
            let before = accesses.len();
            let absent = |access: &Access| !access.write && access.value == NOTHING;
            accesses.retain(|access| !(absent(access) && deleted[record.key as usize]));
            let deletes = record.code == Code::Delete;
            all.unjudged.absent_reads += usize::from(!deletes && accesses.len() < before);
            all.unjudged.deletions += usize::from(deletes && accesses.is_empty());
            if !accesses.is_empty() {
                all.push(record.session - 1, record.line, &accesses);
                all.sources.push(at);
            }
        }
        all
    }

    fn accesses_of(&mut self, record: &Record, accesses: &mut Vec<Access>) {
        let key = record.key;
        let known = record.reply != Reply::Unknown;
        let mut access = |value, write| accesses.push(Access { key, value, write });
        match record.code {
            Code::Get if record.reply == Reply::Value => access(record.seen, false),
            Code::PutAbsent | Code::PutPresent | Code::Cas | Code::Delete
                if record.reply == Reply::NotApplied =>
            {
                if record.observed {
                    access(record.seen, false);
                }
            }
            Code::Put | Code::PutAbsent | Code::PutPresent => access(record.argument, true),
            Code::Cas => {
                if known {
                    access(record.expected, false);
                }
                access(record.argument, true);
            }
            Code::Delete if known => access(NOTHING, true),
            // A deletion of unknown outcome leaves no trace by which it could be told that it happened.
            Code::Get | Code::Append | Code::Update | Code::Delete => {}
            Code::Incr => {
                let Some(from) = record.answer.checked_sub(record.number) else { return };
                let text = |number: i64| number.to_string().into_bytes();
                access(if from == 0 { NOTHING } else { self.values.id(&text(from)) }, false);
                access(self.values.id(&text(record.answer)), true);
            }
        }
    }
}
