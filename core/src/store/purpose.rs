//! What the disk operations in flight are for, and what becomes of those that fail.

use super::ReadToken;
use crate::io::{DiskErrorKind, DiskOp, FileKind, FileName};

/// The store's list of its files.
pub(super) const MANIFEST: FileName = FileName::new(FileKind::Manifest, 0);

/// The two merges that may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MergeKind {
    Flush,
    Compaction,
}

/// What a disk operation in flight is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Recovery,
    Commit,
    /// Sync of the log up to a group (interval durability).
    LogSync(u64),
    SegmentMake,
    SegmentDir,
    Merge(MergeKind),
    /// A read for a source of the merge with this id.
    MergeRead(MergeKind, usize, u64),
    /// A read of a value for the merge with this id.
    MergeValue(MergeKind, u64),
    Manifest,
    GetBlock(ReadToken),
    /// A read for a source, or for a record's value, of a scan that was begun anew so many times.
    ScanBlock(ReadToken, usize, u32),
    ScanValue(ReadToken, usize, u32),
    /// A read of nothing, so that a long scan lets others have their turn.
    ScanTurn(ReadToken, u32),
    Scrub,
    ReserveMake,
    ReserveFree,
    Remove,
}

/// A disk operation in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InFlight {
    pub(super) purpose: Purpose,
    pub(super) file: FileName,
    /// Bytes that it writes or reads.
    pub(super) bytes: usize,
}

impl InFlight {
    pub(super) fn new(purpose: Purpose, op: &DiskOp) -> Self {
        let bytes = match op {
            DiskOp::Write { data, .. } => data.len(),
            DiskOp::Read { len, .. } => *len as usize,
            _ => 0,
        };
        Self { purpose, file: op.file().unwrap_or(MANIFEST), bytes }
    }
}

impl Purpose {
    /// What the operation does, for the operator.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Recovery => "recover",
            Self::Commit => "write the log",
            Self::LogSync(_) => "sync the log",
            Self::SegmentMake | Self::SegmentDir => "make a segment of the log",
            Self::Merge(_) => "write a table",
            Self::Manifest => "write the manifest",
            Self::MergeRead(..)
            | Self::GetBlock(_)
            | Self::ScanBlock(..)
            | Self::ScanTurn(..)
            | Self::Scrub => "read a block",
            Self::MergeValue(..) | Self::ScanValue(..) => "read a value",
            Self::ReserveMake | Self::ReserveFree => "keep space in reserve",
            Self::Remove => "remove a file",
        }
    }

    /// What becomes of an operation that failed.
    pub(super) fn on_failure(self, kind: DiskErrorKind) -> OnFailure {
        match self {
            Self::SegmentMake | Self::Merge(_) | Self::Manifest if kind == DiskErrorKind::Full => {
                OnFailure::Full
            }
            Self::Recovery
            | Self::MergeRead(..)
            | Self::MergeValue(..)
            | Self::GetBlock(_)
            | Self::ScanBlock(..)
            | Self::ScanValue(..)
            | Self::ScanTurn(..)
            | Self::Scrub
            | Self::ReserveMake
            | Self::ReserveFree
            | Self::Remove => OnFailure::Handled,
            _ => OnFailure::Fatal,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnFailure {
    /// Undone, and tried again when there is space.
    Full,
    /// Whoever asked sees the failure.
    Handled,
    /// A failed write or sync leaves the bytes undefined: the store stops.
    Fatal,
}
