//! R6: how a replica brings again what it may have lost. Each suspect stretch is cut where the sources change; a stretch is
//! brought page by page from a majority of N among the other replicas, merged with what is left here, settled where the
//! sources differ, and healed when all of it is durable.
//!
//! A restart begins anew with what is still suspect. All state here is volatile; what is lost with it only costs time.

use super::{MARK_SLOT, Read, Replica, ReplicaCx, ReplicaEvent};
use crate::base::limits::{SCAN_PAGE_BYTES, SCAN_PAGE_MAX};
use crate::base::planted::{self, Bug};
use crate::base::{Address, Counter, Hlc, Instant, NodeId, Record, RecordKey, RequestId, Slot, Stamp};
use crate::rules::garbage::is_garbage;
use crate::rules::quorum::majority;
use crate::rules::ring::SlotTable;
use crate::store::Lsn;
use crate::wire::{Answer, Message, Refusal};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;

/// Milliseconds between two looks at what is under way.
const TICK_MS: u64 = 20;
/// Milliseconds after which a source that has not answered is asked again.
const PATIENCE_MS: u64 = 500;
/// Milliseconds after which a stretch whose sources do not answer makes way for the next.
const TURN_MS: u64 = 2_000;
/// Milliseconds after which stretches with too few other replicas are looked at again.
const STUCK_MS: u64 = 5_000;
/// Milliseconds within which the settling of a key ends, or is asked for again.
const SETTLE_MS: u64 = 3_000;
/// Slots of one stretch at most: what is healed stays so when the rest begins anew.
const STRETCH_SLOTS: u16 = 256;
/// Stretches under way at a time: each has a page of every source in memory at most.
const WORKS_MAX: usize = 8;
/// Keys that are settled at a time.
const SETTLING_MAX: usize = 16;

/// A stretch of keys with the same sources.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    first: RecordKey,
    until: RecordKey,
    sources: Vec<Address>,
    /// Sources that are a majority of N.
    needed: usize,
}

#[derive(Debug, Clone)]
struct Page {
    records: Vec<(RecordKey, Record)>,
    done: bool,
}

/// The stretch that is being brought.
#[derive(Debug, Clone)]
pub(super) struct Work {
    id: u64,
    stretch: Stretch,
    /// Everything up to here has been merged, this very key included if the flag is set.
    at: RecordKey,
    exclusive: bool,
    asked: BTreeMap<NodeId, (RequestId, Instant)>,
    pages: BTreeMap<NodeId, Page>,
    /// Sources that are suspect themselves somewhere in the stretch.
    refused: BTreeSet<NodeId>,
    own: Option<Page>,
    /// A read of what this replica itself holds is under way.
    is_reading: bool,
    /// The last page has been merged.
    is_merged: bool,
    /// The highest floor of the sources.
    floor: Stamp,
    /// The highest watermark that a source told, by slot.
    watermarks: BTreeMap<Slot, Stamp>,
    /// Must be durable before the stretch is healed.
    lsn: Lsn,
    /// When it began, or last got an answer.
    progress: Instant,
}

/// What a page's keys come to.
struct Merged {
    best: Record,
    /// Sources that hold the best ballot, and those that hold any.
    agreeing: usize,
}

/// The machine.
#[derive(Debug, Clone)]
pub(super) struct Resync {
    me: Address,
    /// Whatever may have been lost had a ballot at or below this.
    floor: Hlc,
    pub(super) stretches: VecDeque<Stretch>,
    /// Those under way.
    pub(super) works: Vec<Work>,
    last_id: u64,
    to_settle: VecDeque<(Bytes, Record)>,
    settling: BTreeMap<Bytes, (Record, Instant)>,
    next_tick: Option<Instant>,
    /// Stretches of which nobody else holds anything: healed when these LSNs are durable.
    foreign: Vec<(RecordKey, RecordKey, Lsn)>,
    /// Some stretch has too few other replicas.
    is_stuck: bool,
}

