//! From a file to a judgement: what the command line does, for programs.

use crate::causal::{self, Isolation};
use crate::eventual;
use crate::formats::{self, Broken, Loaded};
use crate::linearizability::{Verdict, check_recording};
use crate::multi;
use crate::page;
use crate::recording::Recording;
use crate::sessions;
use crate::show;
use crate::through::{self, Through};
use crate::transactions::Transactions;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use crate::judgement::NOTHING_JUDGED;
pub use crate::judgement::{Demand, Judgement, Level, Outcome};

/// Reads and judges a file. `Err` is one line that names the place.
///
/// Linearizability is judged while the file is read, and what is decided is let go of: see `docs/CHECKER.md` for what bounds the memory.
pub fn file(path: &Path, demand: &Demand) -> Result<Judgement, String> {
    let name = path.display();
    let open = || File::open(path).map_err(|error| format!("{name}: {error}"));
    let input = open()?;
    let again = input.metadata().is_ok_and(|metadata| metadata.is_file());
    match judged_through(input, demand) {
        // What is out of order can be judged as a whole.
        Err(Broken::OutOfOrder(_)) if again => {
            whole(open()?, demand).map_err(|broken| broken.line(&name.to_string()))
        }
        judged => judged.map_err(|broken| broken.line(&name.to_string())),
    }
}

/// Reads and judges what comes from elsewhere than a file; `name` stands for it in messages.
///
/// ```
/// use samara_check::judge::{Demand, reader};
///
/// let history = r#"{"process":0,"type":"invoke","f":"put","key":"k","value":"a"}
/// {"process":0,"type":"ok","f":"put","key":"k"}
/// {"process":0,"type":"invoke","f":"get","key":"k"}
/// {"process":0,"type":"ok","f":"get","key":"k","value":null}"#;
/// let judgement = reader(history.as_bytes(), "stdin", &Demand::default())?;
/// assert_eq!(judgement.word(), "violated");
/// assert!(judgement.text("stdin").contains("not linearizable"));
/// # Ok::<(), String>(())
/// ```
pub fn reader(input: impl Read, name: &str, demand: &Demand) -> Result<Judgement, String> {
    judged_through(input, demand).map_err(|broken| broken.line(name))
}

fn judged_through(input: impl Read, demand: &Demand) -> Result<Judgement, Broken> {
    match demand.level {
        None | Some(Level::Linearizable) => match through::linearizable(input, demand)? {
            Through::Judged(judgement) => Ok(judgement),
            Through::Unjudged(loaded, seconds) => {
                let mut judgement = loaded_history(&loaded, demand).map_err(Broken::Demand)?;
                judgement.reading_seconds = seconds;
                Ok(judgement)
            }
        },
        Some(_) => whole(input, demand),
    }
}

fn whole(input: impl Read, demand: &Demand) -> Result<Judgement, Broken> {
    let start = Instant::now();
    let loaded = formats::read(input, demand.format, &demand.reading)?;
    let seconds = start.elapsed().as_secs_f64();
    let mut judgement = loaded_history(&loaded, demand).map_err(Broken::Demand)?;
    judgement.reading_seconds = seconds;
    if judgement.operations == 0 {
        judgement.notes.push(NOTHING_JUDGED.into());
    }
    Ok(judgement)
}

/// Judges a history that was read.
pub fn loaded_history(loaded: &Loaded, demand: &Demand) -> Result<Judgement, String> {
    match loaded {
        Loaded::Operations(recording) => Ok(operations(recording, demand)),
        Loaded::Transactions(transactions) => {
            let custom = if demand.reading.multi { Level::Linearizable } else { Level::CausalConvergence };
            let level = demand.level.unwrap_or(custom);
            let start = Instant::now();
            let found = match isolation(level) {
                Some(isolation) => {
                    Outcome::Anomaly(causal::check(transactions, isolation, &demand.limits))
                }
                None if level == Level::Linearizable => {
                    Outcome::Transactions(multi::check(transactions, &demand.options, &demand.limits))
                }
                None => return Err("transactions are judged at the levels linearizable, causal, cc, ccv, cm, read-atomic and read-committed".into()),
            };
            Ok(judged(level, transactions, found, start))
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
        let_go: 0,
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
            let_go: 0,
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
        Some(isolation) => causal::check(&transactions, isolation, &demand.limits).map(|mut found| {
            if let Some(pattern) = found.as_mut().and_then(|anomaly| anomaly.pattern.as_mut()) {
                show::as_operations(recording, &transactions.sources, pattern);
            }
            found
        }),
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
            Outcome::Anomaly(Ok(None)) | Outcome::Transactions(Ok(None)) => "holds",
            Outcome::Anomaly(Ok(Some(_))) | Outcome::Transactions(Ok(Some(_))) => "violated",
            Outcome::Anomaly(Err(_)) | Outcome::Transactions(Err(_)) => "undecided",
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
