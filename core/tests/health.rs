//! A node whose disk does not answer: it steps aside, comes back when the disk does, and stops when that takes too long.

use bytes::Bytes;
use samara_core::base::{
    Address, Body, ClusterId, Config, Epoch, Failure, Hlc, Instant, KeyOp, Level, Member, NodeId, Now,
    Request, ShardId, StartNumber, Ticket, WallTime,
};
use samara_core::io::{
    DiskError, DiskErrorKind, DiskOp, DiskResult, FileInfo, FileName, Input, Outbox, Output, Tag,
};
use samara_core::node::{Node, NodeOptions};
use samara_core::store::StoreOptions;
use samara_core::wire::{Envelope, Message};
use std::collections::BTreeMap;

const SLOW_MS: u64 = 1_000;
const HUNG_MS: u64 = 5_000;

/// A node, its files, and what it said.
struct Machine {
    node: Node,
    files: BTreeMap<FileName, Vec<u8>>,
    /// The disk takes operations and ends none.
    hangs: bool,
    waiting: Vec<(Ticket, DiskOp)>,
    now_ms: u64,
    said: Vec<Output>,
}

impl Machine {
    /// A node that has not been booted, with an empty disk.
    fn new() -> Self {
        let member = |node| Member { node: NodeId(node), zone: String::new(), tokens: 150, shards: 1 };
        let members = (1..=3).map(member).collect();
        let store = StoreOptions { disk_slow_ms: SLOW_MS, disk_hung_ms: HUNG_MS, ..StoreOptions::default() };
        let store = StoreOptions { wal_segment_bytes: 64 << 10, ..store };
        let node = Node::new(NodeOptions {
            address: Address { node: NodeId(1), shard: ShardId(0) },
            config: Config { cluster: ClusterId(9), epoch: Epoch(1), members, replication: 3 },
            seed: [1; 32],
            store,
            promises_max: 64,
            floors: samara_core::rules::floor::Floors::default(),
        });
        let (files, waiting, said) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { node, files, hangs: false, waiting, now_ms: 1_000_000, said }
    }

    fn started() -> Self {
        let mut machine = Self::new();
        machine.input(Input::Boot);
        assert!(machine.said.contains(&Output::Ready));
        machine.said.clear();
        machine
    }

    fn now(&self) -> Now {
        Now { mono: Instant(self.now_ms * 1_000_000), wall: WallTime(self.now_ms) }
    }

    fn input(&mut self, input: Input) {
        let (mut out, now) = (Outbox::new(), self.now());
        self.node.step(now, input, &mut out);
        for output in out.drain() {
            match output {
                Output::Disk { ticket, op } => self.waiting.push((ticket, op)),
                other => self.said.push(other),
            }
        }
        if !self.hangs && !self.waiting.is_empty() {
            let (ticket, op) = self.waiting.remove(0);
            let result = self.perform(op);
            self.input(Input::Disk { ticket, result });
        }
    }

    fn perform(&mut self, op: DiskOp) -> DiskResult {
        match op {
            DiskOp::Create { file, preallocate } => {
                self.files.insert(file, vec![0; preallocate as usize]);
            }
            DiskOp::Write { file, offset, data, .. } => {
                let content = self.files.get_mut(&file).expect("the file was made");
                let end = offset as usize + data.len();
                content.resize(content.len().max(end), 0);
                content[offset as usize..end].copy_from_slice(&data);
            }
            DiskOp::Read { file, offset, len } => {
                let Some(content) = self.files.get(&file) else {
                    let (kind, text) = (DiskErrorKind::NotFound, String::new());
                    return DiskResult::Failed(DiskError { kind, text });
                };
                let start = content.len().min(offset as usize);
                let end = content.len().min(start + len as usize);
                return DiskResult::Data(Bytes::copy_from_slice(&content[start..end]));
            }
            DiskOp::Rename { from, to } => {
                let content = self.files.remove(&from).expect("the file was made");
                self.files.insert(to, content);
            }
            DiskOp::Remove { file } => drop(self.files.remove(&file)),
            DiskOp::List => {
                let info =
                    |(file, data): (&FileName, &Vec<u8>)| FileInfo { file: *file, len: data.len() as u64 };
                return DiskResult::Files(self.files.iter().map(info).collect());
            }
            DiskOp::Truncate { .. } | DiskOp::Sync { .. } | DiskOp::SyncDir => {}
        }
        DiskResult::Done
    }

