use super::*;
use crate::base::{NodeId, ShardId};
use crate::io::DiskError;

const ME: Address = Address { node: NodeId(7), shard: ShardId(0) };
const DRAW: u32 = 0xd4a3;
const PEER: Remembered = Remembered {
    peer: Address { node: NodeId(3), shard: ShardId(1) },
    start: StartNumber::new(6, 9),
    ceiling: Hlc(77),
};

const fn life(count: u32) -> StartNumber {
    StartNumber::new(count, DRAW)
}

/// Files that do what they are asked at once, but for operations of one sort on one of them.
#[derive(Default, Clone)]
struct Files(BTreeMap<FileName, Vec<u8>>, Option<(FileName, Sort, DiskErrorKind)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Create,
    Read,
    Write,
}

impl Files {
    fn perform(&mut self, op: DiskOp) -> DiskResult {
        let sort = match op {
            DiskOp::Create { .. } => Some(Sort::Create),
            DiskOp::Read { .. } => Some(Sort::Read),
            DiskOp::Write { .. } => Some(Sort::Write),
            _ => None,
        };
        if let Some((file, of, kind)) = self.1
            && op.file() == Some(file)
            && sort == Some(of)
        {
            return DiskResult::Failed(DiskError { kind, text: "injected".into() });
        }
        match op {
            DiskOp::Create { file, preallocate } => {
                assert!(self.0.insert(file, alloc::vec![0; preallocate as usize]).is_none(), "{file} exists");
                DiskResult::Done
            }
            DiskOp::Write { file, offset, data, .. } => {
                let content = self.0.get_mut(&file).expect("written before it was made");
                let end = offset as usize + data.len();
                content.resize(content.len().max(end), 0);
                content[offset as usize..end].copy_from_slice(&data);
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
        identity.establish(WallTime(wall_ms), DRAW, &mut out);
        match self.run(&mut identity, &mut out) {
            IdentityEvent::Established { found, .. } => Ok((identity, found)),
            IdentityEvent::Fatal(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_start_has_a_higher_number_and_finds_the_ceiling_of_the_one_before() {
    let mut files = Files::default();
    let (mut first, found) = files.start(1_000).expect("a fresh directory");
    assert_eq!((first.start(), found), (life(1), Hlc(0)));
    let mut out = Outbox::new();
    assert!(first.raise(Hlc::from_ms(5_000), alloc::vec![PEER], &mut out));
    assert!(!first.raise(Hlc::from_ms(6_000), Vec::new(), &mut out), "one raise at a time");
    assert_eq!(files.run(&mut first, &mut out), IdentityEvent::Raised(Hlc::from_ms(5_100)));
    let (second, found) = files.start(1_000).expect("a used directory");
    assert_eq!((second.start(), found), (life(2), Hlc::from_ms(5_100)));
    assert_eq!(second.peers(), [PEER]);
    assert_eq!(second.of_life(life(1)), Some(Hlc::from_ms(5_100)));
    assert_eq!(second.of_life(StartNumber::new(1, 1)), None, "another directory's first life");
}

#[test]
fn one_damaged_ceiling_file_is_survived_and_both_are_not() {
    let mut files = Files::default();
    files.start(1_000).expect("a fresh directory");
    files.0.insert(CEILINGS[0], alloc::vec![0xff; 100]);
    files.0.get_mut(&CEILINGS[0]).expect("was made").resize(2 * SLOT_STRIDE as usize, 0);
    let (identity, found) = files.clone().start(1_000).expect("one copy is enough");
    assert_eq!((identity.start(), found), (life(2), Hlc::from_ms(1_100)));
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

#[test]
fn an_identity_or_ceiling_that_cannot_be_read_or_written_refuses_the_start_by_name() {
    let mut whole = Files::default();
    whole.start(1_000).expect("a fresh directory");
    for file in [IDENTITY, CEILINGS[0], CEILINGS[1]] {
        for (sort, kind, of) in [
            (Sort::Read, DiskErrorKind::Io, &whole),
            (Sort::Write, DiskErrorKind::Io, &Files::default()),
            (Sort::Create, DiskErrorKind::Full, &Files::default()),
        ] {
            let mut files = of.clone();
            files.1 = Some((file, sort, kind));
            let reason = files.start(1_000).expect_err("a start");
            assert!(reason.contains(&format!("{file}")) && reason.contains("injected"), "{sort:?}: {reason}");
            // What was there before is as good as it was; a directory that was never finished counts as new.
            files.1 = None;
            files.start(1_000).unwrap_or_else(|reason| panic!("{file}, {sort:?}: {reason}"));
        }
    }
}

#[test]
fn a_ceiling_that_cannot_be_raised_stops_the_node_and_what_it_gave_out_stays() {
    let mut files = Files::default();
    let (mut identity, _) = files.start(1_000).expect("a fresh directory");
    files.1 = Some((CEILINGS[1], Sort::Write, DiskErrorKind::Io));
    let mut out = Outbox::new();
    assert!(identity.raise(Hlc::from_ms(9_000), Vec::new(), &mut out));
    let IdentityEvent::Fatal(reason) = files.run(&mut identity, &mut out) else { panic!("a failed raise") };
    assert!(reason.contains(&format!("{}", CEILINGS[1])) && reason.contains("check the disk"), "{reason}");
    files.1 = None;
    let (_, found) = files.start(1_000).expect("a used directory");
    assert!(found >= Hlc::from_ms(1_100), "the ceiling never falls");
}

#[test]
fn a_missing_or_truncated_identity_counts_as_a_new_directory_and_one_ceiling_is_enough() {
    let mut whole = Files::default();
    whole.start(1_000).expect("a fresh directory");
    for (first, second) in [(CEILINGS[0], CEILINGS[1]), (CEILINGS[1], CEILINGS[0])] {
        for len in [None, Some(0), Some(20), Some(600)] {
            let mut files = whole.clone();
            match len {
                Some(len) => files.0.get_mut(&first).expect("was made").truncate(len),
                None => drop(files.0.remove(&first)),
            }
            let (_, found) = files.clone().start(1_000).expect("one copy is enough");
            assert_eq!(found, Hlc::from_ms(1_100), "{first} of {len:?} bytes");
            // The newest slot lies in the second page.
            files.0.get_mut(&second).expect("was made").truncate(len.unwrap_or(0));
            let reason = files.start(1_000).expect_err("no ceiling is left");
            assert!(reason.contains("neither holds a readable ceiling"), "{reason}");
        }
    }
    // Who calls refuses a new directory that holds data.
    for len in [None, Some(0)] {
        let mut files = whole.clone();
        match len {
            Some(len) => files.0.get_mut(&IDENTITY).expect("was written").truncate(len),
            None => drop(files.0.remove(&IDENTITY)),
        }
        let (mut identity, mut out) = (Identity::new(ME, ClusterId(5), 1), Outbox::new());
        identity.boot(&mut out);
        assert_eq!(files.run(&mut identity, &mut out), IdentityEvent::Checked { fresh: true });
    }
    let mut files = whole;
    files.0.get_mut(&IDENTITY).expect("was written").truncate(20);
    assert!(files.start(1_000).expect_err("a part of an identity").contains("damaged"));
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
