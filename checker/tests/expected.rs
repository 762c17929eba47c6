//! Histories of others with known verdicts: every file of the shared data gets the verdict that it is known to have.
//!
//! The data lies beside the checkout (`../shared/data`, or the same beside a folder above). Where it is absent the test says so
//! and is skipped, but fails on CI, which has it.

use samara_check::formats::{self, FailedCas, Loaded, Nil, Reading};
use samara_check::judge::{self, Demand, Judgement, Level};
use samara_check::linearizability::{Options, Verdict};
use samara_check::plain;
use std::fs::File;
use std::path::{Path, PathBuf};

fn data() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = here.ancestors().map(|folder| folder.join("shared/data")).find(|data| data.is_dir());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI has ../shared/data beside the checkout");
        println!("skipped: there is no ../shared/data beside the checkout");
    }
    found
}

/// One line of EXPECTED.tsv.
struct Case {
    file: String,
    model: String,
    expected: String,
}

fn cases(data: &Path) -> Vec<Case> {
    let table = std::fs::read_to_string(data.join("EXPECTED.tsv")).expect("EXPECTED.tsv");
    let lines = table.lines().skip(1).map(|line| {
        let mut columns = line.split('\t').map(str::to_owned);
        let mut next = || columns.next().expect("a column");
        let (file, model, _format) = (next(), next(), next());
        Case { file, model, expected: next() }
    });
    lines.collect()
}

/// How the model column says that a file is to be understood.
fn reading(model: &str) -> Reading {
    let initial = model.split("init=").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or("nil");
    Reading {
        nil: if model.contains("nil = key absent") {
            Some(Nil::Absent)
        } else {
            model.contains("nil = wildcard").then_some(Nil::Any)
        },
        failed_cas: model.contains("observed mismatch").then_some(FailedCas::Mismatch),
        initial: match initial {
            "nil" => None,
            quoted if quoted.starts_with('"') => Some(quoted.trim_matches('"').as_bytes().to_vec()),
            plain => Some(plain.as_bytes().to_vec()),
        },
        ..Reading::default()
    }
}

fn load(data: &Path, case: &Case) -> Loaded {
    let file = File::open(data.join(&case.file)).expect("a file of the table");
    match formats::read(file, None, &reading(&case.model)) {
        Ok(loaded) => loaded,
        Err(bad) => panic!("{}:{bad}", case.file),
    }
}

#[test]
fn linearizable_or_not_by_the_plain_search() {
    let Some(data) = data() else { return };
    let mut judged = 0;
    for case in cases(&data).iter().filter(|case| case.expected.contains("linearizable")) {
        let Loaded::Operations(recording) = load(&data, case) else { panic!("{}: transactions", case.file) };
        let initial = recording.initial.value();
        let initial = (initial != 0).then(|| recording.values.text(initial).to_vec());
        let verdict = plain::check(&recording.history(), initial.as_deref(), &Options::default());
        let holds = case.expected == "linearizable";
        match verdict {
            Verdict::Holds => assert!(holds, "{} does not hold", case.file),
            Verdict::Violated(_) => assert!(!holds, "{} holds", case.file),
            Verdict::Undecided { .. } => panic!("{} was not decided", case.file),
        }
        judged += 1;
    }
    assert!(judged > 100, "only {judged} files");
}

fn judged(data: &Path, case: &Case, level: Option<Level>) -> Judgement {
    let demand = Demand { level, reading: reading(&case.model), ..Demand::default() };
    judge::file(&data.join(&case.file), &demand).unwrap_or_else(|reason| panic!("{reason}"))
}

#[test]
fn every_history_gets_its_verdict() {
    let Some(data) = data() else { return };
    let cases = cases(&data);
    for case in &cases {
        let mut demands: Vec<(Option<Level>, &str)> = Vec::new();
        match case.expected.as_str() {
            "linearizable" | "valid" => demands.push((None, "holds")),
            "not-linearizable" => demands.push((None, "violated")),
            levels => {
                for level in levels.split(", ") {
                    let (name, verdict) = level.split_once(' ').expect("a level and its verdict");
                    let level = match name {
                        "RC" => Level::ReadCommitted,
                        "RA" => Level::ReadAtomic,
                        "causal" => Level::CausalConvergence,
                        other => panic!("level {other}"),
                    };
                    demands.push((Some(level), if verdict == "ok" { "holds" } else { "violated" }));
                }
            }
        }
        assert!(!demands.is_empty(), "{}", case.file);
        for (level, expected) in demands {
            let judgement = judged(&data, case, level);
            assert_eq!(
                judgement.word(),
                expected,
                "{} at {level:?}: {}",
                case.file,
                judgement.text(&case.file)
            );
        }
    }
    assert!(cases.len() > 120, "only {} files", cases.len());
}
