//! Rounds, rows, and the peers.

use samara_check::history::{Answer, Function, Outcome};
use samara_check::linearizability::{Options, Verdict};
use samara_check::recording::Recording;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Seconds of each round, sorted: of the processor, so that other work on the machine does not count, and by the clock.
pub struct Rounds {
    pub processor: Vec<f64>,
    pub clock: Vec<f64>,
}

impl Rounds {
    /// Seconds of the processor in the middle round.
    pub fn median(&self) -> f64 {
        self.processor[self.processor.len() / 2]
    }
}

pub fn rounds(count: usize, mut work: impl FnMut()) -> Rounds {
    let mut rounds = Rounds { processor: Vec::new(), clock: Vec::new() };
    for _ in 0..count {
        let (start, before) = (Instant::now(), processor_seconds());
        work();
        rounds.clock.push(start.elapsed().as_secs_f64());
        rounds.processor.push(processor_seconds() - before);
    }
    rounds.processor.sort_by(f64::total_cmp);
    rounds.clock.sort_by(f64::total_cmp);
    rounds
}

/// Seconds of the processor that this thread and all threads that ended have taken (Linux: `man 5 proc`, utime and stime in hundredths).
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// One row of the table: the median with the best and the worst round by the clock, and the median of the processor.
pub fn row(name: &str, ours: &Rounds, verdict: &str, plain: &str, stateright: &str) {
    let clock = &ours.clock;
    let (best, median, worst) = (clock[0], clock[clock.len() / 2], clock[clock.len() - 1]);
    println!(
        "| {name} | {median:.4} ({best:.4}-{worst:.4}) | {:.2} | {verdict} | {plain} | {stateright} | {} |",
        ours.median(),
        peak_mb()
    );
}

/// The most memory that this process has had, in megabytes.
pub fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1_024
}

/// A verdict in a word.
pub fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Violated(_) => "violated",
        Verdict::Undecided { .. } => "undecided",
    }
}

/// Steps after which the plain search is stopped: some ten seconds.
const PLAIN_STEPS: u64 = 3_000_000;

/// Seconds of the plain search.
pub fn plain(recording: &Recording) -> String {
    let history = recording.history();
    let start = Instant::now();
    let options = Options { steps_max: PLAIN_STEPS, ..Options::default() };
    let found = samara_check::plain::check(&history, None, &options);
    let seconds = start.elapsed().as_secs_f64();
    match found {
        Verdict::Undecided { .. } => format!("gave up after {seconds:.1}"),
        decided => format!("{seconds:.3} {}", verdict(&decided)),
    }
}

#[derive(Clone, Default, Debug, PartialEq, Eq, Hash)]
struct Register(Option<Vec<u8>>);

impl SequentialSpec for Register {
    type Op = Function;
    type Ret = Answer;

    fn invoke(&mut self, op: &Function) -> Answer {
        match op {
            Function::Get => Answer::Value(self.0.clone()),
            Function::Put { value, .. } => {
                self.0 = Some(value.clone());
                Answer::Done
            }
            Function::Delete => Answer::Applied(self.0.take().is_some()),
            Function::Cas { old, new } => {
                let applied = self.0.as_ref() == Some(old);
                if applied {
                    self.0 = Some(new.clone());
                }
                Answer::Applied(applied)
            }
            Function::Incr(delta) => {
                let text = self.0.as_deref().and_then(|text| std::str::from_utf8(text).ok());
                let sum = text.and_then(|text| text.parse::<i64>().ok()).unwrap_or(0) + delta;
                self.0 = Some(sum.to_string().into_bytes());
                Answer::Integer(sum)
            }
            other => panic!("not generated: {other:?}"),
        }
    }
}

/// How long stateright's tester may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names the workload that a child of the bench gives to stateright.
pub const PEER: &str = "CHECKER_BENCH_PEER";

/// Seconds of stateright's tester in a process of its own, which is ended when it takes too long.
pub fn in_child(name: &str) -> String {
    let program = std::env::current_exe().expect("the bench itself");
    let mut child = Command::new(program)
        .env(PEER, name)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child");
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if child.try_wait().expect("a child").is_some() {
            let output = child.wait_with_output().expect("its output");
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            return if text.is_empty() { "crashed (it recurses once an operation)".into() } else { text };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    format!("more than {}", PATIENCE.as_secs())
}

/// Seconds of stateright's tester, in a thread with a large stack, for it recurses. Operations of unknown outcome never return.
pub fn stateright(recording: &Recording) -> String {
    let operations = recording.history().operations;
    let work = move || {
        let mut events: Vec<(u64, bool, usize)> = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            events.push((operation.call, false, at));
            if operation.outcome != Outcome::Unknown {
                events.push((operation.ret, true, at));
            }
        }
        events.sort_unstable();
        let mut tester = LinearizabilityTester::new(Register::default());
        let start = Instant::now();
        for (_, is_return, at) in events {
            let operation = &operations[at];
            match (&operation.outcome, is_return) {
                (Outcome::Ok(answer), true) => {
                    let _ = tester.on_return(operation.process, answer.clone());
                }
                _ => {
                    let _ = tester.on_invoke(operation.process, operation.function.clone());
                }
            }
        }
        let holds = tester.is_consistent();
        format!("{:.3} {}", start.elapsed().as_secs_f64(), if holds { "holds" } else { "violated" })
    };
    let thread = std::thread::Builder::new().stack_size(1 << 30).spawn(work);
    thread.expect("a thread").join().unwrap_or_else(|_| "crashed".into())
}
