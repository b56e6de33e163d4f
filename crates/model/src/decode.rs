//! Decoding with a cache of keys and values: the same bits as a whole forward pass.

use zoo_kernels::clip;

use crate::component::{KeyValues, Pass};
use crate::error::NetworkError;
use crate::network::{Network, Outputs};

/// What every attention VNode remembers of one sequence so far.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// One per VNode; those that are not attention stay empty.
    nodes: Vec<KeyValues>,
    positions: usize,
}

impl KvCache {
    /// The cache of an empty sequence.
    pub fn new(network: &Network) -> Self {
        Self { nodes: vec![KeyValues::default(); network.vnodes().len()], positions: 0 }
    }

    /// Positions of the sequence so far.
    pub fn positions(&self) -> usize {
        self.positions
    }
}

/// The new positions whose logits to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// Only the last.
    Last,
    /// Every one.
    All,
}

impl Network {
    /// Appends `tokens` to the sequence in `cache` and returns logits, `[positions, vocab_size]`: bit for
    /// bit those of [`Network::logits`] for the whole sequence, however it is cut into calls.
    ///
    /// # Panics
    /// If the cache was made for another network.
    pub fn decode(
        &self,
        cache: &mut KvCache,
        tokens: &[u32],
        positions: Positions,
    ) -> Result<Vec<f32>, NetworkError> {
        let (context, end) = (self.context(), cache.positions + tokens.len());
        if end > context {
            return Err(NetworkError::Context { positions: end, context });
        }
        if tokens.is_empty() {
            return Err(NetworkError::Empty);
        }
        self.check_tokens(tokens)?;
        assert_eq!(cache.nodes.len(), self.vnodes.len(), "the cache was made for another network");

        let pass = Pass {
            pool: &self.pool,
            tokens,
            context: tokens.len(),
            start: cache.positions,
            profile: self.profile(),
            recompute: false,
        };
        let mut outputs = Outputs::new(&self.edges);
        let nodes = self.vnodes.iter().zip(&self.edges).zip(&mut cache.nodes);
        for ((vnode, edges), cache) in nodes.take(self.edges.len() - 1) {
            let output = vnode.decode(&pass, outputs.inputs(edges), cache);
            outputs.push(output);
        }
        cache.positions = end;
        let hidden = outputs.cost_input();
        let width = hidden.len() / tokens.len();
        let asked = match positions {
            Positions::Last => &hidden[hidden.len() - width..],
            Positions::All => &hidden[..],
        };
        let logits = self.head().logits(&self.pool, self.borrowed_table(), asked).to_vec();
        if clip::all_finite(&logits) { Ok(logits) } else { Err(self.not_finite()) }
    }
}
