//! Verification of a shard's directory that no node uses (`samara verify`): a machine that reads every byte and writes
//! nothing. The host performs one operation after the other: `next_read`, then `on_result`, until `next_read` gives `None`.

use super::ceiling::{self, CEILINGS, SLOT_STRIDE};
use super::identity::{IDENTITY, Owner, check_owner};
use crate::io::{DiskOp, DiskResult, FileInfo, FileKind, FileName};
use crate::store::verify::{Findings, StoreVerifier};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes that a file of a few sectors may have at most; a longer one is damaged.
const SMALL_MAX: u64 = 2 * SLOT_STRIDE;
/// What a node without its ceilings is.
const NO_CEILING: &str =
    "the node will not start: it could use a stamp twice; replace it by one with a new id";

/// What the next result belongs to.
#[derive(Debug)]
enum Stage {
    List,
    Identity,
    Ceiling(usize),
    Store,
}

/// The verification of one shard's directory.
#[derive(Debug)]
pub struct Verifier {
    stage: Stage,
    files: Vec<FileInfo>,
    owner: Option<Owner>,
    is_fresh: bool,
    /// Ceilings that can be read.
    ceilings: usize,
    store: Option<StoreVerifier>,
    findings: Findings,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Verifier {
    /// A verification that has not begun.
    pub fn new() -> Self {
        Self {
            stage: Stage::List,
            files: Vec::new(),
            owner: None,
            is_fresh: true,
            ceilings: 0,
            store: None,
            findings: Findings::default(),
        }
    }

    /// The next operation, a listing or a read; `None` at the end.
    pub fn next_read(&mut self) -> Option<DiskOp> {
        let read = |file| Some(DiskOp::Read { file, offset: 0, len: SMALL_MAX as u32 + 1 });
        loop {
            match self.stage {
                Stage::List => return Some(DiskOp::List),
                Stage::Identity if self.has(IDENTITY) => return read(IDENTITY),
                Stage::Identity => self.stage = Stage::Ceiling(0),
                Stage::Ceiling(number) if number == CEILINGS.len() => self.begin_store(),
                Stage::Ceiling(number) if self.has(CEILINGS[number]) => return read(CEILINGS[number]),
                Stage::Ceiling(number) => {
                    if !self.is_fresh {
                        let means = "the other file holds the same; the next start makes it anew";
                        self.findings.damage(CEILINGS[number], None, "missing", means);
                    }
                    self.stage = Stage::Ceiling(number + 1);
                }
                Stage::Store => return self.store.as_mut()?.next_read(&mut self.findings),
            }
        }
    }

    /// The result of the operation that `next_read` gave last.
    pub fn on_result(&mut self, result: DiskResult) {
        if let (Stage::Store, Some(store)) = (&self.stage, &mut self.store) {
            return store.on_result(result, &mut self.findings);
        }
        let data = match result {
            DiskResult::Files(files) => {
                self.files = files;
                self.stage = Stage::Identity;
                return self.note_leftovers();
            }
            DiskResult::Data(data) => Ok(data),
            DiskResult::Failed(error) => Err(format!("cannot be read: {}", error.text)),
            DiskResult::Done => Err("cannot be read".to_string()),
        };
        self.findings.files += 1;
        self.findings.bytes += data.as_ref().map_or(0, |data| data.len() as u64);
        match self.stage {
            Stage::Identity => {
                self.on_identity(data);
                self.stage = Stage::Ceiling(0);
            }
            Stage::Ceiling(number) => {
                self.on_ceiling(number, data);
                self.stage = Stage::Ceiling(number + 1);
            }
            Stage::List | Stage::Store => {}
        }
    }

    fn has(&self, file: FileName) -> bool {
        self.files.iter().any(|info| info.file == file)
    }

    fn note_leftovers(&mut self) {
        for info in self.files.iter().filter(|info| info.file.kind == FileKind::Temp) {
            let means =
                "space in reserve, or left by a start or flush that was cut short; the next start removes it";
            self.findings.note(info.file, "a temporary file", means);
        }
    }

    fn on_identity(&mut self, data: Result<Bytes, String>) {
        let means = "the node will not start; restore the file or replace this node by one with a new id";
        match data.and_then(|data| check_owner(&data)) {
            Ok(owner) => (self.is_fresh, self.owner) = (owner.is_none(), owner),
            Err(reason) => {
                self.is_fresh = false;
                self.findings.damage(IDENTITY, None, &reason, means);
            }
        }
    }

    fn on_ceiling(&mut self, number: usize, data: Result<Bytes, String>) {
        let file = CEILINGS[number];
        match data {
            Ok(data) => {
                let (sound, damaged) = ceiling::check(&data);
                self.ceilings += sound;
                for offset in damaged {
                    let means = "the other file holds the same as long as it is sound; the next start writes both anew";
                    self.findings.damage(file, Some(offset), "a ceiling does not pass its check", means);
                }
            }
            Err(reason) => self.findings.damage(file, None, &reason, NO_CEILING),
        }
    }

    fn begin_store(&mut self) {
        if self.ceilings == 0 && !self.is_fresh {
            self.findings.damage(CEILINGS[0], None, "neither ceiling can be read", NO_CEILING);
        }
        if self.is_fresh {
            let means = "a first start that was cut short; the next start goes on from there";
            self.findings.note(IDENTITY, "not written yet", means);
        }
        self.stage = Stage::Store;
        self.store = Some(StoreVerifier::new(self.files.clone(), self.is_fresh, &mut self.findings));
    }

    /// Whose directory it is, once that has been read.
    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Bytes read, and bytes of all files.
    pub fn progress(&self) -> (u64, u64) {
        (self.findings.bytes, self.files.iter().map(|info| info.len).sum())
    }

    /// What has been found.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }
}
