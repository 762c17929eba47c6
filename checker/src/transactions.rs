//! Transactions over keys, for the checks that look at sessions and at who read from whom.

use crate::recording::Interner;

/// One access of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The key, a number of [`Transactions::keys`].
    pub key: u32,
    /// The value, a number of [`Transactions::values`]; 0 for the initial state.
    pub value: u32,
    /// Whether it was written, else read.
    pub write: bool,
}

/// One transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction {
    /// Its session, from 0.
    pub session: u32,
    /// Its line in the file, from 1; 0 when it is of no file.
    pub line: u32,
    /// The end of its accesses in [`Transactions::accesses`]; they begin where those of the one before end.
    pub end: u32,
}

/// A history of transactions. Those of one session stand in session order.
#[derive(Debug, Clone, Default)]
pub struct Transactions {
    /// The transactions.
    pub transactions: Vec<Transaction>,
    /// The accesses of all transactions.
    pub accesses: Vec<Access>,
    /// Names of keys.
    pub keys: Interner,
    /// Values.
    pub values: Interner,
    /// Whether a value that nobody wrote may be read (it came from outside of the recording), as in Elle's rw-register.
    pub unwritten_allowed: bool,
    /// Reads that were left out because more than one write may be what they saw.
    pub ambiguous: usize,
}

impl Transactions {
    /// Appends a transaction.
    pub fn push(&mut self, session: u32, line: u32, accesses: &[Access]) {
        self.accesses.extend_from_slice(accesses);
        self.transactions.push(Transaction { session, line, end: self.accesses.len() as u32 });
    }

    /// The accesses of the transaction at `at`.
    pub fn accesses(&self, at: usize) -> &[Access] {
        let start = at.checked_sub(1).map_or(0, |before| self.transactions[before].end as usize);
        &self.accesses[start..self.transactions[at].end as usize]
    }
}
