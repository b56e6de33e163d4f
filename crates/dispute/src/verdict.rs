//! How a dispute ends.

use serde::{Deserialize, Serialize};

use crate::moves::Role;
use crate::program::{Pass, Program};

/// Who lost, why, and how far the dispute had come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The loser.
    pub loser: Role,
    /// Why.
    pub reason: Reason,
    /// Where.
    pub place: Place,
}

/// Why a party lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The maker: the disputed segment was computed again, and came to something else.
    Computation {
        /// What the maker said it came to: the state after it, or the element.
        said: Vec<u32>,
        /// What it comes to.
        computed: Vec<u32>,
    },
    /// The challenger: the disputed segment was computed again, and is right.
    FalseAccusation {
        /// What it comes to.
        computed: Vec<u32>,
    },
    /// It was silent for longer than a move may take.
    Silence,
    /// What it said contradicts what it had said, or is no answer to what was asked.
    Inconsistent(String),
    /// It gave up.
    Withdrawn,
}

/// How far a dispute had come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The inner step of the window, from 0.
    pub step: Option<u32>,
    /// The group of the step's tensors.
    pub group: Option<Named>,
    /// The tensor.
    pub tensor: Option<Element>,
    /// The segment of the element's chain, from 0.
    pub segment: Option<u64>,
}

/// A group of tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The VNode; empty where it is all of them.
    pub vnode: String,
    /// The pass.
    pub pass: Pass,
}

/// An element of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// The tensor.
    pub tensor: String,
    /// The operator that makes it.
    pub operator: String,
    /// The tensor's extents.
    pub shape: Vec<u64>,
    /// The element, if it was come to: its place along every axis.
    pub at: Option<Vec<u64>>,
}

impl Named {
    /// That of a group.
    pub fn of(program: &Program, group: usize) -> Self {
        let group = &program.groups[group];
        Self { vnode: group.vnode.clone(), pass: group.pass }
    }
}

impl Element {
    /// Of a tensor, and perhaps an element of it.
    pub fn of(program: &Program, tensor: usize, element: Option<usize>) -> Self {
        let tensor = &program.tensors[tensor];
        let at = element.map(|element| {
            let (mut rest, mut at) = (element, Vec::new());
            for extent in tensor.shape.iter().rev() {
                at.push((rest % extent) as u64);
                rest /= extent;
            }
            at.reverse();
            at
        });
        Self {
            tensor: tensor.name.clone(),
            operator: tensor.operator.name().to_owned(),
            shape: tensor.shape.iter().map(|extent| *extent as u64).collect(),
            at,
        }
    }
}

impl Reason {
    /// In a few words.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Computation { .. } => "computation",
            Self::FalseAccusation { .. } => "false accusation",
            Self::Silence => "silence",
            Self::Inconsistent(_) => "inconsistent",
            Self::Withdrawn => "withdrawn",
        }
    }
}
