//! The users of a node as all its connections share them, and the file that they are kept in.

use crate::access::log::Log;
use crate::access::{Denied, Table, User, parse_file};
use crate::commands::Found;
use crate::resp::Args;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a file of users.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The error before a password is given.
pub const NO_AUTH: &str = "NOAUTH Authentication required.";
/// The error of AUTH.
pub const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// The users of a node.
#[derive(Debug, Default)]
pub struct Users {
    table: Mutex<Table>,
    /// Goes up with every change. Read without the lock: whoever has seen the present one has the present rules.
    version: AtomicU64,
    file: Option<PathBuf>,
    /// Held while the file is written or read: it never goes back to what it held before.
    at_file: Mutex<()>,
    log: Mutex<Log>,
}

/// Who a connection is.
#[derive(Debug, Clone)]
pub struct Identity {
    user: Arc<User>,
    serial: u64,
    version: u64,
    /// It has said a right password, or came when none was asked for.
    is_authenticated: bool,
    /// Whether it may ask for more than to be let in.
    is_admitted: bool,
    /// Admitted, and there is nothing that it is forbidden.
    may_do_everything: bool,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No password has been given.
    NoAuth,
    /// The user may not make it.
    NoPermission(Denied),
}

impl Identity {
    /// Its user.
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// Which user of that name it is.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether it has to say a password first.
    pub fn must_authenticate(&self) -> bool {
        !self.is_admitted
    }

    /// Whether a request is allowed: one comparison for who may do everything, and no memory for anybody.
    pub fn check(&self, found: Found, a: &Args<'_>) -> Result<(), Refusal> {
        if self.may_do_everything {
            return Ok(());
        }
        if !self.is_admitted {
            return if found.is_free() { Ok(()) } else { Err(Refusal::NoAuth) };
        }
        self.user.check(found, a).map_err(Refusal::NoPermission)
    }

    /// The error of a refusal, in Valkey's words.
    pub fn text(&self, refusal: Refusal, found: Found) -> Vec<u8> {
        match refusal {
            Refusal::NoAuth => NO_AUTH.into(),
            Refusal::NoPermission(Denied::Command) => {
                [b"NOPERM ", &no_command(&self.user, found)[..]].concat()
            }
            Refusal::NoPermission(Denied::Key(_)) => b"NOPERM No permissions to access a key".to_vec(),
        }
    }
}

/// Says that a user may not run a command.
pub fn no_command(user: &User, found: Found) -> Vec<u8> {
    let name = found.command.name.as_bytes();
    [b"User ", &user.name()[..], b" has no permissions to run the '", name, b"' command"].concat()
}

impl Users {
    /// These users, kept in this file, if they are.
    pub fn new(table: Table, file: Option<PathBuf>) -> Self {
        Self { table: Mutex::new(table), file, ..Self::default() }
    }

    /// Reads the users of a file. `Err` says what is wrong with it, and where.
    pub fn open(path: &Path) -> Result<Self, String> {
        let mut table = Table::default();
        table.replace(read(path)?);
        Ok(Self::new(table, Some(path.into())))
    }

