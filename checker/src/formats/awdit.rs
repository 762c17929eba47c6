//! AWDIT's text format of transactions.

use super::Place;
use super::datum::Wrong;
use crate::transactions::{Access, Transactions};

/// Takes lines.
#[derive(Default)]
pub(super) struct Reader {
    transactions: Transactions,
    open: Vec<Access>,
    opened: usize,
    session: u32,
}

impl Reader {
    pub(super) fn line(&mut self, line: &[u8], place: Place) -> Result<(), Wrong> {
        let text = line.trim_ascii();
        if text.is_empty() {
            return Ok(());
        }
        if text.len() >= 3 && text.iter().all(|byte| *byte == b'-') {
            self.close();
            return Ok(());
        }
        if text.len() >= 3 && text.iter().all(|byte| *byte == b'=') {
            self.close();
            self.session += 1;
            return Ok(());
        }
        let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (Some(kind), Some(key), Some(value), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Wrong {
                at: 0,
                reason: "expected 'w KEY VALUE', 'r KEY VALUE', '-----' or '====='".into(),
            });
        };
        let write = match kind {
            b"w" => true,
            b"r" => false,
            _ => return Err(Wrong { at: 0, reason: "an access begins with w or r".into() }),
        };
        if self.open.is_empty() {
            self.opened = place.line;
        }
        self.open.push(Access {
            key: self.transactions.keys.id(key),
            value: self.transactions.values.id(value),
            write,
        });
        Ok(())
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.transactions.push(self.session, self.opened as u32, &self.open);
            self.open.clear();
        }
    }

    pub(super) fn finish(mut self) -> Transactions {
        self.close();
        self.transactions
    }
}
