//! One key, compiled for the fast algorithms: operations as conditions and effects on numbered classes of values.
//!
//! Values that no operation can tell apart are one class ([`OTHER`]); unknown operations that can make no difference are left
//! out. What stays is equivalent to the history under [`crate::model`].

mod updates;

use crate::history::Level;
use crate::linearizability::Options;
use crate::recording::{Code, NOTHING, Record, Recording, Reply};
use foldhash::fast::FixedState;
use updates::Update;

type HashMap<K, V> = hashbrown::HashMap<K, V, FixedState>;
type HashSet<K> = hashbrown::HashSet<K, FixedState>;

/// The class of an absent key.
pub(crate) const ABSENT: u32 = 0;
/// The class of all values that no operation observes.
pub(crate) const OTHER: u32 = 1;
/// No return: it may take effect any time, or never.
pub(crate) const NEVER: u64 = u64::MAX;

/// A condition on the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    /// It is of this class.
    Is(u32),
    /// It is not of this class.
    Not(u32),
}

impl Test {
    pub(crate) fn holds(self, value: u32) -> bool {
        match self {
            Self::Is(class) => class == value,
            Self::Not(class) => class != value,
        }
    }
}

/// What an operation demands and does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Demands, changes nothing.
    Observe(Test),
    /// Sets the value, whatever it was; the number of its time to live, 0 for none.
    Write(u32, u32),
    /// Demands, and sets the value.
    Swap(Test, u32),
    /// Sets the value if the condition holds, else does nothing.
    Maybe(Test, u32),
    /// Adds to a number; with the sum that it answered.
    Add(i64, Option<i64>),
    /// Appends the text of a value; with the length that it answered.
    Append(u32, Option<i64>),
    /// Does what the update of this number says.
    Update(u32),
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Op {
    pub(crate) act: Act,
    /// The interval in which it takes effect; ends [`NEVER`] for an unknown one.
    pub(crate) call: u64,
    pub(crate) ret: u64,
    /// What expiry is judged by.
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    /// Whether what a swap sets lives as long as what was there before.
    pub(crate) keeps: bool,
    /// Its place in the recording.
    pub(crate) source: u32,
}

impl Op {
    pub(crate) fn is_unknown(&self) -> bool {
        self.ret == NEVER
    }

    /// The class that it demands, if it demands one.
    pub(crate) fn needs(&self) -> Option<u32> {
        match self.act {
            Act::Observe(Test::Is(class))
            | Act::Swap(Test::Is(class), _)
            | Act::Maybe(Test::Is(class), _) => Some(class),
            _ => None,
        }
    }

    /// The class that its condition tells from others, if it has a condition.
    pub(crate) fn mentions(&self) -> Option<u32> {
        match self.act {
            Act::Observe(Test::Is(class) | Test::Not(class))
            | Act::Swap(Test::Is(class) | Test::Not(class), _)
            | Act::Maybe(Test::Is(class) | Test::Not(class), _) => Some(class),
            _ => None,
        }
    }

    /// The class that it can set, if it sets one.
    pub(crate) fn sets(&self) -> Option<u32> {
        match self.act {
            Act::Write(class, _) | Act::Swap(_, class) | Act::Maybe(_, class) => Some(class),
            _ => None,
        }
    }
}

/// Values that are made by adding and appending.
#[derive(Debug, Default, Clone)]
pub(crate) struct Texts {
    numbers: HashMap<Vec<u8>, u32>,
    list: Vec<Vec<u8>>,
    /// Bytes that may still be made, where that is bounded, and whether they did not suffice.
    room: Option<usize>,
    pub(crate) full: bool,
    /// Prefixes of values that are observed: an appended value that is none of them is [`OTHER`]. Empty where lengths or sums
    /// are answered.
    prefixes: Option<HashSet<Vec<u8>>>,
}

impl Texts {
    fn class(&mut self, text: Vec<u8>) -> u32 {
        if self.prefixes.as_ref().is_some_and(|prefixes| !prefixes.contains(&text)) {
            return OTHER;
        }
        if let Some(room) = self.room.filter(|_| !self.numbers.contains_key(&text)) {
            let left = room.checked_sub(text.len());
            self.full |= left.is_none();
            if self.full {
                return OTHER;
            }
            self.room = left;
        }
        let (texts, next) = (&mut self.list, self.numbers.len() as u32 + 2);
        *self.numbers.entry(text).or_insert_with_key(|text| {
            texts.push(text.clone());
            next
        })
    }

