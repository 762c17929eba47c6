//! RocksDB, leveled, with its own background threads: filters and indexes share the cache's budget, as ours do.

use super::data::{name, value};
use super::suite::{Engine, Setup};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Direction, IteratorMode, Options, WriteBatch,
    WriteOptions,
};
use std::path::Path;

pub struct RocksDb {
    db: DB,
    /// Those of a window share a sync, as the peers' do.
    batch: WriteBatch,
    sync: bool,
    window: u64,
}

impl Engine for RocksDb {
    fn open(path: &Path, setup: &Setup) -> Self {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(setup.cache_bytes).expect("a cache"));
        blocks.set_bloom_filter(10.0, false);
        blocks.set_block_size(8 << 10);
        blocks.set_format_version(5);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(64 << 20);
        options.set_max_write_buffer_number(4);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_max_background_jobs(2);
        let db = DB::open(&options, path).expect("RocksDB opens");
        Self { db, batch: WriteBatch::default(), sync: setup.sync, window: setup.window }
    }

    fn put(&mut self, number: u64) {
        if !self.sync {
            return self.db.put(name(number), value(number)).expect("a write");
        }
        self.batch.put(name(number), value(number));
        if self.batch.len() as u64 >= self.window {
            self.sync();
        }
    }

    fn sync(&mut self) {
        if self.sync {
            let mut options = WriteOptions::default();
            options.set_sync(true);
            self.db.write_opt(std::mem::take(&mut self.batch), &options).expect("a synced write");
        }
    }

    fn settle(&mut self) {
        let count = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        let names = [
            "mem-table-flush-pending",
            "num-running-flushes",
            "compaction-pending",
            "num-running-compactions",
        ];
        while names.iter().any(|name| count(&format!("rocksdb.{name}")) > 0) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn get(&mut self, number: u64) -> bool {
        self.db.get_pinned(name(number)).expect("a read").is_some()
    }

    fn scan(&mut self, number: u64) -> usize {
        let from = name(number);
        let page = self.db.iterator(IteratorMode::From(&from, Direction::Forward)).take(100);
        page.map(|item| item.expect("a record").1).filter(|value| value.len() == 100).count()
    }
}
