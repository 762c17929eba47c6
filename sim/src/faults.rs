//! The faults of the plan, as they strike, and the healing at the end.

use crate::damage::Damage;
use crate::disk::Broken;
use crate::plan::FaultKind;
use crate::world::{Event, JUDGE, MS, World};
use samara_core::base::NodeId;
use samara_core::io::{DiskErrorKind, DiskOp, DiskResult};

/// Milliseconds until a node that its disk has ended is started again.
const STOPPED_MS: u64 = 300;

impl World {
    /// The power of a node fails.
    pub(crate) fn crash(&mut self, node: usize, down_ms: u64) {
        self.log(|| format!("n{} loses its power for {down_ms} ms", node + 1));
        let keep = self.plan.keep_sectors;
        let machine = &mut self.machines[node];
        if let Some(core) = machine.node.take() {
            for (name, count) in core.counters().iter().filter(|(_, count)| *count > 0) {
                *self.situations.entry(name).or_default() += count;
            }
        } else {
            return;
        }
        let (lost, torn) = machine.lose_power(keep);
        for (name, count) in [("sectors_lost", lost), ("write_torn", torn)] {
            if count > 0 {
                *self.situations.entry(name).or_default() += count;
            }
        }
        self.meet("crashed");
        if self.machines.iter().all(|machine| machine.node.is_none()) {
            self.meet("all_nodes_down");
        }
        self.monitor.on_crash(NodeId(node as u16 + 1));
        self.suspects.on_crash(NodeId(node as u16 + 1));
        self.push(down_ms * MS, Event::Restart { node });
        let broken: Vec<(u64, usize)> = self
            .requests
            .extract_if((node, 0)..(node + 1, 0), |_, _| true)
            .map(|((_, tag), client)| (tag, client))
            .collect();
        for (tag, client) in broken {
            if client != JUDGE && self.clients[client].open(tag).is_some_and(|open| open.node == node) {
                let ended = self.clients[client].on_unknown(tag, self.now);
                self.on_ended(client, ended);
            }
        }
    }

    pub(crate) fn strike(&mut self, at: usize) {
        self.faults += 1;
        match self.plan.faults[at].kind.clone() {
            FaultKind::Crash { node, down_ms } => self.crash(node as usize, down_ms),
            FaultKind::CrashAtDisk { node, nth, down_ms } => {
                self.machines[node as usize].crash_at_disk = Some((nth, down_ms));
            }
            FaultKind::CrashAfterAck { node, nth, down_ms } => {
                self.machines[node as usize].crash_after_ack = Some((nth, down_ms));
            }
            FaultKind::CrashAfterForward { node, nth, down_ms } => {
                self.machines[node as usize].crash_after_forward = Some((nth, down_ms));
            }
            FaultKind::CrashAll { down_ms } => {
                (0..self.machines.len()).for_each(|node| self.crash(node, down_ms));
            }
            FaultKind::Pause { node, ms } => {
                let machine = &mut self.machines[node as usize];
                machine.paused = machine.node.is_some();
                self.push(ms * MS, Event::Resume { node: node as usize });
            }
            FaultKind::Partition { side, ms, one_way } => self.partition(&side, ms, one_way),
            FaultKind::Clog { from, to, ms } => {
                let (from, to) = (from as usize, to as usize);
                self.links[from][to].clogged += 1;
                self.push(ms * MS, Event::HealLink { from, to, cut: false });
            }
            FaultKind::ClockStep { node, by_ms } => self.machines[node as usize].clock.offset_ms += by_ms,
            FaultKind::ClockFreeze { node, ms } => {
                let node = node as usize;
                self.machines[node].clock.freeze(self.now, true);
                self.push(ms * MS, Event::Thaw { node });
            }
            FaultKind::ClockDrift { node, ppm } => self.machines[node as usize].clock.drift(self.now, ppm),
            FaultKind::BitFlip { node } => self.damage(node as usize, Damage::BitFlip),
            FaultKind::LostWrite { node } => self.damage(node as usize, Damage::LostWrite),
            FaultKind::MisdirectedWrite { node } => self.damage(node as usize, Damage::Misdirected),
            FaultKind::DamageAfterAck { node, nth, down_ms } => {
                self.machines[node as usize].damage_after_ack = Some((nth, down_ms));
            }
            FaultKind::StartEmpty { node, others, ms } => self.wrong_disk(node as usize, None, others, ms),
            FaultKind::StartOnCopy { node, after_ms, others, ms } => {
                self.copy_disk(node as usize, after_ms, others, ms);
            }
            FaultKind::SlowDisk { node, ms, for_ms } => {
                self.machines[node as usize].slow_ms = ms;
                self.push(for_ms * MS, Event::HealDisk { node: node as usize });
            }
            FaultKind::HungDisk { node, for_ms } => {
                self.machines[node as usize].hung = true;
                self.push(for_ms * MS, Event::HealDisk { node: node as usize });
            }
            FaultKind::FullDisk { node, for_ms } => {
                self.machines[node as usize].disk.broken.full = true;
                self.push(for_ms * MS, Event::HealDisk { node: node as usize });
            }
            FaultKind::FailedSync { node } => self.machines[node as usize].disk.broken.sync_fails = true,
            FaultKind::FailedReads { node, for_ms } => {
                self.machines[node as usize].disk.broken.reads_fail = true;
                self.push(for_ms * MS, Event::HealDisk { node: node as usize });
            }
        }
    }

