//! docs/CONSISTENCY.md names every planted bug, scenario and checker that there is, and none that there is not.

use samara_core::base::planted::Bug;
use samara_sim::{promises, rules, scenario};
use std::collections::BTreeSet;

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONSISTENCY.md");
    std::fs::read_to_string(path).expect("the page on consistency")
}

/// The cells of the table of promises, row by row.
fn rows(page: &str) -> Vec<Vec<String>> {
    let table = page.lines().skip_while(|line| !line.starts_with("| promise |")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect()).collect()
}

/// The names in code style of a column.
fn names(rows: &[Vec<String>], column: usize) -> BTreeSet<String> {
    let cells = rows.iter().map(|row| row[column].as_str());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(ToString::to_string).collect()
}

fn set<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    names.map(ToString::to_string).collect()
}

#[test]
fn the_table_names_what_there_is_and_nothing_else() {
    let rows = rows(&page());
    assert!(rows.len() >= 8, "the table has {} rows", rows.len());
    assert!(rows.iter().all(|row| row.len() == 6), "every row has six cells");
    assert_eq!(names(&rows, 3), set(promises::CHECKERS.iter().map(|(name, _)| *name)), "checkers");
    let scenarios = scenario::built_in();
    assert_eq!(names(&rows, 4), set(scenarios.iter().map(|scenario| scenario.name.as_str())), "scenarios");
    assert_eq!(names(&rows, 5), set(Bug::ALL.iter().map(|(_, name)| *name)), "planted bugs");
}

#[test]
fn every_rule_has_a_bug_and_every_bug_its_rule() {
    let rows = rows(&page());
    let mut unbroken: BTreeSet<String> = BTreeSet::new();
    for row in &rows {
        unbroken.extend(row[1].split(", ").map(ToString::to_string));
    }
    let broken: BTreeSet<String> =
        Bug::ALL.iter().map(|(_, name)| rules::broken_by(name)).filter(|rule| rule != "WAL").collect();
    let missing: Vec<&String> = unbroken.difference(&broken).collect();
    assert!(missing.is_empty(), "no planted bug breaks {missing:?}");
    let unsaid: Vec<&String> = broken.difference(&unbroken).collect();
    assert!(unsaid.is_empty(), "no promise rests on {unsaid:?}");
}
