//! Commands on the whole key space, page by page over all shards: nobody is blocked, and memory is bounded by a page (KEYS
//! alone collects its answer).

use crate::commands::Walk;
use crate::connection::Pipeline;
use crate::glob::{self, Glob};
use crate::range;
use crate::reply;
use crate::resp::Value;
use bytes::Bytes;
use samara_core::base::{Body, Failure, Level, Page, PageEntry, Response, Slot, Wanted, limits};
use samara_core::rules::cursor::Cursor;
use samara_core::rules::slots::{has_hash_tag, slot_of};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Bytes of keys in one answer of KEYS.
const KEYS_BYTES_MAX: usize = 128 << 20;
/// Bytes of keys in one answer of SCAN, whatever its COUNT.
const SCAN_BYTES_MAX: usize = 4 << 20;
/// Records without a value that one SCAN passes over beside its COUNT.
const EMPTY_MAX: usize = 4_096;
/// Cursors whose keys a node remembers.
const CURSORS_MAX: usize = 1_024;

/// A place in store order.
pub(crate) type Position = (Slot, Option<Bytes>);

/// The place that a walk comes to first.
fn first(reverse: bool, a: Position, b: Position) -> Position {
    if !reverse {
        return a.min(b);
    }
    let a_first = match a.0.cmp(&b.0) {
        std::cmp::Ordering::Equal => match (&a.1, &b.1) {
            (Some(of_a), Some(of_b)) => of_a >= of_b,
            (of_a, _) => of_a.is_none(),
        },
        order => order.is_gt(),
    };
    if a_first { a } else { b }
}

/// The key space, as one connection walks over it.
pub(crate) struct Walker<'a> {
    pipeline: &'a mut Pipeline,
    level: Level,
    cursors: &'a Cursors,
}

impl Walker<'_> {
    /// The next page over all shards, in store order.
    pub(crate) async fn page(
        &mut self,
        from: &Position,
        limit: usize,
        wanted: &Wanted,
    ) -> Result<Page, Failure> {
        let body = |shard| {
            let (limit, wanted) = (limit as u32, wanted.clone());
            (shard, Body::Scan { slot: from.0, after: from.1.clone(), limit, wanted })
        };
        let bodies = (0..self.pipeline.shards()).map(body).collect();
        let (mut entries, mut next): (Vec<PageEntry>, Option<Position>) = (Vec::new(), None);
        for result in self.pipeline.call(self.level, bodies).await {
            match result? {
                Response::Page(page) => {
                    entries.extend(page.entries);
                    next = match (next, page.next) {
                        (Some(a), Some(b)) => Some(first(wanted.reverse, a, b)),
                        (a, b) => a.or(b),
                    };
                }
                _ => return Err(Failure::Unavailable),
            }
        }
        // Each shard has its pages in order, and slots of its own.
        if self.pipeline.shards() > 1 {
            entries.sort_by(|a, b| {
                let order = (a.slot, &a.key).cmp(&(b.slot, &b.key));
                if wanted.reverse { order.reverse() } else { order }
            });
            if let Some(end) = &next {
                let covered = |entry: &PageEntry| {
                    let place = (entry.slot, Some(entry.key.clone()));
                    place == *end || first(wanted.reverse, place.clone(), end.clone()) == place
                };
                entries.retain(covered);
            }
        }
        Ok(Page { entries, next })
    }

    /// The place that a cursor names; `None` where nothing of it is left.
    async fn resume(&mut self, cursor: Cursor) -> Result<Option<Position>, Failure> {
        if cursor.mark == 0 {
            return Ok(Some((cursor.slot, None)));
        }
        if let Some(key) = self.cursors.find(cursor) {
            return Ok(Some((cursor.slot, Some(key))));
        }
        let dead = Wanted { dead: true, one_slot: true, ..Wanted::default() };
        // Another node gave it, or it was long ago: the key is looked for, among what has been deleted since, too.
        let mut position = Some((cursor.slot, None));
        while let Some(from) = position.take().filter(|(slot, _)| *slot == cursor.slot) {
            let page = self.page(&from, limits::SCAN_PAGE_MAX, &dead).await?;
            let named = |entry: &&PageEntry| entry.slot == cursor.slot && cursor.is_after(&entry.key);
            if let Some(entry) = page.entries.iter().find(named) {
                return Ok(Some((cursor.slot, Some(entry.key.clone()))));
            }
            position = page.next;
        }
        Ok(Some((cursor.slot, None)))
    }

    /// The number under which a client goes on at a place.
    fn suspend(&mut self, slot: Slot, after: Option<Bytes>) -> u64 {
        let cursor = Cursor::new(slot, after.as_deref());
        if let Some(key) = after {
            self.cursors.keep(cursor, key);
        }
        cursor.encode()
    }
}

