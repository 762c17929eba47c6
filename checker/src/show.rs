//! Judgements as text and as JSON.

use crate::causal::Anomaly;
use crate::clip::quoted as short;
use crate::history::{Answer, Change, Expiry, Function, Level, Operation, Outcome as Ended, When};
use crate::judge::{Judgement, Outcome};
use crate::linearizability::{Counterexample, Report, Verdict};
use crate::multi;
use crate::names::{self, Names};
use crate::pattern::{Pattern, Step, Touch};
use crate::recording::{Code, NOTHING, Record, Recording, Reply};
use crate::told;
use std::fmt::Write as _;

/// The longest order that is printed.
const PREFIX_SHOWN: usize = 20;
/// How many operations before the one that is stuck are shown on a timeline.
const AROUND: usize = 150;

/// What an operation asked, as text.
pub(crate) fn asked(function: &Function) -> String {
    match function {
        Function::Get => "get".into(),
        Function::Put { value, ttl_ms: None } => format!("put {}", short(value)),
        Function::Put { value, ttl_ms: Some(ttl) } => format!("put {} for {ttl} ms", short(value)),
        Function::PutIf { value, present: false } => format!("put {} if absent", short(value)),
        Function::PutIf { value, present: true } => format!("put {} if present", short(value)),
        Function::Delete => "delete".into(),
        Function::Cas { old, new } => format!("cas {} to {}", short(old), short(new)),
        Function::Incr(delta) => format!("incr {delta}"),
        Function::Append(tail) => format!("append {}", short(tail)),
        Function::Update { when, change } => format!("{}{}", changed(change), condition(when)),
    }
}

fn changed(change: &Change) -> String {
    let until = |expiry: &Expiry| match expiry {
        Expiry::Clear => String::new(),
        Expiry::Keep => " keeping its time to live".into(),
        Expiry::After(ttl) => format!(" for {ttl} ms"),
    };
    match change {
        Change::Set { value, expiry } => format!("put {}{}", short(value), until(expiry)),
        Change::Delete => "delete".into(),
        Change::SetRange { offset, data } => format!("setrange {offset} {}", short(data)),
        Change::Expire(Expiry::Clear) => "persist".into(),
        Change::Expire(expiry) => format!("expire{}", until(expiry)),
    }
}

fn condition(when: &When) -> String {
    match when {
        When::Always => String::new(),
        When::Absent => " if absent".into(),
        When::Present => " if present".into(),
        When::Equals(value) => format!(" if {}", short(value)),
    }
}

/// What an operation answered, as text.
pub(crate) fn answered(outcome: &Ended) -> String {
    match outcome {
        Ended::Unknown => "unknown".into(),
        Ended::Ok(Answer::Done) => "ok".into(),
        Ended::Ok(Answer::Value(None)) => "absent".into(),
        Ended::Ok(Answer::Value(Some(value))) => short(value),
        Ended::Ok(Answer::Applied(true)) => "applied".into(),
        Ended::Ok(Answer::Applied(false)) => "not applied".into(),
        Ended::Ok(Answer::Refused(None)) => "not applied, for it is absent".into(),
        Ended::Ok(Answer::Refused(Some(value))) => format!("not applied, for it is {}", short(value)),
        Ended::Ok(Answer::Integer(number)) => number.to_string(),
    }
}

/// An operation as one line.
pub(crate) fn line(operation: &Operation, names: &Names) -> String {
    let end = if operation.outcome == Ended::Unknown { "?".into() } else { operation.ret.to_string() };
    let process = names::process(names, operation.process);
    format!("[{}..{end}] {process} {}", operation.call, said(operation))
}

/// An operation of a recording as one line.
pub(crate) fn line_of(recording: &Recording, at: u32) -> String {
    let operation = recording.operation(at);
    line(&operation, &names::of(recording, [&operation]))
}

/// A record of a recording as a step of a pattern.
pub(crate) fn step(recording: &Recording, at: u32) -> Step {
    let record = &recording.records[at as usize];
    let operation = recording.operation(at);
    let touch = |value: u32, write: bool| Touch {
        key: operation.key.clone(),
        value: (value != NOTHING).then(|| recording.values.text(value).to_vec()),
        write,
    };
    let touches = match (record.code, record.reply) {
        (Code::Get, Reply::Value) => vec![touch(record.seen, false)],
        (Code::Put | Code::PutAbsent | Code::PutPresent, reply) if reply != Reply::NotApplied => {
            vec![touch(record.argument, true)]
        }
        (Code::Delete, reply) if reply != Reply::NotApplied => vec![touch(NOTHING, true)],
        (_, Reply::NotApplied) if record.observed => vec![touch(record.seen, false)],
        (Code::Cas, reply) if reply != Reply::NotApplied => {
            vec![touch(record.expected, false), touch(record.argument, true)]
        }
        _ => Vec::new(),
    };
    Step {
        number: at,
        session: record.session,
        client: recording.processes.text(record.session).to_vec(),
        line: record.line,
        interval: Some((record.call, if record.reply == Reply::Unknown { u64::MAX } else { record.ret })),
        touches,
        left_out: 0,
        said: Some(said(&operation)),
    }
}

