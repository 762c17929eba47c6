//! The project's own history format: JSON lines, one event a line, in Jepsen's shape.
//!
//! Read: `get`, `put` (optional `ttl_ms`), `delete`, `cas`, `incr`, `append`. An invoke without completion is unknown;
//! `fail` is left out, but for a `cas` with `"error": "mismatch"`, which answered false.

use crate::history::{Answer, Function, History, Level, Operation, Outcome};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::io::BufRead;

/// Where and why input is not a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadInput {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1; 1 where the line as a whole is meant.
    pub column: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads a history.
pub fn read(input: impl BufRead) -> Result<History, BadInput> {
    let mut history = History::default();
    let mut open: HashMap<u64, usize> = HashMap::new();
    for (at, line) in input.lines().enumerate() {
        let bad = |column: usize, reason: String| BadInput { line: at + 1, column, reason };
        let line = line.map_err(|error| bad(1, error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let event: Json =
            serde_json::from_str(&line).map_err(|error| bad(error.column(), error.to_string()))?;
        if event.get("meta").is_some() {
            continue;
        }
        take(&mut history, &mut open, &event, at as u64).map_err(|reason| bad(1, reason))?;
    }
    history.operations.retain(|operation| operation.process != FAILED);
    Ok(history)
}

/// The process of operations that certainly did not happen, until they are left out.
const FAILED: u64 = u64::MAX;

fn take(
    history: &mut History,
    open: &mut HashMap<u64, usize>,
    event: &Json,
    line: u64,
) -> Result<(), String> {
    let Some(process) = event.get("process").and_then(Json::as_u64) else {
        return if event.get("process").is_some_and(Json::is_string) {
            Ok(())
        } else {
            Err("\"process\" is missing".into())
        };
    };
    let time = event.get("time").and_then(Json::as_u64).unwrap_or(line);
    let kind = event.get("type").and_then(Json::as_str).ok_or("\"type\" is missing")?;
    if kind == "invoke" {
        if open.contains_key(&process) {
            return Err(format!("process {process} invokes while its last operation is open"));
        }
        let function = function(event)?;
        let key = event.get("key").map(text).unwrap_or_default();
        let level = match event.get("level").and_then(Json::as_str) {
            None | Some("strong") => Level::Strong,
            Some("causal") => Level::Causal,
            Some("eventual") => Level::Eventual,
            Some(other) => return Err(format!("level {other:?} is not strong, causal or eventual")),
        };
        open.insert(process, history.operations.len());
        history.operations.push(Operation {
            process,
            key,
            function,
            outcome: Outcome::Unknown,
            call: time,
            ret: time,
            level,
        });
        return Ok(());
    }
    let at =
        open.remove(&process).ok_or_else(|| format!("process {process} completes what it did not invoke"))?;
    let operation = &mut history.operations[at];
    operation.ret = time;
    match kind {
        "ok" => operation.outcome = Outcome::Ok(answer(&operation.function, event.get("value"))?),
        "info" => {}
        "fail" => {
            let mismatch = event.get("error").and_then(Json::as_str) == Some("mismatch");
            if mismatch && matches!(operation.function, Function::Cas { .. }) {
                operation.outcome = Outcome::Ok(Answer::Applied(false));
            } else {
                operation.process = FAILED;
            }
        }
        other => return Err(format!("type {other:?} is not invoke, ok, fail or info")),
    }
    Ok(())
}

fn text(value: &Json) -> Vec<u8> {
    match value {
        Json::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

fn function(event: &Json) -> Result<Function, String> {
    let value = event.get("value").unwrap_or(&Json::Null);
    Ok(match event.get("f").and_then(Json::as_str).ok_or("\"f\" is missing")? {
        "get" | "read" => Function::Get,
        "put" | "write" => {
            Function::Put { value: text(value), ttl_ms: event.get("ttl_ms").and_then(Json::as_u64) }
        }
        "delete" => Function::Delete,
        "cas" => match value.as_array().map(Vec::as_slice) {
            Some([old, new]) => Function::Cas { old: text(old), new: text(new) },
            _ => return Err("the value of a cas is [old, new]".into()),
        },
        "incr" => Function::Incr(value.as_i64().ok_or("the value of an incr is an integer")?),
        "append" => Function::Append(text(value)),
        other => return Err(format!("f {other:?} is not known")),
    })
}

fn answer(function: &Function, value: Option<&Json>) -> Result<Answer, String> {
    Ok(match (function, value) {
        (Function::Get, None | Some(Json::Null)) => Answer::Value(None),
        (Function::Get, Some(value)) => Answer::Value(Some(text(value))),
        (Function::Cas { .. }, _) => Answer::Applied(true),
        (Function::Incr(_) | Function::Append(_), Some(value)) if value.is_number() => {
            Answer::Integer(value.as_i64().ok_or("the answer of an incr is an integer")?)
        }
        (Function::Delete | Function::PutIf { .. }, Some(Json::Bool(applied))) => Answer::Applied(*applied),
        _ => Answer::Done,
    })
}

/// Writes a history that [`read`] reads back: invokes and completions in order of time.
pub fn write(history: &History) -> String {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (at, operation) in history.operations.iter().enumerate() {
        events.push((operation.call, false, at));
        if operation.outcome != Outcome::Unknown {
            events.push((operation.ret, true, at));
        }
    }
    events.sort_unstable();
    let mut lines = String::new();
    for (index, (time, is_return, at)) in events.into_iter().enumerate() {
        let operation = &history.operations[at];
        let mut event = serde_json::json!({
            "index": index, "time": time, "process": operation.process, "type": "invoke",
            "f": name(&operation.function), "key": lossy(&operation.key), "value": asked(&operation.function),
            "level": format!("{:?}", operation.level).to_lowercase(),
        });
        if let (true, Outcome::Ok(answer)) = (is_return, &operation.outcome) {
            let failed =
                matches!((&operation.function, answer), (Function::Cas { .. }, Answer::Applied(false)));
            event["type"] = if failed { "fail".into() } else { "ok".into() };
            if failed {
                event["error"] = "mismatch".into();
            }
            match answer {
                Answer::Value(value) => {
                    event["value"] = value.as_ref().map_or(Json::Null, |value| lossy(value));
                }
                Answer::Integer(number) => event["value"] = (*number).into(),
                Answer::Applied(applied) if !failed => event["value"] = (*applied).into(),
                Answer::Applied(_) | Answer::Done => {}
            }
        } else if let Function::Put { ttl_ms: Some(ttl), .. } = operation.function {
            event["ttl_ms"] = ttl.into();
        }
        lines.push_str(&event.to_string());
        lines.push('\n');
    }
    lines
}

fn lossy(bytes: &[u8]) -> Json {
    String::from_utf8_lossy(bytes).into_owned().into()
}

fn name(function: &Function) -> &'static str {
    match function {
        Function::Get => "get",
        Function::Put { .. } | Function::PutIf { .. } => "put",
        Function::Delete => "delete",
        Function::Cas { .. } => "cas",
        Function::Incr(_) => "incr",
        Function::Append(_) => "append",
    }
}

fn asked(function: &Function) -> Json {
    match function {
        Function::Get | Function::Delete => Json::Null,
        Function::Put { value, .. } | Function::PutIf { value, .. } | Function::Append(value) => lossy(value),
        Function::Cas { old, new } => serde_json::json!([lossy(old), lossy(new)]),
        Function::Incr(delta) => (*delta).into(),
    }
}
