//! Promises of the protocol that versions decide at once: each has a checker of its own, from what clients saw.
//!
//! An answer names the version that it saw or made, and versions rise along the one order of a key's operations. So none of
//! these checks searches, and none is ever undecided, whatever the search of the whole order comes to.

use crate::order::Witness;
use samara_check::causal::{self, Isolation};
use samara_check::history::{Answer, Function, History, Level, Operation, Outcome};
use samara_check::linearizability::Limits;
use samara_check::recording::Recording;
use samara_check::transactions::Transactions;
use samara_core::base::Stamp;
use std::collections::{BTreeMap, BTreeSet};

/// The checkers of a run, with what each is for; docs/CONSISTENCY.md names them all.
pub const CHECKERS: [(&str, &str); 11] = [
    ("invariants", "what holds after every event, whatever the clients see"),
    ("linearizable", "strong operations on a key have one order that explains every answer"),
    ("sessions", "a client never sees less than it saw or wrote before"),
    ("causal", "nobody sees an effect without its causes, across keys"),
    ("durability", "what was acknowledged is seen by whoever asks later, and is there in the end"),
    ("no_resurrection", "what was deleted does not come back"),
    ("ttl_monotone", "what a strong operation saw expired is never seen again"),
    ("exactly_once", "an operation is applied once, and never after a client was told that it was not"),
    ("walks", "a walk over the key space lists what is there throughout, each key once"),
    (
        "several_keys",
        "a command on several keys deletes what it has copied alone, and one that is refused leaves nothing",
    ),
    ("convergence", "after healing nodes serve, hints arrive, and replicas agree"),
];

/// Judges what clients saw.
pub fn check(witnesses: &[Witness]) -> Result<(), String> {
    let mut keys: BTreeMap<&[u8], Vec<&Witness>> = BTreeMap::new();
    for witness in witnesses.iter().filter(|witness| is_judged(witness)) {
        keys.entry(&witness.operation.key).or_default().push(witness);
    }
    for (key, witnesses) in &keys {
        let name = String::from_utf8_lossy(key);
        in_time(&name, witnesses)?;
        expired_for_good(&name, witnesses)?;
    }
    causes(witnesses)
}

/// Whether a majority stands behind an answer.
fn is_judged(witness: &Witness) -> bool {
    let operation = &witness.operation;
    witness.version.is_some() && operation.outcome != Outcome::Unknown && operation.level > Level::Eventual
}

/// Whether the answer tells what stood when it was asked: a weak write's version is its clock's, wherever that falls.
fn tells(witness: &Witness) -> bool {
    witness.operation.level == Level::Strong || witness.operation.function == Function::Get
}

/// Durability, no resurrection: what was acknowledged or seen before an operation began is seen by it, or something newer. That
/// a key holds nothing up to a watermark (G2) is no version: a replica that has not raised it yet still names the deletion
/// below it. But no value at or below a watermark is ever seen again, once it was there: a write of unknown outcome whose
/// first ballots fell below the watermark may still be chosen above it (C2), and keeps its version then.
fn in_time(key: &str, witnesses: &[&Witness]) -> Result<(), String> {
    let mut ended: Vec<&Witness> = witnesses.to_vec();
    ended.sort_by_key(|witness| witness.operation.ret);
    let mut begun: Vec<&Witness> = witnesses.iter().copied().filter(|witness| tells(witness)).collect();
    begun.sort_by_key(|witness| witness.operation.call);
    let known = first_known(witnesses);
    let (mut next, mut newest, mut watermarks) = (0, None::<&Witness>, Vec::new());
    for later in begun {
        while ended.get(next).is_some_and(|earlier| earlier.operation.ret < later.operation.call) {
            if ended[next].version.is_some_and(Stamp::is_bound) {
                watermarks.push(ended[next]);
            } else if newest.is_none_or(|newest| ended[next].version > newest.version) {
                newest = Some(ended[next]);
            }
            next += 1;
        }
        let was_there = |gone: &&Witness| known[&later.version] < gone.operation.call;
        let collected = watermarks.iter().copied().filter(|_| has_value(&later.operation)).filter(was_there);
        if let Some(newest) =
            newest.into_iter().chain(collected).find(|newest| newest.version > later.version)
        {
            let promise = match newest.operation.function {
                Function::Delete => "no_resurrection",
                _ if newest.version.is_some_and(Stamp::is_bound) => "no_resurrection",
                _ => "durability",
            };
            return Err(format!(
                "{promise}: {key}: what was there before is not seen any more:\n    {}\n    {}",
                line(newest),
                line(later)
            ));
        }
    }
    Ok(())
}

