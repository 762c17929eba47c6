//! Command line of the checker: `samara-check FILE...`.

use clap::Parser;
use samara_check::history::{History, Operation};
use samara_check::jsonl;
use samara_check::linearizability::{self, Options, Verdict};
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Judges recorded histories: exit 0 holds, 1 violated, 2 bad input, 3 not decided.
#[derive(Parser)]
#[command(name = "samara-check", version)]
struct Arguments {
    /// Histories as JSON lines.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// What is demanded; only linearizable so far.
    #[arg(long, value_parser = ["linearizable"], default_value = "linearizable")]
    level: String,
    /// Format of the files; only jsonl so far.
    #[arg(long, value_parser = ["auto", "jsonl"], default_value = "auto")]
    format: String,
    /// Print the verdict as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut worst = 0;
    for file in &arguments.files {
        worst = worst.max(match judge(file, arguments.json) {
            Ok(code) => code,
            Err(reason) => {
                eprintln!("{reason}");
                return ExitCode::from(2);
            }
        });
    }
    ExitCode::from(worst)
}

fn judge(path: &PathBuf, json: bool) -> Result<u8, String> {
    let name = path.display();
    let file = File::open(path).map_err(|error| format!("{name}: {error}"))?;
    let history = jsonl::read(BufReader::new(file))
        .map_err(|bad| format!("{name}:{}:{}: {}", bad.line, bad.column, bad.reason))?;
    let start = Instant::now();
    let verdict = linearizability::check(&history, &Options::default());
    let seconds = start.elapsed().as_secs_f64();
    let (word, code) = match &verdict {
        Verdict::Holds => ("holds", 0),
        Verdict::Violated(_) => ("violated", 1),
        Verdict::Undecided { .. } => ("undecided", 3),
    };
    if json {
        println!("{}", report(&history, &verdict, word, seconds));
        return Ok(code);
    }
    println!("{name}: {word} ({} operations, {seconds:.3} s)", history.operations.len());
    if let Verdict::Violated(example) = &verdict {
        println!("key {:?} is not linearizable; in order so far:", String::from_utf8_lossy(&example.key));
        example.prefix.iter().for_each(|operation| println!("  {}", line(operation)));
        println!("cannot be placed:\n  {}", line(&example.stuck));
    }
    Ok(code)
}

fn line(operation: &Operation) -> String {
    format!(
        "process {} {:?} -> {:?} [{}..{}]",
        operation.process, operation.function, operation.outcome, operation.call, operation.ret
    )
}

fn report(history: &History, verdict: &Verdict, word: &str, seconds: f64) -> serde_json::Value {
    let keys: std::collections::BTreeSet<_> =
        history.operations.iter().map(|operation| &operation.key).collect();
    let counterexample = match verdict {
        Verdict::Violated(example) => {
            let prefix: Vec<String> = example.prefix.iter().map(line).collect();
            serde_json::json!({
                "key": String::from_utf8_lossy(&example.key), "prefix": prefix, "stuck": line(&example.stuck),
            })
        }
        _ => serde_json::Value::Null,
    };
    serde_json::json!({
        "verdict": word, "operations": history.operations.len(), "keys": keys.len(), "seconds": seconds,
        "counterexample": counterexample,
    })
}