    /// The disk of a node is as it should be.
    pub(crate) fn heal_disk(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        (machine.slow_ms, machine.hung) = (0, false);
        machine.disk.broken = Broken::default();
    }

    /// An operation failed for what is wrong with the disk.
    pub(crate) fn meet_broken(&mut self, result: &DiskResult, op: &DiskOp) {
        let DiskResult::Failed(error) = result else { return };
        self.meet(match (error.kind, op) {
            (DiskErrorKind::Full, _) => "disk_was_full",
            (_, DiskOp::Read { .. }) => "read_failed",
            _ => "sync_failed",
        });
    }

    /// A node says that it cannot go on. With a broken disk it may: it is started again a little later, as by its
    /// supervisor, and finds what the disk has kept.
    pub(crate) fn on_fatal(&mut self, node: usize, reason: &str) {
        if self.machines[node].right.is_some() {
            self.log(|| format!("n{} ends: {reason}", node + 1));
            return self.crash(node, STOPPED_MS);
        }
        if !self.machines[node].may_end || reason.contains("is an old copy") {
            self.failure = Some(format!("node {}: {reason}", node + 1));
            return;
        }
        self.log(|| format!("n{} stops: {reason}", node + 1));
        self.meet(if self.machines[node].hung { "stopped_by_hung_disk" } else { "stopped_by_broken_disk" });
        self.crash(node, STOPPED_MS);
    }

    fn partition(&mut self, side: &[u64], ms: u64, one_way: bool) {
        let count = self.machines.len();
        let inside = |node: usize| side.contains(&(node as u64));
        for from in 0..count {
            for to in 0..count {
                if inside(from) != inside(to) && (inside(from) || !one_way) {
                    self.links[from][to].cut += 1;
                    self.push(ms * MS, Event::HealLink { from, to, cut: true });
                }
            }
        }
    }

    pub(crate) fn heal_link(&mut self, from: usize, to: usize, cut: bool) {
        let link = &mut self.links[from][to];
        if cut {
            link.cut = link.cut.saturating_sub(1);
            return;
        }
        link.clogged = link.clogged.saturating_sub(1);
        if link.clogged == 0 {
            for envelope in std::mem::take(&mut link.held) {
                self.push(50_000, Event::Deliver { to, envelope: Box::new(envelope) });
            }
        }
    }

    pub(crate) fn resume(&mut self, node: usize) {
        if !std::mem::take(&mut self.machines[node].paused) {
            return;
        }
        self.machines[node].resumed_at = self.now;
        for event in std::mem::take(&mut self.machines[node].backlog) {
            self.push(1_000, event);
        }
    }

    /// The storm is over: everything works again, and every node is up.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        for from in 0..self.machines.len() {
            for to in 0..self.machines.len() {
                self.links[from][to].cut = 0;
                self.links[from][to].clogged = 1;
                self.heal_link(from, to, false);
            }
        }
        for node in 0..self.machines.len() {
            let machine = &mut self.machines[node];
            machine.clock.heal();
            (machine.crash_at_disk, machine.crash_after_ack) = (None, None);
            (machine.damage_after_ack, machine.crash_after_forward) = (None, None);
            self.heal_disk(node);
            self.resume(node);
            self.right_disk(node);
            if self.machines[node].node.is_none() {
                self.boot(node);
            }
        }
    }
}
