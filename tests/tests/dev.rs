//! `samara dev` and the set-up of `samara node`, as a user meets them: redis-cli and redis-benchmark, signals, flags,
//! environment and file, ports that are taken, HTTP, limits.

#[expect(dead_code, reason = "three processes are started elsewhere")]
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use support::{PATIENT_DISK, Scratch, binary, connect, wait_for};

/// Tests run side by side: each looks for ports in a range of its own.
static TAKEN: AtomicU16 = AtomicU16::new(0);

/// Flags, environment, and the level and replication factor that come of them.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, &'a str);

/// A base port such that all nine ports of a cluster are free now.
fn base_port() -> u16 {
    let free = |base: u16| {
        let ports = (0..3).flat_map(|node| [base + node, base + 1_000 + node, base + 2_000 + node]);
        let open: Result<Vec<_>, _> = ports.map(|port| TcpListener::bind(("127.0.0.1", port))).collect();
        open.is_ok()
    };
    let start = 20_000 + (std::process::id() % 1_000) as u16 * 7 + TAKEN.fetch_add(100, Ordering::Relaxed);
    (start..start + 100).step_by(3).find(|base| free(*base)).expect("free ports")
}

/// A running `samara` that goes with the test.
struct Process(Child);

impl Process {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary());
        command.args(arguments).envs(PATIENT_DISK).envs(environment.iter().copied()).env("RUST_LOG", "warn");
        Self(command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("it starts"))
    }

    /// SIGTERM or SIGINT; what was printed, and the exit code.
    fn end(&mut self, signal: &str) -> (String, Option<i32>) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
        let code = self.0.wait().expect("it ends").code();
        let mut said = String::new();
        self.0.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
        (said, code)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn ask(port: u16, words: &[&str]) -> Option<redis::Value> {
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(*word);
    });
    command.query(&mut connect(port)?).ok()
}

fn wait_ready(port: u16) {
    wait_for("the node to serve", || ask(port, &["GET", "ready?"]));
}

/// The answer to an HTTP request, head and body.
fn http(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The value of a metric line.
fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn tool(name: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(name).args(arguments).output();
    let Ok(output) = output else {
        assert!(std::env::var("CI").is_err(), "{name} is not installed: apt-get install redis-tools");
        println!("SKIPPED: {name} is not installed (apt-get install redis-tools)");
        return None;
    };
    assert!(output.status.success(), "{name} {arguments:?}: {output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn dev_serves_the_tools_of_redis_on_every_port_and_keeps_its_data() {
    let (base, data) = (base_port(), Scratch::new("dev"));
    let directory = data.0.to_string_lossy().into_owned();
    let port = base.to_string();
    let arguments = ["dev", "--base-port", &port, "--data", &directory, "--consistency", "STRONG"];
    let mut dev = Process::start(&arguments, &[]);
    (0..3).for_each(|node| wait_ready(base + node));
    for node in 0..3 {
        let (here, there) = ((base + node).to_string(), (base + (node + 1) % 3).to_string());
        let value = format!("from {node}");
        if let Some(said) = tool("redis-cli", &["-p", &here, "set", "key", &value]) {
            assert_eq!(said.trim(), "OK");
            let read = tool("redis-cli", &["-p", &there, "get", "key"]).expect("it is installed");
            assert_eq!(read.trim(), value, "any port answers any key");
        }
        let load =
            ["-p", &here, "-t", "set,get,incr", "-n", "600", "-c", "20", "-P", "4", "-r", "50", "--csv"];
        if let Some(said) = tool("redis-benchmark", &load) {
            assert!(said.contains("\"SET\"") && said.contains("\"INCR\""), "{said}");
        }
    }
    ask(base, &["SET", "kept", "1"]).expect("a write");
    let (said, code) = dev.end("-TERM");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("redis-cli -p {base} set hello world")), "{said}");
    let mut dev = Process::start(&arguments, &[]);
    wait_ready(base + 2);
    assert_eq!(ask(base + 2, &["GET", "kept"]), Some(redis::Value::BulkString(b"1".to_vec())));
    assert_eq!(dev.end("-INT").1, Some(0));
}

#[test]
fn an_ephemeral_cluster_leaves_nothing_behind() {
    let base = base_port();
    let mut dev =
        Process::start(&["dev", "--nodes", "1", "--base-port", &base.to_string(), "--ephemeral"], &[]);
    wait_ready(base);
    let directory = std::env::temp_dir().join(format!("samara-dev-{}", dev.0.id()));
    assert!(directory.is_dir());
    assert_eq!(dev.end("-TERM").1, Some(0));
    assert!(!directory.exists());
}

