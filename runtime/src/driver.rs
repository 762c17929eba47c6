//! One driver per shard: it owns the core's `Node`, feeds it what has come, and carries out what it asks for.

use crate::disk::Disk;
use crate::gauges::{Told, Trouble};
use crate::inbox::{Batch, Outlet, Shard};
use crate::peers::Peers;
use crate::stats::Stats;
use samara_core::base::limits::REQUEST_DEADLINE_MS;
use samara_core::base::{Instant, Now, WallTime};
use samara_core::io::{Input, Outbox, Output, Tag};
use samara_core::node::{Node, NodeOptions, Status};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often the core's counters are told.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// A wake-up when the core wants none.
const IDLE: Duration = Duration::from_hours(1);

/// The driver of a shard.
#[derive(Debug)]
pub struct Driver<D> {
    node: Node,
    shard: u16,
    inbox: Shard,
    disk: D,
    peers: Peers,
    stats: Arc<Stats>,
    asked: Asked,
    origin: tokio::time::Instant,
    out: Outbox,
    /// Connections that have been given answers in this batch.
    touched: Vec<Arc<Outlet>>,
    told: tokio::time::Instant,
    /// The longest step so far.
    longest_step: Duration,
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

/// Who waits for an answer, by tag.
#[derive(Debug, Default)]
struct Asked {
    waiting: Vec<Option<(Arc<Outlet>, u32)>>,
    free: Vec<u32>,
}

impl Asked {
    fn add(&mut self, outlet: Arc<Outlet>, number: u32) -> Tag {
        let at = self.free.pop().unwrap_or_else(|| {
            self.waiting.push(None);
            self.waiting.len() as u32 - 1
        });
        self.waiting[at as usize] = Some((outlet, number));
        Tag(u64::from(at) + 1)
    }

    fn take(&mut self, tag: Tag) -> (Arc<Outlet>, u32) {
        let at = tag.0 - 1;
        let waiting = self.waiting[at as usize].take();
        self.free.push(at as u32);
        waiting.expect("the core answers each request once")
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.waiting.len()
    }
}

impl<D: Disk> Driver<D> {
    /// A driver that has not begun.
    pub fn new(options: NodeOptions, inbox: Shard, disk: D, peers: Peers, stats: Arc<Stats>) -> Self {
        let origin = tokio::time::Instant::now();
        Self {
            shard: options.address.shard.0,
            node: Node::new(options),
            inbox,
            disk,
            peers,
            stats,
            asked: Asked::default(),
            origin,
            out: Outbox::new(),
            touched: Vec::new(),
            told: origin,
            longest_step: Duration::ZERO,
            stopping: false,
        }
    }

    fn now(&self) -> Now {
        let mono = Instant(self.origin.elapsed().as_nanos() as u64 + 1);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono, wall: WallTime(wall.as_millis() as u64) }
    }

    /// Runs until stopped or broken; gives the disk back. `ready` is told when clients are served.
    pub async fn run(mut self, ready: impl Fn()) -> (End, D) {
        let now = self.now();
        let mut end = self.step(now, Input::Boot, &ready);
        let mut batch = Batch::default();
        while end.is_none() {
            let wake = self.node.next_deadline().map(|at| self.origin + Duration::from_nanos(at.0));
            let wake = wake.unwrap_or_else(|| tokio::time::Instant::now() + IDLE);
            if self.inbox.is_empty() {
                tokio::select! {
                    biased;
                    () = self.inbox.wait() => {}
                    () = tokio::time::sleep_until(wake) => {}
                }
            } else {
                // Other threads keep the driver busy: the connections on this one must have their turn.
                tokio::task::yield_now().await;
            }
            self.inbox.take(&mut batch);
            end = self.work(&mut batch, &ready);
            self.peers.flush();
            self.touched.drain(..).for_each(|outlet| outlet.wake());
            self.tell();
            if self.stopping && self.asked.is_empty() {
                end = end.or(Some(End::Stopped));
            }
        }
        (end.unwrap_or(End::Stopped), self.disk)
    }

