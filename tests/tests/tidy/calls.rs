//! What core may not call, and how lints may be set aside.

use super::Complaint;
use super::source::{Source, Tree, is_test};
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Meta};

/// Names that core never says outside of tests, each with the reason.
const NAMES: &[(&str, &str)] = &[
    ("std", "core is no_std"),
    ("SystemTime", "time is an argument"),
    ("UNIX_EPOCH", "time is an argument"),
    ("thread", "core has no threads"),
    ("thread_local", "core has no threads"),
    ("RandomState", "the order of a table must not depend on the process"),
    ("DefaultHashBuilder", "the order of a table must not depend on the process"),
    ("getrandom", "randomness comes from the seed given at boot"),
    ("OsRng", "randomness comes from the seed given at boot"),
    ("thread_rng", "randomness comes from the seed given at boot"),
];

/// Methods that end the process on an ordinary outcome.
const METHODS: &[&str] = &["unwrap", "expect", "unwrap_err", "expect_err", "unwrap_unchecked"];

/// Macros that print, or stand for work not done.
const MACROS: &[&str] = &["println", "eprintln", "print", "eprint", "dbg", "todo", "unimplemented"];

fn has_list(attributes: &[Attribute], name: &str, word: &str) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident(name) && list.tokens.to_string() == word,
        Meta::Path(path) => word.is_empty() && path.is_ident(name),
        Meta::NameValue(_) => false,
    })
}

/// `#![no_std]` without conditions.
pub fn core_attributes(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = forbids_unsafe(tree);
    let root = &tree.modules[&Vec::new()];
    if !has_list(&root.attributes, "no_std", "") {
        complaints.push(Complaint::new(&root.file, "#![no_std] is missing"));
    }
    complaints
}

/// `#![forbid(unsafe_code)]` at the root.
pub fn forbids_unsafe(tree: &Tree) -> Vec<Complaint> {
    let root = &tree.modules[&Vec::new()];
    let missing = !has_list(&root.attributes, "forbid", "unsafe_code");
    missing.then(|| Complaint::new(&root.file, "#![forbid(unsafe_code)] is missing")).into_iter().collect()
}

struct Calls<'a> {
    file: &'a str,
    complaints: Vec<Complaint>,
}

impl Calls<'_> {
    fn complain(&mut self, at: Span, words: String) {
        self.complaints.push(Complaint::new(format!("{}:{}", self.file, at.start().line), words));
    }

    fn name(&mut self, ident: &proc_macro2::Ident) {
        if let Some((name, reason)) = NAMES.iter().find(|(name, _)| ident == name) {
            self.complain(ident.span(), format!("`{name}`: {reason}"));
        }
    }

    fn path(&mut self, path: &syn::Path) {
        path.segments.iter().for_each(|segment| self.name(&segment.ident));
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.ends_with(&["Instant".into(), "now".into()]) {
            self.complain(path.span(), "`Instant::now`: time is an argument".into());
        }
    }

    /// The arguments of a macro, as far as they can be judged without being parsed.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut before = ' ';
        for token in tokens {
            match &token {
                TokenTree::Ident(ident) => {
                    self.name(ident);
                    if before == '.' && METHODS.iter().any(|method| ident == method) {
                        self.complain(
                            ident.span(),
                            format!("`.{ident}()`: handle it, or assert with a reason"),
                        );
                    }
                    before = ' ';
                }
                TokenTree::Punct(punct) => before = punct.as_char(),
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(_) => before = ' ',
            }
        }
    }
}

