//! A page of a scan.

use super::entry;
use crate::base::{Record, RecordKey, Slot};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use bytes::Bytes;

/// Values up to so many bytes of a page lie one behind the other in one piece of memory; larger ones have their own.
const SMALL: usize = 512;

/// The records of a page. Their keys, and their small values, share a piece of memory each: who keeps one keeps its like.
#[derive(Debug, Clone, Default)]
pub(super) struct Page {
    pub(super) records: Vec<(RecordKey, Record)>,
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Where the key of each record ends, and its value, if that is a small one.
    ends: Vec<(usize, Option<usize>)>,
}

impl Page {
    pub(super) fn of_at_most(limit: usize) -> Self {
        const AT_ONCE: usize = 128;
        Self { records: Vec::with_capacity(limit.min(AT_ONCE)), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn push(
        &mut self,
        name: &[u8],
        mut record: Record,
        value: Option<&[u8]>,
        owner: Option<&Bytes>,
    ) {
        let (slot, key) = name.split_at_checked(2).unwrap_or_default();
        self.keys.extend_from_slice(key);
        let mut value_end = None;
        match value {
            Some(value) if value.len() <= SMALL => {
                self.values.extend_from_slice(value);
                value_end = Some(self.values.len());
            }
            Some(value) => record.value = Some(entry::shown(value, owner)),
            None => {}
        }
        self.ends.push((self.keys.len(), value_end));
        self.records.push((RecordKey { slot: Slot(entry::slot_of(slot)), key: Bytes::new() }, record));
    }

    /// The records, whole; without those with these numbers.
    pub(super) fn take(self, unread: &BTreeSet<usize>) -> Vec<(RecordKey, Record)> {
        let (keys, values, mut records) = (Bytes::from(self.keys), Bytes::from(self.values), self.records);
        let (mut key_at, mut value_at) = (0, 0);
        for ((key, record), (key_end, value_end)) in records.iter_mut().zip(self.ends) {
            key.key = keys.slice(key_at..key_end);
            key_at = key_end;
            if let Some(value_end) = value_end {
                record.value = Some(values.slice(value_at..value_end));
                value_at = value_end;
            }
        }
        for number in unread.iter().rev() {
            records.remove(*number);
        }
        records
    }

    /// The key of a record in store order.
    pub(super) fn key(&self, number: usize) -> RecordKey {
        let at = number.checked_sub(1).map_or(0, |before| self.ends[before].0);
        let key = Bytes::copy_from_slice(&self.keys[at..self.ends[number].0]);
        RecordKey { slot: self.records[number].0.slot, key }
    }
}
