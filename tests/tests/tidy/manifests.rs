//! What the manifests promise: dependencies in one direction, and the same lints for all.

use super::source::root;
use super::{CRATES, Complaint};

/// Which of our packages each may depend on outside of its tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("checker", &[]),
    ("sim", &["samara-core", "samara-check"]),
    ("runtime", &["samara-core"]),
    ("tests", &["samara-core", "samara-check", "samara-sim", "samara"]),
];

fn is_ours(package: &str) -> bool {
    package == "samara" || package.starts_with("samara-")
}

/// Dependencies of ours that point the wrong way, in one manifest.
fn wrong_way(name: &str, manifest: &toml::Table) -> Vec<Complaint> {
    let allowed =
        ALLOWED.iter().find(|(package, _)| *package == name).map_or(&[][..], |(_, allowed)| *allowed);
    let of = |table: &toml::Table| {
        let dependencies = ["dependencies", "build-dependencies"].map(|key| table.get(key));
        let tables = dependencies.into_iter().flatten().filter_map(toml::Value::as_table);
        tables.flat_map(|table| table.keys().cloned()).collect::<Vec<_>>()
    };
    let mut found = of(manifest);
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    found.extend(targets.into_iter().flatten().filter_map(|(_, target)| target.as_table()).flat_map(of));
    let wrong = found.into_iter().filter(|package| is_ours(package) && !allowed.contains(&package.as_str()));
    wrong
        .map(|package| Complaint::new(format!("{name}/Cargo.toml"), format!("must not depend on {package}")))
        .collect()
}

fn without_shared_lints(name: &str, manifest: &toml::Table) -> Vec<Complaint> {
    let shared =
        manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
    let complaint = || Complaint::new(format!("{name}/Cargo.toml"), "does not say [lints] workspace = true");
    (shared != Some(true)).then(complaint).into_iter().collect()
}

fn read(path: &str) -> toml::Table {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Everything wrong with the manifests.
pub fn complaints() -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for name in CRATES {
        let manifest = read(&format!("{name}/Cargo.toml"));
        complaints.extend(wrong_way(name, &manifest));
        complaints.extend(without_shared_lints(name, &manifest));
    }
    complaints
}

#[test]
fn a_dependency_that_points_the_wrong_way_is_found() {
    let manifest: toml::Table =
        "[dependencies]\nsamara-core.workspace = true\nbytes = \"1\"".parse().expect("TOML");
    assert_eq!(wrong_way("runtime", &manifest), []);
    assert_eq!(wrong_way("checker", &manifest).len(), 1);
    let manifest: toml::Table =
        "[target.'cfg(unix)'.dependencies]\nsamara-sim.workspace = true".parse().expect("TOML");
    assert_eq!(wrong_way("runtime", &manifest).len(), 1);
    assert_eq!(without_shared_lints("runtime", &manifest).len(), 1);
}
