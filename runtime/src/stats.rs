//! What a process counts for `/metrics` and INFO.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds of the latency histogram, seconds.
const BOUNDS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 5.0];

/// Counters of one node.
#[derive(Debug)]
pub struct Stats {
    /// When the process began.
    pub started: Instant,
    /// Whether clients are served.
    pub ready: AtomicBool,
    /// Connections open.
    pub connections: AtomicU64,
    /// Connections ever.
    pub connections_total: AtomicU64,
    /// Commands ever.
    pub commands: AtomicU64,
    /// By (operation, level, outcome).
    operations: Mutex<BTreeMap<(&'static str, &'static str, &'static str), u64>>,
    /// By (operation, level): counts per bound, sum of seconds.
    seconds: Mutex<BTreeMap<(&'static str, &'static str), ([u64; BOUNDS.len() + 1], f64)>>,
    errors: Mutex<BTreeMap<&'static str, u64>>,
    /// The core's counters as the drivers last told them, by shard.
    core: Mutex<BTreeMap<u16, Vec<(&'static str, u64)>>>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            ready: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            connections_total: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            operations: Mutex::default(),
            seconds: Mutex::default(),
            errors: Mutex::default(),
            core: Mutex::default(),
        }
    }
}

impl Stats {
    /// An operation ended.
    pub fn record(
        &self,
        operation: &'static str,
        level: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        if let Ok(mut operations) = self.operations.lock() {
            *operations.entry((operation, level, outcome)).or_default() += 1;
        }
        if let Ok(mut seconds) = self.seconds.lock() {
            let (counts, sum) = seconds.entry((operation, level)).or_insert(([0; BOUNDS.len() + 1], 0.0));
            let took = took.as_secs_f64();
            counts[BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(BOUNDS.len())] += 1;
            *sum += took;
        }
        if outcome != "ok"
            && let Ok(mut errors) = self.errors.lock()
        {
            *errors.entry(outcome).or_default() += 1;
        }
    }

    /// A driver tells its core's counters.
    pub fn tell(&self, shard: u16, counters: Vec<(&'static str, u64)>) {
        if let Ok(mut core) = self.core.lock() {
            core.insert(shard, counters);
        }
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _written = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "# TYPE samara_ready gauge\nsamara_ready {}",
            u8::from(self.ready.load(Ordering::Relaxed))
        )?;
        writeln!(
            text,
            "# TYPE samara_connections gauge\nsamara_connections {}",
            self.connections.load(Ordering::Relaxed)
        )?;
        writeln!(text, "# TYPE samara_operations_total counter")?;
        for ((op, level, outcome), count) in self.operations.lock().iter().flat_map(|map| map.iter()) {
            writeln!(
                text,
                "samara_operations_total{{op=\"{op}\",level=\"{level}\",outcome=\"{outcome}\"}} {count}"
            )?;
        }
        writeln!(text, "# TYPE samara_errors_total counter")?;
        for (kind, count) in self.errors.lock().iter().flat_map(|map| map.iter()) {
            writeln!(text, "samara_errors_total{{kind=\"{kind}\"}} {count}")?;
        }
        writeln!(text, "# TYPE samara_operation_seconds histogram")?;
        for ((op, level), (counts, sum)) in self.seconds.lock().iter().flat_map(|map| map.iter()) {
            let labels = format!("op=\"{op}\",level=\"{level}\"");
            let mut total = 0;
            for (bound, count) in BOUNDS.iter().zip(counts) {
                total += count;
                writeln!(text, "samara_operation_seconds_bucket{{{labels},le=\"{bound}\"}} {total}")?;
            }
            total += counts[BOUNDS.len()];
            writeln!(text, "samara_operation_seconds_bucket{{{labels},le=\"+Inf\"}} {total}")?;
            writeln!(text, "samara_operation_seconds_sum{{{labels}}} {sum}")?;
            writeln!(text, "samara_operation_seconds_count{{{labels}}} {total}")?;
        }
        let mut sums: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (name, count) in
            self.core.lock().iter().flat_map(|map| map.values().flatten().copied().collect::<Vec<_>>())
        {
            *sums.entry(name).or_default() += count;
        }
        for (name, count) in sums {
            writeln!(text, "# TYPE samara_core_{name}_total counter\nsamara_core_{name}_total {count}")?;
        }
        Ok(())
    }
}
