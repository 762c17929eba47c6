//! Properties of the pure rules: the clock, the ring, and what operations make of a record.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use samara_core::base::limits::{MAX_DRIFT_MS, OUTCOME_BYTES_MAX, RECENT_MAX};
use samara_core::base::{
    ClusterId, Config, Epoch, Expiry, Hlc, KeyOp, Member, NodeId, OpId, Outcome, Record, Slot, Stamp,
    WallTime, When,
};
use samara_core::rules::clock::Clock;
use samara_core::rules::register::{self, Draft, Effect};
use samara_core::rules::ring::SlotTable;
use std::collections::{BTreeMap, BTreeSet};

/// What happens to a clock.
#[derive(Debug, Clone)]
enum Tick {
    /// The wall clock steps to this time, and the clock follows it.
    Wall(u64),
    /// A message with this reading arrives.
    Hear(u64),
    Issue,
    /// A raise of the ceiling, by so many milliseconds, becomes durable.
    Raise(u64),
    /// The process starts again, with what is durable.
    Restart,
}

fn any_tick() -> impl Strategy<Value = Tick> {
    prop_oneof![
        (0..20_000_u64).prop_map(Tick::Wall),
        (0..20_000_u64).prop_map(Tick::Hear),
        Just(Tick::Issue),
        Just(Tick::Issue),
        (1..500_u64).prop_map(Tick::Raise),
        Just(Tick::Restart),
    ]
}

proptest! {
    /// S1, S3, S4: whatever the wall clock does and however often the process starts, the reading never falls or passes
    /// the durable ceiling, and no stamp comes twice.
    #[test]
    fn stamps_rise_below_the_ceiling_over_restarts(ticks in vec(any_tick(), 1..200)) {
        let (node, mut wall, mut durable) = (NodeId(3), WallTime(1_000), Hlc::from_ms(1_100));
        let mut clock = Clock::start(node, wall, Hlc(0), durable);
        let mut issued = Stamp::ZERO;
        for tick in ticks {
            let before = clock.last();
            match tick {
                Tick::Wall(ms) => {
                    wall = WallTime(ms);
                    clock.tick(wall);
                }
                Tick::Hear(ms) => {
                    let admitted = clock.admit(wall, Hlc::from_ms(ms));
                    prop_assert_eq!(admitted, clock.last() >= Hlc::from_ms(ms.max(wall.0)), "unmoved when refused");
                }
                Tick::Issue => {
                    let Some(stamp) = clock.issue() else {
                        prop_assert_eq!(before, clock.ceiling(), "refused only at the ceiling");
                        continue;
                    };
                    prop_assert!(stamp > issued && stamp.hlc > before && stamp.node == node);
                    issued = stamp;
                }
                Tick::Raise(by) => {
                    durable = Hlc::from_ms(durable.ms() + by);
                    clock.raise(durable);
                }
                Tick::Restart => {
                    let found = durable;
                    durable = Hlc::from_ms(found.ms().max(wall.0) + 100);
                    clock = Clock::start(node, wall, found, durable);
                    prop_assert!(clock.last() > found);
                }
            }
            prop_assert!(clock.last() >= before && clock.last() <= clock.ceiling());
            prop_assert_eq!(clock.ceiling(), durable);
        }
    }

    /// S2: exactly what is more than the drift ahead is refused.
    #[test]
    fn skew_is_judged_by_the_drift(wall in 0..1_u64 << 40, ahead in 0..2_000_u64) {
        let skewed = Clock::is_skewed(WallTime(wall), Hlc::from_ms(wall + ahead));
        prop_assert_eq!(skewed, ahead > MAX_DRIFT_MS);
    }
}

