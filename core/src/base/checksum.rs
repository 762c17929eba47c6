//! CRC32C for everything on disk and on the wire, CRC16/XMODEM for slots.

#[cfg(not(feature = "hardware-crc"))]
use crc::CRC_32_ISCSI;
use crc::{CRC_16_XMODEM, Crc};

static CRC16: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

#[cfg(not(feature = "hardware-crc"))]
static CRC32C: Crc<u32, crc::Table<16>> = Crc::<u32, crc::Table<16>>::new(&CRC_32_ISCSI);

/// CRC32C of `parts` in order, as if they were one slice.
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    #[cfg(feature = "hardware-crc")]
    return parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
    #[cfg(not(feature = "hardware-crc"))]
    {
        let mut digest = CRC32C.digest();
        for part in parts {
            digest.update(part);
        }
        digest.finalize()
    }
}

/// CRC16/XMODEM, the hash of Redis Cluster slots.
pub fn crc16(data: &[u8]) -> u16 {
    CRC16.checksum(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_are_the_standard_ones() {
        // The check values of the catalogue of parametrised CRC algorithms (CRC-32/ISCSI, CRC-16/XMODEM).
        assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
        assert_eq!(crc32c(&[b"1234", b"", b"56789"]), 0xe306_9283);
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }
}
