//! The clients of a node: who is connected, for CLIENT LIST and CLIENT KILL.

use crate::access::DEFAULT;
use crate::commands::{err, integer, syntax, word};
use crate::resp::{Args, Value};
use crate::users::Users;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// What others may know of a connection.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub id: u64,
    /// The client's address, and this node's.
    addresses: (String, String),
    since: Instant,
    /// Milliseconds after `since` at which it was heard last.
    heard: AtomicU64,
    /// The RESP version spoken.
    pub version: AtomicU8,
    /// Its name, and its library's name and version.
    names: Mutex<[Bytes; 3]>,
    /// Its user, and which one of that name.
    user: Mutex<(Bytes, u64)>,
    killed: AtomicBool,
    wake: Notify,
}

/// Which of the names of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// CLIENT SETNAME.
    Own,
    /// CLIENT SETINFO LIB-NAME.
    Library,
    /// CLIENT SETINFO LIB-VER.
    LibraryVersion,
}

/// Nothing panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    fn new(id: u64, address: Option<SocketAddr>, own: Option<SocketAddr>) -> Self {
        let text = |address: Option<SocketAddr>| address.map_or_else(|| "?:0".into(), |a| a.to_string());
        Self {
            id,
            addresses: (text(address), text(own)),
            since: Instant::now(),
            heard: AtomicU64::new(0),
            version: AtomicU8::new(2),
            names: Mutex::default(),
            user: Mutex::new((Bytes::from_static(DEFAULT), 0)),
            killed: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// A name of it.
    pub fn name(&self, which: Name) -> Bytes {
        lock(&self.names)[which as usize].clone()
    }

    /// Sets a name.
    pub fn set_name(&self, which: Name, name: Bytes) {
        lock(&self.names)[which as usize] = name;
    }

    /// Goes on as this user.
    pub fn set_user(&self, name: Bytes, serial: u64) {
        *lock(&self.user) = (name, serial);
    }

    fn user(&self) -> (Bytes, u64) {
        lock(&self.user).clone()
    }

    /// It has sent something.
    pub fn heard(&self) {
        self.heard.store(self.since.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Waits until it is killed.
    pub async fn killed(&self) {
        let woken = self.wake.notified();
        tokio::pin!(woken);
        // Enabled before the check: a kill in between is heard.
        woken.as_mut().enable();
        if !self.killed.load(Ordering::SeqCst) {
            woken.await;
        }
    }

    fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.wake.notify_waiters();
    }

    /// Its line in CLIENT LIST.
    pub fn describe(&self) -> String {
        let [name, library, version] =
            lock(&self.names).clone().map(|name| String::from_utf8_lossy(&name).into_owned());
        let user = String::from_utf8_lossy(&self.user().0).into_owned();
        let age = self.since.elapsed();
        let idle = age.as_millis() as u64 - self.heard.load(Ordering::Relaxed).min(age.as_millis() as u64);
        format!(
            "id={} addr={} laddr={} name={name} age={} idle={} flags=N db=0 user={user} resp={} lib-name={library} lib-ver={version}\n",
            self.id,
            self.addresses.0,
            self.addresses.1,
            age.as_secs(),
            idle / 1_000,
            self.version.load(Ordering::Relaxed),
        )
    }
}

/// The clients that are connected.
#[derive(Debug, Default)]
pub struct Clients {
    by_id: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    /// A client has come; it is listed until `leave`.
    pub fn enter(&self, id: u64, address: Option<SocketAddr>, own: Option<SocketAddr>) -> Arc<Client> {
        let client = Arc::new(Client::new(id, address, own));
        lock(&self.by_id).insert(id, client.clone());
        client
    }

    /// A client has gone.
    pub fn leave(&self, id: u64) {
        lock(&self.by_id).remove(&id);
    }

    fn all(&self) -> Vec<Arc<Client>> {
        lock(&self.by_id).values().cloned().collect()
    }

    /// CLIENT LIST [TYPE t] [ID id ...].
    pub fn list(&self, a: &Args<'_>) -> Result<Value, Value> {
        let mut shown = self.all();
        match (a.at(2).map(word).as_deref(), a.at(3)) {
            (None, _) => {}
            (Some("TYPE"), Some(kind)) if a.len() == 4 => {
                if !is_normal(kind)? {
                    shown.clear();
                }
            }
            (Some("ID"), Some(_)) => {
                let ids: Result<Vec<u64>, Value> = a.tail(3).iter().map(client_id).collect();
                let ids = ids.map_err(|_| err("Invalid client ID"))?;
                shown.retain(|client| ids.contains(&client.id));
            }
            _ => return Err(syntax()),
        }
        let lines: String = shown.iter().map(|client| client.describe()).collect();
        Ok(Value::Verbatim(Bytes::from(lines)))
    }

    /// Cuts the connections of users that are none of `serials` any more; whether `me` is one of them.
    pub fn cut_strangers(&self, serials: &[u64], me: u64) -> bool {
        let mut strangers = self.all();
        strangers.retain(|client| !serials.contains(&client.user().1));
        kill_all(&strangers, me)
    }

    /// CLIENT KILL, asked by `me`. The flag tells whether `me` is among the killed.
    pub fn kill(&self, a: &Args<'_>, me: u64, users: &Users) -> Result<(Value, bool), Value> {
        let (mut skip_me, mut wanted) = (true, self.all());
        if a.len() == 3 {
            let address = String::from_utf8_lossy(&a[2]).into_owned();
            wanted.retain(|client| client.addresses.0 == address);
            if wanted.is_empty() {
                return Err(err("No such client"));
            }
            return Ok((Value::Status("OK"), kill_all(&wanted, me)));
        }
        for at in (2..a.len()).step_by(2) {
            let value = a.at(at + 1).ok_or_else(syntax)?;
            let text = String::from_utf8_lossy(value).into_owned();
            match word(&a[at]).as_str() {
                "ID" => {
                    let id = client_id(value)?;
                    wanted.retain(|client| client.id == id);
                }
                "ADDR" => wanted.retain(|client| client.addresses.0 == text),
                "LADDR" => wanted.retain(|client| client.addresses.1 == text),
                "TYPE" => {
                    if !is_normal(value)? {
                        wanted.clear();
                    }
                }
                "USER" => {
                    if users.look(|table| table.named(value).is_none()) {
                        return Err(err(&format!("No such user '{text}'")));
                    }
                    wanted.retain(|client| client.user().0 == value);
                }
                "SKIPME" => match word(value).as_str() {
                    "YES" => skip_me = true,
                    "NO" => skip_me = false,
                    _ => return Err(syntax()),
                },
                _ => return Err(syntax()),
            }
        }
        wanted.retain(|client| !(skip_me && client.id == me));
        Ok((Value::Integer(wanted.len() as i64), kill_all(&wanted, me)))
    }
}

/// Kills all but `me`, who is to have an answer first; whether `me` is among them.
fn kill_all(clients: &[Arc<Client>], me: u64) -> bool {
    clients.iter().filter(|client| client.id != me).for_each(|client| client.kill());
    clients.iter().any(|client| client.id == me)
}

fn client_id(text: &[u8]) -> Result<u64, Value> {
    let id = integer(text).ok().and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
    id.ok_or_else(|| err("client-id should be greater than 0"))
}

/// All clients here are normal ones: there are no replicas of Redis' kind, and nobody subscribes.
fn is_normal(kind: &[u8]) -> Result<bool, Value> {
    match word(kind).as_str() {
        "NORMAL" => Ok(true),
        "MASTER" | "REPLICA" | "SLAVE" | "PUBSUB" => Ok(false),
        _ => Err(Value::error([b"ERR Unknown client type '", kind, b"'"].concat())),
    }
}
