//! The tensors of one inner step, as a party computes them.

use std::ops::Range;

use rayon::prelude::*;
use zoo_content::Digest;
use zoo_model::Network;
use zoo_protocol::VNodeUpdate;

use crate::account::{Claim, Step};
use crate::operator::{Blob, Operator, Read, Unread, digest_of, number};
use crate::program::{Program, dense_sizes, group_digest, state_digest};
use crate::replay::ReplayError;
use crate::terms::{Task, TermsError};
use crate::tree;

/// The state between two steps: of every parameter in network order its values, and what the optimiser remembers of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State(pub Vec<Vec<f32>>);

/// A step with everything in it.
#[derive(Clone, Debug)]
pub struct Trace {
    /// What the tensors are.
    pub program: Program,
    /// The tensors.
    pub tensors: Vec<Vec<f32>>,
    /// Their roots.
    pub roots: Vec<Digest>,
    /// The digests of the groups.
    pub groups: Vec<Digest>,
}

/// Blobs by their names.
#[derive(Clone, Debug, Default)]
pub struct Blobs<'a>(pub Vec<(Digest, &'a [u8])>);

impl<'a> Blobs<'a> {
    /// A blob.
    pub fn get(&self, name: &Digest) -> Option<&'a [u8]> {
        self.0.iter().find(|(digest, _)| digest == name).map(|(_, blob)| *blob)
    }

    /// At most four bytes of one.
    fn number(&self, blob: &Blob, range: Range<u64>) -> Option<u32> {
        self.get(&blob.digest)?.get(range.start as usize..range.end as usize).map(number)
    }
}

impl State {
    /// That of a network which has taken a step.
    pub fn of(network: &Network) -> Self {
        let mut tensors = Vec::new();
        for parameter in network.vnodes().iter().flat_map(|vnode| vnode.parameters()) {
            tensors.push(parameter.value.clone());
            tensors.extend(parameter.remembered().into_iter().map(<[f32]>::to_vec));
        }
        Self(tensors)
    }

    /// The digest of a network's state, without a copy of it.
    pub fn digest_of(network: &Network) -> Digest {
        let mut groups = Vec::new();
        for vnode in network.vnodes().iter().filter(|vnode| !vnode.parameters().is_empty()) {
            let mut roots = Vec::new();
            for parameter in vnode.parameters() {
                roots.push(tree::root(&parameter.value));
                roots.extend(parameter.remembered().into_iter().map(tree::root));
            }
            groups.push(group_digest(&roots));
        }
        state_digest(&groups)
    }
}

impl Trace {
    /// Computes a step of a window. `alter` sees every tensor when it is made, with its place, and may change it: what follows is made of what it
    /// left.
    ///
    /// # Errors
    /// A window that makes no sense, or a blob that is not there.
    pub fn of(
        (task, step): (&Task, u32),
        blobs: &Blobs,
        state: State,
        mut alter: impl FnMut(usize, &mut Vec<f32>),
    ) -> Result<Self, ReplayError> {
        let mut program = Program::of(task, step, None)?;
        let mut before = state.0.into_iter();
        let mut tensors: Vec<Vec<f32>> = Vec::with_capacity(program.tensors.len());
        while let Some(tensor) = program.tensors.get(tensors.len()) {
            let mut values = match &tensor.operator {
                Operator::Before => before.next().expect("a state has a tensor for every parameter"),
                Operator::Stored(stored) => {
                    read_all(blobs, &stored.blob, tensor.len(), |at| stored.range(at))?
                }
                Operator::Tokens(tokens) => {
                    read_all(blobs, &tokens.blob, tensor.len(), |at| tokens.range(at))?
                }
                operator => {
                    let inputs: Vec<&[f32]> =
                        tensor.inputs.iter().map(|&input| &tensors[input][..]).collect();
                    operator.compute(&inputs, tensor.len())
                }
            };
            assert_eq!(values.len(), tensor.len(), "{} has its shape", tensor.name);
            if tensor.operator.is_number() {
                values.iter_mut().for_each(|value| *value = f32::from_bits(tree::word(*value)));
            }
            alter(tensors.len(), &mut values);
            tensors.push(values);
            if program.is_cut && program.tensors.len() == tensors.len() {
                // The sizes of updates are known only now.
                let sizes = program.claims.iter().filter(|(_, claim)| matches!(claim, Claim::Size(_)));
                let sizes: Vec<u64> = sizes.map(|(tensor, _)| whole(&tensors[*tensor])).collect();
                program = Program::of(task, step, Some(&sizes))?;
            }
        }
        let roots: Vec<Digest> = tensors.par_iter().map(|values| tree::root(values)).collect();
        let groups = program.groups.iter().map(|group| group_digest(&roots[group.tensors.clone()])).collect();
        Ok(Self { program, tensors, roots, groups })
    }

