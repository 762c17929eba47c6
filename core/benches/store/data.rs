//! What is put: keys that look random, values that do not compress.

/// Bytes of a key and a value.
pub const ENTRY_BYTES: u64 = 16 + 100;

/// A key that looks random and is a permutation of its number.
pub fn name(number: u64) -> [u8; 16] {
    let mut x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93 | 1);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(x ^ (x >> 32)).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// A hundred bytes that do not compress.
pub fn value(number: u64) -> Vec<u8> {
    let mut x = number | 1;
    let step = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..100).map(step).collect()
}

/// Numbers below `records` in an order that looks random.
pub fn spread(number: u64, records: u64) -> u64 {
    (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) % records
}
