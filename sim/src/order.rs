//! The order of ballots, judged: every answer names the version it saw or wrote, and PROTOCOL promises that versions rise
//! along the one order of a key's operations. So the order is known, but for operations of unknown outcome, and a history
//! of a key is judged in about linear time where a search without versions would not end.
//!
//! This is a stronger promise than linearizability, and particular to samara; the checker, which knows nothing of
//! versions, judges the same history on its own.

use crate::deed::Deed;
use samara_check::history::{Answer, Function, Level, Operation, Outcome};
use samara_core::base::Stamp;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Steps of the search for one key before it gives up.
const STEPS_MAX: u64 = 2_000_000;

/// An operation with the version that its answer named.
#[derive(Debug, Clone)]
pub struct Witness {
    /// What the client saw.
    pub operation: Operation,
    /// The version seen or written; `None` when the outcome is unknown.
    pub version: Option<Stamp>,
    /// What it did exactly.
    pub deed: Deed,
}

impl Witness {
    /// Whether the checker, which knows conditions on values and fixed times to live alone, can judge it: what it does not see
    /// has changed nothing.
    pub fn is_for_the_checker(&self) -> bool {
        let refused = self.operation.outcome == Outcome::Ok(Answer::Applied(false));
        let is_condition = matches!(self.deed, Deed::If { .. });
        !(self.operation.key.starts_with(b"timed") || is_condition && refused)
    }
}

/// Why a key's history does not follow its versions.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// No order of the operations explains the answers.
    Violated(String),
    /// The search was given up.
    Undecided(String),
}

/// What a key holds at a point of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    /// An interned value; 0 is absent.
    value: u32,
    may_expire: u64,
    must_expire: u64,
    /// The version, as far as an answer has told it; else the highest one known before.
    version: Stamp,
    bound: bool,
    /// The earliest time of the next operation's point.
    time: u64,
    /// An operation without a known place came last: an overwrite right after it would make it needless.
    unread: bool,
}

const ABSENT: u32 = 0;

/// Values by number, for one key; number 0 is absent.
#[derive(Default)]
struct Values {
    ids: HashMap<Vec<u8>, u32>,
    values: Vec<Vec<u8>>,
}

impl Values {
    fn id(&mut self, value: &[u8]) -> u32 {
        if let Some(id) = self.ids.get(value) {
            return *id;
        }
        self.values.push(value.to_vec());
        let id = self.values.len() as u32;
        self.ids.insert(value.to_vec(), id);
        id
    }

    fn value(&self, id: u32) -> Option<&[u8]> {
        id.checked_sub(1).and_then(|at| self.values.get(at as usize)).map(Vec::as_slice)
    }
}

/// One operation as the search needs it.
struct Step<'a> {
    operation: &'a Operation,
    deed: &'a Deed,
    /// Where it may stand: the version that its answer named, or those at which its value was seen; none if nothing is
    /// known.
    versions: Vec<Stamp>,
    call: u64,
    ret: u64,
}

/// Finds the versions at which a value of a key was written: the values of the simulator's clients are unique, so that
/// most writes of unknown outcome have a version, too. There may be several: an attempt that was not chosen, and a retry.
pub type Locate<'a> = &'a dyn Fn(&[u8], &[u8]) -> Vec<Stamp>;

/// Judges every key. `slack` (nanoseconds) is how far clocks that judge expiry may be off.
pub fn check(witnesses: &[Witness], slack: u64, locate: Locate<'_>) -> Result<(), Broken> {
    let mut keys: BTreeMap<&[u8], Vec<&Witness>> = BTreeMap::new();
    for witness in witnesses {
        keys.entry(&witness.operation.key).or_default().push(witness);
    }
    keys.into_iter().try_for_each(|(key, witnesses)| check_key(key, &witnesses, slack, locate))
}

/// G2: a key that holds nothing names its watermark instead of a version. It stands with the highest version at or below
/// that which any answer has named: nothing has been written there since. What came to nobody's knowledge can be placed
/// without a version. An eventual write of a lasting value does not count, nor an eventual read of it: what was collected had
/// superseded it unseen, or a strong operation has named its version, too.
fn collected(witnesses: &[&Witness], watermark: Stamp) -> Stamp {
    let may_be_unseen = |witness: &&&Witness| {
        let lasting =
            matches!(witness.operation.function, Function::Get | Function::Put { ttl_ms: None, .. });
        lasting && witness.operation.level == Level::Eventual
    };
    let named = witnesses.iter().filter(|witness| !may_be_unseen(witness));
    let versions = named.filter_map(|witness| witness.version);
    versions.filter(|version| !version.is_bound() && *version <= watermark).max().unwrap_or_default()
}

