//! Session guarantees (Terry et al., "Session guarantees for weakly consistent replicated data", 1994): read your writes, monotonic
//! reads, monotonic writes, writes follow reads.
//!
//! One write of a key is older than another when their versions say so, or, where there are none, when one session wrote both. What cannot be
//! ordered so is not judged.

use crate::causal::Anomaly;
use crate::linearizability::Limits;
use crate::recording::{Code, NOTHING, Record, Recording, Reply};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::time::Instant;

mod known;
#[cfg(test)]
mod tests;
mod why;

use known::Known;
use why::{Broken, Found};

type Map<K, V> = HashMap<K, V, FixedState>;

/// What is wrong with the sessions of a recording, if anything. `Err` when it was given up: what was decided.
pub fn check(recording: &Recording, limits: &Limits) -> Result<Option<Anomaly>, String> {
    let mut order: Vec<u32> = (0..recording.records.len() as u32).collect();
    order.sort_by_key(|at| recording.records[*at as usize].call);
    let mut sessions = Sessions::new(recording, order);
    let found = sessions.find(limits.deadline(), true)?;
    Ok(found.map(|found| sessions.anomaly(found)))
}

/// After how many operations the clock is looked at.
const LOOK_EVERY: usize = 1_024;

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
}

fn written(record: &Record) -> Option<u32> {
    match record.code {
        Code::Put | Code::PutAbsent | Code::PutPresent | Code::Cas if record.reply != Reply::NotApplied => {
            Some(record.argument)
        }
        _ => None,
    }
}

impl<'a> Sessions<'a> {
    fn new(recording: &'a Recording, order: Vec<u32>) -> Self {
        let mut sessions = Self {
            recording,
            order,
            writer: Map::default(),
            fleeting: (0..=recording.keys.len() as u32)
                .map(|key| recording.initial_value(key) != NOTHING)
                .collect(),
            place: vec![0; recording.records.len()],
            writes: Places::default(),
            reads: Places::default(),
        };
        let mut counts: Map<u32, u32> = Map::default();
        for at in &sessions.order {
            let record = &recording.records[*at as usize];
            let count = counts.entry(record.session).or_default();
            sessions.place[*at as usize] = *count;
            *count += 1;
            let updates = record.code == Code::Update;
            let expires = record.code == Code::Delete || updates || record.expires();
            sessions.fleeting[record.key as usize] |= expires;
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

    /// Whether write `a` is certainly older than write `b` of the same key; `None` stands for the initial state.
    fn older(&self, a: Option<u32>, b: u32) -> bool {
        let Some(a) = a else {
            return !self.fleeting[self.record(b).key as usize];
        };
        let (first, second) = (self.record(a), self.record(b));
        if first.version != 0 && second.version != 0 {
            return first.version < second.version;
        }
        a != b && first.session == second.session && self.place[a as usize] < self.place[b as usize]
    }

    /// The first read that breaks a guarantee. Quickly, only reads that perhaps do are looked at closely.
    fn find(&mut self, deadline: Option<Instant>, is_quick: bool) -> Result<Option<Found>, String> {
        // What each session has seen of others: the highest place of a write that it read.
        let mut seen: Map<u32, BTreeMap<u32, u32>> = Map::default();
        let all = self.order.len();
        let mut known = Known::new(self.recording.keys.len());
        for (count, at) in std::mem::take(&mut self.order).into_iter().enumerate() {
            if count.is_multiple_of(LOOK_EVERY) && deadline.is_some_and(|deadline| Instant::now() >= deadline)
            {
                return Err(format!("out of time; the first {count} of {all} operations break no guarantee"));
            }
            let record = *self.record(at);
            let here = (record.session, record.key);
            let place = self.place[at as usize];
            if written(&record).is_some() && record.reply != Reply::Unknown {
                self.writes.entry(here).or_default().push((place, at));
                known.write(self, at);
            }
            if record.code != Code::Get || record.reply != Reply::Value {
                continue;
            }
            let source = match record.seen {
                NOTHING => None,
                value => match self.writer.get(&(record.key, value)) {
                    Some(Some(writer)) => Some(*writer),
                    _ => continue,
                },
            };
            let others = seen.entry(record.session).or_default();
            if (!is_quick || known.may_break(self, here, source, others))
                && let Some(broken) = self.judge(at, source, others)
            {
                return Ok(Some(Found { broken, source, at }));
            }
            if let Some(writer) = source {
                self.reads.entry(here).or_default().push((place, writer));
                known.read(self, writer, record.session, place);
                let theirs = self.record(writer).session;
                let upto = self.place[writer as usize];
                others.entry(theirs).and_modify(|seen| *seen = upto.max(*seen)).or_insert(upto);
            }
        }
        Ok(None)
    }

    fn judge(&self, at: u32, source: Option<u32>, seen: &BTreeMap<u32, u32>) -> Option<Broken> {
        let record = self.record(at);
        let last = |places: &Places, session: u32, upto: u32| {
            let places = places.get(&(session, record.key))?;
            let (place, of) = places[places.partition_point(|(place, _)| *place < upto).checked_sub(1)?];
            self.older(source, of).then_some((place, of))
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
