//! ACL: who may come in, and do what.

use super::Connection;
use super::about::Answer;
use crate::access::log::Refused;
use crate::access::{DEFAULT, Denied, Selector, User};
use crate::commands::facts::{CATEGORIES, is_of};
use crate::commands::{Found, all, err, help, integer, lookup_any, unknown_or_wrong};
use crate::resp::{Args, Value};
use crate::server::now_ms;
use crate::users::{Refusal, Users, WRONG_PASSWORD, no_command};
use bytes::Bytes;

/// Bits of a password at most, and unless told.
const PASSWORD_BITS_MAX: i64 = 4096;
const PASSWORD_BITS: i64 = 256;
const SUBCOMMANDS: &str = "CAT DELUSER DRYRUN GENPASS GETUSER LIST LOAD LOG SAVE SETUSER USERS WHOAMI";
const NO_FILE: &str = "This Valkey instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Valkey configuration file set) in order to store users in the Valkey configuration.";

/// What waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    Save,
    Load,
}

fn bulk(bytes: impl Into<Bytes>) -> Value {
    Value::Bulk(bytes.into())
}

impl Connection {
    pub(super) fn acl(&mut self, sub: &str, a: Args<'_>) -> Answer {
        let users = &self.server.users;
        match sub {
            "whoami" => Ok(Value::Bulk(self.identity.user().name().clone())),
            "users" => {
                let name = |user: &User| Value::Bulk(user.name().clone());
                Ok(Value::Array(users.look(|table| table.iter().map(name).collect())))
            }
            "list" => {
                Ok(Value::Array(users.look(|table| table.iter().map(|user| bulk(user.line())).collect())))
            }
            "getuser" => {
                Ok(users.look(|table| table.named(&a[2]).map_or(Value::Null, |one| describe(&one.user))))
            }
            "setuser" => {
                let rules: Vec<&[u8]> = a.tail(3).iter().collect();
                let changed = users.change(|table| table.set(&a[2], &rules));
                changed.map_err(|text| Value::error([b"ERR ", &text[..]].concat()))?;
                Ok(Value::Status("OK"))
            }
            "deluser" => self.delete_users(&a.tail(2)),
            "cat" => categories(&a),
            "genpass" => password(&a),
            "dryrun" => dry_run(users, &a),
            "log" => log(users, &a),
            _ => Ok(help("ACL", SUBCOMMANDS)),
        }
    }

    /// Counts and notes a request that was refused; its answer.
    pub(super) fn refuse(&self, refusal: Refusal, found: Found, a: &Args<'_>) -> Value {
        let client = || self.client.describe();
        self.server.note_refusal(&self.identity, refusal, found, a, client);
        Value::error(self.identity.text(refusal, found))
    }

    /// Counts and notes a wrong password; its answer.
    pub(super) fn refuse_password(&self, user: &[u8]) -> Value {
        self.server.note_wrong_password(user, self.client.describe());
        Value::error(WRONG_PASSWORD)
    }

    fn delete_users(&mut self, names: &Args<'_>) -> Answer {
        if names.iter().any(|name| name == DEFAULT) {
            return Err(err("The 'default' user cannot be removed"));
        }
        let users = &self.server.users;
        let removed = users.change(|table| names.iter().filter(|name| table.remove(name)).count());
        // Who has removed itself is answered before it goes.
        self.closing |= self.server.clients.cut_strangers(&users.serials(), self.client.id);
        Ok(Value::Integer(removed as i64))
    }

    /// ACL SAVE and ACL LOAD, on a thread of their own: nobody else of this shard waits for the disk.
    pub(super) async fn file_of_users(&mut self, job: Job) -> Value {
        let users = self.server.users.clone();
        if users.file().is_none() {
            return err(NO_FILE);
        }
        let (done, result) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let result = if job == Job::Save { users.save() } else { users.load() };
            // The connection may have gone meanwhile.
            let _gone = done.send(result);
        });
        match (result.await, job) {
            (Ok(Ok(())), Job::Save) => Value::Status("OK"),
            (Ok(Ok(())), Job::Load) => {
                let serials = self.server.users.serials();
                self.closing |= self.server.clients.cut_strangers(&serials, self.client.id);
                Value::Status("OK")
            }
            (Ok(Err(reason)), Job::Load) => err(&format!("{reason}. The users are as they were")),
            (Ok(Err(reason)), Job::Save) => {
                tracing::warn!("the users are not saved: {reason}");
                err(&format!("the users are not saved: {reason}"))
            }
            (Err(_), _) => err("the file of users could not be used"),
        }
    }
}

