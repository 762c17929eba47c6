//! Runs over the events, and the narrow search that goes back.
//!
//! Of a history that has an order, one is most often found with a frontier of a few configurations; where it is left empty, one that was left
//! out was needed. The search then goes some events back and comes again with a wider frontier, until it is past the trouble.

use super::{Budget, Found, Search, Step};
use crate::configs::Config;
use crate::slots::NONE;

/// How wide the frontier is: at first, and each time that it was left empty near the same place.
const WIDTHS: [usize; 6] = [4, 16, 64, 256, 1_024, 4_096];
/// How many events the search goes back, for each width.
const BACK: [usize; 6] = [0, 128, 256, 512, 1_024, 2_048];
/// Events from one checkpoint to the next.
const CHECKPOINT_EVERY: usize = 32;
/// Checkpoints that are kept; of the older ones ever fewer.
const CHECKPOINTS_MAX: usize = 512;

/// How things stood before an event.
struct Checkpoint<const W: usize> {
    event: usize,
    configs: Vec<Config<W>>,
    incomplete: Option<usize>,
}

/// What is left to be done after an event.
enum Turn {
    Go,
    Found(Found),
    Empty,
    Spent,
}

impl<const W: usize> Search<'_, W> {
    /// Searches with one width. `Err`: undecided; an order of all that returned before this event was found.
    pub(super) fn run(mut self, events: usize, budget: &mut Budget) -> Result<Found, usize> {
        for event in 0..events {
            match self.turn(event, budget) {
                Turn::Go => {}
                Turn::Found(found) => return Ok(found),
                Turn::Empty | Turn::Spent => return Err(event),
            }
        }
        Ok(self.order())
    }

    /// Searches narrowly and goes back where it gets stuck. `Err`: undecided; an order of all that returned before the first event was found, and it is
    /// stuck at the second.
    pub(super) fn beam(
        mut self,
        events: usize,
        widest: usize,
        budget: &mut Budget,
    ) -> Result<Found, (usize, usize)> {
        let mut checkpoints: Vec<Checkpoint<W>> = Vec::new();
        let (mut level, mut event) = (0, 0);
        // Where the frontier was left empty, and from where on it may be narrow again.
        let (mut trouble, mut calm) = (0, 0);
        while event < events {
            if level > 0 && event >= calm {
                level = 0;
            }
            self.configs_max = WIDTHS[level];
            if event.is_multiple_of(CHECKPOINT_EVERY) {
                checkpoints.push(Checkpoint {
                    event,
                    configs: self.configs.clone(),
                    incomplete: self.incomplete,
                });
                thin(&mut checkpoints);
            }
            match self.turn(event, budget) {
                Turn::Go => event += 1,
                Turn::Found(found) => return Ok(found),
                Turn::Spent => return Err((event.max(trouble), event)),
                Turn::Empty => {
                    level = if event > calm { 1 } else { level + 1 };
                    trouble = event.max(trouble);
                    if level == WIDTHS.len() || WIDTHS[level] > widest {
                        return Err((trouble, event));
                    }
                    calm = trouble + BACK[level] / 2;
                    let target = event.saturating_sub(BACK[level]);
                    while checkpoints.len() > 1 && checkpoints.last().is_some_and(|last| last.event > target)
                    {
                        checkpoints.pop();
                    }
                    let Some(checkpoint) = checkpoints.pop() else { return Err((trouble, event)) };
                    self.rewind(event, &checkpoint);
                    event = checkpoint.event;
                }
            }
        }
        Ok(self.order())
    }

    fn order(&self) -> Found {
        let last = self.trace.longest(&self.configs);
        Found::Order(self.trace.order(self.kernel, last))
    }

    /// Takes one event.
    fn turn(&mut self, event: usize, budget: &mut Budget) -> Turn {
        self.event = event;
        let code = self.kernel.events[event];
        let at = code >> 1;
        if code & 1 == 0 {
            self.call(at);
            if event.is_multiple_of(4096) && !budget.step() {
                return Turn::Spent;
            }
        } else {
            let before = self.trace.longest(&self.configs);
            if matches!(self.ret(at, budget), Step::Spent) || self.kernel.texts.full {
                return Turn::Spent;
            }
            if self.configs.is_empty() {
                return match self.incomplete {
                    Some(_) => Turn::Empty,
                    None => Turn::Found(Found::Stuck(at, self.trace.order(self.kernel, before))),
                };
            }
        }
        while let Some((_, op)) =
            self.slots.forgotten.get(self.forgotten).filter(|(until, _)| *until == event as u32)
        {
            self.forget(*op);
            self.forgotten += 1;
        }
        Turn::Go
    }

    /// Undoes the events back to a checkpoint. The last was not finished: what returned in it is closed, but nothing is forgotten.
    fn rewind(&mut self, last: usize, to: &Checkpoint<W>) {
        for event in (to.event..=last).rev() {
            while let Some((_, op)) = self
                .forgotten
                .checked_sub(1)
                .map(|at| self.slots.forgotten[at])
                .filter(|(until, _)| *until == event as u32)
            {
                self.forgotten -= 1;
                self.enlist(op);
            }
            let code = self.kernel.events[event];
            let at = code >> 1;
            if code & 1 == 1 {
                self.enlist(at);
            } else {
                if self.slot(at) != NONE {
                    self.close(at);
                }
                self.count_call(at, true);
            }
        }
        self.configs.clone_from(&to.configs);
        self.incomplete = to.incomplete;
        self.event = to.event;
    }
}

/// Leaves out every other of the older checkpoints when there are too many.
fn thin<const W: usize>(checkpoints: &mut Vec<Checkpoint<W>>) {
    if checkpoints.len() > CHECKPOINTS_MAX {
        let mut at = 0;
        checkpoints.retain(|_| {
            at += 1;
            at > CHECKPOINTS_MAX / 2 || at % 2 == 1
        });
    }
}
