//! What a session guarantee that was broken is shown with.

use super::{Sessions, found};
use crate::causal::Anomaly;
use crate::pattern::{Kind, Pattern, Relation, Step};
use crate::show;

/// A guarantee that was broken by the read at `at`, of what `source` wrote, or of nothing.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) broken: Broken,
    pub(super) source: Option<u32>,
    pub(super) at: u32,
}

/// A read that sees less than a write of its key that its session knew of, and how it knew. Places are those in a session.
#[derive(Debug, Clone, Copy)]
pub(super) enum Broken {
    /// The session wrote it.
    OwnWrite { write: u32 },
    /// The session read it, at this place.
    OwnRead { write: u32, place: u32 },
    /// Another session wrote it, and then, at `upto`, what this one read.
    ItsWrite { write: u32, session: u32, upto: u32 },
    /// Another session read it, at this place, and then wrote, at `upto`, what this one read.
    ItsRead { write: u32, place: u32, session: u32, upto: u32 },
}

impl Broken {
    /// The name of the guarantee, and what was done to it.
    fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::OwnWrite { .. } => ("read your writes", "a session does not see what it wrote itself"),
            Self::OwnRead { .. } => ("monotonic reads", "a session sees less than it saw before"),
            Self::ItsWrite { .. } => {
                ("monotonic writes", "a later write of a session was seen, an earlier one is not")
            }
            Self::ItsRead { .. } => {
                ("writes follow reads", "a write was seen, and what its session had read before is not")
            }
        }
    }

    fn write(self) -> u32 {
        match self {
            Self::OwnWrite { write }
            | Self::OwnRead { write, .. }
            | Self::ItsWrite { write, .. }
            | Self::ItsRead { write, .. } => write,
        }
    }
}

