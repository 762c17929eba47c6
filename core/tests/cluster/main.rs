//! Whole clusters in memory.

mod basics;
mod lives;
mod machine;
mod several;
mod walks;
