//! Who a command of ours says that it is: `samara admin` and `samara bench`.

use clap::Args;
use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Bytes of a file that holds a password.
const PASSWORD_BYTES_MAX: u64 = 4_096;

/// A password as it is said. It is never shown.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.into()))
    }
}

/// Flags about who asks.
#[derive(Debug, Clone, Default, Args)]
pub struct CredentialFlags {
    /// User to ask as (default: the default user).
    #[arg(long, env = "SAMARA_USER", global = true)]
    user: Option<String>,
    /// A file that holds its password, in one line.
    #[arg(long, env = "SAMARA_PASSWORD_FILE", value_name = "FILE", global = true)]
    password_file: Option<PathBuf>,
    /// Its password. On a command line everybody on the machine can see it (ps): better give it as SAMARA_PASSWORD.
    #[arg(long, env = "SAMARA_PASSWORD", hide_env_values = true, global = true)]
    password: Option<Secret>,
}

/// A user and its password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

impl CredentialFlags {
    /// Who asks, if anybody is named.
    pub fn resolve(&self) -> Result<Option<Credentials>, String> {
        let password = match (&self.password, &self.password_file) {
            (Some(password), None) => password.clone(),
            (None, Some(path)) => {
                let failed = |reason| format!("--password-file {}: {reason}", path.display());
                Secret(secret(path).map_err(failed)?)
            }
            (None, None) if self.user.is_some() => {
                return Err("--user: give its password, too, as SAMARA_PASSWORD or by --password-file".into());
            }
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err("--password and --password-file exclude each other".into()),
        };
        let user = self.user.clone().unwrap_or_else(|| "default".into());
        Ok(Some(Credentials { user, password }))
    }
}

/// The password that a file holds, in one line.
pub fn secret(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > PASSWORD_BYTES_MAX {
        return Err(format!(
            "{size} bytes are no password; it holds one line of at most {PASSWORD_BYTES_MAX}"
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() || line.contains('\n') {
        return Err("it does not hold a password in one line".into());
    }
    Ok(line.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_read_and_not_shown() {
        let flags =
            CredentialFlags { password: Some(Secret("hunter2".into())), ..CredentialFlags::default() };
        assert!(!format!("{flags:?}").contains("hunter2"));
        let credentials = flags.resolve().expect("a password").expect("somebody");
        assert_eq!((credentials.user.as_str(), credentials.password.0.as_str()), ("default", "hunter2"));
        assert!(CredentialFlags::default().resolve().is_ok_and(|nobody| nobody.is_none()));
        let user = CredentialFlags { user: Some("app".into()), ..CredentialFlags::default() };
        assert!(user.resolve().is_err_and(|reason| reason.contains("SAMARA_PASSWORD")));
        let both = CredentialFlags { password_file: Some("f".into()), ..flags };
        assert!(both.resolve().is_err_and(|reason| reason.contains("exclude each other")));
    }
}