    /// Lets time go on, with a timeout whenever the node wants one.
    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(due) = self.node.next_deadline().filter(|due| due.0 <= end * 1_000_000) {
            self.now_ms = self.now_ms.max(due.0.div_ceil(1_000_000));
            self.input(Input::Timeout);
        }
        self.now_ms = end;
    }

    fn ask(&mut self, tag: u64, op: KeyOp) {
        let key = Bytes::from_static(b"key");
        let body = Body::Key { key, op };
        let request = Request { level: Level::Strong, session: Hlc(0), idempotency: None, body };
        let deadline = self.now().mono.plus_ms(900);
        self.input(Input::Client { tag: Tag(tag), request, deadline });
    }

    fn hear(&mut self, body: Message) {
        let from = Address { node: NodeId(2), shard: ShardId(0) };
        let message = Envelope { from, start: StartNumber::new(1, 7), epoch: Epoch(1), hlc: Hlc(0), body };
        self.input(Input::Message(message));
    }

    fn ping(&mut self) {
        self.hear(Message::Ping { ceiling: Hlc(0), full: false });
    }

    fn answered_pings(&mut self) -> usize {
        let is_pong = |output: &Output| matches!(output, Output::Send { message, .. } if matches!(message.body, Message::Pong { .. }));
        self.said.drain(..).filter(is_pong).count()
    }

    fn fatal(&self) -> Option<&str> {
        self.said.iter().find_map(|output| match output {
            Output::Fatal { reason } => Some(reason.as_str()),
            _ => None,
        })
    }

    /// The answer to a request, if there is one.
    fn failure(&self, tag: u64) -> Option<Failure> {
        self.said.iter().find_map(|output| match output {
            Output::Reply { tag: of, reply } if *of == Tag(tag) => reply.result.clone().err(),
            _ => None,
        })
    }

    /// The disk stops answering in the middle of work: the ceiling of stamps is to be raised.
    fn hang(&mut self) {
        self.hangs = true;
        self.pass(150);
        self.ask(1, KeyOp::Read);
        assert!(!self.waiting.is_empty(), "something was asked of the disk");
    }

    fn wake_disk(&mut self) {
        self.hangs = false;
        while !self.waiting.is_empty() {
            let (ticket, op) = self.waiting.remove(0);
            let result = self.perform(op);
            self.input(Input::Disk { ticket, result });
        }
    }
}

#[test]
fn a_node_whose_disk_hangs_steps_aside_and_comes_back_with_it() {
    let mut machine = Machine::started();
    machine.ping();
    machine.hear(Message::Descends { start: StartNumber::default(), ceiling: Hlc(u64::MAX) });
    machine.ping();
    assert_eq!(machine.answered_pings(), 1, "a sound node answers heartbeats");
    machine.hang();
    machine.pass(SLOW_MS / 8);
    let is_slow = |machine: &Machine| machine.node.status(machine.now().mono).is_disk_slow;
    assert!(!is_slow(&machine), "an eighth is nothing to speak of");
    machine.pass(SLOW_MS * 3 / 8);
    assert!(is_slow(&machine), "it is told before anything comes of it");
    assert!(!machine.node.is_aside(), "a short wait is no reason");
    machine.pass(SLOW_MS);
    assert!(machine.node.is_aside());
    let wait = machine.node.disk_wait(machine.now().mono).expect("an operation waits");
    assert!(wait.for_ms >= SLOW_MS, "{wait:?}");
    machine.said.clear();
    machine.ping();
    machine.ask(2, KeyOp::Read);
    assert_eq!(
        machine.failure(2),
        Some(Failure::Unavailable),
        "clients are told at once that nothing was done"
    );
    assert_eq!(machine.answered_pings(), 0, "peers take it for dead and go on without it");
    machine.pass(400);
    assert!(
        !machine.said.iter().any(|output| matches!(output, Output::Send { message, .. }
        if matches!(message.body, Message::Ping { .. }))),
        "it sends no heartbeat"
    );

    machine.wake_disk();
    machine.pass(10);
    machine.input(Input::Timeout);
    assert!(!machine.node.is_aside(), "the disk answers again");
    assert!(is_slow(&machine), "it was slow a moment ago");
    machine.pass(11_000);
    assert!(!is_slow(&machine), "it has not been slow for a while");
    assert_eq!(machine.fatal(), None);
    machine.said.clear();
    machine.ping();
    assert_eq!((machine.answered_pings(), machine.fatal()), (1, None));
}

#[test]
fn a_node_whose_disk_hangs_for_long_stops_and_names_the_file() {
    let mut machine = Machine::started();
    machine.hang();
    machine.pass(HUNG_MS - 500);
    assert_eq!(machine.fatal(), None);
    machine.pass(1_000);
    let reason = machine.fatal().expect("the node stops");
    assert!(reason.contains("the disk has not ended an operation"), "{reason}");
    assert!(reason.contains(".ceiling") || reason.contains(".wal"), "{reason}");
}

#[test]
fn a_disk_that_hangs_at_the_start_is_told_too() {
    let mut machine = Machine::new();
    machine.hangs = true;
    machine.input(Input::Boot);
    machine.pass(HUNG_MS + 1_000);
    let reason = machine.fatal().expect("the node stops");
    assert!(reason.contains(".identity"), "{reason}");
}

#[test]
fn a_process_that_stood_still_does_not_blame_its_disk() {
    let mut machine = Machine::started();
    machine.hang();
    // The whole process was stopped; the disk's answers wait to be heard.
    machine.now_ms += 10 * HUNG_MS;
    machine.input(Input::Timeout);
    assert_eq!((machine.node.is_aside(), machine.fatal()), (false, None));
    machine.wake_disk();
    machine.pass(SLOW_MS * 2);
    assert_eq!((machine.node.is_aside(), machine.fatal()), (false, None));
}
