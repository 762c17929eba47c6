//! Keys to slots: the Redis Cluster rule, so that cluster-aware clients route by themselves.

use crate::base::Slot;
use crate::base::checksum::crc16;

/// The slot of a key: CRC16/XMODEM of its hash tag modulo 16384. The tag is what stands between the first `{` and the
/// next `}`; without such a pair, or with nothing between, it is the whole key.
pub fn slot_of(key: &[u8]) -> Slot {
    Slot(crc16(hash_tag(key)) % Slot::COUNT)
}

/// Whether `prefix` holds a whole hash tag: all keys that begin with it are of one slot.
pub fn has_hash_tag(prefix: &[u8]) -> bool {
    hash_tag(prefix).len() < prefix.len()
}

fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else {
        return key;
    };
    let rest = &key[open + 1..];
    match rest.iter().position(|byte| *byte == b'}') {
        Some(0) | None => key,
        Some(close) => &rest[..close],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_slots_of_the_redis_cluster_specification() {
        let table: &[(&str, u16)] = &[("123456789", 12739), ("foo", 12182), ("bar", 5061), ("", 0)];
        for (key, slot) in table {
            assert_eq!(slot_of(key.as_bytes()), Slot(*slot), "{key}");
        }
    }

    #[test]
    fn a_hash_tag_alone_decides() {
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"), "an empty tag is no tag");
        assert!(has_hash_tag(b"{t}:") && has_hash_tag(b"a{t}"));
        assert!(!has_hash_tag(b"a{") && !has_hash_tag(b"{}a") && !has_hash_tag(b"a{t") && !has_hash_tag(b""));
        assert_ne!(slot_of(b"foo{bar"), slot_of(b"bar"), "an open tag is no tag");
    }
}
