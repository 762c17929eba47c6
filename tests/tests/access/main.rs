//! Users, passwords and permissions over real connections.

mod entrance;
mod rules;
#[path = "../support/mod.rs"]
mod support;
