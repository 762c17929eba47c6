//! Users by random rules, and requests that they may or may not make. The same seed gives the same lines.

/// A draw of random lines.
pub struct Draw(u64);

const CATEGORIES: &[&str] = &[
    "keyspace",
    "read",
    "write",
    "string",
    "admin",
    "fast",
    "slow",
    "dangerous",
    "connection",
    "list",
    "pubsub",
];
const COMMANDS: &[&str] = &[
    "get",
    "set",
    "del",
    "mget",
    "incr",
    "copy",
    "rename",
    "config",
    "client",
    "acl",
    "object",
    "scan",
    "keys",
    "select",
    "ping",
    "config|get",
    "config|set",
    "client|id",
    "acl|whoami",
    "object|encoding",
    "hello",
];
const PATTERNS: &[&str] = &["*", "a*", "b", "?", "[ab]*", "\\*", "user:*", "a\\*b", "[^a]?", "x*y*", "a**"];
const OTHERS: &[&str] = &[
    "+@all",
    "-@all",
    "allcommands",
    "nocommands",
    "allkeys",
    "resetkeys",
    "~*",
    "+select|0",
    "+echo|x",
    "+config|get|x",
    "-get|a",
    "clearselectors",
    "reset",
    "(",
    "foo",
    "%~a",
    "%",
    "+",
    "(+get ~a)",
    "(+@read %R~b*)",
    "(+set)",
];
const KEYS: &[&str] = &["a", "b", "ab", "a*b", "*", "user:1", "xzy", "x", "ba", "cc"];
/// Requests, in which `K` is some key.
const REQUESTS: &[&str] = &[
    "get K",
    "set K v",
    "set K v GET",
    "del K K",
    "mget K K K",
    "mset K a K b",
    "msetnx K a K b",
    "incr K",
    "copy K K",
    "rename K K",
    "exists K",
    "object encoding K",
    "memory usage K",
    "getex K",
    "getdel K",
    "append K v",
    "expire K 1",
    "touch K",
    "scan 0",
    "keys *",
    "select 0",
    "select 1",
    "config get x",
    "config set a b",
    "client id",
    "client kill x",
    "acl whoami",
    "slowlog get",
    "auth x",
    "ping",
    "echo x",
    "flushall",
    "dbsize",
];

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % bound
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    fn rule(&mut self) -> String {
        let sign = self.one_of(&["+", "-"]);
        match self.below(10) {
            0 | 1 => format!("{sign}@{}", self.one_of(CATEGORIES)),
            2..=4 => format!("{sign}{}", self.one_of(COMMANDS)),
            5..=7 => {
                let kind = self.one_of(&["~", "%R~", "%W~", "%RW~", "%r~"]);
                format!("{kind}{}", self.one_of(PATTERNS))
            }
            _ => self.one_of(OTHERS).into(),
        }
    }

    /// A change of the user `u` by some rules.
    pub fn change(&mut self) -> String {
        let rules: Vec<String> = (0..=self.below(5)).map(|_| self.rule()).collect();
        format!("ACL SETUSER u {}", rules.join(" "))
    }

    /// Whether `u` may make some request.
    pub fn request(&mut self) -> String {
        let request = self.one_of(REQUESTS);
        let words: Vec<&str> =
            request.split(' ').map(|word| if word == "K" { self.one_of(KEYS) } else { word }).collect();
        format!("ACL DRYRUN u {}", words.join(" "))
    }
}