fn config(members: &[(u16, u16)], replication: u8) -> Config {
    let member = |(node, zone): &(u16, u16)| Member {
        node: NodeId(*node),
        zone: format!("z{zone}"),
        tokens: samara_core::base::config::TOKENS_DEFAULT,
        shards: 1,
    };
    let members = members.iter().map(member).collect();
    Config { cluster: ClusterId(1), epoch: Epoch(1), members, replication }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However nodes are spread over zones, the replicas of a slot lie in as many zones as there can be.
    #[test]
    fn replicas_use_every_zone_they_can(zones in vec(0_u16..5, 1..10), replication in 1_u8..=5) {
        let members: Vec<(u16, u16)> = (1..).zip(zones.iter().copied()).collect();
        let table = SlotTable::new(&config(&members, replication));
        let zone_of: BTreeMap<NodeId, u16> = members.iter().map(|(node, zone)| (NodeId(*node), *zone)).collect();
        let all: BTreeSet<u16> = zones.iter().copied().collect();
        for slot in (0..Slot::COUNT).map(Slot) {
            let used: BTreeSet<u16> = table.replicas(slot).iter().map(|node| zone_of[node]).collect();
            prop_assert_eq!(used.len(), all.len().min(usize::from(replication)), "{}", slot);
        }
    }

    /// A node that leaves takes only its own places with it, and the order of the others stays.
    #[test]
    fn a_lost_node_moves_only_what_it_held(count in 4_u16..10, lost in 1_u16..4, replication in 1_u8..=3) {
        // Each node is a zone of its own.
        let all: Vec<(u16, u16)> = (1..=count).map(|node| (node, node)).collect();
        let rest: Vec<(u16, u16)> = all.iter().copied().filter(|(node, _)| *node != lost).collect();
        let (old, new) = (SlotTable::new(&config(&all, replication)), SlotTable::new(&config(&rest, replication)));
        for slot in (0..Slot::COUNT).map(Slot) {
            let kept: Vec<NodeId> = old.preference(slot).iter().copied().filter(|node| *node != NodeId(lost)).collect();
            prop_assert_eq!(new.preference(slot), &kept[..], "{}", slot);
        }
    }
}

fn value() -> impl Strategy<Value = Bytes> {
    proptest::sample::select(vec!["", "1", "2", "-7", "abc", "9223372036854775807"]).prop_map(Bytes::from)
}

fn condition() -> impl Strategy<Value = When> {
    prop_oneof![Just(When::Always), Just(When::Absent), Just(When::Present), value().prop_map(When::Equals)]
}

/// An operation with small values, so that conditions hold now and then.
fn any_op() -> impl Strategy<Value = KeyOp> {
    let expiry = prop_oneof![
        Just(Expiry::Clear),
        Just(Expiry::Keep),
        (0..3_000_u64).prop_map(Expiry::At),
        (0..500_u64).prop_map(Expiry::After)
    ];
    prop_oneof![
        (value(), expiry, condition(), any::<bool>())
            .prop_map(|(value, expiry, when, want_old)| KeyOp::Set { value, expiry, when, want_old }),
        (condition(), any::<bool>()).prop_map(|(when, want_old)| KeyOp::Delete { when, want_old }),
        (-3..3_i64).prop_map(KeyOp::Add),
        value().prop_map(KeyOp::Append),
        (0..6_u32, value()).prop_map(|(offset, data)| KeyOp::SetRange { offset, data }),
    ]
}

/// What a key holds, in the plainest terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Plain {
    value: Option<Vec<u8>>,
    expires_at: u64,
}

