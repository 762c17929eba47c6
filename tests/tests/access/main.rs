//! Users, passwords and permissions over real connections.

mod entrance;
mod node;
mod rules;
#[path = "../support/mod.rs"]
mod support;
mod web;
