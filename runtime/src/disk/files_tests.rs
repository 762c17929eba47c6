use super::super::faulty::{Call, Faulty};
use super::*;
use crate::inbox::Batch;
use bytes::Bytes;
use rustix::io::Errno;
use samara_core::io::{DiskErrorKind, FileKind, FileName};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("samara-files-{}-{number}", std::process::id()));
        Self(path)
    }

    fn shard(&self) -> PathBuf {
        self.0.join("a/b/shard-0")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A disk under test, its system, and what has come back.
struct Bench {
    scratch: Scratch,
    system: Arc<Faulty>,
    disk: FileDisk,
    done: Shard,
    stats: Arc<Stats>,
    results: BTreeMap<u64, DiskResult>,
    tickets: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with_handles(HANDLES)
    }

    fn with_handles(handles: usize) -> Self {
        let (scratch, system) = (Scratch::new(), Arc::new(Faulty::default()));
        let (done, stats) = (Shard::default(), Arc::new(Stats::default()));
        let disk = FileDisk::open_on(system.clone(), &scratch.shard(), &done, stats.clone(), handles);
        let disk = disk.expect("a directory");
        Self { scratch, system, disk, done, stats, results: BTreeMap::new(), tickets: 0 }
    }

    fn submit(&mut self, op: DiskOp) -> u64 {
        self.tickets += 1;
        self.disk.submit(Ticket(self.tickets), op);
        self.tickets
    }

    fn take(&mut self) {
        let mut batch = Batch::default();
        self.done.take(&mut batch);
        self.results.extend(batch.disk.drain(..).map(|(ticket, result)| (ticket.0, result)));
    }

    fn result(&mut self, ticket: u64) -> DiskResult {
        loop {
            self.take();
            if let Some(result) = self.results.remove(&ticket) {
                return result;
            }
            std::thread::yield_now();
        }
    }

    fn perform(&mut self, op: DiskOp) -> DiskResult {
        let ticket = self.submit(op);
        self.result(ticket)
    }

    #[track_caller]
    fn does(&mut self, op: DiskOp) {
        let said = format!("{op:?}");
        assert_eq!(self.perform(op), DiskResult::Done, "{said}");
    }

    #[track_caller]
    fn fails(&mut self, op: DiskOp, kind: DiskErrorKind, words: &str) {
        let said = format!("{op:?}");
        match self.perform(op) {
            DiskResult::Failed(error) => {
                assert_eq!(error.kind, kind, "{said}: {}", error.text);
                assert!(error.text.contains(words), "{said}: {} does not say {words}", error.text);
            }
            other => panic!("{said}: {other:?}"),
        }
    }

    fn path(&self, file: FileName) -> PathBuf {
        self.scratch.shard().join(file.to_string())
    }
}

fn wal(number: u64) -> FileName {
    FileName::new(FileKind::Wal, number)
}

fn table(number: u64) -> FileName {
    FileName::new(FileKind::Table, number)
}

fn create(file: FileName, preallocate: u64) -> DiskOp {
    DiskOp::Create { file, preallocate }
}

fn write(file: FileName, sync: bool) -> DiskOp {
    DiskOp::Write { file, offset: 0, data: Bytes::from_static(b"0123456789"), sync }
}

fn read(file: FileName, len: u32) -> DiskOp {
    DiskOp::Read { file, offset: 0, len }
}

fn digits() -> DiskResult {
    DiskResult::Data(Bytes::from_static(b"0123456789"))
}

#[test]
fn new_files_have_their_space_and_read_as_zeros() {
    let mut bench = Bench::new();
    for (file, errors) in [
        (wal(3), &[][..]),
        (FileName::new(FileKind::Temp, 3), &[]),
        (FileName::new(FileKind::Temp, 4), &[Errno::INTR, Errno::OPNOTSUPP]),
        (FileName::new(FileKind::Temp, 5), &[Errno::NOSYS]),
    ] {
        bench.system.fail(Call::Allocate, errors);
        let len = (3 << 20) + 5_000;
        bench.does(create(file, len));
        let meta = std::fs::metadata(bench.path(file)).expect("the file");
        assert_eq!(meta.len(), len);
        let taken = std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
        assert!(taken >= len, "{file}: {taken} bytes of {len} are taken");
        let read = bench.perform(DiskOp::Read { file, offset: len - 10, len: 100 });
        assert_eq!(read, DiskResult::Data(Bytes::from(vec![0; 10])));
        bench.fails(create(file, 0), DiskErrorKind::Io, "File exists");
    }
}

