//! What is found quickly is what is found by looking at every read closely, and that is what the definition says.

use super::{Sessions, changes, found, written};
use crate::formats::{Loaded, Reading, read};
use crate::recording::{NOTHING, Recording};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A read or a write: session, key, whether it writes, how far back it reads, and whether a reply is lost.
type Deed = (u8, u8, bool, u8, bool);

/// A history in which reads see what was written so many writes of the key ago; `versions` at every how-manieth write, 0 for none.
fn history(deeds: &[Deed], versions: u64) -> String {
    let (mut text, mut written) = (String::new(), vec![Vec::new(); 4]);
    for (at, (session, key, writes, back, is_lost)) in deeds.iter().enumerate() {
        let (key, time) = (usize::from(*key % 4), at * 10);
        let (f, value) = if *writes && *back == 2 {
            ("delete", "null".into())
        } else if *writes {
            written[key].push(at);
            ("put", format!("\"{at}\""))
        } else {
            let source = written[key].len().checked_sub(1 + usize::from(*back % 3));
            ("get", source.map_or("null".into(), |source| format!("\"{}\"", written[key][source])))
        };
        let asked = if *writes { value.as_str() } else { "null" };
        let version = match at as u64 {
            at if versions > 0 && *writes && at % versions == 0 => format!(",\"version\":{}", at + 1),
            _ => String::new(),
        };
        let kind = if *is_lost && *writes { "info" } else { "ok" };
        let line = |text: &mut String, event: &str, time: usize, value: &str, version: &str| {
            let _written = writeln!(
                text,
                "{{\"time\":{time},\"process\":{session},\"type\":\"{event}\",\"f\":\"{f}\",\"key\":\"k{key}\",\"value\":{value}{version}}}"
            );
        };
        line(&mut text, "invoke", time, asked, "");
        if kind == "ok" {
            line(&mut text, "ok", time + 5, &value, &version);
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]
    #[test]
    fn quickly_is_the_same_is_found(
        deeds in prop::collection::vec((0..5_u8, any::<u8>(), any::<bool>(), prop_oneof![6 => Just(0_u8), 1 => 0..3_u8], prop::bool::weighted(0.1)), 1..60),
        versions in 0..3_u64,
    ) {
        // A session whose reply is lost goes on: its process is another then.
        let mut deeds = deeds;
        let mut lost = [0_u8; 5];
        for deed in &mut deeds {
            let session = usize::from(deed.0);
            deed.0 += 5 * lost[session];
            lost[session] += u8::from(deed.4 && deed.2);
        }
        let text = history(&deeds, versions);
        let loaded = read(text.as_bytes(), None, &Reading::default()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let Loaded::Operations(recording) = loaded else { return Err(TestCaseError::fail("operations")) };
        let mut order: Vec<u32> = (0..recording.records.len() as u32).collect();
        order.sort_by_key(|at| recording.records[*at as usize].call);
        let find = |is_quick| {
            let mut sessions = Sessions::new(&recording, order.clone());
            let found = sessions.find(None, is_quick).expect("no deadline");
            found.map(|found| (found.at, found.source, format!("{:?}", found.broken)))
        };
        let closely = find(false);
        prop_assert_eq!(&find(true), &closely, "{}", text);
        let first = closely.map(|(at, _, _)| at);
        prop_assert_eq!(first, defined(&recording, &order), "{}", text);
    }
}

/// What a session has done and seen of one key: its place and the write.
#[derive(Default)]
struct Deeds {
    writes: Vec<(u32, u32)>,
    reads: Vec<(u32, u32)>,
}

/// The first read that sees less than its session knew of, word for word: of each write all that are older, as bits.
fn defined(recording: &Recording, order: &[u32]) -> Option<u32> {
    let all = Sessions::new(recording, order.to_vec());
    let mut older: Vec<u64> = vec![0; recording.records.len()];
    let mut deeds: BTreeMap<(u32, u32), Deeds> = BTreeMap::new();
    let mut seen: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for at in order.iter().copied() {
        let record = recording.records[at as usize];
        let place = all.place[at as usize];
        let here = (record.session, record.key);
        if written(&record).is_some() || changes(&record) {
            let of = deeds.entry(here).or_default();
            for (_, before) in of.writes.iter().chain(&of.reads) {
                older[at as usize] |= older[*before as usize] | 1 << before;
            }
            if changes(&record) {
                of.writes.push((place, at));
            }
            continue;
        }
        let fleeting = all.fleeting[record.key as usize];
        let source = match found(&record) {
            Some(NOTHING) if !fleeting => None,
            Some(value) if value != NOTHING => match all.writer[&(record.key, value)] {
                Some(writer) => Some(writer),
                None => continue,
            },
            _ => continue,
        };
        let is_older = |write: u32| {
            let Some(source) = source else { return true };
            let (first, second) = (recording.records[source as usize], recording.records[write as usize]);
            if first.version != 0 && second.version != 0 {
                return first.version < second.version;
            }
            let by_it =
                first.session == second.session && all.place[source as usize] < all.place[write as usize];
            source != write && (by_it || older[write as usize] >> source & 1 == 1)
        };
        let last = |list: &[(u32, u32)], upto: u32| {
            list.iter().rev().find(|(place, _)| *place < upto).is_some_and(|(_, write)| is_older(*write))
        };
        let knows = |session: u32, upto: u32| {
            deeds
                .get(&(session, record.key))
                .is_some_and(|of| last(&of.writes, upto) || last(&of.reads, upto))
        };
        let others = seen.range((record.session, 0)..=(record.session, u32::MAX));
        if knows(record.session, u32::MAX)
            || others.map(|((_, of), upto)| (*of, *upto)).any(|(of, upto)| knows(of, upto))
        {
            return Some(at);
        }
        if let Some(writer) = source {
            deeds.entry(here).or_default().reads.push((place, writer));
            let upto = all.place[writer as usize];
            let theirs =
                seen.entry((record.session, recording.records[writer as usize].session)).or_default();
            *theirs = upto.max(*theirs);
        }
    }
    None
}
