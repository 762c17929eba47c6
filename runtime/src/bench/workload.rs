//! What the load generator asks for: mixes of operations, and keys evenly or by Zipf's law.

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    Get(u64),
    Set(u64),
    /// A counter; counters are keys of their own.
    Incr(u64),
    Del(u64),
    Cas(u64),
    /// From this key on, so many.
    Range(u64, u64),
    /// A read and then a write of one key, as one operation.
    ReadModifyWrite(u64),
}

/// The mixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mix {
    Get,
    Set,
    Incr,
    Mixed,
    /// Writes every key once.
    Load,
    /// Of YCSB, a to f.
    Ycsb(char),
}

impl Mix {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "get" => Self::Get,
            "set" => Self::Set,
            "incr" => Self::Incr,
            "mixed" => Self::Mixed,
            _ => match text.strip_prefix("ycsb-").map(str::as_bytes) {
                Some([letter @ b'a'..=b'f']) => Self::Ycsb(char::from(*letter)),
                _ => {
                    return Err(format!("--workload {text}: give get, set, incr, mixed or ycsb-a to ycsb-f"));
                }
            },
        })
    }
}

/// A small generator of pseudorandom numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scatter(self.0)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// At least 0 and less than 1.
    fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn scatter(mut mixed: u64) -> u64 {
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Ranks by Zipf's law with exponent 0.99, rank 0 the most frequent (Gray et al., "Quickly generating billion-record synthetic
/// databases", 1994).
#[derive(Debug, Clone)]
pub(super) struct Zipf {
    count: u64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

const THETA: f64 = 0.99;

impl Zipf {
    pub(super) fn new(count: u64) -> Self {
        let zeta = |upto: u64| (1..=upto).map(|rank| (rank as f64).powf(-THETA)).sum::<f64>();
        let all = zeta(count);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - THETA)) / (1.0 - zeta(2) / all);
        Self { count, zeta: all, alpha: 1.0 / (1.0 - THETA), eta }
    }

    fn rank(&self, random: &mut Random) -> u64 {
        let unit = random.unit();
        let scaled = unit * self.zeta;
        if scaled < 1.0 || self.count < 2 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        let rank = self.count as f64 * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count - 1)
    }
}

/// Chooses for one client.
#[derive(Debug, Clone)]
pub(super) struct Chooser {
    pub(super) mix: Mix,
    pub(super) keys: u64,
    /// Even where there is none.
    pub(super) zipf: Option<Zipf>,
    pub(super) random: Random,
    /// Keys that this client has added, and how far its next one is from the last.
    pub(super) added: u64,
    pub(super) clients: u64,
    pub(super) client: u64,
}

/// Keys that a scan asks for at most.
const SCANNED_MAX: u64 = 100;

impl Chooser {
    fn key(&mut self) -> u64 {
        match &self.zipf {
            // Frequent keys shall not be neighbours.
            Some(zipf) => scatter(zipf.rank(&mut self.random)) % self.keys,
            None => self.random.below(self.keys),
        }
    }

    /// One of the keys added last.
    fn latest(&mut self) -> u64 {
        let back = match &self.zipf {
            Some(zipf) => zipf.rank(&mut self.random),
            None => self.random.below(self.keys),
        };
        (self.keys + self.added * self.clients).saturating_sub(1 + back)
    }

    fn add(&mut self) -> u64 {
        self.added += 1;
        self.keys + (self.added - 1) * self.clients + self.client
    }

    /// What to ask next; `None` for nothing more.
    pub(super) fn next(&mut self) -> Option<Ask> {
        if self.mix == Mix::Load {
            let key = self.added * self.clients + self.client;
            self.added += 1;
            return (key < self.keys).then_some(Ask::Set(key));
        }
        let luck = self.random.below(100);
        Some(self.choose(luck))
    }

