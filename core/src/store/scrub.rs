//! Scrub: reads every block of every table within a configured time, in small pieces, and reports what is damaged.

use super::cursor::{Cursor, Reading, Step};
use super::entry;
use super::pointer::Pointer;
use super::trouble::Trouble;
use super::{Purpose, ScrubStatus, Store, StoreCx};
use crate::base::Instant;
use crate::io::{DiskOp, DiskResult};

/// How far a round of scrubbing is.
#[derive(Debug, Clone, Default)]
pub(super) struct Scrub {
    /// Tables with this number or a higher one are still to be read in this round.
    from: u64,
    cursor: Option<Cursor>,
    number: u64,
    /// A value of the table in hand that is being read.
    value: Option<Pointer>,
    reading: bool,
    due: Option<Instant>,
    /// The round was asked for: it does not pause.
    is_urgent: bool,
    rounds: u64,
    /// Bytes read in this round: of tables, and of live values.
    read_bytes: u64,
}

/// Milliseconds between two pieces at most.
const PAUSE_MAX_MS: u64 = 60_000;

impl Store {
    /// Starts a round at once, as fast as the disk allows. Damage is reported by `StoreEvent::Damaged`.
    pub fn scrub(&mut self) {
        self.scrub.is_urgent = true;
    }

    /// Rounds of scrubbing that have ended, and whether one is under way.
    pub fn scrubbed(&self) -> (u64, bool) {
        (self.scrub.rounds, self.scrub.is_urgent || self.scrub.from > 0)
    }

    pub(super) fn scrub_status(&self) -> ScrubStatus {
        let (rounds, is_running) = self.scrubbed();
        ScrubStatus {
            is_running,
            rounds,
            read_bytes: self.scrub.read_bytes,
            of_bytes: self.tables().1 + self.values.bytes().1,
        }
    }

    pub(super) fn scrub_deadline(&self) -> Option<Instant> {
        self.scrub.due.filter(|_| !self.scrub.reading && self.options.scrub_ms > 0)
    }

    pub(super) fn scrub_uses(&self, number: u64) -> bool {
        let is_value = self.scrub.value.is_some_and(|pointer| pointer.file == number);
        self.scrub.reading && (self.scrub.number == number || is_value)
    }

    /// Reads the next piece when it is due.
    pub(super) fn start_scrub(&mut self, cx: &mut StoreCx<'_>) {
        if self.scrub.reading || (self.options.scrub_ms == 0 && !self.scrub.is_urgent) {
            return;
        }
        let due = *self.scrub.due.get_or_insert(cx.now.mono.plus_ms(self.scrub_pause_ms(0)));
        if due > cx.now.mono && !self.scrub.is_urgent {
            return;
        }
        // A table that went in the pause is not read on.
        let is_live = self.levels.all().any(|table| table.meta.number == self.scrub.number);
        self.scrub.cursor.take_if(|_| !is_live);
        while let Some(mut cursor) = self.scrub.cursor.take().or_else(|| self.next_scrubbed()) {
            if let Some(op) = self.scrub_on(cx, &mut cursor) {
                self.scrub.reading = true;
                self.scrub.cursor = Some(cursor);
                return self.disk(cx, Purpose::Scrub, op);
            }
        }
        self.scrub = Scrub { rounds: self.scrub.rounds + 1, ..Scrub::default() };
    }

