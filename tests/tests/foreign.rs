//! A node that was started with something else than the others is of another cluster: all of them say so, and only it is unready.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use support::{Cluster, binary, open, served, wait_for};

/// Status and body.
fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_string()))
}

fn foreign_peers(port: u16) -> Option<u32> {
    let (_, metrics) = get(port, "/metrics")?;
    metrics.lines().find_map(|line| line.strip_prefix("samara_peers_foreign ")?.parse().ok())
}

fn status(port: u16) -> String {
    let address = format!("127.0.0.1:{port}");
    let output =
        Command::new(binary()).args(["admin", "--addr", &address, "status"]).output().expect("it runs");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_node_of_another_replication_factor_is_unready_and_the_others_only_warn() {
    let mut cluster = Cluster::start("foreign");
    let http = cluster.http.clone();
    (0..3).for_each(|node| assert_eq!(foreign_peers(http[node]), Some(0)));
    cluster.kill(2);
    let other = ["--replication-factor", "1"];
    // Its directory is of the cluster that it was in: it is named.
    let refused = cluster.command(2).args(other).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let directory = cluster.data(2).join("shard-0").to_string_lossy().into_owned();
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(last.starts_with("samara: ") && last.contains(&directory), "{said}");

    let (data, aside) = (cluster.data(2), cluster.data(2).with_extension("aside"));
    std::fs::rename(&data, &aside).expect("its data is put aside");
    let log = cluster.data(2).with_extension("log");
    let file = File::create(&log).expect("a log");
    let started = cluster.command(2).args(other).stdout(Stdio::null()).stderr(file).spawn();
    cluster.processes[2] = Some(started.expect("it starts"));
    let unready = wait_for("the node to be cut off", || {
        get(http[2], "/readyz").filter(|(_, body)| body.contains("another cluster"))
    });
    assert_eq!(unready.0, 503, "{}", unready.1);
    for part in [
        "node 1 was started with --members 1@",
        "--replication-factor 3",
        "this node with --members 1@",
        "--replication-factor 1",
        "give every node the same",
    ] {
        assert!(unready.1.contains(part), "{part}: {}", unready.1);
    }
    wait_for("all to know it", || {
        (0..3).all(|node| foreign_peers(http[node]) == Some([1, 1, 2][node])).then_some(())
    });
    for (node, port) in http.iter().enumerate().take(2) {
        assert_eq!(get(*port, "/readyz").map(|ready| ready.0), Some(200), "node {} is sound", node + 1);
        let said = status(*port);
        assert!(said.starts_with(&format!("node {}: ready", node + 1)), "{said}");
        assert!(
            said.contains("node 3 takes this node for one of another cluster: it was started with"),
            "{said}"
        );
        served("the sound ones", || {
            redis::cmd("SET").arg("k").arg("v").query::<String>(&mut open(cluster.clients[node])?)
        });
    }
    let said = status(http[2]);
    assert!(said.starts_with("node 3: not ready") && said.contains("node 1 takes this node"), "{said}");
    let logged = std::fs::read_to_string(&log).expect("the log");
    for part in
        ["ERROR node 1 at", "ERROR node 2 at", "takes this node for one of another cluster and refuses it"]
    {
        assert!(logged.contains(part), "{part}: {logged}");
    }

    // Started as the others were, and on its own directory, it is one of them.
    cluster.kill(2);
    std::fs::remove_dir_all(&data).expect("what it has made there goes");
    std::fs::rename(&aside, &data).expect("its own comes back");
    cluster.spawn(2);
    cluster.wait_ready(2);
    wait_for("all to be of one cluster", || {
        (0..3).all(|node| foreign_peers(http[node]) == Some(0)).then_some(())
    });
    (0..3).for_each(|node| assert_eq!(get(http[node], "/readyz").map(|ready| ready.0), Some(200)));
}