impl Resync {
    pub(super) fn new(me: Address) -> Self {
        Self {
            me,
            floor: Hlc(0),
            stretches: VecDeque::new(),
            works: Vec::new(),
            last_id: 0,
            to_settle: VecDeque::new(),
            settling: BTreeMap::new(),
            next_tick: None,
            foreign: Vec::new(),
            is_stuck: false,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next_tick
    }

    /// A key has been settled; whether this machine had asked for it.
    pub(super) fn on_settled(&mut self, key: &Bytes) -> bool {
        self.settling.remove(key).is_some()
    }

    fn work_mut(&mut self, id: u64) -> Option<&mut Work> {
        self.works.iter_mut().find(|work| work.id == id)
    }

    /// Cuts the suspect stretches where the sources change. Gives back those that nobody else holds anything of: the
    /// shard's own key spaces, and slots of which this node is no replica.
    fn plan(
        &mut self,
        table: &SlotTable,
        suspects: Vec<(RecordKey, RecordKey)>,
    ) -> Vec<(RecordKey, RecordKey)> {
        let mut foreign = Vec::new();
        self.is_stuck = false;
        let users_end = RecordKey::start_of(Slot(Slot::COUNT));
        for (first, end) in suspects {
            if end > users_end {
                foreign.push((first.clone().max(users_end.clone()), end.clone()));
            }
            let end = end.min(users_end.clone());
            let mut begun: Option<(RecordKey, Option<Vec<Address>>)> = None;
            for slot in (first.slot.0..=end.slot.0).map(Slot) {
                if table.address(self.me.node, slot) != Some(self.me) || slot.0 >= Slot::COUNT {
                    continue;
                }
                let sources = self.sources(table, slot);
                let is_full = |begin: &RecordKey| slot.0 - begin.slot.0 >= STRETCH_SLOTS;
                if begun.as_ref().is_some_and(|(begin, held)| *held == sources && !is_full(begin)) {
                    continue;
                }
                let from = if begun.is_none() { first.clone() } else { RecordKey::start_of(Slot(slot.0)) };
                if let Some((begin, sources)) = begun.replace((from.clone(), sources)) {
                    self.push(begin, from, sources, &mut foreign);
                }
            }
            match begun {
                Some((begin, sources)) => self.push(begin, end, sources, &mut foreign),
                None => foreign.push((first, end)),
            }
        }
        foreign.retain(|(first, end)| first < end);
        foreign
    }

    /// The other replicas of a slot; `None` if this node is none itself.
    fn sources(&self, table: &SlotTable, slot: Slot) -> Option<Vec<Address>> {
        let replicas = table.replicas(slot);
        let others = replicas.iter().filter(|node| **node != self.me.node);
        let addresses = others.filter_map(|node| table.address(*node, slot)).collect();
        replicas.contains(&self.me.node).then_some(addresses)
    }

    fn push(
        &mut self,
        first: RecordKey,
        until: RecordKey,
        sources: Option<Vec<Address>>,
        foreign: &mut Vec<(RecordKey, RecordKey)>,
    ) {
        if first >= until {
            return;
        }
        let Some(sources) = sources else {
            return foreign.push((first, until));
        };
        let needed = majority(sources.len() + 1);
        if sources.len() < needed {
            // R6: with too few others nobody can say what was lost: the operator decides.
            self.is_stuck = true;
            return;
        }
        self.stretches.push_back(Stretch { first, until, sources, needed });
    }
}

impl Work {
    fn new(id: u64, stretch: Stretch, now: Instant) -> Self {
        Self {
            id,
            at: stretch.first.clone(),
            exclusive: false,
            stretch,
            asked: BTreeMap::new(),
            pages: BTreeMap::new(),
            refused: BTreeSet::new(),
            own: None,
            is_reading: false,
            is_merged: false,
            floor: Stamp::ZERO,
            watermarks: BTreeMap::new(),
            lsn: Lsn(0),
            progress: now,
        }
    }

