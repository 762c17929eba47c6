//! Lengths of files and functions.

use super::Complaint;
use super::source::Source;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Files (`path`) and functions (`path::name`) that are longer than they should be, with a ceiling each: they can only
/// shrink, and leave the list when they fit.
pub const CEILINGS: &[(&str, usize)] = &[];

/// The measured things of the sources, against the limits and the ceilings.
struct Ruler<'a> {
    ceilings: &'a [(&'a str, usize)],
    /// Ceilings that something needs.
    needed: Vec<&'a str>,
    complaints: Vec<Complaint>,
}

impl Ruler<'_> {
    fn measure(&mut self, name: &str, place: String, lines: usize, limit: usize) {
        let ceiling = self.ceilings.iter().find(|(named, _)| *named == name);
        if lines > limit {
            self.needed.extend(ceiling.map(|(named, _)| *named));
        }
        let wanted = ceiling.map_or(limit, |(_, ceiling)| *ceiling);
        if lines > wanted {
            self.complaints.push(Complaint::new(
                place,
                format!("{name} has {lines} lines, at most {wanted} are wanted"),
            ));
        }
    }
}

struct Functions<'a, 'b> {
    source: &'a Source,
    ruler: &'a mut Ruler<'b>,
}

impl Functions<'_, '_> {
    fn measure(&mut self, signature: &syn::Signature, end: proc_macro2::Span) {
        let (first, last) = (signature.span().start().line, end.end().line);
        let name = format!("{}::{}", self.source.path, signature.ident);
        let place = format!("{}:{first}", self.source.path);
        self.ruler.measure(&name, place, last + 1 - first, FUNCTION_LINES_MAX);
    }
}

impl<'ast> Visit<'ast> for Functions<'_, '_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, function.block.span());
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, function.block.span());
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block.span());
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// Files and functions over the limit or over their ceiling, and ceilings that nobody needs.
pub fn too_long(sources: &[Source], ceilings: &[(&str, usize)]) -> Vec<Complaint> {
    let mut ruler = Ruler { ceilings, needed: Vec::new(), complaints: Vec::new() };
    for source in sources {
        ruler.measure(&source.path, source.path.clone(), source.text.lines().count(), FILE_LINES_MAX);
        Functions { source, ruler: &mut ruler }.visit_file(&source.syntax);
    }
    let Ruler { needed, mut complaints, .. } = ruler;
    for (name, _) in ceilings.iter().filter(|(name, _)| !needed.contains(name)) {
        complaints.push(Complaint::new(
            *name,
            "fits or is gone: remove its line from CEILINGS in tests/tests/tidy",
        ));
    }
    complaints
}

#[test]
fn long_files_and_functions_are_found_and_ceilings_only_shrink() {
    let file = |lines: usize| Source::parse("a.rs", "// line\n".repeat(lines));
    let count = |source: Source, ceilings: &[(&str, usize)]| too_long(&[source], ceilings).len();
    assert_eq!(count(file(600), &[]), 0);
    assert_eq!(count(file(601), &[]), 1);
    assert_eq!(count(file(700), &[("a.rs", 700)]), 0);
    assert_eq!(count(file(701), &[("a.rs", 700)]), 1, "grown");
    assert_eq!(count(file(600), &[("a.rs", 700)]), 1, "needs no ceiling any more");
    assert_eq!(count(file(1), &[("b.rs", 700)]), 1, "names a file that is gone");
    let function = |before: &str, lines: usize| {
        Source::parse(
            "a.rs",
            format!(
                "{before} f() {{\n{}}}{}",
                "g();\n".repeat(lines - 2),
                if before == "fn" { "" } else { "}" }
            ),
        )
    };
    for before in ["fn", "impl X { pub fn", "trait X { fn"] {
        assert_eq!(count(function(before, 70), &[]), 0, "{before}");
        assert_eq!(count(function(before, 71), &[]), 1, "{before}");
        assert_eq!(count(function(before, 71), &[("a.rs::f", 71)]), 0, "{before}");
        assert_eq!(count(function(before, 72), &[("a.rs::f", 71)]), 1, "{before}");
    }
}
