//! A simulated process: its node, its disk and its clocks.

use crate::damage::Breakage;
use crate::disk::Disk;
use crate::plan::Plan;
use crate::random::Stream;
use crate::world::{Event, MS};
use samara_core::base::{Address, Config, Instant, NodeId, Now, ShardId, Slot, Stamp, Ticket, WallTime};
use samara_core::io::DiskOp;
use samara_core::node::{Node, NodeOptions};
use samara_core::store::StoreOptions;
use std::collections::BTreeMap;

/// The wall clock at the beginning of a run, milliseconds since the Unix epoch.
pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;

/// A process and what surrounds it.
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
pub(crate) struct Machine {
    pub(crate) node: Option<Node>,
    pub(crate) ready: bool,
    /// A node that has not been booted: every life begins as its clone.
    pristine: Node,
    /// The same with another seed, for lives on another directory.
    stranger: Node,
    /// The node's own directory, while it runs on another one.
    pub(crate) right: Option<Disk>,
    pub(crate) disk: Disk,
    pub(crate) disk_random: Stream,
    /// Disk operations asked for that have not taken effect.
    pub(crate) in_flight: BTreeMap<Ticket, DiskOp>,
    /// How often it was started.
    pub(crate) life: u32,
    pub(crate) paused: bool,
    pub(crate) backlog: Vec<Event>,
    /// The world's time when it last began to run again after a pause.
    pub(crate) resumed_at: u64,
    pub(crate) slow_ms: u64,
    /// The disk takes operations and ends none.
    pub(crate) hung: bool,
    /// An operation of this life failed, or waited for a hung disk: the node may end by it.
    pub(crate) may_end: bool,
    pub(crate) timer_at: u64,
    pub(crate) crash_at_disk: Option<(u64, u64)>,
    pub(crate) crash_after_ack: Option<(u64, u64)>,
    pub(crate) crash_after_forward: Option<(u64, u64)>,
    /// The same, with damage of what was acknowledged.
    pub(crate) damage_after_ack: Option<(u64, u64)>,
    pub(crate) breakage: Breakage,
    /// The node has been damaged and may not have got over it.
    pub(crate) impaired: bool,
    pub(crate) clock: Clock,
    /// The watermarks that it was seen to have raised, in all its lives.
    pub(crate) raised: BTreeMap<Slot, Stamp>,
}

/// The clocks of a process as functions of the world's time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    pub(crate) offset_ms: i64,
    /// Rate of the wall clock beside the world's, parts per million.
    wall_ppm: i64,
    /// Rate of the monotonic clock.
    mono_ppm: i64,
    /// Where the monotonic clock began.
    mono_origin: u64,
    /// The wall clock stands still.
    pub(crate) frozen_ms: Option<i64>,
}

impl Machine {
    pub(crate) fn new(plan: &Plan, node: u64, config: &Config) -> Self {
        let mut random = Stream::new(plan.seed, "node", node);
        let options = NodeOptions {
            address: Address { node: NodeId(node as u16 + 1), shard: ShardId(0) },
            config: config.clone(),
            seed: random.seed(),
            store: StoreOptions {
                memtable_bytes: plan.memtable_bytes as usize,
                wal_segment_bytes: 32 << 10,
                wal_group_bytes: 2 << 10,
                block_bytes: 512,
                cache_bytes: 4 << 10,
                value_inline_max: 64,
                value_file_bytes: 16 << 10,
                // Longer than a slow disk takes, and within what a hung one may take.
                disk_slow_ms: 600,
                disk_hung_ms: 1_800,
                scrub_ms: plan.scrub_ms,
                ..StoreOptions::default()
            },
            promises_max: plan.promises as usize,
            floors: samara_core::rules::floor::Floors::default(),
        };
        let mut other = Stream::new(plan.seed, "stranger", node);
        let stranger = Node::new(NodeOptions { seed: other.seed(), ..options.clone() });
        let mono_ppm = plan.mono_ppm.get(node as usize).copied().unwrap_or(0);
        Self {
            node: None,
            ready: false,
            pristine: Node::new(options),
            stranger,
            right: None,
            disk: Disk::default(),
            disk_random: Stream::new(plan.seed, "disk", node),
            in_flight: BTreeMap::new(),
            life: 0,
            paused: false,
            backlog: Vec::new(),
            resumed_at: 0,
            slow_ms: 0,
            hung: false,
            may_end: false,
            timer_at: u64::MAX,
            crash_at_disk: None,
            crash_after_ack: None,
            crash_after_forward: None,
            damage_after_ack: None,
            breakage: Breakage::default(),
            impaired: false,
            clock: Clock { mono_ppm, mono_origin: (node + 1) * 1_000_000_007, ..Clock::default() },
            raised: BTreeMap::new(),
        }
    }

