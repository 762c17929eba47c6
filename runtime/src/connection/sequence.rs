//! Carries out the steps of RENAME, RENAMENX, COPY and MSETNX one after the other; `samara_core::rules::sequence` decides
//! which they are.

use super::Pipeline;
use super::pipeline::shard_of;
use crate::commands::Worded;
use crate::reply;
use crate::resp::Value;
use samara_core::base::{Body, Failure, Level};
use samara_core::rules::sequence::{Next, Sequence, Task};

/// Runs a task to its end. Every step is strong, whatever the connection's level: each depends on the one before.
pub(super) async fn run(pipeline: &mut Pipeline, task: Task, worded: Worded) -> Value {
    let mut sequence = Sequence::new(task);
    let mut next = sequence.begin();
    loop {
        match next {
            Next::Done(Ok(ending)) => return worded.reply(ending),
            Next::Done(Err(failure)) => return reply::failure(failure),
            Next::Ask(key, op) => {
                let shard = shard_of(&key, pipeline.shards());
                let mut results = pipeline.call(Level::Strong, vec![(shard, Body::Key { key, op })]).await;
                next = sequence.on_answer(results.pop().unwrap_or(Err(Failure::Timeout)));
            }
        }
    }
}
