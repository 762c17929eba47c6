//! What a process counts for `/metrics` and INFO. Counting an operation is a few relaxed additions.

use crate::foreign::Foreign;
use crate::gauges::Gauges;
use crate::slowlog::Slowlog;
use samara_core::base::{Failure, KeyOp, Level, Response};
use samara_core::node::SuspectProbe;
use samara_core::repair::HeldBack;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds of the latency histogram, seconds.
const BOUNDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// The same in microseconds.
const BOUNDS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];
const OPERATIONS: [&str; 8] = ["get", "set", "delete", "incr", "append", "setrange", "expire", "scan"];
const LEVELS: [&str; 3] = ["eventual", "causal", "strong"];
const OUTCOMES: [&str; 8] =
    ["ok", "unavailable", "timeout", "overloaded", "clockskew", "diskfull", "toolarge", "belowfloor"];

/// An operation in metrics: a place in `OPERATIONS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation(u8);

impl Operation {
    /// A page of a scan.
    pub const SCAN: Self = Self(7);

    /// What `op` is counted as.
    pub fn of(op: &KeyOp) -> Self {
        Self(match op {
            KeyOp::Read => 0,
            KeyOp::Set { .. } => 1,
            KeyOp::Delete { .. } => 2,
            KeyOp::Add(_) | KeyOp::AddFloat(_) => 3,
            KeyOp::Append(_) => 4,
            KeyOp::SetRange { .. } => 5,
            KeyOp::Expire { .. } => 6,
        })
    }
}

fn outcome(result: &Result<Response, Failure>) -> usize {
    match result {
        Ok(_) => 0,
        Err(Failure::Unavailable) => 1,
        Err(Failure::Timeout) => 2,
        Err(Failure::Overloaded) => 3,
        Err(Failure::ClockSkew) => 4,
        Err(Failure::DiskFull) => 5,
        Err(Failure::TooLarge) => 6,
        Err(Failure::BelowFloor(_)) => 7,
    }
}

/// Operations of one kind at one level.
#[derive(Debug, Default)]
struct Cell {
    outcomes: [AtomicU64; OUTCOMES.len()],
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

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
    /// Connections refused because there were too many.
    pub connections_refused: AtomicU64,
    /// Connections closed because the client did not read its answers.
    pub slow_clients_closed: AtomicU64,
    /// Requests that broke the protocol.
    pub protocol_errors: AtomicU64,
    /// Wrong passwords.
    pub denied_auth: AtomicU64,
    /// Commands that a user may not run.
    pub denied_commands: AtomicU64,
    /// Keys that a user may not use.
    pub denied_keys: AtomicU64,
    /// Commands ever.
    pub commands: AtomicU64,
    /// Frames to peers that were dropped because the peer was away or too slow.
    pub peer_frames_dropped: AtomicU64,
    /// Connections to peers made.
    pub peer_connections_total: AtomicU64,
    /// The members that take this node for one of another cluster.
    pub foreign: Foreign,
    /// Requests for keys over HTTP in flight.
    pub http_requests: AtomicU64,
    /// Bytes of requests in flight.
    pub request_bytes: AtomicU64,
    /// Bytes of answers that wait to be written.
    pub answer_bytes: AtomicU64,
    /// The latest slow operations.
    pub slowlog: Slowlog,
    /// What the shards say of themselves.
    pub gauges: Gauges,
    cells: [[Cell; LEVELS.len()]; OPERATIONS.len()],
    /// The core's counters as the drivers last told them, by shard.
    core: Mutex<BTreeMap<u16, Vec<(&'static str, u64)>>>,
    /// Garbage that is held back, by shard.
    held_back: Mutex<BTreeMap<u16, HeldBack>>,
    /// What is suspect, as the drivers last told, by shard.
    suspects: Mutex<BTreeMap<u16, SuspectProbe>>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            ready: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            connections_total: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            slow_clients_closed: AtomicU64::new(0),
            protocol_errors: AtomicU64::new(0),
            denied_auth: AtomicU64::new(0),
            denied_commands: AtomicU64::new(0),
            denied_keys: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            peer_frames_dropped: AtomicU64::new(0),
            peer_connections_total: AtomicU64::new(0),
            foreign: Foreign::default(),
            http_requests: AtomicU64::new(0),
            request_bytes: AtomicU64::new(0),
            answer_bytes: AtomicU64::new(0),
            slowlog: Slowlog::default(),
            gauges: Gauges::default(),
            cells: Default::default(),
            core: Mutex::default(),
            held_back: Mutex::default(),
            suspects: Mutex::default(),
        }
    }
}

