//! `samara verify` on the files of a real node: sound after kill -9, and told by name what is damaged.

#[expect(dead_code, reason = "other tests start clusters")]
mod support;

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::{PATIENT_DISK, Scratch, binary, connect, free_ports, open, served, wait_for};

struct Verified {
    code: i32,
    out: String,
    err: String,
}

fn verify(directory: &Path, flags: &[&str]) -> Verified {
    run(Command::new(binary()).arg("verify").arg(directory).args(flags))
}

fn run(command: &mut Command) -> Verified {
    let output = command.output().expect("it runs");
    Verified {
        code: output.status.code().expect("it ends by itself"),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

/// A node of two shards, alone in its cluster.
fn start(data: &Path, port: u16, others: &[u16]) -> Child {
    let address = |port: u16| format!("127.0.0.1:{port}");
    Command::new(binary())
        .args(["node", "--shards", "2", "--memory", "32", "--durability", "interval:1000"])
        .args(["--listen", &address(port)])
        .args(["--peer-listen", &address(others[0]), "--http-listen", &address(others[1])])
        .arg("--data")
        .arg(data)
        .envs(PATIENT_DISK)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the node starts")
}

fn files(directory: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a folder").flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == suffix));
    files.sort();
    files
}

/// Fills the node until a table of shard 0 is there, and kills it. The data of a node that died.
fn killed_node(data: &Path) {
    let ports = free_ports(3);
    let mut node = start(data, ports[0], &ports[1..]);
    wait_for("both shards to be ready", || is_ready(ports[2]).then_some(()));
    let mut connection = connect(ports[0]).expect("the node is ready");
    let value = vec![b'v'; 1 << 20];
    for number in 0.. {
        let key = format!("key-{number}");
        let set: redis::RedisResult<String> = redis::cmd("SET").arg(&key).arg(&value).query(&mut connection);
        assert!(set.is_ok(), "{key}: {set:?}");
        if number % 8 == 0 && has_table(ports[2]) {
            break;
        }
        assert!(number < 1_000, "no table after {number} MiB");
    }
    let running = verify(data, &[]);
    assert_eq!(running.code, 2, "{}", running.out);
    assert!(running.err.contains("a node uses this directory"), "{}", running.err);
    assert_eq!(running.err.lines().count(), 1, "one line: {}", running.err);
    ask_running(ports[2]);
    node.kill().expect("the node is ours");
    node.wait().expect("it was killed");
    let gone = admin(ports[2], &["status"]);
    assert_eq!(gone.code, 2, "{}", gone.out);
    assert!(gone.err.contains("no node answers") && gone.err.lines().count() == 1, "{}", gone.err);
}

/// What the node says of itself; nothing if it does not answer.
fn status(http: u16) -> serde_json::Value {
    serde_json::from_str(&admin(http, &["status", "--json"]).out).unwrap_or_default()
}

/// Whether all of its shards serve.
fn is_ready(http: u16) -> bool {
    status(http)["ready"] == true
}

/// Whether shard 0 has a table, and something in its log that is not in one.
fn has_table(http: u16) -> bool {
    let shard = &status(http)["shards"][0];
    let above_zero = |figure: &serde_json::Value| figure.as_u64().is_some_and(|figure| figure > 0);
    above_zero(&shard["tables"]) && above_zero(&shard["memory_bytes"]["log_pending"])
}

fn admin(port: u16, words: &[&str]) -> Verified {
    let address = format!("127.0.0.1:{port}");
    run(Command::new(binary()).arg("admin").args(["--addr", &address]).args(words))
}

/// What an operator asks of a node that runs.
fn ask_running(http: u16) {
    let status = admin(http, &["status", "--json"]);
    assert_eq!(status.code, 0, "{}", status.err);
    let status: serde_json::Value = serde_json::from_str(&status.out).expect("JSON");
    assert_eq!((&status["ready"], &status["shards"][1]["phase"]), (&true.into(), &"serving".into()));
    let scrubbed = admin(http, &["scrub", "--wait"]);
    assert_eq!(scrubbed.code, 0, "{}{}", scrubbed.out, scrubbed.err);
    assert!(scrubbed.out.contains("rounds since the start"), "{}", scrubbed.out);
    assert!(scrubbed.out.contains("damaged blocks: 0"), "{}", scrubbed.out);
}

fn flip(path: &Path, offset: u64) {
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).expect("a place in it");
    file.read_exact(&mut byte).expect("a byte");
    file.seek(SeekFrom::Start(offset)).expect("a place in it");
    file.write_all(&[byte[0] ^ 4]).expect("a byte");
}

fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).expect("a folder").flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect()
}

fn is_told(data: &Path, file: &Path, what: &str) {
    let found = verify(data, &[]);
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    assert_eq!(found.code, 1, "{what}: {}{}", found.out, found.err);
    assert!(found.out.contains(name), "{what} {name}: {}", found.out);
    assert!(found.out.lines().last().is_some_and(|line| line.starts_with("damaged: ")), "{}", found.out);
}

/// Which keys are concerned is told by keys and slots; an empty name tells nobody anything.
fn stretch_is_told(said: &str) {
    let (_, stretch) = said.split_once("keys from ").unwrap_or_else(|| panic!("no stretch of keys: {said}"));
    let (first, rest) = stretch.split_once(" to ").expect("two bounds");
    let (last, _) = rest.split_once(" of this table").expect("two bounds");
    for bound in [first, last] {
        let name = bound.strip_prefix("before ").unwrap_or(bound);
        let is_key = name.starts_with("key-") && name.contains(" (slot ");
        assert!(is_key || name.starts_with("start of slot ") || name.starts_with("end of slot "), "{said}");
    }
}

