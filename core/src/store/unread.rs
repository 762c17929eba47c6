//! What could not be read once and now can: a disk that failed for a while leaves nothing behind.

use super::Store;
use super::pointer::Pointer;
use super::suspect::Place;
use super::table::{BlockAt, Table};
use crate::base::RecordKey;
use crate::io::FileName;
use alloc::sync::Arc;

impl Store {
    /// A block was read and is sound. If its reads had failed, without being counted as damage yet, that is forgotten.
    pub(super) fn on_block_sound(&mut self, table: &Arc<Table>, at: BlockAt) {
        let number = table.meta.number;
        if !self.damaged.get(&number).is_some_and(|blocks| blocks.contains(&at))
            || self.suspicion.unread.remove(&Place::Block(number, at)).is_none()
            || self.is_block_damaged(table, at)
        {
            return;
        }
        let blocks = self.damaged.entry(number).or_default();
        blocks.remove(&at);
        if blocks.is_empty() {
            self.damaged.remove(&number);
            self.barred.remove(&number);
            self.levels_changed = true;
        }
        let (first, _) = table.span(at);
        self.undescribe(table.meta.file(), &first);
    }

    /// The same of a value.
    pub(super) fn on_value_sound(&mut self, pointer: Pointer, name: &[u8]) {
        let place = (pointer.file, pointer.offset);
        if !self.values.damaged.contains(&place)
            || self.suspicion.unread.remove(&Place::Value(place.0, place.1)).is_none()
            || self.is_value_damaged(pointer)
        {
            return;
        }
        self.values.damaged.remove(&place);
        self.levels_changed = true;
        self.undescribe(pointer.name(), &super::entry::decode_key(name));
    }

    fn undescribe(&mut self, file: FileName, first: &RecordKey) {
        self.described.retain(|damage| damage.file != file || damage.first != *first);
    }
}
