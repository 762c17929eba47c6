//! What holds at the moment at which a replica raises the watermark of a slot (G1), seen from outside of all nodes.

use crate::world::World;
use bytes::Bytes;
use samara_core::base::{NodeId, Slot, Stamp};
use samara_core::rules::slots::slot_of;
use samara_core::wire::Message;

impl World {
    /// Looks whether `node` has raised a watermark, and whether it was right to.
    pub(crate) fn watch_watermarks(&mut self, node: usize) {
        for at in 0..self.keys.len() {
            let (slot, Some(core)) = (slot_of(&self.keys[at]), &self.machines[node].node) else { return };
            let raised = core.watermark(slot);
            let before = self.machines[node].raised.insert(slot, raised).unwrap_or_default();
            if raised > before
                && let Err(broken) = self.may_raise(node, slot, raised)
            {
                self.failure.get_or_insert(broken);
            }
        }
    }

    /// Nobody holds a hint at or below the watermark.
    fn may_raise(&self, node: usize, slot: Slot, raised: Stamp) -> Result<(), String> {
        let name = NodeId(node as u16 + 1);
        for (other, machine) in self.machines.iter().enumerate().filter(|(_, machine)| machine.ready) {
            let hints = machine.node.as_ref().map_or(0, |node| node.hints_upto(slot, raised));
            if hints > 0 {
                return Err(format!(
                    "G1: {name} raised the watermark of {slot} to {raised} while n{} holds {hints} hints below it",
                    other + 1
                ));
            }
        }
        Ok(())
    }

    /// The key and ballot of a repair at or below the watermark of `node`, which does not hold it in memory.
    pub(crate) fn late_repair(&self, node: usize, body: &Message) -> Option<(Bytes, Stamp)> {
        let Message::Repair { key, record, .. } = body else { return None };
        let core = self.machines[node].node.as_ref()?;
        let is_late = record.ballot <= core.watermark(slot_of(key)) && core.peek(key) != Some(record.ballot);
        is_late.then(|| (key.clone(), record.ballot))
    }

    /// G2: such a repair is not stored, neither at once nor when what is held has been looked up: `stored` says that the step
    /// which has just ended stored a repair.
    pub(crate) fn watch_late_repairs(&mut self, node: usize, stored: bool) {
        let Some(core) = self.machines[node].node.as_ref().filter(|_| stored) else { return };
        let is_there =
            |(at, key, ballot): &&(usize, Bytes, Stamp)| *at == node && core.peek(key) == Some(*ballot);
        if let Some((_, key, ballot)) = self.late_repairs.iter().find(is_there) {
            let broken =
                format!("G2: n{} stored a repair of {key:?} at {ballot}, below its watermark", node + 1);
            self.failure.get_or_insert(broken);
        }
    }
}
