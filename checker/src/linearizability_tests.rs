use super::*;
use crate::history::Operation;
use crate::history::{Answer, Function, Level, Outcome};
use crate::model::{State, Values, step};
use proptest::prelude::*;

fn op(process: u64, function: Function, outcome: Outcome, call: u64, ret: u64) -> Operation {
    Operation { process, key: b"k".to_vec(), function, outcome, call, ret, level: Level::Strong }
}

fn put(value: &str) -> Function {
    Function::Put { value: value.into(), ttl_ms: None }
}

fn read(value: &str) -> Outcome {
    Outcome::Ok(Answer::Value(Some(value.into())))
}

const DONE: Outcome = Outcome::Ok(Answer::Done);
const ABSENT: Outcome = Outcome::Ok(Answer::Value(None));

fn judge(operations: Vec<Operation>) -> bool {
    match check(&History { operations }, &Options::default()) {
        Verdict::Holds => true,
        Verdict::Violated(_) => false,
        Verdict::Undecided { .. } => panic!("small histories are decided"),
    }
}

/// A name, whether it holds, and the history.
type Known = (&'static str, bool, Vec<Operation>);

fn known(table: Vec<Known>) {
    for (name, expected, operations) in table {
        assert_eq!(judge(operations), expected, "{name}");
    }
}

#[test]
fn known_histories_of_reads_and_writes() {
    known(vec![
        ("empty", true, vec![]),
        (
            "stale read",
            false,
            vec![
                op(1, put("a"), DONE, 0, 1),
                op(1, put("b"), DONE, 2, 3),
                op(2, Function::Get, read("a"), 4, 5),
            ],
        ),
        (
            "concurrent read of either",
            true,
            vec![
                op(1, put("a"), DONE, 0, 1),
                op(1, put("b"), DONE, 2, 9),
                op(2, Function::Get, read("a"), 3, 4),
            ],
        ),
        (
            "new then old",
            false,
            vec![
                op(1, put("a"), DONE, 0, 1),
                op(1, put("b"), DONE, 2, 9),
                op(2, Function::Get, read("b"), 3, 4),
                op(2, Function::Get, read("a"), 5, 6),
            ],
        ),
        (
            "an unknown write appears late",
            true,
            vec![
                op(1, put("a"), Outcome::Unknown, 0, 0),
                op(2, Function::Get, ABSENT, 5, 6),
                op(2, Function::Get, read("a"), 7, 8),
            ],
        ),
        (
            "an unknown write does not disappear",
            false,
            vec![
                op(1, put("a"), Outcome::Unknown, 0, 0),
                op(2, Function::Get, read("a"), 5, 6),
                op(2, Function::Get, ABSENT, 7, 8),
            ],
        ),
        ("a read of what was never written", false, vec![op(2, Function::Get, read("z"), 5, 6)]),
        (
            "touching intervals are concurrent",
            true,
            vec![op(1, put("a"), DONE, 0, 5), op(2, Function::Get, ABSENT, 5, 6)],
        ),
    ]);
}

#[test]
fn known_histories_of_conditions_and_sums() {
    known(vec![
        (
            "increments applied twice",
            false,
            vec![
                op(1, Function::Incr(1), Outcome::Ok(Answer::Integer(1)), 0, 1),
                op(1, Function::Get, read("2"), 2, 3),
            ],
        ),
        (
            "cas on another value",
            false,
            vec![
                op(1, put("a"), DONE, 0, 1),
                op(
                    1,
                    Function::Cas { old: "b".into(), new: "c".into() },
                    Outcome::Ok(Answer::Applied(true)),
                    2,
                    3,
                ),
            ],
        ),
        (
            "failed cas on the right value",
            false,
            vec![
                op(1, put("a"), DONE, 0, 1),
                op(
                    1,
                    Function::Cas { old: "a".into(), new: "c".into() },
                    Outcome::Ok(Answer::Applied(false)),
                    2,
                    3,
                ),
            ],
        ),
        (
            "a deleted value comes back",
            false,
            vec![
                op(1, put("a"), DONE, 0, 1),
                op(1, Function::Delete, Outcome::Ok(Answer::Applied(true)), 2, 3),
                op(2, Function::Get, ABSENT, 4, 5),
                op(2, Function::Get, read("a"), 6, 7),
            ],
        ),
    ]);
}

#[test]
fn what_is_of_unknown_outcome_does_not_make_time_pass() {
    let lives = Function::Put { value: b"a".to_vec(), ttl_ms: Some(4) };
    let ms = 1_000_000;
    let lost = Function::Cas { old: b"x".to_vec(), new: b"y".to_vec() };
    let late = Function::PutIf { value: b"b".to_vec(), present: false };
    let rest = |read_at: u64, read: Outcome| {
        vec![
            op(1, lost.clone(), Outcome::Unknown, 0, 0),
            op(2, late.clone(), Outcome::Unknown, 0, 0),
            op(3, lives.clone(), DONE, 9 * ms, 9 * ms + 1),
            op(3, Function::Get, read, read_at * ms, read_at * ms),
        ]
    };
    known(vec![
        ("it is there", true, rest(10, read("a"))),
        ("it is gone too early", false, rest(10, ABSENT)),
        ("something else is there too early", false, rest(10, read("b"))),
        ("it is gone", true, rest(14, ABSENT)),
        ("something else is there", true, rest(14, read("b"))),
    ]);
}

#[test]
fn a_value_expires_within_its_time_and_stays_away() {
    let ms = |n: u64| n * 1_000_000;
    let write = || op(1, Function::Put { value: "a".into(), ttl_ms: Some(10) }, DONE, ms(0), ms(1));
    let get = |outcome, call, ret| op(2, Function::Get, outcome, ms(call), ms(ret));
    assert!(judge(vec![write(), get(read("a"), 5, 6), get(ABSENT, 12, 13)]));
    assert!(judge(vec![write(), get(ABSENT, 10, 11)]), "the write may have taken effect at its call");
    assert!(!judge(vec![write(), get(ABSENT, 5, 6)]), "too early");
    assert!(!judge(vec![write(), get(read("a"), 12, 13)]), "too late");
    assert!(
        !judge(
            vec![write(), get(ABSENT, 10, 11), get(read("a"), 11, 11)]
                .into_iter()
                .enumerate()
                .map(|(i, mut o)| {
                    o.call += u64::from(i == 2);
                    o
                })
                .collect()
        ),
        "expired and back"
    );
}

#[test]
fn weak_writes_stand_in_the_order_but_not_in_real_time() {
    let weak =
        |level, outcome, value: &str, call, ret| Operation { level, ..op(3, put(value), outcome, call, ret) };
    let late = vec![
        weak(Level::Eventual, DONE, "w", 0, 1),
        op(1, Function::Get, ABSENT, 5, 6),
        op(1, Function::Get, read("w"), 7, 8),
    ];
    assert!(judge(late), "an eventual write may be seen later");
    let lost = vec![weak(Level::Causal, DONE, "w", 0, 1), op(1, Function::Get, ABSENT, 5, 6)];
    assert!(!judge(lost), "a causal write that was acknowledged is seen");
}

/// All orders, tried one by one.
fn brute_force(operations: &[Operation]) -> bool {
    fn go(values: &mut Values, left: &[&Operation], state: State) -> bool {
        if left.iter().all(|o| o.outcome == Outcome::Unknown) {
            return true;
        }
        let first_return =
            left.iter().filter(|o| o.outcome != Outcome::Unknown).map(|o| o.ret).min().unwrap_or(u64::MAX);
        (0..left.len()).any(|at| {
            let mut rest = left.to_vec();
            let operation = rest.remove(at);
            operation.call <= first_return
                && step(values, state, operation, first_return, 0)
                    .into_iter()
                    .flatten()
                    .any(|next| go(values, &rest, next))
        })
    }
    let judged: Vec<&Operation> =
        operations.iter().filter(|o| o.function != Function::Get || o.outcome != Outcome::Unknown).collect();
    go(&mut Values::default(), &judged, State::ABSENT)
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let value = || prop_oneof![Just("1"), Just("2")].prop_map(|v: &str| v.as_bytes().to_vec());
    let answer = prop_oneof![
        (value(), any::<bool>()).prop_map(|(v, some)| (Function::Get, Answer::Value(some.then_some(v)))),
        value().prop_map(|value| (Function::Put { value, ttl_ms: None }, Answer::Done)),
        any::<bool>().prop_map(|applied| (Function::Delete, Answer::Applied(applied))),
        (value(), value(), any::<bool>())
            .prop_map(|(old, new, ok)| (Function::Cas { old, new }, Answer::Applied(ok))),
        (1..4_i64).prop_map(|sum| (Function::Incr(1), Answer::Integer(sum))),
        (value(), any::<bool>(), any::<bool>())
            .prop_map(|(value, present, ok)| (Function::PutIf { value, present }, Answer::Applied(ok))),
    ];
    (answer, 0..12_u64, 0..8_u64, 0..6_u8).prop_map(|((function, answer), call, len, luck)| {
        let outcome = if luck == 0 { Outcome::Unknown } else { Outcome::Ok(answer) };
        op(0, function, outcome, call, call + len)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn the_search_agrees_with_brute_force(operations in prop::collection::vec(any_operation(), 0..7)) {
        prop_assert_eq!(judge(operations.clone()), brute_force(&operations));
    }
}
