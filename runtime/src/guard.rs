//! Who is let in: passwords, the file of users, and what is served to whom without a password.

use crate::access::{DEFAULT, Password, Table};
use crate::credentials::{Secret, secret};
use crate::users::Users;
use clap::Args;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seconds that a client is given for its password.
const AUTH_TIMEOUT: u64 = 30;

/// Flags about who is let in.
#[derive(Debug, Clone, Default, Args)]
pub struct GuardFlags {
    /// Password of the default user, as Valkey's requirepass. On a command line everybody on the machine can see it (ps):
    /// better give it as SAMARA_REQUIREPASS or by --requirepass-file (default: none).
    #[arg(long, env = "SAMARA_REQUIREPASS", hide_env_values = true)]
    pub requirepass: Option<Secret>,
    /// A file that holds that password, in one line.
    #[arg(long, env = "SAMARA_REQUIREPASS_FILE", value_name = "FILE")]
    pub requirepass_file: Option<PathBuf>,
    /// A file of users, a line `user NAME rule...` each, as Valkey's aclfile. ACL SAVE writes it, ACL LOAD reads it again.
    #[arg(long, env = "SAMARA_USERS_FILE", value_name = "FILE")]
    pub users_file: Option<PathBuf>,
    /// While the default user has no password, serve clients on this machine only: yes or no (default: yes).
    #[arg(long, env = "SAMARA_PROTECTED_MODE", value_name = "yes|no")]
    pub protected_mode: Option<String>,
    /// Seconds that a client is given for its password, where one is asked for (default: 30).
    #[arg(long, env = "SAMARA_AUTH_TIMEOUT", value_name = "SECONDS")]
    pub auth_timeout: Option<u64>,
    /// What the HTTP port serves without a password beside /healthz and /readyz: metrics, admin, or both with a comma
    /// (default: neither).
    #[arg(long, env = "SAMARA_HTTP_OPEN", value_name = "metrics,admin")]
    pub http_open: Option<String>,
}

/// Where the users come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Entrance {
    /// Anybody is the default user, which may do everything.
    #[default]
    Open,
    /// The default user has this password.
    Password(Password),
    /// From a file.
    File(PathBuf),
}

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Where the users come from.
    pub entrance: Entrance,
    /// While there is no password, only clients on this machine are served.
    pub is_protected: bool,
    /// How long a client is given for its password.
    pub auth_timeout: Duration,
    /// `/metrics` needs no password.
    pub metrics_are_open: bool,
    /// `/admin/` needs no password.
    pub admin_is_open: bool,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            entrance: Entrance::Open,
            is_protected: true,
            auth_timeout: Duration::from_secs(AUTH_TIMEOUT),
            metrics_are_open: false,
            admin_is_open: false,
        }
    }
}

/// What a client is told that is not on this machine while there is no password.
pub const DENIED: &str = "DENIED this node is in protected mode: its default user has no password, so that only clients on the same machine are served. Start it with a password (--requirepass-file or --users-file), or serve everybody with --protected-mode no";

impl GuardFlags {
    /// These flags, and where they are silent those.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        // One way to say the password is enough: a flag is not contradicted by what the file says in another way.
        let says = |one: &Self| {
            one.requirepass.is_some() || one.requirepass_file.is_some() || one.users_file.is_some()
        };
        let first = if says(&self) { &self } else { &other };
        Self {
            requirepass: first.requirepass.clone(),
            requirepass_file: first.requirepass_file.clone(),
            users_file: first.users_file.clone(),
            protected_mode: self.protected_mode.or(other.protected_mode),
            auth_timeout: self.auth_timeout.or(other.auth_timeout),
            http_open: self.http_open.or(other.http_open),
        }
    }

    /// Reads what they say.
    pub fn resolve(&self) -> Result<Guard, String> {
        let mut guard = Guard { entrance: self.entrance()?, ..Guard::default() };
        guard.is_protected = match self.protected_mode.as_deref() {
            None | Some("yes") => true,
            Some("no") => false,
            Some(other) => return Err(format!("--protected-mode {other}: give yes or no")),
        };
        if let Some(seconds) = self.auth_timeout {
            if !(1..=86_400).contains(&seconds) {
                return Err(format!("--auth-timeout {seconds}: give 1 to 86400 seconds"));
            }
            guard.auth_timeout = Duration::from_secs(seconds);
        }
        for name in self.http_open.as_deref().unwrap_or_default().split(',').filter(|name| !name.is_empty()) {
            match name.trim() {
                "metrics" => guard.metrics_are_open = true,
                "admin" => guard.admin_is_open = true,
                other => return Err(format!("--http-open {other}: give metrics, admin, or metrics,admin")),
            }
        }
        Ok(guard)
    }

    fn entrance(&self) -> Result<Entrance, String> {
        match (&self.requirepass, &self.requirepass_file, &self.users_file) {
            (None, None, None) => Ok(Entrance::Open),
            (Some(text), None, None) if text.0.is_empty() => {
                Err("--requirepass: it is empty; give a password, or leave it away".into())
            }
            (Some(text), None, None) => Ok(Entrance::Password(Password::of(text.0.as_bytes()))),
            (None, Some(path), None) => password_file(path).map(Entrance::Password),
            (None, None, Some(path)) => Ok(Entrance::File(path.clone())),
            _ => Err("--requirepass, --requirepass-file and --users-file exclude each other: give the default user's password as a line `user default on >password ~* +@all` of the file of users".into()),
        }
    }
}

