//! The levels that look at who reads from whom, against their definitions taken word for word: on each bad pattern, and on random histories with
//! many crashes.

use proptest::prelude::*;
use samara_check::causal::{Anomaly, Isolation, check};
use samara_check::generate::Random;
use samara_check::linearizability::Limits;
use samara_check::pattern::{Kind, Pattern, Step, Touch};
use samara_check::transactions::{Access, Transactions};

/// A relation on up to 128 transactions, as rows of bits: `row[b]` has the bit of every `a` before `b`.
type Relation = Vec<u128>;

fn close(relation: &mut Relation) {
    for middle in 0..relation.len() {
        let before = relation[middle];
        for row in relation.iter_mut().filter(|row| **row >> middle & 1 == 1) {
            *row |= before;
        }
    }
}

fn has(relation: &Relation, before: usize, after: usize) -> bool {
    relation[after] >> before & 1 == 1
}

fn is_cyclic(relation: &Relation) -> bool {
    (0..relation.len()).any(|at| has(relation, at, at))
}

/// The bad patterns of a history, by their definitions in "On verifying causal consistency" (Bouajjani et al., 2017), for transactions with one
/// access each or more.
struct Plain<'a> {
    history: &'a Transactions,
    /// Reader, key, writer; `None` for the initial state.
    reads: Vec<(usize, u32, Option<usize>)>,
    causal: Relation,
}

impl<'a> Plain<'a> {
    /// `None`: a value is read that nobody wrote.
    fn new(history: &'a Transactions) -> Option<Self> {
        let count = history.transactions.len();
        let mut causal: Relation = vec![0; count];
        let mut reads = Vec::new();
        for (at, row) in causal.iter_mut().enumerate() {
            let session = history.transactions[at].session;
            for before in (0..at).filter(|before| history.transactions[*before].session == session) {
                *row |= 1 << before;
            }
            for read in history.accesses(at).iter().filter(|access| !access.write) {
                let wrote = |of: &usize| {
                    history
                        .accesses(*of)
                        .iter()
                        .any(|access| access.write && (access.key, access.value) == (read.key, read.value))
                };
                let writer = (0..count).find(wrote);
                if read.value != 0 {
                    *row |= 1 << writer?;
                }
                reads.push((at, read.key, writer));
            }
        }
        close(&mut causal);
        Some(Self { history, reads, causal })
    }

    fn writes(&self, at: usize, key: u32) -> bool {
        self.history.accesses(at).iter().any(|access| access.write && access.key == key)
    }

    fn others(&self, key: u32, writer: Option<usize>) -> impl Iterator<Item = usize> {
        (0..self.causal.len()).filter(move |other| Some(*other) != writer && self.writes(*other, key))
    }

    fn reads_nothing_after(&self, order: &Relation, of: impl Fn(usize) -> bool) -> bool {
        let nothing = self.reads.iter().filter(|(reader, _, writer)| writer.is_none() && of(*reader));
        nothing
            .into_iter()
            .any(|(reader, key, _)| self.others(*key, None).any(|other| has(order, other, *reader)))
    }

    fn write_co_read(&self) -> bool {
        self.reads.iter().any(|(reader, key, writer)| {
            writer.is_some_and(|writer| {
                self.others(*key, Some(writer))
                    .any(|other| has(&self.causal, writer, other) && has(&self.causal, other, *reader))
            })
        })
    }

    fn cyclic_cf(&self) -> bool {
        let mut order = self.causal.clone();
        for (reader, key, writer) in &self.reads {
            let Some(writer) = *writer else { continue };
            for other in self.others(*key, Some(writer)).filter(|other| has(&self.causal, *other, *reader)) {
                order[writer] |= 1 << other;
            }
        }
        close(&mut order);
        is_cyclic(&order)
    }

