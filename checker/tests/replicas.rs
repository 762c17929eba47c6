//! A store that keeps its promises and still answers from the past: sessions that read what they have not seen yet as it was some writes ago. Nothing that
//! it does is a violation of causal convergence or of a session guarantee, deletions and compare-and-sets included.

use samara_check::judge::{Demand, Level, reader};
use std::fmt::Write as _;

/// The writes of a key in their order: the value, or nothing for a deletion, and what its session knew.
type Log = Vec<(Option<String>, Vec<usize>)>;

const SESSIONS: usize = 6;
const KEYS: usize = 4;
const OPERATIONS: usize = 300;
/// How many writes of a key what is read may be behind.
const LAG: u64 = 6;

struct Store {
    random: u64,
    logs: Vec<Log>,
    /// How many writes of each key a session knows.
    known: Vec<Vec<usize>>,
    text: String,
    time: usize,
}

impl Store {
    fn new(seed: u64) -> Self {
        Self {
            random: seed,
            logs: vec![Log::new(); KEYS],
            known: vec![vec![0; KEYS]; SESSIONS],
            text: String::new(),
            time: 0,
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27) % end
    }

    fn event(&mut self, session: usize, key: usize, kind: &str, f: &str, value: &str) {
        self.time += 10;
        let time = self.time;
        let _written = writeln!(
            self.text,
            r#"{{"time":{time},"process":{session},"key":"k{key}","f":"{f}","type":"{kind}","value":{value}}}"#
        );
    }

    /// A session sees a key as it was after so many writes.
    fn see(&mut self, session: usize, key: usize, count: usize) -> Option<String> {
        self.known[session][key] = self.known[session][key].max(count);
        let (value, knew) = count.checked_sub(1).map(|at| self.logs[key][at].clone())?;
        self.known[session].iter_mut().zip(knew).for_each(|(known, knew)| *known = knew.max(*known));
        value
    }

    fn write(&mut self, session: usize, key: usize, value: Option<String>) {
        self.known[session][key] = self.logs[key].len() + 1;
        let knew = self.known[session].clone();
        self.logs[key].push((value, knew));
    }

    fn operation(&mut self, number: usize) {
        let (session, key) = (self.below(SESSIONS as u64) as usize, self.below(KEYS as u64) as usize);
        let (new, newest) = (format!("\"{number}\""), self.logs[key].len());
        match self.below(20) {
            0..=5 => {
                self.event(session, key, "invoke", "put", &new);
                self.write(session, key, Some(new.clone()));
                self.event(session, key, "ok", "put", &new);
            }
            6..=8 => {
                let there = self.see(session, key, newest).is_some();
                self.event(session, key, "invoke", "delete", "null");
                if there {
                    self.write(session, key, None);
                }
                let tells = self.below(3) > 0;
                let answer = if tells { there.to_string() } else { "null".into() };
                self.event(session, key, "ok", "delete", &answer);
            }
            9 | 10 if newest > 0 => {
                let Some(old) = self.see(session, key, newest) else { return };
                self.event(session, key, "invoke", "cas", &format!("[{old},{new}]"));
                self.write(session, key, Some(new));
                self.event(session, key, "ok", "cas", "null");
            }
            _ => {
                let behind = newest.saturating_sub(self.below(LAG + 1) as usize);
                let count = behind.max(self.known[session][key]);
                self.event(session, key, "invoke", "get", "null");
                let value = self.see(session, key, count);
                self.event(session, key, "ok", "get", &value.unwrap_or_else(|| "null".into()));
            }
        }
    }
}

#[test]
fn what_answers_from_the_past_in_order_holds() {
    let mut judged = 0;
    for seed in 0..400 {
        let mut store = Store::new(seed);
        (0..OPERATIONS).for_each(|number| store.operation(number));
        for level in [Level::Session, Level::Causal, Level::CausalConvergence] {
            let demand = Demand { level: Some(level), ..Demand::default() };
            let judgement = reader(store.text.as_bytes(), "history", &demand).expect("a history");
            assert_eq!(judgement.word(), "holds", "seed {seed} at {level:?}: {}", judgement.text("history"));
            judged += judgement.operations;
        }
        let judgement = reader(store.text.as_bytes(), "history", &Demand::default()).expect("a history");
        assert_eq!(judgement.word(), "violated", "seed {seed}: it is not linearizable");
    }
    assert!(judged > 300_000, "{judged} operations");
}
