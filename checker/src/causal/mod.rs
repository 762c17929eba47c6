//! Causal consistency and weaker isolation of transactions, by who reads from whom.
//!
//! Every value of a key is written once, so that a read tells its writer. Then each level is a demand on the order of transactions: one that
//! writes x and must be seen by a reader of x, and yet is not what it reads, was overwritten: it stands before what is read
//! (Biswas and Enea, "On the complexity of checking transactional consistency", 2019; Bouajjani, Enea, Guerraoui and Hamza,
//! "On verifying causal consistency", 2017). The history is at the level when this order has no cycle. Cost: about n for each session that is
//! active at a time, by clocks that share what they have in common (`walk`).

mod clock;
mod graph;
mod memory;
mod resolve;
mod walk;

use crate::linearizability::Limits;
use crate::transactions::Transactions;
use clock::Clock;
use graph::{Edge, Graph};
use resolve::{Read, Resolved, Source};
use std::cell::Cell;
use std::fmt::Write as _;
use std::time::Instant;
use walk::Walked;

/// What is demanded of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// What a transaction has read from must not be overwritten by what it read before.
    ReadCommitted,
    /// A transaction that is read from, or of the own session, is seen whole.
    ReadAtomic,
    /// CC: everything that is in the causal past is seen; concurrent writes may be ordered differently by each session.
    Causal,
    /// CCv: as CC, and all order concurrent writes alike. The causal consistency of Biswas and Enea.
    CausalConvergence,
    /// CM: as CC, and all reads of a session fit one order of writes.
    CausalMemory,
}

/// What is wrong with a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    /// Its name.
    pub name: String,
    /// What happened, in a sentence.
    pub what: String,
    /// The transactions or operations it is about.
    pub nodes: Vec<String>,
    /// Of a cycle, how each node leads to the next, the last to the first; else empty.
    pub edges: Vec<String>,
}

/// Judges transactions. `Err` when it was given up: what was not decided, and why.
///
/// ```
/// use samara_check::causal::{Isolation, check};
/// use samara_check::formats::{self, Loaded, Reading};
/// use samara_check::linearizability::Limits;
///
/// // The second session sees the write of y, which came after that of x, but not the write of x.
/// let text = "w x 1\n-----\nw x 2\n-----\nw y 1\n=====\nr y 1\n-----\nr x 1\n";
/// let Loaded::Transactions(history) = formats::read(text.as_bytes(), None, &Reading::default())? else { panic!() };
/// let anomaly = check(&history, Isolation::Causal, &Limits::default()).expect("small").expect("an anomaly");
/// assert_eq!(anomaly.name, "WriteCORead");
/// # Ok::<(), formats::BadInput>(())
/// ```
pub fn check(
    history: &Transactions,
    isolation: Isolation,
    limits: &Limits,
) -> Result<Option<Anomaly>, String> {
    let deadline = limits.deadline();
    let resolved = match Resolved::new(history, isolation) {
        Ok(resolved) => resolved,
        Err(anomaly) => return Ok(Some(anomaly)),
    };
    let checker = Checker { history, resolved, deadline, late: Cell::new(None) };
    let forced = match isolation {
        Isolation::ReadCommitted => Ok(checker.read_committed()),
        Isolation::ReadAtomic => Ok(checker.read_atomic()),
        Isolation::Causal | Isolation::CausalConvergence | Isolation::CausalMemory => checker.causal(),
    };
    let forced = match forced {
        Ok(forced) => forced,
        Err(anomaly) => return Ok(Some(anomaly)),
    };
    checker.in_time()?;
    if !matches!(isolation, Isolation::Causal | Isolation::CausalMemory) {
        return Ok(checker.cycle(forced));
    }
    let stale = checker.stale(&forced);
    if stale.is_some() {
        return Ok(stale);
    }
    checker.in_time()?;
    if isolation == Isolation::CausalMemory { memory::check(&checker) } else { Ok(None) }
}

type Forced = Vec<(u32, u32, Edge)>;

/// Where a transaction is: its session, and how many of that are before it.
#[derive(Clone, Copy)]
struct Place {
    session: u32,
    at: u32,
}

