//! Judgements as a page for a browser, in one file.

use crate::judge::Judgement;

/// The page.
pub(crate) fn html(judgement: &Judgement, name: &str) -> String {
    format!("<!doctype html><title>{name}</title><pre>{}</pre>", judgement.text(name))
}
