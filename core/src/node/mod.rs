//! One shard of one process: routes inputs to the machines and maps one machine's event to another's call.

mod ceiling;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod decoders;
mod health;
mod heartbeat;
mod identity;
mod lives;
mod parked;
mod peers;
mod status;
mod suspect;
pub mod verify;

use crate::base::limits::CEILING_STEP_MS;
use crate::base::planted::{self, Bug};
use crate::base::rng::Rng;
use crate::base::{Address, Config, Counter, Counters, Failure, Hlc, Instant, Now, Reply, Request, Stamp};
use crate::coord::{Coord, CoordCx, CoordEvent, uuid_time};
use crate::io::{Input, Outbox, Output, Tag};
use crate::repair::{RepairEvent, Watermarks};
use crate::replica::{Replica, ReplicaCx, ReplicaEvent};
use crate::rules::clock::Clock;
use crate::rules::context::Cx;
use crate::rules::floor::Floors;
use crate::rules::liveness::Liveness;
use crate::rules::ring::SlotTable;
use crate::store::{Store, StoreCx, StoreEvent, StoreOptions};
use crate::wire::{Answer, Envelope, Message, Refusal};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use identity::{Identity, IdentityEvent};
use parked::Parked;
use peers::Peers;

pub use health::Waiting;
pub use identity::{FORMAT_VERSION, Owner};
pub use probe::Probe;
pub use status::Status;
pub use suspect::SuspectProbe;

/// S4: a clock this far ahead of the physical one waits before it serves.
const START_AHEAD_MS: u64 = 400;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Its own address.
    pub address: Address,
    /// The cluster (static: epoch 1).
    pub config: Config,
    /// Seed of its random stream.
    pub seed: [u8; 32],
    /// Sizes of the storage engine.
    pub store: StoreOptions,
    /// Entries of the promise table (`limits::PROMISES_MAX` in production, few in simulation).
    pub promises_max: usize,
    /// Floors of key spaces, the same at every node.
    pub floors: Floors,
}

/// A shard.
#[derive(Debug, Clone)]
pub struct Node {
    options: NodeOptions,
    phase: Phase,
    table: SlotTable,
    identity: Identity,
    store: Store,
    clock: Clock,
    liveness: Liveness,
    replica: Replica,
    coord: Coord,
    watermarks: Watermarks,
    counters: Counters,
    /// The last request id given out.
    requests: u64,
    /// Inputs that wait for the ceiling.
    parked: Parked,
    /// S5: the latest life and ceiling of each peer.
    peers: Peers,
    next_ping: Instant,
    health: health::Health,
    /// R6: the operator has been told that some keys wait for him.
    told_stuck: bool,
    work: Work,
}

/// How far the node's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before `Boot`, and while the identity is read.
    Checking,
    /// The store recovers.
    Recovering {
        fresh: bool,
    },
    /// The start number and the ceiling are written.
    Establishing,
    /// S4: waits for the physical clock.
    AwaitingClock,
    Serving,
    /// After `Fatal`.
    Dead,
}

/// What the machines have said within a step and nobody has heard yet. Empty between steps.
#[derive(Debug, Clone, Default)]
struct Work {
    sends: Vec<(Address, Message)>,
    store: Vec<StoreEvent>,
    replica: Vec<ReplicaEvent>,
    coord: Vec<CoordEvent>,
    repair: Vec<RepairEvent>,
    loopback: VecDeque<Message>,
}

macro_rules! replica_cx {
    ($node:expr, $cx:expr, $out:expr) => {
        &mut ReplicaCx {
            cx: $cx,
            store: &mut $node.store,
            out: $out,
            store_events: &mut $node.work.store,
            table: &$node.table,
            events: &mut $node.work.replica,
        }
    };
}

macro_rules! coord_cx {
    ($node:expr, $cx:expr) => {
        &mut CoordCx {
            cx: $cx,
            table: &$node.table,
            liveness: &$node.liveness,
            events: &mut $node.work.coord,
        }
    };
}

macro_rules! cx {
    ($node:expr, $now:expr) => {
        &mut Cx {
            now: $now,
            clock: &mut $node.clock,
            sends: &mut $node.work.sends,
            counters: &mut $node.counters,
            requests: &mut $node.requests,
        }
    };
}

