//! Causal consistency and weaker isolation of transactions, by who reads from whom.
//!
//! Every value of a key is written once, so that a read tells its writer. Then each level is a demand on the order of transactions: one that
//! writes x and must be seen by a reader of x, and yet is not what it reads, was overwritten: it stands before what is read
//! (Biswas and Enea, "On the complexity of checking transactional consistency", 2019; Bouajjani, Enea, Guerraoui and Hamza,
//! "On verifying causal consistency", 2017). The history is at the level when this order has no cycle. Cost: about n for each session that is
//! active at a time, by clocks that share what they have in common (`walk`).

mod clock;
mod explain;
mod graph;
mod memory;
mod path;
mod proof;
mod resolve;
mod walk;
mod ways;

use crate::clip;
use crate::linearizability::Limits;
use crate::pattern::Pattern;
use crate::transactions::Transactions;
use crate::unjudged::NotJudged;
use clock::Clock;
use graph::Graph;
use path::{Edge, Effort};
use proof::Proof;
use resolve::{Read, Resolved, Source};
use std::cell::Cell;
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
    /// The part of the history that shows it, where there is one of a size to be shown.
    pub pattern: Option<Pattern>,
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
    check_and_count(history, isolation, limits, &mut NotJudged::default())
}

/// The same, and what of the history is not judged.
pub fn check_and_count(
    history: &Transactions,
    isolation: Isolation,
    limits: &Limits,
    unjudged: &mut NotJudged,
) -> Result<Option<Anomaly>, String> {
    let (proof, ambiguous) = judge(history, isolation, limits.deadline());
    *unjudged = history.unjudged;
    unjudged.ambiguous_reads += ambiguous;
    Ok(proof?.map(|proof| explain::anomaly(history, isolation, proof)))
}

/// What is wrong, and how many reads are not judged.
fn judge(
    history: &Transactions,
    isolation: Isolation,
    deadline: Option<Instant>,
) -> (Result<Option<Proof>, String>, usize) {
    match Resolved::new(history, isolation) {
        Ok(resolved) => {
            let ambiguous = resolved.ambiguous;
            (judge_resolved(history, isolation, deadline, resolved), ambiguous)
        }
        Err(proof) => (Ok(Some(*proof)), 0),
    }
}

fn judge_resolved(
    history: &Transactions,
    isolation: Isolation,
    deadline: Option<Instant>,
    resolved: Resolved,
) -> Result<Option<Proof>, String> {
    let checker = Checker { history, isolation, resolved, deadline, late: Cell::new(None) };
    let forced = match isolation {
        Isolation::ReadCommitted => Ok(checker.read_committed()),
        Isolation::ReadAtomic => Ok(checker.read_atomic()),
        Isolation::Causal | Isolation::CausalConvergence | Isolation::CausalMemory => checker.causal(),
    };
    let forced = match forced {
        Ok(forced) => forced,
        Err(proof) => return Ok(Some(*proof)),
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
    isolation: Isolation,
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

    fn cycle(&self, forced: Forced) -> Option<Proof> {
        let mut edges = self.base();
        edges.extend(forced);
        let cycle = Graph::new(self.history.transactions.len(), &edges).cycle(&mut self.effort())?;
        Some(self.proof_of_cycle(cycle))
    }

    /// What an explanation may look at, so that it takes no longer than the check.
    fn effort(&self) -> Effort {
        Effort(EXPLAIN_MIN.max(2 * self.history.transactions.len()))
    }

    fn key(&self, key: u32) -> String {
        clip::quoted(self.history.keys.text(key))
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
    fn causal(&self) -> Result<Forced, Box<Proof>> {
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
        if !complete && let Some(proof) = self.cycle(Vec::new()) {
            return Err(proof.into());
        }
        match initial {
            Some((writer, reader, key)) => Err(self.nothing_read(writer, reader, key).into()),
            None => Ok(forced),
        }
    }

    /// A read of nothing, though a write is in its causal past: the nearest is shown.
    fn nothing_read(&self, writer: u32, reader: u32, key: u32) -> Proof {
        let wrote = |at: u32| at != reader && self.writes(at, key);
        let way = self.way_back(reader, wrote, &mut self.effort());
        let what = format!(
            "the second reads nothing of {}, though the first, which wrote it, is in its causal past",
            self.key(key)
        );
        let mut proof = Proof::of_accesses("WriteCOInitRead", &what, Vec::new());
        proof.complete = way.is_some();
        let first = way.iter().flatten().next().map_or(writer, |(from, _, _)| *from);
        proof.about = vec![first, reader];
        let back = (reader, Edge::Nothing(key), first);
        proof.cycle_of(way.into_iter().flatten().chain([back]));
        proof
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
    fn stale(&self, forced: &Forced) -> Option<Proof> {
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
        found.map(|(older, newer, key)| self.overwritten(older, newer, key))
    }

    /// A read of a write that the reader sees overwritten, by `newer` or by what is nearer.
    fn overwritten(&self, older: u32, newer: u32, key: u32) -> Proof {
        let what = format!(
            "the third reads {} from the first, though it sees the second, which overwrote it",
            self.key(key)
        );
        let mut proof = Proof::of_accesses("WriteCORead", &what, Vec::new());
        let source = Source::Transaction(older);
        let reads = self.resolved.reads.iter().filter(|read| read.source == source && read.key == key);
        let readers: Vec<u32> = reads.map(|read| read.reader).collect();
        let ways = self.way_over((older, key), &readers, &self.order(), &mut self.effort());
        proof.complete = ways.is_some();
        let (first, second) = ways.unwrap_or_default();
        let newer = second.first().map_or(newer, |(from, _, _)| *from);
        let reader = second.last().map(|(_, _, to)| *to).or(readers.first().copied());
        proof.about = [older, newer].into_iter().chain(reader).collect();
        proof.cycle_of(first.into_iter().chain([(newer, Edge::Overwritten(key), older)]));
        if let (Some(order), true) = (proof.links.last_mut(), proof.complete) {
            order.reader = reader;
        }
        proof.because(second);
        proof.because(reader.map(|reader| (older, Edge::Reads(key), reader)).into_iter().collect());
        proof
    }
}

/// How many transactions an explanation may look at, at the least.
const EXPLAIN_MIN: usize = 20_000;
