//! The fast algorithms against the plain search, on thousands of small random histories: both must give the same verdict.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use samara_check::generate::{Mix, Workload, Written, generate};
use samara_check::history::{Answer, Change, Expiry, Function, History, Level, Operation, Outcome, When};
use samara_check::judge::{self, Demand};
use samara_check::linearizability::{Counterexample, Limits, Options, Verdict, check, check_recording};
use samara_check::plain;
use samara_check::recording::Recording;
use std::cell::Cell;

/// How many histories of a kind are made: `PROPTEST_CASES` where it is set.
fn cases(standard: u32) -> ProptestConfig {
    let told = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: told.unwrap_or(standard), max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    (1..4_u8).prop_map(|number| number.to_string().into_bytes())
}

/// Which functions a history is made of: register, with compare-and-set, with deletes, with times to live, with sums, appends, all.
fn function(kind: u8) -> BoxedStrategy<(Function, Answer)> {
    let get = (value(), 0..4_u8)
        .prop_map(|(value, some)| (Function::Get, Answer::Value((some > 0).then_some(value))));
    let put = value().prop_map(|value| (Function::Put { value, ttl_ms: None }, Answer::Done));
    let cas = (value(), value(), any::<bool>())
        .prop_map(|(old, new, applied)| (Function::Cas { old, new }, Answer::Applied(applied)));
    let refused =
        || (value(), 0..4_u8).prop_map(|(value, some)| Answer::Refused((some > 0).then_some(value)));
    let cas = prop_oneof![
        4 => cas,
        1 => (value(), value(), refused()).prop_map(|(old, new, answer)| (Function::Cas { old, new }, answer)),
    ];
    let delete = any::<bool>().prop_map(|applied| (Function::Delete, Answer::Applied(applied)));
    let delete = prop_oneof![4 => delete, 1 => refused().prop_map(|answer| (Function::Delete, answer))];
    let silent = prop_oneof![
        Just((Function::Delete, Answer::Done)),
        (value(), value()).prop_map(|(old, new)| (Function::Cas { old, new }, Answer::Done)),
    ];
    let put_if = (value(), any::<bool>(), any::<bool>())
        .prop_map(|(value, present, applied)| (Function::PutIf { value, present }, Answer::Applied(applied)));
    let put_if = prop_oneof![
        4 => put_if,
        1 => (value(), any::<bool>(), refused())
            .prop_map(|(value, present, answer)| (Function::PutIf { value, present }, answer)),
    ];
    let ttl = (value(), 1..6_u64)
        .prop_map(|(value, ttl)| (Function::Put { value, ttl_ms: Some(ttl) }, Answer::Done));
    let incr = (-1..3_i64, 0..5_i64, any::<bool>()).prop_map(|(delta, sum, says)| {
        (Function::Incr(delta), if says { Answer::Integer(sum) } else { Answer::Done })
    });
    let rise = (1..3_i64, 1..6_i64, 0..4_u8).prop_map(|(delta, sum, says)| {
        (Function::Incr(delta), if says > 0 { Answer::Integer(sum) } else { Answer::Done })
    });
    let append = (value(), 1..4_i64, 0..6_u8).prop_map(|(tail, length, says)| {
        (Function::Append(tail), if says == 0 { Answer::Integer(length) } else { Answer::Done })
    });
    let plain_append = value().prop_map(|tail| (Function::Append(tail), Answer::Done));
    let long = prop::collection::vec(1..4_u8, 0..4).prop_map(|digits| {
        let text: String = digits.iter().map(u8::to_string).collect();
        (Function::Get, Answer::Value((!text.is_empty()).then(|| text.into_bytes())))
    });
    match kind {
        0 => prop_oneof![get, put].boxed(),
        1 => prop_oneof![get, put, cas].boxed(),
        2 => prop_oneof![get, put, delete].boxed(),
        3 => prop_oneof![get, put, ttl].boxed(),
        4 => prop_oneof![get, rise].boxed(),
        5 => prop_oneof![long, plain_append, put].boxed(),
        6 => prop_oneof![get, put, cas, delete, put_if].boxed(),
        7 => prop_oneof![get, put, silent, ttl, cas].boxed(),
        8 => prop_oneof![get, put, swap()].boxed(),
        9 => prop_oneof![get, put, update(), update()].boxed(),
        10 => prop_oneof![get, put, ttl, update(), incr, append].boxed(),
        _ => prop_oneof![get, put, cas, delete, silent, put_if, ttl, incr, append].boxed(),
    }
}

