//! The virtual disk: a flat directory of named files. The production disk is real files on I/O threads; the simulator's
//! keeps per sector what is durable, what is only cached, and what is broken.

use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use serde::{Deserialize, Serialize};

/// What a file is for. The order is the order of listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// Format version, cluster and node identity, written once.
    Identity,
    /// One of the two copies of the ceiling and start number.
    Ceiling,
    /// The manifest's edit log.
    Manifest,
    /// A write-ahead log segment.
    Wal,
    /// A sorted string table.
    Table,
    /// A file being prepared under a name that recovery removes.
    Temp,
    /// Large values that stand apart from their records.
    Value,
}

/// A file's name: kind and number, printed as `0000000012.wal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileName {
    /// What it is for.
    pub kind: FileKind,
    /// Which one.
    pub number: u64,
}

impl FileKind {
    const SUFFIXES: [(FileKind, &'static str); 7] = [
        (FileKind::Identity, "identity"),
        (FileKind::Ceiling, "ceiling"),
        (FileKind::Manifest, "manifest"),
        (FileKind::Wal, "wal"),
        (FileKind::Table, "table"),
        (FileKind::Temp, "temp"),
        (FileKind::Value, "value"),
    ];

    /// The suffix of the file's name.
    pub fn suffix(self) -> &'static str {
        Self::SUFFIXES.iter().find(|(kind, _)| *kind == self).map_or("temp", |(_, suffix)| suffix)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}.{}", self.number, self.kind.suffix())
    }
}

impl FileName {
    /// The name of a number of a kind.
    pub const fn new(kind: FileKind, number: u64) -> Self {
        Self { kind, number }
    }

    /// The inverse of `Display`; `None` for a name that is not ours.
    pub fn parse(name: &str) -> Option<Self> {
        let (digits, suffix) = name.split_once('.')?;
        if digits.len() < 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (kind, _) = FileKind::SUFFIXES.iter().find(|(_, s)| *s == suffix)?;
        Some(Self { kind: *kind, number: digits.parse().ok()? })
    }
}

/// A disk operation. Two operations in flight may be done in any order: whoever needs an order waits for the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskOp {
    /// Make an empty file, `preallocate` bytes of space reserved and zero; fails if it exists. Its name is durable
    /// after `SyncDir`.
    Create {
        /// The file.
        file: FileName,
        /// Length of the new file, filled with zeros.
        preallocate: u64,
    },
    /// Write `data` at `offset`, extending the file if need be. With `sync`, done means durable (data and length).
    Write {
        /// The file.
        file: FileName,
        /// Byte offset.
        offset: u64,
        /// The bytes.
        data: Bytes,
        /// Whether to `fdatasync` before answering.
        sync: bool,
    },
    /// Read up to `len` bytes at `offset`; fewer at the end of the file.
    Read {
        /// The file.
        file: FileName,
        /// Byte offset.
        offset: u64,
        /// Most bytes wanted.
        len: u32,
    },
    /// Make all completed writes of the file durable.
    Sync {
        /// The file.
        file: FileName,
    },
    /// Set the file's length.
    Truncate {
        /// The file.
        file: FileName,
        /// New length.
        len: u64,
    },
    /// Rename, replacing `to`. Durable after `SyncDir`.
    Rename {
        /// Old name.
        from: FileName,
        /// New name.
        to: FileName,
    },
    /// Remove a file. Durable after `SyncDir`.
    Remove {
        /// The file.
        file: FileName,
    },
    /// Name every file of ours with its length, ordered by name.
    List,
    /// Make creations, renames and removals durable.
    SyncDir,
}

impl DiskOp {
    /// The file that it is about, under its new name; `None` for an operation on the directory.
    pub fn file(&self) -> Option<FileName> {
        match self {
            Self::Create { file, .. }
            | Self::Write { file, .. }
            | Self::Read { file, .. }
            | Self::Sync { file }
            | Self::Truncate { file, .. }
            | Self::Remove { file } => Some(*file),
            Self::Rename { to, .. } => Some(*to),
            Self::List | Self::SyncDir => None,
        }
    }
}

/// A file and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Its name.
    pub file: FileName,
    /// Its length in bytes.
    pub len: u64,
}

/// How a disk operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskResult {
    /// It is done.
    Done,
    /// The bytes of a `Read`.
    Data(Bytes),
    /// The answer to `List`.
    Files(Vec<FileInfo>),
    /// It failed; a failed write or sync leaves the bytes concerned undefined.
    Failed(DiskError),
}

/// Why a disk operation failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskError {
    /// What the core decides by.
    pub kind: DiskErrorKind,
    /// The host's words, for the log.
    pub text: String,
}

/// The kinds of disk errors that lead to different decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskErrorKind {
    /// No such file.
    NotFound,
    /// No space left.
    Full,
    /// Anything else: I/O error, permission.
    Io,
}
