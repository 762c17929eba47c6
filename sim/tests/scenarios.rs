//! Every scenario that comes with the program holds on a few seeds, every kept regression holds, and a run is a function
//! of its plan.

use samara_sim::batch::{Manner, run, run_plan, run_seed};
use samara_sim::plan::Plan;
use samara_sim::scenario;
use std::path::Path;

#[test]
fn every_scenario_holds_on_a_few_seeds() {
    for scenario in scenario::built_in() {
        let batch = run(&scenario, &[1, 2, 3, 4, 5, 6], &Manner { jobs: 2, stop: true, ..Manner::default() });
        assert_eq!(batch.failures, [], "{}", scenario.name);
        assert!(batch.operations > 100, "{} did nothing", scenario.name);
    }
}

#[test]
fn every_kept_regression_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/regressions");
    for entry in std::fs::read_dir(folder).expect("the folder of regressions") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            let plan: Plan = toml::from_str(&text).expect("a plan");
            assert_eq!(run_plan(&plan).failure, None, "{}", path.display());
        }
    }
}

#[test]
fn a_plan_that_went_through_a_file_runs_as_before() {
    let swarm = scenario::find("swarm").expect("a scenario of ours");
    let plan = Plan::new(&swarm, 0x5eed, None);
    let text = toml::to_string(&plan).expect("a plan is data");
    let read: Plan = toml::from_str(&text).expect("what was written");
    assert_eq!(plan, read);
    let (first, second) = (run_plan(&plan), run_plan(&read));
    assert_eq!((first.trace, first.events), (second.trace, second.events));
    assert_ne!(first.trace, run_seed(&swarm, 0x5eee, None).trace, "the trace tells seeds apart");
}

#[test]
fn a_run_may_be_made_longer() {
    let smoke = scenario::find("smoke").expect("a scenario of ours");
    let report = run_seed(&smoke, 7, Some(20));
    assert_eq!(report.failure, None);
    assert!(report.virtual_ns > 10_000_000_000, "{} ns", report.virtual_ns);
}
