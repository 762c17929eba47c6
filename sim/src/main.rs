//! Command line of the simulator: `cargo sim ...`.

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use samara_core::base::planted::{self, Bug};
use samara_sim::batch::{self, Batch, Manner};
use samara_sim::plan::Plan;
use samara_sim::promises;
use samara_sim::scenario::{self, Scenario};
use samara_sim::shrink::{self, Budget};
use samara_sim::situations;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Runs the state machine of samara in a simulated world that breaks.
#[derive(Parser)]
#[command(name = "samara-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run seeds of scenarios, and have the checker judge each run.
    Run(Run),
    /// List scenarios, situations and planted bugs.
    List,
    /// Run each seed twice, in different processes, and compare what happened.
    Determinism {
        /// Seeds, as A..B.
        #[arg(long, value_parser = parse_seeds)]
        seeds: Seeds,
        /// Print the hash of each seed instead (what the processes compare).
        #[arg(long, hide = true)]
        print: bool,
    },
    /// Plant each bug, and see whether it is caught.
    Bugs {
        /// Only this bug.
        #[arg(long)]
        only: Option<String>,
        /// Seeds to try for each.
        #[arg(long, default_value_t = 2_000)]
        seeds: u64,
        /// Write the result as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Write the plan of a seed as a file.
    Plan {
        /// The seed.
        #[arg(long, value_parser = parse_seed)]
        seed: u64,
        /// The scenario.
        #[arg(default_value = "swarm")]
        scenario: String,
        /// Where to.
        #[arg(short)]
        output: PathBuf,
    },
    /// Find a small plan that fails as a seed does, and write it as a file.
    Shrink {
        /// The seed that fails.
        #[arg(long, value_parser = parse_seed)]
        seed: u64,
        /// The scenario.
        #[arg(default_value = "swarm")]
        scenario: String,
        /// Where to.
        #[arg(short)]
        output: PathBuf,
        /// Shrink a failure of this planted bug.
        #[arg(long)]
        bug: Option<String>,
        /// Runs to spend.
        #[arg(long, default_value_t = 4_000)]
        runs: u64,
    },
    /// Run a plan from a file; exit 1 while it fails.
    Replay {
        /// The plan.
        plan: PathBuf,
        /// With this bug planted.
        #[arg(long)]
        bug: Option<String>,
    },
}

#[derive(clap::Args)]
struct Run {
    /// Scenarios: names or files (default: swarm).
    scenarios: Vec<String>,
    /// One seed, decimal or 0x hex.
    #[arg(long, value_parser = parse_seed, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Seeds, as A..B.
    #[arg(long, value_parser = parse_seeds)]
    seeds: Option<Seeds>,
    /// Threads (default: all cores).
    #[arg(long)]
    jobs: Option<usize>,
    /// Run the i-th of n parts of the seeds, as i/n.
    #[arg(long, value_parser = parse_partition, default_value = "0/1")]
    partition: (u64, u64),
    /// Give the clients work, and go on with the faults, for about so many virtual seconds in each run.
    #[arg(long)]
    virtual_seconds: Option<u64>,
    /// Write the result as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// No progress bar.
    #[arg(long)]
    no_progress: bool,
}

#[derive(Clone, Copy)]
struct Seeds {
    from: u64,
    to: u64,
}

fn parse_seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is not a seed: give a number, decimal or 0x hex"))
}

fn parse_seeds(text: &str) -> Result<Seeds, String> {
    let (from, to) = text.split_once("..").ok_or("give a range of seeds as A..B")?;
    let seeds = Seeds { from: parse_seed(from)?, to: parse_seed(to)? };
    if seeds.from < seeds.to { Ok(seeds) } else { Err(format!("{text} holds no seed")) }
}