fn categories(a: &Args<'_>) -> Answer {
    match a.len() {
        2 => Ok(Value::Array(CATEGORIES.iter().map(|name| Value::text(&name[1..])).collect())),
        3 => {
            let is_meant = |name: &str| name.as_bytes()[1..].eq_ignore_ascii_case(&a[2]);
            let category = CATEGORIES.iter().position(|name| is_meant(name));
            let unknown = || {
                let shown = &a[2][..a[2].len().min(128)];
                Value::error([b"ERR Unknown category '", shown, b"'"].concat())
            };
            let category = category.ok_or_else(unknown)?;
            let of_it = all().filter(|found| is_of(found.id, category));
            Ok(Value::Array(of_it.map(|found| Value::text(found.command.name)).collect()))
        }
        _ => Err(unknown_or_wrong(&a[1], "ACL")),
    }
}

/// A password that nobody can guess, in hexadecimal.
fn password(a: &Args<'_>) -> Answer {
    let bits = match a.len() {
        2 => PASSWORD_BITS,
        3 => integer(&a[2])?,
        _ => return Err(unknown_or_wrong(&a[1], "ACL")),
    };
    if !(1..=PASSWORD_BITS_MAX).contains(&bits) {
        return Err(err(&format!(
            "ACL GENPASS argument must be the number of bits for the output password, a positive number up to {PASSWORD_BITS_MAX}"
        )));
    }
    let mut random = vec![0; (bits as usize).div_ceil(8)];
    getrandom::fill(&mut random).map_err(|error| err(&format!("the system gives no randomness: {error}")))?;
    let digit = |at: usize| char::from_digit(u32::from(random[at / 2] >> (4 * (at % 2)) & 0xf), 16);
    Ok(Value::text((0..(bits as usize).div_ceil(4)).filter_map(digit).collect::<String>()))
}

fn dry_run(users: &Users, a: &Args<'_>) -> Answer {
    let quoted = |before: &[u8], name: &[u8]| {
        Value::error([b"ERR ", before, b" '", &name[..name.len().min(128)], b"' not found"].concat())
    };
    let entry = users.look(|table| table.named(&a[2]).cloned());
    let user = entry.ok_or_else(|| quoted(b"User", &a[2]))?.user;
    let call = a.tail(3);
    let found = lookup_any(&call).ok_or_else(|| quoted(b"Command", &a[3]))?;
    if !found.command.takes(call.len()) {
        return Err(crate::commands::wrong_arity(found.command.name));
    }
    Ok(match user.check(found, &call) {
        Ok(()) => Value::Status("OK"),
        Err(Denied::Command) => bulk(no_command(&user, found)),
        Err(Denied::Key(at)) => {
            let words =
                [&b"User "[..], user.name(), b" has no permissions to access the '", &call[at], b"' key"];
            bulk(words.concat())
        }
    })
}

fn selector(selector: &Selector) -> Vec<(Value, Value)> {
    vec![
        (Value::text("commands"), bulk(selector.command_rules())),
        (Value::text("keys"), bulk(selector.key_rules())),
        (Value::text("channels"), bulk(selector.channel_rules())),
    ]
}

fn describe(user: &User) -> Value {
    let passwords = user.passwords().iter().map(|password| Value::text(password.text()));
    let mut pairs = vec![
        (Value::text("flags"), Value::Set(user.flags().map(Value::text).collect())),
        (Value::text("passwords"), Value::Array(passwords.collect())),
    ];
    pairs.extend(selector(&user.selectors()[0]));
    let others = user.selectors()[1..].iter().map(|one| Value::Map(selector(one)));
    pairs.push((Value::text("selectors"), Value::Array(others.collect())));
    Value::Map(pairs)
}

fn log(users: &Users, a: &Args<'_>) -> Answer {
    let count = match a.at(2) {
        _ if a.len() > 3 => return Err(unknown_or_wrong(&a[1], "ACL")),
        None => 10,
        Some(word) if word.eq_ignore_ascii_case(b"reset") => {
            users.log().clear();
            return Ok(Value::Status("OK"));
        }
        Some(number) => integer(number)?,
    };
    let now = now_ms();
    let log = users.log();
    Ok(Value::Array(log.latest(usize::try_from(count).unwrap_or(0)).map(|entry| tell(entry, now)).collect()))
}

fn tell(entry: &Refused, now_ms: u64) -> Value {
    let age = now_ms.saturating_sub(entry.last_ms) as f64 / 1_000.0;
    let pairs = [
        ("count", Value::Integer(entry.count as i64)),
        ("reason", Value::text(entry.what.reason)),
        ("context", Value::text("toplevel")),
        ("object", Value::Bulk(entry.what.object.clone())),
        ("username", Value::Bulk(entry.what.user.clone())),
        ("age-seconds", Value::text(age.to_string())),
        ("client-info", Value::text(entry.client.trim_end())),
        ("entry-id", Value::Integer(entry.id as i64)),
        ("timestamp-created", Value::Integer(entry.first_ms as i64)),
        ("timestamp-last-updated", Value::Integer(entry.last_ms as i64)),
    ];
    Value::Map(pairs.into_iter().map(|(name, value)| (Value::text(name), value)).collect())
}
