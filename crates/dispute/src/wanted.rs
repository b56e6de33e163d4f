//! What a dispute waits for.

use std::ops::Range;

use zoo_content::Digest;

use crate::moves::Role;

/// Parts that a chain is cut into at once.
const PARTS: usize = 256;

/// What the party in turn is to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// The maker: the outcome and all steps.
    Account,
    /// The challenger: the first wrong step.
    Step,
    /// The maker: the groups of this step.
    Groups(u32),
    /// The challenger: the first wrong group of this step.
    Group(u32),
    /// The maker: the roots of a group's tensors.
    Roots(Scene),
    /// The challenger: the first wrong root.
    Tensor(Scene),
    /// The maker: nodes below a node of a tensor's tree.
    Nodes(Scene, Below),
    /// The challenger: the first wrong one of them.
    Node(Scene, Below, Vec<Digest>),
    /// The maker: the words below a node.
    Words(Scene, Below),
    /// The challenger: the first wrong one of these.
    Word(Scene, Range<u64>, Vec<u32>),
    /// The maker: the states of an element's chain between these parts.
    States(Scene, Part),
    /// The challenger: the first part whose end is wrong.
    Segment(Scene, Part, Vec<u32>),
    /// The maker: what one segment reads.
    Opening(Scene, Part),
}

/// Where a dispute is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scene {
    /// The inner step of the window, from 0.
    pub step: u32,
    /// The group of tensors.
    pub group: usize,
    /// The tensor; the group's first as long as none was picked.
    pub tensor: usize,
}

/// A node of a tensor's tree, and nodes below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Below {
    /// The disputed node: its level, its index there, and what it is.
    pub node: (u32, u64, Digest),
    /// The level of those that are to be said.
    pub level: u32,
    /// Their indices.
    pub range: Range<u64>,
}

/// A part of an element's chain: the state before it is agreed on, that after it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The element.
    pub element: usize,
    /// Its segments.
    pub segments: Range<usize>,
    /// The state before them.
    pub before: Vec<u32>,
    /// What the maker says is the state after them, or the element itself.
    pub after: Vec<u32>,
}

impl Wanted {
    /// Whose turn it is.
    pub fn role(&self) -> Role {
        match self {
            Self::Account
            | Self::Groups(_)
            | Self::Roots(_)
            | Self::Nodes(..)
            | Self::Words(..)
            | Self::States(..)
            | Self::Opening(..) => Role::Maker,
            Self::Step
            | Self::Group(_)
            | Self::Tensor(_)
            | Self::Node(..)
            | Self::Word(..)
            | Self::Segment(..) => Role::Challenger,
        }
    }

    /// The disputed step of the window, once there is one.
    pub fn step(&self) -> Option<u32> {
        match self {
            Self::Account | Self::Step => None,
            Self::Groups(step) | Self::Group(step) => Some(*step),
            Self::Roots(scene)
            | Self::Tensor(scene)
            | Self::Nodes(scene, ..)
            | Self::Node(scene, ..)
            | Self::Words(scene, ..)
            | Self::Word(scene, ..)
            | Self::States(scene, ..)
            | Self::Segment(scene, ..)
            | Self::Opening(scene, ..) => Some(scene.step),
        }
    }
}

impl Part {
    /// Where it is cut: the segments at which the parts begin, and the end.
    pub fn cuts(&self) -> Vec<usize> {
        let (first, count) = (self.segments.start, self.segments.len());
        let parts = count.min(PARTS);
        (0..=parts).map(|part| first + count * part / parts).collect()
    }
}