    /// Of each transaction: what its session must take to have happened before it.
    fn bad_memory(&self) -> Vec<&'static str> {
        let count = self.causal.len();
        let mut found = Vec::new();
        for last in 0..count {
            let session = self.history.transactions[last].session;
            let own = |at: usize| at <= last && self.history.transactions[at].session == session;
            let past = self.causal[last] | 1 << last;
            let mut order: Relation =
                (0..count).map(|at| if past >> at & 1 == 1 { self.causal[at] } else { 0 }).collect();
            loop {
                let before = order.clone();
                for (reader, key, writer) in self.reads.iter().filter(|(reader, ..)| own(*reader)) {
                    let Some(writer) = *writer else { continue };
                    for other in self.others(*key, Some(writer)).filter(|other| has(&before, *other, *reader))
                    {
                        order[writer] |= 1 << other;
                    }
                }
                close(&mut order);
                if order == before {
                    break;
                }
            }
            found.extend(is_cyclic(&order).then_some("CyclicHB"));
            found.extend(self.reads_nothing_after(&order, own).then_some("WriteHBInitRead"));
        }
        found
    }

    /// Every bad pattern that the history has, at a level.
    fn patterns(&self, isolation: Isolation) -> Vec<&'static str> {
        let mut found = Vec::new();
        let mut note = |name, has: bool| found.extend(has.then_some(name));
        let cyclic = is_cyclic(&self.causal);
        note("CyclicCO", cyclic);
        note("WriteCOInitRead", !cyclic && self.reads_nothing_after(&self.causal, |_| true));
        if isolation == Isolation::CausalConvergence {
            note("CyclicCF", !cyclic && self.cyclic_cf());
        } else {
            note("WriteCORead", !cyclic && self.write_co_read());
        }
        if isolation == Isolation::CausalMemory && found.is_empty() {
            found.extend(self.bad_memory());
        }
        found
    }
}

/// What a random history is like.
#[derive(Debug, Clone)]
struct Shape {
    seed: u64,
    transactions: usize,
    clients: u64,
    keys: u64,
    accesses: u64,
    crash_per_cent: u64,
    /// In a thousand reads, those that are answered with some value of the key, or none.
    lies: u64,
}

/// A store whose clients see causally closed sets of writes, and read of each key the one of the highest Lamport time; but for the lies.
fn history(shape: &Shape) -> Transactions {
    let mut random = Random(shape.seed);
    let mut history = Transactions::default();
    for key in 0..shape.keys {
        history.keys.id(format!("k{key}").as_bytes());
    }
    let mut sessions: Vec<u32> = (0..shape.clients as u32).collect();
    let mut named = shape.clients as u32;
    // What each client sees, as bits of transactions, and of each transaction what it sees and its Lamport time.
    let mut views: Vec<u128> = vec![0; sessions.len()];
    let mut made: Vec<(u128, u32)> = Vec::new();
    let mut written: Vec<(u32, u32, usize)> = Vec::new();
    for at in 0..shape.transactions {
        let client = random.below(shape.clients) as usize;
        if random.below(100) < shape.crash_per_cent {
            (sessions[client], views[client]) = (named, 0);
            named += 1;
        }
        if !made.is_empty() && random.below(2) == 0 {
            let other = random.below(made.len() as u64) as usize;
            views[client] |= made[other].0;
        }
        let mut accesses: Vec<Access> = Vec::new();
        for _ in 0..=random.below(shape.accesses) {
            let key = random.below(shape.keys) as u32 + 1;
            if accesses.iter().any(|access| access.key == key) {
                continue;
            }
            let write = random.below(2) == 0;
            let value = if write {
                let value = history.values.id(format!("{}", written.len()).as_bytes());
                written.push((key, value, at));
                value
            } else if random.below(1_000) < shape.lies {
                let all: Vec<u32> =
                    written.iter().filter(|(of, ..)| *of == key).map(|(_, value, _)| *value).collect();
                let pick = random.below(all.len() as u64 + 1) as usize;
                all.get(pick).copied().unwrap_or(0)
            } else {
                let seen = written
                    .iter()
                    .filter(|(of, _, by)| *of == key && *by < at && views[client] >> by & 1 == 1);
                seen.max_by_key(|(_, _, by)| (made[*by].1, *by)).map_or(0, |(_, value, _)| *value)
            };
            accesses.push(Access { key, value, write });
        }
        // Whoever reads what was written depends on it, lie or not.
        for access in accesses.iter().filter(|access| !access.write && access.value != 0) {
            let by = written
                .iter()
                .find(|(key, value, _)| (*key, *value) == (access.key, access.value))
                .expect("written")
                .2;
            views[client] |= made.get(by).map_or(0, |made| made.0);
        }
        let time =
            (0..at).filter(|by| views[client] >> by & 1 == 1).map(|by| made[by].1).max().unwrap_or(0) + 1;
        views[client] |= 1 << at;
        made.push((views[client], time));
        history.push(sessions[client], 0, &accesses);
    }
    history
}

