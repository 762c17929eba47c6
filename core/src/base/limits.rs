//! Every limit of the core, with its reason. A limit reached answers Overloaded or TooLarge; nothing grows without one.

/// Key bytes (INTERFACES, RESP limits).
pub const KEY_BYTES_MAX: usize = 64 * 1024;
/// Value bytes.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Values above so many bytes stand in files of their own, unless configured otherwise.
pub const VALUE_INLINE_MAX: usize = 4096;
/// Client operations in flight in one shard.
pub const OPERATIONS_MAX: usize = 65_536;
/// Entries of a record's `recent`. A combined round (C7) adds `BATCH_MAX`; retries older than what is kept are in doubt.
pub const RECENT_MAX: usize = 128;
/// Operations combined into one round.
pub const BATCH_MAX: usize = 64;
/// Bytes of an answer kept in `recent`; larger ones are `Outcome::NotKept`.
pub const OUTCOME_BYTES_MAX: usize = 256;
/// Entries in the table of promises; evicting one raises its slot's floor.
pub const PROMISES_MAX: usize = 65_536;
/// Settled ballots cached by a coordinator (C6).
pub const SETTLED_MAX: usize = 16_384;
/// How long a settled ballot may be used, milliseconds.
pub const SETTLED_MS: u64 = 4_000;
/// Hints kept by one shard.
pub const HINTS_MAX: usize = 1_000_000;
/// S5: earlier lives that a directory remembers of itself. A peer that knew none of so many is believed to be far behind.
pub const LIVES_MAX: usize = 1_000;
/// S5: shards of other nodes whose lives one shard remembers; more are not listened to.
pub const PEERS_MAX: usize = 700;
/// Inputs that wait for the ceiling to rise.
pub const PARKED_MAX: usize = 16_384;
/// Bytes of keys and values that these may hold on to: one input of the largest size always fits.
pub const PARKED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest time a client operation may run, milliseconds.
pub const REQUEST_DEADLINE_MS: u64 = 5_000;
/// How long a phase of a round or of a read waits for its answers before it acts on silence, milliseconds.
pub const PHASE_MS: u64 = 300;
/// A stamp further ahead of the physical clock than this is refused (S2), milliseconds.
pub const MAX_DRIFT_MS: u64 = 500;
/// How far ahead the ceiling is raised (S3), milliseconds.
pub const CEILING_STEP_MS: u64 = 100;
/// Entries of `recent` older than this are pruned (C4): longer than any attempt can live.
pub const RETRY_WINDOW_MS: u64 = REQUEST_DEADLINE_MS + 2 * MAX_DRIFT_MS + 1_000;
/// G1: how far a watermark stays behind the clock, milliseconds: further than any request can be late.
pub const WATERMARK_LAG_MS: u64 = REQUEST_DEADLINE_MS + 2 * MAX_DRIFT_MS + 1_000;
/// Records in one page of a scan.
pub const SCAN_PAGE_MAX: usize = 1_000;
/// Bytes of records in one page of a scan: a page always holds one record, however large.
pub const SCAN_PAGE_BYTES: usize = 1 << 20;

/// Entries that a scan looks at in one step: it goes on in another.
pub const SCAN_STEP_ENTRIES: u64 = 4_096;

/// Seeks that a replica makes for one page of a scan: what a page may cost where few keys are in its range.
pub const SCAN_SEEKS_MAX: u32 = 256;

// A round of a full batch must fit, or it would evict its own entries.
const _: () = assert!(BATCH_MAX <= RECENT_MAX);
// A retry must find its first attempt: the window outlives the request and the clocks' disagreement.
const _: () = assert!(RETRY_WINDOW_MS > REQUEST_DEADLINE_MS + 2 * MAX_DRIFT_MS);
// G1: no request with a stamp below the watermark can still be under way.
const _: () = assert!(WATERMARK_LAG_MS > REQUEST_DEADLINE_MS + 2 * MAX_DRIFT_MS);
// G2: a settled ballot (C6) is never used so late that a watermark may have passed it.
const _: () = assert!(SETTLED_MS + MAX_DRIFT_MS < WATERMARK_LAG_MS);
