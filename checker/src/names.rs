//! How clients are called: in a [`crate::history::History`] they are numbers, and those that a recording names have numbers that no other has.

use crate::clip;
use crate::history::Operation;
use crate::recording::{NAMED, Recording};
use std::collections::BTreeMap;

/// The names of clients, by their numbers, of those that have one.
pub type Names = BTreeMap<u64, String>;

/// The names of those who did these operations.
pub(crate) fn of<'a>(recording: &Recording, all: impl IntoIterator<Item = &'a Operation>) -> Names {
    let name = |operation: &Operation| {
        let id = u32::try_from(operation.process.checked_sub(NAMED)?).ok()?;
        Some((operation.process, clip::client(id, recording.processes.text(id))))
    };
    all.into_iter().filter_map(name).collect()
}

/// A client, by its name or else by its number.
pub(crate) fn process(names: &Names, process: u64) -> String {
    names.get(&process).map_or_else(|| format!("process {process}"), |name| format!("process {name}"))
}
