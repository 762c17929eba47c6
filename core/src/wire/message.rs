//! What nodes say to each other. The rules that each message obeys are in PROTOCOL section 3 and 4.

use crate::base::limits::{MAX_DRIFT_MS, PHASE_MS};
use crate::base::{
    Address, Epoch, Hlc, KeyOp, OpId, Record, RecordKey, RequestId, Slot, Stamp, StartNumber, WallTime,
    Wanted,
};

use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A message with what every message carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The sender.
    pub from: Address,
    /// The sender's life (S5).
    pub start: StartNumber,
    /// The sender's configuration epoch (E4).
    pub epoch: Epoch,
    /// The sender's clock; every stamp in the body is at or below it (S2).
    pub hlc: Hlc,
    /// What it says.
    pub body: Message,
}

/// The messages of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// R1. Answered by `Answer::Promise` or `Refused`.
    Prepare {
        /// Echoed in the answer.
        request: RequestId,
        /// The register.
        key: Bytes,
        /// The ballot to promise.
        ballot: Stamp,
    },
    /// R2. Answered by `Answer::Accepted` or `Refused`.
    Accept {
        /// Echoed in the answer.
        request: RequestId,
        /// The register.
        key: Bytes,
        /// The record to accept, at `record.ballot`.
        record: Record,
        /// The ballot to promise along with it, if not `Stamp::ZERO`.
        next: Stamp,
    },
    /// R3. Answered by `Answer::Found` or `Refused`.
    Query {
        /// Echoed in the answer.
        request: RequestId,
        /// The register.
        key: Bytes,
        /// Whether only the stamps are wanted.
        digest: bool,
    },
    /// R4. Answered by `Answer::Accepted` or `Refused`.
    Weak {
        /// Echoed in the answer.
        request: RequestId,
        /// The register.
        key: Bytes,
        /// The record.
        record: Record,
    },
    /// W2: R4 at a fallback node, which keeps the record as a hint for `target`. Answered like `Weak`.
    Hint {
        /// Echoed in the answer.
        request: RequestId,
        /// The replica that was not reached.
        target: crate::base::NodeId,
        /// The register.
        key: Bytes,
        /// The record.
        record: Record,
    },
    /// R5. Answered by `Answer::Accepted` (stored or older than what is held) or `Refused`.
    Repair {
        /// Echoed in the answer.
        request: RequestId,
        /// The register.
        key: Bytes,
        /// The record, at its original ballot.
        record: Record,
        /// The sender saw this very ballot on a majority.
        chosen: bool,
    },
    /// A strong operation for the preferred coordinator. Answered by `Answer::Forwarded`.
    Forward {
        /// Echoed in the answer.
        request: RequestId,
        /// The register.
        key: Bytes,
        /// Names the mutation; for a read it is only its start.
        op_id: OpId,
        /// Whether it came from the client (IDEMPOTENT): then its negative result is stored, too.
        idempotent: bool,
        /// The operation.
        op: KeyOp,
        /// Milliseconds the sender will wait.
        patience_ms: u32,
    },
    /// A page of the receiver's records in store order. Answered by `Answer::Scanned`.
    Scan {
        /// Echoed in the answer.
        request: RequestId,
        /// First slot.
        slot: Slot,
        /// Only keys behind this in `slot`.
        after: Option<Bytes>,
        /// Most records wanted.
        limit: u32,
        /// Which keys. Without values each record has an empty one of the tombstone or live kind; `dead` is for the asker.
        wanted: Wanted,
    },
    /// An answer to one of the above.
    Answer {
        /// The request's id.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// Heartbeat; asks for a `Pong`.
    Ping {
        /// The sender's durable ceiling (S5).
        ceiling: Hlc,
        /// The sender's disk is full: it takes deletions only.
        full: bool,
    },
    /// Answer to a heartbeat.
    Pong {
        /// The sender's durable ceiling (S5).
        ceiling: Hlc,
        /// The sender's disk is full: it takes deletions only.
        full: bool,
    },
    /// G1: a step of the round that raises the watermark of a slot. Answered by `Answer::Marked` or `Refused`.
    Mark {
        /// Echoed in the answer.
        request: RequestId,
        /// The slot.
        slot: Slot,
        /// What is to be done.
        step: MarkStep,
    },
    /// R6: a page of the records that a suspect replica may have lost. The receiver first raises its floor durably.
    /// Answered by `Answer::Resynced` or `Refused`.
    Resync {
        /// Echoed in the answer.
        request: RequestId,
        /// The first key of the page.
        from: RecordKey,
        /// Whether that very key is behind the page.
        exclusive: bool,
        /// The end of the stretch; not part of it.
        until: RecordKey,
        /// Nothing above it has been acknowledged by the suspect and lost; at or below the sender's clock.
        floor: Hlc,
    },
    /// S5: what the sender remembers of the receiver, whose present life it does not know. Answered by `Descends`, unless the
    /// receiver's directory has not lived that: then it must not be used. Sent and taken in any life.
    Remembers {
        /// The receiver's latest life that the sender knows; zero if it knows none.
        start: StartNumber,
        /// The highest ceiling that the sender was told in that life.
        ceiling: Hlc,
    },
    /// S5: the sender's present life follows the one named, in the same directory.
    Descends {
        /// An earlier life of the sender.
        start: StartNumber,
        /// The ceiling at that life's end.
        ceiling: Hlc,
    },
}

