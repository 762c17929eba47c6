//! After the storm: the world heals, liveness and convergence are demanded, and the checker judges the history.

use crate::client::version_of;
use crate::commands::What;
use crate::deed::Deed;
use crate::order::{self, Broken, Witness};
use crate::plan::{FaultKind, Plan};
use crate::promises;
use crate::strolls::{self, Stroll};
use crate::walks;
use crate::world::World;
use bytes::Bytes;
use samara_check::history::{
    Answer, Change, Expiry, Function, History, Level as Judged, Operation, Outcome, When,
};
use samara_check::linearizability::{self, Limits, Options, Verdict};
use samara_check::recording::Recording;
use samara_core::base::{Body, Hlc, KeyOp, Level, Request, Response, Stamp};
use std::collections::{BTreeMap, BTreeSet};

const MS: u64 = 1_000_000;
/// Virtual milliseconds after healing within which everything must work.
const PATIENCE_MS: u64 = 30_000;
/// Virtual milliseconds within which scrub has read all tables twice.
const SCRUBBED_MS: u64 = 10_000;
/// Steps of the checker for one key. Where they do not suffice, the order of versions alone has judged.
const STEPS_MAX: u64 = 20_000;

/// Heals the world, demands what PROTOCOL section 9 demands at the end, and judges.
pub fn finish(world: &mut World) -> Result<(), String> {
    world.heal();
    // A clock that ran ahead is refused until the world has caught up with it (S2, S4).
    let until = world.now + PATIENCE_MS * MS + clock_slack(&world.plan, world.now);
    wait(world, until, "every node serves again", |world| {
        world.machines.iter().all(|machine| machine.ready)
    })?;
    for node in 0..world.machines.len() {
        let until = world.now + PATIENCE_MS * MS + clock_slack(&world.plan, world.now);
        let look = world.now + SCRUBBED_MS * MS;
        let mut has_looked = false;
        while world.has_damaged_tables(node) || suspects(world, node) > 0 {
            if world.now >= look && suspects(world, node) == 0 && !has_looked {
                // What a running node has in memory of a table, the index and the filters, it reads again at a start only.
                has_looked = true;
                world.crash(node, 5);
            }
            if world.now >= until {
                let what = format!("{} stretches are suspect", suspects(world, node));
                return Err(format!("after healing, the damage of node {} does not go: {what}", node + 1));
            }
            let pause = world.now + 50 * MS;
            world.run_until(|world| world.now >= pause)?;
        }
    }
    let keys = world.keys.clone();
    let until = world.now + PATIENCE_MS * MS;
    wait(world, until, "all hints are delivered", no_hints)?;
    world.monitor.hints_arrived()?;
    for (at, key) in keys.iter().enumerate() {
        read_everywhere(world, key, level_of(world, at))?;
    }
    let until = world.now + PATIENCE_MS * MS;
    wait(world, until, "all hints are delivered", no_hints)?;
    agree(world, &keys)?;
    collect(world, &keys)?;
    let settled = keys.iter().enumerate().filter(|(at, _)| level_of(world, *at) == Level::Strong);
    let settled: Vec<Bytes> = settled.map(|(_, key)| key.clone()).collect();
    walks::agree(world, &settled)?;
    check(world)
}

/// The keys of a plan.
pub(crate) fn keys(plan: &Plan) -> Vec<Bytes> {
    let names = |n| [Bytes::from(format!("key{n}")), Bytes::from(format!("counter{n}"))];
    let mut keys: Vec<Bytes> = (0..plan.keys).flat_map(names).collect();
    let mut more = BTreeSet::new();
    for planned in plan.clients.iter().flatten() {
        let reach = if matches!(planned.what, What::SetAllAbsent(_) | What::Move { .. }) {
            plan.keys.max(2)
        } else {
            1
        };
        more.extend((0..reach).map(|at| Bytes::from(planned.name((planned.key + at) % plan.keys.max(2)))));
    }
    more.retain(|key| !keys.contains(key));
    keys.extend(more);
    keys
}

/// Tombstones go, and with them nothing else: with all members up, every slot's watermark passes all garbage, and then the
/// replicas still agree.
fn collect(world: &mut World, keys: &[Bytes]) -> Result<(), String> {
    let until = world.now + PATIENCE_MS * MS + clock_slack(&world.plan, world.now);
    let is_clean = |world: &World| {
        world
            .machines
            .iter()
            .all(|machine| machine.node.as_ref().is_some_and(|node| node.probe().garbage == 0))
    };
    wait(world, until, "all tombstones are collected", is_clean)?;
    agree(world, keys)
}

