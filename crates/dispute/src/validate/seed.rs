//! What is drawn, and when.

use zoo_content::Digest;

/// For the signs of a tensor's vectors.
pub const SIGNS: u8 = 0;
/// For its spots.
pub const SPOTS: u8 = 1;

/// What all draws follow from. Whoever knows it beforehand can be wrong where nobody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(Digest);

impl Seed {
    /// Of what the maker said (all groups of the step: [`crate::step_digest`]) and of something that it did not know when it said so: a round's
    /// [`zoo_protocol::Beacon`], or what a validator alone drew and tells afterwards.
    pub fn drawn(claimed: &Digest, unknown: &Digest) -> Self {
        let parts = [&b"zoo/validate/1 seed\0"[..], claimed.as_bytes(), unknown.as_bytes()];
        Self(Digest::of(&parts.concat()))
    }

    /// The seed of one tensor's draws for one purpose.
    pub(super) fn key(&self, tensor: usize, purpose: u8) -> u64 {
        let parts = [&self.0.as_bytes()[..], &(tensor as u64).to_le_bytes(), &[purpose]];
        let drawn = Digest::of(&parts.concat());
        let (first, _) = drawn.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
        u64::from_le_bytes(*first)
    }
}