fn shape() -> impl Strategy<Value = Shape> {
    let crashes = prop_oneof![Just(0_u64), Just(5), Just(30), Just(80)];
    let lies = prop_oneof![Just(0_u64), Just(10), Just(100), Just(500)];
    (any::<u64>(), 2..128_usize, 1..8_u64, 1..6_u64, 1..4_u64, crashes, lies).prop_map(
        |(seed, transactions, clients, keys, accesses, crash_per_cent, lies)| Shape {
            seed,
            transactions,
            clients,
            keys,
            accesses,
            crash_per_cent,
            lies,
        },
    )
}

const LEVELS: [Isolation; 3] = [Isolation::Causal, Isolation::CausalConvergence, Isolation::CausalMemory];

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 5_000, ..ProptestConfig::default() })]

    #[test]
    fn as_the_definitions_say(shape in shape()) {
        let history = history(&shape);
        let plain = Plain::new(&history).expect("what is read was written");
        for isolation in LEVELS {
            let patterns = plain.patterns(isolation);
            let found = check(&history, isolation, &Limits::default()).expect("small");
            match &found {
                None => prop_assert!(patterns.is_empty(), "{:?}: not found: {:?}", isolation, patterns),
                Some(anomaly) => {
                    prop_assert!(
                        patterns.contains(&anomaly.name.as_str()),
                        "{:?}: {:?} and not {:?}", isolation, patterns, anomaly
                    );
                    shows(anomaly, isolation)?;
                }
            }
            let right = shape.lies == 0 && isolation != Isolation::CausalMemory;
            prop_assert!(!right || found.is_none(), "the store converges: {found:?}");
        }
        for isolation in [Isolation::ReadAtomic, Isolation::ReadCommitted] {
            if let Some(anomaly) = check(&history, isolation, &Limits::default()).expect("small") {
                shows(&anomaly, isolation)?;
            }
        }
    }
}

/// Whether the part that is shown breaks the level by itself and no smaller one does, and each relation is what the steps say.
fn shows(anomaly: &Anomaly, isolation: Isolation) -> Result<(), TestCaseError> {
    let Some(pattern) = &anomaly.pattern else { return Err(TestCaseError::fail(format!("{anomaly:?}"))) };
    let judged = |pattern: &Pattern| {
        let found = check(&pattern.transactions(), isolation, &Limits::default()).expect("small");
        found.map(|anomaly| anomaly.name)
    };
    prop_assert_eq!(judged(pattern), Some(anomaly.name.clone()), "{:?}", pattern);
    prop_assert!(pattern.judged_alone);
    for at in 0..pattern.steps.len() {
        let mut less = pattern.clone();
        let gone = less.steps.remove(at);
        for step in &mut less.steps {
            let fed = |of: &Touch| gone.touches.contains(&Touch { write: true, ..of.clone() });
            step.touches.retain(|of| of.write || of.value.is_none() || !fed(of));
        }
        prop_assert_ne!(judged(&less), Some(anomaly.name.clone()), "{} is too much: {:?}", at + 1, pattern);
    }
    // What comes before what by session and reads, and for causal memory by the orders of writes, too.
    let mut known: Relation = vec![0; pattern.steps.len()];
    for of in &pattern.relations {
        let causal = matches!(of.kind, Kind::Session | Kind::ReadsFrom);
        if causal || of.kind == Kind::WriteOrder && isolation == Isolation::CausalMemory {
            known[of.to] |= 1 << of.from;
        }
    }
    close(&mut known);
    for of in &pattern.relations {
        let (from, to) = (&pattern.steps[of.from], &pattern.steps[of.to]);
        let did = |step: &Step, write: bool, like: &dyn Fn(&Touch) -> bool| {
            step.touches
                .iter()
                .any(|touch| touch.write == write && Some(&touch.key) == of.key.as_ref() && like(touch))
        };
        let reads = |writer: &Step, reader: &Step| {
            did(reader, false, &|read| did(writer, true, &|wrote| wrote.value == read.value))
        };
        let right = match of.kind {
            Kind::Session => from.session == to.session && from.number < to.number,
            Kind::ReadsFrom => reads(from, to),
            Kind::Conflict => did(from, false, &|read| read.value.is_none()) && did(to, true, &|_| true),
            Kind::WriteOrder => of.reader.is_some_and(|reader| {
                let wrote = did(from, true, &|_| true);
                wrote && reads(to, &pattern.steps[reader]) && has(&known, of.from, reader)
            }),
        };
        prop_assert!(right, "{:?} of {:?}", of, pattern);
    }
    let cycle: Vec<_> = pattern.relations.iter().filter(|of| of.of_cycle).collect();
    for (at, of) in cycle.iter().enumerate() {
        prop_assert_eq!(of.to, cycle[(at + 1) % cycle.len()].from, "no cycle: {:?}", pattern);
    }
    Ok(())
}

