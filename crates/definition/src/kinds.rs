//! Types of nodes: what they are called, which keys they have, and what the model makes of them.

use zoo_model::{CostFunction, Function, MlpActivation, NodeKind, NormForm};

use crate::keys::{self, Keys};
use crate::refusal::{Refusal, nearest};
use crate::tree::{Tree, Value};

/// What a file calls a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Embedding,
    PositionEmbedding,
    Linear,
    Norm(NormForm),
    Attention,
    AttentionHead,
    Mlp,
    Rope,
    Activation(Function),
    Swiglu,
    Add,
    Stack,
    Broadcast,
    Reshape,
    Dropout,
    /// A linear layer and the cross-entropy of its logits.
    Head {
        tied: bool,
    },
    /// Which cost, where the type says it.
    Cost(Option<CostFunction>),
}

const TYPES: &[(&str, Type)] = &[
    ("embedding", Type::Embedding),
    ("embedder", Type::Embedding),
    ("position_embedding", Type::PositionEmbedding),
    ("linear", Type::Linear),
    ("dense", Type::Linear),
    ("layernorm", Type::Norm(NormForm::Layer)),
    ("layer_norm", Type::Norm(NormForm::Layer)),
    ("rmsnorm", Type::Norm(NormForm::Rms)),
    ("rms_norm", Type::Norm(NormForm::Rms)),
    ("attention", Type::Attention),
    ("attention_head", Type::AttentionHead),
    ("mlp", Type::Mlp),
    ("rope", Type::Rope),
    ("relu", Type::Activation(Function::Relu)),
    ("gelu", Type::Activation(Function::Gelu)),
    ("silu", Type::Activation(Function::Silu)),
    ("swiglu", Type::Swiglu),
    ("add", Type::Add),
    ("stack", Type::Stack),
    ("broadcast", Type::Broadcast),
    ("reshape", Type::Reshape),
    ("dropout", Type::Dropout),
    ("tied_lm_head_ce", Type::Head { tied: true }),
    ("lm_head_ce", Type::Head { tied: false }),
    ("cost", Type::Cost(None)),
    ("cross_entropy", Type::Cost(Some(CostFunction::CrossEntropy))),
    ("ce_logits", Type::Cost(Some(CostFunction::CrossEntropy))),
    ("mse", Type::Cost(Some(CostFunction::SquareError))),
];

/// Types that are known elsewhere and have no place here, and what stands in theirs.
const ELSEWHERE: &[(&str, &str)] = &[
    ("tokenizer", "remove it: a network is given tokens, and the job names the tokenizer"),
    ("detokenizer", "remove it: whoever generates text makes it of tokens"),
    ("mask", "remove it: attention is causal by itself"),
];

/// What the parts of a kind's configuration are checked against.
pub struct Around<'a> {
    /// Positions of a sequence.
    pub context: usize,
    /// Widths of the inputs, by slot.
    pub widths: &'a [usize],
    /// How many edges lead from it.
    pub consumers: usize,
    /// The embedding that an alias or id names.
    pub embedding: &'a dyn Fn(&str) -> Option<String>,
}

/// What a text names.
pub fn type_of(text: &str, line: u64) -> Result<Type, Refusal> {
    if let Some((_, of)) = TYPES.iter().find(|(name, _)| *name == text) {
        return Ok(*of);
    }
    let cause = format!("type '{text}' is not known");
    if let Some((_, hint)) = ELSEWHERE.iter().find(|(name, _)| *name == text) {
        return Err(Refusal::new(line, format!("type '{text}' is no part of a network here"), *hint));
    }
    let names = || TYPES.iter().map(|(name, _)| *name);
    let hint = match nearest(text, names()) {
        Some(known) => format!("did you mean {known}?"),
        None => format!("the types are {}", names().collect::<Vec<_>>().join(", ")),
    };
    Err(Refusal::new(line, cause, hint))
}

impl Type {
    /// Fewest and most edges that lead to it, without tokens and targets.
    pub fn slots(self) -> (usize, usize) {
        match self {
            Self::Embedding => (0, 0),
            Self::Attention | Self::Mlp => (1, 2),
            Self::Add => (2, 2),
            Self::Stack => (1, 1 << 12),
            _ => (1, 1),
        }
    }

    /// Whether it ends a network.
    pub fn is_cost(self) -> bool {
        matches!(self, Self::Head { .. } | Self::Cost(_))
    }

