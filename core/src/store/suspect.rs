//! R6: what may have been lost. A stretch of keys is *suspect* from the moment damage is found in what holds it until the
//! layer above has brought it again from other replicas (`Store::heal`) and the damaged file is replaced. The stretches
//! stand in the manifest, so that a crash on the way forgets none of them.
//!
//! The order is what makes it safe: a stretch is durably suspect, or its damage is still there to be found again, until
//! all that was brought for it is durable.

use super::cursor::Cursor;
use super::manifest::{Install, InstallKind};
use super::pointer::Pointer;
use super::spans::Spans;
use super::table::{BlockAt, Table, TableMeta, hash};
use super::trouble::Trouble;
use super::{Store, StoreCx, StoreEvent, entry};
use crate::base::{Counter, Instant, RecordKey, Slot};
use crate::io::FileName;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// Milliseconds until a table with a block that could not be read is taken up by a merge again.
const BARRED_MS: u64 = 10_000;
/// What still cannot be read so many milliseconds after the first time is damaged: a disk that fails for a while loses
/// nothing.
const LASTING_MS: u64 = 30_000;

/// What was not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Block(u64, BlockAt),
    Value(u64, u64),
}

/// Where the user's slots begin, and where the shard's own key spaces end.
const START: [u8; 2] = [0, 0];
const END: [u8; 2] = [0xff, 0xff];

/// What the store knows of damage that is not healed.
#[derive(Debug, Clone, Default)]
pub(super) struct Suspicion {
    pub(super) spans: Spans,
    /// Of them: brought again from other replicas, all of it durable.
    healed: Spans,
    /// On their way out of the manifest.
    clearing: Option<Spans>,
    /// The manifest does not have the latest stretches.
    is_dirty: bool,
    is_installing: bool,
    /// Tables that cannot be opened. They stay in the manifest and on disk until their keys are healed.
    pub(super) broken: BTreeMap<u64, TableMeta>,
    /// Of them: on their way out of the manifest.
    dropping: bool,
    /// Value files that are not whole: nothing is appended to them.
    pub(super) values_broken: BTreeSet<u64>,
    /// Damaged values, by file and offset: the key, and once that is healed, the number from which on no table points there,
    /// since no merge takes the entry along any more.
    values: BTreeMap<(u64, u64), (Vec<u8>, Option<u64>)>,
    /// Blocks that are damaged, by table: not those that only were not read.
    blocks: BTreeMap<u64, BTreeSet<BlockAt>>,
    /// When places were first not read.
    pub(super) unread: BTreeMap<Place, Instant>,
    /// What was found at the start, to be told once the store has recovered.
    found: Vec<StoreEvent>,
}

impl Suspicion {
    /// What stands in the manifest once the edit in hand is written.
    pub(super) fn target(&self) -> Spans {
        let mut target = self.spans.clone();
        if let Some(clearing) = &self.clearing {
            target.remove_all(clearing);
        }
        target
    }

    fn add(&mut self, first: &[u8], end: &[u8]) {
        if !self.spans.contains(first, end) {
            self.spans.add(first, end);
            self.is_dirty = true;
        }
        // What was thought healed, or cleared, is not.
        self.healed.remove(first, end);
        if let Some(clearing) = &mut self.clearing
            && clearing.overlap(first, end).is_some()
        {
            clearing.remove(first, end);
            self.is_dirty = true;
        }
    }

    /// Whether what was found is damage, and not a disk that fails for a while.
    fn is_damage(&mut self, now: Instant, place: Place, trouble: &Trouble) -> bool {
        match trouble {
            Trouble::Damaged(_) => true,
            Trouble::Unread(_) => now >= self.unread.entry(place).or_insert(now).plus_ms(LASTING_MS),
        }
    }

    /// A table is gone.
    pub(super) fn forget_table(&mut self, number: u64) {
        self.blocks.remove(&number);
        self.unread.retain(|place, _| !matches!(place, Place::Block(of, _) if *of == number));
    }

