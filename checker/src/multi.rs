//! Linearizability of transactions: Knossos' multi-register, also called strict serializability (Papadimitriou 1979; Herlihy and Wing 1990).
//!
//! All registers are one object, and each transaction reads and writes several of them at one point between its call and its return. Registers that no
//! chain of transactions connects are objects of their own, for linearizability is local. A transaction of unknown outcome may take effect at
//! any time after its call, or never.

mod explain;
mod feeders;
mod search;

use crate::causal::Anomaly;
use crate::kernel::NEVER;
use crate::linearizability::{Limits, Options};
use crate::transactions::{Access, Transactions};
use explain::{Why, explain};
use feeders::Txn;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use search::{Budget, Found, Object, decide};
use std::fmt::Write as _;

/// Judges transactions whose times are known. `Err` when it was given up, or cannot be judged: why, and what was decided.
///
/// ```
/// use samara_check::formats::{self, Loaded, Reading};
/// use samara_check::linearizability::{Limits, Options};
/// use samara_check::multi::check;
///
/// // Both saw nothing of the other: they may be concurrent, but these are not.
/// let text = r#"{"process":0,"type":"invoke","f":"txn","value":[["r","x",null],["w","y",1]]}
/// {"process":0,"type":"ok","f":"txn","value":[["r","x",null],["w","y",1]]}
/// {"process":1,"type":"invoke","f":"txn","value":[["r","y",null],["w","x",1]]}
/// {"process":1,"type":"ok","f":"txn","value":[["r","y",null],["w","x",1]]}"#;
/// let Loaded::Transactions(history) = formats::read(text.as_bytes(), None, &Reading::default())? else { panic!() };
/// let anomaly = check(&history, &Options::default(), &Limits::default()).expect("small").expect("an anomaly");
/// assert_eq!(anomaly.name, "not linearizable");
/// # Ok::<(), formats::BadInput>(())
/// ```
pub fn check(history: &Transactions, options: &Options, limits: &Limits) -> Result<Option<Anomaly>, String> {
    if history.intervals.len() != history.transactions.len() {
        return Err("the history does not say when transactions began and ended, so that it can only be judged at the levels causal, cc, ccv, cm, read-atomic and read-committed".into());
    }
    let budget = Budget { steps: options.steps_max, deadline: limits.deadline(), memory: limits.memory };
    let objects = objects(history);
    let all = objects.len();
    let mut spent = Vec::new();
    for object in &objects {
        let mut left = budget.clone();
        match decide(&object.txns, object, &mut left) {
            Found::Order(_) => {}
            Found::None => {
                let steps = budget.steps.saturating_sub(left.steps) + 20_000;
                let why = explain(object, &Budget { steps, ..budget.clone() });
                return Ok(Some(anomaly(history, object, &why)));
            }
            Found::Spent(decided) => {
                let returns = object.txns.iter().filter(|txn| txn.ret != NEVER).count();
                spent.push(format!("{decided} of {returns}"));
            }
        }
    }
    if spent.is_empty() {
        return Ok(None);
    }
    Err(format!(
        "the limit was reached for {} of {all} groups of registers; the search came to so many of their transactions: {}",
        spent.len(),
        spent.join(", ")
    ))
}

/// All transactions of a history: accesses, session, line, call and return.
fn every(history: &Transactions) -> impl Iterator<Item = (&[Access], u32, u32, (u64, u64))> {
    let finished = history
        .transactions
        .iter()
        .enumerate()
        .map(|(at, txn)| (history.accesses(at), txn.session, txn.line, history.intervals[at]));
    let unfinished =
        history.unfinished.iter().map(|txn| (&txn.accesses[..], txn.session, txn.line, (txn.call, NEVER)));
    finished.chain(unfinished)
}

/// Gives numbers to registers and cells.
struct Numbers<'a> {
    history: &'a Transactions,
    initial: HashMap<u32, u32, FixedState>,
    root: Vec<u32>,
}

impl Numbers<'_> {
    fn find(&mut self, key: u32) -> u32 {
        let mut at = key;
        while self.root[at as usize] != at {
            self.root[at as usize] = self.root[self.root[at as usize] as usize];
            at = self.root[at as usize];
        }
        at
    }

    fn initial(&self, key: u32) -> u32 {
        self.initial.get(&key).copied().unwrap_or(self.history.initial)
    }
}

