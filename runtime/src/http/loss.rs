//! An operator accepts the loss of what is damaged, and no other replica can bring again (PROTOCOL R6).

use super::asked::Arguments;
use super::problem::Problem;
use super::{Web, json};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use samara_core::base::Slot;
use std::sync::atomic::Ordering;

const LAST: u16 = Slot::COUNT - 1;

/// The slots that are meant: all of them unless told.
fn slots(uri: &Uri) -> Result<(u16, u16), Problem> {
    let arguments = Arguments::new(uri, &["first", "last"])?;
    let number = |name: &str, default: u16| -> Result<u16, Problem> {
        let Some(text) = arguments.text(name)? else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|number| *number <= LAST);
        number.ok_or_else(|| Problem::bad(format!("{name}={text}: give a slot from 0 to {LAST}")))
    };
    let (first, last) = (number("first", 0)?, number("last", LAST)?);
    if first > last {
        return Err(Problem::bad(format!("first={first} is behind last={last}")));
    }
    Ok((first, last))
}

/// The node votes again on what is suspect in these slots, with what is left of it. It takes a while: what is suspect
/// still stands in the status.
pub async fn accept(State(web): State<Web>, uri: Uri) -> Response {
    if !web.server.stats.ready.load(Ordering::Relaxed) {
        let detail =
            "not accepted: the shards have not recovered yet, so what is suspect is not known; try again";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", detail).into_response();
    }
    match slots(&uri) {
        Ok((first, last)) => {
            web.server.shards.iter().for_each(|shard| shard.accept_loss(Slot(first), Slot(last)));
            json(StatusCode::ACCEPTED, &serde_json::json!({"first": first, "last": last}))
        }
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_all_unless_told_and_mistakes_are_named() {
        let slots = |query: &str| {
            let uri: Uri = format!("/admin/accept-loss{query}").parse().expect("an address");
            slots(&uri).map_err(|problem| problem.detail)
        };
        assert_eq!(slots(""), Ok((0, LAST)));
        assert_eq!(slots("?first=7"), Ok((7, LAST)));
        assert_eq!(slots("?first=7&last=7"), Ok((7, 7)));
        for (bad, word) in [
            ("?first=8&last=7", "behind"),
            ("?last=16384", "16383"),
            ("?first=-1", "16383"),
            ("?slots=1", "no argument"),
        ] {
            assert!(slots(bad).is_err_and(|detail| detail.contains(word)), "{bad}");
        }
    }
}
