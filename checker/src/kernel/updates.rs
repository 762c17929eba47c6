//! Changes of values and of times to live under conditions, compiled for the fast algorithms: those that others can stand for, and the rest.

use super::{ABSENT, Act, Classes, Kernel, Test};
use crate::linearizability::Options;
use crate::model::overwritten;
use crate::recording::{Code, Condition, Does, Lives, Record, Reply};

/// A value with the number of its time to live.
type Held = (u32, u32);

/// What an update demands and does.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    /// The condition; none: it always holds.
    when: Option<Test>,
    does: Effect,
    says: Says,
}

#[derive(Debug, Clone)]
enum Effect {
    /// Sets a value, which lives so long.
    Set(u32, Life),
    /// Changes how long the value lives.
    Expire(Life),
    SetRange(usize, Vec<u8>),
}

#[derive(Debug, Clone, Copy)]
enum Life {
    Keep,
    /// The number of the time to live.
    New(u32),
}

/// What it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Nothing,
    Applied(bool),
    Length(i64),
    /// The value that was there before.
    Was(u32),
    /// The same, and that it was not applied.
    Refused(u32),
}

/// Whether a record is an update that only [`Act::Update`] can stand for.
pub(super) fn compute(record: &Record) -> bool {
    let sets_for_good = record.update.does == Does::Set && record.update.lives == Lives::Clear;
    record.code == Code::Update && !sets_for_good && record.update.does != Does::Delete
}

impl Kernel {
    /// What an update demands and does; `None` when nobody can tell whether it was there.
    pub(super) fn update(
        &mut self,
        record: &Record,
        classes: &mut Classes<'_>,
        options: &Options,
    ) -> Option<Act> {
        let when = match record.update.when {
            Condition::Always => None,
            Condition::Absent => Some(Test::Is(ABSENT)),
            Condition::Present => Some(Test::Not(ABSENT)),
            Condition::Equals => Some(Test::Is(classes.of(record.expected))),
        };
        if !compute(record) {
            let deletes = record.update.does == Does::Delete;
            let to = if deletes { ABSENT } else { classes.of(record.argument) };
            return self.simple(record, when, to, classes);
        }
        let unknown = record.reply == Reply::Unknown;
        let mut life = || match record.update.lives {
            Lives::Clear => Life::New(0),
            Lives::Keep => Life::Keep,
            Lives::After => Life::New(self.life(record, unknown, options)),
        };
        let does = match record.update.does {
            Does::Set | Does::Delete => Effect::Set(classes.of(record.argument), life()),
            Does::Expire => Effect::Expire(life()),
            Does::SetRange => Effect::SetRange(
                usize::try_from(record.number).unwrap_or(0),
                classes.recording.values.text(record.argument).to_vec(),
            ),
        };
        let says = match record.reply {
            Reply::Integer if record.update.does == Does::SetRange => Says::Length(record.answer),
            Reply::Unknown | Reply::Done | Reply::Integer => Says::Nothing,
            Reply::Applied => Says::Applied(true),
            Reply::NotApplied if record.observed => Says::Refused(classes.of(record.seen)),
            Reply::NotApplied => Says::Applied(false),
            Reply::Value => Says::Was(classes.of(record.seen)),
        };
        self.positive = false;
        self.updates.push(Update { when, does, says });
        Some(Act::Update(self.updates.len() as u32 - 1))
    }

    /// A value that is set for good, or a deletion.
    fn simple(
        &mut self,
        record: &Record,
        when: Option<Test>,
        to: u32,
        classes: &mut Classes<'_>,
    ) -> Option<Act> {
        let reply = if record.reply == Reply::Integer { Reply::Done } else { record.reply };
        let nothing_to_delete = to == ABSENT && when == Some(Test::Is(ABSENT));
        let was = classes.of(record.seen);
        let applies = when.is_none_or(|test| test.holds(was)) && (to, was) != (ABSENT, ABSENT);
        match (reply, when) {
            (Reply::NotApplied, _) if record.observed => Some(self.refused(was, applies)),
            // It tells what was there, and so what it did.
            (Reply::Value, _) => {
                let idle = was == to && !self.expiring;
                Some(if applies && !idle {
                    Act::Swap(Test::Is(was), to)
                } else {
                    Act::Observe(Test::Is(was))
                })
            }
            (Reply::Applied, _) if nothing_to_delete => Some(self.impossible()),
            _ if nothing_to_delete => None,
            (Reply::NotApplied, None) if to != ABSENT => Some(self.impossible()),
            (Reply::Unknown | Reply::Done, None) => Some(Act::Write(to, 0)),
            (_, None) if to != ABSENT => Some(Act::Write(to, 0)),
            (_, when) => self.conditional(reply, when.unwrap_or(Test::Not(ABSENT)), to),
        }
    }

    /// What cannot have been answered.
    pub(super) fn impossible(&mut self) -> Act {
        self.positive = false;
        self.updates.push(Update {
            when: None,
            does: Effect::Set(ABSENT, Life::New(0)),
            says: Says::Applied(false),
        });
        Act::Update(self.updates.len() as u32 - 1)
    }

    /// What follows from an update on a value; `None` when it cannot have answered so.
    pub(crate) fn updated(&mut self, (value, life): Held, update: u32) -> Option<Held> {
        let update = &self.updates[update as usize];
        let present = value != ABSENT;
        let holds = update.when.is_none_or(|test| test.holds(value));
        let until = |new: Life| match new {
            Life::Keep => life,
            Life::New(life) => life,
        };
        let says = update.says;
        let mut length = self.texts.text(value).map_or(0, <[u8]>::len);
        let next = match &update.does {
            _ if !holds => None,
            Effect::Set(class, new) => Some((*class, until(*new))),
            // What lives for good anyway is not changed.
            Effect::Expire(Life::New(0)) => (present && life != 0).then_some((value, 0)),
            Effect::Expire(new) => present.then(|| (value, until(*new))),
            Effect::SetRange(_, data) if data.is_empty() => None,
            Effect::SetRange(offset, data) => {
                let text = overwritten(self.texts.text(value).unwrap_or_default(), *offset, data);
                length = text.len();
                Some((self.texts.class(text), life))
            }
        };
        let fits = match says {
            Says::Nothing => true,
            Says::Applied(applied) => applied == next.is_some(),
            Says::Length(answer) => answer == length as i64,
            Says::Was(class) => class == value,
            Says::Refused(class) => class == value && next.is_none(),
        };
        fits.then(|| next.unwrap_or((value, life)))
    }
}
