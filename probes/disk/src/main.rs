//! The node's disk driver, a pool of threads, against a prototype on io_uring, on what a node asks of its disk: one synced
//! append of the log after the other, and random reads at a depth. Same machine, same file, alternating rounds; CPU is that
//! of the whole process, kernel threads of io_uring not among it. Both are waited for as a shard's driver waits: on a tokio
//! runtime of one thread. A probe decides no test.
//!
//! | option | default | meaning |
//! | --- | --- | --- |
//! | `--dir` | the system's | where the files go; removed in the end |
//! | `--rounds` | 5 | rounds of each, in turn |
//! | `--mib` | 1024 | size of the file that is read |
//! | `--depth` | 32 | reads in flight |

mod pool;
mod uring;

use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is measured: operations on one file, by number.
pub trait Driver {
    /// Asks for a synced write.
    fn append(&mut self, offset: u64, data: Bytes);
    /// Asks for a read.
    fn read(&mut self, offset: u64, len: u32);
    /// Waits for completions; how many there were, and the sum of the bytes that were read.
    fn wait(&mut self) -> (usize, u64);
}

const PAGE: u64 = 4096;
const APPENDS: u64 = 400;
const READS: u64 = 60_000;

/// One row: wall and CPU time of an operation, microseconds.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

/// User and system time of this process, microseconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after = stat.rsplit(')').next().expect("a name in brackets");
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) * 10_000.0
}

fn measured(operations: u64, work: impl FnOnce()) -> Cost {
    let (began, before) = (Instant::now(), cpu());
    work();
    let operations = operations as f64;
    Cost { wall: began.elapsed().as_secs_f64() * 1e6 / operations, cpu: (cpu() - before) / operations }
}

fn appends(driver: &mut dyn Driver, bytes: u64) -> Cost {
    let data = Bytes::from(vec![7; bytes as usize]);
    measured(APPENDS, || {
        for number in 0..APPENDS {
            driver.append(number * bytes, data.clone());
            while driver.wait().0 == 0 {}
        }
    })
}

fn reads(driver: &mut dyn Driver, pages: u64, depth: u64, count: u64, seed: u64) -> Cost {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % pages * PAGE
    };
    let mut bytes = 0;
    let cost = measured(count, || {
        let (mut asked, mut done) = (0, 0);
        while done < count {
            while asked < count && asked - done < depth {
                driver.read(next(), PAGE as u32);
                asked += 1;
            }
            let (ended, sum) = driver.wait();
            done += ended as u64;
            bytes += sum;
        }
    });
    assert_eq!(bytes, count * PAGE, "every read brought its page");
    cost
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Options {
    dir: PathBuf,
    rounds: usize,
    mib: u64,
    depth: u64,
}

fn options() -> Options {
    let mut options = Options { dir: std::env::temp_dir(), rounds: 5, mib: 1024, depth: 32 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        let number = || value.parse().unwrap_or_else(|_| panic!("{word} {value}: give a number"));
        match word.as_str() {
            "--dir" => options.dir = PathBuf::from(&value),
            "--rounds" => options.rounds = number() as usize,
            "--mib" => options.mib = number(),
            "--depth" => options.depth = number(),
            _ => panic!("{word}: give --dir, --rounds, --mib or --depth"),
        }
    }
    options
}

/// Makes a file of so many bytes, none of them a hole, and has it on the disk.
fn fill(path: &Path, len: u64) {
    let file = std::fs::File::create(path).expect("a file can be made");
    let piece: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for at in (0..len).step_by(piece.len()) {
        std::os::unix::fs::FileExt::write_all_at(&file, &piece[..piece.len().min((len - at) as usize)], at)
            .expect("there is room");
    }
    file.sync_all().expect("it can be synced");
}

fn forget(path: &Path) {
    let file = std::fs::File::open(path).expect("it is there");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice is heard");
}

fn main() {
    let options = options();
    let dir = options.dir.join(format!("samara-probe-disk-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let (log, table) = (dir.join("0000000001.wal"), dir.join("0000000001.table"));
    fill(&log, APPENDS * (64 << 10));
    fill(&table, options.mib << 20);
    let pages = options.mib * 256;
    let mut rows: BTreeMap<&str, [Vec<Cost>; 2]> = BTreeMap::new();
    for round in 0..options.rounds {
        for which in [round % 2, 1 - round % 2] {
            let made = |file: &Path| -> Box<dyn Driver> {
                if which == 0 {
                    Box::new(pool::Pool::new(&dir, file))
                } else {
                    Box::new(uring::Ring::new(file))
                }
            };
            let mut keep = |name, cost| rows.entry(name).or_default()[which].push(cost);
            let seed = round as u64 * 977 + 12_345;
            {
                let mut driver = made(&log);
                keep("append 4 KiB, synced", appends(&mut *driver, PAGE));
                keep("append 64 KiB, synced", appends(&mut *driver, 64 << 10));
            }
            let mut driver = made(&table);
            forget(&table);
            keep("read 4 KiB, from the disk", reads(&mut *driver, pages, options.depth, READS / 6, seed));
            let whole = std::fs::read(&table).expect("it is there");
            drop(whole);
            keep("read 4 KiB, from the page cache", reads(&mut *driver, pages, options.depth, READS, seed));
            keep("read 4 KiB, one at a time, cached", reads(&mut *driver, pages, 1, READS / 6, seed));
        }
    }
    println!("{:36} {:>20} {:>20} {:>14}", "us of an operation (CPU)", "pool", "io_uring", "ring/pool");
    for (name, [pool, ring]) in &rows {
        let of = |costs: &[Cost], value: fn(&Cost) -> f64| {
            median(&mut costs.iter().map(value).collect::<Vec<_>>())
        };
        let ratios = |value: fn(&Cost) -> f64| {
            median(
                &mut pool.iter().zip(ring).map(|(pool, ring)| value(ring) / value(pool)).collect::<Vec<_>>(),
            )
        };
        let (wall, cpu): (fn(&Cost) -> f64, fn(&Cost) -> f64) = (|cost| cost.wall, |cost| cost.cpu);
        println!(
            "{name:36} {:>11.1} ({:>6.1}) {:>11.1} ({:>6.1}) {:>6.2} ({:.2})",
            of(pool, wall),
            of(pool, cpu),
            of(ring, wall),
            of(ring, cpu),
            ratios(wall),
            ratios(cpu)
        );
    }
    std::fs::remove_dir_all(&dir).expect("it was ours");
}
