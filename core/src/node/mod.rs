//! One shard of one process: routes inputs to the machines and maps one machine's event to another's call.

use crate::base::{Address, Config, Counters, Hlc, Instant, Now, StartNumber};
use crate::io::{Input, Outbox};
use crate::store::StoreOptions;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Its own address.
    pub address: Address,
    /// The cluster (static: epoch 1).
    pub config: Config,
    /// Seed of its random stream.
    pub seed: [u8; 32],
    /// Sizes of the storage engine.
    pub store: StoreOptions,
    /// Entries of the promise table (`limits::PROMISES_MAX` in production, few in simulation).
    pub promises_max: usize,
}

/// A shard.
#[derive(Debug, Clone)]
pub struct Node {
    counters: Counters,
}

/// What the simulator may look at after every event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The node's clock.
    pub hlc: Hlc,
    /// The durable ceiling; no stamp above it has left the node.
    pub ceiling: Hlc,
    /// The start number.
    pub start: StartNumber,
    /// Whether clients are served.
    pub ready: bool,
    /// Hints that wait for delivery.
    pub hints: usize,
    /// Client operations in flight.
    pub operations: usize,
}

impl Node {
    /// A node that waits for `Input::Boot`.
    pub fn new(_options: NodeOptions) -> Self {
        Self { counters: Counters::default() }
    }

    /// Runs to completion, never blocks, never fails. Deterministic in (state, now, input).
    pub fn step(&mut self, _now: Now, _input: Input, _out: &mut Outbox) {}

    /// When `Input::Timeout` is due. Level-triggered: asked after every step; spurious timeouts are no-ops.
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// What has been counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A look inside for invariants.
    pub fn probe(&self) -> Probe {
        Probe { hlc: Hlc(0), ceiling: Hlc(0), start: StartNumber(0), ready: false, hints: 0, operations: 0 }
    }
}
