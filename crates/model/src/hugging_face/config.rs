//! `config.json`, both ways.

use serde_json::{Map, Value, json};

use crate::{ConfigError, Family, ModelConfig, Profile};

/// Says in `config.json` that the biases, which `GPT2LMHeadModel` always has, are not ours.
const NO_BIASES: &str = "zoo_no_biases";

/// Says in `config.json` by which rule the model's products were formed in training.
const PROFILE: &str = "zoo_numeric_profile";

/// The `config.json` of such a model.
pub(super) fn to_json(config: &ModelConfig, profile: Profile, end_of_text: Option<u32>) -> Value {
    let mut json = match config.family {
        Family::Qwen3 => qwen3(config),
        Family::Llama => llama(config),
        Family::Gpt2 => gpt2(config),
    };
    let fields = json.as_object_mut().expect("an object");
    for (name, value) in [
        ("vocab_size", json!(config.vocab_size)),
        ("tie_word_embeddings", json!(config.tied_embeddings)),
        ("initializer_range", json!(config.initial_std)),
        ("use_cache", json!(true)),
        ("torch_dtype", json!("float32")),
        ("bos_token_id", json!(end_of_text)),
        ("eos_token_id", json!(end_of_text)),
        (PROFILE, json!(profile.name())),
    ] {
        fields.insert(name.to_owned(), value);
    }
    json
}

fn qwen3(config: &ModelConfig) -> Value {
    let mut json = llama(config);
    let fields = json.as_object_mut().expect("an object");
    fields.remove("mlp_bias");
    for (name, value) in [
        ("architectures", json!(["Qwen3ForCausalLM"])),
        ("model_type", json!("qwen3")),
        ("use_sliding_window", json!(false)),
        ("sliding_window", Value::Null),
        ("max_window_layers", json!(config.layers)),
    ] {
        fields.insert(name.to_owned(), value);
    }
    json
}

fn llama(config: &ModelConfig) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context,
        "rms_norm_eps": decimal(config.norm_epsilon),
        "rope_theta": config.rope_theta,
        "rope_scaling": null,
        "hidden_act": "silu",
        "attention_bias": false,
        "attention_dropout": 0.0,
        "mlp_bias": false,
    })
}

fn gpt2(config: &ModelConfig) -> Value {
    let mut json = json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": config.width,
        "n_inner": config.hidden,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_positions": config.context,
        "layer_norm_epsilon": decimal(config.norm_epsilon),
        "activation_function": "gelu_new",
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    });
    if !config.biases {
        json.as_object_mut().expect("an object").insert(NO_BIASES.to_owned(), json!(true));
    }
    json
}

/// The number as people write it: 1e-6, not the f32's 9.999999974752427e-7, which rounds to the same f32.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().expect("a number's text is a number")
}

/// A `config.json` being read.
pub(super) struct Reader<'a> {
    fields: &'a Map<String, Value>,
}

/// A field of `config.json` that is missing, of the wrong type, or asks for what we do not have.
pub(super) type Refusal = String;

impl<'a> Reader<'a> {
    pub fn new(json: &'a Value) -> Result<Self, Refusal> {
        Ok(Self { fields: json.as_object().ok_or("it is not an object")? })
    }

    /// The shape it names; not yet validated.
    pub fn config(&self) -> Result<ModelConfig, Refusal> {
        match self.text("model_type")? {
            "qwen3" => self.llama(Family::Qwen3),
            "llama" => self.llama(Family::Llama),
            "gpt2" => self.gpt2(),
            other => Err(format!("model_type '{other}' is not known, only qwen3, llama and gpt2 are")),
        }
    }

    /// The numeric profile it was trained in; `f32-exact` where it says none.
    pub fn profile(&self) -> Result<Profile, Refusal> {
        match self.fields.get(PROFILE) {
            None => Ok(Profile::F32Exact),
            Some(value) => {
                let name = value.as_str().ok_or_else(|| format!("{PROFILE} is not a text"))?;
                name.parse().map_err(|_| {
                    format!("{PROFILE} '{name}' is not known, only f32-exact and bf16-exact are")
                })
            }
        }
    }

