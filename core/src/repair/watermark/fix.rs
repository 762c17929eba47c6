//! G1 (b): the repair of what the replicas of a slot differ on.

use super::compare::{self, Difference, Listed};
use super::{Phase, Watermarks};
use crate::base::{Counter, NodeId, Record, RequestId, Slot};
use crate::repair::{RepairCx, RepairEvent};
use crate::wire::{Answer, Message, Refusal};
use alloc::collections::{BTreeMap, BTreeSet};
use bytes::Bytes;

/// Milliseconds for the repairs of one page.
const REPAIR_MS: u64 = 2_000;
/// Keys under repair at once.
const REPAIRS_MAX: usize = 16;

/// A key under repair.
#[derive(Debug, Clone)]
pub(super) struct Fix {
    difference: Difference,
    record: Option<Record>,
    /// Who has not answered the repair.
    left: BTreeSet<NodeId>,
    settled: bool,
}

impl Watermarks {
    /// The lists of a page are there: what differs is repaired.
    pub(super) fn repair(
        &mut self,
        rx: &mut RepairCx<'_, '_>,
        slot: Slot,
        last: Option<Bytes>,
        lists: &[Listed],
    ) {
        let Some(round) = self.rounds.get_mut(&slot) else {
            return;
        };
        let me = rx.table.replicas(slot).first().copied().unwrap_or(NodeId(0));
        let then = compare::covered(lists).or(last);
        let todo = compare::differences(lists, round.upto, me);
        if todo.is_empty() {
            // Only what is above the watermark at some replica differed.
            return self.next_page(rx, slot, then);
        }
        round.repaired = true;
        self.flights.remove(&round.request);
        round.phase = Phase::Repair { then, todo, under_way: BTreeMap::new() };
        round.wake = rx.cx.now.mono.plus_ms(REPAIR_MS);
        self.repair_more(rx, slot);
    }

    /// Begins the repair of as many keys as may be under way; goes to the next page when none is left.
    fn repair_more(&mut self, rx: &mut RepairCx<'_, '_>, slot: Slot) {
        let Some(round) = self.rounds.get_mut(&slot) else {
            return;
        };
        let Phase::Repair { then, todo, under_way } = &mut round.phase else {
            return;
        };
        while under_way.len() < REPAIRS_MAX
            && let Some(difference) = todo.pop()
        {
            rx.cx.count(Counter::WatermarkRepaired);
            round.wake = rx.cx.now.mono.plus_ms(REPAIR_MS);
            let request = rx.cx.next_request();
            self.flights.insert(request, slot);
            if let Some(address) = rx.table.address(difference.holder, slot) {
                let key = difference.key.clone();
                rx.cx.send(address, Message::Query { request, key, digest: false });
            }
            let left = difference.lower.iter().copied().collect();
            under_way.insert(request, Fix { difference, record: None, left, settled: false });
        }
        if under_way.is_empty() {
            let then = then.clone();
            self.next_page(rx, slot, then);
        }
    }

    /// An answer of the holder of a record, or of one that lacks it.
    pub(super) fn on_repair_answer(
        &mut self,
        rx: &mut RepairCx<'_, '_>,
        slot: Slot,
        from: NodeId,
        request: RequestId,
        answer: Answer,
    ) {
        let Some(round) = self.rounds.get_mut(&slot) else {
            return;
        };
        let Phase::Repair { under_way, .. } = &mut round.phase else {
            return;
        };
        let Some(repair) = under_way.get_mut(&request) else {
            return;
        };
        match answer {
            Answer::Found { record: Some(record), .. }
                if repair.record.is_none() && record.ballot == repair.difference.ballot =>
            {
                let chosen = repair.difference.chosen;
                for address in repair.left.iter().filter_map(|node| rx.table.address(*node, slot)) {
                    let (key, record) = (repair.difference.key.clone(), record.clone());
                    rx.cx.send(address, Message::Repair { request, key, record, chosen });
                }
                repair.record = Some(record);
            }
            // The holder has something newer meanwhile: the next pass sees it.
            Answer::Found { .. } => repair.left.clear(),
            Answer::Refused(Refusal::Ballot(_) | Refusal::BelowWatermark(_)) if repair.record.is_some() => {
                repair.left.remove(&from);
                if let Some(record) = repair.record.clone().filter(|_| !repair.settled) {
                    repair.settled = true;
                    let key = repair.difference.key.clone();
                    rx.events.push(RepairEvent::Settle { key, record, target: from });
                }
            }
            _ => {
                repair.left.remove(&from);
            }
        }
        if repair.left.is_empty() {
            under_way.remove(&request);
            self.flights.remove(&request);
            self.repair_more(rx, slot);
        }
    }
}
