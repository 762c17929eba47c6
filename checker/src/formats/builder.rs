//! Puts events together to operations.

use super::calls::Calls;
use super::datum::{Datum, Wrong};
use super::demands;
use super::event::{Event, Kind};
use super::reading::{FailedCas, Nil, Reading};
use super::updates;
use super::window::Window;
use super::{Format, Loaded, Place};
use crate::history::Level;
use crate::recording::{Code, Condition, Does, Initial, NOTHING, Record, Recording, Reply, Update};
use crate::transactions::Transactions;

const NOBODY: u32 = u32::MAX;

/// Puts events together.
pub(super) struct Builder<'w> {
    format: Format,
    nil: Nil,
    failed_cas: FailedCas,
    independent: bool,
    /// Whether operations have keys: as the format demands, else as the first one has it.
    keyed: Option<bool>,
    told_initial: bool,
    recording: Recording,
    transactions: Transactions,
    /// The open operation of each process, by its number; [`NOBODY`] for none.
    open: Vec<u32>,
    /// What is done with transactions.
    calls: Calls,
    failed: usize,
    events: u64,
    window: Option<Window<'w>>,
    /// Why reading ended before the input did.
    pub(super) stop: Option<Stop>,
}

/// Why reading ends before the input does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nothing more need be known.
    Decided,
    /// What comes is earlier than what was already let go of.
    OutOfOrder,
}

impl<'w> Builder<'w> {
    pub(super) fn new(format: Format, reading: &Reading, window: Option<Window<'w>>) -> Self {
        let edn = format == Format::Edn;
        let is_strict = matches!(format, Format::Jsonl | Format::Json);
        let mut recording = Recording::default();
        let initial = reading.initial.clone().or_else(|| reading.counter.then(|| b"0".to_vec()));
        if let Some(initial) = &initial {
            recording.initial = Initial::Value(recording.values.id(initial));
        }
        let log = format == Format::EtcdLog;
        Self {
            format,
            nil: reading.nil.unwrap_or(if edn { Nil::Any } else { Nil::Absent }),
            failed_cas: reading.failed_cas.unwrap_or(if log {
                FailedCas::Mismatch
            } else {
                FailedCas::DidNotHappen
            }),
            independent: reading.independent,
            keyed: (is_strict && !reading.register).then_some(true),
            told_initial: initial.is_some() || reading.initially_absent,
            recording,
            transactions: Transactions { unwritten_allowed: true, ..Transactions::default() },
            open: Vec::new(),
            calls: Calls::new(reading, edn, is_strict),
            failed: 0,
            events: 0,
            window,
            stop: None,
        }
    }

    /// Lets go of what is decided, when there is much.
    fn slide(&mut self) -> Result<(), Wrong> {
        let Some(window) = &mut self.window else { return Ok(()) };
        if !window.is_full(&self.recording) {
            return Ok(());
        }
        window.slide(&mut self.recording, &mut self.open, NOBODY);
        self.failed = 0;
        if window.is_done() { self.stop(Stop::Decided, "decided") } else { Ok(()) }
    }

    fn stop(&mut self, stop: Stop, reason: &str) -> Result<(), Wrong> {
        self.stop = Some(stop);
        Err(Wrong { at: 0, reason: reason.into() })
    }

