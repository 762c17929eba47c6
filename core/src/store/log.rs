//! Pages of an append-only file, written in groups, one group at a time: the write-ahead log and the manifest.
//!
//! A group starts on a fresh page, and no page is written twice in the life of a file's number, so a crash can tear only
//! groups that nobody was told of. A page is eight sectors, the unit that a disk writes whole or not at all, and each
//! sector has its own checksum and its file's number. So after a crash every sector is either as it was written or as it
//! was before, and a sector that is neither is damage. A group is torn if one of its sectors is as it was before; a group
//! that is all there but for damage may have been acknowledged, and is never cut in silence.

use super::codec::Reader;
use crate::base::checksum::crc32c;
use crate::io::{FileKind, FileName};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
const SECTOR: usize = 512;
const SECTORS: usize = PAGE / SECTOR;
/// Checksum and number.
const SECTOR_HEAD: usize = 8;
const HEAD: usize = 36;
/// Bytes of a group that a page carries.
pub(super) const PAYLOAD: usize = SECTORS * (SECTOR - SECTOR_HEAD) - HEAD;
/// The version of the pages' format.
const VERSION: u16 = 3;

/// What a group says of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its number: one more than that of the group before, over all files.
    pub(super) group: u64,
    /// The last group before this file.
    pub(super) follows: u64,
    /// Everything up to this group was durable when the group was written.
    pub(super) synced: u64,
}

/// The fixed head of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    place: Place,
    /// Number of the page within its group, and how many the group has.
    index: u32,
    count: u32,
    len: u16,
    version: u16,
}

impl Head {
    fn encode(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&self.place.group.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.place.follows.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.place.synced.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.index.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.count.to_le_bytes());
        bytes[32..34].copy_from_slice(&self.len.to_le_bytes());
        bytes[34..36].copy_from_slice(&self.version.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let place = Place { group: reader.u64()?, follows: reader.u64()?, synced: reader.u64()? };
        let (index, count) = (reader.u32()?, reader.u32()?);
        let head = Self { place, index, count, len: reader.u16()?, version: reader.u16()? };
        (head.index < head.count && usize::from(head.len) <= PAYLOAD).then_some(head)
    }
}

fn checksum(kind: FileKind, at: u64, tagged: &[u8]) -> u32 {
    let code = u8::from(kind == FileKind::Manifest);
    crc32c(&[&[code], &at.to_le_bytes(), tagged])
}

/// Pages that a group of so many bytes takes.
pub(super) fn pages_of(bytes: usize) -> usize {
    bytes.div_ceil(PAYLOAD)
}

/// The pages of a group, to be written from page `page` of `file` on.
pub(super) fn encode_group(file: FileName, page: u64, place: Place, payload: &[u8]) -> Bytes {
    let count = pages_of(payload.len());
    let mut pages = Vec::with_capacity(count * PAGE);
    for (index, mut rest) in payload.chunks(PAYLOAD).enumerate() {
        let (index, count, len) = (index as u32, count as u32, rest.len() as u16);
        let head = Head { place, index, count, len, version: VERSION }.encode();
        for sector in 0..SECTORS {
            let start = pages.len();
            pages.extend_from_slice(&[0; 4]);
            pages.extend_from_slice(&(file.number as u32).to_le_bytes());
            let room = if sector == 0 {
                pages.extend_from_slice(&head);
                SECTOR - SECTOR_HEAD - HEAD
            } else {
                SECTOR - SECTOR_HEAD
            };
            let (now, later) = rest.split_at(rest.len().min(room));
            pages.extend_from_slice(now);
            rest = later;
            pages.resize(start + SECTOR, 0);
            let at = (page + u64::from(index)) * SECTORS as u64 + sector as u64;
            let crc = checksum(file.kind, at, &pages[start + 4..]);
            pages[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        }
    }
    Bytes::from(pages)
}

/// What a sector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sector {
    /// Written under the file's present number.
    Current,
    /// Never written, or under an earlier number.
    Old,
    /// Neither.
    Damaged,
}

fn classify(file: FileName, at: u64, sector: &[u8]) -> Sector {
    let mut reader = Reader(sector);
    let (Some(crc), Some(number)) = (reader.u32(), reader.u32()) else {
        return Sector::Old;
    };
    if crc == checksum(file.kind, at, &sector[4..]) && sector.len() == SECTOR {
        return if number == file.number as u32 { Sector::Current } else { Sector::Old };
    }
    if sector.iter().all(|byte| *byte == 0) { Sector::Old } else { Sector::Damaged }
}

