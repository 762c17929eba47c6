//! Linearizability of transactions: Knossos' multi-register, also called strict serializability (Papadimitriou 1979; Herlihy and Wing 1990).
//!
//! All registers are one object, and each transaction reads and writes several of them at one point between its call and its return. Registers that no
//! chain of transactions connects are objects of their own, for linearizability is local. A transaction of unknown outcome may take effect at
//! any time after its call, or never.

mod explain;
mod feeders;
mod search;

use crate::clip;
use crate::kernel::NEVER;
use crate::linearizability::{Limits, Options};
use crate::transactions::{Access, Transactions};
use explain::{Why, explain};
use feeders::Txn;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use search::{Budget, Found, Object, decide};

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
/// let example = check(&history, &Options::default(), &Limits::default()).expect("small").expect("a counterexample");
/// assert_eq!((example.registers, example.smallest.len()), (2, 2));
/// # Ok::<(), formats::BadInput>(())
/// ```
pub fn check(
    history: &Transactions,
    options: &Options,
    limits: &Limits,
) -> Result<Option<Counterexample>, String> {
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
                return Ok(Some(counterexample(history, object, &why)));
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

/// Why transactions have no order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterexample {
    /// How many registers they share, directly or by others.
    pub registers: usize,
    /// The smallest part of the history that was found to have no order either.
    pub smallest: Vec<Shown>,
    /// How many transactions the longest prefix in time has that has an order, and the last of them, in this order.
    pub prefix: usize,
    /// See there.
    pub last: Vec<Shown>,
    /// The transaction that returned next and could not be placed.
    pub stuck: Shown,
}

/// A transaction of a counterexample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its line in the file, from 1; 0 when it is of no file.
    pub line: u32,
    /// Its client.
    pub process: String,
    /// When it was called.
    pub call: u64,
    /// When it returned; none: its outcome is unknown.
    pub ret: Option<u64>,
    /// Register, value or nothing, and whether it was written.
    pub accesses: Vec<(Vec<u8>, Option<Vec<u8>>, bool)>,
    /// How many of its reads do not matter in the smallest part, for who wrote what they saw is not in it.
    pub left_out: usize,
}

fn counterexample(history: &Transactions, object: &Object, why: &Why) -> Counterexample {
    let sources: Vec<_> = every(history).collect();
    let shown = |source: u32, left_out: usize| {
        let (accesses, session, line, (call, ret)) = sources[source as usize];
        let named = (session as usize) < history.sessions.len();
        let name = || clip::client(session, history.sessions.text(session + 1));
        let access = |access: &Access| {
            let value = (access.value != 0).then(|| history.values.text(access.value).to_vec());
            (history.keys.text(access.key).to_vec(), value, access.write)
        };
        Shown {
            line,
            process: if named { name() } else { session.to_string() },
            call,
            ret: (ret != NEVER).then_some(ret),
            accesses: accesses.iter().map(access).collect(),
            left_out,
        }
    };
    let mut smallest: Vec<&Txn> = why.smallest.iter().collect();
    smallest.sort_by_key(|txn| (txn.call, txn.source));
    let reads = |source: u32| {
        let whole = object.txns.iter().find(|txn| txn.source == source);
        whole.map_or(0, |txn| txn.reads.len())
    };
    let part = |txn: &&Txn| {
        let hidden = if txn.ret == NEVER { 0 } else { reads(txn.source) - txn.reads.len() };
        shown(txn.source, hidden)
    };
    Counterexample {
        registers: object.initial.len(),
        smallest: smallest.iter().map(part).collect(),
        prefix: why.prefix,
        last: why.last.iter().map(|source| shown(*source, 0)).collect(),
        stuck: shown(why.stuck, 0),
    }
}