/// The anomaly of a history: sessions, apart by bars, of single accesses, apart by commas; 0 is the initial state.
fn found(sessions: &str, isolation: Isolation) -> Option<String> {
    let mut history = Transactions::default();
    for (session, all) in sessions.split(" | ").enumerate() {
        for access in all.split(", ") {
            let words: Vec<&str> = access.split(' ').collect();
            let [kind, key, value] = words[..] else { panic!("{access}") };
            let key = history.keys.id(key.as_bytes());
            let value = if value == "0" { 0 } else { history.values.id(value.as_bytes()) };
            history.push(session as u32, 0, &[Access { key, value, write: kind == "w" }]);
        }
    }
    check(&history, isolation, &Limits::default()).expect("small").map(|anomaly| anomaly.name)
}

#[test]
fn every_bad_pattern_is_named_and_what_just_lacks_it_is_not() {
    use Isolation::{Causal as Cc, CausalConvergence as Ccv, CausalMemory as Cm};
    let all = [Cc, Ccv, Cm];
    // Pattern, the levels that forbid it, a history that has it, the nearest that has not.
    let table: [(&str, &[Isolation], &str, &str); 7] = [
        ("ThinAirRead", &all, "w x 1 | r x 2", "w x 1 | r x 1"),
        ("CyclicCO", &all, "r x 1, w y 1 | r y 1, w x 1", "r x 1, w y 1 | w x 1, r y 1"),
        ("WriteCOInitRead", &all, "w x 1, w y 1 | r y 1, r x 0", "w x 1, w y 1 | r x 0, r y 1"),
        (
            "WriteCORead",
            &[Cc, Cm],
            "w x 1, w x 2, w y 1 | r y 1, r x 1",
            "w x 1, w x 2, w y 1 | r x 1, r y 1",
        ),
        ("CyclicCF", &[Ccv], "w x 1, r x 2 | w x 2, r x 1", "w x 1, r x 2 | w x 2, r x 2"),
        ("CyclicHB", &[Cm], "w x 1, r x 2, r x 1 | w x 2", "w x 1, r x 1, r x 2 | w x 2"),
        (
            "WriteHBInitRead",
            &[Cm],
            // The reader orders x = 1, and with it z = 1, before x = 2, which it saw before it read nothing of z.
            "w z 1, w x 1, w y 1 | w x 2 | r x 2, r z 0, r y 1, r x 2",
            "w z 1, w x 1, w y 1 | w x 2 | r x 2, r z 0, r y 1, r x 1",
        ),
    ];
    for (name, levels, bad, good) in table {
        for isolation in all {
            let expected = levels.contains(&isolation);
            let said = found(bad, isolation);
            assert_eq!(said.as_deref() == Some(name), expected, "{name} at {isolation:?}: {said:?}");
            assert_eq!(found(good, isolation), None, "{name} is not there at {isolation:?}");
        }
    }
}
