//! Consistency checkers for recorded histories of key-value stores.
//!
//! A [`history::History`] is built in memory or read from JSON lines ([`jsonl`]); [`linearizability::check`] judges it per key.
#![forbid(unsafe_code)]

pub mod formats;
pub mod history;
pub mod jsonl;
pub mod linearizability;
pub mod model;
pub mod plain;
pub mod recording;
pub mod transactions;
