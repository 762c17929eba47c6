//! Hinted handoff (W2, W3): records kept for replicas that were not reached, delivered by R5 when they are back.
//!
//! A hint lives in the store under a slot of the shard's own, keyed by target and user key, so it survives a crash and
//! a newer hint for the same key replaces an older one.

use super::{Incoming, Read, Replica, ReplicaCx, ReplicaEvent, registers};
use crate::base::limits::HINTS_MAX;
use crate::base::planted::{self, Bug};
use crate::base::{Address, Counter, Instant, NodeId, Record, RecordKey, RequestId, Slot, Stamp};
use crate::rules::slots::slot_of;
use crate::store::{Lookup, Lsn};
use crate::wire::{Answer, Message, Refusal};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;

/// The store's slot of hints, beyond all user slots.
pub const HINT_SLOT: Slot = Slot(Slot::COUNT);
/// Milliseconds between two batches of deliveries.
const TICK_MS: u64 = 100;
/// Deliveries in flight at most (W3: a limited rate).
const IN_FLIGHT_MAX: usize = 64;
/// Milliseconds after which a delivery without an answer is tried again.
const PATIENCE_MS: u64 = 2_000;
/// Hints read from the store in one page after a start.
const PAGE: usize = 256;

#[derive(Debug, Clone, Default)]
pub(super) struct Hints {
    /// What is held, by target and key.
    index: BTreeMap<(NodeId, Bytes), Stamp>,
    in_flight: BTreeMap<RequestId, Delivery>,
    /// Hints whose delivery or settling is under way, with the time at which it is given up.
    busy: BTreeMap<(NodeId, Bytes), Instant>,
    next_tick: Option<Instant>,
    /// Where the next batch begins: hints that are refused again and again must not keep the others waiting.
    cursor: Option<(NodeId, Bytes)>,
    /// The hints of earlier lives are in the index.
    loaded: bool,
    /// The page of them that is being read: where it begins, and whether after that key.
    reading: Option<(RecordKey, bool)>,
    /// A page that could not be read, and is tried again.
    again: Option<(RecordKey, bool)>,
    /// The last erasure of a hint: only when it is durable are those before gone for good.
    pub(super) erased: Lsn,
}

#[derive(Debug, Clone)]
struct Delivery {
    target: NodeId,
    key: Bytes,
    record: Record,
}

fn record_key(target: NodeId, key: &Bytes) -> RecordKey {
    let mut name = Vec::with_capacity(2 + key.len());
    name.extend_from_slice(&target.0.to_be_bytes());
    name.extend_from_slice(key);
    RecordKey { slot: HINT_SLOT, key: Bytes::from(name) }
}

/// The next key after `key` in byte order.
fn successor(key: &Bytes) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Bytes::from(next)
}

fn parse(key: &RecordKey) -> Option<(NodeId, Bytes)> {
    let (target, rest) = key.key.split_at_checked(2)?;
    let target = NodeId(u16::from_be_bytes([target[0], target[1]]));
    Some((target, key.key.slice_ref(rest)))
}

impl Hints {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// At most `room` hints for targets that are up, from the cursor on and round. A target that is down is skipped at
    /// one step, however many hints it has.
    fn due(&mut self, room: usize, is_alive: impl Fn(NodeId) -> bool) -> Vec<(NodeId, Bytes)> {
        let mut due: Vec<(NodeId, Bytes)> = Vec::new();
        let first = self.cursor.clone();
        let (mut from, mut wrapped) = (first.clone().unwrap_or((NodeId(0), Bytes::new())), first.is_none());
        while due.len() < room {
            let next = self.index.range(from.clone()..).map(|(name, _)| name).next();
            let is_past =
                |name: &(NodeId, Bytes)| wrapped && first.as_ref().is_some_and(|first| name >= first);
            match next {
                Some(name) if is_past(name) => break,
                Some((target, _)) if !is_alive(*target) && target.0 < u16::MAX => {
                    from = (NodeId(target.0 + 1), Bytes::new());
                }
                Some(name) => {
                    if is_alive(name.0) && !self.busy.contains_key(name) {
                        due.push(name.clone());
                    }
                    from = (name.0, successor(&name.1));
                }
                None if wrapped => break,
                None => (from, wrapped) = ((NodeId(0), Bytes::new()), true),
            }
        }
        self.cursor = Some(from);
        due
    }

