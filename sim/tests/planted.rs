//! Bugs are planted for the whole process, so this is a process of its own: what breaks a rule is found, and found for
//! what it is. The whole list is tried by `cargo sim bugs`.

use samara_core::base::planted::{Bug, plant};
use samara_sim::batch::{Manner, run, run_plan};
use samara_sim::plan::Plan;
use samara_sim::scenario;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Tests of one process take turns.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn planted_bugs_are_found_and_their_absence_is_not() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let hunt = scenario::find("bug_hunt").expect("a scenario of ours");
    let seeds: Vec<u64> = (0..16).collect();
    let manner = Manner { jobs: 2, stop: true, ..Manner::default() };
    for (bug, words) in [
        (Bug::C5MinorityAccept, &["no order of its versions", "durability", "went back"][..]),
        (Bug::S3StampAboveCeiling, &["above its ceiling"]),
        (Bug::WalAckBeforeSync, &["now shows"]),
        (Bug::C6BallotUsedTwice, &["two different records"]),
        (Bug::C7OneResultKept, &["after increments to"]),
        (Bug::S2SkewBelieved, &["ahead of"]),
    ] {
        plant(Some(bug));
        let batch = run(&hunt, &seeds, &manner);
        plant(None);
        let reasons: Vec<&String> = batch.failures.iter().map(|(_, reason)| reason).collect();
        assert!(!reasons.is_empty(), "{bug:?} was not caught");
        let is_told = |reason: &&String| words.iter().any(|word| reason.contains(word));
        assert!(reasons.iter().any(is_told), "{bug:?}: {reasons:?}");
    }
    assert_eq!(run(&hunt, &seeds, &manner).failures, []);
}

/// A kept plan that is named after a planted bug still reaches the place where that bug strikes. Chance decides latencies, so it
/// is tried with several seeds.
#[test]
fn plans_named_after_a_bug_fail_with_it_and_hold_without() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/regressions");
    let mut tried = 0;
    for (bug, name) in Bug::ALL {
        let Ok(text) = std::fs::read_to_string(folder.join(format!("{name}.toml"))) else { continue };
        let plan: Plan = toml::from_str(&text).expect("a plan");
        let seeds: Vec<Plan> =
            (0..64).map(|more| Plan { seed: plan.seed.wrapping_add(more), ..plan.clone() }).collect();
        plant(Some(*bug));
        let caught = seeds.iter().any(|plan| run_plan(plan).failure.is_some());
        plant(None);
        assert!(caught, "{name}: the plan does not reach the bug any more; shrink a new one");
        for plan in seeds.iter().take(8) {
            assert_eq!(run_plan(plan).failure, None, "{name}, seed {:#x}", plan.seed);
        }
        tried += 1;
    }
    assert!(tried >= 4, "only {tried} plans are named after a planted bug");
}
