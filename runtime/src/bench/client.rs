//! One client of the load generator: keeps some requests in flight on one connection, and comes back when it breaks.

use super::history::{Begun, Recorded};
use super::reply::{Reply, parse};
use super::shared::Shared;
use super::workload::{Ask, Chooser};
use samara::credentials::Credentials;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// What clients do in one phase.
pub(super) struct Plan {
    pub(super) addresses: Vec<String>,
    pub(super) pipeline: usize,
    pub(super) value_size: usize,
    pub(super) consistency: Option<String>,
    /// Who asks, where a password is asked for.
    pub(super) credentials: Option<Credentials>,
    /// Begins every key, so that runs that are recorded do not meet each other's values.
    pub(super) prefix: String,
    pub(super) start: Instant,
    /// When nothing more is asked; `None` for when there is nothing more to ask.
    pub(super) end: Option<Instant>,
    /// Requests of all clients a second; as fast as they are answered, where there is none.
    pub(super) rate: Option<f64>,
    pub(super) clients: u64,
    /// How long an answer is waited for.
    pub(super) patience: Duration,
}

/// How long a client that cannot connect waits before it tries the next address.
const PAUSE: Duration = Duration::from_millis(50);

struct Flight {
    ask: Ask,
    /// When it was to be asked: what an open loop counts from, however late it was sent.
    due: Instant,
    sent: Instant,
    process: u64,
    begun: Option<Begun>,
    /// The write of a [`Ask::ReadModifyWrite`].
    second: bool,
}

pub(super) struct Client<'a> {
    pub(super) plan: &'a Plan,
    pub(super) shared: Rc<Shared>,
    pub(super) number: u64,
    pub(super) chooser: Chooser,
    /// Requests that this client has asked for.
    asked: u64,
    /// Values that it has written.
    written: u64,
    flights: VecDeque<Flight>,
    /// Names in the history that are free.
    processes: Vec<u64>,
    /// A key with the value that was read there last.
    last: Option<(u64, String)>,
    out: Vec<u8>,
    /// Nothing more is asked.
    exhausted: bool,
}

impl<'a> Client<'a> {
    pub(super) fn new(plan: &'a Plan, shared: Rc<Shared>, number: u64, chooser: Chooser) -> Self {
        let mut processes = Vec::new();
        if let Some(history) = shared.history.borrow_mut().as_mut() {
            processes.extend((0..plan.pipeline).map(|_| history.process()));
        }
        Self {
            plan,
            shared,
            number,
            chooser,
            asked: 0,
            written: 0,
            flights: VecDeque::new(),
            processes,
            last: None,
            out: Vec::new(),
            exhausted: false,
        }
    }

    /// Asks until the plan ends.
    pub(super) async fn run(mut self) {
        let addresses = &self.plan.addresses;
        let mut attempt = self.number as usize;
        while !self.over() {
            match timeout(self.plan.patience, open(self.plan, &addresses[attempt % addresses.len()])).await {
                Ok(Ok(stream)) => {
                    if let Err(reason) = self.serve(stream).await {
                        self.shared.broken(&reason);
                    }
                    self.abandon();
                }
                Ok(Err(reason)) => self.shared.broken(&reason),
                Err(_) => self.shared.broken("connecting takes too long"),
            }
            if self.over() {
                return;
            }
            attempt += 1;
            sleep(PAUSE).await;
        }
    }

    fn over(&self) -> bool {
        self.exhausted || self.shared.stop.get() || self.plan.end.is_some_and(|end| Instant::now() >= end)
    }

