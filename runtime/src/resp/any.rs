//! The decoder of requests as a function of any bytes, for fuzzing: whole or in pieces, the same requests come out, or the
//! same error.

use super::Decoder;
use bytes::BytesMut;

type Requests = (Vec<Vec<Vec<u8>>>, Option<Vec<u8>>);

/// What comes out of pieces of `data`, of which each ends at a byte that `is_end` says.
fn requests(data: &[u8], mut is_end: impl FnMut(usize) -> bool) -> Requests {
    let (mut decoder, mut buffer, mut found) = (Decoder::default(), BytesMut::new(), Vec::new());
    for (at, byte) in data.iter().enumerate() {
        buffer.extend_from_slice(&[*byte]);
        if at + 1 < data.len() && !is_end(at) {
            continue;
        }
        loop {
            match decoder.advance(&mut buffer) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return (found, Some(error.0)),
            }
            let args = decoder.args(&buffer);
            assert!(!args.is_empty(), "a request has a name");
            found.push(args.iter().map(<[u8]>::to_vec).collect());
            decoder.consume(&mut buffer);
        }
    }
    (found, None)
}

/// Bytes as a client sends them; the first says how they are cut.
pub fn resp(data: &[u8]) {
    let Some((step, data)) = data.split_first() else {
        return;
    };
    let step = usize::from(*step) + 1;
    assert_eq!(requests(data, |_| false), requests(data, |at| at % step == 0), "pieces of {step}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: [&[u8]; 4] = [
        b"\x03*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n",
        b"\x00PING\r\nset key \"a \\x41\\n\" 'b c'\r\n\r\n*0\r\n*-1\r\nget key\n",
        b"\xff*1\r\n$4\r\nQUIT\r\n*2\r\n$0\r\n\r\n$1\r\nx\r\n*1\r\n!3\r\n",
        b"\x07*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n$2\r\nPX\r\n$5\r\n10000\r\n*1000000\r\n$16000000\r\nab",
    ];

    #[test]
    fn any_bytes_give_the_same_whole_and_in_pieces() {
        const TELLING: &[u8] = b"*$-+0129\r\n\"' \\x\0\xff";
        let mut state = 1_u64;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            ((state >> 33) as usize) % bound.max(1)
        };
        for _ in 0..20_000 {
            let mut data = SOUND[below(SOUND.len())].to_vec();
            for _ in 0..=below(5) {
                let at = below(data.len());
                match below(4) {
                    0 => data.truncate(at),
                    1 => data.insert(at, TELLING[below(TELLING.len())]),
                    2 if !data.is_empty() => data[at] = TELLING[below(TELLING.len())],
                    _ => {
                        let piece = data[at..].to_vec();
                        data.extend(piece);
                    }
                }
            }
            resp(&data);
        }
    }

    #[test]
    #[ignore = "writes the first corpus of the target resp of fuzz/"]
    fn write_the_seeds() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/resp");
        std::fs::create_dir_all(&corpus).expect("a directory");
        for (at, data) in SOUND.iter().enumerate() {
            std::fs::write(corpus.join(format!("golden-{at}")), data).expect("a file");
        }
    }
}