    fn needed(&self) -> usize {
        if planted::on(Bug::R6OneSourceSuffices) { 1 } else { self.stretch.needed }
    }

    /// The last key that every page covers; `None`: all cover the rest of the stretch.
    fn covered(&self) -> Option<RecordKey> {
        let pages = self.pages.values().chain(&self.own).filter(|page| !page.done);
        pages.filter_map(|page| page.records.last()).map(|(key, _)| key.clone()).min()
    }

    /// What the sources hold of each key up to `covered`.
    fn merged(&self, covered: Option<&RecordKey>) -> BTreeMap<RecordKey, Merged> {
        let mut merged: BTreeMap<RecordKey, Merged> = BTreeMap::new();
        for (key, record) in self.pages.values().flat_map(|page| &page.records) {
            if covered.is_some_and(|covered| key > covered) {
                continue;
            }
            // G2: what a source has dropped, and another may have dropped, is as good as gone.
            if is_garbage(record, self.watermark(key.slot)) {
                continue;
            }
            match merged.get_mut(key) {
                None => {
                    merged.insert(key.clone(), Merged { best: record.clone(), agreeing: 1 });
                }
                Some(held) if record.ballot > held.best.ballot => {
                    *held = Merged { best: record.clone(), agreeing: 1 };
                }
                Some(held) => held.agreeing += usize::from(record.ballot == held.best.ballot),
            }
        }
        merged
    }

    fn watermark(&self, slot: Slot) -> Stamp {
        self.watermarks.get(&slot).copied().unwrap_or_default()
    }
}

impl Replica {
    /// The store has found damage, or recovered with some. The stretches in hand begin anew, since more of them may have been
    /// lost meanwhile, under a higher floor.
    pub(super) fn on_damage(&mut self, rx: &mut ReplicaCx<'_, '_>) {
        self.resync.floor = self.resync.floor.max(rx.cx.clock.last());
        for work in self.resync.works.drain(..).rev() {
            self.resync.stretches.push_front(work.stretch);
        }
        self.resync.to_settle.clear();
        self.resync.settling.clear();
        self.resync.foreign.clear();
        self.marks.disturb_all();
        self.reads.retain(|_, read| !matches!(read, Read::Own(_)));
        self.take_back_marks(rx);
        self.resync.next_tick = Some(rx.cx.now.mono);
    }

    /// R6: whether keys stay suspect because too few other replicas hold them.
    pub fn is_stuck(&self) -> bool {
        self.resync.is_stuck
    }

    /// Goes on with the re-sync, if there is one.
    pub(super) fn tick_resync(&mut self, rx: &mut ReplicaCx<'_, '_>, is_alive: &impl Fn(NodeId) -> bool) {
        let now = rx.cx.now.mono;
        if self.resync.next_tick.is_none_or(|at| at > now) {
            return;
        }
        self.resync.next_tick = Some(now.plus_ms(TICK_MS));
        self.heal_foreign(rx);
        let is_idle = self.resync.works.is_empty() && self.resync.stretches.is_empty();
        if is_idle && self.resync.foreign.is_empty() {
            let suspects = rx.store.suspects();
            if suspects.is_empty() {
                self.resync.next_tick = None;
                return;
            }
            let foreign = self.resync.plan(rx.table, suspects);
            self.take_foreign(rx, foreign);
            if self.resync.stretches.is_empty() && self.resync.is_stuck {
                self.resync.next_tick = Some(now.plus_ms(STUCK_MS));
            }
        }
        while self.resync.works.len() < WORKS_MAX {
            let Some(stretch) = self.resync.stretches.pop_front() else {
                break;
            };
            self.resync.last_id += 1;
            self.resync.works.push(Work::new(self.resync.last_id, stretch, now));
        }
        self.settle_some(rx);
        let ids: Vec<u64> = self.resync.works.iter().map(|work| work.id).collect();
        for id in ids {
            self.ask_sources(rx, id, is_alive);
            self.advance_resync(rx, id);
        }
    }

