//! What a broken causal level or session guarantee is shown with: as text, as JSON, and on a page in a real browser, which it is skipped without.

mod browser;

use samara_check::causal::Anomaly;
use samara_check::judge::{Demand, Judgement, Level, Outcome, reader};
use samara_check::pattern::{Kind, NEAR_MAX, Pattern, Step};
use std::fmt::Write as _;

/// A history of operations one after the other, `CLIENT F KEY VALUE` apart by commas; `-` for nothing. Two lines each, with a version where one is
/// told as a fifth word.
fn lines(operations: &str) -> Vec<String> {
    let operation = |operation: &str| {
        let words: Vec<&str> = operation.split(' ').collect();
        let [client, f, key, value] = words[..4] else { panic!("{operation}") };
        let value = if value == "-" { "null".into() } else { format!("\"{value}\"") };
        let version = words.get(4).map_or_else(String::new, |version| format!(",\"version\":{version}"));
        let asked = if f == "get" { "null" } else { &value };
        let event = |kind: &str, value: &str| {
            format!(
                r#"{{"process":{client},"type":"{kind}","f":"{f}","key":"{key}","value":{value}{version}}}"#
            )
        };
        [event("invoke", asked), event("ok", &value)]
    };
    operations.split(", ").flat_map(operation).collect()
}

fn judged(text: &str, level: Level) -> Judgement {
    let demand = Demand { level: Some(level), ..Demand::default() };
    reader(text.as_bytes(), "history", &demand).expect("a history")
}

fn anomaly(judgement: &Judgement) -> &Anomaly {
    match &judgement.outcome {
        Outcome::Anomaly(Ok(Some(anomaly))) => anomaly,
        other => panic!("no anomaly: {other:?}"),
    }
}

fn pattern(judgement: &Judgement) -> &Pattern {
    anomaly(judgement).pattern.as_ref().expect("a part that shows it")
}

/// Name, level, a history that has it among other operations, how many of these show it.
const TABLE: [(&str, Level, &str, usize); 12] = [
    ("ThinAirRead", Level::Causal, "0 put x 1, 1 get x 1, 1 get x 2", 1),
    // Only a clock that goes back makes a cycle of single operations: the reads come first.
    ("CyclicCO", Level::Causal, "0 put z 1, 0 get x 1, 0 put y 1, 1 get z 1, 1 get y 1, 1 put x 1", 4),
    ("WriteCOInitRead", Level::Causal, "0 put x 1, 0 put z 1, 0 put y 1, 1 get z 1, 1 get y 1, 1 get x -", 4),
    (
        "WriteCORead",
        Level::Causal,
        "0 put x 1, 0 put x 2, 0 put z 3, 0 put y 1, 1 get y 1, 1 get z 3, 1 get x 1",
        5,
    ),
    (
        "CyclicCF",
        Level::CausalConvergence,
        "0 put x 1, 1 put x 2, 0 put z 1, 0 get x 2, 1 get z 1, 1 get x 1",
        4,
    ),
    ("CyclicHB", Level::CausalMemory, "0 put x 1, 1 put x 2, 0 put z 1, 0 get x 2, 0 get z 1, 0 get x 1", 4),
    (
        "WriteHBInitRead",
        Level::CausalMemory,
        "0 put z 1, 0 put x 1, 0 put y 1, 1 put x 2, 2 get x 2, 2 get z -, 2 get y 1, 2 get x 2",
        8,
    ),
    ("read your writes", Level::Session, "0 put x 1, 0 put x 2, 0 put z 1, 0 get x 1", 3),
    ("read your writes", Level::Session, "1 put x 2 5, 0 put x 1 7, 1 get z - 0, 0 get x 2 5", 3),
    ("monotonic reads", Level::Session, "0 put x 1, 0 put x 2, 1 get x 2, 1 get z -, 1 get x 1", 4),
    (
        "monotonic writes",
        Level::Session,
        "0 put x 1, 0 put z 1, 0 put y 1, 1 get z 1, 1 get y 1, 1 get x -",
        4,
    ),
    (
        "writes follow reads",
        Level::Session,
        "0 put x 1, 1 get x 1, 1 put z 1, 1 put y 1, 2 get y 1, 2 get x -",
        5,
    ),
];

