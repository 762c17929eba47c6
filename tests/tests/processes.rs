//! Real processes, real sockets, real files: what is acknowledged survives kill -9.

mod support;

use samara_check::history::{Answer, Function, History, Level, Operation, Outcome};
use samara_check::linearizability::{self, Options, Verdict};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use support::{Cluster, connect, open, served, wait_for};

fn query<T: redis::FromRedisValue>(
    connection: &mut redis::Connection,
    words: &[&str],
) -> redis::RedisResult<T> {
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(*word);
    });
    command.query(connection)
}

/// Clients that count, write and read on a few keys until told to stop; what they saw becomes a history.
struct Load {
    start: Instant,
    stop: AtomicBool,
    history: Mutex<History>,
    processes: AtomicU64,
}

impl Load {
    fn new() -> Self {
        let (stop, processes) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { start: Instant::now(), stop, history: Mutex::default(), processes }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn client(&self, number: usize, ports: &[u16]) {
        let mut connection = None;
        let mut process = self.processes.fetch_add(1, Ordering::Relaxed);
        for turn in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let port = ports[(number + turn / 20) % ports.len()];
            let Some(open) = connection.take().or_else(|| connect(port)) else {
                std::thread::yield_now();
                continue;
            };
            let mut open = open;
            let value = format!("{number}.{turn}");
            let (key, function) = match turn % 3 {
                0 => (
                    format!("k{}", turn % 4),
                    Function::Put { value: value.clone().into_bytes(), ttl_ms: None },
                ),
                1 => ("n".to_string(), Function::Incr(1)),
                _ => (format!("k{}", (turn / 3) % 4), Function::Get),
            };
            let call = self.now();
            let answer = match &function {
                Function::Put { .. } => {
                    query::<String>(&mut open, &["SET", &key, &value]).map(|_| Answer::Done)
                }
                Function::Incr(_) => query::<i64>(&mut open, &["INCR", &key]).map(Answer::Integer),
                _ => query::<Option<String>>(&mut open, &["GET", &key])
                    .map(|value| Answer::Value(value.map(String::into_bytes))),
            };
            let outcome = match answer {
                Ok(answer) => {
                    connection = Some(open);
                    Outcome::Ok(answer)
                }
                Err(error) if error.code() == Some("UNAVAILABLE") => continue,
                Err(_) => Outcome::Unknown,
            };
            let unknown = outcome == Outcome::Unknown;
            let operation = Operation {
                process,
                key: key.into_bytes(),
                function,
                outcome,
                call,
                ret: self.now(),
                level: Level::Strong,
            };
            self.history.lock().expect("no client panicked").operations.push(operation);
            if unknown {
                process = self.processes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn done(&self) -> usize {
        let history = self.history.lock().expect("no client panicked");
        history.operations.iter().filter(|operation| operation.outcome != Outcome::Unknown).count()
    }

    fn wait_for_more(&self, more: usize) {
        let until = self.done() + more;
        wait_for("the load to go on", || (self.done() >= until).then_some(()));
    }
}

#[test]
fn kill_9_of_one_and_of_all_loses_nothing_acknowledged() {
    let mut cluster = Cluster::start("kill9");
    let load = Load::new();
    let ports = cluster.clients.clone();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (load, ports) = (&load, &ports);
            scope.spawn(move || load.client(number, ports));
        }
        load.wait_for_more(300);
        for node in 0..3 {
            cluster.kill(node);
            load.wait_for_more(100);
            cluster.spawn(node);
            cluster.wait_ready(node);
            load.wait_for_more(100);
        }
        for _ in 0..2 {
            (0..3).for_each(|node| cluster.kill(node));
            (0..3).for_each(|node| cluster.spawn(node));
            (0..3).for_each(|node| cluster.wait_ready(node));
            load.wait_for_more(100);
        }
        load.stop.store(true, Ordering::Relaxed);
    });
    let mut history = load.history.into_inner().expect("no client panicked");
    for (node, port) in ports.iter().enumerate() {
        for key in ["k0", "k1", "k2", "k3", "n"] {
            let call = load.start.elapsed().as_nanos() as u64;
            let value: Option<String> =
                served("a read: all nodes are up", || query(&mut open(*port)?, &["GET", key]));
            let ret = load.start.elapsed().as_nanos() as u64;
            let outcome = Outcome::Ok(Answer::Value(value.map(String::into_bytes)));
            let process = 1_000_000 + node as u64;
            let (key, function) = (key.as_bytes().to_vec(), Function::Get);
            history.operations.push(Operation {
                process,
                key,
                function,
                outcome,
                call,
                ret,
                level: Level::Strong,
            });
        }
    }
    let verdict = linearizability::check(&history, &Options::default());
    assert!(matches!(verdict, Verdict::Holds), "{verdict:?}");
}

