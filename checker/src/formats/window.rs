//! Lets go of what is decided while a file is still read, so that memory is bounded by what is open and not by the file.
//!
//! A key is cut behind an operation that ran alone and after which its value is certain: a read, a write, a deletion. What came before such a cut
//! stands before what comes after it in every order, so that the key is linearizable when both parts are: the second from that value on. A write of
//! unknown outcome may take effect on either side: where its value is read in a part it belongs there, and where it is not it is carried over, for
//! nobody needs it there. A key is not cut while that is not certain: in a part with weak operations; with writes of unknown outcome that are not
//! plain, or beside conditional operations; while an operation is open.

use crate::history::Level;
use crate::recording::{Code, Initial, NOTHING, Record, Recording, Reply};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

type Map<K, V> = HashMap<K, V, FixedState>;
type Set<K> = HashSet<K, FixedState>;

/// Judges a part of each of some keys. `false`: nothing more need be read.
pub(crate) type Sink<'s> = dyn FnMut(&Recording) -> bool + 's;

/// Operations that are kept, at the least, before it is looked for cuts.
const KEPT: usize = 1 << 17;

/// Bytes of values that are kept, at the least, before it is looked for cuts.
const VALUES: usize = 4 << 20;

/// A write of unknown outcome that has not been seen, by key.
type Carried = Map<u32, Vec<Record>>;

/// What of a recording is still needed.
pub(crate) struct Window<'s> {
    sink: &'s mut Sink<'s>,
    /// At how many records and bytes of values it is looked for cuts.
    next: (usize, usize),
    kept: usize,
    /// The latest time that was read, and what it was when it was looked for cuts: these lie before, as files may be a little out of order.
    newest: u64,
    settled: u64,
    /// The latest return behind which a key was cut.
    cut_at: u64,
    carried: Carried,
    /// Operations that were let go of.
    decided: usize,
    /// Whether nothing more need be read.
    done: bool,
}

/// The cut of a key: how many of its records are before it, and the value then.
struct Cut {
    records: usize,
    value: u32,
}

impl<'s> Window<'s> {
    /// Looks for cuts at every `kept` operations, at the least.
    pub(crate) fn new(sink: &'s mut Sink<'s>, kept: Option<usize>) -> Self {
        let kept = kept.unwrap_or(KEPT);
        Self {
            sink,
            next: (kept, VALUES),
            kept,
            newest: 0,
            settled: 0,
            cut_at: 0,
            carried: Map::default(),
            decided: 0,
            done: false,
        }
    }

