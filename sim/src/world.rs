//! The event loop: virtual time, nodes with their clocks and disks, the network, the clients, and the faults of the plan.

use crate::client::{Client, Ended};
use crate::disk::Disk;
use crate::judge;
use crate::monitor::Monitor;
use crate::plan::{FaultKind, Plan};
use crate::random::Stream;
use crate::situations::Situations;
use samara_check::history::{History, Operation};
use samara_core::base::{
    Address, ClusterId, Config, Epoch, Instant, Member, NodeId, Now, Reply, Request, ShardId, Stamp, Ticket,
    WallTime,
};
use samara_core::io::{DiskOp, DiskResult, Input, Outbox, Output, Tag};
use samara_core::node::{Node, NodeOptions};
use samara_core::store::StoreOptions;
use samara_core::wire::{Answer, Envelope, Message, decode, encode};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};

const MS: u64 = 1_000_000;
/// The wall clock at the beginning of a run, milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// One in so many messages goes through the codec.
const CODEC_ONE_IN: u64 = 16;

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// Events executed.
    pub events: u64,
    /// Nanoseconds of virtual time.
    pub virtual_ns: u64,
    /// Operations that clients finished.
    pub operations: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Situations met.
    pub situations: Situations,
    /// Hash of all events in order.
    pub trace: u64,
}

pub(crate) enum Event {
    Deliver { to: usize, envelope: Box<Envelope> },
    Request { client: usize, tag: u64, request: Request, deadline_ms: u64 },
    Reply { client: usize, tag: u64, reply: Reply },
    GiveUp { client: usize, tag: u64 },
    Next { client: usize },
    Disk { node: usize, life: u32, ticket: Ticket, op: DiskOp },
    DiskDone { node: usize, life: u32, ticket: Ticket, result: DiskResult },
    Timer { node: usize, life: u32 },
    Fault(usize),
    Restart { node: usize },
    Resume { node: usize },
    HealLink { from: usize, to: usize, cut: bool },
    HealDisk { node: usize },
}

struct Queued {
    at: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A simulated process with its machine.
pub(crate) struct Machine {
    pub(crate) node: Option<Node>,
    pub(crate) ready: bool,
    options: NodeOptions,
    disk: Disk,
    disk_random: Stream,
    /// How often it was started.
    life: u32,
    paused: bool,
    backlog: Vec<Event>,
    offset_ms: i64,
    ppm: i64,
    slow_ms: u64,
    timer_at: u64,
    crash_at_disk: Option<(u64, u64)>,
    crash_after_ack: Option<(u64, u64)>,
}

/// A link from one node to another.
#[derive(Clone, Default)]
struct Link {
    cut: u32,
    clogged: u32,
    held: Vec<Envelope>,
}

/// The world of one run.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    pub(crate) machines: Vec<Machine>,
    links: Vec<Vec<Link>>,
    pub(crate) clients: Vec<Client>,
    tags: u64,
    /// Whom a tag at a node belongs to.
    pub(crate) requests: BTreeMap<(usize, u64), usize>,
    network: Stream,
    monitor: Monitor,
    pub(crate) history: History,
    pub(crate) situations: Situations,
    failure: Option<String>,
    events: u64,
    operations: u64,
    faults: u64,
    trace: DefaultHasher,
    out: Outbox,
    pub(crate) healed: bool,
    /// Replies to the judge's own requests.
    pub(crate) judge_replies: BTreeMap<u64, Reply>,
    logging: bool,
}

/// The judge's requests do not belong to a client.
pub(crate) const JUDGE: usize = usize::MAX;

/// Runs a plan to its end.
pub fn run(plan: &Plan) -> Report {
    let mut world = World::new(plan.clone());
    world.start();
    let storm =
        world.run_until(|world| world.clients.iter().all(|client| client.open.is_none()) && world.is_over());
    let failure = storm.and_then(|()| judge::finish(&mut world)).err();
    world.report(failure)
}

