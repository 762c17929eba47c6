use super::*;
use crate::base::{Hlc, NodeId, Record};
use crate::rules::register::{Effect, evaluate, read_response};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use proptest::prelude::*;

/// Registers of which each operation is one point of time, as strong operations are.
#[derive(Default)]
struct Registers {
    records: BTreeMap<Bytes, Record>,
    clock: u64,
}

impl Registers {
    fn apply(&mut self, key: &Bytes, op: &KeyOp) -> Response {
        self.clock += 1;
        let stamp = Stamp { hlc: Hlc(self.clock), node: NodeId(1) };
        let current = self.records.get(key);
        match evaluate(op, current, 100) {
            Effect::Changed { value, expires_at, outcome } => {
                let record = Record { ballot: stamp, written: stamp, value, expires_at, ..Record::default() };
                self.records.insert(key.clone(), record);
                Response::Mutated { outcome, version: stamp }
            }
            Effect::Unchanged(crate::rules::register::Answer::Outcome(outcome)) => {
                Response::Mutated { outcome, version: stamp }
            }
            Effect::Unchanged(_) => read_response(current, 100),
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        let op = KeyOp::Set {
            value: Bytes::from(String::from(value)),
            expiry: Expiry::Clear,
            when: When::Always,
            want_old: false,
        };
        self.apply(&name(key), &op);
    }

    fn value(&self, key: &str) -> Option<&[u8]> {
        self.records.get(&name(key)).and_then(|record| record.value.as_deref())
    }

    fn holds(&self, value: &str) -> bool {
        self.records.values().any(|record| record.value.as_deref() == Some(value.as_bytes()))
    }
}

fn name(key: &str) -> Bytes {
    Bytes::from(String::from(key))
}

fn moving(replace: bool, remove: bool) -> Sequence {
    Sequence::new(Task::Move { source: name("a"), target: name("b"), replace, remove })
}

/// Runs a sequence; `meanwhile` is called before each step with its number.
fn run(
    registers: &mut Registers,
    mut sequence: Sequence,
    mut meanwhile: impl FnMut(usize, &mut Registers),
) -> Result<Ending, Failure> {
    let mut next = sequence.begin();
    for step in 0.. {
        match next {
            Next::Done(result) => return result,
            Next::Ask(key, op) => {
                meanwhile(step, registers);
                next = sequence.on_answer(Ok(registers.apply(&key, &op)));
            }
        }
    }
    unreachable!("a sequence ends")
}

#[test]
fn a_value_moves_with_its_expiry() {
    let mut registers = Registers::default();
    let value = Bytes::from_static(b"v");
    let set = KeyOp::Set { value, expiry: Expiry::At(900), when: When::Always, want_old: false };
    registers.apply(&name("a"), &set);
    registers.set("b", "old");
    assert_eq!(run(&mut registers, moving(true, true), |_, _| ()), Ok(Ending::Done));
    assert_eq!((registers.value("a"), registers.value("b")), (None, Some(&b"v"[..])));
    assert_eq!(registers.records[&name("b")].expires_at, 900);
}

#[test]
fn endings_of_a_move() {
    // (replace, remove, target there, ending, source after, target after)
    let table = [
        (true, true, true, Ending::Done, None, Some("v")),
        (true, false, true, Ending::Done, Some("v"), Some("v")),
        (false, true, false, Ending::Done, None, Some("v")),
        (false, true, true, Ending::Exists, Some("v"), Some("t")),
        (false, false, true, Ending::Exists, Some("v"), Some("t")),
    ];
    for (replace, remove, there, ending, source, target) in table {
        let mut registers = Registers::default();
        registers.set("a", "v");
        if there {
            registers.set("b", "t");
        }
        assert_eq!(run(&mut registers, moving(replace, remove), |_, _| ()), Ok(ending));
        let after = (registers.value("a"), registers.value("b"));
        assert_eq!(
            after,
            (source.map(str::as_bytes), target.map(str::as_bytes)),
            "{replace} {remove} {there}"
        );
    }
    assert_eq!(run(&mut Registers::default(), moving(true, true), |_, _| ()), Ok(Ending::NoSource));
}

#[test]
fn a_source_that_changes_meanwhile_is_followed_and_not_lost() {
    let mut registers = Registers::default();
    registers.set("a", "1");
    let ended = run(&mut registers, moving(true, true), |step, registers| {
        if step == 2 {
            registers.set("a", "2");
        }
    });
    assert_eq!(ended, Ok(Ending::Done));
    assert_eq!((registers.value("a"), registers.value("b")), (None, Some(&b"2"[..])));
}

#[test]
fn a_source_that_never_rests_ends_unknown_and_is_still_there() {
    let mut registers = Registers::default();
    registers.set("a", "0");
    let ended = run(&mut registers, moving(true, true), |step, registers| {
        registers.set("a", &format!("{step}"));
    });
    assert_eq!(ended, Err(Failure::Timeout));
    assert!(registers.value("a").is_some());
}

#[test]
fn a_failure_is_definite_only_while_nothing_can_have_been_written() {
    let read = |value: bool| {
        let mut registers = Registers::default();
        if value {
            registers.set("a", "v");
        }
        registers.apply(&name("a"), &KeyOp::Read)
    };
    let mut reading = moving(true, true);
    reading.begin();
    assert_eq!(reading.on_answer(Err(Failure::Unavailable)), Next::Done(Err(Failure::Unavailable)));

    let mut writing = moving(true, true);
    writing.begin();
    writing.on_answer(Ok(read(true)));
    assert_eq!(writing.clone().on_answer(Err(Failure::Timeout)), Next::Done(Err(Failure::Timeout)));
    assert_eq!(writing.on_answer(Err(Failure::Unavailable)), Next::Done(Err(Failure::Unavailable)));

    let mut deleting = moving(true, true);
    deleting.begin();
    deleting.on_answer(Ok(read(true)));
    let outcome = Outcome::Changed { applied: true, old: None };
    deleting.on_answer(Ok(Response::Mutated { outcome, version: Stamp::ZERO }));
    assert_eq!(deleting.on_answer(Err(Failure::Unavailable)), Next::Done(Err(Failure::Timeout)));
}

fn setting(pairs: &[(&str, &str)]) -> Sequence {
    Sequence::new(Task::SetAllAbsent(pairs.iter().map(|(key, value)| (name(key), name(value))).collect()))
}

#[test]
fn all_are_set_or_none() {
    let mut registers = Registers::default();
    assert_eq!(run(&mut registers, setting(&[("y", "2"), ("x", "1")]), |_, _| ()), Ok(Ending::Done));
    assert_eq!((registers.value("x"), registers.value("y")), (Some(&b"1"[..]), Some(&b"2"[..])));
    assert_eq!(run(&mut registers, setting(&[("w", "0"), ("y", "3")]), |_, _| ()), Ok(Ending::Exists));
    assert_eq!((registers.value("w"), registers.value("y")), (None, Some(&b"2"[..])));
}

#[test]
fn what_was_set_before_a_conflict_is_taken_back_unless_it_was_changed() {
    for changed in [false, true] {
        let mut registers = Registers::default();
        // Two reads, the write of x, and then somebody sets y.
        let ended = run(&mut registers, setting(&[("x", "1"), ("y", "2")]), |step, registers| {
            if step == 3 {
                registers.set("y", "theirs");
            }
            if step == 4 && changed {
                registers.set("x", "theirs");
            }
        });
        assert_eq!(ended, Ok(Ending::Exists));
        assert_eq!(registers.value("x"), changed.then_some(&b"theirs"[..]));
        assert_eq!(registers.value("y"), Some(&b"theirs"[..]));
    }
}

/// A sequence under way, and what it wants next.
struct Client {
    sequence: Sequence,
    next: Next,
}

impl Client {
    fn new(mut sequence: Sequence) -> Self {
        let next = sequence.begin();
        Self { sequence, next }
    }

