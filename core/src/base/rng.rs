//! The core's only randomness: a ChaCha8 stream seeded at boot. Used for back-off and sampling, never for safety.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A deterministic random stream.
#[derive(Debug, Clone)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The stream of a seed and a purpose: streams of different purposes are independent.
    pub fn new(seed: [u8; 32], purpose: u64) -> Self {
        let mut inner = ChaCha8Rng::from_seed(seed);
        inner.set_stream(purpose);
        Self(inner)
    }

    /// Uniform in `0..bound` (0 when `bound` is 0). The bias of the multiply-shift is below 2^-32 for the bounds used.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        (wide >> 64) as u64
    }
}