    pub(super) fn event(&mut self, event: &Event<'_>, place: Place) -> Result<(), Wrong> {
        self.events += 1;
        if let Some(meta) = &event.meta {
            return self.meta(meta);
        }
        let Some(process) = self.process(event)? else { return Ok(()) };
        let Some(kind) = event.kind else {
            return Err(Wrong { at: 0, reason: "\"type\" is missing".into() });
        };
        if self.open.len() <= process as usize {
            self.open.resize(process as usize + 1, NOBODY);
        }
        // A completion is of what was invoked, whatever it is called.
        let transaction = match kind {
            Kind::Invoke => self.calls.is_transaction(event),
            _ => !self.calls.is_empty(),
        };
        let time = event.time.unwrap_or(self.events);
        if self.window.as_mut().is_some_and(|window| !window.on_time(time)) {
            return self
                .stop(Stop::OutOfOrder, "its time is earlier than that of much before it in the file");
        }
        let mixed = if transaction { !self.recording.records.is_empty() } else { !self.calls.is_empty() };
        if kind == Kind::Invoke && mixed {
            return Err(Wrong {
                at: 0,
                reason: "transactions and single operations are judged differently: put them into files of their own".into(),
            });
        }
        match (kind, self.open[process as usize]) {
            (Kind::Invoke, NOBODY) if transaction => {
                self.open[process as usize] = process;
                self.calls.invoke(event, process, time, place.line as u32, &mut self.transactions)
            }
            (Kind::Invoke, NOBODY) => {
                self.open[process as usize] = self.recording.records.len() as u32;
                let record = self.invoke(event, process, time, place)?;
                self.recording.records.push(record);
                self.slide()
            }
            (Kind::Invoke, _) => {
                let name = String::from_utf8_lossy(self.recording.processes.text(process)).into_owned();
                Err(Wrong {
                    at: 0,
                    reason: format!("process {name} invokes while its last operation is open"),
                })
            }
            (_, NOBODY) => {
                let name = String::from_utf8_lossy(self.recording.processes.text(process)).into_owned();
                Err(Wrong { at: 0, reason: format!("process {name} completes what it did not invoke") })
            }
            (_, _) if transaction => {
                self.open[process as usize] = NOBODY;
                self.calls.complete(event, (process, kind), time, &mut self.transactions)
            }
            (_, at) => {
                self.open[process as usize] = NOBODY;
                self.complete(at as usize, kind, event, time)
            }
        }
    }

    /// The client that an event is of, if it is of one: Jepsen's nemesis and the like never invoke.
    fn process(&mut self, event: &Event<'_>) -> Result<Option<u32>, Wrong> {
        match &event.process {
            Some(process) if process.is(b"nemesis") || *process == Datum::Nil => Ok(None),
            Some(process @ Datum::Number(_)) => Ok(Some(self.recording.processes.id(&process.name()))),
            Some(process) => {
                let process = self.recording.processes.id(&process.name());
                let is_open = self.open.get(process as usize).is_some_and(|at| *at != NOBODY);
                Ok((is_open || event.kind == Some(Kind::Invoke)).then_some(process))
            }
            None if event.kind == Some(Kind::Info) => Ok(None),
            None => Err(Wrong { at: 0, reason: "\"process\" is missing".into() }),
        }
    }

    fn meta(&mut self, meta: &Datum<'_>) -> Result<(), Wrong> {
        let Datum::Map(fields) = meta else {
            return Err(Wrong { at: 0, reason: "meta is an object".into() });
        };
        for (name, value) in fields {
            if name.is(b"nil") {
                self.nil = if value.is(b"any") { Nil::Any } else { Nil::Absent };
            } else if name.is(b"init") {
                match value {
                    Datum::Nil => {}
                    Datum::Map(keys) => {
                        for (key, value) in keys {
                            let key = self.recording.keys.id(&key.bytes());
                            let initial = match value {
                                Datum::Nil => Initial::Absent,
                                value => Initial::Value(self.recording.values.id(&value.bytes())),
                            };
                            self.recording.set_initial(key, initial);
                        }
                    }
                    value => {
                        self.recording.initial = Initial::Value(self.recording.values.id(&value.bytes()));
                    }
                }
            }
        }
        Ok(())
    }

