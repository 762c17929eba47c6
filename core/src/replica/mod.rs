//! The replica's side of the register protocol: rules R0 to R5 (PROTOCOL section 3), pages of a scan, and hints.
//!
//! A rule always judges current state: where the accepted record has to be read from disk, operations on the key queue
//! behind the read. No answer leaves before what it says is durable (R0).

mod hints;
mod marks;
mod promises;
mod registers;
mod resync;
mod scans;
mod source;
mod walk;

use crate::base::{Address, Counter, Epoch, NodeId, RequestId, Slot, Stamp};
use crate::io::Outbox;
use crate::rules::context::Cx;
use crate::rules::ring::SlotTable;
use crate::store::{Lsn, ReadToken, Store, StoreCx, StoreEvent};
use crate::wire::{Answer, Message, Refusal};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use bytes::Bytes;

pub use hints::HINT_SLOT;
use hints::Hints;
use marks::Marks;
pub use marks::{Garbage, MARK_SLOT};
pub use promises::Promised;
use promises::Promises;
use registers::Job;
use resync::Resync;
use scans::Scan;
use walk::Walk;

/// What every call into the replica gets.
#[derive(Debug)]
pub struct ReplicaCx<'a, 'b> {
    /// Clocks, messages, counters.
    pub cx: &'a mut Cx<'b>,
    /// The engine below.
    pub store: &'a mut Store,
    /// Where its disk operations go.
    pub out: &'a mut Outbox,
    /// Its events, for the node to route.
    pub store_events: &'a mut Vec<StoreEvent>,
    /// Who holds what.
    pub table: &'a SlotTable,
    /// What the replica tells the node.
    pub events: &'a mut Vec<ReplicaEvent>,
}

impl ReplicaCx<'_, '_> {
    fn with_store<T>(&mut self, call: impl FnOnce(&mut Store, &mut StoreCx<'_>) -> T) -> T {
        let mut cx = StoreCx {
            now: self.cx.now,
            out: self.out,
            events: self.store_events,
            counters: self.cx.counters,
        };
        call(self.store, &mut cx)
    }
}

/// What the replica tells the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaEvent {
    /// R5: a hint's repair was refused by a promise: settle the key with its record as a candidate, then report
    /// `Replica::on_settled`.
    Settle {
        /// The register.
        key: Bytes,
        /// The candidate.
        record: crate::base::Record,
        /// Whom the hint is for.
        target: NodeId,
    },
    /// The marks of earlier lives cannot be read: the node must not serve.
    MarksLost,
}

/// Requests that replicas answer, taken apart from the message.
#[derive(Debug, Clone, Copy)]
pub struct Incoming {
    /// Who asks.
    pub from: Address,
    /// Echoed in the answer.
    pub request: RequestId,
}

/// The replica machine of a shard.
#[derive(Debug, Clone)]
pub struct Replica {
    me: NodeId,
    promises: Promises,
    /// Operations on keys whose accepted record is being read, in order of arrival.
    queues: BTreeMap<Bytes, VecDeque<Job>>,
    /// Which key (or hint, or scan) a read is for.
    reads: BTreeMap<ReadToken, Read>,
    /// Answers that wait for an LSN to become durable.
    deferred: BTreeMap<(Lsn, u64), (Address, RequestId, Answer)>,
    deferrals: u64,
    hints: Hints,
    marks: Marks,
    /// R6: how far the suspect keys have been brought again.
    resync: Resync,
}

#[derive(Debug, Clone)]
enum Read {
    Register(Bytes),
    Scan(Box<Scan>),
    HintPage,
    HintToSend {
        target: NodeId,
        key: Bytes,
    },
    HintToShow {
        from: Address,
        request: RequestId,
    },
    MarkPage,
    Walk(Box<Walk>),
    /// R6: a page for a suspect replica.
    Source {
        from: Address,
        request: RequestId,
        slots: (Slot, Slot),
    },
    /// R6: what this replica itself still holds of a stretch that is brought again.
    Own(u64),
}

impl Replica {
    /// A replica after a start: everything up to `floor` may have been promised (S4).
    pub fn new(me: Address, promises_max: usize, floor: Stamp) -> Self {
        Self {
            me: me.node,
            promises: Promises::new(promises_max, floor),
            queues: BTreeMap::new(),
            reads: BTreeMap::new(),
            deferred: BTreeMap::new(),
            deferrals: 0,
            hints: Hints::default(),
            marks: Marks::default(),
            resync: Resync::new(me),
        }
    }

    /// Answers a request. Anything that is not a replica's request is ignored.
    pub fn on_request(&mut self, rx: &mut ReplicaCx<'_, '_>, from: Address, body: Message) {
        let Some(body) = self.judge_suspect(rx, from, body) else {
            return;
        };
        match body {
            Message::Prepare { request, key, ballot } => {
                self.enqueue(rx, key, Job { from, request, work: registers::Work::Prepare(ballot) });
            }
            Message::Accept { request, key, record, next } => {
                self.on_accept(rx, Incoming { from, request }, key, record, next);
            }
            Message::Query { request, key, digest } => {
                self.on_query(rx, Incoming { from, request }, key, digest);
            }
            Message::Weak { request, key, record } => {
                self.on_weak(rx, &Incoming { from, request }, key, record);
            }
            Message::Repair { request, key, record, chosen } => {
                let work = registers::Work::Repair { record, chosen };
                self.enqueue(rx, key, Job { from, request, work });
            }
            Message::Hint { request, target, key, record } => {
                self.on_hint(rx, &Incoming { from, request }, target, key, record);
            }
            Message::Scan { request, slot, after, limit, wanted } => {
                self.on_scan(rx, Incoming { from, request }, (slot, after), limit, wanted);
            }
            Message::Mark { request, slot, step } => self.on_mark(rx, Incoming { from, request }, slot, step),
            Message::Resync { request, from: first, exclusive, until, floor } => {
                self.on_resync(rx, &Incoming { from, request }, first, exclusive, until, floor);
            }
            Message::Forward { .. }
            | Message::Answer { .. }
            | Message::Ping { .. }
            | Message::Pong { .. }
            | Message::Remembers { .. }
            | Message::Descends { .. } => {}
        }
    }