    /// The kind, of its configuration and of what leads to it.
    pub fn kind(self, keys: &mut Keys, around: &Around) -> Result<NodeKind, Refusal> {
        let mut reader = Reader { keys, around };
        reader.sequence()?;
        match self {
            Self::Embedding => reader.embedding(),
            Self::PositionEmbedding => {
                let width = reader.width("dim")?;
                Ok(NodeKind::PositionEmbedding { context: around.context, width })
            }
            Self::Linear => reader.linear(),
            Self::Norm(form) => {
                let width = reader.width("dim")?;
                let (default, has_bias) = if form == NormForm::Rms { (1e-6, false) } else { (1e-5, true) };
                let epsilon = reader.between("epsilon", default, f64::from(f32::MIN_POSITIVE), 0.1)? as f32;
                let bias = has_bias && reader.truth("bias", true)?;
                Ok(NodeKind::Norm { form, width, epsilon, bias })
            }
            Self::Attention => reader.attention(),
            Self::AttentionHead => {
                let width = reader.width("input_dim")?;
                reader.only("causal", "true", "attention is causal: remove the key")?;
                let head_dim = reader.even("head_dim")?;
                Ok(NodeKind::AttentionHead { width, head_dim, rope_theta: reader.positions()? })
            }
            Self::Mlp => reader.mlp(),
            Self::Rope => {
                let width = reader.width("dim")?;
                let head_dim = reader.even("head_dim")?;
                Ok(NodeKind::Rope { width, head_dim, theta: reader.theta()? })
            }
            Self::Activation(function) => Ok(NodeKind::Activation { function, width: reader.width("dim")? }),
            Self::Swiglu => reader.swiglu(),
            Self::Add => Ok(NodeKind::Add { width: reader.width("dim")? }),
            Self::Stack => {
                reader.only(
                    "axis",
                    "-1",
                    "rows are tokens: parts stand side by side in a row, along axis -1",
                )?;
                Ok(NodeKind::Stack { widths: around.widths.to_vec() })
            }
            Self::Broadcast => reader.broadcast(),
            Self::Reshape => reader.reshape(),
            Self::Dropout => {
                let rate = reader.between("rate", 0.1, 0.0, 1.0 - f64::EPSILON)?;
                Ok(NodeKind::Dropout { width: reader.width("dim")?, rate })
            }
            Self::Head { tied } => reader.head(tied),
            Self::Cost(function) => reader.cost(function),
        }
    }
}

struct Reader<'k, 'a, 't> {
    keys: &'k mut Keys<'t>,
    around: &'a Around<'a>,
}

