//! Rotary position embedding (Su et al., 2021), the halves of a head rotated
//! against each other as in Hugging Face's models.

/// Cosines and sines of every position: `context` x `head_dim / 2` each,
/// computed once in f64 by the `libm` crate and rounded to f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    half: usize,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Table {
    /// The table for positions `0..context`: pair `i` of position `p` turns by
    /// `p * theta^(-2 i / head_dim)`.
    ///
    /// # Panics
    /// If `head_dim` is odd or 0.
    pub fn new(context: usize, head_dim: usize, theta: f64) -> Self {
        assert!(
            head_dim > 0 && head_dim.is_multiple_of(2),
            "rotation needs an even head_dim, not {head_dim}"
        );
        let half = head_dim / 2;
        let frequencies: Vec<f64> =
            (0..half).map(|i| 1.0 / libm::pow(theta, (2 * i) as f64 / head_dim as f64)).collect();
        let angles = (0..context).flat_map(|p| frequencies.iter().map(move |f| p as f64 * f));
        let (cosines, sines) = angles.map(|a| (libm::cos(a) as f32, libm::sin(a) as f32)).unzip();
        Self { half, cosines, sines }
    }

    /// Number of positions.
    pub fn context(&self) -> usize {
        self.cosines.len() / self.half
    }

    /// Width of the heads it rotates.
    pub fn head_dim(&self) -> usize {
        2 * self.half
    }

    /// Cosines of one position, `head_dim / 2` of them.
    #[inline(always)]
    pub fn cosines(&self, position: usize) -> &[f32] {
        &self.cosines[position * self.half..][..self.half]
    }

    /// Sines of one position, `head_dim / 2` of them.
    #[inline(always)]
    pub fn sines(&self, position: usize) -> &[f32] {
        &self.sines[position * self.half..][..self.half]
    }
}

/// Which way to turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// As the position says.
    Forward,
    /// Back again: the transpose, which is also the gradient.
    Inverse,
}

impl Direction {
    /// The factor of the sines.
    #[inline(always)]
    pub(crate) fn sign(self) -> f32 {
        match self {
            Direction::Forward => 1.0,
            Direction::Inverse => -1.0,
        }
    }
}

/// Rotates one head in place.
#[inline(always)]
pub(crate) fn rotate_head(head: &mut [f32], cosines: &[f32], sines: &[f32], sign: f32) {
    let half = cosines.len();
    let (a, b) = head.split_at_mut(half);
    let (b, sines) = (&mut b[..half], &sines[..half]);
    for i in 0..half {
        let (cosine, sine) = (cosines[i], sines[i] * sign);
        let (x, y) = (a[i], b[i]);
        a[i] = x.mul_add(cosine, -(y * sine));
        b[i] = y.mul_add(cosine, x * sine);
    }
}
