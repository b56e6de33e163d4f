//! What an audit says.

use std::fmt;

use zoo_content::Digest;
use zoo_protocol::NodeId;

/// One thing that a node reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It trained a window.
    Window,
    /// It added the part of a round that has this number.
    Sum(u32),
    /// It took the outer step.
    OuterStep,
    /// It scored this shard of the held-out data.
    Shard(u32),
    /// It trained another's window again.
    Verification,
}

/// What came of doing it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same, to the last bit.
    Equal,
    /// Something else: what differs, for people.
    Different(Vec<String>),
    /// It cannot be done again, and why.
    Unavailable(String),
}

/// A report that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Place of the report among the journal's commands, from 0.
    pub command: u64,
    /// The round, from 0.
    pub round: u32,
    /// Who reported.
    pub node: NodeId,
    /// What.
    pub deed: Deed,
    /// What came of it.
    pub verdict: Verdict,
}

/// How many reports there were, and how they fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Windows that were trained again and are equal.
    pub windows: u64,
    /// Their inner steps.
    pub steps: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Parts of rounds that were added again and are equal.
    pub sums: u64,
    /// Reports of an outer step that are equal to it, taken again.
    pub outer_steps: u64,
    /// Shards that were scored again and are equal.
    pub shards: u64,
    /// Verdicts on windows that are what came out here.
    pub verifications: u64,
    /// Reports that say something else than what comes out.
    pub different: u64,
    /// Reports that cannot be checked.
    pub unavailable: u64,
    /// Reports of rounds that were not to be checked.
    pub skipped: u64,
    /// The checkpoint that the last finished round ended with, and whether it was come to here.
    pub checkpoint: Option<(Digest, bool)>,
}

impl Tally {
    /// Reports that are equal.
    pub fn equal(&self) -> u64 {
        self.windows + self.sums + self.outer_steps + self.shards + self.verifications
    }

    pub(crate) fn count(&mut self, checked: &Checked) {
        *match (&checked.verdict, checked.deed) {
            (Verdict::Different(_), _) => &mut self.different,
            (Verdict::Unavailable(_), _) => &mut self.unavailable,
            (Verdict::Equal, Deed::Window) => &mut self.windows,
            (Verdict::Equal, Deed::Sum(_)) => &mut self.sums,
            (Verdict::Equal, Deed::OuterStep) => &mut self.outer_steps,
            (Verdict::Equal, Deed::Shard(_)) => &mut self.shards,
            (Verdict::Equal, Deed::Verification) => &mut self.verifications,
        } += 1;
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window => f.write_str("window"),
            Self::Sum(number) => write!(f, "sum {number}"),
            Self::OuterStep => f.write_str("outer step"),
            Self::Verification => f.write_str("verdict on another's window"),
            Self::Shard(number) => write!(f, "evaluation of shard {number}"),
        }
    }
}
