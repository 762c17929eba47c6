//! Scenarios: what may happen in a run, as data (scenarios/*.toml).

use serde::{Deserialize, Serialize};

/// Bounds from which a seed draws a plan. Ranges are inclusive; chances are per thousand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, as the command line says it.
    pub name: String,
    /// One line on what it is for.
    pub about: String,
    /// Whether each seed draws which kinds of faults are on.
    #[serde(default)]
    pub swarm: bool,
    /// Situations that a batch of at least so many seeds as `batch::DEMANDS_FROM` must reach.
    #[serde(default)]
    pub demands: Vec<String>,
    /// The cluster and its load.
    pub shape: Shape,
    /// How often each operation is drawn, relative to the others.
    pub mix: Mix,
    /// How often each level is drawn.
    pub levels: Levels,
    /// The network when nothing is broken.
    pub network: Network,
    /// How many of each fault strike in a run.
    #[serde(default)]
    pub faults: Faults,
}

/// The cluster and its load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Nodes.
    pub nodes: [u64; 2],
    /// Keys.
    pub keys: [u64; 2],
    /// Clients, each with one operation at a time.
    pub clients: [u64; 2],
    /// Operations of all clients.
    pub operations: [u64; 2],
    /// Microseconds between a client's operations.
    pub think_us: [u64; 2],
    /// Entries of the promise table.
    pub promises: [u64; 2],
    /// Bytes of a memtable.
    pub memtable_bytes: [u64; 2],
    /// Chance of an operation to carry an idempotency id.
    #[serde(default)]
    pub idempotent: u64,
}

/// Relative frequencies of operations.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// GET.
    pub read: u64,
    /// SET.
    pub set: u64,
    /// DEL.
    pub delete: u64,
    /// CAS.
    pub cas: u64,
    /// INCR.
    pub incr: u64,
    /// SET PX.
    pub ttl: u64,
    /// APPEND.
    pub append: u64,
    /// SET NX.
    pub set_absent: u64,
    /// A write on the condition that the version last read still stands (HTTP's If-Match).
    pub set_version: u64,
    /// The next page of a walk over the key space.
    pub page: u64,
    /// SET XX.
    pub set_present: u64,
    /// SET GET.
    pub get_set: u64,
    /// GETDEL.
    pub get_delete: u64,
    /// Deletions under a condition on the value, and as many on the version.
    pub delete_if: u64,
    /// INCRBYFLOAT.
    pub incr_float: u64,
    /// SET KEEPTTL, PEXPIRE and PERSIST, as many of each, on keys of their own.
    pub expiry: u64,
    /// MSET, MGET and DEL of several keys, as many of each.
    pub many: u64,
    /// RENAME, RENAMENX and COPY, on keys of one slot.
    pub moves: u64,
    /// MSETNX, on the same keys.
    pub set_all: u64,
}

/// Relative frequencies of levels.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Levels {
    /// Strong.
    pub strong: u64,
    /// Causal.
    pub causal: u64,
    /// Eventual.
    pub eventual: u64,
}

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Microseconds from node to node.
    pub latency_us: [u64; 2],
    /// Chance of a message to be lost.
    #[serde(default)]
    pub loss: [u64; 2],
    /// Chance of a message to be delivered twice.
    #[serde(default)]
    pub duplicate: [u64; 2],
    /// Chance of a message to be delayed by up to a second.
    #[serde(default)]
    pub spike: [u64; 2],
    /// Chance of a second copy of a message to come up to half a minute later.
    #[serde(default)]
    pub stray: [u64; 2],
}

