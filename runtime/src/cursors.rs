//! The keys of the latest cursors of SCAN.

use bytes::Bytes;
use samara_core::rules::cursor::Cursor;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Cursors whose keys a node remembers.
const CURSORS_MAX: usize = 1_024;

/// The keys of the latest cursors that this node gave: only a shortcut, for a cursor says it all.
#[derive(Debug, Default)]
pub struct Cursors {
    kept: Mutex<(HashMap<u64, Bytes>, VecDeque<u64>)>,
}

impl Cursors {
    /// Keeps the key of a cursor.
    pub fn keep(&self, cursor: Cursor, key: &Bytes) {
        // A key may point into a page of a thousand: the page must not live as long as the cursor.
        let key = Bytes::copy_from_slice(key);
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

    /// The key of a cursor, if it is kept.
    pub fn find(&self, cursor: Cursor) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0.get(&cursor.encode()).cloned()
    }
}
