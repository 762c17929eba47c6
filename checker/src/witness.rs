//! How the search put operations in order, kept for those who ask.

use crate::configs::Config;
use crate::kernel::{ABSENT, Act, Kernel, OTHER, Test};
use crate::slots::NONE;

struct Node {
    op: u32,
    parent: u32,
    event: u32,
    /// A write that is seen by nobody: its place is found afterwards.
    absorbed: bool,
    length: u32,
}

/// The orders of all configurations, as a tree.
pub(crate) struct Trace {
    wanted: bool,
    nodes: Vec<Node>,
}

impl Trace {
    pub(crate) fn new(wanted: bool) -> Self {
        Self { wanted, nodes: Vec::new() }
    }

    /// `op` is placed next.
    pub(crate) fn place<const W: usize>(&mut self, config: &mut Config<W>, op: u32, event: usize) {
        self.push(config, op, event, false);
    }

    /// `op`, a write that is free, is done with.
    pub(crate) fn absorb<const W: usize>(&mut self, config: &mut Config<W>, op: u32, event: usize) {
        self.push(config, op, event, true);
    }

    fn push<const W: usize>(&mut self, config: &mut Config<W>, op: u32, event: usize, absorbed: bool) {
        if self.wanted {
            let length = self.nodes.get(config.trace as usize).map_or(0, |node| node.length) + 1;
            self.nodes.push(Node { op, parent: config.trace, event: event as u32, absorbed, length });
            config.trace = self.nodes.len() as u32 - 1;
        }
    }

    /// The end of the longest order among these.
    pub(crate) fn longest<const W: usize>(&self, configs: &[Config<W>]) -> u32 {
        if !self.wanted {
            return NONE;
        }
        let length =
            |config: &&Config<W>| self.nodes.get(config.trace as usize).map_or(0, |node| node.length);
        configs.iter().max_by_key(length).map_or(NONE, |config| config.trace)
    }

    /// The order that ends with a node.
    pub(crate) fn order(&self, kernel: &Kernel, last: u32) -> Vec<u32> {
        let mut placed: Vec<&Node> = Vec::new();
        let mut absorbed: Vec<u32> = Vec::new();
        let mut at = last;
        while let Some(node) = self.nodes.get(at as usize) {
            if node.absorbed {
                absorbed.push(node.op);
            } else {
                placed.push(node);
            }
            at = node.parent;
        }
        placed.reverse();
        let mut spans = vec![(0, NONE); if absorbed.is_empty() { 0 } else { kernel.ops.len() }];
        if !absorbed.is_empty() {
            for (event, code) in kernel.events.iter().enumerate() {
                let span = &mut spans[(code >> 1) as usize];
                *(if code & 1 == 0 { &mut span.0 } else { &mut span.1 }) = event as u32;
            }
        }
        let mut before: Vec<(usize, u32)> =
            absorbed.into_iter().map(|op| (place(kernel, &placed, op, spans[op as usize]), op)).collect();
        before.sort_unstable();
        let mut before = before.into_iter().peekable();
        let mut order = Vec::with_capacity(placed.len());
        for at in 0..=placed.len() {
            while let Some((_, op)) = before.next_if(|(place, _)| *place <= at) {
                order.push(op);
            }
            order.extend(placed.get(at).map(|node| node.op));
        }
        order
    }
}

/// Before which placed operation a free write can stand: the first since its call that overwrites it, or is at its value. One
/// that nobody observes can stand at once where there is none until its return: then nobody observes what is there, either.
fn place(kernel: &Kernel, placed: &[&Node], op: u32, (call, ret): (u32, u32)) -> usize {
    let Act::Write(class, life) = kernel.ops[op as usize].act else { return placed.len() };
    let from = placed.partition_point(|node| node.event < call);
    let lasting = |at: usize| kernel.ops[placed[at].op as usize].act;
    // The value before the first of them, as far as it is plain to see.
    let mut value = (0..from).rev().find_map(|at| held(lasting(at)));
    value = value.or(Some(kernel.initial));
    for (at, node) in placed.iter().enumerate().skip(from) {
        if class == OTHER && node.event > ret {
            return from;
        }
        let overwrites = match lasting(at) {
            Act::Write(..) => true,
            Act::Swap(Test::Not(ABSENT), _) => class != ABSENT && value != Some(ABSENT),
            _ => false,
        };
        if overwrites || life == 0 && value == Some(class) {
            return at;
        }
        value = held(lasting(at)).or(value);
    }
    if class == OTHER { from } else { placed.len() }
}

/// The value that an operation certainly leaves.
fn held(act: Act) -> Option<u32> {
    match act {
        Act::Write(class, _) | Act::Swap(_, class) | Act::Observe(Test::Is(class)) => Some(class),
        _ => None,
    }
}