    /// The key and the value of an event.
    fn keyed<'e, 'a>(&mut self, event: &'e Event<'a>) -> Result<(u32, Option<&'e Datum<'a>>), Wrong> {
        if self.independent {
            return match event.value.as_ref().and_then(Datum::list) {
                Some([key, value]) => {
                    if self.is_strict() {
                        demands::key(key, event.value_at)?;
                    }
                    Ok((self.recording.keys.id(&key.bytes()), Some(value)))
                }
                _ => Err(Wrong {
                    at: event.value_at,
                    reason: "with --independent a value is [key value]".into(),
                }),
            };
        }
        let named = event.key.as_ref().filter(|key| **key != Datum::Nil);
        let keyed = *self.keyed.get_or_insert(named.is_some());
        if keyed != named.is_some() {
            let reason = match (keyed, &event.key) {
                (true, None) => "\"key\" is missing".into(),
                (true, Some(_)) => "a key is a string or a number, and not null".into(),
                (false, _) => "it names a key, and operations before it do not".into(),
            };
            return Err(Wrong { at: event.key_at, reason });
        }
        if let Some(key) = named {
            if self.format == Format::Edn && !self.told_initial {
                self.told_initial = true;
                self.recording.initial = Initial::Value(self.recording.values.id(b""));
            }
            return Ok((self.recording.keys.id(&key.bytes()), event.value.as_ref()));
        }
        Ok((self.recording.keys.id(b""), event.value.as_ref()))
    }

    fn invoke(&mut self, event: &Event<'_>, process: u32, time: u64, place: Place) -> Result<Record, Wrong> {
        let Some(f) = &event.f else {
            return Err(Wrong { at: 0, reason: "\"f\" is missing".into() });
        };
        let (key, value) = self.keyed(event)?;
        let name = f.scalar().unwrap_or_default();
        demands::written(&name, value, event.value_at, self.is_strict())?;
        let value = value.unwrap_or(&Datum::Nil);
        let session = match &event.session {
            Some(session) => self.recording.processes.id(&session.name()),
            None => process,
        };
        let node = event.node.as_ref().map_or(NOTHING, |node| self.recording.processes.id(&node.name()));
        let mut record = Record {
            call: time,
            ret: time,
            number: -1,
            answer: 0,
            version: 0,
            process,
            session,
            node,
            key,
            argument: NOTHING,
            expected: NOTHING,
            seen: NOTHING,
            line: place.line as u32,
            code: Code::Get,
            reply: Reply::Unknown,
            observed: false,
            level: level(event)?,
            update: Update::default(),
        };
        match updates::asked(&name, value, event)? {
            Some((when, change)) => self.recording.describe_update(&mut record, &when, &change),
            None => self.describe(&mut record, &name, value, event)?,
        }
        Ok(record)
    }

    /// Puts into `record` what the function `name` asks with `value`.
    fn describe(
        &mut self,
        record: &mut Record,
        name: &[u8],
        value: &Datum,
        event: &Event<'_>,
    ) -> Result<(), Wrong> {
        let wrong = |reason: &str| Err(Wrong { at: event.value_at, reason: reason.into() });
        match name {
            b"get" | b"read" | b"r" => {}
            b"put" | b"write" | b"w" | b"set" => {
                if *value == Datum::Nil {
                    // Knossos: a write of nil leaves nothing.
                    record.code = Code::Delete;
                } else {
                    record.code = Code::Put;
                    record.argument = self.recording.values.id(&value.bytes());
                    record.number = event.ttl_ms.unwrap_or(-1);
                }
            }
            b"put_absent" | b"put_present" => {
                record.code = if name == b"put_absent" { Code::PutAbsent } else { Code::PutPresent };
                record.argument = self.recording.values.id(&value.bytes());
            }
            b"delete" | b"del" => record.code = Code::Delete,
            b"cas" => {
                let Some([old, new]) = value.list() else {
                    return wrong("the value of a cas is [old new]");
                };
                record.code = Code::Cas;
                if *old == Datum::Nil {
                    record.code = Code::PutAbsent;
                } else {
                    record.expected = self.recording.values.id(&old.bytes());
                }
                record.argument = self.recording.values.id(&new.bytes());
            }
            b"incr" | b"add" | b"increment" => {
                let Some(delta) = value.integer() else {
                    return wrong("the value of an incr is a whole number");
                };
                record.code = Code::Incr;
                record.number = delta;
            }
            b"append" => {
                record.code = Code::Append;
                record.argument = self.recording.values.id(&value.bytes());
            }
            other => {
                let reason = format!(
                    "f {:?} is none of get, put, put_absent, put_present, delete, cas, incr, append, setrange, expire, persist, txn",
                    String::from_utf8_lossy(other)
                );
                return Err(Wrong { at: event.value_at, reason });
            }
        }
        Ok(())
    }

