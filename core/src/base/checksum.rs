//! CRC32C for everything on disk and on the wire, CRC16/XMODEM for slots.

use crc::{CRC_16_XMODEM, CRC_32_ISCSI, Crc, Table};

static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
static CRC16: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// CRC32C of `parts` in order, as if they were one slice.
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = CRC32C.digest();
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

/// CRC16/XMODEM, the hash of Redis Cluster slots.
pub fn crc16(data: &[u8]) -> u16 {
    CRC16.checksum(data)
}