/// A step of a round of G1, for one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MarkStep {
    /// (a) Refuse, durably, what is at or below this stamp; tell which hints at or below it are held.
    Close(Stamp),
    /// (b) What the records in a range of keys come to.
    Digest(MarkRange),
    /// (b) The keys of a range with their ballots.
    List(MarkRange),
    /// (c) Raise the watermark, durably, unless something at or below it came since `token` was given.
    Raise {
        /// The new watermark.
        upto: Stamp,
        /// From the answer to `Close`.
        token: u64,
    },
}

/// A part of a slot that is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkRange {
    /// Records above this ballot are left out of a digest.
    pub upto: Stamp,
    /// What G2 lets drop at this watermark is left out.
    pub ignore: Stamp,
    /// Only keys greater than this.
    pub after: Option<Bytes>,
    /// Only keys up to this one.
    pub last: Option<Bytes>,
    /// Most records looked at; 0 for all.
    pub limit: u32,
}

/// Answers of replicas and coordinators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// R1: promised; what was accepted so far, `None` for an absent key.
    Promise {
        /// The promised ballot.
        ballot: Stamp,
        /// The accepted record.
        accepted: Option<Record>,
    },
    /// R2, R4, R5: durable here, or superseded by a higher ballot.
    Accepted {
        /// Whether `next` is now exactly what is promised.
        next_granted: bool,
    },
    /// R3.
    Found {
        /// Ballot of the accepted record; zero if absent.
        ballot: Stamp,
        /// The record; `None` if absent or only the digest was asked for.
        record: Option<Record>,
    },
    /// Not done.
    Refused(Refusal),
    /// What came of a forwarded operation.
    Forwarded(ForwardResult),
    /// A page of records.
    Scanned {
        /// `(slot, key, record)` in store order, tombstones included.
        records: Vec<(Slot, Bytes, Record)>,
        /// Everything before this position has been covered; `None`: everything to the end.
        next: Option<(Slot, Option<Bytes>)>,
    },
    /// G1: a step has been done.
    Marked(Marked),
    /// R6: a page of what the answering replica holds, all of it durable.
    Resynced {
        /// In store order, tombstones included.
        records: Vec<(RecordKey, Record)>,
        /// Whether the end of the stretch was reached; else there is at least one record.
        done: bool,
        /// The highest floor of the stretch's slots.
        floor: Stamp,
        /// The watermarks T of the slots that have one (G1).
        watermarks: Vec<(Slot, Stamp)>,
    },
}

/// What came of a step of G1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Marked {
    /// (a) Durably closed.
    Closed {
        /// The watermark so far.
        raised: Stamp,
        /// Hints for the slot, at or below the stamp, that are held here.
        hints: u64,
        /// Ends to be valid when a record at or below the stamp comes in.
        token: u64,
    },
    /// (b) The digest of the records in the range.
    Digested {
        /// The sum of `rules::garbage::fingerprint`.
        digest: u128,
        /// The last key looked at, if the limit ended the walk before the range did.
        last: Option<Bytes>,
    },
    /// (b) The records of the range.
    Listed {
        /// Keys in order, with their ballots, whether at or below the stamp or not.
        entries: Vec<(Bytes, Stamp)>,
        /// The last key looked at, if the limit ended the walk before the range did.
        last: Option<Bytes>,
    },
    /// (c) Durably raised.
    Raised,
    /// (c) Not raised: something came in since.
    Changed,
}

/// Why a replica refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A higher promise, floor or accepted ballot stands; the highest of them.
    Ballot(Stamp),
    /// The request's epoch is below the slot's last change (E4).
    Epoch(Epoch),
    /// The sender's clock is too far ahead (S2).
    ClockSkew,
    /// The stamp is older than any request can be (section 3).
    TooOld,
    /// A limit was reached.
    Overloaded,
    /// The disk is full.
    DiskFull,
    /// Not a replica of the key's slot, or not serving yet.
    NotServing,
    /// G2: the key holds nothing, and the record is at or below the slot's watermark, given here.
    BelowWatermark(Stamp),
    /// R6: the replica may have lost what it knew of the key; it has no vote until it has been brought up again.
    Suspect,
}

/// What came of a forwarded operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardResult {
    /// The reply for the client.
    Done(Result<crate::base::Response, crate::base::Failure>),
    /// C3: in doubt for this operation id and certainly not run: the issuer may take a fresh one.
    NotRun,
}