    fn llama(&self, family: Family) -> Result<ModelConfig, Refusal> {
        for (field, wanted) in [
            ("hidden_act", json!("silu")),
            ("attention_bias", json!(false)),
            ("mlp_bias", json!(false)),
            ("use_sliding_window", json!(false)),
            ("rope_scaling", Value::Null),
        ] {
            self.expect(field, &wanted)?;
        }
        let (width, heads) = (self.size("hidden_size")?, self.size("num_attention_heads")?);
        let default_head_dim = || width.checked_div(heads).ok_or("num_attention_heads is 0".to_owned());
        Ok(ModelConfig {
            family,
            vocab_size: self.size("vocab_size")?,
            width,
            layers: self.size("num_hidden_layers")?,
            heads,
            kv_heads: self.size_or("num_key_value_heads", || Ok(heads))?,
            head_dim: self.size_or("head_dim", default_head_dim)?,
            hidden: self.size("intermediate_size")?,
            context: self.size("max_position_embeddings")?,
            norm_epsilon: self.number_or("rms_norm_eps", 1e-6)? as f32,
            rope_theta: self.rope_theta()?,
            tied_embeddings: self.flag_or("tie_word_embeddings", false)?,
            biases: false,
            initial_std: self.number_or("initializer_range", 0.02)?,
        })
    }

    fn gpt2(&self) -> Result<ModelConfig, Refusal> {
        let activation = self.fields.get("activation_function").and_then(Value::as_str).unwrap_or("gelu_new");
        if !matches!(activation, "gelu_new" | "gelu_pytorch_tanh") {
            return Err(format!("activation_function '{activation}' is not the tanh form of GELU"));
        }
        self.expect("scale_attn_weights", &json!(true))?;
        self.expect("scale_attn_by_inverse_layer_idx", &json!(false))?;
        let (width, heads) = (self.size("n_embd")?, self.size("n_head")?);
        Ok(ModelConfig {
            family: Family::Gpt2,
            vocab_size: self.size("vocab_size")?,
            width,
            layers: self.size("n_layer")?,
            heads,
            kv_heads: heads,
            head_dim: width.checked_div(heads).ok_or("n_head is 0")?,
            hidden: self
                .size_or("n_inner", || width.checked_mul(4).ok_or("n_embd is too large".to_owned()))?,
            context: self.size("n_positions")?,
            norm_epsilon: self.number_or("layer_norm_epsilon", 1e-5)? as f32,
            rope_theta: 0.0,
            tied_embeddings: self.flag_or("tie_word_embeddings", true)?,
            biases: !self.flag_or(NO_BIASES, false)?,
            initial_std: self.number_or("initializer_range", 0.02)?,
        })
    }

    /// The base, at the top (transformers 4) or among the rope parameters (transformers 5).
    fn rope_theta(&self) -> Result<f64, Refusal> {
        let Some(parameters) = self.present("rope_parameters") else {
            return self.number_or("rope_theta", 10_000.0);
        };
        let parameters =
            Reader::new(parameters).map_err(|_| "rope_parameters is not an object".to_owned())?;
        parameters.expect("rope_type", &json!("default"))?;
        parameters.number_or("rope_theta", 10_000.0)
    }

    fn present(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn expect(&self, field: &str, wanted: &Value) -> Result<(), Refusal> {
        match self.present(field) {
            Some(value) if value != wanted => Err(format!("{field} is {value}, only {wanted} is supported")),
            _ => Ok(()),
        }
    }

    fn text(&self, field: &str) -> Result<&'a str, Refusal> {
        self.present(field).and_then(Value::as_str).ok_or_else(|| format!("{field} is missing or not a text"))
    }

    fn size(&self, field: &str) -> Result<usize, Refusal> {
        self.size_or(field, || Err(format!("{field} is missing")))
    }

    fn size_or(
        &self,
        field: &str,
        default: impl FnOnce() -> Result<usize, Refusal>,
    ) -> Result<usize, Refusal> {
        let Some(value) = self.present(field) else { return default() };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.ok_or_else(|| format!("{field} is not a whole number"))
    }

    fn number_or(&self, field: &str, default: f64) -> Result<f64, Refusal> {
        let value = self.present(field).map(Value::as_f64);
        value.unwrap_or(Some(default)).ok_or_else(|| format!("{field} is not a number"))
    }

    fn flag_or(&self, field: &str, default: bool) -> Result<bool, Refusal> {
        let value = self.present(field).map(Value::as_bool);
        value.unwrap_or(Some(default)).ok_or_else(|| format!("{field} is neither true nor false"))
    }
}

/// The cause of a [`ConfigError`], without its hint: the reader of a file cannot choose other values.
pub(super) fn cause(error: &ConfigError) -> Refusal {
    format!("{}: {}", error.field, error.cause)
}
