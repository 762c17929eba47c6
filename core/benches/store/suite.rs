//! The rows, and how they are measured: alike for every engine.

use super::data::{ENTRY_BYTES, spread};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const READS: u64 = 200_000;
const SCANS: u64 = 5_000;
/// Several memtables of them.
const WRITES_BEFORE_DEATH: u64 = 2_000_000;

/// What an engine is opened with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Records.
    pub keys: u64,
    pub rounds: u64,
    pub cache_bytes: usize,
    /// Writes under way at a time: they share a sync.
    pub window: u64,
    /// A write counts when it is durable; otherwise when the operating system has it.
    pub sync: bool,
    /// Rows wanted; all if empty.
    pub rows: Vec<String>,
    pub peers: bool,
    pub directory: PathBuf,
}

/// An engine.
pub trait Engine {
    fn open(path: &Path, setup: &Setup) -> Self;
    fn put(&mut self, number: u64);
    /// Makes durable all that has been put, where writes are synced.
    fn sync(&mut self) {}
    /// Lets what goes on in the background come to rest, where it can be known.
    fn settle(&mut self);
    fn get(&mut self, number: u64) -> bool;
    fn scan(&mut self, number: u64) -> usize;
    /// What it says of itself since the last note.
    fn note(&mut self) -> String {
        String::new()
    }
}

/// What a row tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Operations a second.
    Rate,
    /// Microseconds of processor time for each, of all threads.
    Cpu,
    Other,
}

/// A measured row: name, figure, and what it tells.
pub type Rows = Vec<(String, f64, Figure)>;
/// An engine's name and the two things that it can do: its rows, and writes that end in an abort.
pub type Player = (&'static str, fn(&Setup, &str) -> Rows, fn(&Setup, &Path));

pub fn player<E: Engine>(name: &'static str) -> Player {
    (name, measure::<E>, write_and_die::<E>)
}

/// Measures `count` calls: operations a second, and processor time for each.
fn timed(rows: &mut Rows, name: &str, count: u64, mut call: impl FnMut(u64)) {
    let (start, before) = (Instant::now(), processor());
    (0..count).for_each(&mut call);
    rows.push((name.into(), count as f64 / start.elapsed().as_secs_f64(), Figure::Rate));
    rows.push((format!("{name}, CPU us each"), (processor() - before) * 1e6 / count as f64, Figure::Cpu));
}

/// Seconds of processor time that this process has taken so far, all threads together.
fn processor() -> f64 {
    /// Ticks a second in `/proc`, the same on every Linux.
    const TICKS: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind = text.rsplit(')').next().unwrap_or_default();
    let ticks = behind.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS
}

/// Bytes that this process has written so far, by every thread.
fn written() -> f64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(f64::NAN)
}

