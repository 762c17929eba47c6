//! Replies of a server, as a client reads them: RESP2 and the null of RESP3.

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// `+text`.
    Simple(Vec<u8>),
    /// `-text`.
    Error(String),
    /// `:number`.
    Integer(i64),
    /// A string, or nothing.
    Bulk(Option<Vec<u8>>),
    /// A list.
    Array(Vec<Reply>),
}

/// How deep lists may nest, and how long a string or a list may be.
const DEPTH_MAX: usize = 8;
const LENGTH_MAX: i64 = 1 << 30;

/// Takes one reply from the front of `text`: the reply and how many bytes it took, `None` when it is not whole yet.
pub(super) fn parse(text: &[u8]) -> Result<Option<(Reply, usize)>, String> {
    nested(text, 0)
}

fn nested(text: &[u8], depth: usize) -> Result<Option<(Reply, usize)>, String> {
    let Some(end) = text.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let (Some(kind), line) = (text.first(), text.get(1..end).unwrap_or_default()) else { return Ok(None) };
    let after = end + 2;
    let length = || -> Result<i64, String> {
        let number = std::str::from_utf8(line).ok().and_then(|digits| digits.parse().ok());
        number.ok_or_else(|| format!("the server answers with {:?}", String::from_utf8_lossy(&text[..end])))
    };
    let reply = match kind {
        b'+' => Reply::Simple(line.to_vec()),
        b'-' => Reply::Error(String::from_utf8_lossy(line).into_owned()),
        b':' => Reply::Integer(length()?),
        b'_' => Reply::Bulk(None),
        b'$' => {
            let length = length()?;
            if length < 0 {
                return Ok(Some((Reply::Bulk(None), after)));
            }
            if length > LENGTH_MAX {
                return Err(format!("the server announces {length} bytes"));
            }
            let end = after + length as usize;
            if text.len() < end + 2 {
                return Ok(None);
            }
            return Ok(Some((Reply::Bulk(Some(text[after..end].to_vec())), end + 2)));
        }
        b'*' if depth < DEPTH_MAX => return list(text, after, length()?, depth),
        other => {
            return Err(format!("the server answers with byte {other:#04x}: is it one that speaks RESP?"));
        }
    };
    Ok(Some((reply, after)))
}

fn list(text: &[u8], mut at: usize, length: i64, depth: usize) -> Result<Option<(Reply, usize)>, String> {
    if length > LENGTH_MAX {
        return Err(format!("the server announces {length} items"));
    }
    let mut items = Vec::new();
    for _ in 0..length.max(0) {
        let Some((item, took)) = nested(&text[at..], depth + 1)? else { return Ok(None) };
        items.push(item);
        at += took;
    }
    Ok(Some((Reply::Array(items), at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_taken_whole_or_not_at_all() {
        let text = b"+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n_\r\n*2\r\n:1\r\n*1\r\n$0\r\n\r\n";
        let expected = [
            Reply::Simple(b"OK".to_vec()),
            Reply::Error("ERR no".into()),
            Reply::Integer(-7),
            Reply::Bulk(Some(b"a\r\n".to_vec())),
            Reply::Bulk(None),
            Reply::Bulk(None),
            Reply::Array(vec![Reply::Integer(1), Reply::Array(vec![Reply::Bulk(Some(Vec::new()))])]),
        ];
        let mut at = 0;
        for reply in expected {
            let (found, took) = parse(&text[at..]).expect("good").expect("whole");
            assert_eq!(found, reply);
            for end in at..at + took {
                assert_eq!(parse(&text[at..end]), Ok(None), "{reply:?} cut at {}", end - at);
            }
            at += took;
        }
        assert_eq!(at, text.len());
        for bad in [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b"*99999999999\r\n", b":\r\n"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
