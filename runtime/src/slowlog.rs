//! The latest slow operations, for SLOWLOG and LATENCY. What is kept is kinds and times: no keys and no values.

use crate::commands::{err, help, integer};
use crate::resp::{Args, Value};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An operation that took at least so long is slow, as Valkey's slowlog-log-slower-than.
pub const SLOWER_THAN: Duration = Duration::from_millis(10);
/// Entries kept, as Valkey's slowlog-max-len.
const ENTRIES_MAX: usize = 128;
/// The one event of LATENCY.
const EVENT: &[u8] = b"operation";

#[derive(Debug, Clone)]
struct Entry {
    id: u64,
    at: u64,
    took: Duration,
    what: [&'static str; 3],
}

#[derive(Debug, Default)]
struct Entries {
    latest: VecDeque<Entry>,
    next: u64,
    /// Entries before this one are no matter of LATENCY any more.
    latency_from: u64,
}

/// The latest slow operations of a node.
#[derive(Debug, Default)]
pub struct Slowlog(Mutex<Entries>);

impl Slowlog {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an operation, its level and its outcome if it was slow.
    pub fn note(&self, what: [&'static str; 3], took: Duration) {
        if took < SLOWER_THAN {
            return;
        }
        let mut log = self.lock();
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let id = log.next;
        log.next += 1;
        log.latest.push_front(Entry { id, at, took, what });
        log.latest.truncate(ENTRIES_MAX);
    }

    /// SLOWLOG.
    pub fn slowlog(&self, sub: &str, a: &Args<'_>) -> Result<Value, Value> {
        let mut log = self.lock();
        match sub {
            "get" => {
                let count = a.at(2).map_or(Ok(10), integer).ok().filter(|count| *count >= -1);
                let count = count.ok_or_else(|| err("count should be greater than or equal to -1"))?;
                let count = usize::try_from(count).unwrap_or(ENTRIES_MAX);
                Ok(Value::Array(log.latest.iter().take(count).map(entry).collect()))
            }
            "len" => Ok(Value::Integer(log.latest.len() as i64)),
            "reset" => {
                log.latest.clear();
                Ok(Value::Status("OK"))
            }
            _ => Ok(help("SLOWLOG", "GET LEN RESET")),
        }
    }

    /// LATENCY: the same entries as one event.
    pub fn latency(&self, sub: &str, a: &Args<'_>) -> Result<Value, Value> {
        let mut log = self.lock();
        let millis = |entry: &Entry| Value::Integer(entry.took.as_millis() as i64);
        let time = |entry: &Entry| Value::Integer(entry.at as i64);
        let from = log.latency_from;
        let events: Vec<Entry> = log.latest.iter().filter(|entry| entry.id >= from).cloned().collect();
        match sub {
            "latest" => {
                let slowest = events.iter().max_by_key(|entry| entry.took);
                let latest = events.first().zip(slowest).map(|(last, slowest)| {
                    let name = Value::text(String::from_utf8_lossy(EVENT));
                    Value::Array(vec![name, time(last), millis(last), millis(slowest)])
                });
                Ok(Value::Array(latest.into_iter().collect()))
            }
            "history" => {
                let wanted = events.iter().rev().filter(|_| a[2].eq_ignore_ascii_case(EVENT));
                Ok(Value::Array(wanted.map(|entry| Value::Array(vec![time(entry), millis(entry)])).collect()))
            }
            "reset" => {
                let named = a.len() == 2 || a.tail(2).iter().any(|name| name.eq_ignore_ascii_case(EVENT));
                if !named || events.is_empty() {
                    return Ok(Value::Integer(0));
                }
                log.latency_from = log.next;
                Ok(Value::Integer(1))
            }
            _ => Ok(help("LATENCY", "HISTORY LATEST RESET")),
        }
    }
}

fn entry(entry: &Entry) -> Value {
    Value::Array(vec![
        Value::Integer(entry.id as i64),
        Value::Integer(entry.at as i64),
        Value::Integer(entry.took.as_micros() as i64),
        Value::Array(entry.what.iter().map(|word| Value::text(*word)).collect()),
        Value::text(""),
        Value::text(""),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(log: &Slowlog, words: &[&str]) -> Value {
        let line = words.concat();
        let mut ranges = Vec::new();
        for word in words {
            let start = ranges.last().map_or(0, |range: &std::ops::Range<usize>| range.end);
            ranges.push(start..start + word.len());
        }
        let a = Args::new(line.as_bytes(), &ranges);
        let answer = if words[0] == "SLOWLOG" {
            log.slowlog(&words[1].to_lowercase(), &a)
        } else {
            log.latency(&words[1].to_lowercase(), &a)
        };
        answer.unwrap_or_else(|error| error)
    }

    #[test]
    fn only_slow_operations_are_kept_and_only_the_latest() {
        let log = Slowlog::default();
        log.note(["get", "strong", "ok"], SLOWER_THAN / 2);
        assert_eq!(ask(&log, &["SLOWLOG", "LEN"]), Value::Integer(0));
        assert_eq!(ask(&log, &["LATENCY", "LATEST"]), Value::Array(Vec::new()));
        for millis in 10..10 + ENTRIES_MAX as u64 + 5 {
            log.note(["set", "causal", "ok"], Duration::from_millis(millis));
        }
        assert_eq!(ask(&log, &["SLOWLOG", "LEN"]), Value::Integer(ENTRIES_MAX as i64));
        let Value::Array(entries) = ask(&log, &["SLOWLOG", "GET", "2"]) else { panic!("an array") };
        let Value::Array(latest) = &entries[0] else { panic!("an entry") };
        assert_eq!(
            (entries.len(), &latest[0], &latest[2]),
            (2, &Value::Integer(132), &Value::Integer(142_000))
        );
        assert_eq!(ask(&log, &["LATENCY", "RESET", "other"]), Value::Integer(0));
        assert_eq!(ask(&log, &["LATENCY", "RESET"]), Value::Integer(1));
        assert_eq!(ask(&log, &["LATENCY", "HISTORY", "operation"]), Value::Array(Vec::new()));
        ask(&log, &["SLOWLOG", "RESET"]);
        assert_eq!(ask(&log, &["SLOWLOG", "LEN"]), Value::Integer(0));
    }
}
