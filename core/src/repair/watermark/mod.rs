//! The rounds of G1 (PROTOCOL section 7): a slot's preferred replica drives the slot's watermark T upwards.
//!
//! A round closes the slot at T at every member, compares its replicas in one pass of digests, and has each raise its
//! watermark. Where the replicas differ, the highest record goes to those that hold less (R5) or the key is settled, and
//! another pass begins. A replica raises only if nothing at or below T came in since the pass began there: so each one
//! that raises, even alone, drops nothing that hides an older record anywhere. A round that is given up at any point has
//! cost nothing but work.

mod compare;
mod fix;

use super::{RepairCx, RepairEvent};
use crate::base::limits::WATERMARK_LAG_MS;
use crate::base::planted::{self, Bug};
use crate::base::{Address, Counter, Epoch, Hlc, Instant, NodeId, Now, RequestId, Slot, Stamp};
use crate::replica::Replica;
use crate::rules::clock::Clock;
use crate::rules::quorum::majority;
use crate::wire::{Answer, MarkRange, MarkStep, Marked, Message};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use bytes::Bytes;
use compare::{Difference, Listed};
use fix::Fix;

/// Rounds under way at once.
const ROUNDS_MAX: usize = 4;
/// Milliseconds from the beginning of one round to that of the next at least.
const PACE_MS: u64 = 50;
/// Milliseconds until a slot is looked at again, after a round and after one that was given up.
const REST_MS: u64 = 10_000;
const RETRY_MS: u64 = 1_000;
/// Milliseconds until who is silent is asked again, and how often.
const PATIENCE_MS: u64 = 400;
const TRIES_MAX: u32 = 4;
/// Milliseconds from a pass that repaired something to the next.
const PAUSE_MS: u64 = 100;
/// Passes of a round.
const PASSES_MAX: u32 = 6;
/// Records in a page.
const PAGE: u32 = 512;
/// Slots looked at for one that may begin.
const LOOKS_MAX: usize = 256;

/// Why garbage cannot be collected yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldBack {
    /// Milliseconds since the oldest garbage of the slots driven here could have been collected, had it been at once.
    pub oldest_ms: u64,
    /// Tombstones and expired records that wait, as far as is known, and their bytes.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// The member that the last round given up waited for.
    pub by: Option<NodeId>,
}

#[derive(Debug, Clone)]
enum Phase {
    /// (a)
    Close,
    /// (b) The driver's own page says how far the others' go.
    Own {
        after: Option<Bytes>,
    },
    /// (b) The others' digests of that page.
    Compare {
        after: Option<Bytes>,
        last: Option<Bytes>,
        digest: u128,
        differs: bool,
    },
    /// (b) The lists of a page that differs.
    List {
        last: Option<Bytes>,
        lists: Vec<Listed>,
    },
    /// What differs is repaired; then the next page, if there is one.
    Repair {
        then: Option<Bytes>,
        todo: Vec<Difference>,
        under_way: BTreeMap<RequestId, Fix>,
    },
    /// Until the next pass.
    Pause,
    /// (c) The others raise; then the driver: until it has, its garbage keeps the slot due, also after a crash.
    Raise,
    RaiseOwn,
}

#[derive(Debug, Clone)]
struct Round {
    slot: Slot,
    upto: Stamp,
    epoch: Epoch,
    pass: u32,
    /// This pass has met a difference.
    repaired: bool,
    /// The highest watermark that any replica has reached: what may go below it is not compared.
    ignore: Stamp,
    /// What each replica wants to see again with the raise.
    tokens: BTreeMap<NodeId, u64>,
    phase: Phase,
    step: MarkStep,
    request: RequestId,
    waiting: BTreeSet<NodeId>,
    tries: u32,
    wake: Instant,
}

/// Why a round is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Void {
    Silent,
    Hints,
    Changed,
    Differs,
    Epoch,
}

/// The machine.
#[derive(Debug, Clone, Default)]
pub struct Watermarks {
    rounds: BTreeMap<Slot, Round>,
    flights: BTreeMap<RequestId, Slot>,
    /// Slots that are not looked at before a time.
    resting: BTreeMap<Slot, Instant>,
    /// No round begins before.
    not_before: Instant,
    /// When the next slot should be ripe; set at the end of every step.
    ripe: Option<Instant>,
    /// The time at the end of the last step: the hybrid clock may stand while nothing is asked, the wall clock goes on.
    clock_ms: u64,
    held_by: Option<NodeId>,
}

