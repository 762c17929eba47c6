//! What a data directory says of itself: whose it is, how often it was started, and the ceiling of its stamps (S3-S5).
//!
//! `Identity` is written once, last, when a directory is made. The ceiling is kept in files of its own.

use super::ceiling::{CEILINGS, Ceiling, Remembered, SECTOR, SLOT_STRIDE, newest, reach};
use crate::base::checksum::crc32c;
use crate::base::limits::CEILING_STEP_MS;
use crate::base::{Address, ClusterId, Hlc, NodeId, ShardId, StartNumber, Ticket, WallTime};
use crate::io::{DiskErrorKind, DiskOp, DiskResult, FileKind, FileName, Outbox, Output};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Version of everything on disk. A directory of another version is refused and left as it is, but for version 3: its files of
/// identity and ceiling are written anew at the start, and all else is the same.
pub const FORMAT_VERSION: u32 = 4;
const FORMAT_VERSION_READ: u32 = 3;
/// High bits of every ticket of this machine.
pub(super) const TICKET_TAG: u64 = 1 << 61;

pub(super) const IDENTITY: FileName = FileName::new(FileKind::Identity, 0);
/// What is reserved for the identity.
pub(super) const IDENTITY_FILE_BYTES: u64 = 8192;
const IDENTITY_MAGIC: &[u8; 8] = b"SAMARAID";

/// What the machine tells the node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IdentityEvent {
    /// The directory is ours, or new (`fresh`). Nothing has been written.
    Checked { fresh: bool },
    /// The start is on disk: the floor found, and the new ceiling.
    Established { found: Hlc, ceiling: Hlc },
    /// A raise of the ceiling is on disk.
    Raised(Hlc),
    /// The directory must not be used.
    Fatal(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Check,
    Establish,
    Raise,
}

/// The machine.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    me: Address,
    cluster: ClusterId,
    shards: u16,
    tickets: u64,
    goal: Goal,
    /// Groups of operations still to be done, one after the other.
    stages: VecDeque<Vec<DiskOp>>,
    in_flight: BTreeMap<Ticket, FileName>,
    contents: BTreeMap<FileName, Bytes>,
    fresh: bool,
    /// The directory is of an earlier version of the format.
    old: bool,
    found: Hlc,
    newest: Ceiling,
    /// How far a slot of the ceiling files may have been written.
    reach: usize,
}

impl Identity {
    pub(super) fn new(me: Address, cluster: ClusterId, shards: u16) -> Self {
        Self {
            me,
            cluster,
            shards,
            tickets: TICKET_TAG,
            goal: Goal::Check,
            stages: VecDeque::new(),
            in_flight: BTreeMap::new(),
            contents: BTreeMap::new(),
            fresh: false,
            old: false,
            found: Hlc(0),
            newest: Ceiling::default(),
            reach: 0,
        }
    }

    /// The start number; that of this life once established.
    pub(super) fn start(&self) -> StartNumber {
        self.newest.start
    }

    /// The last ceiling of a life of this directory; `None` if it has not lived it.
    pub(super) fn of_life(&self, start: StartNumber) -> Option<Hlc> {
        self.newest.of_life(start)
    }

    /// What the directory remembers of the peers.
    pub(super) fn peers(&self) -> &[Remembered] {
        &self.newest.peers
    }

    /// The ceiling as it was last written, durable or not yet.
    pub(super) fn highest_ceiling(&self) -> Hlc {
        self.newest.hlc
    }

