//! Consistency checkers for recorded histories.
