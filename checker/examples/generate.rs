//! Makes a history to try a checker with, as JSON lines: `cargo run --release -p samara-check --example generate -- --operations 100000 --lies 1`.

use clap::Parser;
use samara_check::generate::{Mix, Workload, Written, generate};
use samara_check::jsonl;
use std::io::Write;
use std::process::ExitCode;

/// A store that is linearizable, watched by clients; with lies on demand.
#[derive(Parser)]
struct Arguments {
    /// The same seed makes the same history.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Operations in all.
    #[arg(long, default_value_t = 10_000)]
    operations: usize,
    /// Clients at work at a time.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Keys.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Values are chosen from so many; every value is written once unless told.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    values: Option<u64>,
    /// Parts of gets, puts, deletes, compare-and-sets.
    #[arg(long, default_value = "50,50,0,0", value_delimiter = ',')]
    mix: Vec<u32>,
    /// Of how many operations in a thousand the outcome is unknown: their client ends, and another begins.
    #[arg(long, default_value_t = 10)]
    unknown: u32,
    /// How many reads answer with a value that was overwritten for certain.
    #[arg(long, default_value_t = 0)]
    lies: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let &[get, put, delete, cas] = arguments.mix.as_slice() else {
        eprintln!("--mix takes four numbers: of gets, puts, deletes, compare-and-sets");
        return ExitCode::from(2);
    };
    let workload = Workload {
        seed: arguments.seed,
        operations: arguments.operations,
        clients: arguments.clients as usize,
        keys: arguments.keys as usize,
        written: arguments.values.map_or(Written::Unique, Written::Pool),
        mix: Mix { get, put, delete, cas, incr: 0 },
        unknown_per_mille: arguments.unknown,
        versions: false,
        lies: arguments.lies,
    };
    let text = jsonl::write(&generate(&workload).history());
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("standard output: {error}");
            ExitCode::FAILURE
        }
    }
}
