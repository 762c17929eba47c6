//! How long the disk's operations take, and what is in flight.

use samara_core::io::DiskOp;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the histogram, microseconds.
const BOUNDS_US: [u64; 12] =
    [50, 100, 250, 1_000, 2_500, 10_000, 25_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];
const KINDS: [&str; 4] = ["read", "write", "sync", "other"];

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    micros: AtomicU64,
    max_us: AtomicU64,
}

/// The latency of a node's disk, over all shards, by kind of operation.
#[derive(Debug, Default)]
pub struct DiskLatency {
    kinds: [Histogram; KINDS.len()],
    in_flight_bytes: AtomicU64,
}

fn kind(op: &DiskOp) -> usize {
    match op {
        DiskOp::Read { .. } => 0,
        DiskOp::Write { sync: false, .. } => 1,
        DiskOp::Write { .. } | DiskOp::Sync { .. } | DiskOp::SyncDir => 2,
        _ => 3,
    }
}

fn bytes(op: &DiskOp) -> u64 {
    match op {
        DiskOp::Write { data, .. } => data.len() as u64,
        DiskOp::Read { len, .. } => u64::from(*len),
        _ => 0,
    }
}

impl DiskLatency {
    /// An operation was asked for.
    pub fn begin(&self, op: &DiskOp) {
        self.in_flight_bytes.fetch_add(bytes(op), Ordering::Relaxed);
    }

    /// An operation ended, after `took` on the disk.
    pub fn end(&self, op: &DiskOp, took: Duration) {
        self.in_flight_bytes.fetch_sub(bytes(op), Ordering::Relaxed);
        let micros = took.as_micros() as u64;
        let of = &self.kinds[kind(op)];
        let bucket = BOUNDS_US.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS_US.len());
        of.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        of.micros.fetch_add(micros, Ordering::Relaxed);
        of.max_us.fetch_max(micros, Ordering::Relaxed);
    }

    /// Bytes of reads and writes that have not ended.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes.load(Ordering::Relaxed)
    }

    /// Prometheus text.
    pub fn write(&self, text: &mut String) -> std::fmt::Result {
        let seconds = |micros: u64| micros as f64 / 1e6;
        writeln!(
            text,
            "# HELP samara_disk_operation_seconds Time of disk operations; a synced write is a sync."
        )?;
        writeln!(text, "# TYPE samara_disk_operation_seconds histogram")?;
        for (of, name) in self.kinds.iter().zip(KINDS) {
            let mut total = 0;
            for (at, count) in of.buckets.iter().enumerate() {
                total += count.load(Ordering::Relaxed);
                let bound = BOUNDS_US.get(at).map_or("+Inf".to_string(), |bound| seconds(*bound).to_string());
                writeln!(
                    text,
                    "samara_disk_operation_seconds_bucket{{op=\"{name}\",le=\"{bound}\"}} {total}"
                )?;
            }
            let sum = seconds(of.micros.load(Ordering::Relaxed));
            writeln!(text, "samara_disk_operation_seconds_sum{{op=\"{name}\"}} {sum}")?;
            writeln!(text, "samara_disk_operation_seconds_count{{op=\"{name}\"}} {total}")?;
        }
        writeln!(text, "# HELP samara_disk_operation_max_seconds Longest disk operation since the start.")?;
        writeln!(text, "# TYPE samara_disk_operation_max_seconds gauge")?;
        for (of, name) in self.kinds.iter().zip(KINDS) {
            let max = seconds(of.max_us.load(Ordering::Relaxed));
            writeln!(text, "samara_disk_operation_max_seconds{{op=\"{name}\"}} {max}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use samara_core::io::{FileKind, FileName};

    #[test]
    fn operations_are_told_by_kind_and_what_is_in_flight_is_known() {
        let latency = DiskLatency::default();
        let file = FileName::new(FileKind::Wal, 1);
        let data = bytes::Bytes::from_static(b"12345");
        let write = DiskOp::Write { file, offset: 0, data, sync: true };
        latency.begin(&write);
        latency.begin(&DiskOp::Read { file, offset: 0, len: 100 });
        assert_eq!(latency.in_flight_bytes(), 105);
        latency.end(&write, Duration::from_millis(3));
        assert_eq!(latency.in_flight_bytes(), 100);
        let mut text = String::new();
        latency.write(&mut text).expect("text");
        for line in [
            "samara_disk_operation_seconds_bucket{op=\"sync\",le=\"0.0025\"} 0",
            "samara_disk_operation_seconds_bucket{op=\"sync\",le=\"0.01\"} 1",
            "samara_disk_operation_seconds_count{op=\"read\"} 0",
            "samara_disk_operation_max_seconds{op=\"sync\"} 0.003",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}