    /// G1: hints for `slot` at or below `upto`; one at least while those of earlier lives are not known.
    pub(super) fn held(&self, slot: Slot, upto: Stamp) -> u64 {
        if self.loaded { self.known(slot, upto) } else { 1 }
    }

    /// Those of which it is known.
    fn known(&self, slot: Slot, upto: Stamp) -> u64 {
        let is_old =
            |(name, ballot): &(&(NodeId, Bytes), &Stamp)| **ballot <= upto && slot_of(&name.1) == slot;
        self.index.iter().filter(is_old).count() as u64
    }

    /// Sends a hint whose record has been read.
    pub(super) fn send(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        target: NodeId,
        key: Bytes,
        record: Option<Record>,
    ) {
        let Some(record) = record else {
            self.index.remove(&(target, key.clone()));
            self.busy.remove(&(target, key));
            return;
        };
        // R6: a newer one may have been lost with a damaged block.
        if let Some(held) = self.index.get_mut(&(target, key.clone())) {
            *held = (*held).min(record.ballot);
        }
        let Some(address) = rx.table.address(target, slot_of(&key)) else {
            return;
        };
        let request = rx.cx.next_request();
        let delivery = Delivery { target, key: key.clone(), record: record.clone() };
        self.in_flight.insert(request, delivery);
        if planted::on(Bug::W3HintForgottenWhenSent) {
            self.index.remove(&(target, key.clone()));
        }
        rx.cx.send(address, Message::Repair { request, key, record, chosen: false });
    }
}

impl Replica {
    /// Hints for `slot` at or below `upto`, for invariants.
    pub fn hints_upto(&self, slot: Slot, upto: Stamp) -> u64 {
        self.hints.known(slot, upto)
    }

    /// Starts reading the hints that an earlier life left, and bringing again what it may have lost (R6).
    pub fn load_hints(&mut self, rx: &mut ReplicaCx<'_, '_>) {
        if !rx.store.suspects().is_empty() {
            self.on_damage(rx);
        }
        self.hints.next_tick = Some(rx.cx.now.mono.plus_ms(TICK_MS));
        self.read_hint_page(rx, RecordKey { slot: HINT_SLOT, key: Bytes::new() }, false);
    }

    fn read_hint_page(&mut self, rx: &mut ReplicaCx<'_, '_>, from: RecordKey, exclusive: bool) {
        let end = RecordKey { slot: Slot(HINT_SLOT.0 + 1), key: Bytes::new() };
        self.hints.reading = Some((from.clone(), exclusive));
        // R6: what is damaged of the hints is lost: nobody else has them.
        let token =
            rx.with_store(|store, cx| store.scan_readable(cx, from, exclusive, Some(end), PAGE, 1 << 20));
        self.reads.insert(token, Read::HintPage);
    }

    pub(super) fn on_hint_page(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        records: &[(RecordKey, Record)],
        done: bool,
    ) {
        for (key, record) in records {
            if let Some(name) = parse(key) {
                let held = self.hints.index.entry(name).or_default();
                *held = (*held).max(record.ballot);
            }
        }
        if let (false, Some((last, _))) = (done, records.last()) {
            return self.read_hint_page(rx, last.clone(), true);
        }
        self.hints.loaded = true;
    }

