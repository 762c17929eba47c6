use super::*;
use crate::base::{Hlc, NodeId};

const NOW: u64 = 10_000;

fn stamp(ms: u64) -> Stamp {
    Stamp { hlc: Hlc::from_ms(ms), node: NodeId(1) }
}

fn holding(value: &'static [u8], expires_at: u64) -> Record {
    Record {
        ballot: stamp(5),
        written: stamp(5),
        value: Some(Bytes::from_static(value)),
        expires_at,
        ..Record::default()
    }
}

fn value_of(effect: &Effect) -> Option<&[u8]> {
    match effect {
        Effect::Changed { value, .. } => value.as_deref(),
        Effect::Unchanged(_) => panic!("nothing changed: {effect:?}"),
    }
}

#[test]
fn integers_are_read_in_their_canonical_form_only() {
    let table: &[(&[u8], Option<i64>)] = &[
        (b"0", Some(0)),
        (b"-1", Some(-1)),
        (b"9223372036854775807", Some(i64::MAX)),
        (b"-9223372036854775808", Some(i64::MIN)),
        (b"9223372036854775808", None),
        (b"-0", None),
        (b"007", None),
        (b"+7", None),
        (b" 7", None),
        (b"7 ", None),
        (b"", None),
        (b"-", None),
    ];
    for (text, expected) in table {
        assert_eq!(parse_integer(text), *expected, "{text:?}");
    }
}

#[test]
fn conditions_of_set_judge_the_live_value() {
    let expired = holding(b"old", NOW);
    let fresh = holding(b"old", NOW + 1);
    let set =
        |when| KeyOp::Set { value: Bytes::from_static(b"new"), expiry: Expiry::Clear, when, want_old: false };
    let applied =
        |when, record: &Record| matches!(evaluate(&set(when), Some(record), NOW), Effect::Changed { .. });
    assert!(applied(When::Absent, &expired));
    assert!(!applied(When::Absent, &fresh));
    assert!(!applied(When::Present, &expired));
    assert!(applied(When::Present, &fresh));
    assert!(applied(When::Equals(Bytes::from_static(b"old")), &fresh));
    assert!(!applied(When::Equals(Bytes::from_static(b"old")), &expired));
}

#[test]
fn arithmetic_refuses_what_is_no_number_and_what_overflows() {
    let text = holding(b"ten", 0);
    let max = holding(b"9223372036854775807", 0);
    assert_eq!(evaluate(&KeyOp::Add(1), Some(&text), NOW), rejected(Rejection::NotInteger));
    assert_eq!(evaluate(&KeyOp::Add(1), Some(&max), NOW), rejected(Rejection::Overflow));
    let half = KeyOp::AddFloat(Bytes::from_static(b"0.5"));
    assert_eq!(value_of(&evaluate(&half, None, NOW)), Some(&b"0.5"[..]));
    assert_eq!(evaluate(&half, Some(&text), NOW), rejected(Rejection::NotFloat));
}

#[test]
fn a_range_beyond_the_value_is_filled_with_zeros() {
    let op = KeyOp::SetRange { offset: 5, data: Bytes::from_static(b"x") };
    assert_eq!(value_of(&evaluate(&op, Some(&holding(b"abc", 0)), NOW)), Some(&b"abc\0\0x"[..]));
    let far = KeyOp::SetRange { offset: u32::MAX, data: Bytes::from_static(b"x") };
    assert_eq!(evaluate(&far, None, NOW), rejected(Rejection::TooLarge));
}

