//! Lists that must not go stale: planted bugs, counters, situations.

use super::Complaint;
use super::source::{Module, Tree};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;
use syn::visit::{self, Visit};
use syn::{Expr, ExprLit, Item, Lit, Meta};

/// Pairs of path segments that code speaks outside of tests, and the calls of `on` among them.
#[derive(Default)]
struct Spoken {
    pairs: BTreeSet<(String, String)>,
    planted: BTreeSet<String>,
    texts: BTreeSet<String>,
}

impl Spoken {
    fn of(tree: &Tree, but: &[&str]) -> Self {
        let mut spoken = Self::default();
        for module in tree.modules.values().filter(|module| !module.test && module.name != but) {
            module.items.iter().for_each(|item| spoken.visit_item(item));
        }
        spoken
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for window in tokens.windows(4) {
            if let [TokenTree::Ident(a), TokenTree::Punct(_), TokenTree::Punct(_), TokenTree::Ident(b)] =
                window
            {
                self.pairs.insert((a.to_string(), b.to_string()));
            }
        }
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    self.texts.insert(literal.to_string().trim_matches('"').to_string());
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Spoken {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.pairs.extend(names.windows(2).map(|pair| (pair[0].clone(), pair[1].clone())));
        visit::visit_path(self, path);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        let last = |expression: &Expr| match expression {
            Expr::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
            _ => None,
        };
        if last(&call.func).as_deref() == Some("on") {
            self.planted.extend(call.args.iter().filter_map(last));
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_lit(&mut self, literal: &'ast ExprLit) {
        if let Lit::Str(text) = &literal.lit {
            self.texts.insert(text.value());
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
    }
}

fn doc(attributes: &[syn::Attribute]) -> String {
    let line = |attribute: &syn::Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(line).collect::<Vec<_>>().join("\n").trim().to_string()
}

/// The rule that a bug's name begins with: a letter and a number (`R2`, `C10`), or `Wal`.
fn rule(name: &str) -> Option<String> {
    if name.starts_with("Wal") {
        return Some("WAL".into());
    }
    let digits = name[1..].bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0 && "RCWSTGE".contains(&name[..1])).then(|| name[..=digits].to_string())
}

/// The words of a name, as the command line writes them.
fn kebab(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

fn module<'a>(tree: &'a Tree, name: &[&str]) -> &'a Module {
    tree.modules.values().find(|module| module.name == name).expect("the module of the list")
}

/// Bugs without a rule in their name and their words, or that no rule asks for, and names that the list forgets.
pub fn bugs(tree: &Tree) -> Vec<Complaint> {
    let list = module(tree, &["base", "planted"]);
    let of_bug = |item: &Item| match item {
        Item::Enum(item) if item.ident == "Bug" => Some(item.clone()),
        _ => None,
    };
    let bugs = list.items.iter().find_map(of_bug).expect("the enum of planted bugs");
    let (elsewhere, mut here) = (Spoken::of(tree, &["base", "planted"]), Spoken::default());
    list.items.iter().for_each(|item| here.visit_item(item));
    let mut complaints = Vec::new();
    for bug in &bugs.variants {
        let name = bug.ident.to_string();
        let mut complain =
            |words: String| complaints.push(Complaint::new(format!("{}: {name}", list.file), words));
        match rule(&name) {
            None => complain("does not begin with the rule that it breaks".into()),
            Some(rule) if !doc(&bug.attrs).starts_with(&format!("{rule}: ")) => {
                complain(format!("its description does not begin with \"{rule}: \""));
            }
            Some(_) => {}
        }
        if !elsewhere.planted.contains(&name) {
            complain("no rule asks `planted::on` for it".into());
        }
        if !here.pairs.contains(&("Bug".into(), name.clone())) || !here.texts.contains(&kebab(&name)) {
            complain(format!("is not in the list, as {:?}", kebab(&name)));
        }
    }
    complaints
}

/// Counters that nothing counts.
pub fn counters(tree: &Tree) -> Vec<Complaint> {
    let list = module(tree, &["base", "counters"]);
    let of_list = |item: &Item| match item {
        Item::Macro(item) if item.mac.path.is_ident("counters") => Some(item.mac.tokens.clone()),
        _ => None,
    };
    let tokens: Vec<TokenTree> =
        list.items.iter().find_map(of_list).expect("the list of counters").into_iter().collect();
    let names: Vec<String> = tokens
        .windows(2)
        .filter_map(|pair| match pair {
            [TokenTree::Ident(name), TokenTree::Punct(equals)] if equals.as_char() == '=' => {
                Some(name.to_string())
            }
            _ => None,
        })
        .collect();
    assert!(!names.is_empty(), "the list of counters is readable");
    let spoken = Spoken::of(tree, &["base", "counters"]);
    let idle = names.into_iter().filter(|name| !spoken.pairs.contains(&("Counter".into(), name.clone())));
    idle.map(|name| Complaint::new(format!("{}: {name}", list.file), "nothing counts it")).collect()
}

/// Situations of the simulated world that nothing in the simulator reports.
pub fn situations(tree: &Tree) -> Vec<Complaint> {
    let list = module(tree, &["situations"]);
    let of_list = |item: &Item| match item {
        Item::Const(item) if item.ident == "OF_THE_WORLD" => Some(item.clone()),
        _ => None,
    };
    let item = list.items.iter().find_map(of_list).expect("the list of situations");
    let mut names = Spoken::default();
    names.visit_expr(&item.expr);
    assert!(!names.texts.is_empty(), "the list of situations is readable");
    let spoken = Spoken::of(tree, &["situations"]);
    let idle = names.texts.iter().filter(|name| !spoken.texts.contains(*name));
    idle.map(|name| Complaint::new(format!("{}: {name}", list.file), "nothing reports it")).collect()
}

#[test]
fn a_bug_without_a_rule_a_use_or_a_name_is_found() {
    let enumeration = "pub enum Bug {\n/** R2: x.*/ R2Loose,\n}\nconst ALL: &[(Bug, &str)] = &[(Bug::R2Loose, \"r2-loose\")];";
    let count = |list: &str, user: &str| {
        bugs(&Tree::of_snippets(&[("base", ""), ("base::planted", list), ("replica", user)])).len()
    };
    let user = "fn f() -> bool { planted::on(Bug::R2Loose) }";
    assert_eq!(count(enumeration, user), 0);
    assert_eq!(count(enumeration, "#[cfg(test)] mod tests { fn f() { planted::on(Bug::R2Loose); } }"), 1);
    assert_eq!(count(enumeration, "const B: Bug = Bug::R2Loose;"), 1, "named, but never asked for");
    assert_eq!(count(&enumeration.replace("R2: x", "something"), user), 1);
    assert_eq!(count(&enumeration.replace("\"r2-loose\"", "\"r2-lose\""), user), 1);
    let unruly = enumeration.replace("R2Loose", "Loose").replace("r2-loose", "loose");
    assert_eq!(count(&unruly, "fn f() -> bool { planted::on(Bug::Loose) }"), 1);
}

#[test]
fn an_idle_counter_and_an_idle_situation_are_found() {
    let list = "counters! {\n/// A.\nA = \"a\",\n/// B.\nB = \"b\",\n}";
    let count = |user: &str| {
        counters(&Tree::of_snippets(&[("base", ""), ("base::counters", list), ("node", user)])).len()
    };
    assert_eq!(count("fn f() { c.add(Counter::A); assert!(g(Counter::B)); }"), 0);
    assert_eq!(
        count("fn f() { c.add(Counter::A); } #[cfg(test)] mod t { fn f() { c.add(Counter::B); } }"),
        1
    );
    let list = "const OF_THE_WORLD: [&str; 2] = [\"x\", \"y\"];";
    let count = |user: &str| situations(&Tree::of_snippets(&[("situations", list), ("world", user)])).len();
    assert_eq!(count("fn f() { met(\"x\"); met(\"y\"); }"), 0);
    assert_eq!(count("fn f() { met(\"x\"); }"), 1);
}
