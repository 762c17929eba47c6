//! From a file to a judgement: what the command line does, for programs.

use crate::causal::{self, Isolation};
use crate::eventual;
use crate::formats::{self, Broken, Loaded};
use crate::linearizability::{Verdict, check_recording};
use crate::multi;
use crate::names::Names;
use crate::page;
use crate::recording::Recording;
use crate::sessions;
use crate::show;
use crate::through::{self, Through};
use crate::transactions::Transactions;
use crate::unjudged::NotJudged;
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
            let (start, mut unjudged) = (Instant::now(), NotJudged::default());
            let outcome = match isolation(level) {
                Some(isolation) => Outcome::Anomaly(causal::check_and_count(
                    transactions,
                    isolation,
                    &demand.limits,
                    &mut unjudged,
                )),
                None if level == Level::Linearizable => {
                    Outcome::Transactions(multi::check(transactions, &demand.options, &demand.limits))
                }
                None => return Err("transactions are judged at the levels linearizable, causal, cc, ccv, cm, read-atomic and read-committed".into()),
            };
            Ok(Judgement {
                operations: transactions.accesses.len(),
                keys: transactions.keys.len(),
                seconds: start.elapsed().as_secs_f64(),
                unjudged,
                ..Judgement::new(level, outcome)
            })
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

fn operations(recording: &Recording, demand: &Demand) -> Judgement {
    let level = demand.level.unwrap_or(Level::Linearizable);
    let (start, mut unjudged) = (Instant::now(), NotJudged::default());
    let (mut shown, mut names, mut keys) = (Vec::new(), Names::new(), recording.keys.len());
    let outcome = match (level, isolation(level)) {
        (Level::Linearizable, _) => {
            let report = check_recording(recording, &demand.options, &demand.limits);
            unjudged.weak_reads = show::weak_reads(recording);
            keys = report.keys;
            if let Verdict::Violated(example) = &report.verdict {
                (shown, names) = show::around(recording, example);
            }
            Outcome::Linearizability(report)
        }
        (Level::Eventual, _) => Outcome::Anomaly(eventual::check(recording, &demand.options, &demand.limits)),
        (_, None) => Outcome::Anomaly(sessions::check_and_count(recording, &demand.limits, &mut unjudged)),
        (_, Some(isolation)) => {
            let transactions = Transactions::of(recording);
            let found = causal::check_and_count(&transactions, isolation, &demand.limits, &mut unjudged);
            Outcome::Anomaly(found.map(|mut found| {
                if let Some(pattern) = found.as_mut().and_then(|anomaly| anomaly.pattern.as_mut()) {
                    show::as_operations(recording, &transactions.sources, pattern);
                }
                found
            }))
        }
    };
    Judgement {
        operations: recording.records.len(),
        keys,
        seconds: start.elapsed().as_secs_f64(),
        shown,
        names,
        unjudged,
        ..Judgement::new(level, outcome)
    }
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