    /// An event of this time was read. `false`: it is earlier than what was already let go of.
    pub(super) fn on_time(&mut self, time: u64) -> bool {
        self.newest = self.newest.max(time);
        self.decided == 0 || time > self.cut_at
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn is_full(&self, recording: &Recording) -> bool {
        recording.records.len() >= self.next.0 || recording.values.size() >= self.next.1
    }

    /// Has what can be cut off judged, and lets go of it. `open`: the record of each process that is at work, by process; it is brought up to date.
    pub(super) fn slide(&mut self, recording: &mut Recording, open: &mut [u32], nobody: u32) {
        let mut is_open = vec![false; recording.records.len()];
        open.iter().filter(|at| **at != nobody).for_each(|at| is_open[*at as usize] = true);
        let mut stays = vec![true; recording.records.len()];
        let mut part: Vec<Record> = Vec::new();
        let mut states: Vec<(u32, Initial)> = Vec::new();
        for (key, mut places) in recording.by_key().into_iter().enumerate().skip(1) {
            places.retain(|at| recording.records[*at as usize].process != nobody);
            places.sort_by_key(|at| recording.records[*at as usize].call);
            let carried = self.carried.get(&(key as u32)).map_or(0, Vec::len);
            let Some(cut) = self.cut(recording, &places, &is_open, carried > 0) else { continue };
            let records: Vec<Record> =
                places[..cut.records].iter().map(|at| recording.records[*at as usize]).collect();
            if !self.assign(recording.initial_value(key as u32), key as u32, records, &mut part) {
                continue;
            }
            places[..cut.records].iter().for_each(|at| stays[*at as usize] = false);
            let last = &recording.records[places[cut.records - 1] as usize];
            self.cut_at = self.cut_at.max(last.ret);
            self.decided += cut.records;
            let state = if cut.value == NOTHING { Initial::Absent } else { Initial::Value(cut.value) };
            states.push((key as u32, state));
        }
        if !part.is_empty() {
            let rest = std::mem::replace(&mut recording.records, part);
            self.done = !(self.sink)(recording);
            recording.records = rest;
        }
        for (key, state) in states {
            recording.set_initial(key, state);
        }
        keep(recording, &stays, open, nobody);
        self.forget(recording);
        self.settled = self.newest;
        self.next = (self.kept.max(recording.records.len() * 2), VALUES.max(recording.values.size() * 2));
    }

    /// The last place at which a key can be cut.
    fn cut(&self, recording: &Recording, places: &[u32], is_open: &[bool], carries: bool) -> Option<Cut> {
        let mut last = None;
        // When all before had returned; whether something may have expired, the outcome of a write is unknown, an answer tells of a condition.
        let (mut returned, mut expires, mut unknown, mut conditional) = (None, false, carries, false);
        for (count, at) in places.iter().enumerate() {
            let record = &recording.records[*at as usize];
            let plain = record.code == Code::Put && record.number < 0;
            if is_open[*at as usize] || record.level != Level::Strong {
                return last;
            }
            if record.reply == Reply::Unknown {
                if record.code != Code::Get && !plain {
                    return last;
                }
                unknown |= plain;
                continue;
            }
            let alone = returned.is_none_or(|returned| returned < record.call);
            returned = returned.max(Some(record.ret));
            expires |= record.expires() || record.code == Code::Update;
            let simple = plain
                || record.code == Code::Get
                || record.code == Code::Delete && record.reply == Reply::Done;
            conditional |= !simple;
            let next = places.get(count + 1).map(|next| recording.records[*next as usize].call);
            if !alone || next.is_some_and(|next| next <= record.ret) || record.ret >= self.settled {
                continue;
            }
            let Some(value) = after(record, expires).filter(|_| !(unknown && conditional)) else { continue };
            last = Some(Cut { records: count + 1, value });
            if record.code != Code::Get {
                expires = false;
            }
        }
        last
    }

    /// Adds the records of a key before its cut to the part that is judged, with the writes of unknown outcome that are read there; carries the
    /// others over. `false`, and nothing is done, when it is not certain where one belongs.
    fn assign(&mut self, initial: u32, key: u32, records: Vec<Record>, part: &mut Vec<Record>) -> bool {
        let known = |record: &&Record| record.reply != Reply::Unknown;
        let carried = self.carried.get(&key).map_or(&[][..], Vec::as_slice);
        if carried.is_empty() && records.iter().all(|record| known(&record)) {
            part.extend(records);
            return true;
        }
        let read: Set<u32> = records.iter().filter(known).map(|record| record.seen).collect();
        let mut writers: Map<u32, u32> = Map::default();
        let puts = carried.iter().chain(&records).filter(|record| record.code == Code::Put);
        [initial]
            .into_iter()
            .chain(puts.map(|put| put.argument))
            .for_each(|value| *writers.entry(value).or_default() += 1);
        let unknown =
            || carried.iter().chain(&records).filter(|record| !known(record) && record.code == Code::Put);
        if unknown().any(|put| read.contains(&put.argument) && writers.get(&put.argument) != Some(&1)) {
            return false;
        }
        part.extend(unknown().filter(|put| read.contains(&put.argument)));
        part.extend(records.iter().filter(known));
        let rest: Vec<Record> = unknown().filter(|put| !read.contains(&put.argument)).copied().collect();
        self.carried.insert(key, rest);
        true
    }

    /// Forgets values that no record has any more.
    fn forget(&mut self, recording: &mut Recording) {
        let Recording { records, values, initial, initial_of, .. } = recording;
        let old = std::mem::take(values);
        let mut renew = |id: &mut u32| {
            if *id != NOTHING {
                *id = values.id(old.text(*id));
            }
        };
        let carried = self.carried.values_mut().flatten();
        for record in records.iter_mut().chain(carried) {
            [&mut record.argument, &mut record.expected, &mut record.seen].into_iter().for_each(&mut renew);
        }
        let states = initial_of.iter_mut().map(|(_, state)| state).chain([initial]);
        for state in states {
            if let Initial::Value(id) = state {
                renew(id);
            }
        }
    }

    /// Gives back the writes that were carried over and may be read in what is left. How many operations were let go of.
    pub(super) fn close(self, recording: &mut Recording) -> usize {
        let mut read: Set<(u32, u32)> = Set::default();
        read.extend(recording.records.iter().map(|record| (record.key, record.seen)));
        read.extend(recording.records.iter().map(|record| (record.key, record.expected)));
        let mut keys: Vec<(u32, Vec<Record>)> = self.carried.into_iter().collect();
        keys.sort_unstable_by_key(|(key, _)| *key);
        // A key with operations that tell of a condition may need a write though nobody reads it.
        let mut conditional: Set<u32> = Set::default();
        let tells = |record: &&Record| !matches!(record.code, Code::Get | Code::Put);
        conditional.extend(recording.records.iter().filter(tells).map(|record| record.key));
        let back = keys.into_iter().flat_map(|(_, records)| records);
        let back: Vec<Record> = back
            .filter(|put| conditional.contains(&put.key) || read.contains(&(put.key, put.argument)))
            .collect();
        let decided = self.decided - back.len();
        if !back.is_empty() {
            recording.records.extend(back);
            recording.records.sort_by_key(|record| record.call);
        }
        decided
    }
}

/// The value of a key after an operation that ran alone, where that is certain.
fn after(record: &Record, expires: bool) -> Option<u32> {
    match (record.code, record.reply) {
        (Code::Put, _) if record.number < 0 => Some(record.argument),
        (Code::Delete, _) => Some(NOTHING),
        (Code::Get, Reply::Value) if !expires => Some(record.seen),
        // A compare-and-set keeps the time to live.
        (Code::Cas, Reply::Applied) if !expires => Some(record.argument),
        (Code::PutAbsent | Code::PutPresent, Reply::Applied) => Some(record.argument),
        _ => None,
    }
}

/// Keeps the records that stay, and the places of those that are open.
fn keep(recording: &mut Recording, stays: &[bool], open: &mut [u32], nobody: u32) {
    let mut place = vec![nobody; stays.len()];
    let mut count = 0;
    for (at, stays) in stays.iter().enumerate() {
        if *stays && recording.records[at].process != nobody {
            place[at] = count;
            recording.records[count as usize] = recording.records[at];
            count += 1;
        }
    }
    recording.records.truncate(count as usize);
    for at in open.iter_mut().filter(|at| **at != nobody) {
        *at = place[*at as usize];
    }
}