#[test]
fn a_cluster_is_not_started_next_to_the_data_of_a_node() {
    let (base, scratch) = (base_port(), Scratch::new("beside"));
    let data = scratch.0.join("node");
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let (directory, port) = (text(&data), base.to_string());
    let address = |offset: u16| format!("127.0.0.1:{}", base + offset);
    let (clients, peers, web) = (address(0), address(1_000), address(2_000));
    let arguments =
        ["node", "--data", &directory, "--listen", &clients, "--peer-listen", &peers, "--http-listen", &web];
    let mut node = Process::start(&arguments, &[]);
    wait_ready(base);
    let other = base_port().to_string();
    let expect_refusals = || {
        for below in [data.clone(), data.join("more"), data.join("shard-0"), data.join("shard-0/a/b")] {
            let said = refused(&["dev", "--base-port", &other, "--data", &text(&below)], &[]);
            let held = format!("{directory} holds the data of a node");
            assert!(said.contains(&held) && said.contains(&text(&below)), "{said}");
            assert!(said.contains(&format!("samara node --data {directory}")), "{said}");
        }
    };
    expect_refusals();
    assert_eq!(node.end("-TERM").1, Some(0));
    expect_refusals();
    for made in ["more", "node-1", "shard-0/a", "shard-0/node-1"] {
        assert!(!data.join(made).exists(), "{made}");
    }
    // Beside it there is room, and a cluster is started again where it was.
    let beside = text(&scratch.0.join("cluster"));
    for _ in 0..2 {
        let arguments = ["dev", "--nodes", "1", "--base-port", &port, "--data", &beside];
        let mut dev = Process::start(&arguments, &[]);
        wait_ready(base);
        assert_eq!(dev.end("-TERM").1, Some(0));
    }
}

fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(binary());
    let output: Output =
        command.args(arguments).envs(environment.iter().copied()).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    said
}

#[test]
fn what_is_in_the_way_is_named_and_nothing_is_made() {
    let data = Scratch::new("in-the-way");
    let (base, directory) = (base_port(), data.0.join("new").to_string_lossy().into_owned());
    let taken = TcpListener::bind(("127.0.0.1", base + 1_001)).expect("a free port");
    let port = base.to_string();
    let said = refused(&["dev", "--base-port", &port, "--data", &directory], &[]);
    assert!(
        said.contains(&format!("peer port 127.0.0.1:{}", base + 1_001)) && said.contains("--base-port"),
        "{said}"
    );
    assert!(!data.0.join("new").exists(), "nothing was made");
    drop(taken);
    let file = data.0.join("file");
    std::fs::write(&file, "x").expect("writable");
    let under = file.join("data").to_string_lossy().into_owned();
    let said = refused(&["dev", "--base-port", &port, "--data", &under], &[]);
    assert!(said.contains(&*under), "{said}");
    let toml = data.0.join("bad.toml").to_string_lossy().into_owned();
    std::fs::write(&toml, "shards = 1\nnonsense = 2\n").expect("writable");
    let said = refused(&["node", "--config", &toml], &[]);
    assert!(said.contains("bad.toml, line 2") && said.contains("nonsense"), "{said}");
    for (arguments, words) in [
        (&["dev", "--base-port", "65000"][..], "--base-port 65000"),
        (&["dev", "--base-port", "x"], "--base-port"),
        (&["dev", "--consistency", "weak"], "--consistency weak"),
        (&["dev", "--nonsense"], "--nonsense"),
        (&["serve"], "serve"),
        (&[], "dev, node"),
    ] {
        let said = refused(arguments, &[]);
        assert!(said.contains(words), "{said}");
    }
    assert!(refused(&["node"], &[("REPLICATION_FACTOR", "many")]).contains("--replication-factor many"));
    assert!(refused(&["node"], &[("SAMARA_SHARDS", "0")]).contains("--shards 0"));
}

