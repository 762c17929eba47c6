//! Nothing that core is built on links `std`, on any target.
//!
//! `#![no_std]` binds core's own code only. Here core is compiled with the features that it asks for by itself, and then used
//! by a crate that brings its own panic handler: the compiler refuses a second one, and `std` has one.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compiles core by itself, as a dependant would see it, and returns its metadata file.
fn compile_core() -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "check",
            "--quiet",
            "--locked",
            "--lib",
            "--message-format",
            "json",
            "-p",
            "samara-core",
            "--target-dir",
        ])
        .arg(root().join("target/no-std"))
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("cargo speaks UTF-8");
    let mut names = lines.split('"').filter(|name| is_metadata(name));
    PathBuf::from(names.next().expect("cargo names what it made"))
}

/// What the compiler says to a crate without `std` that begins with `first` and handles panics itself.
fn compile_without_std(first: &str, core: &Path) -> Result<(), String> {
    let directory = root().join("target/no-std");
    let source = directory.join("without_std.rs");
    let handler = "#[panic_handler]\nfn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }\n";
    std::fs::write(&source, format!("#![no_std]\n{first}\n{handler}")).expect("a writable target directory");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let output = Command::new(rustc)
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "rlib",
            "--emit",
            "metadata",
            "-C",
            "panic=abort",
            "--out-dir",
        ])
        .arg(&directory)
        .arg("--extern")
        .arg(format!("samara_core={}", core.display()))
        .arg("-L")
        .arg(format!("dependency={}", core.parent().expect("a file in a folder").display()))
        .arg(&source)
        .output()
        .expect("rustc runs");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn is_metadata(name: &str) -> bool {
    name.contains("libsamara_core-")
        && Path::new(name).extension().is_some_and(|extension| extension == "rmeta")
}

#[test]
fn core_and_all_it_depends_on_do_without_std() {
    let core = compile_core();
    assert_eq!(compile_without_std("extern crate samara_core;", &core), Ok(()));
    // With std in the crate the answer must be no, or the answer above means nothing.
    let both = compile_without_std("extern crate std; extern crate samara_core;", &core);
    let refusal = both.expect_err("two panic handlers");
    assert!(refusal.contains("panic_impl"), "{refusal}");
}
