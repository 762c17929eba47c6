//! The page of a violation in a real browser. Where there is no Chromium the test says so and is skipped, but fails on CI, which has it.

use samara_check::formats::Loaded;
use samara_check::generate::{Workload, generate};
use samara_check::judge::{Demand, Level, loaded_history, reader};
use std::path::Path;
use std::process::Command;

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
    let Some(browser) =
        ["/usr/bin/chromium", "/usr/bin/chromium-browser"].into_iter().find(|at| Path::new(at).exists())
    else {
        assert!(std::env::var_os("CI").is_none(), "CI has Chromium");
        println!("skipped: there is no Chromium");
        return None;
    };
    let folder = std::env::temp_dir().join(format!("samara-check-page-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("page.html");
    std::fs::write(&file, page.replace("</body>", &format!("{HAND}</body>"))).expect("the page");
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args(["--disable-component-update", "--disable-sync", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{}", file.display()))
        .output()
        .expect("Chromium runs");
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let _ = std::fs::remove_dir_all(&folder);
    let drawn = dom.split("data-drawn=\"").nth(1).and_then(|rest| rest.split('"').next());
    let drawn: usize =
        drawn.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("nothing was drawn: {dom}"));
    assert!(
        dom.contains("class=\"op stuck\"") || dom.contains("class=\"op stuck "),
        "the stuck operation is marked"
    );
    assert!(dom.contains("class=\"op smallest"), "the smallest part is marked");
    let word =
        |name: &str| dom.split(&format!("data-{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
    assert!(word("told").is_some_and(|told| told.contains("process ")), "a bar tells its operation: {dom}");
    for hand in ["zoomed", "moved", "let_go"] {
        assert_eq!(word(hand), Some("true"), "{hand}");
    }
    Some(drawn)
}