/// The keys of the latest cursors that this node gave: only a shortcut, for a cursor says it all.
#[derive(Debug, Default)]
pub struct Cursors {
    kept: Mutex<(HashMap<u64, Bytes>, VecDeque<u64>)>,
}

impl Cursors {
    fn keep(&self, cursor: Cursor, key: Bytes) {
        // A key may point into a page of a thousand: the page must not live as long as the cursor.
        let key = Bytes::copy_from_slice(&key);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (keys, order) = &mut *kept;
        if keys.insert(cursor.encode(), key).is_none() {
            order.push_back(cursor.encode());
        }
        if order.len() > CURSORS_MAX
            && let Some(oldest) = order.pop_front()
        {
            keys.remove(&oldest);
        }
    }

    fn find(&self, cursor: Cursor) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0.get(&cursor.encode()).cloned()
    }
}

/// MATCH, with what its literal beginning says about where matching keys can be.
struct Filter {
    glob: Option<Glob>,
    /// Every key that matches begins so.
    prefix: Vec<u8>,
    /// The one slot of all keys that match, where the prefix holds a whole hash tag.
    slot: Option<Slot>,
}

impl Filter {
    fn new(pattern: Option<&Bytes>) -> Self {
        let prefix = pattern.map(|pattern| glob::prefix(pattern)).unwrap_or_default();
        let slot = has_hash_tag(&prefix).then(|| slot_of(&prefix));
        Self { glob: pattern.map(|pattern| Glob::new(pattern)), prefix, slot }
    }

    fn takes(&self, entry: &PageEntry) -> bool {
        self.glob.as_ref().is_none_or(|glob| glob.matches(&entry.key))
    }

    /// The first place at or behind `from` where a key can match. In a slot with many keys this passes over all that do not
    /// begin with the prefix; where a page covers many slots there is nothing to gain, and it does not go from slot to slot.
    fn seek(&self, (slot, after): Position) -> Option<Position> {
        let (mut slot, mut after) = (slot, after);
        if let Some(only) = self.slot {
            if slot > only {
                return None;
            }
            if slot < only {
                (slot, after) = (only, None);
            }
        } else if after.is_none() {
            return Some((slot, None)).filter(|(slot, _)| slot.0 < Slot::COUNT);
        }
        if self.prefix.is_empty() {
            return Some((slot, after));
        }
        let last = after.as_deref().unwrap_or_default();
        if last > &self.prefix[..] && !last.starts_with(&self.prefix) {
            let next = Slot(slot.0 + 1);
            return (self.slot.is_none() && next.0 < Slot::COUNT).then_some((next, None));
        }
        if last < &self.prefix[..] {
            let before = before(&self.prefix);
            if after.as_ref().is_none_or(|after| **after < before[..]) {
                after = Some(Bytes::from(before));
            }
        }
        Some((slot, after))
    }
}

/// A key below `prefix` and above nearly all that are: no key of ordinary length lies between.
fn before(prefix: &[u8]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    match key.pop() {
        None | Some(0) => {}
        Some(last) => {
            key.push(last - 1);
            key.extend_from_slice(&[0xff; 64]);
        }
    }
    key
}

/// Carries out a command on the key space.
pub async fn walk(pipeline: &mut Pipeline, level: Level, walk: &Walk, cursors: &Cursors) -> Value {
    let walker = &mut Walker { pipeline, level, cursors };
    let answer = match walk {
        Walk::Scan { cursor, pattern, count, strings } => {
            scan(walker, *cursor, pattern.as_ref(), *count as usize, *strings).await
        }
        Walk::Keys(pattern) => keys(walker, pattern).await,
        Walk::Size => size(walker).await,
        Walk::Random => random(walker).await,
        Walk::Range(wanted, limit) => range::range(walker, wanted.clone(), *limit as usize).await,
        Walk::Flush => flush(walker).await,
        Walk::CountInSlot(slot) => {
            in_slot(walker, Slot(*slot), usize::MAX).await.map(|keys| Value::Integer(keys.0))
        }
        Walk::KeysInSlot(slot, most) => {
            in_slot(walker, Slot(*slot), *most as usize).await.map(|keys| Value::Array(keys.1))
        }
    };
    answer.unwrap_or_else(reply::failure)
}