/// The hash of the password that a file holds, in one line.
fn password_file(path: &Path) -> Result<Password, String> {
    let name = path.display();
    let text = secret(path).map_err(|reason| format!("--requirepass-file {name}: {reason}"))?;
    Ok(Password::of(text.as_bytes()))
}

impl Guard {
    /// The users that a node begins with.
    pub fn users(&self) -> Result<Users, String> {
        match &self.entrance {
            Entrance::Open => Ok(Users::default()),
            Entrance::Password(password) => {
                let mut table = Table::default();
                let rule = format!("#{}", password.text());
                table.set(DEFAULT, &[rule.as_bytes()]).expect("a password is a sound rule");
                Ok(Users::new(table, None))
            }
            Entrance::File(path) => Users::open(path).map_err(|reason| {
                let hint = if path.exists() { "" } else { "; make it, empty to begin with" };
                format!("--users-file {reason}{hint}")
            }),
        }
    }

    /// Whether a client from there is sent away.
    pub fn denies(&self, users: &Users, client: IpAddr) -> bool {
        self.is_protected && !client.to_canonical().is_loopback() && users.are_open()
    }

    /// What an operator should know about a node that listens there.
    pub fn warning(&self, users: &Users, listen: &str) -> Option<String> {
        let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host).trim_matches(['[', ']']);
        let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if is_local || !users.are_open() {
            return None;
        }
        Some(if self.is_protected {
            format!(
                "{listen}: the default user has no password: only clients on this machine are served; give one by --requirepass-file or --users-file, or serve everybody by --protected-mode no"
            )
        } else {
            format!(
                "{listen}: the default user has no password, and protected mode is off: whoever reaches this port may read and change everything"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> GuardFlags {
        GuardFlags::default()
    }

    #[test]
    fn flags_are_read_and_what_makes_no_sense_is_refused() {
        let password = |text: &str| GuardFlags { requirepass: Some(Secret(text.into())), ..flags() };
        assert_eq!(flags().resolve(), Ok(Guard::default()));
        let guard = password("x").resolve().expect("a good password");
        assert_eq!(guard.entrance, Entrance::Password(Password::of(b"x")));
        assert!(!format!("{guard:?}").contains(&Password::of(b"x").text()));
        let users = guard.users().expect("there is no file");
        assert!(
            !users.are_open() && users.admit(DEFAULT, b"x").is_some() && users.admit(DEFAULT, b"y").is_none()
        );
        let open = GuardFlags { http_open: Some("metrics, admin".into()), auth_timeout: Some(5), ..flags() };
        let open = open.resolve().expect("good flags");
        assert!(open.metrics_are_open && open.admin_is_open && open.auth_timeout == Duration::from_secs(5));
        let bad = [
            (password(""), "--requirepass: it is empty"),
            (GuardFlags { users_file: Some("f".into()), ..password("x") }, "exclude each other"),
            (
                GuardFlags { requirepass_file: Some("/nonexistent".into()), ..flags() },
                "--requirepass-file /nonexistent: ",
            ),
            (
                GuardFlags { protected_mode: Some("on".into()), ..flags() },
                "--protected-mode on: give yes or no",
            ),
            (GuardFlags { auth_timeout: Some(0), ..flags() }, "--auth-timeout 0: give 1"),
            (GuardFlags { http_open: Some("keys".into()), ..flags() }, "--http-open keys: give metrics"),
        ];
        for (flags, expected) in bad {
            let reason = flags.resolve().expect_err(expected);
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn a_flag_is_not_contradicted_by_the_file() {
        let file = GuardFlags { users_file: Some("f".into()), protected_mode: Some("no".into()), ..flags() };
        let merged = GuardFlags { requirepass: Some(Secret("x".into())), ..flags() }.or(file.clone());
        assert_eq!((merged.users_file, merged.protected_mode.as_deref()), (None, Some("no")));
        assert!(merged.requirepass.is_some());
        assert_eq!(flags().or(file).users_file, Some("f".into()));
    }

    #[test]
    fn without_a_password_only_this_machine_is_served() {
        let (open, closed) = (
            Users::default(),
            Guard { entrance: Entrance::Password(Password::of(b"x")), ..Guard::default() },
        );
        let closed = closed.users().expect("there is no file");
        let (yes, no) = (Guard::default(), Guard { is_protected: false, ..Guard::default() });
        for (ip, is_local) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("fe80::1", false),
        ] {
            let ip = ip.parse().expect("an address");
            assert_eq!(yes.denies(&open, ip), !is_local, "{ip}");
            assert!(!yes.denies(&closed, ip) && !no.denies(&open, ip), "{ip}");
        }
        for (listen, warns) in [
            ("127.0.0.1:1", false),
            ("[::1]:1", false),
            ("localhost:1", false),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
        ] {
            assert_eq!(yes.warning(&open, listen).is_some(), warns, "{listen}");
            assert_eq!(no.warning(&open, listen).is_some(), warns, "{listen}");
            assert_eq!(yes.warning(&closed, listen), None);
        }
    }
}
