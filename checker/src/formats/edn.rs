//! EDN, as far as histories need it: nil, booleans, numbers, strings, characters, keywords, symbols, vectors, lists, sets,
//! maps, comments, discards, and tags (which are dropped).

use super::datum::{Cursor, DEPTH_MAX, Datum, Wrong};

/// Skips white space, commas, comments and discarded forms.
pub(crate) fn space(cursor: &mut Cursor<'_>) -> Result<(), Wrong> {
    loop {
        match cursor.peek() {
            Some(b' ' | b'\t' | b'\n' | b'\r' | b',') => cursor.at += 1,
            Some(b';') => {
                cursor.take_while(|byte| byte != b'\n');
            }
            Some(b'#') if cursor.text.get(cursor.at + 1) == Some(&b'_') => {
                cursor.at += 2;
                value(cursor)?;
            }
            _ => return Ok(()),
        }
    }
}

/// Whether a byte ends a word or number.
pub(crate) fn is_delimiter(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t' | b'\n' | b'\r' | b',' | b';' | b'"' | b'[' | b']' | b'(' | b')' | b'{' | b'}'
    )
}

/// Reads one form.
pub(crate) fn value<'a>(cursor: &mut Cursor<'a>) -> Result<Datum<'a>, Wrong> {
    nested(cursor, 0)
}

fn nested<'a>(cursor: &mut Cursor<'a>, depth: usize) -> Result<Datum<'a>, Wrong> {
    space(cursor)?;
    if depth > DEPTH_MAX {
        return cursor.wrong(format!("nested deeper than {DEPTH_MAX}"));
    }
    match cursor.peek() {
        Some(b'"') => cursor.quoted().map(Datum::Text),
        Some(b'[') => items(cursor, b']', depth).map(Datum::List),
        Some(b'(') => items(cursor, b')', depth).map(Datum::List),
        Some(b'{') => {
            let opening = cursor.at;
            let flat = items(cursor, b'}', depth)?;
            if flat.len() % 2 == 1 {
                return Err(Wrong { at: opening, reason: "a map has a value for every key".into() });
            }
            let mut flat = flat.into_iter();
            let mut fields = Vec::with_capacity(flat.len() / 2);
            while let (Some(key), Some(value)) = (flat.next(), flat.next()) {
                fields.push((key, value));
            }
            Ok(Datum::Map(fields))
        }
        Some(b'#') => tagged(cursor, depth),
        Some(b'\\') => {
            let from = cursor.at + 1;
            cursor.at = (from + 1).min(cursor.text.len());
            cursor.take_while(|byte| !is_delimiter(byte));
            Ok(Datum::Word(&cursor.text[from..cursor.at]))
        }
        Some(byte) if !is_delimiter(byte) => Ok(word(cursor)),
        _ => cursor.wrong(format!("expected a form, found {}", cursor.found())),
    }
}

fn tagged<'a>(cursor: &mut Cursor<'a>, depth: usize) -> Result<Datum<'a>, Wrong> {
    cursor.at += 1;
    if cursor.peek() == Some(b'{') {
        return items(cursor, b'}', depth).map(Datum::List);
    }
    cursor.take_while(|byte| !is_delimiter(byte));
    nested(cursor, depth + 1)
}

fn word<'a>(cursor: &mut Cursor<'a>) -> Datum<'a> {
    let text = cursor.take_while(|byte| !is_delimiter(byte));
    match text {
        b"nil" => Datum::Nil,
        b"true" => Datum::Bool(true),
        b"false" => Datum::Bool(false),
        [b':', name @ ..] => Datum::Word(name),
        [b'0'..=b'9', ..] | [b'-' | b'+', b'0'..=b'9', ..] => {
            let plain = text.strip_suffix(b"N").or_else(|| text.strip_suffix(b"M")).unwrap_or(text);
            Datum::Number(plain.strip_prefix(b"+").unwrap_or(plain))
        }
        _ => Datum::Word(text),
    }
}

fn items<'a>(cursor: &mut Cursor<'a>, closing: u8, depth: usize) -> Result<Vec<Datum<'a>>, Wrong> {
    let opening = cursor.at;
    cursor.at += 1;
    let mut items = Vec::new();
    loop {
        space(cursor)?;
        match cursor.peek() {
            None => {
                return Err(Wrong { at: opening, reason: "the form that begins here does not end".into() });
            }
            Some(byte) if byte == closing => {
                cursor.at += 1;
                return Ok(items);
            }
            Some(b']' | b')' | b'}') => return cursor.wrong(format!("{} closes nothing", cursor.found())),
            Some(_) => items.push(nested(cursor, depth + 1)?),
        }
    }
}
