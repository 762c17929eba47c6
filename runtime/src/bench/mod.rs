//! `samara bench`: a load generator that also records what it saw, for `samara-check`.
//!
//! With `--rate` the loop is open: requests are due at fixed times, and latency counts from when a request was due, not from when a slow
//! server let it be sent. Without it each client asks as soon as it is answered.

mod client;
mod history;
mod reply;
mod shared;
mod workload;

use clap::Args;
use client::{Client, Plan, ask, open};
use history::History;
use samara::config;
use samara::credentials::CredentialFlags;
use shared::Shared;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};
use workload::{Chooser, Mix, Random, Zipf};

/// Arguments of `samara bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Addresses of nodes, HOST:PORT; clients are spread over them.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:6379")]
    addr: Vec<String>,
    /// get, set, incr, mixed (half reads; writes, increments, deletes, compare-and-sets) or ycsb-a to ycsb-f.
    #[arg(long, default_value = "mixed")]
    workload: String,
    /// Connections.
    #[arg(long, default_value_t = 50)]
    clients: u64,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Requests a second in all (open loop); as fast as they are answered unless told.
    #[arg(long)]
    rate: Option<f64>,
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Number of keys.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value_size: usize,
    /// uniform or zipf; zipf for ycsb and uniform else, unless told.
    #[arg(long)]
    distribution: Option<String>,
    /// Level of the connections: strong, causal or eventual; the server's default unless told.
    #[arg(long)]
    consistency: Option<String>,
    /// Record a history for samara-check, on keys of this run alone.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Write every key once before it begins.
    #[arg(long)]
    load: bool,
    /// The same seed asks for the same keys.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds after which an answer is no longer waited for.
    #[arg(long, default_value_t = 10.0)]
    patience: f64,
    /// Print the result as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Who asks.
    #[command(flatten)]
    credentials: CredentialFlags,
}

impl Bench {
    fn mix(&self) -> Result<Mix, String> {
        let positive =
            |name: &str, good: bool| if good { Ok(()) } else { Err(format!("--{name}: give more than 0")) };
        positive("clients", self.clients > 0)?;
        positive("pipeline", self.pipeline > 0)?;
        positive("keys", self.keys > 0)?;
        positive("rate", self.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()))?;
        positive("seconds", self.seconds > 0.0 && self.seconds < 1e9)?;
        positive("patience", self.patience > 0.0 && self.patience < 1e9)?;
        if let Some(level) = &self.consistency {
            config::level(level)?;
        }
        Mix::parse(&self.workload)
    }

    fn zipf(&self, mix: Mix) -> Result<Option<Zipf>, String> {
        match (self.distribution.as_deref(), mix) {
            (Some("zipf"), _) | (None, Mix::Ycsb(_)) => Ok(Some(Zipf::new(self.keys))),
            (Some("uniform") | None, _) => Ok(None),
            (Some(other), _) => Err(format!("--distribution {other}: give uniform or zipf")),
        }
    }

    fn plan(&self, prefix: &str, measured: bool) -> Result<Plan, String> {
        let start = Instant::now();
        Ok(Plan {
            addresses: self.addr.clone(),
            pipeline: if measured { self.pipeline } else { self.pipeline.max(16) },
            value_size: self.value_size,
            consistency: self.consistency.clone(),
            prefix: prefix.to_string(),
            start,
            end: measured.then(|| start + Duration::from_secs_f64(self.seconds)),
            rate: self.rate.filter(|_| measured),
            clients: self.clients,
            patience: Duration::from_secs_f64(self.patience),
            credentials: self.credentials.resolve()?,
        })
    }
}

/// Runs until the time is over or the user interrupts.
pub(crate) async fn run(bench: &Bench) -> Result<(), String> {
    let mix = bench.mix()?;
    let zipf = bench.zipf(mix)?;
    reachable(bench).await?;
    let level = bench.consistency.clone().unwrap_or_else(|| "strong".into());
    let history = bench.history.as_ref().map(|path| History::create(path, &level)).transpose()?;
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let run = since.map_or(0, |since| since.as_nanos());
    let prefix = if history.is_some() { format!("run-{run:x}:") } else { String::new() };
    let shared = Rc::new(Shared::new(history)?);
    if bench.load {
        phase(bench, &shared, &bench.plan(&prefix, false)?, Mix::Load, None).await;
        if shared.errors.get() > 0 {
            eprintln!("{} of {} keys were not loaded", shared.errors.get(), bench.keys);
        }
        shared.reset();
        shared.phase.set(1);
    }
    let plan = bench.plan(&prefix, true)?;
    if !shared.stop.get() {
        phase(bench, &shared, &plan, mix, zipf).await;
    }
    let end = shared.last.get().map_or(plan.start, |last| last.max(plan.start));
    report(bench, &shared, end.duration_since(plan.start).as_secs_f64())?;
    match shared.history.borrow_mut().take() {
        Some(history) => history.finish(),
        None => Ok(()),
    }
}

