//! Writing: a network that only continues sequences, many at once, from a cache of keys and values. The bits are
//! those of a whole forward pass.

use zoo_content::Digest;
use zoo_kernels::attention::Cached;
use zoo_kernels::{Profile, clip};

use crate::buffer::Buffer;
use crate::decoder_stage::{DecoderStage, page_bytes};
use crate::error::NetworkError;
use crate::network::Network;
use crate::pages::{PagePool, Sequence};

/// A network that will never be trained again. Its weights lie as products read them: a step of one token reads
/// each of them once and does little else.
pub struct Decoder {
    stage: DecoderStage,
    digest: Digest,
    page_bytes: usize,
}

/// What whoever asks for texts must know of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderInfo {
    /// Digest of all parameters.
    pub digest: Digest,
    /// The rule of its matrix products.
    pub profile: Profile,
    /// Most positions of a sequence.
    pub context: usize,
    /// Number of token ids.
    pub vocab_size: usize,
}

impl DecoderInfo {
    /// Of a network, wherever its parameters are used.
    pub fn of(network: &Network) -> Self {
        let (profile, context, vocab_size) = (network.profile(), network.context(), network.vocab_size());
        Self { digest: network.digest(), profile, context, vocab_size }
    }
}

/// What one sequence adds to a pass.
pub struct Step<'a> {
    /// The sequence; it grows by `tokens`.
    pub sequence: &'a mut Sequence,
    /// The tokens that follow its positions so far; at least one.
    pub tokens: &'a [u32],
    /// Which of their logits are wanted.
    pub positions: Positions,
}

/// The new positions whose logits to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// None: more of the sequence follows.
    None,
    /// Only the last.
    Last,
    /// Every one.
    All,
}

/// The logits of the positions that a pass was asked for: step after step, position after position.
pub struct Logits<'a> {
    decoder: &'a Decoder,
    values: Buffer,
    vocab_size: usize,
}

impl Decoder {
    /// Prepares a network for writing; its gradients and its optimiser's state are gone.
    ///
    /// # Errors
    /// When a parameter is not finite; the VNode is named.
    pub fn new(network: Network) -> Result<Self, NetworkError> {
        network.check_finite()?;
        let (digest, page_bytes) = (network.digest(), page_bytes(network.definition()));
        Ok(Self { stage: DecoderStage::whole(network), digest, page_bytes })
    }

    /// What others must know of it.
    pub fn info(&self) -> DecoderInfo {
        let (profile, context, vocab_size) = (self.profile(), self.context(), self.vocab_size());
        DecoderInfo { digest: self.digest, profile, context, vocab_size }
    }

    /// Digest of all parameters: that of [`Network::digest`].
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The rule of its matrix products.
    pub fn profile(&self) -> Profile {
        self.stage.profile()
    }

    /// Most positions of a sequence.
    pub fn context(&self) -> usize {
        self.stage.context()
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.stage.vocab_size()
    }

    /// Bytes of a page of [`PagePool`], which holds 16 positions.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// It as the only stage of itself.
    pub(crate) fn stage(&self) -> &DecoderStage {
        &self.stage
    }

    /// Continues several sequences in one pass. Their logits are, bit for bit, those of [`Network::logits`] for
    /// each whole sequence, whatever else is in the batch, however each was cut into passes, and whoever wrote
    /// the pages that it shares.
    ///
    /// # Errors
    /// When a sequence would be longer than the context, a token is unknown, a step is empty or pages are
    /// missing; nothing has changed then.
    ///
    /// # Panics
    /// If the pool was made for another network.
    pub fn decode(&self, pool: &mut PagePool, steps: &mut [Step]) -> Result<Logits<'_>, NetworkError> {
        self.check(pool, steps)?;
        for step in steps.iter_mut() {
            pool.table.grow(step.sequence, step.tokens.len())?;
        }
        let tokens: Vec<u32> = steps.iter().flat_map(|step| step.tokens).copied().collect();
        let positions: Vec<u32> = steps.iter().flat_map(new_positions).collect();
        let sequences: Vec<Cached> = steps.iter().map(cached).collect();
        let hidden = self.stage.rows(&mut pool.pages, &tokens, &positions, &sequences, &[])?;
        let values = self.stage.logits(&hidden, &wanted(steps), tokens.len());
        for step in steps.iter_mut() {
            pool.table.advance(step.sequence, step.tokens);
        }
        Ok(Logits { decoder: self, values, vocab_size: self.stage.head_vocab_size() })
    }

    fn check(&self, pool: &PagePool, steps: &[Step]) -> Result<(), NetworkError> {
        if steps.is_empty() {
            return Err(NetworkError::Empty);
        }
        for step in steps {
            let (context, end) = (self.context(), step.sequence.positions() + step.tokens.len());
            if end > context {
                return Err(NetworkError::Context { positions: end, context });
            }
            if step.tokens.is_empty() {
                return Err(NetworkError::Empty);
            }
            self.stage.check_tokens(step.tokens)?;
        }
        let needed = steps.iter().map(|step| step.sequence.pages_for(step.tokens.len())).sum();
        if needed > pool.table.available() {
            return Err(NetworkError::Pages { needed, available: pool.table.available() });
        }
        Ok(())
    }
}

/// The rows whose logits are wanted.
fn wanted(steps: &[Step]) -> Vec<usize> {
    let mut wanted = Vec::new();
    let mut first = 0;
    for step in steps {
        let end = first + step.tokens.len();
        match step.positions {
            Positions::None => {}
            Positions::Last => wanted.push(end - 1),
            Positions::All => wanted.extend(first..end),
        }
        first = end;
    }
    wanted
}

fn new_positions(step: &Step) -> std::ops::Range<u32> {
    let first = step.sequence.positions();
    first as u32..(first + step.tokens.len()) as u32
}

fn cached<'a>(step: &'a Step) -> Cached<'a> {
    let rows = step.tokens.len();
    Cached { rows, positions: step.sequence.positions() + rows, pages: step.sequence.pages() }
}

impl Logits<'_> {
    /// How many positions there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.vocab_size
    }

    /// Whether none was asked for.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The logits of one position.
    ///
    /// # Errors
    /// When one of them is not finite. Other sequences of the batch are not concerned.
    ///
    /// # Panics
    /// If there are fewer positions.
    pub fn row(&self, at: usize) -> Result<&[f32], NetworkError> {
        let row = &self.values[at * self.vocab_size..][..self.vocab_size];
        if clip::all_finite(row) { Ok(row) } else { Err(self.decoder.stage.not_finite()) }
    }
}
