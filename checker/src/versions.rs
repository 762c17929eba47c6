//! Versions in replies: when every operation says which version it saw or made, the order is known and only has to be compared
//! with time and values, in O(n log n).

use crate::kernel::interval;
use crate::linearizability::Options;
use crate::recording::{Code, NOTHING, Record, Recording, Reply};

/// Whether the versions of a key show an order. Where they do not, nothing is proved: the values may still have one.
///
/// The order: by version, and of one version what made it before what saw it. An operation of unknown outcome has no version: it is left
/// out, and if something saw what it wrote, that has no maker and shows no order here.
pub(crate) fn show_an_order(recording: &Recording, places: &[u32], options: &Options) -> bool {
    let mut order: Vec<(u64, bool, &Record, (u64, u64))> = Vec::with_capacity(places.len());
    for at in places {
        let record = &recording.records[*at as usize];
        let Some(interval) = interval(record, options) else { continue };
        if record.reply == Reply::Unknown {
            continue;
        }
        let sees = matches!(record.code, Code::Get) || record.reply == Reply::NotApplied;
        let expires = record.expires();
        let computed = matches!(record.code, Code::Incr | Code::Append | Code::Update);
        let silent = matches!(record.code, Code::Cas | Code::PutAbsent | Code::PutPresent)
            && !matches!(record.reply, Reply::Applied | Reply::NotApplied);
        if expires || computed || silent || record.version == 0 && !sees {
            return false;
        }
        order.push((record.version, sees, record, interval));
    }
    // Readers of one version in the order of their calls: any order does among them.
    order.sort_by_key(|(version, sees, _, (call, _))| (*version, *sees, *call));
    let first = places.first().map_or(0, |at| recording.records[*at as usize].key);
    let (mut value, mut latest, mut made) = (recording.initial_value(first), 0, 0);
    for (version, sees, record, (call, ret)) in order {
        let good = follows(record, value, sees) && (sees && version == made || !sees && version > made);
        if !good || ret < latest {
            return false;
        }
        latest = latest.max(call);
        if !sees {
            made = version;
            value = if record.code == Code::Delete { NOTHING } else { record.argument };
        }
    }
    true
}

/// Whether an operation may answer as it did when the key holds `value`.
fn follows(record: &Record, value: u32, sees: bool) -> bool {
    if record.found().is_some_and(|found| found != value) {
        return false;
    }
    match (record.code, sees) {
        (Code::Get | Code::Put, _) => true,
        (Code::Delete | Code::PutPresent, true) | (Code::PutAbsent, false) => value == NOTHING,
        (Code::Delete, false) => record.reply != Reply::Applied || value != NOTHING,
        (Code::PutPresent, false) | (Code::PutAbsent, true) => value != NOTHING,
        (Code::Cas, false) => record.expected == value,
        (Code::Cas, true) => record.expected != value,
        (Code::Incr | Code::Append | Code::Update, _) => false,
    }
}