fn check_key(key: &[u8], witnesses: &[&Witness], slack: u64, locate: Locate<'_>) -> Result<(), Broken> {
    let (mut known, mut free) = (Vec::new(), Vec::new());
    for witness in witnesses {
        let operation = &witness.operation;
        let read = operation.function == Function::Get && witness.deed == Deed::Plain;
        let place = |version: Stamp| if version.is_bound() { collected(witnesses, version) } else { version };
        let version = witness.version.map(place);
        let mut versions: Vec<Stamp> = version.into_iter().collect();
        if let (Outcome::Unknown, Some(value)) = (&operation.outcome, written_value(&operation.function)) {
            versions = locate(key, value);
        }
        let step = |call, ret| Step { operation, deed: &witness.deed, versions, call, ret };
        match (&operation.outcome, operation.level) {
            (Outcome::Unknown, _) | (_, Level::Eventual | Level::Causal) if read => {}
            (Outcome::Ok(_), Level::Strong) => known.push(step(operation.call, operation.ret)),
            // A weak write's place among the versions is its clock's: it may be below what was there when it came.
            (Outcome::Ok(_), Level::Causal) => known.push(step(0, operation.ret)),
            (Outcome::Unknown, Level::Strong) => free.push(step(operation.call, u64::MAX)),
            (Outcome::Ok(_), Level::Eventual) | (Outcome::Unknown, _) => free.push(step(0, u64::MAX)),
        }
    }
    snap_negatives(&mut known, &free);
    known.sort_by_key(|step| (step.versions.first().copied(), step.call, step.ret));
    free.sort_by_key(|step| {
        let least = step.versions.first().copied();
        (least.is_none(), least, matches!(step.operation.function, Function::Incr(_)), step.call)
    });
    let mut returns: Vec<u64> = known.iter().map(|step| step.ret).collect();
    for at in (1..returns.len()).rev() {
        returns[at - 1] = returns[at - 1].min(returns[at]);
    }
    let search = Search {
        known: &known,
        free: &free,
        returns: &returns,
        slack,
        values: Values::default(),
        seen: HashSet::new(),
    };
    search.run(key)
}

/// A negative answer that was stored for retries names the ballot at which it was stored, where nothing was written: it
/// stands with the version below that, which is what it saw.
fn snap_negatives(known: &mut [Step<'_>], free: &[Step<'_>]) {
    let is_negative = |step: &Step<'_>| step.operation.outcome == Outcome::Ok(Answer::Applied(false));
    let mut written: Vec<Stamp> = known
        .iter()
        .filter(|step| !is_negative(step))
        .chain(free)
        .flat_map(|step| step.versions.clone())
        .collect();
    written.sort_unstable();
    for step in known.iter_mut().filter(|step| is_negative(step)) {
        if let Some(version) = step.versions.first_mut() {
            let below = written.partition_point(|written| *written <= *version);
            *version = below.checked_sub(1).map_or(Stamp::ZERO, |at| written[at]);
        }
    }
}

/// The unique value that an operation writes.
pub(crate) fn written_value(function: &Function) -> Option<&[u8]> {
    match function {
        Function::Put { value, .. } | Function::PutIf { value, .. } => Some(value),
        Function::Cas { new, .. } => Some(new),
        Function::Append(tail) => Some(tail),
        Function::Get | Function::Delete | Function::Incr(_) | Function::Update { .. } => None,
    }
}

/// Depth-first, the known operations in the order of their versions, the others only where they are needed.
struct Search<'a> {
    known: &'a [Step<'a>],
    free: &'a [Step<'a>],
    /// The earliest return among the known operations from each index on.
    returns: &'a [u64],
    slack: u64,
    values: Values,
    seen: HashSet<(usize, u64, Vec<u64>, State)>,
}

/// A point of the search: what has been placed, and what may be placed next.
struct Frame {
    /// Known operations before this index are placed...
    placed: usize,
    /// ...and these of the group of equal versions that begins there, as bits.
    group: u64,
    used: Vec<u64>,
    state: State,
    /// Operations placed of which not even a version is known.
    guesses: usize,
    /// The next choice to try.
    next: usize,
}

impl Step<'_> {
    fn version(&self) -> Option<Stamp> {
        self.versions.first().copied()
    }

    fn is_unknown(&self) -> bool {
        self.operation.outcome == Outcome::Unknown
    }
}

impl Frame {
    fn is_used(&self, at: usize) -> bool {
        self.used[at / 64] & (1 << (at % 64)) != 0
    }

