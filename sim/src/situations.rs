//! Rare states that a batch must have reached: a test that never gets there proves nothing.

use samara_core::base::Counter;
use std::collections::BTreeMap;

/// How often each situation was met.
pub type Situations = BTreeMap<&'static str, u64>;

/// Situations of the simulated world, beside the counters of the core.
pub const OF_THE_WORLD: [&str; 30] = [
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
];

/// Counters of the core that an ordinary batch of swarm need not reach: they count work, operator errors, or a limit
/// that no run fills.
const NOT_DEMANDED: [&str; 17] = [
    "peer_misbehaved",
    "ended_overloaded",
    "too_old_refused",
    "filter_spared",
    "hint_read",
    "start_waited",
    "parked_dropped",
    "hint_not_kept",
    // A run of `swarm` is too short for what happens around a watermark; `delete_forever` meets some of it.
    "watermark_void_changed",
    "watermark_void_epoch",
    "watermark_void_differs",
    "watermark_repaired",
    "closed_refused",
    "refused_below_watermark",
    "hint_refused_closed",
    "candidate_below_watermark",
    "below_floor",
];

/// The situations that a large batch of the scenario `swarm` must reach.
pub fn demanded() -> impl Iterator<Item = &'static str> {
    let of_the_core = Counter::ALL.iter().map(|(_, name)| *name).filter(|name| !NOT_DEMANDED.contains(name));
    of_the_core.chain(OF_THE_WORLD)
}