    /// Whether a raise may begin.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.stages.is_empty()
    }

    /// The operation that was asked of the disk first, of those that have not ended.
    pub(super) fn oldest_operation(&self) -> Option<(Ticket, FileName)> {
        self.in_flight.first_key_value().map(|(ticket, file)| (*ticket, *file))
    }

    /// Reads what is there.
    pub(super) fn boot(&mut self, out: &mut Outbox) {
        self.goal = Goal::Check;
        let read = |file| DiskOp::Read { file, offset: 0, len: 2 * SLOT_STRIDE as u32 };
        self.stages.push_back([IDENTITY, CEILINGS[0], CEILINGS[1]].map(read).into());
        self.next_stage(out);
    }

    /// Writes the new start number and ceiling, and at last the identity if the directory is fresh. `draw` tells this life from
    /// that of another directory of the same shard.
    pub(super) fn establish(&mut self, wall: WallTime, draw: u32, out: &mut Outbox) {
        self.goal = Goal::Establish;
        let missing: Vec<FileName> =
            CEILINGS.into_iter().filter(|file| !self.contents.contains_key(file)).collect();
        let create = |file: FileName, preallocate: u64| DiskOp::Create { file, preallocate };
        self.stages.push_back(missing.iter().map(|file| create(*file, 2 * SLOT_STRIDE)).collect());
        self.found = self.newest.hlc;
        self.newest = self.newest.next_life(draw);
        if self.old {
            // The first slot holds what a program of version 3 wrote until the second is written.
            self.newest.sequence |= 1;
            self.newest.sequence += 1;
            let first = self.ceiling_writes(self.found.ms().max(wall.0));
            self.stages.push_back(first);
        }
        let writes = self.ceiling_writes(self.found.ms().max(wall.0));
        self.stages.push_back(writes);
        if !missing.is_empty() {
            self.stages.push_back([DiskOp::SyncDir].into());
        }
        if self.fresh || self.old {
            if !self.contents.contains_key(&IDENTITY) {
                self.stages.push_back([create(IDENTITY, IDENTITY_FILE_BYTES)].into());
            }
            let data = self.owner().encode();
            self.stages.push_back([DiskOp::Write { file: IDENTITY, offset: 0, data, sync: true }].into());
            self.stages.push_back([DiskOp::SyncDir].into());
        }
        self.contents.clear();
        self.next_stage(out);
    }

    /// Raises the ceiling above `wanted`, and writes what is remembered of the peers; false while another raise is under way.
    pub(super) fn raise(&mut self, wanted: Hlc, peers: Vec<Remembered>, out: &mut Outbox) -> bool {
        if !self.is_idle() {
            return false;
        }
        self.goal = Goal::Raise;
        self.newest.peers = peers;
        let writes = self.ceiling_writes(wanted.ms());
        self.stages.push_back(writes);
        self.next_stage(out);
        true
    }

    fn ceiling_writes(&mut self, above_ms: u64) -> Vec<DiskOp> {
        self.newest.hlc = Hlc::from_ms(above_ms + CEILING_STEP_MS).max(self.newest.hlc);
        self.newest.sequence += 1;
        let data = self.newest.encode(self.reach);
        self.reach = data.len();
        let offset = (self.newest.sequence % 2) * SLOT_STRIDE;
        CEILINGS.map(|file| DiskOp::Write { file, offset, data: data.clone(), sync: true }).into()
    }

    fn next_stage(&mut self, out: &mut Outbox) {
        while self.in_flight.is_empty() {
            let Some(stage) = self.stages.pop_front() else {
                return;
            };
            for op in stage {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.in_flight.insert(ticket, op.file().unwrap_or(IDENTITY));
                out.push(Output::Disk { ticket, op });
            }
        }
    }

    pub(super) fn on_disk(
        &mut self,
        ticket: Ticket,
        result: DiskResult,
        out: &mut Outbox,
    ) -> Option<IdentityEvent> {
        let file = self.in_flight.remove(&ticket)?;
        match (result, self.goal) {
            (DiskResult::Data(data), Goal::Check) => {
                self.contents.insert(file, data);
            }
            (DiskResult::Failed(error), Goal::Check) if error.kind == DiskErrorKind::NotFound => {}
            (DiskResult::Failed(error), _) => {
                self.stages.clear();
                return Some(IdentityEvent::Fatal(format!(
                    "{file}: {}; check the disk and start again",
                    error.text
                )));
            }
            _ => {}
        }
        self.next_stage(out);
        if !self.in_flight.is_empty() {
            return None;
        }
        Some(match self.goal {
            Goal::Check => match self.check() {
                Ok(()) => IdentityEvent::Checked { fresh: self.fresh },
                Err(reason) => IdentityEvent::Fatal(reason),
            },
            Goal::Establish => IdentityEvent::Established { found: self.found, ceiling: self.newest.hlc },
            Goal::Raise => IdentityEvent::Raised(self.newest.hlc),
        })
    }

    /// Judges what was read, without writing.
    fn check(&mut self) -> Result<(), String> {
        let identity = self.contents.get(&IDENTITY).filter(|data| data.iter().any(|byte| *byte != 0));
        self.fresh = identity.is_none();
        if let Some(identity) = identity.cloned() {
            self.check_identity(&identity)?;
        }
        let reached = CEILINGS.iter().filter_map(|file| self.contents.get(file)).map(|data| reach(data));
        self.reach = reached.max().unwrap_or(0);
        let newest =
            CEILINGS.iter().filter_map(|file| self.contents.get(file)).filter_map(|data| newest(data));
        match newest.max_by_key(|ceiling| (ceiling.sequence, ceiling.hlc)) {
            Some(newest) => self.newest = newest,
            None if self.fresh => {}
            None => {
                return Err(format!(
                    "{} and {}: neither holds a readable ceiling, so stamps could be used twice; this node must be \
                     replaced by one with a new id",
                    CEILINGS[0], CEILINGS[1]
                ));
            }
        }
        Ok(())
    }

    fn check_identity(&mut self, data: &Bytes) -> Result<(), String> {
        let (owner, version) = Owner::decode(data).map_err(|reason| format!("{IDENTITY}: {reason}"))?;
        self.old = version < FORMAT_VERSION;
        if owner != self.owner() {
            return Err(format!(
                "{IDENTITY}: this directory belongs to another cluster, node or number of shards: to {} of {} shards in \
                 cluster {:032x}, and this is {} of {} in {:032x}",
                owner.address, owner.shards, owner.cluster.0, self.me, self.shards, self.cluster.0
            ));
        }
        Ok(())
    }

    fn owner(&self) -> Owner {
        Owner { cluster: self.cluster, address: self.me, shards: self.shards }
    }
}

