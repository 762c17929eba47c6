//! Glob patterns as Redis matches them: `*`, `?`, `[a-z]`, `[^a]`, `\\x`. All ways to match are followed at once, a bit for each
//! (the Shift-And method, Baeza-Yates and Gonnet): the time is linear in the text, once for every 64 elements of the pattern,
//! and no pattern makes it worse.

/// A pattern, ready to be matched.
#[derive(Debug, Clone)]
pub struct Glob {
    /// Words of a set of states. Bit i: the first i elements have been matched.
    words: usize,
    /// For each byte, the states that it leads to.
    steps: Vec<u64>,
    /// The states at which any byte may be passed over.
    stays: Vec<u64>,
    /// Elements: the number of the last state.
    elements: usize,
}

/// Words of states that a match keeps on the stack: patterns of up to 1023 bytes are matched without taking memory.
const WORDS_KEPT: usize = 16;

fn set(words: &mut [u64], bit: usize) {
    words[bit / 64] |= 1 << (bit % 64);
}

impl Glob {
    /// Reads a pattern; every text is one.
    pub fn new(pattern: &[u8]) -> Self {
        let words = pattern.len() / 64 + 1;
        let (mut steps, mut stays) = (vec![0; 256 * words], vec![0; words]);
        let (mut p, mut elements) = (0, 0);
        while p < pattern.len() {
            if pattern[p] == b'*' {
                set(&mut stays, elements);
                p += 1;
                continue;
            }
            elements += 1;
            let mut next = p + 1;
            for byte in 0..=u8::MAX {
                let (matched, end) = one(pattern, p, byte);
                next = end;
                if matched {
                    set(&mut steps[usize::from(byte) * words..][..words], elements);
                }
            }
            p = next;
        }
        Self { words, steps, stays, elements }
    }

    /// Whether it matches the whole of `text`.
    pub fn matches(&self, text: &[u8]) -> bool {
        let (mut few, mut many) = ([0_u64; WORDS_KEPT], Vec::new());
        let states = if let Some(states) = few.get_mut(..self.words) {
            states
        } else {
            many.resize(self.words, 0);
            &mut many[..]
        };
        states[0] = 1;
        for byte in text {
            let steps = &self.steps[usize::from(*byte) * self.words..][..self.words];
            let (mut carry, mut any) = (0, 0);
            for ((state, step), stay) in states.iter_mut().zip(steps).zip(&self.stays) {
                let moved = *state << 1 | carry;
                carry = *state >> 63;
                *state = moved & step | *state & stay;
                any |= *state;
            }
            if any == 0 {
                return false;
            }
        }
        states[self.elements / 64] >> (self.elements % 64) & 1 == 1
    }
}

/// Whether `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    Glob::new(pattern).matches(text)
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

/// Whether a byte matches the element at `p`, and where the next element begins.
fn one(pattern: &[u8], p: usize, byte: u8) -> (bool, usize) {
    match pattern[p] {
        b'?' => (true, p + 1),
        b'[' => class(pattern, p + 1, byte),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte, p + 2),
        literal => (literal == byte, p + 1),
    }
}

fn class(pattern: &[u8], mut p: usize, byte: u8) -> (bool, usize) {
    let negated = pattern.get(p) == Some(&b'^');
    p += usize::from(negated);
    let mut found = false;
    while let Some(&low) = pattern.get(p) {
        match low {
            b']' => return (found != negated, p + 1),
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
    (found != negated, p)
}

#[cfg(test)]
mod tests {
    use super::{Glob, matches, prefix};

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
    fn no_pattern_takes_more_than_linear_time() {
        // A search that goes back would need 10^9 steps for either of these.
        let text = vec![b'a'; 60_000];
        let many_stars = [&b"a*".repeat(40)[..], b"b"].concat();
        assert!(!matches(&many_stars, &text));
        let long_literal = [&b"*"[..], &b"a".repeat(20_000), b"b*"].concat();
        assert!(!matches(&long_literal, &text));
        assert!(matches(&long_literal, &[&text[..], b"b"].concat()));
    }

    /// The meaning of a pattern, spelt out a second time by going back.
    fn plainly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => {
                plainly(&pattern[1..], text) || (!text.is_empty() && plainly(pattern, &text[1..]))
            }
            (Some(_), Some(byte)) => {
                let (matched, next) = super::one(pattern, 0, *byte);
                matched && plainly(&pattern[next..], &text[1..])
            }
            _ => false,
        }
    }

    #[test]
    fn every_short_pattern_matches_as_it_does_plainly() {
        let (elements, letters) = (["a", "b", "*", "?", "[ab]", "[^a]", "\\*"], [b'a', b'b', b'*']);
        for number in 0..7_usize.pow(4) {
            let element = |at: u32| elements[number / 7_usize.pow(at) % 7];
            let pattern: String = (0..4).map(element).collect();
            let glob = Glob::new(pattern.as_bytes());
            for word in 0..3_usize.pow(4) {
                let whole: Vec<u8> = (0..4).map(|at| letters[word / 3_usize.pow(at) % 3]).collect();
                for len in 0..=4 {
                    let text = &whole[..len];
                    assert_eq!(
                        glob.matches(text),
                        plainly(pattern.as_bytes(), text),
                        "{pattern} on {text:?}"
                    );
                }
            }
        }
    }
}
