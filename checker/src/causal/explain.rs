//! From a proof to what is shown of it: the smallest part of the history that breaks the level by itself, in words and as data.

use super::path::Edge;
use super::proof::{Link, Proof};
use super::{Anomaly, Isolation, judge};
use crate::clip;
use crate::pattern::{Kind, Pattern, Relation, STEPS_MAX, Step, Touch};
use crate::recording::NOTHING;
use crate::transactions::{Access, Transactions};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Transactions that may be judged again to find a smaller part, at the least.
const JUDGED: usize = 20_000;
/// Bytes of a value that is only shown.
const SHOWN: usize = 300;
/// Accesses of a transaction that is only shown.
const ACCESSES: usize = 8;

/// A part of a history: as a history of its own, and which transactions of the whole they are.
struct Part {
    history: Transactions,
    numbers: Vec<u32>,
    proof: Proof,
}

/// What is wrong, as it is told.
pub(super) fn anomaly(whole: &Transactions, isolation: Isolation, proof: Proof) -> Anomaly {
    let kept = proof.kept(whole);
    let complete = proof.complete && kept.len() <= STEPS_MAX;
    let (history, numbers) = cut(whole, &kept);
    let Some(again) = complete.then(|| alone(&history, isolation, proof.name)).flatten() else {
        // It is told as it stands: the part does not show it by itself, or not all of it could be found.
        return Anomaly {
            name: proof.name.into(),
            nodes: proof.about.iter().map(|at| named(whole, *at, whole.accesses(*at as usize), 0)).collect(),
            edges: proof.cycle.iter().map(|edge| told(whole, *edge)).collect(),
            what: proof.what,
            pattern: None,
        };
    };
    let mut part = Part { history, numbers, proof: again };
    part.shrink(isolation, JUDGED.max(whole.transactions.len()));
    Anomaly {
        name: part.proof.name.into(),
        nodes: part.proof.about.iter().map(|at| part.named(whole, *at)).collect(),
        edges: part.proof.cycle.iter().map(|edge| told(&part.history, *edge)).collect(),
        pattern: Some(part.pattern(whole)),
        what: part.proof.what,
    }
}

/// The proof that a part breaks the level in the same way, if it does.
fn alone(history: &Transactions, isolation: Isolation, name: &str) -> Option<Proof> {
    judge(history, isolation, None).0.ok().flatten().filter(|proof| proof.name == name && proof.complete)
}

/// The accesses that are kept, as a history of its own, and the numbers that its transactions had.
fn cut(whole: &Transactions, kept: &BTreeMap<u32, BTreeSet<usize>>) -> (Transactions, Vec<u32>) {
    let mut part = Transactions { unwritten_allowed: whole.unwritten_allowed, ..Transactions::default() };
    let sessions: BTreeSet<u32> = kept.keys().map(|at| whole.transactions[*at as usize].session).collect();
    let sessions: Vec<u32> = sessions.into_iter().collect();
    for (at, places) in kept {
        let transaction = whole.transactions[*at as usize];
        let accesses = whole.accesses(*at as usize);
        let mut kept = Vec::new();
        for access in places.iter().map(|place| accesses[*place]) {
            let value = match access.value {
                NOTHING => NOTHING,
                value => part.values.id(whole.values.text(value)),
            };
            kept.push(Access { key: part.keys.id(whole.keys.text(access.key)), value, write: access.write });
        }
        let session = sessions.partition_point(|session| *session < transaction.session);
        part.push(session as u32, transaction.line, &kept);
    }
    (part, kept.keys().copied().collect())
}

impl Part {
    /// Leaves out what can be: one transaction after the other, with the reads of what it wrote.
    fn shrink(&mut self, isolation: Isolation, mut effort: usize) {
        let mut next = 0;
        while next < self.history.transactions.len() {
            let Some(left) = effort.checked_sub(self.history.transactions.len()) else { return };
            effort = left;
            let (smaller, numbers) = cut(&self.history, &self.without(next));
            let Some(proof) = alone(&smaller, isolation, self.proof.name) else {
                next += 1;
                continue;
            };
            // Of what is left the proof may again need less.
            let kept = proof.kept(&smaller);
            let (least, of_smaller) = cut(&smaller, &kept);
            let (history, numbers, proof) = match alone(&least, isolation, self.proof.name) {
                Some(proof) => (least, of_smaller.iter().map(|at| numbers[*at as usize]).collect(), proof),
                None => (smaller, numbers, proof),
            };
            let numbers = numbers.iter().map(|at| self.numbers[*at as usize]).collect();
            *self = Self { history, numbers, proof };
            next = 0;
        }
    }

    /// All accesses but those of one transaction, and the reads of what it wrote.
    fn without(&self, left_out: usize) -> BTreeMap<u32, BTreeSet<usize>> {
        let gone = self.history.accesses(left_out);
        let stays = |access: &Access| {
            let writer = Access { write: true, ..*access };
            access.write || access.value == NOTHING || !gone.contains(&writer)
        };
        let mut kept = BTreeMap::new();
        for at in (0..self.history.transactions.len()).filter(|at| *at != left_out) {
            let accesses = self.history.accesses(at).iter().enumerate();
            let places: BTreeSet<usize> =
                accesses.filter(|(_, access)| stays(access)).map(|(place, _)| place).collect();
            if !places.is_empty() {
                kept.insert(at as u32, places);
            }
        }
        kept
    }

