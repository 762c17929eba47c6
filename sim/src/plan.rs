//! A run, as data: everything that chance decides before the run begins. A seed makes it; a file can hold it.

use crate::commands::{Family, What};
use crate::random::Stream;
use crate::scenario::{Levels, Mix, Scenario};
use serde::{Deserialize, Serialize};

/// What one run does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Scenario it was made from.
    pub scenario: String,
    /// Seed of everything that is drawn during the run (latencies, losses).
    pub seed: u64,
    /// Nodes.
    pub nodes: u64,
    /// Replicas of a key.
    pub replication: u8,
    /// Keys.
    pub keys: u64,
    /// The first so many keys see no strong operation: what was acknowledged on them must survive (PROTOCOL section 9).
    #[serde(default)]
    pub weak_keys: u64,
    /// Entries of the promise table.
    pub promises: u64,
    /// Bytes of a memtable.
    pub memtable_bytes: u64,
    /// Milliseconds within which scrub reads every table; 0 for never.
    #[serde(default)]
    pub scrub_ms: u64,
    /// Microseconds from node to node.
    pub latency_us: [u64; 2],
    /// Chance of loss, per thousand.
    pub loss: u64,
    /// Chance of duplication, per thousand.
    pub duplicate: u64,
    /// Chance of a long delay, per thousand.
    pub spike: u64,
    /// Chance of a second copy that comes much later, per thousand.
    #[serde(default)]
    pub stray: u64,
    /// Microseconds of a disk operation.
    pub disk_us: [u64; 2],
    /// How fast the monotonic clock of each node runs beside the world's, parts per million.
    #[serde(default)]
    pub mono_ppm: Vec<i64>,
    /// Chance that an unsynced sector survives a crash, per thousand.
    pub keep_sectors: u64,
    /// What each client does, in order.
    pub clients: Vec<Vec<PlannedOperation>>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// One operation of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedOperation {
    /// Microseconds that the client waits before it.
    pub after_us: u64,
    /// Node asked.
    pub node: u64,
    /// Key.
    pub key: u64,
    /// Level.
    pub level: PlannedLevel,
    /// What.
    pub what: What,
    /// Milliseconds to the deadline.
    pub patience_ms: u64,
    /// Bytes that its value is longer than need be.
    #[serde(default)]
    pub padding: u64,
    /// Whether it carries an idempotency id and is retried under it.
    pub idempotent: bool,
    /// Which keys it is on.
    #[serde(default)]
    pub family: Family,
}

/// A level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedLevel {
    /// Eventual.
    Eventual,
    /// Causal.
    Causal,
    /// Strong.
    Strong,
}

impl PlannedOperation {
    /// The name of the key with this number.
    pub fn name(&self, number: u64) -> String {
        match (self.family, self.what) {
            (_, What::Incr) => format!("counter{number}"),
            (_, What::IncrFloat) => format!("float{number}"),
            (Family::Plain, _) => format!("key{number}"),
            (Family::Tagged, _) => format!("{{t}}{number}"),
            (Family::Timed, _) => format!("timed{number}"),
        }
    }
}

