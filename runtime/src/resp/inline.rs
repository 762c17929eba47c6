//! Inline requests: words on one line, quoted as in sdssplitargs of Redis.

use std::ops::Range;

/// Splits `line` into words, appended to `words` without their quotes, with their places in `ranges`. `None` if quotes are
/// not balanced, or a word goes on after a closing quote.
pub(super) fn split(line: &[u8], words: &mut Vec<u8>, ranges: &mut Vec<Range<usize>>) -> Option<()> {
    // A NUL ends the line, as it does for a C string.
    let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|byte| is_space(*byte)) {
            at += 1;
        }
        if at == line.len() {
            return Some(());
        }
        let start = words.len();
        at = word(line, at, words)?;
        ranges.push(start..words.len());
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Reads the word at `at`; where it ends.
fn word(line: &[u8], mut at: usize, words: &mut Vec<u8>) -> Option<usize> {
    loop {
        match line.get(at) {
            None | Some(b' ' | b'\n' | b'\r' | b'\t') => return Some(at),
            Some(quote @ (b'"' | b'\'')) => {
                at = quoted(line, at + 1, *quote, words)?;
                return match line.get(at) {
                    Some(byte) if !is_space(*byte) => None,
                    _ => Some(at),
                };
            }
            Some(byte) => words.push(*byte),
        }
        at += 1;
    }
}

/// Reads up to the closing quote; the place after it.
fn quoted(line: &[u8], mut at: usize, quote: u8, words: &mut Vec<u8>) -> Option<usize> {
    loop {
        let byte = *line.get(at)?;
        let next = line.get(at + 1).copied();
        match (byte, next) {
            (b'\\', Some(b'x')) if quote == b'"' && hex(line, at + 2).is_some() => {
                words.push(hex(line, at + 2)?);
                at += 4;
            }
            (b'\\', Some(escaped)) if quote == b'"' => {
                words.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                at += 2;
            }
            (b'\\', Some(b'\'')) if quote == b'\'' => {
                words.push(b'\'');
                at += 2;
            }
            _ if byte == quote => return Some(at + 1),
            _ => {
                words.push(byte);
                at += 1;
            }
        }
    }
}

fn hex(line: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| char::from(*line.get(at)?).to_digit(16);
    Some((digit(at)? * 16 + digit(at + 1)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (mut buffer, mut ranges) = (Vec::new(), Vec::new());
        split(line, &mut buffer, &mut ranges)?;
        Some(ranges.into_iter().map(|range| buffer[range].to_vec()).collect())
    }

    #[test]
    fn quotes_and_escapes() {
        let table: [(&[u8], &[&[u8]]); 7] = [
            (b"set k \"a b\\n\"  'c d'", &[b"set", b"k", b"a b\n", b"c d"]),
            (b"  ", &[]),
            (b"a \"\" ''", &[b"a", b"", b""]),
            (b"\"\\x41\\x4g\\q\"", &[b"Ax4gq"]),
            (b"'it\\'s \\n'", &[b"it's \\n"]),
            (b"a\"b c\"", &[b"ab c"]),
            (b"a\0b", &[b"a"]),
        ];
        for (line, expected) in table {
            assert_eq!(words(line).expect("balanced"), expected, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn what_is_not_balanced() {
        for line in [&b"\"a"[..], b"'a", b"\"a\"b", b"'a'b", b"\"a\\"] {
            assert_eq!(words(line), None, "{}", String::from_utf8_lossy(line));
        }
    }
}