#[test]
fn a_killed_node_is_clean_and_every_kind_of_damage_is_told_by_name() {
    let scratch = Scratch::new("verify");
    let data = scratch.0.join("data");
    killed_node(&data);
    let shard = data.join("shard-0");
    let before = contents(&shard);
    let clean = verify(&data, &[]);
    assert_eq!(clean.code, 0, "{}{}", clean.out, clean.err);
    assert!(clean.out.contains("clean: every byte of 2 shards"), "{}", clean.out);
    assert!(contents(&shard) == before, "verification writes nothing");

    let json = verify(&data, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((&json["verdict"], &json["damage"]), (&"clean".into(), &0.into()));
    assert_eq!(json["shards"][1]["shard"], 1);
    assert!(json["shards"][0]["bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));

    for (suffix, offset) in [
        ("table", 20),
        ("value", 5_000),
        ("manifest", 700),
        ("wal", 60),
        ("identity", 20),
        ("ceiling", 4_100),
    ] {
        // Of several segments the last is in use.
        let file = files(&shard, suffix)
            .into_iter()
            .find(|file| suffix != "wal" || std::fs::read(file).expect("a file")[..8] != [0; 8]);
        let file = file.expect("a file of each kind");
        flip(&file, offset);
        is_told(&data, &file, "a flipped bit");
        if suffix == "table" {
            stretch_is_told(&verify(&data, &[]).out);
        }
        let json = verify(&data, &["--json"]);
        assert_eq!(json.code, 1);
        assert!(json.out.contains("\"verdict\":\"damaged\""), "{}", json.out);
        flip(&file, offset);
    }
    for suffix in ["table", "manifest", "ceiling"] {
        let file = files(&shard, suffix).remove(0);
        let away = scratch.0.join("away");
        std::fs::rename(&file, &away).expect("moved away");
        is_told(&data, &file, "a missing file");
        std::fs::rename(&away, &file).expect("moved back");
    }
    let file = files(&shard, "table").remove(0);
    let whole = std::fs::read(&file).expect("a table");
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("cut");
    is_told(&data, &file, "a truncated file");
    std::fs::write(&file, &whole).expect("whole again");
    assert_eq!(verify(&data, &[]).code, 0, "all is as it was");
}

/// The data of a node that died young.
fn small_node(data: &Path) {
    let ports = free_ports(3);
    let mut node = start(data, ports[0], &ports[1..]);
    for key in ["k", "l", "m", "n"] {
        served("the node", || redis::cmd("SET").arg(key).arg("v").query::<String>(&mut open(ports[0])?));
    }
    node.kill().expect("the node is ours");
    node.wait().expect("it was killed");
}

#[test]
fn exchanged_and_missing_folders_and_foreign_ones_are_told() {
    let scratch = Scratch::new("verify-folders");
    let data = scratch.0.join("data");
    small_node(&data);
    assert_eq!(verify(&data, &[]).code, 0);
    let alone = verify(&data.join("shard-1"), &[]);
    assert_eq!(alone.code, 0, "one folder is all that was asked for: {}", alone.out);
    assert!(alone.out.contains("clean: every byte of 1 shard is as it was written"), "{}", alone.out);

    let (one, other, away) = (data.join("shard-0"), data.join("shard-1"), scratch.0.join("away"));
    std::fs::rename(&one, &away).expect("moved away");
    let missing = verify(&data, &[]);
    assert_eq!(missing.code, 1);
    assert!(missing.out.contains("shard-0: missing"), "{}", missing.out);
    std::fs::rename(&other, &one).expect("moved");
    std::fs::rename(&away, &other).expect("moved");
    let exchanged = verify(&data, &[]);
    assert_eq!(exchanged.code, 1);
    assert!(exchanged.out.contains("is of shard 1, in the folder of shard 0"), "{}", exchanged.out);

    let foreign = scratch.0.join("foreign");
    std::fs::create_dir_all(foreign.join("photos")).expect("a folder");
    std::fs::write(foreign.join("photos/one.jpg"), b"not ours").expect("a file");
    for (directory, words) in [(foreign, "not a data directory"), (scratch.0.join("nowhere"), "No such file")]
    {
        let refused = verify(&directory, &[]);
        assert_eq!(refused.code, 2, "{}", refused.out);
        assert!(refused.err.contains(words), "{}", refused.err);
        assert_eq!(refused.out, "");
    }
}

#[test]
fn what_the_user_may_not_read_is_no_damage() {
    let scratch = Scratch::new("verify-unread");
    let data = scratch.0.join("data");
    small_node(&data);
    // A user who is not root may not read it; root may read everything.
    let manifest = data.join("shard-0/0000000000.manifest");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&manifest, mode(0o000)).expect("it is ours");
    let mut as_nobody = Command::new("setpriv");
    as_nobody.args(["--reuid", "65534", "--clear-groups"]).arg(binary()).arg("verify").arg(&data);
    let said = as_nobody.output();
    let Some(said) = said.ok().filter(|said| !said.stderr.starts_with(b"setpriv:")) else {
        println!("SKIPPED: cannot run as another user here (root and setpriv are needed)");
        return;
    };
    let (code, said) = (said.status.code(), String::from_utf8_lossy(&said.stderr).into_owned());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("0000000000.manifest: Permission denied"), "{said}");
    assert!(said.contains("verify as the user that runs the node"), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
}
