//! Pure decisions: given what is known, what follows. No outputs, no I/O; each is a function or a small value of its own.
pub mod clock;
pub mod context;
pub mod cursor;
pub mod floor;
pub mod garbage;
pub mod latency;
pub mod liveness;
pub mod quorum;
pub mod register;
pub mod ring;
pub mod sequence;
pub mod slots;
