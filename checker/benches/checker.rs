//! The checker's figures, against a plain Wing-Gong-Lowe search of our own and stateright's linearizability tester.
//!
//! `cargo bench -p samara-check` prints a table; `cargo bench -p samara-check -- NAME` only the rows whose names contain NAME. Rounds alternate between the
//! checkers, and medians are of five; a peer that takes more than its limit is said to. The figures decide no test.

#[path = "support/mod.rs"]
mod support;

use samara_check::causal::{self, Isolation};
use samara_check::formats::{self, Format, Loaded, Reading};
use samara_check::generate::{Mix, Workload, Written, generate};
use samara_check::jsonl;
use samara_check::linearizability::{Limits, Options, check_recording};
use samara_check::recording::Recording;
use samara_check::transactions::Transactions;
use std::time::{Duration, Instant};
use support::{plain, rounds, row, stateright, verdict};

fn main() {
    if let Ok(name) = std::env::var(support::PEER) {
        if let Some(peer) = name.strip_prefix("etcd ") {
            println!("{}", etcd_peer(peer));
            return;
        }
        let workload = workloads().into_iter().find(|(of, _)| *of == name).expect("a workload").1;
        println!("{}", stateright(&generate(&workload)));
        return;
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    let wanted = |name: &str| name.contains(&filter);
    println!(
        "| what | ours, s | of the processor, s | verdict | plain search, s | stateright, s | peak MB so far |\n| --- | --- | --- | --- | --- | --- | --- |"
    );
    if wanted("etcd") {
        etcd();
    }
    for (name, workload) in workloads() {
        if wanted(name) {
            linearizability(name, &workload);
        }
    }
    if wanted("parse") {
        parse();
    }
    for (name, crashes) in [("causal 1M, 100 sessions", 0), ("causal 1M, 100 clients, 1 % crashes", 10)] {
        if wanted(name) {
            causality(name, crashes);
        }
    }
    if wanted("explain") {
        explanation();
    }
}

const REGISTER: Mix = Mix { get: 50, put: 50, delete: 0, cas: 0, incr: 0 };
const CONDITIONAL: Mix = Mix { get: 40, put: 20, delete: 10, cas: 30, incr: 0 };

fn workloads() -> Vec<(&'static str, Workload)> {
    let base = Workload { mix: REGISTER, ..Workload::default() };
    let small = Workload { operations: 10_000, clients: 50, keys: 1, unknown_per_mille: 10, ..base.clone() };
    let large = Workload { operations: 1_000_000, clients: 100, ..base };
    vec![
        ("10k, 1 key, 50 clients, 1 % unknown, unique", small.clone()),
        (
            "10k, 1 key, 50 clients, 1 % unknown, 5 values",
            Workload { written: Written::Pool(5), ..small.clone() },
        ),
        (
            "10k, 1 key, 50 clients, 1 % unknown, 100 values",
            Workload { written: Written::Pool(100), ..small.clone() },
        ),
        ("10k, 1 key, 50 clients, 1 % unknown, unique, with a lie", Workload { lies: 1, ..small.clone() }),
        (
            "10k, 1 key, 50 clients, 1 % unknown, 5 values, with a lie",
            Workload { written: Written::Pool(5), lies: 1, ..small.clone() },
        ),
        (
            "10k, 1 key, 50 clients, cas and deletes, 5 values",
            Workload { mix: CONDITIONAL, written: Written::Pool(5), ..small.clone() },
        ),
        (
            "10k, 1 key, 50 clients, cas and deletes, 100 values",
            Workload { mix: CONDITIONAL, written: Written::Pool(100), ..small.clone() },
        ),
        ("10k, 1 key, 50 clients, cas and deletes, unique", Workload { mix: CONDITIONAL, ..small.clone() }),
        (
            "10k, 1 key, 50 clients, cas and deletes, no unknown, versions",
            Workload {
                mix: CONDITIONAL,
                written: Written::Pool(5),
                unknown_per_mille: 0,
                versions: true,
                ..small.clone()
            },
        ),
        (
            "10k, 1 key, 50 clients, increments, 1 % unknown",
            Workload { mix: Mix { get: 1, put: 0, delete: 0, cas: 0, incr: 1 }, ..small },
        ),
        ("1M, 100 keys, 100 clients, unique", Workload { keys: 100, ..large.clone() }),
        (
            "1M, 100 keys, 100 clients, 10 values",
            Workload { keys: 100, written: Written::Pool(10), ..large.clone() },
        ),
        ("1M, 1 key, 100 clients, unique", Workload { keys: 1, unknown_per_mille: 1, ..large.clone() }),
        (
            "1M, 1 key, 100 clients, 100 values",
            Workload { keys: 1, unknown_per_mille: 1, written: Written::Pool(100), ..large },
        ),
    ]
}

fn linearizability(name: &str, workload: &Workload) {
    let recording = generate(workload);
    let small = workload.operations <= 10_000;
    let limits = Limits { timeout: Some(Duration::from_mins(1)), threads: 2, ..Limits::default() };
    let options = Options { steps_max: u64::MAX, ..Options::default() };
    let mut word = "";
    let ours = rounds(5, || {
        word = verdict(&check_recording(&recording, &options, &limits).verdict);
    });
    let peers = small && std::env::var_os("OURS_ONLY").is_none();
    let plain = if peers { plain(&recording) } else { "not run".into() };
    let stateright = if peers { support::in_child(name) } else { "not run".into() };
    row(name, &ours, word, &plain, &stateright);
}

/// The shipped histories of etcd.
fn etcd_texts() -> Option<Vec<Vec<u8>>> {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = here.ancestors().map(|at| at.join("shared/data/porcupine/jepsen")).find(|at| at.is_dir())?;
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()).collect();
    files.sort();
    Some(files.iter().map(|file| std::fs::read(file).expect("a file")).collect())
}