#[test]
fn what_is_in_flight_and_how_long_it_took_is_counted() {
    let mut bench = Bench::new();
    bench.does(create(wal(1), 4096));
    bench.does(write(wal(1), true));
    assert_eq!(bench.stats.gauges.disk.in_flight_bytes(), 0);
    let text = bench.stats.render();
    assert!(text.contains("samara_disk_operation_seconds_count{op=\"sync\"} 1\n"), "{text}");
}

#[test]
fn a_directory_in_use_and_a_file_in_its_place_are_refused_by_name() {
    let bench = Bench::new();
    let path = bench.scratch.shard();
    let open = |path: &Path| FileDisk::open(path, &bench.done, bench.stats.clone(), HANDLES);
    let refused = open(&path).expect_err("it is in use");
    assert!(refused.contains("another process uses this data directory"), "{refused}");
    let refused = open(&path.join("lock")).expect_err("a file stands there");
    assert!(refused.contains("lock"), "{refused}");
}

#[test]
fn short_and_interrupted_calls_move_every_byte() {
    let mut bench = Bench::new();
    bench.does(create(table(1), 0));
    bench.system.move_at_most(3);
    bench.system.fail(Call::Write, &[Errno::INTR, Errno::INTR]);
    bench.does(write(table(1), true));
    assert_eq!(bench.system.made(Call::Write), 2 + 4);
    bench.system.fail(Call::Read, &[Errno::INTR]);
    bench.system.fail(Call::Open, &[Errno::INTR]);
    assert_eq!(bench.perform(read(table(1), 10)), digits());
    assert_eq!(bench.perform(read(table(1), 4_000)), digits(), "a read ends with the file");
    bench.system.move_at_most(0);
    bench.fails(write(table(1), false), DiskErrorKind::Io, "no more bytes");
}

#[test]
fn errors_are_told_by_kind_with_the_file() {
    let mut bench = Bench::new();
    bench.does(create(table(1), 0));
    for (call, op) in [(Call::Write, write(table(1), false)), (Call::Read, read(table(1), 10))] {
        for (error, kind) in [
            (Errno::NOSPC, DiskErrorKind::Full),
            (Errno::DQUOT, DiskErrorKind::Full),
            (Errno::IO, DiskErrorKind::Io),
            (Errno::ROFS, DiskErrorKind::Io),
            (Errno::FBIG, DiskErrorKind::Io),
            (Errno::ACCESS, DiskErrorKind::Io),
        ] {
            bench.system.fail(call, &[error]);
            bench.fails(op.clone(), kind, "shard-0/0000000001.table: ");
        }
    }
    bench.fails(read(table(2), 1), DiskErrorKind::NotFound, "0000000002.table");
    bench.fails(DiskOp::Remove { file: table(2) }, DiskErrorKind::NotFound, "0000000002.table");
    bench.does(write(table(1), true));
    assert_eq!(bench.perform(read(table(1), 10)), digits(), "none of it was the end");
}

#[test]
fn nothing_is_written_or_synced_after_a_failed_sync() {
    // Want of space and an interrupt are no better than a broken disk: the pages may be gone.
    for (call, error) in [
        (Call::Sync, Errno::IO),
        (Call::Sync, Errno::NOSPC),
        (Call::Sync, Errno::INTR),
        (Call::SyncAll, Errno::IO),
    ] {
        let mut bench = Bench::new();
        for number in 1..=2 {
            bench.does(create(wal(number), 0));
            bench.does(write(wal(number), true));
        }
        let syncs = bench.system.made(call);
        bench.system.fail(call, &[error]);
        let first = if call == Call::Sync { write(wal(1), true) } else { DiskOp::SyncDir };
        bench.fails(first, DiskErrorKind::Io, "the sync has failed");
        for op in [
            write(wal(1), true),
            write(wal(2), true),
            write(wal(1), false),
            DiskOp::Sync { file: wal(1) },
            DiskOp::SyncDir,
            create(wal(3), 0),
            DiskOp::Rename { from: wal(1), to: wal(3) },
            DiskOp::Remove { file: wal(1) },
            DiskOp::Truncate { file: wal(1), len: 0 },
        ] {
            bench.fails(op, DiskErrorKind::Io, "nothing is written after a failed sync");
        }
        assert_eq!(bench.system.made(call), syncs + 1, "the system is not asked again");
        assert_eq!(bench.perform(read(wal(1), 10)), digits(), "what is there can be read");
        let ended = bench.disk.close().expect_err("it cannot end well");
        assert!(ended.to_string().contains("failed sync"), "{ended}");
    }
}

