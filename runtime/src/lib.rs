//! The samara node: a thin shell of threads, sockets and files around the state machine of `samara-core`.
//!
//! Nothing here decides anything about consistency: bytes come in, inputs go to the core, outputs are carried out.
#![forbid(unsafe_code)]

pub mod access;
#[cfg(not(madsim))]
pub mod admin;
pub mod clients;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod connection;
pub mod credentials;
pub mod cursors;
#[cfg(not(madsim))]
pub mod descriptors;
pub mod disk;
pub mod driver;
pub mod filter;
pub mod foreign;
pub mod gauges;
pub mod glob;
pub mod guard;
#[cfg(not(madsim))]
pub mod http;
pub mod inbox;
pub mod listen;
#[cfg(not(madsim))]
pub mod node;
pub mod peers;
pub mod range;
pub mod reply;
pub mod resp;
pub mod scan;
pub mod server;
pub mod slowlog;
pub mod stats;
pub mod users;
#[cfg(not(madsim))]
pub mod verify;
pub mod walker;
