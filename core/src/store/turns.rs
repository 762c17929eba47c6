//! What keeps a step of a scan short: one that passes many entries without showing them, erased ones or such as are beaten,
//! lets others have their turn, and goes on when the disk has answered a read of nothing.

use super::purpose::MANIFEST;
use super::scan::ScanJob;
use super::{Purpose, ReadJob, ReadToken, Store, StoreCx};
use crate::io::DiskOp;

impl Store {
    /// Puts a scan aside until its turn comes again.
    pub(super) fn yield_scan(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, job: ScanJob) {
        let turn = job.turn();
        self.reads.insert(token, ReadJob::Scan(job));
        self.disk(cx, Purpose::ScanTurn(token, turn), DiskOp::Read { file: MANIFEST, offset: 0, len: 0 });
    }

    /// Its turn has come.
    pub(super) fn on_scan_turn(&mut self, cx: &mut StoreCx<'_>, token: ReadToken, turn: u32) {
        if let Some(job) = self.take_scan(token, turn) {
            self.run_scan(cx, token, job);
            self.after_read(cx);
        }
    }
}

impl ReadJob {
    /// Bytes that a read under way holds: blocks that were read for it, and what it has found.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Get(_) => 0,
            Self::Scan(job) => job.memory(),
        }
    }
}
