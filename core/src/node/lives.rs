//! S5: only the present life of a peer is listened to, and a node whose directory has not lived what a peer remembers of it
//! ends.

use super::Node;
use super::peers::Life;
use crate::base::planted::{self, Bug};
use crate::base::rng::Rng;
use crate::base::{Address, Counter, Hlc, Now, StartNumber};
use crate::io::Outbox;
use crate::wire::{Envelope, Message};
use alloc::format;

/// The stream of the draw that a life is told by; the coordinator's streams are numbered from below.
const DRAWS: u64 = 1 << 63;

impl Node {
    /// What tells the life that begins from that of another directory of this shard, started as often.
    pub(super) fn draw(&self) -> u32 {
        let purpose = DRAWS | u64::from(self.identity.start().count());
        Rng::new(self.options.seed, purpose).below(1 << 32) as u32
    }

    /// Whether `envelope` is of its sender's present life and says more than which life that is.
    pub(super) fn is_present(&mut self, now: Now, envelope: &Envelope, out: &mut Outbox) -> bool {
        let from = envelope.from;
        match envelope.body {
            Message::Remembers { start, ceiling } => {
                self.on_remembers(from, start, ceiling, out);
                return false;
            }
            Message::Descends { start, ceiling } => {
                if self.peers.on_descent(from, envelope.start, start, ceiling) {
                    self.counters.add(Counter::LifeProven);
                    self.raise(now, Hlc(0), out);
                }
                return false;
            }
            _ => {}
        }
        match self.peers.judge(envelope) {
            Life::Current => return true,
            Life::Past => self.counters.add(Counter::OldStartDropped),
            Life::Unheard => self.counters.add(Counter::NewStartAsked),
            Life::Unproven { start, ceiling } => {
                self.counters.add(Counter::NewStartAsked);
                self.work.sends.push((from, Message::Remembers { start, ceiling }));
            }
        }
        false
    }

    /// Proofs that came while a raise was under way.
    pub(super) fn keep_proofs(&mut self, now: Now, out: &mut Outbox) {
        if self.peers.wants_saving() {
            self.raise(now, Hlc(0), out);
        }
    }

    fn on_remembers(&mut self, from: Address, start: StartNumber, told: Hlc, out: &mut Outbox) {
        let lived = self.identity.of_life(start);
        match lived {
            Some(ceiling) if ceiling >= told || planted::on(Bug::S5CeilingNotCompared) => {
                self.work.sends.push((from, Message::Descends { start, ceiling }));
            }
            _ => {
                self.counters.add(Counter::Disowned);
                let mine = self.identity.start();
                let knows = lived.map_or_else(
                    || format!("the directory has not lived that (it is in life {mine})"),
                    |ceiling| format!("the directory had reached {} ms by then", ceiling.ms()),
                );
                self.die(
                    format!(
                        "this directory was emptied or is an old copy: {} remembers life {start} of {} with stamps up to \
                         {} ms, and {knows}. What it acknowledged may be missing here: start the node on the directory \
                         that it had, or replace it by one with a new id",
                        from.node,
                        self.options.address,
                        told.ms(),
                    ),
                    out,
                );
            }
        }
    }
}
