//! Histories that are judged while they are read: the same verdicts as when they are judged as a whole, and bounded memory.

use proptest::prelude::*;
use samara_check::generate::{Mix, Workload, Written, generate};
use samara_check::jsonl;
use samara_check::judge::{Demand, reader};
use std::io::{BufWriter, Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

fn workload() -> impl Strategy<Value = Workload> {
    let mix = (1..4_u32, 1..4_u32, 0..3_u32, 0..2_u32).prop_map(|(get, put, delete, cas)| Mix {
        get,
        put,
        delete: delete.saturating_sub(1),
        cas,
        incr: 0,
    });
    let written = prop_oneof![2 => Just(Written::Unique), 1 => (1..6_u64).prop_map(Written::Pool)];
    let unknown = prop_oneof![Just(0_u32), Just(10), Just(100), Just(300)];
    let lies = prop_oneof![Just(0_usize), Just(1), Just(2)];
    (any::<u64>(), 20..160_usize, 1..5_usize, 1..4_usize, mix, written, unknown, lies).prop_map(
        |(seed, operations, clients, keys, mix, written, unknown_per_mille, lies)| Workload {
            seed,
            operations,
            clients,
            keys,
            written,
            mix,
            unknown_per_mille,
            versions: false,
            lies,
        },
    )
}

static LET_GO: AtomicUsize = AtomicUsize::new(0);
static VIOLATED: AtomicUsize = AtomicUsize::new(0);

fn parts_and_whole() {
    proptest!(ProptestConfig { cases: 10_000, max_shrink_iters: 5_000, failure_persistence: None, ..ProptestConfig::default() },
        |(workload in workload(), keep in 1..40_usize)| {
        let text = jsonl::write(&generate(&workload).history());
        let judged = |keep| {
            reader(text.as_bytes(), "history", &Demand { keep: Some(keep), ..Demand::default() }).expect("own output")
        };
        let (parts, whole) = (judged(keep), judged(usize::MAX));
        prop_assert_eq!(whole.let_go, 0);
        prop_assert_eq!(parts.word(), whole.word(), "{} {}", parts.text("parts"), whole.text("whole"));
        if whole.word() == "holds" {
            prop_assert_eq!(parts.operations, whole.operations);
        } else if parts.let_go > 0 {
            VIOLATED.fetch_add(1, Ordering::Relaxed);
        }
        LET_GO.fetch_add(parts.let_go, Ordering::Relaxed);
    });
}

#[test]
fn parts_are_judged_as_the_whole_is() {
    parts_and_whole();
    let (let_go, violated) = (LET_GO.load(Ordering::Relaxed), VIOLATED.load(Ordering::Relaxed));
    assert!(
        let_go > 100_000 && violated > 200,
        "{let_go} operations let go of, {violated} violations in parts"
    );
}

/// Two clients in turn on `keys` keys, in real time, so that each key is at rest now and then; values are long.
fn write_long(out: &mut impl Write, bytes: usize, lie: bool) -> std::io::Result<()> {
    let filler = "x".repeat(400);
    let mut last = vec![0_u64; 50];
    let (mut written, mut time, mut count) = (0, 0_u64, 0_u64);
    while written < bytes {
        count += 1;
        let key = count % last.len() as u64;
        let (mut line, process) = (String::new(), count % 2);
        let mut event = |kind: &str, f: &str, value: &str| {
            time += 10;
            let event = format!(
                r#"{{"time":{time},"process":{process},"type":"{kind}","f":"{f}","key":"key {key}","value":{value}}}"#
            );
            line.push_str(&event);
            line.push('\n');
        };
        if count % 3 == 0 {
            let seen = last[key as usize] - u64::from(lie && written > bytes * 9 / 10);
            event("invoke", "get", "null");
            event("ok", "get", &if seen == 0 { "null".into() } else { format!("\"{seen} {filler}\"") });
        } else {
            last[key as usize] = count;
            event("invoke", "put", &format!("\"{count} {filler}\""));
            event("ok", "put", "null");
        }
        out.write_all(line.as_bytes())?;
        written += line.len();
    }
    out.flush()
}

/// The most memory that a process has had, in kilobytes.
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("a peak");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

#[test]
fn a_file_of_200_megabytes_takes_a_fifth_of_that() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_samara-check"))
        .args(["--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the checker runs");
    let mut input = BufWriter::with_capacity(1 << 16, child.stdin.take().expect("a pipe"));
    write_long(&mut input, 200_000_000, false).expect("it reads on");
    // All but what the pipe holds was read.
    let peak = peak(child.id());
    drop(input);
    let mut said = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut said).expect("JSON");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{said}");
    assert!(said.contains(r#""verdict":"holds""#), "{said}");
    assert!(peak < 40_000, "{peak} KB");
}

#[test]
fn a_lie_late_in_a_long_file_is_found_and_reading_ends_there() {
    let mut text = Vec::new();
    write_long(&mut text, 3_000_000, true).expect("memory");
    let judgement =
        reader(text.as_slice(), "long", &Demand { keep: Some(500), ..Demand::default() }).expect("a history");
    assert_eq!(judgement.word(), "violated");
    assert!(judgement.let_go > 1_000, "{} let go", judgement.let_go);
    let said = judgement.text("long");
    assert!(said.contains("where this part of the key begins"), "{said}");
}

#[test]
fn what_is_out_of_order_is_judged_as_a_whole_and_cannot_come_through_a_pipe() {
    let mut text = Vec::new();
    write_long(&mut text, 500_000, false).expect("memory");
    let early = r#"{"time":5,"process":9,"type":"invoke","f":"get","key":"key 1"}"#;
    let text = format!("{}{early}\n", String::from_utf8(text).expect("text"));
    let demand = Demand { keep: Some(100), ..Demand::default() };
    let refused = reader(text.as_bytes(), "pipe", &demand).expect_err("too late");
    let line = text.lines().count();
    assert!(refused.starts_with(&format!("pipe:{line}:1: its time is earlier")), "{refused}");
    let path = std::env::temp_dir().join(format!("samara-check-order-{}.jsonl", std::process::id()));
    std::fs::write(&path, &text).expect("a file");
    let judged = samara_check::judge::file(&path, &demand);
    std::fs::remove_file(&path).ok();
    let judged = judged.expect("a history");
    assert_eq!((judged.word(), judged.let_go), ("holds", 0));
}
