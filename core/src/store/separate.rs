//! The values of a merge: large ones are written to a value file, and those that stand in a condemned one are written anew.

use super::entry;
use super::merge::{Merge, MergeKind, Next};
use super::values::{Pointer, ValueWriter};
use super::{Purpose, Store, StoreCx};
use crate::io::{DiskOp, DiskResult};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes read at a time of a file whose values are written anew.
const AHEAD: u32 = 256 << 10;

/// What a merge needs to give an entry's value its place.
pub(super) struct Apart<'a> {
    /// Longer values stand apart.
    pub(super) most: usize,
    pub(super) values: &'a mut Option<ValueWriter>,
    pub(super) condemned: &'a BTreeSet<u64>,
    pub(super) extent: &'a Option<(u64, u64, Bytes)>,
}

pub(super) enum Separated {
    /// The body goes to the table.
    AsItIs,
    /// The other body does, whose value has been written.
    Apart,
    Waits(Next),
}

impl Apart<'_> {
    /// Writes the value of `body` to the value file if it belongs there; then `out` is the body that points to it.
    pub(super) fn separate(self, body: &[u8], out: &mut Vec<u8>) -> Separated {
        if let Some(pointer) = entry::pointer(body) {
            if !self.condemned.contains(&pointer.file) {
                return Separated::AsItIs;
            }
            let Some(part) = in_extent(self.extent.as_ref(), pointer) else {
                return Separated::Waits(Next::NeedsValue(pointer));
            };
            return match (pointer.open(&part), self.values) {
                (Ok(value), Some(values)) => {
                    entry::put_apart(body, values.put(&value), out);
                    Separated::Apart
                }
                (Ok(_), None) => Separated::Waits(Next::NeedsWriter),
                (Err(reason), _) => Separated::Waits(Next::Damaged(pointer, reason)),
            };
        }
        match (entry::large_value(body, self.most), self.values) {
            (None, _) => Separated::AsItIs,
            (Some(value), Some(values)) => {
                entry::put_apart(body, values.put(value), out);
                Separated::Apart
            }
            (Some(_), None) => Separated::Waits(Next::NeedsWriter),
        }
    }
}

/// The bytes at the place of a value, if they have been read.
fn in_extent(extent: Option<&(u64, u64, Bytes)>, pointer: Pointer) -> Option<Bytes> {
    let (file, offset, data) = extent?;
    let start = usize::try_from(pointer.offset.checked_sub(*offset)?).ok()?;
    let end = start.checked_add(pointer.stored as usize)?;
    (*file == pointer.file && end <= data.len()).then(|| data.slice(start..end))
}

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
            is_taken || is_going(number) || other.is_some_and(|other| other.appends_to(number))
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
                    self.report_value_damage(cx, &name, pointer, error.text);
                }
                _ => {}
            }
        }
        *self.merge_slot(kind) = Some(merge);
        self.make_piece(cx, kind);
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
        self.report_value_damage(cx, &merge.next_key(), pointer, reason);
    }
}
