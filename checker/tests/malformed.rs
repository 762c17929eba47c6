//! Any bytes: readers answer with a history or with a place, and never panic. Mutations of good files of each format, by seeds.

use samara_check::formats::{self, Format, Reading};
use samara_check::generate::{Random, Workload, generate};
use samara_check::jsonl;
use samara_check::judge::{Demand, loaded_history};
use samara_check::linearizability::Options;
use std::io::Read;

const EDN: &str = "; a comment\n[{:process 0, :type :invoke, :f :write, :value 1, :index 0}\n {:process 0 :type :ok :f :write :value 1}\n\
    #_ {:skipped true} {:process 1, :type :invoke, :f :cas, :value [1 2]}\n {:process 1, :type :info, :f :cas, :value [1 2]}\n\
    {:process :nemesis, :type :info, :f :start}\n {:process 2, :type :invoke, :f :read, :value nil}\n\
    {:process 2, :type :ok, :f :read, :value \"\\u0041\\n\"}]\n";
const ELLE: &str = "{:type :invoke, :f :txn, :value [[:w :x 1] [:r :y nil]], :process 0}\n\
    {:type :ok, :f :txn, :value [[:w :x 1] [:r :y 2]], :process 0}\n";
const LOG: &str = "INFO  jepsen.util - 0\t:invoke\t:write\t3\nINFO  jepsen.util - 1\t:invoke\t:read\tnil\n\
    INFO  jepsen.util - 0\t:ok\t:write\t3\nINFO  jepsen.util - 1\t:ok\t:read\t3\n\
    INFO  jepsen.util - 1\t:invoke\t:cas\t[3 4]\nINFO  jepsen.util - 1\t:fail\t:cas\t[3 4]\n";
const AWDIT: &str = "w 1 1\nr 2 2\n-----\nr 1 1\n=====\nw 2 2\n-----\n";
/// What is put in at random places, besides single bytes.
const PIECES: [&str; 14] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\n",
    "\t:",
    "#_",
    "nil",
    "\\ud800",
    "99999999999999999999",
    "-----",
    "{\"base64\":\"!\"}",
];

/// Gives a text in pieces of a few bytes, as a pipe may.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let length = self.1.min(self.0.len()).min(into.len());
        into[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

fn mutate(random: &mut Random, text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() as u64 + 1) as usize;
        let end = (at + random.below(20) as usize).min(text.len());
        match random.below(6) {
            0 => text.truncate(at),
            1 => drop(text.drain(at..end)),
            2 if at < text.len() => text[at] = random.draw() as u8,
            3 => {
                let piece = PIECES[random.below(PIECES.len() as u64) as usize];
                text.splice(at..at, piece.bytes());
            }
            4 => {
                let copy = text[at..end].to_vec();
                text.splice(at..at, copy);
            }
            _ => text.insert(at, random.draw() as u8),
        }
    }
    text
}

/// A line or a form that does not end is refused before it fills the memory.
#[test]
fn what_does_not_end_is_refused_in_bounded_memory() {
    let beginnings = [
        (Format::Jsonl, r#"{"process":0,"x":""#),
        (Format::Json, r#"[{"process":0,"x":""#),
        (Format::Json, r#"[{"process":0,"x":[1,"#),
        (Format::Edn, "[{:process 0 :x \""),
        (Format::Edn, "[{:process 0 ;"),
        (Format::Edn, "[{:process 0 #_ \""),
        (Format::EtcdLog, "INFO  jepsen.util - 0\t:invoke\t:write\t"),
        (Format::Awdit, "w 1 "),
    ];
    for (format, beginning) in beginnings {
        let mut given = Endless { left: beginning.as_bytes(), bytes: 0 };
        let bad = formats::read(&mut given, Some(format), &Reading::default()).expect_err("it does not end");
        assert!(bad.reason.contains("is longer than"), "{format:?}: {bad}");
        assert!(given.bytes < 200 << 20, "{format:?}: {} bytes were read", given.bytes);
    }
}

/// A beginning, and then one byte for ever.
struct Endless<'a> {
    left: &'a [u8],
    bytes: usize,
}

impl Read for Endless<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let length = self.left.len().min(into.len());
        into[..length].copy_from_slice(&self.left[..length]);
        self.left = &self.left[length..];
        into[length..].fill(b'1');
        self.bytes += into.len();
        Ok(into.len())
    }
}

