//! One real node, by its flags.

use crate::support::{PATIENT_DISK, Scratch, binary, free_ports, wait_for};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A node alone.
pub struct Node {
    pub scratch: Scratch,
    /// Client, peer and HTTP ports.
    pub ports: Vec<u16>,
    pub host: &'static str,
    process: Option<Child>,
}

impl Node {
    pub fn new(name: &str) -> Self {
        // Built before ports are chosen: they are free now, not in a minute.
        binary();
        Self { scratch: Scratch::new(name), ports: free_ports(3), host: "127.0.0.1", process: None }
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    pub fn command(&self, flags: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(binary());
        let address = |port: usize| format!("{}:{}", self.host, self.ports[port]);
        command.args(["node", "--listen", &address(0), "--http-listen", &address(2)]);
        command.args(["--peer-listen", &format!("127.0.0.1:{}", self.ports[1]), "--data"]);
        command
            .arg(self.scratch.0.join("data"))
            .args(flags)
            .envs(PATIENT_DISK)
            .envs(environment.iter().copied());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts it and waits until it is ready; what it logs goes to the file `log`.
    pub fn start(&mut self, flags: &[&str], environment: &[(&str, &str)]) {
        self.stop();
        let log = std::fs::File::create(self.scratch.0.join("log")).expect("a file");
        let child = self.command(flags, environment).stderr(log).spawn();
        self.process = Some(child.expect("the node starts"));
        wait_for("a node to be ready", || (self.http("GET", "/readyz", &[], "").0 == 200).then_some(()));
        let ended = self.process.as_mut().and_then(|child| child.try_wait().expect("the process is ours"));
        assert!(ended.is_none(), "the node has ended: {}", self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.0.join("log")).expect("the log")
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().expect("the process is ours");
            child.wait().expect("the process was killed");
        }
    }

    /// What it says and how it ends where it is not to start.
    pub fn refused(&self, flags: &[&str]) -> String {
        let output = self.command(flags, &[]).stderr(Stdio::piped()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        said
    }

    pub fn wire(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.ports[0])).expect("the node is up");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
        BufReader::new(stream)
    }

    /// Asks over a connection of its own, as nobody or as `user password`: inline requests.
    pub fn ask(&self, user: &str, line: &str) -> String {
        let mut wire = self.wire();
        if !user.is_empty() {
            wire.get_mut().write_all(format!("AUTH {user}\r\n").as_bytes()).expect("sent");
            assert_eq!(hear(&mut wire), "+OK", "{user}");
        }
        wire.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("sent");
        hear(&mut wire)
    }

    /// Status and body of an answer over HTTP; 0 where there is none.
    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        self.http_at("127.0.0.1", method, path, headers, body)
    }

    pub fn http_at(
        &self,
        host: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, String) {
        let answer = TcpStream::connect((host, self.ports[2])).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_mins(1)))?;
            let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let headers = headers.concat();
            let length = body.len();
            write!(stream, "{method} {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        });
        let answer = answer.unwrap_or_default();
        let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer)
    }
}

/// Runs a command of the program to its end.
pub fn samara(words: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(binary()).args(words).envs(environment.iter().copied()).output().expect("it runs")
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A reply that is one line, or a bulk string.
pub fn hear(wire: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    wire.read_line(&mut line).expect("a reply");
    if let Some(length) = line.strip_prefix('$').and_then(|length| length.trim_end().parse::<usize>().ok()) {
        let mut body = vec![0; length + 2];
        wire.read_exact(&mut body).expect("the rest of it");
        return String::from_utf8_lossy(&body[..length]).into_owned();
    }
    line.trim_end().to_string()
}
