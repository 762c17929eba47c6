//! The command: exit codes, one line for bad input, the keys of the JSON, time limits.

use samara_check::generate::{Workload, Written, generate};
use samara_check::jsonl;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("samara-check-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("writable");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn run(arguments: &[&str], files: &[&Path]) -> Output {
    let command = Path::new(env!("CARGO_BIN_EXE_samara-check"));
    Command::new(command).args(arguments).args(files).output().expect("the checker runs")
}

fn history(lies: usize) -> String {
    jsonl::write(&generate(&Workload { operations: 300, clients: 6, lies, ..Workload::default() }).history())
}

const STALE: &str = r#"{"process":0,"type":"invoke","f":"put","key":"k","value":"a"}
{"process":0,"type":"ok","f":"put","key":"k"}
{"process":0,"type":"invoke","f":"get","key":"k","value":null}
{"process":0,"type":"ok","f":"get","key":"k","value":null}
"#;

#[test]
fn exit_codes_say_the_verdict() {
    let scratch = Scratch::new("codes");
    let good = scratch.file("good.jsonl", &history(0));
    let bad = scratch.file("bad.jsonl", &history(1));
    let broken = scratch.file("broken.jsonl", "{\"process\": 0, \"type\": \"invoke\"\n");
    let code = |arguments: &[&str], files: &[&Path]| run(arguments, files).status.code();
    assert_eq!(code(&[], &[&good]), Some(0));
    assert_eq!(code(&[], &[&bad]), Some(1));
    assert_eq!(code(&[], &[&good, &bad]), Some(1), "one violated file is enough");
    assert_eq!(code(&[], &[&broken]), Some(2));
    assert_eq!(code(&[], &[&scratch.0.join("absent")]), Some(2));
    assert_eq!(code(&["--level", "strict"], &[&good]), Some(2));
    assert_eq!(code(&["--timeout", "-1"], &[&good]), Some(2));
    assert_eq!(code(&["--timeout", "0"], &[&good]), Some(3));
    assert_eq!(code(&["--timeout", "60"], &[&good]), Some(0));
}