#[test]
fn two_of_three_serve_strong_operations_and_one_alone_only_eventual_ones() {
    let mut cluster = Cluster::start("minority");
    cluster.kill(2);
    let first = cluster.clients[0];
    served("two of three", || query::<String>(&mut open(first)?, &["SET", "k", "1"]));
    assert_eq!(served("two of three", || query::<String>(&mut open(first)?, &["GET", "k"])), "1");
    cluster.kill(1);
    let refused = wait_for("a certain refusal", || {
        query::<String>(&mut connect(first)?, &["SET", "k", "2"])
            .err()
            .filter(|e| e.code() == Some("UNAVAILABLE"))
    });
    assert!(refused.to_string().contains("UNAVAILABLE"), "{refused}");
    let mut first = connect(first).expect("node 1 is up");
    query::<String>(&mut first, &["CONSISTENCY", "eventual"]).expect("a level");
    query::<String>(&mut first, &["SET", "e", "3"]).expect("one copy is enough");
    assert_eq!(query::<String>(&mut first, &["GET", "e"]).ok().as_deref(), Some("3"));
}

#[test]
fn sigterm_ends_a_node_with_exit_code_0() {
    let mut cluster = Cluster::start("sigterm");
    let mut child = cluster.processes[0].take().expect("node 1 runs");
    let killed = std::process::Command::new("kill").arg(child.id().to_string()).status();
    assert!(killed.expect("kill is there").success());
    assert_eq!(child.wait().expect("the node ends").code(), Some(0));
}

#[test]
fn a_directory_that_is_damaged_or_foreign_is_refused_and_left_as_it_is() {
    let mut cluster = Cluster::start("refused");
    cluster.kill(0);
    let shard = cluster.data(0).join("shard-0");
    let files = || -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(&shard).expect("the directory is there");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
        paths.sort();
        paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("readable"))).collect()
    };
    let table: [(&str, usize, u8, &str); 3] = [
        ("0000000000.identity", 8, 99, "format version"),
        ("0000000000.identity", 30, 99, "damaged"),
        ("0000000000.manifest", 10, 99, "damaged"),
    ];
    for (file, at, byte, words) in table {
        let path = shard.join(file);
        let good = std::fs::read(&path).expect("readable");
        let mut bad = good.clone();
        bad[at] = byte;
        std::fs::write(&path, &bad).expect("writable");
        let before = files();
        let output = cluster.command(0).output().expect("the node starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&*shard.to_string_lossy()), "{said}");
        assert!(said.contains(file) && said.contains(words), "{said}");
        assert_eq!(files(), before, "nothing was written");
        std::fs::write(&path, &good).expect("writable");
    }
    cluster.spawn(0);
    cluster.wait_ready(0);
}

/// S5, with all of them restarted in between.
#[test]
fn a_node_whose_directory_was_emptied_ends_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start("emptied");
    let ports = cluster.clients.clone();
    // The second and the third node need each other, and so have learned of each other.
    cluster.kill(0);
    served("two of three", || query::<String>(&mut open(ports[2])?, &["SET", "other", "1"]));
    cluster.kill(2);
    cluster.spawn(0);
    served("the other two", || query::<String>(&mut open(ports[0])?, &["SET", "k", "acknowledged"]));
    (0..2).for_each(|node| cluster.kill(node));

    let (data, aside) = (cluster.data(1), cluster.data(1).with_extension("aside"));
    std::fs::rename(&data, &aside).expect("the directory is ours");
    cluster.spawn(2);
    let ended = cluster.command(1).output().expect("it starts, and ends by itself");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("emptied or is an old copy") && said.contains("n3 remembers life"), "{said}");

    std::fs::remove_dir_all(&data).expect("the directory is ours");
    std::fs::rename(&aside, &data).expect("the directory is ours");
    cluster.spawn(1);
    assert_eq!(
        served("two of three", || query::<String>(&mut open(ports[2])?, &["GET", "k"])),
        "acknowledged"
    );
}

#[test]
fn bad_arguments_are_named_in_one_line() {
    let table: [(&[&str], &str); 7] = [
        (&["node", "--consistency", "weak"], "--consistency weak"),
        (&["node", "--durability", "sometimes"], "--durability sometimes"),
        (&["node", "--join", "a:1"], "--members"),
        (&["node", "--members", "1@x:1"], "--members needs --node-id"),
        (&["node", "--node-id", "1", "--members", "1@x"], "ID@HOST:PEERPORT"),
        (&["node", "--shards", "0"], "--shards 0"),
        (&["dev", "--nodes", "0"], "--nodes 0"),
    ];
    for (arguments, words) in table {
        let output =
            std::process::Command::new(support::binary()).args(arguments).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words) && said.trim().lines().count() == 1, "{said}");
    }
}
