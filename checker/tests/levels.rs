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
fn a_write_is_newer_than_what_its_session_had_read() {
    let two = "0 put x 1 -, 1 get x - 1, 1 put x 2 -";
    let three = format!("{two}, 2 get x - 2, 2 put x 3 -");
    let swapped = "0 put x 1 -, 1 cas x [1,2] -";
    compare(
        Level::Session,
        &[
            (
                "monotonic reads",
                &format!("{two}, 2 get x - 2, 2 get x - 1"),
                &format!("{two}, 2 get x - 1, 2 get x - 2"),
            ),
            (
                "monotonic reads",
                &format!("{three}, 3 get x - 3, 3 get x - 1"),
                &format!("{three}, 3 get x - 1, 3 get x - 3"),
            ),
            (
                "monotonic reads",
                &format!("{swapped}, 2 get x - 2, 2 get x - 1"),
                &format!("{swapped}, 2 get x - 1, 2 get x - 2"),
            ),
            ("read your writes", &format!("{two}, 1 get x - 1"), &format!("{two}, 1 get x - 2")),
            (
                "writes follow reads",
                &format!("{two}, 2 get x - 2, 2 put y 1 -, 3 get y - 1, 3 get x - 1"),
                &format!("{two}, 2 get x - 2, 2 put y 1 -, 3 get y - 1, 3 get x - 2"),
            ),
            // Nobody saw the one before he wrote the other.
            (
                "monotonic reads",
                &format!("{two}, 2 get x - 2, 2 get x - 1"),
                "0 put x 1 -, 1 put x 2 -, 2 get x - 2, 2 get x - 1",
            ),
        ],
    );
}

#[test]
fn what_shows_that_a_write_is_newer_is_enough_by_itself() {
    let text =
        history("0 put x 1 -, 1 get x - 1, 1 put x 2 -, 2 get x - 2, 2 put x 3 -, 3 get x - 3, 3 get x - 1");
    let demand = Demand { level: Some(Level::Session), ..Demand::default() };
    let judgement = reader(text.as_bytes(), "history", &demand).expect("a history");
    let Outcome::Anomaly(Ok(Some(anomaly))) = &judgement.outcome else { panic!("{judgement:?}") };
    let pattern = anomaly.pattern.as_ref().expect("steps");
    assert!(pattern.judged_alone, "{pattern:?}");
    assert_eq!(pattern.steps.len(), 7);
    let cycle = pattern.relations.iter().filter(|relation| relation.of_cycle).count();
    assert_eq!(cycle, 5, "over two sessions, and back: {}", judgement.text("history"));
}

#[test]
fn what_was_deleted_does_not_come_back() {
    let own = "0 put x 1 -, 0 delete x - -";
    let told = format!("{own}, 0 put y 1 -, 1 get y - 1");
    let other = "0 put x 1 -, 1 get x - 1, 1 delete x - true, 1 put y 1 -, 2 get y - 1";
    compare(
        Level::Session,
        &[
            ("read your writes", &format!("{own}, 0 get x - 1"), &format!("{own}, 0 get x - -")),
            ("monotonic writes", &format!("{told}, 1 get x - 1"), &format!("{told}, 1 get x - -")),
            ("monotonic writes", &format!("{other}, 2 get x - 1"), &format!("{other}, 2 get x - -")),
        ],
    );
    for level in [Level::Causal, Level::CausalConvergence, Level::CausalMemory] {
        for history in [&told, other] {
            let reads = if *history == told { 1 } else { 2 };
            assert!(found(&format!("{history}, {reads} get x - 1"), level).is_some(), "{level:?} {history}");
            assert_eq!(found(&format!("{history}, {reads} get x - -"), level), None, "{level:?} {history}");
        }
    }
    // One that found nothing has changed nothing.
    for level in [Level::Session, Level::Causal, Level::CausalConvergence, Level::CausalMemory] {
        assert_eq!(found("0 put x 1 -, 0 delete x - false, 0 get x - 1", level), None, "{level:?}");
    }
}

#[test]
fn what_is_not_judged_is_counted() {
    let text = history(
        "0 put x 1 -, 0 delete x - false, 0 delete x - true, 1 get x - -, 1 put y 5 -, 2 put y 5 -, 1 get y - 5, 2 incr z 1 1, 2 get w - -",
    ) + "\n{\"process\":3,\"type\":\"invoke\",\"f\":\"delete\",\"key\":\"x\"}";
    for level in [Level::Session, Level::Causal, Level::CausalConvergence, Level::CausalMemory] {
        let demand = Demand { level: Some(level), ..Demand::default() };
        let judgement = reader(text.as_bytes(), "history", &demand).expect("a history");
        assert_eq!(judgement.word(), "holds", "{level:?}");
        let json: serde_json::Value = serde_json::from_str(&judgement.json("history")).expect("JSON");
        let counts = &json["not_judged"];
        assert_eq!(counts["deletions"], 2, "{level:?} {counts}");
        assert_eq!(counts["absent_reads"], 1, "{level:?} {counts}");
        assert_eq!(counts["ambiguous_reads"], 1, "{level:?} {counts}");
        let said = judgement.text("history");
        assert!(said.contains("note: not judged: 2 deletions"), "{said}");
        assert!(json["notes"].to_string().contains("not judged: 2 deletions"), "{json}");
    }
    let weak = text.replace("\"key\":\"w\"", "\"key\":\"w\",\"level\":\"causal\"");
    let judgement = reader(weak.as_bytes(), "history", &Demand::default()).expect("a history");
    assert_eq!(judgement.unjudged.weak_reads, 1);
    assert!(judgement.text("history").contains("not judged: 1 reads at the levels causal and eventual"));
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
