//! What clients and operators of a real cluster see when the files of a node are not what they were: answers stay right,
//! the node says by name what is damaged, and it mends itself where other nodes hold copies.

#[expect(dead_code, reason = "other tests use all of it")]
mod support;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::{Cluster, connect, open, served, wait_for};

/// Keys with small values, which stand in tables, and with large ones, which stand apart.
const SMALL: u64 = 5_000;
const LARGE: u64 = 40;

fn small(number: u64) -> (String, Vec<u8>) {
    (format!("small-{number}"), spread(number, 900))
}

fn large(number: u64) -> (String, Vec<u8>) {
    (format!("large-{number}"), spread(number + 7_000_000, 50_000))
}

/// Bytes that do not compress.
fn spread(number: u64, len: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    (0..len).map(byte).collect()
}

/// Three nodes with two tables and a value file at least, all of it durable everywhere.
fn filled(name: &str) -> Cluster {
    filled_nodes(name, 3)
}

fn filled_nodes(name: &str, count: usize) -> Cluster {
    let cluster = Cluster::start_nodes(name, count, &["--memory", "16", "--durability", "interval:50"]);
    let all: Vec<_> = (0..SMALL).map(small).chain((0..LARGE).map(large)).collect();
    for chunk in all.chunks(50) {
        let mut pipe = redis::pipe();
        for (key, value) in chunk {
            pipe.cmd("SET").arg(key).arg(value).ignore();
        }
        served("writes", || pipe.query::<()>(&mut open(cluster.clients[0])?));
    }
    for node in 0..count {
        wait_for("a table and a value file", || {
            let shard = cluster.data(node).join("shard-0");
            (files(&shard, "table").len() > 1 && !files(&shard, "value").is_empty()).then_some(())
        });
    }
    cluster
}

fn files(directory: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a folder").flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == suffix));
    files.sort();
    files
}

fn name_of(file: &Path) -> String {
    file.file_name().and_then(|name| name.to_str()).expect("a name").to_string()
}

fn len(path: &Path) -> u64 {
    std::fs::metadata(path).expect("a file").len()
}

fn flip(path: &Path, offset: u64) {
    let mut file = File::options().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).expect("a place in it");
    file.read_exact(&mut byte).expect("a byte");
    file.seek(SeekFrom::Start(offset)).expect("a place in it");
    file.write_all(&[byte[0] ^ 4]).expect("a byte");
}

fn cut(path: &Path, len: u64) {
    File::options().write(true).open(path).expect("a file").set_len(len).expect("cut");
}

fn swap(one: &Path, other: &Path) {
    let away = one.with_extension("away");
    std::fs::rename(one, &away).expect("a file");
    std::fs::rename(other, one).expect("a file");
    std::fs::rename(&away, other).expect("a file");
}

/// A figure of a node's metrics.
fn metric(port: u16, name: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    let line = page.lines().find(|line| line.starts_with(name) && !line.starts_with('#'))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Whether a node has recovered, whatever it can answer.
fn is_ready(port: u16) -> Option<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    page.starts_with("HTTP/1.1 200").then_some(())
}

/// Starts a node again, with what it logs in a file.
fn start(cluster: &mut Cluster, node: usize) -> PathBuf {
    let log = cluster.data(node).with_extension("log");
    let file = File::create(&log).expect("a log");
    let child = cluster.command(node).stdout(Stdio::null()).stderr(file).spawn().expect("the node starts");
    cluster.processes[node] = Some(child);
    log
}

/// Asks a node about each of these, over many connections: what is refused is refused at the end of its time only.
fn ask_all<A: Send>(
    port: u16,
    level: &str,
    all: &[(String, Vec<u8>)],
    ask: impl Fn(&mut redis::Connection, &(String, Vec<u8>)) -> A + Sync,
) -> Vec<A> {
    let ask = &ask;
    let of_some = |some: &[(String, Vec<u8>)]| -> Vec<A> {
        let mut connection = connect(port).expect("a connection");
        redis::cmd("CONSISTENCY").arg(level).exec(&mut connection).expect("a level");
        some.iter().map(|entry| ask(&mut connection, entry)).collect()
    };
    let each = all.len().div_ceil(64);
    std::thread::scope(|scope| {
        let asking: Vec<_> = all.chunks(each).map(|some| scope.spawn(move || of_some(some))).collect();
        asking.into_iter().flat_map(|asked| asked.join().expect("what it asks holds")).collect()
    })
}