#[test]
fn flags_come_before_the_environment_before_the_file_before_defaults() {
    let (base, data) = (base_port(), Scratch::new("precedence"));
    let toml = data.0.join("node.toml").to_string_lossy().into_owned();
    let text = format!(
        "listen = \"127.0.0.1:{base}\"\npeer_listen = \"127.0.0.1:{}\"\nhttp_listen = \"127.0.0.1:{}\"\n\
         consistency = \"causal\"\nreplication_factor = 5\ndurability = \"interval:50\"\ndata = \"{}\"\n",
        base + 1_000,
        base + 2_000,
        data.0.join("data").display()
    );
    std::fs::write(&toml, text).expect("writable");
    // Each is set in one place more than the one before: the strongest place wins.
    let table: [Case<'_>; 4] = [
        (&[], &[], "causal", "5"),
        (&[], &[("CONSISTENCY_LEVEL", "eventual"), ("REPLICATION_FACTOR", "2")], "eventual", "2"),
        (
            &[],
            &[
                ("CONSISTENCY_LEVEL", "eventual"),
                ("SAMARA_CONSISTENCY", "strong"),
                ("SAMARA_REPLICATION_FACTOR", "3"),
            ],
            "strong",
            "3",
        ),
        (
            &["--consistency", "CAUSAL", "--replication-factor", "1"],
            &[("SAMARA_CONSISTENCY", "strong"), ("SAMARA_REPLICATION_FACTOR", "3")],
            "causal",
            "1",
        ),
    ];
    for (flags, environment, level, factor) in table {
        let arguments = [&["node", "--config", &toml][..], flags].concat();
        let mut node = Process::start(&arguments, environment);
        wait_ready(base);
        let text = |words: &[&str]| format!("{:?}", ask(base, words).expect("an answer"));
        assert!(text(&["CONSISTENCY"]).contains(level), "{level}");
        assert!(text(&["INFO", "cluster"]).contains(&format!("samara_replication:{factor}\\r")), "{factor}");
        assert!(text(&["CONFIG", "GET", "samara-durability"]).contains("interval:50"));
        assert_eq!(node.end("-TERM").1, Some(0));
    }
}

#[test]
fn health_and_metrics_are_told_over_http() {
    let base = base_port();
    let mut dev =
        Process::start(&["dev", "--nodes", "1", "--base-port", &base.to_string(), "--ephemeral"], &[]);
    wait_ready(base);
    for path in ["/healthz", "/readyz"] {
        assert!(http(base + 2_000, path).is_some_and(|answer| answer.starts_with("HTTP/1.1 200")), "{path}");
    }
    assert!(http(base + 2_000, "/nothing").is_some_and(|answer| answer.starts_with("HTTP/1.1 404")));
    for _ in 0..5 {
        ask(base, &["SET", "k", "v"]).expect("a write");
    }
    let told = wait_for("the counters of the core", || {
        let text = http(base + 2_000, "/metrics")?;
        metric(&text, "samara_core_wal_commits_total").filter(|count| *count >= 5.0).map(|_| text)
    });
    let sets = metric(&told, "samara_operations_total{op=\"set\",level=\"strong\",outcome=\"ok\"}");
    assert_eq!(sets, Some(5.0), "{told}");
    assert_eq!(metric(&told, "samara_operation_seconds_count{op=\"set\",level=\"strong\"}"), Some(5.0));
    assert!(metric(&told, "samara_errors_total{kind=\"timeout\"}").is_some(), "{told}");
    assert_eq!(dev.end("-TERM").1, Some(0));
}

#[test]
fn slow_and_too_many_clients_take_bounded_memory() {
    let (base, data) = (base_port(), Scratch::new("limits"));
    let address = |offset: u16| format!("127.0.0.1:{}", base + offset);
    let directory = data.0.to_string_lossy().into_owned();
    let (clients, peers, web) = (address(0), address(1_000), address(2_000));
    let mut node = Process::start(
        &[
            "node",
            "--data",
            &directory,
            "--listen",
            &clients,
            "--peer-listen",
            &peers,
            "--http-listen",
            &web,
            "--max-clients",
            "8",
        ],
        &[],
    );
    wait_ready(base);
    let value = "x".repeat(8 << 20);
    ask(base, &["SET", "large", &value]).expect("a write");
    // A client that asks for half a gigabyte and reads nothing is closed.
    let mut slow = TcpStream::connect(("127.0.0.1", base)).expect("the node is up");
    slow.write_all("GET large\r\n".repeat(64).as_bytes()).expect("sent");
    wait_for("the slow client to be closed", || {
        let text = http(base + 2_000, "/metrics")?;
        metric(&text, "samara_slow_clients_closed_total").filter(|count| *count >= 1.0)
    });
    drop(slow);
    assert!(ask(base, &["PING"]).is_some(), "others are served");
    let held: Vec<TcpStream> = (0..8).filter_map(|_| TcpStream::connect(("127.0.0.1", base)).ok()).collect();
    let refusal = wait_for("a refusal", || {
        let mut stream = TcpStream::connect(("127.0.0.1", base)).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok().filter(|count| *count > 0).map(|_| said)
    });
    assert_eq!(refusal, "-ERR max number of clients reached\r\n");
    drop(held);
    wait_for("room", || ask(base, &["PING"]));
    assert_eq!(node.end("-TERM").1, Some(0));
}
