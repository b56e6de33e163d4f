//! Numbers of rows: norms' deviations, the greatest and the sum of scores, and what gradients of norms share.

use zoo_kernels::heads::Heads;
use zoo_kernels::math::{exp, rsqrt};

use super::fold::{LANES, lanes, tree};
use super::{Read, SEGMENT, Unread};
use crate::tree::word;

/// One number for every row of input 0, folded in sixteen lanes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// What is folded.
    pub fold: Fold,
    /// Elements of a row.
    pub width: usize,
    /// The rows are the query and key heads of such rows.
    pub heads: Option<Heads>,
    /// Row i of every `width` has i + 1 elements.
    pub causal: bool,
    /// Words of input 0: the last row may be shorter.
    pub words: usize,
}

/// What is folded along a row, and what becomes of it. Inputs are numbered as they are named; of heads, gains are two, that of queries and that of
/// keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fold {
    /// 1 / rms: x.
    RmsDeviation {
        /// Added to the mean square.
        epsilon: f32,
    },
    /// What the gradient of an RMS norm takes from x: dy, x, rstd, gain.
    RmsProjection,
    /// The mean: x.
    Mean,
    /// 1 / standard deviation: x, mean.
    LayerDeviation {
        /// Added to the variance.
        epsilon: f32,
    },
    /// The mean of dy times gain: dy, gain.
    GainMean,
    /// The mean of dy times gain times the normalised x: dy, gain, x, mean, rstd.
    GainProjection,
    /// The greatest, times a factor: x.
    Maximum {
        /// The factor.
        scale: f32,
    },
    /// The sum: x.
    Total,
    /// The sum of `exp(x - most)`: x, most.
    ExpTotal,
    /// The product of two rows: a, b.
    Dot,
    /// The sum of squares: x.
    Squares,
}

impl Fold {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RmsDeviation { .. } | Self::LayerDeviation { .. } => "deviation of a row",
            Self::RmsProjection | Self::GainProjection => "projection of a row",
            Self::Mean | Self::GainMean => "mean of a row",
            Self::Maximum { .. } => "greatest of a row",
            Self::Total | Self::ExpTotal => "sum of a row",
            Self::Dot => "product of two rows",
            Self::Squares => "sum of squares",
        }
    }
}

fn greater(kept: f32, new: f32) -> f32 {
    if new > kept { new } else { kept }
}

impl Row {
    /// Rows as they lie.
    pub fn of(fold: Fold, width: usize, words: usize) -> Self {
        Self { fold, width, heads: None, causal: false, words }
    }

    /// The first word of a row.
    fn first(&self, row: usize) -> usize {
        match self.heads {
            None => row * self.width,
            Some(heads) => {
                row / heads.turning_heads() * heads.row_width() + row % heads.turning_heads() * heads.head_dim
            }
        }
    }

    /// Terms of a row.
    pub fn terms(&self, row: usize) -> usize {
        let first = self.first(row);
        let width = if self.causal { row % self.width + 1 } else { self.width };
        width.min(self.words - first)
    }

    fn start(&self) -> f32 {
        if matches!(self.fold, Fold::Maximum { .. }) { f32::NEG_INFINITY } else { 0.0 }
    }

    /// The gain of an element, if inputs from `first` on are gains.
    fn gain(&self, row: usize, at: usize, first: usize, read: &mut impl Read) -> Result<f32, Unread> {
        let is_key = self.heads.is_some_and(|heads| row % heads.turning_heads() >= heads.query_heads);
        read.value(first + usize::from(is_key), at)
    }

    fn term(&self, row: usize, at: usize, lane: f32, read: &mut impl Read) -> Result<f32, Unread> {
        let here = self.first(row) + at;
        let x = read.value(0, here)?;
        Ok(match self.fold {
            Fold::RmsDeviation { .. } | Fold::Squares => x.mul_add(x, lane),
            Fold::RmsProjection => {
                let gain = self.gain(row, at, 3, read)?;
                (x * gain).mul_add(read.value(1, here)?, lane)
            }
            Fold::Mean | Fold::Total => lane + x,
            Fold::LayerDeviation { .. } => {
                let away = x - read.value(1, row)?;
                away.mul_add(away, lane)
            }
            Fold::GainMean => lane + x * read.value(1, at)?,
            Fold::GainProjection => {
                let normal = (read.value(2, here)? - read.value(3, row)?) * read.value(4, row)?;
                (x * read.value(1, at)?).mul_add(normal, lane)
            }
            Fold::Maximum { .. } => greater(lane, x),
            Fold::ExpTotal => lane + exp(x - read.value(1, row)?),
            Fold::Dot => x.mul_add(read.value(1, here)?, lane),
        })
    }

    fn finish(&self, row: usize, lanes: [f32; LANES], read: &mut impl Read) -> Result<f32, Unread> {
        let width = self.width as f32;
        let sum = |lanes| tree(lanes, |a, b| a + b);
        Ok(match self.fold {
            Fold::RmsDeviation { epsilon } | Fold::LayerDeviation { epsilon } => {
                rsqrt(sum(lanes) / width + epsilon)
            }
            Fold::RmsProjection => {
                let rstd = read.value(2, row)?;
                sum(lanes) * rstd * rstd * rstd / width
            }
            Fold::Mean | Fold::GainMean | Fold::GainProjection => sum(lanes) / width,
            Fold::Maximum { scale } => tree(lanes, greater) * scale,
            Fold::Total | Fold::ExpTotal | Fold::Dot | Fold::Squares => sum(lanes),
        })
    }

    /// See [`super::Operator::segment`].
    pub fn segment(
        &self,
        row: usize,
        segment: usize,
        before: &[u32],
        read: &mut impl Read,
    ) -> Result<Vec<u32>, Unread> {
        let mut lanes = lanes(before, self.start());
        let (from, to) = (segment * SEGMENT, self.terms(row).min((segment + 1) * SEGMENT));
        for at in from..to {
            lanes[at % LANES] = self.term(row, at, lanes[at % LANES], read)?;
        }
        if to < self.terms(row) {
            return Ok(lanes.map(word).to_vec());
        }
        Ok(vec![word(self.finish(row, lanes, read)?)])
    }

    /// The whole row.
    pub fn whole(&self, row: usize, read: &mut impl Read) -> Result<f32, Unread> {
        let mut lanes = [self.start(); LANES];
        for at in 0..self.terms(row) {
            lanes[at % LANES] = self.term(row, at, lanes[at % LANES], read)?;
        }
        self.finish(row, lanes, read)
    }
}