/// A fault and when it strikes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Milliseconds of virtual time.
    pub at_ms: u64,
    /// What.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The power of a node fails.
    Crash {
        /// Node.
        node: u64,
        /// Milliseconds until it is started again.
        down_ms: u64,
    },
    /// The power fails at the node's n-th disk operation from then on.
    CrashAtDisk {
        /// Node.
        node: u64,
        /// Which operation.
        nth: u64,
        /// Milliseconds until it is started again.
        down_ms: u64,
    },
    /// The power fails right after the node's n-th acknowledgement of an accept from then on.
    CrashAfterAck {
        /// Node.
        node: u64,
        /// Which acknowledgement.
        nth: u64,
        /// Milliseconds until it is started again.
        down_ms: u64,
    },
    /// The power fails right after the node's n-th answer to a forwarded operation from then on.
    CrashAfterForward {
        /// Node.
        node: u64,
        /// Which answer.
        nth: u64,
        /// Milliseconds until it is started again.
        down_ms: u64,
    },
    /// All nodes lose their power.
    CrashAll {
        /// Milliseconds until they are started again.
        down_ms: u64,
    },
    /// A node stands still.
    Pause {
        /// Node.
        node: u64,
        /// For so many milliseconds.
        ms: u64,
    },
    /// Messages between the nodes of `side` and the others are lost.
    Partition {
        /// One side.
        side: Vec<u64>,
        /// For so many milliseconds.
        ms: u64,
        /// Only those from `side` to the others.
        one_way: bool,
    },
    /// Messages from one node to another are held back.
    Clog {
        /// From.
        from: u64,
        /// To.
        to: u64,
        /// For so many milliseconds.
        ms: u64,
    },
    /// The wall clock of a node steps.
    ClockStep {
        /// Node.
        node: u64,
        /// Milliseconds, in either direction.
        by_ms: i64,
    },
    /// The wall clock of a node stands still.
    ClockFreeze {
        /// Node.
        node: u64,
        /// For so many milliseconds.
        ms: u64,
    },
    /// The wall clock of a node runs fast or slow.
    ClockDrift {
        /// Node.
        node: u64,
        /// Parts per million, in either direction.
        ppm: i64,
    },
    /// The disk of a node is slow.
    SlowDisk {
        /// Node.
        node: u64,
        /// Milliseconds of each operation.
        ms: u64,
        /// For so many milliseconds.
        for_ms: u64,
    },
    /// The disk of a node takes operations and ends none.
    HungDisk {
        /// Node.
        node: u64,
        /// For so many milliseconds.
        for_ms: u64,
    },
    /// The disk of a node has no space left.
    FullDisk {
        /// Node.
        node: u64,
        /// For so many milliseconds.
        for_ms: u64,
    },
    /// The next sync of a node's disk fails.
    FailedSync {
        /// Node.
        node: u64,
    },
    /// Tables on the disk of a node cannot be read.
    FailedReads {
        /// Node.
        node: u64,
        /// For so many milliseconds.
        for_ms: u64,
    },
    /// A bit flips in a file of a node, at rest.
    BitFlip {
        /// Node.
        node: u64,
    },
    /// A sector of a node's files holds what was there before the last write, which was acknowledged.
    LostWrite {
        /// Node.
        node: u64,
    },
    /// A sector of a node's files holds what was written for another.
    MisdirectedWrite {
        /// Node.
        node: u64,
    },
    /// A node loses its power and comes back on an empty directory; later it has its own again.
    StartEmpty {
        /// Node.
        node: u64,
        /// All others lose their power at the same time.
        others: bool,
        /// Milliseconds until it has its own directory again.
        ms: u64,
    },
    /// A copy of a node's directory is taken; later the node loses its power and comes back on the copy, and later still it has
    /// its own again.
    StartOnCopy {
        /// Node.
        node: u64,
        /// Milliseconds until it is started on the copy.
        after_ms: u64,
        /// All others lose their power at the same time.
        others: bool,
        /// Milliseconds from then until it has its own directory again.
        ms: u64,
    },
    /// The power fails right after the node's n-th acknowledgement from then on, and what it acknowledged is damaged.
    DamageAfterAck {
        /// Node.
        node: u64,
        /// Which acknowledgement.
        nth: u64,
        /// Milliseconds until it is started again.
        down_ms: u64,
    },
}

fn weighted<T: Copy>(random: &mut Stream, items: &[(u64, T)], otherwise: T) -> T {
    let mut left = random.below(items.iter().map(|(weight, _)| weight).sum());
    for (weight, item) in items {
        if left < *weight {
            return *item;
        }
        left -= weight;
    }
    otherwise
}

impl Plan {
    /// How large it is, in words.
    pub fn size(&self) -> String {
        let operations: usize = self.clients.iter().map(Vec::len).sum();
        let clients = self.clients.iter().filter(|operations| !operations.is_empty()).count();
        format!(
            "{} nodes, {} keys, {clients} clients with {operations} operations, {} faults",
            self.nodes,
            self.keys,
            self.faults.len()
        )
    }

