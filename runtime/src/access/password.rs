//! Passwords, kept as their SHA-256 (FIPS 180-4) as Valkey keeps them.

use super::Refused;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;

/// The hash of a password. It is shown in full where a user's rules are, and never in logs.
#[derive(Clone, Copy)]
pub struct Password([u8; 32]);

impl Password {
    /// The hash of what a client says.
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// A hash written as 64 lower-case hex digits.
    pub fn parse(text: &[u8]) -> Result<Self, Refused> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(Refused::BadHash),
        };
        let mut hash = [0; 32];
        if text.len() != 2 * hash.len() {
            return Err(Refused::BadHash);
        }
        for (byte, pair) in hash.iter_mut().zip(text.chunks(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(hash))
    }

    /// Its 64 hex digits.
    pub fn text(&self) -> String {
        use fmt::Write;
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            // Writing to a string cannot fail.
            let _written = write!(text, "{byte:02x}");
        }
        text
    }

    /// Whether it is one of `others`. The time tells nothing of where they differ, nor of which it is.
    pub fn is_among(&self, others: &[Self]) -> bool {
        let mut found = subtle::Choice::from(0);
        for other in others {
            found |= self.0.ct_eq(&other.0);
        }
        found.into()
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(password)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard_and_are_never_shown_by_accident() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let password = Password::of(b"abc");
        assert_eq!(password.text(), abc);
        assert_eq!(Password::parse(abc.as_bytes()), Ok(password));
        assert!(!format!("{password:?}").contains("ba78"));
        for bad in [&abc[1..], &abc.to_uppercase(), &abc.replace('b', "g"), "", &format!("{abc}0")] {
            assert_eq!(Password::parse(bad.as_bytes()), Err(Refused::BadHash), "{bad}");
        }
        let others = [Password::of(b"x"), password, Password::of(b"y")];
        assert!(password.is_among(&others) && !password.is_among(&others[..1]) && !password.is_among(&[]));
    }
}
