//! Three nodes and more in memory, with instant links and disks.

use bytes::Bytes;
use samara_core::base::{
    Address, Body, ClusterId, Config, Counter, Epoch, Expiry, Failure, Hlc, Instant, KeyOp, Level, Member,
    NodeId, Now, Reply, Request, Response, ShardId, Stamp, WallTime, When,
};
use samara_core::io::{
    DiskError, DiskErrorKind, DiskOp, DiskResult, FileInfo, FileName, Input, Outbox, Output, Tag,
};
use samara_core::node::{Node, NodeOptions};
use samara_core::rules::slots::slot_of;
use samara_core::store::StoreOptions;
use samara_core::wire::{Answer, Envelope, Message};
use std::collections::{BTreeMap, VecDeque};

/// Files by name, and whether there is no room for more.
#[derive(Clone, Default)]
pub(super) struct Disk(BTreeMap<FileName, Vec<u8>>, pub(super) bool);

impl Disk {
    fn perform(&mut self, op: DiskOp) -> DiskResult {
        match op {
            DiskOp::Create { file, .. } if self.1 => {
                let error = DiskError { kind: DiskErrorKind::Full, text: format!("{file}: no space left") };
                return DiskResult::Failed(error);
            }
            DiskOp::Create { file, preallocate } => {
                assert!(self.0.insert(file, vec![0; preallocate as usize]).is_none(), "{file} exists");
            }
            DiskOp::Write { file, offset, data, .. } => {
                let content = self.0.get_mut(&file).expect("the file was created");
                let end = offset as usize + data.len();
                content.resize(content.len().max(end), 0);
                content[offset as usize..end].copy_from_slice(&data);
            }
            DiskOp::Read { file, offset, len } => {
                let Some(content) = self.0.get(&file) else {
                    let error =
                        DiskError { kind: DiskErrorKind::NotFound, text: format!("{file}: not found") };
                    return DiskResult::Failed(error);
                };
                let start = content.len().min(offset as usize);
                let end = content.len().min(start + len as usize);
                return DiskResult::Data(Bytes::copy_from_slice(&content[start..end]));
            }
            DiskOp::Truncate { file, len } => {
                self.0.get_mut(&file).expect("the file was created").resize(len as usize, 0);
            }
            DiskOp::Rename { from, to } => {
                let content = self.0.remove(&from).expect("the file was created");
                self.0.insert(to, content);
            }
            DiskOp::Remove { file } => {
                self.0.remove(&file);
            }
            DiskOp::List => {
                let info = |(file, content): (&FileName, &Vec<u8>)| FileInfo {
                    file: *file,
                    len: content.len() as u64,
                };
                return DiskResult::Files(self.0.iter().map(info).collect());
            }
            DiskOp::Sync { .. } | DiskOp::SyncDir => {}
        }
        DiskResult::Done
    }
}

pub(super) struct Cluster {
    pub(super) options: Vec<NodeOptions>,
    pub(super) nodes: Vec<Option<Node>>,
    pub(super) disks: Vec<Disk>,
    pub(super) mail: VecDeque<(usize, Envelope)>,
    pub(super) replies: BTreeMap<Tag, Reply>,
    pub(super) now_ms: u64,
    pub(super) tags: u64,
    /// The node that may end itself, and what it has said then.
    pub(super) may_end: Option<usize>,
    pub(super) ended: Option<String>,
}

impl Cluster {
    pub(super) fn start(count: u16) -> Self {
        let member = |node| Member { node: NodeId(node), zone: String::new(), tokens: 150, shards: 1 };
        let members = (1..=count).map(member).collect();
        let config = Config { cluster: ClusterId(9), epoch: Epoch(1), members, replication: 3 };
        let options: Vec<NodeOptions> = (1..=count)
            .map(|node| NodeOptions {
                address: Address { node: NodeId(node), shard: ShardId(0) },
                config: config.clone(),
                seed: [node as u8; 32],
                store: StoreOptions {
                    memtable_bytes: 4096,
                    wal_segment_bytes: 64 << 10,
                    ..StoreOptions::default()
                },
                promises_max: 64,
                floors: samara_core::rules::floor::Floors::default(),
            })
            .collect();
        let mut cluster = Self {
            nodes: options.iter().map(|_| None).collect(),
            disks: options.iter().map(|_| Disk::default()).collect(),
            options,
            mail: VecDeque::new(),
            replies: BTreeMap::new(),
            now_ms: 1_000_000,
            tags: 0,
            may_end: None,
            ended: None,
        };
        for node in 0..count as usize {
            cluster.boot(node);
        }
        cluster
    }

