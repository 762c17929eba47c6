#![expect(clippy::unnecessary_wraps, reason = "answers are results")]

use super::*;
use crate::inbox::{Batch, Inbox};
use samara_core::base::{Expiry, Stamp, When};

/// A pipeline and the one shard that it talks to.
struct Bench {
    pipeline: Pipeline,
    shard: Shard,
    numbers: HashMap<String, Vec<u32>>,
}

impl Bench {
    fn new() -> Self {
        let shard: Shard = Arc::new(Inbox::default());
        let pipeline = Pipeline::new(Arc::new(vec![shard.clone()]), Arc::default());
        Self { pipeline, shard, numbers: HashMap::new() }
    }

    fn get(&mut self, level: Level, key: &str) {
        let request = KeyRequest { key: Bytes::from(key.to_string()), op: KeyOp::Read };
        self.pipeline.add_one(2, level, request, Shape::Value, None);
    }

    fn set(&mut self, level: Level, key: &str, value: &str) {
        let (key, value) = (Bytes::from(key.to_string()), Bytes::from(value.to_string()));
        let op = KeyOp::Set { value, expiry: Expiry::Clear, when: When::Always, want_old: false };
        self.pipeline.add_one(2, level, KeyRequest { key, op }, Shape::Ok, None);
    }

    /// The keys that reach the shard now.
    fn arrived(&mut self) -> Vec<String> {
        self.pipeline.flush();
        let mut batch = Batch::default();
        self.shard.take(&mut batch);
        let mut keys = Vec::new();
        for (_, number, request) in batch.clients {
            let Body::Key { key, .. } = request.body else { panic!("only keys are asked for") };
            let key = String::from_utf8_lossy(&key).into_owned();
            self.numbers.entry(key.clone()).or_default().push(number);
            keys.push(key);
        }
        keys
    }

    /// The shard answers its oldest request on `key`.
    fn answer(&mut self, key: &str, result: Result<Response, Failure>) {
        let number = self.numbers.get_mut(key).expect("the key was asked for").remove(0);
        self.pipeline.outlet.push(number, Reply { session: Hlc(1), result });
        self.pipeline.hear();
    }

    fn written(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.pipeline.next_answer()).map(|(_, value)| value).collect()
    }
}

fn value(text: &str) -> Result<Response, Failure> {
    let value = Bytes::from(text.to_string());
    Ok(Response::Value { value, version: Stamp::ZERO, expires_at: 0, now_ms: 0 })
}

fn done() -> Result<Response, Failure> {
    let outcome = Outcome::Changed { applied: true, old: None };
    Ok(Response::Mutated { outcome, version: Stamp::ZERO })
}

#[test]
fn answers_are_written_in_the_order_of_the_requests() {
    let mut bench = Bench::new();
    for key in ["a", "b", "c"] {
        bench.get(Level::Strong, key);
    }
    bench.pipeline.add_answer(2, Value::Status("PONG"));
    assert_eq!(bench.arrived(), ["a", "b", "c"], "all run side by side");
    bench.answer("c", value("3"));
    bench.answer("b", value("2"));
    assert_eq!(bench.written(), []);
    assert_eq!(bench.pipeline.held(), 2);
    bench.answer("a", value("1"));
    assert_eq!(
        bench.written(),
        [Value::text("1"), Value::text("2"), Value::text("3"), Value::Status("PONG")]
    );
    assert!(bench.pipeline.is_idle());
    assert_eq!(bench.pipeline.held(), 0);
}

#[test]
fn operations_on_one_key_keep_their_order() {
    let mut bench = Bench::new();
    bench.set(Level::Strong, "k", "1");
    bench.get(Level::Strong, "k");
    assert_eq!(bench.arrived(), ["k"], "the read waits for the write");
    assert!(!bench.pipeline.has_room(), "and nothing overtakes it");
    bench.answer("k", done());
    bench.get(Level::Strong, "k");
    assert_eq!(bench.arrived(), ["k", "k"], "reads run side by side");
    bench.set(Level::Strong, "k", "2");
    bench.answer("k", value("1"));
    assert_eq!(bench.arrived(), [""; 0], "the write waits for both reads");
    bench.answer("k", value("1"));
    assert_eq!(bench.arrived(), ["k"]);
}

#[test]
fn a_causal_session_is_strictly_in_order() {
    let mut bench = Bench::new();
    bench.get(Level::Causal, "a");
    bench.get(Level::Causal, "b");
    assert_eq!(bench.arrived(), ["a"]);
    bench.answer("a", value("1"));
    assert_eq!(bench.arrived(), ["b"]);
    assert_eq!(bench.pipeline.token, Hlc(1));
}

#[test]
fn many_operations_of_one_command_make_one_answer() {
    let mut bench = Bench::new();
    let read = |key: &str| KeyRequest { key: Bytes::from(key.to_string()), op: KeyOp::Read };
    bench.pipeline.add_many(3, Level::Strong, vec![read("a"), read("b")], Many::Values, None);
    assert_eq!(bench.arrived(), ["a", "b"]);
    bench.answer("b", Ok(Response::Absent { version: Stamp::ZERO }));
    assert_eq!(bench.written(), []);
    bench.answer("a", value("1"));
    assert_eq!(bench.written(), [Value::Array(vec![Value::text("1"), Value::Null])]);
}

#[test]
fn what_is_in_flight_is_bounded_and_the_rest_follows() {
    let mut bench = Bench::new();
    let keys: Vec<String> = (0..IN_FLIGHT_MAX + 5).map(|i| i.to_string()).collect();
    let read = |key: &String| KeyRequest { key: Bytes::from(key.clone()), op: KeyOp::Read };
    bench.pipeline.add_many(2, Level::Strong, keys.iter().map(read).collect(), Many::Count, None);
    assert_eq!(bench.arrived().len(), IN_FLIGHT_MAX);
    assert!(!bench.pipeline.has_room());
    for key in &keys {
        bench.answer(key, value("x"));
        bench.arrived();
    }
    assert_eq!(bench.written(), [Value::Integer(keys.len() as i64)]);
}

#[test]
fn what_exceeds_the_memory_for_requests_is_overloaded() {
    let mut bench = Bench::new();
    bench.pipeline.stats.request_bytes.store(REQUEST_BYTES_MAX, Ordering::Relaxed);
    bench.set(Level::Strong, "k", "1");
    assert_eq!(bench.arrived(), [""; 0]);
    assert_eq!(bench.written(), [reply::failure(Failure::Overloaded)]);
    bench.pipeline.stats.request_bytes.store(0, Ordering::Relaxed);
    bench.set(Level::Strong, "k", "1");
    assert_eq!(bench.arrived(), ["k"]);
    bench.answer("k", done());
    assert_eq!(bench.pipeline.stats.request_bytes.load(Ordering::Relaxed), 0);
}
