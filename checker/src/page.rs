//! Judgements as a page for a browser, in one file: the verdict, the explanation, and for linearizability a timeline with a row for each
//! client, which zooms with the wheel, moves with a drag, and tells an operation when the pointer is on it.

use crate::history::{Operation, Outcome as Ended};
use crate::judge::{Judgement, Outcome};
use crate::linearizability::{Counterexample, Verdict};
use crate::multi;
use crate::show;

const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:1.5em;color:#223}h1{font-size:1.2em}\
pre{background:#f4f5f7;padding:1em;overflow:auto}svg{width:100%;border:1px solid #ccd;cursor:grab;touch-action:none}\
rect.op{fill:#9bb7d9}rect.smallest{fill:#e9a13b}rect.stuck{fill:#d64545}rect.unknown{fill-opacity:.35}\
text{font:11px system-ui,sans-serif;pointer-events:none}#about{min-height:1.4em;font-family:monospace}\
.key span{display:inline-block;padding:0 .6em;margin-right:.6em}";

const SCRIPT: &str = r"
const data = JSON.parse(document.getElementById('data').textContent);
const svg = document.getElementById('timeline'), about = document.getElementById('about');
const rows = [...new Set(data.map(o => o.process))];
const first = Math.min(...data.map(o => o.call));
const last = Math.max(...data.map(o => Math.max(o.call, o.ret ?? o.call)));
let from = first, to = Math.max(last, first + 1);
const height = 22, left = 110;
svg.setAttribute('height', rows.length * height + 10);
function element(name, attributes) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  svg.appendChild(e);
  return e;
}
function draw() {
  svg.replaceChildren();
  const width = svg.clientWidth - left;
  const x = t => left + (t - from) / (to - from) * width;
  for (const o of data) {
    const row = rows.indexOf(o.process), end = o.ret ?? to;
    const a = Math.max(left, x(o.call)), b = Math.min(left + width, Math.max(x(end), x(o.call) + 3));
    if (b < left || a > left + width) continue;
    const rect = element('rect', {x: a, y: row * height + 4, width: Math.max(b - a, 1), height: height - 6,
      class: 'op ' + o.mark + (o.ret === null ? ' unknown' : '')});
    rect.addEventListener('mouseenter', () => { about.textContent = o.line; });
    if (b - a > 40) element('text', {x: a + 3, y: row * height + 16}).textContent = o.short.slice(0, (b - a) / 6);
  }
  rows.forEach((p, i) => { element('text', {x: 2, y: i * height + 16}).textContent = 'process ' + p; });
}
svg.addEventListener('wheel', e => {
  e.preventDefault();
  const at = from + (e.offsetX - left) / (svg.clientWidth - left) * (to - from);
  const factor = e.deltaY > 0 ? 1.25 : 0.8;
  from = at - (at - from) * factor; to = at + (to - at) * factor; draw();
}, {passive: false});
let held = null;
svg.addEventListener('pointerdown', e => { held = e.clientX; });
window.addEventListener('pointerup', () => { held = null; });
window.addEventListener('pointermove', e => {
  if (held === null) return;
  const by = (held - e.clientX) / (svg.clientWidth - left) * (to - from);
  held = e.clientX; from += by; to += by; draw();
});
window.addEventListener('resize', draw);
draw();
document.body.dataset.drawn = svg.querySelectorAll('rect.op').length;
";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page.
pub(crate) fn html(judgement: &Judgement, name: &str) -> String {
    let name = escape(name);
    let text = escape(&show::text(judgement, &name));
    let mut body = format!("<h1>{name}: {}</h1>\n<pre>{text}</pre>\n", judgement.word());
    let bars = match &judgement.outcome {
        Outcome::Linearizability(report) => match &report.verdict {
            Verdict::Violated(example) => operations(&judgement.shown, example),
            _ => Vec::new(),
        },
        Outcome::Transactions(Ok(Some(example))) => transactions(example),
        _ => Vec::new(),
    };
    if !bars.is_empty() {
        body.push_str(&timeline(bars));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{name}: {}</title>\n\
         <style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n",
        judgement.word()
    )
}

fn operations(shown: &[Operation], example: &Counterexample) -> Vec<serde_json::Value> {
    let bar = |operation: &Operation| {
        let mark = if *operation == example.stuck {
            "stuck"
        } else if example.smallest.contains(operation) {
            "smallest"
        } else {
            ""
        };
        let ret = (operation.outcome != Ended::Unknown).then_some(operation.ret);
        serde_json::json!({
            "process": operation.process, "call": operation.call, "ret": ret, "mark": mark,
            "line": show::line(operation),
            "short": format!("{} \u{2192} {}", show::asked(&operation.function), show::answered(&operation.outcome)),
        })
    };
    shown.iter().map(bar).collect()
}

/// Those of the smallest part, of the end of the longest order, and the one that is stuck, each once.
fn transactions(example: &multi::Counterexample) -> Vec<serde_json::Value> {
    let identity = |txn: &multi::Shown| (txn.line, txn.process.clone(), txn.call);
    let smallest: Vec<_> = example.smallest.iter().map(identity).collect();
    let mut shown: Vec<&multi::Shown> = Vec::new();
    for txn in example.smallest.iter().chain(&example.last).chain([&example.stuck]) {
        if !shown.iter().any(|other| identity(other) == identity(txn)) {
            shown.push(txn);
        }
    }
    let bar = |txn: &&multi::Shown| {
        let mark = if identity(txn) == identity(&example.stuck) {
            "stuck"
        } else if smallest.contains(&identity(txn)) {
            "smallest"
        } else {
            ""
        };
        serde_json::json!({
            "process": txn.process, "call": txn.call, "ret": txn.ret, "mark": mark,
            "line": show::txn_line(txn), "short": show::accesses(txn),
        })
    };
    shown.iter().map(bar).collect()
}

fn timeline(data: Vec<serde_json::Value>) -> String {
    // Within a script element some tags would end it, or change how its end is found.
    let data = serde_json::Value::from(data).to_string().replace('<', "\\u003c");
    format!(
        "<p class=\"key\"><span style=\"background:#d64545\">cannot be placed</span>\
         <span style=\"background:#e9a13b\">the smallest part without an order</span>\
         <span style=\"background:#9bb7d9\">other operations</span>pale: outcome unknown</p>\n\
         <p id=\"about\">wheel: zoom, drag: move, pointer: details</p>\n<svg id=\"timeline\"></svg>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n<script>{SCRIPT}</script>\n"
    )
}
