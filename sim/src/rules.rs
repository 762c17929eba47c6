//! The numbered rules of the protocol, each of which a planted bug breaks: a rule that no bug breaks is one that no test
//! would miss.

use samara_core::base::planted::Bug;
use std::collections::BTreeSet;

/// The rules, and why a rule has no planted bug (empty where it must have one).
pub const RULES: [(&str, &str); 36] = [
    ("S1", ""),
    ("S2", ""),
    ("S3", ""),
    ("S4", ""),
    ("S5", ""),
    ("R0", ""),
    ("R1", ""),
    ("R2", ""),
    ("R3", ""),
    ("R4", ""),
    ("R5", ""),
    ("R6", ""),
    ("C1", ""),
    ("C2", ""),
    ("C3", ""),
    ("C4", ""),
    ("C5", ""),
    ("C6", ""),
    ("C7", ""),
    ("C8", ""),
    ("C9", ""),
    ("C10", ""),
    ("W1", ""),
    ("W2", ""),
    ("W3", ""),
    ("T1", ""),
    ("T2", ""),
    ("G1", ""),
    ("G2", ""),
    ("G3", ""),
    ("E1", "there is one static configuration, and no Paxos that decides another"),
    ("E2", "there is one static configuration, and no change of it"),
    ("E3", "there is one static configuration, and no joint epoch"),
    ("E4", "there is one static configuration, and no higher epoch to be seen"),
    ("E5", "there is one static configuration, and no new replica"),
    ("E6", "there is one static configuration, and no node outside of it"),
];

/// The rule that a planted bug breaks: `r2-no-accepted-check` breaks R2.
pub fn broken_by(bug: &str) -> String {
    bug.split('-').next().unwrap_or_default().to_uppercase()
}

/// What is wrong with the catalogue of planted bugs, beside these rules.
pub fn complaints(bugs: &[&str]) -> Vec<String> {
    let broken: BTreeSet<String> = bugs.iter().map(|bug| broken_by(bug)).collect();
    let mut complaints = Vec::new();
    for (rule, reason) in RULES {
        match (broken.contains(rule), reason.is_empty()) {
            (false, true) => complaints.push(format!("no planted bug breaks {rule}, and no reason is given")),
            (true, false) => complaints.push(format!("{rule} has a planted bug, and a reason to have none")),
            _ => {}
        }
    }
    // The log under all rules has bugs of its own.
    let is_known = |rule: &str| rule == "WAL" || RULES.iter().any(|(known, _)| *known == rule);
    let strange = broken.iter().filter(|rule| !is_known(rule));
    complaints.extend(strange.map(|rule| format!("planted bugs break {rule}, which is no rule")));
    complaints
}

/// The names of all planted bugs.
pub fn planted() -> Vec<&'static str> {
    Bug::ALL.iter().map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_planted_bug_or_a_reason_to_have_none() {
        assert_eq!(complaints(&planted()), Vec::<String>::new());
    }

    #[test]
    fn a_rule_without_a_bug_and_a_bug_without_a_rule_are_found() {
        let without_g3: Vec<&str> = planted().into_iter().filter(|bug| !bug.starts_with("g3-")).collect();
        assert_eq!(complaints(&without_g3), ["no planted bug breaks G3, and no reason is given"]);
        let mut more = planted();
        more.extend(["e1-minority-decides", "x9-what-is-this"]);
        let found = complaints(&more);
        assert!(found.len() == 2 && found[0].starts_with("E1") && found[1].contains("X9"), "{found:?}");
    }
}
