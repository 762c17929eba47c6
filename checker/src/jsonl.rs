//! The project's own history format: JSON lines, one event a line, in Jepsen's shape.
//!
//! `f` is one of `get`, `put` (optional `ttl_ms`, `keep_ttl`, `when`), `put_absent`, `put_present`, `delete` (optional `when`), `cas`, `incr`, `append`,
//! `setrange`, `expire`, `persist`. `ok` of a
//! conditional put or a delete may carry whether it changed anything. An invoke without completion is unknown; `fail` is left
//! out, but for a `cas` with `"error": "mismatch"`, which found another value (`"observed"`, where known, which must explain it).

use crate::formats::datum::to_base64;
use crate::formats::{self, Format, Loaded, Reading};
use crate::history::{Answer, Change, Expiry, Function, History, Outcome, When};
use serde_json::Value as Json;
use std::io::BufRead;

pub use crate::formats::BadInput;

/// Reads a history.
pub fn read(input: impl BufRead) -> Result<History, BadInput> {
    match formats::read(input, Some(Format::Jsonl), &Reading::default())? {
        Loaded::Operations(recording) => Ok(recording.history()),
        Loaded::Transactions(_) => Err(BadInput {
            line: 1,
            column: 1,
            reason: "transactions are no operations on single keys".into(),
        }),
    }
}

/// Writes a history that [`read`] reads back: invokes and completions in order of time.
pub fn write(history: &History) -> String {
    // At equal times a process returns before it calls again; the times say that these are concurrent with others.
    let mut events: Vec<(u64, u8, usize)> = Vec::new();
    for (at, operation) in history.operations.iter().enumerate() {
        events.push((operation.call, 1, at));
        if operation.outcome != Outcome::Unknown {
            events.push((operation.ret, if operation.ret > operation.call { 0 } else { 2 }, at));
        }
    }
    events.sort_unstable();
    let mut lines = String::new();
    for (index, (time, phase, at)) in events.into_iter().enumerate() {
        let is_return = phase != 1;
        let operation = &history.operations[at];
        let mut event = serde_json::json!({
            "index": index, "time": time, "process": operation.process, "type": "invoke",
            "f": name(&operation.function), "key": text(&operation.key), "value": asked(&operation.function),
            "level": format!("{:?}", operation.level).to_lowercase(),
        });
        if let (true, Outcome::Ok(answer)) = (is_return, &operation.outcome) {
            let refused = matches!(answer, Answer::Applied(false) | Answer::Refused(_));
            let failed = refused && matches!(operation.function, Function::Cas { .. });
            event["type"] = if failed { "fail".into() } else { "ok".into() };
            if failed {
                event["error"] = "mismatch".into();
            }
            match answer {
                Answer::Value(value) if matches!(operation.function, Function::Update { .. }) => {
                    event["old"] = value.as_ref().map_or(Json::Null, |value| text(value));
                }
                Answer::Value(value) => {
                    event["value"] = value.as_ref().map_or(Json::Null, |value| text(value));
                }
                Answer::Integer(number) => event["value"] = (*number).into(),
                Answer::Applied(_) | Answer::Refused(_) | Answer::Done => {}
            }
            match answer {
                Answer::Applied(applied) if !failed => event["value"] = (*applied).into(),
                Answer::Refused(_) if !failed => event["value"] = false.into(),
                _ => {}
            }
            if let Answer::Refused(found) = answer {
                event["observed"] = found.as_ref().map_or(Json::Null, |value| text(value));
            }
        } else if !is_return {
            options(&operation.function, &mut event);
        }
        lines.push_str(&event.to_string());
        lines.push('\n');
    }
    lines
}

/// A string where the bytes are one, else base64.
fn text(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => serde_json::json!({"base64": to_base64(bytes)}),
    }
}

fn name(function: &Function) -> &'static str {
    match function {
        Function::Get => "get",
        Function::Put { .. } => "put",
        Function::PutIf { present: false, .. } => "put_absent",
        Function::PutIf { present: true, .. } => "put_present",
        Function::Delete => "delete",
        Function::Cas { .. } => "cas",
        Function::Incr(_) => "incr",
        Function::Append(_) => "append",
        Function::Update { change, .. } => match change {
            Change::Set { .. } => "put",
            Change::Delete => "delete",
            Change::SetRange { .. } => "setrange",
            Change::Expire(Expiry::Clear) => "persist",
            Change::Expire(_) => "expire",
        },
    }
}

/// What an operation asks for besides its value.
fn options(function: &Function, event: &mut Json) {
    let (when, change) = match function {
        Function::Put { ttl_ms: Some(ttl), .. } => {
            event["ttl_ms"] = (*ttl).into();
            return;
        }
        Function::Update { when, change } => (when, change),
        _ => return,
    };
    match when {
        // A put that may have answered with what was there before is an update even so.
        When::Always => event["when"] = "always".into(),
        When::Absent => event["when"] = "absent".into(),
        When::Present => event["when"] = "present".into(),
        When::Equals(value) => event["when"] = serde_json::json!({ "equals": text(value) }),
    }
    match change {
        Change::Set { expiry: Expiry::After(ttl), .. } | Change::Expire(Expiry::After(ttl)) => {
            event["ttl_ms"] = (*ttl).into();
        }
        Change::Set { expiry: Expiry::Keep, .. } | Change::Expire(Expiry::Keep) => {
            event["keep_ttl"] = true.into();
        }
        _ => {}
    }
}

fn asked(function: &Function) -> Json {
    match function {
        Function::Get | Function::Delete => Json::Null,
        Function::Put { value, .. } | Function::PutIf { value, .. } | Function::Append(value) => text(value),
        Function::Cas { old, new } => serde_json::json!([text(old), text(new)]),
        Function::Incr(delta) => (*delta).into(),
        Function::Update { change, .. } => match change {
            Change::Set { value, .. } => text(value),
            Change::Delete | Change::Expire(_) => Json::Null,
            Change::SetRange { offset, data } => serde_json::json!([offset, text(data)]),
        },
    }
}
