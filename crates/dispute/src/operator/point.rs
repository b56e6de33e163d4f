//! Operators whose elements take a few words each.

use zoo_kernels::activation::Activation;
use zoo_kernels::heads::{self, Heads};
use zoo_kernels::math::{exp, log};
use zoo_kernels::optimizer::AdamW;
use zoo_kernels::reference::{activation, optimizer};
use zoo_kernels::rope::{Direction, Table};

use super::{Read, Unread};

/// An element from a few others. Inputs are numbered as they are named; `there` is what a gradient lands on, where there is something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Point {
    /// A row of a table for every token: ids, table.
    Gather {
        /// Rows of the table.
        rows: usize,
        /// Elements of a row.
        width: usize,
    },
    /// The row of its position is added: x, table.
    AddPosition {
        /// Elements of a row.
        width: usize,
        /// Tokens of a sequence.
        context: usize,
    },
    /// A row is added to every row: x, bias.
    AddBias {
        /// Elements of a row.
        width: usize,
    },
    /// The sum: a, b.
    Add,
    /// RMS norm: x, rstd, gain.
    RmsNorm {
        /// Elements of a row.
        width: usize,
    },
    /// Its gradient: dy, x, rstd, projection, gain, there.
    RmsGradient {
        /// Elements of a row.
        width: usize,
        /// Whether it lands on something.
        onto: bool,
    },
    /// LayerNorm: x, mean, rstd, gain, bias.
    LayerNorm {
        /// Elements of a row.
        width: usize,
        /// Whether it has a bias.
        bias: bool,
    },
    /// Its gradient: dy, gain, x, mean, rstd, mean of dy gain, projection, there.
    LayerGradient {
        /// Elements of a row.
        width: usize,
        /// Whether it lands on something.
        onto: bool,
    },
    /// RMS norm of query and key heads: x, rstd, gain of queries, of keys.
    HeadNorm {
        /// The heads of a row.
        heads: Heads,
    },
    /// Its gradient: dy, x, rstd, projection, gain of queries, of keys.
    HeadGradient {
        /// The heads of a row.
        heads: Heads,
    },
    /// Rotation of query and key heads: x.
    Rotate(Rotate),
    /// Rows side by side: those of queries, of keys, of values.
    Columns {
        /// The heads of a row.
        heads: Heads,
    },
    /// `exp(x scale - most)` left of the diagonal and on it, +0 elsewhere: x, most.
    Weight {
        /// Keys of a query, and queries of a head.
        context: usize,
        /// The factor.
        scale: f32,
    },
    /// `most + log(total)`: most, total.
    LogSum,
    /// A weighted sum divided by the sum of its weights: sum, total.
    Weighted {
        /// The heads of a row of keys and queries.
        heads: Heads,
        /// Tokens of a sequence.
        context: usize,
    },
    /// The gradient of scores: weight, its gradient, what the row shares.
    ScoreGradient {
        /// Query heads.
        heads: usize,
        /// Keys of a query, and queries of a head.
        context: usize,
        /// The factor of scores.
        scale: f32,
    },
    /// An activation: x.
    Activate(Activation),
    /// Its gradient: x, dy.
    ActivationGradient(Activation),
    /// SwiGLU: gate and up.
    Swiglu {
        /// Elements of the gate.
        hidden: usize,
    },
    /// Its gradient: gate and up, dy.
    SwigluGradient {
        /// Elements of the gate.
        hidden: usize,
    },
    /// The gradient of the cross-entropy: logits, most, total, targets.
    LossGradient {
        /// Logits of a token.
        vocab: usize,
        /// The factor of a token's loss.
        scale: f32,
    },
    /// The loss of every token: logits, most, total, targets.
    Loss {
        /// Logits of a token.
        vocab: usize,
    },
    /// Zero.
    Zero,
    /// The difference: a, b.
    Difference,
    /// What moved from one place is moved from another: p, to, from; `to + (p - from)`.
    Join,
    /// What was left unsaid is said with what is new: x, left; `x + decay left`.
    Feedback {
        /// The factor.
        decay: f32,
    },
    /// Muon's momentum, or where it looks one step ahead: `beta m + g scale`, with m the momentum before, or after: m, gradient, clipping factor.
    Momentum {
        /// Its decay.
        beta: f32,
        /// Whether the gradient is clipped.
        clips: bool,
    },
    /// A part of a tensor, as it is: x.
    Part {
        /// Its first element.
        first: usize,
    },
    /// Times one number: x, factor.
    Scaled,
    /// `a x + b y`, the first product inside an fma: x, y.
    Combined {
        /// The factor of x.
        a: f32,
        /// The factor of y.
        b: f32,
    },
    /// A parameter or a moment after an update: parameter, mean, square, gradient, clipping factor.
    AdamW(AdamWStep),
}

