//! Heartbeats: who is up, with which ceiling (S5), and whose disk is full.

use super::Node;
use crate::base::{Address, Now};
use crate::store::Pressure;
use crate::wire::Message;

/// Milliseconds between heartbeats.
const PING_MS: u64 = 200;

impl Node {
    pub(super) fn heartbeat(&self) -> Message {
        Message::Ping { ceiling: self.clock.ceiling(), full: self.is_full() }
    }

    fn is_full(&self) -> bool {
        self.store.admit() == Err(Pressure::Full)
    }

    pub(super) fn on_heartbeat(&mut self, from: Address, body: &Message) {
        if let Message::Ping { full, .. } | Message::Pong { full, .. } = body {
            self.liveness.set_full(from.node, *full);
        }
        if matches!(body, Message::Ping { .. }) && !self.health.is_aside {
            let pong = Message::Pong { ceiling: self.clock.ceiling(), full: self.is_full() };
            self.work.sends.push((from, pong));
        }
    }

    pub(super) fn ping(&mut self, now: Now) {
        if now.mono < self.next_ping {
            return;
        }
        self.next_ping = now.mono.plus_ms(PING_MS);
        self.liveness.set_full(self.options.address.node, self.is_full());
        if self.health.is_aside {
            return;
        }
        let me = self.options.address;
        let slot = crate::base::Slot(me.shard.0);
        let peers = self.table.members().filter(|node| *node != me.node);
        for address in peers.filter_map(|node| self.table.address(node, slot)) {
            self.work.sends.push((address, self.heartbeat()));
        }
    }
}