    /// Whether the operation before does the same, may be placed wherever this one may, and is still free.
    fn is_twin(&self, free: &[Step<'_>], at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else {
            return false;
        };
        let alike = free[before].versions.is_empty() && free[at].versions.is_empty();
        alike && free[before].operation.function == free[at].operation.function && !self.is_used(before)
    }
}

impl Search<'_> {
    /// Tries with few guesses first: most histories need none.
    fn run(mut self, key: &[u8]) -> Result<(), Broken> {
        let all = self.free.iter().filter(|step| step.is_unknown()).count();
        for most in [0, 1, 3, 8].into_iter().filter(|most| *most < all) {
            self.seen.clear();
            if self.search(key, most).is_ok() {
                return Ok(());
            }
        }
        self.seen.clear();
        self.search(key, all)
    }

    fn search(&mut self, key: &[u8], guesses_max: usize) -> Result<(), Broken> {
        let start = State {
            value: ABSENT,
            may_expire: u64::MAX,
            must_expire: u64::MAX,
            version: Stamp::ZERO,
            bound: true,
            time: 0,
            unread: false,
        };
        let used = vec![0; self.free.len().div_ceil(64)];
        let mut path = vec![Frame { placed: 0, group: 0, used, state: start, guesses: 0, next: 0 }];
        let (mut steps, mut furthest) = (0, 0);
        while let Some(frame) = path.last_mut() {
            if frame.placed == self.known.len() {
                return Ok(());
            }
            furthest = furthest.max(frame.placed);
            steps += 1;
            if steps > STEPS_MAX {
                return Err(Broken::Undecided(self.words(key, furthest)));
            }
            let group = self.group_len(frame.placed);
            let (choice, both) = (frame.next / 2, frame.next % 2);
            frame.next += 1;
            if choice >= group + self.free.len() {
                path.pop();
                continue;
            }
            let at = choice.saturating_sub(group);
            if choice >= group && frame.is_twin(self.free, at) {
                continue;
            }
            let next = if choice < group {
                Self::place_known(&mut self.values, self.known, self.slack, frame, choice, both, group)
            } else {
                let limit = self.known[frame.placed].version();
                Self::place_free(&mut self.values, &self.free[at], self.slack, frame, at, both, limit)
            };
            let next = next.filter(|next| next.guesses <= guesses_max);
            let next = next.map(|next| self.without_the_passed(next, guesses_max));
            if let Some(next) = next
                && self.is_in_time(&next)
                && self.seen.insert((next.placed, next.group, next.used.clone(), next.state))
            {
                path.push(next);
            }
        }
        Err(Broken::Violated(self.words(key, furthest)))
    }

    /// Operations whose versions have all been passed, and that are no guesses, count as used: whether they were makes no
    /// difference any more.
    fn without_the_passed(&self, mut frame: Frame, guesses_max: usize) -> Frame {
        let spent = frame.guesses >= guesses_max;
        for (at, step) in self.free.iter().enumerate() {
            match step.versions.last() {
                Some(last) if (spent || !step.is_unknown()) && *last < frame.state.version => {
                    frame.used[at / 64] |= 1 << (at % 64);
                }
                _ => {}
            }
        }
        frame
    }

    /// Whether no operation that is still to be placed has returned before the present point.
    fn is_in_time(&self, frame: &Frame) -> bool {
        if frame.placed == self.known.len() {
            return true;
        }
        let end = frame.placed + self.group_len(frame.placed);
        let group = (frame.placed..end).filter(|at| frame.group & (1 << (at - frame.placed)) == 0);
        let later = self.returns.get(end).copied().unwrap_or(u64::MAX);
        group.map(|at| self.known[at].ret).fold(later, u64::min) >= frame.state.time
    }

    fn group_len(&self, from: usize) -> usize {
        let version = self.known[from].version();
        self.known[from..].iter().take(64).take_while(|step| step.version() == version).count()
    }

    fn place_known(
        values: &mut Values,
        known: &[Step<'_>],
        slack: u64,
        frame: &Frame,
        choice: usize,
        expired: usize,
        group: usize,
    ) -> Option<Frame> {
        if frame.group & (1 << choice) != 0 {
            return None;
        }
        let step = &known[frame.placed + choice];
        let state = advance(values, frame.state, step, step.version(), slack, expired == 1)?;
        let bits = frame.group | (1 << choice);
        let whole = bits.count_ones() as usize == group;
        let (placed, bits) = if whole { (frame.placed + group, 0) } else { (frame.placed, bits) };
        let state = State { unread: false, ..state };
        Some(Frame { placed, group: bits, used: frame.used.clone(), state, guesses: frame.guesses, next: 0 })
    }

    fn place_free(
        values: &mut Values,
        step: &Step<'_>,
        slack: u64,
        frame: &Frame,
        at: usize,
        expired: usize,
        limit: Option<Stamp>,
    ) -> Option<Frame> {
        if frame.is_used(at) {
            return None;
        }
        let fitting = |version: &&Stamp| **version >= frame.state.version && Some(**version) <= limit;
        let version = step.versions.iter().filter(fitting).max().copied();
        // An unknown one may have a version that was never seen: that of an intermediate value of a combined round.
        if version.is_none() && !step.is_unknown() {
            return None;
        }
        let state = advance(values, frame.state, step, version, slack, expired == 1)?;
        let mut used = frame.used.clone();
        used[at / 64] |= 1 << (at % 64);
        let guesses = frame.guesses + usize::from(version.is_none());
        let state = State { unread: true, ..state };
        Some(Frame { placed: frame.placed, group: frame.group, used, state, guesses, next: 0 })
    }

    fn words(&self, key: &[u8], furthest: usize) -> String {
        use std::fmt::Write;
        let mut text = format!("{}: no order of its versions explains", String::from_utf8_lossy(key));
        let end = (furthest + self.group_len(furthest)).min(furthest + 40);
        for (at, step) in self.known.iter().enumerate().take(end).skip(furthest.saturating_sub(8)) {
            let mark = if at < furthest { "    " } else { " -> " };
            let operation = step.operation;
            let _into_memory = write!(
                text,
                "\n {mark}[{:>9}..{:>9} us] process {} {:?} {:?} -> {:?} at {}",
                operation.call / 1_000,
                operation.ret / 1_000,
                operation.process,
                operation.level,
                operation.function,
                operation.outcome,
                step.version().unwrap_or_default(),
            );
        }
        for step in self.free {
            let operation = step.operation;
            let _into_memory = write!(
                text,
                "\n  or  [{:>9}..{:>9} us] process {} {:?} {:?} -> {:?} at {:?}",
                operation.call / 1_000,
                operation.ret / 1_000,
                operation.process,
                operation.level,
                operation.function,
                operation.outcome,
                step.versions.iter().map(ToString::to_string).collect::<Vec<_>>(),
            );
        }
        text
    }
}