    /// Damage found at the start, before the manifest is written again.
    pub(super) fn found_at_start(&mut self, file: FileName, first: &[u8], end: &[u8], reason: String) {
        self.spans.add(first, end);
        let (first, last) = (entry::decode_key(first), entry::decode_key(end));
        self.found.push(StoreEvent::Damaged { file, first, last, reason, is_suspect: true });
    }

    /// A table that cannot be opened.
    pub(super) fn table_broken(&mut self, meta: &TableMeta, reason: String) {
        let (first, end) = meta.stretch();
        self.found_at_start(meta.file(), &first, &end, reason);
        self.broken.insert(meta.number, meta.clone());
    }

    /// Acknowledged groups of the log are gone: whatever they held, any key may be concerned.
    pub(super) fn log_damaged(&mut self, file: FileName, reason: String) {
        self.found_at_start(file, &START, &END, reason);
    }
}

impl TableMeta {
    /// The stretch of keys that the table may hold.
    fn stretch(&self) -> (Bytes, Bytes) {
        (self.first.clone(), Bytes::from(successor(&self.last)))
    }
}

/// The next encoded key.
fn successor(name: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(name.len() + 1);
    next.extend_from_slice(name);
    next.push(0);
    next
}

impl Store {
    /// Whether `key` may have had a record that was lost: then what the store shows of it may be older than what has been
    /// acknowledged, and must not count as a vote (R6).
    pub fn is_suspect(&self, key: &RecordKey) -> bool {
        if self.suspicion.spans.is_empty() {
            return false;
        }
        let mut name = Vec::new();
        entry::encode_key(key, &mut name);
        self.suspicion.spans.has(&name)
    }

    /// Whether `key` is suspect, and would be after a crash at this moment.
    pub fn is_suspect_durably(&self, key: &RecordKey) -> bool {
        self.is_suspect(key)
            && self.suspicion.clearing.is_none()
            && !self.suspicion.is_dirty
            && !self.suspicion.is_installing
    }

    /// Whether any key from `from` up to `until` (excluded) is suspect.
    pub fn is_any_suspect(&self, from: &RecordKey, until: &RecordKey) -> bool {
        if self.suspicion.spans.is_empty() {
            return false;
        }
        let (mut first, mut end) = (Vec::new(), Vec::new());
        entry::encode_key(from, &mut first);
        entry::encode_key(until, &mut end);
        self.suspicion.spans.overlap(&first, &end).is_some()
    }

    /// The suspect stretches that have not been healed, each from the first key (included) to the second (excluded).
    pub fn suspects(&self) -> Vec<(RecordKey, RecordKey)> {
        let mut left = self.suspicion.spans.clone();
        left.remove_all(&self.suspicion.healed);
        left.iter().map(|(first, end)| (entry::decode_key(first), entry::decode_key(end))).collect()
    }

    /// How many stretches are suspect, and in how many slots up to `Slot::COUNT` they lie.
    pub fn suspect_extent(&self) -> (usize, usize) {
        let slots = |(first, end): &(Bytes, Bytes)| {
            let (first, end) = (entry::decode_key(first), entry::decode_key(end));
            let upto = end.slot.0 + u16::from(!end.key.is_empty());
            usize::from(upto.min(Slot::COUNT).saturating_sub(first.slot.0))
        };
        (self.suspicion.spans.len(), self.suspicion.spans.iter().map(slots).sum())
    }

    /// All that other replicas hold of the keys from `first` up to `end` has been put and is durable, or the operator has
    /// accepted its loss. The damaged files are replaced now, without what was damaged; then the keys are no longer
    /// suspect, and `StoreEvent::Healed` follows.
    pub fn heal(&mut self, first: &RecordKey, end: &RecordKey) {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        entry::encode_key(first, &mut from);
        entry::encode_key(end, &mut to);
        let mut healed = self.suspicion.spans.clone();
        healed.remove(&[], &from);
        // Behind the last key space there is nothing: the byte string above all of them.
        healed.remove(&to, &[0xff; 4]);
        healed.iter().for_each(|(first, end)| self.suspicion.healed.add(first, end));
        // What could not be merged for its damage now can.
        self.barred.clear();
        self.levels_changed = true;
    }

