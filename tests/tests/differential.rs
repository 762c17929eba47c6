//! The same commands to a node and to a real Redis server: every reply must be the same, byte for byte, in RESP2 and in RESP3;
//! and after bytes that break the protocol, too. Where this build means to differ (Valkey 8 words it differently from the
//! server at hand, or a limit is smaller) the table says what it answers instead.

mod differential_table;
mod support;

use differential_table::{ACL, APPROXIMATE, COMMANDS, DIFFERENT, Draw, FAMILIES, RAW};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::{Cluster, Scratch, free_ports, wait_for};

/// A Redis server that goes with the test.
struct Redis {
    process: Child,
    port: u16,
    _data: Scratch,
}

impl Redis {
    /// `None` where none is installed.
    fn start() -> Option<Self> {
        let (data, port) = (Scratch::new("redis"), free_ports(1)[0]);
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"])
            .arg(&data.0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let redis = Self { process, port, _data: data };
        wait_for("redis-server", || support::connect(port).map(|_| ()));
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A connection that gives replies as they are on the wire.
struct Wire(BufReader<TcpStream>);

impl Wire {
    fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server is up");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&request).expect("sent");
        let mut reply = Vec::new();
        self.reply(&mut reply);
        reply
    }

    /// Appends one whole reply.
    fn reply(&mut self, reply: &mut Vec<u8>) {
        let start = reply.len();
        self.0.read_until(b'\n', reply).expect("a reply");
        let line = String::from_utf8_lossy(&reply[start..]).into_owned();
        let number = || line[1..].trim_end().parse::<i64>().unwrap_or(-1);
        match line.as_bytes().first() {
            Some(b'$' | b'=') if number() >= 0 => {
                let mut body = vec![0; number() as usize + 2];
                self.0.read_exact(&mut body).expect("the rest of the reply");
                reply.extend_from_slice(&body);
            }
            Some(b'*' | b'~') => (0..number()).for_each(|_| self.reply(reply)),
            Some(b'%') => (0..2 * number()).for_each(|_| self.reply(reply)),
            Some(_) => {}
            None => panic!("the connection was closed"),
        }
    }
}

/// Words of a line: `''` is empty, `\n` and `\x00` are what they say, and `{k*N}` is N times k.
fn words(line: &str) -> Vec<Vec<u8>> {
    let word = |word: &str| match word {
        "''" => Vec::new(),
        word => match word.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')?.split_once('*')) {
            Some((text, count)) => text.repeat(count.parse().expect("a number")).into_bytes(),
            None => word.replace("\\r", "\r").replace("\\n", "\n").replace("\\x00", "\0").into_bytes(),
        },
    };
    line.split(' ').map(word).collect()
}

/// Every command with too few and too many arguments.
fn arities() -> Vec<String> {
    let mut lines = Vec::new();
    for (name, least, most) in FAMILIES {
        let call = |count: usize| format!("{name}{}", " a".repeat(count));
        lines.extend((0..*least).map(call));
        lines.extend(most.map(|most| call(most + 1)));
        lines.push(call(*least).to_uppercase().replace(" A", " ''"));
    }
    lines
}

fn close_enough(ours: &[u8], theirs: &[u8]) -> bool {
    let number = |reply: &[u8]| String::from_utf8_lossy(reply).trim_start_matches(':').trim().parse::<i64>();
    match (number(ours), number(theirs)) {
        (Ok(ours), Ok(theirs)) => ours.signum() == theirs.signum() && (ours - theirs).abs() < 60,
        _ => ours == theirs,
    }
}

/// Sends `bytes`, and PING and the end of the stream if they are `whole`; everything that comes until the connection ends.
fn talk(port: u16, bytes: &[u8], whole: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server is up");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
    // A server that closes early makes the rest of the write fail; what it said is what counts.
    stream.write_all(bytes).ok();
    if whole {
        stream.write_all(b"PING\r\n").ok();
        stream.shutdown(Shutdown::Write).ok();
    }
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        said.extend_from_slice(&piece[..count]);
    }
    said
}