/// When each version was first named to anybody.
fn first_known(witnesses: &[&Witness]) -> BTreeMap<Option<Stamp>, u64> {
    let mut known = BTreeMap::new();
    for witness in witnesses {
        let first = known.entry(witness.version).or_insert(u64::MAX);
        *first = witness.operation.ret.min(*first);
    }
    known
}

/// T1: once a strong operation saw a version's value expired, none that begins later sees it. A read of the very round that made
/// the version may have seen it before its value was there (C7): such a read began before anybody had an answer of that version.
fn expired_for_good(key: &str, witnesses: &[&Witness]) -> Result<(), String> {
    let read = |witness: &&&Witness, present: bool| {
        let is_strong = witness.operation.level == Level::Strong;
        is_strong
            && matches!(&witness.operation.outcome, Outcome::Ok(Answer::Value(value)) if value.is_some() == present)
    };
    let mut gone: BTreeMap<Option<Stamp>, &Witness> = BTreeMap::new();
    let made = first_known(witnesses);
    let is_later = |witness: &Witness| made[&witness.version] < witness.operation.call;
    for witness in witnesses.iter().filter(|witness| read(witness, false) && is_later(witness)) {
        let first = gone.entry(witness.version).or_insert(witness);
        if witness.operation.ret < first.operation.ret {
            *first = witness;
        }
    }
    let is_back = |witness: &&&Witness| {
        gone.get(&witness.version).is_some_and(|gone| gone.operation.ret < witness.operation.call)
    };
    match witnesses.iter().filter(|witness| read(witness, true)).find(is_back) {
        Some(back) => {
            Err(format!("ttl_monotone: {key}: a value that had expired is seen again:\n    {}", line(back)))
        }
        None => Ok(()),
    }
}

