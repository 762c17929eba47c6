//! What keeps a block or a value from being read.

use alloc::string::String;

/// Why a block or a value is not to be had.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The disk did not give it back; it may the next time.
    Unread(String),
    /// It came back other than it was written.
    Damaged(String),
}
