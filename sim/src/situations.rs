//! Rare states that a batch must have reached: a test that never gets there proves nothing.

use samara_core::base::Counter;
use std::collections::BTreeMap;

/// How often each situation was met.
pub type Situations = BTreeMap<&'static str, u64>;

/// Situations of the simulated world, beside the counters of the core.
pub const OF_THE_WORLD: [&str; 35] = [
    "crashed",
    "crashed_at_disk",
    "crashed_after_ack",
    "crashed_after_forward",
    "sectors_lost",
    "write_torn",
    "message_lost",
    "message_duplicated",
    "message_cut_off",
    "all_nodes_down",
    "outcome_unknown",
    "disk_was_full",
    "read_failed",
    "sync_failed",
    "stopped_by_hung_disk",
    "stopped_by_broken_disk",
    "walked",
    "bit_flipped",
    "write_lost",
    "write_misdirected",
    "damage_spared",
    "asked_at_once",
    "moved",
    "moved_again",
    "set_all",
    "set_all_taken_back",
    "several_refused",
    "several_failed",
    "condition_failed",
    "expiry_changed",
    "message_strayed",
    "answered_during_a_walk",
    "started_empty",
    "started_on_a_copy",
    "wrong_disk_spared",
];

/// What is demanded of another scenario than `swarm`, whose runs are too short for it or lack the faults.
pub const ELSEWHERE: [(&str, &str); 8] = [
    ("hint_read", "handoff"),
    ("start_waited", "clock_skew"),
    ("watermark_repaired", "clock_skew"),
    ("too_old_refused", "late_messages"),
    ("watermark_void_changed", "late_messages"),
    ("refused_below_watermark", "late_messages"),
    ("hint_refused_closed", "late_messages"),
    ("message_strayed", "late_messages"),
];

/// What no scenario can be asked for, and why.
pub const NOWHERE: [(&str, &str); 9] = [
    (
        "peer_misbehaved",
        "nodes say nothing here that makes no sense; what strangers send is for the fuzzed decoders",
    ),
    ("ended_overloaded", "it takes 65,536 operations at a time; a test of a whole cluster asks them"),
    ("parked_dropped", "it takes 16,384 messages that wait for one sync"),
    ("hint_not_kept", "it takes a million hints"),
    ("below_floor", "a floor refuses before anything is done, and no run has one; tests of nodes do"),
    ("watermark_void_epoch", "there is one static configuration"),
    (
        "watermark_void_differs",
        "after (a) nothing comes below the watermark but repairs, too few to outlast four passes",
    ),
    (
        "closed_refused",
        "a second guard: what is below `closed` is 7 s old, and requests older than 6 s are refused before",
    ),
    (
        "candidate_below_watermark",
        "a second guard: a candidate lives for 5 s and a watermark is 7 s behind, and a hint ends its round",
    ),
];

/// The situations that a large batch of the scenario `swarm` must reach.
pub fn demanded() -> impl Iterator<Item = &'static str> {
    let is_swarms = |name: &&str| !ELSEWHERE.iter().chain(&NOWHERE).any(|(other, _)| other == name);
    all().filter(is_swarms)
}

/// All that there are.
fn all() -> impl Iterator<Item = &'static str> {
    Counter::ALL.iter().map(|(_, name)| *name).chain(OF_THE_WORLD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    #[test]
    fn what_is_not_demanded_of_swarm_is_demanded_elsewhere_or_has_its_reason() {
        for (name, of) in ELSEWHERE {
            let scenario = scenario::find(of).expect("a scenario of ours");
            assert!(scenario.demands.iter().any(|demand| demand == name), "{of} does not demand {name}");
        }
        for (name, reason) in NOWHERE {
            assert!(reason.split(' ').count() > 4, "{name} has no reason");
            let demands =
                |scenario: &scenario::Scenario| scenario.demands.iter().any(|demand| demand == name);
            assert!(!scenario::built_in().iter().any(demands), "{name} is demanded after all");
        }
    }

    #[test]
    fn only_what_there_is_is_demanded() {
        let known = |name: &str| all().any(|other| other == name);
        for (name, _) in ELSEWHERE.iter().chain(&NOWHERE) {
            assert!(known(name), "{name}");
        }
        for scenario in scenario::built_in() {
            let strange: Vec<&String> = scenario.demands.iter().filter(|name| !known(name)).collect();
            assert!(strange.is_empty(), "{} demands {strange:?}", scenario.name);
        }
    }
}
