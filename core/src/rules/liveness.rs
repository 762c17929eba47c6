//! Which peers are believed to be up. A wrong belief costs latency, never safety.

use crate::base::{Instant, NodeId};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Silence after which a peer is suspected, milliseconds.
pub const SUSPECT_MS: u64 = 1_000;

/// When each peer was last heard of.
#[derive(Debug, Clone)]
pub struct Liveness {
    me: NodeId,
    heard: BTreeMap<NodeId, Instant>,
    suspects: Vec<NodeId>,
    /// Those who last said that their disk is full.
    full: Vec<NodeId>,
}

impl Liveness {
    /// All `peers` are believed to be up at first.
    pub fn new(me: NodeId, peers: impl IntoIterator<Item = NodeId>, now: Instant) -> Self {
        let heard = peers.into_iter().filter(|peer| *peer != me).map(|peer| (peer, now)).collect();
        Self { me, heard, suspects: Vec::new(), full: Vec::new() }
    }

    /// A message came from `peer`.
    pub fn on_heard(&mut self, peer: NodeId, now: Instant) {
        if let Some(heard) = self.heard.get_mut(&peer) {
            *heard = (*heard).max(now);
            self.suspects.retain(|suspect| *suspect != peer);
        }
    }

    /// Looks for silent peers; how many became suspects.
    pub fn on_tick(&mut self, now: Instant) -> usize {
        let before = self.suspects.len();
        for (peer, heard) in &self.heard {
            if now.ms_since(*heard) > SUSPECT_MS && !self.suspects.contains(peer) {
                self.suspects.push(*peer);
            }
        }
        self.suspects.len() - before
    }

    /// `node` says whether its disk is full.
    pub fn set_full(&mut self, node: NodeId, is_full: bool) {
        if !is_full {
            self.full.retain(|full| *full != node);
        } else if !self.full.contains(&node) {
            self.full.push(node);
        }
    }

    /// Whether anybody's disk is full.
    pub fn is_any_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Whether `node` is believed to be up, and to take new values.
    pub fn has_room(&self, node: NodeId) -> bool {
        self.is_alive(node) && !self.full.contains(&node)
    }

    /// Whether `node` is believed to be up.
    pub fn is_alive(&self, node: NodeId) -> bool {
        node == self.me || (self.heard.contains_key(&node) && !self.suspects.contains(&node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_makes_a_suspect_and_a_word_clears_it() {
        let at = |ms| Instant(0).plus_ms(ms);
        let mut liveness = Liveness::new(NodeId(1), [NodeId(1), NodeId(2)], at(0));
        assert_eq!(liveness.on_tick(at(SUSPECT_MS)), 0);
        assert_eq!(liveness.on_tick(at(SUSPECT_MS + 1)), 1);
        assert!(!liveness.is_alive(NodeId(2)));
        assert!(liveness.is_alive(NodeId(1)), "a node never suspects itself");
        assert!(!liveness.is_alive(NodeId(3)), "no member");
        liveness.on_heard(NodeId(2), at(1_500));
        assert!(liveness.is_alive(NodeId(2)));
    }
}
