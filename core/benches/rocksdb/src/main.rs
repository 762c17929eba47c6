//! The storage engine against fjall and RocksDB. The same program as `core/benches/store`, whose options and rows it has;
//! `docs/STORAGE.md` says how to build it.

#[path = "../../store/data.rs"]
mod data;
#[path = "../../store/files.rs"]
mod files;
#[path = "../../store/ours.rs"]
mod ours;
#[path = "../../store/peer_fjall.rs"]
mod peer_fjall;
mod peer_rocksdb;
#[path = "../../store/suite.rs"]
mod suite;

fn main() {
    suite::run(&[
        suite::player::<ours::Ours>("ours"),
        suite::player::<peer_fjall::Fjall>("fjall"),
        suite::player::<peer_rocksdb::RocksDb>("rocksdb"),
    ]);
}
