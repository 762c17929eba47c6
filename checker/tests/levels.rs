//! Session guarantees and what eventual consistency owes: of each anomaly one history that has it, and the nearest that has not.

use samara_check::judge::{Demand, Level, Outcome, reader};

/// A history of operations one after the other, `CLIENT F KEY ARGUMENT ANSWER` apart by commas; `-` for none.
fn history(operations: &str) -> String {
    let word = |text: &str| if text == "-" { "null".into() } else { text.to_owned() };
    let mut lines = Vec::new();
    for operation in operations.split(", ") {
        let words: Vec<&str> = operation.split(' ').collect();
        let [client, f, key, argument, answer] = words[..] else { panic!("{operation}") };
        for (kind, value) in [("invoke", word(argument)), ("ok", word(answer))] {
            lines.push(format!(
                r#"{{"process":{client},"type":"{kind}","f":"{f}","key":"{key}","value":{value}}}"#
            ));
        }
    }
    lines.join("\n")
}

/// The name of what is wrong.
fn found(operations: &str, level: Level) -> Option<String> {
    let demand = Demand { level: Some(level), ..Demand::default() };
    let judgement = reader(history(operations).as_bytes(), "history", &demand).expect("a history");
    match judgement.outcome {
        Outcome::Anomaly(found) => found.expect("decided").map(|anomaly| anomaly.name),
        Outcome::Linearizability(_) | Outcome::Transactions(_) => panic!("another level"),
    }
}

fn compare(level: Level, table: &[(&str, &str, &str)]) {
    for (name, bad, good) in table {
        assert_eq!(found(bad, level).as_deref(), Some(*name), "{bad}");
        assert_eq!(found(good, level), None, "{good}");
    }
}

#[test]
fn each_session_guarantee_is_named_when_it_is_broken() {
    let two = "0 put x 1 -, 0 put x 2 -";
    let pair = "0 put x 1 -, 0 put y 1 -, 1 get y - 1";
    let chain = "0 put x 1 -, 1 get x - 1, 1 put y 1 -, 2 get y - 1";
    compare(
        Level::Session,
        &[
            ("read your writes", &format!("{two}, 0 get x - 1"), &format!("{two}, 0 get x - 2")),
            (
                "monotonic reads",
                &format!("{two}, 1 get x - 2, 1 get x - 1"),
                &format!("{two}, 1 get x - 1, 1 get x - 2"),
            ),
            ("monotonic writes", &format!("{pair}, 1 get x - -"), &format!("{pair}, 1 get x - 1")),
            ("writes follow reads", &format!("{chain}, 2 get x - -"), &format!("{chain}, 2 get x - 1")),
        ],
    );
}

#[test]
fn what_eventual_consistency_owes_is_named_when_it_is_not_paid() {
    let two = "0 put x 1 -, 0 put x 2 -";
    compare(
        Level::Eventual,
        &[
            ("thin air", "0 put x 1 -, 1 get x - 2", "0 put x 1 -, 1 get x - 1"),
            (
                "divergence",
                &format!("{two}, 1 get x - 1, 2 get x - 2"),
                &format!("{two}, 1 get x - 2, 2 get x - 2"),
            ),
            ("lost write", &format!("{two}, 1 get x - 1"), &format!("{two}, 1 get x - 2")),
            ("counted twice", "0 incr x 1 1, 1 incr x 1 1", "0 incr x 1 1, 1 incr x 1 2"),
            ("miscounted", "0 incr x 1 1, 1 get x - 5", "0 incr x 1 1, 1 get x - 1"),
        ],
    );
}
