//! `samara verify`: reads every byte of a data directory that no node uses, and prints what is damaged.

use bytes::Bytes;
use samara_core::io::{DiskError, DiskErrorKind, DiskOp, DiskResult, FileInfo, FileName};
use samara_core::node::Owner;
use samara_core::node::verify::Verifier;
use samara_core::store::verify::{Finding, Findings};
use serde::Serialize;
use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::io::{self, IsTerminal, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Folders of folders in which shards are looked for: `samara dev` keeps them two deep.
const DEPTH: usize = 3;

/// What a verification of a whole data directory has found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `clean` or `damaged`.
    pub verdict: &'static str,
    /// Damage in all shards.
    pub damage: u64,
    /// Each shard's directory.
    pub shards: Vec<ShardReport>,
    /// Shards that their neighbours tell of and that are not there.
    pub missing: Vec<String>,
}

/// What was found in one shard's directory.
#[derive(Debug, Serialize)]
pub struct ShardReport {
    directory: String,
    cluster: Option<String>,
    node: Option<u16>,
    shard: Option<u16>,
    shards: Option<u16>,
    files: u64,
    bytes: u64,
    tables: u64,
    records: u64,
    damage: Vec<Line>,
    /// Damage beyond what is listed.
    omitted: u64,
    notes: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    file: String,
    offset: Option<u64>,
    what: String,
    means: String,
}

impl Line {
    fn new(finding: &Finding) -> Self {
        let Finding { file, offset, what, means } = finding;
        Self { file: file.to_string(), offset: *offset, what: what.clone(), means: means.clone() }
    }
}

/// A shard's directory, read only.
struct Directory {
    path: PathBuf,
    open: Option<(FileName, File)>,
    /// Shared with other readers, and never with a node.
    _lock: Option<File>,
}

/// Verifies every shard below `path`. `Err` says why that cannot be done.
pub fn verify(path: &Path) -> Result<Report, String> {
    let directories = shard_directories(path)?;
    if directories.is_empty() {
        let name = path.display();
        return Err(format!(
            "{name}: not a data directory of samara: it holds no shard; give the folder of --data"
        ));
    }
    let mut opened = Vec::new();
    for directory in &directories {
        opened.push(Directory::open(directory)?);
    }
    let mut shards = Vec::new();
    let mut owners = Vec::new();
    for mut directory in opened {
        let (report, owner) = directory.verify();
        owners.push((directory.path.clone(), owner));
        shards.push(report);
    }
    let missing = missing_shards(path, &owners);
    let damage = missing.len() as u64
        + shards.iter().map(|shard| shard.damage.len() as u64 + shard.omitted).sum::<u64>();
    Ok(Report { verdict: if damage == 0 { "clean" } else { "damaged" }, damage, shards, missing })
}

