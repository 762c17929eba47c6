//! S5: which life of each peer is the present one.
//!
//! A peer's life is listened to once it has been proven, and the proof is durable: the peer is told what is remembered of it,
//! and answers that its directory has lived that, up to that ceiling at least. A directory that was emptied, or is an old copy,
//! has not; its node ends itself when it hears so.

use super::ceiling::Remembered;
use crate::base::limits::PEERS_MAX;
use crate::base::planted::{self, Bug};
use crate::base::{Address, Hlc, StartNumber};
use crate::wire::{Envelope, Message};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What a message says about its sender's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// The present one.
    Current,
    /// An earlier one.
    Past,
    /// One that has not been proven: the sender is told what is remembered of it.
    Unproven {
        /// The latest life that was proven.
        start: StartNumber,
        /// The highest ceiling told in it.
        ceiling: Hlc,
    },
    /// One that has been proven, of which the disk does not know yet; or one more sender than can be remembered.
    Unheard,
}

/// What is remembered of one peer.
#[derive(Debug, Clone, Copy, Default)]
struct Peer {
    start: StartNumber,
    ceiling: Hlc,
    /// Proven, and not durable yet.
    proven: Option<StartNumber>,
}

/// The latest life and ceiling of each peer.
#[derive(Debug, Clone, Default)]
pub(super) struct Peers {
    peers: BTreeMap<Address, Peer>,
    /// What is being written.
    saving: Vec<Remembered>,
}

impl Peers {
    /// What a directory remembers.
    pub(super) fn load(remembered: &[Remembered]) -> Self {
        let peer = |of: &Remembered| (of.peer, Peer { start: of.start, ceiling: of.ceiling, proven: None });
        let remembered = if planted::on(Bug::S5MemoryNotKept) { &[] } else { remembered };
        Self { peers: remembered.iter().map(peer).collect(), saving: Vec::new() }
    }

    /// Judges the sender of `envelope`.
    pub(super) fn judge(&mut self, envelope: &Envelope) -> Life {
        let is_full = self.peers.len() >= PEERS_MAX;
        if is_full && !self.peers.contains_key(&envelope.from) {
            return Life::Unheard;
        }
        let peer = self.peers.entry(envelope.from).or_default();
        let (start, is_earlier) = (envelope.start, envelope.start.count() < peer.start.count());
        let told = match &envelope.body {
            Message::Ping { ceiling, .. } | Message::Pong { ceiling, .. } => Some(*ceiling),
            _ => None,
        };
        let as_often = planted::on(Bug::S5CountIsEnough) && start.count() == peer.start.count();
        if as_often {
            peer.start = start;
        }
        if start == peer.start {
            peer.ceiling = peer.ceiling.max(told.unwrap_or_default());
            return Life::Current;
        }
        if is_earlier && planted::on(Bug::S5OldStartBelieved) {
            return Life::Current;
        }
        // An earlier life's heartbeat may have been late, or come from a directory that was emptied.
        if is_earlier && told.is_none() {
            return Life::Past;
        }
        if peer.proven == Some(start) {
            return Life::Unheard;
        }
        if planted::on(Bug::S5StartUnproven) && !is_earlier {
            peer.start = start;
            return Life::Current;
        }
        Life::Unproven { start: peer.start, ceiling: peer.ceiling }
    }

    /// A peer says that its life `start` follows `earlier`, which ended at `ceiling`. True if that is a proof.
    pub(super) fn on_descent(
        &mut self,
        from: Address,
        start: StartNumber,
        earlier: StartNumber,
        ceiling: Hlc,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        let reaches = ceiling >= peer.ceiling || planted::on(Bug::S5CeilingNotCompared);
        let follows = start.count() > peer.start.count() && earlier == peer.start && reaches;
        if follows {
            peer.proven = Some(start);
        }
        follows
    }

    /// Whether a proof waits to become durable.
    pub(super) fn wants_saving(&self) -> bool {
        self.saving.is_empty() && self.peers.values().any(|peer| peer.proven.is_some())
    }

    /// What is to be written now; `on_saved` follows.
    pub(super) fn save(&mut self) -> Vec<Remembered> {
        let remembered = |(address, peer): (&Address, &Peer)| Remembered {
            peer: *address,
            start: peer.proven.unwrap_or(peer.start),
            ceiling: peer.ceiling,
        };
        let known = self.peers.iter().map(remembered).filter(|of| of.start != StartNumber::default());
        self.saving = known.collect();
        self.saving.clone()
    }

    /// What `save` gave is durable: the lives in it are the present ones.
    pub(super) fn on_saved(&mut self) {
        for saved in core::mem::take(&mut self.saving) {
            if let Some(peer) = self.peers.get_mut(&saved.peer)
                && peer.proven == Some(saved.start)
            {
                peer.start = saved.start;
                peer.proven = None;
            }
        }
    }

