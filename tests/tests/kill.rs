//! kill -9 of a node under load, again and again: what was acknowledged under `--durability sync` is there.

#[expect(dead_code, reason = "the node of this test is alone")]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use support::{PATIENT_DISK, Scratch, binary, connect, free_ports, open, served, wait_for};

const ROUNDS: u64 = 100;
const CLIENTS: u64 = 4;
/// Keys of each client.
const KEYS: u64 = 25;

/// What a key may hold: the number that was acknowledged last, and those that were sent since without an answer.
#[derive(Debug, Clone, Default)]
struct Known {
    acknowledged: u64,
    unknown: Vec<u64>,
}

fn start(data: &Path, ports: &[u16]) -> Child {
    let address = |port: u16| format!("127.0.0.1:{port}");
    Command::new(binary())
        .args(["node", "--durability", "sync", "--memory", "16", "--reserve", "0"])
        .args(["--listen", &address(ports[0]), "--peer-listen", &address(ports[1])])
        .args(["--http-listen", &address(ports[2]), "--data"])
        .arg(data)
        .envs(PATIENT_DISK)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the node starts")
}

/// A value that says its number and is as long as the number wants: some stand apart from their record.
fn value(number: u64) -> Vec<u8> {
    let len = [20, 300, 3_000, 9_000, 40_000][number as usize % 5];
    let mut value = format!("{number}:").into_bytes();
    value.extend((0..len).map(|at: u64| (at.wrapping_mul(2_654_435_761).wrapping_add(number) >> 7) as u8));
    value
}

fn number(held: &[u8]) -> u64 {
    let digits = held.split(|byte| *byte == b':').next().expect("at least one part");
    let number = std::str::from_utf8(digits).expect("digits").parse().expect("a number");
    assert!(held == value(number), "the value of {number} is another");
    number
}

/// Writes until the node is gone. `done` counts what was acknowledged by all.
fn load(port: u16, client: u64, keys: &mut BTreeMap<String, Known>, next: &mut u64, done: &AtomicU64) {
    let mut connection = wait_for("the node", || connect(port));
    loop {
        *next += 1;
        let key = format!("key-{client}-{}", *next % KEYS);
        let known = keys.entry(key.clone()).or_default();
        known.unknown.push(*next);
        match redis::cmd("SET").arg(&key).arg(value(*next)).query::<String>(&mut connection) {
            Ok(_) => {
                known.acknowledged = *next;
                known.unknown.pop();
                done.fetch_add(1, Ordering::Relaxed);
            }
            // The node refuses before it is ready, and does nothing then.
            Err(error) if error.code() == Some("UNAVAILABLE") => drop(known.unknown.pop()),
            Err(error) if error.code() == Some("TIMEOUT") => {}
            Err(_) => return,
        }
    }
}

fn check(port: u16, round: u64, clients: &[Mutex<(BTreeMap<String, Known>, u64)>]) {
    let mut connection = served("the node to answer", || {
        let mut open = open(port)?;
        redis::cmd("GET").arg("ready?").query::<Option<String>>(&mut open).map(|_| open)
    });
    for client in clients {
        let mut client = client.lock().expect("no client panicked");
        for (key, known) in &mut client.0 {
            let held: Option<Vec<u8>> =
                redis::cmd("GET").arg(key).query(&mut connection).expect("it answers");
            let held = held.map_or(0, |held| number(&held));
            assert!(
                held == known.acknowledged || known.unknown.contains(&held),
                "round {round}: {key} holds {held}, but {known:?}"
            );
            // What the dead node had under way is settled: nobody is left to do it.
            *known = Known { acknowledged: held, unknown: Vec::new() };
        }
    }
}

#[test]
fn kill_9_a_hundred_times_loses_nothing_acknowledged() {
    let scratch = Scratch::new("kill");
    let data = scratch.0.join("data");
    let ports = free_ports(3);
    let clients: Vec<Mutex<(BTreeMap<String, Known>, u64)>> =
        (0..CLIENTS).map(|_| Mutex::default()).collect();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut node = start(&data, &ports);
        check(ports[0], round, &clients);
        let done = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for (number, client) in (0..).zip(&clients) {
                let (done, port) = (&done, ports[0]);
                scope.spawn(move || {
                    let mut client = client.lock().expect("no client panicked");
                    let (keys, next) = &mut *client;
                    load(port, number, keys, next, done);
                });
            }
            // Another number of writes each time, so that the node dies in other places.
            let until = 3 + round * 37 % 113;
            wait_for("the load", || (done.load(Ordering::Relaxed) >= until).then_some(()));
            node.kill().expect("the node is ours");
            node.wait().expect("it was killed");
        });
        acknowledged += done.load(Ordering::Relaxed);
    }
    assert!(acknowledged >= ROUNDS * 3);
    let verified = Command::new(binary()).arg("verify").arg(&data).output().expect("it runs");
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert_eq!(verified.status.code(), Some(0), "{said}");
    let mut node = start(&data, &ports);
    check(ports[0], ROUNDS, &clients);
    node.kill().expect("the node is ours");
    node.wait().expect("it was killed");
}
