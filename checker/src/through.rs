//! Judges linearizability while a file is read, part by part.

use crate::formats::window::Window;
use crate::formats::{self, Broken, Loaded};
use crate::judgement::{Demand, Judgement, Level, NOTHING_JUDGED, Outcome};
use crate::linearizability::{Limits, Report, Verdict, check_recording};
use crate::recording::Recording;
use crate::show;
use std::io::Read;
use std::time::{Duration, Instant};

/// What was found of the parts so far.
struct Parts<'a> {
    demand: &'a Demand,
    judgement: Judgement,
    report: Report,
    spent: Duration,
}

/// A file that was read through.
pub(crate) enum Through {
    Judged(Judgement),
    /// It holds transactions, whose levels need the whole of them; and the seconds that reading took.
    Unjudged(Loaded, f64),
}

/// Reads and judges operations.
pub(crate) fn linearizable(input: impl Read, demand: &Demand) -> Result<Through, Broken> {
    let start = Instant::now();
    let report = Report { verdict: Verdict::Holds, keys: 0, undecided: Vec::new() };
    let judgement = Judgement::new(Level::Linearizable, Outcome::Linearizability(report.clone()));
    let mut parts = Parts { demand, judgement, report, spent: Duration::ZERO };
    let mut add = |part: &Recording| parts.add(part, true);
    let window = Window::new(&mut add, demand.keep);
    let through = formats::read_through(input, demand.format, &demand.reading, Some(window))?;
    let reading = start.elapsed().saturating_sub(parts.spent);
    let Loaded::Operations(recording) = &through.left else {
        return Ok(Through::Unjudged(through.left, reading.as_secs_f64()));
    };
    if !matches!(parts.report.verdict, Verdict::Violated(_)) {
        parts.add(recording, through.decided > 0);
    }
    let Parts { mut judgement, mut report, spent, .. } = parts;
    if through.decided > 0 {
        report.keys = recording.keys.len();
    }
    judgement.operations = through.decided + recording.records.len();
    judgement.keys = report.keys;
    if judgement.operations == 0 {
        judgement.notes.push(NOTHING_JUDGED.into());
    }
    judgement.let_go = through.decided;
    judgement.reading_seconds = reading.as_secs_f64();
    judgement.seconds = spent.as_secs_f64();
    judgement.outcome = Outcome::Linearizability(report);
    Ok(Through::Judged(judgement))
}

impl Parts<'_> {
    /// Judges a part; `cut`: others went before it. `false` when the verdict is clear.
    fn add(&mut self, part: &Recording, cut: bool) -> bool {
        let start = Instant::now();
        let timeout = self.demand.limits.timeout.map(|timeout| timeout.saturating_sub(self.spent));
        let report =
            check_recording(part, &self.demand.options, &Limits { timeout, ..self.demand.limits.clone() });
        self.spent += start.elapsed();
        self.judgement.unjudged.weak_reads += show::weak_reads(part);
        self.report.keys = report.keys;
        self.report.undecided.extend(report.undecided);
        match report.verdict {
            Verdict::Violated(example) => {
                (self.judgement.shown, self.judgement.names) = show::around(part, &example);
                if cut && let Some(key) = part.keys.find(&example.key) {
                    let held = match part.initial_value(key) {
                        0 => "absent".into(),
                        value => format!("{:?}", String::from_utf8_lossy(part.values.text(value))),
                    };
                    self.judgement.notes.push(format!(
                        "the file was judged part by part; where this part of the key begins, it is {held}, and the operations before have an order"
                    ));
                }
                self.report.verdict = Verdict::Violated(example);
                return false;
            }
            undecided @ Verdict::Undecided { .. } if self.report.verdict == Verdict::Holds => {
                self.report.verdict = undecided;
            }
            Verdict::Undecided { .. } | Verdict::Holds => {}
        }
        true
    }
}