    /// The text of a class; none where classes have none.
    fn text(&self, class: u32) -> Option<&[u8]> {
        class.checked_sub(2).and_then(|at| self.list.get(at as usize)).map(Vec::as_slice)
    }
}

/// One key.
#[derive(Debug, Default, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent properties of a key that choose among algorithms"
)]
pub(crate) struct Kernel {
    /// In the order of their calls.
    pub(crate) ops: Vec<Op>,
    /// Calls and returns in the order of time, calls first where times are equal: the number of the operation times two, plus one
    /// for a return.
    pub(crate) events: Vec<u32>,
    /// The class before the first operation.
    pub(crate) initial: u32,
    /// How many classes are known from the beginning; only adding and appending makes more.
    pub(crate) classes: usize,
    /// Whether all that operations demand is that the value is of a class.
    pub(crate) positive: bool,
    /// Whether operations add or append.
    pub(crate) computed: bool,
    /// Whether operations only read and add positive numbers: no value comes twice.
    pub(crate) rising: bool,
    /// Whether values have a time to live.
    pub(crate) expiring: bool,
    /// Earliest and latest time of expiry, by number of a time to live.
    pub(crate) lives: Vec<(u64, u64)>,
    pub(crate) texts: Texts,
    /// What is appended, by its number in the recording.
    tails: HashMap<u32, Vec<u8>>,
    /// What changes values and times to live in other ways.
    pub(crate) updates: Vec<Update>,
}

/// How the values of the recording become classes.
struct Classes<'a> {
    recording: &'a Recording,
    map: HashMap<u32, u32>,
    next: u32,
    /// Every value is of its own class, by its text.
    texts: Option<Texts>,
}

impl Classes<'_> {
    fn observe(&mut self, value: u32) {
        if value != NOTHING && self.texts.is_none() {
            self.map.entry(value).or_insert_with(|| {
                self.next += 1;
                self.next - 1
            });
        }
    }

    fn of(&mut self, value: u32) -> u32 {
        match &mut self.texts {
            _ if value == NOTHING => ABSENT,
            Some(texts) => texts.class(self.recording.values.text(value).to_vec()),
            None => self.map.get(&value).copied().unwrap_or(OTHER),
        }
    }
}

/// The part of a record that matters to linearizability: the interval, or `None` when it says nothing.
pub(crate) fn interval(record: &Record, options: &Options) -> Option<(u64, u64)> {
    let known = record.reply != Reply::Unknown;
    let early = record.call.saturating_sub(options.weak_slack);
    match record.level {
        _ if record.code == Code::Get && !(known && record.level == Level::Strong) => None,
        _ if record.code == Code::Get && record.reply != Reply::Value => None,
        Level::Strong => Some((record.call, if known { record.ret.max(record.call) } else { NEVER })),
        Level::Causal if known => Some((early, record.ret.max(early))),
        Level::Causal | Level::Eventual => Some((early, NEVER)),
    }
}

impl Kernel {
    /// Compiles the operations at `places` of the recording.
    pub(crate) fn new(recording: &Recording, places: &[u32], options: &Options) -> Self {
        let mut kernel = Self { positive: true, lives: vec![(NEVER, NEVER)], ..Self::default() };
        let judged = |at: &u32| {
            let record = &recording.records[*at as usize];
            interval(record, options).map(|interval| (*at, record, interval))
        };
        kernel.computed = places.iter().filter_map(judged).any(|(_, record, _)| {
            matches!(record.code, Code::Incr | Code::Append) || updates::compute(record)
        });
        kernel.expiring = places.iter().filter_map(judged).any(|(_, record, _)| record.expires());
        let texts = kernel.computed.then(|| texts(recording, places, options));
        let mut classes = Classes { recording, map: HashMap::default(), next: 2, texts };
        for (_, record, _) in places.iter().filter_map(judged) {
            record.found().into_iter().for_each(|found| classes.observe(found));
            if matches!(record.code, Code::Cas | Code::Update) {
                classes.observe(record.expected);
            }
        }
        let initial =
            places.first().map_or(NOTHING, |at| recording.initial_value(recording.records[*at as usize].key));
        kernel.initial = classes.of(initial);
        kernel.rising = kernel.computed
            && places.iter().filter_map(judged).all(|(_, record, _)| {
                record.code == Code::Get || record.code == Code::Incr && record.number > 0
            });
        kernel.ops.reserve(places.len());
        for (at, record, (call, ret)) in places.iter().filter_map(judged) {
            if let Some(act) = kernel.act(record, &mut classes, options) {
                if ret == NEVER && matches!(act, Act::Observe(_)) {
                    continue;
                }
                let answered = if record.reply == Reply::Unknown { NEVER } else { record.ret };
                let keeps = record.code == Code::Cas;
                kernel.ops.push(Op { act, call, ret, asked: record.call, answered, keeps, source: at });
            }
        }
        kernel.classes = classes.next as usize;
        if let Some(texts) = classes.texts {
            kernel.classes = texts.list.len() + 2;
            kernel.texts = Texts { room: Some(TEXTS_BYTES_MAX), ..texts };
            let computes = |op: &Op| matches!(op.act, Act::Add(..) | Act::Append(..) | Act::Update(_));
            kernel.computed = kernel.ops.iter().any(computes);
            kernel.positive &= !kernel.computed;
        }
        if kernel.positive {
            // A value that nobody observes, written nobody knows when, if ever: nobody can tell.
            let expiring = kernel.expiring;
            kernel.ops.retain(|op| {
                let idle = matches!(op.act, Act::Write(OTHER, 0))
                    || !expiring && matches!(op.act, Act::Maybe(_, OTHER));
                !(op.is_unknown() && idle)
            });
        }
        kernel.ops.sort_by_key(|op| op.call);
        kernel.order();
        kernel
    }

