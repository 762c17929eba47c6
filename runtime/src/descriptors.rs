//! How many files and connections the process may have open, and who gets how many: a crowd of clients must not keep the
//! store from opening its tables.

use crate::disk::files::HANDLES;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What every process needs: standard streams, listeners, signals, the runtime.
const FIXED: u64 = 32;
/// What each shard needs besides its tables: the lock, the directory, two listeners, the runtime, files being made.
const FIXED_BY_SHARD: u64 = 16;
/// Tables that a shard must be able to keep open.
const HANDLES_MIN: u64 = 16;
/// Connections for operators and probes over HTTP that clients leave free.
const HTTP_MIN: u64 = 8;

/// What a node may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Files of each shard.
    pub handles: usize,
    /// Connections of clients.
    pub clients: u64,
    /// Connections over HTTP.
    pub http: u64,
}

/// Raises the process's limit as far as it may, and divides it among `nodes` nodes of so many shards and other members.
/// `Err` says that it is too low.
pub fn share(nodes: u16, shards: u16, others: usize, max_clients: u64) -> Result<Share, String> {
    let limit = raise();
    divide(limit / u64::from(nodes.max(1)), shards, others, max_clients).ok_or_else(|| {
        format!("the process may open only {limit} files, which is too few; allow more by ulimit -n")
    })
}

/// The most files that the process may have open: the soft limit is for programs that use `select`.
fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(now) = current else {
        return u64::MAX;
    };
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    match (raised, maximum) {
        (Ok(()), Some(most)) => most,
        (Ok(()), None) => u64::MAX,
        (Err(_), _) => now,
    }
}

fn divide(limit: u64, shards: u16, others: usize, max_clients: u64) -> Option<Share> {
    let shards = u64::from(shards.max(1));
    // One connection each way.
    let peers = 2 * others as u64 * shards;
    let left = limit.checked_sub(FIXED + FIXED_BY_SHARD * shards + peers)?;
    let handles = (left / 4 / shards).clamp(HANDLES_MIN, HANDLES as u64);
    let left = left.checked_sub(handles * shards + HTTP_MIN).filter(|left| *left > 0)?;
    let clients = max_clients.min(left);
    let http = HTTP_MIN + (left - clients).min(max_clients);
    Some(Share { handles: handles as usize, clients, http })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_the_store_its_files() {
        assert_eq!(
            divide(u64::MAX, 8, 100, 10_000),
            Some(Share { handles: HANDLES, clients: 10_000, http: 10_008 })
        );
        for limit in 0..5_000 {
            for shards in [1, 2, 16] {
                let Some(Share { handles, clients, http }) = divide(limit, shards, 2, 10_000) else {
                    assert!(limit < 700, "{limit} files are enough for {shards} shards");
                    continue;
                };
                let all = handles as u64 * u64::from(shards) + clients + http;
                assert!(all + FIXED + (FIXED_BY_SHARD + 4) * u64::from(shards) <= limit);
                assert!(handles >= 16 && clients >= 1 && http >= HTTP_MIN);
            }
        }
        let usual = divide(1_024, 1, 2, 10_000).expect("enough");
        assert!(usual.clients > 500 && usual.handles > 200, "{usual:?}");
        assert_eq!(divide(64, 1, 2, 10), None);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let most = raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert_eq!(most, maximum.unwrap_or(u64::MAX));
    }
}
