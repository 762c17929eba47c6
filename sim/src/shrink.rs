//! From a plan that fails to a small one that fails in the same way (Zeller and Hildebrandt, "Simplifying and isolating
//! failure-inducing input", 2002): faults, clients, operations, nodes, keys and sizes are taken away as long as the failure stays.
//!
//! A plan decides all but latencies, losses and torn sectors, which come from streams of their own for each link and disk. So
//! most of what is left out does not shift the rest, and a plan that no longer fails is tried with a few other seeds.

use crate::batch::run_plan;
use crate::plan::{Fault, FaultKind, Plan, PlannedOperation};

/// How a search goes on.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Runs of a plan at most.
    pub runs: u64,
    /// Seeds that each smaller plan is tried with.
    pub seeds: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { runs: 4_000, seeds: 4 }
    }
}

/// What the search came to.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The smallest plan found.
    pub plan: Plan,
    /// Why it fails.
    pub reason: String,
    /// Runs that it took.
    pub runs: u64,
}

/// The kind of a failure: the first words of its reason, without names of nodes, keys and versions.
pub fn class(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    let is_word = |word: &&str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    let rule = line.split(':').next().filter(|rule| is_rule(rule)).unwrap_or_default();
    let words = line.split_whitespace().map(|word| word.trim_end_matches([',', ':', ';'])).filter(is_word);
    let first: Vec<&str> = words.take(6).collect();
    format!("{rule} {}", first.join(" ")).trim().to_string()
}

/// Such as `R2` or `C10`.
fn is_rule(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_uppercase())
        && bytes.len() > 0
        && bytes.all(|byte| byte.is_ascii_digit())
}

/// Makes `plan` smaller. `None` if it does not fail. `told` hears of each smaller plan and of the runs made so far.
pub fn shrink(plan: &Plan, budget: Budget, mut told: impl FnMut(&Plan, u64)) -> Option<Shrunk> {
    let reason = run_plan(plan).failure?;
    let mut search =
        Search { class: class(&reason), best: plan.clone(), reason, runs: 1, budget, told: &mut told };
    loop {
        let before = search.best.clone();
        search.quieten();
        search.lists();
        search.shapes();
        if search.best == before || search.is_spent() {
            break;
        }
    }
    Some(Shrunk { plan: search.best, reason: search.reason, runs: search.runs })
}

struct Search<'a> {
    class: String,
    best: Plan,
    reason: String,
    runs: u64,
    budget: Budget,
    told: &'a mut dyn FnMut(&Plan, u64),
}

/// One thing that a plan consists of: a fault, or an operation of a client.
#[derive(Clone)]
enum Part {
    Fault(Fault),
    Operation(usize, PlannedOperation),
}

fn parts(plan: &Plan) -> Vec<Part> {
    let operations = plan.clients.iter().enumerate().flat_map(|(client, operations)| {
        operations.iter().map(move |planned| Part::Operation(client, planned.clone()))
    });
    plan.faults.iter().cloned().map(Part::Fault).chain(operations).collect()
}

fn assembled(plan: &Plan, parts: &[Part]) -> Plan {
    let mut made = plan.clone();
    made.faults.clear();
    // A client keeps its number, which is part of its values.
    made.clients.iter_mut().for_each(Vec::clear);
    for part in parts {
        match part {
            Part::Fault(fault) => made.faults.push(fault.clone()),
            Part::Operation(client, planned) => made.clients[*client].push(planned.clone()),
        }
    }
    while made.clients.last().is_some_and(Vec::is_empty) {
        made.clients.pop();
    }
    made
}

