//! The seeded simulator: one thread, virtual time, and every fault that a cluster meets.
//!
//! A seed and a [`scenario::Scenario`] make a [`plan::Plan`]; [`world::run`] executes it against the real state machine of
//! `samara-core`; [`judge`] has the checker judge what the clients saw.
#![forbid(unsafe_code)]

pub mod batch;
pub mod client;
pub mod commands;
mod damage;
pub mod deed;
pub mod deeds;
pub mod disk;
mod faults;
mod impostors;
pub mod judge;
mod machine;
pub mod monitor;
mod network;
pub mod order;
pub mod plan;
pub mod promises;
pub mod random;
pub mod rules;
pub mod scenario;
pub mod sequences;
pub mod shrink;
pub mod situations;
pub mod strolls;
mod suspects;
pub mod walks;
mod watermarks;
pub mod world;
