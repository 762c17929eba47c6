//! What became of the operations of a round (C3, C4, C7).

use super::CoordCx;
use super::operation::Operation;
use crate::base::planted::{self, Bug};
use crate::base::{Counter, Failure, Response, Stamp};
use crate::rules::register::Draft;
use alloc::vec::Vec;

/// What became of a batch on a record.
pub(super) struct Evaluated {
    pub(super) draft: Draft,
    pub(super) responses: Vec<Result<Response, Failure>>,
    /// C3, C4: an answer depends on an earlier attempt, which must be fenced or completed by a write.
    pub(super) fence: bool,
    /// The number of the last operation that changed something.
    pub(super) last_change: usize,
}

impl Evaluated {
    /// C7: what a later operation of the batch has overwritten gets a version of its own, just below the ballot. The ballot is
    /// the version of what stands when the round is over: a condition on it must not hold for whoever saw another value.
    pub(super) fn rename_overwritten(
        &mut self,
        cx: &mut CoordCx<'_, '_>,
        ballot: Stamp,
        before: Stamp,
        batch: &mut [Operation],
    ) {
        if planted::on(Bug::C7OverwrittenSharesVersion) {
            return;
        }
        let overwritten = ballot.overwritten().max(before);
        for (response, operation) in self.responses.iter_mut().zip(batch).take(self.last_change) {
            let version = response.as_mut().ok().and_then(Response::version_mut);
            if let Some(version) = version.filter(|version| **version == ballot) {
                *version = overwritten;
                cx.cx.count(Counter::AnswerOverwritten);
                if let (Some((at, drafted)), Ok(response)) = (&mut operation.drafted, response)
                    && *at == ballot
                {
                    drafted.clone_from(response);
                }
            }
        }
    }
}