macro_rules! store_cx {
    ($node:expr, $now:expr, $out:expr) => {
        &mut StoreCx { now: $now, out: $out, events: &mut $node.work.store, counters: &mut $node.counters }
    };
}

mod probe;
mod watermarks;

impl Node {
    /// A node that waits for `Input::Boot`.
    pub fn new(options: NodeOptions) -> Self {
        let me = options.address;
        let shards = options.config.members.iter().find(|m| m.node == me.node).map_or(1, |m| m.shards);
        let table = SlotTable::new(&options.config);
        Self {
            phase: Phase::Checking,
            identity: Identity::new(me, options.config.cluster, shards),
            store: Store::new(options.store.clone()),
            clock: Clock::start(me.node, crate::base::WallTime(0), Hlc(0), Hlc(1)),
            liveness: Liveness::new(me.node, table.members(), Instant(0)),
            replica: Replica::new(me, options.promises_max, Stamp::ZERO),
            coord: Coord::new(me, Rng::new(options.seed, 0), Stamp::ZERO),
            watermarks: Watermarks::default(),
            table,
            options,
            counters: Counters::default(),
            requests: 0,
            parked: Parked::default(),
            peers: Peers::default(),
            next_ping: Instant(0),
            health: health::Health::default(),
            told_stuck: false,
            work: Work::default(),
        }
    }

    /// Runs to completion, never blocks, never fails. Deterministic in (state, now, input).
    pub fn step(&mut self, now: Now, input: Input, out: &mut Outbox) {
        if self.phase == Phase::Dead {
            return;
        }
        match input {
            Input::Boot => self.identity.boot(out),
            Input::Disk { ticket, result } if ticket.0 & Store::TICKET_TAG != 0 => {
                self.store.on_disk(store_cx!(self, now, out), ticket, result);
            }
            Input::Disk { ticket, result } => {
                if let Some(event) = self.identity.on_disk(ticket, result, out) {
                    self.on_identity(now, event, out);
                }
            }
            Input::Timeout => self.on_timeout(now, out),
            Input::Scrub => self.store.scrub(),
            Input::Client { .. } | Input::Message(_) => self.on_outside(now, input, out),
            Input::AcceptLoss { first, last } if self.phase == Phase::Serving => {
                self.replica.accept_loss(replica_cx!(self, cx!(self, now), out), first, last);
            }
            Input::AcceptLoss { .. } => {}
        }
        self.settle(now, out);
        self.watch_disk(now.mono, out);
    }

    /// When `Input::Timeout` is due. Level-triggered: asked after every step; spurious timeouts are no-ops.
    pub fn next_deadline(&self) -> Option<Instant> {
        let store = self.store.next_deadline();
        let own = match self.phase {
            Phase::AwaitingClock => Some(self.next_ping),
            Phase::Serving => {
                let parked = self.parked.next_deadline();
                let machines = [
                    self.coord.next_deadline(),
                    self.replica.next_deadline(),
                    self.watermarks.next_deadline(),
                    parked,
                ];
                machines.into_iter().flatten().chain([self.next_ping]).min()
            }
            Phase::Checking | Phase::Recovering { .. } | Phase::Establishing | Phase::Dead => None,
        };
        own.into_iter().chain(store).chain(self.next_look()).min()
    }