    /// Nothing panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at all users.
    pub fn look<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.lock())
    }

    /// Changes users: every connection looks anew before its next command.
    pub fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.lock();
        let result = change(&mut table);
        self.version.fetch_add(1, Ordering::Release);
        result
    }

    /// Who somebody is that has said nothing yet.
    pub fn newcomer(&self) -> Identity {
        let table = self.lock();
        let entry = table.default_user();
        let is_open = entry.user.is_open();
        self.identity(entry.user.clone(), entry.serial, is_open, is_open)
    }

    /// Who comes in with this name and password.
    pub fn admit(&self, name: &[u8], password: &[u8]) -> Option<Identity> {
        let table = self.lock();
        let entry = table.admit(name, password)?;
        Some(self.identity(entry.user.clone(), entry.serial, true, table.default_user().user.is_open()))
    }

    /// To be called with the lock held: the version is that of the table.
    fn identity(&self, user: Arc<User>, serial: u64, is_authenticated: bool, is_open: bool) -> Identity {
        let is_admitted = is_authenticated || is_open;
        let may_do_everything = is_admitted && user.may_do_everything();
        let version = self.version.load(Ordering::Acquire);
        Identity { user, serial, version, is_authenticated, is_admitted, may_do_everything }
    }

    /// Brings an identity up to date; false if its user is gone.
    pub fn refresh(&self, identity: &mut Identity) -> bool {
        if self.version.load(Ordering::Acquire) == identity.version {
            return true;
        }
        let table = self.lock();
        let Some(entry) = table.named(identity.user.name()).filter(|now| now.serial == identity.serial)
        else {
            return false;
        };
        let is_open = table.default_user().user.is_open();
        *identity = self.identity(entry.user.clone(), entry.serial, identity.is_authenticated, is_open);
        true
    }

    /// Whether the default user has no password, so that everybody who connects is in.
    pub fn are_open(&self) -> bool {
        self.lock().default_user().user.has_no_password()
    }

    /// What was refused lately.
    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file that the users are kept in.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Writes all users to their file, which holds the old ones or the new ones whatever happens meanwhile.
    pub fn save(&self) -> Result<(), String> {
        let path = self.file.as_deref().ok_or("there is no file of users")?;
        let _alone = self.at_file.lock().unwrap_or_else(PoisonError::into_inner);
        let text = self.lock().file();
        replace(path, &text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Takes the users from their file; if anything is wrong with it, nothing changes.
    pub fn load(&self) -> Result<(), String> {
        let path = self.file.as_deref().ok_or("there is no file of users")?;
        let _alone = self.at_file.lock().unwrap_or_else(PoisonError::into_inner);
        let users = read(path)?;
        self.change(|table| table.replace(users));
        Ok(())
    }

    /// The serials of all users.
    pub fn serials(&self) -> Vec<u64> {
        self.lock().serials().collect()
    }
}

fn read(path: &Path) -> Result<Vec<User>, String> {
    let name = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("{name}: {error}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{name}: {size} bytes; a file of users has at most {FILE_BYTES_MAX}"));
    }
    let text = std::fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    parse_file(&text).map_err(|reason| format!("{name}, {reason}"))
}

/// Files that this process has written.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Puts `text` in the place of a file: a new file beside it, synced, renamed over it, and the directory synced.
fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    // A link stays a link.
    let path = &std::fs::canonicalize(path)?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    // Several nodes of one process may have one file.
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}-{number}.temp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&temporary)?;
        // Not before the permissions are the old file's: it holds hashes of passwords.
        file.set_permissions(std::fs::metadata(path)?.permissions())?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    let result = write();
    if result.is_err() {
        // It may never have been made.
        let _gone = std::fs::remove_file(&temporary);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::lookup;

    #[test]
    fn saves_side_by_side_leave_a_whole_file_and_nothing_else() {
        let directory = std::env::temp_dir().join(format!("samara-users-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("users");
        std::fs::write(&path, "").expect("a file");
        let users = Users::open(&path).expect("an empty file");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (users, path) = (&users, &path);
                scope.spawn(move || {
                    for number in 0..20 {
                        let name = format!("user-{thread}-{number}");
                        users.change(|table| table.set(name.as_bytes(), &[b"on"])).expect("good rules");
                        users.save().expect("it is written");
                        let saved = read(path).expect("a whole file");
                        assert!(saved.iter().any(|user| user.name() == name.as_bytes()), "{name}");
                    }
                });
            }
        });
        assert_eq!(std::fs::read(&path).expect("a file"), users.look(Table::file));
        assert_eq!(std::fs::read_dir(&directory).expect("a directory").count(), 1);
        std::fs::remove_dir_all(&directory).expect("it is ours");
        assert!(users.save().is_err_and(|reason| reason.contains("users: ")), "its directory is gone");
    }

    #[test]
    fn an_identity_follows_its_user() {
        let users = Users::default();
        let set =
            |name: &[u8], rules: &[&[u8]]| users.change(|table| table.set(name, rules)).expect("good rules");
        let ping = Args::new(b"PINGhi", &[0..4, 4..6]);
        let found = lookup(&ping).unwrap_or_else(|_| panic!("it is there"));
        let mut early = users.newcomer();
        set(b"default", &[b">x"]);
        let mut late = users.newcomer();
        assert!(users.refresh(&mut early) && users.refresh(&mut late));
        assert_eq!(early.check(found, &ping), Ok(()), "who was in stays in");
        assert_eq!(late.check(found, &ping), Err(Refusal::NoAuth));
        set(b"default", &[b"nopass", b"-ping"]);
        assert!(users.refresh(&mut early) && users.refresh(&mut late));
        let denied = Err(Refusal::NoPermission(Denied::Command));
        assert_eq!((early.check(found, &ping), late.check(found, &ping)), (denied, denied));
        set(b"a", &[b"on", b"nopass", b"+@all"]);
        let mut a = users.admit(b"a", b"").expect("no password");
        assert_eq!(a.check(found, &ping), Ok(()));
        users.change(|table| table.remove(b"a"));
        set(b"a", &[b"on", b"nopass", b"+@all"]);
        assert!(!users.refresh(&mut a), "another of that name");
    }
}
