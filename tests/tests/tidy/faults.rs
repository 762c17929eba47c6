//! The table of `docs/OPERATIONS.md` that says what becomes of each fault of a disk: every fault of every kind of file is
//! there once, and every test that it names exists.

use super::Complaint;
use super::source::Source;
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};

const PAGE: &str = "docs/OPERATIONS.md";
const FAULTS: [&str; 8] =
    ["full", "read error", "failed write or sync", "hung", "flipped bit", "truncated", "swapped", "missing"];
const FILES: [&str; 7] = ["log", "block", "index", "value", "manifest", "identity", "ceiling"];
const COLUMNS: usize = 6;

/// The names of all functions that are tests.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl<'ast> Visit<'ast> for Names {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if item.attrs.iter().any(|attribute| attribute.path().is_ident("test")) {
            self.0.insert(item.sig.ident.to_string());
        }
        visit::visit_item_fn(self, item);
    }
}

pub fn tests(sources: &[Source]) -> BTreeSet<String> {
    let mut names = Names::default();
    for source in sources {
        names.visit_file(&source.syntax);
    }
    names.0
}

/// Words between backticks that look like the names of functions.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    let is_name = |word: &&str| {
        word.matches('_').count() > 2
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    cell.split('`').skip(1).step_by(2).filter(is_name)
}

/// Everything wrong with the table of a page, given the tests that there are.
pub fn complaints(page: &str, tests: &BTreeSet<String>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut complain = |words: String| complaints.push(Complaint::new(PAGE, words));
    let mut times: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if !FAULTS.contains(&cells[0]) {
            continue;
        }
        if cells.len() != COLUMNS || cells.iter().any(|cell| cell.is_empty()) {
            complain(format!("a row has not {COLUMNS} cells: {line}"));
            continue;
        }
        for file in cells[1].split(", ") {
            *times.entry((cells[0], file)).or_default() += 1;
        }
        for name in named(cells[5]).filter(|name| !tests.contains(*name)) {
            complain(format!("{name} is no test"));
        }
        if named(cells[5]).next().is_none() {
            complain(format!("no test is named for: {} of {}", cells[0], cells[1]));
        }
    }
    for (fault, file) in FAULTS.iter().flat_map(|fault| FILES.map(|file| (*fault, file))) {
        match times.remove(&(fault, file)) {
            Some(1) => {}
            Some(count) => complain(format!("{fault} of {file} is there {count} times")),
            None => complain(format!("{fault} of {file} is missing")),
        }
    }
    for (fault, file) in times.keys() {
        complain(format!("{fault} of {file}: there is no such file"));
    }
    complaints
}

#[test]
fn rows_that_are_missing_double_or_name_no_test_are_found() {
    let row =
        |fault: &str, files: &str, test: &str| format!("| {fault} | {files} | a | b | c | `{test}` |\n");
    let tests = BTreeSet::from(["what_it_does_in_the_end".to_string()]);
    let sound: String =
        FAULTS.iter().map(|fault| row(fault, &FILES.join(", "), "what_it_does_in_the_end")).collect();
    assert_eq!(complaints(&sound, &tests), []);
    let count = |page: &str| complaints(page, &tests).len();
    assert_eq!(count(""), FAULTS.len() * FILES.len());
    assert_eq!(count(&sound.replace("flipped bit | log, ", "flipped bit | ")), 1, "missing");
    assert_eq!(count(&sound.replace("log, block", "log, log, block")), FAULTS.len(), "twice");
    assert_eq!(
        count(&format!("{sound}{}", row("hung", "socket", "what_it_does_in_the_end"))),
        1,
        "no such file"
    );
    assert_eq!(count(&sound.replacen("what_it", "what_else_it", 1)), 1, "no such test");
    assert_eq!(count(&sound.replacen("`what_it_does_in_the_end`", "nobody knows", 1)), 1, "no test named");
    assert_eq!(count(&sound.replacen("| a |", "|", 1)), 1 + FILES.len(), "a cell too few");
}
