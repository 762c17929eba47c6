//! When a tombstone or an expired record may go (PROTOCOL G2), and how copies are compared (G1).

use crate::base::{Hlc, Record, Stamp};

/// The watermark from which on the record may go; `None` for a value that lasts. A tombstone waits for its ballot and for
/// its operations, an expiring record for its expiry, too.
pub fn collectable_at(record: &Record) -> Option<Stamp> {
    if record.value.is_some() && record.expires_at == 0 {
        return None;
    }
    let expiry = match record.value {
        Some(_) => Stamp::upto(Hlc::from_ms(record.expires_at)),
        None => Stamp::ZERO,
    };
    let operations = record.recent.iter().flat_map(|applied| [applied.op_id.stamp, applied.stamp]);
    Some(operations.fold(record.ballot.max(expiry), Stamp::max))
}

/// G2: whether the record may go below the watermark `upto`.
pub fn is_garbage(record: &Record, upto: Stamp) -> bool {
    collectable_at(record).is_some_and(|at| at <= upto)
}

/// What a key and its ballot add to the digest of a range: a sum over them does not depend on their order. Two lanes of a
/// multiplicative hash, finished as splitmix64 does: against chance, not against an enemy.
pub fn fingerprint(key: &[u8], ballot: Stamp) -> u128 {
    let lane = |seed: u64| {
        let mut hash = seed ^ (key.len() as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let mut take = |word: u64| {
            hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
            hash ^= hash >> 32;
        };
        for piece in key.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            take(u64::from_le_bytes(word));
        }
        take(ballot.hlc.0);
        take(u64::from(ballot.node.0));
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    };
    (u128::from(lane(0x9e37_79b9_7f4a_7c15)) << 64) | u128::from(lane(0xc2b2_ae3d_27d4_eb4f))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Applied, NodeId, OpId, Outcome};
    use bytes::Bytes;

    fn stamp(ms: u64) -> Stamp {
        Stamp { hlc: Hlc::from_ms(ms), node: NodeId(1) }
    }

    #[test]
    fn g2_what_may_go_and_when() {
        let value = Some(Bytes::from_static(b"v"));
        let tombstone = Record { ballot: stamp(5), ..Record::default() };
        let op_id = OpId { stamp: stamp(9), number: 1 };
        let outcome = Outcome::Integer(1);
        let recent = alloc::vec![Applied { op_id, outcome, stamp: stamp(5) }];
        let cases = [
            (Record { value: value.clone(), ..tombstone.clone() }, None, "a value lasts"),
            (tombstone.clone(), Some(stamp(5)), "a tombstone waits for its ballot"),
            (Record { recent, ..tombstone.clone() }, Some(stamp(9)), "and for its operations"),
            (
                Record { value, expires_at: 20, ..tombstone },
                Some(Stamp::upto(Hlc::from_ms(20))),
                "a value with an expiry waits for that",
            ),
        ];
        for (record, expected, words) in cases {
            assert_eq!(collectable_at(&record), expected, "{words}");
            let Some(at) = expected else {
                assert!(!is_garbage(&record, Stamp::upto(Hlc(u64::MAX))));
                continue;
            };
            assert!(is_garbage(&record, at), "{words}");
            assert!(!is_garbage(&record, Stamp { hlc: Hlc(at.hlc.0 - 1), ..at }), "{words}");
        }
    }

    #[test]
    fn fingerprints_tell_keys_and_ballots_apart() {
        let all = [
            fingerprint(b"a", stamp(1)),
            fingerprint(b"a", stamp(2)),
            fingerprint(b"a", Stamp { node: NodeId(2), ..stamp(1) }),
            fingerprint(b"a\0", stamp(1)),
            fingerprint(b"aaaaaaaab", stamp(1)),
            fingerprint(b"baaaaaaaa", stamp(1)),
        ];
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert_ne!(one >> 64, other >> 64);
                assert_ne!(*one as u64, *other as u64);
            }
        }
        assert_eq!(all[0], fingerprint(b"a", stamp(1)));
        assert_eq!(
            all[0], 59_166_153_459_347_321_904_245_937_237_904_061_905,
            "the value is the same on every machine"
        );
    }
}