    /// The plan of a seed. With `virtual_seconds`, the clients have work, and the faults go on, for about so long.
    pub fn new(scenario: &Scenario, seed: u64, virtual_seconds: Option<u64>) -> Self {
        let mut random = Stream::new(seed, "plan", 0);
        let random = &mut random;
        let shape = &scenario.shape;
        let between = |random: &mut Stream, range: [u64; 2]| random.between(range[0], range[1]);
        let nodes = between(random, shape.nodes);
        let keys = between(random, shape.keys);
        let network = &scenario.network;
        let calm = scenario.swarm && random.chance(300);
        let latency = between(random, network.latency_us);
        let mut plan = Self {
            scenario: scenario.name.clone(),
            seed,
            nodes,
            replication: if nodes >= 5 && random.chance(200) { 5 } else { 3 },
            keys,
            weak_keys: if random.chance(500) { random.below(keys) } else { 0 },
            promises: between(random, shape.promises),
            memtable_bytes: between(random, shape.memtable_bytes),
            // Scrub goes on where disks may be damaged, so that nothing stays hidden.
            scrub_ms: if scenario.faults.damages() { *random.pick(&[1_000, 4_000]) } else { 0 },
            latency_us: [network.latency_us[0], latency],
            loss: if calm { 0 } else { between(random, network.loss) },
            duplicate: if calm { 0 } else { between(random, network.duplicate) },
            spike: if calm { 0 } else { between(random, network.spike) },
            stray: if calm || network.stray[1] == 0 { 0 } else { between(random, network.stray) },
            disk_us: [20, *random.pick(&[100, 500, 3_000])],
            mono_ppm: (0..nodes).map(|_| *random.pick(&[0, 0, 200, -200, 20_000, -20_000])).collect(),
            keep_sectors: *random.pick(&[0, 500, 900, 1000]),
            clients: Vec::new(),
            faults: Vec::new(),
        };
        plan.clients = clients(scenario, &mut plan, virtual_seconds, &mut Stream::new(seed, "clients", 0));
        let longest =
            plan.clients.iter().map(|ops| ops.iter().map(|op| op.after_us + 3_000).sum::<u64>()).max();
        let span_ms = (longest.unwrap_or(0) / 1_000).max(500);
        let storms = virtual_seconds.map_or(1, |seconds| (seconds / STORM_SECONDS).max(1));
        plan.faults = faults(scenario, &plan, span_ms, storms, &mut Stream::new(seed, "faults", 0));
        plan
    }
}

/// One storm of faults is drawn for so many seconds of a run whose length is given.
const STORM_SECONDS: u64 = 5;
/// Operations of one client at most in a run whose length is given.
const OPERATIONS_MAX: u64 = 100_000;

fn clients(
    scenario: &Scenario,
    plan: &mut Plan,
    virtual_seconds: Option<u64>,
    random: &mut Stream,
) -> Vec<Vec<PlannedOperation>> {
    let shape = &scenario.shape;
    let count = random.between(shape.clients[0], shape.clients[1]);
    let operations = random.between(shape.operations[0], shape.operations[1]);
    let strong_only = random.chance(400) && scenario.levels.strong > 0;
    let sticky = random.chance(500);
    let think = random.between(shape.think_us[0], shape.think_us[1]);
    if strong_only {
        plan.weak_keys = 0;
    } else if scenario.levels.strong == 0 {
        plan.weak_keys = plan.keys;
    }
    let each = match virtual_seconds {
        // Half of the operations follow at once, the others after half of `think` on average; each takes a while.
        Some(seconds) => (seconds * 1_000_000 / (think / 4 + 3_000)).min(OPERATIONS_MAX),
        None => operations / count,
    };
    (0..count)
        .map(|client| {
            (0..each)
                .map(|_| {
                    let node = if sticky { client % plan.nodes } else { random.below(plan.nodes) };
                    // Bursts: half of the time a client does not wait at all.
                    let after_us = if random.chance(500) { 0 } else { random.below(think + 1) };
                    let key = random.below(plan.keys);
                    let mut drawn = PlannedOperation {
                        after_us,
                        node,
                        key,
                        level: if strong_only {
                            PlannedLevel::Strong
                        } else {
                            level(&scenario.levels, random)
                        },
                        what: what(&scenario.mix, random),
                        patience_ms: *random.pick(&[500, 1_500, 5_000]),
                        padding: if random.chance(60) { *random.pick(&[600, 1_500, 5_000]) } else { 0 },
                        idempotent: random.chance(shape.idempotent),
                        family: Family::Plain,
                    };
                    choose_family(&mut drawn, plan.keys, &scenario.mix, random);
                    if drawn.family == Family::Plain && key < plan.weak_keys {
                        weakened(drawn)
                    } else {
                        drawn
                    }
                })
                .collect()
        })
        .collect()
}

