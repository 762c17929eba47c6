//! What all connections of a node share, and what they are told about it.

use crate::access::Denied;
use crate::access::log::What;
use crate::clients::Clients;
use crate::commands::{Found, err, help, level_name, word};
use crate::cursors::Cursors;
use crate::glob;
use crate::guard::Guard;
use crate::inbox::Shard;
use crate::resp::{Args, Value};
use crate::stats::Stats;
use crate::users::{Identity, Refusal, Users};
use bytes::Bytes;
use samara_core::base::{Config, Level, NodeId};
use samara_core::rules::ring::SlotTable;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// What all connections of a node share.
#[derive(Debug)]
pub struct Server {
    /// The shards of this process.
    pub shards: Arc<Vec<Shard>>,
    /// The level that a connection begins with.
    pub level: Level,
    /// What is counted.
    pub stats: Arc<Stats>,
    /// This node.
    pub node: NodeId,
    /// The cluster.
    pub config: Config,
    /// Who holds what.
    pub table: SlotTable,
    /// Host and client port of each member, as clients are told.
    pub addresses: BTreeMap<NodeId, (String, u16)>,
    /// How long a commit may wait for its sync, as CONFIG GET says it.
    pub durability: String,
    /// What makes the cluster this one, as the flags say it.
    pub setup: String,
    /// The floors of key spaces, as the flag says them.
    pub floors: String,
    /// Client connections at a time.
    pub max_clients: u64,
    /// Who is let in.
    pub guard: Guard,
    /// Who may come in, and do what.
    pub users: Arc<Users>,
    /// Who is connected.
    pub clients: Clients,
    /// The latest cursors of SCAN.
    pub cursors: Cursors,
    /// Told when the node stops.
    pub stop: Stop,
}

/// The end of serving, which connections wait for.
#[derive(Debug, Default)]
pub struct Stop {
    stopping: AtomicBool,
    wake: Notify,
}

impl Stop {
    /// From now on connections end when their clients have been answered.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake.notify_waiters();
    }

    async fn stopped(&self) {
        let woken = self.wake.notified();
        tokio::pin!(woken);
        // Enabled before the check: a stop in between is heard.
        woken.as_mut().enable();
        if !self.stopping.load(Ordering::SeqCst) {
            woken.await;
        }
    }
}

/// Milliseconds since the epoch.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

impl Server {
    /// Waits until the node stops.
    pub async fn stopped(&self) {
        self.stop.stopped().await;
    }

