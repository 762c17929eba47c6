//! Bugs are planted for the whole process, so this is a process of its own: what breaks a rule is found, and found for
//! what it is. The whole list is tried by `cargo sim bugs`.

use samara_core::base::planted::{Bug, plant};
use samara_sim::batch::{Manner, run};
use samara_sim::scenario;

#[test]
fn planted_bugs_are_found_and_their_absence_is_not() {
    let hunt = scenario::find("bug_hunt").expect("a scenario of ours");
    let seeds: Vec<u64> = (0..16).collect();
    let manner = Manner { jobs: 2, stop: true, ..Manner::default() };
    for (bug, word) in [
        (Bug::C5MinorityAccept, "no order of its versions"),
        (Bug::S3StampAboveCeiling, "above its ceiling"),
        (Bug::WalAckBeforeSync, "now shows"),
        (Bug::C6BallotUsedTwice, "two different records"),
    ] {
        plant(Some(bug));
        let batch = run(&hunt, &seeds, &manner);
        plant(None);
        let reasons: Vec<&String> = batch.failures.iter().map(|(_, reason)| reason).collect();
        assert!(!reasons.is_empty(), "{bug:?} was not caught");
        assert!(reasons.iter().any(|reason| reason.contains(word)), "{bug:?}: {reasons:?}");
    }
    assert_eq!(run(&hunt, &seeds, &manner).failures, []);
}