impl Watermarks {
    /// When `on_timeout` is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.rounds.values().map(|round| round.wake).chain(self.ripe).min()
    }

    /// At the end of a step: when a round may have to begin.
    pub fn plan(&mut self, now: Now, hlc: Hlc, replica: &Replica) {
        self.clock_ms = hlc.ms().max(now.wall.0);
        let next = replica.next_due(None).filter(|_| self.rounds.len() < ROUNDS_MAX);
        self.ripe = next.map(|(at, _)| {
            let ripe_ms = at.hlc.ms().saturating_add(WATERMARK_LAG_MS + 1);
            let left_ms = ripe_ms.saturating_sub(self.clock_ms);
            // A wall clock that stands still is not looked at all the time.
            let left_ms = if left_ms == 0 { 0 } else { left_ms.max(PACE_MS) };
            now.mono.plus_ms(left_ms).max(self.not_before)
        });
    }

    /// Whether an answer to `request` belongs here.
    pub fn expects(&self, request: RequestId) -> bool {
        self.flights.contains_key(&request)
    }

    /// What is held back, and by whom.
    pub fn held_back(&self, replica: &Replica) -> HeldBack {
        let mut held = HeldBack { by: self.held_by, ..HeldBack::default() };
        for (_, garbage) in replica.garbage() {
            held.records += garbage.records;
            held.bytes += garbage.bytes;
            let since = garbage
                .earliest
                .filter(|at| *at != Stamp::ZERO)
                .map_or(0, |at| self.clock_ms.saturating_sub(at.hlc.ms()));
            held.oldest_ms = held.oldest_ms.max(since);
        }
        held
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, rx: &mut RepairCx<'_, '_>) {
        let now = rx.cx.now.mono;
        let due: Vec<Slot> =
            self.rounds.values().filter(|round| round.wake <= now).map(|round| round.slot).collect();
        for slot in due {
            self.on_silence(rx, slot);
        }
        if self.ripe.is_some_and(|ripe| ripe <= now) && self.rounds.len() < ROUNDS_MAX {
            self.look(rx);
        }
    }

    /// Begins the round of the slot that has waited longest.
    fn look(&mut self, rx: &mut RepairCx<'_, '_>) {
        let now = rx.cx.now;
        self.not_before = now.mono.plus_ms(PACE_MS);
        self.resting.retain(|_, until| *until > now.mono);
        if Clock::is_skewed(now.wall, rx.cx.clock.last()) {
            self.not_before = now.mono.plus_ms(RETRY_MS);
            return;
        }
        let is_down = |node: &NodeId| !rx.liveness.is_alive(*node);
        let without = planted::on(Bug::G1MajoritySuffices) || planted::on(Bug::G3DownMemberLeftOut);
        if let Some(down) = rx.table.members().find(is_down).filter(|_| !without) {
            // G3: no watermark rises without every member.
            self.held_by = Some(down);
            self.not_before = now.mono.plus_ms(RETRY_MS);
            return;
        }
        if !rx.cx.clock.admit(now.wall, Hlc(0)) {
            rx.events.push(RepairEvent::NeedsClock);
            return;
        }
        let lag = rx.cx.clock.last().ms().saturating_sub(WATERMARK_LAG_MS);
        let upto = Stamp::upto(Hlc::from_ms(lag));
        let mut next = rx.replica.next_due(None);
        for _ in 0..LOOKS_MAX {
            let Some((at, slot)) = next.filter(|(at, _)| *at <= upto) else {
                break;
            };
            if !self.rounds.contains_key(&slot) && !self.resting.contains_key(&slot) {
                return self.begin(rx, slot, upto);
            }
            next = rx.replica.next_due(Some((at, slot)));
        }
        self.not_before = now.mono.plus_ms(RETRY_MS / 2);
    }

    fn begin(&mut self, rx: &mut RepairCx<'_, '_>, slot: Slot, upto: Stamp) {
        rx.cx.count(Counter::WatermarkBegun);
        let round = Round {
            slot,
            upto,
            epoch: rx.epoch,
            pass: 0,
            repaired: false,
            ignore: Stamp::ZERO,
            tokens: BTreeMap::new(),
            phase: Phase::Close,
            step: MarkStep::Close(upto),
            request: RequestId(0),
            waiting: BTreeSet::new(),
            tries: 0,
            wake: rx.cx.now.mono,
        };
        self.rounds.insert(slot, round);
        self.close(rx, slot);
    }

    /// (a) Every member closes: replicas refuse late requests, and nobody keeps or holds late hints.
    fn close(&mut self, rx: &mut RepairCx<'_, '_>, slot: Slot) {
        let everybody: Vec<NodeId> = if planted::on(Bug::G1CloseNotAskedOfAll) {
            rx.table.replicas(slot).to_vec()
        } else {
            let left_out =
                |node: &NodeId| planted::on(Bug::G3DownMemberLeftOut) && !rx.liveness.is_alive(*node);
            rx.table.members().filter(|node| !left_out(node)).collect()
        };
        if let Some(round) = self.rounds.get_mut(&slot) {
            round.pass += 1;
            round.repaired = false;
            round.tokens.clear();
            let step = MarkStep::Close(round.upto);
            self.ask(rx, slot, Phase::Close, step, everybody);
        }
    }

    /// Goes into a phase in which `whom` are asked.
    fn ask(
        &mut self,
        rx: &mut RepairCx<'_, '_>,
        slot: Slot,
        phase: Phase,
        step: MarkStep,
        whom: impl IntoIterator<Item = NodeId>,
    ) {
        let Some(round) = self.rounds.get_mut(&slot) else {
            return;
        };
        self.flights.remove(&round.request);
        let request = rx.cx.next_request();
        self.flights.insert(request, slot);
        (round.phase, round.step, round.request) = (phase, step, request);
        (round.waiting, round.tries) = (whom.into_iter().collect(), 0);
        round.wake = rx.cx.now.mono.plus_ms(PATIENCE_MS);
        round.send(rx);
    }

    /// Somebody has not answered in time.
    fn on_silence(&mut self, rx: &mut RepairCx<'_, '_>, slot: Slot) {
        let Some(round) = self.rounds.get_mut(&slot) else {
            return;
        };
        match &round.phase {
            Phase::Pause => return self.close(rx, slot),
            Phase::Repair { then, .. } => {
                // What was not repaired is found again by the next pass.
                let then = then.clone();
                return self.next_page(rx, slot, then);
            }
            _ => {}
        }
        round.tries += 1;
        if round.tries >= TRIES_MAX {
            let silent = round.waiting.first().copied();
            return self.give_up(rx, slot, Void::Silent, silent);
        }
        round.wake = rx.cx.now.mono.plus_ms(PATIENCE_MS);
        round.send(rx);
    }

    /// A peer, or this node itself, answers.
    pub fn on_answer(
        &mut self,
        rx: &mut RepairCx<'_, '_>,
        from: Address,
        request: RequestId,
        answer: Answer,
    ) {
        let Some(slot) = self.flights.get(&request).copied() else {
            return;
        };
        let Some(round) = self.rounds.get_mut(&slot) else {
            return;
        };
        if round.epoch != rx.epoch {
            return self.give_up(rx, slot, Void::Epoch, None);
        }
        if round.request != request {
            return self.on_repair_answer(rx, slot, from.node, request, answer);
        }
        if !round.waiting.contains(&from.node) {
            return;
        }
        match (&mut round.phase, answer) {
            (Phase::Close, Answer::Marked(Marked::Closed { raised, hints, token })) => {
                if hints > 0 {
                    return self.give_up(rx, slot, Void::Hints, Some(from.node));
                }
                round.ignore = round.ignore.max(raised);
                round.tokens.insert(from.node, token);
            }
            (Phase::Own { after }, Answer::Marked(Marked::Digested { digest, last })) => {
                let after = after.clone();
                return self.compare(rx, slot, after, last, digest);
            }
            (
                Phase::Compare { digest, differs, .. },
                Answer::Marked(Marked::Digested { digest: other, .. }),
            ) => {
                *differs |= *digest != other;
            }
            (Phase::List { lists, .. }, Answer::Marked(Marked::Listed { entries, last })) => {
                lists.push(Listed { node: from.node, entries, last });
            }
            (Phase::Raise | Phase::RaiseOwn, Answer::Marked(Marked::Raised)) => {}
            (Phase::Raise | Phase::RaiseOwn, Answer::Marked(Marked::Changed)) => {
                return self.give_up(rx, slot, Void::Changed, Some(from.node));
            }
            // Too busy: asked again when the phase is over.
            (_, Answer::Refused(_)) => return,
            _ => return rx.cx.count(Counter::PeerMisbehaved),
        }
        round.waiting.remove(&from.node);
        if round.is_answered(rx) {
            self.go_on(rx, slot);
        }
    }

    /// All have answered.
    fn go_on(&mut self, rx: &mut RepairCx<'_, '_>, slot: Slot) {
        let Some(round) = self.rounds.get(&slot) else {
            return;
        };
        match round.phase.clone() {
            Phase::Close if planted::on(Bug::G1SkipCompare) => self.raise(rx, slot),
            Phase::Close => self.look_at_page(rx, slot, None),
            Phase::Compare { last, differs: false, .. } => self.next_page(rx, slot, last),
            Phase::Compare { after, last, .. } => {
                let range = round.range(after, last.clone(), 0);
                let replicas = rx.table.replicas(slot).iter().copied();
                let lists = Vec::new();
                self.ask(rx, slot, Phase::List { last, lists }, MarkStep::List(range), replicas);
            }
            Phase::List { last, lists } => self.repair(rx, slot, last, &lists),
            Phase::Raise => {
                let me = rx.table.replicas(slot).first().copied();
                let step = round.step.clone();
                self.ask(rx, slot, Phase::RaiseOwn, step, me);
            }
            Phase::RaiseOwn => {
                rx.cx.count(Counter::WatermarkRaised);
                self.held_by = None;
                self.end(slot, rx.cx.now.mono.plus_ms(REST_MS));
            }
            Phase::Own { .. } | Phase::Repair { .. } | Phase::Pause => {}
        }
    }

    /// (b) The driver's digest of its next page.
    fn look_at_page(&mut self, rx: &mut RepairCx<'_, '_>, slot: Slot, after: Option<Bytes>) {
        if let Some(round) = self.rounds.get(&slot) {
            let me = rx.table.replicas(slot).first().copied();
            let step = MarkStep::Digest(round.range(after.clone(), None, PAGE));
            self.ask(rx, slot, Phase::Own { after }, step, me);
        }
    }

    /// (b) The others' digests of the same page.
    fn compare(
        &mut self,
        rx: &mut RepairCx<'_, '_>,
        slot: Slot,
        after: Option<Bytes>,
        last: Option<Bytes>,
        digest: u128,
    ) {
        let others: Vec<NodeId> = rx.table.replicas(slot).iter().skip(1).copied().collect();
        let Some(round) = self.rounds.get(&slot) else {
            return;
        };
        if others.is_empty() {
            return self.next_page(rx, slot, last);
        }
        let step = MarkStep::Digest(round.range(after.clone(), last.clone(), 0));
        self.ask(rx, slot, Phase::Compare { after, last, digest, differs: false }, step, others);
    }

    /// (b) A page has been compared; `then` is where the next begins.
    fn next_page(&mut self, rx: &mut RepairCx<'_, '_>, slot: Slot, then: Option<Bytes>) {
        let Some(round) = self.rounds.get_mut(&slot) else {
            return;
        };
        if let Phase::Repair { under_way, .. } = &round.phase {
            for request in under_way.keys() {
                self.flights.remove(request);
            }
        }
        match (then, round.repaired) {
            (Some(after), _) => self.look_at_page(rx, slot, Some(after)),
            (None, false) => self.raise(rx, slot),
            (None, true) if round.pass >= PASSES_MAX => self.give_up(rx, slot, Void::Differs, None),
            (None, true) => {
                round.phase = Phase::Pause;
                round.wake = rx.cx.now.mono.plus_ms(PAUSE_MS);
            }
        }
    }

    /// (c) Each replica raises, if nothing came in since it closed.
    fn raise(&mut self, rx: &mut RepairCx<'_, '_>, slot: Slot) {
        let others: Vec<NodeId> = rx.table.replicas(slot).iter().skip(1).copied().collect();
        if let Some(round) = self.rounds.get(&slot) {
            let step = MarkStep::Raise { upto: round.upto, token: 0 };
            let is_alone = others.is_empty();
            self.ask(rx, slot, Phase::Raise, step, others);
            if is_alone {
                self.go_on(rx, slot);
            }
        }
    }

    fn give_up(&mut self, rx: &mut RepairCx<'_, '_>, slot: Slot, why: Void, by: Option<NodeId>) {
        rx.cx.count(match why {
            Void::Silent => Counter::WatermarkVoidSilent,
            Void::Hints => Counter::WatermarkVoidHints,
            Void::Changed => Counter::WatermarkVoidChanged,
            Void::Differs => Counter::WatermarkVoidDiffers,
            Void::Epoch => Counter::WatermarkVoidEpoch,
        });
        self.held_by = by.or(self.held_by);
        self.end(slot, rx.cx.now.mono.plus_ms(RETRY_MS));
    }

    fn end(&mut self, slot: Slot, rest: Instant) {
        self.rounds.remove(&slot);
        self.flights.retain(|_, of| *of != slot);
        self.resting.insert(slot, rest);
    }
}

impl Round {
    fn range(&self, after: Option<Bytes>, last: Option<Bytes>, limit: u32) -> MarkRange {
        MarkRange { upto: self.upto, ignore: self.ignore, after, last, limit }
    }

    /// Sends the step to those that have not answered it.
    fn send(&self, rx: &mut RepairCx<'_, '_>) {
        for node in &self.waiting {
            let Some(address) = rx.table.address(*node, self.slot) else {
                continue;
            };
            let mut step = self.step.clone();
            if let MarkStep::Raise { token, .. } = &mut step {
                *token = self.tokens.get(node).copied().unwrap_or_default();
            }
            rx.cx.send(address, Message::Mark { request: self.request, slot: self.slot, step });
        }
    }

    /// Whether nobody is waited for any more.
    fn is_answered(&self, rx: &RepairCx<'_, '_>) -> bool {
        if planted::on(Bug::G1MajoritySuffices) {
            let replicas = rx.table.replicas(self.slot);
            let answered = replicas.iter().filter(|node| !self.waiting.contains(node)).count();
            return answered >= majority(replicas.len());
        }
        self.waiting.is_empty()
    }
}