/// Every node answers every key, and the copies are what the key's level promises.
fn agree(world: &mut World, keys: &[Bytes]) -> Result<(), String> {
    for (at, key) in keys.iter().enumerate() {
        read_everywhere(world, key, level_of(world, at))?;
        if level_of(world, at) == Level::Strong {
            converge(world, key)?;
        } else {
            survive(world, key)?;
        }
    }
    Ok(())
}

/// R6: suspect stretches of a node.
fn suspects(world: &World, node: usize) -> usize {
    world.machines[node].node.as_ref().map_or(0, |node| node.suspect_probe().stretches)
}

/// Keys that saw no strong operation see none at the end either: the settling of a strong read could displace what only
/// one replica holds.
fn level_of(world: &World, at: usize) -> Level {
    if (at as u64) < 2 * world.plan.weak_keys { Level::Causal } else { Level::Strong }
}

/// Some replica holds the newest write that was acknowledged, or a newer one. Where a round has settled the key (a refused
/// causal operation does that), only what a majority acknowledged must be there: PROTOCOL section 1 lets the settling
/// supersede an eventual write that it could not see.
fn survive(world: &mut World, key: &Bytes) -> Result<(), String> {
    // An eventual write survives what its copies survive: the only one may have been damaged.
    let kinds = ["bit_flipped", "write_lost", "write_misdirected"];
    let damaged = kinds.iter().any(|kind| world.situations.contains_key(kind));
    let settled = damaged || world.monitor.saw_a_round(key);
    let acknowledged = newest_demanded(world, key, settled, Stamp::upto(Hlc(u64::MAX)));
    let mut held = Stamp::ZERO;
    for node in 0..world.machines.len() {
        let version = version_of(&ask(world, node, Level::Eventual, key)?).unwrap_or_default();
        // What was collected may have been a deletion; the watermark says no more than that it is gone (G2).
        if !version.is_bound() || may_be_gone(world, key, settled, version) {
            held = held.max(version);
        }
    }
    match acknowledged.filter(|version| *version > held) {
        Some(lost) => {
            Err(format!("the write of {key:?} at {lost} was acknowledged; the newest left is {held}"))
        }
        None => Ok(()),
    }
}

fn writes<'a>(world: &'a World, key: &'a Bytes) -> impl Iterator<Item = &'a Witness> {
    let of_key = world.witnesses.iter().filter(|witness| witness.operation.key == key[..]);
    of_key.filter(|witness| witness.operation.function != Function::Get)
}

/// The version of the newest write at or below `upto` that must have left its trace.
fn newest_demanded(world: &World, key: &Bytes, settled: bool, upto: Stamp) -> Option<Stamp> {
    let demanded = |witness: &&Witness| !settled || witness.operation.level > Judged::Eventual;
    let versions = writes(world, key).filter(demanded).filter_map(|witness| witness.version);
    versions.filter(|version| *version <= upto).max()
}

/// Whether what stands of `key` at `upto` may be nothing: its newest write that must have left a trace was a deletion or of
/// a value that expires; or a later one was, which may have been superseded, too; or one with an unknown outcome.
fn may_be_gone(world: &World, key: &Bytes, settled: bool, upto: Stamp) -> bool {
    let leaves_nothing =
        |function: &Function| matches!(function, Function::Delete | Function::Put { ttl_ms: Some(_), .. });
    let newest = newest_demanded(world, key, settled, upto);
    // A condition that did not hold names the version it found: it counts with the write that made the version.
    let last = |witness: &&Witness| match witness.version {
        Some(version) => version <= upto && newest.is_none_or(|newest| version >= newest),
        None => witness.operation.outcome == Outcome::Unknown,
    };
    newest.is_none()
        || writes(world, key).filter(last).any(|witness| leaves_nothing(&witness.operation.function))
}

fn no_hints(world: &World) -> bool {
    world.machines.iter().all(|machine| machine.node.as_ref().is_some_and(|node| node.probe().hints == 0))
}

fn wait(world: &mut World, until: u64, what: &str, done: impl Fn(&World) -> bool) -> Result<(), String> {
    world.run_until(|world| world.now >= until || done(world))?;
    if done(world) {
        Ok(())
    } else {
        Err(format!("after healing, it takes more than {PATIENCE_MS} ms until {what}"))
    }
}

pub(crate) fn request(level: Level, key: &Bytes, op: KeyOp) -> Request {
    Request { level, session: Hlc(0), idempotency: None, body: Body::Key { key: key.clone(), op } }
}

/// Asks until there is an answer; failures are allowed only for a while.
fn ask(world: &mut World, node: usize, level: Level, key: &Bytes) -> Result<Response, String> {
    ask_for(world, node, &request(level, key, KeyOp::Read))
}

