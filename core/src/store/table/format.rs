//! Parts, checksums, filters and the footer.

use super::super::codec::Reader;
use crate::base::checksum::crc32c;
use crate::io::{FileKind, FileName};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes of the footer.
pub(in super::super) const FOOTER: usize = 64;
const MAGIC: &[u8; 7] = b"SAMTABL";
/// The version of the format of tables.
const VERSION: u8 = 3;
const RAW: u8 = 0;
const LZ4: u8 = 1;
const FILTER_BITS_PER_KEY: usize = 10;
const FILTER_PROBES: u64 = 7;
/// LZ4 gives at most so many bytes for one.
const LZ4_RATIO_MAX: usize = 255;

pub(in super::super) fn checksum(number: u64, offset: u64, data: &[u8]) -> [u8; 4] {
    crc32c(&[&number.to_le_bytes(), &offset.to_le_bytes(), data]).to_le_bytes()
}

/// Appends a part that will stand at `offset`: as it is, or compressed where that pays. Whether it did.
pub(in super::super) fn put_part(
    number: u64,
    offset: u64,
    data: &[u8],
    compress: bool,
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    let mut is_compressed = false;
    if compress {
        out.resize(start + 4 + lz4_flex::block::get_maximum_output_size(data.len()), 0);
        let len = lz4_flex::block::compress_into(data, &mut out[start + 4..]).unwrap_or(usize::MAX);
        is_compressed = len < data.len() - data.len() / 8;
        if is_compressed {
            out[start..start + 4].copy_from_slice(&(data.len() as u32).to_le_bytes());
            out.truncate(start + 4 + len);
        } else {
            out.truncate(start);
        }
    }
    if is_compressed {
        out.push(LZ4);
    } else {
        out.extend_from_slice(data);
        out.push(RAW);
    }
    let crc = checksum(number, offset, &out[start..]);
    out.extend_from_slice(&crc);
    is_compressed
}

/// The content of a part that was read at `offset`; `None` if it is not what was written there.
pub(in super::super) fn verified_part(number: u64, offset: u64, data: &Bytes) -> Option<Bytes> {
    let at = data.len().checked_sub(4)?;
    if checksum(number, offset, &data[..at]) != data[at..] {
        return None;
    }
    let at = at.checked_sub(1)?;
    match data[at] {
        RAW => Some(data.slice(..at)),
        LZ4 => {
            let mut reader = Reader(&data[..at]);
            let len = reader.u32()? as usize;
            if len > reader.0.len().checked_mul(LZ4_RATIO_MAX)? {
                return None;
            }
            let mut plain = alloc::vec![0; len];
            let written = lz4_flex::block::decompress_into(reader.0, &mut plain).ok()?;
            (written == len).then(|| Bytes::from(plain))
        }
        _ => None,
    }
}

pub(super) fn verified(number: u64, offset: u64, data: &Bytes) -> Result<Bytes, String> {
    verified_part(number, offset, data).ok_or_else(|| damaged(number, offset))
}

/// When to try compression: after a part that it did not shrink, so many are not tried; each failure doubles that.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Thrift {
    /// Parts not to be compressed, and how many the next failure adds.
    skip: u32,
    unprofitable: u32,
}

const UNPROFITABLE_MAX: u32 = 64;

impl Default for Thrift {
    fn default() -> Self {
        Self { skip: 0, unprofitable: 1 }
    }
}

impl Thrift {
    pub(in super::super) fn is_due(self) -> bool {
        self.skip == 0
    }

    pub(in super::super) fn note(&mut self, tried: bool, has_paid: bool) {
        match (tried, has_paid) {
            (true, true) => self.unprofitable = 1,
            (true, false) => {
                self.skip = self.unprofitable;
                self.unprofitable = (self.unprofitable * 2).min(UNPROFITABLE_MAX);
            }
            (false, _) => self.skip -= 1,
        }
    }
}

pub(super) fn damaged(number: u64, offset: u64) -> String {
    let file = FileName::new(FileKind::Table, number);
    format!("{file}: damaged at byte {offset}")
}

