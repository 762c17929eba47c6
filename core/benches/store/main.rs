//! The storage engine against fjall: same machine, same run, same data, equal cache, alternating rounds, medians; in
//! brackets ours divided by the peer's.
//!
//! `cargo bench -p samara-core --bench store --features hardware-crc -- --keys 1000000 --rounds 3`
//!
//! | option | default | meaning |
//! | --- | --- | --- |
//! | `--keys` | 1000000 | records |
//! | `--rounds` | 3 | rounds of every engine, in turn |
//! | `--cache-mib` | 128 | cache of each engine |
//! | `--window` | 256 | writes under way at a time; with `synced` they share an `fdatasync` |
//! | `--rows` | all | `hot,all,absent,scan,overwrite,reopen,synced`; the fill is always there |
//! | `--alone` | | without peers |
//! | `--dir` | the system's | where the data goes; removed in the end |
//!
//! `hot` reads 200,000 records again and again, `all` any of them, `scan` 100 in order. `overwrite` writes as many records
//! as there are, over those there, once to reach the steady state and once to measure: bytes written are those of the
//! process's write calls, space is what the files take. `reopen` opens and reads one record, after a stop, and after a process
//! that wrote on was killed. `synced` counts a write when it is durable, the rest when the operating system has it (interval
//! durability; the peers' default). Ours runs on one thread, which also does the I/O; peers keep their background threads:
//! processor time counts all of them. `core/benches/rocksdb` adds RocksDB. A bench decides no test.

mod data;
mod files;
mod ours;
mod peer_fjall;
mod suite;

fn main() {
    suite::run(&[suite::player::<ours::Ours>("ours"), suite::player::<peer_fjall::Fjall>("fjall")]);
}
