use super::*;
use crate::base::{NodeId, ShardId};
use crate::io::DiskError;

const ME: Address = Address { node: NodeId(7), shard: ShardId(0) };

/// Files that do what they are asked at once.
#[derive(Default, Clone)]
struct Files(BTreeMap<FileName, Vec<u8>>);

impl Files {
    fn perform(&mut self, op: DiskOp) -> DiskResult {
        match op {
            DiskOp::Create { file, preallocate } => {
                assert!(self.0.insert(file, alloc::vec![0; preallocate as usize]).is_none(), "{file} exists");
                DiskResult::Done
            }
            DiskOp::Write { file, offset, data, .. } => {
                let content = self.0.get_mut(&file).expect("written before it was made");
                content[offset as usize..offset as usize + data.len()].copy_from_slice(&data);
                DiskResult::Done
            }
            DiskOp::Read { file, .. } => match self.0.get(&file) {
                Some(content) => DiskResult::Data(Bytes::from(content.clone())),
                None => DiskResult::Failed(DiskError { kind: DiskErrorKind::NotFound, text: String::new() }),
            },
            _ => DiskResult::Done,
        }
    }

    /// Runs `identity` until it says something.
    fn run(&mut self, identity: &mut Identity, out: &mut Outbox) -> IdentityEvent {
        loop {
            let outputs: Vec<Output> = out.drain().collect();
            assert!(!outputs.is_empty(), "nothing to do and nothing said");
            for output in outputs {
                let Output::Disk { ticket, op } = output else { panic!("{output:?}") };
                let result = self.perform(op);
                if let Some(event) = identity.on_disk(ticket, result, out) {
                    return event;
                }
            }
        }
    }

    fn start(&mut self, wall_ms: u64) -> Result<(Identity, Hlc), String> {
        let (mut identity, mut out) = (Identity::new(ME, ClusterId(5), 1), Outbox::new());
        identity.boot(&mut out);
        if let IdentityEvent::Fatal(reason) = self.run(&mut identity, &mut out) {
            return Err(reason);
        }
        identity.establish(WallTime(wall_ms), &mut out);
        match self.run(&mut identity, &mut out) {
            IdentityEvent::Established { found, .. } => Ok((identity, found)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_start_has_a_higher_number_and_finds_the_ceiling_of_the_one_before() {
    let mut files = Files::default();
    let (mut first, found) = files.start(1_000).expect("a fresh directory");
    assert_eq!((first.start(), found), (StartNumber(1), Hlc(0)));
    let mut out = Outbox::new();
    assert!(first.raise(Hlc::from_ms(5_000), &mut out));
    assert!(!first.raise(Hlc::from_ms(6_000), &mut out), "one raise at a time");
    assert_eq!(files.run(&mut first, &mut out), IdentityEvent::Raised(Hlc::from_ms(5_100)));
    let (second, found) = files.start(1_000).expect("a used directory");
    assert_eq!((second.start(), found), (StartNumber(2), Hlc::from_ms(5_100)));
}

#[test]
fn one_damaged_ceiling_file_is_survived_and_both_are_not() {
    let mut files = Files::default();
    files.start(1_000).expect("a fresh directory");
    files.0.insert(CEILINGS[0], alloc::vec![0xff; 100]);
    files.0.get_mut(&CEILINGS[0]).expect("was made").resize(8192, 0);
    let (identity, found) = files.clone().start(1_000).expect("one copy is enough");
    assert_eq!((identity.start(), found), (StartNumber(2), Hlc::from_ms(1_100)));
    files.0.remove(&CEILINGS[1]);
    let reason = files.start(1_000).expect_err("no ceiling is left");
    assert!(reason.contains("ceiling") && reason.contains("replaced"), "{reason}");
}

#[test]
fn a_foreign_or_damaged_identity_is_refused_and_nothing_is_written() {
    let mut files = Files::default();
    files.start(1_000).expect("a fresh directory");
    let table: [(usize, u8, &str); 4] = [
        (0, b'X', "not a data directory"),
        (8, 9, "format version 9"),
        (12, 77, "damaged"),
        (30, 1, "damaged"),
    ];
    for (at, byte, words) in table {
        let mut damaged = files.clone();
        damaged.0.get_mut(&IDENTITY).expect("was written")[at] = byte;
        let before = damaged.0.clone();
        let reason = damaged.start(1_000).expect_err(words);
        assert!(reason.contains(words) && reason.contains("identity"), "{reason}");
        assert_eq!(damaged.0, before);
    }
}

/// A file as a person reads it: rows of sixteen bytes, the runs of zeros between them left out.
fn readable(content: &[u8]) -> String {
    use core::fmt::Write;
    let mut page = format!("{} bytes\n", content.len());
    for (index, row) in content.chunks(16).enumerate().filter(|(_, row)| row.iter().any(|byte| *byte != 0)) {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let letters: String =
            row.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '.' }).collect();
        writeln!(page, "{:04x}  {}  {letters}", index * 16, hex.join(" ")).expect("into memory");
    }
    page
}

#[test]
fn the_files_of_a_directory_keep_their_bytes() {
    let mut files = Files::default();
    files.start(1_000).expect("a fresh directory");
    files.start(2_000).expect("a used directory");
    let page: Vec<String> =
        files.0.iter().map(|(file, content)| format!("{file}: {}", readable(content))).collect();
    insta::assert_snapshot!(page.join("\n"));
}
