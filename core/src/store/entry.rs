//! How a key, and what stands for it in one place, are written: alike in the log, in memory and in tables.
//! What stands for a key is a record, or the erasure of everything up to a ballot.

use super::codec::{Reader, STAMP, put_stamp, put_varint, put_varint_u128};
use super::pointer::{POINTER, Pointer};
use crate::base::{Applied, OpId, Outcome, Record, RecordKey, Rejection, Slot, Stamp};
use alloc::vec::Vec;
use bytes::Bytes;

const ERASES: u8 = 0x01;
const VALUE: u8 = 0x02;
const WRITTEN: u8 = 0x04;
const EXPIRES: u8 = 0x08;
const EVICTED: u8 = 0x10;
const RECENT: u8 = 0x20;
/// The value stands in a value file; the pointer follows the ballot.
const APART: u8 = 0x40;
const KNOWN: u8 = ERASES | VALUE | WRITTEN | EXPIRES | EVICTED | RECENT | APART;

/// A value is shown as a slice of what holds it when it is at least such a part of it; a small one is copied, so that it
/// does not keep a whole block in memory.
const SLICE_PART: usize = 4;

/// What decides between two entries of a key: the ballot; an erasure covers the record of its own ballot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) ballot: Stamp,
    pub(super) erases: bool,
}

/// The bytes by which keys are ordered: the slot, big-endian, then the key.
pub(super) fn encode_key(key: &RecordKey, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&key.slot.0.to_be_bytes());
    out.extend_from_slice(&key.key);
}

/// The slot of a name; shorter than one: slot 0.
pub(super) fn slot_of(name: &[u8]) -> u16 {
    name.first_chunk::<2>().map_or(0, |slot| u16::from_be_bytes(*slot))
}

/// The first bytes of a name as a number, zeros behind it: two that differ are in the order of their names.
pub(super) fn prefix(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            key.iter().enumerate().fold(0, |prefix, (at, byte)| prefix | u64::from(*byte) << (56 - 8 * at))
        }
    }
}

/// What stands for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// The erasure of everything up to the ballot.
    Erased,
    Record(Record),
    /// A record without its value, and where that stands.
    Apart(Record, Pointer),
}

impl Content {
    /// The record, if there is one and it is whole.
    pub(super) fn record(self) -> Option<Record> {
        match self {
            Self::Record(record) => Some(record),
            Self::Erased | Self::Apart(..) => None,
        }
    }
}

/// The inverse of `encode_key`. Shorter than a slot: slot 0 and no key, which no stored key is.
pub(super) fn decode_key(name: &[u8]) -> RecordKey {
    match name.split_first_chunk::<2>() {
        Some((slot, key)) => {
            RecordKey { slot: Slot(u16::from_be_bytes(*slot)), key: Bytes::copy_from_slice(key) }
        }
        None => RecordKey { slot: Slot(0), key: Bytes::new() },
    }
}

/// Appends what stands for a key: `record`, or the erasure up to `ballot`.
pub(super) fn encode(ballot: Stamp, record: Option<&Record>, out: &mut Vec<u8>) {
    let Some(record) = record else {
        out.push(ERASES);
        return put_stamp(out, ballot);
    };
    let mut flags = 0;
    for (flag, is_set) in [
        (VALUE, record.value.is_some()),
        (WRITTEN, record.written != ballot),
        (EXPIRES, record.expires_at != 0),
        (EVICTED, record.evicted_upto != Stamp::ZERO),
        (RECENT, !record.recent.is_empty()),
    ] {
        flags |= if is_set { flag } else { 0 };
    }
    out.push(flags);
    put_stamp(out, ballot);
    if flags & WRITTEN != 0 {
        put_stamp(out, record.written);
    }
    if flags & EXPIRES != 0 {
        put_varint(out, record.expires_at);
    }
    if flags & EVICTED != 0 {
        put_near(out, record.evicted_upto, ballot);
    }
    if flags & RECENT != 0 {
        put_varint(out, record.recent.len() as u64);
        for applied in &record.recent {
            put_applied(out, applied, ballot);
        }
    }
    out.extend_from_slice(record.value.as_deref().unwrap_or_default());
}