/// A hash of a key that is the same for ever: multiply and fold by eight bytes, finished by splitmix64.
pub(in super::super) fn hash(name: &[u8]) -> u64 {
    let mut hash = 0x9e37_79b9_7f4a_7c15 ^ (name.len() as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
    for piece in name.chunks(8) {
        let mut word = [0; 8];
        word[..piece.len()].copy_from_slice(piece);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 32;
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// The bits of a Bloom filter that stand for a hash (Kirsch and Mitzenmacher: two hashes are enough).
fn probes(hash: u64, bits: u64) -> impl Iterator<Item = usize> {
    let step = hash.rotate_left(32) | 1;
    (0..FILTER_PROBES).map(move |i| {
        let x = hash.wrapping_add(i.wrapping_mul(step)) >> 32;
        (x.wrapping_mul(bits) >> 32) as usize
    })
}

/// A Bloom filter: 10 bits a key, 7 probes, 0.8 % of false positives.
pub(super) fn filter_of(hashes: &[u64]) -> Vec<u8> {
    let bits = (hashes.len() * FILTER_BITS_PER_KEY).next_multiple_of(64).max(64);
    let mut filter = alloc::vec![0_u8; bits / 8];
    for hash in hashes {
        for bit in probes(*hash, bits as u64) {
            filter[bit / 8] |= 1 << (bit % 8);
        }
    }
    filter
}

pub(super) fn may_hold(filter: &[u8], hash: u64) -> bool {
    probes(hash, filter.len() as u64 * 8)
        .all(|bit| filter.get(bit / 8).is_none_or(|byte| byte & (1 << (bit % 8)) != 0))
}

/// A part's place.
pub(super) type Place = (u64, u32);

/// The list of partitions: the places of filter and index of each.
pub(super) fn encode_list(partitions: &[(Place, Place)]) -> Vec<u8> {
    let mut list = Vec::with_capacity(partitions.len() * 24);
    for ((filter_at, filter_len), (index_at, index_len)) in partitions {
        list.extend_from_slice(&filter_at.to_le_bytes());
        list.extend_from_slice(&filter_len.to_le_bytes());
        list.extend_from_slice(&index_at.to_le_bytes());
        list.extend_from_slice(&index_len.to_le_bytes());
    }
    list
}

pub(super) fn decode_list(list: &[u8]) -> Option<Vec<(Place, Place)>> {
    let mut reader = Reader(list);
    let mut partitions = Vec::with_capacity(list.len() / 24);
    while !reader.0.is_empty() {
        let filter = (reader.u64()?, reader.u32()?);
        partitions.push((filter, (reader.u64()?, reader.u32()?)));
    }
    (!partitions.is_empty()).then_some(partitions)
}

/// Where a table's parts lie behind its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Footer {
    /// Where the first filter begins and the blocks end.
    pub(in super::super) parts_at: u64,
    pub(super) list: Place,
}

impl Footer {
    pub(super) fn encode(self, number: u64, offset: u64) -> Vec<u8> {
        let mut footer = Vec::with_capacity(FOOTER);
        footer.extend_from_slice(MAGIC);
        footer.push(VERSION);
        footer.extend_from_slice(&self.parts_at.to_le_bytes());
        footer.extend_from_slice(&self.list.0.to_le_bytes());
        footer.extend_from_slice(&self.list.1.to_le_bytes());
        footer.resize(FOOTER - 4, 0);
        let crc = checksum(number, offset, &footer);
        footer.extend_from_slice(&crc);
        footer
    }

    /// Another version's footer, whole: not damage, and not for this program.
    pub(in super::super) fn check_version(number: u64, len: u64, data: &[u8]) -> Result<(), String> {
        let body = data.split_at_checked(FOOTER - 4).filter(|(body, crc)| {
            body.starts_with(MAGIC) && checksum(number, len.saturating_sub(FOOTER as u64), body) == **crc
        });
        match body {
            Some((body, _)) if body[MAGIC.len()] != VERSION => Self::decode(number, len, data).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Reads the last `FOOTER` bytes of a table of `len` bytes.
    pub(in super::super) fn decode(number: u64, len: u64, data: &[u8]) -> Result<Self, String> {
        let offset = len.saturating_sub(FOOTER as u64);
        let content = || {
            let (body, crc) = data.split_at_checked(FOOTER - 4)?;
            (checksum(number, offset, body) == *crc).then_some(body)
        };
        let mut reader = Reader(content().ok_or_else(|| damaged(number, offset))?);
        if reader.take(MAGIC.len()) != Some(MAGIC) {
            return Err(damaged(number, offset));
        }
        if let Some(version) = reader.u8().filter(|version| *version != VERSION) {
            let file = FileName::new(FileKind::Table, number);
            return Err(format!(
                "{file}: written in version {version} of the format, and this program knows version {VERSION}; start the \
                 version of samara that wrote it"
            ));
        }
        let mut read = || Some(Self { parts_at: reader.u64()?, list: (reader.u64()?, reader.u32()?) });
        let sound = |footer: &Self| {
            let end = footer.list.0.checked_add(u64::from(footer.list.1));
            footer.parts_at <= footer.list.0 && end == Some(offset)
        };
        read().filter(sound).ok_or_else(|| damaged(number, offset))
    }
}
