//! The decoders of a directory's identity and ceiling as functions of any bytes, for fuzzing.

use super::ceiling::{self, SLOT_STRIDE_V3};
use super::identity::check_owner;
use crate::base::checksum::crc32c;

/// A decoder as a function of any bytes.
pub type Decoder = fn(&[u8]);

/// All of them with their names.
pub const ALL: &[(&str, Decoder)] =
    &[("identity", identity), ("identity_within", identity_within), ("ceiling", ceiling)];

/// An identity file.
pub fn identity(data: &[u8]) {
    let is_blank = data.iter().all(|byte| *byte == 0);
    match check_owner(data) {
        Ok(None) => assert!(is_blank, "what says nothing is blank"),
        Ok(Some(owner)) => {
            // But for the version, which may be an earlier one, and the checksum over it.
            let again = owner.encode();
            assert!(again[..8] == data[..8] && again[12..34] == data[12..34], "it is written as it was read");
        }
        Err(reason) => assert!(!is_blank && !reason.is_empty(), "what is refused is told"),
    }
}

/// An identity with the right checksum around any bytes.
pub fn identity_within(data: &[u8]) {
    let mut bytes = data.to_vec();
    let crc = crc32c(&[data]);
    bytes.extend_from_slice(&crc.to_le_bytes());
    identity(&bytes);
}

/// A ceiling file.
pub fn ceiling(data: &[u8]) {
    let (sound, damaged) = ceiling::check(data);
    assert!(sound <= 2, "a ceiling file has two slots");
    assert!(
        sound + damaged.len() <= data.len().div_ceil(SLOT_STRIDE_V3 as usize),
        "each slot is one or the other"
    );
    assert!(damaged.iter().all(|at| *at < data.len() as u64), "damage lies within the file");
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::base::mutate::drive;
    use crate::base::rng::Rng;
    use alloc::vec::Vec;
    use std::format;
    use std::path::PathBuf;

    /// Sound input, out of the golden directory.
    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let of_version = |version: &str| {
            let read = |name: &str| std::fs::read(golden.join(version).join(name)).expect("a golden file");
            let identity = read("0000000000.identity");
            [
                ("identity", identity[..512].to_vec()),
                ("identity_within", identity[..34].to_vec()),
                ("ceiling", read("0000000000.ceiling")),
                ("ceiling", read("0000000001.ceiling")),
            ]
        };
        ["v3", "v4"].into_iter().flat_map(of_version).collect()
    }

    #[test]
    fn any_bytes_are_refused_or_read() {
        for (at, (name, decode)) in ALL.iter().enumerate() {
            let own = seeds().into_iter().filter(|(of, _)| of == name).map(|(_, data)| data);
            drive(*decode, &own.collect::<Vec<_>>(), &mut Rng::new([at as u8; 32], 0), (4, 4096));
        }
    }

    #[test]
    #[ignore = "writes the first corpus of each target of fuzz/"]
    fn write_the_seeds() {
        let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (at, (name, data)) in seeds().into_iter().enumerate() {
            std::fs::create_dir_all(corpus.join(name)).expect("a directory");
            std::fs::write(corpus.join(name).join(format!("golden-{at:04}")), data).expect("a file");
        }
    }
}