    /// R6: the layer above cannot vouch for these keys: they are suspect from now on, durably with the next commits.
    pub fn suspect(&mut self, first: &RecordKey, end: &RecordKey) {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        entry::encode_key(first, &mut from);
        entry::encode_key(end, &mut to);
        self.suspicion.add(&from, &to);
    }

    /// A block is not to be had: who holds other copies of these keys is told, once per block. If it is damaged its keys are
    /// suspect.
    pub(super) fn report_damage(
        &mut self,
        cx: &mut StoreCx<'_>,
        table: &Arc<Table>,
        at: BlockAt,
        trouble: Trouble,
    ) {
        let number = table.meta.number;
        // Of a table that has been replaced meanwhile nothing is missing.
        if !self.levels.all().any(|live| live.meta.number == number) {
            return;
        }
        // Merges leave out what is healed.
        if !(self.is_block_damaged(table, at) && self.is_block_healed(table, at)) {
            self.barred.insert(number, cx.now.mono.plus_ms(BARRED_MS));
        }
        let is_new = self.damaged.entry(number).or_default().insert(at);
        let (low, high) = table.stretch_of(at);
        let is_damage = self.suspicion.is_damage(cx.now.mono, Place::Block(number, at), &trouble);
        let is_suspect = is_damage && self.suspicion.blocks.entry(number).or_default().insert(at);
        if is_suspect {
            self.enter(cx, &low, &high);
        }
        if is_new || is_suspect {
            let (first, last) = table.span(at);
            self.tell_damage(cx, table.meta.file(), (first, last), trouble, is_suspect);
        }
    }

    /// A value that stands apart is not to be had: who holds other copies of the key is told, once per value. If it is
    /// damaged the key is suspect.
    pub(super) fn report_value_damage(
        &mut self,
        cx: &mut StoreCx<'_>,
        name: &[u8],
        pointer: Pointer,
        trouble: Trouble,
    ) {
        if !self.values.contains(pointer.file) {
            return;
        }
        let place = (pointer.file, pointer.offset);
        let is_new = self.values.damaged.insert(place);
        let is_damage = self.suspicion.is_damage(cx.now.mono, Place::Value(place.0, place.1), &trouble);
        let is_suspect = is_damage && !self.suspicion.values.contains_key(&place);
        if is_suspect {
            self.enter(cx, name, &successor(name));
            self.suspicion.values.insert(place, (name.to_vec(), None));
        }
        if is_new || is_suspect {
            let key = entry::decode_key(name);
            self.tell_damage(cx, pointer.name(), (key.clone(), key), trouble, is_suspect);
        }
    }

    fn enter(&mut self, cx: &mut StoreCx<'_>, first: &[u8], end: &[u8]) {
        cx.counters.add(Counter::DamageFoundInBlock);
        if self.suspicion.spans.is_empty() {
            cx.counters.add(Counter::SuspectEntered);
        }
        self.suspicion.add(first, end);
    }

    fn tell_damage(
        &mut self,
        cx: &mut StoreCx<'_>,
        file: FileName,
        keys: (RecordKey, RecordKey),
        trouble: Trouble,
        is_suspect: bool,
    ) {
        let (Trouble::Unread(reason) | Trouble::Damaged(reason)) = trouble;
        let (first, last) = keys;
        let (from, to) = (first.clone(), last.clone());
        self.describe(super::Damage { file, first: from, last: to, reason: reason.clone() });
        cx.events.push(StoreEvent::Damaged { file, first, last, reason, is_suspect });
    }