/// Every `step`th key through a node: the right value, or `UNAVAILABLE` where that is allowed. How many were refused.
fn reads(cluster: &Cluster, node: usize, level: &str, step: usize, may_refuse: bool) -> usize {
    let all: Vec<_> = (0..SMALL).step_by(step).map(small).chain((0..LARGE).step_by(3).map(large)).collect();
    let is_refused = ask_all(cluster.clients[node], level, &all, |connection, (key, value)| {
        // A node that was started a moment ago, or that gets no processor, is out of reach for a while.
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            match redis::cmd("GET").arg(key).query::<Option<Vec<u8>>>(connection) {
                Ok(found) => {
                    assert!(found.as_deref() == Some(&value[..]), "{key} at {level}: a wrong value");
                    return false;
                }
                Err(error) => assert!(
                    matches!(error.code(), Some("UNAVAILABLE" | "TIMEOUT")),
                    "{key} at {level}: {error}"
                ),
            }
            if may_refuse {
                return true;
            }
            assert!(Instant::now() < end, "{key} at {level} is refused for a minute");
        }
    });
    is_refused.into_iter().filter(|refused| *refused).count()
}

type Fault = (&'static str, fn(&Path) -> Vec<PathBuf>);

/// What is done to the files of a shard; the files of which the node must speak, any of them.
const FAULTS: [Fault; 10] = [
    ("a flipped bit in a block of a table", |shard| {
        files(shard, "table").into_iter().inspect(|file| flip(file, len(file) / 3)).collect()
    }),
    ("a flipped bit in the footer of a table", |shard| {
        let file = files(shard, "table").remove(0);
        flip(&file, len(&file) - 9);
        vec![file]
    }),
    ("a truncated table", |shard| {
        let file = files(shard, "table").remove(0);
        cut(&file, len(&file) / 2);
        vec![file]
    }),
    ("a missing table", |shard| {
        let file = files(shard, "table").remove(0);
        std::fs::remove_file(&file).expect("a table");
        vec![file]
    }),
    ("swapped tables", |shard| {
        let tables = files(shard, "table");
        swap(&tables[0], &tables[1]);
        tables
    }),
    ("a flipped bit in a value", |shard| {
        let file = files(shard, "value").remove(0);
        (10_000..len(&file)).step_by(50_000).for_each(|at| flip(&file, at));
        vec![file]
    }),
    ("a truncated value file", |shard| {
        let file = files(shard, "value").remove(0);
        cut(&file, 60_000);
        vec![file]
    }),
    ("a missing value file", |shard| {
        let file = files(shard, "value").remove(0);
        std::fs::remove_file(&file).expect("a value file");
        vec![file]
    }),
    ("a flipped bit in the log", |shard| {
        let is_written = |file: &PathBuf| std::fs::read(file).expect("a segment")[..8] != [0; 8];
        files(shard, "wal").into_iter().filter(is_written).inspect(|file| flip(file, 60)).collect()
    }),
    ("a truncated log", |shard| files(shard, "wal").into_iter().inspect(|file| cut(file, 4_096)).collect()),
];

#[test]
fn damage_of_one_node_is_answered_from_the_others_told_by_name_and_mended() {
    let mut cluster = filled("disk-faults");
    for (what, damage) in FAULTS {
        println!("{what}");
        cluster.kill(0);
        let hurt = damage(&cluster.data(0).join("shard-0"));
        let log = start(&mut cluster, 0);
        cluster.wait_ready(0);
        // Clients of the damaged node and of the others see nothing of it.
        for (node, level) in [(0, "strong"), (1, "strong"), (0, "causal"), (0, "eventual")] {
            assert_eq!(reads(&cluster, node, level, 97, false), 0, "{what}");
        }
        let scrubbed = std::process::Command::new(support::binary())
            .args(["admin", "--addr", &format!("127.0.0.1:{}", cluster.http[0]), "scrub", "--wait"])
            .output()
            .expect("it runs");
        assert!(scrubbed.status.code().is_some_and(|code| code < 2), "{what}: {scrubbed:?}");
        let said = std::fs::read_to_string(&log).expect("the log");
        let names = hurt.iter().map(|file| name_of(file));
        assert!(names.clone().any(|name| said.contains(&name)), "{what}: {said}");
        assert!(said.contains("suspect"), "{what}: {said}");
        // It brings all of it again and replaces the files.
        wait_for("the node to mend itself", || {
            let stretches = metric(cluster.http[0], "samara_suspect_stretches")?;
            let blocks = metric(cluster.http[0], "samara_damaged_blocks")?;
            (stretches + blocks < 0.5).then_some(())
        });
        assert_eq!(reads(&cluster, 0, "strong", 97, false), 0, "{what}");
    }
    // All that was mended is really there: the others are not needed.
    cluster.kill(0);
    let verified = std::process::Command::new(support::binary()).arg("verify").arg(cluster.data(0)).output();
    let verified = verified.expect("it runs");
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
    start(&mut cluster, 0);
    cluster.wait_ready(0);
    (1..3).for_each(|node| cluster.kill(node));
    assert_eq!(reads(&cluster, 0, "eventual", 7, false), 0, "from the node's own copies");
}

#[test]
fn damage_of_two_of_three_refuses_and_never_shows_what_is_older() {
    let mut cluster = filled("disk-faults-two");
    for node in 0..2 {
        cluster.kill(node);
        for file in files(&cluster.data(node).join("shard-0"), "table") {
            std::fs::remove_file(file).expect("a table");
        }
    }
    (0..2).for_each(|node| drop(start(&mut cluster, node)));
    (0..2).for_each(|node| wait_for("a node that has recovered", || is_ready(cluster.http[node])));
    // A majority has no vote on what was in the tables: refused, or answered right, never as if it had not been.
    let refused = reads(&cluster, 0, "strong", 31, true);
    assert!(refused > 10, "{refused} reads were refused");
    assert_eq!(reads(&cluster, 2, "eventual", 31, false), 0, "one good copy is enough for an eventual read");
    // One of the two gives up: the other brings all of it from the third.
    assert_eq!(accept_loss(&cluster, 0, &["--yes"]).0, Some(0));
    for node in 0..2 {
        wait_for("a node to mend itself", || {
            (metric(cluster.http[node], "samara_suspect_stretches")? < 0.5).then_some(())
        });
    }
    (0..3).for_each(|node| assert_eq!(reads(&cluster, node, "strong", 31, false), 0, "all is there again"));
}

/// `samara admin accept-loss`: its exit code and what it says.
fn accept_loss(cluster: &Cluster, node: usize, flags: &[&str]) -> (Option<i32>, String) {
    let address = format!("127.0.0.1:{}", cluster.http[node]);
    let mut command = std::process::Command::new(support::binary());
    let output = command.args(["admin", "--addr", &address, "accept-loss"]).args(flags).output();
    let output = output.expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn what_a_single_copy_has_lost_is_refused_until_the_operator_accepts_it() {
    let mut cluster = filled_nodes("disk-faults-one", 1);
    assert!(accept_loss(&cluster, 0, &[]).1.contains("nothing is suspect"));
    cluster.kill(0);
    let shard = cluster.data(0).join("shard-0");
    let tables = files(&shard, "table");
    flip(&tables[0], len(&tables[0]) / 3);
    let log = start(&mut cluster, 0);
    cluster.wait_ready(0);
    let all: Vec<_> = (0..SMALL).map(small).chain((0..LARGE).map(large)).collect();
    let read = |cluster: &Cluster| -> Vec<Result<bool, String>> {
        ask_all(cluster.clients[0], "strong", &all, |connection, (key, value)| {
            match redis::cmd("GET").arg(key).query(connection) {
                Ok(None::<Vec<u8>>) => Ok(false),
                Ok(Some(found)) => {
                    assert!(found == *value, "{key}: a wrong value");
                    Ok(true)
                }
                Err(error) => Err(error.code().unwrap_or("?").to_string()),
            }
        })
    };
    let before = read(&cluster);
    let refused = before.iter().filter(|outcome| outcome.is_err()).count();
    assert!(refused > 0 && refused < all.len(), "{refused} reads were refused");
    assert!(
        before.iter().all(|outcome| matches!(outcome, Ok(true)) || *outcome == Err("UNAVAILABLE".into()))
    );
    wait_for("the node to say so", || {
        std::fs::read_to_string(&log).ok()?.contains("accept the loss").then_some(())
    });
    // Nothing is given up by accident, nor outside of the slots that are named.
    let (code, said) = accept_loss(&cluster, 0, &[]);
    assert!(code == Some(2) && said.contains("--yes"), "{code:?} {said}");
    for bad in ["7-3", "0-16384", "x"] {
        let (code, said) = accept_loss(&cluster, 0, &["--yes", "--slots", bad]);
        assert!(code == Some(2) && said.contains("A-B"), "{code:?} {said}");
    }
    let (code, said) = accept_loss(&cluster, 0, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    let after = read(&cluster);
    for ((before, after), (key, _)) in before.iter().zip(&after).zip(&all) {
        assert!(after == before || before.is_err() && after.is_ok(), "{key}: {before:?}, then {after:?}");
    }
    assert!(after.contains(&Ok(false)) && after.contains(&Ok(true)), "some are lost, and not all");
    let mut connection = connect(cluster.clients[0]).expect("a connection");
    for ((key, value), _) in all.iter().zip(&after).filter(|(_, after)| **after == Ok(false)) {
        redis::cmd("SET")
            .arg(key)
            .arg(value)
            .arg("NX")
            .exec(&mut connection)
            .expect("it can be written again");
    }
    assert!(read(&cluster).iter().all(|outcome| *outcome == Ok(true)));
    cluster.kill(0);
    let verified = std::process::Command::new(support::binary()).arg("verify").arg(cluster.data(0)).output();
    assert_eq!(verified.expect("it runs").status.code(), Some(0));
    start(&mut cluster, 0);
    cluster.wait_ready(0);
    assert!(read(&cluster).iter().all(|outcome| *outcome == Ok(true)), "and stays so");
}

#[test]
fn damage_of_what_a_node_has_promised_keeps_it_down_and_the_others_serve() {
    let mut cluster = filled("disk-faults-down");
    cluster.kill(0);
    let shard = cluster.data(0).join("shard-0");
    let ceilings = files(&shard, "ceiling");
    // One of the two copies of the ceiling is enough, whatever became of the other.
    for damage in [
        |file: &Path| flip(file, 9),
        |file: &Path| cut(file, 0),
        |file: &Path| {
            std::fs::remove_file(file).expect("a ceiling");
        },
    ] {
        damage(&ceilings[0]);
        start(&mut cluster, 0);
        cluster.wait_ready(0);
        cluster.kill(0);
    }
    let table: [(&str, &str); 3] =
        [("identity", "identity"), ("manifest", "manifest"), ("ceiling", "ceiling")];
    for (suffix, words) in table {
        for fault in ["flipped", "truncated", "missing"] {
            let hurt = files(&shard, suffix);
            let whole: Vec<Vec<u8>> = hurt.iter().map(|file| std::fs::read(file).expect("a file")).collect();
            for file in &hurt {
                match fault {
                    "flipped" => [9, 4_096 + 9, 32_768 + 9].into_iter().for_each(|at| {
                        if at < len(file) {
                            flip(file, at);
                        }
                    }),
                    "truncated" => cut(file, 5),
                    _ => std::fs::remove_file(file).expect("a file"),
                }
            }
            let output = cluster.command(0).output().expect("it starts");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{fault} {suffix}: {said}");
            assert!(said.contains(words), "{fault} {suffix}: {said}");
            assert_eq!(reads(&cluster, 1, "strong", 499, false), 0, "the others serve");
            for (file, whole) in hurt.iter().zip(whole) {
                std::fs::write(file, whole).expect("whole again");
            }
        }
    }
    start(&mut cluster, 0);
    cluster.wait_ready(0);
}
