use super::*;
use crate::history::{Answer, Function, History, Level, Operation, Outcome};
use crate::linearizability::Options;
use crate::recording::Recording;

fn op(function: Function, outcome: Outcome, call: u64, ret: u64) -> Operation {
    Operation { process: 0, key: b"k".to_vec(), function, outcome, call, ret, level: Level::Strong }
}

fn put(value: &str, call: u64, ret: u64) -> Operation {
    op(Function::Put { value: value.into(), ttl_ms: None }, Outcome::Ok(Answer::Done), call, ret)
}

fn get(value: &str, call: u64, ret: u64) -> Operation {
    op(Function::Get, Outcome::Ok(Answer::Value(Some(value.into()))), call, ret)
}

/// The intervals of the operations, in the order of their calls, and which have no place.
fn narrowed(operations: Vec<Operation>) -> Result<Vec<(u64, u64)>, u32> {
    let recording = Recording::of(&History { operations });
    let places: Vec<u32> = (0..recording.records.len() as u32).collect();
    let mut kernel = Kernel::new(&recording, &places, &Options::default());
    narrow(&mut kernel)?;
    Ok(kernel.ops.iter().map(|op| (op.call, op.ret)).collect())
}

#[test]
fn a_write_takes_effect_before_what_only_it_can_feed_returns() {
    let found = narrowed(vec![put("a", 10, 90), get("a", 0, 30)]);
    assert_eq!(found, Ok(vec![(10, 30), (10, 30)]));
}

#[test]
fn an_unknown_write_that_was_read_is_not_unknown_any_more() {
    let unknown = Operation { outcome: Outcome::Unknown, ..put("a", 0, 0) };
    assert_eq!(narrowed(vec![unknown, get("a", 5, 30)]), Ok(vec![(0, 30), (5, 30)]));
}

#[test]
fn what_holds_moves_others_out_of_the_way() {
    // From 10 to 50 the key holds a: b is written before or after.
    let (a, read) = (put("a", 0, 10), get("a", 50, 60));
    let (b, reads_b) = (put("b", 20, 100), get("b", 70, 100));
    let found = narrowed(vec![a, b, read, reads_b]);
    assert_eq!(found, Ok(vec![(0, 10), (50, 100), (50, 60), (70, 100)]));
}

#[test]
fn a_demand_that_nothing_can_have_fed_has_no_place() {
    let found = narrowed(vec![put("a", 0, 10), put("b", 20, 30), get("a", 40, 50)]);
    assert_eq!(found, Err(2));
    let unknown = Operation { outcome: Outcome::Unknown, ..put("a", 5, 0) };
    assert!(narrowed(vec![put("a", 0, 10), unknown, put("b", 20, 30), get("a", 40, 50)]).is_ok());
}

#[test]
fn two_values_cannot_hold_at_once() {
    let found = narrowed(vec![put("a", 0, 10), put("b", 0, 10), get("a", 50, 60), get("b", 50, 60)]);
    assert!(found.is_err());
}