/// The state after `step`, with the value taken as `expired` before it or not; `None` if its answer is impossible there.
fn advance(
    values: &mut Values,
    state: State,
    step: &Step<'_>,
    version: Option<Stamp>,
    slack: u64,
    expired: bool,
) -> Option<State> {
    let time = state.time.max(step.call);
    if time > step.ret || version.is_some_and(|version| version < state.version) {
        return None;
    }
    let mut before = State { time, ..state };
    let operation = step.operation;
    if state.unread && *step.deed == Deed::Plain && is_overwrite(operation) {
        return None;
    }
    if expired {
        let end = if operation.outcome == Outcome::Unknown { u64::MAX } else { operation.ret };
        if state.value == ABSENT || end < state.may_expire {
            return None;
        }
        (before.value, before.may_expire, before.must_expire) = (ABSENT, u64::MAX, u64::MAX);
    } else if step.call > state.must_expire {
        return None;
    }
    let after = effect(values, before, step, slack)?;
    match (after, version) {
        // Nothing was written: what was seen is the version that stood, or an unknown write's that is now known.
        (None, Some(version)) if operation.function == Function::Get && *step.deed == Deed::Plain => {
            let known = !state.bound || version == state.version;
            known.then_some(State { version, bound: true, ..before })
        }
        (None, _) => Some(before),
        (Some(after), Some(version)) => Some(State { version, bound: true, ..after }),
        (Some(after), None) => Some(State { bound: false, ..after }),
    }
}

/// Whether the operation neither depends on what was there nor tells of it.
fn is_overwrite(operation: &Operation) -> bool {
    match operation.function {
        Function::Put { .. } => true,
        Function::Delete => !matches!(operation.outcome, Outcome::Ok(Answer::Applied(_))),
        _ => false,
    }
}

