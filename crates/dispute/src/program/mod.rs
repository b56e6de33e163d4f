//! One inner step as a list of tensors, each an operator of earlier ones. Anybody derives it from the window's task; only what is in the tensors
//! is a claim.
//!
//! Tensors stand in groups: the ids of the batch, every VNode's state before the step (after a lead also where that is joined), every VNode's
//! forward pass in network order, the loss, every VNode's backward pass in the opposite order, clipping, the directions that Muon moves in, and every VNode's state after its update. Then
//! comes, after every fourth step, the digest of all parameters; and after the last all that the outcome says: encoded updates with size and norm, their
//! digests, and that of what the replica keeps. A group's digest is over the roots of its tensors, a state's digest over those of its groups.

mod attention;
mod build;
mod close;
mod mlp;
mod muon;
mod step;
mod table;

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use zoo_content::{Digest, Hasher};

pub(crate) use close::dense_sizes;

use crate::account::Claim;
use crate::operator::Operator;

/// One inner step of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Every tensor, each after those it is made of.
    pub tensors: Vec<Tensor>,
    /// The groups, in order.
    pub groups: Vec<Group>,
    /// The groups of the state before the step.
    pub before: Range<usize>,
    /// The groups of the state after it.
    pub after: Range<usize>,
    /// Tensors whose words the account says; each is a group of its own.
    pub claims: Vec<(usize, Claim)>,
    /// Whether tensors are left out, since nobody has said the sizes of updates.
    pub is_cut: bool,
}

/// Tensors of one VNode that come about together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The VNode's id; empty where it is all of them.
    pub vnode: String,
    /// When.
    pub pass: Pass,
    /// Which.
    pub tensors: Range<usize>,
}

/// A part of an inner step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pass {
    /// What is trained on.
    Batch,
    /// What was there before.
    Before,
    /// What the lead moved, moved to where the round starts.
    Join,
    /// From tokens to logits.
    Forward,
    /// From the loss to gradients.
    Backward,
    /// The norm of all gradients.
    Clip,
    /// From gradients to orthogonal directions.
    Orthogonalise,
    /// From gradients to parameters.
    Update,
    /// The summed loss.
    Loss,
    /// From parameters to integers, and what is left unsaid.
    Encode,
    /// How large an update is.
    Size,
    /// Its norm.
    Norm,
    /// From integers to bytes to digests.
    Hash,
    /// The digest.
    Digest,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name within the group.
    pub name: String,
    /// Its extents.
    pub shape: Vec<usize>,
    /// How it is made.
    pub operator: Operator,
    /// Of which tensors.
    pub inputs: Vec<usize>,
}

impl Tensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has none; no tensor of a program is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Program {
    /// The group of a tensor.
    pub fn group_of(&self, tensor: usize) -> usize {
        self.groups.partition_point(|group| group.tensors.end <= tensor)
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Batch => "batch",
            Self::Before => "state before",
            Self::Join => "joining",
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Clip => "clipping",
            Self::Orthogonalise => "orthogonalising",
            Self::Update => "update",
            Self::Loss => "loss",
            Self::Encode => "encoding",
            Self::Size => "size",
            Self::Norm => "norm",
            Self::Hash => "hashing",
            Self::Digest => "digest",
        })
    }
}

/// The digest of a group whose tensors have these roots.
pub fn group_digest(roots: &[Digest]) -> Digest {
    digest_of(b"zoo/dispute/1 group\0", roots)
}

/// The digest of a state whose groups have these digests.
pub fn state_digest(groups: &[Digest]) -> Digest {
    digest_of(b"zoo/dispute/1 state\0", groups)
}

/// The digest of a step whose groups have these digests: all that its maker says of it.
pub fn step_digest(groups: &[Digest]) -> Digest {
    digest_of(b"zoo/dispute/1 step\0", groups)
}

fn digest_of(domain: &[u8], digests: &[Digest]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(domain);
    digests.iter().for_each(|digest| hasher.update(digest.as_bytes()));
    hasher.finish()
}
