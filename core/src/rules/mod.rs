//! Pure decisions: given what is known, what follows. No outputs, no I/O; each is a function or a small value of its own.

||||||| parent of c703953 (RENAME, RENAMENX, COPY and MSETNX in steps; floors of key spaces; a cursor of SCAN that names its key; the cheap commands on clients and server)

pub mod clock;
pub mod context;
pub mod cursor;
pub mod floor;
pub mod latency;
pub mod liveness;
pub mod quorum;
pub mod register;
pub mod ring;
pub mod sequence;
pub mod slots;