/// Commands on several keys are on keys of one slot, and changes of a time to live on keys that see nothing else; some of the
/// other operations are on these keys, too.
fn choose_family(drawn: &mut PlannedOperation, keys: u64, mix: &Mix, random: &mut Stream) {
    use What::{Delete, Expire, Move, Persist, Read, Set, SetAbsent, SetAllAbsent, SetKeep, SetTtl};
    let is_simple = matches!(drawn.what, Read | Set | SetAbsent | SetTtl(_) | Delete);
    drawn.family = match drawn.what {
        Move { .. } | SetAllAbsent(_) => Family::Tagged,
        SetKeep | Expire(_) | Persist => Family::Timed,
        _ if is_simple && mix.moves + mix.set_all > 0 && random.chance(300) => Family::Tagged,
        _ if is_simple && mix.expiry > 0 && random.chance(150) => Family::Timed,
        _ => Family::Plain,
    };
    if let Move { to, .. } = &mut drawn.what {
        *to = (drawn.key + 1 + random.below(keys.max(2) - 1)) % keys.max(2);
    }
    if drawn.family != Family::Plain {
        drawn.idempotent = false;
    }
    if drawn.family == Family::Timed {
        drawn.level = PlannedLevel::Strong;
    }
}

/// The same on a key that sees no strong operation.
fn weakened(mut operation: PlannedOperation) -> PlannedOperation {
    operation.idempotent = false;
    if matches!(operation.what, What::Page(_)) {
        return operation;
    }
    let several = matches!(operation.what, What::SetMany(_) | What::ReadMany(_) | What::DeleteMany(_));
    if operation.level == PlannedLevel::Strong {
        operation.level = PlannedLevel::Causal;
    }
    if !several && !matches!(operation.what, What::Read | What::Set | What::Delete | What::SetTtl(_)) {
        operation.what = What::Set;
    }
    operation
}

fn level(levels: &Levels, random: &mut Stream) -> PlannedLevel {
    let items = [
        (levels.strong, PlannedLevel::Strong),
        (levels.causal, PlannedLevel::Causal),
        (levels.eventual, PlannedLevel::Eventual),
    ];
    weighted(random, &items, PlannedLevel::Strong)
}

fn what(mix: &Mix, random: &mut Stream) -> What {
    let ttl = What::SetTtl(*random.pick(&[20, 200, 2_000]));
    let page = What::Page(*random.pick(&[1, 2, 3, 100]));
    let items = [
        (mix.read, What::Read),
        (mix.set, What::Set),
        (mix.delete, What::Delete),
        (mix.cas, What::Cas),
        (mix.incr, What::Incr),
        (mix.ttl, ttl),
        (mix.append, What::Append),
        (mix.set_absent, What::SetAbsent),
        (mix.set_version, What::SetVersion),
        (mix.page, page),
        (mix.set_present, What::SetPresent),
        (mix.get_set, What::GetSet),
        (mix.get_delete, What::GetDelete),
        (mix.delete_if, What::DeleteEquals),
        (mix.delete_if, What::DeleteVersion),
        (mix.incr_float, What::IncrFloat),
        (mix.expiry, What::SetKeep),
        (mix.expiry, What::Expire(20)),
        (mix.expiry, What::Persist),
        (mix.many, What::SetMany(2)),
        (mix.many, What::ReadMany(2)),
        (mix.many, What::DeleteMany(2)),
        (mix.moves, What::Move { to: 0, replace: true, remove: true }),
        (mix.set_all, What::SetAllAbsent(2)),
    ];
    match weighted(random, &items, What::Read) {
        What::Expire(_) => What::Expire(*random.pick(&[20, 200, 2_000])),
        What::SetMany(_) => What::SetMany(random.between(2, 4)),
        What::ReadMany(_) => What::ReadMany(random.between(2, 4)),
        What::DeleteMany(_) => What::DeleteMany(random.between(2, 4)),
        What::SetAllAbsent(_) => What::SetAllAbsent(random.between(2, 4)),
        What::Move { .. } => {
            let (replace, remove) =
                *random.pick(&[(true, true), (true, true), (false, true), (true, false), (false, false)]);
            What::Move { to: 0, replace, remove }
        }
        other => other,
    }
}

