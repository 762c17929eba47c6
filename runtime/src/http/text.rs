//! Keys and values in JSON: a string, or `{"base64": "..."}` for bytes that are not UTF-8.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes as JSON has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// They are UTF-8.
    Plain(String),
    /// They are not, or whoever sends them does not want to look.
    Encoded {
        /// In base64, with padding (RFC 4648, section 4).
        base64: String,
    },
}

impl Text {
    /// The bytes. `Err` says what is wrong with them.
    pub fn bytes(self) -> Result<Bytes, String> {
        match self {
            Self::Plain(text) => Ok(Bytes::from(text)),
            Self::Encoded { base64 } => {
                STANDARD.decode(base64).map(Bytes::from).map_err(|error| format!("bad base64: {error}"))
            }
        }
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Plain(text.into()),
            Err(_) => Self::Encoded { base64: STANDARD.encode(bytes) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn any_bytes_come_back() {
        for bytes in [&b""[..], b"abc", "ä".as_bytes(), b"\xff\0\xfe"] {
            let json = serde_json::to_string(&Text::from(bytes)).expect("it is JSON");
            let back: Text = serde_json::from_str(&json).expect("its own JSON");
            assert_eq!(back.bytes().as_deref(), Ok(bytes), "{json}");
        }
        assert!(Text::Encoded { base64: "*".into() }.bytes().is_err());
    }
}