    fn left_out(&self, whole: &Transactions, at: u32) -> usize {
        whole.accesses(self.numbers[at as usize] as usize).len() - self.history.accesses(at as usize).len()
    }

    fn named(&self, whole: &Transactions, at: u32) -> String {
        let number = self.numbers[at as usize];
        let mut accesses = Vec::new();
        let all = whole.accesses(number as usize);
        for access in self.history.accesses(at as usize) {
            let same = |other: &&Access| {
                other.write == access.write
                    && whole.keys.text(other.key) == self.history.keys.text(access.key)
                    && whole.values.text(other.value) == self.history.values.text(access.value)
            };
            accesses.extend(all.iter().find(same).copied());
        }
        named(whole, number, &accesses, self.left_out(whole, at))
    }

    /// As it is shown.
    fn pattern(&self, whole: &Transactions) -> Pattern {
        let steps = (0..self.numbers.len() as u32).map(|at| Step {
            touches: touches(&self.history, self.history.accesses(at as usize), usize::MAX),
            left_out: self.left_out(whole, at),
            ..bare(whole, self.numbers[at as usize])
        });
        let relation = |link: &Link| {
            let (from, edge, to) = link.hop;
            let (kind, key) = match edge {
                Edge::Session => (Kind::Session, None),
                Edge::Reads(key) => (Kind::ReadsFrom, Some(key)),
                Edge::Overwritten(key) => (Kind::WriteOrder, Some(key)),
                Edge::Nothing(key) => (Kind::Conflict, Some(key)),
            };
            Relation {
                from: from as usize,
                to: to as usize,
                kind,
                key: key.map(|key| self.history.keys.text(key).to_vec()),
                reader: link.reader.map(|reader| reader as usize),
                versions: None,
                of_cycle: link.of_cycle,
            }
        };
        let about = self.proof.about.iter().map(|at| *at as usize);
        let mut pattern = Pattern {
            steps: steps.collect(),
            relations: self.proof.links.iter().map(relation).collect(),
            about: if self.proof.cycle.is_empty() { about.collect() } else { Vec::new() },
            near: Vec::new(),
            judged_alone: true,
        };
        let mut sessions: BTreeMap<u32, Vec<u32>> =
            pattern.steps.iter().map(|step| (step.session, Vec::new())).collect();
        for (at, transaction) in whole.transactions.iter().enumerate() {
            if let Some(session) = sessions.get_mut(&transaction.session) {
                session.push(at as u32);
            }
        }
        let sessions: Vec<Vec<u32>> = sessions.into_values().collect();
        for at in Pattern::near(&self.numbers, &sessions) {
            let accesses = whole.accesses(at as usize);
            let shown = &accesses[..accesses.len().min(ACCESSES)];
            pattern.near.push(Step {
                touches: touches(whole, shown, SHOWN),
                left_out: accesses.len() - shown.len(),
                ..bare(whole, at)
            });
        }
        pattern.sort();
        pattern
    }
}

fn touches(history: &Transactions, accesses: &[Access], bytes: usize) -> Vec<Touch> {
    let head = |text: &[u8]| text[..text.len().min(bytes)].to_vec();
    let touch = |access: &Access| Touch {
        key: head(history.keys.text(access.key)),
        value: (access.value != NOTHING).then(|| head(history.values.text(access.value))),
        write: access.write,
    };
    accesses.iter().map(touch).collect()
}

/// A transaction without what it did.
fn bare(whole: &Transactions, number: u32) -> Step {
    let transaction = whole.transactions[number as usize];
    Step {
        number,
        session: transaction.session,
        client: client(whole, transaction.session).to_vec(),
        line: transaction.line,
        interval: whole.intervals.get(number as usize).copied(),
        touches: Vec::new(),
        left_out: 0,
        said: None,
    }
}

/// The name of a session, where it has one.
fn client(whole: &Transactions, session: u32) -> &[u8] {
    if whole.sessions.len() > session as usize { whole.sessions.text(session + 1) } else { &[] }
}

/// A transaction as text, with some of its accesses.
fn named(whole: &Transactions, at: u32, accesses: &[Access], left_out: usize) -> String {
    let transaction = whole.transactions[at as usize];
    let mut text = clip::session(transaction.session, client(whole, transaction.session));
    if transaction.line > 0 {
        let _ = write!(text, ", line {}", transaction.line);
    }
    text.push(':');
    for access in accesses.iter().take(ACCESSES) {
        let value = if access.value == NOTHING {
            "nothing".into()
        } else {
            clip::bare(whole.values.text(access.value))
        };
        let key = clip::bare(whole.keys.text(access.key));
        let _ = write!(text, " {} {key} {value}", if access.write { "w" } else { "r" });
    }
    let more = left_out + accesses.len().saturating_sub(ACCESSES);
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// How one of a cycle leads to the next.
fn told(history: &Transactions, edge: Edge) -> String {
    let key = |key: u32| clip::quoted(history.keys.text(key));
    match edge {
        Edge::Session => "comes before, in the same session,".into(),
        Edge::Reads(of) => format!("wrote {}, which is read by", key(of)),
        Edge::Overwritten(of) => format!("wrote {} and was seen where the value read is that of", key(of)),
        Edge::Nothing(of) => format!("reads nothing of {}, which is written by", key(of)),
    }
}