    /// W2: a coordinator asks this node to keep a record for `target`.
    pub(super) fn on_hint(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        incoming: &Incoming,
        target: NodeId,
        key: Bytes,
        record: Record,
    ) {
        let &Incoming { from, request } = incoming;
        let (slot, ballot) = (slot_of(&key), record.ballot);
        if rx.store.admit().is_err() {
            return Self::refuse(rx, from, request, Refusal::Overloaded);
        }
        let kept = if planted::on(Bug::W2HintNotStored) {
            Some(Lsn(0))
        } else {
            self.keep_hint(rx, target, key, record)
        };
        match kept {
            Some(lsn) => self.answer(rx, from, request, Answer::Accepted { next_granted: false }, lsn),
            None if self.is_closed(slot, ballot) => Self::refuse(rx, from, request, Refusal::TooOld),
            None => Self::refuse(rx, from, request, Refusal::Overloaded),
        }
    }

    /// A page of the hints of earlier lives cannot be read: a disk that fails for a while must not make them forgotten.
    pub(super) fn on_hint_page_unreadable(&mut self) {
        self.hints.again = self.hints.reading.take();
    }

    /// Keeps a record for `target`, on a full disk, too: it has been acknowledged. `None` when there is no room, or when the record comes too late: then the comparison of
    /// the replicas (G1) finds what is missing where.
    pub fn keep_hint(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        target: NodeId,
        key: Bytes,
        record: Record,
    ) -> Option<Lsn> {
        if self.is_closed(slot_of(&key), record.ballot) {
            rx.cx.count(Counter::HintRefusedClosed);
            return None;
        }
        if self.hints.index.len() >= HINTS_MAX {
            return None;
        }
        rx.cx.count(Counter::HintStored);
        let ballot = record.ballot;
        let name = record_key(target, &key);
        let held = self.hints.index.entry((target, key)).or_default();
        *held = (*held).max(ballot);
        Some(rx.with_store(|store, cx| store.put(cx, name, record)))
    }

    /// W2: shows the newest hint for `key`, whoever it is for.
    pub(super) fn show_hint(&mut self, rx: &mut ReplicaCx<'_, '_>, incoming: &Incoming, key: &Bytes) {
        let &Incoming { from, request } = incoming;
        let held = |target: &NodeId| Some((*self.hints.index.get(&(*target, key.clone()))?, *target));
        let newest = rx.table.replicas(slot_of(key)).iter().filter_map(held).max();
        let Some((_, target)) = newest else {
            return self.answer(rx, from, request, registers::found(None, false), Lsn(0));
        };
        rx.cx.count(Counter::HintRead);
        let name = record_key(target, key);
        match rx.with_store(|store, cx| store.get(cx, &name)) {
            Lookup::Ready { record, lsn } => {
                self.answer(rx, from, request, registers::found(record, false), lsn);
            }
            Lookup::Pending(token) => {
                self.reads.insert(token, Read::HintToShow { from, request });
            }
        }
    }

    /// Delivers some hints to replicas that `is_alive`.
    pub fn on_tick(&mut self, rx: &mut ReplicaCx<'_, '_>, is_alive: impl Fn(NodeId) -> bool) {
        self.tick_resync(rx, &is_alive);
        let now = rx.cx.now.mono;
        if self.hints.next_tick.is_none_or(|at| at > now) {
            return;
        }
        self.hints.next_tick = Some(now.plus_ms(TICK_MS));
        if let Some((from, exclusive)) = self.hints.again.take() {
            self.read_hint_page(rx, from, exclusive);
        }
        self.hints.busy.retain(|_, until| *until > now);
        let busy = &self.hints.busy;
        self.hints
            .in_flight
            .retain(|_, delivery| busy.contains_key(&(delivery.target, delivery.key.clone())));
        let room = IN_FLIGHT_MAX.saturating_sub(self.hints.busy.len());
        for (target, key) in self.hints.due(room, is_alive) {
            self.hints.busy.insert((target, key.clone()), now.plus_ms(PATIENCE_MS));
            let name = record_key(target, &key);
            match rx.with_store(|store, cx| store.get(cx, &name)) {
                Lookup::Ready { record, .. } => self.hints.send(rx, target, key, record),
                Lookup::Pending(token) => {
                    self.reads.insert(token, Read::HintToSend { target, key });
                }
            }
        }
    }