fn parse_partition(text: &str) -> Result<(u64, u64), String> {
    let bad = || format!("{text:?} is not a part: give i/n with i below n");
    let (part, parts) = text.split_once('/').ok_or_else(bad)?;
    let (part, parts) = (part.parse().map_err(|_| bad())?, parts.parse().map_err(|_| bad())?);
    if part < parts { Ok((part, parts)) } else { Err(bad()) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    batch::quiet_panics();
    let result = match arguments.command {
        Verb::Run(run) => run_scenarios(&run),
        Verb::List => {
            list();
            Ok(true)
        }
        Verb::Determinism { seeds, print } => determinism(seeds, print),
        Verb::Bugs { only, seeds, json } => bugs(only.as_deref(), seeds, json.as_ref()),
        Verb::Plan { seed, scenario, output } => write_plan(seed, &scenario, &output),
        Verb::Shrink { seed, scenario, output, bug, runs } => {
            with_bug(bug.as_deref(), || shrink_seed(seed, &scenario, &output, runs))
        }
        Verb::Replay { plan, bug } => with_bug(bug.as_deref(), || replay(&plan)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(2)
        }
    }
}

fn jobs(wanted: Option<usize>) -> usize {
    wanted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

fn run_scenarios(run: &Run) -> Result<bool, String> {
    let names = if run.scenarios.is_empty() { vec!["swarm".to_string()] } else { run.scenarios.clone() };
    let scenarios: Vec<(String, Scenario)> = names
        .into_iter()
        .map(|name| scenario::find(&name).map(|found| (name, found)))
        .collect::<Result<_, _>>()?;
    let range = match (run.seed, run.seeds) {
        (Some(seed), _) => Seeds { from: seed, to: seed + 1 },
        (None, Some(seeds)) => seeds,
        (None, None) => Seeds { from: 0, to: 100 },
    };
    let (part, parts) = run.partition;
    let seeds: Vec<u64> = (range.from..range.to).filter(|seed| seed % parts == part).collect();
    let progress = !run.no_progress && std::io::stderr().is_terminal();
    let virtual_seconds = run.virtual_seconds;
    let manner = Manner { jobs: jobs(run.jobs), progress, stop: false, virtual_seconds };
    let longer = virtual_seconds.map(|seconds| format!(" --virtual-seconds {seconds}")).unwrap_or_default();
    let start = Instant::now();
    let mut total = Batch::default();
    let mut failures = Vec::new();
    for (name, scenario) in &scenarios {
        let batch = batch::run(scenario, &seeds, &manner);
        for (seed, reason) in &batch.failures {
            let command = format!("cargo sim run {name} --seed {seed:#x}{longer}");
            println!("seed {seed:#x} of {name} failed: {reason}\n  repeat it: {command}");
            failures.push(serde_json::json!({ "seed": seed, "reason": reason, "command": command }));
        }
        let missing = if scenario.name == "swarm" && seeds.len() as u64 >= batch::SITUATIONS_FROM {
            batch.missing()
        } else if seeds.len() as u64 >= batch::DEMANDS_FROM {
            let demands = scenario.demands.iter().map(String::as_str);
            demands.filter(|name| !batch.situations.contains_key(name)).collect()
        } else {
            vec![]
        };
        if !missing.is_empty() {
            let reason = format!("these situations were never reached: {}", missing.join(", "));
            println!("{name}: {reason}");
            failures.push(
                serde_json::json!({ "seed": range.from, "reason": reason, "command": "cargo sim list" }),
            );
        }
        total.passed += batch.passed;
        total.events += batch.events;
        total.virtual_seconds += batch.virtual_seconds;
        total.operations += batch.operations;
        total.calm += batch.calm;
        for (situation, count) in batch.situations {
            *total.situations.entry(situation).or_default() += count;
        }
    }
    let wall = start.elapsed().as_secs_f64();
    if let Some(file) = &run.json {
        let report = serde_json::json!({
            "passed": total.passed, "failed": failures.len(), "failures": failures, "events": total.events,
            "virtual_seconds": total.virtual_seconds, "wall_seconds": wall, "operations": total.operations,
            "situations": total.situations, "without_faults": total.calm,
        });
        std::fs::write(file, report.to_string()).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    println!(
        "{} operations, {} events, {:.0} virtual seconds in {wall:.1} s; {} runs without a fault",
        total.operations, total.events, total.virtual_seconds, total.calm
    );
    println!("{} passed, {} failed", total.passed, failures.len());
    Ok(failures.is_empty())
}

fn list() {
    println!("scenarios:");
    for scenario in scenario::built_in() {
        println!("  {:<16} {}", scenario.name, scenario.about);
    }
    println!("situations that a batch of swarm must reach:");
    situations::demanded().for_each(|name| println!("  {name}"));
    println!("checkers:");
    for (name, about) in promises::CHECKERS {
        println!("  {name:<16} {about}");
    }
    println!("planted bugs:");
    for (_, name) in Bug::ALL {
        println!("  {name}");
    }
}

fn determinism(seeds: Seeds, print: bool) -> Result<bool, String> {
    let scenario = scenario::find("swarm")?;
    if print {
        for seed in seeds.from..seeds.to {
            let report = batch::run_seed(&scenario, seed, None);
            println!("{seed:#x} {:016x} {}", report.trace, report.events);
        }
        return Ok(true);
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let range = format!("{}..{}", seeds.from, seeds.to);
    let spawn = || {
        let output = Command::new(&program).args(["determinism", "--print", "--seeds", &range]).output();
        output.map_err(|error| format!("{}: {error}", program.display()))
    };
    let (first, second) = (spawn()?, spawn()?);
    let (first, second) = (String::from_utf8_lossy(&first.stdout), String::from_utf8_lossy(&second.stdout));
    let different: Vec<(&str, &str)> = first.lines().zip(second.lines()).filter(|(a, b)| a != b).collect();
    for (a, b) in &different {
        println!("one process saw {a}, another {b}");
    }
    let count = (seeds.to - seeds.from) as usize;
    let whole = first.lines().count() == count && second.lines().count() == count;
    let same = if whole { count - different.len() } else { 0 };
    println!("{same} passed, {} failed", count - same);
    Ok(same == count)
}

/// Scenarios that are tried, in turn, for each planted bug.
const HUNTING_GROUNDS: [&str; 11] = [
    "bug_hunt",
    "retry_storm",
    "mixed_levels",
    "handoff",
    "several_keys",
    "late_messages",
    "clock_skew",
    "delete_forever",
    "disk_damage",
    "wrong_disk",
    "swarm",
];

fn bugs(only: Option<&str>, seeds: u64, json: Option<&PathBuf>) -> Result<bool, String> {
    let chosen: Vec<_> = Bug::ALL.iter().filter(|(_, name)| only.is_none_or(|only| only == *name)).collect();
    if chosen.is_empty() {
        return Err(format!("no planted bug is called {:?}; see cargo sim list", only.unwrap_or_default()));
    }
    let grounds: Vec<Scenario> =
        HUNTING_GROUNDS.iter().map(|name| scenario::find(name)).collect::<Result<_, _>>()?;
    let (mut caught, mut rows) = (0, Vec::new());
    for (bug, name) in &chosen {
        planted::plant(Some(*bug));
        let found = hunt(&grounds, seeds);
        planted::plant(None);
        match &found {
            Some((tried, scenario, seed, reason)) => {
                caught += 1;
                let line = reason.lines().next().unwrap_or_default();
                println!("{name}: caught after {tried} seeds ({scenario} {seed:#x}): {line}");
            }
            None => println!("{name}: NOT caught within {seeds} seeds"),
        }
        rows.push(serde_json::json!({
            "bug": name, "caught": found.is_some(), "seeds": found.as_ref().map(|found| found.0),
            "scenario": found.as_ref().map(|found| found.1.clone()), "anomaly": found.as_ref().map(|found| found.3.clone()),
        }));
    }
    if let Some(file) = json {
        let report = serde_json::json!({ "bugs": rows });
        std::fs::write(file, report.to_string()).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    println!("{caught} passed, {} failed", chosen.len() - caught);
    Ok(caught == chosen.len())
}

/// Tries seeds in small batches, one scenario after the other, until one fails.
fn hunt(grounds: &[Scenario], seeds: u64) -> Option<(u64, String, u64, String)> {
    let piece = 4;
    let mut tried = 0;
    let mut from = 0;
    while tried < seeds {
        for scenario in grounds {
            let range: Vec<u64> = (from..from + piece).collect();
            let batch =
                batch::run(scenario, &range, &Manner { jobs: jobs(None), stop: true, ..Manner::default() });
            if let Some((seed, reason)) = batch.failures.first() {
                return Some((tried + seed - from + 1, scenario.name.clone(), *seed, reason.clone()));
            }
            tried += piece;
        }
        from += piece;
    }
    None
}

fn write_plan(seed: u64, scenario: &str, output: &PathBuf) -> Result<bool, String> {
    let plan = Plan::new(&scenario::find(scenario)?, seed, None);
    let text = toml::to_string(&plan).map_err(|error| error.to_string())?;
    std::fs::write(output, text).map_err(|error| format!("{}: {error}", output.display()))?;
    Ok(true)
}

/// With a bug planted, if one is named.
fn with_bug(name: Option<&str>, run: impl FnOnce() -> Result<bool, String>) -> Result<bool, String> {
    let Some(name) = name else { return run() };
    let found = Bug::ALL.iter().find(|(_, of)| *of == name);
    let (bug, _) = found.ok_or_else(|| format!("no planted bug is called {name:?}; see cargo sim list"))?;
    planted::plant(Some(*bug));
    let result = run();
    planted::plant(None);
    result
}

fn shrink_seed(seed: u64, scenario: &str, output: &PathBuf, runs: u64) -> Result<bool, String> {
    let plan = Plan::new(&scenario::find(scenario)?, seed, None);
    let bar = ProgressBar::new(runs);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {pos} of at most {len} runs, {eta} left at most: {msg}")
    {
        bar.set_style(style);
    }
    let told = |plan: &Plan, made: u64| {
        bar.set_position(made);
        bar.set_message(plan.size());
    };
    let shrunk = shrink::shrink(&plan, Budget { runs, ..Budget::default() }, told);
    bar.finish_and_clear();
    let Some(shrunk) = shrunk else {
        return Err(format!("seed {seed:#x} of {scenario} does not fail: there is nothing to shrink"));
    };
    let text = toml::to_string(&shrunk.plan).map_err(|error| error.to_string())?;
    let head = shrunk.reason.lines().next().unwrap_or_default();
    std::fs::write(output, format!("# {head}\n# Shrunk from seed {seed:#x} of {scenario}.\n{text}"))
        .map_err(|error| format!("{}: {error}", output.display()))?;
    println!("from {} to {} in {} runs: {}", plan.size(), shrunk.plan.size(), shrunk.runs, shrunk.reason);
    println!("  repeat it: cargo sim replay {}", output.display());
    Ok(true)
}

fn replay(path: &PathBuf) -> Result<bool, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let plan: Plan = toml::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
    let report = batch::run_plan(&plan);
    if let Some(reason) = &report.failure {
        println!("{name} fails: {reason}");
    }
    let failed = usize::from(report.failure.is_some());
    println!("{} passed, {failed} failed", 1 - failed);
    Ok(failed == 0)
}
