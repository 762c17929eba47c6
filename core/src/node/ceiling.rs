//! The ceiling files (S3, S5): the ceiling of this life, the ends of the earlier ones, and what is remembered of the peers.
//!
//! Two files hold the same, each in two slots that are written in turn: neither a torn write nor the loss of one file loses
//! anything. Behind what a slot holds there are zeros: a write is as long as the longest before it.

use crate::base::checksum::crc32c;
use crate::base::limits::{LIVES_MAX, PEERS_MAX};
use crate::base::{Address, Hlc, NodeId, ShardId, StartNumber};
use crate::io::{FileKind, FileName};
use alloc::vec::Vec;
use bytes::Bytes;

pub(super) const CEILINGS: [FileName; 2] =
    [FileName::new(FileKind::Ceiling, 0), FileName::new(FileKind::Ceiling, 1)];
/// Where the second slot of a file begins.
pub(super) const SLOT_STRIDE: u64 = 32 << 10;
/// The same in a directory of version 3 of the format, whose slots hold no more than start, ceiling and sequence.
pub(super) const SLOT_STRIDE_V3: u64 = 4096;
const MAGIC: &[u8; 8] = b"SAMARAC4";
const MAGIC_V3: &[u8; 8] = b"SAMARACL";
/// A slot's length is a multiple of it.
pub(super) const SECTOR: usize = 512;
const HEAD: usize = 8 + 8 + 8 + 8 + 2 + 2;
const LIFE: usize = 8 + 8;
const PEER: usize = 2 + 2 + 8 + 8;
const CRC: usize = 4;
const BYTES_V3: usize = 8 + 8 + 4 + 8 + 4;

const _: () = assert!(HEAD + LIVES_MAX * LIFE + PEERS_MAX * PEER + CRC <= SLOT_STRIDE as usize - SECTOR);

/// A life of a peer, as this node remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remembered {
    /// Whose.
    pub(super) peer: Address,
    /// The latest life that was proven.
    pub(super) start: StartNumber,
    /// The highest ceiling told in it.
    pub(super) ceiling: Hlc,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Ceiling {
    /// Rises with every write.
    pub(super) sequence: u64,
    pub(super) start: StartNumber,
    pub(super) hlc: Hlc,
    /// The earlier lives of the directory with their last ceilings, oldest first.
    pub(super) lives: Vec<(StartNumber, Hlc)>,
    pub(super) peers: Vec<Remembered>,
}

impl Ceiling {
    /// Of the life that begins: the one before becomes a memory.
    pub(super) fn next_life(&self, draw: u32) -> Self {
        let mut next = self.clone();
        if self.start != StartNumber::default() {
            next.lives.push((self.start, self.hlc));
            let surplus = next.lives.len().saturating_sub(LIVES_MAX);
            next.lives.drain(..surplus);
        }
        next.start = StartNumber::new(self.start.count() + 1, draw);
        next
    }

    /// The last ceiling of a life of this directory; `None` if it has not lived it. What lies further back than is remembered,
    /// and what is no life at all, counts as lived.
    pub(super) fn of_life(&self, start: StartNumber) -> Option<Hlc> {
        if start == self.start {
            return Some(self.hlc);
        }
        let oldest = self.lives.first().map_or(self.start, |(start, _)| *start);
        if start.count() < oldest.count() {
            return Some(Hlc(u64::MAX));
        }
        self.lives.iter().find(|(lived, _)| *lived == start).map(|(_, ceiling)| *ceiling)
    }

    /// The bytes of a slot: a whole number of sectors, and `reach` at least.
    pub(super) fn encode(&self, reach: usize) -> Bytes {
        let len = HEAD + self.lives.len() * LIFE + self.peers.len() * PEER + CRC;
        let whole = len.max(reach).next_multiple_of(SECTOR);
        let mut data = Vec::with_capacity(whole);
        data.extend_from_slice(MAGIC);
        data.extend_from_slice(&self.sequence.to_le_bytes());
        data.extend_from_slice(&self.start.0.to_le_bytes());
        data.extend_from_slice(&self.hlc.0.to_le_bytes());
        data.extend_from_slice(&(self.lives.len() as u16).to_le_bytes());
        data.extend_from_slice(&(self.peers.len() as u16).to_le_bytes());
        for (start, ceiling) in &self.lives {
            data.extend_from_slice(&start.0.to_le_bytes());
            data.extend_from_slice(&ceiling.0.to_le_bytes());
        }
        for Remembered { peer, start, ceiling } in &self.peers {
            data.extend_from_slice(&peer.node.0.to_le_bytes());
            data.extend_from_slice(&peer.shard.0.to_le_bytes());
            data.extend_from_slice(&start.0.to_le_bytes());
            data.extend_from_slice(&ceiling.0.to_le_bytes());
        }
        let crc = crc32c(&[&data]);
        data.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(data.len(), len, "the layout is fixed");
        data.resize(whole, 0);
        Bytes::from(data)
    }