#[test]
fn of_two_syncs_at_once_none_holds_when_one_fails() {
    let mut bench = Bench::new();
    bench.does(create(wal(1), 0));
    bench.system.hold(Call::Sync);
    bench.system.fail(Call::Sync, &[Errno::IO]);
    let one = bench.submit(write(wal(1), true));
    bench.system.wait_held(1);
    let other = bench.submit(DiskOp::Sync { file: wal(1) });
    bench.system.release();
    for ticket in [one, other] {
        let result = bench.result(ticket);
        assert!(
            matches!(&result, DiskResult::Failed(error) if error.kind == DiskErrorKind::Io),
            "{result:?}"
        );
    }
    assert_eq!(bench.system.made(Call::Sync), 1);
}

#[test]
fn a_file_that_cannot_have_its_space_leaves_nothing_behind() {
    let mut bench = Bench::new();
    let temp = FileName::new(FileKind::Temp, 1);
    for (file, call, error) in [
        (wal(1), Call::Write, Errno::NOSPC),
        (wal(1), Call::Write, Errno::DQUOT),
        (temp, Call::Allocate, Errno::NOSPC),
    ] {
        bench.system.fail(call, &[error]);
        bench.fails(create(file, 1 << 20), DiskErrorKind::Full, &file.to_string());
        assert!(!bench.path(file).exists(), "{file} takes space");
        bench.does(create(file, 1 << 20));
        bench.does(DiskOp::Remove { file });
    }
}

#[test]
fn few_files_are_kept_open_and_none_is_closed_unsynced() {
    let mut bench = Bench::with_handles(3);
    for number in 1..=9 {
        bench.does(create(table(number), 0));
        bench.does(write(table(number), true));
    }
    assert!(bench.disk.directory.open_files() <= 3);
    for number in 1..=9 {
        bench.does(write(table(number), false));
    }
    assert_eq!(bench.disk.directory.open_files(), 9, "what is not synced stays open");
    for number in 1..=9 {
        bench.does(DiskOp::Sync { file: table(number) });
    }
    bench.does(create(table(10), 0));
    bench.does(write(table(10), true));
    assert!(bench.disk.directory.open_files() <= 3);
    for number in 1..=9 {
        assert_eq!(bench.perform(read(table(number), 10)), digits());
    }
}

#[test]
fn a_process_without_handles_closes_idle_files() {
    let mut bench = Bench::new();
    for number in 1..=20 {
        bench.does(create(table(number), 0));
        bench.does(write(table(number), true));
    }
    bench.does(write(table(20), false));
    bench.system.handles(0);
    for number in 21..=60 {
        bench.does(create(table(number), 0));
        bench.does(write(table(number), true));
        assert!(bench.disk.directory.open_files() <= 20);
    }
    assert_eq!(bench.perform(read(table(20), 10)), digits());
}

#[test]
fn the_log_waits_for_no_table_and_a_lookup_for_no_sync() {
    let mut bench = Bench::new();
    for number in 1..=20 {
        bench.does(create(table(number), 0));
        bench.does(write(table(number), true));
    }
    bench.does(create(wal(1), 0));
    bench.system.hold(Call::Sync);
    let syncs: Vec<u64> = (1..=20).map(|number| bench.submit(DiskOp::Sync { file: table(number) })).collect();
    bench.system.wait_held(1);
    assert_eq!(bench.perform(read(table(1), 10)), digits(), "a read while tables are synced");
    bench.does(write(wal(1), false));
    bench.system.release();
    bench.system.hold(Call::Read);
    let reads: Vec<u64> = (1..=40).map(|_| bench.submit(read(table(1), 10))).collect();
    bench.system.wait_held(1);
    bench.does(write(wal(1), true));
    bench.system.release();
    for ticket in syncs {
        assert_eq!(bench.result(ticket), DiskResult::Done);
    }
    for ticket in reads {
        assert_eq!(bench.result(ticket), digits());
    }
}

#[test]
fn a_directory_left_with_an_operation_under_way_stays_locked_until_it_ends() {
    let mut bench = Bench::new();
    bench.does(create(table(1), 0));
    bench.system.hold(Call::Write);
    bench.submit(write(table(1), false));
    bench.system.wait_held(1);
    let later: Vec<u64> = (2..=30).map(|number| bench.submit(create(table(number), 0))).collect();
    let path = bench.scratch.shard();
    bench.disk.abandon();
    let open = || FileDisk::open(&path, &bench.done, bench.stats.clone(), HANDLES);
    assert!(open().expect_err("a write is under way").contains("another process"));
    bench.system.release();
    let again = loop {
        match open() {
            Ok(disk) => break disk,
            Err(_) => std::thread::yield_now(),
        }
    };
    assert!(!later.is_empty());
    again.close().expect("a sound disk");
}

