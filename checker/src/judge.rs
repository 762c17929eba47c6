//! From a file to a judgement: what the command line does, for programs.

use crate::causal::{self, Isolation};
use crate::eventual;
use crate::formats::{self, Format, Loaded, Reading};
use crate::linearizability::{Limits, Options, Verdict, check_recording};
use crate::page;
use crate::recording::Recording;
use crate::sessions;
use crate::show;
use crate::transactions::Transactions;
use std::fs::File;
use std::path::Path;
use std::time::Instant;

pub use crate::judgement::{Judgement, Level, Outcome};

/// How to judge.
#[derive(Debug, Clone, Default)]
pub struct Demand {
    /// What is demanded; linearizable of operations and causal convergence of transactions unless told.
    pub level: Option<Level>,
    /// Format of the file, unless it shall be found out.
    pub format: Option<Format>,
    /// How the file is to be understood.
    pub reading: Reading,
    /// What linearizability may assume.
    pub options: Options,
    /// What may be spent.
    pub limits: Limits,
}

/// Reads and judges a file. `Err` is one line that names the place.
pub fn file(path: &Path, demand: &Demand) -> Result<Judgement, String> {
    let name = path.display();
    let file = File::open(path).map_err(|error| format!("{name}: {error}"))?;
    let start = Instant::now();
    let loaded =
        formats::read(file, demand.format, &demand.reading).map_err(|bad| format!("{name}:{bad}"))?;
    let seconds = start.elapsed().as_secs_f64();
    let mut judgement = loaded_history(&loaded, demand).map_err(|reason| format!("{name}: {reason}"))?;
    judgement.reading_seconds = seconds;
    Ok(judgement)
}

/// Judges a history that was read.
pub fn loaded_history(loaded: &Loaded, demand: &Demand) -> Result<Judgement, String> {
    match loaded {
        Loaded::Operations(recording) => Ok(operations(recording, demand)),
        Loaded::Transactions(transactions) => {
            let level = demand.level.unwrap_or(Level::CausalConvergence);
            let isolation = isolation(level).ok_or(
                "transactions are judged at the levels causal, cc, ccv, cm, read-atomic and read-committed",
            )?;
            let start = Instant::now();
            let found = causal::check(transactions, isolation, &demand.limits);
            Ok(judged(level, transactions, Outcome::Anomaly(found), start))
        }
    }
}

fn isolation(level: Level) -> Option<Isolation> {
    match level {
        Level::Causal => Some(Isolation::Causal),
        Level::CausalConvergence => Some(Isolation::CausalConvergence),
        Level::CausalMemory => Some(Isolation::CausalMemory),
        Level::ReadAtomic => Some(Isolation::ReadAtomic),
        Level::ReadCommitted => Some(Isolation::ReadCommitted),
        Level::Linearizable | Level::Session | Level::Eventual => None,
    }
}

fn judged(level: Level, transactions: &Transactions, outcome: Outcome, start: Instant) -> Judgement {
    let mut notes = Vec::new();
    if transactions.ambiguous > 0 {
        notes.push(format!(
            "{} reads were left out: more than one write may be what they saw",
            transactions.ambiguous
        ));
    }
    Judgement {
        level,
        operations: transactions.accesses.len(),
        keys: transactions.keys.len(),
        reading_seconds: 0.0,
        seconds: start.elapsed().as_secs_f64(),
        outcome,
        notes,
        shown: Vec::new(),
    }
}

fn operations(recording: &Recording, demand: &Demand) -> Judgement {
    let level = demand.level.unwrap_or(Level::Linearizable);
    let start = Instant::now();
    if level == Level::Linearizable {
        let report = check_recording(recording, &demand.options, &demand.limits);
        let seconds = start.elapsed().as_secs_f64();
        let shown = match &report.verdict {
            Verdict::Violated(example) => show::around(recording, example),
            _ => Vec::new(),
        };
        return Judgement {
            level,
            operations: recording.records.len(),
            keys: report.keys,
            reading_seconds: 0.0,
            seconds,
            outcome: Outcome::Linearizability(report),
            notes: Vec::new(),
            shown,
        };
    }
    if level == Level::Eventual {
        let outcome = Outcome::Anomaly(eventual::check(recording, &demand.options, &demand.limits));
        return Judgement {
            operations: recording.records.len(),
            ..judged(
                level,
                &Transactions { keys: recording.keys.clone(), ..Transactions::default() },
                outcome,
                start,
            )
        };
    }
    let transactions = Transactions::of(recording);
    let found = match isolation(level) {
        Some(isolation) => causal::check(&transactions, isolation, &demand.limits),
        None => sessions::check(recording, &demand.limits),
    };
    judged(level, &transactions, Outcome::Anomaly(found), start)
}

impl Judgement {
    /// The verdict in a word: holds, violated, undecided.
    pub fn word(&self) -> &'static str {
        match &self.outcome {
            Outcome::Linearizability(report) => match report.verdict {
                Verdict::Holds => "holds",
                Verdict::Violated(_) => "violated",
                Verdict::Undecided { .. } => "undecided",
            },
            Outcome::Anomaly(Ok(None)) => "holds",
            Outcome::Anomaly(Ok(Some(_))) => "violated",
            Outcome::Anomaly(Err(_)) => "undecided",
        }
    }

    /// The exit code: 0 holds, 1 violated, 3 undecided.
    pub fn code(&self) -> u8 {
        match self.word() {
            "holds" => 0,
            "violated" => 1,
            _ => 3,
        }
    }

    /// As text for people.
    pub fn text(&self, name: &str) -> String {
        show::text(self, name)
    }

    /// As one line of JSON.
    pub fn json(&self, name: &str) -> String {
        show::json(self, name).to_string()
    }

    /// As a page for a browser, in one file.
    pub fn html(&self, name: &str) -> String {
        page::html(self, name)
    }
}