impl World {
    fn new(plan: Plan) -> Self {
        let member =
            |node: u64| Member { node: NodeId(node as u16 + 1), zone: String::new(), tokens: 150, shards: 1 };
        let members = (0..plan.nodes).map(member).collect();
        let config =
            Config { cluster: ClusterId(1), epoch: Epoch(1), members, replication: plan.replication };
        let machines = (0..plan.nodes).map(|node| Machine::new(&plan, node, &config)).collect();
        let links = vec![vec![Link::default(); plan.nodes as usize]; plan.nodes as usize];
        Self {
            now: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            machines,
            links,
            clients: (0..plan.clients.len() as u64).map(Client::new).collect(),
            tags: 0,
            requests: BTreeMap::new(),
            network: Stream::new(plan.seed, "network", 0),
            monitor: Monitor::default(),
            history: History::default(),
            situations: Situations::new(),
            failure: None,
            events: 0,
            operations: 0,
            faults: 0,
            trace: DefaultHasher::new(),
            out: Outbox::new(),
            healed: false,
            judge_replies: BTreeMap::new(),
            logging: std::env::var_os("SAMARA_SIM_LOG").is_some(),
            plan,
        }
    }

    fn start(&mut self) {
        for node in 0..self.machines.len() {
            self.boot(node);
        }
        for client in 0..self.clients.len() {
            self.push(100 * MS, Event::Next { client });
        }
        for at in 0..self.plan.faults.len() {
            self.push(self.plan.faults[at].at_ms * MS + 100 * MS, Event::Fault(at));
        }
    }

    pub(crate) fn push(&mut self, delay: u64, event: Event) {
        self.queued += 1;
        self.queue.push(Reverse(Queued { at: self.now + delay, number: self.queued, event }));
    }

    pub(crate) fn meet(&mut self, situation: &'static str) {
        *self.situations.entry(situation).or_default() += 1;
    }

    fn is_over(&self) -> bool {
        self.clients.iter().zip(&self.plan.clients).all(|(client, planned)| client.begun >= planned.len())
    }

