//! Which module uses which, and circles among them.
//!
//! Siblings must not form a circle, at any depth; what a module shares with the folder that it stands in is no import. A name
//! that a folder re-exports counts as the module that it comes from.

use super::Complaint;
use super::source::{Module, Tree, is_test};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::UseTree;
use syn::visit::{self, Visit};

/// A use of module `to` in module `from`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub from: Vec<String>,
    pub to: Vec<String>,
    /// From code that is only built for tests.
    pub test: bool,
}

/// Every path that a module's code speaks.
#[derive(Default)]
struct Paths {
    found: Vec<(Vec<String>, bool)>,
    test: bool,
}

impl Paths {
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.flush(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.flush(&mut path);
                    colons = 0;
                    self.tokens(group.stream());
                }
                _ => {
                    self.flush(&mut path);
                    colons = 0;
                }
            }
        }
        self.flush(&mut path);
    }

    fn flush(&mut self, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.found.push((path, self.test));
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Const(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        let outer = self.test;
        self.test |= is_test(attributes);
        visit::visit_item(self, item);
        self.test = outer;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let paths = leaves(&[], &item.tree).into_iter().map(|(path, _)| (path, self.test));
        self.found.extend(paths);
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.found.push((segments, self.test));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

/// The paths of a use tree, each with the name that it gets here (none for `*`).
fn leaves(before: &[String], tree: &UseTree) -> Vec<(Vec<String>, Option<String>)> {
    let with = |ident: &syn::Ident| {
        let mut path = before.to_vec();
        if ident != "self" || path.is_empty() {
            path.push(ident.to_string());
        }
        path
    };
    match tree {
        UseTree::Path(tree) => leaves(&with(&tree.ident), &tree.tree),
        UseTree::Name(tree) => {
            let path = with(&tree.ident);
            let name = path.last().cloned();
            vec![(path, name)]
        }
        UseTree::Rename(tree) => vec![(with(&tree.ident), Some(tree.rename.to_string()))],
        UseTree::Glob(_) => vec![(before.to_vec(), None)],
        UseTree::Group(group) => group.items.iter().flat_map(|tree| leaves(before, tree)).collect(),
    }
}

struct Resolver<'a> {
    tree: &'a Tree,
    /// By module: the names that its `use` items bring in.
    names: BTreeMap<&'a [String], BTreeMap<String, Vec<String>>>,
}

impl<'a> Resolver<'a> {
    fn new(tree: &'a Tree) -> Self {
        let names = |module: &'a Module| {
            let uses = module.items.iter().filter_map(|item| match item {
                syn::Item::Use(item) => Some(leaves(&[], &item.tree)),
                _ => None,
            });
            uses.flatten().filter_map(|(path, name)| Some((name?, path))).collect()
        };
        let names = tree.modules.values().map(|module| (module.name.as_slice(), names(module))).collect();
        Self { tree, names }
    }

    /// The module of this crate in which `path`, said in `from`, ends; `None` for what is not of this crate.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        let mut at = from.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|first| first == "super") {
                    at.pop()?;
                    rest = &rest[1..];
                }
            }
            first if !self.has_child(&at, first) => return None,
            _ => {}
        }
        for (index, segment) in rest.iter().enumerate() {
            if self.has_child(&at, segment) {
                at.push(segment.clone());
                continue;
            }
            let named = self.names.get(at.as_slice()).and_then(|names| names.get(segment));
            if let Some(named) = named.filter(|_| depth < 8) {
                let mut whole = named.clone();
                whole.extend_from_slice(&rest[index + 1..]);
                return self.resolve(&at, &whole, depth + 1).or(Some(at));
            }
            break;
        }
        Some(at)
    }

    fn has_child(&self, at: &[String], name: &str) -> bool {
        let mut child = at.to_vec();
        child.push(name.to_string());
        self.tree.modules.contains_key(&child)
    }
}