    /// Nobody else holds anything of these stretches: what is damaged of the hints is lost, and the marks are all known.
    fn take_foreign(&mut self, rx: &mut ReplicaCx<'_, '_>, stretches: Vec<(RecordKey, RecordKey)>) {
        let is_marks = |(_, end): &(RecordKey, RecordKey)| *end > RecordKey::start_of(MARK_SLOT);
        let lsn = if stretches.iter().any(is_marks) { self.marks.write_again(rx) } else { Lsn(0) };
        self.resync.foreign.extend(stretches.into_iter().map(|(first, end)| (first, end, lsn)));
        self.heal_foreign(rx);
    }

    fn heal_foreign(&mut self, rx: &mut ReplicaCx<'_, '_>) {
        let durable = rx.store.durable();
        for (first, end, _) in self.resync.foreign.extract_if(.., |(_, _, lsn)| *lsn <= durable) {
            rx.store.heal(&first, &end);
        }
    }

    /// G1, R6: takes over the watermarks of the sources, and looks anew at what garbage there is where that was lost.
    fn adopt_marks(&mut self, rx: &mut ReplicaCx<'_, '_>, work: &mut Work) {
        for (slot, upto) in core::mem::take(&mut work.watermarks) {
            if self.holds(rx, slot) && upto > self.watermark(slot) {
                self.adopt_watermark(rx, slot, upto);
            }
        }
    }

    /// Asks the sources that have not sent their page, and reads what is left here.
    fn ask_sources(&mut self, rx: &mut ReplicaCx<'_, '_>, id: u64, is_alive: &impl Fn(NodeId) -> bool) {
        let now = rx.cx.now.mono;
        let is_settling = !self.resync.to_settle.is_empty() || !self.resync.settling.is_empty();
        let (floor, others) = (self.resync.floor, !self.resync.stretches.is_empty());
        let Some(work) = self.resync.work_mut(id).filter(|work| !work.is_merged && !is_settling) else {
            return;
        };
        if now >= work.progress.plus_ms(TURN_MS) && others {
            // Its sources are away: another stretch may have others.
            let stretch = work.stretch.clone();
            self.resync.works.retain(|work| work.id != id);
            return self.resync.stretches.push_back(stretch);
        }
        for source in &work.stretch.sources {
            let waits = work.asked.get(&source.node).is_some_and(|(_, until)| *until > now);
            if waits || work.pages.contains_key(&source.node) || !is_alive(source.node) {
                continue;
            }
            let request = rx.cx.next_request();
            work.asked.insert(source.node, (request, now.plus_ms(PATIENCE_MS)));
            let message = Message::Resync {
                request,
                from: work.at.clone(),
                exclusive: work.exclusive,
                until: work.stretch.until.clone(),
                floor,
            };
            rx.cx.send(*source, message);
        }
        if work.own.is_none() && !work.is_reading {
            work.is_reading = true;
            let (from, exclusive, until) = (work.at.clone(), work.exclusive, work.stretch.until.clone());
            let token = rx.with_store(|store, cx| {
                store.scan_readable(cx, from, exclusive, Some(until), SCAN_PAGE_MAX, SCAN_PAGE_BYTES)
            });
            self.reads.insert(token, Read::Own(id));
        }
    }

    pub(super) fn on_own_page(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        id: u64,
        records: Vec<(RecordKey, Record)>,
        done: bool,
    ) {
        if let Some(work) = self.resync.work_mut(id) {
            work.is_reading = false;
            work.own = Some(Page { records, done });
            self.advance_resync(rx, id);
        }
    }

    /// What this replica itself holds could not be read for now.
    pub(super) fn on_own_unreadable(&mut self, id: u64) {
        if let Some(work) = self.resync.work_mut(id) {
            work.is_reading = false;
        }
    }