    fn step(&mut self, registers: &mut Registers, lost: bool) {
        if let Next::Ask(key, op) = &self.next {
            let response = registers.apply(key, op);
            self.next = self.sequence.on_answer(if lost { Err(Failure::Timeout) } else { Ok(response) });
        }
    }
}

proptest! {
    /// Moves of one source to several targets, and a writer of the source, in any order, any of them stopped at any step
    /// (its node died) or with an answer lost: the latest value of the source is somewhere.
    #[test]
    fn no_interleaving_of_moves_and_crashes_loses_a_value(
        order in proptest::collection::vec((0..4_usize, any::<bool>()), 0..60),
        losses in proptest::collection::vec(0..40_usize, 0..2),
    ) {
        let mut registers = Registers::default();
        registers.set("a", "0");
        let to = |target: &str, replace| {
            Client::new(Sequence::new(Task::Move { source: name("a"), target: name(target), replace, remove: true }))
        };
        let mut clients = [to("b", false), to("c", false), to("d", true)];
        let mut latest = 0;
        for (at, (who, write)) in order.into_iter().enumerate() {
            match clients.get_mut(who) {
                Some(client) => client.step(&mut registers, losses.contains(&at)),
                // The writer goes on only where the key is there: a new key is a new story.
                None if write && registers.value("a").is_some() => {
                    latest += 1;
                    registers.set("a", &format!("{latest}"));
                }
                None => {}
            }
            prop_assert!(registers.holds(&format!("{latest}")), "{latest} is nowhere");
        }
    }

    /// Of several that set the same keys if absent, at most one succeeds, and where all go on to their end and none has
    /// succeeded, nothing is left.
    #[test]
    fn at_most_one_sets_common_keys(order in proptest::collection::vec(0..3_usize, 0..60)) {
        let mut registers = Registers::default();
        let mut clients: Vec<Client> =
            ["1", "2", "3"].map(|value| Client::new(setting(&[("x", value), ("y", value), ("z", value)]))).into();
        let rest = (0..60).map(|at| at % 3);
        for who in order.into_iter().chain(rest) {
            clients[who].step(&mut registers, false);
        }
        let done = clients.iter().filter(|client| client.next == Next::Done(Ok(Ending::Done))).count();
        prop_assert!(done <= 1);
        let values: Vec<_> = ["x", "y", "z"].map(|key| registers.value(key).map(<[u8]>::to_vec)).into();
        prop_assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
        prop_assert_eq!(done == 1, values[0].is_some());
    }
}