/// How many of each fault strike.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// A node loses its power and comes back.
    pub crash: [u64; 2],
    /// A node loses its power at a disk operation.
    pub crash_at_disk: [u64; 2],
    /// A node loses its power just after it acknowledged something.
    pub crash_after_ack: [u64; 2],
    /// A node loses its power just after it answered a forwarded operation.
    pub crash_after_forward: [u64; 2],
    /// All nodes lose their power.
    pub crash_all: [u64; 2],
    /// A node stands still and goes on.
    pub pause: [u64; 2],
    /// Some nodes are cut off from the others.
    pub partition: [u64; 2],
    /// Some nodes hear the others but are not heard.
    pub one_way: [u64; 2],
    /// A link holds everything back and lets it go at once.
    pub clog: [u64; 2],
    /// A wall clock steps.
    pub clock_step: [u64; 2],
    /// A wall clock stands still.
    pub clock_freeze: [u64; 2],
    /// A wall clock runs fast or slow.
    pub clock_drift: [u64; 2],
    /// A node's disk becomes slow.
    pub slow_disk: [u64; 2],
    /// Half of the faults last so many milliseconds, where this is not zero.
    pub long_ms: [u64; 2],
    /// A node's disk takes operations and ends none.
    pub hung_disk: [u64; 2],
    /// A node's disk has no space left.
    pub full_disk: [u64; 2],
    /// A sync of a node's disk fails.
    pub failed_sync: [u64; 2],
    /// Tables on a node's disk cannot be read.
    pub failed_reads: [u64; 2],
    /// A bit flips in a file at rest.
    pub bit_flip: [u64; 2],
    /// A sector holds what was there before a write that was acknowledged.
    pub lost_write: [u64; 2],
    /// A sector holds what was written for another.
    pub misdirected_write: [u64; 2],
    /// A node loses its power just after it acknowledged something, and that is damaged.
    pub damage_after_ack: [u64; 2],
    /// A node comes back on an empty directory, for a while.
    pub start_empty: [u64; 2],
    /// A node comes back on an old copy of its directory, for a while.
    pub start_on_copy: [u64; 2],
}

impl Faults {
    /// Whether disks may lose what was durable.
    pub fn damages(&self) -> bool {
        let kinds = [self.bit_flip, self.lost_write, self.misdirected_write, self.damage_after_ack];
        kinds.iter().any(|range| range[1] > 0)
    }
}

const BUILT_IN: [&str; 17] = [
    include_str!("../../scenarios/smoke.toml"),
    include_str!("../../scenarios/swarm.toml"),
    include_str!("../../scenarios/partition.toml"),
    include_str!("../../scenarios/crash_loop.toml"),
    include_str!("../../scenarios/clock_skew.toml"),
    include_str!("../../scenarios/cas_duel.toml"),
    include_str!("../../scenarios/mixed_levels.toml"),
    include_str!("../../scenarios/bug_hunt.toml"),
    include_str!("../../scenarios/delete_forever.toml"),
    include_str!("../../scenarios/ttl_skew.toml"),
    include_str!("../../scenarios/hot_key.toml"),
    include_str!("../../scenarios/retry_storm.toml"),
    include_str!("../../scenarios/handoff.toml"),
    include_str!("../../scenarios/disk_damage.toml"),
    include_str!("../../scenarios/several_keys.toml"),
    include_str!("../../scenarios/late_messages.toml"),
    include_str!("../../scenarios/wrong_disk.toml"),
];

/// The scenarios that come with the program.
pub fn built_in() -> Vec<Scenario> {
    BUILT_IN.iter().filter_map(|text| parse(text).ok()).collect()
}

/// Reads a scenario.
pub fn parse(text: &str) -> Result<Scenario, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

/// Finds a scenario by name, or reads it from a file.
pub fn find(name: &str) -> Result<Scenario, String> {
    if let Some(scenario) = built_in().into_iter().find(|scenario| scenario.name == name) {
        return Ok(scenario);
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        format!("{name}: no scenario has this name (cargo sim list names them), and as a file: {error}")
    })?;
    parse(&text).map_err(|error| format!("scenario {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_parses() {
        for text in BUILT_IN {
            parse(text).expect("a scenario of ours");
        }
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let text = BUILT_IN[0].replace("latency_us", "latncy_us");
        assert!(parse(&text).expect_err("unknown field").contains("latncy_us"));
    }
}
