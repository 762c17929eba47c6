//! JSON, as far as histories need it.

use super::datum::{Cursor, DEPTH_MAX, Datum, Wrong};
use std::borrow::Cow;

/// Skips white space.
pub(crate) fn space(cursor: &mut Cursor<'_>) {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = cursor.peek() {
        cursor.at += 1;
    }
}

/// Reads one value.
pub(crate) fn value<'a>(cursor: &mut Cursor<'a>) -> Result<Datum<'a>, Wrong> {
    nested(cursor, 0)
}

fn nested<'a>(cursor: &mut Cursor<'a>, depth: usize) -> Result<Datum<'a>, Wrong> {
    space(cursor);
    match cursor.peek() {
        Some(b'"') => cursor.quoted().map(Datum::Text),
        Some(b'-' | b'0'..=b'9') => number(cursor),
        Some(b'[' | b'{') if depth >= DEPTH_MAX => cursor.wrong(format!("nested deeper than {DEPTH_MAX}")),
        Some(b'[') => list(cursor, depth),
        Some(b'{') => {
            let mut fields = Vec::new();
            object(cursor, |cursor, name| {
                let value = nested(cursor, depth + 1)?;
                fields.push((Datum::Text(name), value));
                Ok(())
            })?;
            Ok(Datum::Map(fields))
        }
        Some(b'a'..=b'z') => word(cursor),
        _ => cursor.wrong(format!("expected a value, found {}", cursor.found())),
    }
}

fn number<'a>(cursor: &mut Cursor<'a>) -> Result<Datum<'a>, Wrong> {
    let from = cursor.at;
    let text = cursor.take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
    let plain = text.strip_prefix(b"-").unwrap_or(text);
    let digits = !plain.is_empty() && plain.iter().all(u8::is_ascii_digit);
    let good = digits || std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok());
    if good { Ok(Datum::Number(text)) } else { Err(Wrong { at: from, reason: "not a number".into() }) }
}

fn word<'a>(cursor: &mut Cursor<'a>) -> Result<Datum<'a>, Wrong> {
    let from = cursor.at;
    match cursor.take_while(|byte| byte.is_ascii_alphanumeric()) {
        b"null" => Ok(Datum::Nil),
        b"true" => Ok(Datum::Bool(true)),
        b"false" => Ok(Datum::Bool(false)),
        _ => Err(Wrong { at: from, reason: "not a value of JSON".into() }),
    }
}

fn list<'a>(cursor: &mut Cursor<'a>, depth: usize) -> Result<Datum<'a>, Wrong> {
    cursor.at += 1;
    let mut items = Vec::new();
    space(cursor);
    if cursor.peek() == Some(b']') {
        cursor.at += 1;
        return Ok(Datum::List(items));
    }
    loop {
        items.push(nested(cursor, depth + 1)?);
        space(cursor);
        match cursor.peek() {
            Some(b',') => cursor.at += 1,
            Some(b']') => {
                cursor.at += 1;
                return Ok(Datum::List(items));
            }
            _ => return cursor.wrong(format!("expected ',' or ']', found {}", cursor.found())),
        }
    }
}

/// Reads an object; `field` is called with the cursor before each value and must read it.
pub(crate) fn object<'a>(
    cursor: &mut Cursor<'a>,
    mut field: impl FnMut(&mut Cursor<'a>, Cow<'a, [u8]>) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    space(cursor);
    if cursor.peek() != Some(b'{') {
        return cursor.wrong(format!("expected '{{', found {}", cursor.found()));
    }
    cursor.at += 1;
    space(cursor);
    if cursor.peek() == Some(b'}') {
        cursor.at += 1;
        return Ok(());
    }
    loop {
        space(cursor);
        if cursor.peek() != Some(b'"') {
            return cursor.wrong(format!("expected the name of a field in quotes, found {}", cursor.found()));
        }
        let name = cursor.quoted()?;
        space(cursor);
        if cursor.peek() != Some(b':') {
            return cursor.wrong(format!("expected ':', found {}", cursor.found()));
        }
        cursor.at += 1;
        field(cursor, name)?;
        space(cursor);
        match cursor.peek() {
            Some(b',') => cursor.at += 1,
            Some(b'}') => {
                cursor.at += 1;
                return Ok(());
            }
            _ => return cursor.wrong(format!("expected ',' or '}}', found {}", cursor.found())),
        }
    }
}