#[test]
fn mutated_files_are_read_or_refused_with_a_place() {
    let own = jsonl::write(
        &generate(&Workload { operations: 20, clients: 3, lies: 1, ..Workload::default() }).history(),
    );
    let json = format!("[{}]", own.trim().replace('\n', ","));
    let samples = [
        (Format::Jsonl, own.as_str()),
        (Format::Json, json.as_str()),
        (Format::Edn, EDN),
        (Format::Edn, ELLE),
        (Format::EtcdLog, LOG),
        (Format::Awdit, AWDIT),
    ];
    let demand = Demand { options: Options { steps_max: 20_000, ..Options::default() }, ..Demand::default() };
    let (mut good, mut refused) = (0, 0);
    for (at, (format, text)) in samples.into_iter().enumerate() {
        formats::read(text.as_bytes(), None, &Reading::default())
            .unwrap_or_else(|bad| panic!("{format:?}: {bad}"));
        for seed in 0..1_500 {
            let mut random = Random(seed * 8 + at as u64);
            let text = mutate(&mut random, text.as_bytes());
            let told = (seed % 2 == 0).then_some(format);
            let reading = Reading { independent: seed % 7 == 0, ..Reading::default() };
            let read = formats::read(text.as_slice(), told, &reading);
            if seed % 3 == 0 {
                let pieces = formats::read(Trickle(&text, seed as usize % 5 + 1), told, &reading);
                assert_eq!(format!("{pieces:?}"), format!("{read:?}"), "seed {seed}");
            }
            match read {
                Ok(loaded) => {
                    good += 1;
                    // What could be read can be judged.
                    let _judged = loaded_history(&loaded, &demand);
                }
                Err(bad) => {
                    refused += 1;
                    let lines = text.split(|byte| *byte == b'\n').count();
                    assert!((1..=lines).contains(&bad.line), "seed {seed}: {bad} of {lines} lines");
                    assert!(bad.column >= 1 && !bad.reason.is_empty(), "seed {seed}: {bad}");
                }
            }
        }
    }
    assert!(good > 1_000 && refused > 1_000, "{good} read, {refused} refused");
}

