//! Ids, time, stamps, records and limits: what every layer above speaks in.

pub mod checksum;
pub mod client;
pub mod config;
pub mod counters;
pub mod ids;
pub mod limits;
#[cfg(test)]
pub mod mutate;
pub mod planted;
pub mod record;
pub mod rng;
pub mod stamp;
pub mod time;

pub use client::{
    Body, ExpireWhen, Expiry, Failure, KeyOp, Level, Page, PageEntry, Reply, Request, Response, Wanted, When,
};
pub use config::{Config, Member};
pub use counters::{Counter, Counters};
pub use ids::{Address, ClusterId, Epoch, NodeId, RequestId, ShardId, Slot, StartNumber, Ticket};
pub use record::{Applied, Outcome, Record, RecordKey, Rejection};
pub use stamp::{Hlc, OpId, Stamp};
pub use time::{Instant, Now, WallTime};