/// Every use of a module of the crate in another.
pub fn edges(tree: &Tree) -> BTreeSet<Edge> {
    let resolver = Resolver::new(tree);
    let mut edges = BTreeSet::new();
    for module in tree.modules.values() {
        let mut paths = Paths { test: module.test, ..Paths::default() };
        module.items.iter().for_each(|item| paths.visit_item(item));
        for (path, test) in paths.found {
            if let Some(to) = resolver.resolve(&module.name, &path, 0).filter(|to| *to != module.name) {
                edges.insert(Edge { from: module.name.clone(), to, test });
            }
        }
    }
    edges
}

/// Circles among siblings, each once.
pub fn circles(tree: &Tree) -> Vec<Complaint> {
    let mut siblings: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for edge in edges(tree).into_iter().filter(|edge| !edge.test) {
        let common = edge.from.iter().zip(&edge.to).take_while(|(from, to)| from == to).count();
        if let (Some(from), Some(to)) = (edge.from.get(common), edge.to.get(common)) {
            let folder = siblings.entry(edge.from[..common].to_vec()).or_default();
            folder.entry(from.clone()).or_default().insert(to.clone());
        }
    }
    let mut complaints = Vec::new();
    for (folder, graph) in siblings {
        for start in graph.keys() {
            // Each circle is reported from its first module.
            if let Some(circle) =
                circle_from(&graph, start).filter(|circle| circle.iter().min() == Some(start))
            {
                let place = format!("{}::{}", tree.name, folder.join("::"));
                complaints
                    .push(Complaint::new(place, format!("import circle {} -> {start}", circle.join(" -> "))));
            }
        }
    }
    complaints
}

/// A way from `start` back to it.
fn circle_from(graph: &BTreeMap<String, BTreeSet<String>>, start: &str) -> Option<Vec<String>> {
    let mut ways: Vec<Vec<String>> = vec![vec![start.to_string()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in graph.get(way.last()?).into_iter().flatten() {
            if next == start {
                return Some(way);
            }
            if seen.insert(next.clone()) {
                let mut longer = way.clone();
                longer.push(next.clone());
                ways.push(longer);
            }
        }
    }
    None
}

#[test]
fn a_circle_of_siblings_is_found_however_it_is_spelt() {
    let circle_of = |snippets: &[(&str, &str)]| {
        let found = circles(&Tree::of_snippets(snippets));
        found.into_iter().map(|complaint| complaint.words).collect::<Vec<_>>()
    };
    let both = circle_of(&[("a", "use crate::b::X;"), ("b", "fn f() { crate::a::g() }")]);
    assert_eq!(both, ["import circle a -> b -> a"]);
    let three = circle_of(&[
        ("a", "use super::b;"),
        ("b", "type T = super::c::T;"),
        ("c", "fn f() { m!(crate::a::X) }"),
    ]);
    assert_eq!(three, ["import circle a -> b -> c -> a"]);
    let re_exported =
        circle_of(&[("", "pub use b::X;"), ("a", "use super::X; pub struct Y;"), ("b", "use crate::a::Y;")]);
    assert_eq!(re_exported, ["import circle a -> b -> a"]);
    let deep = circle_of(&[("f", ""), ("f::a", "use super::b::X;"), ("f::b", "use crate::f::a::{Y, Z};")]);
    assert_eq!(deep, ["import circle a -> b -> a"]);
}

#[test]
fn a_folder_and_its_modules_are_no_circle_and_tests_may_look_anywhere() {
    let snippets = [
        ("f", "use a::X; pub struct Y;"),
        ("f::a", "use super::Y; pub struct X;"),
        ("g", "use crate::f::Y; pub struct Z;"),
        ("f::b", "#[cfg(test)] use crate::g::Z; #[test] fn t() { crate::g::f() }"),
    ];
    assert_eq!(circles(&Tree::of_snippets(&snippets)), []);
}
