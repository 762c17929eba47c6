//! The sources: files as text and syntax, and the module tree of each crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use syn::{Attribute, Item, Meta};

/// The top of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files below `top` whose path `wanted` accepts, as paths relative to the root, in order.
pub fn files(top: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root().join(top)];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).expect("a readable directory") {
            let path = entry.expect("a readable directory").path();
            let relative = path.strip_prefix(root()).expect("below the root");
            let relative = relative.to_str().expect("a name in UTF-8").trim_start_matches("./").to_string();
            let name = relative.rsplit('/').next().unwrap_or_default();
            let made = name == ".git" || name.starts_with("target") || name.starts_with("samara-data");
            if path.is_dir() && !made {
                open.push(path);
            } else if path.is_file() && !made && wanted(&relative) {
                found.push(relative);
            }
        }
    }
    found.sort();
    found
}

/// A Rust file.
pub struct Source {
    pub path: String,
    pub text: String,
    pub syntax: syn::File,
}

impl Source {
    pub fn parse(path: &str, text: String) -> Self {
        let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_string(), text, syntax }
    }

    fn read(path: &str) -> Self {
        let text =
            std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self::parse(path, text)
    }

    /// Every Rust file of the project.
    pub fn all() -> Vec<Self> {
        let is_rust = |path: &str| Path::new(path).extension().is_some_and(|extension| extension == "rs");
        super::CRATES.iter().flat_map(|top| files(top, is_rust)).map(|path| Self::read(&path)).collect()
    }
}

/// A module: where it stands in its crate, and what it holds.
pub struct Module {
    /// Segments below the crate root; empty for the root.
    pub name: Vec<String>,
    pub file: String,
    /// Only built for tests.
    pub test: bool,
    pub attributes: Vec<Attribute>,
    /// Without inline modules, which are modules of their own.
    pub items: Vec<Item>,
}

/// The modules of a library, by name.
pub struct Tree {
    pub name: String,
    pub modules: BTreeMap<Vec<String>, Module>,
}

/// Whether the attributes say `#[cfg(test)]` or `#[test]`.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        Meta::NameValue(_) => false,
    })
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

impl Tree {
    /// The tree of `NAME/src/lib.rs`.
    pub fn of_crate(name: &str) -> Self {
        let mut tree = Self { name: name.to_string(), modules: BTreeMap::new() };
        tree.load(Vec::new(), &format!("{name}/src/lib.rs"), false);
        tree
    }

    /// A tree of snippets, `(module::path, text)`; the root is added where it is not given.
    pub fn of_snippets(snippets: &[(&str, &str)]) -> Self {
        let mut tree = Self { name: "snippets".into(), modules: BTreeMap::new() };
        tree.add(Vec::new(), "lib.rs", false, Vec::new(), Vec::new());
        for (path, text) in snippets {
            let name = path.split("::").filter(|part| !part.is_empty()).map(String::from).collect();
            let syntax = syn::parse_file(text).expect("a snippet of Rust");
            tree.add(name, path, false, syntax.attrs, syntax.items);
        }
        tree
    }

    /// Names of the modules right below the root, in order, without those of tests.
    pub fn top_level(&self) -> Vec<&str> {
        let top = self.modules.values().filter(|module| module.name.len() == 1 && !module.test);
        top.map(|module| module.name[0].as_str()).collect()
    }

    fn load(&mut self, name: Vec<String>, file: &str, test: bool) {
        let source = Source::read(file);
        self.add(name, file, test, source.syntax.attrs, source.syntax.items);
    }

    fn add(
        &mut self,
        name: Vec<String>,
        file: &str,
        test: bool,
        attributes: Vec<Attribute>,
        items: Vec<Item>,
    ) {
        let (inner, own): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| matches!(item, Item::Mod(_)));
        for item in inner {
            let Item::Mod(module) = item else { continue };
            let mut below = name.clone();
            below.push(module.ident.to_string());
            let test = test || is_test(&module.attrs);
            if let Some((_, items)) = module.content {
                self.add(below, file, test, module.attrs, items);
            } else {
                let file = file_of(file, &name, &module.ident.to_string(), &module.attrs);
                self.load(below, &file, test);
            }
        }
        let module = Module { name: name.clone(), file: file.to_string(), test, attributes, items: own };
        self.modules.insert(name, module);
    }
}

/// Where `mod child;` of a module in `file` has its text.
fn file_of(file: &str, name: &[String], child: &str, attributes: &[Attribute]) -> String {
    let (directory, stem) = file.rsplit_once('/').expect("a file in a folder");
    if let Some(path) = path_attribute(attributes) {
        return format!("{directory}/{path}");
    }
    let is_folder = name.is_empty() || stem == "mod.rs";
    let directory = if is_folder {
        directory.to_string()
    } else {
        format!("{directory}/{}", stem.trim_end_matches(".rs"))
    };
    let flat = format!("{directory}/{child}.rs");
    if root().join(&flat).exists() { flat } else { format!("{directory}/{child}/mod.rs") }
}
