//! The form of value files: a header, then values as parts (see `table::format`), each with a checksum bound to its file
//! and place. An append begins on a fresh page, so that no page is written again that holds something durable.

use super::super::codec::Reader;
use super::super::pointer::Pointer;
use super::super::table::{Thrift, checksum, put_part, verified_part};
use crate::io::{FileKind, FileName};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes of the header.
pub(in super::super) const HEADER: usize = 32;
const MAGIC: &[u8; 7] = b"SAMVALU";
/// The version of the format of value files.
const VERSION: u8 = 3;
/// Appends begin on a multiple of this.
pub(super) const PAGE: u64 = 4096;

impl Pointer {
    /// The value, from the bytes at its place as they were read.
    pub(in super::super) fn open(self, data: &Bytes) -> Result<Bytes, String> {
        let is_it = |data: &Bytes| {
            let crc = data.len().checked_sub(4).and_then(|at| Reader(&data[at..]).u32());
            data.len() == self.stored as usize && crc == Some(self.crc)
        };
        let value = Some(data).filter(|data| is_it(data));
        value
            .and_then(|data| verified_part(self.file, self.offset, data))
            .filter(|value| value.len() == self.len as usize)
            .ok_or_else(|| damaged(self.name(), self.offset))
    }
}

fn damaged(file: FileName, offset: u64) -> String {
    format!("{file}: damaged at byte {offset}")
}

/// The first bytes of a value file.
pub(super) fn header(number: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.push(VERSION);
    header.extend_from_slice(&number.to_le_bytes());
    header.resize(HEADER - 4, 0);
    let crc = checksum(number, 0, &header);
    header.extend_from_slice(&crc);
    header
}

/// Another version's header, whole: not damage, and not for this program.
pub(in super::super) fn check_version(number: u64, data: &[u8]) -> Result<(), String> {
    let whole = data.split_at_checked(HEADER - 4).filter(|(body, crc)| {
        body.starts_with(MAGIC) && checksum(number, 0, body) == **crc && body[MAGIC.len()] != VERSION
    });
    whole.map_or(Ok(()), |_| check_header(number, data))
}

/// Whether a file begins as a value file of this number and version does.
pub(in super::super) fn check_header(number: u64, data: &[u8]) -> Result<(), String> {
    let file = FileName::new(FileKind::Value, number);
    let (body, crc) = data.split_at_checked(HEADER - 4).ok_or_else(|| damaged(file, 0))?;
    let version = body[MAGIC.len()];
    if body[..MAGIC.len()] != MAGIC[..] || checksum(number, 0, body) != *crc {
        return Err(damaged(file, 0));
    }
    if version != VERSION {
        return Err(format!(
            "{file}: written in version {version} of the format, and this program knows version {VERSION}; start the \
             version of samara that wrote it"
        ));
    }
    Ok(())
}

/// Appends values to a file, piece by piece.
#[derive(Debug, Clone)]
pub(in super::super) struct ValueWriter {
    pub(in super::super) number: u64,
    built: Vec<u8>,
    /// File offset of `built`.
    offset: u64,
    /// Bytes of values in the file, those of earlier appends included.
    bytes: u64,
    pub(in super::super) is_created: bool,
    thrift: Thrift,
}

impl ValueWriter {
    /// A writer of a new file.
    pub(in super::super) fn create(number: u64) -> Self {
        let built = header(number);
        Self { number, built, offset: 0, bytes: 0, is_created: false, thrift: Thrift::default() }
    }

    /// A writer that goes on behind `len` bytes of a file.
    pub(super) fn append(number: u64, len: u64, bytes: u64) -> Self {
        let offset = len.next_multiple_of(PAGE);
        Self { number, built: Vec::new(), offset, bytes, is_created: true, thrift: Thrift::default() }
    }

    pub(in super::super) fn file(&self) -> FileName {
        FileName::new(FileKind::Value, self.number)
    }

    pub(in super::super) fn put(&mut self, value: &[u8]) -> Pointer {
        let (offset, start) = (self.len(), self.built.len());
        let compress = self.thrift.is_due();
        let has_paid = put_part(self.number, offset, value, compress, &mut self.built);
        self.thrift.note(compress, has_paid);
        let stored = (self.built.len() - start) as u32;
        self.bytes += u64::from(stored);
        let crc = Reader(&self.built[self.built.len() - 4..]).u32().unwrap_or(0);
        Pointer { file: self.number, offset, stored, len: value.len() as u32, crc }
    }

    /// Bytes ready to be written.
    pub(in super::super) fn ready(&self) -> usize {
        self.built.len()
    }

    /// Bytes of the file so far.
    pub(in super::super) fn len(&self) -> u64 {
        self.offset + self.built.len() as u64
    }

    /// Bytes of values in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the built bytes with their file offset.
    pub(in super::super) fn take(&mut self) -> (u64, Bytes) {
        let (at, bytes) = (self.offset, core::mem::take(&mut self.built));
        self.offset += bytes.len() as u64;
        (at, Bytes::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::pointer::POINTER;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_comes_back_and_nothing_else_does(
            values in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..3_000), 1..5),
            at in any::<prop::sample::Index>(), mask in 1u8..=255, cut in 1usize..9
        ) {
            let mut writer = ValueWriter::append(7, 5_000, 100);
            let pointers: Vec<Pointer> = values.iter().map(|value| writer.put(value)).collect();
            let (offset, data) = writer.take();
            prop_assert_eq!(offset, 8_192);
            for (pointer, value) in pointers.iter().zip(&values) {
                let start = (pointer.offset - offset) as usize;
                let part = data.slice(start..start + pointer.stored as usize);
                let opened = pointer.open(&part);
                prop_assert_eq!(opened.as_deref(), Ok(&value[..]));
                let mut changed = part.to_vec();
                changed[at.index(part.len())] ^= mask;
                prop_assert!(pointer.open(&Bytes::from(changed)).is_err());
                prop_assert!(pointer.open(&part.slice(..part.len() - cut.min(part.len()))).is_err());
                let astray = Pointer { offset: pointer.offset + 1, ..*pointer };
                let elsewhere = Pointer { file: 8, ..*pointer };
                prop_assert!(astray.open(&part).is_err() && elsewhere.open(&part).is_err());
                let mut bytes = Vec::new();
                pointer.put(&mut bytes);
                prop_assert_eq!((bytes.len(), Pointer::read(&mut Reader(&bytes))), (POINTER, Some(*pointer)));
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(data in proptest::collection::vec(any::<u8>(), 0..100), len: u32) {
            let crc = data.len().checked_sub(4).and_then(|at| Reader(&data[at..]).u32()).unwrap_or(0);
            let pointer = Pointer { file: 1, offset: 2, stored: data.len() as u32, len, crc };
            prop_assert!(pointer.open(&Bytes::from(data.clone())).is_err());
            prop_assert!(check_header(1, &data).is_err());
        }
    }

    #[test]
    fn a_header_names_its_file_and_version() {
        let good = header(3);
        assert_eq!(check_header(3, &good), Ok(()));
        assert!(check_header(4, &good).is_err(), "another file");
        for at in 0..HEADER {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(check_header(3, &bad).is_err(), "byte {at}");
        }
        let mut old = good[..HEADER - 4].to_vec();
        old[MAGIC.len()] = 9;
        let crc = checksum(3, 0, &old);
        old.extend_from_slice(&crc);
        let reason = check_header(3, &old).expect_err("another version");
        assert!(reason.contains("version 9") && reason.contains("0000000003.value"), "{reason}");
    }
}