    /// The process starts.
    pub(crate) fn boot(&mut self) {
        self.life += 1;
        self.ready = false;
        self.timer_at = u64::MAX;
        self.may_end = false;
        self.node = Some(if self.right.is_some() { &self.stranger } else { &self.pristine }.clone());
    }

    /// The power fails: what the disk has of operations in flight and of unsynced writes is up to chance. Returns the
    /// counts of (sectors lost, writes in flight of which something may have reached the disk).
    pub(crate) fn lose_power(&mut self, keep: u64) -> (u64, u64) {
        let mut torn = 0;
        for op in std::mem::take(&mut self.in_flight).into_values() {
            let begun = self.disk_random.chance(500);
            match op {
                DiskOp::Write { file, offset, data, .. } if begun => {
                    torn += 1;
                    self.disk.perform(&DiskOp::Write { file, offset, data, sync: false });
                }
                DiskOp::Create { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. } if begun => {
                    self.disk.perform(&op);
                }
                _ => {}
            }
        }
        // Half of the crashes tear, whatever the disk of this run is like.
        let keep = if self.disk_random.chance(500) { keep } else { 500 };
        let lost = self.disk.crash(keep, &mut self.disk_random);
        (self.paused, self.ready) = (false, false);
        self.backlog.clear();
        (lost, torn)
    }
}

impl Clock {
    fn drifted_ms(now: u64, ppm: i64) -> i64 {
        (i128::from(now) * i128::from(ppm) / 1_000_000 / i128::from(MS)) as i64
    }

    fn wall_ms(&self, now: u64) -> i64 {
        let running = (EPOCH_MS + now / MS) as i64 + self.offset_ms + Self::drifted_ms(now, self.wall_ppm);
        self.frozen_ms.unwrap_or(running)
    }

    /// The clocks' readings at a time of the world.
    pub(crate) fn at(&self, now: u64) -> Now {
        let drift = i128::from(now) * i128::from(self.mono_ppm) / 1_000_000;
        let mono = self.mono_origin + (i128::from(now) + drift) as u64;
        Now { mono: Instant(mono), wall: WallTime(self.wall_ms(now).max(0) as u64) }
    }

    /// The world's time at which the monotonic clock has reached `instant`.
    pub(crate) fn when(&self, instant: Instant) -> u64 {
        if instant == Instant::NEVER {
            return u64::MAX;
        }
        let run = i128::from(instant.0.saturating_sub(self.mono_origin));
        let rate = 1_000_000 + i128::from(self.mono_ppm);
        (run * 1_000_000 / rate) as u64 + 2
    }

    /// Changes the rate of the wall clock without a step.
    pub(crate) fn drift(&mut self, now: u64, ppm: i64) {
        self.offset_ms += Self::drifted_ms(now, self.wall_ppm) - Self::drifted_ms(now, ppm);
        self.wall_ppm = ppm;
    }

    /// The wall clock stands still, or goes on where it should be.
    pub(crate) fn freeze(&mut self, now: u64, frozen: bool) {
        self.frozen_ms = None;
        if frozen {
            self.frozen_ms = Some(self.wall_ms(now));
        }
    }

    /// The fault is over: the wall clock is right again.
    pub(crate) fn heal(&mut self) {
        (self.offset_ms, self.wall_ppm, self.frozen_ms) = (0, 0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_of_a_drifting_clock_is_due_when_it_comes() {
        for mono_ppm in [-50_000, -1, 0, 200, 50_000] {
            let clock = Clock { mono_ppm, mono_origin: 77, ..Clock::default() };
            for instant in [78, 1_000, 1_234_567_890, 987_654_321_012] {
                let when = clock.when(Instant(instant));
                assert!(clock.at(when).mono >= Instant(instant), "{mono_ppm} {instant}");
                assert!(clock.at(when.saturating_sub(10)).mono <= Instant(instant), "{mono_ppm} {instant}");
            }
        }
    }

    #[test]
    fn drift_begins_without_a_step_and_a_frozen_clock_stands() {
        let mut clock = Clock::default();
        let before = clock.at(5_000 * MS).wall;
        clock.drift(5_000 * MS, 50_000);
        assert_eq!(clock.at(5_000 * MS).wall, before);
        assert_eq!(clock.at(6_000 * MS).wall.0, before.0 + 1_050);
        clock.freeze(6_000 * MS, true);
        assert_eq!(clock.at(9_000 * MS).wall.0, before.0 + 1_050);
        clock.freeze(9_000 * MS, false);
        assert_eq!(clock.at(9_000 * MS).wall.0, before.0 + 4_200);
    }
}
