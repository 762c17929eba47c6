//! File systems that a test mounts for itself, so that a disk can be full, broken, read-only or frozen in earnest.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted file system; it goes with the test.
pub struct Mount {
    path: PathBuf,
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let said = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let said = said.map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&said.stderr).trim().to_string();
    if said.status.success() { Ok(()) } else { Err(format!("{program} {}: {text}", arguments.join(" "))) }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// `None` with a visible line where the machine does not let us mount; a gate must.
fn or_skip<T>(mounted: Result<T, String>) -> Option<T> {
    mounted
        .map_err(|reason| {
            assert!(std::env::var("CI").is_err(), "cannot mount (run as root): {reason}");
            println!("SKIPPED: cannot mount a file system (root is needed): {reason}");
        })
        .ok()
}

impl Mount {
    /// A file system in memory, of so many MiB.
    pub fn tmpfs(path: &Path, mebibytes: u32) -> Option<Self> {
        std::fs::create_dir_all(path).expect("a folder");
        let size = format!("size={mebibytes}m");
        or_skip(run("mount", &["-t", "tmpfs", "-o", &size, "samara-test", text(path)]))?;
        Some(Self { path: path.to_owned() })
    }

    /// An ext4 file system of so many MiB in a sparse file.
    pub fn ext4(path: &Path, image: &Path, mebibytes: u64) -> Option<Self> {
        std::fs::create_dir_all(path).expect("a folder");
        let file = std::fs::File::create(image).expect("a file");
        file.set_len(mebibytes << 20).expect("a sparse file");
        or_skip(run("mkfs.ext4", &["-q", "-F", text(image)]))?;
        Self::image(path, image)
    }

    /// A file system that is in a file.
    pub fn image(path: &Path, image: &Path) -> Option<Self> {
        or_skip(run("mount", &["-o", "loop", text(image), text(path)]))?;
        Some(Self { path: path.to_owned() })
    }

    /// Until the guard goes every write to it waits, and so does the end of a process that writes.
    pub fn freeze(&self) -> Frozen {
        run("fsfreeze", &["-f", text(&self.path)]).expect("a mounted file system can be frozen");
        Frozen(self.path.clone())
    }

    /// Mounts it again with other options.
    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        run("mount", &["-o", &options, text(&self.path)]).expect("it is mounted");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a node that has just been killed may still let go of it.
        let _gone = run("umount", &["-l", text(&self.path)]);
    }
}

/// A file system that is frozen as long as this lives.
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        run("fsfreeze", &["-u", text(&self.0)]).expect("it was frozen");
    }
}
