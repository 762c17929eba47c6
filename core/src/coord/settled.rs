//! C6: ballots that a majority granted ahead, with the record chosen below them. Each is used once.

use crate::base::limits::{SETTLED_MAX, SETTLED_MS};
use crate::base::planted::{self, Bug};
use crate::base::{Instant, Record, Stamp};
use alloc::collections::VecDeque;
use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Larger values are not kept: their next round reads them again.
const VALUE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Clone)]
pub(super) struct Settled {
    /// Looked up only, never iterated.
    table: HashMap<Bytes, Entry, FixedState>,
    order: VecDeque<Bytes>,
}

#[derive(Debug, Clone)]
struct Entry {
    ballot: Stamp,
    record: Record,
    until: Instant,
}

impl Default for Settled {
    fn default() -> Self {
        Self { table: HashMap::with_hasher(FixedState::with_seed(0xc6)), order: VecDeque::new() }
    }
}

impl Settled {
    /// Remembers that `ballot` is granted over the chosen `record`.
    pub(super) fn insert(&mut self, key: &Bytes, ballot: Stamp, record: Record, now: Instant) {
        if record.value.as_ref().is_some_and(|value| value.len() > VALUE_BYTES_MAX) {
            return;
        }
        let entry = Entry { ballot, record, until: now.plus_ms(SETTLED_MS) };
        self.table.insert(key.clone(), entry);
        self.order.push_back(key.clone());
        while self.table.len() > SETTLED_MAX || self.order.len() > 4 * SETTLED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.table.remove(&oldest);
            }
        }
    }

    /// Takes the ballot of `key` for its one use, unless it has aged.
    pub(super) fn take(&mut self, key: &Bytes, now: Instant) -> Option<(Stamp, Record)> {
        let entry = if planted::on(Bug::C6BallotUsedTwice) {
            self.table.get(key).cloned()
        } else {
            self.table.remove(key)
        };
        entry.filter(|entry| entry.until > now).map(|entry| (entry.ballot, entry.record))
    }
}