    /// Reads what `encode` wrote, and how many bytes that is; `None` for anything else.
    fn decode(data: &[u8]) -> Option<(Self, usize)> {
        if data.get(..8)? == MAGIC_V3 {
            return Self::decode_v3(data);
        }
        let u16_at =
            |at: usize| Some(usize::from(u16::from_le_bytes(data.get(at..at + 2)?.try_into().ok()?)));
        let (lives, peers) = (u16_at(32)?, u16_at(34)?);
        let len = HEAD + lives * LIFE + peers * PEER + CRC;
        let (body, crc) = data.get(..len)?.split_at(len - CRC);
        if body[..8] != *MAGIC
            || lives > LIVES_MAX
            || peers > PEERS_MAX
            || crc32c(&[body]).to_le_bytes() != *crc
        {
            return None;
        }
        let (lives, peers) = body[HEAD..].split_at(lives * LIFE);
        let life = |of: &[u8]| (StartNumber(u64_at(of, 0)), Hlc(u64_at(of, 8)));
        let peer = |of: &[u8]| Remembered {
            peer: Address {
                node: NodeId(u16::from_le_bytes([of[0], of[1]])),
                shard: ShardId(u16::from_le_bytes([of[2], of[3]])),
            },
            start: StartNumber(u64_at(of, 4)),
            ceiling: Hlc(u64_at(of, 12)),
        };
        let ceiling = Self {
            sequence: u64_at(body, 8),
            start: StartNumber(u64_at(body, 16)),
            hlc: Hlc(u64_at(body, 24)),
            lives: lives.chunks_exact(LIFE).map(life).collect(),
            peers: peers.chunks_exact(PEER).map(peer).collect(),
        };
        Some((ceiling, len))
    }

    fn decode_v3(data: &[u8]) -> Option<(Self, usize)> {
        let (body, crc) = data.get(..BYTES_V3)?.split_at(BYTES_V3 - CRC);
        if crc32c(&[body]).to_le_bytes() != *crc {
            return None;
        }
        let count = u32::from_le_bytes(body[16..20].try_into().ok()?);
        let ceiling = Self {
            sequence: u64_at(body, 8),
            start: StartNumber::new(count, 0),
            hlc: Hlc(u64_at(body, 20)),
            ..Self::default()
        };
        Some((ceiling, BYTES_V3))
    }
}