    /// Counts and notes a request that was refused.
    pub fn note_refusal(
        &self,
        identity: &Identity,
        refusal: Refusal,
        found: Found,
        a: &Args<'_>,
        client: impl FnOnce() -> String,
    ) {
        let Refusal::NoPermission(denied) = refusal else {
            return;
        };
        let (counter, reason, object) = match denied {
            Denied::Command => (&self.stats.denied_commands, "command", found.command.name.as_bytes()),
            Denied::Key(at) => (&self.stats.denied_keys, "key", &a[at]),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let what = What::new(reason, object, identity.user().name());
        self.users.log().note(what, client(), now_ms());
    }

    /// Counts and notes a wrong password of whoever `user` is said to be.
    pub fn note_wrong_password(&self, user: &[u8], client: String) {
        self.stats.denied_auth.fetch_add(1, Ordering::Relaxed);
        self.users.log().note(What::new("auth", b"AUTH", user), client, now_ms());
    }

    /// INFO of these sections; all without any.
    pub fn info(&self, wanted: &Args<'_>) -> Value {
        let named = |section: &str| wanted.iter().any(|name| name.eq_ignore_ascii_case(section.as_bytes()));
        let all = wanted.is_empty() || ["all", "default", "everything"].into_iter().any(named);
        let shown = self.sections().into_iter().filter(|(section, _)| all || named(section));
        let section = |(section, lines): (&str, Vec<(&str, String)>)| {
            let lines: String = lines.iter().flat_map(|(key, value)| [key, ":", value, "\r\n"]).collect();
            format!("# {section}\r\n{lines}")
        };
        let text = shown.map(section).collect::<Vec<_>>().join("\r\n");
        Value::Verbatim(Bytes::from(text))
    }

    fn sections(&self) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
        let stats = &self.stats;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed).to_string();
        let server = vec![
            ("redis_version", "7.2.4".to_string()),
            ("server_name", "samara".into()),
            ("samara_version", env!("CARGO_PKG_VERSION").into()),
            ("redis_mode", "standalone".into()),
            ("process_id", std::process::id().to_string()),
            ("uptime_in_seconds", stats.started.elapsed().as_secs().to_string()),
        ];
        let clients = vec![
            ("connected_clients", count(&stats.connections)),
            ("maxclients", self.max_clients.to_string()),
        ];
        let counted = vec![
            ("total_connections_received", count(&stats.connections_total)),
            ("total_commands_processed", count(&stats.commands)),
            ("rejected_connections", count(&stats.connections_refused)),
            ("acl_access_denied_auth", count(&stats.denied_auth)),
            ("acl_access_denied_cmd", count(&stats.denied_commands)),
            ("acl_access_denied_key", count(&stats.denied_keys)),
            ("acl_access_denied_channel", "0".into()),
        ];
        let cluster = vec![
            ("cluster_enabled", "0".to_string()),
            ("samara_node", self.node.0.to_string()),
            ("samara_members", self.config.members.len().to_string()),
            ("samara_replication", self.config.replication.to_string()),
            ("samara_shards", self.shards.len().to_string()),
            ("samara_consistency", level_name(self.level).into()),
            ("samara_durability", self.durability.clone()),
        ];
        let replication = vec![("role", "master".to_string()), ("connected_slaves", "0".into())];
        vec![
            ("Server", server),
            ("Clients", clients),
            ("Stats", counted),
            ("Replication", replication),
            ("Cluster", cluster),
        ]
    }

    /// CONFIG.
    pub fn config(&self, sub: &str, a: &Args<'_>) -> Result<Value, Value> {
        let file = self.users.file().map(|path| path.display().to_string()).unwrap_or_default();
        let known = [
            ("acl-pubsub-default", "resetchannels".to_string()),
            ("aclfile", file),
            ("appendonly", "yes".to_string()),
            ("appendfsync", if self.durability == "sync" { "always".into() } else { "everysec".to_string() }),
            ("databases", "1".into()),
            ("maxclients", self.max_clients.to_string()),
            ("maxmemory", "0".into()),
            ("protected-mode", if self.guard.is_protected { "yes".into() } else { "no".into() }),
            ("samara-auth-timeout", self.guard.auth_timeout.as_secs().to_string()),
            ("slowlog-log-slower-than", crate::slowlog::SLOWER_THAN.as_micros().to_string()),
            ("save", String::new()),
            ("samara-consistency", level_name(self.level).into()),
            ("samara-consistency-floor", self.floors.clone()),
            ("samara-durability", self.durability.clone()),
            ("samara-replication", self.config.replication.to_string()),
        ];
        match sub {
            "get" => {
                let globs: Vec<Vec<u8>> = a.tail(2).iter().map(<[u8]>::to_ascii_lowercase).collect();
                let wanted = |name: &str| globs.iter().any(|glob| glob::matches(glob, name.as_bytes()));
                let pairs = known.into_iter().filter(|(name, _)| wanted(name));
                Ok(Value::Map(pairs.map(|(name, value)| (Value::text(name), Value::text(value))).collect()))
            }
            "set" => {
                let name = word(&a[2]).to_ascii_lowercase();
                if name == "requirepass" {
                    return Err(err(
                        "CONFIG SET failed (possibly related to argument 'requirepass') - use ACL SETUSER default resetpass >password, and ACL SAVE",
                    ));
                }
                if known.iter().all(|(known, _)| *known != name) {
                    let text = [b"ERR Unknown option or number of arguments for CONFIG SET - '", &a[2], b"'"];
                    return Err(Value::error(text.concat()));
                }
                Err(err(&format!(
                    "CONFIG SET failed (possibly related to argument '{name}') - it is set when the node starts: see samara node --help"
                )))
            }
            "resetstat" => Ok(Value::Status("OK")),
            _ => Ok(help("CONFIG", "GET RESETSTAT SET")),
        }
    }
}
