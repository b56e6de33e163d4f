//! The tensors of one inner step, as a party computes them.

use rayon::prelude::*;
use zoo_content::Digest;
use zoo_model::Network;

use crate::operator::{Operator, Read, Unread};
use crate::program::{Program, group_digest, state_digest};
use crate::tree;

/// The state between two steps: of every parameter in network order its values, and the running means of its gradient and of the gradient's square;
/// those are zero before the first update.
#[derive(Clone, Debug, PartialEq)]
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

/// What a step is trained on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token ids.
    pub inputs: Vec<u32>,
    /// The ids to predict.
    pub targets: Vec<u32>,
}

impl State {
    /// That of a network.
    pub fn of(network: &Network) -> Self {
        let mut tensors = Vec::new();
        for parameter in network.vnodes().iter().flat_map(|vnode| vnode.parameters()) {
            let zeros = || vec![0.0; parameter.value.len()];
            let moments = parameter.adamw_moments().map(|(mean, square)| [mean.to_vec(), square.to_vec()]);
            tensors.push(parameter.value.clone());
            tensors.extend(moments.unwrap_or_else(|| [zeros(), zeros()]));
        }
        Self(tensors)
    }

    /// The digest of a network's state, without a copy of it.
    pub fn digest_of(network: &Network) -> Digest {
        let mut groups = Vec::new();
        for vnode in network.vnodes().iter().filter(|vnode| !vnode.parameters().is_empty()) {
            let mut roots = Vec::new();
            for parameter in vnode.parameters() {
                let zeros =
                    vec![0.0; if parameter.adamw_moments().is_none() { parameter.value.len() } else { 0 }];
                let (mean, square) = parameter.adamw_moments().unwrap_or((&zeros, &zeros));
                roots.extend([&parameter.value, mean, square].map(tree::root));
            }
            groups.push(group_digest(&roots));
        }
        state_digest(&groups)
    }
}

impl Trace {
    /// Computes a step. `alter` sees every tensor when it is made, with its place, and may change it: what follows is made of what it left.
    pub fn of(
        program: Program,
        batch: &Batch,
        state: State,
        mut alter: impl FnMut(usize, &mut Vec<f32>),
    ) -> Self {
        let mut ids = [&batch.inputs, &batch.targets].into_iter();
        let mut before = state.0.into_iter();
        let mut tensors: Vec<Vec<f32>> = Vec::with_capacity(program.tensors.len());
        for (at, tensor) in program.tensors.iter().enumerate() {
            let mut values = match &tensor.operator {
                Operator::Before => before.next().expect("a state has a tensor for every parameter"),
                Operator::Tokens(_) => {
                    let ids = ids.next().expect("a batch has inputs and targets");
                    ids.iter().map(|id| f32::from_bits(*id)).collect()
                }
                operator => {
                    let inputs: Vec<&[f32]> =
                        tensor.inputs.iter().map(|&input| &tensors[input][..]).collect();
                    operator.compute(&inputs, tensor.len())
                }
            };
            assert_eq!(values.len(), tensor.len(), "{} has its shape", tensor.name);
            alter(at, &mut values);
            tensors.push(values);
        }
        let roots: Vec<Digest> = tensors.par_iter().map(|values| tree::root(values)).collect();
        let groups = program.groups.iter().map(|group| group_digest(&roots[group.tensors.clone()])).collect();
        Self { program, tensors, roots, groups }
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
    /// A token that `token` does not have.
    pub fn states(
        &self,
        tensor: usize,
        element: usize,
        token: &dyn Fn(u64) -> Option<u32>,
    ) -> Result<Vec<Vec<u32>>, Unread> {
        let operator = &self.program.tensors[tensor].operator;
        let mut states: Vec<Vec<u32>> = Vec::new();
        let mut read = self.reader(tensor, token, |_, _| ());
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
        token: &'a dyn Fn(u64) -> Option<u32>,
        seen: Seen,
    ) -> Reader<'a, Seen> {
        Reader { trace: self, tensor, token, seen }
    }
}

/// See [`Trace::reader`].
pub struct Reader<'a, Seen> {
    trace: &'a Trace,
    tensor: usize,
    token: &'a dyn Fn(u64) -> Option<u32>,
    seen: Seen,
}

impl<Seen: FnMut(usize, usize)> Read for Reader<'_, Seen> {
    fn word(&mut self, input: usize, index: usize) -> Result<u32, Unread> {
        let tensor = *self.trace.program.tensors[self.tensor].inputs.get(input).ok_or(Unread)?;
        (self.seen)(tensor, index);
        self.trace.tensors[tensor].get(index).map(|value| tree::word(*value)).ok_or(Unread)
    }

    fn token(&mut self, position: u64) -> Result<u32, Unread> {
        (self.token)(position).ok_or(Unread)
    }
}