    /// What a record demands and does; `None` when nobody can tell whether it was there.
    fn act(&mut self, record: &Record, classes: &mut Classes<'_>, options: &Options) -> Option<Act> {
        let unknown = record.reply == Reply::Unknown;
        let refused = record.reply == Reply::NotApplied && record.observed;
        let condition = match record.code {
            Code::PutAbsent => Some(Test::Is(ABSENT)),
            Code::PutPresent | Code::Delete => Some(Test::Not(ABSENT)),
            Code::Cas => Some(Test::Is(classes.of(record.expected))),
            _ => None,
        };
        if let Some(condition) = condition.filter(|_| refused) {
            let seen = classes.of(record.seen);
            return Some(self.refused(seen, condition.holds(seen)));
        }
        let mut conditional = |test, to| self.conditional(record.reply, test, to);
        match record.code {
            Code::Get => Some(Act::Observe(Test::Is(classes.of(record.seen)))),
            Code::Put => Some(Act::Write(classes.of(record.argument), self.life(record, unknown, options))),
            Code::PutAbsent => conditional(Test::Is(ABSENT), classes.of(record.argument)),
            Code::PutPresent => conditional(Test::Not(ABSENT), classes.of(record.argument)),
            Code::Delete if matches!(record.reply, Reply::Applied | Reply::NotApplied) => {
                conditional(Test::Not(ABSENT), ABSENT)
            }
            Code::Delete => Some(Act::Write(ABSENT, 0)),
            Code::Cas => conditional(Test::Is(classes.of(record.expected)), classes.of(record.argument)),
            Code::Incr => {
                let sum = (record.reply == Reply::Integer).then_some(record.answer);
                Some(self.sum(record.number, sum, classes).unwrap_or(Act::Add(record.number, sum)))
            }
            Code::Append => {
                let length = (record.reply == Reply::Integer).then_some(record.answer);
                let tail = || classes.recording.values.text(record.argument).to_vec();
                self.tails.entry(record.argument).or_insert_with(tail);
                Some(Act::Append(record.argument, length))
            }
            Code::Update => self.update(record, classes, options),
        }
    }

    /// A change that was not made, for `seen` was there; `holds`: with that it would have been.
    fn refused(&mut self, seen: u32, holds: bool) -> Act {
        if holds { self.impossible() } else { Act::Observe(Test::Is(seen)) }
    }

    /// A change to `to` under a condition; `None` when nobody can tell whether it was there.
    fn conditional(&mut self, reply: Reply, test: Test, to: u32) -> Option<Act> {
        // Without times to live, a value that is set to itself stays what it was.
        let idle = test == Test::Is(to) && !self.expiring;
        let act = match reply {
            Reply::Applied if idle => Act::Observe(test),
            Reply::Applied => Act::Swap(test, to),
            Reply::NotApplied => Act::Observe(match test {
                Test::Is(class) => Test::Not(class),
                Test::Not(class) => Test::Is(class),
            }),
            _ if idle => return None,
            _ => Act::Maybe(test, to),
        };
        // A known one that says nothing demands, in a way, that the condition holds or that it does not.
        let silent = matches!(act, Act::Maybe(..)) && reply != Reply::Unknown;
        let denies = matches!(
            act,
            Act::Observe(Test::Not(_)) | Act::Swap(Test::Not(_), _) | Act::Maybe(Test::Not(_), _)
        );
        self.positive &= !(silent || denies);
        Some(act)
    }

