//! Text to tokens and back: byte-level BPE, with no merges (bytes) or trained ones.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, ModelWrapper};

/// Ends every document in training data, and a generated text. Only [`Tokenizer::end_of_text`] gives
/// its id: text that spells it out is encoded as ordinary text.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// A byte-level BPE tokenizer: every text has an encoding, and decoding gives back its bytes.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The bytes of every token; none for control tokens.
    token_bytes: Vec<Vec<u8>>,
    end_of_text: Option<u32>,
    /// Control tokens by their text.
    controls: BTreeMap<String, u32>,
    /// Every token is the byte of its id.
    is_bytes: bool,
}

/// Why there is no such tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// The file does not parse, or is too large.
    #[error(
        "tokenizer: {0}\nhint: use the tokenizer.json of a byte-level BPE tokenizer (GPT-2, Llama 3, Qwen)"
    )]
    Malformed(String),
    /// The vocabulary cannot hold every byte.
    #[error(
        "tokenizer: a vocabulary of {0} cannot hold 256 bytes and {END_OF_TEXT}\nhint: ask for at least 257"
    )]
    VocabularyTooSmall(usize),
    /// The text gives no tokens to learn from.
    #[error("tokenizer: training failed: {0}\nhint: give more text")]
    Training(String),
}

/// Largest tokenizer.json that is read, bytes; published ones have up to 20 MB.
const JSON_BYTES_MAX: usize = 64 << 20;
/// Most tokens a vocabulary may have.
const VOCABULARY_MAX: usize = 1 << 20;

impl Tokenizer {
    /// 256 tokens, each the byte of its id.
    pub fn bytes() -> Self {
        let vocabulary: BTreeMap<String, usize> = byte_characters()
            .iter()
            .enumerate()
            .map(|(byte, character)| (character.to_string(), byte))
            .collect();
        let json = skeleton(json!(vocabulary), false);
        Self::from_json(json.to_string().as_bytes()).expect("the byte tokenizer is well formed")
    }