/// `Some(None)`: the answer fits and nothing changes. `Some(Some(_))`: it fits and changes the state.
#[expect(clippy::option_option, reason = "impossible, without change, or with one")]
fn effect(values: &mut Values, before: State, step: &Step<'_>, slack: u64) -> Option<Option<State>> {
    let operation = step.operation;
    if *step.deed != Deed::Plain {
        return deed_effect(values, before, step, slack);
    }
    let known = match &operation.outcome {
        Outcome::Ok(answer) => Some(answer),
        Outcome::Unknown => None,
    };
    let lasting = |value| State { value, may_expire: u64::MAX, must_expire: u64::MAX, ..before };
    let conditional = |changes: bool, value: u32| match known {
        Some(Answer::Applied(applied)) if *applied != changes => None,
        _ => Some(changes.then(|| lasting(value))),
    };
    match &operation.function {
        Function::Get => match known {
            Some(Answer::Value(seen)) => {
                let seen = seen.as_ref().map_or(ABSENT, |value| values.id(value));
                (seen == before.value).then_some(None)
            }
            _ => Some(None),
        },
        Function::Put { value, ttl_ms } => {
            Some(Some(living(lasting(values.id(value)), *ttl_ms, operation, slack)))
        }
        Function::PutIf { value, present } => {
            conditional((before.value != ABSENT) == *present, values.id(value))
        }
        Function::Delete => conditional(before.value != ABSENT, ABSENT).map(|after| {
            // A blind delete writes a tombstone even where nothing was.
            let blind = !matches!(known, Some(Answer::Applied(_)));
            after.or_else(|| blind.then(|| lasting(ABSENT)))
        }),
        Function::Cas { old, new } => {
            let changes = before.value == values.id(old);
            conditional(changes, values.id(new))
        }
        Function::Incr(delta) => {
            let present = match values.value(before.value) {
                None => 0,
                Some(text) => std::str::from_utf8(text).ok()?.parse::<i64>().ok()?,
            };
            let sum = present.checked_add(*delta)?;
            let fits = known.is_none_or(|answer| *answer == Answer::Integer(sum));
            fits.then(|| Some(State { value: values.id(sum.to_string().as_bytes()), ..before }))
        }
        Function::Append(tail) => {
            let mut value = values.value(before.value).unwrap_or_default().to_vec();
            value.extend_from_slice(tail);
            let fits = known.is_none_or(|answer| *answer == Answer::Integer(value.len() as i64));
            fits.then(|| Some(State { value: values.id(&value), ..before }))
        }
        // Nobody here asks for one.
        Function::Update { .. } => None,
    }
}

/// The state with a time to live that began within the operation.
fn living(state: State, ttl_ms: Option<u64>, operation: &Operation, slack: u64) -> State {
    let Some(ttl_ms) = ttl_ms else {
        return State { may_expire: u64::MAX, must_expire: u64::MAX, ..state };
    };
    let ttl = ttl_ms.saturating_mul(1_000_000);
    let end = if operation.outcome == Outcome::Unknown { u64::MAX } else { operation.ret };
    let may_expire = operation.call.saturating_add(ttl).saturating_sub(slack);
    State { may_expire, must_expire: end.saturating_add(ttl).saturating_add(slack), ..state }
}

/// The same for what the checker's functions do not say.
#[expect(clippy::option_option, reason = "impossible, without change, or with one")]
fn deed_effect(values: &mut Values, before: State, step: &Step<'_>, slack: u64) -> Option<Option<State>> {
    let operation = step.operation;
    let known = match &operation.outcome {
        Outcome::Ok(answer) => Some(answer),
        Outcome::Unknown => None,
    };
    let there = before.value != ABSENT;
    match step.deed {
        Deed::Plain => None,
        Deed::If { value, version, then, ttl_ms } => {
            let stands = value.as_ref().map_or(ABSENT, |value| values.id(value)) == before.value;
            // Where the version that stands is not known, the value alone decides, and a refusal may be for the version.
            let is_version = version.is_none_or(|version| version == before.version);
            let (may, must) = match version {
                Some(_) => (stands && (is_version || !before.bound), stands && is_version && before.bound),
                None => (stands, stands),
            };
            let next = then.as_ref().map_or(ABSENT, |then| values.id(then));
            let ttl_ms = if next == ABSENT { None } else { *ttl_ms };
            let next = living(State { value: next, ..before }, ttl_ms, operation, slack);
            match known {
                Some(Answer::Applied(true)) => may.then_some(Some(next)),
                Some(Answer::Applied(false)) => (!must).then_some(None),
                _ => Some(may.then_some(next)),
            }
        }
        Deed::PutKeep(value) => Some(Some(State { value: values.id(value), ..before })),
        Deed::Expire { ttl_ms } => {
            let changes = there && (ttl_ms.is_some() || before.may_expire != u64::MAX);
            let fits = known.is_none_or(|answer| *answer == Answer::Integer(i64::from(changes)));
            fits.then(|| changes.then(|| living(before, *ttl_ms, operation, slack)))
        }
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