/// At least one address must answer, and let us in.
async fn reachable(bench: &Bench) -> Result<(), String> {
    let (mut reason, plan) = (None, bench.plan("", true)?);
    for address in &bench.addr {
        // HELLO needs no right, but a password where one is asked for.
        let hello = async { ask(&mut open(&plan, address).await?, address, &[b"HELLO"]).await };
        match timeout(plan.patience, hello).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if error.contains("NOAUTH") || error.contains("WRONGPASS") => {
                return Err(format!("{error} Give --user and SAMARA_PASSWORD or --password-file"));
            }
            Ok(Err(error)) => reason = Some(error),
            Err(_) => reason = Some(format!("{address}: no answer")),
        }
    }
    let reason = reason.unwrap_or_else(|| "--addr: give an address".into());
    Err(format!("{reason}; is a node running there?"))
}

async fn phase(bench: &Bench, shared: &Rc<Shared>, plan: &Plan, mix: Mix, zipf: Option<Zipf>) {
    let local = LocalSet::new();
    let clients = (0..bench.clients).map(|number| {
        let random = Random(bench.seed.wrapping_mul(0x1_0000_0001).wrapping_add(number));
        let (keys, clients) = (bench.keys, bench.clients);
        let chooser = Chooser { mix, keys, zipf: zipf.clone(), random, added: 0, clients, client: number };
        Client::new(plan, shared.clone(), number, chooser).run()
    });
    let mut clients: Vec<_> = clients.map(Box::pin).collect();
    local
        .run_until(async {
            tokio::select! {
                () = all(&mut clients) => {}
                () = progress(shared, plan.start) => {}
            }
        })
        .await;
}

/// Runs all to their ends.
async fn all<F: Future<Output = ()> + Unpin>(clients: &mut [F]) {
    let mut sets: Vec<_> = clients.iter_mut().map(Some).collect();
    std::future::poll_fn(|context| {
        for slot in &mut sets {
            if let Some(client) = slot
                && std::pin::Pin::new(client).poll(context).is_ready()
            {
                *slot = None;
            }
        }
        if sets.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// Tells every second how far it is, where somebody watches, and stops at an interrupt. Never ends.
async fn progress(shared: &Shared, start: Instant) {
    let mut before = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = tokio::signal::ctrl_c() => shared.stop.set(true),
        }
        let ops = shared.ops.get();
        if std::io::stderr().is_terminal() {
            eprint!(
                "\r{:.0} s: {ops} operations, {} in the last second, {} errors   ",
                start.elapsed().as_secs_f64(),
                ops.saturating_sub(before),
                shared.errors.get()
            );
            // Nobody is left to tell if this fails.
            let _flushed = std::io::stderr().flush();
        }
        before = ops;
    }
}

fn report(bench: &Bench, shared: &Shared, seconds: f64) -> Result<(), String> {
    let latency = shared.latency.borrow();
    let us = |quantile: f64| (latency.value_at_quantile(quantile) as f64 / 10.0).round() / 100.0;
    let rate = if seconds > 0.0 { (shared.ops.get() as f64 / seconds).round() } else { 0.0 };
    let (ops, errors) = (shared.ops.get(), shared.errors.get());
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    let text = if bench.json {
        serde_json::json!({
            "workload": bench.workload, "clients": bench.clients, "pipeline": bench.pipeline, "rate": bench.rate,
            "seconds": seconds, "ops": ops, "errors": errors, "ops_per_s": rate, "p50_us": us(0.5), "p99_us": us(0.99),
            "p999_us": us(0.999), "max_us": us(1.0), "errors_by_kind": *shared.kinds.borrow(),
            "broken_connections": *shared.reasons.borrow(),
        })
        .to_string()
    } else {
        let mut text = format!(
            "{}: {ops} operations in {seconds:.2} s, {rate} a second, {errors} errors\n  latency, microseconds: p50 {} p99 {} p99.9 {} max {}",
            bench.workload,
            us(0.5),
            us(0.99),
            us(0.999),
            us(1.0)
        );
        for (what, all) in [("errors", &shared.kinds), ("broken connections", &shared.reasons)] {
            for (kind, count) in all.borrow().iter() {
                text.extend(["\n  ", what, ": ", &count.to_string(), " x ", kind]);
            }
        }
        text
    };
    writeln!(std::io::stdout(), "{text}").map_err(|error| format!("standard output: {error}"))
}
