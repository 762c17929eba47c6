//! The machines of `samara-core` that the check drives: a replica with its store and its disk, and a coordinator. Each call
//! runs to the end, the disk included: what a replica has answered is durable.

use bytes::Bytes;
use samara_core::base::rng::Rng;
use samara_core::base::{
    Address, ClusterId, Config, Counters, Epoch, Hlc, Instant, Member, NodeId, Now, RecordKey, Reply,
    Request, RequestId, ShardId, Slot, Stamp, WallTime,
};
use samara_core::coord::{Coord, CoordCx, CoordEvent};
use samara_core::io::{Outbox, Output, Tag};
use samara_core::replica::{Replica, ReplicaCx};
use samara_core::rules::clock::Clock;
use samara_core::rules::context::Cx;
use samara_core::rules::liveness::Liveness;
use samara_core::rules::ring::SlotTable;
use samara_core::rules::slots::slot_of;
use samara_core::store::{Lookup, Store, StoreCx, StoreEvent, StoreOptions};
use samara_core::wire::Message;
use samara_sim::disk::Disk;
use std::fmt::Write;

/// The wall clock stands still: only stamps issued carry hybrid clocks on. So two coordinators' clocks differ by what they
/// have issued and heard of, in every way that the order of messages allows.
const WALL: WallTime = WallTime(1_000_000);
/// No test comes near it.
const CEILING: Hlc = Hlc::from_ms(WALL.0 + 1_000_000);
/// Request ids of a life begin here (as in `node`).
const LIFE_BITS: u32 = 40;

/// A replica of the register, for what does not depend on which.
const ANY: NodeId = NodeId(1);
/// Whoever asks for the other key.
const STRANGER: NodeId = NodeId(9);

/// What all machines have in common.
pub struct Ground {
    pub table: SlotTable,
    /// The register.
    pub key: Bytes,
    /// Another key of its slot, whose promise displaces the register's from a table of one.
    pub other: Bytes,
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub from: NodeId,
    pub to: NodeId,
    pub body: Message,
}

pub fn address(node: NodeId) -> Address {
    Address { node, shard: ShardId(0) }
}

fn now(mono: Instant) -> Now {
    Now { mono, wall: WALL }
}

impl Ground {
    /// Three members; the register's replicas are 1, 2 and 3 in this order of preference.
    pub fn new() -> Self {
        let member = |node| Member { node: NodeId(node), zone: String::new(), tokens: 150, shards: 1 };
        let members = (1..=3).map(member).collect();
        let config = Config { cluster: ClusterId(1), epoch: Epoch(1), members, replication: 3 };
        let table = SlotTable::new(&config);
        let is_placed = |key: &Bytes| table.replicas(slot_of(key)) == [NodeId(1), NodeId(2), NodeId(3)];
        let keys = (0..10_000).map(|number| Bytes::from(format!("{{{number}}}")));
        let key = keys.into_iter().find(is_placed).expect("some key is placed so");
        let other = Bytes::from(format!("{}other", String::from_utf8_lossy(&key)));
        Self { table, key, other }
    }

    fn slot(&self) -> Slot {
        slot_of(&self.key)
    }
}

/// A replica with what a step would give it. It does not depend on which of the three it is.
#[derive(Clone)]
pub struct ReplicaMachine {
    promises_max: usize,
    replica: Replica,
    store: Store,
    disk: Disk,
    requests: u64,
    counters: Counters,
}

impl ReplicaMachine {
    /// A fresh replica.
    pub fn new(ground: &Ground, promises_max: usize) -> Self {
        let options = StoreOptions {
            memtable_bytes: 64 << 10,
            wal_segment_bytes: 64 << 10,
            cache_bytes: 4 << 10,
            ..StoreOptions::default()
        };
        let (store, disk) = (Store::new(options), Disk::default());
        let replica = Replica::new(address(ANY), promises_max, Stamp::ZERO);
        let counters = Counters::default();
        let mut machine = Self { promises_max, replica, store, disk, requests: 0, counters };
        machine.call(ground, Hlc(0), |_, rx| {
            let mut cx =
                StoreCx { now: rx.cx.now, out: rx.out, events: rx.store_events, counters: rx.cx.counters };
            rx.store.boot(&mut cx, true);
        });
        machine
    }