/// Causal over keys, by the checker: every version stands for the value that it names, so that times to live, appends and
/// counters are judged like plain writes. What several operations made, or nobody who is known, is left out.
fn causes(witnesses: &[Witness]) -> Result<(), String> {
    let judged = || witnesses.iter().filter(|witness| is_judged(witness));
    let (mut made, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for witness in judged().filter(|witness| makes(&witness.operation)) {
        let place = (&witness.operation.key, witness.version);
        if !made.insert(place) {
            shared.insert(place);
        }
    }
    // An operation that is not judged may have made one of these versions, too: a combined round has one for all.
    let known = |witness: &Witness| {
        let place = (&witness.operation.key, witness.version);
        made.contains(&place) && !shared.contains(&place)
    };
    let operations = judged().filter(|witness| known(witness)).map(|witness| {
        let name = witness.version.unwrap_or_default().to_string().into_bytes();
        let mut operation = witness.operation.clone();
        if makes(&operation) {
            operation.function = Function::Put { value: name, ttl_ms: None };
            operation.outcome = Outcome::Ok(Answer::Done);
        } else {
            operation.function = Function::Get;
            operation.outcome = Outcome::Ok(Answer::Value(Some(name)));
        }
        operation
    });
    let recording = Recording::of(&History { operations: operations.collect() });
    let transactions = Transactions::of(&recording);
    match causal::check(&transactions, Isolation::CausalConvergence, &Limits::default()) {
        Ok(Some(anomaly)) => {
            Err(format!("causal: {}: {}\n    {}", anomaly.name, anomaly.what, anomaly.nodes.join("\n    ")))
        }
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Whether the operation certainly made the version that its answer names: a blind deletion that became a round may have
/// found nothing, and then names what it found.
fn makes(operation: &Operation) -> bool {
    let is_blind = operation.function == Function::Delete && operation.outcome == Outcome::Ok(Answer::Done);
    writes(operation) && !is_blind
}

/// Whether the answer tells of a value.
fn has_value(operation: &Operation) -> bool {
    match &operation.outcome {
        Outcome::Ok(Answer::Value(value)) => value.is_some(),
        _ => writes(operation) && operation.function != Function::Delete,
    }
}

/// Whether the operation made the version that its answer names.
fn writes(operation: &Operation) -> bool {
    match (&operation.function, &operation.outcome) {
        // Refused for what the key holds, a number's or a text's change names the version that it saw.
        (Function::Get, _)
        | (_, Outcome::Ok(Answer::Applied(false)))
        | (Function::Incr(_) | Function::Append(_), Outcome::Ok(Answer::Done)) => false,
        _ => true,
    }
}

fn line(witness: &Witness) -> String {
    let operation = &witness.operation;
    format!(
        "[{:>9}..{:>9} us] process {} {:?} {:?} -> {:?} at {}",
        operation.call / 1_000,
        operation.ret / 1_000,
        operation.process,
        operation.level,
        operation.function,
        operation.outcome,
        witness.version.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deed::Deed;
    use samara_core::base::{Hlc, NodeId};

    fn witness(process: u64, key: &str, write: bool, version: u64, call: u64, ret: u64) -> Witness {
        let value = version.to_string().into_bytes();
        let (function, outcome) = if write {
            (Function::Put { value, ttl_ms: None }, Outcome::Ok(Answer::Done))
        } else {
            (Function::Get, Outcome::Ok(Answer::Value(Some(value))))
        };
        let key = key.as_bytes().to_vec();
        let operation = Operation { process, key, function, outcome, call, ret, level: Level::Strong };
        let version = Some(Stamp { hlc: Hlc(version), node: NodeId(1) });
        Witness { operation, version, deed: Deed::Plain }
    }

    fn broken(witnesses: &[Witness]) -> String {
        check(witnesses).err().unwrap_or_default().split(':').next().unwrap_or_default().to_string()
    }

    #[test]
    fn what_was_acknowledged_is_seen_by_whoever_asks_later() {
        let write = witness(1, "k", true, 5, 0, 10);
        assert_eq!(broken(&[write.clone(), witness(2, "k", false, 5, 20, 30)]), "");
        assert_eq!(broken(&[write.clone(), witness(2, "k", false, 3, 20, 30)]), "durability");
        assert_eq!(broken(&[write, witness(2, "k", false, 3, 9, 30)]), "", "they overlap");
    }

    #[test]
    fn what_was_deleted_stays_away() {
        let mut delete = witness(1, "k", true, 5, 0, 10);
        delete.operation.function = Function::Delete;
        delete.operation.outcome = Outcome::Ok(Answer::Applied(true));
        assert_eq!(broken(&[delete, witness(2, "k", false, 3, 20, 30)]), "no_resurrection");
    }

    #[test]
    fn what_was_collected_stays_away_but_its_deletion_may_be_named() {
        let mut nothing = witness(1, "k", false, 5, 4, 10);
        nothing.operation.outcome = Outcome::Ok(Answer::Value(None));
        nothing.version = Some(Stamp::upto(Hlc(9)));
        let value = witness(2, "k", false, 7, 20, 30);
        let mut tombstone = value.clone();
        tombstone.operation.outcome = Outcome::Ok(Answer::Value(None));
        let write = |ret| witness(3, "k", true, 7, 0, ret);
        assert_eq!(broken(&[write(3), nothing.clone(), value.clone()]), "no_resurrection");
        let seen = witness(3, "k", false, 7, 0, 3);
        assert_eq!(broken(&[seen, nothing.clone(), value.clone()]), "no_resurrection");
        assert_eq!(broken(&[write(15), nothing.clone(), value]), "", "the write may come after");
        assert_eq!(broken(&[nothing.clone(), tombstone.clone()]), "");
        let newer = witness(3, "k", true, 8, 0, 10);
        assert_eq!(broken(&[nothing, tombstone, newer]), "durability", "a watermark hides no version");
    }

    #[test]
    fn what_expired_stays_away() {
        let write = witness(1, "k", true, 5, 0, 10);
        let mut gone = witness(1, "k", false, 5, 12, 18);
        gone.operation.outcome = Outcome::Ok(Answer::Value(None));
        assert_eq!(broken(&[write.clone(), gone.clone(), witness(2, "k", false, 5, 20, 30)]), "ttl_monotone");
        assert_eq!(
            broken(&[write.clone(), gone.clone(), witness(2, "k", false, 5, 15, 30)]),
            "",
            "they overlap"
        );
        gone.operation.call = 9;
        assert_eq!(
            broken(&[write, gone, witness(2, "k", false, 5, 20, 30)]),
            "",
            "of the round that wrote it"
        );
    }

    #[test]
    fn an_effect_is_not_seen_without_its_cause() {
        // Process 2 saw x and wrote y; process 3 sees that y and then an older x. All overlap, so that only causes tell.
        let history = [
            witness(1, "x", true, 1, 0, 100),
            witness(1, "x", true, 2, 0, 100),
            witness(2, "x", false, 2, 1, 100),
            witness(2, "y", true, 7, 2, 100),
            witness(3, "y", false, 7, 3, 100),
            witness(3, "x", false, 1, 4, 100),
        ];
        assert_eq!(broken(&history), "causal");
        assert_eq!(broken(&history[..5]), "");
    }
}
