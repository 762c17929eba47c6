//! Transactions on several registers as one object, against an enumeration of all orders, and what their files may look like.

use proptest::prelude::*;
use samara_check::formats::{self, Loaded, Nil, Reading};
use samara_check::judge::{Demand, Level, Outcome, reader};
use samara_check::linearizability::{Limits, Options};
use samara_check::multi::{Counterexample, check};
use samara_check::transactions::{Access, Transactions};

/// A transaction: session, accesses `(key, value, write)`, call and return; no return for an unknown outcome.
type Txn = (u32, Vec<(u32, u32, bool)>, u64, Option<u64>);

fn history(txns: &[Txn]) -> Transactions {
    let mut history = Transactions::default();
    (0..8_u8).for_each(|name| {
        history.keys.id(&[b'k', b'0' + name]);
        history.values.id(&[b'v', b'0' + name]);
        history.sessions.id(&[b's', b'0' + name]);
    });
    for (session, accesses, call, ret) in txns {
        let accesses: Vec<Access> = accesses
            .iter()
            .filter(|(_, _, write)| *write || ret.is_some())
            .map(|(key, value, write)| Access { key: *key, value: *value, write: *write })
            .collect();
        history.push(*session, 0, &accesses);
        history.intervals.push((*call, ret.unwrap_or(u64::MAX)));
    }
    history
}

/// Whether some order fits, by trying all. `left`: those that are not in it yet.
fn has_order(txns: &[Txn], left: u32, state: &[u32]) -> bool {
    let is_left = |at: usize| left & (1 << at) != 0;
    let must = (0..txns.len()).filter(|at| is_left(*at) && txns[*at].3.is_some());
    let Some(first) = must.filter_map(|at| txns[at].3).min() else { return true };
    (0..txns.len()).filter(|at| is_left(*at) && txns[*at].2 <= first).any(|at| {
        let mut next = state.to_vec();
        let fits = txns[at].1.iter().all(|(key, value, write)| {
            let held = &mut next[*key as usize];
            if *write {
                *held = *value;
            }
            *held == *value || txns[at].3.is_none()
        });
        fits && has_order(txns, left & !(1 << at), &next)
    })
}

fn judged(txns: &[Txn]) -> Option<Counterexample> {
    check(&history(txns), &Options::default(), &Limits::default()).expect("decided")
}

fn txn(keys: u32, values: u32) -> impl Strategy<Value = Txn> {
    let access = (1..=keys, 0..=values, any::<bool>())
        .prop_map(|(key, value, write)| (key, if write { value.max(1) } else { value }, write));
    (prop::collection::vec(access, 1..4), 0..20_u64, 0..12_u64, 0..6_u8)
        .prop_map(|(accesses, call, length, luck)| (0, accesses, call, (luck > 0).then_some(call + length)))
}

