//! Dropping slots: when ownership of a slot leaves, its records go at once.
//!
//! A drop divides by time and not by ballot: what was put before it is gone, and what is put afterwards is there, however
//! old its ballot. One edit of the manifest makes it durable: it names the slots, and the last group of the log that may hold
//! entries of theirs. In every table that is live at that point these entries count as not there; they go when the table is
//! merged, and a table of which nothing else is left goes as a whole.

use super::manifest::{Install, InstallKind};
use super::{ReadJob, Store, StoreCx, entry};
use crate::base::Slot;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Store {
    /// Forgets every record of `slots`. No read that ends from now on shows one, and `StoreEvent::Dropped` tells when a start
    /// does not bring them back either. Records of these slots that are put before that event may be lost with what was
    /// there if the machine stops first, or come back together with it.
    pub fn drop_slots(&mut self, cx: &mut StoreCx<'_>, slots: &[Slot]) {
        assert!(self.serving, "nothing is dropped before recovery has ended");
        let given = self.tail.map_or(self.first_group - 1, |tail| tail.group);
        let upto = given + self.pending.cut();
        let slots: Vec<(u16, u64)> = slots.iter().map(|slot| (slot.0, upto)).collect();
        for (slot, _) in &slots {
            self.active.drop_slot(*slot);
        }
        self.hot.drop_slots(&slots);
        for frozen in &mut self.frozen {
            frozen.dropped.extend(&slots);
        }
        self.levels.drop_slots(&slots);
        self.dropped.extend(&slots);
        for merge in self.flush.iter_mut().chain(&mut self.compaction) {
            merge.dropped.extend(&slots);
        }
        // Tables that wait for the manifest to name them.
        let installing = self.installing.iter_mut().map(|installing| &mut installing.install);
        for table in self.installs.iter_mut().chain(installing).flat_map(|install| &mut install.added) {
            if let Some(without) = table.without(&slots) {
                *table = Arc::new(without);
            }
        }
        self.version += 1;
        self.restart_reads(cx, &slots);
        let mut install = Install::new(InstallKind::Drop);
        install.dropped = slots;
        self.installs.push_back(install);
        self.levels_changed = true;
        self.start_install(cx);
    }

    /// Reads under way that may have seen what is dropped begin anew.
    fn restart_reads(&mut self, cx: &mut StoreCx<'_>, slots: &[(u16, u64)]) {
        let mut scans = Vec::new();
        for (token, job) in &mut self.reads {
            match job {
                ReadJob::Get(job) => {
                    let slot = entry::slot_of(job.name());
                    if slots.iter().any(|(dropped, _)| *dropped == slot) {
                        job.restart();
                    }
                }
                ReadJob::Scan(_) => scans.push(*token),
            }
        }
        for token in scans {
            self.restart_scan(cx, token);
        }
    }

    /// Removes the tables of which nothing is left; false if there are none.
    pub(super) fn clear_dropped(&mut self, cx: &mut StoreCx<'_>) -> bool {
        let gone = self.levels.all().filter(|table| table.meta.is_dropped());
        let gone: Vec<u64> = gone.map(|table| table.meta.number).collect();
        if gone.is_empty() {
            return false;
        }
        let mut install = Install::new(InstallKind::Clear);
        install.removed = gone;
        self.moving = true;
        self.installs.push_back(install);
        self.start_install(cx);
        true
    }
}