fn load(text: &[u8]) -> Recording {
    match formats::read(text, None, &Reading::default()) {
        Ok(Loaded::Operations(recording)) => recording,
        _ => panic!("the shipped histories can be read"),
    }
}

/// Each from reading the file on; the peers from memory on, in processes of their own that are ended when they take too long.
fn etcd() {
    let Some(texts) = etcd_texts() else {
        println!("| etcd | skipped: there is no ../shared/data beside the checkout | | | | | |");
        return;
    };
    let ours = rounds(5, || {
        for text in &texts {
            check_recording(&load(text), &Options::default(), &Limits::default());
        }
    });
    let (plain, stateright) = (support::in_child("etcd plain"), support::in_child("etcd stateright"));
    row(&format!("{} etcd histories, with reading", texts.len()), &ours, "", &plain, &stateright);
}

fn etcd_peer(peer: &str) -> String {
    let recordings: Vec<Recording> = etcd_texts().unwrap_or_default().iter().map(|text| load(text)).collect();
    let judge = if peer == "plain" { plain } else { stateright };
    let start = Instant::now();
    for recording in &recordings {
        judge(recording);
    }
    format!("{:.3}", start.elapsed().as_secs_f64())
}

fn parse() {
    let recording =
        generate(&Workload { operations: 1_000_000, clients: 100, keys: 100, ..Workload::default() });
    let text = jsonl::write(&recording.history());
    drop(recording);
    let times = rounds(5, || {
        formats::read(text.as_bytes(), Some(Format::Jsonl), &Reading::default()).expect("own output");
    });
    let rate = text.len() as f64 / 1e6 / times.median();
    row(&format!("parse JSON lines, {} MB: {rate:.0} MB/s", text.len() / 1_000_000), &times, "", "", "");
}

fn causality(name: &str, crashes: u32) {
    let workload = Workload {
        operations: 1_000_000,
        clients: 100,
        keys: 100,
        unknown_per_mille: crashes,
        ..Workload::default()
    };
    let transactions = Transactions::of(&generate(&workload));
    for isolation in [Isolation::CausalConvergence, Isolation::Causal] {
        let mut word = "";
        let ours = rounds(5, || {
            let found = causal::check(&transactions, isolation, &Limits::default());
            word = if matches!(found, Ok(None)) { "holds" } else { "violated" };
        });
        row(&format!("{name}, {isolation:?}"), &ours, word, "", "");
    }
}

/// The share of a check that finds a violation, explanation included, to one of the same history without the lie.
fn explanation() {
    for written in [Written::Unique, Written::Pool(100)] {
        let right = Workload { operations: 20_000, written, ..Workload::default() };
        // Of a few values an old one may well be right again: with many lies some are seen.
        let wrong = Workload { lies: if written == Written::Unique { 1 } else { 50 }, ..right.clone() };
        for (name, workload) in [("right", right), ("with a lie, explained", wrong)] {
            let recording = generate(&workload);
            let mut word = "";
            let ours = rounds(5, || {
                word = verdict(&check_recording(&recording, &Options::default(), &Limits::default()).verdict);
            });
            row(&format!("explain: 20k, 1 key, {written:?}, {name}"), &ours, word, "", "");
        }
    }
}