/// A rotation by position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotate {
    /// The heads of a row.
    pub heads: Heads,
    /// Tokens of a sequence.
    pub context: usize,
    /// Base of the frequencies.
    pub theta: f64,
    /// Whether it turns back.
    pub inverse: bool,
}

/// One of the three tensors that AdamW changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Its rates.
    pub settings: AdamW,
    /// The update, counted from 1.
    pub update: u64,
    /// Whether the parameter decays.
    pub decay: bool,
    /// Whether the gradient is clipped.
    pub clips: bool,
    /// Which of the three.
    pub part: Part,
}

/// What an optimiser keeps of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The parameter.
    Value,
    /// The running mean of its gradient.
    Mean,
    /// The running mean of its gradient's square.
    Square,
}

impl Point {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gather { .. } => "row of a table",
            Self::AddPosition { .. } | Self::AddBias { .. } | Self::Add => "sum",
            Self::RmsNorm { .. } | Self::LayerNorm { .. } | Self::HeadNorm { .. } => "norm",
            Self::RmsGradient { .. } | Self::LayerGradient { .. } | Self::HeadGradient { .. } => {
                "gradient of a norm"
            }
            Self::Rotate(_) => "rotation",
            Self::Columns { .. } => "rows side by side",
            Self::Weight { .. } => "attention weight",
            Self::LogSum => "log of a sum",
            Self::Weighted { .. } => "weighted mean",
            Self::ScoreGradient { .. } => "gradient of a score",
            Self::Activate(_) | Self::Swiglu { .. } => "activation",
            Self::ActivationGradient(_) | Self::SwigluGradient { .. } => "gradient of an activation",
            Self::LossGradient { .. } => "gradient of the loss",
            Self::Loss { .. } => "loss",
            Self::Zero => "zero",
            Self::Difference => "difference",
            Self::Join => "lead moved to the base",
            Self::Feedback { .. } => "error feedback",
            Self::Momentum { .. } => "momentum",
            Self::Part { .. } => "part of a tensor",
            Self::Scaled => "scaled",
            Self::Combined { .. } => "polynomial of a matrix",
            Self::AdamW(_) => "AdamW",
        }
    }

    /// An element.
    ///
    /// # Errors
    /// A word that it takes cannot be read.
    #[inline(always)]
    pub fn at(&self, element: usize, read: &mut impl Read) -> Result<f32, Unread> {
        Ok(match *self {
            Self::Gather { rows, width } => {
                let id = (read.word(0, element / width)? as usize).min(rows - 1);
                read.value(1, id * width + element % width)?
            }
            Self::AddPosition { width, context } => {
                let (position, at) = (element / width % context, element % width);
                read.value(0, element)? + read.value(1, position * width + at)?
            }
            Self::AddBias { width } => read.value(0, element)? + read.value(1, element % width)?,
            Self::Add => read.value(0, element)? + read.value(1, element)?,
            Self::RmsNorm { width } => {
                read.value(0, element)? * read.value(1, element / width)? * read.value(2, element % width)?
            }
            Self::RmsGradient { width, onto } => {
                let (row, at) = (element / width, element % width);
                let there = if onto { read.value(5, element)? } else { 0.0 };
                there + rms_gradient(element, row, at, 4, read)?
            }
            Self::LayerNorm { width, bias } => {
                let (row, at) = (element / width, element % width);
                let normal = (read.value(0, element)? - read.value(1, row)?) * read.value(2, row)?;
                let gain = read.value(3, at)?;
                if bias { normal.mul_add(gain, read.value(4, at)?) } else { normal * gain }
            }
            Self::LayerGradient { width, onto } => {
                let (row, at) = (element / width, element % width);
                let there = if onto { read.value(7, element)? } else { 0.0 };
                let rstd = read.value(4, row)?;
                let normal = (read.value(2, element)? - read.value(3, row)?) * rstd;
                let scaled = read.value(0, element)? * read.value(1, at)? - read.value(5, row)?;
                there + (-read.value(6, row)?).mul_add(normal, scaled) * rstd
            }
            Self::HeadNorm { heads } => match turning(heads, element) {
                None => read.value(0, element)?,
                Some((row, is_key)) => {
                    let gain = read.value(2 + is_key, element % heads.head_dim)?;
                    read.value(0, element)? * read.value(1, row)? * gain
                }
            },
            Self::HeadGradient { heads } => match turning(heads, element) {
                None => read.value(0, element)?,
                Some((row, is_key)) => {
                    0.0 + rms_gradient(element, row, element % heads.head_dim, 4 + is_key, read)?
                }
            },
            Self::Rotate(rotate) => rotate.at(element, read)?,
            Self::Columns { heads } => {
                let (row, at) = (element / heads.row_width(), element % heads.row_width());
                let (queries, keys) = (heads.query_width(), heads.kv_width());
                if at < queries {
                    read.value(0, row * queries + at)?
                } else {
                    let (input, at) = (1 + (at - queries) / keys, (at - queries) % keys);
                    read.value(input, row * keys + at)?
                }
            }
            Self::Weight { context, scale } => {
                let row = element / context;
                if element % context > row % context {
                    return Ok(0.0);
                }
                exp(read.value(0, element)?.mul_add(scale, -read.value(1, row)?))
            }
            Self::LogSum => read.value(0, element)? + log(read.value(1, element)?),
            Self::Weighted { heads, context } => {
                let (token, head) =
                    (element / heads.query_width(), element / heads.head_dim % heads.query_heads);
                let row = (token / context * heads.query_heads + head) * context + token % context;
                (read.value(0, element)? + 0.0) * (1.0 / read.value(1, row)?)
            }
            Self::ScoreGradient { heads, context, scale } => {
                let row = element / context;
                let (sequence, head, query) = (row / context / heads, row / context % heads, row % context);
                if element % context > query {
                    return Ok(0.0);
                }
                let shared = read.value(2, (sequence * context + query) * heads + head)?;
                read.value(0, element)? * (read.value(1, element)? - shared) * scale
            }
            Self::Activate(kind) => {
                let mut y = [0.0];
                activation::forward(kind, &[read.value(0, element)?], &mut y);
                y[0]
            }
            Self::ActivationGradient(kind) => {
                let (mut x, mut dy) = ([read.value(0, element)?], [read.value(1, element)?]);
                activation::backward(kind, &mut x, &mut dy);
                x[0]
            }
            Self::Swiglu { hidden } => {
                let at = element / hidden * 2 * hidden + element % hidden;
                let mut out = [0.0];
                activation::swiglu_forward(&[read.value(0, at)?, read.value(0, at + hidden)?], 1, &mut out);
                out[0]
            }
            Self::SwigluGradient { hidden } => {
                let (row, at) = (element / (2 * hidden), element % (2 * hidden));
                let gate = row * 2 * hidden + at % hidden;
                let mut gate_up = [read.value(0, gate)?, read.value(0, gate + hidden)?];
                let mut dout = [read.value(1, row * hidden + at % hidden)?];
                activation::swiglu_backward(&mut gate_up, 1, &mut dout);
                gate_up[at / hidden]
            }
            Self::LossGradient { vocab, scale } => {
                let (row, id) = (element / vocab, element % vocab);
                let e = exp(read.value(0, element)? - read.value(1, row)?);
                let gradient = e * (scale / read.value(2, row)?);
                if read.word(3, row)? as usize == id { gradient - scale } else { gradient }
            }
            Self::Loss { vocab } => {
                let target = (read.word(3, element)? as usize).min(vocab - 1);
                let at_target = read.value(0, element * vocab + target)?;
                log(read.value(2, element)?) + (read.value(1, element)? - at_target)
            }
            Self::Zero => 0.0,
            Self::Difference => read.value(0, element)? - read.value(1, element)?,
            Self::Join => read.value(1, element)? + (read.value(0, element)? - read.value(2, element)?),
            Self::Feedback { decay } => read.value(0, element)? + decay * read.value(1, element)?,
            Self::Momentum { beta, clips } => {
                let scale = if clips { read.value(2, 0)? } else { 1.0 };
                beta.mul_add(read.value(0, element)?, read.value(1, element)? * scale)
            }
            Self::Part { first } => read.value(0, first + element)?,
            Self::Scaled => read.value(0, element)? * read.value(1, 0)?,
            Self::Combined { a, b } => a.mul_add(read.value(0, element)?, b * read.value(1, element)?),
            Self::AdamW(adamw) => adamw.at(element, read)?,
        })
    }
}