    /// An increment whose answer is known, where values only rise: it takes one number to another.
    fn sum(&mut self, delta: i64, sum: Option<i64>, classes: &mut Classes<'_>) -> Option<Act> {
        let texts = classes.texts.as_mut().filter(|_| self.rising)?;
        let from = sum?.checked_sub(delta)?;
        let begins = self.initial == ABSENT && from == 0;
        let from = if begins { ABSENT } else { texts.class(from.to_string().into_bytes()) };
        Some(Act::Swap(Test::Is(from), texts.class(sum?.to_string().into_bytes())))
    }

    /// The number of the time to live of a put.
    fn life(&mut self, record: &Record, unknown: bool, options: &Options) -> u32 {
        let Ok(ttl) = u64::try_from(record.number) else {
            return 0;
        };
        let ttl = ttl.saturating_mul(1_000_000);
        let end = if unknown { NEVER } else { record.ret };
        let may = record.call.saturating_add(ttl).saturating_sub(options.expiry_slack).min(NEVER - 1);
        let must = end.saturating_add(ttl).saturating_add(options.expiry_slack);
        self.lives.push((may, must));
        self.lives.len() as u32 - 1
    }

    pub(crate) fn order(&mut self) {
        let mut order: Vec<(u64, u32)> = Vec::with_capacity(self.ops.len() * 2);
        for (at, op) in self.ops.iter().enumerate() {
            // The lowest bit of the code puts calls first where times are equal.
            order.push((op.call, at as u32));
            if !op.is_unknown() {
                order.push((op.ret, at as u32 | RETURN));
            }
        }
        order.sort_unstable();
        self.events = order
            .into_iter()
            .map(|(_, code)| (code & !RETURN) << 1 | u32::from(code & RETURN != 0))
            .collect();
    }

    /// The time of an event.
    pub(crate) fn time(&self, code: u32) -> u64 {
        let op = &self.ops[(code >> 1) as usize];
        if code & 1 == 0 { op.call } else { op.ret }
    }

    /// The class after adding to `value`.
    pub(crate) fn add(&mut self, value: u32, delta: i64, sum: Option<i64>) -> Option<u32> {
        let present = match self.texts.text(value) {
            None if value == ABSENT => 0,
            None => return None,
            Some(text) => std::str::from_utf8(text).ok()?.parse::<i64>().ok()?,
        };
        let result = present.checked_add(delta)?;
        sum.is_none_or(|sum| sum == result).then(|| self.texts.class(result.to_string().into_bytes()))
    }

    /// The class after appending to `value`.
    pub(crate) fn append(&mut self, value: u32, tail: u32, length: Option<i64>) -> Option<u32> {
        if value == OTHER {
            return Some(OTHER);
        }
        let mut text = self.texts.text(value).unwrap_or_default().to_vec();
        text.extend_from_slice(self.tails.get(&tail).map_or(&[], Vec::as_slice));
        length.is_none_or(|length| length == text.len() as i64).then(|| self.texts.class(text))
    }
}

/// Marks a return while events are sorted. A key has less than 2^31 operations.
const RETURN: u32 = 1 << 31;

/// The texts of a key whose operations add or append.
fn texts(recording: &Recording, places: &[u32], options: &Options) -> Texts {
    let mut prefixes = HashSet::default();
    let mut total = 0_usize;
    for at in places {
        let record = &recording.records[*at as usize];
        if interval(record, options).is_none() {
            continue;
        }
        // Sums need the number, and lengths the length, of any value.
        if record.code == Code::Incr || record.reply == Reply::Integer || updates::compute(record) {
            return Texts::default();
        }
        for value in [record.seen, record.expected] {
            let text = recording.values.text(value);
            total += text.len() * text.len() / 2;
            if total > PREFIX_BYTES_MAX {
                return Texts::default();
            }
            for end in (0..=text.len()).rev() {
                if value == NOTHING || !prefixes.insert(text[..end].to_vec()) {
                    break;
                }
            }
        }
    }
    // The empty text is the beginning of all.
    prefixes.insert(Vec::new());
    Texts { prefixes: Some(prefixes), ..Texts::default() }
}

/// Bytes of values that a search may make by adding, appending and overwriting.
const TEXTS_BYTES_MAX: usize = 256 << 20;

/// The prefixes of observed values that are kept at most.
const PREFIX_BYTES_MAX: usize = 256 << 20;