impl Plain {
    /// Redis's meaning of an operation, spelt out a second time. Returns whether it changed anything.
    fn apply(&mut self, op: &KeyOp, now: u64) -> bool {
        if self.expires_at != 0 && self.expires_at <= now {
            *self = Self::default();
        }
        let was = self.value.clone();
        let holds = |when: &When| match when {
            When::Always => true,
            When::Absent => was.is_none(),
            When::Present => was.is_some(),
            When::Equals(wanted) => was.as_deref() == Some(&wanted[..]),
            When::Version(_) => unreachable!("plain values have no versions"),
        };
        match op {
            KeyOp::Set { value, expiry, when, .. } => {
                if !holds(when) {
                    return false;
                }
                let expires_at = match expiry {
                    Expiry::Clear => 0,
                    Expiry::Keep => self.expires_at,
                    Expiry::At(at) => *at,
                    Expiry::After(after) => now + after,
                };
                let dead = !matches!(expiry, Expiry::Clear | Expiry::Keep) && expires_at <= now;
                *self = if dead { Self::default() } else { Self { value: Some(value.to_vec()), expires_at } };
                true
            }
            KeyOp::Delete { when, .. } => {
                let changes = was.is_some() && holds(when);
                if changes {
                    *self = Self::default();
                }
                changes
            }
            KeyOp::Add(delta) => {
                let text = was.map_or_else(|| Ok("0".into()), String::from_utf8).unwrap_or_default();
                // Only the form in which a number is written is read: no `+7`, no `007`, no `-0`.
                let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
                let sum = number.and_then(|number| number.checked_add(*delta));
                self.value = sum.map_or_else(|| self.value.clone(), |sum| Some(sum.to_string().into_bytes()));
                sum.is_some()
            }
            KeyOp::Append(tail) => {
                let changes = was.is_none() || !tail.is_empty();
                self.value.get_or_insert_default().extend_from_slice(tail);
                changes
            }
            KeyOp::SetRange { offset, data } => {
                if data.is_empty() {
                    return false;
                }
                let (offset, value) = (*offset as usize, self.value.get_or_insert_default());
                value.resize(value.len().max(offset + data.len()), 0);
                value[offset..offset + data.len()].copy_from_slice(data);
                true
            }
            other => panic!("{other:?} is not drawn"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// C3, C4, C7: a chain of rounds means what Redis means; an operation tried again finds its own answer; what `recent`
    /// forgets is covered by `evicted_upto`, which never falls.
    #[test]
    fn a_chain_of_rounds_is_a_redis_key(steps in vec((any_op(), 0..200_u64), 1..80)) {
        let (mut record, mut plain, mut now): (Option<Record>, _, u64) = (None, Plain::default(), 1_000);
        for (number, (op, pause)) in steps.into_iter().enumerate() {
            now += pause;
            let stamp = Stamp { hlc: Hlc(Hlc::from_ms(now).0 + number as u64), node: NodeId(1) };
            let op_id = OpId { stamp, number: number as u128 };
            let before = record.clone();
            let mut draft = Draft::new(before.as_ref(), stamp, now);
            prop_assert!(draft.applied(op_id).is_none());
            let changed = plain.apply(&op, now);
            match register::evaluate(&op, before.as_ref(), now) {
                Effect::Changed { value, expires_at, outcome } => {
                    prop_assert!(changed, "{:?}", op);
                    draft.change(op_id, value, expires_at, &outcome);
                    let again = draft.applied(op_id).map(|applied| (applied.outcome.clone(), applied.stamp));
                    prop_assert_eq!(again, Some((outcome, stamp)));
                    prop_assert_eq!((draft.record.ballot, draft.record.written), (stamp, stamp));
                }
                Effect::Unchanged(_) => prop_assert!(!changed, "{:?}", op),
            }
            let live = draft.record.is_live(now).then(|| draft.record.value.clone()).flatten();
            prop_assert_eq!(live.as_deref(), plain.value.as_deref());
            prop_assert!(plain.value.is_none() || draft.record.expires_at == plain.expires_at);
            let floor = before.as_ref().map_or(Stamp::ZERO, |record| record.evicted_upto);
            prop_assert!(draft.record.evicted_upto >= floor && draft.record.recent.len() <= RECENT_MAX);
            for forgotten in before.iter().flat_map(|record| &record.recent) {
                let kept = draft.record.recent.contains(forgotten);
                prop_assert!(kept || forgotten.op_id.stamp <= draft.record.evicted_upto);
            }
            record = Some(draft.record);
        }
    }

    /// What is kept for retries is bounded, and says so when it is not the whole answer.
    #[test]
    fn a_large_answer_is_not_kept_for_retries(len in 0..2 * OUTCOME_BYTES_MAX) {
        let stamp = Stamp { hlc: Hlc::from_ms(1_000), node: NodeId(1) };
        let op_id = OpId { stamp, number: 1 };
        let outcome = Outcome::Changed { applied: true, old: Some(Bytes::from(vec![b'x'; len])) };
        let mut draft = Draft::new(None, stamp, 1_000);
        draft.remember(op_id, &outcome);
        let kept = draft.applied(op_id).map(|applied| &applied.outcome);
        prop_assert_eq!(kept, Some(if len > OUTCOME_BYTES_MAX { &Outcome::NotKept } else { &outcome }));
    }
}