impl Sessions<'_> {
    pub(super) fn anomaly(&self, found: Found) -> Anomaly {
        let Found { broken, source, at } = found;
        let (name, what) = broken.told();
        let all = [broken.write()].into_iter().chain(source).chain([at]);
        Anomaly {
            name: name.into(),
            what: what.into(),
            nodes: all.map(|at| show::line_of(self.recording, at)).collect(),
            edges: Vec::new(),
            pattern: self.pattern(found),
        }
    }

    /// The operations on the way from the write to the read, and what the read saw instead.
    fn pattern(&self, found: Found) -> Option<Pattern> {
        use Kind::{Conflict, ReadsFrom, Session, WriteOrder};
        let Found { broken, source, at } = found;
        let write = broken.write();
        let way = self.way(broken, at)?;
        let newer = source.map_or_else(|| Some(Vec::new()), |source| self.way_to_newer(source, write))?;
        let between = newer.iter().map(|(_, to, _)| *to);
        let all = way.iter().map(|(of, _)| *of).chain(source).chain([at]);
        let mut steps: Vec<u32> = all.chain(between).collect();
        steps.sort_unstable();
        steps.dedup();
        let place = |of: u32| steps.partition_point(|step| *step < of);
        let relation = |from: u32, to: u32, kind: Kind, about: u32| Relation {
            from: place(from),
            to: place(to),
            kind,
            key: (kind != Session).then(|| self.recording.keys.text(self.record(about).key).to_vec()),
            reader: None,
            versions: None,
            of_cycle: source.is_none() || kind == WriteOrder,
        };
        let next = way.iter().skip(1).map(|(of, _)| *of).chain([at]);
        let mut relations: Vec<Relation> =
            way.iter().zip(next).map(|((of, kind), next)| relation(*of, next, *kind, *of)).collect();
        if let Some(source) = source {
            let (old, new) = (self.record(source), self.record(write));
            let versions = (old.version != 0 && new.version != 0).then_some((old.version, new.version));
            if versions.is_some() {
                relations.push(Relation { versions, ..relation(source, write, WriteOrder, at) });
            }
            for (from, to, kind) in &newer {
                relations.push(Relation { of_cycle: true, ..relation(*from, *to, *kind, at) });
            }
            let reader = Some(place(at));
            relations.push(Relation { reader, ..relation(write, source, WriteOrder, at) });
            relations.push(relation(source, at, ReadsFrom, at));
        } else {
            relations.push(relation(at, write, Conflict, at));
        }
        let mut order = steps.clone();
        order.sort_by_key(|of| self.record(*of).call);
        let alone = Sessions::new(self.recording, order).find(None, true).ok().flatten();
        let mut pattern = Pattern {
            steps: steps.iter().map(|of| show::step(self.recording, *of)).collect(),
            relations,
            about: Vec::new(),
            near: self.near(&steps),
            judged_alone: alone.is_some_and(|alone| alone.broken.told() == broken.told()),
        };
        pattern.sort();
        Some(pattern)
    }

    /// How the session of `at` knew of the write, from the write on: each step with how it leads to the next, the last to `at`.
    fn way(&self, broken: Broken, at: u32) -> Option<Vec<(u32, Kind)>> {
        use Kind::{ReadsFrom, Session};
        Some(match broken {
            Broken::OwnWrite { write } => vec![(write, Session)],
            Broken::OwnRead { write, place } => {
                vec![(write, ReadsFrom), (self.at_place(self.record(at).session, place)?, Session)]
            }
            Broken::ItsWrite { write, session, upto } => {
                let later = self.at_place(session, upto)?;
                vec![(write, Session), (later, ReadsFrom), (self.reading(later, at)?, Session)]
            }
            Broken::ItsRead { write, place, session, upto } => {
                let (reading, later) = (self.at_place(session, place)?, self.at_place(session, upto)?);
                let again = (self.reading(later, at)?, Session);
                vec![(write, ReadsFrom), (reading, Session), (later, ReadsFrom), again]
            }
        })
    }

    /// From a write to one that is newer, where versions do not say so: each operation on the way, the next, and how the one leads to the other.
    fn way_to_newer(&self, from: u32, to: u32) -> Option<Vec<(u32, u32, Kind)>> {
        let (old, new) = (self.record(from), self.record(to));
        if old.version != 0 && new.version != 0 {
            return Some(Vec::new());
        }
        if old.session == new.session && self.place[from as usize] < self.place[to as usize] {
            return Some(vec![(from, to, Kind::Session)]);
        }
        let writes = self.descent.way(from, to)?;
        let mut way = Vec::new();
        for pair in writes.windows(2) {
            let (older, newer) = (pair[0], pair[1]);
            if self.record(older).session == self.record(newer).session {
                way.push((older, newer, Kind::Session));
                continue;
            }
            let reading = self.reading(older, newer).or_else(|| self.reads(older, newer).then_some(newer))?;
            way.push((older, reading, Kind::ReadsFrom));
            if reading != newer {
                way.push((reading, newer, Kind::Session));
            }
        }
        Some(way)
    }

    /// Whether an operation reads what `writer` wrote.
    fn reads(&self, writer: u32, at: u32) -> bool {
        let (wrote, record) = (self.record(writer), self.record(at));
        found(record).is_some_and(|value| (wrote.key, wrote.argument) == (record.key, value))
    }

    /// The operation at a place in a session.
    fn at_place(&self, session: u32, place: u32) -> Option<u32> {
        let mut all = 0..self.recording.records.len() as u32;
        all.find(|of| self.record(*of).session == session && self.place[*of as usize] == place)
    }

    /// The first operation of a session that reads what `writer` wrote, before `at` of it.
    fn reading(&self, writer: u32, at: u32) -> Option<u32> {
        let session = self.record(at).session;
        let reads = |of: &u32| {
            self.record(*of).session == session
                && self.reads(writer, *of)
                && self.place[*of as usize] < self.place[at as usize]
        };
        let all = (0..self.recording.records.len() as u32).filter(reads);
        all.min_by_key(|of| self.place[*of as usize])
    }

    fn near(&self, steps: &[u32]) -> Vec<Step> {
        let mut sessions: Vec<u32> = steps.iter().map(|of| self.record(*of).session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        let mut all: Vec<Vec<u32>> = vec![Vec::new(); sessions.len()];
        for of in 0..self.recording.records.len() as u32 {
            if let Ok(at) = sessions.binary_search(&self.record(of).session) {
                all[at].push(of);
            }
        }
        for of_session in &mut all {
            of_session.sort_by_key(|of| self.place[*of as usize]);
        }
        Pattern::near(steps, &all).into_iter().map(|of| show::step(self.recording, of)).collect()
    }
}
