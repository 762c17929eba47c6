//! The virtual disk's operations, carried out. Completions go to the shard's inbox, in any order.

#[cfg(not(madsim))]
pub mod files;
pub mod latency;
pub mod memory;

use samara_core::base::Ticket;
use samara_core::io::DiskOp;

/// Carries out disk operations.
pub trait Disk: Send + 'static {
    /// Begins an operation; its result will come to the inbox under `ticket`.
    fn submit(&mut self, ticket: Ticket, op: DiskOp);
}