/// Updates of values and times to live under conditions.
fn update() -> impl Strategy<Value = (Function, Answer)> {
    let when = prop_oneof![
        2 => Just(When::Always),
        1 => Just(When::Absent),
        1 => Just(When::Present),
        1 => value().prop_map(When::Equals),
    ];
    let expiry = || prop_oneof![Just(Expiry::Clear), Just(Expiry::Keep), (1..6_u64).prop_map(Expiry::After)];
    let change = prop_oneof![
        3 => (value(), expiry()).prop_map(|(value, expiry)| Change::Set { value, expiry }),
        1 => Just(Change::Delete),
        1 => (0..3_u32, prop::collection::vec(b'1'..b'4', 0..3))
            .prop_map(|(offset, data)| Change::SetRange { offset, data }),
        1 => expiry().prop_map(Change::Expire),
    ];
    let answer = prop_oneof![
        1 => Just(Answer::Done),
        3 => any::<bool>().prop_map(Answer::Applied),
        1 => (0..4_i64).prop_map(Answer::Integer),
        3 => (value(), 0..3_u8).prop_map(|(value, some)| Answer::Value((some > 0).then_some(value))),
        1 => (value(), 0..3_u8).prop_map(|(value, some)| Answer::Refused((some > 0).then_some(value))),
    ];
    (when, change, answer).prop_map(|(when, change, answer)| (Function::Update { when, change }, answer))
}

/// Updates that answer with what was there, without times to live: those that faster means decide, too.
fn swap() -> impl Strategy<Value = (Function, Answer)> {
    let change = prop_oneof![
        3 => value().prop_map(|value| Change::Set { value, expiry: Expiry::Clear }),
        1 => Just(Change::Delete),
    ];
    (change, value(), 0..4_u8).prop_map(|(change, value, some)| {
        let when = if some == 3 { When::Equals(value.clone()) } else { When::Always };
        (Function::Update { when, change }, Answer::Value((some > 0).then_some(value)))
    })
}

fn operation(kind: u8) -> impl Strategy<Value = Operation> {
    (function(kind), 0..14_u64, 0..8_u64, 0..6_u8, 0..12_u8).prop_map(
        |((function, answer), call, length, luck, level)| Operation {
            process: 0,
            key: b"k".to_vec(),
            function,
            outcome: if luck == 0 { Outcome::Unknown } else { Outcome::Ok(answer) },
            call: call * 1_000_000,
            ret: (call + length) * 1_000_000,
            level: match level {
                0 => Level::Causal,
                1 => Level::Eventual,
                _ => Level::Strong,
            },
        },
    )
}

/// Operations that may well fit: small histories of random answers seldom do.
fn history(most: usize) -> impl Strategy<Value = History> {
    (0..12_u8)
        .prop_flat_map(move |kind| prop::collection::vec(operation(kind), 0..most))
        .prop_map(|operations| History { operations })
}

fn options() -> impl Strategy<Value = Options> {
    (0..3_u64, 0..3_u64).prop_map(|(expiry, weak)| Options {
        expiry_slack: expiry * 1_000_000,
        weak_slack: weak * 1_000_000,
        ..Options::default()
    })
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Violated(_) => "violated",
        Verdict::Undecided { .. } => "undecided",
    }
}

