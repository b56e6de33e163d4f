//! Randomness that nobody could foresee.
//!
//! Whose work is checked may not be known to whoever does it before it is done, nor be chosen by whoever asks. So every node pledges a
//! secret with each window that it commits to, and tells it with its next one, when nothing of the first can be changed any more.
//! What all of them told together is a [`Beacon`]: it is even if one of those who pledged was honest. (Commit, then reveal; whoever
//! does not reveal gives no contribution.)

use serde::{Deserialize, Serialize};
use zoo_content::Digest;

use crate::{JobId, NodeId, NodeKey, encode};

/// What a node pledges with one window, and tells with its next. It follows from the node's key, so that it outlasts the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(Digest);

impl Secret {
    /// The digest that binds to it and says nothing of it.
    pub fn pledge(&self) -> Digest {
        Digest::of(&[b"zoo/pledge\0", &self.0.as_bytes()[..]].concat())
    }
}

impl NodeKey {
    /// The secret that this node pledges with its window of `round` to `network`: another network cannot ask for it.
    pub fn secret(&self, network: &NodeId, job: &JobId, round: u32) -> Secret {
        Secret(Digest::of(
            &[b"zoo/secret/2\0", &self.seed()[..], &network.0, job.as_bytes(), &round.to_le_bytes()].concat(),
        ))
    }
}

/// What was drawn when a round was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Beacon(Digest);

impl Beacon {
    /// Of what was told with the contributions to `round`; none if nobody told anything. `secrets` are ordered by node.
    pub fn of(job: &JobId, round: u32, secrets: impl IntoIterator<Item = (NodeId, Secret)>) -> Option<Self> {
        let told: Vec<(NodeId, Secret)> = secrets.into_iter().collect();
        let drawn = || Self(Digest::of(&[&b"zoo/beacon\0"[..], &encode(&(job, round, &told))].concat()));
        (!told.is_empty()).then(drawn)
    }

    /// What draws where nobody tells anything: everybody can foresee it.
    pub fn foreseen(job: &JobId, round: u32) -> Self {
        Self(Digest::of(&[&b"zoo/beacon/foreseen\0"[..], &encode(&(job, round))].concat()))
    }

    /// A number from all of `u64`, another one for everything that it may be about.
    pub fn draw(&self, about: &impl Serialize) -> u64 {
        let drawn = Digest::of(&encode(&(self, about)));
        let (first, _) = drawn.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
        u64::from_le_bytes(*first)
    }

    /// Whether something happens that is to happen in so many of 1,000 cases.
    pub fn in_1000(&self, cases: u32, about: &impl Serialize) -> bool {
        u128::from(self.draw(about)) * 1000 < u128::from(cases) << 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: NodeId = NodeId([9; 32]);

    fn key(seed: u8) -> NodeKey {
        NodeKey::from_seed([seed; 32])
    }

    #[test]
    fn a_secret_belongs_to_one_node_network_job_and_round() {
        let (job, other) = (Digest::of(b"job"), Digest::of(b"other"));
        let secret = key(1).secret(&NETWORK, &job, 3);
        assert_eq!(secret, key(1).secret(&NETWORK, &job, 3), "it outlasts the process");
        for another in [
            key(2).secret(&NETWORK, &job, 3),
            key(1).secret(&NodeId([8; 32]), &job, 3),
            key(1).secret(&NETWORK, &other, 3),
            key(1).secret(&NETWORK, &job, 4),
        ] {
            assert_ne!(secret, another);
            assert_ne!(secret.pledge(), another.pledge());
        }
    }

    #[test]
    fn a_beacon_depends_on_everything_that_was_told() {
        let job = Digest::of(b"job");
        let told = |seeds: &[u8]| -> Vec<_> {
            seeds.iter().map(|&seed| (key(seed).id(), key(seed).secret(&NETWORK, &job, 1))).collect()
        };
        assert_eq!(Beacon::of(&job, 2, []), None);
        let beacon = Beacon::of(&job, 2, told(&[1, 2, 3])).unwrap();
        for other in [
            Beacon::of(&job, 2, told(&[1, 2])),
            Beacon::of(&job, 3, told(&[1, 2, 3])),
            Beacon::of(&Digest::of(b"other"), 2, told(&[1, 2, 3])),
        ] {
            assert_ne!(Some(beacon), other);
        }
        assert_ne!(beacon.draw(&"one thing"), beacon.draw(&"another"));
    }

    #[test]
    fn what_is_to_happen_in_so_many_cases_does() {
        let job = Digest::of(b"job");
        let beacon = Beacon::of(&job, 2, [(key(1).id(), key(1).secret(&NETWORK, &job, 1))]).unwrap();
        for cases in [0, 50, 500, 1000] {
            let happened = (0..20_000u32).filter(|case| beacon.in_1000(cases, case)).count() as i64;
            let expected = i64::from(cases) * 20;
            assert!(
                (happened - expected).abs() <= expected.min(20_000 - expected) / 10,
                "{happened} of {expected}"
            );
        }
    }
}
