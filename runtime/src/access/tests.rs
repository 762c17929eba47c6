//! Rules and what they allow, as tables.

use super::*;
use crate::access::Denied;
use crate::commands::{Found, lookup};
use crate::resp::Args;
use std::ops::Range;

/// A request of words with a space between.
fn with_call<T>(line: &str, then: impl FnOnce(Found, &Args<'_>) -> T) -> T {
    let mut at = 0;
    let ranges: Vec<Range<usize>> = line
        .split(' ')
        .map(|word| {
            at += word.len() + 1;
            at - word.len() - 1..at - 1
        })
        .collect();
    let a = Args::new(line.as_bytes(), &ranges);
    then(lookup(&a).unwrap_or_else(|error| panic!("{line}: {error:?}")), &a)
}

fn user(rules: &str) -> User {
    let mut table = Table::default();
    let rules: Vec<&[u8]> = rules.split(' ').map(str::as_bytes).collect();
    table.set(b"u", &rules).unwrap_or_else(|text| panic!("{}", String::from_utf8_lossy(&text)));
    (*table.named(b"u").expect("it was made").user).clone()
}

fn check(user: &User, line: &str) -> Result<(), Denied> {
    with_call(line, |found, a| user.check(found, a))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const NO: Result<(), Denied> = Err(Denied::Command);

fn no_key(at: usize) -> Result<(), Denied> {
    Err(Denied::Key(at))
}

#[test]
fn rules_on_commands_count_in_their_order() {
    let table = [
        ("~* +@all", "FLUSHALL", Ok(())),
        ("~*", "GET k", NO),
        ("~* +get", "GET k", Ok(())),
        ("~* +GET -get", "GET k", NO),
        ("~* -get +get", "GET k", Ok(())),
        ("~* +@all -get", "GET k", NO),
        ("~* +@all -get", "SET k v", Ok(())),
        ("~* -get +@all", "GET k", Ok(())),
        ("~* +@read", "GET k", Ok(())),
        ("~* +@read", "SET k v", NO),
        ("~* +@read -@string", "GET k", NO),
        ("~* +@read -@string", "TTL k", Ok(())),
        ("~* -@string +@read", "GET k", Ok(())),
        ("~* +@all -@dangerous", "KEYS *", NO),
        ("~* +@all -@dangerous", "CONFIG GET save", NO),
        ("~* +@all -@dangerous", "CLIENT LIST", NO),
        ("~* +@all -@dangerous", "CLIENT ID", Ok(())),
        ("+config", "CONFIG GET save", Ok(())),
        ("+config -config|set", "CONFIG SET a b", NO),
        ("+config -config|set", "CONFIG GET save", Ok(())),
        ("+config|get", "CONFIG GET save", Ok(())),
        ("+config|get", "CONFIG SET a b", NO),
        ("+config|get -config", "CONFIG GET save", NO),
        ("+select|0", "SELECT 0", Ok(())),
        ("+select|0", "SELECT 1", NO),
        ("+select|0 -select", "SELECT 0", NO),
        ("+select|0 -@all", "SELECT 0", NO),
        ("~* allcommands nocommands", "GET k", NO),
        // Whoever wants to come in may always try, and leave.
        ("-@all", "AUTH x y", Ok(())),
        ("-@all", "HELLO 3", Ok(())),
        ("-@all", "QUIT", Ok(())),
        ("-@all", "RESET", Ok(())),
        ("-@all", "PING", NO),
        ("-@all", "ACL WHOAMI", NO),
        ("+acl|whoami", "ACL WHOAMI", Ok(())),
        ("+acl|whoami", "ACL SETUSER x", NO),
    ];
    for (rules, line, expected) in table {
        assert_eq!(check(&user(rules), line), expected, "{rules}: {line}");
    }
}

#[test]
fn keys_are_judged_by_what_a_command_does_with_them() {
    let table = [
        ("+@all ~a*", "GET ab", Ok(())),
        ("+@all ~a*", "GET b", no_key(1)),
        ("+@all ~a*", "MGET a ab b", no_key(3)),
        ("+@all ~a*", "MSET a 1 b 2", no_key(3)),
        ("+@all ~a*", "MSET a b ab b", Ok(())),
        ("+@all ~a*", "MSETNX a 1 b 2", no_key(3)),
        ("+@all ~a*", "DEL a b", no_key(2)),
        ("+@all ~a*", "RENAME a b", no_key(2)),
        ("+@all ~a*", "RENAME b a", no_key(1)),
        ("+@all ~a*", "COPY a b", no_key(2)),
        ("+@all ~a*", "OBJECT ENCODING b", no_key(2)),
        ("+@all ~a*", "MEMORY USAGE b", no_key(2)),
        ("+@all ~a*", "CAS b 1 2", no_key(1)),
        ("+@all ~a*", "META b", no_key(1)),
        ("+@all ~a*", "PING b", Ok(())),
        ("+@all ~a*", "SCAN 0", Ok(())),
        ("+@all ~a*", "KEYS *", Ok(())),
        ("+@all ~a*", "FLUSHALL", Ok(())),
        ("+@all %R~a %W~b", "GET a", Ok(())),
        ("+@all %R~a %W~b", "GET b", no_key(1)),
        ("+@all %R~a %W~b", "SET a v", no_key(1)),
        ("+@all %R~a %W~b", "SET b v", Ok(())),
        ("+@all %R~a %W~b", "SET b v GET", no_key(1)),
        ("+@all %R~a %W~b", "SET b v IFEQ w", no_key(1)),
        ("+@all %R~a %W~b", "GETSET b v", no_key(1)),
        ("+@all %R~a %W~b", "INCR b", no_key(1)),
        ("+@all %R~a %W~b", "APPEND b v", Ok(())),
        ("+@all %R~a %W~b", "DEL b", Ok(())),
        ("+@all %R~a %W~b", "GETDEL b", no_key(1)),
        ("+@all %R~a %W~b", "EXISTS a", Ok(())),
        ("+@all %R~a %W~b", "EXISTS b", Ok(())),
        ("+@all %R~a %W~b", "EXISTS c", no_key(1)),
        ("+@all %R~a %W~b", "COPY a b", Ok(())),
        ("+@all %R~a %W~b", "COPY b a", no_key(1)),
        ("+@all %R~a %W~b", "RENAME a b", no_key(1)),
        ("+@all %R~a %W~a", "INCR a", Ok(())),
        ("+@all ~a resetkeys ~b", "GET a", no_key(1)),
        ("+@all allkeys", "GET a", Ok(())),
        // Names are told to whoever may walk; values only to whoever may read all of them.
        ("+@all ~a*", "RANGE - +", Ok(())),
        ("+@all ~a*", "RANGE - + VALUES", no_key(1)),
        ("+@all ~a*", "RANGE [a (b LIMIT 9 values", Ok(())),
        ("+@all ~a*", "RANGE [a [b VALUES", no_key(1)),
        ("+@all %W~*", "RANGE - + VALUES", no_key(1)),
        ("+@all %R~*", "RANGE - + VALUES", Ok(())),
        ("+@all", "RANGE [a (b VALUES", no_key(1)),
    ];
    for (rules, line, expected) in table {
        assert_eq!(check(&user(rules), line), expected, "{rules}: {line}");
    }
}

#[test]
fn a_request_is_allowed_where_one_selector_allows_the_whole_of_it() {
    let two = user("+get ~a (+set ~b) (+del %R~c)");
    let table = [
        ("GET a", Ok(())),
        ("SET b v", Ok(())),
        ("SET a v", no_key(1)),
        ("GET b", no_key(1)),
        ("DEL c", no_key(1)),
        ("INCR a", NO),
    ];
    for (line, expected) in table {
        assert_eq!(check(&two, line), expected, "{line}");
    }
    assert_eq!(two.selectors().len(), 3);
    assert_eq!(user("( +get ~a ) clearselectors").selectors().len(), 1);
    assert!(user("(+@all ~*)").may_do_everything() && !user("+@all (~*)").may_do_everything());
}

#[test]
fn what_is_told_of_a_user_makes_the_same_user_again() {
    let hash = Password::of(b"x").text();
    let table = [
        ("", "off sanitize-payload resetchannels -@all".to_string()),
        ("on nopass", "on nopass sanitize-payload resetchannels -@all".into()),
        ("on >x >x", format!("on sanitize-payload #{hash} resetchannels -@all")),
        ("nopass >x", format!("off sanitize-payload #{hash} resetchannels -@all")),
        (">x nopass", "off nopass sanitize-payload resetchannels -@all".into()),
        (">x <x", "off sanitize-payload resetchannels -@all".into()),
        ("ON ~a* %R~b +GET +@READ", "on sanitize-payload ~a* %R~b resetchannels -@all +get +@read".into()),
        ("%R~b %W~b", "off sanitize-payload ~b resetchannels -@all".into()),
        ("+get +@read -get", "off sanitize-payload resetchannels -@all +@read -get".into()),
        (
            "+config|get +select|0 -config",
            "off sanitize-payload resetchannels -@all +select|0 -config".into(),
        ),
        ("+@all -get +@all -set", "off sanitize-payload resetchannels +@all -set".into()),
        ("allkeys allchannels +@all", "off sanitize-payload ~* &* +@all".into()),
        ("&a &b &a", "off sanitize-payload resetchannels &a &b -@all".into()),
        ("on >x ~a +@all reset", "off sanitize-payload resetchannels -@all".into()),
        (
            "+get ~a (+set ~b)",
            "off sanitize-payload ~a resetchannels -@all +get (~b resetchannels -@all +set)".into(),
        ),
        ("skip-sanitize-payload", "off skip-sanitize-payload resetchannels -@all".into()),
    ];
    for (rules, told) in table {
        let made = user(rules);
        assert_eq!(text(&made.describe()), told, "{rules}");
        let again = parse_file(&made.line()).unwrap_or_else(|reason| panic!("{told}: {reason}"));
        assert_eq!(text(&again[0].line()), text(&made.line()), "{rules}");
    }
    let open = Table::default();
    assert_eq!(text(&open.file()), "user default on nopass sanitize-payload ~* &* +@all\n");
}

#[test]
fn a_change_that_is_refused_changes_nothing() {
    let table = [
        ("x", "foo", "Error in ACL SETUSER modifier 'foo': Syntax error"),
        ("x", "on +nope", "Error in ACL SETUSER modifier '+nope': Unknown command or category name in ACL"),
        ("x", "+@nope", "Unknown command or category"),
        ("x", "+config|nope", "Unknown command or category"),
        ("x", "-select|0", "Unknown command or category"),
        ("x", "+config|get|x", "Allowing first-arg of a subcommand is not supported"),
        ("x", "+select|", "Syntax error"),
        ("x", "~* ~a", "Adding a pattern after the * pattern (or the 'allkeys' flag)"),
        ("x", "&* &a", "Adding a pattern after the * pattern (or the 'allchannels' flag)"),
        ("x", "%X~a", "Syntax error"),
        ("x", "<none", "The password you are trying to remove from the user does not exist"),
        ("x", "#abc", "The password hash must be exactly 64 characters"),
        ("x", "(+get", "Unmatched parenthesis in acl selector starting at '(+get'."),
        ("x", "(+get on)", "Syntax error"),
        ("a b", "on", "Usernames can't contain spaces or null characters"),
        ("a\0b", "on", "Usernames can't contain spaces or null characters"),
    ];
    for (name, rules, expected) in table {
        let mut users = Table::default();
        let rules: Vec<&[u8]> = rules.split(' ').map(str::as_bytes).collect();
        let error = users.set(name.as_bytes(), &rules).expect_err(expected);
        assert!(text(&error).contains(expected), "{}", text(&error));
        assert_eq!(users.iter().count(), 1, "{name} was made");
    }
}

#[test]
fn limits_hold() {
    let mut users = Table::default();
    let many: Vec<Vec<u8>> = (0..2_000).map(|number| format!("~k{number}").into_bytes()).collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    assert!(users.set(b"x", &many).is_err_and(|error| text(&error).contains("At most 1000")));
    let many: Vec<Vec<u8>> = (0..200).map(|number| format!(">p{number}").into_bytes()).collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    assert!(users.set(b"x", &many).is_err_and(|error| text(&error).contains("At most 100")));
    assert!(users.set(b"x", &[&b"()"[..]; 200]).is_err_and(|error| text(&error).contains("At most 100")));
    assert!(users.set(&[b'n'; 2_000], &[]).is_err());
}

#[test]
fn only_the_right_name_and_password_come_in() {
    let mut users = Table::default();
    users.set(b"a", &[b"on", b">one", b">two"]).expect("good rules");
    users.set(b"b", &[b"off", b">one"]).expect("good rules");
    users.set(b"c", &[b"on"]).expect("good rules");
    users.set(b"d", &[b"on", b"nopass"]).expect("good rules");
    let table = [
        ("a", "one", true),
        ("a", "two", true),
        ("a", "three", false),
        ("a", "", false),
        ("A", "one", false),
        ("b", "one", false),
        ("c", "", false),
        ("d", "anything", true),
        ("none", "one", false),
        ("none", "", false),
        // The default user has no password: any is right for it, under its own name only.
        ("default", "x", true),
        ("", "x", false),
    ];
    for (name, password, expected) in table {
        let admitted = users.admit(name.as_bytes(), password.as_bytes());
        let name_of = admitted.map(|entry| text(entry.user.name()));
        assert_eq!(name_of, expected.then(|| name.to_string()), "{name} {password}");
    }
}

#[test]
fn a_user_that_is_made_again_is_another() {
    let mut users = Table::default();
    users.set(b"a", &[b"on"]).expect("good rules");
    let serial = |users: &Table, name: &[u8]| users.named(name).map(|entry| entry.serial);
    let first = serial(&users, b"a");
    users.set(b"a", &[b"off"]).expect("good rules");
    assert_eq!(serial(&users, b"a"), first, "a change");
    assert!(users.remove(b"a") && !users.remove(b"a"));
    users.set(b"a", &[b"off"]).expect("good rules");
    assert_ne!(serial(&users, b"a"), first);

    users.set(b"b", &[b"on"]).expect("good rules");
    let before = [serial(&users, b"default"), serial(&users, b"a"), serial(&users, b"b")];
    let file = [&users.file()[..], b"user c on\n"].concat();
    let file = text(&file).replace("user b on", "user b on nopass");
    users.replace(parse_file(file.as_bytes()).expect("a good file"));
    assert_eq!(serial(&users, b"default"), before[0], "always the same");
    assert_eq!(serial(&users, b"a"), before[1], "as it was");
    assert_ne!(serial(&users, b"b"), before[2], "changed");
    assert!(serial(&users, b"c").is_some());
    users.replace(Vec::new());
    assert_eq!(text(&users.file()), "user default on nopass sanitize-payload ~* &* +@all\n");
}

#[test]
fn a_bad_file_is_refused_with_its_line() {
    let table = [
        ("user a on\nuser", "line 2: a line is `user NAME rule...`"),
        ("\n\nusers a on", "line 3: a line is"),
        ("user a on\nuser a off", "line 2: user a is defined twice"),
        ("user a +nope", "line 1: user a: rule +nope: Unknown command or category"),
        ("user a on foo", "line 1: user a: rule foo: Syntax error; rules are words"),
        ("user a on (+get", "line 1: user a: \"(+get\" begins a selector that no ) ends"),
        ("user a on <secret", "rule <***: The password you are trying to remove"),
    ];
    for (file, expected) in table {
        let reason = parse_file(file.as_bytes()).expect_err(expected);
        assert!(reason.starts_with(expected) || reason.contains(expected), "{file:?}: {reason}");
        assert!(!reason.contains("secret"), "{reason}");
    }
    let good = "# who may do what\n\n  user a  on >x ~* \t+@all\r\nuser b off (+get ~a) ( +set ~b )\n";
    let users = parse_file(good.as_bytes()).expect("a good file");
    assert_eq!(users.len(), 2);
    assert!(users[0].accepts(Password::of(b"x")) && users[1].selectors().len() == 3);
}
