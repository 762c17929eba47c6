//! The register rules in a small scope, exhaustively: three replicas, two coordinators, one key, a handful of operations, and
//! every order in which messages can arrive, be lost or (where the scope says so) arrive again, timers fire and machines crash.
//!
//! The checker is `stateright`; what it drives is the code of `samara-core`: the replica with its store, and the
//! coordinator. What clients see is judged by the project's own checker, in every world that there is. A random walk may
//! miss the one order that breaks a rule; here none is left out, within the bound.

mod clients;
mod known;
mod machines;
mod model;
mod moves;
mod scopes;

use model::{ALL_ANSWERED, Scope, World};
use samara_core::base::planted::{Bug, plant};
use stateright::{Checker, HasDiscoveries, Model};
use std::sync::{Mutex, PoisonError};

/// Bugs are planted for the whole process: its tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Searches a scope with a bug planted, or with none: the properties that do not hold, with the way to a world that shows
/// it, and what the machines have counted on all ways.
fn search(name: &str, scope: Scope, bug: Option<Bug>) -> (Vec<(&'static str, String)>, Vec<&'static str>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    plant(bug);
    let checker = World::new(scope).checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    plant(None);
    let (world, states) = (checker.model(), checker.unique_state_count());
    let [replicas, coordinators, clients, messages] = world.sizes();
    println!(
        "{name}, {bug:?}: {states} worlds of {replicas} replicas, {coordinators} coordinators, {clients} histories and \
         {messages} messages; {} steps, at most {} one after the other",
        checker.state_count(),
        checker.max_depth()
    );
    let mut found = checker.discoveries();
    assert!(
        found.remove(ALL_ANSWERED).is_some() || !found.is_empty(),
        "{name}: nobody ever gets all answers"
    );
    let words = |path: stateright::Path<_, _>| {
        let steps = path.into_vec().into_iter().filter_map(|(state, step)| world.format_step(&state, step?));
        steps.flat_map(|step| ["\n    ".into(), step]).collect()
    };
    let found = found.into_iter().map(|(property, path)| (property, words(path))).collect();
    (found, world.counted().into_iter().collect())
}

/// Every property holds in every world of the scope, and the situations in which rules are at stake were met.
fn holds(name: &str, scope: Scope, demanded: &[&str]) {
    let (found, counted) = search(name, scope, None);
    if let Some((property, path)) = found.first() {
        panic!("{name}: it does not hold that {property}:{path}");
    }
    for situation in demanded {
        assert!(counted.contains(situation), "{name}: no world has met {situation}, only {counted:?}");
    }
}

/// Some world of the scope shows the bug.
fn finds(bug: Bug, name: &str, scope: Scope) {
    let (found, _) = search(name, scope, Some(bug));
    assert!(!found.is_empty(), "{name}: {bug:?} shows in no world");
}

macro_rules! hold {
    ($($scope:ident: $($situation:literal),*;)*) => {
        mod holds {
            $(#[test]
            fn $scope() {
                super::holds(stringify!($scope), super::scopes::$scope(), &[$($situation),*]);
            })*
        }
    };
}

macro_rules! find {
    ($($test:ident: $bug:ident in $scope:ident;)*) => {
        mod finds {
            $(#[test]
            fn $test() {
                super::finds(super::Bug::$bug, stringify!($scope), super::scopes::$scope());
            })*
        }
    };
}

hold! {
    one: "round_retried", "accept_repeated", "retry_found_applied";
    duel: "prepare_refused", "accept_refused", "accept_repeated";
    duel_with_timeout: "prepare_refused", "accept_refused", "retry_found_applied";
    settled: "settled_used";
    settled_duel: "settled_used", "settled_refused";
    mixed: "weak_refused", "weak_became_mutation", "accept_refused";
    mixed_behind: "weak_refused", "accept_refused";
    mixed_even: "weak_refused", "weak_became_mutation";
    settled_mixed: "settled_used", "settled_refused", "weak_refused";
    settled_mixed_behind: "settled_used";
    weak_then_strong: "weak_refused", "round_chosen";
    coordinator_crash: "settled_used", "round_chosen";
    replica_crash: "weak_refused", "prepare_refused";
    replica_crash_duel: "settled_used", "prepare_refused";
    displaced_promise: "promise_evicted", "accept_refused";
    displaced_promise_mixed: "promise_evicted", "weak_refused";
    retry: "retry_found_applied", "round_chosen";
    retry_after_crash: "retry_found_applied", "round_retried";
    retried_condition: "retry_found_applied", "negative_fenced";
    strong_read: "read_agreed", "read_settled", "read_repair";
    causal_read: "causal_wrote_back", "repair_stored";
    forward: "forward_taken_over", "forward_repeated", "forward_late_answer";
}

find! {
    r1_promise_not_kept: R1PromiseNotKept in duel;
    r1_evict_without_floor: R1EvictWithoutFloor in displaced_promise;
    r2_no_accepted_check: R2NoAcceptedCheck in settled_mixed;
    r4_weak_ignores_promises: R4WeakIgnoresPromises in settled_mixed;
    c1_minority_prepare: C1MinorityPrepare in duel;
    c2_first_promise_wins: C2FirstPromiseWins in mixed_behind;
    c3_retry_without_op_id_test: C3RetryWithoutOpIdTest in one;
    c4_negative_without_agreement: C4NegativeWithoutAgreement in strong_read;
    c5_minority_accept: C5MinorityAccept in duel;
    c8_read_without_majority: C8ReadWithoutMajority in strong_read;
    c9_weak_without_evicted_upto: C9WeakWithoutEvictedUpto in mixed;
    w1_read_without_write_back: W1ReadWithoutWriteBack in causal_read;
    w1_write_acked_by_one: W1WriteAckedByOne in weak_then_strong;
    s1_stamp_without_node: S1StampWithoutNode in mixed_even;
}