#[test]
fn closing_performs_what_is_queued_and_syncs_what_is_not() {
    let mut bench = Bench::new();
    for number in 1..=50 {
        bench.does(create(table(number), 0));
    }
    for number in 1..=50 {
        bench.submit(write(table(number), false));
    }
    let (system, paths) = (bench.system.clone(), (1..=50).map(|number| bench.path(table(number))));
    let paths: Vec<PathBuf> = paths.collect();
    bench.disk.close().expect("a sound disk");
    for path in paths {
        assert_eq!(std::fs::read(&path).expect("the file"), b"0123456789", "{}", path.display());
    }
    assert_eq!(system.made(Call::Sync), 50);
}

#[test]
fn a_child_process_gets_none_of_the_files() {
    let mut bench = Bench::new();
    bench.does(create(wal(1), 0));
    bench.does(write(wal(1), true));
    let listed = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().expect("ls runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let scratch = bench.scratch.0.display().to_string();
    assert!(listed.contains("/proc/") && !listed.contains(&scratch), "{listed}");
}

#[test]
fn a_start_reads_the_log_from_the_disk_and_its_pages_are_given_back() {
    let mut bench = Bench::new();
    bench.does(create(wal(1), 0));
    bench.does(create(table(1), 0));
    bench.system.advice();
    let piece = Bytes::from(vec![1; 3 << 20]);
    for number in 0..4 {
        let (offset, data) = (number * piece.len() as u64, piece.clone());
        bench.does(DiskOp::Write { file: wal(1), offset, data, sync: true });
    }
    let (given, whole): (u64, u64) = (6 << 20, 12 << 20);
    let dont_need = |from: u64, to: u64| (from, to - from, "DontNeed".to_string());
    assert_eq!(bench.system.advice(), [dont_need(0, given), dont_need(given, whole)]);
    // A segment that is used again begins at its beginning.
    bench.does(DiskOp::Rename { from: wal(1), to: wal(2) });
    bench.does(write(wal(2), true));
    assert_eq!(bench.system.advice(), []);
    let Bench { scratch, system, disk, done, stats, .. } = bench;
    disk.close().expect("a sound disk");
    let disk = FileDisk::open_on(system.clone(), &scratch.shard(), &done, stats, HANDLES);
    assert_eq!(system.advice(), [(0, 0, "DontNeed".to_string())], "of the log, not of the table");
    disk.expect("a directory").close().expect("a sound disk");
}

#[test]
fn who_reads_through_a_file_has_the_next_piece_fetched() {
    let mut bench = Bench::new();
    bench.does(create(table(1), 0));
    let data = Bytes::from(vec![7; 2 << 20]);
    bench.does(DiskOp::Write { file: table(1), offset: 0, data, sync: true });
    bench.system.advice();
    let long: u32 = 256 << 10;
    for number in 0..3 {
        bench.perform(DiskOp::Read { file: table(1), offset: number * u64::from(long), len: long });
    }
    let next = |from: u32| (u64::from(from), u64::from(long), "WillNeed".to_string());
    assert_eq!(bench.system.advice(), [next(2 * long), next(3 * long)]);
    for offset in [4_096, 1 << 20, 8_192] {
        bench.perform(DiskOp::Read { file: table(1), offset, len: 8_192 });
    }
    assert_eq!(bench.system.advice(), [], "lookups ask for nothing");
}

#[test]
fn what_the_system_has_in_memory_is_answered_without_a_thread() {
    let mut bench = Bench::new();
    bench.does(create(table(1), 0));
    bench.does(write(table(1), true));
    bench.system.tell_cached();
    // No thread that reads gets anywhere.
    bench.system.hold(Call::Read);
    assert_eq!(bench.perform(read(table(1), 10)), digits());
    assert_eq!((bench.system.made(Call::ReadCached), bench.system.made(Call::Read)), (1, 0));
    assert_eq!(bench.stats.gauges.disk.in_flight_bytes(), 0);
    bench.system.release();
    // Less than was asked for, and what fails, is for the usual read to find out.
    assert_eq!(bench.perform(read(table(1), 100)), digits());
    bench.system.fail(Call::ReadCached, &[Errno::IO]);
    assert_eq!(bench.perform(read(table(1), 10)), digits());
    assert_eq!((bench.system.made(Call::ReadCached), bench.system.made(Call::Read)), (3, 3));
    // A file system without the call is not asked again.
    bench.system.fail(Call::ReadCached, &[Errno::OPNOTSUPP]);
    for _ in 0..3 {
        assert_eq!(bench.perform(read(table(1), 10)), digits());
    }
    assert_eq!(bench.system.made(Call::ReadCached), 4);
}
