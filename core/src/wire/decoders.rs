//! The decoder of frames as functions of any bytes, for fuzzing: it ends without a panic, and what it shows is written
//! again as a frame that shows the same.

use super::codec::{BODY_BYTES_MAX, HEADER_BYTES, PROTOCOL_VERSION, decode, encode};
use super::message::Envelope;
use crate::base::checksum::crc32c;
use alloc::vec::Vec;

/// A decoder as a function of any bytes.
pub type Decoder = fn(&[u8]);

/// All of them with their names.
pub const ALL: &[(&str, Decoder)] = &[("frame", frame), ("frame_within", frame_within)];

fn again(envelope: &Envelope) {
    let mut bytes = Vec::new();
    encode(envelope, &mut bytes);
    let shown = decode(&bytes);
    assert!(
        shown.is_ok_and(|shown| shown.is_some_and(|(shown, len)| shown == *envelope && len == bytes.len()))
    );
}

/// Frames as they come from a peer, one behind the other.
pub fn frame(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((envelope, len))) = decode(rest) {
        assert!(len >= HEADER_BYTES && len <= rest.len(), "a frame ends within what was received");
        again(&envelope);
        rest = &rest[len..];
    }
}

/// A frame with the right header around any body.
pub fn frame_within(body: &[u8]) {
    if body.len() > BODY_BYTES_MAX {
        return;
    }
    let version = PROTOCOL_VERSION.to_le_bytes();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&version);
    bytes.extend_from_slice(&crc32c(&[&version, body]).to_le_bytes());
    bytes.extend_from_slice(body);
    if let Ok(shown) = decode(&bytes) {
        let (envelope, len) = shown.unwrap_or_else(|| panic!("a whole frame is not waited for"));
        assert_eq!(len, bytes.len(), "a frame is taken whole");
        again(&envelope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::mutate::drive;
    use crate::base::rng::Rng;
    use crate::base::{
        Address, Applied, Epoch, Expiry, Hlc, KeyOp, NodeId, OpId, Outcome, Record, RequestId, ShardId, Slot,
        Stamp, StartNumber, When,
    };
    use crate::wire::{Answer, Message};
    use bytes::Bytes;

    fn sound() -> Vec<Vec<u8>> {
        let stamp = Stamp { hlc: Hlc(70_000), node: NodeId(2) };
        let op_id = OpId { stamp, number: 7 };
        let applied = Applied { op_id, outcome: Outcome::Integer(-1), stamp };
        let value = Some(Bytes::from_static(b"a value"));
        let record = Record { ballot: stamp, value, recent: alloc::vec![applied; 3], ..Record::default() };
        let (request, key) = (RequestId(9), Bytes::from_static(b"key"));
        let op = KeyOp::Set {
            value: Bytes::from_static(b"v"),
            expiry: Expiry::At(9),
            when: When::Equals(Bytes::from_static(b"old")),
            want_old: true,
        };
        let records = alloc::vec![(Slot(5), key.clone(), record.clone()); 3];
        let next = Some((Slot(6), Some(key.clone())));
        let bodies = [
            Message::Accept { request, key: key.clone(), record, next: stamp },
            Message::Forward { request, key, op_id, idempotent: true, op, patience_ms: 1_500 },
            Message::Answer { request, answer: Answer::Scanned { records, next } },
        ];
        let from = Address { node: NodeId(3), shard: ShardId(1) };
        let mut sound = Vec::new();
        for body in bodies {
            let mut bytes = Vec::new();
            encode(&Envelope { from, start: StartNumber(4), epoch: Epoch(1), hlc: Hlc(5), body }, &mut bytes);
            sound.push(bytes[HEADER_BYTES..].to_vec());
            sound.push(bytes);
        }
        sound
    }

    #[test]
    fn any_bytes_are_refused_or_shown_and_take_bounded_memory() {
        for (at, (_, decode)) in ALL.iter().enumerate() {
            // A list takes up to 1 MiB on the word of its length alone, and lists stand in lists.
            drive(*decode, &sound(), &mut Rng::new([at as u8; 32], 0), (300, 4 << 20));
        }
    }
}
