//! The order that transactions must stand in, as a graph, and the cycles in it.

use super::path::{self, Edge, Effort, Hop};
use std::collections::VecDeque;

/// Edges by their origin.
pub(super) struct Graph {
    starts: Vec<u32>,
    targets: Vec<u32>,
    kinds: Vec<Edge>,
}

impl Graph {
    pub(super) fn new(nodes: usize, edges: &[(u32, u32, Edge)]) -> Self {
        let mut starts = vec![0_u32; nodes + 1];
        for (from, _, _) in edges {
            starts[*from as usize + 1] += 1;
        }
        for at in 0..nodes {
            starts[at + 1] += starts[at];
        }
        let mut place = starts.clone();
        let mut graph =
            Self { starts, targets: vec![0; edges.len()], kinds: vec![Edge::Session; edges.len()] };
        for (from, to, kind) in edges {
            let at = &mut place[*from as usize];
            graph.targets[*at as usize] = *to;
            graph.kinds[*at as usize] = *kind;
            *at += 1;
        }
        graph
    }

    fn edges(&self, node: u32) -> std::ops::Range<usize> {
        self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize
    }

    /// Where the edges of a node lead, and why.
    pub(super) fn from(&self, node: u32) -> impl Iterator<Item = (u32, Edge)> {
        self.edges(node).map(|at| (self.targets[at], self.kinds[at]))
    }

    /// A short cycle, if there is any.
    pub(super) fn cycle(&self, effort: &mut Effort) -> Option<Vec<Hop>> {
        let (component, members) = self.first_knot()?;
        let inside = |node: u32, each: &mut dyn FnMut(u32, Edge)| {
            self.from(node).filter(|(to, _)| component[*to as usize]).for_each(|(to, edge)| each(to, edge));
        };
        // The shortest cycle through a few of its nodes; best through those that are seen and not read.
        let mut shortest: Option<Vec<Hop>> = None;
        let seen = |node: &&u32| self.from(**node).any(|(_, edge)| matches!(edge, Edge::Overwritten(_)));
        let others = members.iter().filter(|node| !seen(node));
        for start in members.iter().filter(seen).chain(others).take(CYCLE_STARTS) {
            let found = path::shortest(component.len(), [*start], |node| node == *start, inside, effort);
            let found = found.map(path::joined_cycle);
            if found.as_ref().is_some_and(|found| shortest.as_ref().is_none_or(|old| found.len() < old.len()))
            {
                shortest = found;
            }
        }
        shortest.or_else(|| Some(path::joined_cycle(self.around(*members.first()?, &component))))
    }

    /// A cycle through a node of a knot.
    fn around(&self, start: u32, component: &[bool]) -> Vec<Hop> {
        let mut from: Vec<u32> = vec![u32::MAX; component.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for at in self.edges(node) {
                let to = self.targets[at];
                if to == start {
                    let mut cycle = vec![(node, self.kinds[at], start)];
                    let mut node = node;
                    while node != start {
                        let edge = from[node as usize] as usize;
                        let before = self.origin(edge);
                        cycle.push((before, self.kinds[edge], node));
                        node = before;
                    }
                    cycle.reverse();
                    return cycle;
                }
                if component[to as usize] && from[to as usize] == u32::MAX {
                    from[to as usize] = at as u32;
                    queue.push_back(to);
                }
            }
        }
        Vec::new()
    }

    fn origin(&self, edge: usize) -> u32 {
        self.starts.partition_point(|start| *start as usize <= edge) as u32 - 1
    }

    /// A strongly connected component of more than one node (Tarjan, without recursion).
    fn first_knot(&self) -> Option<(Vec<bool>, Vec<u32>)> {
        let nodes = self.starts.len() - 1;
        let mut index = vec![0_u32; nodes];
        let mut low = vec![0_u32; nodes];
        let mut on_stack = vec![false; nodes];
        let mut stack: Vec<u32> = Vec::new();
        let mut path: Vec<(u32, usize)> = Vec::new();
        let mut count = 0;
        for root in 0..nodes as u32 {
            if index[root as usize] != 0 {
                continue;
            }
            path.push((root, self.edges(root).start));
            while let Some((node, at)) = path.pop() {
                let here = node as usize;
                if index[here] == 0 {
                    count += 1;
                    (index[here], low[here], on_stack[here]) = (count, count, true);
                    stack.push(node);
                }
                if at < self.edges(node).end {
                    path.push((node, at + 1));
                    let to = self.targets[at];
                    if to == node {
                        let mut own = vec![false; nodes];
                        own[here] = true;
                        return Some((own, vec![node]));
                    }
                    if index[to as usize] == 0 {
                        path.push((to, self.edges(to).start));
                    } else if on_stack[to as usize] {
                        low[here] = low[here].min(index[to as usize]);
                    }
                    continue;
                }
                if let Some((parent, _)) = path.last() {
                    low[*parent as usize] = low[*parent as usize].min(low[here]);
                }
                if low[here] == index[here] {
                    let mut members = Vec::new();
                    while let Some(member) = stack.pop() {
                        on_stack[member as usize] = false;
                        members.push(member);
                        if member == node {
                            break;
                        }
                    }
                    if members.len() > 1 {
                        let mut component = vec![false; nodes];
                        for member in &members {
                            component[*member as usize] = true;
                        }
                        return Some((component, members));
                    }
                }
            }
        }
        None
    }
}

/// From how many nodes the shortest cycle is looked for.
const CYCLE_STARTS: usize = 64;