fn space(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => space(&entry.path()),
        Ok(meta) => std::os::unix::fs::MetadataExt::blocks(&meta) * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// Puts one after the other: the rate, and the longest that one took.
fn puts<E: Engine>(rows: &mut Rows, name: &str, db: &mut E, count: u64, number: impl Fn(u64) -> u64) {
    let mut longest = Duration::ZERO;
    timed(rows, name, count, |at| {
        let before = Instant::now();
        db.put(number(at));
        longest = longest.max(before.elapsed());
        if at + 1 == count {
            db.sync();
        }
    });
    rows.push((format!("{name}, longest write, ms"), longest.as_secs_f64() * 1e3, Figure::Other));
}

fn measure<E: Engine>(setup: &Setup, name: &str) -> Rows {
    let path = setup.directory.join(name);
    let keys = setup.keys;
    let wants = |row: &str| setup.rows.is_empty() || setup.rows.iter().any(|wanted| *wanted == row);
    let mut rows = Rows::new();
    let mut db = E::open(&path, setup);
    puts(&mut rows, "fill", &mut db, keys, |number| number);
    println!("  {name} fill: {}", db.note());
    db.settle();
    let hot = keys.min(200_000);
    if wants("hot") {
        (0..hot).for_each(|number| assert!(db.get(number)));
        timed(&mut rows, "hot", READS, |number| assert!(db.get(spread(number, hot))));
    }
    if wants("all") {
        timed(&mut rows, "all", READS, |number| assert!(db.get(spread(number * 7, keys))));
    }
    if wants("absent") {
        timed(&mut rows, "absent", READS, |number| assert!(!db.get(keys + number)));
    }
    if wants("scan") {
        timed(&mut rows, "scan", SCANS, |number| assert!(db.scan(spread(number, keys)) <= 100));
    }
    println!("  {name} reads: {}", db.note());
    if wants("overwrite") {
        // The first pass brings the tree into its steady state; the second is measured.
        (0..keys).for_each(|number| db.put(spread(number, keys)));
        db.settle();
        let before = written();
        puts(&mut rows, "overwrite", &mut db, keys, |number| spread(number * 3, keys));
        db.settle();
        let user = (keys * ENTRY_BYTES) as f64;
        rows.push(("overwrite, bytes written for one".into(), (written() - before) / user, Figure::Other));
        rows.push(("overwrite, space for one byte".into(), space(&path) as f64 / user, Figure::Other));
        println!("  {name} overwrite: {}", db.note());
    }
    drop(db);
    if wants("reopen") {
        rows.push(("reopen after a stop, ms".into(), reopen::<E>(&path, setup), Figure::Other));
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.args(["--die", name, "--keys", &keys.to_string()]).arg("--dir").arg(&setup.directory);
        let status = child.stderr(std::process::Stdio::null()).status().expect("a child");
        assert!(!status.success(), "the child was killed");
        rows.push(("reopen after a kill, ms".into(), reopen::<E>(&path, setup), Figure::Other));
    }
    let _removed = std::fs::remove_dir_all(&path);
    if wants("synced") {
        let synced = Setup { sync: true, ..setup.clone() };
        let mut db = E::open(&path, &synced);
        puts(&mut rows, "fill, synced", &mut db, (keys / 10).max(1_000), |number| number);
        drop(db);
        let _removed = std::fs::remove_dir_all(&path);
    }
    rows
}

fn reopen<E: Engine>(path: &Path, setup: &Setup) -> f64 {
    let start = Instant::now();
    let mut db = E::open(path, setup);
    assert!(db.get(0), "what was put is there");
    start.elapsed().as_secs_f64() * 1e3
}

/// Opens a directory, writes on, and dies in the midst of it.
fn write_and_die<E: Engine>(setup: &Setup, path: &Path) {
    let mut db = E::open(path, setup);
    (0..setup.keys.min(WRITES_BEFORE_DEATH)).for_each(|number| db.put(spread(number, setup.keys)));
    std::process::abort();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn setup() -> (Setup, Option<String>) {
    let directory = std::env::temp_dir().join(format!("samara-bench-{}", std::process::id()));
    let mut setup = Setup {
        keys: 1_000_000,
        rounds: 3,
        cache_bytes: 128 << 20,
        window: 256,
        sync: false,
        rows: Vec::new(),
        peers: true,
        directory,
    };
    let mut die = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} wants a value"));
        let mut number = || value().parse::<u64>().unwrap_or_else(|_| panic!("{argument} wants a number"));
        match argument.as_str() {
            "--keys" => setup.keys = number().max(10),
            "--rounds" => setup.rounds = number().max(1),
            "--cache-mib" => setup.cache_bytes = (number() as usize) << 20,
            "--window" => setup.window = number().max(1),
            "--rows" => setup.rows = value().split(',').map(str::to_string).collect(),
            "--dir" => setup.directory = value().into(),
            "--die" => die = Some(value()),
            "--alone" => setup.peers = false,
            // Cargo says so.
            "--bench" => {}
            other => panic!("{other} is not an option; see the head of core/benches/store/main.rs"),
        }
    }
    (setup, die)
}

/// Measures the players in turn, and prints medians and ratios to the first.
pub fn run(players: &[Player]) {
    let (setup, die) = setup();
    if let Some(name) = die {
        let player = players.iter().find(|(other, ..)| *other == name).expect("a player");
        return player.2(&setup, &setup.directory.join(name));
    }
    let players = if setup.peers { players } else { &players[..1] };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{} records of 16 + 100 bytes, cache {} MiB, window {}, {} rounds; load at the beginning {}",
        setup.keys,
        setup.cache_bytes >> 20,
        setup.window,
        setup.rounds,
        load.trim(),
    );
    let mut all: Vec<Vec<Rows>> = vec![Vec::new(); players.len()];
    for round in 0..setup.rounds {
        for (at, (name, measure, _)) in players.iter().enumerate() {
            println!("round {} of {}: {name}", round + 1, setup.rounds);
            all[at].push(measure(&setup, name));
        }
    }
    let _removed = std::fs::remove_dir_all(&setup.directory);
    let of = |rounds: &[Rows], row: usize| median(rounds.iter().map(|rows| rows[row].1).collect());
    for (row, (what, _, kind)) in all[0][0].iter().enumerate() {
        let mut line = format!("{what:34}");
        let ours = of(&all[0], row);
        for ((name, ..), rounds) in players.iter().zip(&all) {
            let figure = of(rounds, row);
            let digits = if *kind == Figure::Rate { 0 } else { 2 };
            let ratio =
                if *name == players[0].0 { String::new() } else { format!(" ({:.2})", ours / figure) };
            line = format!("{line}  {name} {figure:>10.digits$}{ratio}");
        }
        println!("{line}");
    }
}
