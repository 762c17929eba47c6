//! Puts the events of transactions together.

use super::datum::{Datum, Wrong};
use super::demands;
use super::event::{Event, Kind};
use super::reading::{Nil, Reading};
use crate::recording::{NOTHING, Recording};
use crate::transactions::{Access, Transactions, Unfinished};
use std::collections::BTreeMap;

/// Transactions that were called.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent ways to read a file, and whether anything came"
)]
pub(super) struct Calls {
    /// Open ones, by process, with what they would write.
    open: BTreeMap<u32, Unfinished>,
    any: bool,
    /// Whether all operations are transactions.
    all: bool,
    /// Whether a read of nil says nothing.
    nil_is_any: bool,
    independent: bool,
    /// Whether keys and values are no lists.
    is_strict: bool,
}

impl Calls {
    pub(super) fn new(reading: &Reading, edn: bool, is_strict: bool) -> Self {
        let custom = if edn && reading.multi { Nil::Any } else { Nil::Absent };
        Self {
            open: BTreeMap::new(),
            any: false,
            all: reading.multi,
            nil_is_any: reading.nil.unwrap_or(custom) == Nil::Any,
            independent: reading.independent,
            is_strict,
        }
    }

    /// Whether there was none.
    pub(super) fn is_empty(&self) -> bool {
        !self.any
    }

    pub(super) fn is_transaction(&self, event: &Event<'_>) -> bool {
        self.all || event.f.as_ref().is_some_and(|f| f.is(b"txn"))
    }

    pub(super) fn invoke(
        &mut self,
        event: &Event<'_>,
        process: u32,
        call: u64,
        line: u32,
        into: &mut Transactions,
    ) -> Result<(), Wrong> {
        self.any = true;
        let accesses = match event.value {
            Some(_) => self.accesses(event, true, into)?,
            None => Vec::new(),
        };
        self.open.insert(process, Unfinished { session: process - 1, line, call, accesses });
        Ok(())
    }

    pub(super) fn complete(
        &mut self,
        event: &Event<'_>,
        (process, kind): (u32, Kind),
        time: u64,
        into: &mut Transactions,
    ) -> Result<(), Wrong> {
        let Some(open) = self.open.remove(&process) else { return Ok(()) };
        if kind == Kind::Fail {
            return Ok(());
        }
        if kind == Kind::Info && !matches!(event.value, Some(Datum::List(_))) {
            into.unfinished.push(open);
            return Ok(());
        }
        // Of an unknown outcome only the writes matter: whoever reads them shows that it happened.
        let accesses = self.accesses(event, kind != Kind::Ok, into)?;
        into.push(open.session, open.line, &accesses);
        into.intervals.push((open.call, if kind == Kind::Ok { time } else { u64::MAX }));
        Ok(())
    }

    fn accesses(
        &self,
        event: &Event<'_>,
        writes_only: bool,
        into: &mut Transactions,
    ) -> Result<Vec<Access>, Wrong> {
        let wrong = |reason: &str| Wrong { at: event.value_at, reason: reason.into() };
        let shape = || wrong("a transaction is a list of [f key value]");
        let mut value = event.value.as_ref();
        let mut group = None;
        if self.independent {
            let Some([key, list]) = value.and_then(Datum::list) else {
                return Err(wrong(
                    "with --independent the value of a transaction is [key [[f key value] ...]]",
                ));
            };
            (group, value) = (Some(key.bytes()), Some(list));
        }
        let mut accesses = Vec::new();
        for access in value.and_then(Datum::list).ok_or_else(shape)? {
            let Some([f, key, value]) = access.list() else {
                return Err(shape());
            };
            let write = f.is(b"w") || f.is(b"write");
            if !write && !f.is(b"r") && !f.is(b"read") {
                return Err(wrong("a transaction reads (r) and writes (w)"));
            }
            if self.is_strict {
                demands::key(key, event.value_at)?;
                demands::single(value, event.value_at)?;
            }
            let says_nothing = !write && *value == Datum::Nil && self.nil_is_any;
            if (write || !writes_only) && !says_nothing {
                let key = match &group {
                    Some(group) => into.keys.id(&[group, &b"/"[..], &key.bytes()].concat()),
                    None => into.keys.id(&key.bytes()),
                };
                let value = if *value == Datum::Nil { NOTHING } else { into.values.id(&value.bytes()) };
                accesses.push(Access { key, value, write });
            }
        }
        Ok(accesses)
    }

    /// At the end of the file: what is still open is of unknown outcome.
    pub(super) fn finish(&mut self, recording: &Recording, into: &mut Transactions) {
        into.unfinished.extend(std::mem::take(&mut self.open).into_values());
        let mut value =
            |number: u32| if number == 0 { 0 } else { into.values.id(recording.values.text(number)) };
        into.initial = value(recording.initial.value());
        into.initial_of = recording
            .initial_of
            .iter()
            .filter_map(|(key, initial)| {
                Some((into.keys.find(recording.keys.text(*key))?, value(initial.value())))
            })
            .collect();
    }
}
