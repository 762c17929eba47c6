//! The part of a history that shows a violation, as text, as JSON, and as bars and arrows for a page.

use crate::clip;
use crate::pattern::{Kind, Pattern, Relation, Step, Touch};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What a step did, as text.
fn did(step: &Step) -> String {
    if let Some(said) = &step.said {
        return said.clone();
    }
    let touch = |touch: &Touch| {
        let value = touch.value.as_deref().map_or_else(|| "nothing".into(), clip::quoted);
        format!("{} {} {value}", if touch.write { "w" } else { "r" }, clip::quoted(&touch.key))
    };
    let mut text = step.touches.iter().map(touch).collect::<Vec<_>>().join(", ");
    if step.left_out > 0 {
        let _ = write!(text, " and {} more", step.left_out);
    }
    text
}

fn client(step: &Step) -> String {
    clip::session(step.session, &step.client)
}

/// A step as one line.
fn line(step: &Step) -> String {
    let mut text = client(step);
    if step.line > 0 {
        let _ = write!(text, ", line {}", step.line);
    }
    match step.interval {
        Some((call, u64::MAX)) => {
            let _ = write!(text, " [{call}..?]");
        }
        Some((call, ret)) => {
            let _ = write!(text, " [{call}..{ret}]");
        }
        None => {}
    }
    text + ": " + &did(step)
}

/// What a relation says of the step that it begins at; steps count from 1.
fn words(relation: &Relation) -> String {
    let key = relation.key.as_deref().map(clip::quoted).unwrap_or_default();
    let to = relation.to + 1;
    match (relation.kind, relation.versions, relation.reader) {
        (Kind::Session, ..) => format!("comes before {to} in the same session"),
        (Kind::ReadsFrom, ..) => format!("wrote the {key} that {to} reads"),
        (Kind::WriteOrder, Some((older, newer)), _) => {
            format!("wrote {key} before {to} did: version {older} is older than {newer}")
        }
        (Kind::WriteOrder, None, Some(reader)) => {
            let reader = reader + 1;
            format!(
                "must have written {key} before {to} did: {reader} sees what it wrote, and reads {key} from {to}"
            )
        }
        (Kind::WriteOrder, None, None) => format!("must have written {key} before {to} did"),
        (Kind::Conflict, ..) => {
            format!("reads nothing of {key}, so that it must come before {to}, which writes it")
        }
    }
}

/// Which steps a sentence speaks of that counts them.
pub(crate) fn about(pattern: &Pattern) -> String {
    let numbers: Vec<String> = pattern.about.iter().map(|at| (at + 1).to_string()).collect();
    if numbers.len() < 2 { String::new() } else { format!(" ({} of these)", numbers.join(", ")) }
}

/// The steps and their relations, as lines.
pub(crate) fn text(text: &mut String, pattern: &Pattern) {
    let alone = if pattern.judged_alone { ", which are enough by themselves" } else { "" };
    let _ = writeln!(text, "  shown by {} of the history{alone}:", count(pattern.steps.len()));
    for (at, step) in pattern.steps.iter().enumerate() {
        let _ = writeln!(text, "    {}. {}", at + 1, line(step));
    }
    let cycle: Vec<&Relation> = pattern.relations.iter().filter(|relation| relation.of_cycle).collect();
    if !cycle.is_empty() {
        let _ = writeln!(text, "  a cycle:");
    }
    for (at, relation) in pattern.relations.iter().enumerate() {
        if at == cycle.len() {
            let _ = writeln!(text, "  {}", if cycle.is_empty() { "where" } else { "because" });
        }
        let _ = writeln!(text, "    {} {}", relation.from + 1, words(relation));
    }
}

fn count(steps: usize) -> String {
    if steps == 1 { "one step".into() } else { format!("{steps} steps") }
}

/// A step as JSON.
pub(crate) fn step_json(step: &Step) -> Value {
    let touch = |touch: &Touch| {
        json!({
            "f": if touch.write { "w" } else { "r" }, "key": clip::long(&touch.key),
            "value": touch.value.as_deref().map(clip::long),
        })
    };
    json!({
        "session": client(step), "line": (step.line > 0).then_some(step.line),
        "call": step.interval.map(|(call, _)| call),
        "ret": step.interval.map(|(_, ret)| ret).filter(|ret| *ret != u64::MAX),
        "accesses": step.touches.iter().map(touch).collect::<Vec<_>>(), "left_out": step.left_out,
        "text": line(step),
    })
}

/// The relations as JSON; `from`, `to` and `reader` are places in the list of steps, from 0.
pub(crate) fn relations_json(pattern: &Pattern) -> Value {
    let relation = |relation: &Relation| {
        json!({
            "from": relation.from, "to": relation.to, "kind": relation.kind.name(),
            "key": relation.key.as_deref().map(clip::long), "reader": relation.reader,
            "versions": relation.versions, "of_cycle": relation.of_cycle,
            "text": format!("{} {}", relation.from + 1, words(relation)),
        })
    };
    pattern.relations.iter().map(relation).collect()
}

/// The bars of a timeline: the steps in their order, and then what is near. Where the history has no times, each session stands as it went on.
pub(crate) fn bars(pattern: &Pattern) -> Vec<Value> {
    let in_cycle =
        |at: usize| pattern.relations.iter().any(|of| of.of_cycle && (of.from == at || of.to == at));
    let alone = pattern.relations.is_empty();
    let marks = (0..pattern.steps.len()).map(|at| if alone || in_cycle(at) { "cycle" } else { "why" });
    let all: Vec<(&Step, &str)> =
        pattern.steps.iter().zip(marks).chain(pattern.near.iter().map(|step| (step, "near"))).collect();
    let bar = |(at, (step, mark)): (usize, &(&Step, &str))| {
        let (call, ret) = step.interval.unwrap_or_else(|| {
            let before = all.iter().filter(|(of, _)| of.session == step.session && of.number < step.number);
            let place = before.count() as u64;
            (10 * place, 10 * place + 8)
        });
        let number = if *mark == "near" { String::new() } else { format!("{}. ", at + 1) };
        json!({
            "row": client(step), "call": call, "ret": (ret != u64::MAX).then_some(ret), "mark": mark,
            "line": format!("{number}{}", line(step)), "short": format!("{number}{}", did(step)),
        })
    };
    all.iter().enumerate().map(bar).collect()
}

/// The arrows between the bars.
pub(crate) fn arrows(pattern: &Pattern) -> Vec<Value> {
    let arrow = |relation: &Relation| {
        let key = relation.key.as_deref().map(clip::bare).unwrap_or_default();
        let label = match relation.kind {
            Kind::Session => "session".into(),
            Kind::ReadsFrom => format!("reads {key}"),
            Kind::WriteOrder => format!("order of {key}"),
            Kind::Conflict => format!("nothing of {key}"),
        };
        json!({
            "from": relation.from, "to": relation.to, "kind": relation.kind.name(), "label": label,
            "of_cycle": relation.of_cycle, "line": format!("{} {}", relation.from + 1, words(relation)),
        })
    };
    pattern.relations.iter().map(arrow).collect()
}