/// The value that an operation certainly found, and the one that it can leave; empty for none.
fn demanded(operation: &Operation) -> Option<&[u8]> {
    match (&operation.function, &operation.outcome) {
        (Function::Get, Outcome::Ok(Answer::Value(value))) => Some(value.as_deref().unwrap_or_default()),
        // One that was refused with what it needs has no place, whatever was there.
        (Function::Cas { old, .. }, Outcome::Ok(Answer::Refused(value))) if value.as_ref() != Some(old) => {
            Some(value.as_deref().unwrap_or_default())
        }
        (Function::PutIf { present, .. }, Outcome::Ok(Answer::Refused(value)))
            if value.is_some() != *present =>
        {
            Some(value.as_deref().unwrap_or_default())
        }
        (Function::Cas { old, .. }, Outcome::Ok(Answer::Applied(true))) => Some(old),
        (Function::PutIf { present: false, .. }, Outcome::Ok(Answer::Applied(true))) => Some(&[]),
        _ => None,
    }
}

fn left(operation: &Operation) -> Option<&[u8]> {
    match (&operation.function, &operation.outcome) {
        (_, Outcome::Ok(Answer::Applied(false) | Answer::Refused(_))) => None,
        (Function::Put { value, .. } | Function::PutIf { value, .. }, _) => Some(value),
        (Function::Cas { old, new }, _) if old != new => Some(new),
        (Function::Delete, _) => Some(&[]),
        _ => None,
    }
}

/// A part proves nothing when what can have fed its demands is left out: what was called before they returned, and not certainly overwritten before they
/// were called.
fn keeps_what_feeds(history: &History, part: &[Operation]) {
    let simple = |operation: &Operation| {
        let lasts = !matches!(operation.function, Function::Put { ttl_ms: Some(_), .. });
        let names =
            !matches!(operation.function, Function::Incr(_) | Function::Append(_) | Function::Update { .. });
        operation.level == Level::Strong && lasts && names
    };
    let all = &history.operations;
    if !all.iter().all(simple) {
        return;
    }
    for demand in part.iter().filter(|operation| demanded(operation).is_some()) {
        let overwritten = |write: &Operation| {
            let certain = |other: &&Operation| match (&other.function, &other.outcome) {
                (Function::Put { .. } | Function::Delete, Outcome::Ok(Answer::Done)) => true,
                (_, outcome) => left(other).is_some() && *outcome == Outcome::Ok(Answer::Applied(true)),
            };
            let between = |other: &Operation| other.call > write.ret && other.ret < demand.call;
            write.outcome != Outcome::Unknown && all.iter().filter(certain).any(between)
        };
        let feeds = |write: &&Operation| {
            left(write) == demanded(demand)
                && write.call <= demand.ret
                && *write != demand
                && !overwritten(write)
        };
        for write in all.iter().filter(feeds) {
            assert!(part.contains(write), "{demand:?} stays without {write:?}: {part:?}");
        }
    }
}

/// What a counterexample says must be true by the plain search.
fn examine(history: &History, options: &Options, example: &Counterexample) {
    assert!(history.operations.contains(&example.stuck), "the operation that is stuck is of the history");
    if !example.smallest.is_empty() {
        let smallest = History { operations: example.smallest.clone() };
        let verdict = plain::check(&smallest, None, options);
        assert_ne!(word(&verdict), "holds", "the smallest part {smallest:#?}");
        assert!(word(&verdict) == "violated" || options.steps_max < Options::default().steps_max);
        keeps_what_feeds(history, &example.smallest);
    }
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn random_answers(history in history(9), options in options()) {
        let (fast, plain) = (check(&history, &options), plain::check(&history, None, &options));
        prop_assert_eq!(word(&fast), word(&plain));
        if let Verdict::Violated(example) = &fast {
            examine(&history, &options, example);
        }
    }
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn updates_are_written_and_read_back(updates in prop::collection::vec((update(), any::<bool>()), 1..6)) {
        let operation = |(at, ((function, answer), known))| {
            let ranges = matches!(function, Function::Update { change: Change::SetRange { .. }, .. });
            let said = ranges || !matches!(answer, Answer::Integer(_));
            said.then(|| Operation {
                process: at as u64,
                key: b"k".to_vec(),
                function,
                outcome: if known { Outcome::Ok(answer) } else { Outcome::Unknown },
                call: at as u64 * 10,
                ret: at as u64 * 10 + if known { 25 } else { 0 },
                level: Level::Strong,
            })
        };
        let operations: Vec<Operation> = updates.into_iter().enumerate().filter_map(operation).collect();
        let history = History { operations };
        let again = samara_check::jsonl::read(samara_check::jsonl::write(&history).as_bytes()).expect("own output");
        prop_assert_eq!(again, history);
    }
}

