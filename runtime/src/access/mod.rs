//! Users, their passwords and what they may do: the rules of Valkey's ACLs, decided purely. Nothing here reads a clock, a file or
//! a socket.

pub mod log;
mod password;
mod pattern;
mod selector;
mod table;
mod user;

pub use password::Password;
pub use selector::{Denied, Selector};
pub use table::{Entry, Table, parse_file};
pub use user::User;

/// The user that a connection has before it names another.
pub const DEFAULT: &[u8] = b"default";

/// Why a rule is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is none, or its pattern has spaces.
    Syntax,
    /// It names what is not there.
    Unknown,
    /// A pattern of keys after all keys.
    KeysAfterAll,
    /// A pattern of channels after all channels.
    ChannelsAfterAll,
    /// A password that is to be removed is none of the user's.
    NoSuchPassword,
    /// A hash is not one.
    BadHash,
    /// `+command|subcommand|argument`.
    ArgumentOfSubcommand,
    /// A limit of this module.
    TooMany(&'static str),
}

impl Refused {
    /// As Valkey words it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Syntax => "Syntax error",
            Self::Unknown => "Unknown command or category name in ACL",
            Self::KeysAfterAll => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            Self::ChannelsAfterAll => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels"
            }
            Self::NoSuchPassword => "The password you are trying to remove from the user does not exist",
            Self::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            Self::ArgumentOfSubcommand => "Allowing first-arg of a subcommand is not supported",
            Self::TooMany(limit) => limit,
        }
    }
}

/// Whether a name or a pattern holds what would break a line of a file of users.
fn has_spaces(text: &[u8]) -> bool {
    text.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b))
}
