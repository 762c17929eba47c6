//! Consistency checkers for recorded histories of key-value stores.
//!
//! A [`history::History`] is built in memory or read from JSON lines ([`jsonl`]); [`linearizability::check`] judges it per key.
#![forbid(unsafe_code)]

mod configs;
mod explain;
pub mod formats;
mod frontier;
pub mod generate;
pub mod history;
pub mod jsonl;
mod kernel;
pub mod linearizability;
pub mod model;
pub mod plain;
pub mod recording;
mod slots;
pub mod transactions;
mod versions;
mod witness;
mod zones;
