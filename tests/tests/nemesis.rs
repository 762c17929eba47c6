//! `samara bench --history` watches a cluster of real processes that are killed and paused; the checker judges what it saw.

mod support;

use samara_check::judge::{self, Demand};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::{Cluster, Scratch, connect, wait_for};

/// Bytes of history, some 300 operations, that are waited for between two faults.
const BETWEEN_FAULTS: u64 = 100_000;
/// Faults until the bench is told to end.
const FAULTS: usize = 8;

fn bench(cluster: &Cluster, arguments: &[&str], history: &Path) -> Command {
    let addresses: Vec<String> = cluster.clients.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut command = Command::new(support::binary());
    command
        .args(["bench", "--addr", &addresses.join(","), "--json", "--history"])
        .arg(history)
        .args(arguments);
    command
}

/// Waits until the history has grown, however long that takes.
fn goes_on(history: &Path, bench: &mut Child) {
    let length = || std::fs::metadata(history).map_or(0, |file| file.len());
    let until = length() + BETWEEN_FAULTS;
    while length() < until {
        assert!(bench.try_wait().expect("the bench is ours").is_none(), "the bench has ended by itself");
        std::thread::yield_now();
    }
}

/// Tells the bench to end, as a user at the keyboard does.
fn interrupt(bench: &Child) {
    let sent = Command::new("kill").args(["-INT", &bench.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
}

fn signal(cluster: &Cluster, node: usize, signal: &str) {
    let child = cluster.processes[node].as_ref().expect("the node runs");
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
}

#[test]
fn a_cluster_that_is_killed_and_paused_stays_linearizable() {
    let mut cluster = Cluster::start("nemesis");
    let scratch = Scratch::new("nemesis-history");
    let history = scratch.0.join("history.jsonl");
    let arguments =
        ["--keys", "8", "--clients", "9", "--seconds", "1000", "--patience", "2", "--value-size", "16"];
    let mut running =
        bench(&cluster, &arguments, &history).stdout(Stdio::piped()).spawn().expect("the bench starts");
    for round in 0..FAULTS / 2 {
        let node = round % 3;
        goes_on(&history, &mut running);
        cluster.kill(node);
        goes_on(&history, &mut running);
        cluster.spawn(node);
        let paused = (node + 1) % 3;
        signal(&cluster, paused, "-STOP");
        goes_on(&history, &mut running);
        signal(&cluster, paused, "-CONT");
    }
    goes_on(&history, &mut running);
    interrupt(&running);
    let output = running.wait_with_output().expect("the bench ends");
    assert!(output.status.success(), "the bench ends well");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    let judgement = judge::file(&history, &Demand::default()).expect("the history can be read");
    println!("{FAULTS} faults, {report}");
    assert_eq!(judgement.word(), "holds", "{}", judgement.text("the history"));
    let done = report["ops"].as_u64().expect("a count");
    assert!(judgement.operations as u64 >= done, "{} recorded, {done} done", judgement.operations);
}

#[test]
fn every_workload_runs_and_is_counted() {
    let cluster = Cluster::start("workloads");
    let scratch = Scratch::new("workloads-history");
    for workload in ["get", "set", "incr", "mixed", "ycsb-a", "ycsb-b", "ycsb-c", "ycsb-d", "ycsb-f"] {
        let history = scratch.0.join(workload);
        let arguments =
            ["--workload", workload, "--keys", "50", "--clients", "4", "--seconds", "0.5", "--load"];
        let output = bench(&cluster, &arguments, &history).output().expect("the bench runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{workload}: {said}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
        for key in ["ops", "errors", "ops_per_s", "p50_us", "p99_us", "p999_us", "max_us"] {
            assert!(report[key].is_number(), "{workload}: {key} of {report}");
        }
        assert!(report["ops"].as_u64() > Some(0), "{workload}: {report}");
        let quantiles = ["p50_us", "p99_us", "p999_us", "max_us"].map(|key| report[key].as_f64());
        assert!(quantiles[0] > Some(0.0) && quantiles.is_sorted(), "{workload}: {report}");
        assert_eq!(report["errors"], 0, "{workload}: {report}");
        let judgement = judge::file(&history, &Demand::default()).expect("the history can be read");
        assert_eq!(judgement.word(), "holds", "{workload}: {}", judgement.text("the history"));
    }
}

#[test]
fn an_open_loop_counts_from_when_a_request_was_due() {
    let mut cluster = Cluster::start("open-loop");
    let scratch = Scratch::new("open-loop-history");
    let history = scratch.0.join("history.jsonl");
    let arguments =
        ["--rate", "200", "--keys", "10", "--clients", "2", "--seconds", "12", "--patience", "60"];
    let running =
        bench(&cluster, &arguments, &history).stdout(Stdio::piped()).spawn().expect("the bench starts");
    wait_for("the bench to begin", || std::fs::metadata(&history).ok().filter(|file| file.len() > 0));
    // All stand still for a part of the bench's time: what was due meanwhile is late.
    (0..3).for_each(|node| signal(&cluster, node, "-STOP"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    (0..3).for_each(|node| signal(&cluster, node, "-CONT"));
    let output = running.wait_with_output().expect("the bench ends");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    // A closed loop would have had two late requests; here a sixth of all are due in those two seconds.
    assert!(report["p99_us"].as_f64() > Some(500_000.0), "{report}");
    assert!(connect(cluster.clients[0]).is_some(), "the nodes are up again");
    cluster.kill(0);
}

#[test]
fn bad_arguments_of_the_bench_are_named_in_one_line() {
    let port = support::free_ports(1)[0];
    let nobody = format!("127.0.0.1:{port}");
    let table: [(&[&str], &str); 7] = [
        (&["--workload", "ycsb-z"], "--workload ycsb-z"),
        (&["--clients", "0"], "--clients"),
        (&["--rate", "0"], "--rate"),
        (&["--seconds", "0"], "--seconds"),
        (&["--distribution", "normal"], "--distribution normal"),
        (&["--consistency", "weak"], "weak"),
        (&["--addr", &nobody], &nobody),
    ];
    for (arguments, words) in table {
        let output =
            Command::new(support::binary()).arg("bench").args(arguments).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words) && said.trim().lines().count() == 1, "{said}");
    }
}
