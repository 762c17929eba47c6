//! S5: which life of each peer is the present one.

use crate::base::planted::{self, Bug};
use crate::base::{Address, Hlc, StartNumber};
use crate::wire::{Envelope, Message};
use alloc::collections::BTreeMap;

/// What a message says about its sender's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// The present one.
    Current,
    /// An earlier one.
    Past,
    /// One not heard of yet, in a message that does not show its ceiling: the sender is asked for a heartbeat.
    Unproven,
    /// A later one that knows less than an earlier one did: an old copy of a disk.
    Forgetful,
}

/// The latest start number and ceiling of each peer.
#[derive(Debug, Clone, Default)]
pub(super) struct Peers(BTreeMap<Address, (StartNumber, Hlc)>);

impl Peers {
    /// Judges the sender of `envelope`. Only a heartbeat shows a ceiling, so only a heartbeat begins a new life.
    pub(super) fn judge(&mut self, envelope: &Envelope) -> Life {
        let (start, ceiling) = self.0.entry(envelope.from).or_insert((envelope.start, Hlc(0)));
        if envelope.start < *start {
            return if planted::on(Bug::S5OldStartBelieved) { Life::Current } else { Life::Past };
        }
        match &envelope.body {
            Message::Ping { ceiling: told, .. } | Message::Pong { ceiling: told, .. } => {
                if envelope.start > *start && *told < *ceiling {
                    return Life::Forgetful;
                }
                *ceiling = (*ceiling).max(*told);
            }
            _ if envelope.start > *start && !planted::on(Bug::S5StartWithoutCeiling) => {
                return Life::Unproven;
            }
            _ => {}
        }
        *start = envelope.start;
        Life::Current
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Epoch, NodeId, RequestId, ShardId};
    use crate::wire::{Answer, Refusal};

    fn message(start: u32, body: Message) -> Envelope {
        let from = Address { node: NodeId(2), shard: ShardId(0) };
        Envelope { from, start: StartNumber(start), epoch: Epoch(1), hlc: Hlc(0), body }
    }

    fn ping(start: u32, ceiling: u64) -> Envelope {
        message(start, Message::Ping { ceiling: Hlc(ceiling), full: false })
    }

    fn other(start: u32) -> Envelope {
        message(start, Message::Answer { request: RequestId(1), answer: Answer::Refused(Refusal::TooOld) })
    }

    #[test]
    fn a_new_life_begins_with_a_heartbeat_that_knows_the_ceilings_before() {
        let mut peers = Peers::default();
        assert_eq!(peers.judge(&other(3)), Life::Current, "the first life heard of");
        assert_eq!(peers.judge(&ping(3, 70)), Life::Current);
        assert_eq!(peers.judge(&other(4)), Life::Unproven);
        assert_eq!(peers.judge(&other(3)), Life::Current, "until then the earlier one goes on");
        assert_eq!(peers.judge(&ping(4, 70)), Life::Current);
        assert_eq!(peers.judge(&other(4)), Life::Current);
        assert_eq!(peers.judge(&other(3)), Life::Past);
    }

    #[test]
    fn an_old_copy_of_a_disk_never_gets_in() {
        let mut peers = Peers::default();
        peers.judge(&ping(3, 70));
        for start in [4, 5] {
            assert_eq!(peers.judge(&other(start)), Life::Unproven);
            assert_eq!(peers.judge(&ping(start, 69)), Life::Forgetful);
            assert_eq!(peers.judge(&other(start)), Life::Unproven, "the refusal does not wear off");
        }
    }
}