fn faults(scenario: &Scenario, plan: &Plan, span_ms: u64, storms: u64, random: &mut Stream) -> Vec<Fault> {
    let faults = &scenario.faults;
    let kinds: [([u64; 2], usize); 23] = [
        (faults.crash, 0),
        (faults.crash_at_disk, 1),
        (faults.crash_after_ack, 2),
        (faults.crash_all, 3),
        (faults.pause, 4),
        (faults.partition, 5),
        (faults.one_way, 6),
        (faults.clog, 7),
        (faults.clock_step, 8),
        (faults.clock_drift, 9),
        (faults.slow_disk, 10),
        (faults.clock_freeze, 11),
        (faults.hung_disk, 12),
        (faults.full_disk, 13),
        (faults.failed_sync, 14),
        (faults.failed_reads, 15),
        (faults.bit_flip, 16),
        (faults.lost_write, 17),
        (faults.misdirected_write, 18),
        (faults.damage_after_ack, 19),
        (faults.crash_after_forward, 20),
        (faults.start_empty, 21),
        (faults.start_on_copy, 22),
    ];
    let mut drawn = Vec::new();
    let possible: Vec<usize> =
        kinds.iter().filter(|(range, _)| range[1] > 0).map(|(_, kind)| *kind).collect();
    let sure = if possible.is_empty() { None } else { Some(*random.pick(&possible)) };
    for (range, kind) in kinds {
        let off = scenario.swarm && random.chance(500) && sure != Some(kind);
        let count = storms * random.between(range[0], range[1]).max(u64::from(sure == Some(kind)));
        for _ in 0..if off { 0 } else { count } {
            drawn.push(Fault {
                at_ms: random.below(span_ms),
                kind: fault(kind, plan, faults.long_ms, random),
            });
        }
    }
    drawn.sort_by_key(|fault| fault.at_ms);
    drawn
}

fn fault(kind: usize, plan: &Plan, long_ms: [u64; 2], random: &mut Stream) -> FaultKind {
    let node = random.below(plan.nodes);
    let mut down_ms = *random.pick(&[5, 50, 300, 1_500]);
    let mut ms = *random.pick(&[20, 200, 700, 2_500]);
    if long_ms[1] > 0 && random.chance(500) {
        ms = random.between(long_ms[0], long_ms[1]);
        down_ms = ms;
    }
    match kind {
        0 => FaultKind::Crash { node, down_ms },
        1 => FaultKind::CrashAtDisk { node, nth: random.between(1, 40), down_ms },
        2 => FaultKind::CrashAfterAck { node, nth: random.between(1, 20), down_ms },
        20 => FaultKind::CrashAfterForward { node, nth: random.between(1, 2), down_ms: down_ms.min(50) },
        3 => FaultKind::CrashAll { down_ms },
        4 => FaultKind::Pause { node, ms },
        5 | 6 => {
            let size = random.between(1, (plan.nodes / 2).max(1));
            let mut side: Vec<u64> = (0..size).map(|i| (node + i) % plan.nodes).collect();
            side.sort_unstable();
            FaultKind::Partition { side, ms, one_way: kind == 6 }
        }
        7 => FaultKind::Clog { from: node, to: (node + random.between(1, plan.nodes - 1)) % plan.nodes, ms },
        8 => {
            let by = *random.pick(&[40, 300, 450, 900, 2_000]);
            FaultKind::ClockStep { node, by_ms: if random.chance(500) { by } else { -by } }
        }
        9 => {
            let ppm = *random.pick(&[200, 5_000, 50_000]);
            FaultKind::ClockDrift { node, ppm: if random.chance(500) { ppm } else { -ppm } }
        }
        11 => FaultKind::ClockFreeze { node, ms },
        12 => FaultKind::HungDisk { node, for_ms: ms },
        13 => FaultKind::FullDisk { node, for_ms: ms },
        14 => FaultKind::FailedSync { node },
        15 => FaultKind::FailedReads { node, for_ms: ms },
        16 => FaultKind::BitFlip { node },
        17 => FaultKind::LostWrite { node },
        18 => FaultKind::MisdirectedWrite { node },
        19 => FaultKind::DamageAfterAck { node, nth: random.between(1, 20), down_ms },
        21 => FaultKind::StartEmpty { node, others: random.chance(500), ms: 300 + ms },
        22 => {
            let after_ms = *random.pick(&[300, 1_000, 3_000]);
            FaultKind::StartOnCopy { node, after_ms, others: random.chance(500), ms: 300 + ms }
        }
        _ => FaultKind::SlowDisk { node, ms: *random.pick(&[10, 60, 400]), for_ms: ms },
    }
}
