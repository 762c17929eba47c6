//! Changes to sound bytes, for tests of decoders.

use super::rng::Rng;
use alloc::vec::Vec;

/// Changes bytes here and there, cuts, doubles, or puts in what lengths are like to be read from.
pub fn mutate(data: &mut Vec<u8>, rng: &mut Rng) {
    const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0xfe, 0x40, 0x10];
    for _ in 0..=rng.below(6) {
        let at = rng.below(data.len().max(1) as u64) as usize;
        match rng.below(6) {
            0 if !data.is_empty() => data[at] ^= 1 << rng.below(8),
            1 if !data.is_empty() => data[at] = TELLING[rng.below(8) as usize],
            2 => data.truncate(at),
            3 => {
                let piece = data[at..data.len().min(at + 64)].to_vec();
                data.splice(at..at, piece);
            }
            4 if data.len() > 8 => {
                let at = at.min(data.len() - 8);
                data[at..at + 8].fill(TELLING[rng.below(8) as usize]);
            }
            _ => data.extend((0..rng.below(40)).map(|_| rng.below(256) as u8).collect::<Vec<u8>>()),
        }
    }
}

/// Drives a decoder with sound bytes and mutations of them: it ends without a panic, and takes at most `factor` bytes of
/// memory for one of input, and `least` in any case.
pub fn drive(decode: fn(&[u8]), sound: &[Vec<u8>], rng: &mut Rng, (factor, least): (u64, u64)) {
    for data in sound {
        decode(data);
    }
    decode(&[]);
    for _ in 0..3_000 {
        let mut data = sound[rng.below(sound.len() as u64) as usize].clone();
        mutate(&mut data, rng);
        let used = allocation_counter::measure(|| decode(&data));
        let most = factor * data.len() as u64 + least;
        assert!(used.bytes_max <= most, "{} bytes of memory for {} of input", used.bytes_max, data.len());
    }
}
