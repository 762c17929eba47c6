//! The style of the project, kept by a test: layers, circles, lengths, banned calls and words, and lists that must be used.
//!
//! Rust is parsed, not searched. Each check is a function from sources to complaints, and is itself tested on a snippet
//! that it must reject.

mod calls;
mod catalogue;
mod faults;
mod imports;
mod layers;
mod lengths;
mod manifests;
mod source;
mod targets;
mod words;

use source::{Source, Tree, root};

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// `file` or `file:line`.
    pub place: String,
    /// What to do about it.
    pub words: String,
}

impl Complaint {
    fn new(place: impl Into<String>, words: impl Into<String>) -> Self {
        Self { place: place.into(), words: words.into() }
    }
}

#[track_caller]
fn none(complaints: &[Complaint]) {
    let lines: Vec<String> = complaints.iter().map(|it| format!("  {}: {}", it.place, it.words)).collect();
    assert!(complaints.is_empty(), "{} complaints:\n{}", lines.len(), lines.join("\n"));
}

fn core() -> Tree {
    Tree::of_crate("core")
}

const CRATES: [&str; 5] = ["core", "sim", "checker", "runtime", "tests"];

#[test]
fn layers_of_core_import_only_downward() {
    let page =
        std::fs::read_to_string(root().join("core/ARCHITECTURE.md")).expect("the architecture of core");
    let ranks = layers::ranks(&page);
    let names: Vec<&str> = ranks.keys().map(String::as_str).collect();
    assert_eq!(names, core().top_level(), "ARCHITECTURE.md and core/src name the same layers");
    none(&layers::upward(&core(), &ranks));
}

#[test]
fn no_crate_has_import_circles() {
    // The simulator's modules know each other in circles around its world, the node's around its driver: to be undone.
    for name in CRATES.into_iter().filter(|name| !["sim", "runtime"].contains(name)) {
        none(&imports::circles(&Tree::of_crate(name)));
    }
}

#[test]
fn files_and_functions_are_short() {
    let sources = Source::all();
    assert!(sources.len() > 50, "only {} sources were found", sources.len());
    none(&lengths::too_long(&sources, lengths::CEILINGS));
}

#[test]
fn core_is_no_std_and_the_crates_have_no_unsafe_code() {
    none(&calls::core_attributes(&core()));
    for name in ["sim", "checker", "runtime"] {
        none(&calls::forbids_unsafe(&Tree::of_crate(name)));
    }
}

#[test]
fn core_calls_nothing_that_a_simulator_cannot_control() {
    none(&calls::banned(&core()));
}

#[test]
fn lint_exceptions_carry_their_reason() {
    none(&calls::bare_exceptions(&Source::all()));
}

#[test]
fn crates_depend_in_one_direction() {
    none(&manifests::complaints());
}

#[test]
fn every_decoder_has_its_fuzz_target() {
    none(&targets::complaints());
}

#[test]
fn every_fault_of_a_disk_is_described_and_has_its_test() {
    let page = std::fs::read_to_string(root().join("docs/OPERATIONS.md")).expect("the manual");
    none(&faults::complaints(&page, &faults::tests(&Source::all())));
}

#[test]
fn the_tree_speaks_of_itself_alone() {
    let texts = words::texts();
    assert!(texts.len() > 100, "only {} files were read", texts.len());
    none(&words::banned(&texts));
}

#[test]
fn every_planted_bug_breaks_the_rule_it_is_named_after() {
    none(&catalogue::bugs(&core()));
}

#[test]
fn every_counter_is_counted_and_every_situation_is_met_somewhere() {
    none(&catalogue::counters(&core()));
    none(&catalogue::situations(&Tree::of_crate("sim")));
}
