//! What is left of a write after its answer: the replicas that have not acknowledged it. They get it as a hint.

use super::{Coord, CoordCx, CoordEvent, Flight, PHASE_MS};
use crate::base::{NodeId, Record, RequestId};
use crate::rules::quorum::Votes;
use crate::wire::Answer;
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;

#[derive(Debug, Clone)]
pub(super) struct Linger {
    pub(super) key: Bytes,
    pub(super) record: Record,
    /// Replicas that hold the record, or for which a fallback node holds a hint.
    pub(super) covered: Votes,
    /// W2: fallback nodes that were sent a hint, with the replica it is for.
    pub(super) fallbacks: Vec<(NodeId, NodeId)>,
    pub(super) rounds_left: u8,
}

/// The replica for which `node` was sent a hint.
pub(super) fn target_of(fallbacks: &[(NodeId, NodeId)], node: NodeId) -> Option<NodeId> {
    fallbacks.iter().find(|(fallback, _)| *fallback == node).map(|(_, target)| *target)
}

impl Linger {
    pub(super) fn new(key: Bytes, record: Record, covered: Votes, fallbacks: Vec<(NodeId, NodeId)>) -> Self {
        Self { key, record, covered, fallbacks, rounds_left: 2 }
    }
}

impl Coord {
    /// Keeps waiting, under the same request id, for the replicas that are not among `linger.covered`.
    pub(super) fn linger(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId, linger: Linger) {
        let (_, replicas) = super::slot_and_replicas(cx.table, &linger.key);
        if linger.covered.is_all(replicas) {
            self.flights.remove(&request);
            return;
        }
        self.flights.insert(request, Flight::Linger(Box::new(linger)));
        self.set_timer(request, cx.cx.now.mono.plus_ms(PHASE_MS));
    }

    pub(super) fn on_linger_answer(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        request: RequestId,
        from: NodeId,
        answer: &Answer,
    ) {
        let (Some(Flight::Linger(linger)), Answer::Accepted { .. }) =
            (self.flights.get_mut(&request), answer)
        else {
            return;
        };
        let (_, replicas) = super::slot_and_replicas(cx.table, &linger.key);
        linger.covered.add(replicas, target_of(&linger.fallbacks, from).unwrap_or(from));
        if linger.covered.is_all(replicas) {
            self.flights.remove(&request);
        }
    }

    pub(super) fn on_linger_timeout(&mut self, cx: &mut CoordCx<'_, '_>, request: RequestId) {
        let Some(Flight::Linger(linger)) = self.flights.get_mut(&request) else {
            return;
        };
        linger.rounds_left -= 1;
        if linger.rounds_left > 0 {
            return self.set_timer(request, cx.cx.now.mono.plus_ms(PHASE_MS));
        }
        if let Some(Flight::Linger(linger)) = self.flights.remove(&request) {
            let (_, replicas) = super::slot_and_replicas(cx.table, &linger.key);
            for target in replicas.iter().filter(|node| !linger.covered.has(replicas, **node)) {
                let (key, record) = (linger.key.clone(), linger.record.clone());
                cx.events.push(CoordEvent::KeepHint { target: *target, key, record });
            }
        }
    }
}