impl<'ast> Visit<'ast> for Calls<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_test(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            visit::visit_item_use(self, item);
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        if !is_test(&item.attrs) {
            self.name(&item.ident);
        }
    }

    fn visit_use_path(&mut self, path: &'ast syn::UsePath) {
        self.name(&path.ident);
        visit::visit_use_path(self, path);
    }

    fn visit_use_name(&mut self, name: &'ast syn::UseName) {
        self.name(&name.ident);
    }

    fn visit_use_rename(&mut self, rename: &'ast syn::UseRename) {
        self.name(&rename.ident);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.path(path);
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if METHODS.iter().any(|method| call.method == method) {
            let words = format!("`.{}()`: handle it, or assert with a reason", call.method);
            self.complain(call.method.span(), words);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let name = call.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if MACROS.contains(&name.as_str()) {
            self.complain(call.span(), format!("`{name}!`: core neither prints nor leaves work undone"));
        }
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

/// Banned names, methods and macros outside of tests.
pub fn banned(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for module in tree.modules.values().filter(|module| !module.test) {
        let mut calls = Calls { file: &module.file, complaints: Vec::new() };
        module.items.iter().for_each(|item| calls.visit_item(item));
        complaints.append(&mut calls.complaints);
    }
    complaints
}

struct Exceptions<'a> {
    file: &'a str,
    complaints: Vec<Complaint>,
}

impl<'ast> Visit<'ast> for Exceptions<'_> {
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let Meta::List(list) = &attribute.meta else { return };
        let text = list.tokens.to_string();
        let words = if list.path.is_ident("allow") {
            "`allow`: say `expect(lint, reason = \"...\")`, which ends when it is no longer needed"
        } else if list.path.is_ident("expect") && !text.contains("reason =") {
            "`expect` without a reason"
        } else {
            return;
        };
        let place = format!("{}:{}", self.file, attribute.span().start().line);
        self.complaints.push(Complaint::new(place, words));
    }
}

/// Lints set aside without a reason.
pub fn bare_exceptions(sources: &[Source]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for source in sources {
        let mut exceptions = Exceptions { file: &source.path, complaints: Vec::new() };
        exceptions.visit_file(&source.syntax);
        complaints.append(&mut exceptions.complaints);
    }
    complaints
}

#[test]
fn each_banned_call_is_found_and_tests_are_spared() {
    let count = |text: &str| banned(&Tree::of_snippets(&[("a", text)])).len();
    let bad = [
        "use std::fs;",
        "extern crate std;",
        "fn f() { std::process::exit(1) }",
        "fn f(t: SystemTime) {}",
        "fn f() { let t = Instant::now(); }",
        "fn f() { thread::spawn(g); }",
        "type T = hashbrown::HashMap<u8, u8, foldhash::fast::RandomState>;",
        "fn f() { x.unwrap(); }",
        "fn f() { assert!(x.expect(\"y\")); }",
        "fn f() { println!(\"x\"); }",
        "fn f() { if a { todo!() } }",
        "fn f() { dbg!(1); }",
        "impl X { fn f() { unimplemented!() } }",
    ];
    for text in bad {
        assert_eq!(count(text), 1, "{text}");
    }
    let good = [
        "use core::fmt; fn f() { x.unwrap_or_default(); assert!(a, \"b\"); }",
        "#[test] fn f() { x.unwrap(); }",
        "#[cfg(test)] mod tests { use std::fs; fn f() { x.unwrap(); } }",
        "fn f(now: Instant) { let unwrap = 1; }",
    ];
    for text in good {
        assert_eq!(count(text), 0, "{text}");
    }
}

#[test]
fn missing_attributes_and_bare_exceptions_are_found() {
    let attributes = |text: &str| core_attributes(&Tree::of_snippets(&[("", text)])).len();
    assert_eq!(attributes("#![no_std]\n#![forbid(unsafe_code)]"), 0);
    assert_eq!(attributes("#![cfg_attr(not(test), no_std)]\n#![deny(unsafe_code)]"), 2);
    let exceptions = |text: &str| bare_exceptions(&[Source::parse("a.rs", text.into())]).len();
    assert_eq!(exceptions("#[expect(dead_code, reason = \"x\")] fn f() {}"), 0);
    assert_eq!(exceptions("#[expect(dead_code)] fn f() {}"), 1);
    assert_eq!(exceptions("impl X { #[allow(dead_code)] fn f() {} }"), 1);
}