/// A history as a file in which operations of unknown outcome end with `info`, each of a client of its own.
fn file(history: &History) -> String {
    let text = samara_check::jsonl::write(history);
    let mut lines: Vec<(u64, String)> = Vec::new();
    for line in text.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect("own output");
        let (time, process) = (event["time"].as_u64().expect("a time"), event["process"].as_u64());
        let operation = &history.operations[process.expect("a process") as usize];
        lines.push((time, line.into()));
        if operation.outcome == Outcome::Unknown {
            let end =
                serde_json::json!({"process": process, "type": "info", "f": event["f"], "time": time + 1});
            lines.push((time + 1, end.to_string()));
        }
    }
    lines.sort_by_key(|(time, _)| *time);
    lines.into_iter().map(|(_, line)| line + "\n").collect()
}

proptest! {
    #![proptest_config(cases(20_000))]

    /// A file that is judged part by part gets the verdict of the whole, whatever its operations are.
    #[test]
    fn parts_of_random_answers(history in history(14), keep in 1..4_usize) {
        let (parts, whole) = in_parts(history, keep);
        prop_assert_eq!(parts.word(), whole);
    }

    /// The same of a store that is right, or nearly, and has few clients, so that there is much to let go of.
    #[test]
    fn parts_of_spoilt_stores(
        workload in workload(),
        spoilt in prop::option::of((any::<usize>(), any::<u8>(), value())),
        (clients, keep) in (1..4_usize, 1..8_usize),
    ) {
        let mut history = generate(&Workload { clients, lies: 0, versions: false, ..workload }).history();
        let right = spoilt.is_none();
        if let Some((at, how, other)) = spoilt {
            spoil(&mut history, at, how, other);
        }
        let (parts, whole) = in_parts(history, keep);
        prop_assert_eq!(parts.word(), whole);
        prop_assert!(whole == "holds" || !right);
        if clients == 1 && workload.unknown_per_mille == 0 && parts.operations > 30 && right && workload.mix.incr == 0 {
            prop_assert!(parts.let_go > 0);
        }
    }
}

/// The judgement when operations are let go of on the way, and the verdict of the whole.
fn in_parts(mut history: History, keep: usize) -> (judge::Judgement, &'static str) {
    for (at, operation) in history.operations.iter_mut().enumerate() {
        operation.process = at as u64;
    }
    let text = file(&history);
    let whole = samara_check::jsonl::read(text.as_bytes()).expect("own output");
    let demand = Demand { keep: Some(keep), level: Some(judge::Level::Linearizable), ..Demand::default() };
    let parts = judge::reader(text.as_bytes(), "parts", &demand).expect("own output");
    (parts, word(&check(&whole, &Options::default())))
}

