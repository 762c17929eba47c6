//! Glob patterns as Redis matches them: `*`, `?`, `[a-z]`, `[^a]`, `\x`. Linear in text times stars: a star remembers only the
//! latest place to go back to.

/// Whether `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            back = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        if t < text.len()
            && let Some(next) = one(pattern, p, text[t])
        {
            (p, t) = (next, t + 1);
            continue;
        }
        match back {
            Some((after, at)) if at < text.len() => {
                back = Some((after, at + 1));
                (p, t) = (after, at + 1);
            }
            _ => return false,
        }
    }
}

/// The bytes with which every text that matches begins.
pub fn prefix(pattern: &[u8]) -> Vec<u8> {
    let (mut prefix, mut p) = (Vec::new(), 0);
    while let Some(&byte) = pattern.get(p) {
        match byte {
            b'*' | b'?' | b'[' => break,
            b'\\' if p + 1 < pattern.len() => {
                prefix.push(pattern[p + 1]);
                p += 2;
            }
            literal => {
                prefix.push(literal);
                p += 1;
            }
        }
    }
    prefix
}

/// Matches one byte against the element at `p`; where the next element begins.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => class(pattern, p + 1, byte),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        literal => (literal == byte).then_some(p + 1),
    }
}

fn class(pattern: &[u8], mut p: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(p) == Some(&b'^');
    p += usize::from(negated);
    let mut found = false;
    while let Some(&low) = pattern.get(p) {
        match low {
            b']' => return (found != negated).then_some(p + 1),
            b'\\' if p + 1 < pattern.len() => {
                found |= pattern[p + 1] == byte;
                p += 2;
            }
            _ if pattern.get(p + 1) == Some(&b'-') && p + 2 < pattern.len() => {
                let (low, high) = (low.min(pattern[p + 2]), low.max(pattern[p + 2]));
                found |= (low..=high).contains(&byte);
                p += 3;
            }
            _ => {
                found |= low == byte;
                p += 1;
            }
        }
    }
    (found != negated).then_some(p)
}

#[cfg(test)]
mod tests {
    use super::{matches, prefix};

    #[test]
    fn patterns_of_redis() {
        let table = [
            ("*", "", true),
            ("h?llo", "hello", true),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-c]llo", "hbllo", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("", "", true),
            ("", "a", false),
            ("[abc", "b", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_literal_beginning_is_known_before_any_text() {
        let table =
            [("user:*", "user:"), ("*", ""), ("a\\*b?", "a*b"), ("abc", "abc"), ("[a]b", ""), ("x\\", "x\\")];
        for (pattern, expected) in table {
            assert_eq!(prefix(pattern.as_bytes()), expected.as_bytes(), "{pattern}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        assert!(!matches(
            "a*".repeat(40).as_bytes().iter().chain(b"b").copied().collect::<Vec<_>>().as_slice(),
            &[b'a'; 4000]
        ));
    }
}