#[test]
fn what_is_shown_breaks_the_level_by_itself() {
    for (name, level, operations, steps) in TABLE {
        let lines = lines(operations);
        let judgement = judged(&lines.join("\n"), level);
        assert_eq!(anomaly(&judgement).name, name, "{operations}");
        let pattern = pattern(&judgement);
        assert!(pattern.judged_alone, "{name}");
        assert_eq!(pattern.steps.len(), steps, "{name}: {pattern:?}");
        let of_sessions = |of: &Step| pattern.steps.iter().any(|step| step.session == of.session);
        assert!(
            pattern.near.iter().all(|of| of_sessions(of) && !pattern.steps.contains(of)),
            "{name}: {pattern:?}"
        );
        // The lines of the steps alone, as a file of their own.
        let mut calls: Vec<usize> = pattern.steps.iter().map(|step| step.line as usize - 1).collect();
        calls.sort_unstable();
        let part: Vec<&str> =
            calls.iter().flat_map(|at| [lines[*at].as_str(), lines[at + 1].as_str()]).collect();
        let again = judged(&part.join("\n"), level);
        assert_eq!(anomaly(&again).name, name, "{part:?}");
        assert_eq!(self::pattern(&again).relations.len(), pattern.relations.len(), "{name}");
    }
}

#[test]
fn the_text_tells_steps_and_relations() {
    let judgement = judged(&lines(TABLE[3].2).join("\n"), TABLE[3].1);
    let text = judgement.text("history");
    let expected = r#"  WriteCORead: the third reads "x" from the first, though it sees the second, which overwrote it (1, 2, 5 of these)
  shown by 5 steps of the history, which are enough by themselves:
    1. session 0, line 1 [1..2]: "x" put "1" -> ok
    2. session 0, line 3 [3..4]: "x" put "2" -> ok
    3. session 0, line 5 [5..6]: "z" put "3" -> ok
    4. session 1, line 11 [11..12]: "z" get -> "3"
    5. session 1, line 13 [13..14]: "x" get -> "1"
  a cycle:
    1 comes before 2 in the same session
    2 must have written "x" before 1 did: 5 sees what it wrote, and reads "x" from 1
  because
    2 comes before 3 in the same session
    3 wrote the "z" that 4 reads
    4 comes before 5 in the same session
    1 wrote the "x" that 5 reads
"#;
    assert!(text.ends_with(expected), "{text}");
    let versions = judged(&lines(TABLE[8].2).join("\n"), Level::Session).text("history");
    assert!(versions.contains("1 wrote \"x\" before 2 did: version 5 is older than 7"), "{versions}");
}

#[test]
fn the_json_has_steps_and_relations_beside_what_it_had() {
    let judgement = judged(&lines(TABLE[4].2).join("\n"), TABLE[4].1);
    let json: serde_json::Value = serde_json::from_str(&judgement.json("history")).expect("JSON");
    let shown = &json["counterexample"];
    assert_eq!(shown["anomaly"], "CyclicCF");
    assert_eq!(shown["nodes"].as_array().map(Vec::len), shown["edges"].as_array().map(Vec::len));
    let step = &shown["steps"][2];
    let access = serde_json::json!([{"f": "r", "key": "x", "value": "2"}]);
    assert_eq!(
        (&step["session"], &step["line"], &step["accesses"]),
        (&"session 0".into(), &7.into(), &access)
    );
    assert_eq!((&step["call"], &step["ret"]), (&7.into(), &8.into()), "{shown}");
    let relations = shown["relations"].as_array().expect("relations");
    let order = relations.iter().find(|of| of["kind"] == "write-order").expect("an order of writes");
    let words = order["text"].as_str().expect("words");
    assert_eq!((&order["key"], &order["of_cycle"]), (&"x".into(), &true.into()));
    assert!(words.contains("must have written \"x\" before"), "{words}");
    assert_eq!(shown["judged_alone"], true);
}