impl Search<'_> {
    fn is_spent(&self) -> bool {
        self.runs >= self.budget.runs
    }

    /// Takes `plan` over if it fails alike.
    fn fails(&mut self, plan: &Plan) -> bool {
        if *plan == self.best {
            return false;
        }
        for more in 0..self.budget.seeds {
            if self.is_spent() {
                return false;
            }
            self.runs += 1;
            let tried = Plan { seed: self.best.seed.wrapping_add(more), ..plan.clone() };
            let Some(reason) = run_plan(&tried).failure else { continue };
            if class(&reason) == self.class {
                (self.best, self.reason) = (tried, reason);
                (self.told)(&self.best, self.runs);
                return true;
            }
        }
        (self.told)(&self.best, self.runs);
        false
    }

    /// Whole kinds of trouble at once.
    fn quieten(&mut self) {
        let edits: [fn(&mut Plan); 8] = [
            |plan| plan.faults.clear(),
            |plan| plan.loss = 0,
            |plan| plan.duplicate = 0,
            |plan| plan.spike = 0,
            |plan| plan.mono_ppm.clear(),
            |plan| plan.keep_sectors = 1_000,
            |plan| plan.disk_us = [20, 100],
            |plan| plan.clients.iter_mut().flatten().for_each(|operation| operation.padding = 0),
        ];
        for edit in edits {
            let mut plan = self.best.clone();
            edit(&mut plan);
            self.fails(&plan);
        }
    }

    /// Delta debugging over all faults and operations: halves first, single ones at last.
    fn lists(&mut self) {
        for client in 0..self.best.clients.len() {
            let keep = |part: &Part| !matches!(part, Part::Operation(of, _) if *of == client);
            let rest: Vec<Part> = parts(&self.best).into_iter().filter(keep).collect();
            let plan = assembled(&self.best, &rest);
            self.fails(&plan);
        }
        let mut size = parts(&self.best).len().div_ceil(2);
        while size > 0 && !self.is_spent() {
            let mut at = 0;
            while at < parts(&self.best).len() && !self.is_spent() {
                let all = parts(&self.best);
                let end = (at + size).min(all.len());
                let rest: Vec<Part> = all[..at].iter().chain(&all[end..]).cloned().collect();
                let plan = assembled(&self.best, &rest);
                if !self.fails(&plan) {
                    at = end;
                }
            }
            size /= 2;
        }
    }

    /// Fewer nodes and keys, and no waiting.
    fn shapes(&mut self) {
        while self.best.nodes > 3 {
            let plan = with_nodes(&self.best, self.best.nodes - 1);
            if !self.fails(&plan) {
                break;
            }
        }
        while self.best.keys > 1 {
            let mut plan = self.best.clone();
            plan.keys -= 1;
            plan.weak_keys = plan.weak_keys.min(plan.keys);
            plan.clients.iter_mut().flatten().for_each(|operation| operation.key %= plan.keys);
            if !self.fails(&plan) {
                break;
            }
        }
        let mut plan = self.best.clone();
        plan.clients.iter_mut().flatten().for_each(|operation| operation.after_us = 0);
        self.fails(&plan);
        let mut plan = self.best.clone();
        plan.clients.retain(|operations| !operations.is_empty());
        self.fails(&plan);
    }
}

/// The plan on `nodes` nodes: what the others were asked is asked of those left, and what befell them is left out.
fn with_nodes(plan: &Plan, nodes: u64) -> Plan {
    let mut made = Plan { nodes, replication: plan.replication.min(nodes as u8), ..plan.clone() };
    made.clients.iter_mut().flatten().for_each(|operation| operation.node %= nodes);
    made.mono_ppm.truncate(nodes as usize);
    made.faults.retain(|fault| match &fault.kind {
        FaultKind::Crash { node, .. }
        | FaultKind::CrashAtDisk { node, .. }
        | FaultKind::CrashAfterAck { node, .. }
        | FaultKind::CrashAfterForward { node, .. }
        | FaultKind::Pause { node, .. }
        | FaultKind::ClockStep { node, .. }
        | FaultKind::ClockFreeze { node, .. }
        | FaultKind::ClockDrift { node, .. }
        | FaultKind::SlowDisk { node, .. }
        | FaultKind::HungDisk { node, .. }
        | FaultKind::FullDisk { node, .. }
        | FaultKind::FailedSync { node, .. }
        | FaultKind::FailedReads { node, .. }
        | FaultKind::BitFlip { node }
        | FaultKind::LostWrite { node }
        | FaultKind::MisdirectedWrite { node }
        | FaultKind::StartEmpty { node, .. }
        | FaultKind::StartOnCopy { node, .. }
        | FaultKind::DamageAfterAck { node, .. } => *node < nodes,
        FaultKind::Clog { from, to, .. } => *from < nodes && *to < nodes,
        FaultKind::CrashAll { .. } | FaultKind::Partition { .. } => true,
    });
    for fault in &mut made.faults {
        if let FaultKind::Partition { side, .. } = &mut fault.kind {
            side.retain(|node| *node < nodes);
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    #[test]
    fn a_class_forgets_names_and_numbers_but_not_the_rule() {
        let one = "R2: n1 granted 1700000004179.1@n2 of b\"counter0\" under its promise 12.1@n3";
        let other = "R2: n4 granted 99.1@n1 of b\"key3\" under its promise 100.1@n2";
        assert_eq!(class(one), class(other));
        assert_ne!(class(one), class(&one.replace("R2", "R1")));
        assert_eq!(
            class("key0: no order of its versions explains\n [1]"),
            "no order of its versions explains"
        );
    }

    #[test]
    fn a_plan_that_holds_is_not_shrunk() {
        let smoke = scenario::find("smoke").expect("a scenario of ours");
        assert!(shrink(&Plan::new(&smoke, 1, None), Budget::default(), |_, _| {}).is_none());
    }

    #[test]
    fn fewer_nodes_leave_no_fault_that_names_a_missing_one() {
        let swarm = scenario::find("bug_hunt").expect("a scenario of ours");
        for seed in 0..50 {
            let plan = with_nodes(&Plan::new(&swarm, seed, None), 3);
            for fault in &plan.faults {
                let text = format!("{:?}", fault.kind);
                assert!(
                    !text.contains("node: 3") && !text.contains("from: 3") && !text.contains("to: 3,"),
                    "{text}"
                );
            }
            assert!(plan.clients.iter().flatten().all(|operation| operation.node < 3));
        }
    }
}
