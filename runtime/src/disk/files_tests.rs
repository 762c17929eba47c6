use super::*;
use crate::inbox::Batch;
use std::sync::atomic::AtomicU64;

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("samara-files-{}-{number}", std::process::id()));
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Performs one operation and waits for its result.
fn perform(disk: &mut FileDisk, done: &Shard, op: DiskOp) -> DiskResult {
    disk.submit(Ticket(7), op);
    loop {
        let mut batch = Batch::default();
        done.take(&mut batch);
        if let Some((ticket, result)) = batch.disk.pop() {
            assert_eq!(ticket, Ticket(7));
            return result;
        }
        std::thread::yield_now();
    }
}

fn opened(scratch: &Scratch) -> (FileDisk, Shard, Arc<Stats>) {
    let (done, stats) = (Shard::default(), Arc::new(Stats::default()));
    let disk = FileDisk::open(&scratch.0.join("a/b/shard-0"), &done, stats.clone()).expect("a directory");
    (disk, done, stats)
}

#[test]
fn new_files_have_their_space_and_read_as_zeros() {
    let scratch = Scratch::new();
    let (mut disk, done, _) = opened(&scratch);
    for kind in [FileKind::Wal, FileKind::Temp] {
        let file = FileName::new(kind, 3);
        let len = (3 << 20) + 5_000;
        assert_eq!(perform(&mut disk, &done, DiskOp::Create { file, preallocate: len }), DiskResult::Done);
        let path = scratch.0.join("a/b/shard-0").join(file.to_string());
        let meta = std::fs::metadata(&path).expect("the file");
        assert_eq!(meta.len(), len);
        let taken = std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
        assert!(taken >= len, "{kind:?}: {taken} bytes of {len} are taken");
        let read = perform(&mut disk, &done, DiskOp::Read { file, offset: len - 10, len: 100 });
        assert_eq!(read, DiskResult::Data(Bytes::from(vec![0; 10])));
        let again = perform(&mut disk, &done, DiskOp::Create { file, preallocate: 0 });
        assert!(matches!(again, DiskResult::Failed(error) if error.kind == DiskErrorKind::Io));
    }
}

#[test]
fn what_is_in_flight_and_how_long_it_took_is_counted() {
    let scratch = Scratch::new();
    let (mut disk, done, stats) = opened(&scratch);
    let file = FileName::new(FileKind::Wal, 1);
    perform(&mut disk, &done, DiskOp::Create { file, preallocate: 4096 });
    let data = Bytes::from(vec![1; 4096]);
    perform(&mut disk, &done, DiskOp::Write { file, offset: 0, data, sync: true });
    assert_eq!(stats.gauges.disk.in_flight_bytes(), 0);
    let text = stats.render();
    assert!(text.contains("samara_disk_operation_seconds_count{op=\"sync\"} 1\n"), "{text}");
}

#[test]
fn a_directory_in_use_and_a_file_in_its_place_are_refused_by_name() {
    let scratch = Scratch::new();
    let (_disk, done, stats) = opened(&scratch);
    let path = scratch.0.join("a/b/shard-0");
    let refused = FileDisk::open(&path, &done, stats.clone()).expect_err("it is in use");
    assert!(refused.contains("another process uses this data directory"), "{refused}");
    let refused = FileDisk::open(&path.join("lock"), &done, stats).expect_err("a file stands there");
    assert!(refused.contains("lock"), "{refused}");
}
