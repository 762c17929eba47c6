//! Commands on the whole key space, page by page over all shards: nobody is blocked, and memory is bounded by a page (KEYS
//! alone collects its answer).

use crate::commands::Walk;
use crate::connection::Pipeline;
use crate::cursors::Cursors;
use crate::filter::Filter;
use crate::range;
use crate::reply;
use crate::resp::Value;
use crate::walker::Walker;
use bytes::Bytes;
use samara_core::base::{Failure, Level, PageEntry, Slot, Wanted, limits};
use samara_core::rules::cursor::Cursor;

/// Bytes of keys in one answer of KEYS.
const KEYS_BYTES_MAX: usize = 128 << 20;
/// Bytes of keys in one answer of SCAN, whatever its COUNT.
const SCAN_BYTES_MAX: usize = 4 << 20;
/// Records without a value that one SCAN passes over beside its COUNT.
const EMPTY_MAX: usize = 4_096;

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
    let (cursor, entries) = page(walker, cursor, pattern, count, false).await?;
    let found = entries.into_iter().filter(|_| strings).map(|entry| Value::Bulk(entry.key)).collect();
    Ok(Value::Array(vec![Value::text(cursor.to_string()), Value::Array(found)]))
}

/// A page of SCAN, and the cursor to go on at: 0 at the end.
pub async fn page(
    walker: &mut Walker<'_>,
    cursor: u64,
    pattern: Option<&Bytes>,
    count: usize,
    values: bool,
) -> Result<(u64, Vec<PageEntry>), Failure> {
    let filter = Filter::new(pattern);
    let mut position = match Cursor::decode(cursor) {
        Some(cursor) => Some(walker.resume(cursor).await?),
        None => None,
    };
    let (mut found, mut bytes, mut seen) = (Vec::new(), 0, 0);
    let (mut limit, mut empty) = (count.clamp(1, limits::SCAN_PAGE_MAX), 0);
    while seen < count && bytes <= SCAN_BYTES_MAX && empty < EMPTY_MAX {
        // A cursor is of a place where a key was, not of one that a seek has made up: the seek is done again behind it.
        let Some(from) = position.take().and_then(|from| filter.seek(from)) else {
            break;
        };
        let page = walker.page(&from, limit, &Wanted { values, ..Wanted::default() }).await?;
        let live = page.entries.len();
        (seen, empty) = (seen + live, empty + limit.saturating_sub(live));
        // Where only what is deleted or expired was, larger pages pass over it sooner.
        let next = if live == 0 { limit * 4 } else { count.saturating_sub(seen) };
        limit = next.clamp(1, limits::SCAN_PAGE_MAX);
        for entry in page.entries.into_iter().filter(|entry| filter.takes(entry)) {
            bytes += entry.key.len() + entry.value.len() + 64;
            found.push(entry);
        }
        position = page.next;
    }
    let cursor = position.map_or(0, |(slot, after)| walker.suspend(slot, after.as_ref()));
    Ok((cursor, found))
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