impl Stats {
    /// An operation ended.
    pub fn record(
        &self,
        operation: Operation,
        level: Level,
        result: &Result<Response, Failure>,
        took: Duration,
    ) {
        let micros = took.as_micros() as u64;
        let (operation, level) = (usize::from(operation.0), level as usize);
        self.slowlog.note([OPERATIONS[operation], LEVELS[level], OUTCOMES[outcome(result)]], took);
        let bucket = BOUNDS_US.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        let cell = &self.cells[operation][level];
        cell.outcomes[outcome(result)].fetch_add(1, Ordering::Relaxed);
        cell.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        cell.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// A driver tells its core's counters.
    pub fn tell(&self, shard: u16, counters: Vec<(&'static str, u64)>) {
        if let Ok(mut core) = self.core.lock() {
            core.insert(shard, counters);
        }
    }

    /// A driver tells what garbage its shard holds back, and for whom.
    pub fn tell_held_back(&self, shard: u16, held: HeldBack) {
        if let Ok(mut of_shards) = self.held_back.lock() {
            of_shards.insert(shard, held);
        }
    }

    /// A driver tells what damage has made suspect.
    pub fn tell_suspects(&self, shard: u16, probe: SuspectProbe) {
        if let Ok(mut suspects) = self.suspects.lock() {
            suspects.insert(shard, probe);
        }
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _written = self.write(&mut text);
        text
    }

    fn cells(&self) -> Vec<(&'static str, &'static str, &Cell)> {
        let mut cells = Vec::new();
        for (of_operation, op) in self.cells.iter().zip(OPERATIONS) {
            let used = |cell: &Cell| cell.outcomes.iter().any(|count| count.load(Ordering::Relaxed) > 0);
            let named = of_operation.iter().zip(LEVELS).filter(|(cell, _)| used(cell));
            cells.extend(named.map(|(cell, level)| (op, level, cell)));
        }
        cells
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let gauges = [
            ("ready", u64::from(self.ready.load(Ordering::Relaxed)), "Whether clients are served."),
            ("connections", read(&self.connections), "Client connections open."),
            ("request_bytes", read(&self.request_bytes), "Bytes of requests in flight."),
            ("answer_bytes", read(&self.answer_bytes), "Bytes of answers that wait to be written."),
            (
                "peers_foreign",
                self.foreign.peers(tokio::time::Instant::now()).len() as u64,
                "Members that take this node for one of another cluster.",
            ),
        ];
        for (name, value, help) in gauges {
            writeln!(text, "# HELP samara_{name} {help}\n# TYPE samara_{name} gauge\nsamara_{name} {value}")?;
        }
        let counters = [
            ("connections_total", &self.connections_total, "Client connections ever."),
            ("connections_refused_total", &self.connections_refused, "Connections over the limit."),
            ("slow_clients_closed_total", &self.slow_clients_closed, "Clients that did not read answers."),
            ("commands_total", &self.commands, "Commands ever."),
            ("peer_frames_dropped_total", &self.peer_frames_dropped, "Frames that no peer took."),
            ("peer_connections_total", &self.peer_connections_total, "Connections to peers made."),
        ];
        for (name, value, help) in counters {
            let value = read(value);
            writeln!(
                text,
                "# HELP samara_{name} {help}\n# TYPE samara_{name} counter\nsamara_{name} {value}"
            )?;
        }
        self.write_suspects(text)?;
        self.write_operations(text)?;
        self.gauges.write(text)?;
        self.write_held_back(text)?;
        self.write_core(text)
    }

    fn write_held_back(&self, text: &mut String) -> std::fmt::Result {
        type Gauge = (&'static str, &'static str, fn(&HeldBack) -> u64);
        let Ok(of_shards) = self.held_back.lock() else {
            return Ok(());
        };
        let gauges: [Gauge; 3] = [
            (
                "oldest_unrepaired_seconds",
                "Age of the oldest deletion or expiry that the replicas have not been compared on.",
                |held| held.oldest_ms / 1_000,
            ),
            ("garbage_held_records", "Tombstones and expired records that wait.", |held| held.records),
            ("garbage_held_bytes", "Bytes of their keys and values.", |held| held.bytes),
        ];
        for (name, help, value) in gauges {
            writeln!(text, "# HELP samara_{name} {help}\n# TYPE samara_{name} gauge")?;
            for (shard, held) in of_shards.iter() {
                writeln!(text, "samara_{name}{{shard=\"{shard}\"}} {}", value(held))?;
            }
        }
        writeln!(
            text,
            "# HELP samara_garbage_held_by The member that the last watermark round given up waited for."
        )?;
        writeln!(text, "# TYPE samara_garbage_held_by gauge")?;
        for (shard, held) in of_shards.iter().filter(|(_, held)| held.records > 0 || held.oldest_ms > 0) {
            if let Some(node) = held.by {
                writeln!(text, "samara_garbage_held_by{{shard=\"{shard}\",node=\"{}\"}} 1", node.0)?;
            }
        }
        Ok(())
    }

    fn write_suspects(&self, text: &mut String) -> std::fmt::Result {
        let probes: Vec<SuspectProbe> =
            self.suspects.lock().map(|suspects| suspects.values().copied().collect()).unwrap_or_default();
        let sum = |of: fn(&SuspectProbe) -> usize| probes.iter().map(of).sum::<usize>();
        // A slot belongs to one shard: shards that are suspect alike count it once.
        let slots = probes.iter().map(|probe| probe.slots).max().unwrap_or(0);
        let gauges = [
            ("suspect_slots", slots, "Slots with keys on which this node has no vote, because of damage."),
            ("suspect_stretches", sum(|probe| probe.stretches), "Stretches of such keys."),
            (
                "suspect_stuck",
                sum(|probe| usize::from(probe.stuck)),
                "Shards of which too few other replicas can bring such keys again.",
            ),
        ];
        for (name, value, help) in gauges {
            writeln!(text, "# HELP samara_{name} {help}\n# TYPE samara_{name} gauge\nsamara_{name} {value}")?;
        }
        Ok(())
    }

    fn write_operations(&self, text: &mut String) -> std::fmt::Result {
        let mut errors = [0; OUTCOMES.len()];
        writeln!(text, "# HELP samara_operations_total Operations by kind, level and outcome.")?;
        writeln!(text, "# TYPE samara_operations_total counter")?;
        for (op, level, cell) in self.cells() {
            for ((outcome, count), errors) in OUTCOMES.iter().zip(&cell.outcomes).zip(&mut errors) {
                let count = count.load(Ordering::Relaxed);
                *errors += count;
                if count > 0 {
                    let labels = format!("op=\"{op}\",level=\"{level}\",outcome=\"{outcome}\"");
                    writeln!(text, "samara_operations_total{{{labels}}} {count}")?;
                }
            }
        }
        writeln!(text, "# HELP samara_errors_total Errors by kind.\n# TYPE samara_errors_total counter")?;
        for (kind, count) in OUTCOMES.iter().zip(errors).skip(1) {
            writeln!(text, "samara_errors_total{{kind=\"{kind}\"}} {count}")?;
        }
        let others = [
            ("protocol", &self.protocol_errors),
            ("wrongpass", &self.denied_auth),
            ("noperm_command", &self.denied_commands),
            ("noperm_key", &self.denied_keys),
        ];
        for (kind, counter) in others {
            let count = counter.load(Ordering::Relaxed);
            writeln!(text, "samara_errors_total{{kind=\"{kind}\"}} {count}")?;
        }
        writeln!(text, "# HELP samara_operation_seconds Time from the request to its answer.")?;
        writeln!(text, "# TYPE samara_operation_seconds histogram")?;
        for (op, level, cell) in self.cells() {
            let labels = format!("op=\"{op}\",level=\"{level}\"");
            let mut total = 0;
            for (at, count) in cell.buckets.iter().enumerate() {
                total += count.load(Ordering::Relaxed);
                let bound = BOUNDS.get(at).map_or("+Inf".to_string(), f64::to_string);
                writeln!(text, "samara_operation_seconds_bucket{{{labels},le=\"{bound}\"}} {total}")?;
            }
            let sum = cell.micros.load(Ordering::Relaxed) as f64 / 1e6;
            writeln!(text, "samara_operation_seconds_sum{{{labels}}} {sum}")?;
            writeln!(text, "samara_operation_seconds_count{{{labels}}} {total}")?;
        }
        Ok(())
    }

    fn write_core(&self, text: &mut String) -> std::fmt::Result {
        let mut sums: BTreeMap<&'static str, u64> = BTreeMap::new();
        if let Ok(core) = self.core.lock() {
            for (name, count) in core.values().flatten() {
                *sums.entry(name).or_default() += count;
            }
        }
        for (name, count) in sums {
            writeln!(text, "# TYPE samara_core_{name}_total counter\nsamara_core_{name}_total {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_told_with_their_labels() {
        let stats = Stats::default();
        let operation = Operation::of(&KeyOp::Read);
        stats.record(operation, Level::Strong, &Err(Failure::Timeout), Duration::from_micros(300));
        stats.record(Operation::SCAN, Level::Causal, &Err(Failure::Timeout), Duration::from_secs(9));
        stats.tell(0, vec![("wal_commits", 3)]);
        stats.tell(1, vec![("wal_commits", 4)]);
        let by = Some(samara_core::base::NodeId(3));
        stats.tell_held_back(1, HeldBack { oldest_ms: 90_500, records: 7, bytes: 700, by });
        let text = stats.render();
        for line in [
            "samara_operations_total{op=\"get\",level=\"strong\",outcome=\"timeout\"} 1",
            "samara_errors_total{kind=\"timeout\"} 2",
            "samara_operation_seconds_bucket{op=\"get\",level=\"strong\",le=\"0.00025\"} 0",
            "samara_operation_seconds_bucket{op=\"get\",level=\"strong\",le=\"0.0005\"} 1",
            "samara_operation_seconds_bucket{op=\"scan\",level=\"causal\",le=\"+Inf\"} 1",
            "samara_operation_seconds_count{op=\"get\",level=\"strong\"} 1",
            "samara_core_wal_commits_total 7",
            "samara_oldest_unrepaired_seconds{shard=\"1\"} 90",
            "samara_garbage_held_records{shard=\"1\"} 7",
            "samara_garbage_held_bytes{shard=\"1\"} 700",
            "samara_garbage_held_by{shard=\"1\",node=\"3\"} 1",
            "samara_ready 0",
            "samara_peers_foreign 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}
