//! Ways to be wrong about a tensor.

use zoo_dispute::Program;
use zoo_dispute::validate::{Check, Report};
use zoo_kernels::random;

/// What becomes of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Forgery {
    /// One element to the next number
    Ulp,
    /// One element by twice the tensor's root mean square
    Element,
    /// One row to that of another
    Row,
    /// All by a thousandth
    Scaled,
    /// All rounded to bf16
    Rounded,
    /// All to zero
    Zeroed,
}

/// A tensor that is made wrong.
pub struct Forged {
    pub how: Forgery,
    pub tensor: usize,
    /// Elements that are wrong.
    pub elements: u64,
    /// The part of all elements that they are, and the greatest error.
    extent: (f64, f64),
    /// Elements of a row.
    width: usize,
    draw: u64,
}

impl Forgery {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ulp => "changed by one ulp in one place",
            Self::Element => "changed in one place",
            Self::Row => "changed in one row",
            Self::Scaled => "scaled",
            Self::Rounded => "rounded",
            Self::Zeroed => "zeroed",
        }
    }
}

impl Forged {
    /// A gradient of chance.
    pub fn choose(how: Forgery, program: &Program, seed: u64) -> Self {
        let is_gradient = |at: &usize| program.tensors[*at].name.starts_with("gradient of ");
        let gradients: Vec<usize> = (0..program.tensors.len()).filter(is_gradient).collect();
        let tensor = gradients[(random::bits(seed, 4, 0) % gradients.len() as u64) as usize];
        let width = program.tensors[tensor].shape.last().copied().unwrap_or(1);
        Self { how, tensor, elements: 0, extent: (0.0, 0.0), width, draw: random::bits(seed, 5, 0) }
    }

    /// Makes it wrong.
    pub fn apply(&mut self, values: &mut [f32]) {
        let before = values.to_vec();
        let place = (self.draw % values.len() as u64) as usize;
        let first = place / self.width * self.width;
        match self.how {
            Forgery::Ulp => values[place] = values[place].next_up(),
            Forgery::Element => values[place] += 2.0 * root_mean_square(&before),
            Forgery::Row => {
                let other = (first + self.width) % values.len();
                values[first..first + self.width].copy_from_slice(&before[other..other + self.width]);
            }
            Forgery::Scaled => values.iter_mut().for_each(|value| *value *= 1.001),
            Forgery::Rounded => {
                values.iter_mut().for_each(|value| *value = zoo_kernels::bf16::Bf16::of(*value).to_f32())
            }
            Forgery::Zeroed => values.fill(0.0),
        }
        let errors = values.iter().zip(&before).filter(|(now, before)| now.to_bits() != before.to_bits());
        let error = |(now, before): (&f32, &f32)| (f64::from(*now) - f64::from(*before)).abs();
        let (elements, greatest) =
            errors.fold((0, 0f64), |(count, most), pair| (count + 1, most.max(error(pair))));
        self.elements = elements;
        self.extent = (elements as f64 / values.len() as f64, greatest);
    }

    /// What was found of it.
    pub fn check<'a>(&self, report: &'a Report) -> &'a Check {
        report.checks.iter().find(|check| check.tensor == self.tensor).expect("every gradient is checked")
    }

    /// The part of all seeds that miss it, at most.
    pub fn missed(&self, check: &Check) -> f64 {
        check.missed(self.extent.0, self.extent.1)
    }
}

fn root_mean_square(values: &[f32]) -> f32 {
    let squares: f64 = values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    (squares / values.len() as f64).sqrt() as f32
}