/// Whose a data directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// Node and shard.
    pub address: Address,
    /// How many shards the node has.
    pub shards: u16,
}

impl Owner {
    pub(super) fn encode(self) -> Bytes {
        let mut data = Vec::with_capacity(SECTOR);
        data.extend_from_slice(IDENTITY_MAGIC);
        data.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        data.extend_from_slice(&self.cluster.0.to_le_bytes());
        data.extend_from_slice(&self.address.node.0.to_le_bytes());
        data.extend_from_slice(&self.address.shard.0.to_le_bytes());
        data.extend_from_slice(&self.shards.to_le_bytes());
        let crc = crc32c(&[&data]);
        data.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(data.len(), IDENTITY_BYTES, "the layout is fixed");
        data.resize(SECTOR, 0);
        Bytes::from(data)
    }

    /// Reads what `encode` wrote, and under which version. Another magic or version is told before damage: neither is checked by this version's sum.
    fn decode(data: &[u8]) -> Result<(Self, u32), String> {
        let damaged = || String::from("damaged; restore the file or replace this node by one with a new id");
        let data: &[u8; IDENTITY_BYTES] =
            data.get(..IDENTITY_BYTES).and_then(|head| head.try_into().ok()).ok_or_else(damaged)?;
        let (body, crc) = data.split_at(IDENTITY_BYTES - 4);
        if body[..8] != *IDENTITY_MAGIC {
            return Err("not a data directory of samara".into());
        }
        let u16_at = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
        let version = u32::from_le_bytes([body[8], body[9], body[10], body[11]]);
        if version != FORMAT_VERSION && version != FORMAT_VERSION_READ {
            return Err(format!(
                "format version {version}, this program reads versions {FORMAT_VERSION_READ} and {FORMAT_VERSION}; use the \
                 program that wrote it"
            ));
        }
        if crc32c(&[body]).to_le_bytes() != *crc {
            return Err(damaged());
        }
        let cluster = ClusterId(u128::from_le_bytes(body[12..28].try_into().map_err(|_| damaged())?));
        let address = Address { node: NodeId(u16_at(28)), shard: ShardId(u16_at(30)) };
        Ok((Self { cluster, address, shards: u16_at(32) }, version))
    }
}

/// Whose directory an identity file names; `None` if it has not been written yet. `Err` says what is the matter.
pub(super) fn check_owner(data: &[u8]) -> Result<Option<Owner>, String> {
    if data.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let (owner, _) = Owner::decode(data)?;
    // Behind the identity the file holds zeros as far as it was made.
    let is_clean =
        data.len() as u64 <= IDENTITY_FILE_BYTES && data[IDENTITY_BYTES..].iter().all(|byte| *byte == 0);
    if is_clean { Ok(Some(owner)) } else { Err("damaged behind the identity; restore the file".into()) }
}

const IDENTITY_BYTES: usize = 8 + 4 + 16 + 2 + 2 + 2 + 4;

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
