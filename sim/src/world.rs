//! The event loop: virtual time, nodes with their clocks and disks, the network, the clients, and the faults of the plan.

use crate::client::{Client, Ended};
use crate::deed::Deed;
use crate::impostors::Copy;
use crate::judge;
use crate::machine::{EPOCH_MS, Machine};
use crate::monitor::Monitor;
use crate::network::Link;
use crate::order::{self, Witness};
use crate::plan::Plan;
use crate::random::Stream;
use crate::situations::Situations;
use crate::suspects::Suspects;
use samara_check::history::{Answer, Level, Outcome};
use samara_core::base::{
    Address, ClusterId, Config, Counter, Epoch, Instant, Member, NodeId, Reply, Request, Response, Stamp,
    StartNumber, Ticket,
};
use samara_core::io::{DiskResult, Input, Outbox, Output, Tag};
use samara_core::wire::Envelope;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};

pub(crate) const MS: u64 = 1_000_000;
/// How often an operation of a hung disk is looked at again, milliseconds.
const HUNG_LOOK_MS: u64 = 10;

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
    Disk { node: usize, life: u32, ticket: Ticket },
    DiskDone { node: usize, life: u32, ticket: Ticket, result: DiskResult },
    Timer { node: usize, life: u32 },
    Fault(usize),
    Restart { node: usize },
    Resume { node: usize },
    HealLink { from: usize, to: usize, cut: bool },
    HealDisk { node: usize },
    Thaw { node: usize },
    WrongDisk { node: usize, copy: Option<Box<Copy>>, others: bool, ms: u64 },
    RightDisk { node: usize },
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

