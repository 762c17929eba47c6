//! What even an eventually consistent store owes: nothing is read that nobody wrote, replicas agree once writes have ceased, what was acknowledged
//! last is not lost, and counters count every increment once.

use crate::causal::Anomaly;
use crate::linearizability::{Limits, Options};
use crate::recording::{Code, NOTHING, Record, Recording, Reply};
use crate::show;
use std::time::Instant;

/// What is wrong with a recording, if anything. `options.weak_slack` is how far clocks may be off where they decide which write is the later.
/// `Err` when it was given up: what was decided.
pub fn check(recording: &Recording, options: &Options, limits: &Limits) -> Result<Option<Anomaly>, String> {
    let deadline = limits.deadline();
    let keys = recording.by_key();
    let all = keys.len().saturating_sub(1);
    for (count, places) in keys.iter().skip(1).enumerate() {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(format!("out of time; nothing is wrong with the first {count} of {all} keys"));
        }
        let key = Key { recording, places, slack: options.weak_slack };
        let found =
            key.thin_air().or_else(|| key.counter()).or_else(|| key.divergence()).or_else(|| key.loss());
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

struct Key<'a> {
    recording: &'a Recording,
    places: &'a [u32],
    slack: u64,
}

impl<'a> Key<'a> {
    fn records(&self) -> impl Iterator<Item = (u32, &'a Record)> {
        self.places.iter().map(|at| (*at, &self.recording.records[*at as usize]))
    }

    fn anomaly(&self, name: &str, what: &str, of: &[u32]) -> Anomaly {
        let nodes = of.iter().map(|at| show::line_of(self.recording, *at)).collect();
        Anomaly { name: name.into(), what: what.into(), nodes, edges: Vec::new(), pattern: None }
    }

    fn initial(&self) -> u32 {
        self.places
            .first()
            .map_or(NOTHING, |at| self.recording.initial_value(self.recording.records[*at as usize].key))
    }

    /// Whether values are made that no operation names.
    fn computes(&self) -> bool {
        self.records().any(|(_, record)| matches!(record.code, Code::Incr | Code::Append | Code::Update))
    }

    fn expires(&self) -> bool {
        self.records().any(|(_, record)| record.expires())
    }

    fn thin_air(&self) -> Option<Anomaly> {
        if self.computes() {
            return None;
        }
        let mut written: Vec<u32> = self.records().map(|(_, record)| record.argument).collect();
        written.extend([NOTHING, self.initial()]);
        written.sort_unstable();
        let read =
            |record: &Record| record.found().is_some_and(|found| written.binary_search(&found).is_err());
        let (at, _) = self.records().find(|(_, record)| read(record))?;
        Some(self.anomaly("thin air", "a value is read that nobody wrote", &[at]))
    }

    /// The last read of each client that was called after all writes returned.
    fn last_reads(&self) -> Vec<(u32, &'a Record)> {
        let writes = self.records().filter(|(_, record)| record.is_write());
        let quiet = writes
            .map(|(_, record)| if record.reply == Reply::Unknown { record.call } else { record.ret })
            .max();
        let mut reads: Vec<(u32, &Record)> = self
            .records()
            .filter(|(_, record)| {
                record.reply == Reply::Value && quiet.is_none_or(|quiet| record.call > quiet)
            })
            .collect();
        reads.sort_by_key(|(_, record)| (record.process, record.node, std::cmp::Reverse(record.call)));
        reads.dedup_by_key(|(_, record)| (record.process, record.node));
        reads
    }

    fn divergence(&self) -> Option<Anomaly> {
        // What is unknown may take effect between two reads, and what expires does.
        if self.expires()
            || self.computes() && self.records().any(|(_, record)| record.reply == Reply::Unknown)
        {
            return None;
        }
        let unknown = |value: u32| {
            self.records().any(|(_, record)| {
                record.reply == Reply::Unknown && record.is_write() && record.argument == value
            })
        };
        let reads = self.last_reads();
        let (first, one) = reads.first()?;
        let (second, _) = reads
            .iter()
            .find(|(_, other)| other.seen != one.seen && !unknown(other.seen) && !unknown(one.seen))?;
        Some(self.anomaly(
            "divergence",
            "after all writes had returned, clients went on to read different values",
            &[*first, *second],
        ))
    }

    /// The last value that was read is one that a later acknowledged write replaced.
    fn loss(&self) -> Option<Anomaly> {
        if self.expires() || self.computes() {
            return None;
        }
        for (at, read) in self.last_reads() {
            let writes_it = |record: &Record| {
                record.is_write()
                    && if read.seen == NOTHING {
                        record.code == Code::Delete
                    } else {
                        record.argument == read.seen
                    }
            };
            // The latest time at which what was read may have been written.
            let mut latest = Some(0);
            for (_, record) in self.records().filter(|(_, record)| writes_it(record)) {
                let end = (record.reply != Reply::Unknown).then(|| record.ret.saturating_add(self.slack));
                latest = latest.zip(end).map(|(latest, end)| latest.max(end));
            }
            let Some(latest) = latest else { continue };
            let lost = self.records().find(|(_, record)| {
                let acknowledged = !matches!(record.reply, Reply::Unknown | Reply::NotApplied);
                // A conditional write or a delete without an answer may have changed nothing.
                let certain = record.code == Code::Put || record.reply == Reply::Applied;
                record.is_write() && acknowledged && certain && !writes_it(record) && record.call > latest
            });
            if let Some((lost, _)) = lost {
                return Some(self.anomaly(
                    "lost write",
                    "an acknowledged write is not there in the end, and nothing wrote over it",
                    &[lost, at],
                ));
            }
        }
        None
    }

    /// Counters count once: no two increments give the same sum, and what is read lies between what certainly and what possibly was added.
    fn counter(&self) -> Option<Anomaly> {
        let only = self.records().all(|(_, record)| matches!(record.code, Code::Get | Code::Incr));
        let counts = self.records().any(|(_, record)| record.code == Code::Incr);
        if !only || !counts {
            return None;
        }
        let number = |value: u32| -> Option<i128> {
            if value == NOTHING {
                return Some(0);
            }
            std::str::from_utf8(self.recording.values.text(value)).ok()?.parse().ok()
        };
        let begin = number(self.initial())?;
        let adds = || self.records().filter(|(_, record)| record.code == Code::Incr);
        if adds().all(|(_, record)| record.number > 0) {
            let mut sums: Vec<(i64, u32)> = adds()
                .filter(|(_, record)| record.reply == Reply::Integer)
                .map(|(at, record)| (record.answer, at))
                .collect();
            sums.sort_unstable();
            if let Some(pair) = sums.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Some(self.anomaly(
                    "counted twice",
                    "two increments answered the same sum",
                    &[pair[0].1, pair[1].1],
                ));
            }
        }
        let sum = |keep: &dyn Fn(&Record) -> bool| -> i128 {
            adds().filter(|(_, record)| keep(record)).map(|(_, record)| i128::from(record.number)).sum()
        };
        let known = begin + sum(&|record| record.reply != Reply::Unknown);
        let low = known + sum(&|record| record.reply == Reply::Unknown && record.number < 0);
        let high = known + sum(&|record| record.reply == Reply::Unknown && record.number > 0);
        for (at, read) in self.last_reads() {
            let Some(seen) = number(read.seen) else {
                return Some(self.anomaly("not a number", "a counter is read as something else", &[at]));
            };
            if seen < low || seen > high {
                let what = format!("in the end the counter must be between {low} and {high}");
                return Some(self.anomaly("miscounted", &what, &[at]));
            }
        }
        None
    }
}
