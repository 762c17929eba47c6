//! Pages of a scan over the cluster: every member is asked, records are merged by ballot, and a slot counts as covered
//! when a majority of its replicas has answered. No more than that is promised: a scan is not a snapshot.

use super::{Coord, CoordCx, Flight, PHASE_MS};
use crate::base::limits::SCAN_PAGE_MAX;
use crate::base::planted::{self, Bug};
use crate::base::{Failure, Instant, NodeId, Page, PageEntry, Record, RequestId, Response, Slot, Wanted};
use crate::io::Tag;
use crate::rules::quorum::majority;
use crate::wire::{Answer, Message};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;
use core::cmp::Ordering;

/// A place in store order: a slot and the last key covered in it.
type Position = (Slot, Option<Bytes>);

#[derive(Debug, Clone)]
pub(super) struct Scan {
    tag: Tag,
    slot: Slot,
    after: Option<Bytes>,
    limit: u32,
    wanted: Wanted,
    deadline: Instant,
    pages: BTreeMap<NodeId, ScannedPage>,
}

#[derive(Debug, Clone)]
struct ScannedPage {
    records: Vec<(Slot, Bytes, Record)>,
    next: Option<Position>,
}

impl Coord {
    pub(super) fn scan(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        tag: Tag,
        (slot, after): Position,
        limit: u32,
        wanted: Wanted,
        deadline: Instant,
    ) {
        let scan = Scan {
            tag,
            slot,
            after,
            limit: limit.clamp(1, SCAN_PAGE_MAX as u32),
            wanted,
            deadline,
            pages: BTreeMap::new(),
        };
        self.ask_pages(cx, scan);
    }

    fn ask_pages(&mut self, cx: &mut CoordCx<'_, '_>, mut scan: Scan) {
        scan.pages.clear();
        let request = cx.cx.next_request();
        for node in scan.asked(cx) {
            if let Some(address) = cx.table.address(node, Slot(self.me.shard.0)) {
                let (slot, after, limit, wanted) =
                    (scan.slot, scan.after.clone(), scan.limit, scan.wanted.clone());
                cx.cx.send(address, Message::Scan { request, slot, after, limit, wanted });
            }
        }
        let now = cx.cx.now.mono;
        let wake = now.plus_ms(PHASE_MS).min(scan.deadline).max(Instant(now.0 + 1));
        self.flights.insert(request, Flight::Scan(Box::new(scan)));
        self.set_timer(request, wake);
    }

    pub(super) fn on_scan_answer(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        request: RequestId,
        from: NodeId,
        answer: Answer,
    ) {
        let (Some(Flight::Scan(scan)), Answer::Scanned { records, next }) =
            (self.flights.get_mut(&request), answer)
        else {
            return;
        };
        scan.pages.insert(from, ScannedPage { records, next });
        let is_in = |node: NodeId| scan.pages.contains_key(&node) || !cx.liveness.is_alive(node);
        let all = scan.asked(cx).into_iter().all(is_in) || planted::on(Bug::C8WalkFromAMinority);
        if all && scan.covers(cx) {
            self.finish_scan(cx, request);
        }
    }

    pub(super) fn on_scan_timeout(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        let Some(Flight::Scan(scan)) = self.flights.get(&request) else {
            return;
        };
        if scan.covers(cx) {
            return self.finish_scan(cx, request);
        }
        if let Some(Flight::Scan(scan)) = self.flights.remove(&request) {
            if scan.deadline <= cx.cx.now.mono {
                self.reply(cx, scan.tag, Err(Failure::Unavailable));
            } else {
                self.ask_pages(cx, *scan);
            }
        }
    }

    fn finish_scan(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        if let Some(Flight::Scan(scan)) = self.flights.remove(&request) {
            let page = scan.merge(cx.cx.clock.last().ms());
            self.reply(cx, scan.tag, Ok(Response::Page(page)));
        }
    }
}

impl Scan {
    /// Whom it asks: the replicas of its slots.
    fn asked(&self, cx: &CoordCx<'_, '_>) -> Vec<NodeId> {
        if self.wanted.one_slot {
            return cx.table.replicas(self.slot).to_vec();
        }
        cx.table.members().collect()
    }

    /// Whether a majority of every slot's replicas has answered.
    fn covers(&self, cx: &CoordCx<'_, '_>) -> bool {
        let is_enough = planted::on(Bug::C8WalkFromAMinority) && !self.pages.is_empty();
        if is_enough || self.asked(cx).iter().all(|node| self.pages.contains_key(node)) {
            return true;
        }
        let slots = match (self.wanted.one_slot, self.wanted.reverse) {
            (true, _) => self.slot.0..self.slot.0 + 1,
            (false, true) => 0..self.slot.0 + 1,
            (false, false) => self.slot.0..Slot::COUNT,
        };
        slots.map(Slot).all(|slot| {
            let replicas = cx.table.replicas(slot);
            let answered = replicas.iter().filter(|node| self.pages.contains_key(node)).count();
            answered >= majority(replicas.len())
        })
    }

    /// The order in which the scan passes over two places.
    fn order(&self, a: (Slot, Option<&Bytes>), b: (Slot, Option<&Bytes>)) -> Ordering {
        if !self.wanted.reverse {
            return a.cmp(&b);
        }
        b.0.cmp(&a.0).then_with(|| match (a.1, b.1) {
            (Some(a), Some(b)) => b.cmp(a),
            (a, b) => a.cmp(&b),
        })
    }

    /// The keys wanted that all answers cover.
    fn merge(&self, now_ms: u64) -> Page {
        let place = |position: &Position| (position.0, position.1.clone());
        let nexts = self.pages.values().filter_map(|page| page.next.as_ref());
        let by_place = |a: &&Position, b: &&Position| self.order((a.0, a.1.as_ref()), (b.0, b.1.as_ref()));
        let skips = planted::on(Bug::C8WalkSkipsBehindAPage);
        let covered = if skips { nexts.max_by(by_place) } else { nexts.min_by(by_place) };
        let mut newest: BTreeMap<(Slot, &Bytes), &Record> = BTreeMap::new();
        for (slot, key, record) in self.pages.values().flat_map(|page| &page.records) {
            let beyond = |covered: &Position| {
                self.order((*slot, Some(key)), (covered.0, covered.1.as_ref())) == Ordering::Greater
            };
            if covered.is_some_and(beyond) {
                continue;
            }
            let held = newest.entry((*slot, key)).or_insert(record);
            if record.ballot > held.ballot {
                *held = record;
            }
        }
        let upwards = newest.into_iter();
        let in_order: Vec<_> = if self.wanted.reverse { upwards.rev().collect() } else { upwards.collect() };
        let mut shown = in_order
            .into_iter()
            .filter(|(_, record)| self.wanted.dead || record.is_live(now_ms))
            .map(|((slot, key), record)| PageEntry {
                slot,
                key: key.clone(),
                expires_at: record.expires_at,
                value: record.value.clone().unwrap_or_default(),
            });
        let entries: Vec<PageEntry> = shown.by_ref().take(self.limit as usize).collect();
        let cut = shown.next().is_some();
        let last = entries.last().map(|entry| (entry.slot, Some(entry.key.clone())));
        Page { entries, next: if cut { last } else { covered.map(place) } }
    }
}
