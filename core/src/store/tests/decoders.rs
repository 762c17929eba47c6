//! The functions that are fuzzed, driven by thousands of mutations of sound bytes: no panic, and memory in proportion.

use super::*;
use crate::io::FileKind;
use crate::store::decoders::{ALL, Decoder};
use crate::store::table::samples;

/// Sound bytes for every decoder.
fn sound() -> Vec<Vec<u8>> {
    let mut engine = Engine::started(small(), 21);
    for number in 1..150 {
        engine.put(number % 40, number);
        engine.settle();
    }
    let mut sound: Vec<Vec<u8>> = samples();
    for (file, mut data) in engine.disk.contents() {
        if file.kind != FileKind::Identity {
            data.truncate(20_000);
            sound.push(data);
        }
    }
    let mut body = Vec::new();
    for number in [1, 9, 11] {
        body.clear();
        super::super::entry::encode(ballot(number), Some(&record(1, number)), &mut body);
        sound.push(body.clone());
    }
    sound
}

/// Changes bytes here and there, cuts, doubles, or puts in what lengths are like to be read from.
fn mutate(data: &mut Vec<u8>, rng: &mut Rng) {
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

fn drive(decode: Decoder, sound: &[Vec<u8>], rng: &mut Rng) {
    for data in sound {
        decode(data);
    }
    decode(&[]);
    for _ in 0..3_000 {
        let mut data = sound[rng.below(sound.len() as u64) as usize].clone();
        mutate(&mut data, rng);
        let used = allocation_counter::measure(|| decode(&data));
        // LZ4 gives up to 255 bytes for one; nothing else grows by more than a small factor.
        let most = 300 * data.len() as u64 + (64 << 10);
        assert!(used.bytes_max <= most, "{} bytes of memory for {} of input", used.bytes_max, data.len());
    }
}

#[test]
fn any_bytes_are_refused_or_read_and_take_memory_in_proportion() {
    let sound = sound();
    for (at, (_, decode)) in ALL.iter().enumerate() {
        drive(*decode, &sound, &mut Rng::new([at as u8; 32], 0));
    }
}
