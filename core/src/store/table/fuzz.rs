//! The decoders of a table's parts as functions of any bytes (see `store::decoders`).

use super::super::entry::prefix;
use super::block::Block;
use super::format::{self, FOOTER, Footer, verified};
use super::index::Index;
use super::{BlockAt, Table, TableMeta, hash};
use alloc::vec::Vec;
use bytes::Bytes;

/// The table that the parts are of, and where they stand.
pub(super) const NUMBER: u64 = 7;
pub(super) const OFFSET: u64 = 64;

fn walk(block: &Block, name: &[u8]) {
    let mut key = Vec::new();
    let mut spot = block.first(&mut key);
    while let Some(at) = spot {
        let _ = block.body(at);
        spot = block.next(at, &mut key);
    }
    for exclusive in [false, true] {
        let _ = block.seek(name, exclusive, &mut key);
    }
    let _ = block.get(name);
}

/// A block's content.
pub fn block(data: &[u8]) {
    if let Some(block) = Block::open(Bytes::copy_from_slice(data)) {
        walk(&block, data.get(..data.len().min(9)).unwrap_or_default());
    }
}

/// A part as it stands in the file.
pub fn part(data: &[u8]) {
    let _ = verified(NUMBER, OFFSET, &Bytes::copy_from_slice(data));
}

/// A part with the right checksum around any bytes: compression and content are the input's.
pub fn part_within(data: &[u8]) {
    let mut bytes = data.to_vec();
    let crc = format::checksum(NUMBER, OFFSET, &bytes);
    bytes.extend_from_slice(&crc);
    if let Ok(content) = verified(NUMBER, OFFSET, &Bytes::from(bytes)) {
        block(&content);
        index(&content);
        partitions(&content);
    }
}

/// An index.
pub fn index(data: &[u8]) {
    let Some(index) = Index::decode(Bytes::copy_from_slice(data), 1 << 40) else {
        return;
    };
    assert!(index.len() > 0, "an index has a block");
    let mut end = 0;
    for at in 0..index.len() {
        let handle = index.handle(at);
        assert!(handle.is_some(), "every block of a sound index has a place");
        let Some(handle) = handle else { return };
        assert!(handle.offset >= end, "blocks lie in order");
        end = handle.offset + u64::from(handle.len);
        assert_eq!(
            index.block_for(index.separator(at), prefix(index.separator(at))),
            at,
            "a separator leads to its block"
        );
    }
    let _ = (index.first(), index.block_for(data, prefix(data)));
}

/// A filter.
pub fn filter(data: &[u8]) {
    if data.len() >= 8 {
        let _ = format::may_hold(data, hash(data));
    }
}

/// The list of partitions.
pub fn partitions(data: &[u8]) {
    let _ = format::decode_list(data);
}

/// A footer as it stands in the file.
pub fn footer(data: &[u8]) {
    let _ = Footer::decode(
        NUMBER,
        data.len() as u64,
        data.get(data.len().saturating_sub(FOOTER)..).unwrap_or_default(),
    );
}

/// A footer with the right checksum around any bytes.
pub fn footer_within(data: &[u8]) {
    let mut bytes = data.to_vec();
    bytes.resize(FOOTER - 4, 0);
    let len = 1 << 20;
    let crc = format::checksum(NUMBER, len - FOOTER as u64, &bytes);
    bytes.extend_from_slice(&crc);
    if let Ok(footer) = Footer::decode(NUMBER, len, &bytes) {
        assert!(footer.parts_at <= len, "parts lie within the file");
    }
}

/// A whole table: opened by its footer, and every block of it read.
pub fn table(data: &[u8]) {
    let Some(at) = data.len().checked_sub(FOOTER) else {
        return;
    };
    let meta = TableMeta::unknown(NUMBER, data.len() as u64);
    let Ok(footer) = Footer::decode(NUMBER, meta.len, &data[at..]) else {
        return;
    };
    let parts = Bytes::copy_from_slice(&data[(footer.parts_at as usize).min(at)..at]);
    let Ok(table) = Table::open(meta, &footer, &parts) else {
        return;
    };
    let mut place = BlockAt::default();
    while let Some(handle) = table.handle(place) {
        let bytes = data.get(handle.offset as usize..).and_then(|rest| rest.get(..handle.len as usize));
        if let Some(Ok(block)) = bytes.map(|bytes| table.decode(handle, &Bytes::copy_from_slice(bytes))) {
            walk(&block, b"\0\0key");
        }
        let _ = table.span(place);
        place = table.block_after(place);
    }
    let _ = table.may_hold(data, hash(data));
}