    /// An answer to a request of the re-sync; false if `request` is none of its own.
    pub(super) fn on_resync_answer(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        from: Address,
        request: RequestId,
        answer: &Answer,
    ) -> bool {
        let now = rx.cx.now.mono;
        let is_asked = |work: &&mut Work| work.asked.get(&from.node).is_some_and(|(id, _)| *id == request);
        let Some(work) = self.resync.works.iter_mut().find(is_asked) else {
            return false;
        };
        let id = work.id;
        match answer {
            Answer::Resynced { records, done, floor, watermarks } => {
                if !*done && records.is_empty() {
                    rx.cx.count(Counter::PeerMisbehaved);
                    return true;
                }
                work.floor = work.floor.max(*floor);
                work.progress = now;
                for (slot, upto) in watermarks {
                    let held = work.watermarks.entry(*slot).or_default();
                    *held = (*held).max(*upto);
                }
                work.pages.insert(from.node, Page { records: records.clone(), done: *done });
                self.advance_resync(rx, id);
            }
            Answer::Refused(Refusal::Suspect) => self.on_suspect_source(id, from.node),
            _ => {}
        }
        true
    }

    /// A source is suspect itself somewhere in the stretch. Where the others are not enough, what it can vouch for is brought
    /// apart from what it cannot, and that waits behind all else.
    fn on_suspect_source(&mut self, id: u64, source: NodeId) {
        self.resync.last_id += 1;
        let (fresh, has_others) = (self.resync.last_id, !self.resync.stretches.is_empty());
        let Some(work) = self.resync.work_mut(id) else {
            return;
        };
        work.refused.insert(source);
        if work.stretch.sources.len() - work.refused.len() >= work.stretch.needed {
            return;
        }
        let (low, high) = (work.at.slot.0, work.stretch.until.slot.0);
        let middle = RecordKey::start_of(Slot(low + (high - low).div_ceil(2)));
        if middle > work.at && middle < work.stretch.until {
            let rest = Stretch { first: middle.clone(), ..work.stretch.clone() };
            work.stretch.until = middle;
            // What has been asked and read goes up to the old end.
            work.id = fresh;
            (work.own, work.is_reading) = (None, false);
            work.asked.clear();
            work.pages.clear();
            work.refused.clear();
            self.resync.stretches.push_front(rest);
        } else if has_others {
            let stretch = work.stretch.clone();
            self.resync.works.retain(|work| work.id != id);
            self.resync.stretches.push_back(stretch);
        }
    }

    /// Merges the next page when a majority has sent theirs; heals the stretch when all of it is there.
    fn advance_resync(&mut self, rx: &mut ReplicaCx<'_, '_>, id: u64) {
        let Some(work) = self.resync.work_mut(id) else {
            return;
        };
        if work.is_merged {
            return self.finish_stretch(rx, id);
        }
        let has_all = work.own.is_some() && work.pages.len() >= work.needed();
        if has_all && rx.store.admit().is_ok() {
            self.merge_page(rx, id);
            self.finish_stretch(rx, id);
        }
    }

