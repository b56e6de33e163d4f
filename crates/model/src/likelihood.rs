//! How likely tokens are, from logits.

use zoo_kernels::cross_entropy;

/// The distribution that a row of logits stands for.
#[derive(Clone, Copy, Debug)]
pub struct Likelihood<'a> {
    logits: &'a [f32],
    most: f32,
    log_sum: f32,
}

impl<'a> Likelihood<'a> {
    /// Of one row of logits.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn new(logits: &'a [f32]) -> Self {
        let best = most_likely(logits);
        // The loss of the greatest logit is the logarithm of the sum alone: nothing is taken from it.
        let mut log_sum = [0.0];
        cross_entropy::losses(logits, logits.len(), &[best], &mut log_sum);
        Self { logits, most: logits[best as usize], log_sum: log_sum[0] }
    }

    /// The natural logarithm of a token's probability: minus the loss that training would count for it, bit for bit.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn log_probability(&self, token: u32) -> f32 {
        -(self.log_sum + (self.most - self.logits[token as usize]))
    }

    /// The `count` most likely tokens with the logarithms of their probabilities, the most likely first; of equally
    /// likely ones the smaller id first.
    pub fn top(&self, count: usize) -> Vec<(u32, f32)> {
        let count = count.min(self.logits.len());
        let mut best: Vec<(f32, u32)> = Vec::with_capacity(count + 1);
        for (&logit, token) in self.logits.iter().zip(0..) {
            if best.len() == count && best.last().is_none_or(|last| last.0 >= logit) {
                continue;
            }
            let at = best.partition_point(|better| better.0 >= logit);
            best.insert(at, (logit, token));
            best.truncate(count);
        }
        best.into_iter().map(|(_, token)| (token, self.log_probability(token))).collect()
    }
}

/// The most likely token; of equally likely ones the first.
///
/// # Panics
/// If there are no logits.
pub fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (at, logit) in logits.iter().enumerate() {
        if logit.total_cmp(&logits[best]).is_gt() {
            best = at;
        }
    }
    assert!(best < logits.len(), "a vocabulary has tokens");
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_add_up_and_the_top_is_in_order() {
        let logits = [1.0, 3.0, -2.0, 3.0, 0.5, 2.9];
        let likelihood = Likelihood::new(&logits);
        let total: f64 = (0..6).map(|token| libm_exp(likelihood.log_probability(token))).sum();
        assert!((total - 1.0).abs() < 1e-6, "{total}");
        let top = likelihood.top(4);
        assert_eq!(top.iter().map(|it| it.0).collect::<Vec<_>>(), [1, 3, 5, 0]);
        assert_eq!(top[2].1, likelihood.log_probability(5));
        assert!(likelihood.top(0).is_empty());
        assert_eq!(likelihood.top(100).len(), 6);
    }

    #[test]
    fn a_log_probability_is_minus_the_loss_of_training() {
        let logits: Vec<f32> = (0..300).map(|i| ((i * 37 % 101) as f32 - 50.0) / 9.0).collect();
        let likelihood = Likelihood::new(&logits);
        for token in 0..300 {
            let mut loss = [0.0];
            cross_entropy::losses(&logits, logits.len(), &[token], &mut loss);
            assert_eq!(likelihood.log_probability(token).to_bits(), (-loss[0]).to_bits(), "{token}");
        }
    }

    fn libm_exp(x: f32) -> f64 {
        f64::from(zoo_kernels::math::exp(x))
    }
}