#[test]
fn completions_of_another_operation_and_objects_as_values_are_refused() {
    let read = |done: &str| {
        let text = format!(
            "{{\"time\":1,\"process\":0,\"type\":\"invoke\",\"f\":\"put\",\"key\":\"k\",\"value\":\"a\"}}\n\
             {{\"time\":2,\"process\":0,{done}}}\n"
        );
        formats::read(text.as_bytes(), None, &Reading::default()).map(|_| ())
    };
    for good in [
        r#""type":"ok","f":"put","key":"k","value":"a""#,
        r#""type":"ok","f":"put""#,
        r#""type":"ok","f":"put","key":"k","value":{"base64":"YQ=="}"#,
        r#""type":"info","f":"put","key":"k","value":"timed-out""#,
    ] {
        read(good).unwrap_or_else(|bad| panic!("{good}: {bad}"));
    }
    for (done, words) in [
        (r#""type":"ok","f":"put","key":"k","value":"b""#, "invoked with \"a\""),
        (r#""type":"ok","f":"put","key":"j","value":"a""#, "invoked on \"k\""),
        (r#""type":"ok","f":"put","key":"k","value":{"base64":"!!"}"#, "an object is no value"),
        (r#""type":"ok","f":"put","key":{"a":1},"value":"a""#, "an object is no value"),
    ] {
        let bad = read(done).expect_err(done);
        assert!(bad.line == 2 && bad.reason.contains(words), "{done}: {bad}");
    }
}

/// Where a file is refused, and why; nothing when it is read.
fn refused(text: &str, reading: &Reading) -> Option<(usize, usize, String)> {
    formats::read(text.as_bytes(), None, reading).err().map(|bad| (bad.line, bad.column, bad.reason))
}

#[test]
fn an_operation_says_its_key_and_what_it_writes() {
    let good = r#"{"process":9,"type":"invoke","f":"get","key":1}"#;
    let array = "an array is no value";
    for (fields, named, words) in [
        (r#""f":"put","value":"a""#, "", "\"key\" is missing"),
        (r#""f":"get""#, "", "\"key\" is missing"),
        (r#""f":"delete","key":null"#, "key", "a key is a string or a number"),
        (r#""f":"get","key":["a"]"#, "key", array),
        (r#""f":"get","key":{"a":1}"#, "key", "an object is no value"),
        (r#""f":"put","key":"k""#, "", "put without a value"),
        (r#""f":"put","key":"k","value":null"#, "value", "put without a value"),
        (r#""f":"put","key":"k","value":["a"]"#, "value", array),
        (r#""f":"put","key":"k","value":null,"when":"absent""#, "value", "put without a value"),
        (r#""f":"put_absent","key":"k""#, "", "put_absent without a value"),
        (r#""f":"append","key":"k","value":null"#, "value", "append without a value"),
        (r#""f":"append","key":"k","value":[1]"#, "value", array),
        (r#""f":"cas","key":"k","value":["a",null]"#, "value", "a cas writes a value"),
        (r#""f":"cas","key":"k","value":[["a"],"b"]"#, "value", array),
        (r#""f":"setrange","key":"k","value":[0,null]"#, "value", "the value of a setrange"),
        (r#""f":"put","key":"k","value":1,"when":{"equals":null}"#, "value", "\"when\" is always"),
        (r#""f":"txn","value":[["w",["k"],1]]"#, "value", array),
        (r#""f":"txn","value":[["w","k",[1]]]"#, "value", array),
        (r#""f":"txn","value":[["r",null,null]]"#, "value", "a key is a string or a number"),
    ] {
        let event = format!(r#"{{"process":0,"type":"invoke",{fields}}}"#);
        let txn = fields.contains("txn");
        // Columns count from 1; where nothing is named it is the line as a whole.
        let named = format!("\"{named}\":");
        let column = event.find(&named).map_or(1, |at| at + named.len() + 1);
        let text = if txn { format!("\n{event}") } else { format!("{good}\n{event}") };
        let (line, at, reason) = refused(&text, &Reading::default()).expect(fields);
        assert_eq!((line, at), (2, column), "{fields}: {reason}");
        assert!(reason.contains(words), "{fields}: {reason}");
        // The same in an array of events.
        let text = if txn { format!("[\n{event}]") } else { format!("[{good},\n{event}]") };
        let (line, at, reason) = refused(&text, &Reading::default()).expect(fields);
        assert_eq!((line, at), (2, column), "{fields}: {reason}");
    }
    let done = r#"{"process":9,"type":"ok","f":"get","key":1,"value":[1]}"#;
    let (line, _, reason) = refused(&format!("{good}\n{done}"), &Reading::default()).expect("an array");
    assert!(line == 2 && reason.contains(array), "{reason}");
}

#[test]
fn a_register_needs_no_key() {
    let register = Reading { register: true, ..Reading::default() };
    let keyless = "{\"process\":0,\"type\":\"invoke\",\"f\":\"put\",\"value\":1}\n";
    let keyed = "{\"process\":1,\"type\":\"invoke\",\"f\":\"put\",\"key\":2,\"value\":1}\n";
    assert_eq!(refused(keyless, &register), None);
    assert_eq!(refused(keyed, &register), None);
    let (line, column, reason) = refused(&format!("{keyless}{keyed}"), &register).expect("mixed");
    assert!(
        (line, column) == (2, 46) && reason.contains("operations before it do not"),
        "{line}:{column} {reason}"
    );
    for (text, words) in [
        (
            "{:process 0 :type :invoke :f :write :value 1}\n{:process 1 :type :invoke :f :write :value nil}",
            "",
        ),
        ("{:process 0 :type :invoke :f :write}", "write without a value"),
        (
            "{:process 0 :type :invoke :f :put :key \"k\" :value 1}\n{:process 1 :type :invoke :f :get}",
            "is missing",
        ),
        ("{:process 0 :type :invoke :f :cas :value [1 nil]}", "a cas writes a value"),
    ] {
        let reason = refused(text, &Reading::default()).map(|(_, _, reason)| reason).unwrap_or_default();
        assert!(
            if words.is_empty() { reason.is_empty() } else { reason.contains(words) },
            "{text}: {reason}"
        );
    }
}
