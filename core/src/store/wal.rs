//! The write-ahead log: segments of 4 KiB pages, written in groups, one group per commit (FORMAT.md).
//!
//! A group starts on a fresh page and no page is written twice, so a crash can tear only groups that nobody was told of.
//! Each page says up to which group the log was known to be durable when the page was made: a hole at or below that is
//! damage, anything after it is a torn tail.

use super::{Entry, Lsn};
use crate::base::checksum::crc32c;
use crate::base::{RecordKey, Stamp};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
const HEADER: usize = 48;
const PAYLOAD: usize = PAGE - HEADER;
const MAGIC: u32 = 0x5357_4c31;

/// The fixed head of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    segment: u64,
    group: u64,
    /// The last group before this segment.
    follows: u64,
    /// The log was durable up to this group when the page was made.
    synced: u64,
    /// Number of the page within its group, and how many the group has.
    index: u16,
    count: u16,
    len: u16,
}

impl Head {
    fn encode(self, payload: &[u8], page: &mut Vec<u8>) {
        let start = page.len();
        page.extend_from_slice(&MAGIC.to_le_bytes());
        page.extend_from_slice(&[0; 4]);
        for field in [self.segment, self.group, self.follows, self.synced] {
            page.extend_from_slice(&field.to_le_bytes());
        }
        for field in [self.index, self.count, self.len, 0] {
            page.extend_from_slice(&field.to_le_bytes());
        }
        page.extend_from_slice(payload);
        page.resize(start + PAGE, 0);
        let crc = crc32c(&[&page[start..start + 4], &page[start + 8..]]);
        page[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// The head of a whole page, if it is valid and of `segment`.
    fn decode(page: &[u8], segment: u64) -> Option<Self> {
        let u64_at = |at: usize| Some(u64::from_le_bytes(page.get(at..at + 8)?.try_into().ok()?));
        let u16_at = |at: usize| Some(u16::from_le_bytes(page.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_le_bytes(page.get(at..at + 4)?.try_into().ok()?));
        if page.len() != PAGE || u32_at(0)? != MAGIC || u32_at(4)? != crc32c(&[&page[..4], &page[8..]]) {
            return None;
        }
        let head = Self {
            segment: u64_at(8)?,
            group: u64_at(16)?,
            follows: u64_at(24)?,
            synced: u64_at(32)?,
            index: u16_at(40)?,
            count: u16_at(42)?,
            len: u16_at(44)?,
        };
        let sane = head.segment == segment && usize::from(head.len) <= PAYLOAD && head.index < head.count;
        sane.then_some(head)
    }
}

/// One change, as it stands in the log.
#[derive(Debug, Serialize, Deserialize)]
struct Change {
    key: RecordKey,
    /// `None` erases up to `upto`.
    record: Option<crate::base::Record>,
    upto: Stamp,
}

/// Changes that wait for the next commit.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    pub(super) last: Lsn,
    pub(super) records: u64,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn push(&mut self, key: &RecordKey, entry: &Entry) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        let change = Change { key: key.clone(), record: entry.record.clone(), upto: entry.ballot };
        let taken = core::mem::take(&mut self.bytes);
        // Encoding into memory fails only when memory runs out, which aborts: the error is impossible.
        self.bytes = postcard::to_extend(&change, taken).unwrap_or_default();
        assert!(self.bytes.len() > start + 4, "encoding into memory failed");
        let len = (self.bytes.len() - start - 4) as u32;
        self.bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
        self.last = entry.lsn;
        self.records += 1;
    }

    /// Bytes that the group of what is pending takes in a segment.
    pub(super) fn group_bytes(&self) -> u64 {
        (self.bytes.len().div_ceil(PAYLOAD) * PAGE) as u64
    }
}

/// Where the next group goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) capacity: u64,
    pub(super) follows: u64,
    /// The last group given out.
    pub(super) group: u64,
    /// Everything up to this group is durable.
    pub(super) synced: u64,
}