impl Reader<'_, '_, '_> {
    fn embedding(&mut self) -> Result<NodeKind, Refusal> {
        let vocab_size = self.size("vocab_size", "32768")?;
        let width = self.size("dim", "512")?;
        let hint = "write none or rope here, and a node of type position_embedding behind it";
        self.only_of("position_encoding", &["none", "rope"], hint)?;
        self.keys.take("rope_theta");
        self.keys.take("shared_weight_alias");
        Ok(NodeKind::Embedding { vocab_size, width })
    }

    fn linear(&mut self) -> Result<NodeKind, Refusal> {
        let inputs = self.width("in_dim")?;
        let outputs = self.size("out_dim", "512")?;
        let bias = self.truth("bias", false)?;
        Ok(NodeKind::Linear { inputs, outputs, bias, tied_to: self.tied()? })
    }

    fn attention(&mut self) -> Result<NodeKind, Refusal> {
        let width = self.width("dim")?;
        self.only("causal", "true", "attention is causal: remove the key")?;
        self.only("output_projection", "true", "use nodes of type attention_head and a stack")?;
        let heads = self.size("num_heads", "8")?;
        let kv_heads = match self.keys.take("num_kv_heads") {
            Some(tree) => keys::size(tree, "num_kv_heads")?,
            None => heads,
        };
        let head_dim = self.even("head_dim")?;
        if !heads.is_multiple_of(kv_heads) {
            let cause = format!("num_kv_heads ({kv_heads}) does not divide num_heads ({heads})");
            return Err(self.refuse(cause, "every key head serves as many query heads"));
        }
        let rope_theta = self.positions()?;
        let qk_norm_epsilon = match self.keys.take("qk_norm_epsilon") {
            Some(tree) => Some(between(tree, "qk_norm_epsilon", f64::from(f32::MIN_POSITIVE), 0.1)? as f32),
            None => None,
        };
        let bias = self.truth("bias", false)?;
        Ok(NodeKind::Attention { width, heads, kv_heads, head_dim, rope_theta, qk_norm_epsilon, bias })
    }

    fn mlp(&mut self) -> Result<NodeKind, Refusal> {
        let width = self.width("dim")?;
        let hidden = self.size("hidden_dim", "2048")?;
        let known = [
            ("swiglu", MlpActivation::Swiglu),
            ("gelu", MlpActivation::Gelu),
            ("relu", MlpActivation::Relu),
            ("silu", MlpActivation::Silu),
        ];
        let activation = self
            .keys
            .take("activation")
            .map_or(Ok(MlpActivation::Gelu), |tree| keys::one_of(tree, "activation", &known))?;
        Ok(NodeKind::Mlp { width, hidden, activation, bias: self.truth("bias", false)? })
    }

    fn swiglu(&mut self) -> Result<NodeKind, Refusal> {
        let taken = self.around.widths[0];
        if !taken.is_multiple_of(2) {
            let cause = format!("its input has {taken} elements, which is odd");
            return Err(
                self.refuse(cause, "a row is gate, then up: make the layer before twice as wide as this")
            );
        }
        if let Some(tree) = self.keys.take("dim") {
            let dim = keys::size(tree, "dim")?;
            if dim != taken / 2 {
                let cause = format!("dim is {dim}, but half of its input is {}", taken / 2);
                return Err(Refusal::new(tree.line, cause, format!("write {}, or leave it out", taken / 2)));
            }
        }
        Ok(NodeKind::Swiglu { width: taken / 2 })
    }

    fn broadcast(&mut self) -> Result<NodeKind, Refusal> {
        let width = self.width("dim")?;
        if let Some(tree) = self.keys.take("num_outputs") {
            let (count, edges) = (keys::size(tree, "num_outputs")?, self.around.consumers);
            if count != edges {
                let cause = format!("num_outputs is {count}, but {edges} edges lead from it");
                return Err(Refusal::new(tree.line, cause, format!("write {edges}, or leave it out")));
            }
        }
        Ok(NodeKind::Identity { width })
    }

    /// Rows stay tokens, so all that a shape can say is how a row's elements are to be thought of.
    fn reshape(&mut self) -> Result<NodeKind, Refusal> {
        let width = self.width("dim")?;
        let tree = self.keys.need("target_shape", "[-1, 512]")?;
        let shape = shape(tree, "target_shape")?;
        let elements = shape[1..].iter().try_fold(1i64, |all, one| all.checked_mul(*one));
        if shape[0] != -1 || elements != Some(width as i64) {
            let cause = format!("target_shape {shape:?} does not keep the rows, of {width} elements each");
            let hint = format!("rows are tokens: write [-1, {width}], or factors of {width} behind the -1");
            return Err(Refusal::new(tree.line, cause, hint));
        }
        Ok(NodeKind::Identity { width })
    }

    fn head(&mut self, tied: bool) -> Result<NodeKind, Refusal> {
        let width = self.width("in_dim")?;
        let vocab_size = self.size("out_dim", "32768")?;
        let tied_to = self.tied()?;
        if tied && tied_to.is_none() {
            let cause = "it has no tie_weight_alias";
            return Err(self.refuse(cause, "add tie_weight_alias: the embedding whose table it shares"));
        }
        self.cost_precision()?;
        Ok(NodeKind::CrossEntropy { vocab_size, width, tied_to })
    }

    fn cost(&mut self, function: Option<CostFunction>) -> Result<NodeKind, Refusal> {
        let known = [
            ("ce_logits", CostFunction::CrossEntropy),
            ("cross_entropy", CostFunction::CrossEntropy),
            ("mse", CostFunction::SquareError),
        ];
        let cost = match function {
            Some(function) => function,
            None => {
                let tree = self.keys.need("function", "ce_logits")?;
                if keys::text(tree, "function")? == "ce" {
                    let cause = "function 'ce' takes probabilities, and no node gives them";
                    return Err(Refusal::new(tree.line, cause, "write ce_logits, which takes logits"));
                }
                keys::one_of(tree, "function", &known)?
            }
        };
        self.cost_precision()?;
        Ok(NodeKind::Cost { cost, width: self.width("dim")? })
    }

    fn cost_precision(&mut self) -> Result<(), Refusal> {
        let hint = "costs are computed in float32 whatever the network's precision: write that, or nothing";
        self.only_of("cost_precision", &["float32", "fp32", "f32"], hint)
    }

    /// The width of the input; where a key says it, it must say the same.
    fn width(&mut self, key: &'static str) -> Result<usize, Refusal> {
        let widths = self.around.widths;
        let found = widths[0];
        if let Some(tree) = self.keys.take(key) {
            let said = keys::size(tree, key)?;
            if said != found {
                let cause = format!("{key} is {said}, but its input has {found} elements");
                return Err(Refusal::new(
                    tree.line,
                    cause,
                    format!("write {found}, or change what leads to it"),
                ));
            }
        }
        match widths.iter().find(|&&width| width != found) {
            Some(other) => {
                let cause = format!("its inputs have {found} and {other} elements");
                Err(self.refuse(cause, "make both as wide, for instance by a linear layer before it"))
            }
            None => Ok(found),
        }
    }

    fn sequence(&mut self) -> Result<(), Refusal> {
        let Some(tree) = self.keys.take("seq_len") else { return Ok(()) };
        let (said, context) = (keys::size(tree, "seq_len")?, self.around.context);
        if said == context {
            return Ok(());
        }
        let cause = format!("seq_len is {said}, but the context of the network is {context}");
        Err(Refusal::new(tree.line, cause, format!("write {context}, or change context")))
    }

    fn positions(&mut self) -> Result<Option<f64>, Refusal> {
        let known = [("rope", true), ("none", false)];
        let turns = match self.keys.take("position_encoding") {
            Some(tree) => keys::one_of(tree, "position_encoding", &known)?,
            None => false,
        };
        if turns { Ok(Some(self.theta()?)) } else { Ok(None) }
    }

    fn theta(&mut self) -> Result<f64, Refusal> {
        self.between("rope_theta", 10_000.0, 1.0, 1e12)
    }

    fn tied(&mut self) -> Result<Option<String>, Refusal> {
        let (one, other) = (self.keys.take("tie_weight_alias"), self.keys.take("shared_weight_alias"));
        let Some(tree) = one.or(other) else { return Ok(None) };
        let alias = keys::text(tree, "tie_weight_alias")?;
        let found = (self.around.embedding)(alias);
        let cause = || format!("it shares the weight of '{alias}', and no embedding has that name");
        let hint = "write the id of an embedding, or its shared_weight_alias";
        found.ok_or_else(|| Refusal::new(tree.line, cause(), hint)).map(Some)
    }

    fn size(&mut self, key: &'static str, example: &str) -> Result<usize, Refusal> {
        keys::size(self.keys.need(key, example)?, key)
    }

    fn even(&mut self, key: &'static str) -> Result<usize, Refusal> {
        let tree = self.keys.need(key, "64")?;
        let size = keys::size(tree, key)?;
        if size.is_multiple_of(2) {
            return Ok(size);
        }
        Err(Refusal::new(
            tree.line,
            format!("{key} ({size}) is odd"),
            "elements turn in pairs: write an even number",
        ))
    }

    fn truth(&mut self, key: &'static str, default: bool) -> Result<bool, Refusal> {
        self.keys.take(key).map_or(Ok(default), |tree| keys::truth(tree, key))
    }

    fn between(&mut self, key: &'static str, default: f64, least: f64, most: f64) -> Result<f64, Refusal> {
        self.keys.take(key).map_or(Ok(default), |tree| between(tree, key, least, most))
    }

    fn only(&mut self, key: &'static str, value: &str, hint: &str) -> Result<(), Refusal> {
        self.only_of(key, &[value], hint)
    }

    fn only_of(&mut self, key: &'static str, values: &[&str], hint: &str) -> Result<(), Refusal> {
        let Some(tree) = self.keys.take(key) else { return Ok(()) };
        let text = keys::text(tree, key)?;
        if values.contains(&text) {
            return Ok(());
        }
        Err(Refusal::new(tree.line, format!("{key} is '{text}'"), hint))
    }

    fn refuse(&self, cause: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal::new(self.keys.line, cause, hint)
    }
}

