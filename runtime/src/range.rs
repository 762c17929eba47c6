//! RANGE: keys of the whole cluster in order. The replicas walk over their slots side by side, each page in store order; here
//! the first keys so far are kept, and what lies behind the last of them is not asked for any more. Memory is bounded by
//! LIMIT, whatever the number of keys.

use crate::commands::behind;
use crate::resp::Value;
use crate::walker::{Position, Walker};
use bytes::Bytes;
use samara_core::base::{Failure, Slot, Wanted, limits};
use samara_core::rules::slots::{has_hash_tag, slot_of};
use std::collections::BTreeMap;

/// Bytes of keys and values in one answer.
const BYTES_MAX: usize = 128 << 20;

/// The one slot of all keys of a range, where both bounds begin with the same whole hash tag.
fn only_slot(wanted: &Wanted) -> Option<Slot> {
    let high = wanted.high.as_ref()?;
    let common = wanted.low.iter().zip(high.iter()).take_while(|(a, b)| a == b).count();
    let prefix = &high[..common];
    has_hash_tag(prefix).then(|| slot_of(prefix))
}

/// RANGE: the first `limit` keys of a range, or the last.
pub async fn range(walker: &mut Walker<'_>, wanted: Wanted, limit: usize) -> Result<Value, Failure> {
    let values = wanted.values;
    let found = find(walker, wanted, limit).await?;
    let answer = |(key, value): (Bytes, Bytes)| {
        let value = values.then_some(Value::Bulk(value));
        std::iter::once(Value::Bulk(key)).chain(value)
    };
    Ok(Value::Array(found.into_iter().flat_map(answer).collect()))
}

/// The first `limit` keys of a range, or the last, with their values where they are wanted.
pub async fn find(
    walker: &mut Walker<'_>,
    mut wanted: Wanted,
    limit: usize,
) -> Result<Vec<(Bytes, Bytes)>, Failure> {
    let slot = only_slot(&wanted);
    wanted.one_slot = slot.is_some();
    let begin = if wanted.reverse { Slot(Slot::COUNT - 1) } else { Slot(0) };
    let mut position: Option<Position> = Some((slot.unwrap_or(begin), None));
    let (mut best, mut bytes): (BTreeMap<Bytes, Bytes>, usize) = (BTreeMap::new(), 0);
    while let Some(from) = position.take() {
        let page = walker.page(&from, limit.min(limits::SCAN_PAGE_MAX), &wanted).await?;
        position = page.next;
        for entry in page.entries {
            bytes += entry.key.len() + entry.value.len();
            best.insert(entry.key, entry.value);
            if best.len() > limit {
                let worst = if wanted.reverse { best.pop_first() } else { best.pop_last() };
                bytes -= worst.map_or(0, |(key, value)| key.len() + value.len());
            }
        }
        if bytes > BYTES_MAX {
            return Err(Failure::Overloaded);
        }
        if best.len() == limit {
            // What is behind the last key kept can be none of the first ones any more; a slot has them in order.
            if slot.is_some() {
                break;
            }
            if wanted.reverse {
                wanted.low = best.first_key_value().map_or(Bytes::new(), |(key, _)| behind(key));
            } else {
                wanted.high = best.last_key_value().map(|(key, _)| key.clone());
            }
        }
    }
    let mut found: Vec<(Bytes, Bytes)> = best.into_iter().collect();
    if wanted.reverse {
        found.reverse();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_one_hash_tag_are_of_one_slot() {
        let slot = |low: &'static str, high: &'static str| {
            let high = (!high.is_empty()).then(|| Bytes::from(high));
            only_slot(&Wanted { low: low.into(), high, ..Wanted::default() })
        };
        assert_eq!(slot("{u1}:a", "{u1}:b"), Some(slot_of(b"u1")));
        assert_eq!(slot("{u1}", "{u1}\u{7f}"), Some(slot_of(b"u1")));
        assert_eq!(slot("{u1}:a", "{u2}:b"), None);
        assert_eq!(slot("{u1}:a", ""), None);
        assert_eq!(slot("a", "b"), None);
    }
}