/// Where the damaged sectors lie in `data`, which stands at `offset` of the file, a multiple of a page.
pub(super) fn damaged_sectors(file: FileName, offset: u64, data: &[u8]) -> impl Iterator<Item = u64> {
    let sectors = data.chunks(SECTOR).zip(offset / SECTOR as u64..);
    sectors.filter_map(move |(sector, at)| {
        (classify(file, at, sector) == Sector::Damaged).then_some(at * SECTOR as u64)
    })
}

/// The number in the first sector of a file, if that is whole: a manifest is known by it.
pub(super) fn number_in(kind: FileKind, data: &[u8]) -> Option<u64> {
    let sector = data.get(..SECTOR)?;
    let number = u64::from(Reader(sector.get(4..8)?).u32()?);
    (classify(FileName::new(kind, number), 0, sector) == Sector::Current).then_some(number)
}

#[derive(Debug, Clone)]
struct Page {
    head: Option<Head>,
    old: u8,
    damaged: u8,
    data: Bytes,
}

/// A file as it was found.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) file: FileName,
    pages: Vec<Page>,
    /// Pages looked at, with those at the end that were never written.
    seen: u64,
    /// The highest group written under another number, and that number.
    foreign: (u64, u32),
}

/// How a file's groups end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing was written behind the last group.
    Clean,
    /// The next group was never written whole.
    Torn,
    /// The next group is there and damaged.
    Damaged,
}

impl Segment {
    pub(super) fn new(file: FileName) -> Self {
        Self { file, pages: Vec::new(), seen: 0, foreign: (0, 0) }
    }

    /// Whether no page says anything.
    pub(super) fn is_empty(&self) -> bool {
        self.pages.iter().all(|page| page.head.is_none())
    }

    /// Whether something was written under the file's present number, be it a piece of a torn group.
    pub(super) fn is_touched(&self) -> bool {
        self.pages.iter().any(|page| usize::from(page.old) < SECTORS)
    }

    /// Takes in the next bytes of the file: whole pages, but for the last piece of the file.
    pub(super) fn add(&mut self, data: &Bytes) {
        for start in (0..data.len()).step_by(PAGE) {
            let end = data.len().min(start + PAGE);
            let page = self.page(data.slice(start..end));
            self.seen += 1;
            if usize::from(page.old) == SECTORS {
                continue;
            }
            // Pages that hold nothing stand for themselves only between others.
            let blank = Page { head: None, old: SECTORS as u8, damaged: 0, data: Bytes::new() };
            self.pages.resize(self.seen as usize - 1, blank);
            self.pages.push(page);
        }
    }

    fn page(&mut self, data: Bytes) -> Page {
        let mut page = Page { head: None, old: 0, damaged: 0, data };
        for sector in 0..SECTORS {
            let bytes = page.data.get(sector * SECTOR..).unwrap_or_default();
            let bytes = &bytes[..bytes.len().min(SECTOR)];
            match classify(self.file, self.seen * SECTORS as u64 + sector as u64, bytes) {
                Sector::Current if sector == 0 => page.head = Head::decode(&bytes[SECTOR_HEAD..]),
                Sector::Current => {}
                Sector::Old => {
                    page.old += 1;
                    let is_head =
                        sector == 0 && bytes.len() == SECTOR && bytes[..SECTOR_HEAD] != [0; SECTOR_HEAD];
                    if let Some(head) =
                        Head::decode(&bytes[SECTOR_HEAD.min(bytes.len())..]).filter(|_| is_head)
                    {
                        let number = Reader(&bytes[4..]).u32().unwrap_or(0);
                        self.foreign = self.foreign.max((head.place.group, number));
                    }
                }
                Sector::Damaged => page.damaged += 1,
            }
        }
        page
    }

    fn heads(&self) -> impl Iterator<Item = &Head> {
        self.pages.iter().filter_map(|page| page.head.as_ref())
    }

    /// The last group before this file, as the first page that tells says.
    pub(super) fn follows(&self) -> Option<u64> {
        self.heads().next().map(|head| head.place.follows)
    }