fn compare_commands(ours: u16, theirs: u16, version: &str, complaints: &mut Vec<String>) -> usize {
    let (mut ours, mut theirs) = (Wire::open(ours), Wire::open(theirs));
    for wire in [&mut ours, &mut theirs] {
        wire.ask(&words(&format!("HELLO {version}")));
        wire.ask(&words("FLUSHALL"));
    }
    let lines: Vec<String> = COMMANDS.iter().map(|line| (*line).to_string()).chain(arities()).collect();
    for line in &lines {
        let (mine, their) = (ours.ask(&words(line)), theirs.ask(&words(line)));
        let meant = DIFFERENT.iter().find(|(different, ..)| different == line);
        let good = match meant {
            Some((_, answer, _)) => mine.starts_with(answer.as_bytes()) && mine != their,
            None if APPROXIMATE.iter().any(|name| line.starts_with(name)) => close_enough(&mine, &their),
            None => mine == their,
        };
        if !good {
            let show = |reply: &[u8]| String::from_utf8_lossy(&reply[..reply.len().min(200)]).into_owned();
            complaints.push(format!(
                "RESP{version} {line}: ours {:?}, Redis {:?}",
                show(&mine),
                show(&their)
            ));
        }
    }
    lines.len()
}

/// A reply with refusals as Valkey 8 words them, and without the length of a string, which goes with the words.
fn as_valkey_8(reply: &[u8]) -> String {
    let text = String::from_utf8_lossy(reply).into_owned();
    let text = match text.split_once("\r\n") {
        Some((head, rest)) if head.starts_with('$') => rest.to_string(),
        _ => text,
    };
    text.replace("This user has no", "User u has no")
        .replace(
            "this user has no permissions to access one of the keys used as arguments",
            "No permissions to access a key",
        )
        .replace("this user has no", "User u has no")
}

/// Users and rules, and what COMMAND says of the categories and keys of each command.
fn compare_access(ours: u16, theirs: u16, version: &str, complaints: &mut Vec<String>) -> usize {
    let (mut mine, mut other) = (Wire::open(ours), Wire::open(theirs));
    for wire in [&mut mine, &mut other] {
        wire.ask(&words(&format!("HELLO {version}")));
        wire.ask(&words("FLUSHALL"));
    }
    for line in ACL {
        let [mine, their] =
            [mine.ask(&words(line)), other.ask(&words(line))].map(|reply| as_valkey_8(&reply));
        if mine != their {
            complaints.push(format!("RESP{version} {line}: ours {mine:?}, Redis {their:?}"));
        }
    }
    let told = |port: u16| -> BTreeMap<String, Vec<String>> {
        let mut connection = support::connect(port).expect("the server is up");
        let commands =
            redis::cmd("COMMAND").query::<Vec<redis::Value>>(&mut connection).expect("all commands");
        let mut told = BTreeMap::new();
        for command in &commands {
            categories(command, &mut told);
        }
        told
    };
    let (mine, their) = (told(ours), told(theirs));
    let common: Vec<_> = mine.iter().filter_map(|(name, of)| Some((name, of, their.get(name)?))).collect();
    assert!(common.len() > 100, "only {} commands are told by both", common.len());
    for (name, mine, their) in &common {
        if mine != their {
            complaints.push(format!("categories and keys of {name}: ours {mine:?}, Redis {their:?}"));
        }
    }
    ACL.len() + common.len() + compare_lists(ours, theirs, complaints)
}

/// The names of COMMAND LIST FILTERBY, where both have the command.
fn compare_lists(ours: u16, theirs: u16, complaints: &mut Vec<String>) -> usize {
    let list = |port: u16, filter: &[&str]| -> BTreeSet<String> {
        let mut connection = support::connect(port).expect("the server is up");
        let mut command = redis::cmd("COMMAND");
        command.arg("LIST").arg(filter);
        command.query(&mut connection).expect("a list")
    };
    let every = ["FILTERBY", "PATTERN", "*"];
    let common: BTreeSet<String> = list(ours, &every).intersection(&list(theirs, &every)).cloned().collect();
    assert!(common.len() > 100, "only {} commands are listed by both", common.len());
    let filters = [
        ["FILTERBY", "ACLCAT", "read"],
        ["FILTERBY", "ACLCAT", "WRITE"],
        ["FILTERBY", "ACLCAT", "keyspace"],
        ["filterby", "aclcat", "dangerous"],
        ["FILTERBY", "PATTERN", "*|*id*"],
        ["FILTERBY", "PATTERN", "G?T*"],
        ["FILTERBY", "PATTERN", "[ab]*"],
    ];
    for filter in filters {
        let of_both = |port| list(port, &filter).intersection(&common).cloned().collect::<Vec<_>>();
        let (mine, their) = (of_both(ours), of_both(theirs));
        if mine != their || mine.is_empty() {
            complaints.push(format!("COMMAND LIST {filter:?}: ours {mine:?}, Redis {their:?}"));
        }
    }
    filters.len()
}

/// A key specification without the notes that some have for people.
fn without_notes(spec: &redis::Value) -> String {
    let (redis::Value::Array(parts), note) = (spec, redis::Value::BulkString(b"notes".to_vec())) else {
        panic!("no specification: {spec:?}")
    };
    format!("{:?}", if parts[0] == note { &parts[2..] } else { parts })
}

