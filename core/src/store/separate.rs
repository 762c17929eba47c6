//! The values of a merge: large ones are written to a value file, and those that stand in a condemned one are written anew.

use super::cursor::{Cursor, Reading};
use super::manifest::{Install, InstallKind};
use super::merge::{Merge, Source};
use super::pointer::Pointer;
use super::purpose::MergeKind;
use super::trouble::Trouble;
use super::values::ValueWriter;
use super::{Purpose, Store, StoreCx};
use crate::io::{DiskOp, DiskResult, FileKind, FileName};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes read at a time of a file whose values are written anew.
const AHEAD: u32 = 256 << 10;

impl Store {
    /// Gives a merge a value file: one that has room, or a new one.
    pub(super) fn open_writer(&mut self, merge: &mut Merge) {
        assert!(merge.values.is_none(), "a merge writes to one value file at a time");
        let other = match merge.kind {
            MergeKind::Flush => self.compaction.as_ref(),
            MergeKind::Compaction => self.flush.as_ref(),
        };
        let is_barred = |number: u64| {
            let is_going = |number| self.installing_removes(number);
            let is_taken = merge.install.values.iter().any(|meta| meta.number == number);
            let is_broken = self.suspicion.values_broken.contains(&number);
            is_broken || is_taken || is_going(number) || other.is_some_and(|other| other.appends_to(number))
        };
        let append = self.values.append(self.options.value_file_bytes, is_barred);
        merge.values = Some(append.unwrap_or_else(|| ValueWriter::create(self.take_file_number())));
    }

    /// Reads a value that is to be written anew, and some of what follows it.
    pub(super) fn read_value(&mut self, cx: &mut StoreCx<'_>, mut merge: Merge, pointer: Pointer) {
        let (kind, id) = (merge.kind, merge.id);
        merge.wanted = Some((pointer, merge.next_key()));
        *self.merge_slot(kind) = Some(merge);
        let len = pointer.stored.max(AHEAD);
        let op = DiskOp::Read { file: pointer.name(), offset: pointer.offset, len };
        self.disk(cx, Purpose::MergeValue(kind, id), op);
    }

    pub(super) fn on_merge_value(
        &mut self,
        cx: &mut StoreCx<'_>,
        kind: MergeKind,
        id: u64,
        result: DiskResult,
    ) {
        self.held_back = false;
        let Some(mut merge) = self.merge_slot(kind).take_if(|merge| merge.id == id) else {
            return;
        };
        if let Some((pointer, name)) = merge.wanted.take() {
            match result {
                DiskResult::Data(mut data) => {
                    // Shorter than the value: what is there does not pass the check, and is reported as damage.
                    if data.len() < pointer.stored as usize {
                        let mut padded = data.to_vec();
                        padded.resize(pointer.stored as usize, 0);
                        data = Bytes::from(padded);
                    }
                    merge.extent = Some((pointer.file, pointer.offset, data));
                }
                DiskResult::Failed(error) => {
                    merge.condemned.remove(&pointer.file);
                    self.report_value_damage(cx, &name, pointer, Trouble::Unread(error.text));
                }
                _ => {}
            }
        }
        *self.merge_slot(kind) = Some(merge);
        self.make_piece(cx, kind);
    }

    /// R6: writes a damaged table anew, on its own level, without the blocks whose keys have been healed.
    pub(super) fn start_mending(&mut self, cx: &mut StoreCx<'_>, level: usize, at: usize) {
        let run = &self.levels.runs()[level];
        let mut install = Install::new(InstallKind::Compaction);
        install.removed = [run[at].meta.number].into();
        let source = Source::Run(Box::new(Cursor::new(run, at, at + 1, Reading::Bulk)));
        self.start_merge(cx, MergeKind::Compaction, install, [source].into(), level as u8, Vec::new());
    }

    /// Removes the files that a merge has made. What it appended to other value files says nothing.
    pub(super) fn remove_made(&mut self, cx: &mut StoreCx<'_>, merge: &Merge) {
        let open = merge.values.iter().filter(|values| values.is_created).map(|values| values.number);
        let values = merge.install.values.iter().map(|meta| meta.number).chain(open);
        let made = values.filter(|number| !self.values.contains(*number));
        let made = made.map(|number| FileName::new(FileKind::Value, number));
        for file in merge.tables().chain(made).collect::<Vec<_>>() {
            self.disk(cx, Purpose::Remove, DiskOp::Remove { file });
        }
    }

    /// A value to be written anew is damaged: its file stays as it is until the damage is repaired.
    pub(super) fn leave_value(
        &mut self,
        cx: &mut StoreCx<'_>,
        merge: &mut Merge,
        pointer: Pointer,
        reason: String,
    ) {
        merge.condemned.remove(&pointer.file);
        self.report_value_damage(cx, &merge.next_key(), pointer, Trouble::Damaged(reason));
    }
}
