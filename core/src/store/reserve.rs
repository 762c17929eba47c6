//! Space: what happens when the disk is full. A file of zeros is kept in reserve; when space runs out it is given back, so
//! that flushes and compactions, which free more than they take, can go on. New values are refused until there is room for
//! the reserve again; reads and deletes go on.

use super::purpose::MergeKind;
use super::{FULL_RETRY_MS, Purpose, Store, StoreCx};
use crate::io::{DiskOp, DiskResult, FileKind, FileName};

/// The file of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Reserve {
    /// Never made, or no longer there.
    #[default]
    None,
    Making,
    Held(FileName),
    /// Given back: the disk was full.
    Given,
    /// Being made again.
    Remaking,
}

impl Reserve {
    /// Whether the disk was full and still has no room for the reserve.
    pub(super) fn is_short(self) -> bool {
        matches!(self, Self::Given | Self::Remaking)
    }
}

impl Store {
    /// No space: what was under way is undone and tried again, at once if the reserve could be given back.
    pub(super) fn on_full(&mut self, cx: &mut StoreCx<'_>, purpose: Purpose) {
        self.full_until = Some(cx.now.mono.plus_ms(FULL_RETRY_MS));
        match purpose {
            Purpose::SegmentMake => self.creating = None,
            Purpose::Merge(kind) => self.abandon(cx, kind),
            Purpose::Manifest => self.retry_install(cx),
            _ => {}
        }
        self.remove_doomed(cx);
        if let Reserve::Held(file) = self.reserve {
            self.reserve = Reserve::Given;
            self.disk(cx, Purpose::ReserveFree, DiskOp::Remove { file });
        }
    }

    /// The reserve's space is there.
    pub(super) fn on_reserve_freed(&mut self, cx: &mut StoreCx<'_>) {
        self.full_until = None;
        self.levels_changed = true;
        self.start_install(cx);
    }

    /// Whether the disk was full lately, and the reserve is not there.
    pub(super) fn is_short_of_space(&self) -> bool {
        self.full_until.is_some() || self.reserve.is_short()
    }

    /// Makes the reserve when nothing that needs space is under way or waits: what is given back is for flushes and
    /// compactions first.
    pub(super) fn prepare_reserve(&mut self, cx: &mut StoreCx<'_>) {
        let is_wanted = matches!(self.reserve, Reserve::None | Reserve::Given);
        let is_busy = self.full_until.is_some()
            || !self.frozen.is_empty()
            || self.merge_slot(MergeKind::Compaction).is_some()
            || self.moving
            || self.installing.is_some()
            || !self.installs.is_empty()
            || self.creating.is_some();
        if self.options.reserve_bytes == 0 || !is_wanted || is_busy {
            return;
        }
        self.reserve = if self.reserve == Reserve::None { Reserve::Making } else { Reserve::Remaking };
        let file = FileName::new(FileKind::Temp, self.take_file_number());
        let preallocate = self.options.reserve_bytes;
        self.disk(cx, Purpose::ReserveMake, DiskOp::Create { file, preallocate });
    }

    pub(super) fn on_reserve_made(&mut self, cx: &mut StoreCx<'_>, file: FileName, result: &DiskResult) {
        if let DiskResult::Failed(_) = result {
            // A reserve that cannot be made is a full disk; what was made of the file goes.
            self.reserve = Reserve::Given;
            self.full_until = Some(cx.now.mono.plus_ms(FULL_RETRY_MS));
            return self.disk(cx, Purpose::Remove, DiskOp::Remove { file });
        }
        self.reserve = Reserve::Held(file);
    }
}
