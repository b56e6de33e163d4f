//! Where in the bytes of a state every tensor lies, for who has neither the network nor the bytes.

use zoo_model::{NetworkDefinition, NodeDefinition, Optimizer, Remembered};

use crate::network_state::REPLICA_FORMAT;

/// A piece of the bytes of a state. A place is a VNode's in the network and a parameter's in the VNode.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// These bytes.
    Frame(Vec<u8>),
    /// The values of a parameter, as little-endian f32, like all that follow.
    Value((usize, usize)),
    /// AdamW's mean of its gradients.
    Mean((usize, usize)),
    /// AdamW's mean of their squares.
    Square((usize, usize)),
    /// Muon's momentum.
    Momentum((usize, usize)),
    /// What updates have left unsaid of it.
    Residual((usize, usize)),
}

/// What a replica keeps, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct KeptLayout<'a> {
    /// The network.
    pub network: &'a NetworkDefinition,
    /// What it is trained with.
    pub optimizer: &'a Optimizer,
    /// Updates that the optimiser has seen, at least one.
    pub updates: u64,
    /// Whether there is something left unsaid.
    pub residuals: bool,
    /// Whether the parameters at the end of the window are in it.
    pub parameters: bool,
}

/// The parameters of VNode `at`, as a checkpoint holds them.
pub fn parameter_layout(at: usize, node: &NodeDefinition) -> Vec<Held> {
    interleaved(node.state_frames(), node.parameters().len(), |place| vec![Held::Value((at, place))])
}

impl KeptLayout<'_> {
    /// The pieces of the blob, in order.
    pub fn pieces(&self) -> Vec<Held> {
        let nodes = &self.network.nodes;
        let mut frame = Vec::new();
        put_number(&mut frame, REPLICA_FORMAT.into());
        put_number(&mut frame, self.updates);
        put_number(&mut frame, nodes.len() as u64);
        let mut pieces = vec![Held::Frame(frame)];
        for (at, node) in nodes.iter().enumerate() {
            let mut id = Vec::new();
            put_number(&mut id, node.id.len() as u64);
            id.extend_from_slice(node.id.as_bytes());
            pieces.push(Held::Frame(id));
            let parameters = node.parameters();
            put_part(&mut pieces, node, self.optimizer_layout(at, node));
            let places = (0..parameters.len()).filter(|_| self.residuals);
            put_part(&mut pieces, node, places.map(|place| Held::Residual((at, place))).collect());
            let state = if self.parameters { parameter_layout(at, node) } else { Vec::new() };
            put_part(&mut pieces, node, state);
        }
        pieces
    }

    fn optimizer_layout(&self, at: usize, node: &NodeDefinition) -> Vec<Held> {
        let parameters = node.parameters();
        let remembered = |place: usize| self.optimizer.remembers(&parameters[place].role);
        let frames = node.optimizer_frames(remembered);
        interleaved(frames, parameters.len(), |place| match remembered(place) {
            Remembered::AdamW => vec![Held::Mean((at, place)), Held::Square((at, place))],
            Remembered::Muon => vec![Held::Momentum((at, place))],
        })
    }
}

impl Held {
    /// How many bytes it is, where `words` says how many elements a parameter has.
    pub fn bytes(&self, words: impl Fn((usize, usize)) -> usize) -> u64 {
        match self {
            Self::Frame(frame) => frame.len() as u64,
            Self::Value(place)
            | Self::Mean(place)
            | Self::Square(place)
            | Self::Momentum(place)
            | Self::Residual(place) => 4 * words(*place) as u64,
        }
    }
}

/// Puts bytes with their length before them.
fn put_part(pieces: &mut Vec<Held>, node: &NodeDefinition, part: Vec<Held>) {
    let parameters = node.parameters();
    let bytes: u64 = part.iter().map(|piece| piece.bytes(|(_, place)| parameters[place].len())).sum();
    let mut length = Vec::new();
    put_number(&mut length, bytes);
    pieces.push(Held::Frame(length));
    pieces.extend(part);
}

fn interleaved(frames: Vec<Vec<u8>>, parameters: usize, of: impl Fn(usize) -> Vec<Held>) -> Vec<Held> {
    let mut pieces = Vec::new();
    for (place, frame) in frames.into_iter().enumerate() {
        pieces.push(Held::Frame(frame));
        if place < parameters {
            pieces.extend(of(place));
        }
    }
    pieces
}

/// A number as postcard writes it: seven bits a byte, lowest first.
fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