#[test]
fn a_long_way_is_cut_short_and_what_is_near_is_bounded() {
    // Ten sessions, each of which sees the end of the one before and then does a hundred things of its own.
    let mut operations = String::from("0 put x 1");
    for session in 0..10 {
        for at in 0..100 {
            let _ = write!(operations, ", {session} put k{session} v{at}");
        }
        let _ = write!(operations, ", {} get k{session} v99", session + 1);
    }
    operations.push_str(", 10 get x -");
    let judgement = judged(&lines(&operations).join("\n"), Level::CausalConvergence);
    let pattern = pattern(&judgement);
    assert_eq!(anomaly(&judgement).name, "WriteCOInitRead");
    // The write, then a write and a read for each session, and the read of nothing.
    assert_eq!((pattern.steps.len(), pattern.judged_alone), (22, true));
    assert!(pattern.near.len() > 50 && pattern.near.len() <= NEAR_MAX, "{}", pattern.near.len());
}

#[test]
fn only_what_matters_of_a_transaction_is_shown() {
    let text = r"w a 1
w x 1
-----
w x 2
w y 1
=====
r a 1
r y 1
r x 1
";
    let judgement = judged(text, Level::Causal);
    let pattern = pattern(&judgement);
    assert_eq!(anomaly(&judgement).name, "WriteCORead");
    assert_eq!(pattern.steps.iter().map(|step| step.left_out).collect::<Vec<_>>(), [1, 0, 1]);
    let kinds: Vec<(usize, usize, Kind)> =
        pattern.relations.iter().map(|of| (of.from, of.to, of.kind)).collect();
    let expected =
        [(0, 1, Kind::Session), (1, 0, Kind::WriteOrder), (1, 2, Kind::ReadsFrom), (0, 2, Kind::ReadsFrom)];
    assert_eq!(kinds, expected);
    assert!(
        judgement.text("t").contains("1. session 0, line 1: w \"x\" \"1\" and 1 more"),
        "{}",
        judgement.text("t")
    );
    assert!(judgement.html("t").contains("has no times"));
}

/// Puts the pointer on a bar and on an arrow, turns the wheel, drags, and changes the scale, and leaves word of what came of it.
const HAND: &str = "<script>
const places = () => [...svg.querySelectorAll('rect.op')].map(bar => bar.getAttribute('x')).join();
const ends = () => [...svg.querySelectorAll('path.arrow')].map(path => path.getAttribute('d')).join();
const said = document.body.dataset;
svg.querySelector('rect.op').dispatchEvent(new MouseEvent('mouseenter'));
said.bar = about.textContent;
const tellers = [...svg.querySelectorAll('path.hit')].map(path => {
  path.dispatchEvent(new MouseEvent('mouseenter'));
  const bars = svg.querySelectorAll('rect.hot').length;
  path.dispatchEvent(new MouseEvent('mouseleave'));
  return bars === 2 && about.textContent;
});
said.told = JSON.stringify(tellers);
said.left = svg.querySelectorAll('.hot').length === 1 || svg.querySelectorAll('.hot').length > 0;
said.near = svg.querySelectorAll('rect.near').length;
said.labels = [...svg.querySelectorAll('text.label')].every(label => label.textContent.length > 0);
said.sound = ![...svg.querySelectorAll('*')].some(e => [...e.attributes].some(a => a.value.includes('NaN')));
const first_places = places(), first_ends = ends();
svg.dispatchEvent(new WheelEvent('wheel', {deltaY: -100, clientX: 400, cancelable: true}));
said.zoomed = first_places !== places() && (first_ends === '' || first_ends !== ends());
const zoomed = places();
svg.dispatchEvent(new PointerEvent('pointerdown', {clientX: 300}));
window.dispatchEvent(new PointerEvent('pointermove', {clientX: 340}));
window.dispatchEvent(new PointerEvent('pointerup', {clientX: 340}));
said.moved = zoomed !== places();
evenly.click();
evenly.click();
said.fits = first_places === places();
said.loads = performance.getEntriesByType('resource').length;
</script>";