fn said(operation: &Operation) -> String {
    format!("{} {} -> {}", short(&operation.key), asked(&operation.function), answered(&operation.outcome))
}

/// Tells of the steps of a pattern, which were judged as transactions, which operations they are.
pub(crate) fn as_operations(recording: &Recording, sources: &[u32], pattern: &mut Pattern) {
    for of in pattern.steps.iter_mut().chain(&mut pattern.near) {
        let Some(source) = sources.get(of.number as usize) else { continue };
        let Step { interval, said, .. } = step(recording, *source);
        (of.interval, of.said) = (interval, said);
    }
    pattern.sort();
}

/// The operations of the violated key around the one that is stuck, for a timeline.
pub(crate) fn around(recording: &Recording, example: &Counterexample) -> (Vec<Operation>, Names) {
    let Some(key) = recording.keys.find(&example.key) else { return (Vec::new(), Names::new()) };
    let end = example.stuck.ret.max(example.stuck.call);
    let mut places: Vec<u32> = (0..recording.records.len() as u32)
        .filter(|at| {
            recording.records[*at as usize].key == key && recording.records[*at as usize].call <= end
        })
        .collect();
    places.sort_by_key(|at| recording.records[*at as usize].call);
    let from = places.len().saturating_sub(AROUND);
    let mut shown: Vec<Operation> = places[from..].iter().map(|at| recording.operation(*at)).collect();
    for operation in &example.smallest {
        if !shown.contains(operation) {
            shown.push(operation.clone());
        }
    }
    let names = names::of(recording, shown.iter().chain(&example.prefix).chain([&example.stuck]));
    (shown, names)
}

/// How many reads linearizability says nothing of.
pub(crate) fn weak_reads(recording: &Recording) -> usize {
    let weak = |record: &&Record| {
        record.code == Code::Get && record.reply == Reply::Value && record.level != Level::Strong
    };
    recording.records.iter().filter(weak).count()
}

/// A judgement as text.
pub(crate) fn text(judgement: &Judgement, name: &str) -> String {
    let mut text = format!(
        "{name}: {} ({} operations, {} keys, read in {:.3} s, judged in {:.3} s)\n",
        judgement.word(),
        judgement.operations,
        judgement.keys,
        judgement.reading_seconds,
        judgement.seconds
    );
    for note in judgement.unjudged.notes().iter().chain(&judgement.notes) {
        let _ = writeln!(text, "  note: {note}");
    }
    match &judgement.outcome {
        Outcome::Linearizability(report) => linearizability(&mut text, report, &judgement.names),
        Outcome::Anomaly(Ok(Some(anomaly))) => anomaly_text(&mut text, anomaly),
        Outcome::Transactions(Ok(Some(example))) => unordered(&mut text, example),
        Outcome::Anomaly(Ok(None)) | Outcome::Transactions(Ok(None)) => {}
        Outcome::Anomaly(Err(reason)) | Outcome::Transactions(Err(reason)) => {
            let _ = writeln!(text, "  given up: {reason}");
        }
    }
    text
}

fn linearizability(text: &mut String, report: &Report, names: &Names) {
    match &report.verdict {
        Verdict::Holds => {}
        Verdict::Undecided { .. } => {
            let _ = writeln!(text, "  {} of {} keys were not decided:", report.undecided.len(), report.keys);
            for left in report.undecided.iter().take(10) {
                let (key, decided, all) = (short(&left.key), left.decided, left.operations);
                let _ = writeln!(
                    text,
                    "    {key}: {decided} of {all} operations are linearizable, then the limit was reached"
                );
            }
        }
        Verdict::Violated(example) => counterexample(text, example, names),
    }
}

fn counterexample(text: &mut String, example: &Counterexample, names: &Names) {
    let _ = writeln!(text, "  key {} is not linearizable", short(&example.key));
    if !example.smallest.is_empty() {
        let _ = writeln!(text, "  these {} operations have no order:", example.smallest.len());
        let mut smallest: Vec<&Operation> = example.smallest.iter().collect();
        smallest.sort_by_key(|operation| operation.call);
        for operation in smallest {
            let _ = writeln!(text, "    {}", line(operation, names));
        }
    }
    let count = example.prefix.len();
    if count > 0 {
        let _ = writeln!(text, "  the longest order has {count} operations; it ends with:");
    }
    for operation in &example.prefix[count.saturating_sub(PREFIX_SHOWN)..] {
        let _ = writeln!(text, "    {}", line(operation, names));
    }
    let _ =
        writeln!(text, "  and cannot go on, for this one returns next:\n    {}", line(&example.stuck, names));
}

/// What a transaction did, as text.
pub(crate) fn accesses(txn: &multi::Shown) -> String {
    let access = |(key, value, write): &(Vec<u8>, Option<Vec<u8>>, bool)| {
        let value = value.as_deref().map_or_else(|| "nil".into(), short);
        format!("{} {} {value}", if *write { "w" } else { "r" }, String::from_utf8_lossy(key))
    };
    txn.accesses.iter().map(access).collect::<Vec<_>>().join(", ")
}

