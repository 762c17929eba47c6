//! The fuzz targets, which nothing builds but who fuzzes: each decoder has its target, and each target its decoder.

use super::Complaint;
use super::source::{Source, files, root};
use std::collections::BTreeSet;
use syn::visit::{self, Visit};

/// Lists of decoders, by the path that a target speaks.
const LISTS: [(&str, &str); 3] = [
    ("samara_core::store::decoders::", "core/src/store/decoders.rs"),
    ("samara_core::node::decoders::", "core/src/node/decoders.rs"),
    ("samara_core::wire::decoders::", "core/src/wire/decoders.rs"),
];

/// The one decoder of the node's shell.
const REQUESTS: &str = "samara::resp::any::resp";

/// The names in the list `ALL` of a file: each stands before the function of that name, so that there is one.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl<'ast> Visit<'ast> for Names {
    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        if item.ident == "ALL" {
            visit::visit_expr(self, &item.expr);
        }
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {}

    fn visit_item_fn(&mut self, _: &'ast syn::ItemFn) {}

    fn visit_expr_tuple(&mut self, pair: &'ast syn::ExprTuple) {
        let name = match pair.elems.first() {
            Some(syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. })) => text.value(),
            _ => return,
        };
        if matches!(pair.elems.last(), Some(syn::Expr::Path(path)) if path.path.is_ident(&name)) {
            self.0.insert(name);
        }
    }
}

fn listed(source: &Source) -> BTreeSet<String> {
    let mut names = Names::default();
    names.visit_file(&source.syntax);
    names.0
}

/// Target and decoder must be one to one. `targets` are names with their text, `decoders` names with their path.
fn complaints_of(
    declared: &BTreeSet<String>,
    targets: &[(String, String)],
    decoders: &[(String, String)],
) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (name, path) in decoders {
        match targets.iter().find(|(target, _)| target == name) {
            None => complaints.push(Complaint::new(
                format!("fuzz/fuzz_targets/{name}.rs"),
                format!("{path} has no target"),
            )),
            Some((_, text)) if !text.contains(&format!("{path}(data)")) => {
                complaints.push(Complaint::new(
                    format!("fuzz/fuzz_targets/{name}.rs"),
                    format!("does not call {path}"),
                ));
            }
            Some(_) => {}
        }
    }
    for (name, _) in targets {
        if !decoders.iter().any(|(decoder, _)| decoder == name) {
            complaints.push(Complaint::new(
                format!("fuzz/fuzz_targets/{name}.rs"),
                "is the target of no listed decoder",
            ));
        }
        if !declared.contains(name) {
            complaints.push(Complaint::new("fuzz/Cargo.toml", format!("does not name the target {name}")));
        }
    }
    complaints
}

/// Everything wrong with the targets of `fuzz/`.
pub fn complaints() -> Vec<Complaint> {
    let text = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).expect("the manifest of fuzz/");
    let manifest: toml::Table = text.parse().expect("TOML");
    let bins = manifest.get("bin").and_then(toml::Value::as_array).expect("targets");
    let name = |bin: &toml::Value| bin.get("name").and_then(toml::Value::as_str).map(str::to_string);
    let declared: BTreeSet<String> = bins.iter().filter_map(name).collect();
    let read = |path: String| {
        let text = std::fs::read_to_string(root().join(&path)).expect("a target");
        let name = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs").to_string();
        (name, text)
    };
    let targets: Vec<(String, String)> =
        files("fuzz/fuzz_targets", |path| path.ends_with("rs")).into_iter().map(read).collect();
    let sources = Source::all();
    let mut decoders = vec![("resp".to_string(), REQUESTS.to_string())];
    for (prefix, file) in LISTS {
        let source = sources.iter().find(|source| source.path == file).expect("a list of decoders");
        let names = listed(source);
        assert!(!names.is_empty(), "{file}: the list of decoders is readable");
        decoders.extend(names.into_iter().map(|name| (name.clone(), format!("{prefix}{name}"))));
    }
    complaints_of(&declared, &targets, &decoders)
}

#[test]
fn a_decoder_without_a_target_and_a_target_without_a_decoder_are_found() {
    let source = Source::parse(
        "a.rs",
        "/** All. */ pub const ALL: &[(&str, D)] = &[(\"one\", one), (\"two\", f::two)];\nfn f() { g(\"x\") }".into(),
    );
    assert_eq!(listed(&source), BTreeSet::from(["one".to_string()]));
    let pair = |name: &str, text: &str| (name.to_string(), text.to_string());
    let count = |declared: &[&str], targets: &[(String, String)]| {
        let declared = declared.iter().map(ToString::to_string).collect();
        complaints_of(&declared, targets, &[pair("one", "a::one")]).len()
    };
    assert_eq!(count(&["one"], &[pair("one", "a::one(data)")]), 0);
    assert_eq!(count(&["one"], &[pair("one", "a::two(data)")]), 1);
    assert_eq!(count(&[], &[pair("one", "a::one(data)")]), 1);
    assert_eq!(count(&[], &[]), 1);
    assert_eq!(count(&["one", "two"], &[pair("one", "a::one(data)"), pair("two", "a::two(data)")]), 1);
}