    /// When hints are to be looked at again; `None` while there are none.
    pub fn next_deadline(&self) -> Option<Instant> {
        let hints =
            self.hints.next_tick.filter(|_| !self.hints.index.is_empty() || self.hints.again.is_some());
        hints.into_iter().chain(self.resync.next_deadline()).min()
    }

    /// An answer to a delivery; false if `request` is none of this machine's.
    pub fn on_answer(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        from: Address,
        request: RequestId,
        answer: &Answer,
    ) -> bool {
        let Some(delivery) = self.hints.in_flight.get(&request) else {
            return self.on_resync_answer(rx, from, request, answer);
        };
        if delivery.target != from.node {
            return true;
        }
        let Some(Delivery { target, key, record }) = self.hints.in_flight.remove(&request) else {
            return true;
        };
        match answer {
            Answer::Accepted { .. } => {
                rx.cx.count(Counter::HintDelivered);
                self.forget_hint(rx, target, key, record.ballot);
            }
            // G1: no watermark rises over a hint; this one has been delivered before.
            Answer::Refused(Refusal::BelowWatermark(_)) => self.forget_hint(rx, target, key, record.ballot),
            Answer::Refused(Refusal::Ballot(_)) => {
                rx.events.push(ReplicaEvent::Settle { key, record, target });
            }
            _ => {
                self.hints.busy.remove(&(target, key));
            }
        }
        true
    }

    /// The key of a refused hint has been settled with its record as a candidate: the hint has done its work.
    pub fn on_settled(&mut self, rx: &mut ReplicaCx<'_, '_>, target: NodeId, key: Bytes, ballot: Stamp) {
        // R6: this replica may have wanted a suspect key settled; it may hold a hint for itself, too.
        let is_hint = self.hints.index.contains_key(&(target, key.clone()));
        if target == self.me && self.resync.on_settled(&key) && !is_hint {
            return;
        }
        rx.cx.count(Counter::HintDelivered);
        self.forget_hint(rx, target, key, ballot);
    }

    fn forget_hint(&mut self, rx: &mut ReplicaCx<'_, '_>, target: NodeId, key: Bytes, ballot: Stamp) {
        let name = record_key(target, &key);
        let held = (target, key);
        self.hints.busy.remove(&held);
        if self.hints.index.get(&held).is_some_and(|newest| *newest <= ballot) {
            self.hints.index.remove(&held);
            self.hints.erased = rx.with_store(|store, cx| store.erase(cx, name, ballot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn name(target: u16, key: u8) -> (NodeId, Bytes) {
        (NodeId(target), Bytes::copy_from_slice(&[key]))
    }

    fn holding(names: impl IntoIterator<Item = (NodeId, Bytes)>) -> Hints {
        let index = names.into_iter().map(|name| (name, Stamp::ZERO)).collect();
        Hints { index, ..Hints::default() }
    }

    #[test]
    fn hints_that_are_refused_do_not_keep_the_others_waiting() {
        let mut hints = holding((0..10).map(|key| name(1, key)));
        let batches: Vec<_> = (0..4).map(|_| hints.due(4, |_| true)).collect();
        let keys: Vec<Vec<u8>> =
            batches.iter().map(|batch| batch.iter().map(|(_, key)| key[0]).collect()).collect();
        assert_eq!(keys, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9, 0, 1], vec![2, 3, 4, 5]]);
    }

    #[test]
    fn a_round_takes_each_hint_once_and_skips_who_is_down_or_busy() {
        let mut hints =
            holding([name(1, 0), name(2, 0), name(2, 1), name(u16::MAX, 7), name(3, 4), name(3, 5)]);
        hints.busy.insert(name(3, 4), Instant(1));
        for _ in 0..3 {
            let mut due = hints.due(100, |node| node != NodeId(2) && node != NodeId(u16::MAX));
            due.sort();
            assert_eq!(due, [name(1, 0), name(3, 5)]);
        }
        assert_eq!(hints.due(100, |_| false), []);
        assert_eq!(holding([]).due(5, |_| true), []);
    }
}
