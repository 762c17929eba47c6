//! Whole clusters in memory.

mod basics;
mod machine;
mod several;
mod walks;