    /// Verifies what has been read, and asks for the next block, or for a value that the block points to; nothing at the
    /// end of the table.
    fn scrub_on(&mut self, cx: &mut StoreCx<'_>, cursor: &mut Cursor) -> Option<DiskOp> {
        loop {
            match cursor.settle(&mut self.cache) {
                Step::Entry => {
                    if let Some((table, at)) = cursor.place().filter(|_| !self.damaged.is_empty()) {
                        self.on_block_sound(&table, at);
                    }
                    let has_values = cursor.place().is_some_and(|(table, _)| !table.meta.values.is_empty());
                    let pointer = cursor.body().and_then(|(body, _)| entry::pointer(body));
                    match (has_values, pointer) {
                        (false, _) => cursor.skip_block(),
                        (true, None) => cursor.advance(),
                        (true, Some(pointer)) => {
                            self.scrub.value = Some(pointer);
                            let (file, offset, len) = (pointer.name(), pointer.offset, pointer.stored);
                            return Some(DiskOp::Read { file, offset, len });
                        }
                    }
                }
                Step::Damaged(reason) => {
                    if let Some((table, at)) = cursor.place() {
                        self.report_damage(cx, &table, at, Trouble::Damaged(reason));
                    }
                    cursor.skip_block();
                }
                Step::Missing => return cursor.read(),
                Step::End => return None,
            }
        }
    }

    /// The next table of the round. Its file stays while a read of it is under way; then the round goes on with another
    /// if it is gone.
    fn next_scrubbed(&mut self) -> Option<Cursor> {
        let from = self.scrub.from;
        let next = self.levels.all().map(|table| table.meta.number).filter(|number| *number >= from).min()?;
        self.scrub.from = next + 1;
        self.scrub.number = next;
        self.levels.runs().iter().find_map(|run| {
            let at = run.iter().position(|table| table.meta.number == next)?;
            Some(Cursor::new(run, at, at + 1, Reading::Bulk))
        })
    }

    pub(super) fn on_scrub_read(&mut self, cx: &mut StoreCx<'_>, result: DiskResult) {
        self.scrub.reading = false;
        let value = self.scrub.value.take();
        let is_live = self.levels.all().any(|table| table.meta.number == self.scrub.number);
        let Some(mut cursor) = self.scrub.cursor.take().filter(|_| is_live) else {
            return self.after_read(cx);
        };
        if let Some(pointer) = value {
            self.on_scrub_value(cx, &mut cursor, pointer, result);
            self.scrub.cursor = Some(cursor);
            return self.after_read(cx);
        }
        match result {
            DiskResult::Data(data) => {
                self.stats.scrubbed_bytes += data.len() as u64;
                self.scrub.read_bytes += data.len() as u64;
                self.scrub.due = Some(cx.now.mono.plus_ms(self.scrub_pause_ms(data.len() as u64)));
                cursor.on_data(data);
            }
            DiskResult::Failed(_) if cursor.narrow() => {}
            DiskResult::Failed(error) => {
                if let Some((table, at)) = cursor.place() {
                    self.report_damage(cx, &table, at, Trouble::Unread(error.text));
                }
                cursor.reading = false;
                cursor.skip_block();
            }
            _ => {}
        }
        self.scrub.cursor = Some(cursor);
        self.after_read(cx);
    }

    fn on_scrub_value(
        &mut self,
        cx: &mut StoreCx<'_>,
        cursor: &mut Cursor,
        pointer: Pointer,
        result: DiskResult,
    ) {
        let opened: Result<(), Trouble> = match result {
            DiskResult::Data(data) => {
                self.stats.scrubbed_bytes += data.len() as u64;
                self.scrub.read_bytes += data.len() as u64;
                self.scrub.due = Some(cx.now.mono.plus_ms(self.scrub_pause_ms(data.len() as u64)));
                pointer.open(&data).map(|_| ()).map_err(Trouble::Damaged)
            }
            DiskResult::Failed(error) => Err(Trouble::Unread(error.text)),
            _ => Ok(()),
        };
        let name = cursor.key().unwrap_or_default();
        match opened {
            Ok(()) => self.on_value_sound(pointer, name),
            Err(trouble) => self.report_value_damage(cx, name, pointer, trouble),
        }
        cursor.advance();
    }

    /// The pause after a piece, so that a round takes the configured time.
    fn scrub_pause_ms(&self, piece: u64) -> u64 {
        let bytes = self.tables().1 + self.values.bytes().1;
        let share = u128::from(self.options.scrub_ms) * u128::from(piece.max(1)) / u128::from(bytes.max(1));
        (share as u64).clamp(1, PAUSE_MAX_MS)
    }
}
