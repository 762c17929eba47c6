//! S3: inputs that wait until the ceiling has risen.

use crate::base::limits::{PARKED_BYTES_MAX, PARKED_MAX};
use crate::base::{Body, Instant};
use crate::io::{Input, Tag};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The waiting inputs, in the order of their arrival; bounded by number and by bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Parked {
    queue: VecDeque<Input>,
    bytes: usize,
}

impl Parked {
    /// Takes `input` in, or gives it back when there is no room.
    pub(super) fn push(&mut self, input: Input) -> Option<Input> {
        let bytes = self.bytes + payload(&input);
        if self.queue.len() >= PARKED_MAX || (bytes > PARKED_BYTES_MAX && !self.queue.is_empty()) {
            return Some(input);
        }
        self.bytes = bytes;
        self.queue.push_back(input);
        None
    }

    /// All that waits.
    pub(super) fn take(&mut self) -> VecDeque<Input> {
        self.bytes = 0;
        core::mem::take(&mut self.queue)
    }

    /// When the first client gives up.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.iter().filter_map(deadline).min()
    }

    /// Takes out the clients whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Tag> {
        let mut over = Vec::new();
        if self.next_deadline().is_none_or(|deadline| deadline > now) {
            return over;
        }
        for input in self.take() {
            match input {
                Input::Client { tag, deadline, .. } if deadline <= now => over.push(tag),
                other => {
                    self.bytes += payload(&other);
                    self.queue.push_back(other);
                }
            }
        }
        over
    }
}

fn deadline(input: &Input) -> Option<Instant> {
    match input {
        Input::Client { deadline, .. } => Some(*deadline),
        _ => None,
    }
}

/// Bytes of keys and values that `input` holds on to.
fn payload(input: &Input) -> usize {
    match input {
        Input::Client { request, .. } => match &request.body {
            Body::Key { key, op } => key.len() + op.payload(),
            Body::Scan { after, wanted, .. } => {
                let bytes = |key: &Option<bytes::Bytes>| key.as_ref().map_or(0, bytes::Bytes::len);
                bytes(after) + wanted.low.len() + bytes(&wanted.high)
            }
        },
        Input::Message(envelope) => envelope.body.payload(),
        _ => 0,
    }
}