pub(crate) struct Checker<'a> {
    history: &'a Transactions,
    resolved: Resolved,
    deadline: Option<Instant>,
    /// How many transactions were visited when time was over.
    late: Cell<Option<usize>>,
}

/// After how many transactions the clock is looked at.
const LOOK_EVERY: usize = 1_024;

impl Checker<'_> {
    /// Whether time is over after so many transactions.
    fn is_late(&self, visited: usize) -> bool {
        let late = visited.is_multiple_of(LOOK_EVERY)
            && self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if late {
            self.late.set(Some(visited));
        }
        late
    }

    fn in_time(&self) -> Result<(), String> {
        match self.late.get() {
            Some(visited) => Err(format!(
                "out of time after {visited} of {} transactions, among which nothing was found that no order explains",
                self.history.transactions.len()
            )),
            None => Ok(()),
        }
    }

    fn session(&self, at: u32) -> u32 {
        self.history.transactions[at as usize].session
    }

    fn place(&self, at: u32) -> Place {
        Place { session: self.session(at), at: self.resolved.place[at as usize] }
    }

    /// Session order and who reads from whom.
    fn base(&self) -> Forced {
        let mut edges = Vec::new();
        for pair in self.resolved.sessions.iter().flat_map(|session| session.windows(2)) {
            edges.push((pair[0], pair[1], Edge::Session));
        }
        for read in &self.resolved.reads {
            if let Source::Transaction(writer) = read.source {
                edges.push((writer, read.reader, Edge::Reads(read.key)));
            }
        }
        edges
    }

    fn cycle(&self, forced: Forced) -> Option<Anomaly> {
        let mut edges = self.base();
        edges.extend(forced);
        let cycle = Graph::new(self.history.transactions.len(), &edges).cycle()?;
        let causal = cycle.iter().all(|(_, edge)| !matches!(edge, Edge::Overwritten(_)));
        Some(Anomaly {
            name: if causal { "CyclicCO".into() } else { "CyclicCF".into() },
            what:
                "these transactions would each have to stand before the next, and the last before the first"
                    .into(),
            nodes: cycle.iter().map(|(at, _)| self.name(*at)).collect(),
            edges: cycle.iter().map(|(_, edge)| self.edge(*edge)).collect(),
        })
    }

    fn edge(&self, edge: Edge) -> String {
        let key = |key: u32| String::from_utf8_lossy(self.history.keys.text(key)).into_owned();
        match edge {
            Edge::Session => "comes before, in the same session,".into(),
            Edge::Reads(of) => format!("wrote {:?}, which is read by", key(of)),
            Edge::Overwritten(of) => {
                format!("wrote {:?} and was seen where the value read is that of", key(of))
            }
        }
    }

    /// A transaction as text.
    fn name(&self, at: u32) -> String {
        let transaction = self.history.transactions[at as usize];
        let named = self.history.sessions.len() > transaction.session as usize;
        let session = if named { self.history.sessions.text(transaction.session + 1) } else { &[] };
        let mut text = match (session.is_empty() || session.len() > 40, transaction.line) {
            (true, _) => format!("session {}", transaction.session),
            (false, _) => format!("session {}", String::from_utf8_lossy(session)),
        };
        if transaction.line > 0 {
            let _ = write!(text, ", line {}", transaction.line);
        }
        text.push(':');
        let accesses = self.history.accesses(at as usize);
        for access in accesses.iter().take(8) {
            let key = String::from_utf8_lossy(self.history.keys.text(access.key));
            let value = String::from_utf8_lossy(self.history.values.text(access.value));
            let value = if access.value == 0 { "nothing".into() } else { value };
            let _ = write!(text, " {} {key} {value}", if access.write { "w" } else { "r" });
        }
        if accesses.len() > 8 {
            let _ = write!(text, " and {} more", accesses.len() - 8);
        }
        text
    }

    fn forced(read: &Read, other: u32) -> Option<(u32, u32, Edge)> {
        match read.source {
            Source::Transaction(writer) if writer != other => {
                Some((other, writer, Edge::Overwritten(read.key)))
            }
            _ => None,
        }
    }

    fn read_committed(&self) -> Forced {
        let mut forced = Vec::new();
        for (at, reads) in self.resolved.of_transactions().enumerate() {
            if self.is_late(at) {
                break;
            }
            let mut before: Vec<u32> = Vec::new();
            for read in reads {
                for other in &before {
                    if self.resolved.writes(*other, read.key) {
                        forced.extend(Self::forced(read, *other));
                    }
                }
                if let Source::Transaction(writer) = read.source
                    && !before.contains(&writer)
                {
                    before.push(writer);
                }
            }
        }
        forced
    }

    fn read_atomic(&self) -> Forced {
        let mut forced = Vec::new();
        for (at, reads) in self.resolved.of_transactions().enumerate() {
            if self.is_late(at) {
                break;
            }
            let mut writers: Vec<u32> = Vec::new();
            for read in reads {
                if let Source::Transaction(writer) = read.source
                    && !writers.contains(&writer)
                {
                    writers.push(writer);
                }
            }
            for read in reads {
                for other in writers.iter().filter(|other| self.resolved.writes(**other, read.key)) {
                    forced.extend(Self::forced(read, *other));
                }
                let session = self.session(read.reader);
                let place = self.resolved.place[read.reader as usize];
                if let Some(own) = self.resolved.last_write(session, read.key, place) {
                    forced.extend(Self::forced(read, own));
                }
            }
        }
        forced
    }

    /// What causality forces, or a cycle of it.
    fn causal(&self) -> Result<Forced, Anomaly> {
        let mut forced = Vec::new();
        let mut initial = None;
        let complete = self.walk(|at, clock, walked| {
            for read in self.resolved.reads_of(at) {
                match read.source {
                    Source::Transaction(writer) => self.newer(read, writer, clock, walked, &mut forced),
                    Source::Initial if initial.is_none() => {
                        let own = walked.own(self.session(at), read.key);
                        let seen = own.or_else(|| walked.any(clock, read.key));
                        initial = seen.map(|seen| (seen, read.reader, read.key));
                    }
                    Source::Initial => {}
                }
            }
        });
        if !complete && let Some(anomaly) = self.cycle(Vec::new()) {
            return Err(anomaly);
        }
        match initial {
            Some((writer, reader, key)) => Err(Anomaly {
                name: "WriteCOInitRead".into(),
                what: format!(
                    "the second reads nothing of {:?}, though the first, which wrote it, is in its causal past",
                    String::from_utf8_lossy(self.history.keys.text(key))
                ),
                nodes: vec![self.name(writer), self.name(reader)],
                edges: Vec::new(),
            }),
            None => Ok(forced),
        }
    }

    /// Writes of a key that a reader sees and that are not in the past of the one it reads from: the last of each chain.
    fn newer(&self, read: &Read, writer: u32, clock: &Clock, walked: &Walked, forced: &mut Forced) {
        let Some(writers) = walked.clock(writer) else { return };
        let own = walked.own(self.session(read.reader), read.key);
        if let Some(own) = own
            && !walked.is_past(own, self.place(own), self.place(writer), writers)
        {
            forced.extend(Self::forced(read, own));
        }
        walked.beyond(clock, writers, read.key, &mut |other| forced.extend(Self::forced(read, other)));
    }

    /// CC alone: a write that was seen and not read, although it has what is read in its own past.
    fn stale(&self, forced: &Forced) -> Option<Anomaly> {
        if forced.is_empty() {
            return None;
        }
        let asked = Graph::new(self.history.transactions.len(), forced);
        let mut found = None;
        self.walk(|at, clock, walked| {
            for (older, edge) in asked.from(at) {
                let Edge::Overwritten(key) = edge else { continue };
                if walked.is_past(older, self.place(older), self.place(at), clock) {
                    found.get_or_insert((older, at, key));
                }
            }
        });
        let (older, newer, key) = found?;
        let name = String::from_utf8_lossy(self.history.keys.text(key)).into_owned();
        let reader = self.resolved.reader_of(older, key);
        Some(Anomaly {
            name: "WriteCORead".into(),
            what: format!(
                "the third reads {name:?} from the first, though it sees the second, which overwrote it"
            ),
            nodes: [older, newer].into_iter().chain(reader).map(|at| self.name(at)).collect(),
            edges: Vec::new(),
        })
    }
}