fn cases(standard: u32) -> ProptestConfig {
    let told = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: told.unwrap_or(standard), max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

/// Runs transactions one after the other on right registers: each takes effect at a point within its interval.
fn run(shapes: &[Txn], seed: u64) -> Vec<Txn> {
    let mut state = [0; 8];
    let mut order: Vec<usize> = (0..shapes.len()).collect();
    let point = |at: usize| {
        let (_, _, call, ret) = &shapes[at];
        let length = ret.map_or(15, |ret| ret - call);
        call * 100 + (seed.wrapping_mul(at as u64 * 2 + 1) >> 7) % (length * 100 + 1)
    };
    order.sort_by_key(|at| (point(*at), *at));
    let mut txns = shapes.to_vec();
    for at in order {
        let txn = &mut txns[at];
        txn.2 *= 100;
        txn.3 = txn.3.map(|ret| ret * 100);
        if txn.3.is_none() && seed.is_multiple_of(3) {
            continue;
        }
        for (key, value, write) in &mut txn.1 {
            if *write { state[*key as usize] = *value } else { *value = state[*key as usize] }
        }
    }
    txns
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn random_transactions(
        (keys, txns) in (1..4_u32).prop_flat_map(|keys| (Just(keys), prop::collection::vec(txn(keys, 2), 0..8)))
    ) {
        let _ = keys;
        let expected = has_order(&txns, (1 << txns.len()) - 1, &[0; 8]);
        prop_assert_eq!(judged(&txns).is_none(), expected);
    }

    /// What right registers answered, with one answer spoilt or none.
    #[test]
    fn transactions_of_right_registers(
        shapes in prop::collection::vec(txn(3, 3), 1..10),
        seed in any::<u64>(),
        spoilt in prop::option::of((any::<usize>(), 0..4_u32)),
    ) {
        let mut txns = run(&shapes, seed);
        if let Some((at, value)) = spoilt {
            let count = txns.len();
            let txn = &mut txns[at % count];
            if let Some(read) = txn.1.iter_mut().find(|access| !access.2) {
                read.1 = value;
            }
        }
        let expected = has_order(&txns, (1 << txns.len()) - 1, &[0; 8]);
        prop_assert!(expected || spoilt.is_some());
        let found = judged(&txns);
        prop_assert_eq!(found.is_none(), expected);
        if let Some(example) = found {
            prop_assert!(!example.smallest.is_empty());
            prop_assert!(example.prefix >= example.last.len());
            prop_assert!(example.stuck.ret.is_some());
        }
    }
}

/// A long history of right registers: clients, one transaction after the other; of one in fifty the outcome is unknown. `values`: so many, or each once.
fn long(count: usize, seed: u64, (clients, values): (usize, Option<u64>), lie: bool) -> Transactions {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 20) % below
    };
    let mut free = vec![0_u64; clients];
    let mut shapes: Vec<Txn> = Vec::new();
    let mut written = 0;
    for at in 0..count {
        let client = at % clients;
        let call = free[client] + next(4);
        let ret = call + next(30);
        free[client] = ret + 1;
        let accesses = (0..=next(3)).map(|_| {
            written += 1;
            let value = values.map_or(written, |values| next(values) as u32 + 1);
            (next(5) as u32 + 1, value, next(2) == 0)
        });
        shapes.push((client as u32, accesses.collect(), call, (next(50) > 0).then_some(ret)));
    }
    let mut txns = run(&shapes, seed * 3 + 1);
    if lie {
        // A read in the second half sees what the register held in the first tenth.
        let old = txns[count / 10].1.iter().find(|access| access.2).copied();
        let (key, value, _) = old.unwrap_or((1, 7, true));
        let reads = |txn: &&mut Txn| txn.3.is_some() && txn.1[0].0 == key && !txn.1[0].2;
        txns.iter_mut().skip(count / 2).find(reads).expect("one that reads").1[0].1 = value;
    }
    let mut history = history(&txns);
    (0..written.max(8)).for_each(|value| {
        history.values.id(format!("value {value}").as_bytes());
    });
    history
}

fn verdict(history: &Transactions) -> &'static str {
    let options = Options { steps_max: 300_000, ..Options::default() };
    match check(history, &options, &Limits::default()) {
        Ok(None) => "holds",
        Ok(Some(_)) => "violated",
        Err(_) => "undecided",
    }
}

/// Clients, and how many values there are; whether both verdicts are found for certain.
const SHAPES: [(usize, Option<u64>, bool, bool); 5] = [
    (20, None, true, true),
    (5, Some(6), true, false),
    (8, Some(6), true, false),
    (10, Some(20), false, false),
    (20, Some(100), false, false),
];

#[test]
fn long_histories_are_decided() {
    for seed in 1..20 {
        for (clients, values, holds, violated) in SHAPES {
            let shape = (clients, values);
            let found = verdict(&long(2_000, seed, shape, false));
            assert!(found == "holds" || !holds && found == "undecided", "{shape:?}, seed {seed}: {found}");
            if violated {
                assert_eq!(verdict(&long(2_000, seed, shape, true)), "violated", "{shape:?}, seed {seed}");
            }
        }
    }
}

const SKEW: &str = "{:process 0, :type :invoke, :f :txn, :value [[:r :x nil] [:w :y 1]], :time 0}
{:process 1, :type :invoke, :f :txn, :value [[:r :y nil] [:w :x 1]], :time 1}
{:process 0, :type :ok, :f :txn, :value [[:r :x 0] [:w :y 1]], :time 2}
{:process 1, :type :ok, :f :txn, :value [[:r :y 0] [:w :x 1]], :time 3}
";

fn word(text: &str, reading: Reading) -> &'static str {
    let demand = Demand { reading, ..Demand::default() };
    reader(text.as_bytes(), "history", &demand).expect("a history").word()
}

fn multi() -> Reading {
    Reading { multi: true, ..Reading::default() }
}

