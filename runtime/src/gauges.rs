//! What the shards say of themselves: as metrics, for `/readyz`, and for operators.

use crate::disk::latency::DiskLatency;
use crate::foreign::ForeignPeer;
use samara_core::node::Status;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;

/// A shard, as its driver last told.
#[derive(Debug, Clone)]
pub struct Told {
    /// What the core says.
    pub status: Status,
    /// The longest time that one step of the core took, microseconds.
    pub step_max_us: u64,
}

/// What is wrong with a shard's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trouble {
    /// It does not answer, and the shard takes no part.
    pub is_aside: bool,
    /// It takes long.
    pub is_slow: bool,
    /// It is full.
    pub is_full: bool,
}

impl Trouble {
    /// What is wrong now.
    pub fn of(status: &Status) -> Self {
        let Status { is_aside, is_disk_slow, is_disk_full, .. } = *status;
        Self { is_aside, is_slow: is_disk_slow, is_full: is_disk_full }
    }
}

/// All shards of a node.
#[derive(Debug, Default)]
pub struct Gauges {
    shards: Mutex<BTreeMap<u16, Told>>,
    /// How long the disk's operations take.
    pub disk: DiskLatency,
}

/// The node, for `GET /admin/status`.
#[derive(Debug, Serialize)]
pub struct NodeStatus {
    node: u16,
    ready: bool,
    /// So many members take this node for one of another cluster that no majority is left to it.
    cut_off: bool,
    /// These members.
    foreign: Vec<ForeignPeer>,
    shards: Vec<ShardStatus>,
}

#[derive(Debug, Serialize)]
struct ShardStatus {
    shard: u16,
    phase: &'static str,
    /// The disk does not answer, and the shard takes no part until it does.
    aside: bool,
    /// The disk takes long for what is asked of it.
    disk_slow: bool,
    /// The disk is full: no new values are taken.
    disk_full: bool,
    disk_wait: Option<DiskWait>,
    tables: u64,
    table_bytes: u64,
    log_bytes: u64,
    value_bytes: u64,
    live_value_bytes: u64,
    levels: Vec<Level>,
    memory_bytes: BTreeMap<&'static str, u64>,
    scrub: Scrub,
    damaged_blocks: u64,
    damage: Vec<Damage>,
    suspect: Suspect,
    step_max_us: u64,
    write_stall_max_ms: u64,
}

#[derive(Debug, Serialize)]
struct DiskWait {
    file: String,
    what: &'static str,
    for_ms: u64,
}

