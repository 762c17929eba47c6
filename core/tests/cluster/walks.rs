//! What a walk over the key space costs at a time, whatever the number of keys, and that nobody waits for it.

use super::machine::{Cluster, set};
use bytes::Bytes;
use samara_core::base::limits::{SCAN_PAGE_BYTES, SCAN_PAGE_MAX};
use samara_core::base::{Body, Hlc, KeyOp, Level, Request, Response, Slot, Wanted};
use samara_core::io::{Input, Tag};
use samara_core::wire::{Answer, Message};
use std::collections::BTreeMap;

/// Bytes of a value.
const VALUE: usize = 3_000;
/// What a page counts for a record beside its key and value.
const RECORD: usize = 64;

/// The most that was there of a walk at a time.
#[derive(Debug, Default, PartialEq, Eq)]
struct Most {
    /// Answers on their way, and the bytes of keys and values in them.
    answers: usize,
    bytes: usize,
    /// Records in one answer.
    records: usize,
    /// Keys in one page for the client.
    page: usize,
}

impl Cluster {
    fn ask_page(&mut self, node: usize, (slot, after): (Slot, Option<Bytes>), wanted: &Wanted) -> Tag {
        self.tags += 1;
        let tag = Tag(self.tags);
        let limit = SCAN_PAGE_MAX as u32;
        let body = Body::Scan { slot, after, limit, wanted: wanted.clone() };
        let request = Request { level: Level::Strong, session: Hlc(0), idempotency: None, body };
        let deadline = self.now().mono.plus_ms(5_000);
        self.step(node, Input::Client { tag, request, deadline });
        tag
    }

    fn ask_read(&mut self, node: usize, key: &str) -> Tag {
        self.tags += 1;
        let tag = Tag(self.tags);
        let body = Body::Key { key: Bytes::copy_from_slice(key.as_bytes()), op: KeyOp::Read };
        let request = Request { level: Level::Strong, session: Hlc(0), idempotency: None, body };
        let deadline = self.now().mono.plus_ms(5_000);
        self.step(node, Input::Client { tag, request, deadline });
        tag
    }

    /// Delivers what is on its way now, and not what comes of it.
    fn deliver_once(&mut self) {
        for (to, envelope) in std::mem::take(&mut self.mail) {
            self.step(to, Input::Message(envelope));
        }
    }

    fn look(&self, most: &mut Most) {
        let (mut answers, mut bytes) = (0, 0);
        for (_, envelope) in &self.mail {
            if let Message::Answer { answer: Answer::Scanned { records, .. }, .. } = &envelope.body {
                (answers, bytes) = (answers + 1, bytes + envelope.body.payload());
                most.records = most.records.max(records.len());
            }
        }
        (most.answers, most.bytes) = (most.answers.max(answers), most.bytes.max(bytes));
    }
}

/// A cluster with so many keys of `VALUE` bytes each.
fn filled(keys: usize) -> Cluster {
    let mut cluster = Cluster::start(3);
    cluster.run_ms(50);
    for number in 0..keys {
        let value = vec![b'x'; VALUE];
        cluster.ask(number % 3, Level::Causal, &format!("k{number}"), set(value)).expect("a write");
    }
    cluster.run_ms(500);
    cluster
}

/// Walks over all keys at node 1 and counts; before each page another client asks for a key, and has its answer first.
fn walk(cluster: &mut Cluster, wanted: &Wanted) -> (usize, usize, Most) {
    let (mut most, mut found, mut pages) = (Most::default(), 0, 0);
    let mut next = Some((if wanted.reverse { Slot(Slot::COUNT - 1) } else { Slot(0) }, None));
    while let Some(from) = next.take() {
        cluster.mail.clear();
        let page = cluster.ask_page(0, from, wanted);
        // All that will be asked has been asked: the replicas walk side by side.
        let mut asked: BTreeMap<usize, usize> = BTreeMap::new();
        for (to, envelope) in &cluster.mail {
            if matches!(envelope.body, Message::Scan { .. }) {
                *asked.entry(*to).or_default() += 1;
            }
        }
        assert_eq!(asked, BTreeMap::from([(1, 1), (2, 1)]), "each other node once");
        let read = cluster.ask_read(0, "k7");
        let mut rounds = 0;
        while !cluster.replies.contains_key(&page) {
            cluster.look(&mut most);
            cluster.deliver_once();
            rounds += 1;
            assert!(rounds <= 2, "a page is one question and its answers");
            assert!(rounds < 2 || cluster.replies.contains_key(&read), "a read needs no longer than a page");
        }
        assert!(cluster.replies.remove(&read).is_some_and(|reply| reply.result.is_ok()), "others are served");
        let Ok(Response::Page(page)) = cluster.replies.remove(&page).expect("it is there").result else {
            panic!("a page");
        };
        most.page = most.page.max(page.entries.len());
        (found, pages, next) = (found + page.entries.len(), pages + 1, page.next);
    }
    (found, pages, most)
}

#[test]
fn a_walk_holds_a_page_of_each_node_and_no_more_whatever_the_number_of_keys() {
    for keys in [100, 1_500] {
        let mut cluster = filled(keys);
        for reverse in [false, true] {
            let values = Wanted { values: true, reverse, ..Wanted::default() };
            let (found, pages, most) = walk(&mut cluster, &values);
            assert_eq!(found, keys);
            // RANGE with values: bytes bound a page, and the pages become more, not larger.
            let per_page = SCAN_PAGE_BYTES + VALUE + RECORD;
            assert!(pages >= keys * VALUE / per_page, "{pages} pages");
            assert!(most.answers <= 2 && most.bytes <= 2 * per_page, "{keys} keys: {most:?}");
            assert!(most.page <= per_page / VALUE, "{most:?}");
            // KEYS, DBSIZE: keys alone, and their number bounds a page.
            let (found, pages, most) = walk(&mut cluster, &Wanted { reverse, ..Wanted::default() });
            assert_eq!(found, keys);
            assert!(pages >= keys.div_ceil(SCAN_PAGE_MAX), "{pages} pages");
            assert!(most.records <= SCAN_PAGE_MAX && most.bytes <= 2 * SCAN_PAGE_MAX * 8, "{most:?}");
        }
    }
}
