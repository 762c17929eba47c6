//! Who reads from whom.

use super::Isolation;
use super::path::Edge;
use super::proof::Proof;
use crate::recording::NOTHING;
use crate::transactions::Transactions;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

pub(super) type Map<K, V> = HashMap<K, V, FixedState>;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Initial,
    Transaction(u32),
}

/// One read of a value that another transaction wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) reader: u32,
    pub(super) key: u32,
    pub(super) source: Source,
}

/// Lists of readers by writer.
pub(super) struct Followers {
    starts: Vec<u32>,
    readers: Vec<u32>,
}

impl Followers {
    pub(super) fn of(&self, writer: u32) -> &[u32] {
        &self.readers[self.starts[writer as usize] as usize..self.starts[writer as usize + 1] as usize]
    }
}

/// A history whose reads know their writers.
pub(super) struct Resolved {
    /// Reads of what more than one transaction wrote.
    pub(super) ambiguous: usize,
    /// External reads, in the order of their transactions.
    pub(super) reads: Vec<Read>,
    /// Where the reads of each transaction begin.
    starts: Vec<u32>,
    /// The transactions of each session.
    pub(super) sessions: Vec<Vec<u32>>,
    /// The place of each transaction in its session.
    pub(super) place: Vec<u32>,
    session_of: Vec<u32>,
    /// The places of the writers of a key in a session; empty where only causality is asked for, which is looked up by chains.
    writers: Map<(u32, u32), Vec<u32>>,
}

/// The writer of a value: the transaction and whether it overwrote the value itself.
#[derive(Clone, Copy)]
enum Writer {
    One(u32, bool),
    Many,
}

impl Resolved {
    /// `Err`: a read that no order can explain.
    pub(super) fn new(history: &Transactions, isolation: Isolation) -> Result<Self, Box<Proof>> {
        let count = history.transactions.len();
        let mut resolved = Self {
            ambiguous: 0,
            reads: Vec::new(),
            starts: Vec::with_capacity(count + 1),
            sessions: Vec::new(),
            place: Vec::with_capacity(count),
            session_of: Vec::with_capacity(count),
            writers: Map::default(),
        };
        let by_session = matches!(isolation, Isolation::ReadAtomic | Isolation::ReadCommitted);
        let mut of_value: Map<(u32, u32), Writer> = Map::default();
        for (at, transaction) in history.transactions.iter().enumerate() {
            let session = transaction.session as usize;
            if resolved.sessions.len() <= session {
                resolved.sessions.resize(session + 1, Vec::new());
            }
            resolved.place.push(resolved.sessions[session].len() as u32);
            resolved.session_of.push(transaction.session);
            resolved.sessions[session].push(at as u32);
            let accesses = history.accesses(at);
            for (index, access) in accesses.iter().enumerate().filter(|(_, access)| access.write) {
                let last = !accesses[index + 1..].iter().any(|later| later.write && later.key == access.key);
                let writer = of_value.entry((access.key, access.value));
                writer.and_modify(|writer| *writer = Writer::Many).or_insert(Writer::One(at as u32, last));
                if by_session {
                    let places = resolved.writers.entry((transaction.session, access.key)).or_default();
                    if places.last() != resolved.place.last() {
                        places.push(resolved.place[at]);
                    }
                }
            }
        }
        for at in 0..count {
            resolved.starts.push(resolved.reads.len() as u32);
            resolved.read(history, at, isolation, &of_value)?;
        }
        resolved.starts.push(resolved.reads.len() as u32);
        Ok(resolved)
    }

    fn read(
        &mut self,
        history: &Transactions,
        at: usize,
        isolation: Isolation,
        of_value: &Map<(u32, u32), Writer>,
    ) -> Result<(), Box<Proof>> {
        let accesses = history.accesses(at);
        for (index, access) in accesses.iter().enumerate().filter(|(_, access)| !access.write) {
            let read = (at as u32, index);
            let own = accesses[..index].iter().rposition(|own| own.write && own.key == access.key);
            if let Some(own) = own {
                if accesses[own].value != access.value {
                    let what = "a transaction does not read what it wrote itself";
                    return Err(Proof::of_accesses("Internal", what, vec![read, (at as u32, own)]).into());
                }
                continue;
            }
            let source = match of_value.get(&(access.key, access.value)) {
                None if access.value == NOTHING => Source::Initial,
                None if history.unwritten_allowed => continue,
                None => {
                    let what = "a value is read that nobody wrote";
                    return Err(Proof::of_accesses("ThinAirRead", what, vec![read]).into());
                }
                Some(Writer::Many) => {
                    self.ambiguous += 1;
                    continue;
                }
                Some(Writer::One(writer, _)) if *writer as usize == at => {
                    let what = "a transaction reads what it writes only later";
                    let later = accesses
                        .iter()
                        .position(|own| own.write && (own.key, own.value) == (access.key, access.value));
                    let all = [Some(read), later.map(|later| (at as u32, later))];
                    return Err(
                        Proof::of_accesses("ThinAirRead", what, all.into_iter().flatten().collect()).into()
                    );
                }
                Some(Writer::One(writer, false)) if isolation != Isolation::Causal => {
                    let what = "a value is read that its own transaction overwrote";
                    let mut writes = history.accesses(*writer as usize).iter();
                    let last = writes.rposition(|other| other.write && other.key == access.key);
                    let all = [Some(read), last.map(|last| (*writer, last))];
                    let mut proof =
                        Proof::of_accesses("IntermediateRead", what, all.into_iter().flatten().collect());
                    proof.because(vec![(*writer, Edge::Reads(access.key), at as u32)]);
                    return Err(proof.into());
                }
                Some(Writer::One(writer, _)) => Source::Transaction(*writer),
            };
            self.reads.push(Read { reader: at as u32, key: access.key, source });
        }
        Ok(())
    }

    /// The external reads of a transaction.
    pub(super) fn reads_of(&self, at: u32) -> &[Read] {
        &self.reads[self.starts[at as usize] as usize..self.starts[at as usize + 1] as usize]
    }

    /// The external reads of all transactions.
    pub(super) fn of_transactions(&self) -> impl Iterator<Item = &[Read]> {
        (0..self.place.len() as u32).map(|at| self.reads_of(at))
    }

    /// Who reads from each transaction, as often as it does.
    pub(super) fn by_writer(&self, count: usize) -> Followers {
        let mut starts = vec![0_u32; count + 1];
        let pairs = || {
            self.reads.iter().filter_map(|read| match read.source {
                Source::Transaction(writer) => Some((writer, read.reader)),
                Source::Initial => None,
            })
        };
        pairs().for_each(|(writer, _)| starts[writer as usize + 1] += 1);
        for at in 0..count {
            starts[at + 1] += starts[at];
        }
        let mut place = starts.clone();
        let mut readers = vec![0; starts[count] as usize];
        for (writer, reader) in pairs() {
            readers[place[writer as usize] as usize] = reader;
            place[writer as usize] += 1;
        }
        Followers { starts, readers }
    }

    /// The last transaction among the first `upto` of a session that writes a key.
    pub(super) fn last_write(&self, session: u32, key: u32, upto: u32) -> Option<u32> {
        let places = self.writers.get(&(session, key))?;
        let at = places.partition_point(|place| *place < upto).checked_sub(1)?;
        Some(self.sessions[session as usize][places[at] as usize])
    }

    /// Whether a transaction writes a key.
    pub(super) fn writes(&self, at: u32, key: u32) -> bool {
        let places = self.writers.get(&(self.session_of[at as usize], key));
        places.is_some_and(|places| places.binary_search(&self.place[at as usize]).is_ok())
    }
}
