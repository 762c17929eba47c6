#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod attempts;
pub mod causal;
mod clip;
mod configs;
pub mod eventual;
mod explain;
pub mod formats;
mod frontier;
pub mod generate;
pub mod history;
pub mod jsonl;
pub mod judge;
mod judgement;
mod kernel;
pub mod linearizability;
pub mod model;
pub mod multi;
pub mod names;
mod narrow;
mod page;
mod parts;
pub mod pattern;
pub mod plain;
pub mod recording;
pub mod sessions;
mod show;
mod slots;
mod through;
mod told;
pub mod transactions;
pub mod unjudged;
mod verdict;
mod versions;
mod witness;
mod zones;