fn workload() -> impl Strategy<Value = Workload> {
    let mix = (0..4_u32, 1..4_u32, 0..3_u32, 0..3_u32).prop_map(|(get, put, delete, cas)| Mix {
        get: get + 1,
        put,
        delete,
        cas,
        incr: 0,
    });
    let mix = prop_oneof![4 => mix, 1 => Just(Mix { get: 1, put: 0, delete: 0, cas: 0, incr: 2 })];
    let written = prop_oneof![Just(Written::Unique), (1..5_u64).prop_map(Written::Pool)];
    (any::<u64>(), 2..40_usize, 2..8_usize, mix, written, 0..200_u32, 0..3_usize, any::<bool>()).prop_map(
        |(seed, operations, clients, mix, written, unknown_per_mille, lies, versions)| Workload {
            seed,
            operations,
            clients,
            keys: 1,
            written,
            mix,
            unknown_per_mille,
            versions,
            lies,
        },
    )
}

proptest! {
    #![proptest_config(cases(20_000))]

    /// Histories of a store that is right but for a planted lie, which most often have an order.
    #[test]
    fn recorded_stores(workload in workload()) {
        let recording = generate(&workload);
        let history = recording.history();
        let options = Options::default();
        let fast = check_recording(&recording, &options, &Limits::default()).verdict;
        let plain = plain::check(&history, None, &options);
        prop_assert_eq!(word(&fast), word(&plain));
        if workload.lies == 0 {
            prop_assert_eq!(word(&fast), "holds");
        }
        if let Verdict::Violated(example) = &fast {
            examine(&history, &options, example);
        }
        // As it is written and read back, it is the same.
        let again = samara_check::jsonl::read(samara_check::jsonl::write(&history).as_bytes()).expect("own output");
        prop_assert_eq!(word(&check(&again, &options)), word(&plain));
        prop_assert_eq!(Recording::of(&again).records.len(), recording.records.len());
    }
}

/// What a store that is nearly right answers: one operation of the recording got another answer, another end, or none.
fn spoil(history: &mut History, at: usize, how: u8, other: Vec<u8>) {
    let count = history.operations.len().max(1);
    let Some(operation) = history.operations.get_mut(at % count) else { return };
    match (how % 3, &mut operation.outcome) {
        (0, Outcome::Ok(Answer::Refused(found))) => *found = Some(other).filter(|found| found.len() < 3),
        (0, Outcome::Ok(Answer::Applied(applied))) => *applied = !*applied,
        (0, Outcome::Ok(Answer::Integer(number))) => *number += 1,
        (0, Outcome::Ok(Answer::Value(value))) => *value = Some(other).filter(|value| value.len() < 3),
        (1, _) => operation.ret = operation.call + (operation.ret - operation.call) / 8,
        (_, outcome) => *outcome = Outcome::Unknown,
    }
}

/// Steps of the plain search for a history that may be beyond it.
const PLAIN_STEPS: u64 = 200_000;

/// Few values, conditions, deletes, many unknown outcomes, and one to three answers spoilt: most often the verdict hangs by a hair.
#[test]
fn spoilt_stores() {
    let config = ProptestConfig { source_file: Some(file!()), ..cases(20_000) };
    let (histories, beyond) = (config.cases, Cell::new(0));
    let spoilt = prop::collection::vec((any::<usize>(), any::<u8>(), value()), 1..4);
    let compared = TestRunner::new(config).run(&(workload(), spoilt), |(workload, spoilt)| {
        let unknown_per_mille = workload.unknown_per_mille * 2;
        let workload = Workload { lies: 0, versions: false, unknown_per_mille, ..workload };
        let mut history = generate(&workload).history();
        for (at, how, other) in spoilt {
            spoil(&mut history, at, how, other);
        }
        let few = Options { steps_max: PLAIN_STEPS, ..Options::default() };
        let (fast, plain) = (check(&history, &Options::default()), plain::check(&history, None, &few));
        prop_assert_ne!(word(&fast), "undecided");
        if word(&plain) == "undecided" {
            beyond.set(beyond.get() + 1);
            return Ok(());
        }
        prop_assert_eq!(word(&fast), word(&plain));
        if let Verdict::Violated(example) = &fast {
            examine(&history, &few, example);
        }
        Ok(())
    });
    compared.unwrap_or_else(|failed| panic!("{failed}"));
    assert!(
        beyond.get() * 20 < histories,
        "the plain search decided all but {} of {histories}",
        beyond.get()
    );
}