/// The world of one run.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    pub(crate) machines: Vec<Machine>,
    /// All keys of the run.
    pub(crate) keys: Vec<bytes::Bytes>,
    pub(crate) links: Vec<Vec<Link>>,
    pub(crate) clients: Vec<Client>,
    tags: u64,
    /// Whom a tag at a node belongs to.
    pub(crate) requests: BTreeMap<(usize, u64), usize>,
    /// What chance does on each link: of its own, so that a message less on one does not shift the others.
    pub(crate) network: Vec<Vec<Stream>>,
    pub(crate) monitor: Monitor,
    pub(crate) suspects: Suspects,
    /// The lives of nodes on other directories than their own.
    pub(crate) strange: BTreeSet<(Address, StartNumber)>,
    /// Repairs that came below the watermark of their node.
    pub(crate) late_repairs: Vec<(usize, bytes::Bytes, Stamp)>,
    /// What the clients saw, with the versions that answers named.
    pub(crate) witnesses: Vec<Witness>,
    pub(crate) situations: Situations,
    pub(crate) failure: Option<String>,
    events: u64,
    operations: u64,
    pub(crate) faults: u64,
    trace: DefaultHasher,
    pub(crate) out: Outbox,
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
    let storm = world.run_until(|world| world.clients.iter().all(Client::is_idle) && world.is_over());
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
        let keys = judge::keys(&plan);
        let machines = (0..plan.nodes).map(|node| Machine::new(&plan, node, &config)).collect();
        let stream = |from, to| Stream::new(plan.seed, "network", from << 32 | to);
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
            network: (0..plan.nodes)
                .map(|from| (0..plan.nodes).map(|to| stream(from, to)).collect())
                .collect(),
            monitor: Monitor::new(&config),
            late_repairs: Vec::new(),
            suspects: Suspects::new(&config, keys.iter().cloned()),
            strange: BTreeSet::new(),
            witnesses: Vec::new(),
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
            keys,
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
                self.on_request(client, tag, request, deadline_ms);
            }
            Event::Reply { client, tag, reply } => {
                if self.clients[client].open(tag).is_some() {
                    self.log(|| format!("client {client} hears {reply:?}"));
                    let ended = self.clients[client].on_reply(tag, reply, self.now);
                    self.on_ended(client, ended);
                }
            }
            Event::GiveUp { client, tag } => self.give_up(client, tag),
            Event::Next { client } => self.next_operation(client),
            Event::Disk { node, life, ticket } => self.on_disk(node, life, ticket),
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
            Event::HealDisk { node } => self.heal_disk(node),
            Event::Thaw { node } => self.machines[node].clock.freeze(self.now, false),
            Event::WrongDisk { node, copy, others, ms } => self.wrong_disk(node, copy, others, ms),
            Event::RightDisk { node } => self.right_disk(node),
        }
    }

    pub(crate) fn boot(&mut self, node: usize) {
        self.machines[node].boot();
        self.input(node, Input::Boot);
    }

    /// Steps a node and carries out what it asks for.
    pub(crate) fn input(&mut self, node: usize, input: Input) {
        if self.machines[node].paused {
            let life = self.machines[node].life;
            let event = match input {
                Input::Message(envelope) => Event::Deliver { to: node, envelope: Box::new(envelope) },
                Input::Disk { ticket, result } => Event::DiskDone { node, life, ticket, result },
                Input::Timeout => Event::Timer { node, life },
                Input::Boot | Input::Client { .. } | Input::Scrub | Input::AcceptLoss { .. } => return,
            };
            self.machines[node].backlog.push(event);
            return;
        }
        let now = self.machines[node].clock.at(self.now);
        let mut out = std::mem::take(&mut self.out);
        let Some(core) = &mut self.machines[node].node else {
            self.out = out;
            return;
        };
        let is_disk = matches!(input, Input::Disk { .. });
        let merges = matches!(input, Input::Message(_) | Input::Client { .. });
        let before = core.probe().hlc;
        let stored = core.counters().value(Counter::RepairStored);
        core.step(now, input, &mut out);
        let stored = core.counters().value(Counter::RepairStored) > stored;
        let probe = core.probe();
        if let (true, Err(broken)) =
            (merges, Monitor::on_clock(NodeId(node as u16 + 1), before, probe.hlc, now.wall.0))
        {
            self.failure.get_or_insert(broken);
        }
        let deadline = core.next_deadline();
        (node, probe.hlc.0).hash(&mut self.trace);
        if self.machines[node].right.is_none() {
            if is_disk {
                self.watch_watermarks(node);
            }
            self.watch_late_repairs(node, stored);
            self.watch_suspects(node);
            self.watch_impostors(node);
        }
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
        let at = machine.clock.when(deadline).max(self.now + 1_000);
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
                machine.in_flight.insert(ticket, op);
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
                self.push(delay, Event::Disk { node, life, ticket });
            }
            Output::Ready => self.machines[node].ready = true,
            Output::Fatal { reason } => self.on_fatal(node, &reason),
            Output::Notice { text } => self.log(|| format!("n{}: {text}", node + 1)),
        }
    }

    /// The operation takes effect here; its completion is told in the same instant, after other events.
    fn on_disk(&mut self, node: usize, life: u32, ticket: Ticket) {
        if self.machines[node].life != life || self.machines[node].node.is_none() {
            return;
        }
        let machine = &mut self.machines[node];
        if machine.hung {
            machine.may_end = true;
            return self.push(HUNG_LOOK_MS * MS, Event::Disk { node, life, ticket });
        }
        let Some(op) = machine.in_flight.remove(&ticket) else { return };
        let (result, is_broken) = machine.disk.try_perform(&op);
        if is_broken {
            machine.may_end = true;
            self.meet_broken(&result, &op);
        }
        self.push(1_000, Event::DiskDone { node, life, ticket, result });
    }

    /// With the environment variable SAMARA_SIM_LOG set, every delivery and every client's step goes to stderr.
    pub(crate) fn log(&self, line: impl FnOnce() -> String) {
        if self.logging {
            eprintln!("[{:>10} us] {}", self.now / 1_000, line());
        }
    }

    /// The next step of a client's command, or the next command of its plan.
    fn next_operation(&mut self, client: usize) {
        if !self.clients[client].open.is_empty() {
            return;
        }
        let wall_ms = EPOCH_MS + self.now / MS;
        if let Some(patience_ms) =
            self.clients[client].walking.planned.as_ref().map(|planned| planned.patience_ms)
        {
            self.tags += 1;
            let tag = self.tags;
            if let Some(request) = self.clients[client].go_on(tag, self.now, wall_ms) {
                return self.send_request(client, tag, request, patience_ms);
            }
        }
        let Some(planned) = self.plan.clients[client].get(self.clients[client].begun).cloned() else {
            return;
        };
        let space = (self.plan.keys, self.plan.weak_keys);
        let requests = self.clients[client].begin(&planned, space, &mut self.tags, self.now, wall_ms);
        if requests.len() > 1 {
            self.meet("asked_at_once");
        }
        for (tag, request) in requests {
            self.send_request(client, tag, request, planned.patience_ms);
        }
    }

    fn send_request(&mut self, client: usize, tag: u64, request: Request, patience_ms: u64) {
        self.push(20_000, Event::Request { client, tag, request, deadline_ms: patience_ms });
        self.push((patience_ms + 2_000) * MS, Event::GiveUp { client, tag });
    }

    fn on_request(&mut self, client: usize, tag: u64, request: Request, deadline_ms: u64) {
        let Some(open) = self.clients[client].open(tag) else { return };
        let node = open.node;
        let machine = &self.machines[node];
        if machine.node.is_none() || machine.paused || machine.right.is_some() {
            // The connection is refused: nothing was asked.
            let in_doubt = open.in_doubt;
            if in_doubt {
                let ended = self.clients[client].on_unknown(tag, self.now);
                return self.on_ended(client, ended);
            }
            self.clients[client].on_refused(tag);
            return self.push_next(client);
        }
        self.log(|| format!("client {client} asks n{}: {request:?}", node + 1));
        self.requests.insert((node, tag), client);
        let deadline = self.machines[node].clock.at(self.now).mono.plus_ms(deadline_ms);
        self.input(node, Input::Client { tag: Tag(tag), request, deadline });
    }

    /// The judge asks a node.
    pub(crate) fn judge_asks(&mut self, node: usize, request: Request) -> u64 {
        self.tags += 1;
        let tag = self.tags;
        self.requests.insert((node, tag), JUDGE);
        let deadline = self.machines[node].clock.at(self.now).mono.plus_ms(2_000);
        self.input(node, Input::Client { tag: Tag(tag), request, deadline });
        tag
    }

    fn on_node_reply(&mut self, node: usize, tag: Tag, reply: Reply) {
        match self.requests.remove(&(node, tag.0)) {
            None => self.failure = Some(format!("node {} answered a request twice", node + 1)),
            Some(JUDGE) => {
                self.judge_replies.insert(tag.0, reply);
            }
            Some(client) => {
                self.watch_absence(client, tag.0, &reply);
                self.push(20_000, Event::Reply { client, tag: tag.0, reply });
            }
        }
    }

    fn watch_absence(&mut self, client: usize, tag: u64, reply: &Reply) {
        let (Some(open), Ok(Response::Absent { version })) = (self.clients[client].open(tag), &reply.result)
        else {
            return;
        };
        if open.operation.level == Level::Strong
            && let Err(broken) = self.monitor.on_absent(&open.operation.key, *version)
        {
            self.failure.get_or_insert(broken);
        }
    }

    fn give_up(&mut self, client: usize, tag: u64) {
        let Some(open) = self.clients[client].open(tag) else {
            return;
        };
        let machine = &self.machines[open.node];
        if machine.node.is_some() && !machine.paused && self.requests.contains_key(&(open.node, tag)) {
            // A node that stood still meanwhile is excused.
            if machine.resumed_at <= open.asked_at {
                self.failure = Some(format!(
                    "node {} did not answer a request within its deadline and two seconds",
                    open.node + 1
                ));
            }
        }
        let ended = self.clients[client].on_unknown(tag, self.now);
        self.on_ended(client, ended);
    }

    pub(crate) fn on_ended(&mut self, client: usize, ended: Ended) {
        match ended {
            Ended::Over(witness) => {
                self.record(witness);
                self.push_next(client);
            }
            Ended::Again(before) => {
                self.tags += 1;
                let tag = self.tags;
                let patience = self.clients[client].open(before).map_or(500, |open| open.planned.patience_ms);
                let nodes = self.machines.len();
                if let Some(request) = self.clients[client].again(before, tag, self.now, nodes) {
                    self.send_request(client, tag, request, patience);
                }
            }
            Ended::Broken(broken) => self.failure = Some(broken),
        }
    }

    fn record(&mut self, witness: Option<Box<Witness>>) {
        self.operations += 1;
        if let Some(witness) = witness {
            let operation = &witness.operation;
            // What a command on several keys takes along is written elsewhere by others, too.
            if let (Outcome::Ok(Answer::Applied(false)), Some(value)) =
                (&operation.outcome, order::written_value(&operation.function))
                && witness.deed == Deed::Plain
                && let Err(broken) = self.monitor.on_denied(&operation.key, value)
            {
                self.failure.get_or_insert(broken);
            }
            if witness.operation.outcome == Outcome::Unknown {
                self.meet("outcome_unknown");
            }
            self.witnesses.push(*witness);
        }
    }

    fn push_next(&mut self, client: usize) {
        if !self.clients[client].open.is_empty() {
            return;
        }
        if self.clients[client].walking.next.is_some() {
            return self.push(1_000, Event::Next { client });
        }
        let after = self.plan.clients[client].get(self.clients[client].begun).map_or(0, |next| next.after_us);
        self.push(after * 1_000 + 1_000, Event::Next { client });
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
