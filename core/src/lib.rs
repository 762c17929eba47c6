//! The whole of samara's protocol, storage engine included, as one deterministic state machine.
//!
//! Nothing here reads a clock, draws a random number, performs I/O or blocks: time is an argument, the random
//! generator is seeded at boot, and I/O is described by outputs that a host performs. See `ARCHITECTURE.md`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod base;
pub mod io;
pub mod wire;

pub mod coord;
pub mod node;
pub mod repair;
pub mod replica;
pub mod rules;
pub mod store;
