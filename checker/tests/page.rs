//! The page of a violation in a real browser. Where there is no Chromium the test says so and is skipped, but fails on CI, which has it.

mod browser;

use samara_check::formats::Loaded;
use samara_check::generate::{Workload, generate};
use samara_check::judge::{Demand, Level, loaded_history, reader};

#[test]
fn a_browser_draws_the_timeline() {
    let history = generate(&Workload { operations: 400, clients: 8, lies: 1, ..Workload::default() });
    let judgement = loaded_history(&Loaded::Operations(history), &Demand::default()).expect("a judgement");
    assert_eq!(judgement.word(), "violated");
    let page = judgement.html("<planted> & \"quoted\"");
    assert!(!page.contains("<planted>"), "names are escaped");
    if let Some(drawn) = drawn("operations", &page) {
        assert_eq!(drawn, judgement.shown.len(), "every operation is a bar");
    }
}

/// Two that each saw nothing of the other though one came after, with names that would end a script.
const SKEW: &str = r#"{"process":"</script>","type":"invoke","f":"txn","value":[["r","x",null],["w","y","<b>"]]}
{"process":"</script>","type":"ok","f":"txn","value":[["r","x",null],["w","y","<b>"]]}
{"process":1,"type":"invoke","f":"txn","value":[["r","y",null],["w","x",1]]}
{"process":1,"type":"ok","f":"txn","value":[["r","y",null],["w","x",1]]}"#;

#[test]
fn a_browser_draws_transactions() {
    let demand = Demand { level: Some(Level::Linearizable), ..Demand::default() };
    let judgement = reader(SKEW.as_bytes(), "skew", &demand).expect("a judgement");
    let page = judgement.html("skew");
    assert!(!page.contains("<b>"), "values are escaped");
    if let Some(drawn) = drawn("transactions", &page) {
        assert_eq!(drawn, 2, "every transaction is a bar");
    }
}

/// Puts the pointer on a bar, turns the wheel and drags, and leaves word of what came of it.
const HAND: &str = "<script>
const places = () => [...svg.querySelectorAll('rect.op')].map(bar => bar.getAttribute('x')).join();
svg.querySelector('rect.op').dispatchEvent(new MouseEvent('mouseenter'));
document.body.dataset.told = about.textContent;
const first_places = places();
svg.dispatchEvent(new WheelEvent('wheel', {deltaY: 100, clientX: 400, cancelable: true}));
const zoomed_places = places();
svg.dispatchEvent(new PointerEvent('pointerdown', {clientX: 300}));
window.dispatchEvent(new PointerEvent('pointermove', {clientX: 340}));
window.dispatchEvent(new PointerEvent('pointerup', {clientX: 340}));
const moved_places = places();
window.dispatchEvent(new PointerEvent('pointermove', {clientX: 500}));
document.body.dataset.zoomed = first_places !== zoomed_places;
document.body.dataset.moved = zoomed_places !== moved_places;
document.body.dataset.let_go = moved_places === places();
</script>";

/// How many bars a browser draws, of which some are marked.
fn drawn(name: &str, page: &str) -> Option<usize> {
    let dom = browser::dom(name, page, HAND)?;
    let has = |class: &str| dom.0.contains(&format!("class=\"op {class} "));
    assert!(has("stuck"), "the stuck operation is marked");
    assert!(has("smallest"), "the smallest part is marked");
    assert!(
        dom.word("told").is_some_and(|told| told.contains("process ")),
        "a bar tells its operation: {}",
        dom.0
    );
    dom.assert_true(&["zoomed", "moved", "let_go"]);
    assert_eq!(dom.number("arrows"), 0);
    Some(dom.number("drawn"))
}
