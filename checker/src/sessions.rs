//! Session guarantees (Terry et al., "Session guarantees for weakly consistent replicated data", 1994): read your writes, monotonic
//! reads, monotonic writes, writes follow reads.
//!
//! One write of a key is older than another when their versions say so, or, where there are none, when the session that wrote the other had written
//! or read the one, directly or over others of the key (module `descent`). What cannot be ordered so is not judged. A deletion is a write; what is read
//! after it is that nothing is there, which may also be the end of a time to live or what was there at first: such reads are counted.

use crate::causal::Anomaly;
use crate::linearizability::Limits;
use crate::recording::{Code, NOTHING, Record, Recording, Reply};
use crate::unjudged::NotJudged;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::time::Instant;

mod descent;
mod known;
#[cfg(test)]
mod tests;
mod why;

use descent::{Descent, Newer};
use known::Known;
use why::{Broken, Found};

type Map<K, V> = HashMap<K, V, FixedState>;

/// What is wrong with the sessions of a recording, if anything. `Err` when it was given up: what was decided.
pub fn check(recording: &Recording, limits: &Limits) -> Result<Option<Anomaly>, String> {
    check_and_count(recording, limits, &mut NotJudged::default())
}

/// The same, and what of the recording is not judged.
pub fn check_and_count(
    recording: &Recording,
    limits: &Limits,
    unjudged: &mut NotJudged,
) -> Result<Option<Anomaly>, String> {
    let mut order: Vec<u32> = (0..recording.records.len() as u32).collect();
    order.sort_by_key(|at| recording.records[*at as usize].call);
    let mut sessions = Sessions::new(recording, order);
    let found = sessions.find(limits.deadline(), true);
    *unjudged = sessions.unjudged;
    Ok(found?.map(|found| sessions.anomaly(found)))
}

/// After how many operations the clock is looked at.
const LOOK_EVERY: usize = 1_024;
/// Steps from a write to newer ones, for each operation, beyond which reads are compared with a part of these.
const STEPS_EACH: usize = 32;
/// The same of all, at the least.
const STEPS_MIN: usize = 1_000_000;

/// Reads before a write of unknown outcome that it is compared with.
const READS_OF_UNKNOWN: usize = 64;

/// Per session and key, the places (in the session) and numbers of records.
type Places = Map<(u32, u32), Vec<(u32, u32)>>;

struct Sessions<'a> {
    recording: &'a Recording,
    /// The records that are judged, in the order of their calls.
    order: Vec<u32>,
    /// The only write of a value; `None` when there are more.
    writer: Map<(u32, u32), Option<u32>>,
    /// Keys that may become absent, or begin with a value.
    fleeting: Vec<bool>,
    place: Vec<u32>,
    writes: Places,
    reads: Places,
    descent: Descent,
    steps: usize,
    unjudged: NotJudged,
}

/// The value that an operation may have written.
fn written(record: &Record) -> Option<u32> {
    match record.code {
        Code::Put | Code::PutAbsent | Code::PutPresent | Code::Cas if record.reply != Reply::NotApplied => {
            Some(record.argument)
        }
        _ => None,
    }
}

/// Whether an operation certainly wrote or deleted.
fn changes(record: &Record) -> bool {
    match record.code {
        Code::Put => record.reply != Reply::Unknown,
        Code::PutAbsent | Code::PutPresent | Code::Cas => record.reply == Reply::Applied,
        Code::Delete => matches!(record.reply, Reply::Applied | Reply::Done),
        _ => false,
    }
}

/// The value that an operation certainly found: what it read, or demanded.
fn found(record: &Record) -> Option<u32> {
    let swapped = record.code == Code::Cas && record.reply == Reply::Applied;
    match record.code {
        Code::Update => None,
        _ if swapped => Some(record.expected),
        _ => record.found(),
    }
}

/// From where a read has what it read.
enum Source {
    /// What was there at first.
    Initial,
    Write(u32),
    Unclear,
}

impl<'a> Sessions<'a> {
    fn new(recording: &'a Recording, order: Vec<u32>) -> Self {
        let mut sessions = Self {
            recording,
            writer: Map::default(),
            fleeting: (0..=recording.keys.len() as u32)
                .map(|key| recording.initial_value(key) != NOTHING)
                .collect(),
            place: vec![0; recording.records.len()],
            writes: Places::default(),
            reads: Places::default(),
            descent: Descent::new(recording.records.len()),
            steps: (order.len() * STEPS_EACH).max(STEPS_MIN),
            unjudged: NotJudged::default(),
            order,
        };
        let mut counts: Map<u32, u32> = Map::default();
        for at in &sessions.order {
            let record = &recording.records[*at as usize];
            let count = counts.entry(record.session).or_default();
            sessions.place[*at as usize] = *count;
            *count += 1;
            let updates = record.code == Code::Update;
            let deletes = record.code == Code::Delete && record.reply != Reply::NotApplied;
            sessions.fleeting[record.key as usize] |= deletes || updates || record.expires();
            if updates && record.argument != NOTHING {
                // It may have written this, or not.
                sessions.writer.insert((record.key, record.argument), None);
            }
            if let Some(value) = written(record) {
                let writer = sessions.writer.entry((record.key, value));
                writer.and_modify(|writer| *writer = None).or_insert(Some(*at));
            }
        }
        sessions
    }

    fn record(&self, at: u32) -> &Record {
        &self.recording.records[at as usize]
    }

