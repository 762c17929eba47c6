//! What a shard's driver is told by everybody else: one queue, taken as a whole, so that a busy driver works in batches.

use samara_core::base::{Reply, Request, Slot, Ticket};
use samara_core::io::DiskResult;
use samara_core::wire::Envelope;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// Bytes of peers' frames that may wait for a driver; a connection that has brought more is not read from meanwhile.
const PEER_BYTES_MAX: usize = 32 << 20;

/// A client's request: the answer goes to the outlet under the number.
pub type Asked = (Arc<Outlet>, u32, Request);

/// All that has come since the last time.
#[derive(Debug, Default)]
pub struct Batch {
    /// Disk operations that ended.
    pub disk: Vec<(Ticket, DiskResult)>,
    /// Frames of peers.
    pub peers: Vec<Envelope>,
    /// Requests of clients.
    pub clients: Vec<Asked>,
    /// An operator wants a scrub.
    pub scrub: bool,
    /// An operator accepts the loss of what is damaged in these slots, from the first to the last.
    pub accept_loss: Option<(Slot, Slot)>,
    /// The process ends: answer what is in flight, then stop.
    pub stop: bool,
    peer_bytes: usize,
}

impl Batch {
    fn is_empty(&self) -> bool {
        let is_told = self.scrub || self.accept_loss.is_some() || self.stop;
        self.disk.is_empty() && self.peers.is_empty() && self.clients.is_empty() && !is_told
    }
}

/// The queue in front of a shard.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: Mutex<(Batch, Option<Waker>)>,
    room: Notify,
}

/// A handle on a shard.
pub type Shard = Arc<Inbox>;

/// Nothing panics while it holds one of these locks, and their contents are whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the waker of the one who waits.
fn keep(slot: &mut Option<Waker>, context: &Context<'_>) {
    if slot.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
        *slot = Some(context.waker().clone());
    }
}

impl Inbox {
    fn put(&self, put: impl FnOnce(&mut Batch)) {
        let waker = {
            let mut waiting = lock(&self.waiting);
            put(&mut waiting.0);
            waiting.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A disk operation has ended.
    pub fn disk(&self, ticket: Ticket, result: DiskResult) {
        self.put(|batch| batch.disk.push((ticket, result)));
    }

    /// Clients ask; `requests` is emptied.
    pub fn ask(&self, requests: &mut Vec<Asked>) {
        if !requests.is_empty() {
            self.put(|batch| batch.clients.append(requests));
        }
    }

    /// Starts a scrub of the shard.
    pub fn scrub(&self) {
        self.put(|batch| batch.scrub = true);
    }

    /// The operator accepts the loss of what is damaged in the slots from `first` to `last`.
    pub fn accept_loss(&self, first: Slot, last: Slot) {
        self.put(|batch| batch.accept_loss = Some((first, last)));
    }

    /// Ends the driver once nothing of its clients is in flight.
    pub fn stop(&self) {
        self.put(|batch| batch.stop = true);
    }

    /// A peer's frames, of so many bytes; `frames` is emptied. Waits while the driver is too far behind.
    pub async fn peer(&self, frames: &mut Vec<Envelope>, bytes: usize) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Enabled before the check: a driver that makes room in between is heard.
            room.as_mut().enable();
            if lock(&self.waiting).0.peer_bytes < PEER_BYTES_MAX {
                break;
            }
            room.await;
        }
        self.put(|batch| {
            batch.peers.append(frames);
            batch.peer_bytes += bytes;
        });
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        lock(&self.waiting).0.is_empty()
    }

    /// Waits until there is something to take. For one at a time.
    pub async fn wait(&self) {
        poll_fn(|context| {
            let mut waiting = lock(&self.waiting);
            if !waiting.0.is_empty() {
                return Poll::Ready(());
            }
            keep(&mut waiting.1, context);
            Poll::Pending
        })
        .await;
    }

    /// Takes all that waits into `batch`, which is empty and keeps its memory.
    pub fn take(&self, batch: &mut Batch) {
        assert!(batch.is_empty(), "a batch is worked off before the next is taken");
        batch.peer_bytes = 0;
        std::mem::swap(batch, &mut lock(&self.waiting).0);
        if batch.peer_bytes >= PEER_BYTES_MAX {
            self.room.notify_waiters();
        }
    }
}

/// Answers by the numbers of their requests.
pub type Answers = Vec<(u32, Reply)>;

/// Answers on their way from the drivers to one connection, by the numbers of the requests.
#[derive(Debug, Default)]
pub struct Outlet {
    answers: Mutex<(Answers, Option<Waker>)>,
}

impl Outlet {
    /// Adds an answer; whether it is the first, and the connection must be woken for it once all have been added.
    pub fn push(&self, number: u32, reply: Reply) -> bool {
        let mut answers = lock(&self.answers);
        answers.0.push((number, reply));
        answers.0.len() == 1
    }

    /// Wakes the connection.
    pub fn wake(&self) {
        let waker = lock(&self.answers).1.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until there are answers to take. For one at a time.
    pub async fn wait(&self) {
        poll_fn(|context| {
            let mut answers = lock(&self.answers);
            if !answers.0.is_empty() {
                return Poll::Ready(());
            }
            keep(&mut answers.1, context);
            Poll::Pending
        })
        .await;
    }

    /// Takes all answers into `answers`, which is empty and keeps its memory.
    pub fn take(&self, answers: &mut Answers) {
        assert!(answers.is_empty(), "answers are worked off before the next are taken");
        std::mem::swap(answers, &mut lock(&self.answers).0);
    }
}