/// The folders at or below `path` that hold files of ours.
fn shard_directories(path: &Path) -> Result<Vec<PathBuf>, String> {
    let (mut found, mut left) = (Vec::new(), vec![(path.to_owned(), 0)]);
    while let Some((path, depth)) = left.pop() {
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let mut is_shard = false;
        for entry in std::fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let name = entry.file_name();
            is_shard |= kind.is_file() && name.to_str().and_then(FileName::parse).is_some();
            if kind.is_dir() && depth < DEPTH {
                left.push((entry.path(), depth + 1));
            }
        }
        if is_shard {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The number in a folder's name `shard-N`.
fn number_of(path: &Path) -> Option<u16> {
    path.file_name()?.to_str()?.strip_prefix("shard-")?.parse().ok()
}

/// Shards of a node that are not beside the others, where their folder was to be looked at.
fn missing_shards(asked: &Path, owners: &[(PathBuf, Option<Owner>)]) -> Vec<String> {
    let mut missing = Vec::new();
    for (path, owner) in owners.iter().filter(|(path, _)| path != asked) {
        let (Some(owner), Some(parent), Some(_)) = (owner, path.parent(), number_of(path)) else {
            continue;
        };
        for number in 0..owner.shards {
            let wanted = parent.join(format!("shard-{number}"));
            let wanted = wanted.display().to_string();
            let is_there = owners.iter().any(|(path, _)| path.display().to_string() == wanted);
            if !is_there && !missing.contains(&wanted) {
                missing.push(wanted);
            }
        }
    }
    missing
}

impl Directory {
    fn open(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let lock = match File::open(path.join("lock")) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(format!("{name}/lock: {error}")),
        };
        match lock.as_ref().map(File::try_lock_shared) {
            None | Some(Ok(())) => {
                let directory = Self { path: path.to_owned(), open: None, _lock: lock };
                directory.check_permissions()?;
                Ok(directory)
            }
            Some(Err(TryLockError::WouldBlock)) => Err(format!(
                "{name}: a node uses this directory; stop it first, or ask it by samara admin scrub"
            )),
            Some(Err(TryLockError::Error(error))) => Err(format!("{name}/lock: {error}")),
        }
    }

    /// What the user may not read is no damage.
    fn check_permissions(&self) -> Result<(), String> {
        let name = self.path.display();
        for entry in std::fs::read_dir(&self.path).map_err(|error| format!("{name}: {error}"))?.flatten() {
            let is_ours = entry.file_name().to_str().and_then(FileName::parse).is_some();
            match File::open(entry.path()) {
                Err(error) if is_ours && error.kind() == io::ErrorKind::PermissionDenied => {
                    let file = entry.path();
                    return Err(format!(
                        "{}: {error}; verify as the user that runs the node",
                        file.display()
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn verify(&mut self) -> (ShardReport, Option<Owner>) {
        let mut verifier = Verifier::new();
        let mut progress = Progress::new(self.path.display().to_string());
        while let Some(op) = verifier.next_read() {
            let result = self.perform(&op).unwrap_or_else(|error| {
                DiskResult::Failed(DiskError { kind: DiskErrorKind::Io, text: error.to_string() })
            });
            verifier.on_result(result);
            progress.show(verifier.progress());
        }
        progress.end();
        let owner = verifier.owner();
        let Findings { damage, notes, omitted, files, bytes, tables, records } = verifier.findings().clone();
        let mut report = ShardReport {
            directory: self.path.display().to_string(),
            cluster: owner.map(|owner| format!("{:032x}", owner.cluster.0)),
            node: owner.map(|owner| owner.address.node.0),
            shard: owner.map(|owner| owner.address.shard.0),
            shards: owner.map(|owner| owner.shards),
            files,
            bytes,
            tables,
            records,
            damage: damage.iter().map(Line::new).collect(),
            omitted,
            notes: notes.iter().map(Line::new).collect(),
        };
        if let (Some(owner), Some(number)) = (owner, number_of(&self.path))
            && owner.address.shard.0 != number
        {
            report.damage.push(Line {
                file: "0000000000.identity".into(),
                offset: None,
                what: format!("is of shard {}, in the folder of shard {number}", owner.address.shard.0),
                means: "folders have been exchanged: give them back their names".into(),
            });
        }
        (report, owner)
    }

    fn perform(&mut self, op: &DiskOp) -> io::Result<DiskResult> {
        match op {
            DiskOp::List => self.list(),
            DiskOp::Read { file, offset, len } => self.read(*file, *offset, *len),
            _ => Err(io::Error::other("verification only reads")),
        }
    }

    fn list(&self) -> io::Result<DiskResult> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Some(file) = entry.file_name().to_str().and_then(FileName::parse) {
                files.push(FileInfo { file, len: entry.metadata()?.len() });
            }
        }
        files.sort_by_key(|info| info.file);
        Ok(DiskResult::Files(files))
    }

    fn read(&mut self, name: FileName, offset: u64, len: u32) -> io::Result<DiskResult> {
        let file = match self.open.take() {
            Some((open, file)) if open == name => file,
            _ => File::open(self.path.join(name.to_string()))?,
        };
        let mut data = vec![0; len as usize];
        let mut filled = 0;
        while filled < data.len() {
            match file.read_at(&mut data[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        data.truncate(filled);
        self.open = Some((name, file));
        Ok(DiskResult::Data(Bytes::from(data)))
    }
}

/// How far a long verification is, on stderr.
struct Progress {
    name: String,
    next: Instant,
    every: Duration,
    is_terminal: bool,
    has_shown: bool,
}

impl Progress {
    fn new(name: String) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let every = if is_terminal { Duration::from_millis(500) } else { Duration::from_secs(10) };
        Self { name, next: Instant::now() + 2 * every, every, is_terminal, has_shown: false }
    }

    fn show(&mut self, (done, of): (u64, u64)) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + self.every;
        self.has_shown = true;
        let percent = done * 100 / of.max(1);
        let line = format!("{}: {} of {} read, {percent} %", self.name, amount(done), amount(of));
        // Nobody is told more by a stderr that has gone.
        let _gone = if self.is_terminal {
            write!(io::stderr(), "\r{line} ")
        } else {
            writeln!(io::stderr(), "{line}")
        };
    }

    fn end(&self) {
        if self.has_shown && self.is_terminal {
            let _gone = writeln!(io::stderr());
        }
    }
}

fn several(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn amount(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

impl Report {
    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for shard in &self.shards {
            shard.write(&mut text);
        }
        for missing in &self.missing {
            let _written = writeln!(text, "{missing}: missing, although the other shards tell of it");
        }
        let (verdict, count) = (self.verdict, self.shards.len());
        let _written = match self.damage {
            0 => writeln!(text, "{verdict}: every byte of {} is as it was written", several(count, "shard")),
            damage => writeln!(
                text,
                "{verdict}: {} in {}",
                several(damage as usize, "place"),
                several(count, "shard")
            ),
        };
        text
    }
}

impl ShardReport {
    fn write(&self, text: &mut String) {
        let whose = match (self.node, self.shard, self.shards) {
            (Some(node), Some(shard), Some(shards)) => format!("node {node}, shard {shard} of {shards}"),
            _ => "of no node yet, or its identity cannot be read".into(),
        };
        let (directory, files, tables, records) = (&self.directory, self.files, self.tables, self.records);
        let read = amount(self.bytes);
        // Writing to a string cannot fail.
        let _written = writeln!(
            text,
            "{directory}: {whose}; {read} in {files} files, {tables} tables, {records} records"
        );
        for (kind, lines) in [("damaged", &self.damage), ("note", &self.notes)] {
            for Line { file, offset, what, means } in lines {
                let at = offset.map_or(String::new(), |offset| format!(", byte {offset}"));
                let _written = writeln!(text, "  {kind}: {file}{at}: {what}: {means}");
            }
        }
        if self.omitted > 0 {
            let _written = writeln!(text, "  damaged: {} more places", self.omitted);
        }
    }
}
