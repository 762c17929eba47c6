//! Our disk operations on real files, done at once.

use bytes::Bytes;
use samara_core::io::{DiskOp, DiskResult, FileInfo, FileName};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

pub struct Files {
    path: PathBuf,
    open: HashMap<FileName, File>,
}

impl Files {
    pub fn new(path: PathBuf) -> Self {
        Self { path, open: HashMap::new() }
    }

    fn file(&mut self, name: FileName) -> Result<&File> {
        if !self.open.contains_key(&name) {
            let path = self.path.join(name.to_string());
            self.open.insert(name, OpenOptions::new().read(true).write(true).open(path)?);
        }
        Ok(&self.open[&name])
    }

    pub fn perform(&mut self, op: &DiskOp) -> Result<DiskResult> {
        match op {
            DiskOp::Create { file, preallocate } => {
                let path = self.path.join(file.to_string());
                let made = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
                let zeros = vec![0; 1 << 20];
                for at in (0..*preallocate).step_by(zeros.len()) {
                    made.write_all_at(&zeros[..zeros.len().min((preallocate - at) as usize)], at)?;
                }
                self.open.insert(*file, made);
            }
            DiskOp::Write { file, offset, data, sync } => {
                let file = self.file(*file)?;
                file.write_all_at(data, *offset)?;
                if *sync {
                    file.sync_data()?;
                }
            }
            DiskOp::Read { file, offset, len } => {
                let mut data = vec![0; *len as usize];
                let count = self.file(*file)?.read_at(&mut data, *offset)?;
                data.truncate(count);
                return Ok(DiskResult::Data(Bytes::from(data)));
            }
            DiskOp::Sync { file } => self.file(*file)?.sync_data()?,
            DiskOp::Truncate { file, len } => self.file(*file)?.set_len(*len)?,
            DiskOp::Rename { from, to } => {
                std::fs::rename(self.path.join(from.to_string()), self.path.join(to.to_string()))?;
                self.open.remove(to);
                if let Some(file) = self.open.remove(from) {
                    self.open.insert(*to, file);
                }
            }
            DiskOp::Remove { file } => {
                self.open.remove(file);
                std::fs::remove_file(self.path.join(file.to_string()))?;
            }
            DiskOp::List => {
                let mut files = Vec::new();
                for entry in std::fs::read_dir(&self.path)? {
                    let entry = entry?;
                    if let Some(file) = entry.file_name().to_str().and_then(FileName::parse) {
                        files.push(FileInfo { file, len: entry.metadata()?.len() });
                    }
                }
                files.sort_by_key(|info| info.file);
                return Ok(DiskResult::Files(files));
            }
            DiskOp::SyncDir => File::open(&self.path)?.sync_all()?,
        }
        Ok(DiskResult::Done)
    }
}