    /// The latest life of a peer that is known, and the highest ceiling told in it.
    pub(super) fn remembered(&self, of: Address) -> Option<(StartNumber, Hlc)> {
        self.peers.get(&of).map(|peer| (peer.start, peer.ceiling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Epoch, NodeId, RequestId, ShardId};
    use crate::wire::{Answer, Refusal};

    const PEER: Address = Address { node: NodeId(2), shard: ShardId(0) };

    fn life(count: u32) -> StartNumber {
        StartNumber::new(count, count)
    }

    fn message(start: StartNumber, body: Message) -> Envelope {
        Envelope { from: PEER, start, epoch: Epoch(1), hlc: Hlc(0), body }
    }

    fn ping(start: StartNumber, ceiling: u64) -> Envelope {
        message(start, Message::Ping { ceiling: Hlc(ceiling), full: false })
    }

    fn other(start: StartNumber) -> Envelope {
        message(start, Message::Answer { request: RequestId(1), answer: Answer::Refused(Refusal::TooOld) })
    }

    fn unproven(start: StartNumber, ceiling: u64) -> Life {
        Life::Unproven { start, ceiling: Hlc(ceiling) }
    }

    /// The peer proves its life and the proof becomes durable.
    fn prove(peers: &mut Peers, start: StartNumber, earlier: StartNumber, ceiling: u64) -> bool {
        let proven = peers.on_descent(PEER, start, earlier, Hlc(ceiling));
        if peers.wants_saving() {
            peers.save();
            peers.on_saved();
        }
        proven
    }

    #[test]
    fn a_life_is_listened_to_when_its_proof_is_durable() {
        let mut peers = Peers::default();
        let none = StartNumber::default();
        assert_eq!(peers.judge(&other(life(3))), unproven(none, 0));
        assert!(peers.on_descent(PEER, life(3), none, Hlc(u64::MAX)));
        assert_eq!(peers.judge(&other(life(3))), Life::Unheard, "the disk does not know yet");
        assert!(peers.wants_saving());
        let saved = peers.save();
        assert_eq!(peers.judge(&ping(life(3), 70)), Life::Unheard);
        assert!(!peers.wants_saving(), "once");
        peers.on_saved();
        assert_eq!(peers.judge(&ping(life(3), 70)), Life::Current);
        assert_eq!(saved, [Remembered { peer: PEER, start: life(3), ceiling: Hlc(0) }]);
        // The next one goes from there; the earlier one goes on until it is proven.
        assert_eq!(peers.judge(&other(life(4))), unproven(life(3), 70));
        assert_eq!(peers.judge(&other(life(3))), Life::Current);
        assert!(prove(&mut peers, life(4), life(3), 70));
        assert_eq!((peers.judge(&other(life(4))), peers.judge(&other(life(3)))), (Life::Current, Life::Past));
    }

    #[test]
    fn a_directory_that_has_not_lived_what_is_remembered_never_gets_in() {
        let mut peers = Peers::load(&[Remembered { peer: PEER, start: life(3), ceiling: Hlc(70) }]);
        // An old copy: of that very life, and of an earlier one.
        assert!(!prove(&mut peers, life(4), life(3), 69));
        assert!(!prove(&mut peers, life(4), life(2), 900));
        // One that was emptied: it is told, and told again however often it is started.
        for count in [1, 2, 3, 4, 99] {
            let start = StartNumber::new(count, 5);
            assert_eq!(peers.judge(&ping(start, 900)), unproven(life(3), 70), "{count}");
            assert!(!prove(&mut peers, start, StartNumber::default(), 900), "{count}");
        }
        assert_eq!(peers.judge(&ping(life(3), 80)), Life::Current, "the one remembered");
        // A proof of what was remembered before that is no proof any more.
        assert!(!prove(&mut peers, life(4), life(3), 79));
        assert!(prove(&mut peers, life(4), life(3), 80));
    }

    #[test]
    fn a_proof_that_comes_while_another_is_written_is_written_next() {
        let mut peers = Peers::default();
        let none = StartNumber::default();
        peers.judge(&ping(life(1), 5));
        assert!(peers.on_descent(PEER, life(1), none, Hlc(u64::MAX)));
        peers.save();
        assert!(peers.on_descent(PEER, life(2), none, Hlc(u64::MAX)));
        peers.on_saved();
        assert!(matches!(peers.judge(&other(life(1))), Life::Unproven { .. }), "its disk was overtaken");
        assert!(peers.wants_saving());
        peers.save();
        peers.on_saved();
        assert_eq!(peers.judge(&other(life(2))), Life::Current);
    }

    #[test]
    fn no_more_peers_are_remembered_than_a_slot_holds() {
        let mut peers = Peers::default();
        for number in 0..PEERS_MAX as u16 {
            let mut envelope = ping(life(1), 1);
            envelope.from.node = NodeId(number + 10);
            assert!(matches!(peers.judge(&envelope), Life::Unproven { .. }));
        }
        assert_eq!(peers.judge(&ping(life(1), 1)), Life::Unheard);
    }
}