fn u64_at(data: &[u8], at: usize) -> u64 {
    data[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Whether a file is as a program of version 3 left it: shorter than the first of ours.
fn is_v3(data: &[u8]) -> bool {
    data.len() as u64 <= 2 * SLOT_STRIDE_V3
}

/// The slots of a file, and where they begin.
fn slots(data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let stride = if is_v3(data) { SLOT_STRIDE_V3 } else { SLOT_STRIDE };
    data.chunks(stride as usize).enumerate().map(move |(number, slot)| (number as u64 * stride, slot))
}

/// The newest of what the slots of a file hold. Where the first write of this version was cut short, those of version 3 count.
pub(super) fn newest(data: &[u8]) -> Option<Ceiling> {
    let before = data.get(SLOT_STRIDE_V3 as usize..).filter(|slot| slot.starts_with(MAGIC_V3));
    let slots = slots(data).take(2).map(|(_, slot)| slot).chain(before);
    let sound = slots.filter_map(Ceiling::decode).map(|(ceiling, _)| ceiling);
    sound.max_by_key(|ceiling| (ceiling.sequence, ceiling.hlc))
}

/// How far a slot of the file has been written, or may have been by a write that was cut short.
pub(super) fn reach(data: &[u8]) -> usize {
    let written = |slot: &[u8]| slot.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let strides = data.chunks(SLOT_STRIDE as usize).take(2);
    strides.map(written).max().unwrap_or(0).next_multiple_of(SECTOR)
}

/// The sound slots of a ceiling file, and where the others begin; a slot that was never written is neither.
pub(super) fn check(data: &[u8]) -> (usize, Vec<u64>) {
    let is_blank = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let (mut sound, mut damaged) = (0, Vec::new());
    for (number, (at, slot)) in slots(data).enumerate() {
        // Behind the first slot of version 3 there is the second, until it is written anew.
        let is_whole = |(_, len): (Ceiling, usize)| is_blank(&slot[len..]) || slot.starts_with(MAGIC_V3);
        if number < 2 && Ceiling::decode(slot).is_some_and(is_whole) {
            sound += 1;
        } else if !is_blank(slot) || number >= 2 {
            damaged.push(at);
        }
    }
    (sound, damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(count: u32) -> Ceiling {
        let mut ceiling = Ceiling::default();
        for number in 1..=count {
            ceiling = ceiling.next_life(number);
            ceiling.hlc = Hlc(u64::from(number) * 10);
            ceiling.sequence += 1;
        }
        ceiling
    }

    /// A file whose slots hold these, one after the other, as far as they have been written.
    fn file(slots: &[&Ceiling]) -> Vec<u8> {
        let mut data = alloc::vec![0; 2 * SLOT_STRIDE as usize];
        for ceiling in slots {
            let (at, bytes) = ((ceiling.sequence % 2 * SLOT_STRIDE) as usize, ceiling.encode(reach(&data)));
            data[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        data
    }

    #[test]
    fn a_directory_knows_its_own_lives_and_no_other_directorys() {
        let mine = lives(5);
        assert_eq!(mine.of_life(StartNumber::default()), Some(Hlc(u64::MAX)), "no life at all");
        assert_eq!(mine.of_life(StartNumber::new(3, 3)), Some(Hlc(30)));
        assert_eq!(mine.of_life(mine.start), Some(Hlc(50)));
        for other in [StartNumber::new(3, 4), StartNumber::new(5, 6), StartNumber::new(6, 6)] {
            assert_eq!(mine.of_life(other), None, "{other}");
        }
        let old = lives(LIVES_MAX as u32 + 3);
        assert_eq!(old.lives.len(), LIVES_MAX);
        assert_eq!(
            old.of_life(StartNumber::new(2, 7)),
            Some(Hlc(u64::MAX)),
            "further back than is remembered"
        );
        assert_eq!(old.of_life(StartNumber::new(3, 7)), None);
    }

    #[test]
    fn the_largest_memory_fits_a_slot_and_is_read_as_it_was_written() {
        let mut ceiling = lives(LIVES_MAX as u32 + 2);
        let peer = |number: usize| Remembered {
            peer: Address { node: NodeId(number as u16), shard: ShardId(number as u16 ^ 5) },
            start: StartNumber::new(number as u32, 8),
            ceiling: Hlc(u64::MAX - number as u64),
        };
        ceiling.peers = (0..PEERS_MAX).map(peer).collect();
        assert!(ceiling.encode(0).len() as u64 <= SLOT_STRIDE);
        let data = file(&[&ceiling]);
        assert_eq!(newest(&data).as_ref(), Some(&ceiling));
        assert_eq!(check(&data), (1, Vec::new()));
    }

    #[test]
    fn a_slot_that_was_torn_leaves_the_one_before_and_is_told() {
        let (before, mut after) = (lives(3), lives(90));
        after.sequence = before.sequence + 1;
        let whole = file(&[&before, &after]);
        assert_eq!(newest(&whole).as_ref(), Some(&after));
        let at = (after.sequence % 2 * SLOT_STRIDE) as usize;
        for sector in 0..after.encode(0).len() / SECTOR {
            let mut torn = whole.clone();
            torn[at + sector * SECTOR..][..SECTOR].fill(0);
            assert_eq!(newest(&torn).as_ref(), Some(&before), "sector {sector}");
            assert_eq!(check(&torn), (1, alloc::vec![at as u64]), "sector {sector}");
        }
        // A longer slot leaves nothing behind a shorter one, and what stands there is damage.
        let (mut longer, mut shorter) = (lives(80), lives(2));
        (longer.sequence, shorter.sequence) = (4, 6);
        let data = file(&[&longer, &shorter]);
        assert_eq!((newest(&data).as_ref(), check(&data)), (Some(&shorter), (1, Vec::new())));
        let mut data = data;
        data[20_000] = 1;
        assert_eq!((newest(&data), check(&data)), (Some(shorter), (0, alloc::vec![0])));
    }

    #[test]
    fn slots_of_version_3_are_read_until_both_are_written_anew() {
        let slot = |sequence: u64, count: u32, hlc: u64| {
            let mut data = MAGIC_V3.to_vec();
            data.extend_from_slice(&sequence.to_le_bytes());
            data.extend_from_slice(&count.to_le_bytes());
            data.extend_from_slice(&hlc.to_le_bytes());
            let crc = crc32c(&[&data]).to_le_bytes();
            data.extend_from_slice(&crc);
            data
        };
        let mut data = alloc::vec![0; 2 * SLOT_STRIDE_V3 as usize];
        for (sequence, at) in [(6, 0), (7, SLOT_STRIDE_V3 as usize)] {
            let bytes = slot(sequence, 4, 100 * sequence);
            data[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        let old = newest(&data).expect("two sound slots");
        assert_eq!((old.sequence, old.start, old.hlc), (7, StartNumber::new(4, 0), Hlc(700)));
        assert_eq!(check(&data), (2, Vec::new()));
        // The first write of this version was cut short: the file is longer, and the newest is where it was.
        data.resize(SLOT_STRIDE as usize + SECTOR, 0);
        assert_eq!(newest(&data), Some(old));
        assert_eq!(check(&data), (1, Vec::new()));
    }
}
