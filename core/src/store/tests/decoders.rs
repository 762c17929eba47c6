//! The functions that are fuzzed, driven by thousands of mutations of sound bytes: no panic, and memory in proportion. The
//! sound bytes come from the golden directory.

extern crate std;

use super::*;
use crate::base::mutate::drive;
use crate::io::{FileKind, FileName};
use crate::store::codec::Reader;
use crate::store::decoders::{ALL, SEED_FILE};
use crate::store::log::{Place, Segment, encode_group, number_in, pages_of};
use crate::store::pointer::Pointer;
use crate::store::{entry, table};
use std::path::PathBuf;

type Seeds = Vec<(&'static str, Vec<u8>)>;

fn golden() -> Vec<(FileName, Bytes)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v3");
    let mut files: Vec<(FileName, Bytes)> = std::fs::read_dir(directory)
        .expect("the golden directory")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(FileName::parse);
            (name.expect("a file of ours"), Bytes::from(std::fs::read(path).expect("a file")))
        })
        .collect();
    files.sort();
    files
}

/// The payloads of a file's groups; as pages that the decoders take for their own, too.
fn groups(file: FileName, data: &Bytes, (pages, within): (&'static str, &'static str), seeds: &mut Seeds) {
    let number = number_in(file.kind, data).unwrap_or(file.number);
    let mut segment = Segment::new(FileName::new(file.kind, number));
    segment.add(data);
    let (mut all, mut group) = (Vec::new(), 0);
    let walked = segment.walk(u64::MAX, |_, payload| {
        seeds.push((within, payload.to_vec()));
        group += 1;
        let place = Place { group, follows: 0, synced: group - 1 };
        let page = (all.len() / (pages_of(1) * 4096)) as u64;
        all.extend_from_slice(&encode_group(FileName::new(file.kind, SEED_FILE), page, place, payload));
        Ok::<(), alloc::string::String>(())
    });
    walked.expect("a walk");
    if !all.is_empty() {
        seeds.push((pages, all));
    }
}

/// Sound input for every decoder.
fn seeds() -> Seeds {
    let (files, mut seeds) = (golden(), Seeds::new());
    for (file, data) in &files {
        match file.kind {
            FileKind::Wal => groups(*file, data, ("wal_pages", "wal_group_within"), &mut seeds),
            FileKind::Manifest => groups(*file, data, ("manifest", "manifest_edit_within"), &mut seeds),
            FileKind::Table => seeds.extend(table::seeds(file.number, data)),
            FileKind::Value => seeds.push(("value", data[..32].to_vec())),
            _ => {}
        }
    }
    let pointers: Vec<Pointer> = seeds
        .iter()
        .filter(|(name, _)| *name == "record")
        .filter_map(|(_, body)| entry::pointer(body))
        .collect();
    for pointer in pointers {
        if let Some((_, data)) = files.iter().find(|(file, _)| *file == pointer.name()) {
            let mut seed = Vec::new();
            pointer.put(&mut seed);
            assert_eq!(Pointer::read(&mut Reader(&seed)), Some(pointer));
            seed.extend_from_slice(&data[pointer.offset as usize..][..pointer.stored as usize]);
            seeds.push(("value", seed));
        }
    }
    seeds.sort();
    seeds.dedup();
    seeds
}

#[test]
fn any_bytes_are_refused_or_read_and_take_memory_in_proportion() {
    let seeds = seeds();
    for (at, (name, decode)) in ALL.iter().enumerate() {
        let own = seeds.iter().filter(|(of, _)| of == name).map(|(_, data)| data.clone());
        let own: Vec<Vec<u8>> = own.collect();
        assert!(!own.is_empty(), "{name} has sound bytes to begin with");
        // LZ4 gives up to 255 bytes for one; nothing else grows by more than a small factor.
        drive(*decode, &own, &mut Rng::new([at as u8; 32], 0), (300, 64 << 10));
    }
}

#[test]
#[ignore = "writes the first corpus of each target of fuzz/"]
fn write_the_seeds() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (at, (name, data)) in seeds().into_iter().enumerate() {
        let directory = corpus.join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join(format!("golden-{at:04}")), data).expect("a file");
    }
}
