//! Planted bugs: one-line mutations of protocol rules that the simulator switches on to prove that it finds them.
//!
//! With the feature `planted-bugs` off, [`on`] is a constant `false` and the mutations compile to nothing.

/// A mutation of a rule. The name says the rule it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Bug {
    /// R5: a repair is stored although a higher promise or floor stands.
    R5RepairIgnoresPromises = 1,
    /// R5: a repair below the accepted record is acknowledged without a look at the promise.
    R5DroppedCountsAsKept,
    /// S4: the floor after a restart is zero.
    S4NoFloorAtRestart,
    /// C8: a strong read answers the highest record without a majority for it.
    C8ReadWithoutMajority,
    /// C9: a weak record carries no `evicted_upto`.
    C9WeakWithoutEvictedUpto,
    /// C3: a retry runs without looking for its operation id.
    C3RetryWithoutOpIdTest,
    /// C6: a cached ballot is used twice.
    C6BallotUsedTwice,
    /// R2: an accept is stored without comparing it to the accepted ballot.
    R2NoAcceptedCheck,
    /// R2: `next` counts as granted on a re-acknowledgement although a higher promise stands.
    R2NextGrantedOnReack,
    /// R1: evicting a promise does not raise the floor.
    R1EvictWithoutFloor,
    /// W1: a causal read answers without writing back.
    W1ReadWithoutWriteBack,
    /// WAL: an accept is acknowledged before its sync.
    WalAckBeforeSync,
    /// C4: a retry that finds its condition false answers without fencing its earlier accept.
    C4FailedWithoutFence,
    /// R0: a promise shows a record whose sync has not completed, and is sent at once.
    R0PromiseUnsynced,
    /// T1: a strong read judges expiry by its own wall clock, and chooses no tombstone.
    T1ExpiryByWallClock,
    /// T2: a mutation takes an expired value for a live one.
    T2ExpiredValueCounts,
    /// S3: stamps are issued above the ceiling.
    S3StampAboveCeiling,
    /// C1: a round goes on with one promise less than a majority.
    C1MinorityPrepare,
    /// C5: a round counts as chosen with one acknowledgement less than a majority.
    C5MinorityAccept,
    /// WAL: recovery stops at the first page of the last segment.
    WalRecoveryDropsTail,
    /// G1: the round goes on when a majority has answered.
    G1MajoritySuffices,
    /// G1: members that are not replicas of the slot are not asked to close it.
    G1CloseNotAskedOfAll,
    /// G1: hints that are held do not end the round.
    G1HintsNotCounted,
    /// G1: the watermark rises without a comparison of the replicas.
    G1SkipCompare,
    /// G2: compaction drops tombstones above the watermark.
    G2DropAboveWatermark,
    /// G2: a key that holds nothing does not tell the watermark.
    G2AbsentWithoutEvictedUpto,
    /// T1: a strong operation that finds an expired record chooses no tombstone.
    T1ExpiryNotTombstoned,
    /// S1: a stamp does not say who issued it.
    S1StampWithoutNode,
    /// S2: a receiver does not merge the sender's clock.
    S2ClockNotMerged,
    /// S2: a clock far ahead is believed.
    S2SkewBelieved,
    /// S4: a start takes the physical clock, whatever the ceiling says.
    S4ClockIgnoresCeiling,
    /// S5: messages of an earlier start are answered.
    S5OldStartBelieved,
    /// S5: a new life of a peer is believed before it has been proven.
    S5StartUnproven,
    /// R0: a query's answer shows a record whose sync has not completed, and is sent at once.
    R0QueryUnsynced,
    /// R1: a promise is answered and forgotten.
    R1PromiseNotKept,
    /// R3: a query's answer names the version that users see instead of the ballot.
    R3FoundShowsWritten,
    /// R4: a weak write is stored under a higher promise or floor.
    R4WeakIgnoresPromises,
    /// C2: the first record promised counts as the current one, not the one with the highest ballot.
    C2FirstPromiseWins,
    /// C3: an operation older than what was pruned counts as never applied.
    C3PrunedCountsAsNew,
    /// C3: a forward that may repeat one answered before the last start is run.
    C3ForwardRunInDoubt,
    /// C4: a negative result is answered although no majority reported that record.
    C4NegativeWithoutAgreement,
    /// C7: of a batch only the last result is kept for retries.
    C7OneResultKept,
    /// C10: the time of a client's operation id is not merged into the clock.
    C10UuidNotMerged,
    /// W1: a causal write is acknowledged after its first copy.
    W1WriteAckedByOne,
    /// W2: a fallback node acknowledges a hint that it does not keep.
    W2HintNotStored,
    /// W3: a hint is forgotten when it is sent, not when it is acknowledged.
    W3HintForgottenWhenSent,
    /// C4: a condition on the version holds whatever the version is.
    C4VersionNotCompared,
    /// C8: a page of a walk is made of the first answer of a replica, and not of a majority's.
    C8WalkFromAMinority,
    /// C8: a page of a walk goes on where the furthest answer ends, not where the nearest does.
    C8WalkSkipsBehindAPage,
    /// R6: a suspect replica votes as if nothing were missing.
    R6SuspectVotes,
    /// R6: a source of a re-sync does not raise its floor.
    R6SourceFloorNotRaised,
    /// R6: a source raises its floor and keeps the promises that stand in its table.
    R6SourceKeepsPromises,
    /// R6: a suspect replica takes part in the rounds of watermarks.
    R6SuspectVouches,
    /// R6: a restart forgets that keys are suspect.
    R6SuspectForgotten,
    /// R6: one source is taken for a majority of the others.
    R6OneSourceSuffices,
    /// C7: what was overwritten within its own round is answered with the version of what stands.
    C7OverwrittenSharesVersion,
    /// C4: a step of RENAME deletes the source whatever its version is by now.
    C4MoveDeletesWhatChanged,
    /// C4: MSETNX answers 0 and leaves what it has written so far.
    C4RefusedSetLeavesHalf,
    /// C4: a deletion does not look at its condition.
    C4DeleteConditionIgnored,
    /// T2: a write that keeps the time to live forgets it.
    T2KeepForgetsExpiry,
    /// G2: a repair below the watermark is stored.
    G2RepairBelowWatermark,
    /// G3: a watermark rises without a member that is down.
    G3DownMemberLeftOut,
    /// S5: what was remembered of the peers is forgotten at a restart.
    S5MemoryNotKept,
    /// S5: a life that is counted like the one remembered is taken for it.
    S5CountIsEnough,
    /// S5: a life that follows the one remembered is believed, whatever ceiling its directory had then.
    S5CeilingNotCompared,
}

