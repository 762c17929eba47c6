//! Every decoder of bytes on disk as a function of any bytes, for fuzzing. Each must end without a panic, take memory in
//! proportion to its input, and show only what passes its checks. A checksum keeps arbitrary bytes from getting far:
//! those functions that end in `_within` put the right one around them first.

use super::codec::Reader;
use super::entry::Content;
use super::log::{self, Place, Segment};
use super::manifest::State;
use super::pointer::{POINTER, Pointer};
pub use super::table::fuzz::{
    block, filter, footer, footer_within, index, part, part_within, partitions, table,
};
use super::{entry, values, wal, wal_file};
use crate::io::{FileKind, FileName};
use bytes::Bytes;

/// The number of the log's file that the pages are of.
pub const SEED_FILE: u64 = 7;

/// A decoder as a function of any bytes.
pub type Decoder = fn(&[u8]);

/// All of them with their names.
pub const ALL: &[(&str, Decoder)] = &[
    ("wal_pages", wal_pages),
    ("wal_group_within", wal_group_within),
    ("manifest", manifest),
    ("manifest_edit_within", manifest_edit_within),
    ("record", record),
    ("block", block),
    ("part", part),
    ("part_within", part_within),
    ("index", index),
    ("filter", filter),
    ("partitions", partitions),
    ("value", value),
    ("footer", footer),
    ("footer_within", footer_within),
    ("table", table),
];

fn walk(segment: &Segment) {
    let _ = (segment.check_version(), segment.check_foreign(1), segment.last_group(), segment.synced());
    let _ = wal::replay(core::slice::from_ref(segment), 1, false, |_, name, rank, body| {
        assert!(name.len() >= 2 && entry::rank(body) == Some(rank), "what is shown has been checked");
    });
}

/// Pages of the log as they stand in a file.
pub fn wal_pages(data: &[u8]) {
    let mut segment = Segment::new(wal_file(SEED_FILE));
    segment.add(&Bytes::copy_from_slice(data));
    walk(&segment);
    log::damaged_sectors(wal_file(SEED_FILE), 0, data).for_each(|offset| assert!(offset < data.len() as u64));
}

/// The content of a commit group.
pub fn wal_group_within(data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let mut segment = Segment::new(wal_file(SEED_FILE));
    segment.add(&log::encode_group(wal_file(SEED_FILE), 0, Place { group: 1, follows: 0, synced: 0 }, data));
    walk(&segment);
}

/// The manifest's pages.
pub fn manifest(data: &[u8]) {
    let _ = State::decode(&Bytes::copy_from_slice(data));
}

/// The content of an edit of the manifest.
pub fn manifest_edit_within(data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let file = FileName::new(FileKind::Manifest, 3);
    let pages = log::encode_group(file, 0, Place { group: 1, follows: 0, synced: 0 }, data);
    let _ = State::decode(&pages);
}

/// What stands for a key.
pub fn record(data: &[u8]) {
    let owner = Bytes::copy_from_slice(data);
    let (decoded, rank) = (entry::decode(&owner, Some(&owner)), entry::rank(data));
    let _ = (entry::pointer(data), entry::large_value(data, 7));
    if let Some(Content::Record(record)) = &decoded {
        assert_eq!(rank.map(|rank| rank.ballot), Some(record.ballot), "the rank is the record's");
        let mut again = alloc::vec::Vec::new();
        entry::encode(record.ballot, Some(record), &mut again);
        assert_eq!(entry::decode(&again, None), decoded, "a record that is written again is the same");
    }
    let _ = (entry::may_go(data), Reader(data).varint_u128(), Reader(data).varint(), entry::decode_key(data));
}

/// A value file's header, and a value that stands apart at a place that the first bytes say.
pub fn value(data: &[u8]) {
    let number = data.get(8..16).and_then(|number| Reader(number).u64()).unwrap_or(7);
    let _ = values::check_header(number, data);
    let (head, rest) = data.split_at(data.len().min(POINTER));
    if let Some(pointer) = Pointer::read(&mut Reader(head)) {
        let _ = pointer.open(&Bytes::copy_from_slice(rest));
    }
}