/// The groups of registers that transactions connect, in the order of their first transactions.
fn objects(history: &Transactions) -> Vec<Object> {
    let mut numbers = Numbers {
        history,
        initial: history.initial_of.iter().copied().collect(),
        root: (0..=history.keys.len() as u32).collect(),
    };
    for (accesses, ..) in every(history) {
        for pair in accesses.windows(2) {
            let (a, b) = (numbers.find(pair[0].key), numbers.find(pair[1].key));
            numbers.root[a as usize] = b;
        }
    }
    let mut objects: Vec<Object> = Vec::new();
    let mut object_of: HashMap<u32, usize, FixedState> = HashMap::default();
    let mut registers: HashMap<u32, u32, FixedState> = HashMap::default();
    let mut cells: HashMap<(u32, u32), u32, FixedState> = HashMap::default();
    for (source, (accesses, _, _, (call, ret))) in every(history).enumerate() {
        let Some(first) = accesses.first() else { continue };
        let at = *object_of.entry(numbers.find(first.key)).or_insert(objects.len());
        if at == objects.len() {
            objects.push(Object { txns: Vec::new(), initial: Vec::new(), cells: 0 });
        }
        let object = &mut objects[at];
        let mut txn = Txn { call, ret, source: source as u32, ..Txn::default() };
        for access in accesses {
            let mut cell = |object: &mut Object, value: u32| {
                *cells.entry((access.key, value)).or_insert_with(|| {
                    object.cells += 1;
                    object.cells as u32 - 1
                })
            };
            let register = *registers.entry(access.key).or_insert_with(|| {
                let initial = cell(object, numbers.initial(access.key));
                object.initial.push(initial);
                object.initial.len() as u32 - 1
            });
            take(&mut txn, (register, cell(object, access.value)), access.write);
        }
        if ret == NEVER {
            (txn.reads, txn.broken) = (Vec::new(), false);
        }
        object.txns.push(txn);
    }
    objects
}

/// The next access of a transaction: what it wrote itself it must see, and what it saw it must see again.
fn take(txn: &mut Txn, access: (u32, u32), write: bool) {
    let of = |list: &[(u32, u32)]| list.iter().position(|(register, _)| *register == access.0);
    match (of(&txn.writes), of(&txn.reads)) {
        (Some(at), _) if write => txn.writes[at] = access,
        (None, _) if write => txn.writes.push(access),
        (Some(at), _) => txn.broken |= txn.writes[at] != access,
        (None, Some(at)) => txn.broken |= txn.reads[at] != access,
        (None, None) => txn.reads.push(access),
    }
}

fn anomaly(history: &Transactions, object: &Object, why: &Why) -> Anomaly {
    let sources: Vec<_> = every(history).collect();
    let registers = object.initial.len();
    let line = |source: u32, left_out: usize| {
        let (accesses, session, line, (call, ret)) = sources[source as usize];
        let mut text = String::new();
        if line > 0 {
            let _ = write!(text, "line {line}, ");
        }
        let session = if (session as usize) < history.sessions.len() {
            String::from_utf8_lossy(history.sessions.text(session + 1)).into_owned()
        } else {
            session.to_string()
        };
        let end = if ret == NEVER { "?".into() } else { ret.to_string() };
        let _ = write!(text, "[{call}..{end}] process {session}:");
        for access in accesses {
            let value = match access.value {
                0 => "nil".into(),
                value => format!("{:?}", String::from_utf8_lossy(history.values.text(value))),
            };
            let key = String::from_utf8_lossy(history.keys.text(access.key));
            let _ = write!(text, " {} {key} {value}", if access.write { "w" } else { "r" });
        }
        if left_out > 0 {
            let _ = write!(text, " ({left_out} of its reads do not matter here)");
        }
        text
    };
    let mut smallest: Vec<&Txn> = why.smallest.iter().collect();
    smallest.sort_by_key(|txn| (txn.call, txn.source));
    let reads = |source: u32| {
        let whole = object.txns.iter().find(|txn| txn.source == source);
        whole.map_or(0, |txn| txn.reads.len())
    };
    let nodes = smallest.iter().map(|txn| {
        let hidden = if txn.ret == NEVER { 0 } else { reads(txn.source) - txn.reads.len() };
        line(txn.source, hidden)
    });
    let mut nodes: Vec<String> = nodes.collect();
    if !why.last.is_empty() {
        nodes.push(format!("the longest order has {} transactions; it ends with:", why.prefix));
        nodes.extend(why.last.iter().map(|source| line(*source, 0)));
    }
    nodes.push("and cannot go on, for this one returns next:".into());
    nodes.push(line(why.stuck, 0));
    let what = format!("these {} transactions on {registers} registers have no order:", smallest.len());
    Anomaly { name: "not linearizable".into(), what, nodes, edges: Vec::new() }
}
