//! Tables, norms and the head.

use super::build::{Builder, Made, Place};
use crate::operator::{Fold, Operator, Point, Row, Scatter, Sum, TokenSum};

impl Builder {
    pub fn embedding(&mut self, at: usize, rows: usize, width: usize) -> (usize, Made) {
        let table = self.parameter((at, 0));
        let gather = Operator::Point(Point::Gather { rows, width });
        (self.tensor("output", &[self.tokens, width], gather, &[self.ids, table]), Made::Nothing)
    }

    pub fn embedding_backward(&mut self, at: usize, dy: usize, width: usize) {
        let scatter = Scatter::ById { tokens: self.tokens, width };
        self.gradient((at, 0), Operator::Scatter(scatter), &[self.ids, dy]);
    }

    /// A tied head's share is added to the table's own gradient.
    pub fn add_borrowed(&mut self, table: Place, share: usize) {
        let own = self.gradients[&table];
        self.tensors[own].name = "own gradient of table".to_owned();
        self.gradient(table, Operator::Point(Point::Add), &[own, share]);
    }

    pub fn position(&mut self, at: usize, x: usize, width: usize) -> (usize, Made) {
        let table = self.parameter((at, 0));
        let add = Operator::Point(Point::AddPosition { width, context: self.context });
        (self.tensor("output", &[self.tokens, width], add, &[x, table]), Made::Nothing)
    }

    pub fn position_backward(&mut self, at: usize, dy: usize, width: usize) {
        let (sequences, context) = (self.tokens / self.context, self.context);
        let scatter = Scatter::ByPosition { sequences, context, width };
        self.gradient((at, 0), Operator::Scatter(scatter), &[dy]);
    }

    /// One number for every row of `inputs[0]`.
    pub fn row(&mut self, name: &str, fold: Fold, width: usize, inputs: &[usize]) -> usize {
        let words = self.tensors[inputs[0]].len();
        let row = Operator::Row(Row::of(fold, width, words));
        self.tensor(name, &[words / width], row, inputs)
    }

    pub fn rms_norm(&mut self, at: usize, x: usize, width: usize, epsilon: f32) -> (usize, Made) {
        let rstd = self.row("rstd", Fold::RmsDeviation { epsilon }, width, &[x]);
        let gain = self.parameter((at, 0));
        let norm = Operator::Point(Point::RmsNorm { width });
        let y = self.tensor("output", &[self.tokens, width], norm, &[x, rstd, gain]);
        (y, Made::Norm { x, mean: None, rstd })
    }

    pub fn layer_norm(
        &mut self,
        at: usize,
        x: usize,
        width: usize,
        epsilon: f32,
        bias: bool,
    ) -> (usize, Made) {
        let mean = self.row("mean", Fold::Mean, width, &[x]);
        let rstd = self.row("rstd", Fold::LayerDeviation { epsilon }, width, &[x, mean]);
        let mut inputs = vec![x, mean, rstd, self.parameter((at, 0))];
        inputs.extend(bias.then(|| self.parameter((at, 1))));
        let norm = Operator::Point(Point::LayerNorm { width, bias });
        let y = self.tensor("output", &[self.tokens, width], norm, &inputs);
        (y, Made::Norm { x, mean: Some(mean), rstd })
    }

    pub fn norm_backward(
        &mut self,
        at: usize,
        slot: usize,
        dy: usize,
        (x, mean, rstd): (usize, Option<usize>, usize),
        width: usize,
        bias: bool,
    ) {
        let (gain, there) = (self.parameter((at, 0)), self.arrived[slot]);
        let onto = there.is_some();
        let tokens = self.tokens;
        let sum = |sum| Operator::TokenSum(TokenSum { sum, tokens, width });
        let (point, mut inputs) = match mean {
            None => {
                let projection = self.row("projection", Fold::RmsProjection, width, &[dy, x, rstd, gain]);
                (Point::RmsGradient { width, onto }, vec![dy, x, rstd, projection, gain])
            }
            Some(mean) => {
                let a = self.row("mean of gradient", Fold::GainMean, width, &[dy, gain]);
                let b = self.row("projection", Fold::GainProjection, width, &[dy, gain, x, mean, rstd]);
                (Point::LayerGradient { width, onto }, vec![dy, gain, x, mean, rstd, a, b])
            }
        };
        inputs.extend(there);
        let dx = self.tensor("gradient of the input", &[tokens, width], Operator::Point(point), &inputs);
        self.arrived[slot] = Some(dx);
        match mean {
            None => self.gradient((at, 0), sum(Sum::RmsGain), &[dy, x, rstd]),
            Some(mean) => {
                self.gradient((at, 0), sum(Sum::LayerGain), &[dy, x, mean, rstd]);
                if bias {
                    self.gradient((at, 1), sum(Sum::Bias), &[dy]);
                }
            }
        }
    }

    pub fn head(&mut self, x: usize, vocab: usize, table: Place) -> (usize, Made) {
        let logits = self.linear("logits", x, (table, None), None);
        let most = self.row("greatest logit", Fold::Maximum { scale: 1.0 }, vocab, &[logits]);
        let total = self.row("sum of exponentials", Fold::ExpTotal, vocab, &[logits, most]);
        let loss = Operator::Point(Point::Loss { vocab });
        self.losses = self.tensor("losses", &[self.tokens], loss, &[logits, most, total, self.targets]);
        (logits, Made::Head { x, logits, most, total, table })
    }

    pub fn head_backward(
        &mut self,
        at: usize,
        slot: usize,
        [x, logits, most, total]: [usize; 4],
        table: Place,
    ) {
        let shape = self.tensors[logits].shape.clone();
        let scale = (1.0 / self.tokens as f64) as f32;
        let point = Operator::Point(Point::LossGradient { vocab: shape[1], scale });
        let inputs = [logits, most, total, self.targets];
        let dlogits = self.tensor("gradient of logits", &shape, point, &inputs);
        self.linear_gradients(dlogits, x, (table, None));
        if table.0 != at {
            self.borrowed = self.gradients.remove(&table);
        }
        let dx = self.linear_input("gradient of the input", dlogits, table, None);
        self.arrived[slot] = Some(dx);
    }
}