    /// Whether an entry that points to a damaged value can be left out.
    pub(super) fn is_value_healed(&self, pointer: Pointer) -> bool {
        let held = self.suspicion.values.get(&(pointer.file, pointer.offset));
        held.is_some_and(|(name, _)| self.suspicion.healed.has(name))
    }

    /// The entries that pointed to these damaged values are gone.
    pub(super) fn on_values_left(&mut self, places: &[(u64, u64)]) {
        for place in places {
            self.suspicion.values.remove(place);
            self.values.damaged.remove(place);
        }
    }

    /// Tells what recovery found.
    pub(super) fn tell_found(&mut self, cx: &mut StoreCx<'_>) {
        for event in core::mem::take(&mut self.suspicion.found) {
            cx.counters.add(Counter::DamageFoundAtStart);
            cx.events.push(event);
        }
        // What an earlier life left is suspect without being found again.
        if !self.suspicion.spans.is_empty() {
            cx.counters.add(Counter::SuspectEntered);
            cx.events.push(StoreEvent::Suspect);
        }
    }

    /// Carries suspicion and its end on to the disk.
    pub(super) fn mend(&mut self, cx: &mut StoreCx<'_>) {
        if self.suspicion.spans.is_empty() && !self.suspicion.is_dirty {
            return;
        }
        self.drop_broken(cx);
        self.forget_values();
        if self.suspicion.is_installing {
            return;
        }
        let cleared = self.clean_stretches();
        if !cleared.is_empty() {
            self.suspicion.clearing = Some(cleared);
        } else if !self.suspicion.is_dirty {
            return;
        }
        self.suspicion.is_dirty = false;
        self.suspicion.is_installing = true;
        self.installs.push_back(Install::new(InstallKind::Suspicion));
        self.start_install(cx);
    }

    /// Damaged values that no table points to any more.
    fn forget_values(&mut self) {
        // A compaction that is under way may have taken the entry along before its key was healed.
        let is_idle = self.compaction.is_none() && !self.moving;
        let healed = &self.suspicion.healed;
        for (name, below) in self.suspicion.values.values_mut() {
            *below = below.or(is_idle.then_some(self.next_file)).filter(|_| healed.has(name));
        }
        let places: Vec<_> = self.suspicion.values.keys().copied().collect();
        let is_left = |place: &(u64, u64)| self.table_of_value(*place).is_none();
        let gone: Vec<_> = places.into_iter().filter(is_left).collect();
        self.on_values_left(&gone);
    }

    /// The table that may hold the entry which points to a damaged value.
    fn table_of_value(&self, place: (u64, u64)) -> Option<u64> {
        let (name, below) = self.suspicion.values.get(&place)?;
        // No table has the number 0: not known yet.
        let Some(below) = below else {
            return Some(0);
        };
        let hash = hash(name);
        let mut tables = self.levels.covering(name).filter(|table| {
            table.meta.number < *below
                && table.meta.points_to(place.0).is_some()
                && table.may_hold(name, hash)
        });
        tables.next().map(|table| table.meta.number)
    }

    /// What is healed and lies in no damaged file.
    fn clean_stretches(&self) -> Spans {
        let mut clean = self.suspicion.healed.clone();
        if clean.is_empty() {
            return clean;
        }
        for (number, blocks) in &self.suspicion.blocks {
            if let Some(table) = self.levels.all().find(|table| table.meta.number == *number) {
                for at in blocks {
                    let (first, end) = table.stretch_of(*at);
                    clean.remove(&first, &end);
                }
            }
        }
        for (name, _) in self.suspicion.values.values() {
            clean.remove(name, &successor(name));
        }
        for meta in self.suspicion.broken.values() {
            let (first, end) = meta.stretch();
            clean.remove(&first, &end);
        }
        clean
    }

