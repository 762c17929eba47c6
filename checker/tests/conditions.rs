//! What conditional operations tell, and what they do to a time to live: files as clients of samara record them.

use samara_check::judge::{Demand, reader};
use std::fmt::Write as _;

/// The verdict on operations one after the other, a millisecond each: what is asked, and how it ends.
fn verdict(operations: &[(&str, &str)]) -> &'static str {
    let mut text = String::new();
    for (at, (asked, ended)) in operations.iter().enumerate() {
        let f = asked.split('"').nth(3).expect("f comes first");
        for (kind, fields) in [(r#""type":"invoke""#, *asked), ("", *ended)] {
            let time = at * 1_000_000 + if kind.is_empty() { 500_000 } else { 0 };
            let (kind, f) =
                if kind.is_empty() { ("", format!(r#""f":"{f}","#)) } else { (kind, String::new()) };
            let comma = if kind.is_empty() { "" } else { "," };
            let _written =
                writeln!(text, r#"{{"process":{at},"key":"k","time":{time},{f}{kind}{comma}{fields}}}"#);
        }
    }
    let judgement = reader(text.as_bytes(), "history", &Demand::default());
    judgement.unwrap_or_else(|bad| panic!("{bad}\n{text}")).word()
}

const PUT: (&str, &str) = (r#""f":"put","value":"a""#, r#""type":"ok""#);

#[test]
fn what_a_refused_operation_saw_must_have_been_there() {
    let cas = r#""f":"cas","value":["x","y"]"#;
    let absent = r#""f":"put_absent","value":"x""#;
    let present = r#""f":"put_present","value":"x""#;
    let delete = r#""f":"delete","when":{"equals":"x"}"#;
    let set = r#""f":"put","value":"z","when":"absent","ttl_ms":5"#;
    for (asked, fields, word) in [
        (cas, r#""type":"fail","error":"mismatch""#, "holds"),
        (cas, r#""type":"fail","error":"mismatch","observed":"a""#, "holds"),
        (cas, r#""type":"fail","error":"mismatch","observed":"b""#, "violated"),
        (cas, r#""type":"fail","error":"mismatch","observed":null"#, "violated"),
        (cas, r#""type":"fail","error":"mismatch","observed":"b","version":7"#, "violated"),
        (cas, r#""type":"fail","observed":"b""#, "violated"),
        (cas, r#""type":"fail","observed":null"#, "holds"),
        // With the value that it expects it is not refused.
        (cas, r#""type":"fail","error":"mismatch","observed":"x""#, "violated"),
        (absent, r#""type":"ok","value":false,"observed":"a""#, "holds"),
        (absent, r#""type":"ok","value":false,"observed":"b""#, "violated"),
        (absent, r#""type":"ok","value":false,"observed":null"#, "violated"),
        (present, r#""type":"ok","value":false,"observed":null"#, "violated"),
        (delete, r#""type":"ok","value":false,"observed":"a""#, "holds"),
        (delete, r#""type":"ok","value":false,"observed":"b""#, "violated"),
        (delete, r#""type":"fail","error":"mismatch","observed":"b""#, "violated"),
        (set, r#""type":"ok","value":false,"observed":"a""#, "holds"),
        (set, r#""type":"ok","value":false,"observed":"b""#, "violated"),
    ] {
        assert_eq!(verdict(&[PUT, (asked, fields)]), word, "{asked} {fields}");
    }
}

#[test]
fn what_a_cas_of_unknown_outcome_says_is_no_answer() {
    let cas = |end| (r#""f":"cas","value":["a","y"]"#, end);
    let read = |value| (r#""f":"get""#, value);
    let (old, new) = (r#""type":"ok","value":"a""#, r#""type":"ok","value":"y""#);
    let info = r#""type":"info","error":"mismatch","observed":"b""#;
    assert_eq!(verdict(&[PUT, cas(info), read(new)]), "holds", "it may have happened");
    assert_eq!(verdict(&[PUT, cas(info), read(old)]), "holds");
    let fail = r#""type":"fail","error":"mismatch","observed":"a""#;
    assert_eq!(verdict(&[PUT, cas(fail), read(new)]), "violated");
}

/// All operations on registers whose values are written once have versions, and what was refused saw another value than that of its version.
#[test]
fn versions_do_not_hide_what_was_seen() {
    let put = |value, version| {
        (format!(r#""f":"put","value":"{value}""#), format!(r#""type":"ok","version":{version}"#))
    };
    for (seen, word) in [("b", "holds"), ("a", "violated")] {
        let history = [
            put("a", 1),
            put("b", 2),
            (
                r#""f":"cas","value":["x","y"]"#.into(),
                format!(r#""type":"fail","error":"mismatch","observed":"{seen}","version":2"#),
            ),
        ];
        let history: Vec<(&str, &str)> =
            history.iter().map(|(asked, ended)| (asked.as_str(), ended.as_str())).collect();
        assert_eq!(verdict(&history), word, "{seen}");
    }
}

#[test]
fn a_cas_keeps_the_time_to_live_and_a_put_under_the_same_condition_ends_it() {
    let put = (r#""f":"put","value":"a","ttl_ms":3"#, r#""type":"ok""#);
    let cas = (r#""f":"cas","value":["a","b"]"#, r#""type":"ok""#);
    let lost = (r#""f":"cas","value":["a","b"]"#, r#""type":"info""#);
    let set = (r#""f":"put","value":"b","when":{"equals":"a"}"#, r#""type":"ok","value":true"#);
    let pause = (r#""f":"get""#, r#""type":"ok","value":"b""#);
    let gone = (r#""f":"get""#, r#""type":"ok","value":null"#);
    for (change, late, word) in [
        (cas, gone, "holds"),
        (cas, pause, "violated"),
        (lost, gone, "holds"),
        (lost, pause, "violated"),
        (set, gone, "violated"),
        (set, pause, "holds"),
    ] {
        assert_eq!(verdict(&[put, change, pause, pause, late]), word, "{change:?} {late:?}");
    }
    assert_eq!(verdict(&[PUT, cas, pause, pause, pause]), "holds", "what lives for good goes on to");
}

#[test]
fn a_persist_tells_whether_there_was_a_time_to_live() {
    let timed = (r#""f":"put","value":"a","ttl_ms":100"#, r#""type":"ok""#);
    let expire = (r#""f":"expire","ttl_ms":100"#, r#""type":"ok","value":true"#);
    let persist = |answer| (r#""f":"persist""#, answer);
    let (yes, no) = (r#""type":"ok","value":true"#, r#""type":"ok","value":false"#);
    let (one, zero) = (r#""type":"ok","value":1"#, r#""type":"ok","value":0"#);
    for (history, word) in [
        (vec![persist(no)], "holds"),
        (vec![persist(yes)], "violated"),
        (vec![PUT, persist(no)], "holds"),
        (vec![PUT, persist(zero)], "holds"),
        (vec![PUT, persist(yes)], "violated"),
        (vec![PUT, persist(one)], "violated"),
        (vec![timed, persist(yes)], "holds"),
        (vec![timed, persist(one)], "holds"),
        (vec![timed, persist(no)], "violated"),
        (vec![timed, persist(yes), persist(no)], "holds"),
        (vec![timed, persist(yes), persist(yes)], "violated"),
        (vec![PUT, expire, persist(yes)], "holds"),
        (vec![timed, PUT, persist(no)], "holds"),
        (vec![timed, PUT, persist(yes)], "violated"),
    ] {
        assert_eq!(verdict(&history), word, "{history:?}");
    }
}