/// A transaction as one line.
pub(crate) fn txn_line(txn: &multi::Shown) -> String {
    let line = if txn.line > 0 { format!("line {}, ", txn.line) } else { String::new() };
    let end = txn.ret.map_or_else(|| "?".into(), |ret| ret.to_string());
    let mut text = format!("{line}[{}..{end}] process {}: {}", txn.call, txn.process, accesses(txn));
    if txn.left_out > 0 {
        let _ = write!(text, " ({} of its reads do not matter here)", txn.left_out);
    }
    text
}

fn unordered(text: &mut String, example: &multi::Counterexample) {
    let _ = writeln!(text, "  not linearizable on {} registers", example.registers);
    if !example.smallest.is_empty() {
        let _ = writeln!(text, "  these {} transactions have no order:", example.smallest.len());
    }
    for txn in &example.smallest {
        let _ = writeln!(text, "    {}", txn_line(txn));
    }
    if example.prefix > 0 {
        let _ = writeln!(text, "  the longest order has {} transactions; it ends with:", example.prefix);
    }
    for txn in &example.last {
        let _ = writeln!(text, "    {}", txn_line(txn));
    }
    let _ =
        writeln!(text, "  and cannot go on, for this one returns next:\n    {}", txn_line(&example.stuck));
}

fn anomaly_text(text: &mut String, anomaly: &Anomaly) {
    let about = anomaly.pattern.as_ref().map(told::about).unwrap_or_default();
    let _ = writeln!(text, "  {}: {}{about}", anomaly.name, anomaly.what);
    if let Some(pattern) = &anomaly.pattern {
        told::text(text, pattern);
        return;
    }
    for (at, node) in anomaly.nodes.iter().enumerate() {
        let _ = writeln!(text, "    {node}");
        if let Some(edge) = anomaly.edges.get(at) {
            let _ = writeln!(text, "      {edge}");
        }
    }
    if let (Some(first), false) = (anomaly.nodes.first(), anomaly.edges.is_empty()) {
        let _ = writeln!(text, "    {first} (again)");
    }
}

fn anomaly_json(anomaly: &Anomaly) -> serde_json::Value {
    let mut json = serde_json::json!({
        "anomaly": anomaly.name, "what": anomaly.what, "nodes": anomaly.nodes, "edges": anomaly.edges,
    });
    if let Some(pattern) = &anomaly.pattern {
        json["steps"] = pattern.steps.iter().map(told::step_json).collect();
        json["relations"] = told::relations_json(pattern);
        json["about"] = pattern.about.clone().into();
        json["judged_alone"] = pattern.judged_alone.into();
    }
    json
}

/// A judgement as JSON.
pub(crate) fn json(judgement: &Judgement, name: &str) -> serde_json::Value {
    let line = |operation: &Operation| line(operation, &judgement.names);
    let lines = |operations: &[Operation]| operations.iter().map(line).collect::<Vec<_>>();
    let mut undecided = Vec::new();
    let counterexample = match &judgement.outcome {
        Outcome::Linearizability(report) => {
            for left in &report.undecided {
                undecided.push(serde_json::json!({
                    "key": String::from_utf8_lossy(&left.key), "operations": left.operations, "decided": left.decided,
                }));
            }
            match &report.verdict {
                Verdict::Violated(example) => serde_json::json!({
                    "key": String::from_utf8_lossy(&example.key),
                    "smallest": lines(&example.smallest),
                    "prefix": lines(&example.prefix[example.prefix.len().saturating_sub(PREFIX_SHOWN)..]),
                    "prefix_operations": example.prefix.len(),
                    "stuck": line(&example.stuck),
                }),
                _ => serde_json::Value::Null,
            }
        }
        Outcome::Anomaly(Ok(Some(anomaly))) => anomaly_json(anomaly),
        Outcome::Transactions(Ok(Some(example))) => {
            let lines = |txns: &[multi::Shown]| txns.iter().map(txn_line).collect::<Vec<_>>();
            serde_json::json!({
                "registers": example.registers, "smallest": lines(&example.smallest),
                "prefix": lines(&example.last), "prefix_operations": example.prefix,
                "stuck": txn_line(&example.stuck),
            })
        }
        Outcome::Anomaly(_) | Outcome::Transactions(_) => serde_json::Value::Null,
    };
    let given_up = match &judgement.outcome {
        Outcome::Anomaly(Err(reason)) | Outcome::Transactions(Err(reason)) => Some(reason),
        _ => None,
    };
    let counts = judgement.unjudged.counts().into_iter();
    let unjudged: serde_json::Map<_, _> =
        counts.map(|(what, count)| (what.to_owned(), count.into())).collect();
    serde_json::json!({
        "file": name, "verdict": judgement.word(), "level": judgement.level_name,
        "operations": judgement.operations, "keys": judgement.keys, "seconds": judgement.seconds,
        "reading_seconds": judgement.reading_seconds, "counterexample": counterexample,
        "undecided": undecided, "given_up": given_up, "not_judged": unjudged,
        "notes": judgement.unjudged.notes().iter().chain(&judgement.notes).collect::<Vec<_>>(),
    })
}
