//! Places for the operations that are open at the same time, given out before the search: a bit each in its sets.

use crate::kernel::{Act, Kernel, Op};

pub(crate) const NONE: u32 = u32::MAX;

/// What the search may know of the future of a key, by the numbers of events.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// The slot of each operation; [`NONE`] for one that can make no difference.
    pub(crate) slot: Vec<u32>,
    /// The event at which each operation returns; [`NONE`] for never.
    pub(crate) ret: Vec<u32>,
    /// How many slots there are.
    pub(crate) count: usize,
    /// Unknown operations that can make no difference from an event on: event and operation, in this order.
    pub(crate) forgotten: Vec<(u32, u32)>,
    /// By class, in the order of their calls: the operations that demand it, as the earliest return of this and all later ones.
    pub(crate) needs: Lists,
    /// By class: the calls of operations that can set it.
    pub(crate) setters: Lists,
    /// By class: the calls of operations whose conditions tell it from other values.
    pub(crate) mentions: Lists,
    /// By event: the earliest return of a known write that is called then or later; [`NONE`] for none.
    pub(crate) overwritten: Vec<u32>,
}

/// Lists by class, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    items: Vec<u32>,
    ends: Vec<u32>,
}

impl Lists {
    fn of(classes: usize, pairs: &[(u32, u32)]) -> Self {
        let mut ends = vec![0_u32; classes];
        for (class, _) in pairs {
            ends[*class as usize] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            let count = *end;
            *end = sum;
            sum += count;
        }
        let mut items = vec![0; sum as usize];
        for (class, item) in pairs {
            items[ends[*class as usize] as usize] = *item;
            ends[*class as usize] += 1;
        }
        Self { items, ends }
    }

    fn start(&self, class: u32) -> usize {
        class.checked_sub(1).map_or(0, |before| self.ends[before as usize]) as usize
    }

    /// The item of `class` at `at`, if it has so many.
    pub(crate) fn item(&self, class: u32, at: u32) -> Option<u32> {
        let place = self.start(class) + at as usize;
        (place < *self.ends.get(class as usize)? as usize).then(|| self.items[place])
    }

    fn suffix_minima(&mut self) {
        for class in 0..self.ends.len() as u32 {
            let (start, end) = (self.start(class), self.ends[class as usize] as usize);
            for at in (start + 1..end).rev() {
                self.items[at - 1] = self.items[at - 1].min(self.items[at]);
            }
        }
    }
}

impl Slots {
    pub(crate) fn new(kernel: &Kernel) -> Self {
        let mut slots =
            Self { slot: vec![NONE; kernel.ops.len()], ret: vec![NONE; kernel.ops.len()], ..Self::default() };
        let (mut needs, mut setters, mut mentions) = (Vec::new(), Vec::new(), Vec::new());
        for (event, code) in kernel.events.iter().enumerate() {
            if code & 1 == 1 {
                slots.ret[(code >> 1) as usize] = event as u32;
            }
        }
        for (event, code) in kernel.events.iter().enumerate().filter(|(_, code)| *code & 1 == 0) {
            let op = &kernel.ops[(code >> 1) as usize];
            if let Some(class) = op.needs() {
                // Those that may as well find another value wait for none.
                let waits = !matches!(op.act, Act::Maybe(..));
                needs.push((class, if waits { slots.ret[(code >> 1) as usize] } else { NONE }));
            }
            if let Some(class) = op.sets() {
                setters.push((class, event as u32));
            }
            if let Some(class) = op.mentions() {
                mentions.push((class, event as u32));
            }
        }
        slots.needs = Lists::of(kernel.classes, &needs);
        slots.setters = Lists::of(kernel.classes, &setters);
        slots.mentions = Lists::of(kernel.classes, &mentions);
        slots.overwritten = overwritten(kernel, &slots.ret);
        let last = last_needs(kernel, &slots.ret);
        slots.needs.suffix_minima();
        slots.assign(kernel, &last);
        slots
    }

    fn assign(&mut self, kernel: &Kernel, last: &[u32]) {
        let mut free: Vec<u32> = Vec::new();
        let forgotten = |op: &Op| {
            let plain = kernel.positive && !kernel.expiring && !kernel.computed && op.is_unknown();
            if plain { op.sets().map_or(NONE, |class| last[class as usize]) } else { NONE }
        };
        for (event, code) in kernel.events.iter().enumerate().filter(|(_, code)| *code & 1 == 0) {
            let until = forgotten(&kernel.ops[(code >> 1) as usize]);
            if until != NONE && until > event as u32 {
                self.forgotten.push((until, code >> 1));
            }
        }
        self.forgotten.sort_unstable();
        let mut next = 0;
        for (event, code) in kernel.events.iter().enumerate() {
            let at = (code >> 1) as usize;
            if code & 1 == 1 {
                free.push(self.slot[at]);
            } else if forgotten(&kernel.ops[at]) == NONE || forgotten(&kernel.ops[at]) > event as u32 {
                self.slot[at] = free.pop().unwrap_or_else(|| {
                    self.count += 1;
                    self.count as u32 - 1
                });
            }
            while let Some((_, op)) = self.forgotten.get(next).filter(|(until, _)| *until == event as u32) {
                free.push(self.slot[*op as usize]);
                next += 1;
            }
        }
    }
}

/// The earliest return among the known writes that are called at an event or later.
fn overwritten(kernel: &Kernel, ret: &[u32]) -> Vec<u32> {
    let mut first = vec![NONE; kernel.events.len() + 1];
    for (event, code) in kernel.events.iter().enumerate().rev() {
        let at = (code >> 1) as usize;
        let write = code & 1 == 0 && matches!(kernel.ops[at].act, Act::Write(..));
        first[event] = first[event + 1].min(if write { ret[at] } else { NONE });
    }
    first
}

/// The last event at which a class is demanded: 0 for never, [`NONE`] for always.
fn last_needs(kernel: &Kernel, ret: &[u32]) -> Vec<u32> {
    let mut last = vec![0; kernel.classes];
    for (at, op) in kernel.ops.iter().enumerate() {
        if let Some(class) = op.needs() {
            last[class as usize] = last[class as usize].max(ret[at]);
        }
    }
    last
}