/// What the gradient of an RMS norm adds: dy, x, rstd, projection, gains.
fn rms_gradient(
    element: usize,
    row: usize,
    at: usize,
    gain: usize,
    read: &mut impl Read,
) -> Result<f32, Unread> {
    let [dy, x, gain] = [read.value(0, element)?, read.value(1, element)?, read.value(gain, at)?];
    Ok((-read.value(3, row)?).mul_add(x, dy * gain * read.value(2, row)?))
}

/// All of [`Point::SwigluGradient`].
pub fn swiglu_gradient(hidden: usize, inputs: &[&[f32]]) -> Vec<f32> {
    let (mut gate_up, mut dout) = (inputs[0].to_vec(), inputs[1].to_vec());
    zoo_kernels::activation::swiglu_backward(&mut gate_up, hidden, &mut dout);
    gate_up
}

/// Which query or key head an element belongs to, counted over all tokens, and whether it is a key's (1) or a query's (0).
fn turning(heads: Heads, element: usize) -> Option<(usize, usize)> {
    let (token, head) = (element / heads.row_width(), element % heads.row_width() / heads.head_dim);
    (head < heads.turning_heads())
        .then(|| (token * heads.turning_heads() + head, usize::from(head >= heads.query_heads)))
}

impl Rotate {
    fn at(&self, element: usize, read: &mut impl Read) -> Result<f32, Unread> {
        if turning(self.heads, element).is_none() {
            return read.value(0, element);
        }
        let dim = self.heads.head_dim;
        let (token, at) = (element / self.heads.row_width(), element % dim);
        let (pair, is_second) = (at % (dim / 2), at >= dim / 2);
        let first = element - at + pair;
        let (a, b) = (read.value(0, first)?, read.value(0, first + dim / 2)?);
        let (cosine, sine) = self.turn(token % self.context, pair);
        Ok(if is_second { b.mul_add(cosine, a * sine) } else { a.mul_add(cosine, -(b * sine)) })
    }

