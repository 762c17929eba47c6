//! The disk of a real node, broken in earnest: full, hung, slow, failing to sync, read-only, without file handles.

#[path = "support/mount.rs"]
mod mount;
#[expect(dead_code, reason = "the clusters of these tests are prepared")]
mod support;

use mount::Mount;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::{Cluster, PATIENT_DISK, Scratch, binary, connect, free_ports, open, served, wait_for};

/// A node alone in its cluster, that goes with the test.
struct Single {
    process: Child,
    port: u16,
    http: u16,
}

fn single_command(data: &Path, ports: &[u16], flags: &[&str]) -> Command {
    let address = |port: u16| format!("127.0.0.1:{port}");
    let mut command = Command::new(binary());
    command
        .args(["node", "--listen", &address(ports[0]), "--peer-listen", &address(ports[1])])
        .args(["--http-listen", &address(ports[2])])
        .arg("--data")
        .arg(data)
        .args(flags)
        .envs(PATIENT_DISK)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

impl Single {
    fn start(data: &Path, ports: &[u16], flags: &[&str]) -> Self {
        let process = single_command(data, ports, flags).spawn().expect("the node starts");
        let node = Self { process, port: ports[0], http: ports[2] };
        wait_for("the node to be ready", || (get(node.http, "/readyz")?.0 == 200).then_some(()));
        node
    }

    /// What it said at its end, and its exit code.
    fn end(mut self) -> (String, Option<i32>) {
        let mut said = String::new();
        self.process.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        (said, self.process.wait().expect("it ends").code())
    }

    fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        ask(self.port, words)
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn ask<T: redis::FromRedisValue>(port: u16, words: &[&str]) -> redis::RedisResult<T> {
    let mut connection = open(port)?;
    words[1..]
        .iter()
        .fold(&mut redis::cmd(words[0]), |command, word| command.arg(*word))
        .query(&mut connection)
}

/// Status and body.
fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_string()))
}