impl Bug {
    /// All bugs with the name that the command line uses.
    pub const ALL: &'static [(Bug, &'static str)] = &[
        (Bug::R5RepairIgnoresPromises, "r5-repair-ignores-promises"),
        (Bug::R5DroppedCountsAsKept, "r5-dropped-counts-as-kept"),
        (Bug::S4NoFloorAtRestart, "s4-no-floor-at-restart"),
        (Bug::C8ReadWithoutMajority, "c8-read-without-majority"),
        (Bug::C9WeakWithoutEvictedUpto, "c9-weak-without-evicted-upto"),
        (Bug::C3RetryWithoutOpIdTest, "c3-retry-without-op-id-test"),
        (Bug::C6BallotUsedTwice, "c6-ballot-used-twice"),
        (Bug::R2NoAcceptedCheck, "r2-no-accepted-check"),
        (Bug::R2NextGrantedOnReack, "r2-next-granted-on-reack"),
        (Bug::R1EvictWithoutFloor, "r1-evict-without-floor"),
        (Bug::W1ReadWithoutWriteBack, "w1-read-without-write-back"),
        (Bug::WalAckBeforeSync, "wal-ack-before-sync"),
        (Bug::C4FailedWithoutFence, "c4-failed-without-fence"),
        (Bug::R0PromiseUnsynced, "r0-promise-unsynced"),
        (Bug::T1ExpiryByWallClock, "t1-expiry-by-wall-clock"),
        (Bug::T2ExpiredValueCounts, "t2-expired-value-counts"),
        (Bug::S3StampAboveCeiling, "s3-stamp-above-ceiling"),
        (Bug::C1MinorityPrepare, "c1-minority-prepare"),
        (Bug::C5MinorityAccept, "c5-minority-accept"),
        (Bug::WalRecoveryDropsTail, "wal-recovery-drops-tail"),
        (Bug::G1MajoritySuffices, "g1-majority-suffices"),
        (Bug::G1CloseNotAskedOfAll, "g1-close-not-asked-of-all"),
        (Bug::G1HintsNotCounted, "g1-hints-not-counted"),
        (Bug::G1SkipCompare, "g1-skip-compare"),
        (Bug::G2DropAboveWatermark, "g2-drop-above-watermark"),
        (Bug::G2AbsentWithoutEvictedUpto, "g2-absent-without-evicted-upto"),
        (Bug::T1ExpiryNotTombstoned, "t1-expiry-not-tombstoned"),
        (Bug::S1StampWithoutNode, "s1-stamp-without-node"),
        (Bug::S2ClockNotMerged, "s2-clock-not-merged"),
        (Bug::S2SkewBelieved, "s2-skew-believed"),
        (Bug::S4ClockIgnoresCeiling, "s4-clock-ignores-ceiling"),
        (Bug::S5OldStartBelieved, "s5-old-start-believed"),
        (Bug::S5StartUnproven, "s5-start-unproven"),
        (Bug::R0QueryUnsynced, "r0-query-unsynced"),
        (Bug::R1PromiseNotKept, "r1-promise-not-kept"),
        (Bug::R3FoundShowsWritten, "r3-found-shows-written"),
        (Bug::R4WeakIgnoresPromises, "r4-weak-ignores-promises"),
        (Bug::C2FirstPromiseWins, "c2-first-promise-wins"),
        (Bug::C3PrunedCountsAsNew, "c3-pruned-counts-as-new"),
        (Bug::C3ForwardRunInDoubt, "c3-forward-run-in-doubt"),
        (Bug::C4NegativeWithoutAgreement, "c4-negative-without-agreement"),
        (Bug::C7OneResultKept, "c7-one-result-kept"),
        (Bug::C10UuidNotMerged, "c10-uuid-not-merged"),
        (Bug::W1WriteAckedByOne, "w1-write-acked-by-one"),
        (Bug::W2HintNotStored, "w2-hint-not-stored"),
        (Bug::W3HintForgottenWhenSent, "w3-hint-forgotten-when-sent"),
        (Bug::C4VersionNotCompared, "c4-version-not-compared"),
        (Bug::C8WalkFromAMinority, "c8-walk-from-a-minority"),
        (Bug::C8WalkSkipsBehindAPage, "c8-walk-skips-behind-a-page"),
        (Bug::R6SuspectVotes, "r6-suspect-votes"),
        (Bug::R6SourceFloorNotRaised, "r6-source-floor-not-raised"),
        (Bug::R6SourceKeepsPromises, "r6-source-keeps-promises"),
        (Bug::R6SuspectVouches, "r6-suspect-vouches"),
        (Bug::R6SuspectForgotten, "r6-suspect-forgotten"),
        (Bug::R6OneSourceSuffices, "r6-one-source-suffices"),
        (Bug::C7OverwrittenSharesVersion, "c7-overwritten-shares-version"),
        (Bug::C4MoveDeletesWhatChanged, "c4-move-deletes-what-changed"),
        (Bug::C4RefusedSetLeavesHalf, "c4-refused-set-leaves-half"),
        (Bug::C4DeleteConditionIgnored, "c4-delete-condition-ignored"),
        (Bug::T2KeepForgetsExpiry, "t2-keep-forgets-expiry"),
        (Bug::G2RepairBelowWatermark, "g2-repair-below-watermark"),
        (Bug::G3DownMemberLeftOut, "g3-down-member-left-out"),
        (Bug::S5MemoryNotKept, "s5-memory-not-kept"),
        (Bug::S5CountIsEnough, "s5-count-is-enough"),
        (Bug::S5CeilingNotCompared, "s5-ceiling-not-compared"),
    ];
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use core::sync::atomic::{AtomicU8, Ordering};
    static ACTIVE: AtomicU8 = AtomicU8::new(0);

    /// Switches one bug on for the whole process, or all off.
    pub fn plant(bug: Option<super::Bug>) {
        ACTIVE.store(bug.map_or(0, |b| b as u8), Ordering::SeqCst);
    }

    /// Whether `bug` is switched on.
    pub fn on(bug: super::Bug) -> bool {
        ACTIVE.load(Ordering::Relaxed) == bug as u8
    }
}

#[cfg(not(feature = "planted-bugs"))]
mod switch {
    /// Whether `bug` is switched on: never in this build.
    pub const fn on(_bug: super::Bug) -> bool {
        false
    }
}

pub use switch::*;