    /// A message comes in; what is sent, whoever it is for.
    pub fn on_message(&mut self, ground: &Ground, packet: &Packet) -> Vec<Packet> {
        let told = packet.body.highest_stamp().hlc;
        let (from, body) = (address(packet.from), packet.body.clone());
        let sends = self.call(ground, told, |replica, rx| replica.on_request(rx, from, body));
        let packet = |(to, body): (Address, Message)| Packet { from: packet.to, to: to.node, body };
        sends.into_iter().map(packet).collect()
    }

    /// The power fails and comes back: promises are forgotten, and the ceiling becomes the floor (S4). It is as low here as
    /// it may be: nothing below it has been promised or accepted.
    pub fn crash(&mut self, ground: &Ground) -> Vec<Packet> {
        let used = self.promised(ground).max(self.held(ground).map_or(Stamp::ZERO, |(ballot, _)| ballot));
        let floor = if used == Stamp::ZERO { Stamp::ZERO } else { Stamp::upto(used.hlc) };
        self.replica = Replica::new(address(ANY), self.promises_max, floor);
        Vec::new()
    }

    /// A promise for the other key takes the register's place in a table of one.
    pub fn evict(&mut self, ground: &Ground) -> Vec<Packet> {
        let ballot = Stamp { hlc: Hlc::from_ms(WALL.0), node: STRANGER };
        let (key, request) = (ground.other.clone(), RequestId(0));
        let body = Message::Prepare { request, key, ballot };
        self.on_message(ground, &Packet { from: STRANGER, to: ANY, body });
        Vec::new()
    }

    /// The higher of promise and floor.
    pub fn promised(&self, ground: &Ground) -> Stamp {
        self.replica.promised(&ground.key).highest()
    }

    /// The ballot held, and all of the record, in words.
    pub fn held(&self, ground: &Ground) -> Option<(Stamp, String)> {
        let key = RecordKey { slot: ground.slot(), key: ground.key.clone() };
        let mut store = self.store.clone();
        let (mut out, mut events, mut counters) = (Outbox::new(), Vec::new(), Counters::default());
        let mut cx =
            StoreCx { now: now(Instant(0)), out: &mut out, events: &mut events, counters: &mut counters };
        match store.get(&mut cx, &key) {
            Lookup::Ready { record, .. } => record.map(|record| (record.ballot, format!("{record:?}"))),
            Lookup::Pending(_) => panic!("what was put lately is in memory"),
        }
    }

    /// Everything that decides what it will answer about the register: two machines of one description behave alike.
    pub fn description(&self, ground: &Ground) -> String {
        let promised = |key| self.replica.promised(key);
        format!(
            "{:?} {:?} {:?}",
            promised(&ground.key),
            promised(&ground.other),
            self.held(ground).map(|(_, record)| record)
        )
    }

    /// What it has counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn call(
        &mut self,
        ground: &Ground,
        told: Hlc,
        act: impl FnOnce(&mut Replica, &mut ReplicaCx<'_, '_>),
    ) -> Vec<(Address, Message)> {
        let mut clock = Clock::start(ANY, WALL, Hlc(0), CEILING);
        assert!(clock.admit(WALL, told), "the ceiling is far");
        let mut sends = Vec::new();
        let (mut out, mut store_events, mut events) = (Outbox::new(), Vec::new(), Vec::new());
        let mut cx = Cx {
            now: now(Instant(0)),
            clock: &mut clock,
            sends: &mut sends,
            counters: &mut self.counters,
            requests: &mut self.requests,
        };
        let mut rx = ReplicaCx {
            cx: &mut cx,
            store: &mut self.store,
            out: &mut out,
            store_events: &mut store_events,
            table: &ground.table,
            events: &mut events,
        };
        act(&mut self.replica, &mut rx);
        loop {
            for event in std::mem::take(rx.store_events) {
                assert!(!matches!(event, StoreEvent::Fatal(_)), "{event:?}");
                self.replica.on_store(&mut rx, event);
            }
            let ops: Vec<Output> = rx.out.drain().collect();
            let mut sx =
                StoreCx { now: rx.cx.now, out: rx.out, events: rx.store_events, counters: rx.cx.counters };
            let is_idle = ops.is_empty();
            for op in ops {
                let Output::Disk { ticket, op } = op else { panic!("a store asked for {op:?}") };
                rx.store.on_disk(&mut sx, ticket, self.disk.perform(&op));
            }
            rx.store.commit(&mut sx);
            if is_idle && rx.store_events.is_empty() && rx.out.is_empty() {
                return sends;
            }
        }
    }
}