fn between(tree: &Tree, key: &str, least: f64, most: f64) -> Result<f64, Refusal> {
    let number = keys::number(tree, key)?;
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    let cause = format!("{key} ({number}) is not possible");
    Err(Refusal::new(tree.line, cause, format!("write a number from {least:e} to {most:e}")))
}

/// A shape, as a list or as the text of one. It is not empty.
pub fn shape(tree: &Tree, key: &str) -> Result<Vec<i64>, Refusal> {
    let refuse = || {
        Refusal::new(
            tree.line,
            format!("{key} is not a list of whole numbers"),
            "write [-1, 512]; -1 stands for the tokens",
        )
    };
    let parts: Vec<&str> = match &tree.value {
        Value::List(list) => list.iter().map(|item| keys::text(item, key)).collect::<Result<_, _>>()?,
        Value::Text(text) => text.trim().trim_start_matches('[').trim_end_matches(']').split(',').collect(),
        Value::Nothing | Value::Keys(_) => return Err(refuse()),
    };
    let sizes = parts
        .iter()
        .map(|part| part.trim().parse().ok().filter(|one: &i64| *one == -1 || (1..=1 << 40).contains(one)));
    let sizes: Option<Vec<i64>> = sizes.collect();
    sizes.filter(|sizes| !sizes.is_empty()).ok_or_else(refuse)
}