    /// Executes events until `done`, or until there is a failure.
    pub(crate) fn run_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        while !done(self) {
            let Some(Reverse(Queued { at, event, .. })) = self.queue.pop() else {
                return Err("nothing is left to happen, and the run is not over".into());
            };
            assert!(at >= self.now, "time goes on");
            self.now = at;
            self.events += 1;
            if self.events > 20_000_000 {
                return Err("the run does not come to an end".into());
            }
            at.hash(&mut self.trace);
            self.execute(event);
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
        }
        Ok(())
    }

    fn execute(&mut self, event: Event) {
        match event {
            Event::Deliver { to, envelope } => self.on_deliver(to, envelope),
            Event::Request { client, tag, request, deadline_ms } => {
                self.on_request(client, tag, request, deadline_ms)
            }
            Event::Reply { client, tag, reply } => {
                if self.clients[client].open.as_ref().is_some_and(|open| open.tag == tag) {
                    self.log(|| format!("client {client} hears {reply:?}"));
                    let ended = self.clients[client].on_reply(reply, self.now);
                    self.on_ended(client, ended);
                }
            }
            Event::GiveUp { client, tag } => self.give_up(client, tag),
            Event::Next { client } => self.next_operation(client),
            Event::Disk { node, life, ticket, op } => self.on_disk(node, life, ticket, &op),
            Event::DiskDone { node, life, ticket, result } => {
                if self.machines[node].life == life {
                    self.input(node, Input::Disk { ticket, result });
                }
            }
            Event::Timer { node, life } => {
                if self.machines[node].life == life && self.machines[node].timer_at <= self.now {
                    self.machines[node].timer_at = u64::MAX;
                    self.input(node, Input::Timeout);
                }
            }
            Event::Fault(at) if !self.healed => self.strike(at),
            Event::Fault(_) => {}
            Event::Restart { node } => {
                if self.machines[node].node.is_none() {
                    self.boot(node);
                }
            }
            Event::Resume { node } => self.resume(node),
            Event::HealLink { from, to, cut } => self.heal_link(from, to, cut),
            Event::HealDisk { node } => self.machines[node].slow_ms = 0,
        }
    }

    fn boot(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        machine.life += 1;
        machine.ready = false;
        machine.timer_at = u64::MAX;
        machine.node = Some(Node::new(machine.options.clone()));
        self.input(node, Input::Boot);
    }

    /// Steps a node and carries out what it asks for.
    fn input(&mut self, node: usize, input: Input) {
        if self.machines[node].paused {
            let life = self.machines[node].life;
            let event = match input {
                Input::Message(envelope) => Event::Deliver { to: node, envelope: Box::new(envelope) },
                Input::Disk { ticket, result } => Event::DiskDone { node, life, ticket, result },
                Input::Timeout => Event::Timer { node, life },
                Input::Boot | Input::Client { .. } => return,
            };
            self.machines[node].backlog.push(event);
            return;
        }
        let now = self.machines[node].clock(self.now);
        let mut out = std::mem::take(&mut self.out);
        let Some(core) = &mut self.machines[node].node else {
            self.out = out;
            return;
        };
        core.step(now, input, &mut out);
        let probe = core.probe();
        let deadline = core.next_deadline();
        (node, probe.hlc.0).hash(&mut self.trace);
        let ceiling = Stamp::upto(probe.ceiling);
        for output in out.drain() {
            if self.machines[node].node.is_none() {
                break;
            }
            self.output(node, output, ceiling);
        }
        self.out = out;
        self.set_timer(node, deadline);
    }

    fn set_timer(&mut self, node: usize, deadline: Option<Instant>) {
        let machine = &mut self.machines[node];
        let Some(deadline) = deadline.filter(|_| machine.node.is_some()) else {
            return;
        };
        let at = machine.global(deadline).max(self.now + 1_000);
        if at < machine.timer_at {
            machine.timer_at = at;
            let life = machine.life;
            self.push(at - self.now, Event::Timer { node, life });
        }
    }

    fn output(&mut self, node: usize, output: Output, ceiling: Stamp) {
        match output {
            Output::Reply { tag, reply } => self.on_node_reply(node, tag, reply),
            Output::Send { to, message } => self.send(node, usize::from(to.node.0) - 1, message, ceiling),
            Output::Disk { ticket, op } => {
                let machine = &mut self.machines[node];
                if let Some((left, down_ms)) = machine.crash_at_disk {
                    machine.crash_at_disk = Some((left.saturating_sub(1), down_ms));
                    if left <= 1 {
                        machine.crash_at_disk = None;
                        self.meet("crashed_at_disk");
                        return self.crash(node, down_ms);
                    }
                }
                let life = machine.life;
                let [low, high] = self.plan.disk_us;
                let delay = machine.disk_random.between(low, high) * 1_000 + machine.slow_ms * MS;
                self.push(delay, Event::Disk { node, life, ticket, op });
            }
            Output::Ready => self.machines[node].ready = true,
            Output::Fatal { reason } => self.failure = Some(format!("node {}: {reason}", node + 1)),
        }
    }

    /// The operation takes effect here; its completion is told in the same instant, after other events.
    fn on_disk(&mut self, node: usize, life: u32, ticket: Ticket, op: &DiskOp) {
        if self.machines[node].life != life || self.machines[node].node.is_none() {
            return;
        }
        let result = self.machines[node].disk.perform(op);
        self.push(1_000, Event::DiskDone { node, life, ticket, result });
    }

    fn send(&mut self, from: usize, to: usize, envelope: Envelope, ceiling: Stamp) {
        let ids = (NodeId(from as u16 + 1), NodeId(to as u16 + 1));
        if let Err(broken) = self.monitor.on_send(ids.0, ids.1, &envelope, ceiling) {
            self.failure.get_or_insert(broken);
        }
        let acked = matches!(envelope.body, Message::Answer { answer: Answer::Accepted { .. }, .. });
        self.transmit(from, to, envelope);
        if let (true, Some((left, down_ms))) = (acked, self.machines[from].crash_after_ack) {
            self.machines[from].crash_after_ack = Some((left.saturating_sub(1), down_ms));
            if left <= 1 {
                self.machines[from].crash_after_ack = None;
                self.meet("crashed_after_ack");
                self.crash(from, down_ms);
            }
        }
    }

    fn transmit(&mut self, from: usize, to: usize, envelope: Envelope) {
        let link = &mut self.links[from][to];
        if link.cut > 0 {
            return self.meet("message_cut_off");
        }
        if link.clogged > 0 {
            return link.held.push(envelope);
        }
        if self.network.chance(self.plan.loss) && !self.healed {
            return self.meet("message_lost");
        }
        let copies = if self.network.chance(self.plan.duplicate) && !self.healed { 2 } else { 1 };
        if copies == 2 {
            self.meet("message_duplicated");
        }
        if self.network.below(CODEC_ONE_IN) == 0 {
            self.through_codec(&envelope);
        }
        for _ in 0..copies {
            let [low, high] = self.plan.latency_us;
            let mut delay = self.network.between(low, high) * 1_000;
            if self.network.chance(self.plan.spike) && !self.healed {
                delay += self.network.below(1_000 * MS);
            }
            self.push(delay, Event::Deliver { to, envelope: Box::new(envelope.clone()) });
        }
    }

    fn through_codec(&mut self, envelope: &Envelope) {
        let mut bytes = Vec::new();
        encode(envelope, &mut bytes);
        let decoded = decode(&bytes);
        if decoded.as_ref().ok().and_then(Option::as_ref) != Some(&(envelope.clone(), bytes.len())) {
            self.failure = Some(format!("the codec changed {envelope:?} into {decoded:?}"));
        }
    }

    /// With the environment variable SAMARA_SIM_LOG set, every delivery and every client's step goes to stderr.
    fn log(&self, line: impl FnOnce() -> String) {
        if self.logging {
            eprintln!("[{:>10} us] {}", self.now / 1_000, line());
        }
    }

    fn on_deliver(&mut self, to: usize, envelope: Box<Envelope>) {
        self.log(|| format!("{} -> n{}: {:?}", envelope.from, to + 1, envelope.body));
        if self.machines[to].node.is_none() {
            return;
        }
        if !self.machines[to].paused {
            let node = self.machines[to].node.as_ref();
            let peek = |key: &bytes::Bytes| node.and_then(|node| node.peek(key));
            self.monitor.on_delivery(NodeId(to as u16 + 1), &envelope, peek);
        }
        self.input(to, Input::Message(*envelope));
    }

    /// The next operation of a client's plan.
    fn next_operation(&mut self, client: usize) {
        let Some(planned) = self.plan.clients[client].get(self.clients[client].begun).cloned() else {
            return;
        };
        self.tags += 1;
        let tag = self.tags;
        let wall_ms = EPOCH_MS + self.now / MS;
        let request = self.clients[client].begin(&planned, tag, self.now, wall_ms);
        self.send_request(client, tag, request, planned.patience_ms);
    }

    fn send_request(&mut self, client: usize, tag: u64, request: Request, patience_ms: u64) {
        self.push(20_000, Event::Request { client, tag, request, deadline_ms: patience_ms });
        self.push((patience_ms + 2_000) * MS, Event::GiveUp { client, tag });
    }

    fn on_request(&mut self, client: usize, tag: u64, request: Request, deadline_ms: u64) {
        let Some(open) = &self.clients[client].open else { return };
        let node = open.node;
        if self.machines[node].node.is_none() || self.machines[node].paused {
            // The connection is refused: nothing was asked.
            let in_doubt = open.in_doubt;
            if in_doubt {
                let ended = self.clients[client].on_unknown(self.now);
                return self.on_ended(client, ended);
            }
            self.clients[client].open = None;
            return self.push_next(client);
        }
        self.log(|| format!("client {client} asks n{}: {request:?}", node + 1));
        self.requests.insert((node, tag), client);
        let deadline = self.machines[node].clock(self.now).mono.plus_ms(deadline_ms);
        self.input(node, Input::Client { tag: Tag(tag), request, deadline });
    }

    /// The judge asks a node.
    pub(crate) fn judge_asks(&mut self, node: usize, request: Request) -> u64 {
        self.tags += 1;
        let tag = self.tags;
        self.requests.insert((node, tag), JUDGE);
        let deadline = self.machines[node].clock(self.now).mono.plus_ms(2_000);
        self.input(node, Input::Client { tag: Tag(tag), request, deadline });
        tag
    }

    fn on_node_reply(&mut self, node: usize, tag: Tag, reply: Reply) {
        match self.requests.remove(&(node, tag.0)) {
            None => self.failure = Some(format!("node {} answered a request twice", node + 1)),
            Some(JUDGE) => {
                self.judge_replies.insert(tag.0, reply);
            }
            Some(client) => self.push(20_000, Event::Reply { client, tag: tag.0, reply }),
        }
    }

    fn give_up(&mut self, client: usize, tag: u64) {
        let Some(open) = self.clients[client].open.as_ref().filter(|open| open.tag == tag) else {
            return;
        };
        let machine = &self.machines[open.node];
        if machine.node.is_some() && !machine.paused && self.requests.contains_key(&(open.node, tag)) {
            let was_paused_ms =
                self.plan.faults.iter().any(|fault| matches!(fault.kind, FaultKind::Pause { .. }));
            let drifts =
                self.plan.faults.iter().any(|fault| matches!(fault.kind, FaultKind::ClockDrift { .. }));
            if !was_paused_ms && !drifts {
                self.failure = Some(format!(
                    "node {} did not answer a request within its deadline and two seconds",
                    open.node + 1
                ));
            }
        }
        let ended = self.clients[client].on_unknown(self.now);
        self.on_ended(client, ended);
    }

    fn on_ended(&mut self, client: usize, ended: Ended) {
        match ended {
            Ended::Over(operation) => {
                self.record(operation);
                self.push_next(client);
            }
            Ended::Again => {
                self.tags += 1;
                let tag = self.tags;
                let patience =
                    self.clients[client].open.as_ref().map_or(500, |open| open.planned.patience_ms);
                if let Some(request) = self.clients[client].again(tag) {
                    self.send_request(client, tag, request, patience);
                }
            }
            Ended::Broken(broken) => self.failure = Some(broken),
        }
    }

    fn record(&mut self, operation: Option<Operation>) {
        self.operations += 1;
        if let Some(operation) = operation {
            if operation.outcome == samara_check::history::Outcome::Unknown {
                self.meet("outcome_unknown");
            }
            self.history.operations.push(operation);
        }
    }

    fn push_next(&mut self, client: usize) {
        let after = self.plan.clients[client].get(self.clients[client].begun).map_or(0, |next| next.after_us);
        self.push(after * 1_000 + 1_000, Event::Next { client });
    }

    /// The power of a node fails.
    pub(crate) fn crash(&mut self, node: usize, down_ms: u64) {
        self.log(|| format!("n{} loses its power for {down_ms} ms", node + 1));
        let keep = self.plan.keep_sectors;
        let machine = &mut self.machines[node];
        if let Some(core) = machine.node.take() {
            for (name, count) in core.counters().iter().filter(|(_, count)| *count > 0) {
                *self.situations.entry(name).or_default() += count;
            }
        } else {
            return;
        }
        let lost = machine.disk.crash(keep, &mut machine.disk_random);
        (machine.paused, machine.ready) = (false, false);
        machine.backlog.clear();
        *self.situations.entry("sectors_lost").or_default() += lost;
        self.meet("crashed");
        if self.machines.iter().all(|machine| machine.node.is_none()) {
            self.meet("all_nodes_down");
        }
        self.monitor.on_crash(NodeId(node as u16 + 1));
        self.push(down_ms * MS, Event::Restart { node });
        let broken: Vec<usize> = self
            .requests
            .extract_if((node, 0)..(node + 1, 0), |_, _| true)
            .map(|(_, client)| client)
            .collect();
        for client in broken {
            if client != JUDGE && self.clients[client].open.as_ref().is_some_and(|open| open.node == node) {
                let ended = self.clients[client].on_unknown(self.now);
                self.on_ended(client, ended);
            }
        }
    }

    fn strike(&mut self, at: usize) {
        self.faults += 1;
        match self.plan.faults[at].kind.clone() {
            FaultKind::Crash { node, down_ms } => self.crash(node as usize, down_ms),
            FaultKind::CrashAtDisk { node, nth, down_ms } => {
                self.machines[node as usize].crash_at_disk = Some((nth, down_ms));
            }
            FaultKind::CrashAfterAck { node, nth, down_ms } => {
                self.machines[node as usize].crash_after_ack = Some((nth, down_ms));
            }
            FaultKind::CrashAll { down_ms } => {
                (0..self.machines.len()).for_each(|node| self.crash(node, down_ms));
            }
            FaultKind::Pause { node, ms } => {
                let machine = &mut self.machines[node as usize];
                machine.paused = machine.node.is_some();
                self.push(ms * MS, Event::Resume { node: node as usize });
            }
            FaultKind::Partition { side, ms, one_way } => self.partition(&side, ms, one_way),
            FaultKind::Clog { from, to, ms } => {
                let (from, to) = (from as usize, to as usize);
                self.links[from][to].clogged += 1;
                self.push(ms * MS, Event::HealLink { from, to, cut: false });
            }
            FaultKind::ClockStep { node, by_ms } => self.machines[node as usize].offset_ms += by_ms,
            FaultKind::ClockDrift { node, ppm } => self.machines[node as usize].drift(self.now, ppm),
            FaultKind::SlowDisk { node, ms, for_ms } => {
                self.machines[node as usize].slow_ms = ms;
                self.push(for_ms * MS, Event::HealDisk { node: node as usize });
            }
        }
    }

    fn partition(&mut self, side: &[u64], ms: u64, one_way: bool) {
        let count = self.machines.len();
        let inside = |node: usize| side.contains(&(node as u64));
        for from in 0..count {
            for to in 0..count {
                if inside(from) != inside(to) && (inside(from) || !one_way) {
                    self.links[from][to].cut += 1;
                    self.push(ms * MS, Event::HealLink { from, to, cut: true });
                }
            }
        }
    }

    fn heal_link(&mut self, from: usize, to: usize, cut: bool) {
        let link = &mut self.links[from][to];
        if cut {
            link.cut = link.cut.saturating_sub(1);
            return;
        }
        link.clogged = link.clogged.saturating_sub(1);
        if link.clogged == 0 {
            for envelope in std::mem::take(&mut link.held) {
                self.push(50_000, Event::Deliver { to, envelope: Box::new(envelope) });
            }
        }
    }

    fn resume(&mut self, node: usize) {
        if !std::mem::take(&mut self.machines[node].paused) {
            return;
        }
        for event in std::mem::take(&mut self.machines[node].backlog) {
            self.push(1_000, event);
        }
    }

    /// The storm is over: everything works again, and every node is up.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        for from in 0..self.machines.len() {
            for to in 0..self.machines.len() {
                self.links[from][to].cut = 0;
                self.links[from][to].clogged = 1;
                self.heal_link(from, to, false);
            }
        }
        for node in 0..self.machines.len() {
            let now = self.now;
            let machine = &mut self.machines[node];
            machine.drift(now, 0);
            (machine.offset_ms, machine.slow_ms) = (0, 0);
            (machine.crash_at_disk, machine.crash_after_ack) = (None, None);
            self.resume(node);
            if self.machines[node].node.is_none() {
                self.boot(node);
            }
        }
    }

    fn report(mut self, failure: Option<String>) -> Report {
        for machine in &self.machines {
            for (name, count) in machine.node.iter().flat_map(|node| node.counters().iter()) {
                if count > 0 {
                    *self.situations.entry(name).or_default() += count;
                }
            }
        }
        Report {
            failure,
            events: self.events,
            virtual_ns: self.now,
            operations: self.operations,
            faults: self.faults,
            situations: self.situations,
            trace: self.trace.finish(),
        }
    }
}

