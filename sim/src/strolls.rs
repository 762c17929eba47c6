//! Walks under way while faults strike: each page may be asked of another node, after whatever has happened since the page
//! before. A key that is there throughout is listed, each key once, and all in store order.

use crate::order::Witness;
use bytes::Bytes;
use samara_check::history::{Answer, Function, Level, Outcome};
use samara_core::base::{Body, Hlc, Level as Wished, Page, Request, Slot, Wanted};

/// A walk of one client over the whole key space.
#[derive(Debug, Clone, Default)]
pub struct Stroll {
    /// When the first page was asked for, nanoseconds.
    began: u64,
    /// When the last page came.
    ended: u64,
    found: Vec<(Slot, Bytes)>,
    /// Where the next page begins.
    next: Option<(Slot, Option<Bytes>)>,
}

/// The walks of one client: it goes on with one until that has ended, whatever node it asks.
#[derive(Debug, Clone, Default)]
pub struct Strolls {
    under_way: Option<Stroll>,
    over: Vec<Stroll>,
}

impl Strolls {
    /// The request for the next page, of `limit` keys, made at `now`.
    pub fn request(&mut self, limit: u32, now: u64, session: Hlc) -> Request {
        let fresh = || Stroll { began: now, next: Some((Slot(0), None)), ..Stroll::default() };
        let stroll = self.under_way.get_or_insert_with(fresh);
        let (slot, after) = stroll.next.clone().unwrap_or((Slot(0), None));
        let body = Body::Scan { slot, after, limit, wanted: Wanted::default() };
        Request { level: Wished::Strong, session, idempotency: None, body }
    }

    /// A page has come at `now`.
    pub fn on_page(&mut self, page: &Page, now: u64) {
        let Some(mut stroll) = self.under_way.take() else {
            return;
        };
        stroll.found.extend(page.entries.iter().map(|entry| (entry.slot, entry.key.clone())));
        stroll.next.clone_from(&page.next);
        stroll.ended = now;
        let goes_on = stroll.next.is_some();
        if goes_on { self.under_way = Some(stroll) } else { self.over.push(stroll) }
    }

    /// The walks that have come to their end.
    pub fn over(&self) -> &[Stroll] {
        &self.over
    }
}

/// How many operations of others were begun and answered while the walk was under way.
pub fn meanwhile(stroll: &Stroll, witnesses: &[Witness]) -> usize {
    let is_within = |witness: &&Witness| {
        let operation = &witness.operation;
        operation.outcome != Outcome::Unknown
            && operation.call >= stroll.began
            && operation.ret <= stroll.ended
    };
    witnesses.iter().filter(is_within).count()
}

/// Judges a walk that is over, by what clients saw.
pub fn check(stroll: &Stroll, witnesses: &[Witness]) -> Result<(), String> {
    let (from, to) = (stroll.began / 1_000, stroll.ended / 1_000);
    if let Some([first, second]) = stroll.found.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(format!("a walk [{from}..{to} us] lists {:?} and after it {:?}", first.1, second.1));
    }
    let is_listed = |key: &[u8]| stroll.found.iter().any(|(_, found)| found[..] == *key);
    let lasts = |witness: &&Witness| is_there(stroll, witness, witnesses);
    match witnesses.iter().filter(lasts).find(|witness| !is_listed(&witness.operation.key)) {
        Some(missed) => Err(format!(
            "a walk [{from}..{to} us] does not list {:?}, which was there throughout: {:?} [{}..{} us]",
            String::from_utf8_lossy(&missed.operation.key),
            missed.operation.function,
            missed.operation.call / 1_000,
            missed.operation.ret / 1_000
        )),
        None => Ok(()),
    }
}

/// Whether `witness` is a strong write of a lasting value from before the walk which nothing can have taken away before its
/// end. What is weak has its place in the order by a clock, and may surface late: where such a deletion was ever asked for
/// on the key, nothing is demanded.
fn is_there(stroll: &Stroll, witness: &Witness, witnesses: &[Witness]) -> bool {
    let write = &witness.operation;
    let lasting = matches!(write.function, Function::Put { ttl_ms: None, .. } | Function::Cas { .. });
    let done = !matches!(write.outcome, Outcome::Unknown | Outcome::Ok(Answer::Applied(false)));
    let takes_away = |other: &&Witness| {
        let other = &other.operation;
        let removes = matches!(other.function, Function::Delete | Function::Put { ttl_ms: Some(_), .. });
        let before = other.outcome != Outcome::Unknown && other.ret < write.call;
        let strong = other.level == Level::Strong;
        other.key == write.key && removes && other.call <= stroll.ended && !(strong && before)
    };
    // What is kept for a time that others change is left to the judge of the order.
    write.level == Level::Strong
        && !write.key.starts_with(b"timed")
        && lasting
        && done
        && write.ret < stroll.began
        && !witnesses.iter().any(|other| takes_away(&other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deed::Deed;
    use samara_check::history::Operation;
    use samara_core::base::PageEntry;

    fn witness(key: &str, function: Function, call: u64, ret: u64) -> Witness {
        let outcome = Outcome::Ok(Answer::Done);
        let key = key.as_bytes().to_vec();
        let operation = Operation { process: 1, key, function, outcome, call, ret, level: Level::Strong };
        Witness { operation, version: None, deed: Deed::Plain }
    }

    fn put(key: &str, call: u64) -> Witness {
        witness(key, Function::Put { value: b"v".to_vec(), ttl_ms: None }, call, call + 5)
    }

    fn stroll(keys: &[(u16, &'static str)]) -> Stroll {
        let mut strolls = Strolls::default();
        strolls.request(10, 100, Hlc(0));
        let entries = keys.iter().map(|(slot, key)| PageEntry {
            slot: Slot(*slot),
            key: Bytes::from_static(key.as_bytes()),
            expires_at: 0,
            value: Bytes::new(),
        });
        strolls.on_page(&Page { entries: entries.collect(), next: None }, 200);
        strolls.over()[0].clone()
    }

    #[test]
    fn what_is_there_throughout_is_listed_once() {
        let history = [put("a", 1), put("b", 2), put("late", 99)];
        assert_eq!(check(&stroll(&[(1, "b"), (3, "a")]), &history), Ok(()));
        assert!(check(&stroll(&[(3, "a")]), &history).is_err_and(|words| words.contains("\"b\"")));
        assert!(check(&stroll(&[(1, "b"), (3, "a"), (3, "a")]), &history).is_err(), "twice");
        assert!(check(&stroll(&[(3, "a"), (1, "b")]), &history).is_err(), "out of order");
    }

    #[test]
    fn what_may_be_gone_is_not_demanded() {
        let delete = |call, ret| witness("a", Function::Delete, call, ret);
        let nothing = stroll(&[]);
        assert!(check(&nothing, &[put("a", 10), delete(1, 9)]).is_err(), "deleted before it was written");
        assert_eq!(check(&nothing, &[put("a", 10), delete(1, 12)]), Ok(()), "they overlap");
        assert_eq!(check(&nothing, &[put("a", 10), delete(150, 160)]), Ok(()), "deleted meanwhile");
        assert!(check(&nothing, &[put("a", 10), delete(201, 210)]).is_err(), "deleted afterwards");
        let mut weak = delete(1, 9);
        weak.operation.level = Level::Eventual;
        assert_eq!(check(&nothing, &[put("a", 10), weak]), Ok(()), "a weak one may surface late");
    }
}
