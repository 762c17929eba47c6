//! Nodes that come back on another directory than their own, emptied or an old copy (PROTOCOL S5).
//!
//! A budget keeps it decidable: it happens only while every other node durably remembers more of the node than that directory
//! holds, and no disk is damaged. Clients do not reach such a node; its peers must not listen to it, restarted or not; it must
//! end as soon as one of them tells it. In the end the right directory is put back, with all that it has acknowledged.

use crate::disk::Disk;
use crate::world::{Event, MS, World};
use samara_core::base::{Address, Hlc, NodeId, ShardId, StartNumber};

/// How long nodes that lose their power along with a strike are down, milliseconds.
const OTHERS_DOWN_MS: u64 = 20;

/// A directory as it was.
#[derive(Clone)]
pub(crate) struct Copy {
    disk: Disk,
    /// The life that it was of.
    start: StartNumber,
    /// No ceiling in it is higher.
    ceiling: Hlc,
}

fn address(node: usize) -> Address {
    Address { node: NodeId(node as u16 + 1), shard: ShardId(0) }
}

impl World {
    /// A copy of a node's directory is taken, to be started from `after_ms` later.
    pub(crate) fn copy_disk(&mut self, node: usize, after_ms: u64, others: bool, ms: u64) {
        let machine = &self.machines[node];
        let Some(core) = machine.node.as_ref().filter(|_| machine.right.is_none()) else { return };
        let probe = core.probe();
        let copy = Copy { disk: machine.disk.copied(), start: probe.start, ceiling: core.highest_ceiling() };
        let copy = Some(Box::new(copy));
        self.push(after_ms * MS, Event::WrongDisk { node, copy, others, ms });
    }

    /// A node is started on a copy of its directory, or on an empty one, for `ms` milliseconds; with `others`, all lose their
    /// power at the same time.
    pub(crate) fn wrong_disk(&mut self, node: usize, copy: Option<Box<Copy>>, others: bool, ms: u64) {
        if self.healed || !self.is_known_by_all(node, copy.as_deref()) {
            return self.meet("wrong_disk_spared");
        }
        self.meet(if copy.is_some() { "started_on_a_copy" } else { "started_empty" });
        self.log(|| format!("n{} comes back on another directory", node + 1));
        self.crash(node, OTHERS_DOWN_MS);
        let wrong = copy.map_or_else(Disk::default, |copy| copy.disk);
        let machine = &mut self.machines[node];
        machine.right = Some(std::mem::replace(&mut machine.disk, wrong));
        if others {
            for other in (0..self.machines.len()).filter(|other| *other != node) {
                self.crash(other, OTHERS_DOWN_MS);
            }
        }
        self.push(ms * MS, Event::RightDisk { node });
    }

    /// The node has its own directory again.
    pub(crate) fn right_disk(&mut self, node: usize) {
        let Some(mut right) = self.machines[node].right.take() else { return };
        self.crash(node, OTHERS_DOWN_MS);
        right.broken = crate::disk::Broken::default();
        self.machines[node].disk = right;
        self.push(OTHERS_DOWN_MS * MS, Event::Restart { node });
    }

    /// Whether every other node durably remembers of `node` what that directory does not hold.
    fn is_known_by_all(&mut self, node: usize, copy: Option<&Copy>) -> bool {
        for at in 0..self.machines.len() {
            let is_damaged = self.is_impaired(at);
            let machine = &self.machines[at];
            if is_damaged || machine.right.is_some() || !machine.ready || machine.paused {
                return false;
            }
        }
        let Some(core) = &self.machines[node].node else { return false };
        let start = core.probe().start;
        let knows = |other: usize| {
            let remembered = self.machines[other].node.as_ref()?.durably_remembers(address(node))?;
            let is_behind = copy.is_none_or(|copy| copy.start != start || copy.ceiling < remembered.1);
            Some(remembered.0 == start && is_behind)
        };
        (0..self.machines.len()).filter(|other| *other != node).all(|other| knows(other) == Some(true))
    }

    /// Whether some node is on another directory than its own.
    pub(crate) fn has_impostor(&self) -> bool {
        self.machines.iter().any(|machine| machine.right.is_some())
    }

    /// After a step: S5.
    pub(crate) fn watch_impostors(&mut self, node: usize) {
        for (other, machine) in self.machines.iter().enumerate().filter(|(other, _)| *other != node) {
            let (Some(_), Some(wrong), Some(core)) =
                (&machine.right, &machine.node, &self.machines[node].node)
            else {
                continue;
            };
            // Before it serves, it shows the last life of that directory.
            let probe = wrong.probe();
            if probe.ready
                && core.remembers(address(other)).is_some_and(|remembered| remembered.0 == probe.start)
            {
                let broken =
                    format!("S5: n{} listens to n{}, which is not on its directory", node + 1, other + 1);
                self.failure.get_or_insert(broken);
                return;
            }
        }
    }
}
