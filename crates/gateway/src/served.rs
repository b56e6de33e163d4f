//! What a server knows of its model beside the weights.

use std::collections::BTreeSet;

use zoo_content::Digest;
use zoo_model::{DecoderInfo, Profile, Tokenizer};
use zoo_training::ChatTemplate;

use crate::prompt::Template;

/// A model's name, and what turns text into its tokens and back.
pub struct Served {
    /// What clients call it.
    pub name: String,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Tokens that end a text.
    pub ends: BTreeSet<u32>,
    /// Digest of its parameters.
    pub digest: Digest,
    /// The rule of its matrix products.
    pub profile: Profile,
    /// Most positions of a text.
    pub context: usize,
    /// Number of token ids of the model.
    pub vocab_size: usize,
    /// Bytes of the longest token: so many bytes of text are at least so many tokens.
    longest_token: usize,
    /// How a conversation becomes a prompt.
    pub(crate) template: Template,
    /// The template's own text and tokens, for who asks.
    pub(crate) chat: Option<ChatTemplate>,
}

/// Why a chat template is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chat template: {0}\nhint: correct chat_template in tokenizer_config.json, or remove it")]
pub struct TemplateError(pub String);

impl Served {
    /// Describes a model.
    ///
    /// # Errors
    /// When the chat template does not parse.
    pub fn new(
        name: String,
        model: DecoderInfo,
        tokenizer: Tokenizer,
        ends: BTreeSet<u32>,
        chat: Option<ChatTemplate>,
    ) -> Result<Self, TemplateError> {
        let tokens = 0..tokenizer.vocab_size() as u32;
        let longest_token = tokens.map(|token| tokenizer.token_bytes(token).len()).max().unwrap_or(1).max(1);
        Ok(Self {
            longest_token,
            name,
            tokenizer,
            ends,
            digest: model.digest,
            profile: model.profile,
            context: model.context,
            vocab_size: model.vocab_size,
            template: Template::new(chat.as_ref())?,
            chat,
        })
    }

    /// The fewest tokens that `bytes` of text can be: what is too long in any case need not be cut into tokens.
    pub fn tokens_min(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.longest_token)
    }

    /// Equal for servers whose answers are equal.
    pub fn fingerprint(&self) -> String {
        format!("zoo-{}-{}", self.profile, self.digest.short())
    }
}