    /// Whether write `a` is certainly older than write `b` of the same key; `None` stands for the initial state. `newer` are those that are known to
    /// come after `a`.
    fn older(&self, a: Option<u32>, b: u32, newer: &Newer) -> bool {
        let Some(a) = a else {
            return !self.fleeting[self.record(b).key as usize];
        };
        let (first, second) = (self.record(a), self.record(b));
        if first.version != 0 && second.version != 0 {
            return first.version < second.version;
        }
        let by_it = first.session == second.session && self.place[a as usize] < self.place[b as usize];
        a != b && (by_it || newer.contains(&b))
    }

    /// The first read that breaks a guarantee. Quickly, only reads that perhaps do are looked at closely.
    fn find(&mut self, deadline: Option<Instant>, is_quick: bool) -> Result<Option<Found>, String> {
        // What each session has seen of others: the highest place of a write that it read.
        let mut seen: Map<u32, BTreeMap<u32, u32>> = Map::default();
        let all = self.order.len();
        let mut known = Known::new(self.recording.keys.len());
        let mut broken = None;
        for (count, at) in std::mem::take(&mut self.order).into_iter().enumerate() {
            let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if broken.is_none() && count.is_multiple_of(LOOK_EVERY) && is_late() {
                return Err(format!("out of time; the first {count} of {all} operations break no guarantee"));
            }
            let record = *self.record(at);
            self.count(&record);
            let source = found(&record).map(|value| self.source(&record, value));
            if broken.is_some() {
                continue;
            }
            let source = match source {
                Some(Source::Write(writer)) => Some(Some(writer)),
                Some(Source::Initial) => Some(None),
                Some(Source::Unclear) | None => None,
            };
            if let Some(source) = source {
                let others = seen.entry(record.session).or_default();
                let here = (record.session, record.key);
                if (!is_quick || known.may_break(self, here, source, others))
                    && let Some(how) = self.judge(at, source, others)
                {
                    broken = Some(Found { broken: how, source, at });
                    continue;
                }
                if let Some(writer) = source {
                    self.read(at, writer, &mut known, others);
                }
            }
            if written(&record).is_some() || changes(&record) {
                self.write(at, &mut known);
            }
        }
        Ok(broken)
    }

    /// Where the value comes from that an operation found.
    fn source(&mut self, record: &Record, value: u32) -> Source {
        if value == NOTHING {
            let fleeting = self.fleeting[record.key as usize];
            self.unjudged.absent_reads += usize::from(fleeting);
            return if fleeting { Source::Unclear } else { Source::Initial };
        }
        if let Some(Some(writer)) = self.writer.get(&(record.key, value)) {
            return Source::Write(*writer);
        }
        self.unjudged.ambiguous_reads += 1;
        Source::Unclear
    }

    fn count(&mut self, record: &Record) {
        let deletes = record.code == Code::Delete && !changes(record);
        self.unjudged.deletions += usize::from(deletes);
        let computes = matches!(record.code, Code::Incr | Code::Append | Code::Update);
        self.unjudged.others += usize::from(computes);
    }

    /// A session reads what `writer` wrote.
    fn read(&mut self, at: u32, writer: u32, known: &mut Known, others: &mut BTreeMap<u32, u32>) {
        let (session, key, place) = (self.record(at).session, self.record(at).key, self.place[at as usize]);
        self.reads.entry((session, key)).or_default().push((place, writer));
        known.read(self, writer, session, place);
        let upto = self.place[writer as usize];
        let theirs = self.record(writer).session;
        others.entry(theirs).and_modify(|seen| *seen = upto.max(*seen)).or_insert(upto);
    }

    /// A session writes, or may have written.
    fn write(&mut self, at: u32, known: &mut Known) {
        let record = self.record(at);
        let (here, certain) = ((record.session, record.key), changes(record));
        let writes = self.writes.entry(here).or_default();
        let own = writes.last().copied();
        if certain {
            writes.push((self.place[at as usize], at));
        }
        let since = own.map_or(0, |(place, _)| place);
        let read = self.reads.get(&here).map_or(&[][..], |reads| reads);
        // One of unknown outcome most often ends its session; where it does not, reads come up again with each.
        let most = if certain { usize::MAX } else { READS_OF_UNKNOWN };
        read.iter()
            .rev()
            .take_while(|(place, _)| *place >= since)
            .take(most)
            .for_each(|(_, writer)| self.descent.add(*writer, at));
        if let Some((_, own)) = own {
            self.descent.add(own, at);
        }
        if certain {
            known.add(self, at);
        }
    }

    fn judge(&mut self, at: u32, source: Option<u32>, seen: &BTreeMap<u32, u32>) -> Option<Broken> {
        let (newer, whole) = match source {
            Some(source) => self.descent.all_after(source, &mut self.steps),
            None => (Newer::default(), true),
        };
        self.unjudged.partly += usize::from(!whole);
        let record = self.record(at);
        let last = |places: &Places, session: u32, upto: u32| {
            let places = places.get(&(session, record.key))?;
            let (place, of) = places[places.partition_point(|(place, _)| *place < upto).checked_sub(1)?];
            self.older(source, of, &newer).then_some((place, of))
        };
        if let Some((_, write)) = last(&self.writes, record.session, u32::MAX) {
            return Some(Broken::OwnWrite { write });
        }
        if let Some((place, write)) = last(&self.reads, record.session, u32::MAX) {
            return Some(Broken::OwnRead { write, place });
        }
        for (session, upto) in seen.iter().map(|(session, upto)| (*session, *upto)) {
            if let Some((_, write)) = last(&self.writes, session, upto) {
                return Some(Broken::ItsWrite { write, session, upto });
            }
            if let Some((place, write)) = last(&self.reads, session, upto) {
                return Some(Broken::ItsRead { write, place, session, upto });
            }
        }
        None
    }
}