    /// Whether a completion is of the key, and of the value written, with which its operation was invoked, as far as it names
    /// them.
    fn is_same(&self, at: usize, kind: Kind, event: &Event<'_>, value: Option<&Datum>) -> Result<(), Wrong> {
        let record = &self.recording.records[at];
        let key = match (&event.value, self.independent) {
            (Some(Datum::List(pair)), true) if pair.len() == 2 => Some(&pair[0]),
            (_, true) => None,
            _ => event.key.as_ref(),
        };
        let differs = |invoked: &[u8], named: &Datum| *named != Datum::Nil && *invoked != *named.bytes();
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if let Some(key) = key.filter(|key| differs(self.recording.keys.text(record.key), key)) {
            let (key, invoked) = (words(&key.bytes()), words(self.recording.keys.text(record.key)));
            let reason = format!("it completes an operation on key {key:?}, and was invoked on {invoked:?}");
            return Err(Wrong { at: 0, reason });
        }
        // Jepsen's logs say there why an outcome is not known.
        let written = value.filter(|_| record.code == Code::Put && kind == Kind::Ok);
        if let Some(value) =
            written.filter(|value| differs(self.recording.values.text(record.argument), value))
        {
            let (value, invoked) =
                (words(&value.bytes()), words(self.recording.values.text(record.argument)));
            let reason = format!("it completes a write of {value:?}, and was invoked with {invoked:?}");
            return Err(Wrong { at: event.value_at, reason });
        }
        Ok(())
    }

    fn complete(&mut self, at: usize, kind: Kind, event: &Event<'_>, time: u64) -> Result<(), Wrong> {
        let value = match (&event.value, self.independent) {
            (Some(Datum::List(pair)), true) if pair.len() == 2 => Some(&pair[1]),
            (value, _) => value.as_ref(),
        };
        self.is_same(at, kind, event, value)?;
        let record = &mut self.recording.records[at];
        if time < record.call {
            return Err(Wrong {
                at: 0,
                reason: format!("it completes at {time}, before its call at {}", record.call),
            });
        }
        record.ret = time;
        if let Some(version) = event.version.as_ref() {
            let Some(version) = version.unsigned() else {
                return Err(Wrong { at: 0, reason: "version is a whole number".into() });
            };
            record.version = version;
        }
        if let Some(node) = &event.node {
            record.node = self.recording.processes.id(&node.name());
        }
        match kind {
            Kind::Invoke | Kind::Info => {}
            Kind::Ok => {
                let updates = record.code == Code::Update;
                let (reply, answer, seen) = match &event.old {
                    Some(Datum::Nil) if updates => (Reply::Value, 0, NOTHING),
                    Some(old) if updates => (Reply::Value, 0, self.recording.values.id(&old.bytes())),
                    _ => self.answer(at, value, event.value_at)?,
                };
                let record = &mut self.recording.records[at];
                (record.reply, record.answer, record.seen) = (reply, answer, seen);
                if reply == Reply::NotApplied {
                    self.observe(at, event);
                }
            }
            Kind::Fail => {
                let tells = event.observed.as_ref().is_some_and(|seen| *seen != Datum::Nil);
                let mismatch = event.error.as_ref().is_some_and(|error| error.is(b"mismatch"))
                    || tells
                    || self.failed_cas == FailedCas::Mismatch;
                let conditional =
                    matches!(record.code, Code::Cas | Code::PutAbsent | Code::PutPresent | Code::Delete)
                        || record.code == Code::Update && record.update.when != Condition::Always;
                if mismatch && conditional {
                    record.reply = Reply::NotApplied;
                    self.observe(at, event);
                } else {
                    record.process = NOBODY;
                    self.failed += 1;
                }
            }
        }
        Ok(())
    }

