//! From the state after a step to what the maker signed of it: digests of parameters, updates, and what the replica keeps.

use zoo_content::slice::CHUNK_BYTES;
use zoo_model::{NodeDefinition, ParameterDefinition};
use zoo_training::{Held, KeptLayout, SparseSettings, UpdateFormat, layout_of, parameter_layout};
use zoo_update::sparse::LEVELS_MAX;
use zoo_update::{Cut, Header, header_bytes};

use super::Pass;
use super::build::{Builder, Place};
use crate::account::Claim;
use crate::operator::{Body, Codec, DIGEST_WORDS, FAN, Hash, Layout, Operator, Point, Stored, Tally, What};
use crate::terms::{Ground, Task, TermsError};

/// What the encoding of a VNode's update made.
struct Encoded {
    /// Integers of every parameter: all of them, or those that are kept.
    integers: Vec<usize>,
    /// What is left unsaid of every parameter, if anything ever is.
    left: Vec<usize>,
    form: Form,
}

enum Form {
    Dense { head: Vec<u8> },
    Sparse { body: Body, starts: usize, places: Vec<usize>, levels: Vec<usize> },
}

impl Builder {
    /// The digest of all parameters as they are after the step.
    pub fn hash_network(&mut self, nodes: &[NodeDefinition]) {
        let mut digests = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            let (layout, inputs) = self.lay(parameter_layout(at, node), &[]);
            digests.push(self.hash(layout, &inputs));
            self.end_group(&node.id, Pass::Hash);
        }
        let ids = nodes.iter().map(|node| node.id.clone()).collect();
        let network = Operator::Hash(Hash::Network { ids });
        let digest = self.tensor("digest of all parameters", &[DIGEST_WORDS], network, &digests);
        self.claim("", Pass::Digest, digest, Claim::Parameters);
    }

    /// All that the outcome says of the state after the last step; whether sizes were given and it came to the end.
    pub fn close(&mut self, task: &Task, ground: &Ground, sizes: Option<&[u64]>) -> Result<bool, TermsError> {
        let nodes = &ground.definition.nodes;
        let mut encoded = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            encoded.push(self.encode(task, ground, at, node)?);
            self.end_group(&node.id, Pass::Encode);
            self.size_and_norm(at, node, &encoded[at]);
        }
        let known = dense_sizes(task, ground)?;
        let Some(sizes) = known.as_deref().or(sizes) else { return Ok(false) };
        for (at, node) in nodes.iter().enumerate() {
            let size = sizes.get(at).ok_or(TermsError::Other("list of updates"))?;
            let (layout, inputs) = self.update_bytes(&encoded[at], *size);
            self.hash_into(&node.id, layout, &inputs, Claim::Update(at));
        }
        let left: Vec<Vec<usize>> = encoded.into_iter().map(|encoded| encoded.left).collect();
        let kept = KeptLayout {
            network: &ground.definition,
            optimizer: &ground.spec.optimizer,
            updates: task.update(task.steps() - 1),
            residuals: left.iter().any(|left| !left.is_empty()),
            parameters: task.ahead_steps > 0,
        };
        let (layout, inputs) = self.lay(kept.pieces(), &left);
        self.hash_into("", layout, &inputs, Claim::Replica);
        Ok(true)
    }

    fn encode(
        &mut self,
        task: &Task,
        ground: &Ground,
        at: usize,
        node: &NodeDefinition,
    ) -> Result<Encoded, TermsError> {
        let update = ground.spec.update;
        let header = header_of(task, ground, node)?;
        let shapes: Vec<_> = header.layout.parameters().iter().map(|parameter| parameter.shape()).collect();
        let keep = keep_of(ground);
        let head = header_bytes(&header, keep);
        let (mut integers, mut left) = (Vec::new(), Vec::new());
        let (mut places, mut levels, mut bits, mut cuts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (place, parameter) in node.parameters().iter().enumerate() {
            let difference = self.difference(ground, (at, place), parameter);
            let unsaid = ground.kept.get(&Held::Residual((at, place))).copied();
            let unsaid = unsaid.map(|unsaid| self.stored("unsaid of", parameter, unsaid));
            match update {
                UpdateFormat::Dense => {
                    let name = format!("integers of {}", parameter.name);
                    let round = Operator::Codec(Codec::Round);
                    integers.push(self.tensor(&name, &parameter.shape, round, &[difference]));
                    left.extend(unsaid);
                }
                UpdateFormat::Sparse(SparseSettings { keep, decay }) => {
                    let wanted = match unsaid {
                        None => difference,
                        Some(unsaid) => {
                            let name = format!("wanted of {}", parameter.name);
                            let feedback = Operator::Point(Point::Feedback { decay });
                            self.tensor(&name, &parameter.shape, feedback, &[difference, unsaid])
                        }
                    };
                    let cut = Cut::of(shapes[place], keep);
                    let chosen = self.choose(parameter, cut, wanted);
                    integers.push(chosen.kept);
                    left.push(chosen.left);
                    places.push(chosen.places);
                    levels.push(chosen.levels);
                    bits.push(chosen.bits);
                    cuts.push(cut);
                }
            }
        }
        let form = match keep {
            None => Form::Dense { head },
            Some(_) => {
                let chunks: Vec<usize> = cuts.iter().map(Cut::chunks).collect();
                let count = chunks.iter().sum::<usize>() + 1;
                let starts = Operator::Codec(Codec::Starts { chunks });
                let starts = self.tensor("first bits of chunks", &[count], starts, &bits);
                Form::Sparse { body: Body { head, cuts }, starts, places, levels }
            }
        };
        Ok(Encoded { integers, left, form })
    }

    /// Where the round starts minus where the window ended.
    fn difference(&mut self, ground: &Ground, place: Place, parameter: &ParameterDefinition) -> usize {
        let base = self.stored("base of", parameter, ground.base[&place]);
        let name = format!("pseudo-gradient of {}", parameter.name);
        let inputs = [base, self.parameter(place)];
        self.tensor(&name, &parameter.shape, Operator::Point(Point::Difference), &inputs)
    }

    /// Words of a blob.
    pub fn stored(&mut self, what: &str, parameter: &ParameterDefinition, stored: Stored) -> usize {
        let name = format!("{what} {}", parameter.name);
        self.tensor(&name, &parameter.shape, Operator::Stored(stored), &[])
    }

    /// From what is wanted of a parameter to what is said of it, and what is not.
    fn choose(&mut self, parameter: &ParameterDefinition, cut: Cut, wanted: usize) -> Chosen {
        let name = |what: &str| format!("{what} of {}", parameter.name);
        let count = cut.kept_before(cut.chunks());
        let codec = |codec| Operator::Codec(codec);
        let places = self.tensor(&name("places"), &[count], codec(Codec::Places(cut)), &[wanted]);
        let kept = codec(Codec::Kept { length: parameter.len() });
        let kept = self.tensor(&name("kept"), &[count], kept, &[wanted, places]);
        let tally = |what| Operator::Tally(Tally { what, lengths: vec![count] });
        let mean = self.tensor(&name("mean"), &[2], tally(What::Mean), &[kept]);
        let deviation = self.tensor(&name("deviation"), &[2], tally(What::Deviation), &[kept, mean]);
        let inputs = [kept, mean, deviation];
        let levels = self.tensor(&name("levels"), &[2 * LEVELS_MAX], tally(What::Bins), &inputs);
        let inputs = [kept, mean, deviation, levels];
        let integers = self.tensor(&name("integers"), &[count], codec(Codec::Levels), &inputs);
        let inputs = [wanted, places, integers];
        let left = self.tensor(&name("unsaid now"), &parameter.shape, codec(Codec::Left(cut)), &inputs);
        let inputs = [places, integers, levels];
        let bits = self.tensor(&name("bits"), &[cut.chunks()], codec(Codec::Bits(cut)), &inputs);
        Chosen { places, kept: integers, levels, left, bits }
    }

    fn size_and_norm(&mut self, at: usize, node: &NodeDefinition, encoded: &Encoded) {
        if let Form::Sparse { body, starts, levels, .. } = &encoded.form {
            let inputs: Vec<usize> = [*starts].iter().chain(levels).copied().collect();
            let size = Operator::Codec(Codec::Size(body.clone()));
            let size = self.tensor("size", &[2], size, &inputs);
            self.claim(&node.id, Pass::Size, size, Claim::Size(at));
        }
        let lengths = encoded.integers.iter().map(|&integers| self.tensors[integers].len()).collect();
        let norm = Operator::Tally(Tally { what: What::Norm, lengths });
        let norm = self.tensor("norm", &[2], norm, &encoded.integers);
        self.claim(&node.id, Pass::Norm, norm, Claim::Norm(at));
    }

    /// The bytes of an update of that size.
    fn update_bytes(&mut self, encoded: &Encoded, size: u64) -> (Layout, Vec<usize>) {
        let mut layout = Layout::default();
        match &encoded.form {
            Form::Dense { head } => {
                layout.put_bytes(head.clone());
                for (input, &integers) in encoded.integers.iter().enumerate() {
                    layout.put_words(input, self.tensors[integers].len());
                }
                (layout, encoded.integers.clone())
            }
            Form::Sparse { body, starts, places, levels } => {
                let mut inputs = vec![*starts];
                for (at, &integers) in encoded.integers.iter().enumerate() {
                    inputs.extend([places[at], integers, levels[at]]);
                }
                let words = size.div_ceil(4) as usize;
                let bytes = Operator::Codec(Codec::Bytes(body.clone()));
                let bytes = self.tensor("bytes", &[words], bytes, &inputs);
                layout.put_words(0, words);
                layout.cut(size);
                (layout, vec![bytes])
            }
        }
    }

    /// Where the tensors of the state after the step lie in bytes; `left` is what is left unsaid, by VNode and parameter.
    fn lay(&self, pieces: Vec<Held>, left: &[Vec<usize>]) -> (Layout, Vec<usize>) {
        let (mut layout, mut inputs) = (Layout::default(), Vec::new());
        for piece in pieces {
            let tensor = match piece {
                Held::Frame(frame) => {
                    layout.put_bytes(frame);
                    continue;
                }
                Held::Value(place) => self.state[&place][0],
                Held::Mean(place) | Held::Momentum(place) => self.state[&place][1],
                Held::Square(place) => self.state[&place][2],
                Held::Residual((at, place)) => left[at][place],
            };
            layout.put_words(inputs.len(), self.tensors[tensor].len());
            inputs.push(tensor);
        }
        (layout, inputs)
    }

    /// The digest of a blob, and the group that it is.
    fn hash_into(&mut self, vnode: &str, layout: Layout, inputs: &[usize], claim: Claim) {
        let digest = self.hash(layout, inputs);
        // The digest is a group of its own.
        let last = self.tensors.pop().expect("the digest is the last");
        self.end_group(vnode, Pass::Hash);
        self.tensors.push(last);
        self.claim(vnode, Pass::Digest, digest, claim);
    }

    /// The digest of a blob, through its tree.
    fn hash(&mut self, layout: Layout, inputs: &[usize]) -> usize {
        let mut count = layout.bytes().div_ceil(CHUNK_BYTES) as usize;
        let name = format!("digest of {} bytes", layout.bytes());
        if count <= 1 {
            return self.tensor(&name, &[DIGEST_WORDS], Operator::Hash(Hash::Chunk(layout)), inputs);
        }
        let chunks = Operator::Hash(Hash::Chunks(layout));
        let mut nodes = self.tensor("chunks", &[count, DIGEST_WORDS], chunks, inputs);
        while count > FAN {
            let above = Hash::Nodes { nodes: count };
            count = above.nodes();
            nodes = self.tensor("nodes", &[count, DIGEST_WORDS], Operator::Hash(above), &[nodes]);
        }
        let root = Operator::Hash(Hash::Root { nodes: count });
        self.tensor(&name, &[DIGEST_WORDS], root, &[nodes])
    }
}

fn header_of(task: &Task, ground: &Ground, node: &NodeDefinition) -> Result<Header, TermsError> {
    let (vnode, tokens) = (node.id.clone(), task.tokens(ground.definition.context));
    Ok(Header { round: task.round, vnode, tokens, layout: layout_of(node)? })
}

fn keep_of(ground: &Ground) -> Option<u16> {
    match ground.spec.update {
        UpdateFormat::Dense => None,
        UpdateFormat::Sparse(settings) => Some(settings.keep),
    }
}

/// The sizes of dense updates, which follow from the network; those of sparse ones do not.
pub fn dense_sizes(task: &Task, ground: &Ground) -> Result<Option<Vec<u64>>, TermsError> {
    if keep_of(ground).is_some() {
        return Ok(None);
    }
    let sizes = ground.definition.nodes.iter().map(|node| {
        let header = header_of(task, ground, node)?;
        Ok(header_bytes(&header, None).len() as u64 + 4 * header.layout.elements())
    });
    sizes.collect::<Result<_, TermsError>>().map(Some)
}

/// See [`Builder::choose`].
struct Chosen {
    places: usize,
    /// The integers of what is kept.
    kept: usize,
    levels: usize,
    left: usize,
    bits: usize,
}