/// The same of any request.
pub(crate) fn ask_for(world: &mut World, node: usize, request: &Request) -> Result<Response, String> {
    let until = world.now + PATIENCE_MS * MS + clock_slack(&world.plan, world.now);
    loop {
        let tag = world.judge_asks(node, request.clone());
        world.run_until(|world| world.now >= until || world.judge_replies.contains_key(&tag))?;
        match world.judge_replies.remove(&tag).map(|reply| reply.result) {
            Some(Ok(response)) => return Ok(response),
            Some(Err(_)) if world.now < until => {
                let pause = world.now + 50 * MS;
                world.run_until(|world| world.now >= pause)?;
            }
            other => {
                return Err(format!(
                    "after healing, {request:?} at node {} still fails: {other:?}",
                    node + 1
                ));
            }
        }
    }
}

/// Reads at every node: part of the history, and the occasion of read repair.
fn read_everywhere(world: &mut World, key: &Bytes, level: Level) -> Result<(), String> {
    for node in 0..world.machines.len() {
        let call = world.now;
        let response = ask(world, node, level, key)?;
        let version = version_of(&response);
        let value = match response {
            Response::Value { value, .. } => Some(value.to_vec()),
            _ => None,
        };
        let operation = Operation {
            process: 900_000 + node as u64,
            key: key.to_vec(),
            function: Function::Get,
            outcome: Outcome::Ok(Answer::Value(value)),
            call,
            ret: world.now,
            level: if level == Level::Strong { Judged::Strong } else { Judged::Causal },
        };
        world.witnesses.push(Witness { operation, version, deed: Deed::Plain });
    }
    Ok(())
}

/// Eventual reads, which a replica answers from what it holds itself, agree on value and version.
fn converge(world: &mut World, key: &Bytes) -> Result<(), String> {
    // A value that may expire between two looks is compared by its version alone.
    let seen = |response: Response| match response {
        Response::Value { value, version, expires_at: 0, .. } => (Some(value), version),
        Response::Value { version, .. } | Response::Absent { version } => (None, version),
        other => panic!("a read answered {other:?}"),
    };
    let pause = world.now + 500 * MS;
    world.run_until(|world| world.now >= pause)?;
    let mut first = None;
    for node in 0..world.machines.len() {
        let now = seen(ask(world, node, Level::Eventual, key)?);
        let held = first.get_or_insert_with(|| now.clone());
        // G2: of what is gone, a replica may know the watermark already, and another the deletion still.
        let bound = held.1.max(now.1);
        let is_gone = held.0.is_none() && now.0.is_none() && bound.is_bound();
        if *held != now && !is_gone {
            return Err(format!(
                "replicas differ on {key:?} after healing: {held:?}, and {now:?} at node {}",
                node + 1
            ));
        }
    }
    Ok(())
}

/// How far clocks were off at most, nanoseconds.
fn clock_slack(plan: &Plan, virtual_ns: u64) -> u64 {
    let steps: u64 = plan
        .faults
        .iter()
        .map(|fault| match fault.kind {
            FaultKind::ClockStep { by_ms, .. } => by_ms.unsigned_abs() * MS,
            FaultKind::ClockFreeze { ms, .. } => ms * MS,
            FaultKind::ClockDrift { ppm, .. } => {
                (u128::from(virtual_ns) * u128::from(ppm.unsigned_abs()) / 1_000_000) as u64
            }
            _ => 0,
        })
        .sum();
    // A clock may run ahead of the physical one by `max_drift` without any fault (S2, S4).
    steps + 520 * MS
}

/// The compare-and-set of the core that the clients ask for ends a time to live; the checker's keeps it, as the command `CAS` does.
fn end_times_to_live(operations: &mut [Operation]) {
    let lives = |operation: &&Operation| matches!(operation.function, Function::Put { ttl_ms: Some(_), .. });
    let keys: BTreeSet<Vec<u8>> =
        operations.iter().filter(lives).map(|operation| operation.key.clone()).collect();
    for operation in operations.iter_mut().filter(|operation| keys.contains(&operation.key)) {
        if let Function::Cas { old, new } = &operation.function {
            let change = Change::Set { value: new.clone(), expiry: Expiry::Clear };
            operation.function = Function::Update { when: When::Equals(old.clone()), change };
        }
    }
}

