//! What a node remembers of the rounds it worked in: which blobs each used, so that old ones can go.
//!
//! Retention needs no counting: every round notes every blob it uses, also those it finds in
//! the store. What none of the remembered rounds noted is of no more use. Blobs that were never
//! noted (say, because a person put them there) are never removed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::JobId;

/// Format of the remembered rounds on disk.
const FORMAT: u32 = 2;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Rounds of every job.
    pub rounds: usize,
    /// Jobs; the one that was worked for longest ago is forgotten first.
    pub jobs: usize,
}

impl Default for Retention {
    fn default() -> Self {
        // What a window started from is asked for until it is settled whether it is right, and what a round was made of until it is final.
        Self { rounds: 9, jobs: 4 }
    }
}

/// The remembered rounds of all jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rounds {
    format: u32,
    /// The job that was worked for last comes last.
    jobs: Vec<JobRounds>,
    /// Checkpoints that the node is asked to keep, by their manifests, and the blobs they are made of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    held: BTreeMap<Digest, BTreeSet<Digest>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobRounds {
    job: JobId,
    /// The round that was worked in last. A job that failed and is tried again begins anew.
    #[serde(default)]
    latest: u32,
    rounds: BTreeMap<u32, Round>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Round {
    blobs: BTreeSet<Digest>,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { format: FORMAT, jobs: Vec::new(), held: BTreeMap::new() }
    }
}

