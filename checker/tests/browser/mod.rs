//! A page in a real browser.

use std::path::Path;
use std::process::Command;

/// What a browser made of a page, with a script at its end. `None`: there is no Chromium, which the test says; on CI, which has it, it fails.
pub fn dom(name: &str, page: &str, script: &str) -> Option<Dom> {
    let Some(browser) =
        ["/usr/bin/chromium", "/usr/bin/chromium-browser"].into_iter().find(|at| Path::new(at).exists())
    else {
        assert!(std::env::var_os("CI").is_none(), "CI has Chromium");
        println!("skipped: there is no Chromium");
        return None;
    };
    let folder = std::env::temp_dir().join(format!("samara-check-page-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("page.html");
    std::fs::write(&file, page.replace("</body>", &format!("{script}</body>"))).expect("the page");
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args(["--disable-component-update", "--disable-sync", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{}", file.display()))
        .output()
        .expect("Chromium runs");
    let _ = std::fs::remove_dir_all(&folder);
    Some(Dom(String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// The page as it was in the end.
pub struct Dom(pub String);

impl Dom {
    /// What the script left under a name.
    pub fn word(&self, name: &str) -> Option<&str> {
        self.0.split(&format!("data-{name}=\"")).nth(1).and_then(|rest| rest.split('"').next())
    }

    /// A number that it left.
    pub fn number(&self, name: &str) -> usize {
        let word = self.word(name).and_then(|word| word.parse().ok());
        word.unwrap_or_else(|| panic!("nothing is said of {name}: {}", self.0))
    }

    /// Asserts that each of these came true.
    pub fn assert_true(&self, names: &[&str]) {
        for name in names {
            assert_eq!(self.word(name), Some("true"), "{name}: {}", self.0);
        }
    }
}