/// The history with the rank of each answer's version among those of its key.
fn recording(witnesses: &[&Witness]) -> Recording {
    let mut operations: Vec<Operation> = witnesses.iter().map(|witness| witness.operation.clone()).collect();
    end_times_to_live(&mut operations);
    let mut recording = Recording::of(&History { operations });
    let mut ranks: BTreeMap<&[u8], Vec<Stamp>> = BTreeMap::new();
    for witness in witnesses {
        ranks.entry(&witness.operation.key).or_default().extend(witness.version);
    }
    for versions in ranks.values_mut() {
        versions.sort_unstable();
        versions.dedup();
    }
    for (record, witness) in recording.records.iter_mut().zip(witnesses) {
        if let (Some(version), Some(versions)) = (witness.version, ranks.get(&witness.operation.key[..])) {
            // Version zero is that of a key that was never written, in the recording as here.
            let absent = usize::from(versions.first() != Some(&Stamp::ZERO));
            record.version = (versions.partition_point(|other| *other < version) + absent) as u64;
        }
    }
    recording
}

/// Commands on several keys, and what was met of the other conditions.
fn several_keys(world: &mut World) -> Result<(), String> {
    for client in &world.clients {
        client.walking.check(&world.witnesses)?;
        for (name, count) in client.walking.met() {
            *world.situations.entry(name).or_default() += count;
        }
    }
    let refused = |witness: &&Witness| witness.operation.outcome == Outcome::Ok(Answer::Applied(false));
    let failed = world.witnesses.iter().filter(refused).count() as u64;
    let is_change = |witness: &&Witness| {
        matches!(witness.deed, Deed::Expire { .. })
            && witness.operation.outcome == Outcome::Ok(Answer::Integer(1))
    };
    let changed = world.witnesses.iter().filter(is_change).count() as u64;
    for (name, count) in [("condition_failed", failed), ("expiry_changed", changed)] {
        if count > 0 {
            *world.situations.entry(name).or_default() += count;
        }
    }
    Ok(())
}

fn check(world: &mut World) -> Result<(), String> {
    promises::check(&world.witnesses)?;
    several_keys(world)?;
    let over: Vec<Stroll> = world.clients.iter().flat_map(|client| client.strolls.over()).cloned().collect();
    for stroll in &over {
        strolls::check(stroll, &world.witnesses)?;
        world.meet("walked");
        if strolls::meanwhile(stroll, &world.witnesses) > 0 {
            world.meet("answered_during_a_walk");
        }
    }
    let slack = clock_slack(&world.plan, world.now);
    match order::check(&world.witnesses, slack, &|key, value| world.monitor.locate(key, value)) {
        Ok(()) => {}
        Err(Broken::Violated(words)) => return Err(words),
        // The checker, which searches in another way, has the last word.
        Err(Broken::Undecided(_)) => world.meet("order_not_decided"),
    }
    let options = Options { expiry_slack: slack, weak_slack: slack + 1_000 * MS, steps_max: STEPS_MAX };
    let judged: Vec<&Witness> =
        world.witnesses.iter().filter(|witness| witness.is_for_the_checker()).collect();
    match linearizability::check_recording(&recording(&judged), &options, &Limits::default()).verdict {
        Verdict::Holds => Ok(()),
        Verdict::Undecided { .. } => {
            world.meet("not_decided");
            Ok(())
        }
        Verdict::Violated(example) => {
            let line = |operation: &Operation| {
                format!(
                    "\n    [{:>9}..{:>9} us] process {} {:?} {:?} -> {:?}",
                    operation.call / 1_000,
                    operation.ret / 1_000,
                    operation.process,
                    operation.level,
                    operation.function,
                    operation.outcome
                )
            };
            let tail = example.prefix.len().saturating_sub(12);
            let prefix: String = example.prefix[tail..].iter().map(line).collect();
            let key = String::from_utf8_lossy(&example.key);
            Err(format!(
                "{key} is not linearizable; the last in order:{prefix}\n  cannot be placed:{}",
                line(&example.stuck)
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A compare-and-set of the core ends a time to live, which the checker is told.
    #[test]
    fn what_was_swapped_lives_for_good() {
        let witness = |function, answer, call| {
            let operation = Operation {
                process: 1,
                key: b"k".to_vec(),
                function,
                outcome: Outcome::Ok(answer),
                call,
                ret: call + 1,
                level: Judged::Strong,
            };
            Witness { operation, version: None, deed: Deed::Plain }
        };
        let put = Function::Put { value: b"a".to_vec(), ttl_ms: Some(5) };
        let cas = Function::Cas { old: b"a".to_vec(), new: b"b".to_vec() };
        for (value, holds) in [(Some(b"b".to_vec()), true), (None, false)] {
            let all = [
                witness(put.clone(), Answer::Done, 0),
                witness(cas.clone(), Answer::Applied(true), 2),
                witness(Function::Get, Answer::Value(value), 60 * MS),
            ];
            let recording = recording(&all.iter().collect::<Vec<_>>());
            let report =
                linearizability::check_recording(&recording, &Options::default(), &Limits::default());
            assert_eq!(report.verdict == Verdict::Holds, holds);
        }
    }
}