    /// The store has something to say.
    pub fn on_store(&mut self, rx: &mut ReplicaCx<'_, '_>, event: StoreEvent) {
        match event {
            StoreEvent::Durable(lsn) => self.on_durable(rx, lsn),
            StoreEvent::Got { token, record, lsn } => match self.reads.remove(&token) {
                Some(Read::Register(key)) => self.on_read(rx, &key, record, lsn),
                Some(Read::HintToSend { target, key }) => self.hints.send(rx, target, key, record),
                Some(Read::HintToShow { from, request }) => {
                    let answer = registers::found(record, false);
                    self.answer(rx, from, request, answer, lsn);
                }
                Some(
                    Read::Scan(_)
                    | Read::HintPage
                    | Read::MarkPage
                    | Read::Walk(_)
                    | Read::Source { .. }
                    | Read::Own(_),
                )
                | None => {}
            },
            StoreEvent::Scanned { token, records, done, lsn } => match self.reads.remove(&token) {
                Some(Read::Scan(scan)) => self.on_scanned(rx, *scan, records, done, lsn),
                Some(Read::HintPage) => self.on_hint_page(rx, &records, done),
                Some(Read::MarkPage) => self.on_mark_page(rx, &records, done),
                Some(Read::Walk(walk)) => self.on_walked(rx, *walk, &records, done, lsn),
                Some(Read::Source { from, request, slots }) => {
                    self.send_page(rx, &Incoming { from, request }, slots, records, done, lsn);
                }
                Some(Read::Own(id)) => self.on_own_page(rx, id, records, done),
                _ => {}
            },
            StoreEvent::Unreadable { token } => self.on_unreadable(rx, token),
            StoreEvent::Damaged { is_suspect: true, .. } | StoreEvent::Suspect => self.on_damage(rx),
            StoreEvent::Damaged { .. }
            | StoreEvent::Recovered
            | StoreEvent::Dropped { .. }
            | StoreEvent::Snapshot { .. }
            | StoreEvent::Healed
            | StoreEvent::Fatal(_) => {}
        }
    }

    /// Sends an answer when everything up to `lsn` is durable.
    fn answer(
        &mut self,
        rx: &mut ReplicaCx<'_, '_>,
        to: Address,
        request: RequestId,
        answer: Answer,
        lsn: Lsn,
    ) {
        if lsn <= rx.store.durable() {
            rx.cx.send(to, Message::Answer { request, answer });
            return;
        }
        if !matches!(answer, Answer::Accepted { .. }) {
            rx.cx.count(Counter::AnswerAwaitedSync);
        }
        self.deferrals += 1;
        self.deferred.insert((lsn, self.deferrals), (to, request, answer));
    }

    fn refuse(rx: &mut ReplicaCx<'_, '_>, to: Address, request: RequestId, refusal: Refusal) {
        rx.cx.send(to, Message::Answer { request, answer: Answer::Refused(refusal) });
    }

    fn on_durable(&mut self, rx: &mut ReplicaCx<'_, '_>, lsn: Lsn) {
        self.on_marks_durable(rx);
        while let Some(entry) = self.deferred.first_entry() {
            if entry.key().0 > lsn {
                break;
            }
            let (to, request, answer) = entry.remove();
            rx.cx.send(to, Message::Answer { request, answer });
        }
    }

    /// R1, R2, R4: a stamp older than any request can be is refused.
    fn is_too_old(rx: &mut ReplicaCx<'_, '_>, stamp: Stamp) -> bool {
        use crate::base::limits::{MAX_DRIFT_MS, REQUEST_DEADLINE_MS};
        let oldest = rx.cx.clock.last().ms().saturating_sub(REQUEST_DEADLINE_MS + 2 * MAX_DRIFT_MS);
        let old = stamp.hlc.ms() < oldest;
        if old {
            rx.cx.count(Counter::TooOldRefused);
        }
        old
    }

    /// Whether this node holds `slot`.
    fn holds(&self, rx: &ReplicaCx<'_, '_>, slot: Slot) -> bool {
        rx.table.replicas(slot).contains(&self.me)
    }

    /// Hints that wait for delivery.
    pub fn hints(&self) -> usize {
        self.hints.len()
    }

    /// E4: what is answered to a request of a lower epoch.
    pub fn refuse_epoch(cx: &mut Cx<'_>, from: Address, request: RequestId, epoch: Epoch) {
        cx.send(from, Message::Answer { request, answer: Answer::Refused(Refusal::Epoch(epoch)) });
    }
}