impl Envelope {
    /// Whether its sender has given up by `wall`: what it asks for is then asked anew, and work for it would be in vain. The
    /// clock of every message tells when it was sent, the kind of request how long its sender waits. What takes effect
    /// (an accept, a weak write, a repair) is wanted later, too, and never expires so; nor do answers.
    pub fn is_expired(&self, wall: WallTime) -> bool {
        let patience_ms = match &self.body {
            Message::Prepare { .. } | Message::Query { .. } | Message::Scan { .. } => PHASE_MS,
            Message::Forward { patience_ms, .. } => u64::from(*patience_ms),
            _ => return false,
        };
        wall.0 > self.hlc.ms().saturating_add(patience_ms + 2 * MAX_DRIFT_MS)
    }
}

impl Message {
    /// The id under which a request wants its answer; `None` for answers and heartbeats.
    pub fn request_id(&self) -> Option<RequestId> {
        match self {
            Self::Prepare { request, .. }
            | Self::Accept { request, .. }
            | Self::Query { request, .. }
            | Self::Weak { request, .. }
            | Self::Hint { request, .. }
            | Self::Repair { request, .. }
            | Self::Forward { request, .. }
            | Self::Scan { request, .. }
            | Self::Mark { request, .. }
            | Self::Resync { request, .. } => Some(*request),
            Self::Answer { .. }
            | Self::Ping { .. }
            | Self::Pong { .. }
            | Self::Remembers { .. }
            | Self::Descends { .. } => None,
        }
    }

    /// The highest stamp that taking this message in could issue, promise or accept (S2: at or below the sender's clock).
    pub fn highest_stamp(&self) -> Stamp {
        match self {
            Self::Prepare { ballot, .. } => *ballot,
            Self::Accept { record, next, .. } => record.ballot.max(*next),
            Self::Weak { record, .. } | Self::Hint { record, .. } | Self::Repair { record, .. } => {
                record.ballot
            }
            Self::Forward { op_id, .. } => op_id.stamp,
            Self::Answer { answer, .. } => match answer {
                Answer::Promise { ballot, accepted } => {
                    accepted.as_ref().map_or(*ballot, |record| record.ballot.max(*ballot))
                }
                Answer::Found { ballot, .. }
                | Answer::Refused(Refusal::Ballot(ballot) | Refusal::BelowWatermark(ballot))
                | Answer::Marked(Marked::Closed { raised: ballot, .. }) => *ballot,
                Answer::Resynced { records, floor, watermarks, .. } => {
                    let ballots = records.iter().map(|(_, record)| record.ballot);
                    let stamps = ballots.chain(watermarks.iter().map(|(_, upto)| *upto));
                    stamps.max().unwrap_or_default().max(*floor)
                }
                _ => Stamp::ZERO,
            },
            Self::Mark { step, .. } => match step {
                MarkStep::Close(upto) | MarkStep::Raise { upto, .. } => *upto,
                MarkStep::Digest(range) | MarkStep::List(range) => range.upto.max(range.ignore),
            },
            Self::Resync { floor, .. } => Stamp::upto(*floor),
            Self::Query { .. }
            | Self::Scan { .. }
            | Self::Ping { .. }
            | Self::Pong { .. }
            | Self::Remembers { .. }
            | Self::Descends { .. } => Stamp::ZERO,
        }
    }

    /// Bytes of keys and values that the message holds on to.
    pub fn payload(&self) -> usize {
        let of_record = |record: &Record| record.value.as_ref().map_or(0, Bytes::len);
        match self {
            Self::Accept { key, record, .. }
            | Self::Weak { key, record, .. }
            | Self::Hint { key, record, .. }
            | Self::Repair { key, record, .. } => key.len() + of_record(record),
            Self::Forward { key, op, .. } => key.len() + op.payload(),
            Self::Prepare { key, .. } | Self::Query { key, .. } => key.len(),
            Self::Resync { from, until, .. } => from.key.len() + until.key.len(),
            Self::Answer { answer, .. } => match answer {
                Answer::Promise { accepted: Some(record), .. }
                | Answer::Found { record: Some(record), .. } => of_record(record),
                Answer::Scanned { records, .. } => {
                    records.iter().map(|(_, key, record)| key.len() + of_record(record)).sum()
                }
                Answer::Marked(Marked::Listed { entries, .. }) => {
                    entries.iter().map(|(key, _)| key.len()).sum()
                }
                Answer::Resynced { records, .. } => {
                    records.iter().map(|(key, record)| key.key.len() + of_record(record)).sum()
                }
                _ => 0,
            },
            Self::Mark { step: MarkStep::Digest(range) | MarkStep::List(range), .. } => {
                range.after.iter().chain(&range.last).map(Bytes::len).sum()
            }
            Self::Mark { .. }
            | Self::Scan { .. }
            | Self::Ping { .. }
            | Self::Pong { .. }
            | Self::Remembers { .. }
            | Self::Descends { .. } => 0,
        }
    }
}