    /// Works off a batch. Completions first: they answer clients and make room.
    fn work(&mut self, batch: &mut Batch, ready: &impl Fn()) -> Option<End> {
        let now = self.now();
        self.stopping |= std::mem::take(&mut batch.stop);
        let mut end = None;
        if std::mem::take(&mut batch.scrub) {
            end = self.step(now, Input::Scrub, ready);
        }
        if let Some((first, last)) = batch.accept_loss.take() {
            let accepted = self.step(now, Input::AcceptLoss { first, last }, ready);
            end = end.or(accepted);
        }
        for (ticket, result) in batch.disk.drain(..) {
            end = end.or_else(|| self.step(now, Input::Disk { ticket, result }, ready));
        }
        for envelope in batch.peers.drain(..) {
            end = end.or_else(|| self.step(now, Input::Message(envelope), ready));
        }
        for (outlet, number, request) in batch.clients.drain(..) {
            if end.is_some() {
                continue;
            }
            let tag = self.asked.add(outlet, number);
            let deadline = now.mono.plus_ms(REQUEST_DEADLINE_MS);
            end = self.step(now, Input::Client { tag, request, deadline }, ready);
        }
        if end.is_none() && self.node.next_deadline().is_some_and(|at| at <= now.mono) {
            end = self.step(now, Input::Timeout, ready);
        }
        end
    }

    fn step(&mut self, now: Now, input: Input, ready: &impl Fn()) -> Option<End> {
        let began = std::time::Instant::now();
        self.node.step(now, input, &mut self.out);
        self.longest_step = self.longest_step.max(began.elapsed());
        let (mut end, mut serves) = (None, false);
        for output in self.out.drain() {
            match output {
                Output::Reply { tag, reply } => {
                    let (outlet, number) = self.asked.take(tag);
                    if outlet.push(number, reply) {
                        self.touched.push(outlet);
                    }
                }
                Output::Send { to, message } => self.peers.send(to, &message),
                Output::Disk { ticket, op } => self.disk.submit(ticket, op),
                Output::Ready => serves = true,
                Output::Fatal { reason } => {
                    end = Some(End::Fatal(reason));
                    break;
                }
                Output::Notice { text } => {
                    tracing::warn!("shard {}: {text}", self.shard);
                    // The gauges and the status say so at once, too.
                    self.told = self.origin;
                }
            }
        }
        if serves {
            // Who asks a node that is ready is told of its damage.
            self.tell_now();
            ready();
        }
        end
    }

    fn tell(&mut self) {
        if tokio::time::Instant::now() >= self.told {
            self.tell_now();
        }
    }

    fn tell_now(&mut self) {
        self.told = tokio::time::Instant::now() + TELL_EVERY;
        self.stats.tell(self.shard, self.node.counters().iter().collect());
        let status = self.node.status(self.now().mono);
        let lines = changes(&status, self.stats.gauges.disk_trouble(self.shard));
        for line in lines {
            tracing::warn!("shard {}: {line}", self.shard);
        }
        let told = Told { status, step_max_us: self.longest_step.as_micros() as u64 };
        self.stats.gauges.tell(self.shard, told);
        self.stats.tell_held_back(self.shard, self.node.held_back());
        self.stats.tell_suspects(self.shard, self.node.suspect_probe());
    }
}

/// What an operator should hear of the disk, now that a shard says so of itself and said that before.
fn changes(status: &Status, before: Trouble) -> Vec<String> {
    let now = Trouble::of(status);
    let wait = status.disk_wait.map_or_else(
        || "an operation".to_string(),
        |wait| format!("an operation on {} (to {}) for {} ms", wait.file, wait.what, wait.for_ms),
    );
    let mut lines = Vec::new();
    match (before.is_aside, now.is_aside) {
        (false, true) => {
            lines.push(format!("the disk has not ended {wait}; the shard steps aside until it does"));
        }
        (true, false) => lines.push("the disk answers again; the shard takes part again".into()),
        _ => {}
    }
    match (before.is_slow, now.is_slow) {
        (false, true) if !now.is_aside => lines.push(match status.disk_wait {
            Some(_) => format!("the disk is slow: it has not ended {wait}"),
            None => "the disk is slow: an operation took long".into(),
        }),
        (true, false) => lines.push("the disk is no longer slow".into()),
        _ => {}
    }
    match (before.is_full, now.is_full) {
        (false, true) => lines.push(
            "the disk is full, or has no room for the reserve: new values are refused until there is space; reads and deletes go on"
                .into(),
        ),
        (true, false) => lines.push("the disk has space again; new values are taken again".into()),
        _ => {}
    }
    lines
}