#[test]
fn expiry_conditions_follow_redis() {
    let expire = |when, at, record: &Record| {
        let op = KeyOp::Expire { expiry: Expiry::At(at), when, want_value: false };
        matches!(evaluate(&op, Some(record), NOW), Effect::Changed { .. })
    };
    let (none, some) = (holding(b"v", 0), holding(b"v", NOW + 50));
    assert!(expire(ExpireWhen::NoExpiry, NOW + 9, &none) && !expire(ExpireWhen::NoExpiry, NOW + 9, &some));
    assert!(expire(ExpireWhen::HasExpiry, NOW + 9, &some) && !expire(ExpireWhen::HasExpiry, NOW + 9, &none));
    assert!(!expire(ExpireWhen::Later, NOW + 99, &none) && expire(ExpireWhen::Later, NOW + 99, &some));
    assert!(expire(ExpireWhen::Earlier, NOW + 9, &none) && !expire(ExpireWhen::Earlier, NOW + 99, &some));
}

#[test]
fn an_expiry_in_the_past_deletes() {
    let op = KeyOp::Expire { expiry: Expiry::At(NOW - 1), when: ExpireWhen::Always, want_value: false };
    let effect = evaluate(&op, Some(&holding(b"v", 0)), NOW);
    assert_eq!(value_of(&effect), None);
    let persist = KeyOp::Expire { expiry: Expiry::Clear, when: ExpireWhen::Always, want_value: false };
    assert_eq!(evaluate(&persist, Some(&holding(b"v", 0)), NOW), negative(Outcome::Integer(0)));
}

#[test]
fn t1_a_draft_of_an_expired_record_is_a_tombstone_of_the_same_version() {
    let draft = Draft::new(Some(&holding(b"v", NOW)), stamp(NOW), NOW);
    assert!(draft.changed);
    assert_eq!((draft.record.value, draft.record.written), (None, stamp(5)));
}

#[test]
fn a_delete_is_of_the_value_or_version_that_was_meant() {
    let delete = |when| KeyOp::Delete { when, want_old: true };
    let kept = negative(Outcome::Changed { applied: false, old: None });
    let there = holding(b"v", 0);
    for when in [When::Absent, When::Equals("w".into()), When::Version(stamp(4))] {
        assert_eq!(evaluate(&delete(when), Some(&there), NOW), kept);
    }
    for when in [When::Always, When::Present, When::Equals("v".into()), When::Version(stamp(5))] {
        let effect = evaluate(&delete(when.clone()), Some(&there), NOW);
        assert_eq!(value_of(&effect), None);
        assert!(matches!(effect, Effect::Changed { .. }), "{when:?}");
        assert_eq!(evaluate(&delete(when.clone()), None, NOW), kept, "nothing is there to delete");
        assert_eq!(is_blind(&KeyOp::Delete { when: when.clone(), want_old: false }), when == When::Always);
    }
}

#[test]
fn c4_recent_is_bounded_and_eviction_is_remembered() {
    let mut record = Record::default();
    for i in 0..RECENT_MAX as u64 + 10 {
        let mut draft = Draft::new(Some(&record), stamp(NOW + i), NOW);
        let op_id = OpId { stamp: stamp(NOW + i - 1), number: u128::from(i) };
        draft.change(op_id, None, 0, &Outcome::Integer(i as i64));
        record = draft.record;
    }
    assert_eq!(record.recent.len(), RECENT_MAX);
    assert_eq!(record.evicted_upto, stamp(NOW + 8), "the id of the last pruned operation");
    let mut late = Draft::new(Some(&record), stamp(NOW * 9), NOW * 9);
    late.change(OpId::default(), None, 0, &Outcome::Integer(0));
    assert_eq!(late.record.recent.len(), 1, "all older entries left the retry window");
}

#[test]
fn c9_a_weak_record_covers_everything_before_it() {
    let op = KeyOp::Delete { when: When::Always, want_old: false };
    let (record, outcome) = weak_record(&op, stamp(7), OpId::default(), NOW).expect("a delete is blind");
    assert_eq!(record.evicted_upto, stamp(7));
    assert_eq!(outcome, Outcome::Changed { applied: true, old: None });
    assert!(weak_record(&KeyOp::Read, stamp(7), OpId::default(), NOW).is_none());
}