/// SCAN: pages of the key space until `count` keys have been looked at. COUNT bounds the work, whatever MATCH leaves; what
/// is deleted is passed over, up to a bound of its own.
async fn scan(
    walker: &mut Walker<'_>,
    cursor: u64,
    pattern: Option<&Bytes>,
    count: usize,
    strings: bool,
) -> Result<Value, Failure> {
    let filter = Filter::new(pattern);
    let mut position = match Cursor::decode(cursor) {
        Some(cursor) => walker.resume(cursor).await?,
        None => None,
    };
    let (mut found, mut bytes, mut seen) = (Vec::new(), 0, 0);
    let (mut limit, mut empty) = (count.clamp(10, limits::SCAN_PAGE_MAX), 0);
    while seen < count && bytes <= SCAN_BYTES_MAX && empty < EMPTY_MAX {
        // A cursor is of a place where a key was, not of one that a seek has made up: the seek is done again behind it.
        let Some(from) = position.take().and_then(|from| filter.seek(from)) else {
            break;
        };
        let page = walker.page(&from, limit, &Wanted::default()).await?;
        if page.entries.is_empty() {
            // Only what is deleted or expired was there: larger pages pass over it sooner.
            empty += limit;
            limit = (limit * 4).min(limits::SCAN_PAGE_MAX);
        } else {
            seen += limit;
            limit = count.saturating_sub(seen).clamp(10, limits::SCAN_PAGE_MAX);
        }
        for entry in page.entries.into_iter().filter(|entry| strings && filter.takes(entry)) {
            bytes += entry.key.len() + 64;
            found.push(Value::Bulk(entry.key));
        }
        position = page.next;
    }
    let cursor = position.map_or(0, |(slot, after)| walker.suspend(slot, after));
    Ok(Value::Array(vec![Value::text(cursor.to_string()), Value::Array(found)]))
}

async fn keys(walker: &mut Walker<'_>, pattern: &Bytes) -> Result<Value, Failure> {
    let filter = Filter::new(Some(pattern));
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut position = Some((Slot(0), None));
    while let Some(from) = position.take().and_then(|from| filter.seek(from)) {
        let page = walker.page(&from, limits::SCAN_PAGE_MAX, &Wanted::default()).await?;
        for entry in page.entries.into_iter().filter(|entry| filter.takes(entry)) {
            bytes += entry.key.len() + 64;
            found.push(Value::Bulk(entry.key));
        }
        if bytes > KEYS_BYTES_MAX {
            return Err(Failure::Overloaded);
        }
        position = page.next;
    }
    Ok(Value::Array(found))
}

async fn size(walker: &mut Walker<'_>) -> Result<Value, Failure> {
    let mut count = 0;
    let mut position = Some((Slot(0), None));
    while let Some(from) = position {
        let page = walker.page(&from, limits::SCAN_PAGE_MAX, &Wanted::default()).await?;
        count += page.entries.len();
        position = page.next;
    }
    Ok(Value::Integer(count as i64))
}

/// The number of keys in a slot, and the first `most` of them (none where only the number is wanted).
async fn in_slot(walker: &mut Walker<'_>, slot: Slot, most: usize) -> Result<(i64, Vec<Value>), Failure> {
    let (mut count, mut keys) = (0, Vec::new());
    let wanted = Wanted { one_slot: true, ..Wanted::default() };
    let mut position = Some((slot, None));
    while let Some(from) = position.filter(|_| keys.len() < most) {
        let page = walker.page(&from, limits::SCAN_PAGE_MAX, &wanted).await?;
        for entry in page.entries {
            count += 1;
            if most != usize::MAX && keys.len() < most {
                keys.push(Value::Bulk(entry.key));
            }
        }
        position = page.next;
    }
    Ok((count, keys))
}

/// A key from a place that the clock chooses, or the first one.
async fn random(walker: &mut Walker<'_>) -> Result<Value, Failure> {
    let nanos =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    for from in [Slot((nanos / 64 % u32::from(Slot::COUNT)) as u16), Slot(0)] {
        let mut position = Some((from, None));
        while let Some(from) = position {
            let page = walker.page(&from, 1, &Wanted::default()).await?;
            if let Some(entry) = page.entries.into_iter().next() {
                return Ok(Value::Bulk(entry.key));
            }
            position = page.next;
        }
    }
    Ok(Value::Null)
}

/// Deletes every key that is there, one by one: not atomic, and what is written meanwhile may stay.
async fn flush(walker: &mut Walker<'_>) -> Result<Value, Failure> {
    let mut position = Some((Slot(0), None));
    while let Some(from) = position {
        let page = walker.page(&from, limits::SCAN_PAGE_MAX, &Wanted::default()).await?;
        let keys = page.entries.into_iter().map(|entry| entry.key).collect();
        walker.pipeline.delete(walker.level, keys).await?;
        position = page.next;
    }
    Ok(Value::Status("OK"))
}