    pub(super) fn boot(&mut self, node: usize) {
        self.nodes[node] = Some(Node::new(self.options[node].clone()));
        self.step(node, Input::Boot);
    }

    pub(super) fn now(&self) -> Now {
        Now { mono: Instant(self.now_ms * 1_000_000), wall: WallTime(self.now_ms) }
    }

    /// Steps a node and performs its disk operations until it asks for none.
    pub(super) fn step(&mut self, at: usize, input: Input) {
        let now = self.now();
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Some(node) = &mut self.nodes[at] else { return };
            let mut out = Outbox::new();
            node.step(now, input, &mut out);
            for output in out.drain() {
                match output {
                    Output::Reply { tag, reply } => {
                        assert!(self.replies.insert(tag, reply).is_none(), "{tag:?} was answered twice");
                    }
                    Output::Send { to, message } => {
                        self.mail.push_back((usize::from(to.node.0) - 1, message));
                    }
                    Output::Disk { ticket, op } => {
                        let result = self.disks[at].perform(op);
                        inputs.push_back(Input::Disk { ticket, result });
                    }
                    Output::Ready | Output::Notice { .. } => {}
                    Output::Fatal { reason } => {
                        assert_eq!(self.may_end, Some(at), "node {}: {reason}", at + 1);
                        (self.nodes[at], self.ended) = (None, Some(reason));
                        return;
                    }
                }
            }
        }
    }

    pub(super) fn run_ms(&mut self, millis: u64) {
        for _ in 0..millis {
            while let Some((to, envelope)) = self.mail.pop_front() {
                self.step(to, Input::Message(envelope));
            }
            self.now_ms += 1;
            for node in 0..self.nodes.len() {
                let due = self.nodes[node].as_ref().and_then(Node::next_deadline);
                if due.is_some_and(|due| due <= self.now().mono) {
                    self.step(node, Input::Timeout);
                }
            }
        }
    }

    pub(super) fn ask(
        &mut self,
        node: usize,
        level: Level,
        key: &str,
        op: KeyOp,
    ) -> Result<Response, Failure> {
        let body = Body::Key { key: Bytes::copy_from_slice(key.as_bytes()), op };
        self.request(node, Request { level, session: Hlc(0), idempotency: None, body })
    }

    pub(super) fn request(&mut self, node: usize, request: Request) -> Result<Response, Failure> {
        self.tags += 1;
        let tag = Tag(self.tags);
        let deadline = self.now().mono.plus_ms(5_000);
        self.step(node, Input::Client { tag, request, deadline });
        for _ in 0..6_000 {
            if let Some(reply) = self.replies.remove(&tag) {
                return reply.result;
            }
            self.run_ms(1);
        }
        panic!("no reply within the deadline");
    }

    pub(super) fn read(&mut self, node: usize, level: Level, key: &str) -> Result<Option<Bytes>, Failure> {
        self.ask(node, level, key, KeyOp::Read).map(|response| match response {
            Response::Value { value, .. } => Some(value),
            Response::Absent { .. } => None,
            other => panic!("{other:?}"),
        })
    }
}

impl Cluster {
    pub(super) fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().expect("the node is up")
    }

    /// The watermarks of a key's slot at its replicas.
    pub(super) fn watermarks(&self, key: &str) -> Vec<Stamp> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let replicas = self.nodes.iter().flatten().filter(|node| node.is_replica_of(&key));
        replicas.map(|node| node.watermark(slot_of(&key))).collect()
    }

    pub(super) fn counted(&self, counter: Counter) -> u64 {
        self.nodes.iter().flatten().map(|node| node.counters().value(counter)).sum()
    }

    /// Delivers a message as if `from` had sent it, and returns what is answered.
    pub(super) fn deliver(&mut self, from: usize, to: usize, body: Message) -> Vec<Answer> {
        let (address, start) = (self.options[from].address, self.node(from).probe().start);
        let hlc = self.node(from).probe().hlc;
        self.mail.clear();
        self.step(to, Input::Message(Envelope { from: address, start, epoch: Epoch(1), hlc, body }));
        let answers = self.mail.iter().filter_map(|(_, envelope)| match &envelope.body {
            Message::Answer { answer, .. } => Some(answer.clone()),
            _ => None,
        });
        answers.collect()
    }
}

pub(super) const DELETE: KeyOp = KeyOp::Delete { when: When::Always, want_old: false };

pub(super) fn set(value: impl Into<Bytes>) -> KeyOp {
    KeyOp::Set { value: value.into(), expiry: Expiry::Clear, when: When::Always, want_old: false }
}

pub(super) const LEVELS: [Level; 3] = [Level::Eventual, Level::Causal, Level::Strong];
