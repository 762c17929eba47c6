//! What a node counts: exported as metrics, and the simulator's situations (a rare state that no run of a batch has
//! reached fails the batch).

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// An event that a node counts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Counter { $($(#[$doc])* $variant,)* }

        impl Counter {
            /// All counters in order, with their names (Prometheus style, without prefix).
            pub const ALL: &'static [(Counter, &'static str)] = &[$((Counter::$variant, $name),)*];
        }
    };
}

counters! {
    /// R1 refused: a higher ballot stood.
    PrepareRefused = "prepare_refused",
    /// R2 refused.
    AcceptRefused = "accept_refused",
    /// R2 met its own ballot: the record had come before.
    AcceptRepeated = "accept_repeated",
    /// R4 refused by a promise or floor.
    WeakRefused = "weak_refused",
    /// R4 superseded by a higher ballot.
    WeakSuperseded = "weak_superseded",
    /// R5 refused by a promise or floor.
    RepairRefused = "repair_refused",
    /// R5 stored.
    RepairStored = "repair_stored",
    /// A promise was evicted and its slot's floor rose.
    PromiseEvicted = "promise_evicted",
    /// R0: an answer waited for a sync.
    AnswerAwaitedSync = "answer_awaited_sync",
    /// C1 was started again after a refusal or silence.
    RoundRetried = "round_retried",
    /// C3: a retry found its operation applied.
    RetryFoundApplied = "retry_found_applied",
    /// C3: a retry was in doubt and answered unknown.
    RetryInDoubt = "retry_in_doubt",
    /// C3: a first attempt took a fresh operation id.
    FreshOpId = "fresh_op_id",
    /// C3: a forwarded operation was answered NotRun.
    ForwardNotRun = "forward_not_run",
    /// C4: answered without a write.
    AnsweredWithoutWrite = "answered_without_write",
    /// C4: a negative result was fenced by a write.
    NegativeFenced = "negative_fenced",
    /// C5: a round chose its record.
    RoundChosen = "round_chosen",
    /// C6: a round used a settled ballot.
    SettledUsed = "settled_used",
    /// C6: a settled ballot was refused.
    SettledRefused = "settled_refused",
    /// C7: a round carried more than one operation.
    RoundCombined = "round_combined",
    /// C7: an answer of a combined round told of a value that a later operation of the round overwrote.
    AnswerOverwritten = "answer_overwritten",
    /// C8: a read answered from a majority's agreement.
    ReadAgreed = "read_agreed",
    /// C8: a read had to settle the key.
    ReadSettled = "read_settled",
    /// C9: a weak write became a mutation.
    WeakBecameMutation = "weak_became_mutation",
    /// A forwarder took over from a silent preferred coordinator.
    ForwardTakenOver = "forward_taken_over",
    /// An answer came after the forwarder had taken over, and was ignored.
    ForwardLateAnswer = "forward_late_answer",
    /// A forward was received twice.
    ForwardRepeated = "forward_repeated",
    /// A forward might have been answered before the last start, and was refused.
    ForwardInDoubt = "forward_in_doubt",
    /// W1: a causal read wrote back.
    CausalWroteBack = "causal_wrote_back",
    /// W1: the write-back was refused and the key settled.
    CausalSettled = "causal_settled",
    /// W2: a hint was stored.
    HintStored = "hint_stored",
    /// W2: a hint was delivered.
    HintDelivered = "hint_delivered",
    /// W2: an eventual read was answered from a hint.
    HintRead = "hint_read",
    /// A read asked another replica, because one was late.
    ReadHedged = "read_hedged",
    /// A stale replica was repaired after a read.
    ReadRepair = "read_repair",
    /// T1: a strong operation chose a tombstone for an expired record.
    ExpiredSettled = "expired_settled",
    /// S2: a message with a clock too far ahead was refused.
    ClockSkewRefused = "clock_skew_refused",
    /// S3: an input waited for the ceiling.
    CeilingAwaited = "ceiling_awaited",
    /// S3: there was no room for a message that had to wait for the ceiling.
    ParkedDropped = "parked_dropped",
    /// S4: a start waited for the physical clock.
    StartWaited = "start_waited",
    /// S5: a message of an earlier start was dropped.
    OldStartDropped = "old_start_dropped",
    /// S5: a message of a life that is not proven was dropped, and its sender told what is remembered of it.
    NewStartAsked = "new_start_asked",
    /// S5: a life of a peer was proven.
    LifeProven = "life_proven",
    /// S5: a node learned that its directory does not have what a peer remembers of it.
    Disowned = "disowned",
    /// W3: there was no room for a hint.
    HintNotKept = "hint_not_kept",
    /// A request older than any deadline was refused.
    TooOldRefused = "too_old_refused",
    /// A request whose sender had given up waiting was dropped.
    ExpiredDropped = "expired_dropped",
    /// An operation ended UNAVAILABLE.
    EndedUnavailable = "ended_unavailable",
    /// An operation ended TIMEOUT.
    EndedTimeout = "ended_timeout",
    /// An operation ended OVERLOADED.
    EndedOverloaded = "ended_overloaded",
    /// An operation ended DISKFULL.
    EndedDiskFull = "ended_disk_full",
    /// A request below the floor of its key space was refused.
    BelowFloor = "below_floor",
    /// A peer was suspected to be down.
    PeerSuspected = "peer_suspected",
    /// A message made no sense and was dropped.
    PeerMisbehaved = "peer_misbehaved",
    /// A memtable was flushed.
    MemtableFlushed = "memtable_flushed",
    /// A compaction finished.
    CompactionFinished = "compaction_finished",
    /// A torn tail was cut at recovery.
    TornTailCut = "torn_tail_cut",
    /// WAL commits (one sync each).
    WalCommits = "wal_commits",
    /// Records written to the WAL.
    WalRecords = "wal_records",
    /// Reads that went to disk.
    DiskReads = "disk_reads",
    /// Reads answered by the cache of records.
    RecordCacheHits = "record_cache_hits",
    /// The disk did not answer in time, and the node stepped aside.
    DiskStalled = "disk_stalled",
    /// The disk took long for an operation, longer than it is given before it counts as slow.
    DiskSlow = "disk_slow",
    /// Reads spared by a filter.
    FilterSpared = "filter_spared",
    /// G1: a round for a slot's watermark was begun.
    WatermarkBegun = "watermark_begun",
    /// G1: a round came to its end: every replica of the slot has raised its watermark.
    WatermarkRaised = "watermark_raised",
    /// G1: a round was given up because somebody did not answer.
    WatermarkVoidSilent = "watermark_void_silent",
    /// G1: a round was given up because somebody holds hints for the slot.
    WatermarkVoidHints = "watermark_void_hints",
    /// G1: a round was given up because a replica took in an old record after the comparison.
    WatermarkVoidChanged = "watermark_void_changed",
    /// G1: a round was given up because the replicas still differed after several passes.
    WatermarkVoidDiffers = "watermark_void_differs",
    /// G1: a round was given up because the configuration changed.
    WatermarkVoidEpoch = "watermark_void_epoch",
    /// G1: a key on which the replicas differ was repaired or settled.
    WatermarkRepaired = "watermark_repaired",
    /// G2: compaction dropped a tombstone or an expired record.
    TombstoneDropped = "tombstone_dropped",
    /// G1: a request with a stamp at or below `closed` was refused.
    ClosedRefused = "closed_refused",
    /// G1: a hint at or below `closed` was refused.
    HintRefusedClosed = "hint_refused_closed",
    /// G2: a repair at or below the watermark was refused.
    RefusedBelowWatermark = "refused_below_watermark",
    /// C2, G2: a candidate at or below the watermark of a replica that holds nothing was left out.
    CandidateBelowWatermark = "candidate_below_watermark",
    /// R6: a file was found missing or damaged at a start.
    DamageFoundAtStart = "damage_found_at_start",
    /// R6: a block was found damaged by a read, a scan, a compaction or scrub.
    DamageFoundInBlock = "damage_found_in_block",
    /// R6: the shard came to have suspect keys.
    SuspectEntered = "suspect_entered",
    /// R6: a vote was refused on a suspect key.
    SuspectRefused = "suspect_refused",
    /// R6: a page of records for a suspect replica was sent.
    ResyncPageSent = "resync_page_sent",
    /// R6: a record of another replica was taken in for a suspect key.
    ResyncTaken = "resync_taken",
    /// R6: a suspect key on which the others differed was settled.
    ResyncSettled = "resync_settled",
    /// R6: a stretch of suspect keys was brought again from a majority of the others.
    ResyncFinished = "resync_finished",
    /// R6: the last suspect key was healed and the damaged files were replaced.
    SuspectHealed = "suspect_healed",
}

/// The values of all counters since the start.
#[derive(Debug, Clone)]
pub struct Counters([u64; Counter::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; Counter::ALL.len()])
    }
}

impl Counters {
    /// Counts one.
    pub fn add(&mut self, counter: Counter) {
        self.0[counter as usize] += 1;
    }

    /// The value of one counter.
    pub fn value(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// All values with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Counter::ALL.iter().map(|(counter, name)| (*name, self.0[*counter as usize]))
    }
}
