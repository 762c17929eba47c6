//! The virtual disk's operations, carried out. Completions go to the shard's inbox, in any order.

#[cfg(not(madsim))]
mod directory;
#[cfg(all(test, not(madsim)))]
mod faulty;
#[cfg(not(madsim))]
pub mod files;
#[cfg(not(madsim))]
mod handles;
#[cfg(not(madsim))]
mod lanes;
pub mod latency;
pub mod memory;
#[cfg(not(madsim))]
pub mod system;

use samara_core::base::Ticket;
use samara_core::io::DiskOp;

/// Carries out disk operations.
pub trait Disk: Send + 'static {
    /// Begins an operation; its result will come to the inbox under `ticket`.
    fn submit(&mut self, ticket: Ticket, op: DiskOp);
}