    /// Learns up to `vocab_size` tokens from `texts`: all bytes, [`END_OF_TEXT`] and merges. The same texts
    /// give the same tokenizer; little text may give fewer tokens.
    pub fn train<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        vocab_size: usize,
    ) -> Result<Self, TokenizerError> {
        if vocab_size < 257 {
            return Err(TokenizerError::VocabularyTooSmall(vocab_size));
        }
        let trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(vocab_size)
            .min_frequency(2)
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut inner = parse(skeleton(json!({}), true).to_string().as_bytes())?;
        let texts: Vec<&str> = texts.into_iter().collect();
        inner
            .train(&mut TrainerWrapper::BpeTrainer(trainer), texts.into_iter())
            .map_err(|error| TokenizerError::Training(error.to_string()))?;
        Self::new(inner)
    }

    /// Reads a `tokenizer.json`.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TokenizerError> {
        Self::new(parse(bytes)?)
    }

    /// The `tokenizer.json`, as Python's `tokenizers` and `transformers` read it.
    pub fn to_json(&self) -> Vec<u8> {
        self.inner.to_string(false).expect("a tokenizer has a JSON form").into_bytes()
    }

    /// The tokens of `text`; never a control token.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        if self.is_bytes {
            return text.bytes().map(u32::from).collect();
        }
        let encoding = self.inner.encode_fast(text, false).expect("byte-level BPE encodes every text");
        encoding.get_ids().to_vec()
    }

    /// The tokens of `text` in which control tokens are spelled out: those become control tokens, the rest is encoded
    /// as by [`Tokenizer::encode`]. Only for text whose control tokens nobody else chose ([`Tokenizer::guard`]).
    pub fn encode_with_controls(&self, text: &str) -> Vec<u32> {
        let starts: BTreeSet<char> = self.controls.keys().filter_map(|it| it.chars().next()).collect();
        let (mut tokens, mut ordinary) = (Vec::new(), 0);
        for (at, _) in text.char_indices().filter(|(_, character)| starts.contains(character)) {
            if at < ordinary {
                continue;
            }
            // Where several fit, the longest.
            let rest = &text[at..];
            let fitting = self.controls.iter().filter(|(spelled, _)| rest.starts_with(spelled.as_str()));
            if let Some((spelled, &token)) = fitting.max_by_key(|(spelled, _)| spelled.len()) {
                tokens.extend(self.encode(&self.unguard(&text[ordinary..at])));
                tokens.push(token);
                ordinary = at + spelled.len();
            }
        }
        tokens.extend(self.encode(&self.unguard(&text[ordinary..])));
        tokens
    }

    /// `text` such that [`Tokenizer::encode_with_controls`] sees no control token in it, and encodes it as it was:
    /// what a stranger wrote stays text.
    pub fn guard(&self, text: &str) -> String {
        let mut guarded = text.to_owned();
        for spelled in self.controls.keys() {
            guarded = guarded.replace(spelled.as_str(), &guarded_spelling(spelled));
        }
        guarded
    }

    fn unguard(&self, text: &str) -> String {
        if !text.contains(GUARD) {
            return text.to_owned();
        }
        self.controls
            .keys()
            .fold(text.to_owned(), |text, spelled| text.replace(&guarded_spelling(spelled), spelled))
    }

    /// The bytes of one token; none for control tokens and unknown ids.
    pub fn token_bytes(&self, token: u32) -> &[u8] {
        self.token_bytes.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// The text of a control token.
    pub fn control_text(&self, token: u32) -> Option<&str> {
        self.controls.iter().find(|(_, id)| **id == token).map(|(text, _)| text.as_str())
    }

    /// The bytes of `tokens`: of an encoded text exactly its bytes. Control tokens and unknown ids have none.
    pub fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8> {
        let bytes = tokens.iter().filter_map(|&token| self.token_bytes.get(token as usize));
        bytes.flatten().copied().collect()
    }

    /// The text of `tokens`; bytes that are not UTF-8 show as U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(tokens)).into_owned()
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.token_bytes.len()
    }

    /// The token between documents; the byte tokenizer has none.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// Whether every token is the byte of its id.
    pub fn is_bytes(&self) -> bool {
        self.is_bytes
    }

    fn new(mut inner: tokenizers::Tokenizer) -> Result<Self, TokenizerError> {
        if !matches!(inner.get_model(), ModelWrapper::BPE(_)) {
            return Err(TokenizerError::Malformed("its model is not BPE".to_owned()));
        }
        inner.set_encode_special_tokens(true);
        let vocabulary: BTreeMap<String, u32> = inner.get_vocab(true).into_iter().collect();
        let vocab_size = vocabulary.values().max().map_or(0, |&largest| largest as usize + 1);
        if vocab_size > VOCABULARY_MAX {
            return Err(TokenizerError::Malformed(format!(
                "{vocab_size} tokens are more than {VOCABULARY_MAX}"
            )));
        }
        let added = inner.get_added_tokens_decoder();
        let byte_of: BTreeMap<char, u8> = byte_characters().into_iter().zip(0..=255).collect();
        let mut token_bytes = vec![Vec::new(); vocab_size];
        for (token, &id) in &vocabulary {
            token_bytes[id as usize] = match added.get(&id) {
                Some(added) if added.special => Vec::new(),
                Some(_) => token.as_bytes().to_vec(),
                None => token
                    .chars()
                    .map(|character| byte_of.get(&character).copied())
                    .collect::<Option<_>>()
                    .ok_or_else(|| {
                        TokenizerError::Malformed(format!("token '{token}' is not made of bytes"))
                    })?,
            };
        }
        let has_every_byte = byte_of.keys().all(|character| vocabulary.contains_key(&character.to_string()));
        if !has_every_byte {
            return Err(TokenizerError::Malformed("some bytes have no token".to_owned()));
        }
        let is_bytes =
            vocab_size == 256 && (0..=255u8).zip(&token_bytes).all(|(byte, token)| token[..] == [byte]);
        let end_of_text = vocabulary.get(END_OF_TEXT).copied().filter(|id| added.contains_key(id));
        let controls = added
            .iter()
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(&id, token)| (token.content.clone(), id))
            .collect();
        Ok(Self { inner, token_bytes, end_of_text, controls, is_bytes })
    }
}

/// A code point that no text has: it stands between the first character of a control token's spelling and the rest.
const GUARD: char = '\u{fdd0}';

fn guarded_spelling(spelled: &str) -> String {
    let mut characters = spelled.chars();
    let first = characters.next().map(String::from).unwrap_or_default();
    format!("{first}{GUARD}{}", characters.as_str())
}

fn parse(bytes: &[u8]) -> Result<tokenizers::Tokenizer, TokenizerError> {
    if bytes.len() > JSON_BYTES_MAX {
        let cause = format!("{} bytes are more than the limit of {JSON_BYTES_MAX}", bytes.len());
        return Err(TokenizerError::Malformed(cause));
    }
    // The library panics at what is no JSON within some of its parts, where it does not expect an error any more.
    if let Err(error) = serde_json::from_slice::<serde_json::Value>(bytes) {
        return Err(TokenizerError::Malformed(error.to_string()));
    }
    tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| TokenizerError::Malformed(error.to_string()))
}

/// A byte-level BPE tokenizer without merges. `words`: whether merges stay within words (GPT-2's rule).
fn skeleton(vocabulary: serde_json::Value, words: bool) -> serde_json::Value {
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": words,
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": [],
        },
    })
}

