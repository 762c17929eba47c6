//! Vector clocks with many columns, most of which change no more: trees that share what they have in common.
//!
//! A clock says of each chain how much of it is seen. Joining two clocks costs what differs between them, so that chains that were left long ago
//! (every crash may leave one) cost nothing.

use std::rc::Rc;

const FAN: usize = 16;

#[derive(Debug)]
enum Node {
    Leaf([u32; FAN]),
    Inner([Option<Rc<Node>>; FAN]),
}

/// A clock. All clocks that meet have the same depth.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    root: Option<Rc<Node>>,
    depth: u32,
}

impl Clock {
    /// Sees nothing of `chains` chains.
    pub(super) fn new(chains: usize) -> Self {
        let depth = (0..8).find(|depth| FAN.pow(depth + 1) >= chains).unwrap_or(8);
        Self { root: None, depth }
    }

    /// How much of a chain is seen.
    pub(super) fn seen(&self, chain: u32) -> u32 {
        let mut node = self.root.as_ref();
        let mut depth = self.depth;
        while let Some(inner) = node {
            match inner.as_ref() {
                Node::Leaf(counts) => return counts[chain as usize % FAN],
                Node::Inner(children) => node = children[(chain as usize >> (4 * depth)) % FAN].as_ref(),
            }
            depth = depth.saturating_sub(1);
        }
        0
    }

    /// Sees at least `count` of a chain.
    pub(super) fn see(&mut self, chain: u32, count: u32) {
        if self.seen(chain) < count {
            self.root = Some(set(self.root.as_ref(), self.depth, chain as usize, count));
        }
    }

    /// Sees what the other sees.
    pub(super) fn join(&mut self, other: &Self) {
        self.root = match (&self.root, &other.root) {
            (Some(a), Some(b)) => Some(join(a, b)),
            (a, b) => a.clone().or_else(|| b.clone()),
        };
    }

    /// Calls `each` with every chain of which this sees more than `other`, how much that sees, and how much this, until it says no more. Whether
    /// it had all.
    pub(super) fn beyond(&self, other: &Self, each: &mut impl FnMut(u32, u32, u32) -> bool) -> bool {
        self.root.as_ref().is_none_or(|root| beyond(root, other.root.as_ref(), self.depth, 0, each))
    }
}

fn set(node: Option<&Rc<Node>>, depth: u32, chain: usize, count: u32) -> Rc<Node> {
    if depth == 0 {
        let mut counts = match node.map(Rc::as_ref) {
            Some(Node::Leaf(counts)) => *counts,
            _ => [0; FAN],
        };
        counts[chain % FAN] = count;
        return Rc::new(Node::Leaf(counts));
    }
    let mut children = match node.map(Rc::as_ref) {
        Some(Node::Inner(children)) => children.clone(),
        _ => Default::default(),
    };
    let child = &mut children[(chain >> (4 * depth)) % FAN];
    *child = Some(set(child.as_ref(), depth - 1, chain, count));
    Rc::new(Node::Inner(children))
}

fn join(a: &Rc<Node>, b: &Rc<Node>) -> Rc<Node> {
    if Rc::ptr_eq(a, b) {
        return a.clone();
    }
    match (a.as_ref(), b.as_ref()) {
        (Node::Leaf(left), Node::Leaf(right)) => {
            let most = std::array::from_fn(|at| left[at].max(right[at]));
            match (most == *left, most == *right) {
                (true, true) => either(a, b).clone(),
                (true, false) => a.clone(),
                (false, true) => b.clone(),
                (false, false) => Rc::new(Node::Leaf(most)),
            }
        }
        (Node::Inner(left), Node::Inner(right)) => {
            let joined: [Option<Rc<Node>>; FAN] = std::array::from_fn(|at| match (&left[at], &right[at]) {
                (Some(a), Some(b)) => Some(join(a, b)),
                (a, b) => a.clone().or_else(|| b.clone()),
            });
            let same = |of: &[Option<Rc<Node>>; FAN]| {
                joined.iter().zip(of).all(|(a, b)| match (a, b) {
                    (Some(a), Some(b)) => Rc::ptr_eq(a, b),
                    (a, b) => a.is_none() && b.is_none(),
                })
            };
            match (same(left), same(right)) {
                (true, true) => either(a, b).clone(),
                (true, false) => a.clone(),
                (false, true) => b.clone(),
                (false, false) => Rc::new(Node::Inner(joined)),
            }
        }
        // Clocks that meet have one depth.
        _ => unreachable!("clocks of different depths"),
    }
}

/// Of two nodes that say the same the one that everybody takes, so that all come to share it: sessions that learned the same on different ways
/// would compare the whole of it for ever. It does not matter which one that is.
fn either<'a>(a: &'a Rc<Node>, b: &'a Rc<Node>) -> &'a Rc<Node> {
    if Rc::as_ptr(a) <= Rc::as_ptr(b) { a } else { b }
}

fn beyond(
    node: &Rc<Node>,
    other: Option<&Rc<Node>>,
    depth: u32,
    first: u32,
    each: &mut impl FnMut(u32, u32, u32) -> bool,
) -> bool {
    if other.is_some_and(|other| Rc::ptr_eq(node, other)) {
        return true;
    }
    match (node.as_ref(), other.map(Rc::as_ref)) {
        (Node::Leaf(counts), other) => {
            for (at, count) in counts.iter().enumerate() {
                let before = if let Some(Node::Leaf(before)) = other { before[at] } else { 0 };
                if *count > before && !each(first + at as u32, before, *count) {
                    return false;
                }
            }
        }
        (Node::Inner(children), other) => {
            for (at, child) in children.iter().enumerate() {
                let Some(child) = child else { continue };
                let before = if let Some(Node::Inner(before)) = other { before[at].as_ref() } else { None };
                if !beyond(child, before, depth - 1, first + ((at as u32) << (4 * depth)), each) {
                    return false;
                }
            }
        }
    }
    true
}