impl Rounds {
    /// Reads what [`Rounds::to_json`] wrote. Errors say what is wrong, for people.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let rounds: Self = serde_json::from_slice(json).map_err(|cause| cause.to_string())?;
        match rounds.format {
            FORMAT => Ok(rounds),
            other => Err(format!("format {other} is not the {FORMAT} that this version knows")),
        }
    }

    /// For the disk.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps with integer keys are JSON objects")
    }

    /// Remembers that `round` of `job` uses `blob`.
    pub fn note(&mut self, job: JobId, round: u32, blob: Digest) {
        self.round(job, round).blobs.insert(blob);
    }

    /// Remembers that these blobs belong to a checkpoint that is to be kept.
    pub fn hold(&mut self, checkpoint: Digest, blobs: impl IntoIterator<Item = Digest>) {
        self.held.entry(checkpoint).or_default().extend(blobs);
    }

    /// Only these checkpoints still are to be kept; returns the blobs that nothing remembered uses then.
    pub fn hold_only(&mut self, checkpoints: &BTreeSet<Digest>) -> BTreeSet<Digest> {
        let before = self.blobs();
        self.held.retain(|checkpoint, _| checkpoints.contains(checkpoint));
        &before - &self.blobs()
    }

    /// Forgets what `retention` does not cover; returns the blobs that nothing remembered uses.
    pub fn forget(&mut self, retention: Retention) -> BTreeSet<Digest> {
        let before = self.blobs();
        let surplus = self.jobs.len().saturating_sub(retention.jobs);
        self.jobs.drain(..surplus);
        for job in &mut self.jobs {
            let newest = job.rounds.keys().next_back().copied().unwrap_or_default();
            if newest.saturating_sub(job.latest) as usize >= retention.rounds {
                // The job has gone back to its start: these rounds are of the time before.
                job.rounds.retain(|round, _| *round <= job.latest);
            }
            while job.rounds.len() > retention.rounds {
                job.rounds.pop_first();
            }
        }
        &before - &self.blobs()
    }

    /// Whether a remembered round uses `blob`, or a checkpoint that is kept.
    pub fn uses(&self, blob: &Digest) -> bool {
        self.sets().any(|blobs| blobs.contains(blob))
    }

    fn blobs(&self) -> BTreeSet<Digest> {
        self.sets().flatten().copied().collect()
    }

    fn sets(&self) -> impl Iterator<Item = &BTreeSet<Digest>> {
        let rounds = self.jobs.iter().flat_map(|job| job.rounds.values());
        rounds.map(|round| &round.blobs).chain(self.held.values())
    }

    fn round(&mut self, job: JobId, round: u32) -> &mut Round {
        let known = match self.jobs.iter().position(|known| known.job == job) {
            Some(at) => self.jobs.remove(at),
            None => JobRounds { job, latest: round, rounds: BTreeMap::new() },
        };
        self.jobs.push(known);
        let known = self.jobs.last_mut().expect("one was just pushed");
        known.latest = round;
        known.rounds.entry(round).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn job(name: &str, uses: &[(u32, &str)]) -> Rounds {
        let mut rounds = Rounds::default();
        for (round, blob) in uses {
            rounds.note(digest(name), *round, digest(blob));
        }
        rounds
    }

    #[test]
    fn a_blob_goes_with_the_last_round_that_used_it() {
        let keep_two = Retention { rounds: 2, jobs: 1 };
        /// Which round uses which blob, and what is gone then.
        type Case = (&'static [(u32, &'static str)], &'static [&'static str]);
        let cases: &[Case] = &[
            (&[], &[]),
            (&[(0, "a"), (1, "b")], &[]),
            (&[(0, "a"), (1, "b"), (2, "c")], &["a"]),
            (&[(0, "a"), (0, "data"), (1, "data"), (2, "data")], &["a"]),
            (&[(0, "a"), (7, "b"), (9, "c")], &["a"]),
            (&[(2, "c"), (1, "b"), (0, "a"), (3, "d")], &["a", "b"]),
        ];
        for (uses, gone) in cases {
            let mut rounds = job("job", uses);
            let gone: BTreeSet<Digest> = gone.iter().map(|name| digest(name)).collect();
            assert_eq!(rounds.forget(keep_two), gone, "{uses:?}");
            assert_eq!(rounds.forget(keep_two), BTreeSet::new(), "{uses:?}: nothing goes twice");
        }
    }

    #[test]
    fn a_job_that_is_tried_again_keeps_what_its_first_rounds_use_and_forgets_its_last() {
        let retention = Retention { rounds: 2, jobs: 1 };
        let mut rounds = job("job", &[(7, "old"), (8, "older"), (0, "new")]);
        assert_eq!(rounds.forget(retention), BTreeSet::from([digest("old"), digest("older")]));
        rounds.note(digest("job"), 1, digest("next"));
        assert_eq!(rounds.forget(retention), BTreeSet::new());
    }

    #[test]
    fn what_is_kept_outlasts_its_round_until_it_is_released() {
        let mut rounds = job("job", &[(0, "manifest"), (0, "part"), (0, "other")]);
        rounds.hold(digest("manifest"), [digest("manifest")]);
        rounds.hold(digest("manifest"), [digest("part"), digest("shared")]);
        rounds.note(digest("job"), 1, digest("shared"));
        assert_eq!(rounds.forget(Retention { rounds: 1, jobs: 1 }), BTreeSet::from([digest("other")]));
        assert_eq!(Rounds::from_json(&rounds.to_json()).as_ref(), Ok(&rounds));
        assert_eq!(rounds.hold_only(&BTreeSet::from([digest("manifest")])), BTreeSet::new());
        let gone = rounds.hold_only(&BTreeSet::new());
        assert_eq!(gone, BTreeSet::from([digest("manifest"), digest("part")]));
    }

    #[test]
    fn the_job_that_was_worked_for_longest_ago_is_forgotten_first() {
        let mut rounds = Rounds::default();
        for (name, blob) in [("first", "a"), ("second", "b"), ("first", "c"), ("third", "c")] {
            rounds.note(digest(name), 0, digest(blob));
        }
        let gone = rounds.forget(Retention { rounds: 4, jobs: 2 });
        assert_eq!(gone, BTreeSet::from([digest("b")]));
    }

    #[test]
    fn what_is_written_is_read_and_anything_else_is_refused() {
        let rounds = job("job", &[(0, "a"), (11, "b")]);
        assert_eq!(Rounds::from_json(&rounds.to_json()), Ok(rounds));
        for bad in ["", "{}", r#"{"format":3,"jobs":[]}"#, r#"{"format":2,"jobs":[],"more":0}"#] {
            assert!(Rounds::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
