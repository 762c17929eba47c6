//! Keys, values and names as text for people: what clients chose is cut where it is long, and its control characters are spelt out.

/// Characters of a key or a value that are shown.
const CHARACTERS: usize = 60;
/// Characters of a key or a value in JSON.
const OF_JSON: usize = 200;
/// Characters of the name of a session.
const OF_A_NAME: usize = 40;

fn cut(bytes: &[u8], characters: usize) -> String {
    // A character has four bytes at most, so that a huge value is not read to its end.
    let head = &bytes[..bytes.len().min(4 * characters + 4)];
    let text = String::from_utf8_lossy(head);
    let mut short: String = text.chars().take(characters).collect();
    if short.len() < text.len() || head.len() < bytes.len() {
        short.push_str("...");
    }
    short
}

/// A key or a value in quotation marks.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    format!("{:?}", cut(bytes, CHARACTERS))
}

/// A key or a value by itself.
pub(crate) fn bare(bytes: &[u8]) -> String {
    cut(bytes, CHARACTERS).escape_debug().to_string()
}

/// A key or a value for programs.
pub(crate) fn long(bytes: &[u8]) -> String {
    cut(bytes, OF_JSON)
}

/// A session by its name, or by its number where it has none or a long one.
pub(crate) fn session(number: u32, name: &[u8]) -> String {
    if name.is_empty() || name.len() > OF_A_NAME {
        format!("session {number}")
    } else {
        format!("session {}", name_of(name))
    }
}

/// A client by its name, of which a long one is cut and told from others by a number.
pub(crate) fn client(number: u32, name: &[u8]) -> String {
    let number = if name.len() > OF_A_NAME { format!(" (client {number})") } else { String::new() };
    name_of(name) + &number
}

/// A name that looks like a number stands in quotation marks.
fn name_of(name: &[u8]) -> String {
    let mut text = String::new();
    for character in cut(name, OF_A_NAME).chars() {
        match character {
            '"' | '\'' => text.push(character),
            other => text.extend(other.escape_debug()),
        }
    }
    text
}

#[test]
fn what_is_long_is_cut_and_what_is_hostile_is_spelt_out() {
    assert_eq!(quoted(b"a\"b"), r#""a\"b""#);
    assert_eq!(bare("\u{1b}[2J".as_bytes()), r"\u{1b}[2J");
    assert_eq!(bare(&vec![b'x'; 100_000_000]).len(), CHARACTERS + 3);
    assert_eq!(bare("\u{e4}".repeat(60).as_bytes()), "\u{e4}".repeat(60));
    assert_eq!(quoted(&[0xff; 3]), "\"\u{fffd}\u{fffd}\u{fffd}\"");
    assert_eq!(session(7, &[b'x'; 41]), "session 7");
    assert_eq!(session(7, b"a\nb"), r"session a\nb");
    assert_eq!(session(7, b"\"3\""), "session \"3\"");
    assert_eq!(client(7, &[b'x'; 41]), format!("{}... (client 7)", "x".repeat(40)));
}
