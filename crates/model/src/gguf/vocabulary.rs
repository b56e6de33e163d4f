//! The tokenizer as llama.cpp reads it.

use serde_json::Value as Json;

use super::write::Value;
use crate::Tokenizer;

/// Kinds of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// Tokens by id, merges in order, and the name of the rule that cuts text into words.
pub(super) struct Vocabulary {
    words: &'static str,
    tokens: Vec<String>,
    kinds: Vec<i32>,
    merges: Vec<String>,
    end: Option<u32>,
}

impl Vocabulary {
    /// `vocab_size` tokens: what the model has beyond the tokenizer is named and never used.
    pub fn of(tokenizer: &Tokenizer, vocab_size: usize) -> Result<Self, String> {
        let json: Json = serde_json::from_slice(&tokenizer.to_json()).map_err(|error| error.to_string())?;
        let model = &json["model"];
        let mut tokens: Vec<String> = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
        let mut kinds = vec![UNUSED; vocab_size];
        let mut put = |id: Option<u64>, text: &str, kind: i32| {
            let place = id.and_then(|id| usize::try_from(id).ok()).filter(|id| *id < vocab_size);
            let place = place.ok_or_else(|| format!("token '{text}' is not in the model's vocabulary"))?;
            (tokens[place], kinds[place]) = (text.to_owned(), kind);
            Ok::<(), String>(())
        };
        for (text, id) in model["vocab"].as_object().into_iter().flatten() {
            put(id.as_u64(), text, NORMAL)?;
        }
        for added in json["added_tokens"].as_array().into_iter().flatten() {
            let kind = if added["special"] == true { CONTROL } else { USER_DEFINED };
            put(added["id"].as_u64(), added["content"].as_str().unwrap_or_default(), kind)?;
        }
        let merges: Vec<String> =
            model["merges"].as_array().into_iter().flatten().filter_map(merge).collect();
        let words = words(&json["pre_tokenizer"], merges.is_empty())?;
        Ok(Self { words, tokens, kinds, merges, end: tokenizer.end_of_text() })
    }

    pub fn metadata(self) -> Vec<(String, Value)> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let mut metadata = vec![
            (key("model"), Value::text("gpt2")),
            (key("pre"), Value::text(self.words)),
            (key("tokens"), Value::Texts(self.tokens)),
            (key("token_type"), Value::Numbers(self.kinds)),
            (key("merges"), Value::Texts(self.merges)),
            (key("add_bos_token"), Value::Bool(false)),
        ];
        if let Some(end) = self.end {
            metadata.push((key("bos_token_id"), Value::U32(end)));
            metadata.push((key("eos_token_id"), Value::U32(end)));
        }
        metadata
    }
}

/// A merge is two tokens, in one text or two.
fn merge(merge: &Json) -> Option<String> {
    match merge {
        Json::String(merge) => Some(merge.clone()),
        Json::Array(pair) => Some(format!("{} {}", pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
        _ => None,
    }
}

/// llama.cpp's name for the rule of a pre-tokenizer.
fn words(pre_tokenizer: &Json, no_merges: bool) -> Result<&'static str, String> {
    // Without merges every byte is a token, however text is cut.
    if no_merges {
        return Ok("gpt-2");
    }
    let steps = match pre_tokenizer["pretokenizers"].as_array() {
        Some(steps) => steps.clone(),
        None => vec![pre_tokenizer.clone()],
    };
    let uses_words = |step: &Json| step["type"] == "ByteLevel" && step["use_regex"] == true;
    if steps.iter().any(uses_words) {
        return Ok("gpt-2");
    }
    let pattern = steps.iter().find_map(|step| step["pattern"]["Regex"].as_str()).unwrap_or_default();
    // They differ in how many digits make a word: Llama 3 takes up to three, Qwen one.
    if pattern.contains("\\p{N}{1,3}") && pattern.contains("(?i:'s|'t|'re|'ve|'m|'ll|'d)") {
        Ok("llama-bpe")
    } else if pattern.contains("|\\p{N}|") && pattern.contains("(?i:'s|'t|'re|'ve|'m|'ll|'d)") {
        Ok("qwen2")
    } else {
        Err("llama.cpp has no name for how this tokenizer cuts text into words".to_owned())
    }
}