    /// See [`super::Operator::compute`].
    pub fn compute(&self, inputs: &[&[f32]]) -> Vec<f32> {
        let mut output = inputs[0].to_vec();
        let table = Table::new(self.context, self.heads.head_dim, self.theta);
        let direction = if self.inverse { Direction::Inverse } else { Direction::Forward };
        heads::rotate(self.heads, &table, &mut output, self.context, 0, direction);
        output
    }

    /// Cosine and sine of a pair's angle.
    fn turn(&self, position: usize, pair: usize) -> (f32, f32) {
        let frequency = 1.0 / libm::pow(self.theta, (2 * pair) as f64 / self.heads.head_dim as f64);
        let angle = position as f64 * frequency;
        let sine = libm::sin(angle) as f32;
        (libm::cos(angle) as f32, if self.inverse { -sine } else { sine })
    }
}

impl AdamWStep {
    fn at(&self, element: usize, read: &mut impl Read) -> Result<f32, Unread> {
        let scale = if self.clips { read.value(4, 0)? } else { 1.0 };
        let gradient = [read.value(3, element)?];
        let (mut p, mut m, mut v) = ([0.0], [0.0], [0.0]);
        if matches!(self.part, Part::Value) {
            p[0] = read.value(0, element)?;
        }
        if matches!(self.part, Part::Value | Part::Mean) {
            m[0] = read.value(1, element)?;
        }
        if matches!(self.part, Part::Value | Part::Square) {
            v[0] = read.value(2, element)?;
        }
        optimizer::adamw(&self.settings, self.update, self.decay, &mut p, &gradient, &mut m, &mut v, scale);
        Ok(match self.part {
            Part::Value => p[0],
            Part::Mean => m[0],
            Part::Square => v[0],
        })
    }

    /// See [`super::Operator::compute`].
    pub fn compute(&self, inputs: &[&[f32]]) -> Vec<f32> {
        let [mut p, mut m, mut v] = [0, 1, 2].map(|input| inputs[input].to_vec());
        let scale = if self.clips { inputs[4][0] } else { 1.0 };
        self.settings.step(self.update, self.decay, &mut p, inputs[3], &mut m, &mut v, scale);
        match self.part {
            Part::Value => p,
            Part::Mean => m,
            Part::Square => v,
        }
    }
}
