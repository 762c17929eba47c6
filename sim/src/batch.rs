//! Many seeds, in parallel, with what they came to.

use crate::plan::Plan;
use crate::scenario::Scenario;
use crate::situations::{self, Situations};
use crate::world::{self, Report};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Swarm batches of at least so many seeds must reach every demanded situation.
pub const SITUATIONS_FROM: u64 = 200;
/// Batches of at least so many seeds must reach what their scenario demands.
pub const DEMANDS_FROM: u64 = 50;

/// What a batch came to.
#[derive(Debug, Default)]
pub struct Batch {
    /// Seeds that held.
    pub passed: u64,
    /// Seeds that failed, with the reason.
    pub failures: Vec<(u64, String)>,
    /// Events executed.
    pub events: u64,
    /// Seconds of virtual time.
    pub virtual_seconds: f64,
    /// Operations of clients.
    pub operations: u64,
    /// Runs in which no fault struck.
    pub calm: u64,
    /// Situations met.
    pub situations: Situations,
}

/// Runs one seed; a panic of the core is a failure like any other.
pub fn run_seed(scenario: &Scenario, seed: u64, virtual_seconds: Option<u64>) -> Report {
    run_plan(&Plan::new(scenario, seed, virtual_seconds))
}

/// Runs a plan; a panic of the core is a failure like any other.
pub fn run_plan(plan: &Plan) -> Report {
    catch_unwind(AssertUnwindSafe(|| world::run(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
        Report {
            failure: Some(format!("panic: {}", text.unwrap_or_default())),
            events: 0,
            virtual_ns: 0,
            operations: 0,
            faults: 0,
            situations: Situations::new(),
            trace: 0,
        }
    })
}

/// Keeps panics of the core from printing: they are reported with their seed.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

impl Batch {
    fn add(&mut self, seed: u64, report: Report) {
        match report.failure {
            None => self.passed += 1,
            Some(reason) => self.failures.push((seed, reason)),
        }
        self.events += report.events;
        self.virtual_seconds += report.virtual_ns as f64 / 1e9;
        self.operations += report.operations;
        self.calm += u64::from(report.faults == 0 && !report.situations.contains_key("message_lost"));
        for (name, count) in report.situations {
            *self.situations.entry(name).or_default() += count;
        }
    }

    /// Demanded situations that were never met.
    pub fn missing(&self) -> Vec<&'static str> {
        situations::demanded().filter(|name| !self.situations.contains_key(name)).collect()
    }
}

/// How a batch is run.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// Threads.
    pub jobs: usize,
    /// Whether a progress bar is shown.
    pub progress: bool,
    /// Whether the batch ends at the first failure.
    pub stop: bool,
    /// How long each run is, where the scenario does not say.
    pub virtual_seconds: Option<u64>,
}

/// Runs `seeds` of a scenario.
pub fn run(scenario: &Scenario, seeds: &[u64], manner: &Manner) -> Batch {
    let next = AtomicU64::new(0);
    let batch = Mutex::new(Batch::default());
    let bar = ProgressBar::new(seeds.len() as u64);
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} seeds, {per_sec}, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_prefix(scenario.name.clone());
    if !manner.progress {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    std::thread::scope(|scope| {
        for _ in 0..manner.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some(seed) = seeds.get(at).copied() else { return };
                    let report = run_seed(scenario, seed, manner.virtual_seconds);
                    let failed = report.failure.is_some();
                    if let Ok(mut batch) = batch.lock() {
                        batch.add(seed, report);
                    }
                    bar.inc(1);
                    if failed && manner.stop {
                        next.store(seeds.len() as u64, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut batch = batch.into_inner().unwrap_or_default();
    batch.failures.sort();
    batch
}
