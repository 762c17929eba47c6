//! The decoder of frames as functions of any bytes, for fuzzing: it ends without a panic, and what it shows is written
//! again as a frame that shows the same.

use super::codec::{BODY_BYTES_MAX, FRAME_MESSAGES_MAX, Frames, HEADER_BYTES, PROTOCOL_VERSION, decode};
use super::message::Envelope;
use crate::base::checksum::crc32c;
use alloc::vec::Vec;

/// A decoder as a function of any bytes.
pub type Decoder = fn(&[u8]);

/// All of them with their names.
pub const ALL: &[(&str, Decoder)] = &[("frame", frame), ("frame_within", frame_within)];

fn again(envelopes: &[Envelope]) {
    assert!(
        !envelopes.is_empty() && envelopes.len() <= FRAME_MESSAGES_MAX,
        "a frame has messages, and not many"
    );
    let mut frames = Frames::default();
    for envelope in envelopes {
        frames.push(envelope);
    }
    let (bytes, mut shown) = (core::mem::take(frames.finish()), Vec::new());
    let mut rest = &bytes[..];
    while let Ok(Some(len)) = decode(rest, &mut shown) {
        rest = &rest[len..];
    }
    assert!(rest.is_empty() && shown == envelopes, "what was shown is written as frames that show the same");
}

/// Frames as they come from a peer, one behind the other.
pub fn frame(data: &[u8]) {
    let (mut rest, mut envelopes) = (data, Vec::new());
    while let Ok(Some(len)) = decode(rest, &mut envelopes) {
        assert!(len >= HEADER_BYTES && len <= rest.len(), "a frame ends within what was received");
        again(&envelopes);
        envelopes.clear();
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
    let mut envelopes = Vec::new();
    if let Ok(len) = decode(&bytes, &mut envelopes) {
        assert_eq!(len, Some(bytes.len()), "a whole frame is taken whole");
        again(&envelopes);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

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
        let envelopes =
            bodies.map(|body| Envelope { from, start: StartNumber(4), epoch: Epoch(1), hlc: Hlc(5), body });
        let mut sound = Vec::new();
        for some in [&envelopes[..1], &envelopes[1..2], &envelopes[2..], &envelopes] {
            let mut frames = Frames::default();
            for envelope in some {
                frames.push(envelope);
            }
            let bytes = core::mem::take(frames.finish());
            sound.push(bytes[HEADER_BYTES..].to_vec());
            sound.push(bytes);
        }
        sound
    }

    #[test]
    #[ignore = "writes the first corpus of the targets frame and frame_within of fuzz/"]
    fn write_the_seeds() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (at, data) in sound().into_iter().enumerate() {
            let directory = corpus.join(if at % 2 == 0 { "frame_within" } else { "frame" });
            std::fs::create_dir_all(&directory).expect("a directory");
            std::fs::write(directory.join(std::format!("golden-{at:03}")), data).expect("a file");
        }
    }

    #[test]
    fn any_bytes_are_refused_or_shown_and_take_bounded_memory() {
        for (at, (_, decode)) in ALL.iter().enumerate() {
            // A list takes up to 1 MiB on the word of its length alone, and lists stand in lists.
            drive(*decode, &sound(), &mut Rng::new([at as u8; 32], 0), (300, 4 << 20));
        }
    }
}
