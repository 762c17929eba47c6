//! fjall, with its own background threads.

use super::data::{name, value};
use super::suite::{Engine, Setup};
use std::path::Path;

pub struct Fjall {
    db: fjall::Database,
    items: fjall::Keyspace,
    sync: bool,
    window: u64,
    put: u64,
}

impl Engine for Fjall {
    fn open(path: &Path, setup: &Setup) -> Self {
        let db =
            fjall::Database::builder(path).cache_size(setup.cache_bytes as u64).open().expect("fjall opens");
        let items = db.keyspace("items", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
        Self { db, items, sync: setup.sync, window: setup.window, put: 0 }
    }

    fn put(&mut self, number: u64) {
        self.put += 1;
        self.items.insert(name(number), value(number)).expect("a write");
        if self.put.is_multiple_of(self.window) {
            self.sync();
        }
    }

    fn sync(&mut self) {
        if self.sync {
            self.db.persist(fjall::PersistMode::SyncData).expect("a sync");
        }
    }

    fn settle(&mut self) {}

    fn get(&mut self, number: u64) -> bool {
        self.items.get(name(number)).expect("a read").is_some()
    }

    fn scan(&mut self, number: u64) -> usize {
        let page = self.items.range(name(number).to_vec()..).take(100);
        page.map(|item| item.into_inner().expect("a record").1).filter(|value| value.len() == 100).count()
    }
}