impl Tail {
    /// The pages of the next group.
    pub(super) fn group(&mut self, pending: &Pending) -> Bytes {
        self.group += 1;
        let count = pending.bytes.len().div_ceil(PAYLOAD);
        assert!(u16::try_from(count).is_ok(), "a commit group is bounded by what is admitted");
        let mut pages = Vec::with_capacity(count * PAGE);
        for (index, payload) in pending.bytes.chunks(PAYLOAD).enumerate() {
            let head = Head {
                segment: self.segment,
                group: self.group,
                follows: self.follows,
                synced: self.synced,
                index: index as u16,
                count: count as u16,
                len: payload.len() as u16,
            };
            head.encode(payload, &mut pages);
        }
        Bytes::from(pages)
    }
}

/// A segment as it was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Segment {
    pub(super) number: u64,
    follows: u64,
    synced: u64,
    valid_pages: u64,
    groups: BTreeMap<u64, Group>,
}

#[derive(Debug, Clone, Default)]
struct Group {
    count: u16,
    pages: BTreeMap<u16, Bytes>,
}

impl Segment {
    pub(super) fn new(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.valid_pages == 0
    }

    /// Takes in a run of whole pages.
    pub(super) fn add(&mut self, data: &Bytes) {
        for at in (0..data.len()).step_by(PAGE) {
            let page = data.slice(at..data.len().min(at + PAGE));
            let Some(head) = Head::decode(&page, self.number) else {
                continue;
            };
            self.valid_pages += 1;
            self.follows = head.follows;
            self.synced = self.synced.max(head.synced);
            let group = self.groups.entry(head.group).or_default();
            group.count = head.count;
            group.pages.insert(head.index, page.slice(HEADER..HEADER + usize::from(head.len)));
        }
    }
}

/// What the log holds.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// Changes in order: key, record or erasure, ballot.
    pub(super) changes: Vec<(RecordKey, Entry)>,
    /// The last whole group.
    pub(super) last_group: u64,
    /// Whether a torn tail was cut.
    pub(super) torn: bool,
}

/// Replays `segments`, in order of their numbers, from group `first` on.
pub(super) fn replay(segments: &[Segment], first: u64, drop_last: bool) -> Result<Replayed, String> {
    let used: Vec<&Segment> = segments.iter().filter(|segment| !segment.is_empty()).collect();
    let synced = used.iter().map(|segment| segment.synced).max().unwrap_or(0);
    let mut replayed = Replayed { last_group: first - 1, ..Replayed::default() };
    let mut expected = first;
    for (at, segment) in used.iter().enumerate() {
        // Groups that the next segment does not follow were cut by an earlier recovery.
        let end = used.get(at + 1).map(|next| next.follows);
        let last = end.unwrap_or_else(|| segment.groups.keys().next_back().copied().unwrap_or(0));
        let required = end.unwrap_or(synced);
        while expected <= last {
            match segment.groups.get(&expected).filter(|group| group.pages.len() == usize::from(group.count))
            {
                Some(group) => {
                    replay_group(segment.number, expected, group, &mut replayed.changes)?;
                    replayed.last_group = expected;
                    expected += 1;
                }
                None if expected <= required => return Err(damage(segment.number, expected)),
                None => {
                    replayed.torn = true;
                    break;
                }
            }
        }
    }
    if replayed.last_group < synced {
        let segment = used.last().map_or(0, |segment| segment.number);
        return Err(damage(segment, replayed.last_group + 1));
    }
    if drop_last && replayed.last_group >= first {
        replayed.changes.pop();
    }
    Ok(replayed)
}

fn damage(segment: u64, group: u64) -> String {
    let file = crate::io::FileName::new(crate::io::FileKind::Wal, segment);
    format!(
        "{file}: commit group {group} was acknowledged and is missing or damaged; nothing has been changed; restore the \
         file from a copy, or replace this node by one with a new id"
    )
}

fn replay_group(
    segment: u64,
    number: u64,
    group: &Group,
    changes: &mut Vec<(RecordKey, Entry)>,
) -> Result<(), String> {
    let mut bytes = Vec::new();
    for payload in group.pages.values() {
        bytes.extend_from_slice(payload);
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let change = rest.split_at_checked(4).and_then(|(len, tail)| {
            let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
            let (body, tail) = tail.split_at_checked(len)?;
            rest = tail;
            postcard::from_bytes::<Change>(body).ok()
        });
        let Some(Change { key, record, upto }) = change else {
            return Err(damage(segment, number));
        };
        changes.push((key, Entry { ballot: upto, record, lsn: Lsn(0) }));
    }
    Ok(())
}
