//! The node's own driver.

use crate::Driver;
use bytes::Bytes;
use samara::disk::Disk;
use samara::disk::files::{FileDisk, HANDLES};
use samara::inbox::{Batch, Shard};
use samara::stats::Stats;
use samara_core::base::Ticket;
use samara_core::io::{DiskOp, DiskResult, FileName};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;

pub struct Pool {
    disk: Option<FileDisk>,
    done: Shard,
    file: FileName,
    runtime: Runtime,
    batch: Batch,
}

impl Pool {
    pub fn new(directory: &Path, file: &Path) -> Self {
        let done = Shard::default();
        let disk =
            FileDisk::open(directory, &done, Arc::new(Stats::default()), HANDLES).expect("a directory");
        let name = file.file_name().and_then(|name| name.to_str()).and_then(FileName::parse);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { disk: Some(disk), done, file: name.expect("a name of ours"), runtime, batch: Batch::default() }
    }
}

impl Pool {
    fn submit(&mut self, op: DiskOp) {
        self.disk.as_mut().expect("it is not closed").submit(Ticket(1), op);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(disk) = self.disk.take() {
            disk.close().expect("the disk is sound");
        }
    }
}

impl Driver for Pool {
    fn append(&mut self, offset: u64, data: Bytes) {
        let file = self.file;
        self.submit(DiskOp::Write { file, offset, data, sync: true });
    }

    fn read(&mut self, offset: u64, len: u32) {
        let file = self.file;
        self.submit(DiskOp::Read { file, offset, len });
    }

    fn wait(&mut self) -> (usize, u64) {
        self.runtime.block_on(self.done.wait());
        self.done.take(&mut self.batch);
        let (mut ended, mut bytes) = (0, 0);
        for (_, result) in self.batch.disk.drain(..) {
            ended += 1;
            match result {
                DiskResult::Done => {}
                DiskResult::Data(data) => bytes += data.len() as u64,
                other => panic!("{other:?}"),
            }
        }
        (ended, bytes)
    }
}
