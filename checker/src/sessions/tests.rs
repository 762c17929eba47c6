//! What is found quickly is what is found by looking at every read closely.

use super::Sessions;
use crate::formats::{Loaded, Reading, read};
use proptest::prelude::*;
use std::fmt::Write;

/// A read or a write: session, key, whether it writes, how far back it reads, and whether a reply is lost.
type Deed = (u8, u8, bool, u8, bool);

/// A history in which reads see what was written so many writes of the key ago; `versions` at every how-manieth write, 0 for none.
fn history(deeds: &[Deed], versions: u64) -> String {
    let (mut text, mut written) = (String::new(), vec![Vec::new(); 4]);
    for (at, (session, key, writes, back, is_lost)) in deeds.iter().enumerate() {
        let (key, time) = (usize::from(*key % 4), at * 10);
        let (f, value) = if *writes {
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
        prop_assert_eq!(find(true), find(false), "{}", text);
    }
}
