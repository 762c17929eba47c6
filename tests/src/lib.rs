//! Whole-system tests: real processes, real clients, and the house rules. See `tests/`.