#[derive(Debug, Serialize)]
struct Level {
    tables: usize,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Scrub {
    running: bool,
    /// Rounds that have ended since the start.
    rounds: u64,
    /// Bytes read in this round, of all bytes of tables.
    read_bytes: u64,
    of_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Suspect {
    /// Stretches of keys on which the node has no vote.
    stretches: usize,
    /// Whether too few other replicas hold some of them to bring them again.
    stuck: bool,
    /// The first and the last slot of each, for the first of them.
    slots: Vec<(u16, u16)>,
}

#[derive(Debug, Serialize)]
struct Damage {
    file: String,
    first: String,
    last: String,
    reason: String,
}

impl ShardStatus {
    fn new(shard: u16, told: &Told) -> Self {
        let Status { phase, is_aside, is_disk_slow, is_disk_full, disk_wait, suspect, suspect_slots, store } =
            &told.status;
        let level = |(tables, bytes): &(usize, u64)| Level { tables: *tables, bytes: *bytes };
        let damage = |damage: &samara_core::store::Damage| Damage {
            file: damage.file.to_string(),
            first: damage.first.as_first(),
            last: damage.last.as_end(),
            reason: damage.reason.clone(),
        };
        Self {
            shard,
            phase,
            aside: *is_aside,
            disk_slow: *is_disk_slow,
            disk_full: *is_disk_full,
            disk_wait: disk_wait.map(|wait| DiskWait {
                file: wait.file.to_string(),
                what: wait.what,
                for_ms: wait.for_ms,
            }),
            tables: store.levels.iter().map(|(tables, _)| *tables as u64).sum(),
            table_bytes: store.levels.iter().map(|(_, bytes)| bytes).sum(),
            log_bytes: store.log_bytes,
            value_bytes: store.value_bytes.0,
            live_value_bytes: store.value_bytes.1,
            levels: store.levels.iter().map(level).collect(),
            memory_bytes: store.memory.iter().map(|(kind, bytes)| (*kind, *bytes as u64)).collect(),
            scrub: Scrub {
                running: store.scrub.is_running,
                rounds: store.scrub.rounds,
                read_bytes: store.scrub.read_bytes,
                of_bytes: store.scrub.of_bytes,
            },
            damaged_blocks: store.damaged_blocks as u64,
            damage: store.damage.iter().map(damage).collect(),
            suspect: Suspect {
                stretches: suspect.stretches,
                stuck: suspect.stuck,
                slots: suspect_slots.iter().map(|(first, last)| (first.0, last.0)).collect(),
            },
            step_max_us: told.step_max_us,
            write_stall_max_ms: store.stats.stall_max_ms,
        }
    }
}

impl Gauges {
    fn shards(&self) -> BTreeMap<u16, Told> {
        self.shards.lock().map(|shards| shards.clone()).unwrap_or_default()
    }

    /// A driver tells its shard.
    pub fn tell(&self, shard: u16, told: Told) {
        if let Ok(mut shards) = self.shards.lock() {
            shards.insert(shard, told);
        }
    }

    /// What a shard last said of its disk.
    pub fn disk_trouble(&self, shard: u16) -> Trouble {
        let told = self.shards.lock().ok();
        told.and_then(|shards| shards.get(&shard).map(|told| Trouble::of(&told.status))).unwrap_or_default()
    }

    /// The node, for operators.
    pub fn status(&self, node: u16, ready: bool, cut_off: bool, foreign: Vec<ForeignPeer>) -> NodeStatus {
        let shards = self.shards().iter().map(|(shard, told)| ShardStatus::new(*shard, told)).collect();
        NodeStatus { node, ready, cut_off, foreign, shards }
    }

    /// Why the node is not ready although it has recovered: a line for each shard whose disk does not answer.
    pub fn unready(&self) -> String {
        let mut text = String::new();
        for (shard, told) in self.shards() {
            if let (true, Some(wait)) = (told.status.is_aside, told.status.disk_wait) {
                let _written = writeln!(
                    text,
                    "not ready: shard {shard}: the disk has not ended an operation on {} (to {}) for {} ms",
                    wait.file, wait.what, wait.for_ms
                );
            }
        }
        text
    }

    /// The metrics of all shards together.
    pub fn write(&self, text: &mut String) -> std::fmt::Result {
        let shards = self.shards();
        let mut memory: BTreeMap<&str, u64> =
            BTreeMap::from([("disk_in_flight", self.disk.in_flight_bytes())]);
        let mut disk: BTreeMap<&str, u64> = BTreeMap::new();
        for told in shards.values() {
            for (kind, bytes) in told.status.store.memory {
                *memory.entry(kind).or_default() += bytes as u64;
            }
            let tables: u64 = told.status.store.levels.iter().map(|(_, bytes)| bytes).sum();
            *disk.entry("tables").or_default() += tables;
            *disk.entry("values").or_default() += told.status.store.value_bytes.0;
            *disk.entry("log").or_default() += told.status.store.log_bytes;
        }
        for (name, kinds, help) in [
            ("memory_bytes", &memory, "Memory of the store by kind."),
            ("disk_bytes", &disk, "Disk space of the store by kind."),
        ] {
            writeln!(text, "# HELP samara_{name} {help}\n# TYPE samara_{name} gauge")?;
            for (kind, bytes) in kinds {
                writeln!(text, "samara_{name}{{kind=\"{kind}\"}} {bytes}")?;
            }
        }
        write_shards(text, &shards)?;
        self.disk.write(text)
    }
}

/// What is known of each shard, put together.
fn write_shards(text: &mut String, shards: &BTreeMap<u16, Told>) -> std::fmt::Result {
    let max = |value: fn(&Told) -> u64| shards.values().map(value).max().unwrap_or(0);
    let sum = |value: fn(&Told) -> u64| shards.values().map(value).sum::<u64>();
    let wait_ms = max(|told| told.status.disk_wait.map_or(0, |wait| wait.for_ms));
    let gauges = [
        ("step_max_seconds", max(|told| told.step_max_us) as f64 / 1e6, "Longest step of the core."),
        (
            "write_stall_max_seconds",
            max(|told| told.status.store.stats.stall_max_ms) as f64 / 1e3,
            "Longest time that writes waited for memory, the log's next segment or compaction.",
        ),
        ("disk_oldest_operation_seconds", wait_ms as f64 / 1e3, "Age of the oldest disk operation."),
        (
            "disk_slow",
            sum(|told| told.status.is_disk_slow.into()) as f64,
            "Shards whose disk took long for an operation within the last ten seconds.",
        ),
        (
            "disk_full",
            sum(|told| told.status.is_disk_full.into()) as f64,
            "Shards that take no new values because their disk is full.",
        ),
        ("disk_aside", sum(|told| told.status.is_aside.into()) as f64, "Shards whose disk does not answer."),
        (
            "damaged_blocks",
            sum(|told| told.status.store.damaged_blocks as u64) as f64,
            "Blocks found damaged.",
        ),
        (
            "scrub_running",
            sum(|told| told.status.store.scrub.is_running.into()) as f64,
            "Shards being scrubbed.",
        ),
    ];
    for (name, value, help) in gauges {
        writeln!(text, "# HELP samara_{name} {help}\n# TYPE samara_{name} gauge\nsamara_{name} {value}")?;
    }
    let counters = [
        ("scrub_rounds_total", sum(|told| told.status.store.scrub.rounds), "Rounds of scrubbing ended."),
        ("scrub_bytes_total", sum(|told| told.status.store.stats.scrubbed_bytes), "Bytes scrubbed."),
        (
            "table_bytes_written_total",
            sum(|told| told.status.store.stats.table_bytes_written),
            "Bytes of tables written.",
        ),
        (
            "log_bytes_written_total",
            sum(|told| told.status.store.stats.wal_bytes_written),
            "Bytes of the log written.",
        ),
    ];
    for (name, value, help) in counters {
        writeln!(text, "# HELP samara_{name} {help}\n# TYPE samara_{name} counter\nsamara_{name} {value}")?;
    }
    Ok(())
}
