//! The part of a history that shows why it breaks a level: operations or transactions, and how each stands to others.

use crate::recording::NOTHING;
use crate::transactions::{Access, Transactions};

/// Why one step stands before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first comes before in the session of both.
    Session,
    /// The second reads the key from the first.
    ReadsFrom,
    /// Of two writes of the key the first is the older: their versions say so, or somebody sees the first and yet reads the second.
    WriteOrder,
    /// The first reads nothing of the key, and the second writes it.
    Conflict,
}

impl Kind {
    /// As it is called in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::ReadsFrom => "reads-from",
            Self::WriteOrder => "write-order",
            Self::Conflict => "conflict",
        }
    }
}

/// One access of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// The key.
    pub key: Vec<u8>,
    /// The value; `None` for nothing.
    pub value: Option<Vec<u8>>,
    /// Whether it was written, else read.
    pub write: bool,
}

/// An operation or a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its number in the history that was judged.
    pub number: u32,
    /// Its session: number and name, which is empty where there is none.
    pub session: u32,
    /// See [`Step::session`].
    pub client: Vec<u8>,
    /// Its line in the file, from 1; 0 when it is of no file.
    pub line: u32,
    /// When it was called and when it returned, where the history says; [`u64::MAX`]: its outcome is unknown.
    pub interval: Option<(u64, u64)>,
    /// What it did, as far as it matters.
    pub touches: Vec<Touch>,
    /// How many accesses of it do not matter.
    pub left_out: usize,
    /// The operation in words, where it is one rather than a transaction.
    pub said: Option<String>,
}

/// One step stands before another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Places in [`Pattern::steps`].
    pub from: usize,
    /// See [`Relation::from`].
    pub to: usize,
    /// Why.
    pub kind: Kind,
    /// The key that it is about.
    pub key: Option<Vec<u8>>,
    /// Of a write order: who sees the first and reads from the second.
    pub reader: Option<usize>,
    /// Of a write order that versions say: these.
    pub versions: Option<(u64, u64)>,
    /// Whether it is of the cycle, else it shows why another relation holds.
    pub of_cycle: bool,
}

/// The smallest part of a history that was found to break a level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pattern {
    /// In the order of their calls, where these are known.
    pub steps: Vec<Step>,
    /// Those of the cycle first, in its order.
    pub relations: Vec<Relation>,
    /// Of which the sentence on what is wrong speaks, in its order; empty where it counts none.
    pub about: Vec<usize>,
    /// Others of the same sessions, before and behind the steps: at most [`NEAR_MAX`].
    pub near: Vec<Step>,
    /// Whether the steps were judged by themselves, with what they did as it stands here, and found to break the level likewise.
    pub judged_alone: bool,
}

/// How many steps a pattern has at most.
pub const STEPS_MAX: usize = 200;
/// How many others are shown with it.
pub const NEAR_MAX: usize = 200;

impl Pattern {
    /// The steps as a history of their own.
    pub fn transactions(&self) -> Transactions {
        let mut all = Transactions::default();
        let mut steps: Vec<&Step> = self.steps.iter().collect();
        steps.sort_by_key(|step| step.number);
        let mut sessions: Vec<u32> = steps.iter().map(|step| step.session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        for step in steps {
            let mut accesses = Vec::new();
            for touch in &step.touches {
                let value = touch.value.as_ref().map_or(NOTHING, |value| all.values.id(value));
                accesses.push(Access { key: all.keys.id(&touch.key), value, write: touch.write });
            }
            let session = sessions.partition_point(|session| *session < step.session);
            all.push(session as u32, step.line, &accesses);
        }
        all
    }

    /// Puts the steps in the order of their calls, and the relations of the cycle first.
    pub(crate) fn sort(&mut self) {
        let mut order: Vec<usize> = (0..self.steps.len()).collect();
        order.sort_by_key(|at| (self.steps[*at].interval.map(|(call, _)| call), self.steps[*at].number));
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(new, old)| place[*old] = new);
        self.steps.sort_by_key(|step| (step.interval.map(|(call, _)| call), step.number));
        for relation in &mut self.relations {
            (relation.from, relation.to) = (place[relation.from], place[relation.to]);
            relation.reader = relation.reader.map(|reader| place[reader]);
        }
        self.about.iter_mut().for_each(|at| *at = place[*at]);
        self.relations.sort_by_key(|relation| !relation.of_cycle);
    }

    /// Which of `all`, what each session did in its order, are near the steps: as many before and behind each, and no more than can be shown.
    pub(crate) fn near(steps: &[u32], all: &[Vec<u32>]) -> Vec<u32> {
        let mut steps = steps.to_vec();
        steps.sort_unstable();
        let is_step = |at: &u32| steps.binary_search(at).is_ok();
        let each = (NEAR_MAX / (2 * steps.len().max(1))).clamp(1, NEAR_EACH);
        let mut near: Vec<u32> = Vec::new();
        for session in all {
            for (place, _) in session.iter().enumerate().filter(|(_, at)| is_step(at)) {
                let around = &session[place.saturating_sub(each)..session.len().min(place + each + 1)];
                near.extend(around.iter().filter(|at| !is_step(at)));
            }
        }
        near.sort_unstable();
        near.dedup();
        near.truncate(NEAR_MAX);
        near
    }
}

/// How many before and behind a step are shown at most.
const NEAR_EACH: usize = 10;