/// A coordinator with what a step would give it.
#[derive(Clone)]
pub struct CoordMachine {
    me: NodeId,
    coord: Coord,
    liveness: Liveness,
    clock: Clock,
    requests: u64,
    mono: Instant,
    life: u64,
    counters: Counters,
}

/// What a coordinator sends and answers.
#[derive(Debug, Default)]
pub struct Said {
    pub packets: Vec<Packet>,
    pub replies: Vec<(Tag, Reply)>,
}

impl Said {
    fn is_silent(&self) -> bool {
        self.packets.is_empty() && self.replies.is_empty()
    }
}

impl CoordMachine {
    /// A coordinator at `me` that believes `suspects` to be down, and whose clock stands `ahead` of the others'.
    pub fn new(ground: &Ground, me: NodeId, suspects: &[NodeId], ahead: u64) -> Self {
        let peers = ground.table.members().filter(|node| !suspects.contains(node));
        Self {
            me,
            coord: Coord::new(address(me), Rng::new([me.0 as u8; 32], 1), Stamp::ZERO),
            liveness: Liveness::new(me, peers, Instant(0)),
            clock: Clock::start(me, WALL, Hlc(Hlc::from_ms(WALL.0).0 + ahead), CEILING),
            requests: 1 << LIFE_BITS,
            mono: Instant(0),
            life: 1,
            counters: Counters::default(),
        }
    }

    /// The power fails and comes back: all is forgotten but the ceiling, which is as low as it may be.
    pub fn crash(&mut self) {
        self.life += 1;
        let found = self.clock.last();
        self.coord =
            Coord::new(address(self.me), Rng::new([self.me.0 as u8; 32], self.life), Stamp::upto(found));
        self.clock = Clock::start(self.me, WALL, found, CEILING);
        (self.requests, self.mono) = (self.life << LIFE_BITS, Instant(0));
    }

    /// A client asks.
    pub fn on_client(&mut self, ground: &Ground, tag: Tag, request: Request) -> Said {
        self.call(ground, |coord, cx| coord.on_client(cx, tag, request, Instant::NEVER))
    }

    /// An answer or a forward comes in.
    pub fn on_message(&mut self, ground: &Ground, packet: &Packet) -> Said {
        assert!(self.clock.admit(WALL, packet.body.highest_stamp().hlc), "the ceiling is far");
        let (from, body) = (address(packet.from), packet.body.clone());
        self.call(ground, |coord, cx| match body {
            Message::Answer { request, answer } => coord.on_answer(cx, from, request, answer),
            Message::Forward { request, key, op_id, idempotent, op, patience_ms } => {
                coord.on_forward(cx, from, request, &key, op_id, idempotent, op, patience_ms);
            }
            other => panic!("{other:?} is for a replica"),
        })
    }

    /// Time passes until it says something, if it ever does.
    pub fn tick(&mut self, ground: &Ground) -> Said {
        while let Some(at) = self.coord.next_deadline() {
            self.mono = self.mono.max(at);
            let said = self.call(ground, Coord::on_timeout);
            if !said.is_silent() {
                return said;
            }
        }
        Said::default()
    }

    /// Everything that decides what it will do.
    pub fn description(&self) -> String {
        let mut words = String::with_capacity(2048);
        let Self { me, coord, clock, requests, mono, .. } = self;
        let written = write!(words, "{me} {:?} {:?} {requests} {mono:?}", coord.essence(), clock.last());
        written.expect("a string takes everything");
        words
    }

    /// What it has counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn call(&mut self, ground: &Ground, act: impl FnOnce(&mut Coord, &mut CoordCx<'_, '_>)) -> Said {
        let (mut sends, mut events) = (Vec::new(), Vec::new());
        let mut cx = Cx {
            now: now(self.mono),
            clock: &mut self.clock,
            sends: &mut sends,
            counters: &mut self.counters,
            requests: &mut self.requests,
        };
        let (table, liveness) = (&ground.table, &self.liveness);
        act(&mut self.coord, &mut CoordCx { cx: &mut cx, table, liveness, events: &mut events });
        let packet = |(to, body): (Address, Message)| Packet { from: self.me, to: to.node, body };
        let reply = |event: CoordEvent| match event {
            CoordEvent::Reply { tag, reply } => Some((tag, reply)),
            // Handed-off hints are the simulator's matter.
            CoordEvent::KeepHint { .. } | CoordEvent::Settled { .. } => None,
        };
        Said {
            packets: sends.into_iter().map(packet).collect(),
            replies: events.into_iter().filter_map(reply).collect(),
        }
    }
}
