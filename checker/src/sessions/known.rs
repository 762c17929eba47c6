//! Whether a session may know of a write that is newer than what it reads: an answer of no is certain and cheap, since few writes
//! of a key are newer than what is read of it. An answer of perhaps is looked at closely.

use super::descent::Newer;
use super::{Map, Sessions};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Looks at newer writes for one read, beyond which the sessions it has seen are looked at one by one.
const LOOKS: usize = 64;

/// Writes by session and key, with their places in the session.
type Writes = Map<(u32, u32), BTreeSet<(u32, u32)>>;

/// What has been written and read so far.
#[derive(Default)]
pub(super) struct Known {
    /// Keys of which something was written or read.
    touched: Vec<bool>,
    writes: Writes,
    /// Writes with versions, by key: version and number.
    versions: Map<u32, BTreeSet<(u64, u32)>>,
    /// Who read a write, and where in its session.
    readers: Map<u32, Vec<(u32, u32)>>,
}

impl Known {
    pub(super) fn new(keys: usize) -> Self {
        Self { touched: vec![false; keys + 1], ..Self::default() }
    }

    /// A session has written, or somebody has read what it wrote.
    pub(super) fn add(&mut self, of: &Sessions<'_>, write: u32) {
        let record = of.record(write);
        self.touched[record.key as usize] = true;
        self.writes
            .entry((record.session, record.key))
            .or_default()
            .insert((of.place[write as usize], write));
        if record.version != 0 {
            self.versions.entry(record.key).or_default().insert((record.version, write));
        }
    }

    /// A session has read what `write` wrote.
    pub(super) fn read(&mut self, of: &Sessions<'_>, write: u32, session: u32, place: u32) {
        self.add(of, write);
        self.readers.entry(write).or_default().push((session, place));
    }

    /// Whether `session`, which has seen others up to these places, may know of a write of the key that is newer than `source`.
    pub(super) fn may_break(
        &self,
        of: &Sessions<'_>,
        (session, key): (u32, u32),
        source: Option<u32>,
        seen: &BTreeMap<u32, u32>,
    ) -> bool {
        let Some(source) = source else {
            return !of.fleeting[key as usize] && self.touched[key as usize];
        };
        let has_seen =
            |other: u32, place: u32| other == session || seen.get(&other).is_some_and(|upto| place < *upto);
        let mut looks = LOOKS;
        let mut counts = |write: u32, follows: bool| {
            let readers = self.readers.get(&write).map_or(&[][..], |readers| readers);
            looks = looks.saturating_sub(1 + readers.len());
            if looks == 0 {
                return true;
            }
            let is_known = has_seen(of.record(write).session, of.place[write as usize])
                || readers.iter().any(|(reader, place)| has_seen(*reader, *place));
            is_known && (follows || of.older(Some(source), write, &Newer::default()))
        };
        let record = of.record(source);
        // Versions say nothing else where both have one; to look closely at a few in vain does no harm.
        let mut following: Vec<u32> = of.descent.after(source).take(LOOKS).collect();
        let mut next = 0;
        while let Some(write) = following.get(next).copied() {
            next += 1;
            if counts(write, true) || following.len() >= LOOKS {
                return true;
            }
            for newer in of.descent.after(write) {
                if newer != source && !following.contains(&newer) {
                    following.push(newer);
                }
            }
        }
        let by_it = self.writes.get(&(record.session, key)).into_iter();
        let behind = (of.place[source as usize] + 1, 0)..;
        if by_it.flat_map(|writes| writes.range(behind.clone())).any(|(_, write)| counts(*write, false)) {
            return true;
        }
        let newer = (Bound::Excluded((record.version, u32::MAX)), Bound::Unbounded);
        let versions = self.versions.get(&key).into_iter().filter(|_| record.version != 0);
        versions.flat_map(|writes| writes.range(newer)).any(|(_, write)| counts(*write, false))
    }
}
