//! Judgements as a page for a browser, in one file: the verdict, the explanation, and a timeline with a row for each client, which zooms with
//! the wheel, moves with a drag, and tells an operation when the pointer is on it. Of what breaks a causal level or a session guarantee there are
//! arrows between the operations, too.

use crate::history::{Operation, Outcome as Ended};
use crate::judge::{Judgement, Outcome};
use crate::linearizability::{Counterexample, Verdict};
use crate::multi;
use crate::names;
use crate::pattern::Pattern;
use crate::show;
use crate::told;
use serde_json::{Value, json};
use std::fmt::Write as _;

const STYLE: &str = include_str!("page/timeline.css");
const SCRIPT: &str = include_str!("page/timeline.js");

/// The page loads nothing: what a history could smuggle into it finds no way out.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page.
pub(crate) fn html(judgement: &Judgement, name: &str) -> String {
    let text = escape(&show::text(judgement, name));
    let name = escape(name);
    let mut body = format!("<h1>{name}: {}</h1>\n<pre>{text}</pre>\n", judgement.word());
    match &judgement.outcome {
        Outcome::Linearizability(report) => {
            if let Verdict::Violated(example) = &report.verdict {
                body.push_str(&timeline(&operations(judgement, example), &[], UNORDERED));
            }
        }
        Outcome::Transactions(Ok(Some(example))) => {
            body.push_str(&timeline(&transactions(example), &[], UNORDERED));
        }
        Outcome::Anomaly(Ok(Some(anomaly))) => {
            if let Some(pattern) = &anomaly.pattern {
                body.push_str(&of_pattern(pattern));
            }
        }
        Outcome::Anomaly(_) | Outcome::Transactions(_) => {}
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\"><title>{name}: {}</title>\n\
         <style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n",
        judgement.word()
    )
}

/// What the colours of bars mean.
const UNORDERED: &[(&str, &str)] = &[
    ("stuck", "cannot be placed"),
    ("smallest", "the smallest part without an order"),
    ("", "other operations"),
];
const RELATED: &[(&str, &str)] =
    &[("cycle", "these have no order"), ("why", "what shows it"), ("near", "others of these sessions")];

fn of_pattern(pattern: &Pattern) -> String {
    let mut section = timeline(&told::bars(pattern), &told::arrows(pattern), RELATED);
    if pattern.steps.iter().any(|step| step.interval.is_none()) {
        section.push_str("<p>The history has no times: each session stands in its own order.</p>\n");
    }
    section
}

fn operations(judgement: &Judgement, example: &Counterexample) -> Vec<Value> {
    let bar = |operation: &Operation| {
        let mark = if *operation == example.stuck {
            "stuck"
        } else if example.smallest.contains(operation) {
            "smallest"
        } else {
            ""
        };
        let ret = (operation.outcome != Ended::Unknown).then_some(operation.ret);
        json!({
            "row": names::process(&judgement.names, operation.process), "call": operation.call, "ret": ret, "mark": mark,
            "line": show::line(operation, &judgement.names),
            "short": format!("{} \u{2192} {}", show::asked(&operation.function), show::answered(&operation.outcome)),
        })
    };
    judgement.shown.iter().map(bar).collect()
}

/// Those of the smallest part, of the end of the longest order, and the one that is stuck, each once.
fn transactions(example: &multi::Counterexample) -> Vec<Value> {
    let identity = |txn: &multi::Shown| (txn.line, txn.process.clone(), txn.call);
    let smallest: Vec<_> = example.smallest.iter().map(identity).collect();
    let mut shown: Vec<&multi::Shown> = Vec::new();
    for txn in example.smallest.iter().chain(&example.last).chain([&example.stuck]) {
        if !shown.iter().any(|other| identity(other) == identity(txn)) {
            shown.push(txn);
        }
    }
    let bar = |txn: &&multi::Shown| {
        let mark = if identity(txn) == identity(&example.stuck) {
            "stuck"
        } else if smallest.contains(&identity(txn)) {
            "smallest"
        } else {
            ""
        };
        json!({
            "row": format!("process {}", txn.process), "call": txn.call, "ret": txn.ret, "mark": mark,
            "line": show::txn_line(txn), "short": show::accesses(txn),
        })
    };
    shown.iter().map(bar).collect()
}

fn timeline(bars: &[Value], arrows: &[Value], colours: &[(&str, &str)]) -> String {
    if bars.is_empty() {
        return String::new();
    }
    // Within a script element some tags would end it, or change how its end is found.
    let data = json!({ "bars": bars, "arrows": arrows }).to_string().replace('<', "\\u003c");
    let mut key = String::new();
    for (mark, meaning) in colours {
        let _ = write!(key, "<span class=\"{mark}\">{meaning}</span>");
    }
    let mut kinds: Vec<&str> = arrows.iter().filter_map(|arrow| arrow["kind"].as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let _ = write!(key, "<b class=\"{kind}\">\u{2192} {kind}</b>");
    }
    format!(
        "<p class=\"key\">{key}pale: outcome unknown</p>\n<p><label><input type=\"checkbox\" id=\"evenly\"> steps of time \
         evenly apart</label></p>\n<p id=\"about\">wheel: zoom, drag: move, pointer: details</p>\n<svg id=\"timeline\"></svg>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n<script>{SCRIPT}</script>\n"
    )
}