    /// The highest group that is known to have been durable.
    pub(super) fn synced(&self) -> u64 {
        self.heads().map(|head| head.place.synced.max(head.place.follows)).max().unwrap_or(0)
    }

    /// A recycled file holds groups of its earlier life, all of them in tables by now: below `first`. A group from there on
    /// stands in the wrong file.
    pub(super) fn check_foreign(&self, first: u64) -> Result<(), String> {
        let (group, number) = self.foreign;
        // A page of another file among the file's own went astray: that is damage like any other.
        if group < first || !self.is_empty() {
            return Ok(());
        }
        let other = FileName::new(self.file.kind, u64::from(number));
        Err(format!(
            "{}: holds pages of {other}; files have been exchanged: give them back their names, restore them from a copy, or \
             replace this node by one with a new id",
            self.file
        ))
    }

    /// The highest group of which a page is there.
    pub(super) fn last_group(&self) -> u64 {
        self.heads().map(|head| head.place.group).max().unwrap_or(0)
    }

    /// Whether groups from `first` on would be lost with this file. Groups behind the first that is not whole do not count:
    /// an earlier recovery has cut them, and their numbers were given out again.
    pub(super) fn is_needed_from(&self, first: u64) -> bool {
        let (last, end) = self.walk(u64::MAX, |_, _| Ok::<(), ()>(())).unwrap_or((0, End::Damaged));
        last >= first || (end == End::Damaged && self.last_group() >= first)
    }

    /// Another version's pages, if there are any.
    pub(super) fn check_version(&self) -> Result<(), String> {
        match self.heads().find(|head| head.version != VERSION) {
            None => Ok(()),
            Some(head) => Err(format!(
                "{}: written in version {} of the format, and this program knows version {VERSION}; start the version of \
                 samara that wrote it",
                self.file, head.version
            )),
        }
    }

