//! The write-ahead log: segments of groups of changes, one group per commit.

use super::codec::{Reader, put_varint};
use super::entry::{self, Content, Rank};
use super::log::{self, End, PAGE, Place, Segment};
use super::{Lsn, wal_file};
use crate::io::FileName;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes of a buffer that is kept to be used again.
const KEPT: usize = 2 << 20;

/// Changes that wait for the next commit, by group.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    groups: VecDeque<Changes>,
    /// The last group takes no more.
    is_cut: bool,
    len: usize,
    /// The buffer of a group that has been written.
    spare: Vec<u8>,
}

/// The changes of a group.
#[derive(Debug, Clone, Default)]
struct Changes {
    bytes: Vec<u8>,
    last: Lsn,
    records: u64,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A group ends after `most` bytes, so that one step writes not much more: the next group follows it at once.
    pub(super) fn push(&mut self, name: &[u8], body: &[u8], lsn: Lsn, most: usize) {
        let is_full = self.groups.back().is_none_or(|group| group.bytes.len() >= most);
        if core::mem::take(&mut self.is_cut) || is_full {
            let bytes = core::mem::take(&mut self.spare);
            self.groups.push_back(Changes { bytes, ..Changes::default() });
        }
        if let Some(group) = self.groups.back_mut() {
            let before = group.bytes.len();
            put_varint(&mut group.bytes, name.len() as u64);
            put_varint(&mut group.bytes, body.len() as u64);
            group.bytes.extend_from_slice(name);
            group.bytes.extend_from_slice(body);
            (group.last, group.records) = (lsn, group.records + 1);
            self.len += group.bytes.len() - before;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that it takes.
    pub(super) fn capacity(&self) -> usize {
        self.spare.capacity() + self.groups.iter().map(|group| group.bytes.capacity()).sum::<usize>()
    }

    /// What is put from now on goes into another group than what is pending. The groups that are pending.
    pub(super) fn cut(&mut self) -> u64 {
        self.is_cut = true;
        self.groups.len() as u64
    }

    /// Bytes that the next group takes in a segment.
    pub(super) fn group_bytes(&self) -> u64 {
        (log::pages_of(self.next().len()) * PAGE) as u64
    }

    fn next(&self) -> &[u8] {
        self.groups.front().map_or(&[], |group| &group.bytes)
    }

    /// Forgets the group that has been written; its last LSN and its records. An unusually large buffer goes, too.
    pub(super) fn pass(&mut self) -> (Lsn, u64) {
        let Changes { mut bytes, last, records } = self.groups.pop_front().unwrap_or_default();
        self.len -= bytes.len();
        if (self.spare.capacity()..=KEPT).contains(&bytes.capacity()) {
            bytes.clear();
            self.spare = bytes;
        }
        (last, records)
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
        let place = Place { group: self.group, follows: self.follows, synced: self.synced };
        log::encode_group(wal_file(self.segment), self.offset / PAGE as u64, place, pending.next())
    }
}

/// What the log holds.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// The last whole group.
    pub(super) last_group: u64,
    /// Whether a torn tail was cut.
    pub(super) torn: bool,
    /// Acknowledged groups are missing or damaged: the file, and what was found. What is whole was shown all the same.
    pub(super) damage: Option<(FileName, String)>,
}

/// Replays `segments`, in order of their numbers, from group `first` on: shows each change to `visit`, with its group. Pages of another
/// version of the format are an error; damage is told in `Replayed`. `is_short`: a segment is missing or truncated.
pub(super) fn replay(
    segments: &[Segment],
    first: u64,
    is_short: bool,
    mut visit: impl FnMut(u64, &[u8], Rank, &[u8]),
) -> Result<Replayed, String> {
    let used: Vec<&Segment> = segments.iter().filter(|segment| !segment.is_empty()).collect();
    used.iter().try_for_each(|segment| segment.check_version())?;
    let mut replayed = Replayed { last_group: first - 1, ..Replayed::default() };
    if let Err((file, reason)) = replay_sound(segments, &used, first, &mut replayed, &mut visit) {
        replayed.damage = Some((file, reason));
        salvage(segments, &used, is_short, first, &mut visit);
        // New groups come after everything that stands in the files.
        let highest = used.iter().map(|segment| segment.last_group().max(segment.synced())).max();
        replayed.last_group = replayed.last_group.max(highest.unwrap_or(0));
    }
    Ok(replayed)
}

/// The file in which acknowledged groups are damaged, and the reason.
type Damage = (FileName, String);

/// Replays a log without damage.
fn replay_sound(
    segments: &[Segment],
    used: &[&Segment],
    first: u64,
    replayed: &mut Replayed,
    visit: &mut impl FnMut(u64, &[u8], Rank, &[u8]),
) -> Result<(), Damage> {
    for segment in segments.iter().filter(|segment| segment.is_empty() && segment.is_touched()) {
        if segment.walk(u64::MAX, |_, _| Ok::<(), Damage>(()))?.1 == End::Damaged {
            return Err(damage(segment.file, segment_start(used, first)));
        }
    }
    let synced = used.iter().map(|segment| segment.synced()).max().unwrap_or(0);
    for (at, segment) in used.iter().enumerate() {
        if segment.follows().is_none_or(|follows| follows > replayed.last_group) {
            let earlier = used.get(at.wrapping_sub(1)).map_or(segment.file, |earlier| earlier.file);
            return Err(damage(earlier, replayed.last_group + 1));
        }
        // Groups that the next segment does not follow were cut by an earlier recovery.
        let limit = used.get(at + 1).and_then(|next| next.follows());
        let (last, end) = segment.walk(limit.unwrap_or(u64::MAX), |group, payload| {
            if group < first { Ok(()) } else { replay_group(segment, group, payload, visit) }
        })?;
        replayed.last_group = replayed.last_group.max(last);
        if limit.is_none() {
            if end == End::Damaged {
                return Err(damage(segment.file, last + 1));
            }
            replayed.torn |= end == End::Torn;
        }
    }
    if replayed.last_group < synced {
        let file = used.last().map_or(wal_file(0), |segment| segment.file);
        return Err(damage(file, replayed.last_group + 1));
    }
    Ok(())
}

/// Shows what is whole in a damaged log. A group that an earlier recovery cut, and that nobody was told of, must not come
/// back: where the segment behind does not say where it begins, only what is known to have been durable is taken.
fn salvage(
    segments: &[Segment],
    used: &[&Segment],
    is_short: bool,
    first: u64,
    visit: &mut impl FnMut(u64, &[u8], Rank, &[u8]),
) {
    for (at, segment) in used.iter().enumerate() {
        let is_unreadable = |other: &Segment| other.is_empty() && other.is_touched();
        let hides = segments.iter().any(|other| other.file > segment.file && is_unreadable(other));
        let limit = match used.get(at + 1).and_then(|next| next.follows()) {
            Some(follows) if follows <= segment.last_group() => follows,
            None if !hides && !is_short => u64::MAX,
            _ => segment.synced(),
        };
        segment.whole_groups(first, limit, |group, payload| {
            // What does not decode is left out: its keys are suspect like all others.
            let _undecodable = replay_group(segment, group, payload, visit);
        });
    }
}

/// The group with which a segment that does not say begins, as far as the others tell.
fn segment_start(used: &[&Segment], first: u64) -> u64 {
    used.iter().map(|segment| segment.synced() + 1).max().unwrap_or(first).max(first)
}

fn damage(file: FileName, group: u64) -> Damage {
    (file, format!("{file}: commit group {group} was acknowledged and is missing or damaged"))
}

fn replay_group(
    segment: &Segment,
    group: u64,
    payload: &[u8],
    visit: &mut impl FnMut(u64, &[u8], Rank, &[u8]),
) -> Result<(), Damage> {
    let mut reader = Reader(payload);
    while !reader.0.is_empty() {
        let mut next = || {
            let (name, body) = (reader.len()?, reader.len()?);
            let (name, body) = (reader.take(name)?, reader.take(body)?);
            let rank = entry::rank(body)?;
            // Every value goes through the log whole.
            let is_whole = |content: &Content| !matches!(content, Content::Apart(..));
            entry::decode(body, None).filter(|content| is_whole(content) && name.len() >= 2)?;
            Some((name, rank, body))
        };
        let (name, rank, body) = next().ok_or_else(|| damage(segment.file, group))?;
        visit(group, name, rank, body);
    }
    Ok(())
}
