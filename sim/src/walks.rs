//! Walks over the key space, judged when all is healed: in either order, in pages of any size, at any node, a walk lists
//! exactly the keys that strong reads find, each once and with its value.

use crate::judge::{ask_for, request};
use crate::world::World;
use bytes::Bytes;
use samara_core::base::{Body, Hlc, KeyOp, Level, PageEntry, Request, Response, Slot, Wanted};
use std::collections::BTreeMap;

/// Compares walks with reads of `keys`, whose replicas agree.
pub(crate) fn agree(world: &mut World, keys: &[Bytes]) -> Result<(), String> {
    let mut expected: BTreeMap<&Bytes, Option<Bytes>> = BTreeMap::new();
    for key in keys {
        match ask_for(world, 0, &request(Level::Strong, key, KeyOp::Read))? {
            // What may expire between two looks is not compared.
            Response::Value { expires_at: 1.., .. } => {}
            Response::Value { value, .. } => {
                expected.insert(key, Some(value));
            }
            _ => {
                expected.insert(key, None);
            }
        }
    }
    let nodes = world.machines.len();
    for (number, (reverse, limit)) in
        [(false, 1), (true, 2), (false, 1_000), (true, 1_000)].into_iter().enumerate()
    {
        let node = number % nodes;
        let whole = Wanted { reverse, values: true, ..Wanted::default() };
        let found = walk(world, node, limit, &whole)?;
        compare(&found, &expected, &whole)?;
        let counters = Wanted { low: "counter".into(), high: Some("key".into()), ..whole };
        let found = walk(world, node, limit, &counters)?;
        let within = expected.iter().filter(|(key, _)| counters.takes(key));
        compare(&found, &within.map(|(key, value)| (*key, value.clone())).collect(), &counters)?;
    }
    Ok(())
}

fn walk(world: &mut World, node: usize, limit: u32, wanted: &Wanted) -> Result<Vec<PageEntry>, String> {
    let from = if wanted.reverse { Slot(Slot::COUNT - 1) } else { Slot(0) };
    let (mut found, mut next) = (Vec::new(), Some((from, None)));
    while let Some((slot, after)) = next {
        let body = Body::Scan { slot, after, limit, wanted: wanted.clone() };
        let request = Request { level: Level::Strong, session: Hlc(0), idempotency: None, body };
        let Response::Page(page) = ask_for(world, node, &request)? else {
            return Err(format!("a walk at node {} was not answered by a page", node + 1));
        };
        if page.entries.len() > limit as usize {
            return Err(format!("a page of {limit} keys at most holds {}", page.entries.len()));
        }
        found.extend(page.entries);
        next = page.next;
    }
    Ok(found)
}

fn compare(
    found: &[PageEntry],
    expected: &BTreeMap<&Bytes, Option<Bytes>>,
    wanted: &Wanted,
) -> Result<(), String> {
    let place = |entry: &PageEntry| (entry.slot, entry.key.clone());
    for pair in found.windows(2) {
        if (place(&pair[0]) < place(&pair[1])) == wanted.reverse || pair[0].key == pair[1].key {
            return Err(format!("{wanted:?} lists {:?} before {:?}", pair[0].key, pair[1].key));
        }
    }
    for (key, value) in expected {
        let listed = found.iter().find(|entry| entry.key == *key).map(|entry| &entry.value);
        if listed != value.as_ref() {
            return Err(format!("{wanted:?} lists {listed:?} for {key:?}; a strong read finds {value:?}"));
        }
    }
    match found.iter().find(|entry| !wanted.takes(&entry.key)) {
        Some(entry) => Err(format!("{wanted:?} lists {:?}, which is not in the range", entry.key)),
        None => Ok(()),
    }
}
