//! `GET /v1/scan`: keys, page by page. With bounds the keys of the whole cluster come in order, as by RANGE; without, slot by
//! slot, as by SCAN: a full walk costs least so.

use super::Web;
use super::asked::{Arguments, Asked};
use super::problem::Problem;
use super::text::Text;
use crate::commands::behind;
use crate::glob::Glob;
use crate::range;
use crate::scan;
use crate::walker::Walker;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use samara_core::base::Wanted;
use serde_json::{Value, json};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;
const ARGUMENTS: [&str; 8] = ["prefix", "start", "end", "match", "limit", "cursor", "values", "reverse"];

/// A page, and the cursor of the next.
type Page = (Vec<(Bytes, Option<Bytes>)>, Option<String>);

/// Serves a page.
pub async fn serve(State(web): State<Web>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let mut asked = match Asked::new(&web, &parts) {
        Ok(asked) => asked,
        Err(problem) => return problem.into_response(),
    };
    let outcome = match Arguments::new(&parts.uri, &ARGUMENTS) {
        Ok(arguments) => page(&web, &mut asked, &arguments).await,
        Err(problem) => Err(problem),
    };
    let item = |(key, value): (Bytes, Option<Bytes>)| match value {
        Some(value) => json!({"key": Text::from(&key[..]), "value": Text::from(&value[..])}),
        None => json!({"key": Text::from(&key[..])}),
    };
    let mut response = outcome.map_or_else(Problem::into_response, |(items, cursor)| {
        let items: Vec<Value> = items.into_iter().map(item).collect();
        Json(json!({"items": items, "cursor": cursor})).into_response()
    });
    asked.sign(&mut response);
    response
}

/// The first key that is above all which begin so.
fn beyond(prefix: &[u8]) -> Option<Bytes> {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut key = prefix[..=kept].to_vec();
    key[kept] += 1;
    Some(Bytes::from(key))
}

fn bad_cursor() -> Problem {
    Problem::bad("cursor is one that an answer to the same arguments gave")
}

async fn page(web: &Web, asked: &mut Asked, arguments: &Arguments) -> Result<Page, Problem> {
    let limit = match arguments.text("limit")? {
        None => LIMIT_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or_else(|| Problem::bad(format!("limit is from 1 to {LIMIT_MAX}")))?,
    };
    let (pattern, values) = (arguments.bytes("match"), arguments.is_on("values")?);
    let cursor = arguments.text("cursor")?;
    let reverse = arguments.is_on("reverse")?;
    let (prefix, start, end) = (arguments.bytes("prefix"), arguments.bytes("start"), arguments.bytes("end"));
    let is_ordered = reverse || prefix.is_some() || start.is_some() || end.is_some();
    if !is_ordered {
        asked.allow_scan(pattern.as_ref(), values)?;
        return slot_by_slot(web, asked, pattern, cursor.as_deref(), (limit, values)).await;
    }
    let prefix = prefix.unwrap_or_default();
    let low = start.unwrap_or_default().max(prefix.clone());
    let high = [end, beyond(&prefix)].into_iter().flatten().min();
    let mut wanted = Wanted { low, high, reverse, values, ..Wanted::default() };
    if let Some(text) = cursor {
        let last = text.strip_prefix('k').and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let last = Bytes::from(last.ok_or_else(bad_cursor)?);
        if reverse {
            wanted.high = Some(wanted.high.map_or_else(|| last.clone(), |high| high.min(last.clone())));
        } else {
            wanted.low = wanted.low.max(behind(&last));
        }
    }
    asked.allow_range(&wanted)?;
    let mut walker =
        Walker { pipeline: &mut asked.pipeline, level: asked.level, cursors: &web.server.cursors };
    let found = range::find(&mut walker, wanted, limit).await.map_err(Problem::failed)?;
    let more = found.last().filter(|_| found.len() == limit);
    let next = more.map(|(key, _)| format!("k{}", URL_SAFE_NO_PAD.encode(key)));
    let glob = pattern.map(|pattern| Glob::new(&pattern));
    let matching = found.into_iter().filter(|(key, _)| glob.as_ref().is_none_or(|glob| glob.matches(key)));
    Ok((matching.map(|(key, value)| (key, values.then_some(value))).collect(), next))
}

/// A page of the walk slot by slot: `limit` keys are looked at, with their values if they are wanted.
async fn slot_by_slot(
    web: &Web,
    asked: &mut Asked,
    pattern: Option<Bytes>,
    cursor: Option<&str>,
    (limit, values): (usize, bool),
) -> Result<Page, Problem> {
    let from = match cursor {
        None => 0,
        Some(text) => text.strip_prefix('s').and_then(|text| text.parse().ok()).ok_or_else(bad_cursor)?,
    };
    let mut walker =
        Walker { pipeline: &mut asked.pipeline, level: asked.level, cursors: &web.server.cursors };
    let found = scan::page(&mut walker, from, pattern.as_ref(), limit, values).await;
    let (next, entries) = found.map_err(Problem::failed)?;
    let items = entries.into_iter().map(|entry| (entry.key, values.then_some(entry.value))).collect();
    Ok((items, (next != 0).then(|| format!("s{next}"))))
}

#[cfg(test)]
mod tests {
    use super::beyond;

    #[test]
    fn the_end_of_a_prefix() {
        let table: [(&[u8], Option<&[u8]>); 5] =
            [(b"", None), (b"a", Some(b"b")), (b"a\xff", Some(b"b")), (b"\xff", None), (b"ab", Some(b"ac"))];
        for (prefix, end) in table {
            assert_eq!(beyond(prefix).as_deref(), end, "{prefix:?}");
        }
    }
}