fn metric(port: u16, name: &str) -> f64 {
    let (_, text) = get(port, "/metrics").expect("the node serves metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn admin(port: u16, words: &[&str]) -> Output {
    let address = format!("127.0.0.1:{port}");
    let output = Command::new(binary()).arg("admin").args(["--addr", &address]).args(words).output();
    output.expect("it runs")
}

fn is_refused(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_err()
}

#[test]
fn a_node_whose_disk_hangs_steps_aside_and_comes_back_with_it() {
    let mut mount = None;
    let flags = ["--disk-slow-ms", "400", "--disk-hung-ms", "600000"];
    let cluster = Cluster::prepared("hung", 3, &flags, |cluster| {
        let image = cluster.data(0).with_extension("image");
        mount = Mount::ext4(&cluster.data(0), &image, 512);
        mount.is_some()
    });
    let (Some(mut cluster), Some(mount)) = (cluster, mount) else {
        return;
    };
    let (port, http) = (cluster.clients[0], cluster.http[0]);
    served("all nodes", || ask::<String>(port, &["SET", "k", "before"]));
    let frozen = mount.freeze();
    let unready = wait_for("the node to step aside", || {
        // A node that has nothing to write sees nothing of its disk.
        ask::<String>(cluster.clients[1], &["SET", "work", "1"]).ok();
        get(http, "/readyz").filter(|ready| ready.0 == 503)
    });
    assert!(unready.1.contains("the disk has not ended an operation on"), "{}", unready.1);
    assert_eq!(get(http, "/healthz").expect("the process lives").0, 200);
    assert!((metric(http, "samara_disk_aside ") - 1.0).abs() < 0.1);
    assert!(metric(http, "samara_disk_oldest_operation_seconds ") >= 0.4);
    assert!((metric(http, "samara_disk_slow ") - 1.0).abs() < 0.1, "slow comes before hung");
    let status = admin(http, &["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("has stepped aside: the disk has not ended an operation on"), "{status}");
    for words in [&["GET", "k"][..], &["SET", "k", "lost"], &["INCR", "n"]] {
        // The disk does not come back meanwhile: what is answered did not wait for it.
        let refused = ask::<redis::Value>(port, words).expect_err("the node takes no part");
        assert_eq!(refused.code(), Some("UNAVAILABLE"), "{words:?}: {refused}");
    }
    // The other two go on without it.
    served("the others", || ask::<String>(cluster.clients[1], &["SET", "k", "during"]));
    let read = served("the others", || ask::<String>(cluster.clients[2], &["GET", "k"]));
    assert_eq!(read, "during");
    drop(frozen);
    wait_for("the node to come back", || get(http, "/readyz").filter(|ready| ready.0 == 200));
    let read = served("the node to serve", || ask::<String>(port, &["GET", "k"]));
    assert_eq!(read, "during");
    served("it to take part again", || ask::<String>(port, &["SET", "k", "after"]));
    // Its folder can go when nothing is mounted in it.
    cluster.kill(0);
    drop((mount, cluster));
}

#[test]
fn a_node_whose_disk_hangs_for_long_says_so_and_closes_its_ports() {
    for (hung_ms, signal, words) in [
        ("4000", false, "the disk has not ended an operation"),
        // An operator who ends such a node is not kept waiting by the disk for ever.
        ("600000", true, "did not end within"),
    ] {
        let scratch = Scratch::new("hung-long");
        let data = scratch.0.join("data");
        let Some(mount) = Mount::ext4(&data, &scratch.0.join("image"), 512) else {
            return;
        };
        let ports = free_ports(3);
        let flags = ["--shards", "2", "--disk-slow-ms", "300", "--disk-hung-ms", hung_ms];
        let node = Single::start(&data, &ports, &flags);
        served("the node", || node.ask::<String>(&["SET", "k", "v"]));
        let frozen = mount.freeze();
        let asked = ask::<String>(node.port, &["SET", "k", "lost"]).expect_err("the disk does not answer");
        assert!(!asked.is_timeout(), "the client is told something: {asked}");
        if signal {
            let told = Command::new("kill").arg(node.process.id().to_string()).status();
            assert!(told.expect("kill is there").success());
        }
        wait_for("the ports to be closed", || ports.iter().all(|port| is_refused(*port)).then_some(()));
        let mut node = node;
        let said = BufReader::new(node.process.stderr.take().expect("piped"));
        let last = said.lines().map_while(Result::ok).find(|line| line.starts_with("samara: "));
        let last = last.expect("it says why it ends");
        assert!(last.contains(words), "{last}");
        // The system lets the process go only when the disk lets go of its threads.
        drop(frozen);
        assert_eq!(node.process.wait().expect("it ends").code(), Some(2));
        let node = Single::start(&data, &ports, &flags[..2]);
        assert_eq!(node.ask::<String>(&["GET", "k"]).expect("it serves"), "v");
    }
}

/// Bytes of each value on a disk that gets full.
const VALUE: usize = 100_000;

/// Bytes that belong to a key and do not compress.
fn noise(key: &str, len: usize) -> Vec<u8> {
    let mut state = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}

/// Writes values under new keys until the node refuses one; the keys that were acknowledged, and the first word of the
/// refusal.
fn fill(connection: &mut redis::Connection, name: &str) -> (Vec<String>, String) {
    let mut acknowledged = Vec::new();
    for number in 0..100_000 {
        let key = format!("{name}-{number}");
        match redis::cmd("SET").arg(&key).arg(noise(&key, VALUE)).query::<String>(connection) {
            Ok(_) => acknowledged.push(key),
            // Under way when the disk got full: nobody knows.
            Err(error) if error.code() == Some("TIMEOUT") => {}
            Err(error) => return (acknowledged, error.code().unwrap_or_default().to_string()),
        }
    }
    panic!("the disk never got full");
}

#[test]
fn a_full_disk_refuses_values_serves_the_rest_and_needs_no_restart() {
    let scratch = Scratch::new("full");
    let data = scratch.0.join("data");
    let Some(_mount) = Mount::tmpfs(&data, 64) else {
        return;
    };
    let ports = free_ports(3);
    let flags = ["--reserve", "8", "--memory", "16"];
    let node = Single::start(&data, &ports, &flags);
    let mut connection = connect(node.port).expect("it serves");
    let (acknowledged, word) = fill(&mut connection, "first");
    assert_eq!(word, "DISKFULL", "after {} values", acknowledged.len());
    assert!(acknowledged.len() > 150, "{} values of 100 kB in 64 MiB", acknowledged.len());
    let refused = node.ask::<String>(&["SET", "more", "1"]).expect_err("it is full");
    assert_eq!(refused.code(), Some("DISKFULL"), "{refused}");
    assert_eq!(get(node.http, "/readyz").expect("it lives").0, 200);
    wait_for("it to be told", || (metric(node.http, "samara_disk_full ") > 0.5).then_some(()));
    let status = String::from_utf8_lossy(&admin(node.http, &["status"]).stdout).into_owned();
    assert!(status.contains("the disk is full: no new values are taken"), "{status}");
    for key in &acknowledged {
        let held: Option<Vec<u8>> = redis::cmd("GET").arg(key).query(&mut connection).expect("reads go on");
        assert!(held.is_some_and(|held| held == noise(key, VALUE)), "{key} was acknowledged");
    }
    for key in &acknowledged {
        let deleted: i64 = redis::cmd("DEL").arg(key).query(&mut connection).expect("deletes go on");
        assert_eq!(deleted, 1, "{key}");
    }
    wait_for("space to come back", || node.ask::<String>(&["SET", "again", "1"]).ok());
    wait_for("it to be told", || (metric(node.http, "samara_disk_full ") < 0.5).then_some(()));
    // Compaction may be behind the client: as much fits again in the end.
    let mut again = Vec::new();
    let end = Instant::now() + Duration::from_mins(1);
    while again.len() * 2 < acknowledged.len() {
        let (more, word) = fill(&mut connection, &format!("again-{}", again.len()));
        assert_eq!(word, "DISKFULL");
        again.extend(more);
        assert!(Instant::now() < end, "{} values fit, then {}", acknowledged.len(), again.len());
    }
    drop(node);
    let node = Single::start(&data, &ports, &flags);
    let mut connection = connect(node.port).expect("it serves");
    for key in &again {
        let held: Option<Vec<u8>> = redis::cmd("GET").arg(key).query(&mut connection).expect("reads go on");
        assert!(
            held.is_some_and(|held| held == noise(key, VALUE)),
            "{key} was acknowledged before kill -9 on a full disk"
        );
    }
}

#[test]
fn a_sync_that_fails_ends_the_node_and_loses_nothing_acknowledged() {
    let scratch = Scratch::new("sync");
    let (store, data) = (scratch.0.join("store"), scratch.0.join("data"));
    // A disk that has promised more space than it has: it takes writes, and fails to write them out.
    let Some(under) = Mount::tmpfs(&store, 120) else {
        return;
    };
    let image = store.join("image");
    let Some(mount) = Mount::ext4(&data, &image, 1_000) else {
        return;
    };
    let ports = free_ports(3);
    let flags = ["--memory", "64"];
    let node = Single::start(&data, &ports, &flags);
    let mut connection = connect(node.port).expect("it serves");
    let mut acknowledged = Vec::new();
    for number in 0..10_000 {
        let key = format!("key-{number}");
        match redis::cmd("SET").arg(&key).arg(noise(&key, 50_000)).query::<String>(&mut connection) {
            Ok(_) => acknowledged.push(key),
            // A refusal is one; at its end the node answers nothing.
            Err(error) if error.code().is_some() => {}
            Err(_) => break,
        }
    }
    let (said, code) = node.end();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("the sync has failed") && said.contains("check the disk"), "{said}");
    assert!(acknowledged.len() > 100);
    // The space is there now; the journal of the file system may have ended with the error.
    under.remount("size=1200m");
    drop(mount);
    let mount = Mount::image(&data, &image).expect("it was mounted before");
    let node = Single::start(&data, &ports, &flags);
    let mut connection = connect(node.port).expect("it serves");
    for key in &acknowledged {
        let held: Option<Vec<u8>> = redis::cmd("GET").arg(key).query(&mut connection).expect("it reads");
        assert!(held.is_some_and(|held| held == noise(key, 50_000)), "{key} was acknowledged");
    }
    drop((node, mount));
}

#[test]
fn a_disk_that_turns_read_only_ends_the_node_with_the_reason() {
    let scratch = Scratch::new("read-only");
    let data = scratch.0.join("data");
    let Some(mount) = Mount::tmpfs(&data, 256) else {
        return;
    };
    let ports = free_ports(3);
    let node = Single::start(&data, &ports, &[]);
    node.ask::<String>(&["SET", "k", "v"]).expect("it serves");
    drop(node);
    mount.remount("ro");
    let refused = single_command(&data, &ports, &[]).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    mount.remount("rw");
    let node = Single::start(&data, &ports, &[]);
    assert_eq!(node.ask::<String>(&["GET", "k"]).expect("it serves"), "v");
}

#[test]
fn a_crowd_of_clients_leaves_the_store_its_files() {
    let scratch = Scratch::new("crowd");
    let data = scratch.0.join("data");
    let ports = free_ports(3);
    let limited = format!(
        "ulimit -n 150; exec {} node --listen 127.0.0.1:{} --peer-listen 127.0.0.1:{} --http-listen 127.0.0.1:{} --data {} --memory 16",
        binary().display(),
        ports[0],
        ports[1],
        ports[2],
        data.display()
    );
    let process = Command::new("sh").args(["-c", &limited]).envs(PATIENT_DISK).stderr(Stdio::piped()).spawn();
    let node = Single { process: process.expect("it starts"), port: ports[0], http: ports[2] };
    wait_for("the node to be ready", || (get(node.http, "/readyz")?.0 == 200).then_some(()));
    let mut first = connect(node.port).expect("it serves");
    let crowd: Vec<TcpStream> =
        (0..300).filter_map(|_| TcpStream::connect(("127.0.0.1", node.port)).ok()).collect();
    assert!(crowd.len() > 250);
    // The reading, flushing and compacting of many tables goes on.
    let value = vec![b'v'; 3_000];
    for some in 0..240 {
        let mut pipe = redis::pipe();
        for number in some * 50..(some + 1) * 50 {
            pipe.cmd("SET").arg(format!("key-{}", number * 7_919 % 12_000)).arg(&value).ignore();
        }
        pipe.query::<()>(&mut first).expect("the store has its files");
    }
    for number in 0..12_000 {
        let held: Vec<u8> =
            redis::cmd("GET").arg(format!("key-{number}")).query(&mut first).expect("it reads");
        assert_eq!(held.len(), value.len());
    }
    assert!(metric(node.http, "samara_damaged_blocks ") < 0.5);
    drop(crowd);
    let mut node = node;
    node.process.kill().expect("it is ours");
    let (said, _) = node.end();
    assert!(said.contains("are served at a time; allow more by ulimit -n"), "{said}");
}

#[test]
fn too_few_files_are_refused_in_one_line() {
    let scratch = Scratch::new("few-files");
    let limited = format!(
        "ulimit -n 60; exec {} node --listen 127.0.0.1:0 --peer-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --data {}",
        binary().display(),
        scratch.0.join("data").display()
    );
    let refused = Command::new("sh").args(["-c", &limited]).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("60 files, which is too few; allow more by ulimit -n"), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
}
