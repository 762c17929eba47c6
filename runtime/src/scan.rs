//! Commands on the whole key space, page by page over all shards: nobody is blocked, and memory is bounded by a page (KEYS
//! alone collects its answer).

use crate::commands::Walk;
use crate::connection::Pipeline;
use crate::glob;
use crate::reply;
use crate::resp::Value;
use bytes::Bytes;
use samara_core::base::{Body, Failure, Level, Page, PageEntry, Response, Slot, limits};

/// Bytes of keys in one answer of KEYS.
const KEYS_BYTES_MAX: usize = 128 << 20;

/// A place in store order.
type Position = (Slot, Option<Bytes>);

/// The key space, as one connection walks over it.
struct Walker<'a> {
    pipeline: &'a mut Pipeline,
    level: Level,
}

impl Walker<'_> {
    /// The next page over all shards, in store order.
    async fn page(&mut self, from: &Position, limit: usize) -> Result<Page, Failure> {
        let body = |shard| (shard, Body::Scan { slot: from.0, after: from.1.clone(), limit: limit as u32 });
        let bodies = (0..self.pipeline.shards()).map(body).collect();
        let (mut entries, mut next): (Vec<PageEntry>, Option<Position>) = (Vec::new(), None);
        for result in self.pipeline.call(self.level, bodies).await {
            match result? {
                Response::Page(page) => {
                    entries.extend(page.entries);
                    next = match (next, page.next) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                }
                _ => return Err(Failure::Unavailable),
            }
        }
        entries.sort_by(|a, b| (a.slot, &a.key).cmp(&(b.slot, &b.key)));
        if let Some((slot, after)) = &next {
            entries.retain(|entry| (entry.slot, Some(&entry.key)) <= (*slot, after.as_ref()));
        }
        Ok(Page { entries, next })
    }
}

/// Carries out a command on the key space.
pub async fn walk(pipeline: &mut Pipeline, level: Level, walk: &Walk) -> Value {
    let walker = &mut Walker { pipeline, level };
    let answer = match walk {
        Walk::Scan { cursor, pattern, count, strings } => {
            scan(walker, *cursor, pattern.as_ref(), *count as usize, *strings).await
        }
        Walk::Keys(pattern) => keys(walker, pattern).await,
        Walk::Size => size(walker).await,
        Walk::Random => random(walker).await,
        Walk::Flush => flush(walker).await,
    };
    answer.unwrap_or_else(reply::failure)
}

/// SCAN returns whole slots, so that the number of the next slot is all that the cursor must hold, and a key that is
/// present throughout is returned.
async fn scan(
    walker: &mut Walker<'_>,
    cursor: u64,
    pattern: Option<&Bytes>,
    count: usize,
    strings: bool,
) -> Result<Value, Failure> {
    let mut found = Vec::new();
    let mut position = Some((Slot(u16::try_from(cursor).unwrap_or(Slot::COUNT)), None));
    let mut seen = 0;
    let mut end_slot = None;
    while let Some(from) = position.take().filter(|(slot, _)| slot.0 < Slot::COUNT) {
        let page = walker.page(&from, count.clamp(10, limits::SCAN_PAGE_MAX)).await?;
        for entry in page.entries {
            if end_slot.is_some_and(|end| entry.slot > end) {
                return Ok(scanned(end_slot, found));
            }
            seen += 1;
            if seen >= count && end_slot.is_none() {
                end_slot = Some(entry.slot);
            }
            if strings && pattern.is_none_or(|pattern| glob::matches(pattern, &entry.key)) {
                found.push(Value::Bulk(entry.key));
            }
        }
        if let (Some(end), Some((slot, _))) = (end_slot, &page.next)
            && *slot > end
        {
            break;
        }
        position = page.next;
        if position.is_none() {
            return Ok(scanned(None, found));
        }
    }
    Ok(scanned(end_slot, found))
}

fn scanned(end: Option<Slot>, found: Vec<Value>) -> Value {
    let cursor = end.map_or(0, |slot| u64::from(slot.0) + 1) % u64::from(Slot::COUNT);
    Value::Array(vec![Value::text(cursor.to_string()), Value::Array(found)])
}

async fn keys(walker: &mut Walker<'_>, pattern: &Bytes) -> Result<Value, Failure> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut position = Some((Slot(0), None));
    while let Some(from) = position {
        let page = walker.page(&from, limits::SCAN_PAGE_MAX).await?;
        for entry in page.entries.into_iter().filter(|entry| glob::matches(pattern, &entry.key)) {
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
        let page = walker.page(&from, limits::SCAN_PAGE_MAX).await?;
        count += page.entries.len();
        position = page.next;
    }
    Ok(Value::Integer(count as i64))
}

/// A key from a place that the clock chooses, or the first one.
async fn random(walker: &mut Walker<'_>) -> Result<Value, Failure> {
    let nanos =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    for from in [Slot((nanos / 64 % u32::from(Slot::COUNT)) as u16), Slot(0)] {
        let mut position = Some((from, None));
        while let Some(from) = position {
            let page = walker.page(&from, 1).await?;
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
        let page = walker.page(&from, limits::SCAN_PAGE_MAX).await?;
        let keys = page.entries.into_iter().map(|entry| entry.key).collect();
        walker.pipeline.delete(walker.level, keys).await?;
        position = page.next;
    }
    Ok(Value::Status("OK"))
}