/// The character that stands for each byte in a vocabulary (GPT-2's `bytes_to_unicode`): itself where it
/// prints, else the next code point from 256 on.
fn byte_characters() -> [char; 256] {
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = (256..).map(|code| char::from_u32(code).expect("far below the surrogates"));
    std::array::from_fn(|byte| match byte as u8 {
        byte if prints(byte) => char::from(byte),
        _ => next.next().expect("endless"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 4] = [
        "the quick brown fox jumps over the lazy dog, and the dog sleeps on",
        "fn main() {\n    println!(\"the fox: {}\", 42);\n}\n",
        "Ünïcödé, 日本語, emoji 🦊🦊 and\0control\u{7f}",
        "<|endoftext|> spelled out stays text",
    ];

    #[test]
    fn what_is_no_json_is_refused_wherever_it_breaks() {
        let json = String::from_utf8(Tokenizer::bytes().to_json()).unwrap();
        for part in ["\"decoder\":{", "\"pre_tokenizer\":{", "\"model\":{"] {
            let at = json.find(part).unwrap() + part.len();
            for broken in [&b"\xff"[..], b"\"a\":nu,", b"\"a\":\"\\ud800\","] {
                let bytes = [&json.as_bytes()[..at], broken, &json.as_bytes()[at..]].concat();
                assert!(matches!(Tokenizer::from_json(&bytes), Err(TokenizerError::Malformed(_))), "{part}");
            }
        }
    }

    #[test]
    fn every_text_comes_back_byte_for_byte() {
        for tokenizer in [Tokenizer::bytes(), Tokenizer::train(TEXTS, 400).expect("enough text")] {
            for text in TEXTS.iter().copied().chain(["", " ", "\r\n\t  x"]) {
                let tokens = tokenizer.encode(text);
                assert_eq!(tokenizer.decode_bytes(&tokens), text.as_bytes());
                assert!(tokens.iter().all(|&token| Some(token) != tokenizer.end_of_text()));
            }
        }
    }

    #[test]
    fn a_byte_token_is_its_byte() {
        let tokenizer = Tokenizer::bytes();
        assert_eq!(
            (tokenizer.vocab_size(), tokenizer.end_of_text(), tokenizer.is_bytes()),
            (256, None, true)
        );
        assert_eq!(tokenizer.encode("aé"), [97, 0xc3, 0xa9]);
        let slow = Tokenizer { is_bytes: false, ..tokenizer.clone() };
        TEXTS.iter().for_each(|text| assert_eq!(slow.encode(text), tokenizer.encode(text)));
    }

    #[test]
    fn training_is_deterministic_and_shortens_text() {
        let tokenizer = Tokenizer::train(TEXTS, 300).expect("enough text");
        (0..5).for_each(|_| {
            assert!(Tokenizer::train(TEXTS, 300).expect("the same").to_json() == tokenizer.to_json())
        });
        assert!((257..=300).contains(&tokenizer.vocab_size()), "{}", tokenizer.vocab_size());
        assert!(tokenizer.encode(TEXTS[0]).len() < TEXTS[0].len());
        assert_eq!(tokenizer.decode_bytes(&[tokenizer.end_of_text().expect("one")]), b"");
    }

    #[test]
    fn control_tokens_are_seen_where_they_are_meant_and_only_there() {
        let tokenizer = Tokenizer::train(TEXTS, 300).expect("enough text");
        let end = tokenizer.end_of_text().expect("one");
        let text = format!("a{END_OF_TEXT}the fox{END_OF_TEXT}");
        let expected = [tokenizer.encode("a"), vec![end], tokenizer.encode("the fox"), vec![end]].concat();
        assert_eq!(tokenizer.encode_with_controls(&text), expected);
        for stranger in [END_OF_TEXT, "<|endoftext|", "<<|endoftext|>|endoftext|>", "plain \u{fdd0} text", ""]
        {
            let guarded = tokenizer.guard(stranger);
            let meant = format!("{END_OF_TEXT}{guarded}{END_OF_TEXT}");
            let expected = [vec![end], tokenizer.encode(stranger), vec![end]].concat();
            assert_eq!(tokenizer.encode_with_controls(&meant), expected, "{stranger:?}");
        }
        assert_eq!(tokenizer.control_text(end), Some(END_OF_TEXT));
        let bytes = Tokenizer::bytes();
        assert_eq!(bytes.encode_with_controls("aé"), bytes.encode("aé"));
        assert_eq!((bytes.token_bytes(7), bytes.token_bytes(900)), (&[7][..], &[][..]));
    }

    #[test]
    fn json_comes_back() {
        for tokenizer in [Tokenizer::bytes(), Tokenizer::train(TEXTS, 400).expect("enough text")] {
            let again = Tokenizer::from_json(&tokenizer.to_json()).expect("our own file");
            assert_eq!(again.to_json(), tokenizer.to_json());
            assert_eq!(again.end_of_text(), tokenizer.end_of_text());
            assert_eq!(again.is_bytes(), tokenizer.is_bytes());
            TEXTS.iter().for_each(|text| assert_eq!(again.encode(text), tokenizer.encode(text)));
        }
    }

    #[test]
    fn what_is_not_a_tokenizer_is_refused() {
        let words = br#"{"version":"1.0","added_tokens":[],"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}"#;
        for wrong in [&b""[..], b"{}", b"\xff\x00", words] {
            let error = Tokenizer::from_json(wrong).err().expect("a refusal");
            assert!(error.to_string().contains("hint: "), "{error}");
        }
        assert_eq!(Tokenizer::train(TEXTS, 256).err(), Some(TokenizerError::VocabularyTooSmall(256)));
    }
}