#[test]
fn a_browser_draws_every_pattern() {
    for (at, (name, level, operations, steps)) in TABLE.into_iter().enumerate() {
        let judgement = judged(&lines(operations).join("\n"), level);
        let pattern = pattern(&judgement);
        let Some(dom) = browser::dom(&format!("pattern-{at}"), &judgement.html(name), HAND) else { return };
        assert_eq!(dom.number("drawn"), steps + pattern.near.len(), "{name}: every operation is a bar");
        assert_eq!(dom.number("arrows"), pattern.relations.len(), "{name}: every relation is an arrow");
        assert_eq!(dom.number("near"), pattern.near.len(), "{name}");
        assert!(dom.word("bar").is_some_and(|told| told.starts_with("1. session ")), "{name}: {}", dom.0);
        let told = dom.word("told").expect("arrows tell").replace("&quot;", "\"");
        let told: Vec<String> = serde_json::from_str(&told).expect("each arrow tells, with two bars marked");
        assert_eq!(told.len(), pattern.relations.len());
        assert!(
            pattern
                .relations
                .iter()
                .zip(&told)
                .all(|(of, told)| told.starts_with(&format!("{} ", of.from + 1)))
        );
        dom.assert_true(&["labels", "sound", "zoomed", "moved", "fits"]);
        assert_eq!(dom.number("loads"), 0, "{name}: the page is alone");
    }
}

/// A history whose names and values would like to be a script, and are huge.
fn hostile() -> String {
    let key = r#"</script><script>document.body.dataset.broken=1</script>\"'><img src=x onerror=\"document.body.dataset.broken=1\">"#;
    let value = format!("<b>\\\"{}", "x".repeat(1_000_000));
    let client = "<script>document.title='broken'</script>";
    let event = |client: &str, kind: &str, f: &str, key: &str, value: &str| {
        format!(r#"{{"process":"{client}","type":"{kind}","f":"{f}","key":"{key}","value":{value}}}"#)
    };
    let mut text = String::new();
    let mut both = |client: &str, f: &str, key: &str, value: &str| {
        let asked = if f == "get" { "null" } else { value };
        let _ = writeln!(text, "{}", event(client, "invoke", f, key, asked));
        let _ = writeln!(text, "{}", event(client, "ok", f, key, value));
    };
    both(client, "put", key, &format!("\"{value}1\""));
    both(client, "put", "y\\u001b[2J\\u2028", &format!("\"{value}2\""));
    both("1", "get", "y\\u001b[2J\\u2028", &format!("\"{value}2\""));
    both("1", "get", key, "null");
    text
}

#[test]
fn what_a_history_says_is_never_more_than_text() {
    for (at, level) in
        [Level::Causal, Level::CausalConvergence, Level::CausalMemory, Level::Session].into_iter().enumerate()
    {
        let judgement = judged(&hostile(), level);
        assert_eq!(judgement.word(), "violated");
        let (text, json, page) = (judgement.text("h"), judgement.json("h"), judgement.html("\"><script>"));
        assert!(!text.contains('\u{1b}') && text.len() < 10_000, "{text}");
        assert!(json.len() < 20_000, "{} bytes", json.len());
        assert!(
            page.len() < 50_000 && !page.contains("<script>document") && !page.contains("<b>\\"),
            "{page}"
        );
        assert!(!page.contains("<img"), "{page}");
        let Some(dom) = browser::dom(&format!("hostile-{at}"), &page, HAND) else { return };
        assert_eq!((dom.word("broken"), dom.number("drawn"), dom.number("loads")), (None, 4, 0), "{}", dom.0);
        assert!(!dom.0.contains("<title>broken"));
        dom.assert_true(&["labels", "sound", "zoomed", "moved", "fits"]);
    }
}
