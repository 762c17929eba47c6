//! What the clients of the load generator count and record together.

use super::history::History;
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// What all clients share: they run on one thread.
pub(super) struct Shared {
    pub(super) history: RefCell<Option<History>>,
    pub(super) latency: RefCell<Histogram<u64>>,
    pub(super) ops: Cell<u64>,
    pub(super) errors: Cell<u64>,
    /// Errors by their first word.
    pub(super) kinds: RefCell<BTreeMap<String, u64>>,
    /// Why connections broke.
    pub(super) reasons: RefCell<BTreeMap<String, u64>>,
    pub(super) last: Cell<Option<Instant>>,
    pub(super) stop: Cell<bool>,
    /// Values of different phases differ.
    pub(super) phase: Cell<u64>,
}

/// The longest latency that is told from longer ones: an hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

impl Shared {
    pub(super) fn new(history: Option<History>) -> Result<Self, String> {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)
            .map_err(|error| format!("a histogram: {error}"))?;
        Ok(Self {
            history: RefCell::new(history),
            latency: RefCell::new(latency),
            ops: Cell::new(0),
            errors: Cell::new(0),
            kinds: RefCell::default(),
            reasons: RefCell::default(),
            last: Cell::new(None),
            stop: Cell::new(false),
            phase: Cell::new(0),
        })
    }

    pub(super) fn done(&self, latency: Duration) {
        self.ops.set(self.ops.get() + 1);
        self.last.set(Some(Instant::now()));
        self.latency.borrow_mut().saturating_record(latency.as_nanos() as u64);
    }

    pub(super) fn error(&self, text: &str) {
        self.errors.set(self.errors.get() + 1);
        let word = text.split(' ').next().unwrap_or_default();
        *self.kinds.borrow_mut().entry(word.to_string()).or_default() += 1;
    }

    pub(super) fn broken(&self, reason: &str) {
        *self.reasons.borrow_mut().entry(reason.to_string()).or_default() += 1;
    }

    /// Forgets what was counted so far.
    pub(super) fn reset(&self) {
        self.latency.borrow_mut().reset();
        self.ops.set(0);
        self.errors.set(0);
        self.kinds.borrow_mut().clear();
        self.reasons.borrow_mut().clear();
    }
}