/// Notes the categories and key specifications of what COMMAND says of a command, and of its subcommands.
fn categories(command: &redis::Value, told: &mut BTreeMap<String, Vec<String>>) {
    let text = |value: &redis::Value| match value {
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::SimpleString(text) => text.clone(),
        other => panic!("no text: {other:?}"),
    };
    let redis::Value::Array(parts) = command else { panic!("no command: {command:?}") };
    let redis::Value::Array(specs) = &parts[8] else { panic!("{:?}", parts[8]) };
    let (redis::Value::Array(of) | redis::Value::Set(of)) = &parts[6] else { panic!("{:?}", parts[6]) };
    let mut of: Vec<String> = of.iter().map(text).collect();
    of.sort();
    // Notes are for people, and are not told here.
    of.extend(specs.iter().map(without_notes));
    told.insert(text(&parts[0]), of);
    if let redis::Value::Array(subs) = &parts[9] {
        for sub in subs {
            categories(sub, told);
        }
    }
}

/// Users by random rules: what is refused as a rule, and what they may do.
fn compare_decisions(ours: u16, theirs: u16, seed: u64, complaints: &mut Vec<String>) -> usize {
    const USERS: usize = 300;
    const REQUESTS: usize = 15;
    let (mut mine, mut other) = (Wire::open(ours), Wire::open(theirs));
    let (mut draw, mut allowed) = (Draw::new(seed), 0);
    for _ in 0..USERS {
        let mut lines = vec!["ACL SETUSER u reset".to_string(), draw.change(), draw.change()];
        lines.extend((0..REQUESTS).map(|_| draw.request()));
        for line in &lines {
            let [mine, their] =
                [mine.ask(&words(line)), other.ask(&words(line))].map(|reply| as_valkey_8(&reply));
            allowed += usize::from(line.contains("DRYRUN") && mine.starts_with("+OK"));
            if mine != their {
                complaints
                    .push(format!("{:?}: ours {mine:?}, Redis {their:?}", [&lines[1], &lines[2], line]));
            }
        }
    }
    let all = USERS * REQUESTS;
    assert!(
        (all / 20..all * 19 / 20).contains(&allowed),
        "{allowed} of {all} were allowed: that tells little"
    );
    USERS * (REQUESTS + 3)
}

#[test]
fn users_and_rules_are_those_of_redis() {
    let Some(redis) = Redis::start() else {
        assert!(std::env::var("CI").is_err(), "redis-server is not installed: apt-get install redis-server");
        println!("SKIPPED: redis-server is not installed (apt-get install redis-server)");
        return;
    };
    let cluster = Cluster::start("differential-access");
    let mut complaints = Vec::new();
    let mut count = 0;
    for (version, node) in [("2", 0), ("3", 1)] {
        count += compare_access(cluster.clients[node], redis.port, version, &mut complaints);
    }
    for seed in 1..=3 {
        count += compare_decisions(cluster.clients[2], redis.port, seed, &mut complaints);
    }
    println!("{count} replies compared");
    assert!(complaints.is_empty(), "{} differ:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn replies_are_those_of_redis_byte_for_byte() {
    let Some(redis) = Redis::start() else {
        assert!(std::env::var("CI").is_err(), "redis-server is not installed: apt-get install redis-server");
        println!("SKIPPED: redis-server is not installed (apt-get install redis-server)");
        return;
    };
    let cluster = Cluster::start("differential");
    let mut complaints = Vec::new();
    let mut count = 0;
    for (version, node) in [("2", 0), ("3", 1)] {
        count += compare_commands(cluster.clients[node], redis.port, version, &mut complaints);
    }
    let long: Vec<u8> = vec![b'1'; 70_000];
    let long_lines = [&b"*"[..], b"*1\r\n$", b"", b"GET "].map(|start| [start, &long].concat());
    let raw = RAW.iter().map(|bytes| (bytes.to_vec(), true));
    // A line without end is refused before it ends.
    for (bytes, whole) in raw.chain(long_lines.map(|line| (line, false))) {
        count += 1;
        let (mine, their) = (talk(cluster.clients[2], &bytes, whole), talk(redis.port, &bytes, whole));
        if mine != their {
            let show = |bytes: &[u8]| bytes[..bytes.len().min(120)].escape_ascii().to_string();
            complaints.push(format!("{}: ours {}, Redis {}", show(&bytes), show(&mine), show(&their)));
        }
    }
    println!("{count} requests compared");
    assert!(complaints.is_empty(), "{} replies differ:\n{}", complaints.len(), complaints.join("\n"));
}