/// Histories so long that the frontier is cut and the search goes back.
fn long_workload() -> impl Strategy<Value = Workload> {
    let mix = (1..4_u32, 1..4_u32, 0..3_u32, 0..4_u32).prop_map(|(get, put, delete, cas)| Mix {
        get,
        put,
        delete,
        cas,
        incr: 0,
    });
    (any::<u64>(), 40..160_usize, 6..16_usize, mix, 1..24_u64, 0..300_u32, 0..2_usize).prop_map(
        |(seed, operations, clients, mix, pool, unknown_per_mille, lies)| Workload {
            seed,
            operations,
            clients,
            keys: 1,
            written: Written::Pool(pool),
            mix,
            unknown_per_mille,
            versions: false,
            lies,
        },
    )
}

/// What was known when so many operations had returned.
fn prefix(history: &History, count: usize) -> History {
    let known = |operation: &&Operation| operation.outcome != Outcome::Unknown;
    let mut returns: Vec<u64> =
        history.operations.iter().filter(known).map(|operation| operation.ret).collect();
    returns.sort_unstable();
    let Some(end) = count.checked_sub(1).map(|last| returns[last]) else { return History::default() };
    let called = history.operations.iter().filter(|operation| operation.call <= end);
    let operations = called.map(|operation| {
        let known = operation.outcome != Outcome::Unknown && operation.ret <= end;
        let outcome = if known { operation.outcome.clone() } else { Outcome::Unknown };
        Operation { outcome, ..operation.clone() }
    });
    History { operations: operations.collect() }
}

#[test]
fn what_was_decided_of_an_undecided_history_has_an_order() {
    let (mut undecided, mut decided) = (0, 0);
    for seed in 0..60 {
        let workload = Workload {
            seed,
            operations: 400,
            clients: 12,
            written: Written::Pool(3),
            mix: Mix { get: 3, put: 2, delete: 1, cas: 3, incr: 0 },
            unknown_per_mille: 60,
            ..Workload::default()
        };
        let recording = generate(&workload);
        let few = Options { steps_max: 40 + seed * 20, ..Options::default() };
        let report = check_recording(&recording, &few, &Limits::default());
        let Some(key) = report.undecided.first() else { continue };
        undecided += 1;
        decided += key.decided;
        let prefix = prefix(&recording.history(), key.decided);
        assert_eq!(
            word(&check(&prefix, &Options::default())),
            "holds",
            "seed {seed}: {} operations",
            key.decided
        );
    }
    assert!(
        undecided > 10 && decided > 10 * undecided,
        "{undecided} undecided, {decided} operations decided"
    );
}

proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    fn long_histories_of_few_values(workload in long_workload()) {
        let recording = generate(&workload);
        let options = Options { steps_max: 300_000, ..Options::default() };
        let fast = check_recording(&recording, &options, &Limits::default()).verdict;
        let plain = plain::check(&recording.history(), None, &Options { steps_max: 30_000, ..Options::default() });
        prop_assert!(workload.lies > 0 || !matches!(fast, Verdict::Violated(_)), "a right store is not violated");
        if !matches!(fast, Verdict::Undecided { .. }) && !matches!(plain, Verdict::Undecided { .. }) {
            prop_assert_eq!(word(&fast), word(&plain));
        }
        if let Verdict::Violated(example) = &fast {
            let smallest = History { operations: example.smallest.clone() };
            let again = plain::check(&smallest, None, &Options { steps_max: 30_000, ..Options::default() });
            prop_assert!(example.smallest.is_empty() || word(&again) != "holds", "the smallest part");
        }
    }
}
