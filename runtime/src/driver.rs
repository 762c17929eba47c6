//! One driver per shard: it owns the core's `Node`, feeds it what has come, and carries out what it asks for.

use crate::disk::Disk;
use crate::peers::Peers;
use crate::stats::Stats;
use samara_core::base::{Instant, Now, Reply, Request, Ticket, WallTime};
use samara_core::io::{DiskResult, Input, Outbox, Output, Tag};
use samara_core::node::{Node, NodeOptions};
use samara_core::wire::Envelope;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

/// Events taken at a time before the clocks are read again.
const BATCH: usize = 256;
/// How often the core's counters are told.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What a driver waits for.
#[derive(Debug)]
pub enum Event {
    /// A client asks; the reply goes to the sender.
    Client(Request, oneshot::Sender<Reply>),
    /// A peer's frame.
    Peer(Envelope),
    /// A disk operation ended.
    Disk {
        /// Which.
        ticket: Ticket,
        /// How.
        result: DiskResult,
    },
    /// The process ends: answer what is in flight, then stop.
    Stop,
}

/// A handle on a shard.
pub type Shard = UnboundedSender<Event>;

/// The driver of a shard.
#[derive(Debug)]
pub struct Driver {
    node: Node,
    shard: u16,
    events: UnboundedReceiver<Event>,
    disk: Disk,
    peers: Peers,
    stats: Arc<Stats>,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
    tags: u64,
    origin: tokio::time::Instant,
    out: Outbox,
    told: Option<std::time::Instant>,
    stopping: bool,
}

/// Why a driver ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// The core cannot go on.
    Fatal(String),
}

impl Driver {
    /// A driver that has not begun.
    pub fn new(
        options: NodeOptions,
        events: UnboundedReceiver<Event>,
        disk: Disk,
        peers: Peers,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            shard: options.address.shard.0,
            node: Node::new(options),
            events,
            disk,
            peers,
            stats,
            waiting: HashMap::new(),
            tags: 0,
            origin: tokio::time::Instant::now(),
            out: Outbox::new(),
            told: None,
            stopping: false,
        }
    }

    fn now(&self) -> Now {
        let mono = Instant(self.origin.elapsed().as_nanos() as u64 + 1);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono, wall: WallTime(wall.as_millis() as u64) }
    }

    /// Runs until stopped or broken. `ready` is told when clients are served.
    pub async fn run(mut self, ready: impl Fn()) -> End {
        let now = self.now();
        if let Some(end) = self.step(now, Input::Boot, &ready) {
            return end;
        }
        loop {
            if self.stopping && self.waiting.is_empty() {
                return End::Stopped;
            }
            let wake = self.node.next_deadline().map(|at| self.origin + Duration::from_nanos(at.0));
            let far = self.origin + Duration::from_secs(1 << 32);
            let first = tokio::select! {
                event = self.events.recv() => event,
                () = tokio::time::sleep_until(wake.unwrap_or(far)) => None,
            };
            let now = self.now();
            if wake.is_some_and(|wake| wake <= tokio::time::Instant::now())
                && let Some(end) = self.step(now, Input::Timeout, &ready)
            {
                return end;
            }
            let mut next = first;
            for _ in 0..BATCH {
                let Some(event) = next.or_else(|| self.events.try_recv().ok()) else {
                    break;
                };
                if let Some(end) = self.take(now, event, &ready) {
                    return end;
                }
                next = None;
            }
            self.peers.flush();
            self.tell();
        }
    }

    fn take(&mut self, now: Now, event: Event, ready: &impl Fn()) -> Option<End> {
        let input = match event {
            Event::Client(request, reply) => {
                self.tags += 1;
                self.waiting.insert(self.tags, reply);
                let deadline = now.mono.plus_ms(samara_core::base::limits::REQUEST_DEADLINE_MS);
                Input::Client { tag: Tag(self.tags), request, deadline }
            }
            Event::Peer(envelope) => Input::Message(envelope),
            Event::Disk { ticket, result } => Input::Disk { ticket, result },
            Event::Stop => {
                self.stopping = true;
                return None;
            }
        };
        self.step(now, input, ready)
    }

    fn step(&mut self, now: Now, input: Input, ready: &impl Fn()) -> Option<End> {
        self.node.step(now, input, &mut self.out);
        for output in self.out.drain() {
            match output {
                Output::Reply { tag, reply } => {
                    if let Some(waiting) = self.waiting.remove(&tag.0) {
                        // A client that has gone does not want its answer.
                        let _gone = waiting.send(reply);
                    }
                }
                Output::Send { to, message } => self.peers.send(to, message),
                Output::Disk { ticket, op } => self.disk.submit(ticket, op),
                Output::Ready => ready(),
                Output::Fatal { reason } => return Some(End::Fatal(reason)),
            }
        }
        None
    }

    fn tell(&mut self) {
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(std::time::Instant::now());
        self.stats.tell(self.shard, self.node.counters().iter().collect());
    }
}
