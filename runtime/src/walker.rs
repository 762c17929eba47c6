//! Pages of the key space over all shards.

use crate::connection::Pipeline;
use crate::cursors::Cursors;
use bytes::Bytes;
use samara_core::base::{Body, Failure, Level, Page, PageEntry, Response, Slot, Wanted, limits};
use samara_core::rules::cursor::Cursor;

/// A place in store order.
pub type Position = (Slot, Option<Bytes>);

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
#[derive(Debug)]
pub struct Walker<'a> {
    /// The connection's requests; nothing of it is in flight.
    pub pipeline: &'a mut Pipeline,
    /// The connection's level.
    pub level: Level,
    /// The node's cursors.
    pub cursors: &'a Cursors,
}

impl Walker<'_> {
    /// The next page over all shards, in store order.
    pub async fn page(&mut self, from: &Position, limit: usize, wanted: &Wanted) -> Result<Page, Failure> {
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

    /// The place that a cursor names; the beginning of its slot where the key is not known any more.
    pub async fn resume(&mut self, cursor: Cursor) -> Result<Position, Failure> {
        if cursor.mark == 0 {
            return Ok((cursor.slot, None));
        }
        if let Some(key) = self.cursors.find(cursor) {
            return Ok((cursor.slot, Some(key)));
        }
        let dead = Wanted { dead: true, one_slot: true, ..Wanted::default() };
        // Another node gave it, or it was long ago: the key is looked for, among what has been deleted since, too.
        let mut position = Some((cursor.slot, None));
        while let Some(from) = position.take().filter(|(slot, _)| *slot == cursor.slot) {
            let page = self.page(&from, limits::SCAN_PAGE_MAX, &dead).await?;
            let named = |entry: &&PageEntry| entry.slot == cursor.slot && cursor.is_after(&entry.key);
            if let Some(entry) = page.entries.iter().find(named) {
                return Ok((cursor.slot, Some(entry.key.clone())));
            }
            position = page.next;
        }
        Ok((cursor.slot, None))
    }

    /// The number under which a client goes on at a place.
    pub fn suspend(&self, slot: Slot, after: Option<&Bytes>) -> u64 {
        let cursor = Cursor::new(slot, after.map(|key| &key[..]));
        if let Some(key) = after {
            self.cursors.keep(cursor, key);
        }
        cursor.encode()
    }
}