    async fn serve(&mut self, mut stream: TcpStream) -> Result<(), String> {
        let mut text: Vec<u8> = Vec::with_capacity(64 << 10);
        loop {
            self.fill();
            if !self.out.is_empty() {
                let written = timeout(self.plan.patience, stream.write_all(&self.out)).await;
                self.out.clear();
                match written {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Err(error.to_string()),
                    Err(_) => return Err("the server takes nothing".into()),
                }
            }
            if self.flights.is_empty() && self.over() {
                return Ok(());
            }
            let oldest = self.flights.front().map(|flight| flight.sent + self.plan.patience);
            let wake = if self.flights.len() < self.plan.pipeline { self.due() } else { None };
            let deadline =
                oldest.into_iter().chain(wake).chain(self.plan.end.filter(|_| self.flights.is_empty())).min();
            let read = async {
                match stream.read_buf(&mut text).await {
                    Ok(0) => Err("the connection was closed".to_string()),
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.to_string()),
                }
            };
            let until = deadline.unwrap_or_else(|| Instant::now() + self.plan.patience);
            tokio::select! {
                biased;
                read = read => read?,
                () = sleep_until(until) => {
                    if oldest.is_some_and(|oldest| Instant::now() >= oldest) {
                        return Err("no answer in time".into());
                    }
                }
            }
            let mut taken = 0;
            while let Some((reply, took)) = parse(&text[taken..])? {
                taken += took;
                self.answered(&reply)?;
            }
            text.drain(..taken);
        }
    }

    /// When the next request is due, if it is by the clock; `None` when it is as soon as there is room.
    fn due(&self) -> Option<Instant> {
        let rate = self.plan.rate?;
        let place = self.asked as f64 * self.plan.clients as f64 + self.number as f64;
        Some(self.plan.start + Duration::from_secs_f64(place / rate))
    }

    /// Asks as much as there is room for.
    fn fill(&mut self) {
        while self.flights.len() < self.plan.pipeline && !self.over() {
            let now = Instant::now();
            let due = self.due().unwrap_or(now);
            if due > now || self.plan.end.is_some_and(|end| due >= end) {
                return;
            }
            let Some(ask) = self.chooser.next() else {
                self.exhausted = true;
                return;
            };
            self.asked += 1;
            let process = self.processes.pop().unwrap_or_default();
            self.send(ask, due, process, false);
        }
    }

    fn key(&self, number: u64) -> String {
        format!("{}key:{number:012}", self.plan.prefix)
    }

    /// A value that nobody else writes, as long as was wanted where it fits.
    fn value(&mut self) -> String {
        self.written += 1;
        let mut value = format!("{}-{}-{}", self.shared.phase.get(), self.number, self.written);
        if self.shared.history.borrow().is_none() {
            value.truncate(self.plan.value_size);
        }
        let pad = self.plan.value_size.saturating_sub(value.len());
        value.extend(std::iter::repeat_n('x', pad));
        value
    }

    fn send(&mut self, ask: Ask, due: Instant, process: u64, second: bool) {
        let mut key = match &ask {
            Ask::Incr(number) => format!("{}counter:{number:012}", self.plan.prefix),
            Ask::Get(number)
            | Ask::Set(number)
            | Ask::Del(number)
            | Ask::Cas(number)
            | Ask::Range(number, _)
            | Ask::ReadModifyWrite(number) => self.key(*number),
        };
        let out = &mut Vec::new();
        std::mem::swap(out, &mut self.out);
        let what = match &ask {
            Ask::Get(_) => Some(Recorded::Get),
            Ask::ReadModifyWrite(_) if !second => Some(Recorded::Get),
            Ask::Set(_) | Ask::ReadModifyWrite(_) => Some(Recorded::Put(self.value())),
            Ask::Del(_) => Some(Recorded::Delete),
            Ask::Incr(_) => Some(Recorded::Incr),
            Ask::Cas(_) => {
                let (of, old) = self.last.clone().unwrap_or((0, "none".into()));
                key = self.key(of);
                Some(Recorded::Cas(old, self.value()))
            }
            Ask::Range(_, count) => {
                let (from, count) = (format!("[{key}"), count.to_string());
                command(out, &[b"RANGE", from.as_bytes(), b"+", b"LIMIT", count.as_bytes()]);
                None
            }
        };
        let name = key.as_bytes();
        match &what {
            Some(Recorded::Get) => command(out, &[b"GET", name]),
            Some(Recorded::Put(value)) => command(out, &[b"SET", name, value.as_bytes()]),
            Some(Recorded::Delete) => command(out, &[b"DEL", name]),
            Some(Recorded::Incr) => command(out, &[b"INCR", name]),
            Some(Recorded::Cas(old, new)) => command(out, &[b"CAS", name, old.as_bytes(), new.as_bytes()]),
            None => {}
        }
        std::mem::swap(out, &mut self.out);
        let mut history = self.shared.history.borrow_mut();
        let begun = history.as_mut().zip(what).map(|(history, what)| history.invoke(process, key, what));
        drop(history);
        self.flights.push_back(Flight { ask, due, sent: Instant::now(), process, begun, second });
    }

    fn answered(&mut self, reply: &Reply) -> Result<(), String> {
        let Some(flight) = self.flights.pop_front() else {
            return Err(format!("an answer to nothing: {reply:?}"));
        };
        let process = self.record(&flight, Some(reply));
        if let Reply::Error(text) = reply {
            self.processes.push(process);
            self.shared.error(text);
            return Ok(());
        }
        if let (Ask::Get(key), Reply::Bulk(Some(value))) = (&flight.ask, reply) {
            self.last = Some((*key, String::from_utf8_lossy(value).into_owned()));
        }
        if let (Ask::ReadModifyWrite(_), false) = (&flight.ask, flight.second) {
            self.send(flight.ask, flight.due, process, true);
            return Ok(());
        }
        self.processes.push(process);
        self.shared.done(flight.due.elapsed());
        Ok(())
    }

    fn record(&self, flight: &Flight, reply: Option<&Reply>) -> u64 {
        let mut history = self.shared.history.borrow_mut();
        match (history.as_mut(), &flight.begun) {
            (Some(history), Some(begun)) => history.complete(begun, reply),
            _ => flight.process,
        }
    }

    /// The connection is gone: nobody knows what became of what was asked.
    fn abandon(&mut self) {
        self.out.clear();
        while let Some(flight) = self.flights.pop_front() {
            let process = self.record(&flight, None);
            self.processes.push(process);
            self.shared.error("NOANSWER");
        }
    }
}

/// A connection on which the user has been named and the level set, as the plan says.
pub(super) async fn open(plan: &Plan, address: &str) -> Result<TcpStream, String> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let mut first: Vec<Vec<&[u8]>> = Vec::new();
    if let Some(Credentials { user, password }) = &plan.credentials {
        first.push(vec![b"AUTH", user.as_bytes(), password.0.as_bytes()]);
    }
    if let Some(level) = &plan.consistency {
        first.push(vec![b"CONSISTENCY", level.as_bytes()]);
    }
    for words in first {
        ask(&mut stream, address, &words).await?;
    }
    Ok(stream)
}

/// Asks one thing on a connection that waits for nothing else; `Err` if it is answered with an error.
pub(super) async fn ask(stream: &mut TcpStream, address: &str, words: &[&[u8]]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let (mut out, mut text) = (Vec::new(), Vec::new());
    command(&mut out, words);
    stream.write_all(&out).await.map_err(failed)?;
    loop {
        match parse(&text)? {
            Some((Reply::Error(text), _)) => return Err(format!("{address}: {text}")),
            Some(_) => return Ok(()),
            None => {}
        }
        if stream.read_buf(&mut text).await.map_err(failed)? == 0 {
            return Err(format!("{address}: the connection was closed"));
        }
    }
}

/// A command as a list of strings.
fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}
