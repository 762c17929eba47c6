//! Three nodes of each store on this machine.

use crate::Figures;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const NODES: usize = 3;

/// Processes and their directory; both go at the end.
struct Processes {
    children: Vec<Child>,
    directory: PathBuf,
}

impl Processes {
    fn new(name: &str) -> Result<Self, String> {
        let directory = std::env::temp_dir().join(format!("samara-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        Ok(Self { children: Vec::new(), directory })
    }

    fn spawn(&mut self, mut command: Command) -> Result<(), String> {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.children.push(
            child.map_err(|error| format!("{} does not start: {error}", command.get_program().display()))?,
        );
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    let bound: Result<Vec<TcpListener>, _> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let bound = bound.map_err(|error| error.to_string())?;
    bound
        .iter()
        .map(|listener| Ok(listener.local_addr().map_err(|error| error.to_string())?.port()))
        .collect()
}

/// Tries until it succeeds, for a minute.
fn wait_for<T>(mut attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        match attempt() {
            Ok(found) => return Ok(found),
            Err(reason) if Instant::now() > end => return Err(reason),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Output of a command that succeeded.
fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!(
            "{} failed: {}",
            command.get_program().display(),
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

pub(crate) struct Samara {
    binary: PathBuf,
    addresses: String,
    _processes: Processes,
}

impl Samara {
    pub(crate) fn start() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        output(
            Command::new(cargo).args(["build", "--release", "--quiet", "-p", "samara"]).current_dir(&root),
        )?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let binary = target.join("release/samara");
        let mut processes = Processes::new("samara")?;
        let ports = free_ports(NODES * 3)?;
        let members: Vec<String> =
            (0..NODES).map(|node| format!("{}@127.0.0.1:{}", node + 1, ports[node])).collect();
        for node in 0..NODES {
            let mut command = Command::new(&binary);
            command
                .args(["node", "--node-id", &(node + 1).to_string(), "--members", &members.join(",")])
                .args(["--peer-listen", &format!("127.0.0.1:{}", ports[node])])
                .args(["--listen", &format!("127.0.0.1:{}", ports[NODES + node])])
                .args(["--http-listen", &format!("127.0.0.1:{}", ports[2 * NODES + node])])
                .args(["--durability", "sync", "--data"])
                .arg(processes.directory.join(node.to_string()));
            processes.spawn(command)?;
        }
        let clients: Vec<String> =
            (0..NODES).map(|node| format!("127.0.0.1:{}", ports[NODES + node])).collect();
        let samara = Self { binary, addresses: clients.join(","), _processes: processes };
        wait_for(|| samara.increments(3, 0.2))?;
        Ok(samara)
    }

    /// `samara bench` on one key.
    pub(crate) fn increments(&self, clients: usize, seconds: f64) -> Result<Figures, String> {
        let mut command = Command::new(&self.binary);
        command
            .args(["bench", "--addr", &self.addresses, "--workload", "incr", "--keys", "1", "--json"])
            .args([
                "--consistency",
                "strong",
                "--clients",
                &clients.to_string(),
                "--seconds",
                &seconds.to_string(),
            ]);
        let report: serde_json::Value = serde_json::from_slice(&output(&mut command)?)
            .map_err(|error| format!("samara bench: {error}"))?;
        let number =
            |name: &str| report[name].as_f64().ok_or_else(|| format!("samara bench reports no {name}"));
        if number("errors")? > 0.0 {
            return Err(format!("samara answered with errors: {report}"));
        }
        let micros = |name: &str| Ok::<_, String>(Duration::from_secs_f64(number(name)? / 1e6));
        let operations = number("ops")?;
        Ok(Figures {
            operations: operations as u64,
            seconds: operations / number("ops_per_s")?,
            p50: micros("p50_us")?,
            p99: micros("p99_us")?,
        })
    }
}

pub(crate) struct Etcd {
    clients: Vec<u16>,
    _processes: Processes,
}

impl Etcd {
    pub(crate) fn start() -> Result<Self, String> {
        let mut processes = Processes::new("etcd")?;
        let ports = free_ports(NODES * 2)?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<String> = (0..NODES).map(|node| format!("n{node}={}", url(ports[node]))).collect();
        for node in 0..NODES {
            let (peer, client) = (url(ports[node]), url(ports[NODES + node]));
            let mut command = Command::new("etcd");
            command
                .args(["--name", &format!("n{node}"), "--initial-cluster", &cluster.join(",")])
                .args(["--initial-cluster-state", "new", "--logger", "zap", "--log-level", "error"])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client, "--data-dir"])
                .arg(processes.directory.join(node.to_string()));
            processes.spawn(command)?;
        }
        Ok(Self { clients: ports[NODES..].to_vec(), _processes: processes })
    }

    /// Port of the leader's clients.
    pub(crate) fn leader(&self) -> Result<u16, String> {
        wait_for(|| {
            for port in &self.clients {
                let status = output(Command::new("etcdctl").env("ETCDCTL_API", "3").args([
                    "--endpoints",
                    &format!("127.0.0.1:{port}"),
                    "endpoint",
                    "status",
                    "--write-out",
                    "json",
                ]))?;
                let status: serde_json::Value =
                    serde_json::from_slice(&status).map_err(|error| format!("etcdctl: {error}"))?;
                let status = &status[0]["Status"];
                if status["leader"]
                    .as_u64()
                    .is_some_and(|leader| Some(leader) == status["header"]["member_id"].as_u64())
                {
                    return Ok(*port);
                }
            }
            Err("etcd has no leader yet".into())
        })
    }
}
