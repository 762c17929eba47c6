//! Starts real nodes for the tests of this folder.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The disk of the machine may be slow: nodes do not step aside for it, unless a test's flags say so.
pub const PATIENT_DISK: [(&str, &str); 2] =
    [("SAMARA_DISK_SLOW_MS", "60000"), ("SAMARA_DISK_HUNG_MS", "600000")];

/// The node binary, built once.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let built =
            Command::new(cargo).args(["build", "--quiet", "-p", "samara"]).current_dir(&root).status();
        assert!(built.expect("cargo runs").success(), "the node does not build");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        target.join("debug/samara")
    })
}

/// Ports that are free now, below those that the system gives to outgoing connections: nobody takes them before a node does,
/// or while a node that was killed is away.
pub fn free_ports(count: usize) -> Vec<u16> {
    const FIRST: u16 = 10_000;
    const MANY: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id().wrapping_mul(7_919) % u32::from(MANY)) as u16;
    let mut ports = Vec::new();
    while ports.len() < count {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(turn < MANY, "no free ports");
        let port = FIRST + (start + turn) % MANY;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    ports
}

/// A directory that goes with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("samara-{name}-{}", std::process::id()));
        std::fs::remove_dir_all(&path).ok();
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Real processes, three unless told.
pub struct Cluster {
    pub clients: Vec<u16>,
    peers: Vec<u16>,
    pub http: Vec<u16>,
    data: Scratch,
    /// Flags that every node is given besides.
    flags: Vec<&'static str>,
    pub processes: Vec<Option<Child>>,
}

impl Cluster {
    pub fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    pub fn start_with(name: &str, flags: &[&'static str]) -> Self {
        Self::start_nodes(name, 3, flags)
    }

    pub fn start_nodes(name: &str, count: usize, flags: &[&'static str]) -> Self {
        Self::prepared(name, count, flags, |_| true).expect("nothing is in the way")
    }

    /// A cluster that is started when its folders have been prepared; none if they could not be.
    pub fn prepared(
        name: &str,
        count: usize,
        flags: &[&'static str],
        prepare: impl FnOnce(&Self) -> bool,
    ) -> Option<Self> {
        let ports = free_ports(3 * count);
        let mut cluster = Self {
            clients: ports[..count].to_vec(),
            peers: ports[count..2 * count].to_vec(),
            http: ports[2 * count..].to_vec(),
            data: Scratch::new(name),
            flags: flags.to_vec(),
            processes: (0..count).map(|_| None).collect(),
        };
        if !prepare(&cluster) {
            return None;
        }
        (0..count).for_each(|node| cluster.spawn(node));
        (0..count).for_each(|node| cluster.wait_ready(node));
        Some(cluster)
    }

    pub fn data(&self, node: usize) -> PathBuf {
        self.data.0.join(format!("node-{node}"))
    }

    pub fn command(&self, node: usize) -> Command {
        let member = |(i, port): (usize, &u16)| format!("{}@127.0.0.1:{port}", i + 1);
        let members: Vec<String> = self.peers.iter().enumerate().map(member).collect();
        let mut command = Command::new(binary());
        command
            .args(["node", "--node-id", &(node + 1).to_string(), "--members", &members.join(",")])
            .args(["--listen", &format!("127.0.0.1:{}", self.clients[node])])
            .args(["--peer-listen", &format!("127.0.0.1:{}", self.peers[node])])
            .args(["--http-listen", &format!("127.0.0.1:{}", self.http[node])])
            .arg("--data")
            .arg(self.data(node))
            .args(&self.flags)
            .envs(PATIENT_DISK);
        command
    }

    pub fn spawn(&mut self, node: usize) {
        let child = self.command(node).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.processes[node] = Some(child.expect("the node starts"));
    }

    /// kill -9.
    pub fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.processes[node].take() {
            child.kill().expect("the process is ours");
            child.wait().expect("the process was killed");
        }
    }

    /// Waits until the node answers a command that needs a majority.
    pub fn wait_ready(&self, node: usize) {
        served("a node to serve", || {
            redis::cmd("GET").arg("ready?").query::<Option<String>>(&mut open(self.clients[node])?)
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.processes.len()).for_each(|node| self.kill(node));
    }
}

pub fn connect(port: u16) -> Option<redis::Connection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).ok()?;
    let connection = client.get_connection_with_timeout(Duration::from_secs(2)).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    Some(connection)
}

/// A connection for what is `served`.
pub fn open(port: u16) -> redis::RedisResult<redis::Connection> {
    let gone = || redis::RedisError::from((redis::ErrorKind::Io, "the node takes no connection"));
    connect(port).ok_or_else(gone)
}

/// Tries until it is served, for a minute: that a node is out of reach for a while, or too slow, says something of the machine.
/// Any other error is one. For what may be done twice.
pub fn served<T>(what: &str, attempt: impl Fn() -> redis::RedisResult<T>) -> T {
    wait_for(what, || match attempt() {
        Ok(answer) => Some(answer),
        Err(error) if error.is_io_error() || matches!(error.code(), Some("UNAVAILABLE" | "TIMEOUT")) => None,
        Err(error) => panic!("{what}: {error}"),
    })
}

/// Tries until something is there, for a minute.
pub fn wait_for<T>(what: &str, attempt: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < end, "waited a minute for {what}");
        std::thread::yield_now();
    }
}
