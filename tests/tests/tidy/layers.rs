//! The layers of core, as its ARCHITECTURE.md lists them: a module imports only from rows above its own.

use super::Complaint;
use super::imports;
use super::source::Tree;
use std::collections::BTreeMap;

/// The rank of each layer: its row in the table under "The layers". Names in one row have one rank.
pub fn ranks(page: &str) -> BTreeMap<String, usize> {
    let section = page.split("## The layers").nth(1).expect("a section on the layers");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let mut ranks = BTreeMap::new();
    for (rank, row) in rows.enumerate() {
        let cell = row.split('|').nth(1).unwrap_or_default();
        for name in cell.split('`').skip(1).step_by(2) {
            assert!(ranks.insert(name.to_string(), rank).is_none(), "{name} stands in two rows");
        }
    }
    ranks
}

/// Uses of a module of the same or a higher rank, tests included.
pub fn upward(tree: &Tree, ranks: &BTreeMap<String, usize>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for edge in imports::edges(tree) {
        let (Some(from), Some(to)) = (edge.from.first(), edge.to.first()) else {
            if edge.to.is_empty() && !edge.from.is_empty() {
                let words = "uses the crate's root, which stands above all layers";
                complaints.push(Complaint::new(edge.from.join("::"), words));
            }
            continue;
        };
        if from != to && ranks.get(to) >= ranks.get(from) {
            let words = format!("{from} imports {}, which is not below it", edge.to.join("::"));
            complaints.push(Complaint::new(edge.from.join("::"), words));
        }
    }
    complaints
}

#[test]
fn an_upward_and_a_sideways_import_are_found() {
    let page = "## The layers\n\n| layer | holds |\n| --- | --- |\n| `base` | ids |\n| `left`, `right` | machines |\n\n## Next\n| `x` |";
    let ranks = ranks(page);
    let expected = [("base", 0), ("left", 1), ("right", 1)].map(|(name, rank)| (name.to_string(), rank));
    assert_eq!(ranks, BTreeMap::from(expected));
    let upward = |snippets: &[(&str, &str)]| upward(&Tree::of_snippets(snippets), &ranks).len();
    assert_eq!(upward(&[("base", ""), ("left", "use crate::base::X;")]), 0);
    assert_eq!(upward(&[("base", "use crate::left::X;"), ("left", "")]), 1);
    assert_eq!(upward(&[("base", ""), ("left", "fn f() { super::right::g() }"), ("right", "")]), 1);
    assert_eq!(upward(&[("base", "#[test] fn f() { crate::right::g() }"), ("right", "")]), 1);
    assert_eq!(upward(&[("", "pub struct X;"), ("base", "use crate::X;")]), 1);
}