    fn choose(&mut self, luck: u64) -> Ask {
        match self.mix {
            Mix::Get | Mix::Ycsb('c') => Ask::Get(self.key()),
            Mix::Set | Mix::Load => Ask::Set(self.key()),
            Mix::Incr => Ask::Incr(self.key()),
            Mix::Mixed => match luck {
                0..50 => Ask::Get(self.key()),
                50..80 => Ask::Set(self.key()),
                80..90 => Ask::Incr(self.key()),
                90..95 => Ask::Del(self.key()),
                _ => Ask::Cas(self.key()),
            },
            Mix::Ycsb('a') => {
                if luck < 50 {
                    Ask::Get(self.key())
                } else {
                    Ask::Set(self.key())
                }
            }
            Mix::Ycsb('b') => {
                if luck < 95 {
                    Ask::Get(self.key())
                } else {
                    Ask::Set(self.key())
                }
            }
            Mix::Ycsb('d') => {
                if luck < 95 {
                    Ask::Get(self.latest())
                } else {
                    Ask::Set(self.add())
                }
            }
            Mix::Ycsb('e') => {
                if luck < 95 {
                    Ask::Range(self.key(), 1 + self.random.below(SCANNED_MAX))
                } else {
                    Ask::Set(self.add())
                }
            }
            Mix::Ycsb(_) => {
                if luck < 50 {
                    Ask::Get(self.key())
                } else {
                    Ask::ReadModifyWrite(self.key())
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chooser(mix: Mix, zipf: Option<Zipf>) -> Chooser {
        Chooser { mix, keys: 1_000, zipf, random: Random(7), added: 0, clients: 4, client: 1 }
    }

    #[test]
    fn zipf_prefers_few_keys_and_reaches_many() {
        let zipf = Zipf::new(1_000);
        let mut random = Random(1);
        let mut counts = vec![0_u32; 1_000];
        (0..100_000).for_each(|_| counts[zipf.rank(&mut random) as usize] += 1);
        // Of a thousand, rank 0 has 1 / zeta = 12.9 %, and rank 1 half as many.
        assert!((12_000..14_000).contains(&counts[0]), "{}", counts[0]);
        assert!((5_800..7_200).contains(&counts[1]), "{}", counts[1]);
        assert!(counts.iter().filter(|count| **count > 0).count() > 900);
    }

    #[test]
    fn mixes_ask_in_their_proportions() {
        let share = |mix: Mix, is: fn(&Ask) -> bool| {
            let mut chooser = chooser(mix, Some(Zipf::new(1_000)));
            (0..10_000).filter(|_| chooser.next().is_some_and(|ask| is(&ask))).count() / 100
        };
        assert_eq!(share(Mix::Get, |ask| matches!(ask, Ask::Get(0..1_000))), 100);
        assert_eq!(share(Mix::Incr, |ask| matches!(ask, Ask::Incr(0..1_000))), 100);
        assert!((47..53).contains(&share(Mix::Ycsb('a'), |ask| matches!(ask, Ask::Set(_)))));
        assert!((3..8).contains(&share(Mix::Ycsb('b'), |ask| matches!(ask, Ask::Set(_)))));
        assert!((3..8).contains(&share(Mix::Ycsb('d'), |ask| matches!(ask, Ask::Set(1_000..)))), "new keys");
        assert!((92..98).contains(&share(Mix::Ycsb('e'), |ask| matches!(ask, Ask::Range(_, 1..=100)))));
        assert!((47..53).contains(&share(Mix::Ycsb('f'), |ask| matches!(ask, Ask::ReadModifyWrite(_)))));
    }

    #[test]
    fn every_key_is_loaded_once() {
        let mut all = Vec::new();
        for client in 0..4 {
            let mut chooser = Chooser { client, ..chooser(Mix::Load, None) };
            while let Some(Ask::Set(key)) = chooser.next() {
                all.push(key);
            }
        }
        all.sort_unstable();
        assert_eq!(all, (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn workloads_by_name() {
        assert_eq!(Mix::parse("ycsb-f"), Ok(Mix::Ycsb('f')));
        for bad in ["", "ycsb-", "ycsb-g", "ycsb-aa", "GET"] {
            assert!(Mix::parse(bad).is_err(), "{bad}");
        }
    }
}