/// A stamp that is often the ballot itself.
fn put_near(out: &mut Vec<u8>, stamp: Stamp, ballot: Stamp) {
    out.push(u8::from(stamp != ballot));
    if stamp != ballot {
        put_stamp(out, stamp);
    }
}

fn near(reader: &mut Reader<'_>, ballot: Stamp) -> Option<Stamp> {
    match reader.u8()? {
        0 => Some(ballot),
        1 => reader.stamp(),
        _ => None,
    }
}

fn put_applied(out: &mut Vec<u8>, applied: &Applied, ballot: Stamp) {
    put_near(out, applied.op_id.stamp, ballot);
    put_varint_u128(out, applied.op_id.number);
    put_near(out, applied.stamp, ballot);
    match &applied.outcome {
        Outcome::Changed { applied, old: None } => out.push(u8::from(*applied)),
        Outcome::Changed { applied, old: Some(old) } => {
            out.push(2 + u8::from(*applied));
            put_varint(out, old.len() as u64);
            out.extend_from_slice(old);
        }
        Outcome::Integer(number) => {
            out.push(4);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Outcome::NotKept => out.push(5),
        Outcome::Rejected(rejection) => out.push(match rejection {
            Rejection::NotInteger => 6,
            Rejection::Overflow => 7,
            Rejection::NotFloat => 8,
            Rejection::NotFinite => 9,
            Rejection::TooLarge => 10,
        }),
    }
}

fn applied(reader: &mut Reader<'_>, ballot: Stamp) -> Option<Applied> {
    let op_id = OpId { stamp: near(reader, ballot)?, number: reader.varint_u128()? };
    let stamp = near(reader, ballot)?;
    let outcome = match reader.u8()? {
        kind @ (0 | 1) => Outcome::Changed { applied: kind == 1, old: None },
        kind @ (2 | 3) => {
            let len = reader.len()?;
            Outcome::Changed { applied: kind == 3, old: Some(Bytes::copy_from_slice(reader.take(len)?)) }
        }
        4 => Outcome::Integer(reader.u64()? as i64),
        5 => Outcome::NotKept,
        6 => Outcome::Rejected(Rejection::NotInteger),
        7 => Outcome::Rejected(Rejection::Overflow),
        8 => Outcome::Rejected(Rejection::NotFloat),
        9 => Outcome::Rejected(Rejection::NotFinite),
        10 => Outcome::Rejected(Rejection::TooLarge),
        _ => return None,
    };
    Some(Applied { op_id, outcome, stamp })
}

/// The rank of what `encode` wrote.
pub(super) fn rank(body: &[u8]) -> Option<Rank> {
    let (flags, rest) = body.split_first()?;
    let is_sound = flags & !KNOWN == 0
        && (flags & ERASES == 0 || (*flags == ERASES && rest.len() == STAMP))
        && (flags & APART == 0 || flags & VALUE != 0);
    let ballot = Reader(rest).stamp().filter(|_| is_sound)?;
    Some(Rank { ballot, erases: flags & ERASES != 0 })
}

/// Whether what `encode` wrote is a tombstone or carries an expiry: what compaction may be allowed to drop.
pub(super) fn may_go(body: &[u8]) -> bool {
    body.first().is_some_and(|flags| flags & VALUE == 0 || flags & EXPIRES != 0)
}

/// G2: whether a tombstone, or a record that has expired by then, has its ballot and all its operations at or below `upto`.
pub(super) fn is_settled_garbage(body: &[u8], upto: Stamp) -> bool {
    let record = match decode(body, None) {
        Some(Content::Record(record)) => record,
        // What the value is does not matter.
        Some(Content::Apart(record, _)) => Record { value: Some(Bytes::new()), ..record },
        Some(Content::Erased) | None => return false,
    };
    crate::rules::garbage::is_garbage(&record, upto)
}

/// Where the value stands, if it stands apart.
pub(super) fn pointer(body: &[u8]) -> Option<Pointer> {
    body.first().filter(|flags| **flags & APART != 0)?;
    Pointer::read(&mut Reader(body.get(1 + STAMP..)?))
}

/// The value within a body, if it is longer than `most` and does not stand apart.
pub(super) fn large_value(body: &[u8], most: usize) -> Option<&[u8]> {
    if body.len() <= most || body[0] & (VALUE | APART) != VALUE {
        return None;
    }
    let mut reader = Reader(body);
    fields(&mut reader)?;
    (reader.0.len() > most).then_some(reader.0)
}

/// Writes to `out` what `body` says, with its value at `pointer`.
pub(super) fn put_apart(body: &[u8], pointer: Pointer, out: &mut Vec<u8>) {
    let mut reader = Reader(body);
    let rest = 1 + STAMP + if body[0] & APART == 0 { 0 } else { POINTER };
    let end = fields(&mut reader).map_or(body.len(), |_| body.len() - reader.0.len());
    out.clear();
    out.push(body[0] | APART);
    out.extend_from_slice(&body[1..=STAMP]);
    pointer.put(out);
    out.extend_from_slice(&body[rest..end]);
}

/// Reads all but the value of a record.
fn fields(reader: &mut Reader<'_>) -> Option<(Record, Option<Pointer>)> {
    let (flags, ballot) = (reader.u8()?, reader.stamp()?);
    let pointer = if flags & APART == 0 { None } else { Some(Pointer::read(reader)?) };
    let written = if flags & WRITTEN == 0 { ballot } else { reader.stamp()? };
    let expires_at = if flags & EXPIRES == 0 { 0 } else { reader.varint()? };
    let evicted_upto = if flags & EVICTED == 0 { Stamp::ZERO } else { near(reader, ballot)? };
    let mut recent = Vec::new();
    if flags & RECENT != 0 {
        let count = reader.len()?;
        // An entry takes at least four bytes: a count beyond what follows is a lie and takes no memory.
        if count > reader.0.len() / 4 {
            return None;
        }
        recent.reserve_exact(count);
        for _ in 0..count {
            recent.push(applied(reader, ballot)?);
        }
    }
    Some((Record { ballot, written, value: None, expires_at, recent, evicted_upto }, pointer))
}

/// What `body` says, without the value, and that where it stands in `body`.
pub(super) fn view(body: &[u8]) -> Option<(Content, Option<&[u8]>)> {
    if rank(body)?.erases {
        return Some((Content::Erased, None));
    }
    let mut reader = Reader(body);
    let (record, pointer) = fields(&mut reader)?;
    let value = (body[0] & VALUE != 0 && pointer.is_none()).then_some(reader.0);
    (value.is_some() || reader.0.is_empty()).then_some(())?;
    let content = match pointer {
        Some(pointer) => Content::Apart(record, pointer),
        None => Content::Record(record),
    };
    Some((content, value))
}

/// A value within what `owner` holds: a slice of that if it is a large part of it, or a copy.
pub(super) fn shown(value: &[u8], owner: Option<&Bytes>) -> Bytes {
    let owner = owner.filter(|owner| value.len() >= owner.len() / SLICE_PART && !value.is_empty());
    owner.map_or_else(|| Bytes::copy_from_slice(value), |owner| owner.slice_ref(value))
}

/// What `body` says. A large value becomes a slice of `owner`, which holds `body`.
pub(super) fn decode(body: &[u8], owner: Option<&Bytes>) -> Option<Content> {
    let (mut content, value) = view(body)?;
    if let (Content::Record(record), Some(value)) = (&mut content, value) {
        record.value = Some(shown(value, owner));
    }
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Hlc, NodeId};
    use proptest::prelude::*;

    fn stamps() -> impl Strategy<Value = Stamp> {
        prop_oneof![
            Just(Stamp::ZERO),
            (any::<u64>(), any::<u16>()).prop_map(|(hlc, node)| Stamp { hlc: Hlc(hlc), node: NodeId(node) })
        ]
    }

    fn values() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from))
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            (any::<bool>(), values()).prop_map(|(applied, old)| Outcome::Changed { applied, old }),
            any::<i64>().prop_map(Outcome::Integer),
            Just(Outcome::NotKept),
            prop_oneof![
                Just(Rejection::NotInteger),
                Just(Rejection::Overflow),
                Just(Rejection::NotFloat),
                Just(Rejection::NotFinite),
                Just(Rejection::TooLarge)
            ]
            .prop_map(Outcome::Rejected),
        ]
    }

    fn recents() -> impl Strategy<Value = Applied> {
        (stamps(), any::<u128>(), stamps(), outcomes()).prop_map(|(op, number, stamp, outcome)| Applied {
            op_id: OpId { stamp: op, number },
            outcome,
            stamp,
        })
    }

    fn records() -> impl Strategy<Value = Record> {
        let recent = proptest::collection::vec(recents(), 0..5);
        (stamps(), stamps(), values(), any::<u64>(), recent, stamps()).prop_map(
            |(ballot, written, value, expires_at, recent, evicted_upto)| Record {
                ballot,
                written,
                value,
                expires_at,
                recent,
                evicted_upto,
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was(record in records()) {
            let mut body = Vec::new();
            encode(record.ballot, Some(&record), &mut body);
            prop_assert_eq!(rank(&body), Some(Rank { ballot: record.ballot, erases: false }));
            let owner = Bytes::from(body.clone());
            prop_assert_eq!(decode(&owner, Some(&owner)), Some(Content::Record(record.clone())));
            prop_assert_eq!(decode(&body, None), Some(Content::Record(record.clone())));
            prop_assert_eq!((pointer(&body), large_value(&body, usize::MAX)), (None, None));
            let value = record.value.clone().filter(|value| !value.is_empty());
            prop_assert_eq!(large_value(&body, 0), value.as_deref());
        }

        #[test]
        fn a_value_can_stand_apart(record in records(), value in proptest::collection::vec(any::<u8>(), 1..200), file: u64) {
            let record = Record { value: Some(Bytes::from(value)), ..record };
            let place = Pointer { file, offset: 7, stored: 8, len: 9, crc: 10 };
            let (mut body, mut apart, mut moved) = (Vec::new(), Vec::new(), Vec::new());
            encode(record.ballot, Some(&record), &mut body);
            put_apart(&body, place, &mut apart);
            let without = Record { value: None, ..record };
            prop_assert_eq!(pointer(&apart), Some(place));
            prop_assert_eq!((rank(&apart), may_go(&apart)), (rank(&body), may_go(&body)));
            prop_assert_eq!(decode(&apart, None), Some(Content::Apart(without.clone(), place)));
            prop_assert_eq!(large_value(&apart, 0), None);
            let elsewhere = Pointer { file: 1, ..place };
            put_apart(&apart, elsewhere, &mut moved);
            prop_assert_eq!(decode(&moved, None), Some(Content::Apart(without, elsewhere)));
        }

        #[test]
        fn any_bytes_give_a_record_or_nothing(mut body in proptest::collection::vec(any::<u8>(), 0..80), flags in 0u8..128) {
            let _ = (rank(&body), decode(&body, None));
            if let Some(first) = body.first_mut() {
                *first = flags;
            }
            let _ = (pointer(&body), large_value(&body, 3));
            if let Some(Content::Record(record) | Content::Apart(record, _)) = decode(&body, None) {
                prop_assert_eq!(rank(&body).map(|rank| rank.ballot), Some(record.ballot));
            }
        }
    }

    #[test]
    fn an_erasure_is_no_record() {
        let ballot = Stamp { hlc: Hlc(7), node: NodeId(2) };
        let mut body = Vec::new();
        encode(ballot, None, &mut body);
        assert_eq!(rank(&body), Some(Rank { ballot, erases: true }));
        assert_eq!(decode(&body, None), Some(Content::Erased));
    }
}
