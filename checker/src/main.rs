//! Command line of the checker: `samara-check FILE...`.

use clap::Parser;
use samara_check::formats::{FailedCas, Format, Nil, Reading};
use samara_check::judge::{self, Demand, Judgement, Level};
use samara_check::linearizability::{Limits, Options};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Judges recorded histories: exit 0 holds, 1 violated, 2 bad input, 3 not decided in time.
#[derive(Parser)]
#[command(name = "samara-check", version)]
struct Arguments {
    /// Recorded histories; - for what comes through standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What is demanded. Without it: linearizable of operations, causal of transactions.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(Level::names()))]
    level: Option<String>,
    /// Format of the files.
    #[arg(long, value_parser = ["auto", "jsonl", "json", "edn", "etcd-log", "awdit"], default_value = "auto")]
    format: String,
    /// What the keys are: kv; register, of which JSON need name no key; counter, of which an absent one is 0; multi-register: every operation is a list of
    /// reads and writes of registers, and all registers are one object.
    #[arg(long, value_parser = ["register", "kv", "counter", "multi-register"], default_value = "kv")]
    model: String,
    /// The value of every key before the first operation, nil for none; absent unless told, and the empty string in EDN with :key.
    #[arg(long)]
    init: Option<String>,
    /// What a read of nil means; unless told any value in EDN, and absent elsewhere.
    #[arg(long, value_parser = ["any", "absent"])]
    nil: Option<String>,
    /// What a failed cas means; unless told a mismatch in etcd logs, and that it did not happen elsewhere.
    #[arg(long, value_parser = ["mismatch", "did-not-happen"])]
    failed_cas: Option<String>,
    /// Values are [key value], as Jepsen's independent keys are.
    #[arg(long)]
    independent: bool,
    /// Seconds after which what is not decided is given up.
    #[arg(long, value_name = "S")]
    timeout: Option<f64>,
    /// Threads; as many as the machine has cores unless told.
    #[arg(long)]
    threads: Option<usize>,
    /// Write the explanation of a violation as a page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print the verdicts as JSON, one line for each file.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn demand(&self) -> Result<Demand, String> {
        let level = self.level.as_deref().and_then(Level::named);
        let format = match self.format.as_str() {
            "jsonl" => Some(Format::Jsonl),
            "json" => Some(Format::Json),
            "edn" => Some(Format::Edn),
            "etcd-log" => Some(Format::EtcdLog),
            "awdit" => Some(Format::Awdit),
            _ => None,
        };
        let reading = Reading {
            nil: self.nil.as_deref().map(|nil| if nil == "any" { Nil::Any } else { Nil::Absent }),
            failed_cas: self.failed_cas.as_deref().map(|meaning| match meaning {
                "mismatch" => FailedCas::Mismatch,
                _ => FailedCas::DidNotHappen,
            }),
            initial: self.init.as_ref().filter(|init| *init != "nil").map(|init| init.clone().into_bytes()),
            initially_absent: self.init.as_deref() == Some("nil"),
            independent: self.independent,
            register: self.model == "register",
            counter: self.model == "counter",
            multi: self.model == "multi-register",
        };
        let timeout = match self.timeout {
            None => None,
            Some(seconds) => Some(
                Duration::try_from_secs_f64(seconds)
                    .map_err(|_| format!("--timeout {seconds} is no number of seconds"))?,
            ),
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = self.threads.unwrap_or(cores).max(1);
        // With a timeout it is time that ends a search, without one the number of steps.
        let steps_max = if timeout.is_some() { u64::MAX } else { Options::default().steps_max };
        Ok(Demand {
            level,
            format,
            reading,
            options: Options { steps_max, ..Options::default() },
            limits: Limits { timeout, threads, ..Limits::default() },
            keep: None,
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8, String> {
    let demand = arguments.demand()?;
    let mut worst = 0;
    for path in &arguments.files {
        let mut judgement = if path.as_os_str() == "-" {
            judge::reader(std::io::stdin().lock(), "-", &demand)?
        } else {
            judge::file(path, &demand)?
        };
        // Two names may be of one level: it is told by the one that was given.
        let given = Level::names().find(|name| arguments.level.as_deref() == Some(*name));
        judgement.level_name = given.unwrap_or(judgement.level_name);
        if arguments.json {
            println!("{}", judgement.json(&path.display().to_string()));
        } else {
            print!("{}", judgement.text(&path.display().to_string()));
        }
        if let Some(page) = &arguments.html {
            write_page(page, &judgement, path)?;
        }
        // Violated outweighs undecided.
        worst = match (worst, judgement.code()) {
            (1, _) | (_, 1) => 1,
            (before, now) => before.max(now),
        };
    }
    Ok(worst)
}

fn write_page(page: &PathBuf, judgement: &Judgement, path: &std::path::Path) -> Result<(), String> {
    std::fs::write(page, judgement.html(&path.display().to_string()))
        .map_err(|error| format!("{}: {error}", page.display()))
}