    /// Tables that cannot be opened leave the manifest once all their keys are healed.
    fn drop_broken(&mut self, cx: &mut StoreCx<'_>) {
        if self.suspicion.dropping {
            return;
        }
        let is_healed = |meta: &&TableMeta| {
            let (first, end) = meta.stretch();
            self.suspicion.healed.contains(&first, &end)
        };
        let gone: Vec<u64> =
            self.suspicion.broken.values().filter(is_healed).map(|meta| meta.number).collect();
        if gone.is_empty() {
            return;
        }
        let mut install = Install::new(InstallKind::Broken);
        install.removed = gone;
        self.suspicion.dropping = true;
        self.installs.push_back(install);
        self.start_install(cx);
    }

    pub(super) fn on_broken_gone(&mut self, numbers: &[u64]) {
        self.suspicion.broken.retain(|number, _| !numbers.contains(number));
        self.suspicion.dropping = false;
    }

    pub(super) fn on_suspicion_installed(&mut self, cx: &mut StoreCx<'_>) {
        self.suspicion.is_installing = false;
        let Some(cleared) = self.suspicion.clearing.take() else {
            return;
        };
        // What was read before may have stood in what was damaged: the files show something else now.
        self.hot.remove_where(|name, _| cleared.has(name));
        self.restart_gets(|name| cleared.has(name));
        self.suspicion.spans.remove_all(&cleared);
        self.suspicion.healed.remove_all(&cleared);
        if self.suspicion.spans.is_empty() {
            cx.counters.add(Counter::SuspectHealed);
        }
        cx.events.push(StoreEvent::Healed);
    }

    /// A table whose damaged blocks hold only healed keys: it can be written anew without them.
    pub(super) fn next_mendable(&self) -> Option<(usize, usize)> {
        if self.suspicion.healed.is_empty() {
            return None;
        }
        let values = self.suspicion.values.iter().filter(|(_, (name, _))| self.suspicion.healed.has(name));
        let pointing: Vec<u64> = values.filter_map(|(place, _)| self.table_of_value(*place)).collect();
        let is_mendable = |table: &Arc<Table>| {
            let number = table.meta.number;
            let none = BTreeSet::new();
            let blocks = self.suspicion.blocks.get(&number).unwrap_or(&none);
            let has_healed =
                pointing.contains(&number) || blocks.iter().any(|at| self.is_block_healed(table, *at));
            // What is not healed cannot be left out yet; what could not be read once perhaps can be now.
            let waits = |at: &BlockAt| !self.is_block_healed(table, *at);
            has_healed && !self.barred.contains_key(&number) && !blocks.iter().any(waits)
        };
        let runs = self.levels.runs().iter().enumerate();
        runs.flat_map(|(level, run)| run.iter().enumerate().map(move |(at, table)| (level, at, table)))
            .find(|(_, _, table)| is_mendable(table))
            .map(|(level, at, _)| (level, at))
    }

    /// R6: whether the damaged block that a cursor has met can be left out: its keys have been healed.
    pub(super) fn may_skip(&self, cursor: &Cursor) -> bool {
        cursor
            .place()
            .is_some_and(|(table, at)| self.is_block_damaged(&table, at) && self.is_block_healed(&table, at))
    }

    /// Whether a block is damaged, and not only was not read.
    pub(super) fn is_block_damaged(&self, table: &Arc<Table>, at: BlockAt) -> bool {
        self.suspicion.blocks.get(&table.meta.number).is_some_and(|blocks| blocks.contains(&at))
    }

    /// Whether a value is damaged, and not only was not read.
    pub(super) fn is_value_damaged(&self, pointer: Pointer) -> bool {
        self.suspicion.values.contains_key(&(pointer.file, pointer.offset))
    }

    /// Whether nothing is missed when a block is left out.
    pub(super) fn is_block_healed(&self, table: &Arc<Table>, at: BlockAt) -> bool {
        let (first, end) = table.stretch_of(at);
        self.suspicion.healed.contains(&first, &end)
    }
}