    fn merge_page(&mut self, rx: &mut ReplicaCx<'_, '_>, id: u64) {
        let Some(at) = self.resync.works.iter().position(|work| work.id == id) else {
            return;
        };
        let mut work = self.resync.works.remove(at);
        let covered = work.covered();
        let merged = work.merged(covered.as_ref());
        let is_covered = |key: &RecordKey| covered.as_ref().is_none_or(|covered| key <= covered);
        let own = work.own.take().map(|page| page.records).unwrap_or_default();
        let own: BTreeMap<RecordKey, Record> = own.into_iter().filter(|(key, _)| is_covered(key)).collect();
        if self.marks.partial {
            // That there is garbage may have been lost with the marks.
            for (key, record) in &own {
                self.note(rx, key, record);
            }
        }
        for (key, record) in own.iter().filter(|(key, _)| !merged.contains_key(*key)) {
            // A record whose tombstone the others have dropped must not come back.
            if record.ballot <= work.watermark(key.slot) {
                let ballot = record.ballot;
                rx.with_store(|store, cx| store.erase(cx, key.clone(), ballot));
            }
        }
        let sources = work.pages.len();
        for (key, Merged { best, agreeing }) in merged {
            if rx.table.address(self.me, key.slot) != Some(self.resync.me) || !self.holds(rx, key.slot) {
                continue;
            }
            let held = own.get(&key).filter(|held| held.ballot >= best.ballot);
            if held.is_none() {
                rx.cx.count(Counter::ResyncTaken);
                self.note(rx, &key, &best);
                rx.with_store(|store, cx| store.put(cx, key.clone(), best.clone()));
                // Up to the floor nothing is accepted any more once the keys are healed, and before that there are no votes.
                if best.ballot > Stamp::upto(self.resync.floor) {
                    self.raise_promise(rx, &key, best.ballot);
                }
            }
            if agreeing < sources {
                // R5: what the sources do not hold alike was perhaps never chosen; a round decides it.
                let candidate = held.cloned().unwrap_or(best);
                self.resync.to_settle.push_back((key.key, candidate));
            }
        }
        work.asked.clear();
        work.pages.clear();
        work.refused.clear();
        work.progress = rx.cx.now.mono;
        if let Some(key) = covered {
            (work.at, work.exclusive) = (key, true);
        } else {
            work.is_merged = true;
            self.adopt_marks(rx, &mut work);
            // What an earlier attempt has put or erased in the stretch counts, too.
            work.lsn = rx.store.newest();
        }
        self.resync.works.insert(at, work);
        self.resync.next_tick = Some(rx.cx.now.mono);
        self.settle_some(rx);
    }

    /// Has some of the keys settled on which the sources differ; those whose settling came to nothing once more.
    fn settle_some(&mut self, rx: &mut ReplicaCx<'_, '_>) {
        let now = rx.cx.now.mono;
        let late = self.resync.settling.iter().filter(|(_, (_, until))| *until <= now);
        let late: Vec<Bytes> = late.map(|(key, _)| key.clone()).collect();
        for key in late {
            if let Some((record, _)) = self.resync.settling.remove(&key) {
                self.resync.to_settle.push_front((key, record));
            }
        }
        while self.resync.settling.len() < SETTLING_MAX {
            let Some((key, record)) = self.resync.to_settle.pop_front() else {
                return;
            };
            rx.cx.count(Counter::ResyncSettled);
            let until = now.plus_ms(SETTLE_MS);
            self.resync.settling.insert(key.clone(), (record.clone(), until));
            rx.events.push(ReplicaEvent::Settle { key, record, target: self.me });
        }
    }

    /// All has been merged: when it is durable and settled, the keys are healed.
    fn finish_stretch(&mut self, rx: &mut ReplicaCx<'_, '_>, id: u64) {
        let is_settled = self.resync.to_settle.is_empty() && self.resync.settling.is_empty();
        let is_over = |work: &Work| work.id == id && work.is_merged && work.lsn <= rx.store.durable();
        let Some(at) = self.resync.works.iter().position(is_over).filter(|_| is_settled) else {
            return;
        };
        let work = self.resync.works.remove(at);
        self.resync.next_tick = Some(rx.cx.now.mono);
        let Stretch { first, until, .. } = &work.stretch;
        let last = Slot(until.slot.0.saturating_sub(u16::from(until.key.is_empty())));
        // Whatever was acknowledged here and lost is at or below the floor: nothing there is accepted any more.
        self.promises.raise_floor(first.slot, last, work.floor.max(Stamp::upto(self.resync.floor)));
        rx.cx.count(Counter::ResyncFinished);
        rx.store.heal(first, until);
    }
}