    /// The words that the account says of this step, by what the step came to.
    pub fn claimed(&self, claim: Claim) -> Option<Vec<u32>> {
        let (tensor, _) = self.program.claims.iter().find(|(_, other)| *other == claim)?;
        Some(self.tensors[*tensor].iter().map(|value| value.to_bits()).collect())
    }

    /// What the account says of this step.
    pub fn said(&self) -> Step {
        let nats = self.claimed(Claim::Nats).expect("every step has a loss");
        let parameters = self.claimed(Claim::Parameters).map(|words| digest_of(&words));
        Step { state: self.digest(), nats: u64_of(&nats), parameters }
    }

    /// The updates and what is kept, of a window's last step.
    ///
    /// # Errors
    /// A window that makes no sense.
    pub fn outcome(&self, task: &Task, ids: Vec<String>) -> Result<(Vec<VNodeUpdate>, Digest), TermsError> {
        let known = dense_sizes(task, &task.ground()?)?.unwrap_or_default();
        let claimed = |claim| self.claimed(claim).unwrap_or_default();
        let updates = ids.into_iter().enumerate().map(|(at, vnode)| VNodeUpdate {
            vnode,
            update: digest_of(&claimed(Claim::Update(at))),
            bytes: known.get(at).copied().unwrap_or_else(|| u64_of(&claimed(Claim::Size(at)))),
            norm: u64_of(&claimed(Claim::Norm(at))),
        });
        Ok((updates.collect(), digest_of(&claimed(Claim::Replica))))
    }

    /// The digest of the state after the step.
    pub fn digest(&self) -> Digest {
        state_digest(&self.groups[self.program.after.clone()])
    }

    /// The state after the step.
    pub fn after(&self) -> State {
        let groups = &self.program.groups[self.program.after.clone()];
        let tensors = groups.iter().flat_map(|group| self.tensors[group.tensors.clone()].iter().cloned());
        State(tensors.collect())
    }

    /// The state of an element's chain after every segment, the element itself last, as it follows from the tensors that it is made of.
    ///
    /// # Errors
    /// A blob that is not there.
    pub fn states(&self, tensor: usize, element: usize, blobs: &Blobs) -> Result<Vec<Vec<u32>>, Unread> {
        let operator = &self.program.tensors[tensor].operator;
        let mut states: Vec<Vec<u32>> = Vec::new();
        let mut read = self.reader(tensor, blobs, |_, _| ());
        for segment in 0..operator.segments(element) {
            let before = states.last().map_or(&[][..], |state| state);
            states.push(operator.segment(element, segment, before, &mut read)?);
        }
        Ok(states)
    }

    /// Reads the inputs of a tensor; `seen` hears which word of which tensor.
    pub fn reader<'a, Seen: FnMut(usize, usize)>(
        &'a self,
        tensor: usize,
        blobs: &'a Blobs<'a>,
        seen: Seen,
    ) -> Reader<'a, Seen> {
        Reader { trace: self, tensor, blobs, seen }
    }
}

/// See [`Trace::reader`].
pub struct Reader<'a, Seen> {
    trace: &'a Trace,
    tensor: usize,
    blobs: &'a Blobs<'a>,
    seen: Seen,
}

impl<Seen: FnMut(usize, usize)> Read for Reader<'_, Seen> {
    fn word(&mut self, input: usize, index: usize) -> Result<u32, Unread> {
        let tensor = *self.trace.program.tensors[self.tensor].inputs.get(input).ok_or(Unread)?;
        (self.seen)(tensor, index);
        self.trace.tensors[tensor].get(index).map(|value| value.to_bits()).ok_or(Unread)
    }

    fn stored(&mut self, blob: &Blob, range: Range<u64>) -> Result<u32, Unread> {
        self.blobs.number(blob, range).ok_or(Unread)
    }
}

/// The elements of a tensor that lie in a blob.
fn read_all(
    blobs: &Blobs,
    blob: &Blob,
    length: usize,
    range: impl Fn(usize) -> Range<u64>,
) -> Result<Vec<f32>, ReplayError> {
    let missing = ReplayError::Blob(blob.digest);
    let Some(bytes) = blobs.get(&blob.digest) else { return Err(missing) };
    let value = |at| {
        let Range { start, end } = range(at);
        bytes.get(start as usize..end as usize).map(|bytes| f32::from_bits(number(bytes)))
    };
    (0..length).map(value).collect::<Option<_>>().ok_or(missing)
}

fn u64_of(words: &[u32]) -> u64 {
    words.iter().rev().fold(0, |number, word| number << 32 | u64::from(*word))
}

fn whole(values: &[f32]) -> u64 {
    u64_of(&values.iter().map(|value| value.to_bits()).collect::<Vec<_>>())
}