impl Machine {
    fn new(plan: &Plan, node: u64, config: &Config) -> Self {
        let mut random = Stream::new(plan.seed, "node", node);
        let options = NodeOptions {
            address: Address { node: NodeId(node as u16 + 1), shard: ShardId(0) },
            config: config.clone(),
            seed: random.seed(),
            store: StoreOptions {
                memtable_bytes: plan.memtable_bytes as usize,
                wal_segment_bytes: 32 << 10,
                block_bytes: 512,
                cache_bytes: 4 << 10,
                ..StoreOptions::default()
            },
            promises_max: plan.promises as usize,
        };
        Self {
            node: None,
            ready: false,
            options,
            disk: Disk::default(),
            disk_random: Stream::new(plan.seed, "disk", node),
            life: 0,
            paused: false,
            backlog: Vec::new(),
            offset_ms: 0,
            ppm: 0,
            slow_ms: 0,
            timer_at: u64::MAX,
            crash_at_disk: None,
            crash_after_ack: None,
        }
    }

    /// The node's clocks at a time of the world. Drift moves the wall clock only: a monotonic clock is used for nothing
    /// but timers.
    fn clock(&self, now: u64) -> Now {
        let drifted = (now as i128 * i128::from(self.ppm) / 1_000_000) as i64 / MS as i64;
        let wall = (EPOCH_MS + now / MS) as i64 + self.offset_ms + drifted;
        Now { mono: Instant(now), wall: WallTime(wall.max(0) as u64) }
    }

    fn global(&self, instant: Instant) -> u64 {
        instant.0
    }

    /// Changes the rate of the wall clock without a step.
    fn drift(&mut self, now: u64, ppm: i64) {
        let drifted = |ppm: i64| (now as i128 * i128::from(ppm) / 1_000_000) as i64 / MS as i64;
        self.offset_ms += drifted(self.ppm) - drifted(ppm);
        self.ppm = ppm;
    }
}