    /// What a condition that did not hold found instead, where the event tells.
    fn observe(&mut self, at: usize, event: &Event<'_>) {
        let Some(seen) = &event.observed else { return };
        let seen = if *seen == Datum::Nil { NOTHING } else { self.recording.values.id(&seen.bytes()) };
        let record = &mut self.recording.records[at];
        (record.observed, record.seen) = (true, seen);
    }

    fn is_strict(&self) -> bool {
        matches!(self.format, Format::Jsonl | Format::Json)
    }

    /// What a completion says.
    fn answer(
        &mut self,
        at: usize,
        value: Option<&Datum<'_>>,
        value_at: usize,
    ) -> Result<(Reply, i64, u32), Wrong> {
        let edn = self.format == Format::Edn || self.format == Format::EtcdLog;
        Ok(match (self.recording.records[at].code, value) {
            (Code::Get, None | Some(Datum::Nil)) if self.nil == Nil::Any => (Reply::Done, 0, NOTHING),
            (Code::Get, None | Some(Datum::Nil)) => (Reply::Value, 0, NOTHING),
            (Code::Get, Some(value)) => {
                if self.is_strict() {
                    demands::single(value, value_at)?;
                }
                (Reply::Value, 0, self.recording.values.id(&value.bytes()))
            }
            (
                Code::PutAbsent | Code::PutPresent | Code::Delete | Code::Update,
                Some(Datum::Bool(applied)),
            ) => (if *applied { Reply::Applied } else { Reply::NotApplied }, 0, NOTHING),
            (Code::Cas | Code::PutAbsent | Code::PutPresent, _) => (Reply::Applied, 0, NOTHING),
            (Code::Incr | Code::Append | Code::Update, Some(number @ Datum::Number(_))) if !edn => {
                let Some(number) = number.integer() else {
                    return Err(Wrong { at: value_at, reason: "the answer is a whole number".into() });
                };
                // What EXPIRE and PERSIST answer is a yes or no.
                match (self.recording.records[at].update.does, number) {
                    (Does::Expire, 0) => (Reply::NotApplied, 0, NOTHING),
                    (Does::Expire, 1) => (Reply::Applied, 0, NOTHING),
                    _ => (Reply::Integer, number, NOTHING),
                }
            }
            _ => (Reply::Done, 0, NOTHING),
        })
    }

    /// What is left, and how many operations were let go of before.
    pub(super) fn finish(mut self) -> (Loaded, usize) {
        if !self.calls.is_empty() {
            self.calls.finish(&self.recording, &mut self.transactions);
            self.transactions.sessions = self.recording.processes;
            return (Loaded::Transactions(self.transactions), 0);
        }
        if self.failed > 0 {
            self.recording.records.retain(|record| record.process != NOBODY);
        }
        let decided = self.window.map_or(0, |window| window.close(&mut self.recording));
        (Loaded::Operations(self.recording), decided)
    }
}

fn level(event: &Event<'_>) -> Result<Level, Wrong> {
    match &event.level {
        None => Ok(Level::Strong),
        Some(level) if level.is(b"strong") => Ok(Level::Strong),
        Some(level) if level.is(b"causal") => Ok(Level::Causal),
        Some(level) if level.is(b"eventual") => Ok(Level::Eventual),
        Some(_) => Err(Wrong { at: 0, reason: "level is not strong, causal or eventual".into() }),
    }
}
