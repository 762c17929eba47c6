//! What no file of the tree says: paths of one machine, notes to self, and talk of how the work was organised.

use super::Complaint;
use super::source::{files, root};
use std::path::Path;

/// A word, and whether it must stand alone (with no letter or digit on either side). Words in lower case are found in any
/// case.
const WORDS: &[(&str, bool)] = &[
    ("/work/", false),
    ("/root/", false),
    ("/home/", false),
    (".library", false),
    ("worktree", true),
    ("TODO", true),
    ("FIXME", true),
    ("XXX", true),
    ("HACK", true),
    ("subagent", false),
    ("ai agent", false),
    ("language model", false),
    ("llm", true),
    ("chatgpt", false),
    ("claude", true),
    ("anthropic", false),
    ("the ceo", true),
    ("issues show", false),
    ("issue #", false),
];

/// This check names the words itself.
const THIS: &str = "tests/tests/tidy/words.rs";

/// Kinds of files that are text of ours.
fn is_text(path: &str) -> bool {
    const EXTENSIONS: [&str; 14] =
        ["rs", "toml", "md", "yml", "yaml", "json", "sh", "html", "css", "js", "snap", "txt", "jsonl", "py"];
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    // Locks are written by tools; scripts and dot files have no extension.
    let other = extension.is_empty() && !path.ends_with("LICENSE");
    path != THIS && (EXTENSIONS.contains(&extension) || other)
}

/// Every text of the tree, with its path.
pub fn texts() -> Vec<(String, String)> {
    let read = |path: String| {
        let text = std::fs::read(root().join(&path)).ok()?;
        Some((path, String::from_utf8(text).ok()?))
    };
    files("", is_text).into_iter().filter_map(read).collect()
}

/// Whether `word` stands in `line`.
fn says(line: &str, word: &str, alone: bool) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    line.match_indices(word).any(|(at, _)| {
        !alone
            || !(is_part(line[..at].chars().next_back()) || is_part(line[at + word.len()..].chars().next()))
    })
}

/// Every line that says a banned word.
pub fn banned(texts: &[(String, String)]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (path, text) in texts {
        for (index, line) in text.lines().enumerate() {
            let lower = line.to_lowercase();
            let as_written = |word: &str| if word == word.to_lowercase() { &lower } else { line };
            for (word, _) in WORDS.iter().filter(|(word, alone)| says(as_written(word), word, *alone)) {
                complaints.push(Complaint::new(format!("{path}:{}", index + 1), format!("says {word:?}")));
            }
        }
    }
    complaints
}

#[test]
fn banned_words_are_found_and_ordinary_ones_are_not() {
    let count = |line: &str| banned(&[("a.md".into(), line.into())]).len();
    for line in ["see /work/main", "// TODO: later", "a HACK.", "As a Language Model", "fixes issue #12"] {
        assert_eq!(count(line), 1, "{line}");
    }
    for line in ["the network/rooted tree", "a shack", "an issue of stamps", "a session's token", "work/main"]
    {
        assert_eq!(count(line), 0, "{line}");
    }
}
