//! Whether the node's own disk answers. A node whose disk hangs is worse than none: its peers take it for healthy and wait
//! for it. It steps aside: it refuses clients, answers no request and no heartbeat, so that the others go on without
//! it. If the disk answers again it takes part again; if it does not for long, the node stops. Before it comes to that, a disk
//! that takes a quarter of this time for an operation counts as slow, which changes nothing but what the node says of itself.

use super::{Node, Phase};
use crate::base::{Counter, Instant, Ticket};
use crate::io::{FileName, Outbox};
use crate::store::StoreOptions;
use alloc::format;

/// An operation that the disk has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The file.
    pub file: FileName,
    /// What it is for.
    pub what: &'static str,
    /// How long it has been the oldest, milliseconds.
    pub for_ms: u64,
}

/// What the node knows of its disk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Health {
    /// The oldest operation of the store and of the identity, and since when each has been that.
    oldest: [Option<(Ticket, Instant)>; 2],
    looked: Instant,
    pub(super) is_aside: bool,
    /// The disk has been slow; until then it counts as that.
    slow_until: Option<Instant>,
}

impl Health {
    /// Looks at the oldest operations now. Time in which the node itself stood still is not held against the disk: its
    /// answers may wait to be heard.
    fn look(&mut self, now: Instant, oldest: [Option<Ticket>; 2], pause_ms: u64) {
        let gap = now.0.saturating_sub(self.looked.0);
        let stood_still = if gap > pause_ms * 1_000_000 { gap } else { 0 };
        self.looked = now;
        for (held, ticket) in self.oldest.iter_mut().zip(oldest) {
            *held = match (*held, ticket) {
                (Some((of, since)), Some(ticket)) if of == ticket => {
                    Some((of, Instant(since.0 + stood_still)))
                }
                (_, ticket) => ticket.map(|ticket| (ticket, now)),
            };
        }
    }

    /// Which of the two waits longest, and since when.
    fn longest(&self) -> Option<(usize, Instant)> {
        let since = self.oldest.iter().enumerate().filter_map(|(of, held)| Some((of, held.as_ref()?.1)));
        since.min_by_key(|(_, since)| *since)
    }
}

/// The node looks so often within the time after which it steps aside; twice as long without a look is a pause.
const LOOKS: u64 = 8;
/// A disk that leaves an operation unanswered for this part of that time is slow.
const SLOW_PART: u64 = 4;
/// A disk counts as slow for so long after an operation that was, milliseconds: it is told as one trouble, not as many.
const SLOW_FOR_MS: u64 = 10_000;

fn look_every_ms(options: &StoreOptions) -> u64 {
    (options.disk_slow_ms / LOOKS).max(1)
}

impl Node {
    /// Looks whether the disk answers, at the end of every step.
    pub(super) fn watch_disk(&mut self, now: Instant, out: &mut Outbox) {
        if self.phase == Phase::Dead {
            return;
        }
        let store = self.store.oldest_operation();
        let identity = self.identity.oldest_operation();
        let pause_ms = 2 * look_every_ms(&self.options.store);
        let tickets = [store.map(|(ticket, ..)| ticket), identity.map(|(ticket, _)| ticket)];
        self.health.look(now, tickets, pause_ms);
        let for_ms = self.health.longest().map_or(0, |(_, since)| now.ms_since(since));
        let (aside_ms, now_slow) = (self.options.store.disk_slow_ms, self.is_disk_slow(now));
        if for_ms >= (aside_ms / SLOW_PART).max(1) {
            if !now_slow {
                self.counters.add(Counter::DiskSlow);
            }
            self.health.slow_until = Some(now.plus_ms(SLOW_FOR_MS));
        }
        let is_aside = for_ms >= aside_ms;
        if is_aside && !self.health.is_aside {
            self.counters.add(Counter::DiskStalled);
        }
        self.health.is_aside = is_aside;
        if for_ms >= self.options.store.disk_hung_ms
            && let Some(Waiting { file, what, for_ms }) = self.disk_wait(now)
        {
            let reason = format!(
                "{file}: the disk has not ended an operation (to {what}) for {for_ms} ms; the node stops, the others go on \
                 without it; check the disk and start again"
            );
            self.die(reason, out);
        }
    }

    /// When the disk is to be looked at again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let is_waiting = self.health.oldest.iter().any(Option::is_some);
        (is_waiting && self.phase != Phase::Dead)
            .then(|| self.health.looked.plus_ms(look_every_ms(&self.options.store)))
    }

    /// The operation for which the disk takes longest now.
    pub fn disk_wait(&self, now: Instant) -> Option<Waiting> {
        let (of, since) = self.health.longest()?;
        let (file, what) = match of {
            0 => self.store.oldest_operation().map(|(_, file, what)| (file, what))?,
            _ => self.identity.oldest_operation().map(|(_, file)| (file, "keep the ceiling of stamps"))?,
        };
        Some(Waiting { file, what, for_ms: now.ms_since(since) })
    }

    /// Whether the disk takes long, or did within the last seconds.
    pub fn is_disk_slow(&self, now: Instant) -> bool {
        self.health.slow_until.is_some_and(|until| now < until)
    }

    /// Whether the node has stepped aside because its disk does not answer.
    pub fn is_aside(&self) -> bool {
        self.health.is_aside
    }
}