    /// Shows the groups from the one after `follows` on, up to `limit`, to `visit`. The last one shown, and why it ended.
    pub(super) fn walk<E>(
        &self,
        limit: u64,
        mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(u64, End), E> {
        let mut last = self.follows().unwrap_or(0);
        let (mut at, mut payload) = (0, Vec::new());
        while last < limit {
            let Some(pages) = self.group_at(at, last + 1) else {
                return Ok((last, self.end_at(at, last + 1)));
            };
            payload.clear();
            for page in pages {
                page.append_payload(&mut payload);
            }
            visit(last + 1, &payload)?;
            last += 1;
            at += pages.len();
        }
        Ok((last, End::Clean))
    }

    /// Shows every whole group from `first` up to `limit`, wherever in a damaged file it stands.
    pub(super) fn whole_groups(&self, first: u64, limit: u64, mut visit: impl FnMut(u64, &[u8])) {
        let (mut at, mut payload) = (0, Vec::new());
        while let Some(page) = self.pages.get(at) {
            let group = page.head.map_or(0, |head| head.place.group);
            match self.group_at(at, group) {
                Some(pages) if group >= first && group <= limit => {
                    payload.clear();
                    for page in pages {
                        page.append_payload(&mut payload);
                    }
                    visit(group, &payload);
                    at += pages.len();
                }
                Some(pages) => at += pages.len(),
                None => at += 1,
            }
        }
    }

    /// The pages of a whole group.
    fn group_at(&self, at: usize, group: u64) -> Option<&[Page]> {
        let count = self.pages.get(at)?.head?.count as usize;
        let pages = self.pages.get(at..at.checked_add(count)?)?;
        let is_whole = |(index, page): (usize, &Page)| {
            let fits = |head: Head| {
                (head.place.group, head.index as usize, head.count as usize) == (group, index, count)
            };
            page.old == 0 && page.damaged == 0 && page.head.is_some_and(fits)
        };
        pages.iter().enumerate().all(is_whole).then_some(pages)
    }

    /// What became of the group that is not whole.
    fn end_at(&self, at: usize, group: u64) -> End {
        let Some(first) = self.pages.get(at) else {
            return End::Clean;
        };
        match first.head {
            // Another group than the next one stands here: pages went astray.
            Some(head) if head.place.group != group || head.index != 0 => End::Damaged,
            Some(head) => {
                let end = self.pages.len().min(at + head.count as usize);
                let is_short = end < at + head.count as usize;
                let is_torn = is_short || self.pages[at..end].iter().any(|page| page.old > 0);
                if is_torn { End::Torn } else { End::Damaged }
            }
            None if first.old > 0 => End::Torn,
            None => End::Damaged,
        }
    }
}

impl Page {
    fn append_payload(&self, out: &mut Vec<u8>) {
        let mut left = self.head.map_or(0, |head| usize::from(head.len));
        for sector in 0..SECTORS {
            let start = sector * SECTOR + SECTOR_HEAD + if sector == 0 { HEAD } else { 0 };
            let end = (start + left).min((sector + 1) * SECTOR);
            let bytes = self.data.get(start..end).unwrap_or_default();
            out.extend_from_slice(bytes);
            left -= bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: FileName = FileName::new(FileKind::Wal, 7);

    fn file_of(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut data = Vec::new();
        for (at, payload) in payloads.iter().enumerate() {
            let group = at as u64 + 11;
            let place = Place { group, follows: 10, synced: group - 1 };
            data.extend_from_slice(&encode_group(FILE, (data.len() / PAGE) as u64, place, payload));
        }
        data
    }

    fn read(data: Vec<u8>) -> (Vec<Vec<u8>>, End) {
        let mut segment = Segment::new(FILE);
        segment.add(&Bytes::from(data));
        let mut payloads = Vec::new();
        let walked = segment.walk(u64::MAX, |_, payload| {
            payloads.push(payload.to_vec());
            Ok::<(), String>(())
        });
        (payloads, walked.expect("a walk").1)
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(1u8..255, 1..10_000), 1..5)
    }

    #[test]
    fn groups_behind_a_torn_one_are_nobodys_loss() {
        let payloads = [alloc::vec![1; 100], alloc::vec![2; 5_000], alloc::vec![3; 100]];
        let mut data = file_of(&payloads);
        let needed = |data: &[u8]| {
            let mut segment = Segment::new(FILE);
            segment.add(&Bytes::copy_from_slice(data));
            assert_eq!(segment.last_group(), 13);
            [11, 12, 13, 14].map(|first| segment.is_needed_from(first))
        };
        assert_eq!(needed(&data), [true, true, true, false]);
        data[PAGE..PAGE + SECTOR].fill(0);
        assert_eq!(needed(&data), [true, false, false, false], "group 12 was never written whole");
        let mut data = file_of(&payloads);
        data[PAGE + 900] ^= 1;
        assert_eq!(needed(&data), [true, true, true, false], "a damaged group may have been acknowledged");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn groups_come_back_as_they_were(payloads in payloads(), blank in 0usize..3) {
            let mut data = file_of(&payloads);
            data.resize(data.len() + blank * PAGE, 0);
            prop_assert_eq!(read(data), (payloads, End::Clean));
        }

        #[test]
        fn a_torn_last_group_is_cut_and_a_damaged_one_is_not(
            payloads in payloads(), sector in any::<prop::sample::Index>(), byte in 0usize..SECTOR, is_old: bool, filler: u8
        ) {
            let whole = file_of(&payloads[..payloads.len() - 1]);
            let mut data = file_of(&payloads);
            let last = whole.len() / SECTOR + sector.index((data.len() - whole.len()) / SECTOR);
            let bytes = &mut data[last * SECTOR..][..SECTOR];
            if is_old {
                // What another number left there, or nothing.
                let old = FileName::new(FileKind::Wal, 3);
                let place = Place { group: 2, follows: 1, synced: 1 };
                let page = encode_group(old, (last / SECTORS) as u64, place, &alloc::vec![filler; PAYLOAD]);
                bytes.copy_from_slice(&page[last % SECTORS * SECTOR..][..SECTOR]);
            } else {
                bytes[byte] ^= filler | 1;
            }
            let (found, end) = read(data);
            prop_assert_eq!(&found[..], &payloads[..payloads.len() - 1]);
            prop_assert_eq!(end, if is_old { End::Torn } else { End::Damaged });
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(data in proptest::collection::vec(any::<u8>(), 0..9_000), payloads in payloads(),
            places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..9)) {
            let _ = read(data);
            let mut data = file_of(&payloads);
            for (at, byte) in places {
                let at = at.index(data.len());
                data[at] = byte;
            }
            let (found, _) = read(data);
            prop_assert!(payloads.starts_with(&found), "what is shown is what was written");
        }
    }
}
