//! Records what clients asked and were answered, as JSON lines for `samara-check`.
//!
//! What was refused for certain is `fail`; what was not answered, or answered with an error that leaves it open, is `info`, and
//! its process is never heard of again.

use super::reply::Reply;
use serde_json::{Value as Json, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

/// An operation as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recorded {
    Get,
    Put(String),
    Delete,
    Cas(String, String),
    Incr,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Ok,
    Fail,
    Unknown,
}

/// First words of errors that say that nothing was done.
const REFUSALS: [&str; 9] = [
    "ERR",
    "UNAVAILABLE",
    "OVERLOADED",
    "CLOCKSKEW",
    "TOOLARGE",
    "NOAUTH",
    "NOPERM",
    "WRONGPASS",
    "CROSSSLOT",
];

/// What an answer says of the end of an operation.
pub(super) fn end(reply: Option<&Reply>) -> End {
    match reply {
        None => End::Unknown,
        Some(Reply::Error(text)) => {
            let refused = text.split(' ').next().is_some_and(|word| REFUSALS.contains(&word));
            if refused { End::Fail } else { End::Unknown }
        }
        Some(_) => End::Ok,
    }
}

/// An operation that was begun.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    process: u64,
    key: String,
    what: Recorded,
}

/// The recording.
pub(super) struct History {
    out: BufWriter<File>,
    start: Instant,
    index: u64,
    processes: u64,
    level: String,
    failure: Option<std::io::Error>,
}

impl History {
    pub(super) fn create(path: &Path, level: &str) -> Result<Self, String> {
        let file = File::create(path).map_err(|error| format!("--history {}: {error}", path.display()))?;
        Ok(Self {
            out: BufWriter::with_capacity(32 << 10, file),
            start: Instant::now(),
            index: 0,
            processes: 0,
            level: level.to_lowercase(),
            failure: None,
        })
    }

    /// The name of a client that asks one thing at a time.
    pub(super) fn process(&mut self) -> u64 {
        self.processes += 1;
        self.processes - 1
    }

    pub(super) fn invoke(&mut self, process: u64, key: String, what: Recorded) -> Begun {
        let begun = Begun { process, key, what };
        let value = match &begun.what {
            Recorded::Get | Recorded::Delete => Json::Null,
            Recorded::Put(value) => json!(value),
            Recorded::Cas(old, new) => json!([old, new]),
            Recorded::Incr => json!(1),
        };
        self.event(&begun, "invoke", Some(value), false);
        begun
    }

    /// Returns the process that goes on: a new one where the outcome is unknown.
    pub(super) fn complete(&mut self, begun: &Begun, reply: Option<&Reply>) -> u64 {
        match end(reply) {
            End::Unknown => {
                self.event(begun, "info", None, false);
                return self.process();
            }
            End::Fail => self.event(begun, "fail", None, false),
            End::Ok => {
                let applied = !matches!(reply, Some(Reply::Integer(0)));
                match (&begun.what, reply) {
                    (Recorded::Cas(..), _) if !applied => self.event(begun, "fail", None, true),
                    (Recorded::Delete, _) => self.event(begun, "ok", Some(json!(applied)), false),
                    (_, Some(Reply::Integer(number))) => self.event(begun, "ok", Some(json!(number)), false),
                    (Recorded::Get, Some(Reply::Bulk(value))) => {
                        let text = value.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                        self.event(begun, "ok", Some(json!(text)), false);
                    }
                    _ => self.event(begun, "ok", None, false),
                }
            }
        }
        begun.process
    }

    fn event(&mut self, begun: &Begun, kind: &str, value: Option<Json>, mismatch: bool) {
        let f = match begun.what {
            Recorded::Get => "get",
            Recorded::Put(_) => "put",
            Recorded::Delete => "delete",
            Recorded::Cas(..) => "cas",
            Recorded::Incr => "incr",
        };
        let mut event = json!({
            "index": self.index, "time": self.start.elapsed().as_nanos() as u64, "process": begun.process, "type": kind,
            "f": f, "key": begun.key, "level": self.level,
        });
        if let Some(value) = value {
            event["value"] = value;
        }
        if mismatch {
            event["error"] = json!("mismatch");
        }
        self.index += 1;
        if let Err(error) = writeln!(self.out, "{event}") {
            self.failure.get_or_insert(error);
        }
    }

    /// Writes out what is left.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let written = self.out.flush();
        match self.failure.take().or(written.err()) {
            Some(error) => Err(format!("--history: {error}: the history is not whole")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_refused_for_certain_did_not_happen() {
        let error = |text: &str| end(Some(&Reply::Error(text.into())));
        assert_eq!(end(None), End::Unknown);
        assert_eq!(end(Some(&Reply::Bulk(None))), End::Ok);
        assert_eq!(error("UNAVAILABLE no quorum"), End::Fail);
        assert_eq!(error("ERR unknown command"), End::Fail);
        assert_eq!(error("TIMEOUT no answer"), End::Unknown);
        assert_eq!(error("DISKFULL"), End::Unknown);
        assert_eq!(error("ERRATIC"), End::Unknown);
    }
}
