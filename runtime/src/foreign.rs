//! Members that take this node for one of another cluster: it was started with other members, zones or replication factor than
//! they were, so that its cluster id is another one, and they close its connections with the reason.

use samara_core::rules::quorum::majority;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// So long after a refusal the member is taken to refuse still: it is asked again twice a second while it can be reached.
const HOLDS: Duration = Duration::from_secs(10);
/// A refusal that goes on is logged so often.
const LOG_EVERY: Duration = Duration::from_mins(1);

/// What operators can do about it.
pub const WHAT_TO_DO: &str = "give every node the same --members, zones and --replication-factor, and start those anew that have others";

/// The members that refuse this node, as its own connections to them were told.
#[derive(Debug, Default)]
pub struct Foreign {
    refusals: Mutex<BTreeMap<u16, Refusal>>,
    /// When the coming of a node of another cluster was last logged, by its id there.
    strangers: Mutex<BTreeMap<u16, Instant>>,
}

#[derive(Debug)]
struct Refusal {
    at: Instant,
    logged: Instant,
    setup: String,
}

/// A member that refuses this node, for operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForeignPeer {
    /// Its id in this node's `--members`.
    pub node: u16,
    /// What it says that it was started with.
    pub setup: String,
}

impl Foreign {
    fn refusals(&self) -> MutexGuard<'_, BTreeMap<u16, Refusal>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member has refused a connection of this node, and says what it was started with. Whether that is to be logged.
    pub fn refused(&self, node: u16, setup: &str, now: Instant) -> bool {
        let mut refusals = self.refusals();
        let before = refusals.get(&node).filter(|before| before.setup == setup && now < before.at + HOLDS);
        let logged = before.map(|before| before.logged).filter(|logged| now < *logged + LOG_EVERY);
        refusals.insert(node, Refusal { at: now, logged: logged.unwrap_or(now), setup: setup.to_string() });
        logged.is_none()
    }

    /// A node with this id has come as one of this cluster.
    pub fn came(&self, node: u16) {
        self.refusals().remove(&node);
    }

    /// A node of another cluster has come, and calls itself so. Whether that is to be logged. It may say what it likes, so that
    /// nothing else depends on it.
    pub fn came_foreign(&self, node: u16, now: Instant) -> bool {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = strangers.get(&node).is_none_or(|logged| now >= *logged + LOG_EVERY);
        if is_due {
            strangers.insert(node, now);
        }
        is_due
    }

    /// The members that refuse this node now.
    pub fn peers(&self, now: Instant) -> Vec<ForeignPeer> {
        let mut refusals = self.refusals();
        refusals.retain(|_, refusal| now < refusal.at + HOLDS);
        refusals
            .iter()
            .map(|(node, refusal)| ForeignPeer { node: *node, setup: refusal.setup.clone() })
            .collect()
    }
}

/// Whether a node of so many members, itself among them, is unready because so many of the others refuse it: no majority is
/// left that it could be in. One that was set up otherwise than all others is; those that see one such member are not.
pub fn is_cut_off(members: usize, refusing: usize) -> bool {
    members.saturating_sub(refusing) < majority(members)
}

/// Why a node is not ready that `is_cut_off`: a line.
pub fn reason(peers: &[ForeignPeer], setup: &str) -> String {
    let told: Vec<String> =
        peers.iter().map(|peer| format!("node {} was started with {}", peer.node, peer.setup)).collect();
    format!(
        "not ready: most of its members take this node for one of another cluster: {}; this node with {setup}: {WHAT_TO_DO}\n",
        told.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_cut_off_when_no_majority_is_left_to_it() {
        // Members, and how many of the others may refuse it.
        for (members, most) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (7, 3)] {
            for refusing in 0..members {
                assert_eq!(is_cut_off(members, refusing), refusing > most, "{refusing} of {members}");
            }
        }
    }

    #[test]
    fn a_refusal_holds_for_a_while_and_is_logged_once_a_minute() {
        let (foreign, start) = (Foreign::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let nodes = |now| foreign.peers(now).iter().map(|peer| peer.node).collect::<Vec<_>>();
        assert!(foreign.refused(2, "a", at(0)), "the first is logged");
        assert!(!foreign.refused(2, "a", at(1)));
        assert!(foreign.refused(3, "a", at(1)), "each member's is");
        assert!(foreign.refused(3, "b", at(2)), "and another setup is");
        assert_eq!(nodes(at(3)), [2, 3]);
        assert_eq!(nodes(at(11)), [3], "node 2 has not been reached for long");
        foreign.came(3);
        assert_eq!(nodes(at(4)), [0_u16; 0], "it is of this cluster after all");
        let logged = (0..200).filter(|second| foreign.refused(2, "a", at(100 + second))).count();
        assert_eq!(logged, 4, "at 0, 60, 120 and 180 s");
        assert!(foreign.refused(2, "a", at(311)), "a new beginning");
    }

    #[test]
    fn the_reason_tells_both_sides_and_what_to_do() {
        let peer = ForeignPeer { node: 2, setup: "members 1@a, 2@b".into() };
        let text = reason(&[peer], "members 2@b");
        for part in [
            "not ready",
            "node 2 was started with members 1@a, 2@b",
            "this node with members 2@b",
            "--members",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