    /// What has been counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn on_identity(&mut self, now: Now, event: IdentityEvent, out: &mut Outbox) {
        match event {
            IdentityEvent::Checked { fresh } => {
                self.phase = Phase::Recovering { fresh };
                self.store.boot(store_cx!(self, now, out), fresh);
            }
            IdentityEvent::Established { found, ceiling } => {
                self.peers = Peers::load(self.identity.peers());
                self.begin(now, found, ceiling);
                self.replica.load_marks(replica_cx!(self, cx!(self, now), out));
            }
            IdentityEvent::Raised(ceiling) => {
                self.clock.raise(ceiling);
                self.peers.on_saved();
                for input in self.parked.take() {
                    self.on_outside(now, input, out);
                }
                self.keep_proofs(now, out);
            }
            IdentityEvent::Fatal(reason) => self.die(reason, out),
        }
    }

    /// S4: the machines of this life.
    fn begin(&mut self, now: Now, found: Hlc, ceiling: Hlc) {
        let me = self.options.address;
        self.clock = Clock::start(me.node, now.wall, found, ceiling);
        let floor = Stamp::upto(found);
        let promised = if planted::on(Bug::S4NoFloorAtRestart) { Stamp::ZERO } else { floor };
        self.replica = Replica::new(me, self.options.promises_max, promised);
        let start = u64::from(self.identity.start().count());
        self.coord = Coord::new(me, Rng::new(self.options.seed, start), floor);
        self.watermarks = Watermarks::default();
        self.requests = start << 40;
        self.phase = Phase::AwaitingClock;
        self.next_ping = now.mono;
    }

    /// S4: serves as soon as the clock is not too far ahead of the physical one.
    fn try_serve(&mut self, now: Now, out: &mut Outbox) {
        if !self.replica.marks_loaded() {
            return;
        }
        let ahead_ms = self.clock.last().ms().saturating_sub(now.wall.0);
        if ahead_ms > START_AHEAD_MS {
            if now.mono >= self.next_ping {
                self.counters.add(Counter::StartWaited);
                self.next_ping = now.mono.plus_ms((ahead_ms - START_AHEAD_MS).clamp(1, 1_000));
            }
            return;
        }
        self.phase = Phase::Serving;
        self.liveness = Liveness::new(self.options.address.node, self.table.members(), now.mono);
        self.next_ping = now.mono;
        self.replica.load_hints(replica_cx!(self, cx!(self, now), out));
        out.push(Output::Ready);
    }

    fn die(&mut self, reason: String, out: &mut Outbox) {
        self.phase = Phase::Dead;
        out.push(Output::Fatal { reason });
    }

    /// Something from outside, which may need stamps up to a clock reading: admitted, refused (S2), or parked (S3).
    fn on_outside(&mut self, now: Now, input: Input, out: &mut Outbox) {
        if self.phase != Phase::Serving || (self.health.is_aside && matches!(input, Input::Client { .. })) {
            if let Input::Client { tag, .. } = input {
                self.refuse_client(tag, Failure::Unavailable, out);
            }
            return;
        }
        match input {
            Input::Client { tag, request, deadline } => self.on_client(now, tag, request, deadline, out),
            Input::Message(envelope) => self.on_envelope(now, envelope, out),
            Input::Boot | Input::Disk { .. } | Input::Timeout | Input::Scrub | Input::AcceptLoss { .. } => {}
        }
    }

    fn on_client(&mut self, now: Now, tag: Tag, request: Request, deadline: Instant, out: &mut Outbox) {
        if let Some(floor) = self.options.floors.forbids(&request) {
            return self.refuse_client(tag, Failure::BelowFloor(floor), out);
        }
        let id = request.idempotency.filter(|_| !planted::on(Bug::C10UuidNotMerged));
        let seen = request.session.max(id.map_or(Hlc(0), uuid_time));
        if Clock::is_skewed(now.wall, seen) {
            return self.refuse_client(tag, Failure::ClockSkew, out);
        }
        if !self.clock.admit(now.wall, seen) {
            return self.park(now, seen, Input::Client { tag, request, deadline }, out);
        }
        if Clock::is_skewed(now.wall, self.clock.last()) {
            return self.refuse_client(tag, Failure::ClockSkew, out);
        }
        self.coord.on_client(coord_cx!(self, cx!(self, now)), tag, request, deadline);
        self.keep_ahead(now, out);
    }

    fn refuse_client(&mut self, tag: Tag, failure: Failure, out: &mut Outbox) {
        let counter = match failure {
            Failure::BelowFloor(_) => Counter::BelowFloor,
            Failure::Overloaded => Counter::EndedOverloaded,
            _ => Counter::EndedUnavailable,
        };
        self.counters.add(counter);
        out.push(Output::Reply { tag, reply: Reply { session: self.clock.last(), result: Err(failure) } });
    }

    fn park(&mut self, now: Now, wanted: Hlc, input: Input, out: &mut Outbox) {
        self.counters.add(Counter::CeilingAwaited);
        match self.parked.push(input) {
            Some(Input::Client { tag, .. }) => self.refuse_client(tag, Failure::Overloaded, out),
            Some(_) => self.counters.add(Counter::ParkedDropped),
            None => {}
        }
        self.raise(now, wanted, out);
    }

    fn raise(&mut self, now: Now, wanted: Hlc, out: &mut Outbox) {
        if self.identity.is_idle() {
            let wanted = wanted.max(self.clock.last()).max(Hlc::from_ms(now.wall.0));
            self.identity.raise(wanted, self.peers.save(), out);
        }
    }

    /// Raises the ceiling in time, while there is traffic that needs it.
    fn keep_ahead(&mut self, now: Now, out: &mut Outbox) {
        if self.clock.last().ms() + CEILING_STEP_MS / 2 > self.clock.ceiling().ms() {
            self.raise(now, Hlc(0), out);
        }
    }

    fn on_envelope(&mut self, now: Now, envelope: Envelope, out: &mut Outbox) {
        let from = envelope.from;
        if from == self.options.address || self.table.address(from.node, crate::base::Slot(0)).is_none() {
            return self.counters.add(Counter::PeerMisbehaved);
        }
        if !self.is_present(now, &envelope, out) {
            return;
        }
        if envelope.body.highest_stamp().hlc > envelope.hlc {
            return self.counters.add(Counter::PeerMisbehaved);
        }
        self.liveness.on_heard(from.node, now.mono);
        if envelope.is_expired(now.wall) {
            return self.counters.add(Counter::ExpiredDropped);
        }
        let skewed = Clock::is_skewed(now.wall, envelope.hlc);
        if matches!(envelope.body, Message::Ping { .. } | Message::Pong { .. }) {
            // A heartbeat is not worth a raise of the ceiling: its clock is merged only where that costs nothing.
            if !skewed {
                self.clock.admit(now.wall, envelope.hlc);
            }
            return self.on_heartbeat(from, &envelope.body);
        }
        if self.health.is_aside && !matches!(envelope.body, Message::Answer { .. }) {
            return;
        }
        if skewed {
            self.counters.add(Counter::ClockSkewRefused);
            if let Some(request) = envelope.body.request_id() {
                let answer = Answer::Refused(Refusal::ClockSkew);
                self.work.sends.push((from, Message::Answer { request, answer }));
            }
            return;
        }
        if envelope.epoch != self.options.config.epoch {
            return self.on_other_epoch(now, &envelope);
        }
        let told = if planted::on(Bug::S2ClockNotMerged) { Hlc(0) } else { envelope.hlc };
        if !self.clock.admit(now.wall, told) {
            return self.park(now, envelope.hlc, Input::Message(envelope), out);
        }
        self.on_message(now, from, envelope.body, out);
        self.keep_ahead(now, out);
    }

    /// E4: a request of a lower epoch is refused; what a higher one means is for the catch-up with it.
    fn on_other_epoch(&mut self, now: Now, envelope: &Envelope) {
        let epoch = self.options.config.epoch;
        if let (true, Some(request)) = (envelope.epoch < epoch, envelope.body.request_id()) {
            Replica::refuse_epoch(cx!(self, now), envelope.from, request, epoch);
        }
    }

    /// A message whose clock has been merged, from a peer or from this node itself.
    fn on_message(&mut self, now: Now, from: Address, body: Message, out: &mut Outbox) {
        match body {
            Message::Answer { request, answer } if self.watermarks.expects(request) => {
                self.on_watermark_answer(now, from, request, answer);
            }
            Message::Answer { request, answer } => {
                let cx = cx!(self, now);
                if !self.replica.on_answer(replica_cx!(self, cx, out), from, request, &answer) {
                    self.coord.on_answer(coord_cx!(self, cx), from, request, answer);
                }
            }
            Message::Forward { request, key, op_id, idempotent, op, patience_ms } => {
                let cx = coord_cx!(self, cx!(self, now));
                self.coord.on_forward(cx, from, request, &key, op_id, idempotent, op, patience_ms);
            }
            request => self.replica.on_request(replica_cx!(self, cx!(self, now), out), from, request),
        }
    }

    fn on_timeout(&mut self, now: Now, out: &mut Outbox) {
        match self.phase {
            Phase::Serving => {
                self.clock.tick(now.wall);
                for _ in 0..self.liveness.on_tick(now.mono) {
                    self.counters.add(Counter::PeerSuspected);
                }
                self.ping(now);
                self.drop_parked(now, out);
                let liveness = &self.liveness;
                self.replica.on_tick(replica_cx!(self, cx!(self, now), out), |node| liveness.is_alive(node));
                self.tell_stuck(out);
                self.coord.on_timeout(coord_cx!(self, cx!(self, now)));
                self.on_watermark_timeout(now);
            }
            Phase::Checking
            | Phase::Recovering { .. }
            | Phase::AwaitingClock
            | Phase::Establishing
            | Phase::Dead => {}
        }
    }

    /// Clients whose deadline passes while they wait for the ceiling get their answer: nothing was done.
    fn drop_parked(&mut self, now: Now, out: &mut Outbox) {
        for tag in self.parked.expire(now.mono) {
            self.refuse_client(tag, Failure::Unavailable, out);
        }
    }

    /// Routes what the machines said until nobody says anything, then commits and sends.
    fn settle(&mut self, now: Now, out: &mut Outbox) {
        loop {
            self.route(now, out);
            if matches!(self.phase, Phase::Dead) {
                return;
            }
            if !matches!(self.phase, Phase::Checking) {
                self.store.commit(store_cx!(self, now, out));
            }
            if self.phase == Phase::AwaitingClock {
                self.try_serve(now, out);
            }
            if self.work.is_empty() {
                break;
            }
        }
        self.watermarks.plan(now, self.clock.last(), &self.replica);
    }

    fn route(&mut self, now: Now, out: &mut Outbox) {
        while !self.work.is_empty() {
            for event in core::mem::take(&mut self.work.store) {
                self.on_store(now, event, out);
            }
            for event in core::mem::take(&mut self.work.replica) {
                self.on_replica(now, event, out);
            }
            for event in core::mem::take(&mut self.work.repair) {
                self.on_repair(now, event, out);
            }
            for event in core::mem::take(&mut self.work.coord) {
                self.on_coord(now, event, out);
            }
            self.dispatch(out);
            while let Some(message) = self.work.loopback.pop_front() {
                self.on_message(now, self.options.address, message, out);
            }
            if self.phase == Phase::Dead {
                return;
            }
        }
    }

    fn on_store(&mut self, now: Now, event: StoreEvent, out: &mut Outbox) {
        self.tell_suspects(&event, out);
        match (event, self.phase) {
            (StoreEvent::Fatal(reason), _) => self.die(reason, out),
            (StoreEvent::Recovered, Phase::Recovering { .. }) => {
                self.phase = Phase::Establishing;
                let draw = self.draw();
                self.identity.establish(now.wall, draw, out);
            }
            (event, Phase::Serving | Phase::AwaitingClock) => {
                self.replica.on_store(replica_cx!(self, cx!(self, now), out), event);
            }
            _ => {}
        }
    }

    fn on_coord(&mut self, now: Now, event: CoordEvent, out: &mut Outbox) {
        match event {
            CoordEvent::Reply { tag, reply } => out.push(Output::Reply { tag, reply }),
            CoordEvent::KeepHint { target, key, record } => {
                let rx = replica_cx!(self, cx!(self, now), out);
                if self.replica.keep_hint(rx, target, key, record).is_none() {
                    // The replica is repaired by reads and by comparison.
                    self.counters.add(Counter::HintNotKept);
                }
            }
            CoordEvent::Settled { target, key, ballot } => {
                self.replica.on_settled(replica_cx!(self, cx!(self, now), out), target, key, ballot);
            }
        }
    }

    /// Sends what was said to peers; what was said to this node itself waits for its turn.
    fn dispatch(&mut self, out: &mut Outbox) {
        let me = self.options.address;
        for (to, body) in self.work.sends.drain(..) {
            if to == me {
                self.work.loopback.push_back(body);
                continue;
            }
            let message = Envelope {
                from: me,
                start: self.identity.start(),
                epoch: self.options.config.epoch,
                hlc: self.clock.last(),
                body,
            };
            out.push(Output::Send { to, message });
        }
    }
}

impl Work {
    fn is_empty(&self) -> bool {
        self.sends.is_empty()
            && self.store.is_empty()
            && self.replica.is_empty()
            && self.coord.is_empty()
            && self.repair.is_empty()
            && self.loopback.is_empty()
    }
}
