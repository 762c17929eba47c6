use super::*;
use samara_core::base::{Hlc, NodeId};

fn at(n: u64) -> Stamp {
    Stamp { hlc: Hlc(n), node: NodeId(1) }
}

/// An operation on key `k` with its interval; `version` 0 stands for an unknown outcome.
fn saw(call: u64, ret: u64, function: Function, answer: Answer, version: u64) -> Witness {
    let unknown = version == 0;
    let outcome = if unknown { Outcome::Unknown } else { Outcome::Ok(answer) };
    let operation =
        Operation { process: call, key: b"k".to_vec(), function, outcome, call, ret, level: Level::Strong };
    Witness { operation, version: (!unknown).then(|| at(version)), deed: Deed::Plain }
}

fn put(value: &str) -> Function {
    Function::Put { value: value.into(), ttl_ms: None }
}

fn read(value: &str) -> Answer {
    Answer::Value((!value.is_empty()).then(|| value.into()))
}

fn cas(old: &str, new: &str) -> Function {
    Function::Cas { old: old.into(), new: new.into() }
}

fn judge(witnesses: &[Witness]) -> Result<(), Broken> {
    check(witnesses, 0, &|_, _| Vec::new())
}

#[track_caller]
fn holds(witnesses: &[Witness]) {
    assert_eq!(judge(witnesses), Ok(()));
}

#[track_caller]
fn fails(witnesses: &[Witness]) {
    assert!(matches!(judge(witnesses), Err(Broken::Violated(_))), "{witnesses:?}");
}

#[test]
fn writes_and_reads_in_the_order_of_their_versions() {
    holds(&[
        saw(0, 10, put("a"), Answer::Done, 5),
        saw(11, 20, Function::Get, read("a"), 5),
        saw(12, 30, put("b"), Answer::Done, 15),
        saw(13, 19, Function::Get, read("a"), 5),
        saw(31, 40, Function::Get, read("b"), 15),
    ]);
}

#[test]
fn a_stale_read_is_found() {
    fails(&[
        saw(0, 10, put("a"), Answer::Done, 5),
        saw(11, 20, put("b"), Answer::Done, 15),
        saw(21, 30, Function::Get, read("a"), 5),
    ]);
}

#[test]
fn a_value_under_another_version_is_found() {
    fails(&[
        saw(0, 10, put("a"), Answer::Done, 5),
        saw(11, 20, put("b"), Answer::Done, 15),
        saw(21, 30, Function::Get, read("a"), 15),
    ]);
}

#[test]
fn a_lost_write_is_found() {
    fails(&[saw(0, 10, put("a"), Answer::Done, 5), saw(11, 20, Function::Get, read(""), 5)]);
}

#[test]
fn two_swaps_from_one_value_are_found() {
    fails(&[
        saw(0, 10, put("a"), Answer::Done, 5),
        saw(11, 20, cas("a", "b"), Answer::Applied(true), 15),
        saw(11, 20, cas("a", "c"), Answer::Applied(true), 16),
    ]);
}

#[test]
fn an_increment_that_was_applied_twice_is_found() {
    fails(&[
        saw(0, 10, Function::Incr(1), Answer::Integer(1), 5),
        saw(11, 20, Function::Incr(1), Answer::Integer(3), 15),
    ]);
}

#[test]
fn an_unknown_increment_may_explain_a_gap_but_only_once() {
    let gap = |last| {
        [
            saw(0, 10, Function::Incr(1), Answer::Integer(1), 5),
            saw(5, 9, Function::Incr(1), Answer::Done, 0),
            saw(11, 20, Function::Incr(1), Answer::Integer(last), 15),
        ]
    };
    holds(&gap(3));
    holds(&gap(2));
    fails(&gap(4));
}

#[test]
fn an_unknown_write_cannot_take_effect_before_its_call() {
    let story = |call| {
        [
            saw(0, 10, put("a"), Answer::Done, 5),
            saw(11, 20, Function::Get, read("b"), 8),
            saw(call, call + 5, put("b"), Answer::Done, 0),
        ]
    };
    holds(&story(12));
    fails(&story(21));
}

#[test]
fn operations_combined_into_one_round_share_a_version() {
    holds(&[
        saw(0, 10, Function::Append(b"a".to_vec()), Answer::Integer(3), 5),
        saw(0, 10, put("xy"), Answer::Done, 5),
        saw(0, 12, Function::Append(b"b".to_vec()), Answer::Integer(4), 5),
        saw(13, 20, Function::Get, read("xyab"), 5),
    ]);
}

#[test]
fn a_value_may_be_gone_only_when_its_time_has_come() {
    let ms = 1_000_000;
    let story = |called: u64| {
        [
            saw(0, ms, Function::Put { value: b"a".to_vec(), ttl_ms: Some(10) }, Answer::Done, 5),
            saw(called * ms, called * ms + 1, Function::Get, read(""), 5),
        ]
    };
    fails(&story(8));
    holds(&story(11));
    let revived = saw(13 * ms, 14 * ms, Function::Get, read("a"), 5);
    let [write, gone] = story(11);
    fails(&[write, gone, revived]);
}

#[test]
fn deletes_whose_answers_contradict_each_other_are_found() {
    fails(&[
        saw(0, 10, put("a"), Answer::Done, 5),
        saw(11, 20, Function::Delete, Answer::Applied(true), 15),
        saw(21, 30, Function::Delete, Answer::Applied(true), 25),
    ]);
}

#[test]
fn a_stored_negative_stands_with_the_version_that_it_saw() {
    let ms = 1_000_000;
    let put = Function::Put { value: b"a".to_vec(), ttl_ms: Some(10) };
    let absent = |value: &str| Function::PutIf { value: value.into(), present: false };
    holds(&[
        saw(0, ms, put, Answer::Done, 5),
        saw(5 * ms, 30 * ms, absent("b"), Answer::Applied(false), 9),
        saw(15 * ms, 16 * ms, Function::Delete, Answer::Applied(false), 5),
        saw(20 * ms, 40 * ms, absent("c"), Answer::Applied(true), 25),
    ]);
}
