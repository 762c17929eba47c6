//! One key that everybody counts on: INCR by many clients, against transactions on one key in etcd.
//!
//! `cargo bench -p samara-tests --bench hot_key` starts three nodes of each on this machine (`etcd` and `etcdctl` in the path) and prints a table; rounds
//! alternate, and medians are of all rounds. Every server writes to the same disk and answers after its sync. Three figures:
//!
//! - samara: `samara bench --workload incr --keys 1`, its clients spread over the three nodes, strong, durability sync;
//! - etcd, counter: what a counter on which all clients work takes in etcd: a transaction that compares the revision that was read and puts the next
//!   number, and has the present one in its answer where it fails. Each count that was added is one operation; most transactions fail, because the
//!   others were faster;
//! - etcd, put: a transaction of one unconditional put on the key. It counts nothing: it is the most that etcd takes on one key.
//!
//! To etcd's advantage all of its clients speak to its leader, each over a connection of its own that stays open, without TLS and without names being looked up.
//! The figures decide no test.

mod etcd;
mod messages;
mod servers;

use servers::{Etcd, Samara};
use std::process::ExitCode;
use std::time::Duration;

/// What one round has shown.
#[derive(Clone, Copy, Debug)]
struct Figures {
    operations: u64,
    seconds: f64,
    p50: Duration,
    p99: Duration,
}

impl Figures {
    fn per_second(&self) -> f64 {
        self.operations as f64 / self.seconds
    }
}

struct Options {
    rounds: usize,
    seconds: f64,
    clients: usize,
}

/// `--rounds`, `--seconds` and `--clients`; other words are cargo's.
fn options() -> Result<Options, String> {
    let mut options = Options { rounds: 5, seconds: 5.0, clients: 50 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Result<f64, String> {
            let number =
                words.next().and_then(|number| number.parse::<f64>().ok()).filter(|number| *number >= 1.0);
            number.ok_or_else(|| format!("{word}: give a number of at least 1"))
        };
        match word.as_str() {
            "--rounds" => options.rounds = number()? as usize,
            "--seconds" => options.seconds = number()?,
            "--clients" => options.clients = number()? as usize,
            "--bench" => {}
            other => return Err(format!("{other}: give --rounds N, --seconds S, --clients N")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let samara = Samara::start()?;
    let etcd = Etcd::start()?;
    let leader = etcd.leader()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let mut columns: [Vec<Figures>; 3] = Default::default();
    println!(
        "{} clients, {} s a round; operations a second (p50, p99 in ms)\n",
        options.clients, options.seconds
    );
    println!("| round | samara INCR | etcd counter | etcd put |\n| --- | --- | --- | --- |");
    for round in 1..=options.rounds {
        let time = Duration::from_secs_f64(options.seconds);
        let row = [
            samara.increments(options.clients, options.seconds)?,
            runtime.block_on(etcd::run(leader, options.clients, time, etcd::Operation::Count))?,
            runtime.block_on(etcd::run(leader, options.clients, time, etcd::Operation::Put))?,
        ];
        println!("| {round} | {} |", row.map(|figures| cell(&figures)).join(" | "));
        columns.iter_mut().zip(row).for_each(|(column, figures)| column.push(figures));
    }
    let [ours, counter, put] = columns.map(|column| median(&column));
    println!("| median | {ours:.0} | {counter:.0} | {put:.0} |\n");
    println!("ours / etcd counter {:.1}, ours / etcd put {:.1}", ours / counter, ours / put);
    Ok(())
}

fn cell(figures: &Figures) -> String {
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    format!("{:.0} ({:.2}, {:.2})", figures.per_second(), ms(figures.p50), ms(figures.p99))
}

fn median(column: &[Figures]) -> f64 {
    let mut sorted: Vec<f64> = column.iter().map(Figures::per_second).collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