#[test]
fn write_skew_is_found_only_as_one_object() {
    let zero = Reading { initial: Some(b"0".to_vec()), ..multi() };
    assert_eq!(word(SKEW, zero.clone()), "violated");
    let demand = Demand { reading: zero, ..Demand::default() };
    let judgement = reader(SKEW.as_bytes(), "skew", &demand).expect("a history");
    assert_eq!(judgement.level, Level::Linearizable);
    let Outcome::Transactions(Ok(Some(example))) = &judgement.outcome else { panic!("a counterexample") };
    assert_eq!((example.registers, example.smallest.len(), example.prefix), (2, 2, 1));
    let text = judgement.text("skew");
    let (first, second) =
        ("line 1, [0..2] process 0: r x \"0\", w y \"1\"", "line 2, [1..3] process 1: r y \"0\", w x \"1\"");
    assert!(
        text.contains(&format!("these 2 transactions have no order:\n    {first}\n    {second}\n")),
        "{text}"
    );
    assert!(
        text.contains(&format!("the longest order has 1 transactions; it ends with:\n    {first}\n")),
        "{text}"
    );
    assert!(text.contains(&format!("for this one returns next:\n    {second}\n")), "{text}");
    let json: serde_json::Value = serde_json::from_str(&judgement.json("skew")).expect("JSON");
    let shown = &json["counterexample"];
    assert_eq!(shown["smallest"], serde_json::json!([first, second]));
    assert_eq!(
        (&shown["prefix"], &shown["stuck"]),
        (&serde_json::json!([first]), &serde_json::json!(second))
    );
    assert_eq!((&shown["prefix_operations"], &shown["registers"]), (&1.into(), &2.into()));
    assert_eq!(word(SKEW, Reading::default()), "holds", "causally both may be");
}

#[test]
fn nil_is_any_value_for_knossos_and_the_initial_one_else() {
    let text = SKEW.replace(":x 0", ":x nil");
    let zero = |nil| Reading { initial: Some(b"0".to_vec()), nil, ..multi() };
    assert_eq!(word(&text, zero(None)), "holds");
    assert_eq!(word(&text, zero(Some(Nil::Absent))), "violated");
}

#[test]
fn what_was_called_and_never_ended_may_have_happened() {
    let start = "{:process 0, :type :invoke, :f :txn, :value [[:w :x 1]]}\n";
    let read = "{:process 1, :type :invoke, :f :txn, :value [[:r :x nil]]}\n{:process 1, :type :ok, :f :txn, :value [[:r :x 1]]}\n";
    assert_eq!(word(&format!("{start}{read}"), multi()), "holds");
    for (end, expected) in
        [("info, :error :timeout", "holds"), ("info, :value :gone", "holds"), ("fail", "violated")]
    {
        let end = format!("{{:process 0, :f :txn, :type :{end}}}\n");
        assert_eq!(word(&format!("{start}{end}{read}"), multi()), expected, "{end}");
    }
}

#[test]
fn independent_groups_are_objects_of_their_own() {
    let group = |group: u8, value: u8| {
        format!(
            "{{:process {group}, :type :invoke, :f :read, :value [{group} [[:r :x nil]]]}}\n{{:process {group}, :type :ok, :f :read, :value [{group} [[:r :x {value}]]]}}\n"
        )
    };
    let independent = || Reading { independent: true, initial: Some(b"0".to_vec()), ..multi() };
    assert_eq!(word(&(group(1, 0) + &group(2, 0)), independent()), "holds");
    assert_eq!(word(&(group(1, 0) + &group(2, 5)), independent()), "violated");
}

#[test]
fn what_cannot_be_judged_is_said() {
    let text = "w x 1\n-----\nr x 1\n";
    let demand = Demand { level: Some(Level::Linearizable), ..Demand::default() };
    let judgement = reader(text.as_bytes(), "awdit", &demand).expect("a history");
    assert_eq!(judgement.word(), "undecided");
    assert!(judgement.text("awdit").contains("does not say when transactions began"));
    let Ok(Loaded::Transactions(history)) =
        formats::read(SKEW.replace(" 0]", " nil]").as_bytes(), None, &Reading::default())
    else {
        panic!("transactions")
    };
    let few = Options { steps_max: 1, ..Options::default() };
    let reason = check(&history, &few, &Limits::default()).expect_err("too few steps");
    assert!(reason.contains("the limit was reached for 1 of 1 groups"), "{reason}");
    let bad = "{:process 0, :type :invoke, :f :txn, :value [[:cas :x 1]]}";
    let bad =
        reader(bad.as_bytes(), "file", &Demand { reading: multi(), ..Demand::default() }).expect_err("bad");
    assert_eq!(bad, "file:1:45: a transaction reads (r) and writes (w)");
}