#[test]
fn every_level_keeps_to_its_time_and_says_what_was_decided() {
    let scratch = Scratch::new("timeouts");
    let file = scratch.file("good.jsonl", &history(0));
    for level in
        ["linearizable", "cc", "ccv", "cm", "causal", "session", "eventual", "read-atomic", "read-committed"]
    {
        let output = run(&["--level", level, "--timeout", "0", "--json"], &[&file]);
        assert_eq!(output.status.code(), Some(3), "{level}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(json["verdict"], "undecided", "{level}");
        let said =
            json["given_up"].is_string() || json["undecided"].as_array().is_some_and(|all| !all.is_empty());
        assert!(said, "{level}: {json}");
        assert_eq!(json["level"], level, "the name that was given");
        assert_eq!(run(&["--level", level], &[&file]).status.code(), Some(0), "{level}");
    }
}

#[test]
fn json_has_its_keys() {
    let scratch = Scratch::new("json");
    let output = run(&["--json"], &[&scratch.file("stale.jsonl", STALE)]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(
        (&json["verdict"], &json["operations"], &json["keys"]),
        (&"violated".into(), &2.into(), &1.into())
    );
    assert!(json["seconds"].is_f64());
    assert_eq!(json["counterexample"]["smallest"].as_array().map(Vec::len), Some(2), "{json}");
    assert!(json["counterexample"]["stuck"].as_str().is_some_and(|stuck| stuck.contains("absent")), "{json}");
    let output = run(&["--json"], &[&scratch.file("good.jsonl", &history(0))]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!((&json["verdict"], &json["counterexample"]), (&"holds".into(), &serde_json::Value::Null));
    assert_eq!(json["level"], "linearizable");
}

#[test]
fn a_violation_is_shown_in_the_terminal_and_as_a_page() {
    let scratch = Scratch::new("shown");
    let page = scratch.0.join("page.html");
    let file = scratch.file("stale.jsonl", STALE);
    let output = run(&["--html", &page.display().to_string()], &[&file]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("not linearizable") && text.contains("these 2 operations have no order"), "{text}");
    assert!(std::fs::read_to_string(&page).expect("the page").contains("<html"));
}

#[test]
fn an_empty_file_holds_and_is_said_to_be_empty() {
    let scratch = Scratch::new("empty");
    for level in ["linearizable", "ccv", "session", "eventual"] {
        let output = run(&["--level", level], &[&scratch.file("empty.jsonl", "")]);
        assert_eq!(output.status.code(), Some(0), "{level}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("there is no operation in it"), "{level}");
    }
}

#[test]
fn what_keys_hold_at_first_can_be_told() {
    let scratch = Scratch::new("init");
    let read = |value: &str| {
        format!(
            "{{:process 0 :type :invoke :f :get :key \"k\"}}\n{{:process 0 :type :ok :f :get :key \"k\" :value {value}}}\n"
        )
    };
    let table: [(&[&str], &str, i32); 5] = [
        (&["--nil", "absent"], "nil", 1),
        (&["--nil", "absent", "--init", "nil"], "nil", 0),
        (&[], "\"\"", 0),
        (&["--init", "nil"], "\"\"", 1),
        (&["--init", "7"], "7", 0),
    ];
    for (arguments, value, code) in table {
        let output = run(arguments, &[&scratch.file("init.edn", &read(value))]);
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {value}");
    }
}

#[test]
fn clients_may_have_names_and_the_nemesis_is_none() {
    let scratch = Scratch::new("names");
    let named = STALE.replace("\"process\":0", "\"process\":\"a client\"");
    assert_ne!(named, STALE);
    let nemesis = r#"{"process":"nemesis","type":"info","f":"start"}"#;
    let file = scratch.file("named.jsonl", &format!("{nemesis}\n{named}{nemesis}\n"));
    assert_eq!(run(&[], &[&file]).status.code(), Some(1));
}

#[test]
fn a_name_is_never_taken_for_a_number() {
    let scratch = Scratch::new("called");
    let put = |process: &str, value: u32| {
        let event =
            |kind| format!(r#"{{"process":{process},"type":"{kind}","f":"put","key":"k","value":{value}}}"#);
        (event("invoke"), event("ok"))
    };
    // Both are at work at the same time, and so they are two.
    let ((one, one_done), (two, two_done)) = (put("3", 1), put("\"3\"", 2));
    let ((three, three_done), (four, four_done)) = (put("\"a client\"", 3), put("2", 4));
    let read = r#"{"process":2,"type":"invoke","f":"get","key":"k"}"#;
    let done = r#"{"process":2,"type":"ok","f":"get","key":"k","value":9}"#;
    let text =
        [&one, &two, &one_done, &two_done, &three, &three_done, &four, &four_done, read, done].join("\n");
    let file = scratch.file("called.jsonl", &text);
    let page = scratch.0.join("called.html");
    let output = run(&["--html", &page.display().to_string()], &[&file]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let page = std::fs::read_to_string(page).expect("the page");
    for (name, value) in [("3", 1), ("\"3\"", 2), ("a client", 3), ("2", 4)] {
        assert!(said.contains(&format!("process {name} \"k\" put \"{value}\"")), "{name}: {said}");
    }
    assert!(
        page.contains(r#""row":"process \"3\"""#) && page.contains(r#""row":"process a client""#),
        "{page}"
    );
    // At the other levels sessions stand for processes.
    let stale = [&one, &one_done, &two, &two_done, &put("\"3\"", 5).0, &put("\"3\"", 5).1];
    let get = |value| {
        let event =
            |kind, value| format!(r#"{{"process":"3","type":"{kind}","f":"get","key":"k","value":{value}}}"#);
        [event("invoke", "null"), event("ok", value)].join("\n")
    };
    let text = format!("{}\n{}", stale.map(String::as_str).join("\n"), get("2"));
    let output = run(&["--level", "session", "--json"], &[&scratch.file("stale.jsonl", &text)]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["verdict"], "violated", "{json}");
    assert_eq!(json["counterexample"]["steps"][0]["session"], "session \"3\"", "{json}");
    assert!(
        json["counterexample"]["nodes"][0].as_str().is_some_and(|node| node.contains("process \"3\"")),
        "{json}"
    );
}

#[test]
fn updates_under_conditions_and_times_to_live_are_judged() {
    let scratch = Scratch::new("updates");
    let table = [
        ("put", r#""value":"a","ttl_ms":1000,"when":"absent""#, r#""value":true"#),
        ("persist", "", r#""value":true"#),
        ("put", r#""value":"b","when":"always""#, r#""old":"a""#),
        ("setrange", r#""value":[2,"zz"]"#, r#""value":4"#),
        ("expire", r#""ttl_ms":6"#, r#""value":true"#),
        ("put", r#""value":"c","keep_ttl":true"#, ""),
        ("delete", r#""when":{"equals":"d"}"#, r#""value":false"#),
    ];
    let field = |fields: &str| if fields.is_empty() { String::new() } else { format!(",{fields}") };
    let mut text = String::new();
    for (at, (f, asked, answered)) in table.iter().enumerate() {
        for (kind, fields, time) in
            [("invoke", asked, at * 2_000_000), ("ok", answered, at * 2_000_000 + 1_000_000)]
        {
            let fields = field(fields);
            let _ = writeln!(
                text,
                r#"{{"process":0,"type":"{kind}","f":"{f}","key":"k","time":{time}{fields}}}"#
            );
        }
    }
    // The time to live that was kept is over after the sixth millisecond behind the expire.
    for (time, value, code) in
        [(13_500_000, "\"c\"", 0), (15_500_000, "\"c\"", 1), (15_500_000, "null", 0), (13_500_000, "null", 1)]
    {
        let read = format!(
            "{{\"process\":0,\"type\":\"invoke\",\"f\":\"get\",\"key\":\"k\",\"time\":{time}}}\n{{\"process\":0,\"type\":\"ok\",\"f\":\"get\",\"key\":\"k\",\"time\":{},\"value\":{value}}}\n",
            time + 10
        );
        let file = scratch.file("updates.jsonl", &format!("{text}{read}"));
        let output = run(&[], &[&file]);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{value} at {time}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

/// Operations one after the other, by one client.
fn row(operations: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (f, value) in operations {
        let asked = if *f == "get" { "null" } else { value };
        let _ = writeln!(text, r#"{{"process":0,"type":"invoke","f":"{f}","key":"k","value":{asked}}}"#);
        let _ = writeln!(text, r#"{{"process":0,"type":"ok","f":"{f}","key":"k","value":{value}}}"#);
    }
    text
}

#[test]
fn what_is_read_is_shown_with_its_last_write_and_with_what_overwrote_that() {
    let scratch = Scratch::new("overwritten");
    let text = row(&[
        ("put", "2"),
        ("put", "1"),
        ("get", "1"),
        ("put", "2"),
        ("put", "1"),
        ("put", "3"),
        ("get", "2"),
    ]);
    let output = run(&["--json"], &[&scratch.file("repeated.jsonl", &text)]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    let smallest: Vec<&str> = json["counterexample"]["smallest"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|line| line.as_str())
        .collect();
    let ends = ["put \"2\" -> ok", "put \"3\" -> ok", "get -> \"2\""];
    assert_eq!(smallest.len(), ends.len(), "{smallest:?}");
    assert!(smallest.iter().zip(ends).all(|(line, end)| line.ends_with(end)), "{smallest:?}");
    assert!(smallest[0].starts_with("[7..8]"), "the last write of what was read: {smallest:?}");
}

#[test]
fn bad_input_is_named_by_file_line_and_column() {
    let scratch = Scratch::new("bad");
    let invoke = r#"{"process":0,"type":"invoke","f":"get","key":"k"}"#;
    let table: [(&str, &str, String, &str); 11] = [
        ("cut.jsonl", "jsonl", format!("{invoke}\n{{\"process\":1,"), ":2:14: "),
        (
            "word.jsonl",
            "jsonl",
            format!("{invoke}\n{{\"process\":1,\"type\":\"begin\"}}"),
            ":2:21: type is not",
        ),
        ("time.jsonl", "jsonl", "{\"process\":0,\"time\":\"noon\"}".into(), ":1:21: time is"),
        ("twice.jsonl", "jsonl", format!("{invoke}\n{invoke}\n"), ":2:1: process 0 invokes while"),
        (
            "early.jsonl",
            "jsonl",
            r#"{"process":0,"type":"ok","f":"get","key":"k"}"#.into(),
            ":1:1: process 0 completes",
        ),
        (
            "f.jsonl",
            "jsonl",
            r#"{"process":0,"type":"invoke","f":"pop","key":"k"}"#.into(),
            "is none of get, put",
        ),
        ("map.edn", "edn", "[{:process 0 :type}]".into(), ":1:19: expected a form"),
        (
            "open.edn",
            "edn",
            "[{:process 0,\n :type :invoke".into(),
            ": the map that begins here does not end",
        ),
        ("log.log", "etcd-log", "INFO  jepsen.util - 0\t:begin\t:read\tnil\n".into(), ":1:"),
        (
            "when.jsonl",
            "jsonl",
            r#"{"process":0,"type":"invoke","f":"put","key":"k","value":1,"when":"once"}"#.into(),
            ":1:58: \"when\" is always",
        ),
        ("awdit.txt", "awdit", "w 1 1\nx 1 1\n".into(), ":2:1: an access begins with w or r"),
    ];
    for (name, format, text, words) in table {
        let file = scratch.file(name, &text);
        let output = run(&["--format", format], &[&file]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.starts_with(&file.display().to_string()) && said.contains(words), "{name}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
        assert!(output.stdout.is_empty(), "{name}");
    }
}

#[test]
fn transactions_and_single_operations_are_not_mixed() {
    let scratch = Scratch::new("mixed");
    let single = r#"{"process":0,"type":"invoke","f":"put","key":"k","value":1}"#;
    let whole = r#"{"process":1,"type":"invoke","f":"txn","value":[["w","k",1]]}"#;
    for text in [format!("{single}\n{whole}\n"), format!("{whole}\n{single}\n")] {
        let output = run(&[], &[&scratch.file("mixed.jsonl", &text)]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(":2:1: transactions and single"));
    }
}

#[test]
fn repeated_values_are_decided_within_the_steps_that_are_allowed_by_default() {
    let scratch = Scratch::new("repeated");
    let workload = Workload { operations: 3_000, written: Written::Pool(100), ..Workload::default() };
    let file = scratch.file("pool.jsonl", &jsonl::write(&generate(&workload).history()));
    assert_eq!(run(&["--threads", "1"], &[&file]).status.code(), Some(0));
}
