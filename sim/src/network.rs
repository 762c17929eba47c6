//! Messages between nodes: what the links do to them, and what the monitor sees of them.

use crate::world::{Event, MS, World};
use samara_core::base::{NodeId, Stamp};
use samara_core::io::Input;
use samara_core::wire::{Answer, Envelope, Frames, Message, decode};

/// One in so many messages goes through the codec.
const CODEC_ONE_IN: u64 = 16;

/// When the second copy of a message comes that has strayed: no request is answered for so long.
const STRAY_MS: [u64; 2] = [1_000, 30_000];

/// A link from one node to another.
#[derive(Clone, Default)]
pub(crate) struct Link {
    /// Partitions that cut it.
    pub(crate) cut: u32,
    /// Clogs that hold it back.
    pub(crate) clogged: u32,
    pub(crate) held: Vec<Envelope>,
}

impl World {
    pub(crate) fn send(&mut self, from: usize, to: usize, envelope: Envelope, ceiling: Stamp) {
        if self.machines[from].right.is_some() {
            self.strange.insert((envelope.from, envelope.start));
            return self.transmit(from, to, envelope);
        }
        let ids = (NodeId(from as u16 + 1), NodeId(to as u16 + 1));
        let core = self.machines[from].node.as_ref();
        let is_suspect = |key: &bytes::Bytes| core.is_some_and(|core| core.is_suspect(key));
        if let Err(broken) = self.monitor.on_send(ids.0, ids.1, &envelope, ceiling, is_suspect) {
            self.failure.get_or_insert(broken);
        }
        if let Err(broken) = self.suspects.on_send(ids.0, ids.1, &envelope, core) {
            self.failure.get_or_insert(broken);
        }
        let acked = matches!(envelope.body, Message::Answer { answer: Answer::Accepted { .. }, .. });
        let forwarded = matches!(envelope.body, Message::Answer { answer: Answer::Forwarded(_), .. });
        self.transmit(from, to, envelope);
        if let (true, Some((left, down_ms))) = (forwarded, self.machines[from].crash_after_forward) {
            self.machines[from].crash_after_forward = (left > 1).then_some((left - 1, down_ms));
            if left <= 1 {
                self.meet("crashed_after_forward");
                self.crash(from, down_ms);
            }
        }
        if let (true, Some((left, down_ms))) = (acked, self.machines[from].crash_after_ack) {
            self.machines[from].crash_after_ack = Some((left.saturating_sub(1), down_ms));
            if left <= 1 {
                self.machines[from].crash_after_ack = None;
                self.meet("crashed_after_ack");
                self.crash(from, down_ms);
            }
        }
        if let (true, Some((left, down_ms))) = (acked, self.machines[from].damage_after_ack) {
            self.machines[from].damage_after_ack = Some((left.saturating_sub(1), down_ms));
            if left <= 1 && self.machines[from].node.is_some() {
                self.machines[from].damage_after_ack = None;
                self.crash(from, down_ms);
                self.damage_after_ack(from);
            }
        }
    }

    fn transmit(&mut self, from: usize, to: usize, envelope: Envelope) {
        let link = &mut self.links[from][to];
        if link.cut > 0 {
            return self.meet("message_cut_off");
        }
        if link.clogged > 0 {
            return link.held.push(envelope);
        }
        if self.network[from][to].chance(self.plan.loss) && !self.healed {
            return self.meet("message_lost");
        }
        let copies = if self.network[from][to].chance(self.plan.duplicate) && !self.healed { 2 } else { 1 };
        if copies == 2 {
            self.meet("message_duplicated");
        }
        if self.network[from][to].below(CODEC_ONE_IN) == 0 {
            self.through_codec(&envelope);
        }
        for _ in 0..copies {
            let [low, high] = self.plan.latency_us;
            let mut delay = self.network[from][to].between(low, high) * 1_000;
            if self.network[from][to].chance(self.plan.spike) && !self.healed {
                delay += self.network[from][to].below(1_000 * MS);
            }
            self.push(delay, Event::Deliver { to, envelope: Box::new(envelope.clone()) });
        }
        if self.plan.stray > 0 && self.network[from][to].chance(self.plan.stray) && !self.healed {
            self.meet("message_strayed");
            let delay = self.network[from][to].between(STRAY_MS[0], STRAY_MS[1]) * MS;
            self.push(delay, Event::Deliver { to, envelope: Box::new(envelope) });
        }
    }

    fn through_codec(&mut self, envelope: &Envelope) {
        let (mut frames, mut decoded) = (Frames::default(), Vec::new());
        frames.push(envelope);
        let bytes = frames.finish();
        let len = decode(bytes, &mut decoded);
        if len != Ok(Some(bytes.len())) || decoded != [envelope.clone()] {
            self.failure = Some(format!("the codec changed {envelope:?} into {decoded:?}"));
        }
    }

    pub(crate) fn on_deliver(&mut self, to: usize, envelope: Box<Envelope>) {
        self.log(|| format!("{} -> n{}: {:?}", envelope.from, to + 1, envelope.body));
        if self.machines[to].node.is_none() {
            return;
        }
        // What comes from another directory than the sender's own has request ids that the sender will use, too: the monitor
        // does not take one for the other. That nobody listens to it is watched apart.
        if self.machines[to].right.is_some() || self.strange.contains(&(envelope.from, envelope.start)) {
            return self.input(to, Input::Message(*envelope));
        }
        if !self.machines[to].paused && self.machines[to].ready {
            let node = self.machines[to].node.as_ref();
            let peek = |key: &bytes::Bytes| node.and_then(|node| node.peek(key));
            if let Some(node) = node {
                self.suspects.on_delivery(NodeId(to as u16 + 1), &envelope, node);
            }
            // A hint that is shown may be delivered, and gone, the next time.
            let of_hints = matches!(&envelope.body, samara_core::wire::Message::Query { key, .. }
                if node.is_some_and(|node| !node.is_replica_of(key)));
            if !of_hints {
                let is_suspect = |key: &bytes::Bytes| node.is_some_and(|node| node.is_suspect(key));
                let present = node
                    .and_then(|node| node.remembers(envelope.from))
                    .map_or_else(Default::default, |of| of.0);
                self.monitor.on_delivery(NodeId(to as u16 + 1), &envelope, present, peek, is_suspect);
            }
        }
        if let Some((key, ballot)) = self.late_repair(to, &envelope.body) {
            self.meet("repaired_below_watermark");
            self.late_repairs.push((to, key, ballot));
        }
        self.input(to, Input::Message(*envelope));
    }
}
